"""What an update of an image would bring: the same request, resolved again."""

from collections.abc import Sequence
from dataclasses import dataclass

from doogie_client.commands.package import Runner
from doogie_images.build import building
from doogie_images.errors import ImagesError
from doogie_images.images import Image, base_layers, built_images, newest, one, read_lock
from doogie_images.lock import Change, Lock
from doogie_images.progress import Progress
from doogie_images.request import Request
from doogie_images.settings import BuildSettings


@dataclass(frozen=True)
class Plan:
    """A new build of an image.

    Args:
        image: the one there is.
        request: what is built instead.
        lock: of the new one.
        changes: packages that are new, gone or of another version.
        new_base: the base image is another one now.
    """

    image: Image
    request: Request
    lock: Lock
    changes: tuple[Change, ...]
    new_base: bool

    @property
    def nothing(self) -> bool:
        """Whether the image is up to date."""
        return not (self.changes or self.new_base)


async def look(
    settings: BuildSettings, progress: Progress, names: Sequence[str] | None, *, latest: bool
) -> tuple[list[Plan], list[ImagesError]]:
    """What could be built anew: of the named images, or of the newest of each package. An error is one image's alone.

    Raises:
        NotWanted: a name is no image's.
        DockerFailed: the engine.
    """
    there_are = await built_images()
    images = [one(there_are, name) for name in names] if names else newest(there_are)
    plans: list[Plan] = []
    failures: list[ImagesError] = []
    for image in images:
        try:
            plans.append(await _plan(settings, progress, image, latest=latest))
        except ImagesError as exc:
            failures.append(ImagesError(f"{image.name}: {exc}", exc.detail))
    return plans, failures


async def _plan(settings: BuildSettings, progress: Progress, image: Image, *, latest: bool) -> Plan:
    """Resolve anew what was asked for when the image was built, or, with ``latest``, the newest version of it."""
    request = image.request
    if latest:
        request = request.model_copy(update={"package": request.package.without_version()})
    before = await read_lock(image)
    async with building(settings, progress) as builder:
        lock = await builder.lock(request)
    base = settings.node_base if image.package.runner is Runner.NPX else settings.python_base
    layers = await base_layers(base)
    new_base = image.layers[: len(layers)] != layers
    return Plan(image, request, lock, tuple(before.changes(lock)), new_base)
