"""Stores on both databases: a test that takes ``store`` or ``database`` runs on SQLite and on PostgreSQL."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from doogie_client.service.sql import SqlConfigStore
from tests.service.backend import Backend, running_backend
from tests.support.postgres import PostgresCluster


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresCluster]:
    """A PostgreSQL server of the test run's own."""
    with PostgresCluster() as cluster:
        yield cluster


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database: a SQLite file, or a schema of PostgreSQL."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/doogie.db"
    else:
        cluster: PostgresCluster = request.getfixturevalue("postgres")
        with cluster.schema() as url:
            yield url


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    """Where the key file is to be."""
    return tmp_path / "store.key"


@pytest.fixture
async def store(database: str, key_file: Path) -> AsyncIterator[SqlConfigStore]:
    """An empty store."""
    async with await SqlConfigStore.open(database, key_file=key_file, create_key=True) as opened:
        yield opened


@pytest.fixture
async def sqlite_store(tmp_path: Path, key_file: Path) -> AsyncIterator[SqlConfigStore]:
    """An empty store in a file, for tests of what does not depend on the database."""
    url = f"sqlite:///{tmp_path}/doogie.db"
    async with await SqlConfigStore.open(url, key_file=key_file, create_key=True) as opened:
        yield opened


@pytest.fixture
async def backend(engine: str, tmp_path: Path, sqlite_store: SqlConfigStore) -> AsyncIterator[Backend]:
    """The service on SQLite."""
    async with running_backend(tmp_path, sqlite_store) as running:
        yield running


@pytest.fixture
async def any_backend(engine: str, tmp_path: Path, store: SqlConfigStore) -> AsyncIterator[Backend]:
    """The service on both databases, one after another."""
    async with running_backend(tmp_path, store) as running:
        yield running
