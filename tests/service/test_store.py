"""What ``ConfigStore`` promises, on both databases."""

import asyncio
from datetime import UTC, datetime

import pytest

from doogie_client.commands.command import MASK
from doogie_client.service.records import ConfigRecord, ConfigUpdate, NewConfig, ServerConfig, Status
from doogie_client.service.sql import SqlConfigStore
from doogie_client.service.store import (
    Change,
    ConfigChanged,
    ConfigNotFound,
    ConfigStore,
    MaskedValue,
    NameTaken,
    VersionConflict,
)

TIME = NewConfig(
    name="Time",
    config=ServerConfig(
        command="docker",
        args=["run", "-i", "mcp/time", "\0 \ud800 🕰"],
        env={"TZ": "Europe/Berlin", "TOKEN": "s3cret"},
        secrets=["github"],
        mounts=["docs"],
    ),
    description="What time is it?",
)


def new(name: str, **config: object) -> NewConfig:
    return NewConfig(name=name, config=ServerConfig.model_validate({"command": "mcp/time", **config}))


def names(records: list[ConfigRecord]) -> list[str]:
    return [record.name for record in records]


def test_the_sql_store_is_a_config_store(store: SqlConfigStore) -> None:
    as_protocol: ConfigStore = store
    assert as_protocol is store


async def test_what_is_created_is_read_back_whole(store: SqlConfigStore) -> None:
    before = datetime.now(UTC)
    created = await store.create(TIME, "alice")
    assert created.config == TIME.config
    assert (created.name, created.server_name, created.user_id) == ("Time", "time", "alice")
    assert (created.description, created.shared, created.version) == (TIME.description, False, 1)
    assert (created.status, created.container_id, created.error_message) == (Status.STOPPED, None, None)
    assert before <= created.created_at == created.updated_at <= datetime.now(UTC)
    assert await store.get(created.id) == created
    assert await store.list() == [created]


async def test_a_name_is_taken_whatever_its_case(store: SqlConfigStore) -> None:
    await store.create(new("Straße"), "alice")
    for same in ("Straße", "STRASSE", "straße", "Stra\u200bße"):
        with pytest.raises(NameTaken):
            await store.create(new(same), "bob")
    assert names(await store.list()) == ["Straße"]


async def test_names_that_make_the_same_server_name_get_different_ones(store: SqlConfigStore) -> None:
    records = [await store.create(new(name), "alice") for name in ("My Files", "my-files", "My_Files!", "my files 2")]
    assert [record.server_name for record in records] == ["my-files", "my-files-2", "my-files-3", "my-files-2-2"]


async def test_creating_one_name_many_times_at_once_makes_one(store: SqlConfigStore) -> None:
    results = await asyncio.gather(*(store.create(new("Time"), "alice") for _ in range(20)), return_exceptions=True)
    assert sum(isinstance(result, NameTaken) for result in results) == 19
    assert len(await store.list()) == 1


async def test_an_update_changes_what_it_sets_and_nothing_else(store: SqlConfigStore) -> None:
    created = await store.create(TIME, "alice")
    updated = await store.update(created.id, ConfigUpdate(name="Clock", env={"TZ": "UTC"}, enabled=False))
    assert updated.config == created.config.model_copy(update={"env": {"TZ": "UTC"}, "enabled": False})
    assert (updated.name, updated.server_name, updated.version) == ("Clock", "time", 2)
    assert updated.created_at == created.created_at < updated.updated_at
    assert await store.get(created.id) == updated


@pytest.mark.parametrize("nothing", [None, []])
async def test_an_update_clears_what_can_be_empty(store: SqlConfigStore, nothing: list[str] | None) -> None:
    created = await store.create(TIME, "alice")
    update = ConfigUpdate.model_validate(
        {
            "description": None,
            "env": nothing if nothing is None else {},
            "args": nothing,
            "secrets": nothing,
            "mounts": nothing,
        }
    )
    updated = await store.update(created.id, update)
    assert updated.description is None
    assert updated.config == ServerConfig(command="docker")


async def test_none_leaves_what_cannot_be_empty(store: SqlConfigStore) -> None:
    created = await store.create(TIME, "alice")
    assert await store.update(created.id, ConfigUpdate(name=None, shared=None, command=None, enabled=None)) == created


async def test_a_masked_value_that_is_sent_back_keeps_the_stored_one(store: SqlConfigStore) -> None:
    created = await store.create(TIME, "alice")
    read = created.masked().config.env
    assert read == {"TZ": MASK, "TOKEN": MASK}
    updated = await store.update(created.id, ConfigUpdate(env={**read, "TZ": "UTC", "NEW": "1"}))
    assert updated.config.env == {"TZ": "UTC", "TOKEN": "s3cret", "NEW": "1"}


async def test_a_masked_value_without_a_stored_one_is_refused(store: SqlConfigStore) -> None:
    with pytest.raises(MaskedValue, match=r"env\.TOKEN"):
        await store.create(new("Time", env={"TOKEN": MASK}), "alice")
    created = await store.create(TIME, "alice")
    with pytest.raises(MaskedValue, match=r"env\.RENAMED"):
        await store.update(created.id, ConfigUpdate(env={"RENAMED": MASK}))
    assert await store.get(created.id) == created


async def test_an_update_that_changes_nothing_is_no_edit(store: SqlConfigStore) -> None:
    created = await store.create(TIME, "alice")
    same = ConfigUpdate(name="Time", env=created.masked().config.env, args=created.config.args)
    assert await store.update(created.id, same) == created
    assert await store.update(created.id, ConfigUpdate()) == created


