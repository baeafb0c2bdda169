"""From a request to an image that answers: lock ──► install ──► image ──► smoke test ──► its name.

Everything of the packages stays in build containers: the registry is asked, archives are unpacked and, where that was
allowed, scripts run there and not on this machine; nothing secret is in them but the build's CA bundle.

An image gets its name last, so that a name means an image that answered. Until then it is
``doogie/unfinished:<random>``, which goes whatever becomes of the build.
"""

import asyncio
import os
import shutil
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from importlib.resources import as_file, files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from doogie_client.commands.package import Package, Runner
from doogie_images import answers
from doogie_images.docker import docker, refused, run
from doogie_images.errors import BuildFailed, DockerFailed, NotResolved, SmokeTestFailed
from doogie_images.executable import choose
from doogie_images.images import LOCK_LABEL, PACKAGE_LABEL, REQUEST_LABEL, UNFINISHED, Image, image_of
from doogie_images.lock import LOCK_FILES, Lock
from doogie_images.naming import image_name
from doogie_images.progress import Progress, Step
from doogie_images.request import Request
from doogie_images.settings import BuildSettings

if TYPE_CHECKING:
    from doogie_images.smoke import Answer

_DOCKERFILES = {Runner.NPX: "npm.Dockerfile", Runner.UVX: "pypi.Dockerfile"}
_RECIPES = "doogie_images/recipes"
"""Where the recipes are in the build's context; compose.yaml beside this package has the same context."""
_EXECUTABLES = TypeAdapter(dict[str, dict[str, str]])


@dataclass(frozen=True)
class SmokeTest:
    """How to test what was built.

    Args:
        env: values of the request's variables; secret.
        timeout_s: for the server to answer.
        keep_failed: leave an image whose server does not answer under its temporary name, to look into it.
    """

    env: Mapping[str, str] = field(repr=False)
    timeout_s: float
    keep_failed: bool = False


@dataclass(frozen=True)
class Built:
    """What a build left.

    Args:
        image: with its name.
        answer: what the server in it said; None: it was not asked.
        replaced: the id of the image that had the name before.
    """

    image: Image
    answer: "Answer | None" = None
    replaced: str | None = None


