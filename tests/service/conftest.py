"""Stores on both databases: a test that takes ``store`` or ``database`` runs on SQLite and on PostgreSQL."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from doogie_client.service.sql import SqlConfigStore
from tests.support.postgres import PostgresCluster


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresCluster]:
    """A PostgreSQL server of the test run's own."""
    with PostgresCluster() as cluster:
        yield cluster


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/doogie.db"
    else:
        cluster: PostgresCluster = request.getfixturevalue("postgres")
        with cluster.database() as url:
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
