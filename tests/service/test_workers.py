"""Several worker processes of one chat backend: one of them has a server's session, and nobody notices which."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from doogie_client.service.errors import (
    CallInterrupted,
    CallRefused,
    CallTimedOut,
    ServerNotRunning,
    SessionUnavailable,
)
from doogie_client.service.records import ConfigUpdate
from doogie_client.service.sql import SqlConfigStore
from doogie_client.service.store import ConfigNotFound
from tests.service.backend import Backend
from tests.service.workers import WorkerProcess, workers
from tests.support.postgres import PostgresCluster

WORKERS = 4


@pytest.fixture
async def processes(
    any_backend: Backend, database: str, key_file: Path
) -> AsyncIterator[tuple[Backend, list[WorkerProcess]]]:
    """Four processes, beside the test's own."""
    async with workers(WORKERS, any_backend, database, key_file) as started:
        yield any_backend, started


Processes = tuple[Backend, list[WorkerProcess]]


async def until_called(worker: WorkerProcess, config_id: str, tool: str) -> None:
    """Return when the server has begun a call of a tool."""
    async with asyncio.timeout(10):
        while tool not in json.loads(await worker.text(config_id, "calls")):
            await asyncio.sleep(0.01)


async def test_all_processes_call_through_the_one_that_has_the_session(processes: Processes) -> None:
    backend, started = processes
    record = await backend.running()
    texts = [worker.text(record.id, "text", text=str(n)) for n in range(10) for worker in started]
    assert await asyncio.gather(*texts) == [str(n) for n in range(10) for _ in started]
    assert json.loads(await started[0].text(record.id, "calls")) == {"text": 40, "calls": 1}, "one server had them all"
    results = [await worker.call("call_tool", record.id, "mixed", {}) for worker in started]
    assert all(result == results[0] for result in results), "what comes through another process is complete"
    for worker in started:
        with pytest.raises(CallRefused, match="not like this") as refused:
            await worker.text(record.id, "refuse")
        assert (refused.value.code, refused.value.data) == (-32602, {"why": ["because", 1]})
    names = [[tool.name for tool in await worker.call("list_tools", record.id)] for worker in started]
    assert all(listed == names[0] for listed in names)

    for worker in started:
        with pytest.raises(CallTimedOut):
            await worker.call("call_tool", record.id, "hang", {}, timeout_s=0.2)
    calls = [asyncio.create_task(worker.call("call_tool", record.id, "hang", {})) for worker in started]
    async with asyncio.timeout(10):
        while json.loads(await started[0].text(record.id, "calls"))["hang"] < 2 * WORKERS:
            await asyncio.sleep(0.01)
    for call in calls:
        call.cancel()
    async with asyncio.timeout(10):
        while len(json.loads(await started[0].text(record.id, "cancelled"))) < 2 * WORKERS:
            await asyncio.sleep(0.01)


async def test_when_the_process_with_the_session_dies_its_calls_may_have_run_and_another_takes_over(
    processes: Processes,
) -> None:
    backend, (owner, *others) = processes
    record = await backend.running()
    await owner.text(record.id, "where")
    before = backend.containers()
    pending = [asyncio.create_task(other.call("call_tool", record.id, "hang", {})) for other in others]
    await until_called(others[0], record.id, "hang")
    owner.kill()
    for outcome in await asyncio.gather(*pending, return_exceptions=True):
        assert isinstance(outcome, CallInterrupted), outcome
        assert "may have run" in str(outcome)
    texts = await asyncio.gather(*(other.text(record.id, "where") for other in others))
    assert len(set(texts)) == 1
    assert backend.containers() != before, "the new session is in a fresh container"
    status = await others[0].call("get_config_status", record.id)
    assert texts[0] == backend.hostname(status.container_id)
    assert "hang" not in json.loads(await others[1].text(record.id, "calls")), "nothing was called again"


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
async def test_whatever_one_process_does_to_a_server_the_session_of_another_follows(processes: Processes) -> None:
    backend, (owner, other, third, _) = processes
    record = await backend.running()
    await owner.text(record.id, "where")

    restarted = await other.call("restart_server", record.id)
    assert await owner.text(record.id, "where") == backend.hostname(restarted.container_id)
    await other.call("update_config", record.id, ConfigUpdate(env={"GREETING": "x"}))
    with pytest.raises(ServerNotRunning):
        await owner.text(record.id, "where")
    started = await third.call("start_server", record.id)
    assert await owner.text(record.id, "where") == backend.hostname(started.container_id), "it was fresh: no restart"
    hanging = asyncio.create_task(other.call("call_tool", record.id, "hang", {}))
    await until_called(other, record.id, "hang")
    assert await third.call("delete_config", record.id)
    with pytest.raises(CallInterrupted):
        await hanging
    with pytest.raises(ConfigNotFound):
        await owner.text(record.id, "where")
    assert backend.containers() == []


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
async def test_a_database_that_breaks_all_connections_ends_no_session(
    processes: Processes, postgres: PostgresCluster
) -> None:
    backend, (owner, *others) = processes
    record = await backend.running()
    await owner.text(record.id, "where")
    before = backend.containers()
    slow = [asyncio.create_task(worker.text(record.id, "slow", s=1)) for worker in (owner, *others)]
    await until_called(owner, record.id, "slow")
    postgres.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'doogie-chat'")
    assert await asyncio.gather(*slow) == ["slow"] * WORKERS
    assert len({await worker.text(record.id, "where") for worker in (owner, *others)}) == 1
    assert backend.containers() == before


