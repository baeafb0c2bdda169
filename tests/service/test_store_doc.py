"""docs/store.md is right: its examples run, its commands do what it says."""

import ast
import asyncio
import inspect
import os
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, MetaData
from sqlalchemy.ext.asyncio import AsyncConnection

from doogie_client.service.records import NewConfig, ServerConfig
from doogie_client.service.sql import SqlConfigStore
from doogie_client.service.sql.sqlite import POLL_S
from tests.support.postgres import MINIMUM, PostgresCluster, programs

DOC = (Path(__file__).parents[2] / "docs" / "store.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    found = re.findall(rf"^```{language}\n(.*?)^```", DOC, re.MULTILINE | re.DOTALL)
    assert found
    return found


async def test_its_first_example_prints_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    example = compile(blocks("python")[0], "docs/store.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    await eval(example, {})
    (said,) = re.findall(r"print\(.*\)  # (.*)", DOC)
    assert capsys.readouterr().out == f"{said}\n"


async def test_a_hosts_alembic_that_does_as_it_says_leaves_the_tables_alone(store: SqlConfigStore) -> None:
    given: dict[str, object] = {}
    context = SimpleNamespace(configure=lambda *_, **options: given.update(options))
    exec(blocks("python")[1], {"context": context})

    def differences(connection: Connection, /, **options: object) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), MetaData()))

    async def work(connection: AsyncConnection) -> tuple[list[object], list[object]]:
        with_it = await connection.run_sync(lambda sync: differences(sync, **given))
        return await connection.run_sync(differences), with_it

    without, with_it = await store._database.read(work)
    assert "remove_table" in str(without)
    assert with_it == []


async def run(command: str, directory: Path, **environment: str) -> None:
    path = f"{programs()}:{os.environ['PATH']}"
    shell = await asyncio.create_subprocess_exec(
        "sh", "-euc", command, cwd=directory, env={**os.environ, "PATH": path, **environment}
    )
    assert await shell.wait() == 0


async def test_a_backup_that_is_made_as_it_says_can_be_restored(
    postgres: PostgresCluster, tmp_path: Path, key_file: Path
) -> None:
    of_postgresql, of_sqlite = blocks("sh")
    new = NewConfig(name="kept", config=ServerConfig(command="mcp/time", env={"TOKEN": "hunter2"}))
    async with await SqlConfigStore.open(
        f"sqlite:///{tmp_path}/doogie.db", key_file=key_file, create_key=True
    ) as store:
        kept = await store.create(new, "alice")
        await run(of_sqlite, tmp_path)
    async with await SqlConfigStore.open(f"sqlite:///{tmp_path}/backup.db", key_file=key_file) as restored:
        assert await restored.list() == [kept]
    with postgres.database() as url, postgres.database() as other:
        async with await SqlConfigStore.open(url, key_file=key_file) as store:
            kept = await store.create(new, "alice")
            await run(of_postgresql, tmp_path, DOOGIE_CHAT_DATABASE_URL=url)
        await run('psql --quiet --no-psqlrc "$URL" <doogie.sql >psql.log', tmp_path, URL=other)
        async with await SqlConfigStore.open(other, key_file=key_file) as restored:
            assert await restored.list() == [kept]


def test_its_figures_are_the_codes() -> None:
    defaults = {name: each.default for name, each in inspect.signature(SqlConfigStore.open).parameters.items()}
    assert f"seen within {POLL_S} s" in DOC
    assert f"a pool of {defaults['pool_size']} connections" in DOC
    assert f"ends within {defaults['timeout_s']} s" in DOC
    assert f"version {MINIMUM} or newer" in DOC
