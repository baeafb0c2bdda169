"""A pasted line into words, by the shell's rules for quoting (POSIX.1-2024, Shell Command Language 2.2). Pure.

What a shell would replace or do (``$VAR``, ``$(…)``, ``|``, ``&&``, ``>`` …) is a fault that names it, and so is a
``<placeholder>``: nothing is expanded, run or passed on as if it were meant. Quoted, the same characters are text. A
pattern (``*``, ``?``, ``[…]``) is text too, as in a shell where no file matches it.
"""

import re
from dataclasses import dataclass, field
from typing import Self

from doogie_client.commands.errors import CommandRefused, Fault, FaultKind

LINE_LOC = "command"
"""The place of a fault in a line: its words have none of their own."""

_PLAIN = re.compile(r"(?:[^ \t\r\n\\'\"$`|&;<>()]|\r(?!\n))+")
_QUOTED = re.compile(r"[^\"\\$`]+")
_EXPANSION = re.compile(
    r"(?P<braced>\$\{[A-Za-z_][A-Za-z0-9_]{0,60})[^}]*\}?|(?P<name>\$[A-Za-z_][A-Za-z0-9_]*)"
    r"|\$\((?:[^()]|\([^()]*\))*\)?|`[^`]*`?|\$[{0-9@*#?!$-]|(?P<bash>\$['\"])"
)
_ESCAPED_IN_QUOTES = re.compile(r"\\(?:[$`\"\\\n]|\r\n)")
_TO_FILL_IN = re.compile(r"<[A-Za-z][^<>\n]{0,80}>")
_OPERATOR = re.compile(r"\|\||&&|;;|>>|<<|[|&;<>()]")
_NEWLINE = re.compile(r"\r?\n")
_BLANKS = re.compile(r"(?:[ \t]|\\\r?\n)+")


def split_line(text: str) -> list[str]:
    """The words of a line.

    Raises:
        CommandRefused: a quote is not closed, or the line needs a shell.
    """
    line = Line.read(text)
    if line.faults:
        raise CommandRefused(line.faults)
    return line.words


@dataclass
class Line:
    """Words and faults of one line: after an expansion reading goes on, so that all faults are found at once."""

    loc: str = LINE_LOC
    words: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    @classmethod
    def read(cls, text: str, loc: str = LINE_LOC) -> Self:
        """Read a line up to its end, or to where another command begins; ``loc`` is its place."""
        line = cls(loc)
        at = 0
        text = text.lstrip(" \t\r\n")
        while at < len(text) and not line._ends(text, at):
            at = blanks.end() if (blanks := _BLANKS.match(text, at)) else line._word(text, at)
        return line

    def _ends(self, text: str, at: int) -> bool:
        """Whether the first command ends here, and something else follows."""
        if _TO_FILL_IN.match(text, at):
            return False
        if operator := _OPERATOR.match(text, at):
            self._refuse(f"{operator[0]!r} needs a shell; write one command, or quote it where it is meant as text")
        elif newline := _NEWLINE.match(text, at):
            if text[newline.end() :].strip():
                self._refuse(
                    "a second line begins here; write one command, or end a line that goes on with a backslash"
                )
        elif text[at] == "#":
            self._refuse("a comment (#) is not part of a command; leave it out, or quote it where it is meant as text")
        else:
            return False
        return True

    def _word(self, text: str, at: int) -> int:
        """Read one word; the index behind it."""
        parts: list[str] = []
        if text[at] == "~":
            self._refuse("'~' is a home directory of the machine the line was written for; write the path")
        while at < len(text):
            character = text[at]
            if plain := _PLAIN.match(text, at):
                parts.append(plain[0])
                at = plain.end()
            elif character == "'":
                at = self._single(text, at, parts)
            elif character == '"':
                at = self._double(text, at + 1, parts)
            elif character == "\\":
                at = self._escape(text, at, parts)
            elif character in "$`":
                at = self._dollar(text, at, parts)
            elif blank := _TO_FILL_IN.match(text, at):
                self._refuse(f"{blank[0]} stands for a value; write the value itself")
                parts.append(blank[0])
                at = blank.end()
            else:
                break
        self.words.append("".join(parts))
        return at

    def _single(self, text: str, at: int, parts: list[str]) -> int:
        end = text.find("'", at + 1)
        if end < 0:
            self._refuse("a single quote is not closed")
            end = len(text)
        parts.append(text[at + 1 : end])
        return end + 1

    def _double(self, text: str, at: int, parts: list[str]) -> int:
        while at < len(text):
            character = text[at]
            if plain := _QUOTED.match(text, at):
                parts.append(plain[0])
                at = plain.end()
            elif character == '"':
                return at + 1
            elif _ESCAPED_IN_QUOTES.match(text, at):
                at = self._escape(text, at, parts)
            elif character == "\\":
                parts.append(character)
                at += 1
            else:
                at = self._dollar(text, at, parts, quoted=True)
        self._refuse("a double quote is not closed")
        return at

    def _escape(self, text: str, at: int, parts: list[str]) -> int:
        if newline := _NEWLINE.match(text, at + 1):
            return newline.end()
        if at + 1 == len(text):
            self._refuse("the line ends in a backslash")
        parts.append(text[at + 1 : at + 2])
        return at + 2

    def _dollar(self, text: str, at: int, parts: list[str], *, quoted: bool = False) -> int:
        expansion = _EXPANSION.match(text, at)
        if expansion is None or (quoted and expansion["bash"]):
            parts.append("$")
            return at + 1
        spelled = f"{expansion['braced']}…}}" if expansion["braced"] else expansion["name"] or expansion[0][:2]
        self._refuse(f"{spelled} is for a shell to replace; write its value, or quote it in '…' where it is text")
        parts.append(expansion[0])
        return expansion.end()

    def _refuse(self, message: str) -> None:
        self.faults.append(Fault(FaultKind.MALFORMED, self.loc, message))
