"""How the tables come about: beside others', once, and never by an older version."""

import asyncio
import sqlite3
from contextlib import ExitStack
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection

from doogie_client.service.records import NewConfig, ServerConfig
from doogie_client.service.sql import SqlConfigStore, migrate
from doogie_client.service.sql.tables import VERSION_TABLE, metadata, sqlite_metadata
from doogie_client.service.store import SchemaTooNew, StoreMisconfigured
from tests.service.processes import report_all, worker
from tests.service.sql import run_sql
from tests.support.postgres import PostgresCluster

HOSTS = ("CREATE TABLE alembic_version (version_num TEXT)", "INSERT INTO alembic_version VALUES ('of the host')")


async def test_the_migrations_make_the_tables_that_the_code_says(store: SqlConfigStore) -> None:
    def differences(connection: Connection) -> object:
        options = {"version_table": VERSION_TABLE, "compare_type": True}
        context = MigrationContext.configure(connection, opts=options)
        ours = [metadata, sqlite_metadata] if connection.dialect.name == "sqlite" else [metadata]
        return compare_metadata(context, ours)  # type: ignore[arg-type] # it takes several, as env.py may

    async def work(connection: AsyncConnection) -> object:
        return await connection.run_sync(differences)

    assert await store._database.read(work) == []


async def test_the_tables_live_beside_a_host_applications(database: str, key_file: Path) -> None:
    await run_sql(database, *HOSTS)
    for _ in range(2):
        async with await SqlConfigStore.open(database, key_file=key_file, create_key=True):
            pass
    assert await run_sql(database, "SELECT * FROM alembic_version") == [("of the host",)]
    assert await run_sql(database, f"SELECT * FROM {VERSION_TABLE}") == [("0001",)]


async def test_many_processes_that_start_at_once_make_the_tables_once(database: str, key_file: Path) -> None:
    with ExitStack() as stack:
        workers = [stack.enter_context(worker(report_all, database, key_file, create_key=True)) for _ in range(4)]
        assert [await running.received() for running in workers] == [0, 0, 0, 0]
        for running in workers:
            running.join()
    assert await run_sql(database, f"SELECT * FROM {VERSION_TABLE}") == [("0001",)]
    assert len(key_file.read_text().split()) == 1


async def test_stores_that_open_at_once_in_one_process_do_not_disturb_each_other(
    postgres: PostgresCluster, tmp_path: Path, key_file: Path
) -> None:
    with postgres.database() as url, postgres.database() as another:
        urls = [f"sqlite:///{tmp_path}/1.db", url, f"sqlite:///{tmp_path}/2.db", another]
        opening = (SqlConfigStore.open(each, key_file=key_file, create_key=True) for each in urls)
        for store in await asyncio.gather(*opening):
            async with store:
                await store.create(NewConfig(name="one", config=ServerConfig()), "alice")
                assert len(await store.list()) == 1


async def test_a_newer_schema_is_refused_and_left_alone(database: str, key_file: Path) -> None:
    async with await SqlConfigStore.open(database, key_file=key_file, create_key=True) as store:
        await store.create(NewConfig(name="kept", config=ServerConfig()), "alice")
    await run_sql(database, f"UPDATE {VERSION_TABLE} SET version_num = '0999'")
    with pytest.raises(
        SchemaTooNew,
        match=r"version 0999, which this software does not know \(its own is 0001\): run the newer version",
    ):
        await SqlConfigStore.open(database, key_file=key_file)
    assert await run_sql(database, "SELECT name FROM doogie_configs") == [("kept",)]


