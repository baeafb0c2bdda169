"""Texts with parts that only whoever imports them knows, as values: ``Bearer ${TOKEN}``. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self


@dataclass(frozen=True)
class Ask:
    """A part that has to be given; ``default`` stands in for it where the text says so."""

    id: str
    default: str | None = None


@dataclass(frozen=True)
class Laptop:
    """A part that is a place on the machine the text was written for; ``text`` is how it was written."""

    text: str


Piece = str | Ask | Laptop


@dataclass(frozen=True)
class Template:
    """A text in pieces. They may hold a secret, so they are not in the ``repr``."""

    pieces: tuple[Piece, ...] = field(repr=False)

    @classmethod
    def literal(cls, text: str) -> Self:
        """A text without anything to fill in."""
        return cls((text,) if text else ())

    @classmethod
    def asking(cls, input_id: str) -> Self:
        """A text that is all to be given."""
        return cls((Ask(input_id),))

    @property
    def asks(self) -> tuple[Ask, ...]:
        """What has to be given."""
        return tuple(piece for piece in self.pieces if isinstance(piece, Ask))

    def fill(self, values: Mapping[str, str]) -> str:
        """The text; what neither ``values`` nor a default gives is shown as ``<id>``."""
        return "".join(_filled(piece, values) for piece in self.pieces)

    def without(self, prefix: str) -> Self | None:
        """The text behind ``prefix``; None where it does not begin with it as it stands."""
        first, rest = (self.pieces[0], self.pieces[1:]) if self.pieces else ("", ())
        if not isinstance(first, str) or not first.startswith(prefix):
            return None
        behind = first[len(prefix) :]
        return type(self)((behind, *rest) if behind else rest)


@dataclass(frozen=True)
class Input:
    """What is asked for.

    Args:
        id: what its value is given under.
        description: for people.
        secret: not to be shown: it is said to be one, or its name says so.
        default: used where no value is given.
        choices: the only values it can have; none: any.
        repeated: may have several values, each an argument of its own.
    """

    id: str
    description: str | None = None
    secret: bool = False
    default: str | None = field(default=None, repr=False)
    choices: tuple[str, ...] = ()
    repeated: bool = False


def stand_in(input_id: str) -> str:
    """What stands for a value that is not known, or not to be shown."""
    return f"<{input_id}>"


def _filled(piece: Piece, values: Mapping[str, str]) -> str:
    match piece:
        case Ask():
            return values.get(piece.id, stand_in(piece.id) if piece.default is None else piece.default)
        case Laptop():
            return piece.text
        case str():
            return piece
