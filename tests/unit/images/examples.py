"""Values that several of these tests need."""

import json
from datetime import UTC, datetime

from doogie_client.commands.package import Package, Runner
from doogie_images.build import Built
from doogie_images.images import Image
from doogie_images.naming import image_name
from doogie_images.request import Request
from doogie_images.smoke import Answer

ID = "sha256:" + "ab" * 32
HASH = "sha256:" + "0" * 64


def npm_lock(*packages: tuple[str, str], own: tuple[str, ...]) -> str:
    """A package-lock.json of these paths and versions, all from the registry."""
    entries: dict[str, object] = {
        f"node_modules/{path}": {"version": version, "integrity": "sha512-x"} for path, version in packages
    }
    versions = dict(packages)
    root = {"dependencies": {name: versions[name] for name in own}}
    return json.dumps({"name": "server", "lockfileVersion": 3, "packages": {"": root, **entries}}, indent=2)


def pypi_lock(**packages: str) -> str:
    """A requirements.lock of these packages; ``_`` in a name is ``-``."""
    pins = ((name.replace("_", "-"), version) for name, version in packages.items())
    return "".join(f"{name}=={version} \\\n    --hash={HASH}\n" for name, version in pins)


def image(text: str = "npx:@scope/server@1.2.3", *, image_id: str = ID, request: Request | None = None) -> Image:
    """An image that was built from this package."""
    package = Package.from_text(text)
    request = request or Request(package=package)
    name = image_name(package, request)
    return Image(image_id, (name,), package, request, "sha256:0", datetime(2026, 11, 1, tzinfo=UTC), 10**8, ("a", "b"))


def built(of: Image | None = None, *tools: str) -> Built:
    """What a build of it left."""
    of = of or image()
    return Built(of, Answer("server", tools, 0.5) if tools else None)


NPX, UVX = Runner.NPX, Runner.UVX
