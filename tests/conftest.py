"""Fixtures. The engine is real: where there is none, the tests fail."""

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support import harness
from tests.support.harness import ProxyUnderTest, docker, policy_document, proxy_under_test, toolbox_rule
from tests.support.private_engine import NEWEST, PrivateEngine, private_engine


@pytest.fixture(scope="session")
def engine() -> str:
    """The engine's API version, after a check that the engine answers and has the toolbox image."""
    version = docker("version", "--format", "{{.Server.APIVersion}}")
    if not json.loads(docker("image", "inspect", harness.TOOLBOX)):
        pytest.fail(f"{harness.TOOLBOX} is missing: make test builds it")
    return version


@pytest.fixture(scope="session")
def newest_engine(engine: str) -> Iterator[PrivateEngine]:
    """A private engine of the newest build, with the toolbox image and the runtime ``runsc``."""
    with private_engine(NEWEST, images=[harness.TOOLBOX], source=harness.ENGINE_SOCKET) as started:
        yield started


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """After each test, whatever became of it: no container of its instances is left, or the test fails."""
    yield
    instances = dict(harness.INSTANCES)
    harness.INSTANCES.clear()
    for instance, engine_socket in instances.items():
        harness.assert_nothing_left(instance, engine_socket)


@pytest.fixture
async def proxy(engine: str, tmp_path: Path) -> AsyncIterator[ProxyUnderTest]:
    """A proxy whose one rule, ``toolbox``, allows any arguments."""
    async with proxy_under_test(tmp_path, policy_document(toolbox_rule())) as running:
        yield running
