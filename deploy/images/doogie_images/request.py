"""What an operator asked for: a package, and what its server needs to run. Pure.

It is on the image as a label, so that it can be asked for again: arguments as they are, variables by name only.
"""

import posixpath
import re
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from doogie_client.commands.package import Package
from doogie_contract.models import MAX_ARGS, Argument, EnvName, ResourceName

TMP = "/tmp"  # noqa: S108 - of the container: a tmpfs of its own
"""What every server can write to."""

_SIZE = re.compile(r"(?P<number>[1-9][0-9]{0,8})(?P<unit>KiB|MiB|GiB)", re.ASCII)
_UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_ENGINE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}", re.ASCII)
_ENGINES_OWN_NETWORKS = ("bridge", "default", "host")


def _check_size(text: str) -> str:
    if _SIZE.fullmatch(text) is None:
        raise ValueError(f"{text!r} is not a size: write 64KiB, 256MiB or 1GiB")
    return text


def _check_path(text: str) -> str:
    if not text.startswith("/") or text == "/" or posixpath.normpath(text) != text or "\0" in text:
        raise ValueError(f"{text!r} is not an absolute path without . and .. and doubled or trailing slashes")
    return text


def _check_source(text: str) -> str:
    return text if _ENGINE_NAME.fullmatch(text) else _check_path(text)


def _check_network(text: str) -> str:
    if not _ENGINE_NAME.fullmatch(text) or text in _ENGINES_OWN_NETWORKS:
        raise ValueError(f"{text!r} is no network that a policy takes: use one made with `docker network create`")
    return text


Size = Annotated[str, AfterValidator(_check_size)]
Path = Annotated[str, AfterValidator(_check_path)]
Source = Annotated[str, AfterValidator(_check_source)]
Network = Annotated[str, AfterValidator(_check_network)]
SystemPackage = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9+.-]+$")]


def size_bytes(size: str) -> int:
    """Bytes of a checked size."""
    match = _SIZE.fullmatch(size)
    if match is None:
        raise ValueError(f"{size!r} is not a size")
    return int(match["number"]) * _UNITS[match["unit"]]


class Mount(BaseModel):
    """A directory of the host, or a volume, that the server gets under a name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: Source = Field(description="an absolute path on the engine's host, or the name of a volume")
    target: Path
    read_only: bool = True

    @property
    def is_volume(self) -> bool:
        """Whether the source is a volume."""
        return not self.source.startswith("/")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``SOURCE:TARGET[:rw]``.

        Raises:
            ValueError: it is not that (pydantic's is one too).
        """
        source, colon, rest = text.partition(":")
        target, _, access = rest.partition(":")
        if not colon or access not in ("", "ro", "rw"):
            raise ValueError(f"{text!r} is not SOURCE:TARGET or SOURCE:TARGET:rw")
        return cls(source=source, target=target, read_only=access != "rw")


class Request(BaseModel):
    """What to build, and what its server needs to run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    package: Package = Field(description="as it was asked for: without a version, or with a range, where that was so")
    allow_scripts: bool = Field(default=False, description="the packages' own code may run while they are installed")
    system_packages: tuple[SystemPackage, ...] = Field(default=(), description="of the base image's distribution")
    args: tuple[Argument, ...] = Field(default=(), max_length=MAX_ARGS)
    env: tuple[EnvName, ...] = Field(default=(), description="names of the variables that the server gets")
    mounts: dict[ResourceName, Mount] = Field(default={})
    tmpfs: dict[Path, Size] = Field(default={}, description="writable directories: path to size")
    memory: Size = "256MiB"
    network: Network = Field(default="none", description="in use; the smoke test never has one")

    @model_validator(mode="after")
    def _nothing_is_mounted_twice(self) -> Self:
        targets = [TMP, *self.tmpfs, *(mount.target for mount in self.mounts.values())]
        if twice := {target for target in targets if targets.count(target) > 1}:
            raise ValueError(f"{', '.join(sorted(twice))}: two things cannot be at one place; {TMP} is there always")
        return self
