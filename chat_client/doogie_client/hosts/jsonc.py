"""JSON with comments and trailing commas, as VS Code and Zed write it, strictly otherwise. Pure.

Comments (``//`` to the end of the line, ``/* … */``) and a comma before ``]`` or ``}`` are blanked out, so that places
stay where they are, and ``json`` reads the rest (RFC 8259). What JSON leaves open is refused: a key given twice, NaN,
half a surrogate pair, and what is too long or too deep. A byte order mark is passed over.

Source: code.visualstudio.com/docs/languages/json, "JSON with Comments".
"""

import json
import re
from collections.abc import Iterator
from typing import NoReturn

from pydantic import JsonValue

from doogie_client.errors import DoogieError

MAX_CHARS = 256 * 1024
MAX_DEPTH = 32
MAX_DIGITS = 100
MAX_SHOWN_CHARS = 100

_TOKEN = re.compile(
    r'(?P<string>"(?:[^"\\\n]|\\.)*(?P<closed>"?))'
    r"|(?P<comment>//[^\n]*|/\*(?:[^*]|\*(?!/))*(?P<ended>(?:\*/)?))"
    r"|(?P<space>\s+)|(?P<open>[\[{])|(?P<close>[\]}])|(?P<comma>,)"
    r'|(?P<other>[^\s"/\[\]{},]+|/)'
)


class DocumentError(DoogieError, ValueError):
    """A document that cannot be read at all; ``loc`` says where: ``line 3, column 7`` or ``mcpServers.time``."""

    def __init__(self, loc: str, msg: str) -> None:
        super().__init__(loc, msg)
        self.loc = loc
        self.msg = msg

    def __str__(self) -> str:
        return f"{self.loc}: {self.msg}" if self.loc else self.msg


def load(text: str) -> JsonValue:
    """The value of a document.

    Raises:
        DocumentError: with the place. Nothing of the document but its keys is in the message: values may be secrets.
    """
    text = text.removeprefix("\ufeff")
    if len(text) > MAX_CHARS:
        raise DocumentError("", f"the document has {len(text)} characters; at most {MAX_CHARS} are read")
    try:
        value: JsonValue = json.loads(
            _plain(text), object_pairs_hook=_Object, parse_constant=_refuse, parse_int=_integer
        )
    except json.JSONDecodeError as exc:
        raise DocumentError(_place(text, exc.pos), exc.msg) from None
    for loc, msg in _faults(value, ""):
        raise DocumentError(loc, msg)
    return value


class _Object(dict[str, JsonValue]):
    """An object that remembers a key it was given twice."""

    def __init__(self, pairs: list[tuple[str, JsonValue]]) -> None:
        super().__init__()
        self.twice: str | None = None
        for key, value in pairs:
            if key in self:
                self.twice = key
            self[key] = value


def _plain(text: str) -> str:
    """The document with blanks in the place of comments and trailing commas."""
    parts: list[str] = []
    depth = 0
    previous, before = "", ""  # the last two kinds that are neither comment nor space
    comma = 0  # the part that is the last comma
    for token in _TOKEN.finditer(text):
        kind, part = token.lastgroup or "", token[0]
        if token["closed"] == "":
            raise DocumentError(_place(text, token.start()), "a string begins here that does not end on its line")
        if kind == "comment":
            if token["ended"] == "":
                raise DocumentError(_place(text, token.start()), "a comment begins here that does not end")
            part = re.sub(r"[^\n]", " ", part)
        elif kind == "open":
            depth += 1
            if depth > MAX_DEPTH:
                raise DocumentError(_place(text, token.start()), f"nested deeper than {MAX_DEPTH}")
        elif kind == "close":
            depth -= 1
            if previous == "comma" and before not in {"", "open", "comma"}:
                parts[comma] = " "
        elif kind == "comma":
            comma = len(parts)
        if kind not in {"comment", "space"}:
            previous, before = kind, previous
        parts.append(part)
    return "".join(parts)


def _faults(value: JsonValue, loc: str) -> Iterator[tuple[str, str]]:
    match value:
        case str():
            if not _is_text(value):
                yield loc, "half of a surrogate pair is not text"
        case list():
            for index, item in enumerate(value):
                yield from _faults(item, below(loc, str(index)))
        case dict():
            if isinstance(value, _Object) and value.twice is not None and _is_text(value.twice):
                yield below(loc, value.twice), "this key is given twice; keep one of them"
            for key, item in value.items():
                if not _is_text(key):
                    yield loc, "half of a surrogate pair is in a key, and is not text"
                    return
                yield from _faults(item, below(loc, key))


def below(loc: str, part: str) -> str:
    """The place of a member: ``mcpServers`` and ``time`` are ``mcpServers.time``."""
    part = part if len(part) <= MAX_SHOWN_CHARS else f"{part[: MAX_SHOWN_CHARS - 1]}…"
    return f"{loc}.{part}" if loc else part


def _is_text(value: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in value)


def _place(text: str, at: int) -> str:
    return f"line {text.count(chr(10), 0, at) + 1}, column {at - text.rfind(chr(10), 0, at)}"


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise DocumentError("", f"a number has more than {MAX_DIGITS} digits")
    return int(digits)


def _refuse(constant: str) -> NoReturn:
    raise DocumentError("", f"{constant} is not JSON")
