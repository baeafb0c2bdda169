"""Why a command is not translated: every fault at once, each with its place and what would mend it."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from doogie_client.errors import DoogieError


class FaultKind(StrEnum):
    """Who can mend it: whoever wrote the command, or, for ``POLICY`` and ``UNMAPPED``, the operator."""

    MALFORMED = "malformed"
    """Not a command line: a quote that is not closed, an option without its value, no image."""
    UNKNOWN = "unknown"
    """An option or a program that is not known here; it is never guessed what it takes."""
    UNSUPPORTED = "unsupported"
    """What no policy gives (privileges, the engine's socket), or only a laptop has (its files, its programs): ``msg``
    says what to do instead."""
    POLICY = "policy"
    """Something that the proxy's policy decides, not the command: ``ask`` says what to ask the operator for."""
    UNMAPPED = "unmapped"
    """A package without an image yet: ``ask`` is the operator's command that makes one."""


_FIELDS = ("command", "args", "env", "secrets", "mounts")


@dataclass(frozen=True)
class Fault:
    """One fault of a command.

    Args:
        kind: what sort of fault.
        loc: where: ``command``, ``args.3`` (counted from 0), ``env.NAME``, ``secrets.0``, ``mounts.0``.
        msg: what is wrong there, and what would be right.
        ask: what the operator can do about it: a line of the policy, or a command; None where nothing.
    """

    kind: FaultKind
    loc: str
    msg: str
    ask: str | None = None


class CommandRefused(DoogieError, ValueError):  # noqa: N818 - the tree's names say what happened, without "Error"
    """A command that cannot be translated; ``faults`` has all reasons, in the order of the command."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__(faults)
        self.faults = tuple(sorted(faults, key=_place))

    def __str__(self) -> str:
        return "; ".join(f"{fault.loc}: {fault.msg}" for fault in self.faults)


def _place(fault: Fault) -> tuple[int, int]:
    field, _, name = fault.loc.partition(".")
    order = _FIELDS.index(field) if field in _FIELDS else len(_FIELDS)
    return order, int(name) if field == "args" and name.isdecimal() else 0


class CatalogueError(DoogieError):
    """A catalogue that cannot be used; each of ``lines`` says which file and line, what, and what would be right."""

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = tuple(lines)