async def test_a_migration_that_fails_leaves_nothing_behind(
    database: str, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upgrade = migrate._upgrade

    def failing(*args: object) -> None:
        upgrade(*args)  # type: ignore[arg-type] # passed through
        raise RuntimeError("in the middle")

    monkeypatch.setattr(migrate, "_upgrade", failing)
    with pytest.raises(RuntimeError, match="in the middle"):
        await SqlConfigStore.open(database, key_file=key_file, create_key=True)
    monkeypatch.undo()
    tables = "sqlite_master WHERE name" if database.startswith("sqlite") else "pg_class WHERE relname"
    assert await run_sql(database, f"SELECT count(*) FROM {tables} LIKE 'doogie%'") == [(0,)]
    async with await SqlConfigStore.open(database, key_file=key_file) as store:
        assert await store.list() == []


async def test_a_postgresql_database_that_cannot_hold_all_text_is_refused(
    postgres: PostgresCluster, key_file: Path
) -> None:
    postgres.sql("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
    with pytest.raises(StoreMisconfigured, match="encoding LATIN1: create it with ENCODING 'UTF8'"):
        await SqlConfigStore.open(postgres.url("latin"), key_file=key_file, create_key=True)
    postgres.sql("DROP DATABASE latin")


async def test_two_schemas_of_one_database_hold_two_stores(postgres: PostgresCluster, tmp_path: Path) -> None:
    with postgres.database() as url:
        await run_sql(url, "CREATE SCHEMA one", "CREATE SCHEMA two")
        first = await SqlConfigStore.open(f"{url}&search_path=one", key_file=tmp_path / "1.key", create_key=True)
        second = await SqlConfigStore.open(f"{url}&search_path=two", key_file=tmp_path / "2.key", create_key=True)
        async with first, second, first.lock("same", wait=False) as held, second.lock("same", wait=False) as also:
            assert held
            assert also
            async with second.changes() as news:
                await first.create(NewConfig(name="same", config=ServerConfig()), "alice")
                theirs = await second.create(NewConfig(name="same", config=ServerConfig()), "alice")
                assert (await asyncio.wait_for(anext(news), 10)).config_id == theirs.id


async def test_over_tcp_it_is_the_same(postgres: PostgresCluster, key_file: Path) -> None:
    with postgres.database(over="tcp") as url:
        async with await SqlConfigStore.open(url, key_file=key_file, create_key=True) as store:
            await store.create(NewConfig(name="one", config=ServerConfig()), "alice")
            assert len(await store.list()) == 1


async def test_a_sqlite_file_is_for_its_owner_alone_and_durable(tmp_path: Path, key_file: Path) -> None:
    path = tmp_path / "doogie.db"
    async with await SqlConfigStore.open(f"sqlite:///{path}", key_file=key_file, create_key=True) as store:
        await store.create(NewConfig(name="one", config=ServerConfig()), "alice")
        files = sorted(tmp_path.glob("doogie.db*"))
        assert [file.name for file in files] == ["doogie.db", "doogie.db-shm", "doogie.db-wal"]
        assert {file.stat().st_mode & 0o777 for file in files} == {0o600}

        async def pragmas(connection: AsyncConnection) -> list[object]:
            names = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
            return [await connection.scalar(text(f"PRAGMA {name}")) for name in names]

        assert await store._database.read(pragmas) == ["wal", 2, 1, 10_000]
    assert [file.name for file in tmp_path.glob("doogie.db*")] == ["doogie.db"]


async def test_a_host_applications_sqlite_file_keeps_its_mode(tmp_path: Path, key_file: Path) -> None:
    path = tmp_path / "host.db"
    with sqlite3.connect(path) as host:
        host.execute("CREATE TABLE users (id)")
    host.close()
    path.chmod(0o660)
    async with await SqlConfigStore.open(f"sqlite:///{path}", key_file=key_file, create_key=True):
        pass
    assert path.stat().st_mode & 0o777 == 0o660


@pytest.mark.parametrize("path", ["no/such/directory.db", "."])
async def test_a_sqlite_file_that_cannot_be_made_is_named(tmp_path: Path, key_file: Path, path: str) -> None:
    with pytest.raises(StoreMisconfigured, match=r"the database .* cannot be opened"):
        await SqlConfigStore.open(f"sqlite:///{tmp_path}/{path}", key_file=key_file, create_key=True)