async def test_an_update_of_an_older_version_is_refused(store: SqlConfigStore) -> None:
    created = await store.create(TIME, "alice")
    await store.update(created.id, ConfigUpdate(shared=True), version=1)
    with pytest.raises(VersionConflict):
        await store.update(created.id, ConfigUpdate(shared=False), version=1)
    with pytest.raises(VersionConflict):
        await store.delete(created.id, version=1)
    assert await store.delete(created.id, version=2)


async def test_of_concurrent_edits_of_one_version_one_wins(store: SqlConfigStore) -> None:
    created = await store.create(TIME, "alice")
    await asyncio.gather(*(store.list() for _ in range(20)))  # so that all connections are there
    edits = (store.update(created.id, ConfigUpdate(description=str(n)), version=1) for n in range(20))
    results = await asyncio.gather(*edits, return_exceptions=True)
    assert sum(isinstance(result, VersionConflict) for result in results) == 19
    (winner,) = (result for result in results if isinstance(result, ConfigRecord))
    assert await store.get(created.id) == winner


async def test_a_name_cannot_be_changed_to_a_taken_one(store: SqlConfigStore) -> None:
    await store.create(new("Files"), "alice")
    created = await store.create(TIME, "alice")
    with pytest.raises(NameTaken):
        await store.update(created.id, ConfigUpdate(name="FILES"))
    assert await store.get(created.id) == created
    assert (await store.update(created.id, ConfigUpdate(name="TIME"))).name == "TIME"


async def test_what_is_not_there_is_not_found(store: SqlConfigStore) -> None:
    for config_id in ("5b0c0c6e-0000-4000-8000-000000000000", "", "a\0b", "\ud800", "x" * 10_000):
        assert await store.get(config_id) is None
        assert await store.delete(config_id) is False
        await store.set_status(config_id, Status.RUNNING, container_id=None, error_message=None)
        with pytest.raises(ConfigNotFound):
            await store.update(config_id, ConfigUpdate(shared=True))
    assert await store.list(user_id="a\0b", after="\ud800") == []


async def test_what_is_deleted_is_gone_and_its_names_are_free(store: SqlConfigStore) -> None:
    created = await store.create(TIME, "alice")
    assert await store.delete(created.id)
    assert await store.get(created.id) is None
    assert await store.delete(created.id) is False
    assert (await store.create(TIME, "bob")).server_name == "time"


async def test_a_status_is_no_edit(store: SqlConfigStore) -> None:
    created = await store.create(TIME, "alice")
    await store.set_status(created.id, Status.ERROR, container_id="c" * 64, error_message="\0\ud800" + "x" * 9000)
    seen = await store.get(created.id)
    assert seen is not None
    assert (seen.status, seen.container_id) == (Status.ERROR, "c" * 64)
    assert seen.error_message == "\ufffd?" + "x" * 3998
    assert (seen.version, seen.updated_at) == (created.version, created.updated_at)
    await store.set_status(created.id, Status.STOPPED, container_id=None, error_message=None)
    assert await store.get(created.id) == created


async def test_lists_are_by_name_and_go_on_after_one(store: SqlConfigStore) -> None:
    for name in ("b", "Zoo", "ähre", "A", "_", "~", "时间", "10", "9"):
        await store.create(new(name), "alice")
    everything = names(await store.list())
    assert everything == ["10", "9", "_", "A", "b", "Zoo", "~", "ähre", "时间"]
    pages = []
    after = None
    while page := await store.list(after=after, limit=2):
        pages += names(page)
        after = page[-1].name
    assert pages == everything
    assert names(await store.list(after="Aa", limit=1)) == ["b"]  # no such name: what would follow it
    assert await store.list(limit=0) == []
    with pytest.raises(ValueError, match="no fewer than 0"):
        await store.list(limit=-1)


async def test_lists_show_what_was_asked_for(store: SqlConfigStore) -> None:
    await store.create(new("alice's"), "alice")
    await store.create(new("bob's", enabled=False), "bob")
    await store.create(NewConfig(name="bob's shared", config=ServerConfig(command="mcp/time"), shared=True), "bob")
    assert names(await store.list(user_id="bob")) == ["bob's", "bob's shared"]
    assert names(await store.list(visible_to="alice")) == ["alice's", "bob's shared"]
    assert names(await store.list(enabled=False)) == ["bob's"]
    assert names(await store.list(visible_to="bob", enabled=True)) == ["bob's shared"]


async def test_news_are_told_in_order_and_only_of_what_happened(store: SqlConfigStore) -> None:
    async with store.changes() as news:
        created = await store.create(TIME, "alice")
        with pytest.raises(NameTaken):
            await store.create(TIME, "alice")
        await store.update(created.id, ConfigUpdate(shared=True))
        await store.update(created.id, ConfigUpdate(shared=True))
        await store.set_status(created.id, Status.RUNNING, container_id=None, error_message=None)
        await store.set_status(created.id, Status.RUNNING, container_id=None, error_message=None)
        await store.delete(created.id)
        told = [await asyncio.wait_for(anext(news), 10) for _ in range(4)]
    kinds = [Change.CREATED, Change.UPDATED, Change.STATUS, Change.DELETED]
    assert told == [ConfigChanged(kind, created.id) for kind in kinds]


async def test_a_lock_excludes_other_tasks_until_it_is_let_go(store: SqlConfigStore) -> None:
    order = []

    async def work(number: int) -> None:
        async with store.lock("server") as held:
            assert held
            order.append((number, "in"))
            await asyncio.sleep(0)
            order.append((number, "out"))

    async with store.lock("server"):
        tasks = [asyncio.create_task(work(number)) for number in range(10)]
        async with store.lock("server", wait=False) as held:
            assert not held
        async with store.lock("another", wait=False) as held:
            assert held
        assert order == []
    await asyncio.gather(*tasks)
    assert order == [(number, step) for number in range(10) for step in ("in", "out")]
