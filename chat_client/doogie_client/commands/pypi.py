"""Programs that run a PyPI package: ``uvx``, ``uv tool run``, ``uv run --with``, ``pipx run``. Pure.

Source: https://docs.astral.sh/uv/reference/cli/, https://pipx.pypa.io/stable/docs/; tried with uv 0.13 and pipx 1.18.
All agree: options, then the package (or, behind ``--from`` or ``--spec``, one of its programs), then its arguments as
they stand, a ``--`` among them included.
"""

from collections.abc import Iterator, Sequence

from doogie_client.commands.errors import FaultKind
from doogie_client.commands.options import Always, Mapped, Option, Part, Refused, Style, Table
from doogie_client.commands.package import Package, Runner
from doogie_client.commands.reading import Reading, Word
from doogie_client.commands.wanted import want


def _never(why: str) -> Refused:
    return Refused(FaultKind.UNSUPPORTED, why)


def _option(names: str, meaning: Mapped | Always | Refused, takes: str | None = None) -> Option:
    return Option(tuple(names.split()), meaning, takes)


_FROM = "from"
_WITH = "with"
_INSTALLED = Always("the package is in the image, so nothing is installed when a server starts")
_OUTPUT = Always("nothing but the server itself writes to its stdout and stderr")
_OWN_PYTHON = Always("the image brings the Python that the package was tested with")
_NO_FILES = Always("a server has nothing but what is in its image")
_INDEX = _never("where packages come from, the operator decides when the image is built")
_RESOLVED = _never("what is installed is settled when the image is built; write exact versions")
_PROJECT = _never("it is for a project of the machine the command was written for; use a package, or build an image")
_ENV_FILE = _never("it is a file of another machine: write its variables into env, or name secrets of the rule")
_PRINTS = _never("it prints a text and runs nothing")

_UV = [
    _option("--with -w", Mapped(_WITH, "packages installed beside it"), "PACKAGES"),
    _option("--python -p --python-preference", _OWN_PYTHON, "PYTHON"),
    _option("--managed-python --no-managed-python --no-python-downloads", _OWN_PYTHON),
    _option("--quiet -q --verbose -v --no-progress", _OUTPUT),
    _option("--color", _OUTPUT, "WHEN"),
    _option("--isolated --no-cache -n --refresh --reinstall --upgrade -U --compile-bytecode --offline", _INSTALLED),
    _option("--refresh-package --reinstall-package --upgrade-package -P", _INSTALLED, "PACKAGE"),
    _option("--cache-dir --link-mode", _INSTALLED, "WHICH"),
    _option("--no-config --no-env-file --no-project", _NO_FILES),
    _option("--index --default-index --index-url -i --extra-index-url --find-links -f", _INDEX, "URL"),
    _option("--index-strategy --keyring-provider --allow-insecure-host --config-file", _INDEX, "WHICH"),
    _option("--no-index --native-tls --system-certs", _INDEX),
    _option("--resolution --prerelease --prerelease-package --fork-strategy --torch-backend", _RESOLVED, "WHICH"),
    _option("--exclude-newer --exclude-newer-package --python-platform", _RESOLVED, "WHICH"),
    _option("--with-editable --with-requirements --constraints -c --overrides", _RESOLVED, "FILE"),
    _option("--build-constraints -b --config-setting -C --config-settings-package", _RESOLVED, "WHICH"),
    _option("--no-build-package --no-binary-package --no-build-isolation-package --no-sources-package", _RESOLVED, "P"),
    _option("--no-build --no-binary --no-build-isolation --no-sources --lfs", _RESOLVED),
    _option("--directory --project", _PROJECT, "DIRECTORY"),
    _option("--env-file", _ENV_FILE, "FILE"),
    _option("--help -h --version -V", _PRINTS),
]

UVX = Table(
    Style.CLAP,
    [_option("--from", Mapped(_FROM, "the package, where what follows is one of its programs"), "PACKAGE"), *_UV],
)
"""``uvx``, ``uv tool run``."""

UV_RUN = Table(
    Style.CLAP,
    [
        *_UV,
        _option("--extra --no-extra --group --no-group --only-group --package", _PROJECT, "NAME"),
        _option("--all-extras --all-groups --all-packages --no-dev --only-dev --no-default-groups", _PROJECT),
        _option("--active --exact --frozen --locked --no-sync --no-editable", _PROJECT),
        _option("--module -m --script -s --gui-script", _PROJECT),
    ],
)
"""``uv run``."""

