"""Fixtures for what runs on a real engine."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.harness import ENGINE_SOCKET
from tests.support.registry import Registry, registry


@pytest.fixture
async def own_registry(engine: str, tmp_path: Path) -> AsyncIterator[Registry]:
    """A registry; what the machine's engine has pulled from it is removed again."""
    directory = tmp_path / "registry"
    directory.mkdir()
    async with registry(directory) as running:
        yield running
    pulled = [reference for image in running.published for reference in (image.by_digest, image.tagged)]
    if pulled:  # most of them are not there, or not by both names
        command = ["docker", "--host", f"unix://{ENGINE_SOCKET}", "image", "rm", "--force", *pulled]
        nowhere = asyncio.subprocess.DEVNULL
        await (await asyncio.create_subprocess_exec(*command, stdout=nowhere, stderr=nowhere)).wait()
