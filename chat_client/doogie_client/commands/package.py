"""An npm or PyPI package that is a server, as a value: ``npx:@scope/pkg@1.2.3``, ``uvx:pkg[extra]==1.2.3``. Pure."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Self

MAX_NAME_CHARS = 214
"""The longest name that npm takes; nothing on PyPI is longer."""

_NPM = re.compile(
    r"(?P<name>(?:@[a-z0-9][a-z0-9._~-]*/)?[a-z0-9][a-z0-9._~-]*)(?:@(?P<version>[A-Za-z0-9.^~*<>=|+_-]+))?",
    re.ASCII,
)
_PYPI = re.compile(
    r"(?P<name>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)"
    r"(?:\[(?P<extras> *[A-Za-z0-9._-]+ *(?:, *[A-Za-z0-9._-]+ *)*)\])?"
    r"(?:\ ?@(?P<at>[A-Za-z0-9][A-Za-z0-9.!+_-]*)|\ ?(?P<specifier>[<>=!~][A-Za-z0-9.!+_*<>=~, -]*))?",
    re.ASCII,
)
_NPM_EXACT = re.compile(r"\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?", re.ASCII)
_PYPI_EXACT = re.compile(r"v?(?P<epoch>\d+!)?(?P<release>\d+(?:\.\d+)*)(?P<rest>[A-Za-z0-9.+_-]*)", re.ASCII)


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
        version: an exact version (``1.2.3``), or what was written instead: a tag (``latest``) or a range (``^1.2``,
            ``>=1,<2``). None: not said.
        extras: of a PyPI package, sorted.
        executable: the program to run, where a command names one (``npx -p``, ``uvx --from``) and it is not named like
            the package. None: the one that the package runs by itself, however that is named.
        with_packages: further packages to install beside it (``--with``, a second ``--package``): sorted requirements.
    """

    runner: Runner
    name: str
    version: str | None = None
    extras: tuple[str, ...] = ()
    executable: str | None = None
    with_packages: tuple[str, ...] = ()

    @classmethod
    def parse(cls, runner: Runner, text: str) -> Self:
        """Read what the runner takes.

        npm: ``NAME[@VERSION]``. PyPI: ``NAME[EXTRAS]``, then ``==VERSION``, ``@VERSION`` or a range.

        Raises:
            ValueError: a path, a URL, a git reference, or not a package at all. The text is not in the message: it
                may hold a token.
        """
        match = (_NPM if runner is Runner.NPX else _PYPI).fullmatch(text)
        if match is None or len(match["name"]) > MAX_NAME_CHARS:
            raise ValueError(f"not the name of {'an npm' if runner is Runner.NPX else 'a PyPI'} package")
        if runner is Runner.NPX:
            return cls(runner, match["name"], _npm_version(match["version"]))
        extras = {_normalised(extra.strip()) for extra in match["extras"].split(",")} if match["extras"] else set()
        version = match["at"] or _pypi_version(match["specifier"])
        return cls(runner, _normalised(match["name"]), version, tuple(sorted(extras)))

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read ``npx:@scope/pkg@1.2.3`` or ``uvx:pkg[extra]==1.2.3``: the inverse of ``str``.

        Raises:
            ValueError: neither.
        """
        runner, colon, requirement = text.partition(":")
        if not colon or runner not in list(Runner):
            raise ValueError("a package is written npx:@scope/pkg@1.2.3 or uvx:pkg[extra]==1.2.3")
        return cls.parse(Runner(runner), requirement)

    def running(self, executable: str | None, with_packages: Iterable[str] = ()) -> Self:
        """The same package with one of its programs and packages beside it.

        A program that is named like the package is the one that it runs by itself, so naming it says nothing.

        Raises:
            ValueError: ``with_packages`` has one that is not the name of a package.
        """
        own = self.name.rpartition("/")[2]
        if executable is not None and self.runner is Runner.UVX:
            executable = executable.removesuffix(".exe")
            executable = own if _normalised(executable) == own else executable
        beside = {type(self).parse(self.runner, text).requirement for text in with_packages}
        return replace(self, executable=None if executable == own else executable, with_packages=tuple(sorted(beside)))

    @property
    def exact(self) -> bool:
        """Whether ``version`` is one version, not a tag, a range or nothing."""
        if self.version is None:
            return False
        return (_NPM_EXACT if self.runner is Runner.NPX else _PYPI_EXACT).fullmatch(self.version) is not None

    @property
    def requirement(self) -> str:
        """What npm or pip takes: ``@scope/pkg@1.2.3``, ``pkg[extra]==1.2.3``, ``pkg>=1``."""
        name = f"{self.name}[{','.join(self.extras)}]" if self.extras else self.name
        if self.version is None:
            return name
        if self.runner is Runner.UVX and self.version[0] in "<>=!~":
            return f"{name}{self.version}"
        return f"{name}{'==' if self.runner is Runner.UVX and self.exact else '@'}{self.version}"

    def same_version(self, other: Self) -> bool:
        """Whether both versions are one: ``1.0`` and ``1.0.0`` are on PyPI (PEP 440), not on npm."""
        return _version_key(self) == _version_key(other)

    def without_version(self) -> Self:
        """The same package, whatever its version."""
        return replace(self, version=None)

    def line(self) -> list[str]:
        """The words of the shortest ``npx`` or ``uvx`` command that means this package."""
        if self.runner is Runner.NPX:
            if not (self.executable or self.with_packages):
                return ["npx", "-y", self.requirement]
            wanted = [word for requirement in (self.requirement, *self.with_packages) for word in ("-p", requirement)]
            return ["npx", "-y", *wanted, self.executable or self.name.rpartition("/")[2]]
        wanted = [word for requirement in self.with_packages for word in ("--with", requirement)]
        if self.executable:
            return ["uvx", *wanted, "--from", self.requirement, self.executable]
        return ["uvx", *wanted, self.requirement]

    def __str__(self) -> str:
        """The form that ``doogie-images build`` takes: runner, name, extras and version."""
        return f"{self.runner}:{self.requirement}"


def _npm_version(text: str | None) -> str | None:
    """As it was written; of one version, without the ``v`` or ``=`` that npm lets stand before it."""
    exact = text[1:] if text and text[0] in "v=" else text
    return exact if exact and _NPM_EXACT.fullmatch(exact) else text


def _pypi_version(specifier: str | None) -> str | None:
    """As it was written, without blanks; of one version, without ``==``."""
    text = specifier.replace(" ", "") if specifier else None
    exact = text.removeprefix("==").removeprefix("=") if text and text.startswith("==") else ""
    return exact if _PYPI_EXACT.fullmatch(exact) else text


def _version_key(package: Package) -> object:
    """What is equal for equal versions: PEP 440 ignores leading and trailing zeros and separators before a suffix."""
    text = package.version or ""
    match = _PYPI_EXACT.fullmatch(text) if package.runner is Runner.UVX else None
    if match is None:
        return text
    release = ".".join(part.lstrip("0") or "0" for part in match["release"].split("."))
    rest = re.sub(r"[._-]", "", match["rest"]).lower()
    return match["epoch"] or "0!", re.sub(r"(?:\.0)+\Z", "", release), rest


def _normalised(name: str) -> str:
    """PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()
