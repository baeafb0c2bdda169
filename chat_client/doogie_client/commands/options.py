"""Options of a program: what each means here, and how they are found among its words. Pure.

A table says of every option that a program has what becomes of it:

    Mapped   it is part of the request (``-e``, ``--package``)
    Always   what it asks for is so here in any case (``-i``, ``--rm``): a note says in which words
    Refused  it cannot be had this way: a fault says why, and what to ask the operator for where that helps
    ByValue  one of the two before, as its value says

An option that is not in the table is a fault too. It is never guessed whether it takes a value, so reading ends there
unless the next word is plainly an option.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from doogie_client.commands.errors import FaultKind
from doogie_client.commands.reading import Reading, Word, shown

_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False"})


@dataclass(frozen=True)
class Mapped:
    """Part of the request; ``part`` is what the program's reader knows it by."""

    part: str
    what: str


@dataclass(frozen=True)
class Refused:
    """Not by the command.

    Args:
        kind: who can mend it.
        why: what decides it instead, or why it is never so; a part of a sentence.
        ask: the line of a policy's rule that gives the same, from the option's value; None where none does.
    """

    kind: FaultKind
    why: str
    ask: Callable[[str], str] | None = None


@dataclass(frozen=True)
class Always:
    """So in any case.

    Args:
        why: in which way; a part of a sentence.
        otherwise: what it is for values that are not in ``values``; None: it is so for all.
        values: see there; a boolean option that stands alone has the value ``true``.
    """

    why: str
    otherwise: Refused | None = None
    values: frozenset[str] = frozenset({"true"})


@dataclass(frozen=True)
class ByValue:
    """What it means, the value tells; ``what`` says in general how."""

    judge: Callable[[str], Always | Refused]
    what: str


Meaning = Mapped | Always | Refused | ByValue


@dataclass(frozen=True)
class Option:
    """One option: its spellings (``--env``, ``-e``) and meaning; without ``takes`` it is boolean."""

    names: tuple[str, ...]
    meaning: Meaning
    takes: str | None = None


class Style(Enum):
    """How a program reads its options, where they differ."""

    PFLAG = "docker"
    """``-it``, ``-eNAME``, ``--rm=false``."""
    NPM = "npm"
    """No clusters: ``-y -p NAME``, ``--yes=false``."""
    CLAP = "uv"
    """``-qn``, ``-p3.12``; a boolean option takes no value. Also argparse's, as far as it is read here."""


class Given(NamedTuple):
    """One use of an option: as it was spelled, with its value (``true`` or ``false`` for a boolean one) and place."""

    option: Option
    name: str
    value: str
    loc: str


class Part(NamedTuple):
    """One use of an option that is part of the request: which part, and its value with its place."""

    name: str
    value: Word


class Table:
    """The options of one program, by name."""

    def __init__(self, style: Style, options: Iterable[Option]) -> None:
        self.style = style
        self.options = tuple(options)
        self._by_name = {name: option for option in self.options for name in option.names}

    def read(self, words: Sequence[Word], reading: Reading) -> tuple[list[Part], list[Word]]:
        """The options at the beginning of ``words`` that are part of the request, and the words behind them.

        What is always so becomes a note, all else a fault. Reading ends at the first word that is no option, or behind
        ``--``. After an unknown option that may have taken a value nothing is known of what follows: no words are left.
        """
        parts: list[Part] = []
        at = 0
        while at < len(words):
            word = words[at]
            if word.text == "--":
                return parts, list(words[at + 1 :])
            if not word.text.startswith("-") or word.text == "-":
                return parts, list(words[at:])
            scan = _Scan(self, words, at, reading)
            uses = scan.long() if word.text.startswith("--") else scan.short()
            parts += [part for use in uses if (part := _settle(use, reading)) is not None]
            if scan.lost:
                return parts, []
            at = scan.at
        return parts, []

    def find(self, name: str) -> Option | None:
        """The option with this spelling."""
        return self._by_name.get(name)


