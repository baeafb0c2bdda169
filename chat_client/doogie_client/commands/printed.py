"""``to_docker_run``: a request as the ``docker run`` command that means it. Pure; the inverse of ``translate``."""

from doogie_contract.models import StartRequest


def to_docker_run(request: StartRequest) -> list[str]:
    """The words of ``docker run -i --rm … IMAGE ARGS``, for people and for the record.

    ``secrets`` and ``mounts`` are names of a rule, which only the proxy can resolve: no option of ``docker run`` means
    them. Beside these words they stand in ``ServerCommand.secrets`` and ``.mounts``, and with them ``translate`` gives
    the same request again; but not where an argument or value reads like ``${NAME}``, which is there to be filled in.
    """
    env = [word for name, value in request.env.items() for word in ("--env", f"{name}={value}")]
    return ["docker", "run", "-i", "--rm", *env, request.image, *request.args]
