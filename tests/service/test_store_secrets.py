"""Values rest encrypted, are nowhere to be found, and are never read wrong; the key can be replaced at any time."""

import asyncio
import json
import logging
from pathlib import Path

import pytest
import structlog

from doogie_client.service.records import ConfigUpdate, NewConfig, ServerConfig, Status
from doogie_client.service.sql import SqlConfigStore, config_table, keys
from doogie_client.service.sql.config_table import ConfigTable
from doogie_client.service.store import (
    MaskedValue,
    NameTaken,
    SecretsUnreadable,
    StoreError,
    StoreMisconfigured,
    VersionConflict,
)
from tests.service.processes import edit_without_end, generation, whole_generation, worker
from tests.service.sql import run_sql
from tests.support.postgres import PostgresCluster

SECRET = "hunter2-in-the-environment"
IN_ARGS = "hunter2-among-the-arguments"


def secretive(name: str = "secretive") -> NewConfig:
    config = ServerConfig(command=f"docker run -e T={IN_ARGS}", args=[f"--token={IN_ARGS}"], env={"TOKEN": SECRET})
    return NewConfig(name=name, config=config)


async def everything_that_can_be_said(store: SqlConfigStore) -> str:
    """Work with a secret, rightly and wrongly; all logs, reprs and errors of it."""
    created = await store.create(secretive(), "alice")
    said = [repr(created), str(await store.get(created.id)), f"{await store.list()}"]
    env = {"TOKEN": SECRET + "!", "OTHER": SECRET}
    updated = await store.update(created.id, ConfigUpdate(env=env))
    said.append(updated.masked().model_dump_json(include={"config": {"env"}}))
    wrongs = [
        (store.create(secretive("SECRETIVE"), "bob"), NameTaken),
        (store.update(created.id, ConfigUpdate(env=env), version=1), VersionConflict),
        (store.update(created.id, ConfigUpdate(env={**env, "NONE": "***"})), MaskedValue),
    ]
    for wrong, kind in wrongs:
        with pytest.raises(kind) as caught:
            await wrong
        said.append(f"{caught.value} {caught.value!r} {caught.value.__cause__!r} {caught.value.__context__!r}")
    await store.set_status(created.id, Status.RUNNING, container_id="c", error_message=None)
    return "\n".join(said)


async def test_a_secret_is_in_no_log_no_repr_no_error_and_no_file_of_the_database(
    database: str, key_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, request: pytest.FixtureRequest
) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("sqlalchemy.engine", "sqlalchemy.pool", "aiosqlite", "asyncpg", "alembic"):
        caplog.set_level(logging.DEBUG, logger=name)
    with structlog.testing.capture_logs() as events:
        async with await SqlConfigStore.open(database, key_file=key_file, create_key=True) as store:
            said = await everything_that_can_be_said(store)
            await store.rotate_keys(new_key=True)
    said += caplog.text + json.dumps(events)
    assert "INSERT INTO doogie_configs" in said  # the loudest log there is was on
    if database.startswith("sqlite"):
        files = list(tmp_path.rglob("*"))
    else:
        cluster: PostgresCluster = request.getfixturevalue("postgres")
        cluster.sql("CHECKPOINT")  # to the files
        files = list(cluster.directory.rglob("*"))
    at_rest = b"".join(file.read_bytes() for file in files if file.is_file())
    assert b"secretive" in at_rest
    assert b"TOKEN" in at_rest
    for secret in (SECRET, IN_ARGS, *key_file.read_text().split()):
        assert secret not in said
        assert secret.encode() not in at_rest.replace(key_file.read_bytes(), b"")


async def test_a_database_whose_key_is_not_in_the_file_is_refused_at_the_start(
    database: str, key_file: Path, tmp_path: Path
) -> None:
    async with await SqlConfigStore.open(database, key_file=key_file, create_key=True) as store:
        created = await store.create(secretive(), "alice")
    with pytest.raises(StoreMisconfigured, match=rf"is written with the key [0-9a-f]{{16}}, which {tmp_path}/wrong"):
        await SqlConfigStore.open(database, key_file=tmp_path / "wrong.key", create_key=True)
    with (tmp_path / "wrong.key").open("a") as wrong, key_file.open() as right:
        wrong.write(right.read())
    async with await SqlConfigStore.open(database, key_file=tmp_path / "wrong.key") as store:
        assert await store.get(created.id) == created


