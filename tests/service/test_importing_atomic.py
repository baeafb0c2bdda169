"""Imports that save all or nothing, also where others change what they were decided by; on both databases."""

import asyncio
from typing import Any

import pytest

from doogie_client.service.records import ConfigRecord, ConfigUpdate, NewConfig, ServerConfig
from doogie_client.service.sql import SqlConfigStore
from tests.service.imports import FAR, FILES, GITHUB, PYTHON, TIME, TIME_IN_DOCKER, Raced, document, imported, outcomes


@pytest.mark.parametrize("bad", [FAR, FILES, GITHUB, PYTHON, 1])
async def test_atomic_saves_nothing_where_one_cannot_be_saved(store: SqlConfigStore, bad: object) -> None:
    old = await store.create(NewConfig(name="old", config=ServerConfig(command="mcp/old")), "alice")
    stopped: list[str] = []

    async def stop(record: ConfigRecord) -> None:
        stopped.append(record.name)

    text = document(a=TIME, old=TIME, bad=bad)
    report = await imported(store, text, atomic=True, replace=True, stop=stop)
    assert not report.saved
    assert [outcome for name, outcome in outcomes(report).items() if name != "bad"] == ["created", "updated"]
    assert await store.list() == [old]
    assert stopped == []
    whole = await imported(store, document(a=TIME, old=TIME), atomic=True, replace=True, stop=stop)
    assert (whole.saved, outcomes(whole)) == (True, {"a": "created", "old": "updated"})
    assert [record.version for record in await store.list()] == [1, 2]
    again = await imported(store, document(a=TIME, old=TIME), atomic=True)
    assert (again.saved, outcomes(again)) == (True, {"a": "unchanged", "old": "unchanged"})


@pytest.mark.parametrize("atomic", [True, False])
@pytest.mark.parametrize("same", [True, False])
async def test_a_name_that_is_taken_meanwhile_is_decided_anew(store: SqlConfigStore, atomic: bool, same: bool) -> None:
    async def other() -> None:
        config = ServerConfig(command="uvx", args=["mcp-server-time"] if same else [])
        await store.create(NewConfig(name="b", config=config), "alice")

    raced: Any = Raced(store, other)
    report = await imported(raced, document(a=TIME, b=TIME, c=TIME), atomic=atomic)
    assert outcomes(report) == {"a": "created", "b": "unchanged" if same else "refused", "c": "created"}
    assert report.saved == (same or not atomic)
    assert [record.name for record in await store.list()] == (["a", "b", "c"] if report.saved else ["b"])


async def test_what_is_edited_or_deleted_meanwhile_is_decided_anew(store: SqlConfigStore) -> None:
    old = await store.create(NewConfig(name="old", config=ServerConfig(command="mcp/old")), "alice")

    async def edit() -> None:
        await store.update(old.id, ConfigUpdate(args=["--x"]))

    raced: Any = Raced(store, edit)
    assert outcomes(await imported(raced, document(old=TIME), replace=True)) == {"old": "updated"}
    record = await store.get(old.id)
    assert record is not None
    assert (record.version, record.config.args) == (3, ["mcp-server-time"])

    async def delete() -> None:
        await store.delete(old.id)

    raced = Raced(store, delete)
    assert outcomes(await imported(raced, document(old=TIME_IN_DOCKER), replace=True)) == {"old": "created"}


async def test_who_is_always_too_late_gives_up(store: SqlConfigStore) -> None:
    old = await store.create(NewConfig(name="old", config=ServerConfig(command="mcp/old")), "alice")
    edits = iter(range(100))

    async def edit() -> None:
        await store.update(old.id, ConfigUpdate(args=[str(next(edits))]))

    raced: Any = Raced(store, edit, times=100)
    report = await imported(raced, document(old=TIME), replace=True, atomic=True)
    assert (report.saved, outcomes(report)) == (False, {"old": "refused"})
    assert "changed by somebody else meanwhile" in report.servers[0].reasons[0].msg


async def test_imports_at_once_of_documents_that_share_names_leave_whole_documents(store: SqlConfigStore) -> None:
    texts = {
        f"user{number}": document(**{f"s{(number * step) % 7}": TIME for step in (1, 2, 4)}) for number in range(1, 15)
    }
    reports = await asyncio.gather(*(imported(store, text, user, atomic=True) for user, text in texts.items()))
    stored: dict[str, set[str]] = {}
    for record in await store.list():
        stored.setdefault(record.user_id, set()).add(record.name)
    assert stored == {user: set(outcomes(report)) for user, report in zip(texts, reports, strict=True) if report.saved}
    assert stored
    assert all(set(outcomes(report).values()) == {"created"} for report in reports if report.saved)
