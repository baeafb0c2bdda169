"""What a configuration's server is said to be: the proxy's answers and errors in the service's words. Pure."""

from collections.abc import Mapping

from doogie_client.commands.command import MASK
from doogie_client.commands.errors import CommandRefused
from doogie_client.errors import DoogieError, ProblemResponse, ProxyUnavailable
from doogie_client.service.records import ConfigRecord, ConfigStatus, Status, StatusFault
from doogie_contract.models import ExitReason, ServerExit, ServerState, ServerStatus
from doogie_contract.problems import URN_PREFIX

STDERR_CHARS = 1000
"""How much of a dead server's last words an error message repeats."""
MIN_SECRET_CHARS = 8
"""A shorter value of a variable is no secret, but likely to be a word of any text."""

_STATUS = {
    ServerState.ABSENT: Status.STOPPED,
    ServerState.CREATED: Status.STOPPED,
    ServerState.RUNNING: Status.RUNNING,
    ServerState.STOPPING: Status.STOPPED,
}
_ENDS = {
    ExitReason.OOM: "it ran out of memory",
    ExitReason.STOPPED: "it was stopped",
    ExitReason.LEASE_DETACHED: "nobody had used it for as long as the policy allows",
    ExitReason.LEASE_MAX_AGE: "it reached the age that the policy allows",
    ExitReason.ENGINE: "it was removed behind the proxy's back",
}
_ORDERLY = {ExitReason.STOPPED, ExitReason.LEASE_DETACHED, ExitReason.LEASE_MAX_AGE}


def seen(record: ConfigRecord, server: ServerStatus) -> ConfigStatus:
    """The status of a server as the proxy tells it."""
    if server.state is ServerState.ABSENT:
        # What went wrong the last time is all there is to say, until the next start or stop.
        failed = record.status is Status.ERROR
        return _status(
            record,
            Status.ERROR if failed else Status.STOPPED,
            state=server.state,
            error_message=record.error_message if failed else None,
        )
    if server.exit is None:
        status = _STATUS.get(server.state, Status.STOPPED)
        return _status(record, status, state=server.state, container_id=server.container_id, outdated=server.outdated)
    orderly = server.exit.reason in _ORDERLY or (server.exit.reason is ExitReason.EXITED and server.exit.code == 0)
    return _status(
        record,
        Status.STOPPED if orderly else Status.ERROR,
        state=server.state,
        container_id=server.container_id,
        error_message=None if server.exit.reason is ExitReason.STOPPED else how_it_ended(server.exit, record),
        problem=None if orderly else "server-exited",
    )


def failed(record: ConfigRecord, exc: DoogieError, server: ServerStatus | None = None) -> ConfigStatus:
    """The status after something failed; ``server`` is what the proxy says all the same, None where it says nothing."""
    return _status(
        record,
        Status.ERROR,
        state=None if server is None else server.state,
        container_id=None if server is None else server.container_id,
        error_message=redacted(str(exc), record.config.env),
        problem=problem_of(exc),
        faults=_faults(exc, record),
    )


def disabled(record: ConfigRecord) -> ConfigStatus:
    """The answer to a start that a disabled configuration does not get."""
    return _status(record, Status.STOPPED, error_message="the configuration is disabled: enable it first")


def problem_of(exc: DoogieError) -> str:
    """The name of an error for programs; see ``ConfigStatus``."""
    if isinstance(exc, ProblemResponse):
        return exc.problem.type.removeprefix(URN_PREFIX)
    if isinstance(exc, CommandRefused):
        return "command-refused"
    return "proxy-unavailable" if isinstance(exc, ProxyUnavailable) else "protocol-error"


def how_it_ended(end: ServerExit, record: ConfigRecord) -> str:
    """One sentence, and the server's last words."""
    code = "for an unknown reason" if end.code is None else f"with code {end.code}"
    signal = f" ({end.signal})" if end.signal is not None else ""
    what = _ENDS.get(end.reason, f"it exited {code}{signal}")
    words = end.stderr_tail.strip()[-STDERR_CHARS:] if end.reason not in _ORDERLY else ""
    return redacted(": ".join(part for part in (what, words) if part), record.config.env)


def redacted(text: str, env: Mapping[str, str]) -> str:
    """A text of the server's without the values of its environment that may be secret."""
    for value in sorted(env.values(), key=len, reverse=True):
        if len(value) >= MIN_SECRET_CHARS:
            text = text.replace(value, MASK)
    return text


def _status(record: ConfigRecord, status: Status, **fields: object) -> ConfigStatus:
    return ConfigStatus.model_validate(
        {
            "id": record.id,
            "name": record.name,
            "enabled": record.config.enabled,
            "status": status,
            **fields,
        }
    )


def _faults(exc: DoogieError, record: ConfigRecord) -> list[StatusFault]:
    faults: list[StatusFault] = []
    if isinstance(exc, ProblemResponse):
        faults = [StatusFault(loc=fault.loc, msg=fault.msg) for fault in exc.problem.errors]
    if isinstance(exc, CommandRefused):
        faults = [StatusFault(loc=fault.loc, msg=fault.msg, ask=fault.ask) for fault in exc.faults]
    return [fault.model_copy(update={"msg": redacted(fault.msg, record.config.env)}) for fault in faults]
