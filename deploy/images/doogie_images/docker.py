"""The ``docker`` command as a subprocess: the one way to the engine, wherever the operator's environment says it is.

A command runs in a process group of its own, so that Ctrl-C reaches it through us alone: cancelled, it is told to end
(buildx then cancels the build in the engine), waited for, and only killed when it does not.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from doogie_images.errors import DockerFailed

END_TIMEOUT_S = 10.0
"""How long a command that was told to end may take."""

_NO_BUILDX = ("unknown command: docker buildx", "is not a docker command", "unknown flag: --progress")
_CHUNK_BYTES = 2**16
_NO_ENGINE = (
    "Cannot connect to the Docker daemon",
    "error during connect",
    "permission denied while trying to connect",
)


async def docker(*arguments: str, env: Mapping[str, str] | None = None) -> str:
    """What the command printed; ``env`` is added to its environment.

    Raises:
        DockerFailed: it is not installed, or did not succeed; with what it said.
    """
    output: list[str] = []
    errors: list[str] = []
    code = await run(arguments, output.append, errors.append, env)
    if code != 0:
        raise refused("\n".join(errors), arguments)
    return "\n".join(output)


async def run(
    arguments: Sequence[str],
    on_output: Callable[[str], None],
    on_error: Callable[[str], None],
    env: Mapping[str, str] | None = None,
) -> int:
    """Run ``docker ARGUMENTS`` to its end and hand over each line of its output; its exit code.

    Raises:
        DockerFailed: it is not installed.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            "docker",
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, **(env or {})},
        )
    except FileNotFoundError as exc:
        raise DockerFailed("the docker command is not on the PATH: install Docker's command line and buildx") from exc
    try:
        async with asyncio.TaskGroup() as readers:
            readers.create_task(_lines(process.stdout, on_output))
            readers.create_task(_lines(process.stderr, on_error))
        return await process.wait()
    finally:
        if process.returncode is None:
            await asyncio.shield(_end(process))


def refused(said: str, arguments: Sequence[str]) -> DockerFailed:
    """What a command's words mean, where they are about docker itself (``known``)."""
    if any(text in said for text in _NO_ENGINE):
        where = os.environ.get("DOCKER_HOST") or "the one of the current Docker context"
        return DockerFailed(
            f"the engine does not answer ({where}): does it run, and may this user use it?", said, known=True
        )
    if arguments[0] == "buildx" and any(text in said for text in _NO_BUILDX):
        package = "docker-buildx-plugin, or docker-buildx"
        return DockerFailed(f"docker has no buildx here: install {package} of your distribution", said, known=True)
    return DockerFailed(f"docker {arguments[0]} failed", said)


async def _lines(stream: asyncio.StreamReader | None, hand_over: Callable[[str], None]) -> None:
    if stream is None:
        raise RuntimeError("the command was started without pipes")
    rest = b""
    while chunk := await stream.read(_CHUNK_BYTES):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            hand_over(line.decode(errors="replace").removesuffix("\r"))
    if rest:
        hand_over(rest.decode(errors="replace"))


async def _end(process: asyncio.subprocess.Process) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        try:
            async with asyncio.timeout(END_TIMEOUT_S):
                await process.wait()
            return
        except TimeoutError:
            continue
