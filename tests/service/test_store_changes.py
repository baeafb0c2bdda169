"""News reach every process, whatever becomes of the connection they come over."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from doogie_client.service.records import ConfigUpdate, NewConfig, ServerConfig
from doogie_client.service.sql import SqlConfigStore, news, sqlite
from doogie_client.service.store import Change, ConfigChanged, StoreUnavailable
from tests.service.processes import create_one, worker
from tests.service.sql import run_sql
from tests.support.postgres import PostgresCluster

ANYTHING = ServerConfig(command="mcp/time")
MISSED = ConfigChanged(Change.UPDATED, None)


async def soon(told: AsyncIterator[ConfigChanged]) -> ConfigChanged:
    return await asyncio.wait_for(anext(told), 20)


async def test_news_come_from_other_processes(store: SqlConfigStore, database: str, key_file: Path) -> None:
    async with store.changes() as told:
        with worker(create_one, database, key_file) as other:
            created = await other.received()
            assert await soon(told) == ConfigChanged(Change.CREATED, str(created))
            other.join()
    record = await store.get(str(created))
    assert record is not None
    assert record.user_id == "elsewhere"


async def test_each_listener_hears_all_from_its_beginning_on(store: SqlConfigStore) -> None:
    async with store.changes() as early:
        one = await store.create(NewConfig(name="one", config=ANYTHING), "alice")
        async with store.changes() as late:
            two = await store.create(NewConfig(name="two", config=ANYTHING), "alice")
            heard = [await soon(late)]
            if heard[0].config_id == one.id:  # PostgreSQL was still telling it
                heard.append(await soon(late))
            assert heard[-1] == ConfigChanged(Change.CREATED, two.id)
        assert [await soon(early), await soon(early)] == [
            ConfigChanged(Change.CREATED, one.id),
            ConfigChanged(Change.CREATED, two.id),
        ]


async def test_a_listener_that_does_not_listen_hears_that_it_missed_some_and_holds_up_nobody(
    store: SqlConfigStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(news, "MAX_UNREAD", 3)
    async with store.changes() as slow, store.changes() as quick:
        for number in range(5):
            created = await store.create(NewConfig(name=str(number), config=ANYTHING), "alice")
            assert await soon(quick) == ConfigChanged(Change.CREATED, created.id)
        assert await soon(slow) == MISSED
        last = [await soon(slow), await soon(slow)]
        assert last[-1] == ConfigChanged(Change.CREATED, created.id)


async def test_listening_ends_when_the_store_is_closed(database: str, key_file: Path) -> None:
    store = await SqlConfigStore.open(database, key_file=key_file, create_key=True)
    async with store.changes() as told:
        await store.create(NewConfig(name="one", config=ANYTHING), "alice")
        assert (await soon(told)).change is Change.CREATED
        await store.close()
        assert [change async for change in told] == []
        assert [change async for change in told] == []


async def test_who_was_cut_off_by_a_restart_of_the_server_hears_that_it_may_have_missed_some(
    postgres: PostgresCluster, key_file: Path
) -> None:
    with postgres.database() as url:
        async with (
            await SqlConfigStore.open(url, key_file=key_file, create_key=True) as store,
            store.changes() as told,
        ):
            postgres.stop()
            with pytest.raises(StoreUnavailable):
                await store.list()
            postgres.start()
            assert await soon(told) == MISSED
            created = await store.create(NewConfig(name="afterwards", config=ANYTHING), "alice")
            assert await soon(told) == ConfigChanged(Change.CREATED, created.id)


async def test_a_restart_of_the_server_that_nobody_noticed_costs_no_call(
    postgres: PostgresCluster, key_file: Path
) -> None:
    with postgres.database() as url:
        async with await SqlConfigStore.open(url, key_file=key_file, create_key=True) as store:
            await asyncio.gather(*(store.list() for _ in range(20)))
            postgres.stop()
            postgres.start()
            assert await asyncio.gather(*(store.list() for _ in range(20))) == [[]] * 20


async def test_a_notification_that_is_not_ours_is_news_of_anything(postgres: PostgresCluster, key_file: Path) -> None:
    with postgres.database() as url:
        async with (
            await SqlConfigStore.open(url, key_file=key_file, create_key=True) as store,
            store.changes() as told,
        ):
            name = postgres.sql("SELECT current_database()", url.split("/")[3].split("?")[0])
            for payload in ("", "{", "[1]", '["renamed", "x"]', '["created", "x", "y"]', "7"):
                postgres.sql(
                    f"SELECT pg_notify(channel, '{payload}') FROM (SELECT 'doogie_configs_' || "
                    "'doogie_configs'::regclass::oid::bigint AS channel) AS ours",
                    name,
                )
                assert await soon(told) == MISSED


async def test_news_of_this_process_need_not_wait_for_the_next_look_into_the_journal(
    tmp_path: Path, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "POLL_S", 3600)
    url = f"sqlite:///{tmp_path}/doogie.db"
    async with await SqlConfigStore.open(url, key_file=key_file, create_key=True) as store, store.changes() as told:
        for number in range(3):
            created = await store.create(NewConfig(name=str(number), config=ANYTHING), "alice")
            assert await soon(told) == ConfigChanged(Change.CREATED, created.id)
        many = (store.create(NewConfig(name=f"many {number}", config=ANYTHING), "alice") for number in range(30))
        assert {created.id for created in await asyncio.gather(*many)} == {
            (await soon(told)).config_id for _ in range(30)
        }


async def test_a_journal_that_was_cut_before_it_was_read_tells_so(
    tmp_path: Path, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "JOURNAL_ROWS", 2)
    url = f"sqlite:///{tmp_path}/doogie.db"
    async with (
        await SqlConfigStore.open(url, key_file=key_file, create_key=True) as store,
        await SqlConfigStore.open(url, key_file=key_file) as other,
        store.changes() as told,
    ):
        await run_sql(url, "INSERT INTO doogie_changes (change, config_id) VALUES ('of another version', 'x')")
        assert await soon(told) == MISSED
        async with store._peers._reading:  # type: ignore[attr-defined] # it is SQLite's
            created = await other.create(NewConfig(name="one", config=ANYTHING), "alice")
            for number in range(4):
                await other.update(created.id, ConfigUpdate(description=str(number)))
        assert [await soon(told) for _ in range(3)] == [MISSED, *[ConfigChanged(Change.UPDATED, created.id)] * 2]
