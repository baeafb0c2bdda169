"""Programs that run an npm package: ``npx``, ``npm exec``, ``pnpm dlx``, ``yarn dlx``, ``bunx``. Pure.

Source: npm's ``bin/npx-cli.js``, https://docs.npmjs.com/cli/commands/npm-exec, https://pnpm.io/cli/dlx,
https://yarnpkg.com/cli/dlx, https://bun.com/docs/pm/bunx; tried with npm 11, pnpm 9 and bun 1.4. All agree: options,
then the package (or, behind ``--package``, one of its programs), then its arguments as they stand, a ``--`` among them
included. ``npm exec`` alone reads options behind the package too, up to ``--``.
"""

from collections.abc import Sequence
from typing import NamedTuple

from doogie_client.commands.errors import FaultKind
from doogie_client.commands.options import Always, Mapped, Option, Part, Refused, Style, Table
from doogie_client.commands.package import Runner
from doogie_client.commands.reading import Reading, Word
from doogie_client.commands.wanted import want


def _never(why: str) -> Refused:
    return Refused(FaultKind.UNSUPPORTED, why)


def _option(names: str, meaning: Mapped | Always | Refused, takes: str | None = None) -> Option:
    return Option(tuple(names.split()), meaning, takes)


_PACKAGE = Mapped("package", "the package; a further one is installed beside it")
_INSTALLED = Always("the package is in the image, so nothing is installed when a server starts")
_OUTPUT = Always("nothing but the server itself writes to its stdout and stderr")
_NO_SCRIPTS = Always("images are built without install scripts")
_OWN_NODE = Always("the image brings the Node.js that the package was tested with")
_SHELL = _never("it is a line for a shell, and there is none; write the package and its arguments")
_REGISTRY = _never("where packages come from, the operator decides when the image is built")
_RESOLVED = _never("what is installed is settled when the image is built")
_LAPTOP = _never("it names a directory of the machine the command was written for")
_NODE = _never("options of Node.js are given as NODE_OPTIONS in env, if the policy allows it")
_PRINTS = _never("it prints a text and runs nothing")

NPX = Table(
    Style.NPM,
    [
        _option("--package -p", _PACKAGE, "PACKAGE"),
        _option("--yes -y --no --no-yes --no-install --ignore-existing", _INSTALLED),
        _option("--prefer-online --prefer-offline --offline --no-audit --no-fund --no-update-notifier", _INSTALLED),
        _option("--cache", _INSTALLED, "DIRECTORY"),
        _option("--ignore-scripts", _NO_SCRIPTS),
        _option("--quiet -q --silent -s --verbose -d -dd -ddd --no-progress --no-color", _OUTPUT),
        _option("--loglevel", _OUTPUT, "LEVEL"),
        _option("--call -c", _SHELL, "COMMAND"),
        _option("--shell --script-shell", _SHELL, "PROGRAM"),
        _option("--registry --reg --userconfig --globalconfig", _REGISTRY, "PLACE"),
        _option("--force -f --legacy-peer-deps --strict-peer-deps --global -g", _RESOLVED),
        _option("--omit --include --before --install-strategy", _RESOLVED, "WHAT"),
        _option("--workspace -w --prefix -C", _LAPTOP, "DIRECTORY"),
        _option("--workspaces --ws --include-workspace-root --iwr", _LAPTOP),
        _option("--node-options", _NODE, "OPTIONS"),
        _option("--help -h --version -v", _PRINTS),
    ],
)
"""``npx``, ``npm exec``."""

PNPM = Table(
    Style.NPM,
    [
        _option("--package", _PACKAGE, "PACKAGE"),
        _option("--yes -y", _INSTALLED),
        _option("--silent -s", _OUTPUT),
        _option("--reporter --loglevel", _OUTPUT, "WHICH"),
        _option("--shell-mode -c", _SHELL),
        _option("--registry", _REGISTRY, "URL"),
        _option("--allow-build", _RESOLVED, "PACKAGE"),
        _option("--dir -C", _LAPTOP, "DIRECTORY"),
        _option("--help -h --version -v", _PRINTS),
    ],
)
"""``pnpm dlx``, ``pnpx``."""

YARN = Table(
    Style.NPM,
    [
        _option("--package -p", _PACKAGE, "PACKAGE"),
        _option("--quiet -q", _OUTPUT),
        _option("--help -h --version -v", _PRINTS),
    ],
)
"""``yarn dlx``."""

BUN = Table(
    Style.NPM,
    [
        _option("--package -p", _PACKAGE, "PACKAGE"),
        _option("--yes -y --no-install", _INSTALLED),
        _option("--silent --verbose", _OUTPUT),
        _option("--bun -b", _OWN_NODE),
        _option("--help -h --version -v", _PRINTS),
    ],
)
"""``bunx``, ``bun x``."""


class _Program(NamedTuple):
    table: Table
    subcommands: frozenset[str] = frozenset()
    """One of them comes first; none: the program itself runs packages."""


PROGRAMS = {
    "npx": _Program(NPX),
    "npm": _Program(NPX, frozenset({"exec", "x"})),
    "pnpx": _Program(PNPM),
    "pnpm": _Program(PNPM, frozenset({"dlx"})),
    "yarn": _Program(YARN, frozenset({"dlx"})),
    "bunx": _Program(BUN),
    "bun": _Program(BUN, frozenset({"x"})),
}


def read(program: str, words: Sequence[Word], reading: Reading, loc: str) -> None:
    """Read what follows ``program``, one of ``PROGRAMS``; ``loc`` is the place of that word itself."""
    table, subcommands = PROGRAMS[program]
    parts: list[Part] = []
    if subcommands:
        parts, words = table.read(words, reading)
        if not words and reading.faults:
            return
        if not words or words[0].text not in subcommands:
            where = words[0].loc if words else loc
            right = f"write `npx PACKAGE`, or `{program} {min(subcommands)} PACKAGE`"
            what = "runs what is on the machine the command was written for"
            reading.refuse(FaultKind.UNSUPPORTED, where, f"{program} without {min(subcommands)} {what}; {right}")
            return
        words = words[1:]
    more, rest = (_interspersed if program == "npm" else table.read)(words, reading)
    wanted = [value for name, value in (*parts, *more)]
    if rest:
        reading.args = rest[1:]
        if wanted:
            want(reading, Runner.NPX, wanted[0], rest[0], wanted[1:])
        else:
            want(reading, Runner.NPX, rest[0])
    elif not reading.faults:
        missing = "the program of the package to run is missing" if wanted else "the name of a package is missing"
        reading.refuse(FaultKind.MALFORMED, words[-1].loc if words else loc, missing)


def _interspersed(words: Sequence[Word], reading: Reading) -> tuple[list[Part], list[Word]]:
    """Options and operands in any order up to ``--``; behind it operands only."""
    end = next((at for at, word in enumerate(words) if word.text == "--"), len(words))
    before, behind = words[:end], list(words[end + 1 :])
    parts: list[Part] = []
    operands: list[Word] = []
    while before:
        if operands and before[0].text.startswith("-") and NPX.find(before[0].text.partition("=")[0]) is None:
            why = "npm takes it for an option of its own; write -- before the arguments of the package"
            reading.refuse(FaultKind.MALFORMED, before[0].loc, why)
            before = before[1:]
            continue
        found, rest = NPX.read(before, reading)
        parts += found
        operands += rest[:1]
        before = rest[1:]
    return parts, operands + behind
