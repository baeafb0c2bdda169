"""The catalogue: which image is which npm or PyPI package. A YAML file of the operator's, then the shipped one.

    version: 1
    images:
      - package: npx:@scope/server@1.2.3          # or uvx:server[extra]==1.2.3; always one exact version
        image: registry.example/server:1.2.3      # what the request asks the proxy for
      - package: uvx:toolbox==2.0.0
        executable: toolbox-mcp                   # only where commands name a program: uvx --from toolbox toolbox-mcp
        with: [pandas]                            # only where they install packages beside it, as they spell them
        image: registry.example/toolbox:2.0.0

Unknown keys, duplicate keys and a package that one file gives twice are errors with file and line. Of several versions
of a package, the first in the file is the one for commands that name no version; entries of an earlier file hide those
of a later one.
"""

import json
import re
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from doogie_client.commands.errors import CatalogueError
from doogie_client.commands.package import Package
from doogie_contract.models import ImageText

_PLAIN = re.compile(r"[a-z][a-z0-9._-]*[:/@][A-Za-z0-9._/@:=+!\[\]-]*[A-Za-z0-9]", re.ASCII)

LATEST = (None, "latest")
"""What a command says that leaves the version to the catalogue."""


@dataclass(frozen=True)
class Entry:
    """One image: the package it was built from, with its exact version, executable and ``with``."""

    package: Package
    image: str

    def to_yaml(self) -> str:
        """The entry as it stands below ``images:``, indented by two spaces, with a newline at its end."""
        lines = [f"  - package: {_scalar(str(self.package))}"]
        if self.package.executable is not None:
            lines.append(f"    executable: {_scalar(self.package.executable)}")
        if self.package.with_packages:
            lines.append(f"    with: {json.dumps(list(self.package.with_packages))}")
        lines.append(f"    image: {_scalar(self.image)}")
        return "".join(f"{line}\n" for line in lines)


@dataclass(frozen=True)
class Catalogue:
    """All entries, in the order in which they are asked."""

    entries: tuple[Entry, ...]

    @classmethod
    def load(cls, *paths: Path) -> Self:
        """Read the operator's files, in this order, and the shipped one after them.

        Raises:
            CatalogueError: a file cannot be read, or is not a catalogue.
        """
        entries: list[Entry] = []
        for path in paths:
            try:
                text = path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as exc:
                raise CatalogueError([f"{path}: cannot be read: {exc}"]) from exc
            entries += cls.parse(text, str(path)).entries
        return cls((*entries, *cls.shipped().entries))

    @classmethod
    def shipped(cls) -> Self:
        """The entries of this package's own file: the images that this repository builds."""
        resource = files("doogie_client.commands") / "catalogue.yaml"
        return cls.parse(resource.read_text(encoding="utf-8"), "catalogue.yaml")

    @classmethod
    def parse(cls, text: str, source: str = "catalogue") -> Self:
        """Check the text of one file; ``source`` names it in errors.

        Raises:
            CatalogueError: not YAML, or not a catalogue.
        """
        try:
            document = YAML(typ="rt").load(text)
        except MarkedYAMLError as exc:
            line = exc.problem_mark.line + 1 if exc.problem_mark else 1
            raise CatalogueError([f"{source}:{line}: {exc.problem or exc.context}"]) from exc
        except (YAMLError, ValueError) as exc:
            raise CatalogueError([f"{source}: not YAML: {exc}"]) from exc
        if not isinstance(document, CommentedMap):
            raise CatalogueError([f"{source}:1: a catalogue is a mapping that begins with version: 1"])
        try:
            file = _File.model_validate(document)
        except ValidationError as exc:
            errors = exc.errors(include_url=False, include_context=False, include_input=False)
            raise CatalogueError(
                [f"{source}:{_line(document, e['loc'])}: {_describe(e['loc'], e['msg'])}" for e in errors]
            ) from exc
        return cls(_entries(file, document, source))

    def find(self, package: Package) -> Entry | None:
        """The entry for a package, as a whole: name, extras, executable, ``with`` and version.

        Without a version, or with the tag ``latest``: the first entry of that package. A range or another tag finds
        nothing: what it means changes with time.
        """
        return next((entry for entry in self.versions(package) if _fits(entry.package, package)), None)

    def versions(self, package: Package) -> tuple[Entry, ...]:
        """All entries for a package, whatever their version, in the order in which they are asked."""
        anyone = package.without_version()
        return tuple(entry for entry in self.entries if entry.package.without_version() == anyone)


def _fits(listed: Package, asked: Package) -> bool:
    return asked.version in LATEST or (asked.exact and listed.same_version(asked))


# --- the file ---------------------------------------------------------------------------------------------------


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _Image(_Section):
    package: str
    image: ImageText
    executable: str | None = Field(default=None, min_length=1, pattern=r"^[A-Za-z0-9_][A-Za-z0-9._+-]*$")
    with_packages: list[str] = Field(default_factory=list, alias="with")

    def identity(self) -> Package:
        """The package as commands are compared with it.

        Raises:
            ValueError: not a package, or without an exact version.
        """
        package = Package.from_text(self.package)
        if not package.exact:
            raise ValueError(f"it needs an exact version, like {replace(package, version='1.2.3')}")
        return package.running(self.executable, self.with_packages)


class _File(_Section):
    version: Literal[1]
    images: list[_Image]


def _entries(file: _File, document: CommentedMap, source: str) -> tuple[Entry, ...]:
    entries: list[Entry] = []
    faults: list[str] = []
    for index, image in enumerate(file.images):
        try:
            package = image.identity()
        except ValueError as exc:
            fault: str | None = str(exc)
        else:
            fault = f"{package} is in this file twice" if Catalogue(tuple(entries)).find(package) else None
            entries.append(Entry(package, image.image))
        if fault is not None:
            faults.append(f"{source}:{_line(document, ('images', index, 'package'))}: images.{index}.package: {fault}")
    if faults:
        raise CatalogueError(faults)
    return tuple(entries)


def _describe(loc: tuple[int | str, ...], message: str) -> str:
    where = ".".join(str(part) for part in loc)
    return f"{where}: {'unknown key' if message == 'Extra inputs are not permitted' else message}"


def _line(document: CommentedMap, loc: tuple[int | str, ...]) -> int:
    """The line of the innermost part of ``loc`` that the file spells."""
    node: object = document
    line = 0
    for part in loc:
        if isinstance(node, CommentedMap) and part in node:
            line, node = node.lc.key(part)[0], node[part]
        elif isinstance(node, CommentedSeq) and isinstance(part, int) and part < len(node):
            line, node = node.lc.item(part)[0], node[part]
        else:
            break
    return line + 1


def _scalar(text: str) -> str:
    """A YAML scalar: plain where it cannot be taken for anything else, or quoted as in JSON, which YAML reads alike."""
    return text if _PLAIN.fullmatch(text) else json.dumps(text)
