"""An npm or PyPI package that is a server, as a value: ``npx:@scope/pkg@1.2.3``, ``uvx:pkg[extra]==1.2.3``. Pure."""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

_NPM = re.compile(
    r"(?P<name>(?:@[a-z0-9~-][a-z0-9._~-]*/)?[a-z0-9~-][a-z0-9._~-]*)(?:@(?P<version>[^@\s]+))?", re.ASCII
)
_PYPI = re.compile(
    r"(?P<name>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)"
    r"(?:\[(?P<extras>[A-Za-z0-9._,\s-]+)\])?"
    r"(?:(?:==|@)(?P<version>[A-Za-z0-9][A-Za-z0-9.!+*_-]*))?",
    re.ASCII,
)


class Runner(StrEnum):
    """Where a package comes from, by the program that runs it unpacked: npm's ``npx``, PyPI's ``uvx``."""

    NPX = "npx"
    UVX = "uvx"


@dataclass(frozen=True)
class Package:
    """What ``npx`` or ``uvx`` would fetch and run.

    Args:
        runner: the registry, by its runner.
        name: as the registry spells it: npm names are lower case, PyPI names normalised (PEP 503).
        version: an exact version, or what was written instead: a tag (``latest``) or a range. None: not said.
        extras: of a PyPI package, sorted.
        executable: the program of the package to run, where it is not the one of the package's own name.
        with_packages: further packages to install beside it (``--with``, a second ``--package``), as written.
    """

    runner: Runner
    name: str
    version: str | None = None
    extras: tuple[str, ...] = ()
    executable: str | None = None
    with_packages: tuple[str, ...] = ()

    @classmethod
    def parse(cls, runner: Runner, text: str) -> Self:
        """Read ``NAME[@VERSION]`` (npm) or ``NAME[EXTRAS][==VERSION]``, also ``@VERSION`` (PyPI).

        Raises:
            ValueError: a path, a URL, a git reference, or not a package at all.
        """
        match = (_NPM if runner is Runner.NPX else _PYPI).fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is not the name of {'an npm' if runner is Runner.NPX else 'a PyPI'} package")
        if runner is Runner.NPX:
            return cls(runner, match["name"], match["version"])
        extras = sorted(_normalised(extra.strip()) for extra in (match["extras"] or "").split(",") if extra.strip())
        return cls(runner, _normalised(match["name"]), match["version"], tuple(extras))

    def __str__(self) -> str:
        """The form that ``doogie-images build`` takes: runner, name, extras and version."""
        extras = f"[{','.join(self.extras)}]" if self.extras else ""
        separator = "@" if self.runner is Runner.NPX else "=="
        return f"{self.runner}:{self.name}{extras}" + (f"{separator}{self.version}" if self.version else "")


def _normalised(name: str) -> str:
    """PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()
