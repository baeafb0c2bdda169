"""What a command says, as it is read: its words with their places, and what was found in them so far."""

from dataclasses import dataclass, field
from typing import NamedTuple

from doogie_client.commands.errors import Fault, FaultKind
from doogie_client.commands.package import Package

MAX_SHOWN_CHARS = 80


class Word(NamedTuple):
    """One argument as it stands, and its place: ``command`` or ``args.3``."""

    text: str
    loc: str


class Assignment(NamedTuple):
    """A variable for the server; ``value`` None: the environment beside the command has it (``-e NAME``)."""

    name: str
    value: str | None
    loc: str


@dataclass
class Reading:
    """What the words mean, filled as they are read. Either ``image`` or ``package`` is found, or there are faults."""

    image: Word | None = None
    package: Package | None = None
    package_loc: str = "command"
    args: list[Word] = field(default_factory=list)
    env: list[Assignment] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    def refuse(self, kind: FaultKind, loc: str, msg: str, ask: str | None = None) -> None:
        """Take down a fault and go on: all of them are told at once."""
        self.faults.append(Fault(kind, loc, msg, ask))


def shown(text: str) -> str:
    """A name in a message: quoted, and cut if it is long. Never for values: they may be secrets."""
    return repr(text if len(text) <= MAX_SHOWN_CHARS else text[: MAX_SHOWN_CHARS - 1] + "…")