async def test_a_configuration_that_cannot_be_decrypted_is_named_and_can_still_be_deleted(
    store: SqlConfigStore, database: str
) -> None:
    created = await store.create(secretive(), "alice")
    await store.create(secretive("other"), "alice")
    await run_sql(database, "UPDATE doogie_configs SET key_id = 'feedfeedfeedfeed' WHERE name = 'secretive'")
    lost = rf"'secretive' \({created.id}\) is encrypted with the key feedfeedfeedfeed, which the key file does not hold"
    for call in (store.get(created.id), store.list(), store.update(created.id, ConfigUpdate(shared=True))):
        with pytest.raises(SecretsUnreadable, match=lost):
            await call
    assert await store.delete(created.id)
    assert [record.config.env for record in await store.list()] == [{"TOKEN": SECRET}]


@pytest.mark.parametrize(
    ("statement", "field"),
    [
        ("UPDATE doogie_configs SET env = (SELECT env FROM doogie_configs WHERE name = 'other')", r"env\.TOKEN"),
        ("UPDATE doogie_configs SET command = (SELECT command FROM doogie_configs WHERE name = 'other')", "command"),
        ("UPDATE doogie_configs SET env = replace(env, 'TOKEN', 'RENAMED')", r"env\.RENAMED"),
        ("UPDATE doogie_configs SET id = 'moved'", "command"),
    ],
)
async def test_a_value_that_was_moved_in_the_database_is_never_read(
    store: SqlConfigStore, database: str, statement: str, field: str
) -> None:
    await store.create(secretive(), "alice")
    await store.create(secretive("other"), "alice")
    await run_sql(database, f"{statement} WHERE name = 'secretive'")
    with pytest.raises(SecretsUnreadable, match=rf"'secretive' .* has an unreadable {field}") as caught:
        await store.list()
    assert SECRET not in str(caught.value)


async def test_a_rotation_encrypts_everything_anew_and_needs_the_old_key_no_more(
    store: SqlConfigStore, database: str, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config_table, "ROTATED_AT_ONCE", 2)
    created = [await store.create(secretive(str(number)), "alice") for number in range(5)]
    before = await run_sql(database, "SELECT command, env FROM doogie_configs ORDER BY name_key")
    async with store.changes() as news:
        rotation = await store.rotate_keys(new_key=True)
        assert rotation.rows == 5
        assert (await store.rotate_keys()).rows == 0
        first, old = key_file.read_text().split()
        assert rotation.key_id == keys.key_id(bytes.fromhex(first)) != keys.key_id(bytes.fromhex(old))
        key_file.write_text(f"{first}\n")
        after = await run_sql(database, "SELECT command, env FROM doogie_configs ORDER BY name_key")
        assert all(one != other for pair in zip(before, after, strict=True) for one, other in zip(*pair, strict=True))
        async with await SqlConfigStore.open(database, key_file=key_file) as reopened:
            assert await reopened.list() == created  # no edit: neither version nor time
        await store.delete(created[0].id)
        assert (await asyncio.wait_for(anext(news), 10)).config_id == created[0].id  # nor news


async def test_a_rotation_that_was_interrupted_is_finished_by_the_next(
    store: SqlConfigStore, database: str, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config_table, "ROTATED_AT_ONCE", 2)
    created = [await store.create(secretive(str(number)), "alice") for number in range(5)]
    encrypt_anew = ConfigTable.encrypt_anew
    calls = 0

    async def interrupted(self: ConfigTable, *args: object) -> int:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise StoreError("interrupted")
        return await encrypt_anew(self, *args)  # type: ignore[arg-type] # passed through

    monkeypatch.setattr(ConfigTable, "encrypt_anew", interrupted)
    with pytest.raises(StoreError, match="interrupted"):
        await store.rotate_keys(new_key=True)
    halves = await run_sql(database, "SELECT count(*) FROM doogie_configs GROUP BY key_id ORDER BY 1")
    assert halves == [(2,), (3,)]
    assert await store.list() == created
    assert (await store.create(secretive("new"), "alice")).version == 1  # with the new key
    async with await SqlConfigStore.open(database, key_file=key_file) as reopened:
        assert (await reopened.rotate_keys()).rows == 3


async def test_processes_that_work_on_meanwhile_take_up_the_new_key_at_once(
    store: SqlConfigStore, database: str, key_file: Path
) -> None:
    for number in range(5):
        await store.create(NewConfig(name=str(number), config=generation(0)), "alice")
    with worker(edit_without_end, database, key_file) as editing:
        for _ in range(5):
            await editing.received()
            rotation = await store.rotate_keys(new_key=True)
            key_ids = await run_sql(database, "SELECT DISTINCT key_id FROM doogie_configs")
            assert key_ids == [(rotation.key_id,)]  # and it edits on
            first, *_ = key_file.read_text().split()
            key_file.write_text(f"{first}\n")
        await editing.received()
        await editing.received()
    for record in await store.list():
        whole_generation(record)
