"""What exactly is in an image: every package with its version and hashes, as npm and uv write it down. Pure.

npm's ``package-lock.json`` or a ``requirements.lock`` with hashes. The image carries it in ``/server``; another build
from it installs the same bytes.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from doogie_client.commands.package import Package, Runner
from doogie_images.errors import NotResolved

LOCK_FILES = {Runner.NPX: "package-lock.json", Runner.UVX: "requirements.lock"}

_PIN = re.compile(r"(?P<name>[a-z0-9][a-z0-9.-]*)==(?P<version>[^\s;]+)(?: ?;[^\\]*)? \\", re.ASCII)
_HASH = re.compile(r"    --hash=sha256:[0-9a-f]{64}(?: \\)?", re.ASCII)


class Change(NamedTuple):
    """A package of which an update brings other versions; ``before`` or ``after`` is empty where it comes or goes."""

    name: str
    before: tuple[str, ...]
    after: tuple[str, ...]


@dataclass(frozen=True)
class Lock:
    """One lock file.

    Args:
        runner: whose it is.
        text: the file.
        versions: of each package; npm may install several.
        own: versions of the packages that were asked for, by name.
    """

    runner: Runner
    text: str = field(repr=False)
    versions: Mapping[str, tuple[str, ...]] = field(repr=False)
    own: Mapping[str, str] = field(repr=False)

    @classmethod
    def parse(cls, runner: Runner, text: str) -> Self:
        """Read a lock file.

        Raises:
            NotResolved: it is none, or it does not pin something by hash.
        """
        return cls(runner, text, *(_npm(text) if runner is Runner.NPX else _pypi(text)))

    @property
    def digest(self) -> str:
        """``sha256:`` and the hash of the file."""
        return "sha256:" + hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def count(self) -> int:
        """How many packages are installed."""
        return sum(map(len, self.versions.values()))

    def files(self) -> dict[str, str]:
        """The files that the recipe installs from."""
        files = {LOCK_FILES[self.runner]: self.text}
        if self.runner is Runner.NPX:
            files["package.json"] = json.dumps({"dependencies": dict(self.own)}, indent=2) + "\n"
        return files

    def version_of(self, package: Package) -> str:
        """The exact version of the package that was asked for.

        Raises:
            NotResolved: the lock does not have it.
        """
        if (version := self.own.get(package.name)) is None:
            raise NotResolved(f"the lock file is not for {package.name}, but for {', '.join(self.own) or 'nothing'}")
        return version

    def changes(self, newer: "Lock") -> list[Change]:
        """What another lock installs otherwise, by name."""
        names = sorted({*self.versions, *newer.versions})
        both = (Change(name, self.versions.get(name, ()), newer.versions.get(name, ())) for name in names)
        return [change for change in both if change.before != change.after]


# --- npm: lockfileVersion 3 of https://docs.npmjs.com/cli/configuring-npm/package-lock-json -------------------------


class _NpmEntry(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str | None = None
    version: str = ""
    integrity: str | None = None
    in_bundle: bool = Field(default=False, alias="inBundle")
    dependencies: dict[str, str] = {}


class _NpmLock(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    packages: dict[str, _NpmEntry]


def _npm(text: str) -> tuple[dict[str, tuple[str, ...]], dict[str, str]]:
    try:
        entries = _NpmLock.model_validate_json(text).packages
    except ValidationError as exc:
        raise NotResolved("this is not a package-lock.json of npm 7 or newer") from exc
    versions: dict[str, set[str]] = {}
    for path, entry in entries.items():
        if not path:
            continue
        # A bundled package is inside the archive of the one that bundles it, whose hash covers it.
        if entry.integrity is None and not entry.in_bundle:
            raise NotResolved(f"{path.rpartition('node_modules/')[2]} is not from the registry, so no hash can pin it")
        versions.setdefault(entry.name or path.rpartition("node_modules/")[2], set()).add(entry.version)
    root = entries.get("", _NpmEntry())
    own = {
        name: entries[f"node_modules/{name}"].version for name in root.dependencies if f"node_modules/{name}" in entries
    }
    return {name: tuple(sorted(found)) for name, found in sorted(versions.items())}, own


# --- PyPI: a requirements file with hashes (pip's hash-checking mode) ----------------------------------------------


def _pypi(text: str) -> tuple[dict[str, tuple[str, ...]], dict[str, str]]:
    pins = dict(_pins(text))
    return {name: (version,) for name, version in sorted(pins.items())}, pins


def _pins(text: str) -> Iterator[tuple[str, str]]:
    hashed = True
    name = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if line.lstrip().startswith("#") or not line.strip():
            continue
        if _HASH.fullmatch(line):
            hashed = True
        elif (pin := _PIN.fullmatch(line)) and hashed:
            name, hashed = pin["name"], False
            yield name, pin["version"]
        else:
            raise NotResolved(f"line {number} of the requirements is neither NAME==VERSION \\ nor one of its hashes")
    if not hashed:
        raise NotResolved(f"the requirements have no hash for {name}")
