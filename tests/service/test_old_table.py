"""What DoogieBot's own table holds is taken over whole, once, and its database is only read."""

import asyncio
import json
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pytest

from doogie_client.service.records import ConfigUpdate, NewConfig, ServerConfig, Status
from doogie_client.service.sql import SqlConfigStore
from doogie_client.service.sql.config_table import ConfigTable
from doogie_client.service.store import StoreError, StoreMisconfigured

SCHEMA = """
CREATE TABLE mcp_server_configs (
    id VARCHAR NOT NULL PRIMARY KEY, name VARCHAR NOT NULL, description VARCHAR, server_type VARCHAR NOT NULL,
    base_url VARCHAR, api_key VARCHAR, models JSON, status VARCHAR, port INTEGER, container_id VARCHAR,
    user_id VARCHAR NOT NULL, created_at DATETIME DEFAULT (CURRENT_TIMESTAMP) NOT NULL,
    updated_at DATETIME DEFAULT (CURRENT_TIMESTAMP) NOT NULL, is_active BOOLEAN, config JSON
)"""
TIME = {"command": "docker", "args": ["run", "-i", "--rm", "mcp/time"], "env": {"TOKEN": "hunter2"}, "enabled": True}


class OldDatabase:
    """A database as DoogieBot makes it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._execute(SCHEMA)

    def add(self, config_id: str, name: str, config: object = TIME, **columns: object) -> None:
        row = {"id": config_id, "name": name, "user_id": "alice", "server_type": "custom", "status": "running"}
        row |= {"config": config if isinstance(config, str) else json.dumps(config), "container_id": "c0ffee"}
        row |= {key: str(value) for key, value in columns.items()}
        names, marks = ", ".join(row), ", ".join("?" * len(row))
        self._execute(f"INSERT INTO mcp_server_configs ({names}) VALUES ({marks})", *row.values())

    def _execute(self, statement: str, *values: object) -> None:
        connection = sqlite3.connect(self.path)
        with connection:
            connection.execute(statement, values)
        connection.close()


@pytest.fixture
def old(tmp_path: Path) -> OldDatabase:
    return OldDatabase(tmp_path / "old database?.db")


async def test_configurations_are_taken_over_with_their_ids_owners_and_times(
    store: SqlConfigStore, old: OldDatabase
) -> None:
    old.add(
        "id-1", "Time", description="What time?", created_at="2025-05-01 12:00:00", updated_at="2025-06-01 08:30:00.25"
    )
    before = old.path.read_bytes()
    report = await store.import_old_table(old.path)
    assert [(config.id, config.imported_as, config.reason) for config in report.imported] == [("id-1", "Time", None)]
    assert report.renamed == report.skipped == []
    record = await store.get("id-1")
    assert record is not None
    assert record.config == ServerConfig.model_validate(TIME)
    assert (record.name, record.server_name, record.user_id) == ("Time", "time", "alice")
    assert (record.description, record.shared, record.version) == ("What time?", False, 1)
    assert (record.status, record.container_id) == (Status.STOPPED, None)  # what ran was not ours
    assert record.created_at == datetime(2025, 5, 1, 12, tzinfo=UTC)
    assert record.updated_at == datetime(2025, 6, 1, 8, 30, 0, 250_000, tzinfo=UTC)
    assert old.path.read_bytes() == before
    assert [path.name for path in old.path.parent.glob("old*")] == [old.path.name]


async def test_a_second_import_imports_nothing_twice_and_changes_nothing(
    store: SqlConfigStore, old: OldDatabase
) -> None:
    for number in range(3):
        old.add(f"id-{number}", "Time")
    await store.import_old_table(old.path)
    edited = await store.update("id-1", ConfigUpdate(env={"TOKEN": "new"}))
    old.add("id-3", "Time")
    again = await store.import_old_table(old.path)
    assert [config.id for config in again.imported] == ["id-3"]
    assert {config.reason for config in again.skipped} == {"it was imported before"}
    assert await store.get("id-1") == edited
    assert len(await store.list()) == 4


async def test_names_that_are_taken_get_a_number(store: SqlConfigStore, old: OldDatabase) -> None:
    await store.create(NewConfig(name="TIME", config=ServerConfig()), "bob")
    for number, name in enumerate(["Time", "time", "Time (2)", "x" * 150, "x" * 100, " \n ", "a\tb"]):
        old.add(f"id-{number}", name, created_at=f"2025-01-0{number + 1}")
    report = await store.import_old_table(old.path, shared=True)
    renamed = {config.name: config.imported_as for config in report.renamed}
    assert renamed == {
        "Time": "Time (2)",
        "time": "time (3)",
        "Time (2)": "Time (2) (2)",
        "x" * 150: "x" * 100,
        "x" * 100: "x" * 96 + " (2)",
        " \n ": "unnamed",
        "a\tb": "a b",
    }
    assert all(config.reason and "is taken, or cannot be a name here" in config.reason for config in report.renamed)
    assert report.skipped == []
    assert sum(record.shared for record in await store.list()) == 7


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"config": "null"}, "it has no command"),
        ({"config": "[]"}, "it has no command"),
        ({"config": "{"}, "Expecting property name"),
        ({"config": {**TIME, "args": "run"}}, "config.args: Input should be a valid list"),
        ({"config": {**TIME, "args": [1]}}, "config.args.0: Input should be a valid string"),
        ({"config": {**TIME, "env": {"A B": "hunter2"}}}, "config.env.A B.[key]: String should match pattern"),
        ({"config": {**TIME, "env": {"A": ["hunter2"]}}}, "config.env.A: Input should be a valid string"),
        ({"config": {**TIME, "env": {"A": "***"}}}, "config.env: a value is ***"),
        ({"config": TIME, "server_type": "ollama"}, "it is no container: its server_type is ollama"),
        ({"config": TIME, "status": "deleted"}, "it is marked as deleted"),
        ({"config": TIME, "user_id": ""}, "String should have at least 1 character"),
        ({"config": TIME, "config_id": "no/id"}, "its id cannot be one here"),
        ({"config": TIME, "description": "x" * 2001}, "description: String should have at most 2000 characters"),
    ],
)
async def test_what_cannot_be_taken_over_is_skipped_with_its_reason_and_without_its_values(
    tmp_path: Path, key_file: Path, old: OldDatabase, row: dict[str, object], reason: str
) -> None:
    old.add(**{"config_id": "id-1", "name": "Odd", **row})  # type: ignore[arg-type] # a table of arguments
    old.add("id-2", "Time")
    async with await SqlConfigStore.open(
        f"sqlite:///{tmp_path}/doogie.db", key_file=key_file, create_key=True
    ) as store:
        report = await store.import_old_table(old.path)
        assert [record.name for record in await store.list()] == ["Time"]
    (skipped,) = report.skipped
    assert skipped.name == "Odd"
    assert skipped.reason is not None
    assert reason in skipped.reason
    assert "hunter2" not in repr(report)


async def test_what_the_old_table_left_out_is_what_its_service_made_of_it(
    store: SqlConfigStore, old: OldDatabase
) -> None:
    old.add("id-1", "Bare", {"args": None, "env": None})
    await store.import_old_table(old.path)
    record = await store.get("id-1")
    assert record is not None
    assert record.config == ServerConfig(command="docker", args=[], env={}, enabled=False)


async def test_an_import_that_fails_imports_nothing(
    store: SqlConfigStore, old: OldDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        old.add(f"id-{number}", f"Time {number}")
    insert = ConfigTable.insert
    calls = 0

    async def failing(self: ConfigTable, *args: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise StoreError("in the middle")
        return await insert(self, *args)  # type: ignore[arg-type] # passed through

    monkeypatch.setattr(ConfigTable, "insert", failing)
    with pytest.raises(StoreError, match="in the middle"):
        await store.import_old_table(old.path)
    monkeypatch.undo()
    assert await store.list() == []
    assert len((await store.import_old_table(old.path)).imported) == 3


async def test_an_id_that_is_taken_after_all_is_no_endless_search_for_a_name(store: SqlConfigStore) -> None:
    created = await store.create(NewConfig(name="one", config=ServerConfig()), "alice")
    again = created.model_copy(update={"name": "two"})
    assert await store._database.write(lambda connection: store._table.insert(connection, again)) is None


async def test_two_imports_at_once_import_once(store: SqlConfigStore, old: OldDatabase) -> None:
    for number in range(10):
        old.add(f"id-{number}", "Time")
    reports = await asyncio.gather(*(store.import_old_table(old.path) for _ in range(3)))
    assert sorted(len(report.imported) for report in reports) == [0, 0, 10]
    assert len(await store.list()) == 10


@pytest.mark.parametrize("content", [None, b"", b"not a database at all, but long enough to look like one" * 50])
async def test_a_file_that_is_no_such_database_is_named(tmp_path: Path, key_file: Path, content: bytes | None) -> None:
    path = tmp_path / "other.db"
    if content is not None:
        path.write_bytes(content)
    async with await SqlConfigStore.open(
        f"sqlite:///{tmp_path}/doogie.db", key_file=key_file, create_key=True
    ) as store:
        with pytest.raises(StoreMisconfigured, match=r"other\.db is not a database of DoogieBot's"):
            await store.import_old_table(path)
    assert path.exists() == (content is not None)
