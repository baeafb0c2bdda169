"""A pasted command line: ``docker run …``, ``npx …``, ``uvx …``. Pure.

    NAME=value … npx …                            variables before the command are its environment
    claude mcp add NAME -e NAME=value -- npx …    what comes behind the -- (code.claude.com/docs/en/mcp)

Words are split as a shell does (``commands.split_line``). What the shell of the machine it was written for would put
in is asked for: ``$TOKEN``, ``${TOKEN:-default}``, ``<token>``; ``$(pwd)``, ``$HOME`` and ``~`` are places there.
"""

import re
from collections.abc import Iterator, Sequence

from doogie_client.commands import CommandRefused, split_line
from doogie_client.hosts.entry import HostEntry, Variable, Word, remote_server, with_inputs
from doogie_client.hosts.jsonc import DocumentError, below
from doogie_client.hosts.placeholders import read

_LOC = "line"
_OPEN, _CLOSE = "\ue000", "\ue001"
"""Stand around the number of a placeholder while the words are split. Private use area: in no command."""
_STAND_IN = re.compile(f"{_OPEN}(\\d+){_CLOSE}")
_PART = re.compile(
    r"(?P<single>'[^']*')|(?P<double>\")|(?P<escape>\\.)"
    r"|\$(?P<name>[A-Za-z_][A-Za-z0-9_]*)|(?P<braced>\$\{[A-Za-z_][^{}\n]*\})|(?P<here>\$\(pwd\)|`pwd`)"
    r"|(?P<unquoted><[A-Za-z][^<>|&;\n]*>|(?<![^\s=:])~(?=[/\s]|\Z))",
    re.DOTALL,
)
_ASSIGNMENT = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)=(?P<value>.*)", re.ASCII | re.DOTALL)
_WITH_VALUE = frozenset({"-s", "--scope", "-t", "--transport", "-H", "--header", "-e", "--env"})


def read_line(text: str) -> HostEntry:
    """The server that a line starts.

    Raises:
        DocumentError: not one command: a quote is not closed, or the line needs a shell.
    """
    words = split_words(text, _LOC)
    if words[:3] == ["claude", "mcp", "add"]:
        return _claude(words[3:])
    return _entry(None, (), words)


def split_words(text: str, loc: str) -> list[str]:
    """The words of a line; what a shell would put in stands in them as ``${NAME}``, ``<text>``, ``~``, ``$(pwd)``.

    Raises:
        DocumentError: as ``read_line``.
    """
    if _OPEN in text or _CLOSE in text:
        raise DocumentError(loc, "has characters of Unicode's private use area, which are in no command")
    placeholders: list[str] = []
    try:
        split = split_line("".join(_parts(text, placeholders)))
    except CommandRefused as exc:
        raise DocumentError(loc, "; ".join(fault.msg for fault in exc.faults)) from None
    return [_STAND_IN.sub(lambda match: placeholders[int(match[1])], word) for word in split]


def _parts(text: str, placeholders: list[str]) -> Iterator[str]:
    """The line with a stand-in for each placeholder, which are collected; within single quotes there are none."""
    end, quoted = 0, False
    while match := _PART.search(text, end):
        yield text[end : match.start()]
        start, end = match.span()
        if match["double"]:
            quoted = not quoted
        elif match["single"] and quoted:  # an apostrophe
            end = start + 1
        elif not (match["single"] or match["escape"] or (match["unquoted"] and quoted)):
            yield f"{_OPEN}{len(placeholders)}{_CLOSE}"
            placeholders.append(f"${{{match['name']}}}" if match["name"] else match[0])
            continue
        yield text[start:end]
    yield text[end:]


def _entry(name: str | None, env: Sequence[tuple[str, str]], words: Sequence[str]) -> HostEntry:
    """``NAME=value`` words at the beginning are added to ``env``."""
    variables = dict(env)
    at = 0
    while at < len(words) and (assignment := _ASSIGNMENT.fullmatch(words[at])):
        variables[assignment["name"]] = assignment["value"]
        at += 1
    if at == len(words):
        raise DocumentError(_LOC, "has no command")
    found: list[Word] = []
    for index, word in enumerate(words[at:]):
        found.append(Word.read(word, below(_LOC, str(index)) if index else _LOC, found[-1] if found else None))
    read_env = {name: Variable(read(value, name), below(_LOC, name)) for name, value in variables.items()}
    return with_inputs(HostEntry(_LOC, name, tuple(found), read_env), {})


def _claude(words: Sequence[str]) -> HostEntry:
    """``[options] NAME [options] [--] COMMAND [args]``, or with a URL in the place of the command."""
    name: str | None = None
    env: list[tuple[str, str]] = []
    remote = False
    at = 0
    while at < len(words) and words[at] != "--" and (name is None or words[at].startswith("-")):
        option, equals, value = words[at].partition("=")
        at += 1
        if not option.startswith("-"):
            name = words[at - 1]
            continue
        if option not in _WITH_VALUE:
            raise DocumentError(_LOC, f"{option[:80]!r} is not an option of claude mcp add that is known here")
        if not equals:
            value, at = (words[at] if at < len(words) else ""), at + 1
        if option in {"-e", "--env"} and (assignment := _ASSIGNMENT.fullmatch(value)):
            env.append((assignment["name"], assignment["value"]))
        elif option in {"-e", "--env"}:
            raise DocumentError(_LOC, f"{option} must be followed by NAME=value")
        remote = remote or (option in {"-t", "--transport"} and value != "stdio")
    rest = words[at + 1 :] if at < len(words) and words[at] == "--" else words[at:]
    if remote or (rest and re.match(r"https?://", rest[0])):
        return HostEntry(_LOC, name, reasons=(remote_server(rest[0] if rest else None, _LOC),))
    return _entry(name, env, rest)
