"""The states of a server's name, and all that may move it from one to the next. Pure.

    absent ──► pulling ──► created ──► running ──► stopping ──► exited ──► absent

A request, a lease or the engine moves it; a move that is not in the table is a defect.
"""

from collections.abc import Mapping

from doogie_contract.models import ServerState

_S = ServerState

TRANSITIONS: Mapping[tuple[ServerState, ServerState], str] = {
    (_S.ABSENT, _S.PULLING): "a start",
    (_S.EXITED, _S.PULLING): "a start; the dead container stays until there is an image for the next",
    (_S.PULLING, _S.CREATED): "the engine has made the container",
    (_S.PULLING, _S.ABSENT): "the start failed, or a stop ended it",
    (_S.PULLING, _S.EXITED): "the same, and the dead container before it is still there",
    (_S.CREATED, _S.RUNNING): "the engine has started it",
    (_S.CREATED, _S.EXITED): "the engine: it ended before its start was over",
    (_S.CREATED, _S.ABSENT): "the start failed",
    (_S.RUNNING, _S.STOPPING): "a stop, or a lease that ended",
    (_S.RUNNING, _S.EXITED): "the engine: it ended by itself",
    (_S.STOPPING, _S.EXITED): "the engine: it has ended",
    (_S.STOPPING, _S.ABSENT): "a stop, or a start after one that failed: removed by force",
    (_S.EXITED, _S.ABSENT): "a stop, a start that failed after it was removed, or it was kept long enough",
    (_S.ABSENT, _S.RUNNING): "a sweep has found it",
    (_S.ABSENT, _S.EXITED): "a sweep has found it dead",
}


class IllegalTransitionError(RuntimeError):
    """A defect of the proxy."""


def require_legal(old: ServerState, new: ServerState) -> None:
    """Nothing, if a name may go from one state to the other.

    Raises:
        IllegalTransitionError: nothing may move it so.
    """
    if (old, new) not in TRANSITIONS:
        raise IllegalTransitionError(f"{old.value} to {new.value}")
