"""The images that were built here, as the engine knows them: by the labels that the builder gave them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from doogie_client.commands.package import Package
from doogie_images.container import created
from doogie_images.docker import docker
from doogie_images.errors import DockerFailed, NotWanted
from doogie_images.lock import LOCK_FILES, Lock
from doogie_images.request import Request

PACKAGE_LABEL = "io.doogie.image.package"
"""The exact package, like ``npx:@scope/name@1.2.3``."""
LOCK_LABEL = "io.doogie.image.lock"
"""``sha256:`` of the lock file in the image."""
REQUEST_LABEL = "io.doogie.image.request"
"""``Request`` as JSON."""

_ID_DIGITS = 12
_NAMESPACE = "doogie/"

UNFINISHED = f"{_NAMESPACE}unfinished"
"""The repository of images that are not tested yet; what is left of it was left by a builder that was killed."""


@dataclass(frozen=True)
class Image:
    """One image.

    Args:
        id: as the engine and a policy's pin have it.
        names: ``repository:tag``, those that the builder gives first; none where a later build took the name over.
        package: with its exact version.
        request: what was asked for.
        lock_digest: of its lock file.
        created: when it was built.
        size_bytes: with its base.
        layers: of its file system, the base image's first.
    """

    id: str
    names: tuple[str, ...]
    package: Package
    request: Request
    lock_digest: str
    created: datetime
    size_bytes: int
    layers: tuple[str, ...]

    @property
    def name(self) -> str:
        """What to call it: its name, or its id."""
        return self.names[0] if self.names else self.id

    @property
    def own_names(self) -> tuple[str, ...]:
        """Those that the builder gave; others are for others to take away."""
        return tuple(name for name in self.names if name.startswith(_NAMESPACE))

    @property
    def finished(self) -> bool:
        """Whether it is what a build left on purpose."""
        return not any(name.startswith(f"{UNFINISHED}:") for name in self.names)


class _RootFs(BaseModel):
    layers: tuple[str, ...] = Field(default=(), alias="Layers")


class _Config(BaseModel):
    labels: dict[str, str] | None = Field(default=None, alias="Labels")


class _Inspected(BaseModel):
    """``GET /images/{name}/json`` of the Engine API."""

    model_config = ConfigDict(extra="ignore")

    id: str = Field(alias="Id")
    tags: list[str] | None = Field(default=None, alias="RepoTags")
    created: datetime = Field(alias="Created")
    size: int = Field(alias="Size")
    config: _Config = Field(alias="Config")
    root_fs: _RootFs = Field(alias="RootFS")


_INSPECTED = TypeAdapter(list[_Inspected])


async def built_images() -> list[Image]:
    """All of them, the newest first. Labels that this version does not understand are none of ours."""
    ids = (await docker("image", "ls", "--quiet", "--no-trunc", "--filter", f"label={PACKAGE_LABEL}")).split()
    if not ids:
        return []
    found = _INSPECTED.validate_json(await docker("image", "inspect", *dict.fromkeys(ids)))
    images = [image for image in map(_image, found) if image is not None]
    return sorted(images, key=lambda image: (image.created, image.id), reverse=True)


async def image_of(reference: str) -> Image:
    """The image of a name or id that was just built.

    Raises:
        DockerFailed: it is not there.
    """
    (found,) = _INSPECTED.validate_json(await docker("image", "inspect", reference))
    image = _image(found)
    if image is None:
        raise DockerFailed(f"{reference} lost its labels")
    return image


def find(images: Sequence[Image], wanted: str) -> list[Image]:
    """Those that an operator may mean: by name, id or its beginning, repository, or package with or without version."""
    if named := [image for image in images if wanted in image.names]:
        return named
    digits = wanted.removeprefix("sha256:")
    if len(digits) >= _ID_DIGITS and (known := [i for i in images if i.id.removeprefix("sha256:").startswith(digits)]):
        return known
    try:
        package: Package | None = Package.from_text(wanted)
    except ValueError:
        package = None
    return [
        image
        for image in images
        if wanted in {name.rpartition(":")[0] for name in image.names}
        or (package is not None and _is(image.package, package))
    ]


def one(images: Sequence[Image], wanted: str) -> Image:
    """The one that an operator means: of several versions of one thing, the newest that still has its name.

    Raises:
        NotWanted: none, or different things.
    """
    found = find(images, wanted)
    named = newest(found) or found
    if len(named) == 1:
        return named[0]
    names = ", ".join(image.name for image in (named or images)) or "none"
    raise NotWanted(f"{wanted} is {'several images' if named else 'no image that was built here'}: there are {names}")


def newest(images: Sequence[Image]) -> list[Image]:
    """Of each package with the same options the newest image, without what lost its name or never got one."""
    kinds: dict[object, Image] = {}
    for image in sorted(images, key=lambda image: image.created):
        if image.names and image.finished:
            asked = image.request
            kinds[image.package.without_version(), asked.system_packages, asked.allow_scripts] = image
    return sorted(kinds.values(), key=lambda image: image.name)


def _is(built: Package, wanted: Package) -> bool:
    same = (built.runner, built.name) == (wanted.runner, wanted.name) and wanted.extras in ((), built.extras)
    return same and (wanted.version is None or built.same_version(wanted))


async def users(image: Image) -> list[str]:
    """Names of the containers that are made from it, running or not."""
    return (await docker("ps", "--all", "--format", "{{.Names}}", "--filter", f"ancestor={image.id}")).split()


async def read_lock(image: Image) -> Lock:
    """The lock file that the image carries; nothing in it runs for that.

    Raises:
        NotWanted: it is not the one that the image was built with.
    """
    file = LOCK_FILES[image.package.runner]
    with TemporaryDirectory(prefix="doogie-images-") as directory:
        async with created(image.id) as name:
            await docker("cp", f"{name}:/server/{file}", f"{directory}/{file}")
            text = (Path(directory) / file).read_text(encoding="utf-8")
    lock = Lock.parse(image.package.runner, text)
    if lock.digest != image.lock_digest:
        raise NotWanted(f"{image.name}: the lock file in the image is not the one it was built with")
    return lock


async def base_layers(base: str) -> tuple[str, ...]:
    """The layers of a base image as the engine has it now; none where it does not."""
    try:
        (found,) = _INSPECTED.validate_json(await docker("image", "inspect", base))
    except DockerFailed:
        return ()
    return found.root_fs.layers


def _image(found: _Inspected) -> Image | None:
    labels = found.config.labels or {}
    try:
        package = Package.from_text(labels[PACKAGE_LABEL])
        request = Request.model_validate_json(labels[REQUEST_LABEL])
    except (KeyError, ValueError, ValidationError):
        return None
    asked = request.package
    return Image(
        id=found.id,
        names=tuple(sorted(found.tags or (), key=lambda name: (not name.startswith(_NAMESPACE), name))),
        package=package.running(asked.executable, asked.with_packages),
        request=request,
        lock_digest=labels.get(LOCK_LABEL, ""),
        created=found.created,
        size_bytes=found.size,
        layers=found.root_fs.layers,
    )