async def test_at_start_up_each_server_is_started_once(any_backend: Backend, database: str, key_file: Path) -> None:
    for number in range(3):
        await any_backend.config(f"test {number}")
    run_dir = any_backend.run_dir.with_name("boot")
    async with workers(WORKERS, any_backend, database, key_file, run_dir=run_dir) as started:
        answers = await asyncio.gather(*(worker.call("start_all_enabled") for worker in started))
        assert sorted(len(answer) for answer in answers) == [0, 0, 0, 3]
        assert len(any_backend.containers()) == 3
    assert len(any_backend.proxy.recorder.creates()) == 3


async def test_a_session_on_another_host_is_an_error_that_says_so(
    backend: Backend, sqlite_store: SqlConfigStore, tmp_path: Path, key_file: Path
) -> None:
    record = await backend.running()
    await backend.text(record, "where")
    elsewhere = backend.run_dir.with_name("elsewhere")
    async with workers(1, backend, f"sqlite:///{tmp_path}/doogie.db", key_file, run_dir=elsewhere) as (stranger,):
        with pytest.raises(SessionUnavailable, match="on another host, or has another run_dir"):
            await stranger.text(record.id, "where")
    assert await backend.text(record, "text", text="undisturbed") == "undisturbed"


async def test_whatever_many_do_to_one_server_at_once_the_end_is_consistent(processes: Processes) -> None:
    backend, started = processes
    record = await backend.config()
    chance = random.Random(4)

    async def once(worker: WorkerProcess) -> None:
        what = chance.choice(["start", "stop", "restart", "edit", "call", "call"])
        if what == "call":
            await worker.text(record.id, "where")
        elif what == "edit":
            await worker.call("update_config", record.id, ConfigUpdate(env={"GREETING": str(chance.random())}))
        else:
            await worker.call(f"{what}_server", record.id)

    async def meddle(worker: WorkerProcess) -> None:
        for _ in range(4):
            # What a call may well hear when others stop the server; and some do not wait for the end.
            with suppress(ServerNotRunning, SessionUnavailable, CallInterrupted, TimeoutError):
                async with asyncio.timeout(chance.choice([None, None, chance.random() / 2])):
                    await once(worker)

    await asyncio.gather(*(meddle(worker) for worker in started for _ in range(2)))
    await asyncio.gather(*(worker.call("get_all_enabled_configs") for worker in started))  # they have heard who left
    status = await started[0].call("start_server", record.id)
    assert status.status == "running", status
    assert backend.containers() == [status.container_id]
    for worker in started:
        assert await worker.text(record.id, "where") == backend.hostname(status.container_id)
    stored = await backend.store.get(record.id)
    assert stored is not None
    assert (stored.status, stored.container_id) == ("running", status.container_id)

    outcomes = await asyncio.gather(
        *(
            worker.call(method, record.id)
            for worker in started
            for method in ("start_server", "delete_config", "restart_server")
        ),
        return_exceptions=True,
    )
    assert not [outcome for outcome in outcomes if isinstance(outcome, BaseException)], outcomes
    assert [outcome for outcome in outcomes if outcome is True] == [True], "it was deleted once"
    assert backend.containers() == []
