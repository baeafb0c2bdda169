"""Where the example runs: its database, SQLite or PostgreSQL, and a proxy."""

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from doogie_client import ProxyClient
from tests.integration.application import Deployment
from tests.service.backend import policy
from tests.support.harness import TOKEN, proxy_under_test
from tests.support.postgres import PostgresCluster


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresCluster]:
    """A PostgreSQL server of the test run's own."""
    with PostgresCluster() as cluster:
        yield cluster


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory with a short path: sockets are made in it."""
    with tempfile.TemporaryDirectory(prefix="doogie-") as path:
        yield Path(path)


@pytest.fixture
async def proxy_socket(engine: str, tmp_path: Path) -> AsyncIterator[Path]:
    """Of a proxy; at the end, its servers are stopped."""
    async with (
        proxy_under_test(tmp_path, policy()) as proxy,
        ProxyClient(f"unix://{proxy.socket}", TOKEN) as client,
    ):
        yield proxy.socket
        for server in await client.list():
            await client.stop(server.name, grace_s=0)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, directory: Path) -> Iterator[str]:
    """An empty database of each kind; of one where a test is parametrized with it, ``indirect``."""
    if request.param == "sqlite":
        yield f"sqlite:///{directory}/chatbot.db"
    else:
        cluster: PostgresCluster = request.getfixturevalue("postgres")
        with cluster.database() as url:
            yield url


@pytest.fixture
async def deployment(directory: Path, database_url: str, proxy_socket: Path) -> Deployment:
    """The example, installed."""
    return await Deployment.make(directory, database_url, proxy_socket)
