"""Containers of our own: created, and removed however their use ends."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from doogie_images.docker import docker

LABEL = "io.doogie.image.test"
"""On every container that this command makes."""


@asynccontextmanager
async def created(*arguments: str, env: Mapping[str, str] | None = None) -> AsyncIterator[str]:
    """``docker create ARGUMENTS``: the name of a container that is not started, and is removed after the block.

    Raises:
        DockerFailed: the engine did not create it.
    """
    name = f"doogie-images-{uuid.uuid4().hex[:12]}"
    creating = asyncio.ensure_future(
        docker("create", "--name", name, "--label", f"{LABEL}=1", "--pull", "never", *arguments, env=env)
    )
    try:
        # Not cancelled half-way: whether there is a container to remove would not be known.
        await asyncio.shield(creating)
        yield name
    finally:
        await asyncio.shield(_remove(name, creating))


async def _remove(name: str, creating: "asyncio.Future[str]") -> None:
    await asyncio.wait([creating])
    if creating.exception() is None:
        await docker("rm", "--force", "--volumes", name)