class Builder:
    """Builds one image, in a directory and under a temporary name of its own; ``building`` makes one."""

    def __init__(self, settings: BuildSettings, progress: Progress, directory: Path) -> None:
        self._settings = settings
        self._progress = progress
        self._directory = directory
        self._unfinished = f"{UNFINISHED}:{uuid.uuid4().hex}"
        self._to_remove = False

    async def lock(self, request: Request) -> Lock:
        """Ask the registry for exact versions and hashes of everything that the package needs.

        Raises:
            NotResolved: with what is missing.
            BuildFailed, DockerFailed: as ``build``.
        """
        package = request.package
        requested = [_requirement(package), *package.with_packages]
        (self._directory / "requested").write_text("".join(f"{line}\n" for line in requested), encoding="utf-8")
        with self._progress.step(f"resolving {package}") as step:
            # Tags and ranges mean something else tomorrow: BuildKit must not remember what they meant.
            arguments = {**_arguments(request), "RESOLVED_AT": str(time.time_ns())}
            files = await self._export(package, "lock", arguments, step)
            text = files.get(LOCK_FILES[package.runner])
            if text is None:
                raise NotResolved(*answers.not_resolved(package, files))
            lock = Lock.parse(package.runner, text)
            exact = replace(package, version=lock.version_of(package))
            step.result = f"{exact} and {lock.count - 1} packages with it"
        return lock

    async def build(self, request: Request, lock: Lock, test: SmokeTest | None) -> Built:
        """Install what is locked, make the image, test it and give it its name.

        Raises:
            NoExecutable: it is not plain what to run.
            BuildFailed: a step did not work.
            SmokeTestFailed: the server does not answer.
            DockerFailed: the engine.
        """
        package = replace(request.package, version=lock.version_of(request.package))
        for name, text in lock.files().items():
            (self._directory / "locked" / name).write_text(text, encoding="utf-8")
        with self._progress.step(f"installing {package}") as step:
            installed = await self._export(package, "installed", _arguments(request), step)
            command = choose(package, _EXECUTABLES.validate_json(installed["executables.json"]))
            step.result = f"its program is {command}"
        with self._progress.step("making the image") as step:
            image = await self._image(request, package, lock, command, step)
            step.result = f"{image.size_bytes / 1e6:.0f} MB, {image.id}"
        answer = await self._test(image, request, test) if test else None
        name = image_name(package, request)
        before = await docker("image", "ls", "--quiet", "--no-trunc", "--filter", f"reference={name}")
        await docker("image", "tag", image.id, name)
        return Built(replace(image, names=(name,)), answer, before if before not in ("", image.id) else None)

    async def remove_unfinished(self) -> None:
        """Take the temporary name away, and with it the image that has no other."""
        if not self._to_remove:
            return
        try:
            await docker("image", "rm", self._unfinished)
        except DockerFailed as exc:
            if "No such image" not in exc.detail:
                raise

    async def _image(self, request: Request, package: Package, lock: Lock, command: str, step: Step) -> Image:
        labels = {
            PACKAGE_LABEL: str(package),
            LOCK_LABEL: lock.digest,
            REQUEST_LABEL: request.model_dump_json(exclude_defaults=True),
        }
        arguments = {
            **_arguments(request),
            "VERSION": package.version or "",
            "COMMAND": command,
            "SYSTEM_PACKAGES": " ".join(request.system_packages),
        }
        options = [word for label, value in labels.items() for word in ("--label", f"{label}={value}")]
        self._to_remove = True  # also when this is cancelled on its way
        await self._buildx(package, ["--load", "--tag", self._unfinished, *options], arguments, step)
        return await image_of(self._unfinished)

    async def _test(self, image: Image, request: Request, test: SmokeTest) -> "Answer":
        from doogie_images.smoke import smoke_test  # the MCP SDK takes a second, which `list` need not wait for

        with self._progress.step("starting it without a network, as the proxy would") as step:
            try:
                answer = await smoke_test(image.id, request, test.env, self._directory, test.timeout_s)
            except SmokeTestFailed:
                self._to_remove = not test.keep_failed
                if test.keep_failed:
                    self._progress.note(f"the image is kept as {self._unfinished}")
                raise
            step.result = f"{answer.server} answered in {answer.seconds:.1f} s, tools: {len(answer.tools)}"
        return answer

    async def _export(self, package: Package, target: str, arguments: Mapping[str, str], step: Step) -> dict[str, str]:
        """Build a stage that has nothing but small text files: their contents by name."""
        output = self._directory / target
        options = ["--target", target, "--output", f"type=local,dest={output}"]
        await self._buildx(package, options, arguments, step)
        return {file.name: file.read_text(encoding="utf-8") for file in output.iterdir()}

    async def _buildx(self, package: Package, options: Sequence[str], arguments: Mapping[str, str], step: Step) -> None:
        settings = self._settings
        given = {
            "NODE_BASE": settings.node_base,
            "PYTHON_BASE": settings.python_base,
            "SERVER": package.name,
            "LOCKED": "locked",
            **arguments,
        }
        command = [
            *("buildx", "build", "--progress", "plain", "--network", settings.build_network),
            *("--secret", f"id=ca,src={settings.build_ca or os.devnull}"),
            *("--file", str(self._directory / _RECIPES / _DOCKERFILES[package.runner])),
            *(word for name, value in given.items() for word in ("--build-arg", f"{name}={value}")),
            *options,
            str(self._directory),
        ]
        log: list[str] = []

        def hear(line: str) -> None:
            log.append(line)
            step.say(answers.last_words(line))

        # Attestations have the time in them, and where the engine stores them with the image, so has its id.
        if await run(command, log.append, hear, {"BUILDX_NO_DEFAULT_ATTESTATIONS": "1"}) != 0:
            own_words = "\n".join(line for line in log if not line.startswith("#"))
            failed = refused(own_words, command)
            raise failed if failed.known else BuildFailed(*answers.build_failure("\n".join(log)))


@asynccontextmanager
async def building(settings: BuildSettings, progress: Progress) -> AsyncIterator[Builder]:
    """A builder, and nothing of it left afterwards but the images that it finished."""
    with TemporaryDirectory(prefix="doogie-images-") as directory:
        with as_file(files("doogie_images") / "recipes") as recipes:
            shutil.copytree(recipes, Path(directory) / _RECIPES)
        (Path(directory) / "locked").mkdir()
        builder = Builder(settings, progress, Path(directory))
        try:
            yield builder
        finally:
            await asyncio.shield(builder.remove_unfinished())


def _arguments(request: Request) -> dict[str, str]:
    return {"SCRIPTS": "with" if request.allow_scripts else "without"}


def _requirement(package: Package) -> str:
    """What npm or uv takes; ``latest`` is a tag of npm's alone."""
    tagged = package.runner is Runner.UVX and package.version == "latest"
    return package.without_version().requirement if tagged else package.requirement
