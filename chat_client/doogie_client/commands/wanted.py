"""The package that a runner is asked for, from the words that name it; or the reason why it is none. Pure."""

import re
from collections.abc import Sequence

from doogie_client.commands.errors import FaultKind
from doogie_client.commands.package import Package, Runner
from doogie_client.commands.reading import Reading, Word, shown

_PROGRAM = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*", re.ASCII)
_INTERPRETERS = frozenset({"bash", "bun", "deno", "node", "python", "python3", "sh"})
_RUN_FILES = {Runner.NPX: {"nodemon", "ts-node", "tsx"}, Runner.UVX: {"fastmcp", "mcp"}}
"""Packages whose program runs a file that is named behind it."""

_FILE = "a file of the machine the command was written for; use a package of the registry, or build an image"
_ELSEWHERE = (
    (
        re.compile(
            r"(?:.*@ ?)?(?:git\+|git:|git@|ssh:|github:|gitlab:|bitbucket:|gist:)"
            r"|[A-Za-z0-9_-][A-Za-z0-9_.-]*/[A-Za-z0-9_.-]+(?:#.*)?\Z",
            re.ASCII,
        ),
        "a repository's code is not one fixed version; use the package that is published from it, or build an image",
    ),
    (
        re.compile(r"(?:.*@ ?)?(?:https?|ftp)://", re.ASCII),
        "a URL is not one fixed version; use a package of the registry, or build an image",
    ),
    (re.compile(r"[./~\\]|file:|link:|[A-Za-z]:[\\/]|.*\.(?:tgz|tar\.gz|whl|zip|[jt]s)\Z", re.ASCII), _FILE),
)
"""What runners take besides packages, and why it is not taken here."""


def want(
    reading: Reading, runner: Runner, package: Word, program: Word | None = None, beside: Sequence[Word] = ()
) -> None:
    """Take down that ``program`` of ``package`` is to run (None: the one of its own name), with others beside it."""
    before = len(reading.faults)
    parsed = _parse(runner, package, reading)
    others = [other for word in beside if (other := _parse(runner, word, reading)) is not None]
    if program is not None and not _PROGRAM.fullmatch(program.text):
        reading.refuse(FaultKind.MALFORMED, program.loc, "not the name of a program: one of the package's is run")
    elif program is not None and program.text in _INTERPRETERS:
        why = "runs any file; name the package's own program, which is run without it"
        reading.refuse(FaultKind.UNSUPPORTED, program.loc, f"{program.text} {why}")
    elif parsed is not None and (program.text if program else parsed.name) in _RUN_FILES[runner]:
        why = "runs a file of the machine the command was written for; build an image of that server"
        reading.refuse(FaultKind.UNSUPPORTED, (program or package).loc, f"{parsed.name} {why}")
    if parsed is not None and len(reading.faults) == before:
        requirements = [other.requirement for other in others]
        reading.package = parsed.running(program.text if program else None, requirements)
        reading.package_loc = package.loc


def _parse(runner: Runner, word: Word, reading: Reading) -> Package | None:
    try:
        package = Package.parse(runner, word.text)
    except ValueError as exc:
        if why := next((why for pattern, why in _ELSEWHERE if pattern.match(word.text)), None):
            reading.refuse(FaultKind.UNSUPPORTED, word.loc, why)  # without the text: a URL may hold a token
        else:
            reading.refuse(FaultKind.MALFORMED, word.loc, f"{shown(word.text)} is {exc}")
        return None
    if runner is Runner.UVX and word.text.endswith(".py"):
        reading.refuse(FaultKind.UNSUPPORTED, word.loc, _FILE)
        return None
    return package
