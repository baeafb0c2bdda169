"""Several changes at once: all of them, or none."""

import asyncio
from pathlib import Path

import pytest

from doogie_client.commands.command import MASK
from doogie_client.service.records import ConfigUpdate, NewConfig, ServerConfig
from doogie_client.service.sql import SqlConfigStore
from doogie_client.service.store import (
    Change,
    ConfigChanged,
    ConfigEdit,
    ConfigNotFound,
    MaskedValue,
    NameTaken,
    StoreError,
    VersionConflict,
)


def new(name: str, **env: str) -> NewConfig:
    return NewConfig(name=name, config=ServerConfig(command="mcp/time", env=env))


async def test_new_ones_and_edits_are_saved_together_and_told(store: SqlConfigStore) -> None:
    async with store.changes() as news:
        old = await store.create(new("old"), "alice")
        assert await anext(news) == ConfigChanged(Change.CREATED, old.id)
        edit = ConfigEdit(old.id, ConfigUpdate(args=["--x"]), old.version)
        records = await store.save_all([new("a", TOKEN="s3cret"), edit, new("b")], "bob")
        assert [await anext(news) for _ in range(3)] == [
            ConfigChanged(Change.CREATED, records[0].id),
            ConfigChanged(Change.UPDATED, old.id),
            ConfigChanged(Change.CREATED, records[2].id),
        ]
    assert [(record.name, record.user_id, record.version) for record in records] == [
        ("a", "bob", 1),
        ("old", "alice", 2),
        ("b", "bob", 1),
    ]
    assert await store.list() == sorted(records, key=lambda record: record.name)
    assert await store.save_all([], "bob") == []


@pytest.mark.parametrize(
    ("last", "error"),
    [
        (new("TAKEN"), NameTaken),
        (new("a"), NameTaken),
        (new("b", TOKEN=MASK), MaskedValue),
        (ConfigEdit("no-such-id", ConfigUpdate(args=[]), 1), ConfigNotFound),
        (ConfigEdit("not an id", ConfigUpdate(args=[]), 1), ConfigNotFound),
        (ConfigEdit("taken", ConfigUpdate(args=[]), 7), VersionConflict),
        (ConfigEdit("taken", ConfigUpdate(name="other"), 1), NameTaken),
    ],
)
async def test_if_one_cannot_be_saved_none_is_and_nothing_is_told(
    store: SqlConfigStore, last: NewConfig | ConfigEdit, error: type[StoreError]
) -> None:
    async with store.changes() as news:
        taken, other = await store.create(new("taken"), "alice"), await store.create(new("other"), "alice")
        for record in (taken, other):
            assert await anext(news) == ConfigChanged(Change.CREATED, record.id)
        if isinstance(last, ConfigEdit) and last.config_id == "taken":
            last = ConfigEdit(taken.id, last.update, last.version)
        with pytest.raises(error):
            await store.save_all([new("a"), ConfigEdit(other.id, ConfigUpdate(args=["--x"]), 1), last], "bob")
        assert await store.list() == [other, taken]
        after = await store.create(new("after"), "bob")
        assert await anext(news) == ConfigChanged(Change.CREATED, after.id)


async def test_many_at_once_that_share_names_leave_whole_sets(database: str, key_file: Path) -> None:
    """Thirty sets of four names out of eight, over two stores: a set is there as a whole or not at all."""
    async with (
        await SqlConfigStore.open(database, key_file=key_file, create_key=True) as first,
        await SqlConfigStore.open(database, key_file=key_file) as second,
    ):
        sets = {f"user{number}": sorted({(number * step) % 8 for step in (1, 3, 5, 7)}) for number in range(30)}

        async def save(number: int, user: str) -> bool:
            try:
                await (first, second)[number % 2].save_all([new(f"s{name}") for name in sets[user]], user)
            except NameTaken:
                return False
            return True

        saved = await asyncio.gather(*(save(number, user) for number, user in enumerate(sets)))
        assert any(saved)
        stored: dict[str, list[int]] = {}
        for record in await first.list():
            stored.setdefault(record.user_id, []).append(int(record.name[1:]))
        assert stored == {user: sets[user] for user, done in zip(sets, saved, strict=True) if done}