PIPX = Table(
    Style.CLAP,
    [
        _option("--spec", Mapped(_FROM, "the package, where what follows is one of its programs"), "PACKAGE"),
        _option("--with", Mapped(_WITH, "a package installed beside it"), "PACKAGE"),
        _option("--python --fetch-python", _OWN_PYTHON, "PYTHON"),
        _option("--fetch-missing-python", _OWN_PYTHON),
        _option("--quiet -q --verbose -v", _OUTPUT),
        _option("--no-cache --refresh --skip-maintenance --no-path-check", _INSTALLED),
        _option("--backend", _INSTALLED, "WHICH"),
        _option("--index-url -i", _INDEX, "URL"),
        _option("--pip-args --cooldown", _RESOLVED, "ARGS"),
        _option("--system-site-packages --editable -e --global", _RESOLVED),
        _option("--path --pypackages", _PROJECT),
        _option(
            "--python-args", _never("options of Python are environment variables, if the policy allows them"), "ARGS"
        ),
        _option("--help -h", _PRINTS),
    ],
)
"""``pipx run``."""

PROGRAMS = frozenset({"uvx", "uv", "pipx"})


def read(program: str, words: Sequence[Word], reading: Reading, loc: str) -> None:
    """Read what follows ``program``, one of ``PROGRAMS``; ``loc`` is the place of that word itself."""
    if program == "uvx":
        _tool(*UVX.read(words, reading), reading, words[-1].loc if words else loc)
        return
    before, words = (UV_RUN if program == "uv" else PIPX).read(words, reading)
    loc = words[-1].loc if words else loc
    said = [word.text for word in words[:2]]
    if program == "uv" and said == ["tool", "run"]:
        parts, rest = UVX.read(words[2:], reading)
        _tool([*before, *parts], rest, reading, loc)
    elif program == "uv" and said[:1] == ["run"]:
        parts, rest = UV_RUN.read(words[1:], reading)
        _with([*before, *parts], rest, reading, loc)
    elif program == "pipx" and said[:1] == ["run"]:
        parts, rest = PIPX.read(words[1:], reading)
        _tool([*before, *parts], rest, reading, loc)
    elif words or not reading.faults:
        right = "write `uvx PACKAGE`" if program == "uv" else "write `pipx run PACKAGE`"
        what = "runs nothing that is a package of the registry"
        reading.refuse(FaultKind.UNSUPPORTED, words[0].loc if words else loc, f"{program} like this {what}; {right}")


def _tool(parts: Sequence[Part], rest: Sequence[Word], reading: Reading, loc: str) -> None:
    """``[--from PACKAGE] [--with PACKAGES] PACKAGE-OR-PROGRAM ARGUMENTS``."""
    sources = [value for name, value in parts if name == _FROM]
    beside = list(_each(value for name, value in parts if name == _WITH))
    if len(sources) > 1:
        reading.refuse(FaultKind.MALFORMED, sources[1].loc, "there can be one package; install others beside it")
    if rest:
        reading.args = list(rest[1:])
        if sources:
            want(reading, Runner.UVX, sources[0], rest[0], beside)
        else:
            want(reading, Runner.UVX, rest[0], None, beside)
    elif not reading.faults:
        missing = "the program of the package to run is missing" if sources else "the name of a package is missing"
        reading.refuse(FaultKind.MALFORMED, loc, missing)


def _with(parts: Sequence[Part], rest: Sequence[Word], reading: Reading, loc: str) -> None:
    """``--with PACKAGES PROGRAM ARGUMENTS``: the program is of the package of its name, or of the only one."""
    beside = list(_each(value for _, value in parts))
    reading.args = list(rest[1:])
    if not rest:
        if not reading.faults:
            reading.refuse(FaultKind.MALFORMED, loc, "the name of a program is missing")
        return
    of_its_name = [word for word in beside if _name(word.text) == _name(rest[0].text)]
    source = (of_its_name or beside)[:1] if of_its_name or len(beside) == 1 else []
    if source:
        want(reading, Runner.UVX, source[0], rest[0], [word for word in beside if word is not source[0]])
    elif beside:
        why = "it is not plain which package this program is of; write uvx --from PACKAGE --with OTHERS PROGRAM"
        reading.refuse(FaultKind.MALFORMED, rest[0].loc, why)
    elif not reading.faults:
        why = "uv run without --with runs a project or a file of the machine the command was written for"
        reading.refuse(FaultKind.UNSUPPORTED, rest[0].loc, f"{why}; use a package with uvx, or build an image")


def _name(text: str) -> str | None:
    try:
        return Package.parse(Runner.UVX, text).name
    except ValueError:
        return None


def _each(words: Iterator[Word]) -> Iterator[Word]:
    """The requirements of ``--with a,b``: a comma in brackets, or before what no name begins with, is part of one."""
    for word in words:
        start = depth = 0
        text = word.text
        for at, character in enumerate(text):
            depth += (character == "[") - (character == "]")
            if character == "," and depth == 0 and text[at + 1 : at + 3].lstrip()[:1].isalnum():
                yield Word(text[start:at].strip(), word.loc)
                start = at + 1
        yield Word(text[start:].strip(), word.loc)