class _Scan:
    """One word that begins with a dash, and perhaps the next; ``at`` is then behind both."""

    def __init__(self, table: Table, words: Sequence[Word], at: int, reading: Reading) -> None:
        self.table = table
        self.words = words
        self.word = words[at]
        self.at = at + 1
        self.reading = reading
        self.lost = False

    def long(self) -> list[Given]:
        """``--name``, ``--name=value``, ``--name value``."""
        name, equals, value = self.word.text.partition("=")
        option = self.table.find(name)
        if option is None:
            return self._unknown(name, complete=bool(equals))
        if option.takes is None:
            return self._boolean(option, name, value if equals else None)
        return self._valued(option, name, value if equals else None)

    def short(self) -> list[Given]:
        """``-n``, ``-nvalue``, ``-n=value``, ``-n value``, and several boolean ones before that: ``-itn value``."""
        if self.table.style is Style.NPM:
            return self.long()
        given: list[Given] = []
        text = self.word.text
        for at in range(1, len(text)):
            name = f"-{text[at]}"
            option = self.table.find(name)
            if option is None:
                return [*given, *self._unknown(name, complete=False)]
            value = text[at + 2 :] if text[at + 1 : at + 2] == "=" and len(text) > at + 2 else None
            if option.takes is not None:
                return [*given, *self._valued(option, name, value or text[at + 1 :] or None)]
            if value is not None:
                return [*given, *self._boolean(option, name, value)]
            given.append(Given(option, name, "true", self.word.loc))
        return given

    def _boolean(self, option: Option, name: str, value: str | None) -> list[Given]:
        if value is not None and (self.table.style is Style.CLAP or value not in _TRUE | _FALSE):
            right = "takes no value" if self.table.style is Style.CLAP else "is true or false"
            self.reading.refuse(FaultKind.MALFORMED, self.word.loc, f"{name} {right}")
            return []
        return [Given(option, name, "false" if value in _FALSE else "true", self.word.loc)]

    def _valued(self, option: Option, name: str, value: str | None) -> list[Given]:
        if value is None:
            if self.at == len(self.words):
                self.reading.refuse(FaultKind.MALFORMED, self.word.loc, f"{name} needs a value: {option.takes}")
                return []
            value = self.words[self.at].text
            self.at += 1
        return [Given(option, name, value, self.word.loc)]

    def _unknown(self, name: str, *, complete: bool) -> list[Given]:
        self.lost = not complete and self.at < len(self.words) and not self.words[self.at].text.startswith("-")
        behind = "; what follows it was not read, as it may be its value" if self.lost else ""
        self.reading.refuse(FaultKind.UNKNOWN, self.word.loc, f"{shown(name)} is not a known option{behind}")
        return []


def _settle(given: Given, reading: Reading) -> Part | None:
    """What an option is of the request; what is no part of it becomes a note or a fault."""
    meaning = given.option.meaning
    if isinstance(meaning, Mapped):
        return Part(meaning.part, Word(given.value, given.loc))
    outcome = _outcome(meaning, given.value, boolean=given.option.takes is None)
    if isinstance(outcome, Always):
        off = given.option.takes is None and given.value == "false"
        reading.notes.append(f"{given.name}{'=false' if off else ''}: {outcome.why}")
    else:
        ask = outcome.ask(given.value) if outcome.ask else None
        end = "leave it out and ask the operator" if ask else "leave it out"
        reading.refuse(outcome.kind, given.loc, f"{given.name}: {outcome.why}; {end}", ask)
    return None


def _outcome(meaning: Always | Refused | ByValue, value: str, *, boolean: bool) -> Always | Refused:
    if isinstance(meaning, ByValue):
        return meaning.judge(value)
    if isinstance(meaning, Refused):
        return Always("off in any case") if boolean and value == "false" else meaning
    if meaning.otherwise is None or value in meaning.values:
        return meaning
    return meaning.otherwise
