"""A database that is away, slow or not one: told in time, and over when it is over."""

import asyncio
import os
import signal
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg
import pytest

from doogie_client.service.records import ConfigUpdate, NewConfig, ServerConfig, Status
from doogie_client.service.sql import SqlConfigStore
from doogie_client.service.sql import postgres as postgres_module
from doogie_client.service.store import Change, ConfigChanged, StoreMisconfigured, StoreUnavailable
from tests.support.postgres import PostgresCluster

NEW = NewConfig(name="new", config=ServerConfig(command="mcp/time", env={"TOKEN": "hunter2"}))


def all_calls(store: SqlConfigStore, config_id: str) -> dict[str, Callable[[], Awaitable[object]]]:
    async def changes() -> None:
        async with store.changes():
            pass

    async def lock() -> None:
        async with store.lock("server"):
            pass

    return {
        "create": lambda: store.create(NEW, "alice"),
        "get": lambda: store.get(config_id),
        "list": lambda: store.list(),
        "update": lambda: store.update(config_id, ConfigUpdate(shared=True)),
        "delete": lambda: store.delete(config_id),
        "set_status": lambda: store.set_status(config_id, Status.ERROR, container_id=None, error_message=None),
        "changes": changes,
        "lock": lock,
        "rotate_keys": lambda: store.rotate_keys(),
    }


async def test_every_call_says_that_the_server_is_away_and_works_when_it_is_back(
    postgres: PostgresCluster, key_file: Path
) -> None:
    with postgres.database() as url:
        async with await SqlConfigStore.open(url, key_file=key_file, create_key=True, timeout_s=1) as store:
            created = await store.create(NewConfig(name="kept", config=ServerConfig()), "alice")
            calls = all_calls(store, created.id)
            postgres.stop()
            for name, call in calls.items():
                with pytest.raises(StoreUnavailable) as caught:
                    await call()
                assert "hunter2" not in str(caught.value), name
            postgres.start()
            async with asyncio.timeout(20), store.changes():  # it has found the server again
                pass
            for name in ("get", "list", "create", "update", "set_status", "lock", "rotate_keys", "delete"):
                await calls[name]()


async def test_a_server_that_is_not_there_is_named_without_the_password(key_file: Path) -> None:
    with pytest.raises(StoreUnavailable, match=r"postgresql://u:\*\*\*@127\.0\.0\.1:1/db: ") as caught:
        await SqlConfigStore.open("postgresql://u:hunter2@127.0.0.1:1/db", key_file=key_file, create_key=True)
    assert "hunter2" not in repr(caught.value)


async def test_a_database_that_is_not_there_is_named(postgres: PostgresCluster, key_file: Path) -> None:
    with pytest.raises(StoreUnavailable, match='database "nowhere" does not exist'):
        await SqlConfigStore.open(postgres.url("nowhere"), key_file=key_file, create_key=True)


async def test_options_of_the_address_that_are_wrong_are_told(key_file: Path) -> None:
    with pytest.raises(StoreMisconfigured, match="sslmode"):
        await SqlConfigStore.open("postgresql://u@127.0.0.1:1/db?sslmode=maybe", key_file=key_file, create_key=True)


async def test_a_closed_store_says_so(database: str, key_file: Path) -> None:
    store = await SqlConfigStore.open(database, key_file=key_file, create_key=True)
    under_way = [asyncio.create_task(store.list()) for _ in range(50)]
    await asyncio.sleep(0)
    await store.close()
    ended = await asyncio.gather(*under_way, return_exceptions=True)
    assert {str(end) for end in ended if end != []} <= {f"{store._database.name}: the store is closed"}
    for call in all_calls(store, "id").values():
        with pytest.raises(StoreUnavailable, match="the store is closed"):
            await call()


async def test_a_table_that_somebody_else_has_locked_is_not_waited_for_longer_than_said(
    postgres: PostgresCluster, key_file: Path
) -> None:
    with postgres.database() as url:
        async with await SqlConfigStore.open(url, key_file=key_file, create_key=True, timeout_s=0.5) as store:
            other = await asyncpg.connect(url)
            try:
                async with other.transaction():
                    await other.execute("LOCK TABLE doogie_configs")
                    for _ in range(7):  # more than there are connections
                        with pytest.raises(StoreUnavailable, match="no answer in time"):
                            await store.create(NEW, "alice")
            finally:
                await other.close()
            async with asyncio.timeout(20):
                while [record.name for record in await store.list()] != [
                    "new"
                ]:  # the first of them, brought to its end
                    await asyncio.sleep(0.01)


async def test_a_sqlite_file_that_somebody_else_has_locked_is_not_waited_for_longer_than_said(
    tmp_path: Path, key_file: Path
) -> None:
    path = tmp_path / "doogie.db"
    async with await SqlConfigStore.open(
        f"sqlite:///{path}", key_file=key_file, create_key=True, timeout_s=0.5
    ) as store:
        other = sqlite3.connect(path)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="no answer in time"):
            await store.create(NEW, "alice")
        assert await store.list() == []  # reading goes on beside a writer
        other.rollback()
        other.close()
        async with asyncio.timeout(20):
            while not await store.list():  # it was brought to its end
                await asyncio.sleep(0.01)


async def test_a_file_that_is_no_database_is_left_as_it_is(tmp_path: Path, key_file: Path) -> None:
    path = tmp_path / "doogie.db"
    garbage = b"something else altogether" * 1000
    path.write_bytes(garbage)
    with pytest.raises(StoreUnavailable, match="file is not a database"):
        await SqlConfigStore.open(f"sqlite:///{path}", key_file=key_file, create_key=True)
    assert path.read_bytes() == garbage


async def test_a_holder_learns_that_the_server_fell_silent_and_listeners_hear_of_the_gap(
    postgres: PostgresCluster, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_module, "HEARTBEAT_S", 0.1)
    monkeypatch.setattr(postgres_module, "COMMAND_TIMEOUT_S", 0.5)
    monkeypatch.setattr(postgres_module, "CLOSE_TIMEOUT_S", 0.1)
    with postgres.database() as url:
        async with (
            await SqlConfigStore.open(url, key_file=key_file, create_key=True) as store,
            store.changes() as news,
        ):
            lost = asyncio.Event()
            async with store.lock("server", on_lost=lost.set):
                holder = int(postgres.sql("SELECT DISTINCT pid FROM pg_locks WHERE locktype = 'advisory'"))
                os.kill(holder, signal.SIGSTOP)  # as if the network let nothing through: nobody hangs up
                try:
                    await asyncio.wait_for(lost.wait(), 20)
                    assert await asyncio.wait_for(anext(news), 20) == ConfigChanged(Change.UPDATED, None)
                    assert [record.name for record in await store.list()] == []
                finally:
                    os.kill(holder, signal.SIGCONT)
            async with asyncio.timeout(20), store.lock("server") as held:
                assert held
