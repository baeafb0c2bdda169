"""Servers of configurations: start, stop, edit, delete and what is said of them, also when something is away."""

import asyncio
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path

import pytest

from doogie_client import ProxyClient
from doogie_client.commands import CommandRefused
from doogie_client.errors import ProxyUnavailable
from doogie_client.service.errors import StopFailed
from doogie_client.service.records import ConfigRecord, ConfigStatus, ConfigUpdate, NewConfig, ServerConfig, Status
from doogie_client.service.sql import SqlConfigStore
from doogie_client.service.store import ConfigNotFound, NameTaken, VersionConflict
from doogie_contract.models import ServerState
from tests.service.backend import ADMIN, Backend, policy, service_of, without_proxy
from tests.support.harness import TOKEN, TOOLBOX, inspect
from tests.support.postgres import PostgresCluster

UNKNOWN = "00000000-0000-0000-0000-000000000000"


def outcome(status: ConfigStatus | None) -> tuple[Status, ServerState | None]:
    """What is said in the old words and in the finer ones."""
    assert status is not None
    return status.status, status.state


async def stored(backend: Backend, record: ConfigRecord | ConfigStatus) -> ConfigRecord:
    """The configuration as it is in the database."""
    found = await backend.store.get(record.id)
    assert found is not None
    return found


RUNNING = (Status.RUNNING, ServerState.RUNNING)
STOPPED = (Status.STOPPED, ServerState.ABSENT)
AWAY = (Status.ERROR, None)


# ── start, stop, restart ─────────────────────────────────────────────────────────────────────────


async def test_a_server_is_started_stopped_and_restarted_and_its_configuration_keeps_what_was_seen(
    any_backend: Backend,
) -> None:
    service = any_backend.service
    record = await any_backend.config()
    assert (record.status, record.container_id) == (Status.STOPPED, None)
    assert outcome(await service.get_config_status(record.id)) == STOPPED

    started = await service.start_server(record.id)
    assert outcome(started) == RUNNING
    assert started is not None
    assert any_backend.containers() == [started.container_id]
    kept = await stored(any_backend, record)
    assert (kept.status, kept.container_id, kept.version) == (Status.RUNNING, started.container_id, record.version)
    assert await service.start_server(record.id) == started, "it is not started twice"

    restarted = await service.restart_server(record.id)
    assert outcome(restarted) == RUNNING
    assert restarted is not None
    assert restarted.container_id != started.container_id
    assert any_backend.containers() == [restarted.container_id]

    for _ in range(2):
        assert outcome(await service.stop_server(record.id)) == STOPPED
    assert any_backend.containers() == []
    kept = await stored(any_backend, record)
    assert (kept.status, kept.container_id, kept.error_message) == (Status.STOPPED, None, None)


async def test_an_unknown_id_is_none_and_harms_nothing(backend: Backend) -> None:
    service = backend.service
    for call in (service.get_config_by_id, service.get_config_status, service.start_server, service.stop_server):
        assert await call(UNKNOWN) is None
    assert await service.restart_server(UNKNOWN) is None
    assert await service.update_config(UNKNOWN, ConfigUpdate(name="x")) is None
    assert not await service.delete_config(UNKNOWN)
    with pytest.raises(ConfigNotFound):
        await service.get_logs(UNKNOWN)


async def test_a_disabled_configuration_is_not_started(backend: Backend) -> None:
    record = await backend.config()
    await backend.service.update_config(record.id, ConfigUpdate(enabled=False))
    for start in (backend.service.start_server, backend.service.restart_server):
        status = await start(record.id)
        assert status is not None
        assert (status.status, status.enabled) == (Status.STOPPED, False)
        assert status.error_message == "the configuration is disabled: enable it first"
    assert backend.containers() == []


async def test_what_the_policy_denies_is_an_error_with_every_rules_reason(backend: Backend) -> None:
    record = await backend.config(env={"FORBIDDEN": "sk-9f8e7d6c5b4a"})
    status = await backend.service.start_server(record.id)
    assert outcome(status) == (Status.ERROR, ServerState.ABSENT)
    assert status is not None
    assert status.problem == "policy-denied"
    assert "rules.program" in [fault.loc for fault in status.faults]
    assert status.error_message is not None
    assert "FORBIDDEN" in status.error_message
    assert "sk-9f8e7d6c5b4a" not in status.model_dump_json()
    assert (await stored(backend, record)).error_message == status.error_message
    later = await backend.service.get_config_status(record.id)
    assert outcome(later) == outcome(status)
    assert later is not None
    assert later.error_message == status.error_message, "the reason is still told when the page is loaded again"
    assert outcome(await backend.service.stop_server(record.id)) == STOPPED


async def test_a_restart_that_the_policy_denies_leaves_the_server_running(backend: Backend) -> None:
    record = await backend.running()
    before = await backend.service.get_config_status(record.id)
    assert before is not None
    document = policy()
    clients = document["clients"]
    assert isinstance(clients, dict)
    clients["chat"]["rules"] = ["time"]
    backend.proxy.reload(document)
    denied = await backend.service.restart_server(record.id)
    assert outcome(denied) == (Status.ERROR, ServerState.RUNNING)
    assert denied is not None
    assert (denied.problem, denied.container_id) == ("policy-denied", before.container_id)
    kept = await stored(backend, record)
    assert (kept.status, kept.error_message) == (Status.RUNNING, denied.error_message)


async def test_a_command_that_cannot_be_translated_is_not_stored(backend: Backend) -> None:
    config = ServerConfig(command="docker", args=["run", "--privileged", "-v", "/:/host", TOOLBOX])
    with pytest.raises(CommandRefused) as refused:
        await backend.service.create_config(NewConfig(name="bad", config=config), ADMIN)
    assert {fault.loc for fault in refused.value.faults} >= {"args.1", "args.2"}
    assert await backend.service.get_configs_by_user(ADMIN) == []
    record = await backend.running()
    with pytest.raises(CommandRefused):
        await backend.service.update_config(record.id, ConfigUpdate(args=config.args))
    assert outcome(await backend.service.get_config_status(record.id)) == RUNNING


async def test_a_server_that_runs_as_nobody_asked_here_is_told_and_replaced_before_it_is_called(
    backend: Backend,
) -> None:
    record = await backend.config(env={"GREETING": "stored"})
    await backend.proxy.start(record.server_name, "import time; time.sleep(1000)")
    status = await backend.service.start_server(record.id)
    assert outcome(status) == RUNNING
    assert status is not None
    assert status.outdated
    assert (await backend.text(record, "text", text="mine")) == "mine"


# ── what a status is ─────────────────────────────────────────────────────────────────────────────


async def test_how_a_server_ended_decides_between_stopped_and_error(backend: Backend) -> None:
    async def ended(name: str, program: str) -> ConfigStatus:
        record = await backend.config(name, program=program)
        await backend.service.start_server(record.id)
        await backend.proxy.until(record.server_name, "exited")
        status = await backend.service.get_config_status(record.id)
        assert status is not None
        assert status.container_id is not None
        return status

    well, badly = await asyncio.gather(ended("well", "pass"), ended("badly", "import sys; sys.exit('no such file')"))
    assert (outcome(well), well.error_message) == (
        (Status.STOPPED, ServerState.EXITED), "it exited with code 0",
    )  # fmt: skip
    assert (outcome(badly), badly.error_message) == (
        (Status.ERROR, ServerState.EXITED), "it exited with code 1: no such file",
    )  # fmt: skip
    async with asyncio.timeout(10):  # and the list shows it soon after
        while (await stored(backend, badly)).status is not Status.ERROR:
            await asyncio.sleep(0.01)


# ── edits ────────────────────────────────────────────────────────────────────────────────────────


async def test_an_environment_that_is_cleared_is_cleared_in_the_container_too(backend: Backend) -> None:
    empty: dict[str, str] = {}
    for cleared in (empty, None):
        record = await backend.running(f"test {cleared}", env={"GREETING": "hello"})
        status = await backend.service.get_config_status(record.id)
        assert status is not None
        assert status.container_id is not None
        assert "GREETING=hello" in inspect(status.container_id)["Config"]["Env"]
        updated = await backend.service.update_config(record.id, ConfigUpdate(env=cleared))
        assert updated is not None
        assert updated.config.env == {}
        status = await backend.service.start_server(record.id)
        assert status is not None
        assert status.container_id is not None
        assert not [line for line in inspect(status.container_id)["Config"]["Env"] if line.startswith("GREETING")]


async def test_an_edit_ends_the_server_only_if_it_changes_what_runs(backend: Backend) -> None:
    record = await backend.running(env={"GREETING": "hello"})
    same = ConfigUpdate(
        name="renamed", description="d", shared=True, enabled=True, args=record.config.args, env={"GREETING": "***"}
    )
    updated = await backend.service.update_config(record.id, same)
    assert updated is not None
    assert (updated.name, updated.server_name, updated.config) == ("renamed", record.server_name, record.config)
    assert outcome(await backend.service.get_config_status(record.id)) == RUNNING
    await backend.service.update_config(record.id, ConfigUpdate(env={"GREETING": "other"}))
    assert outcome(await backend.service.get_config_status(record.id)) == STOPPED
    await backend.service.start_server(record.id)
    await backend.service.update_config(record.id, ConfigUpdate(enabled=False))
    assert outcome(await backend.service.get_config_status(record.id)) == STOPPED
    await backend.service.update_config(record.id, ConfigUpdate(enabled=True))
    assert backend.containers() == []


@pytest.mark.parametrize(
    ("update", "error"),
    [
        (ConfigUpdate(name="Other", env={}), NameTaken),
        (ConfigUpdate(args=["run", "--no-such-flag", TOOLBOX]), CommandRefused),
        (ConfigUpdate(enabled=False), VersionConflict),
    ],
    ids=["name taken", "command refused", "edited meanwhile"],
)
async def test_an_edit_that_is_refused_leaves_the_server_running(
    backend: Backend, update: ConfigUpdate, error: type[Exception]
) -> None:
    await backend.config("other")
    record = await backend.running(env={"GREETING": "hello"})
    version = record.version - 1 if error is VersionConflict else record.version
    with pytest.raises(error):
        await backend.service.update_config(record.id, update, version=version)
    assert outcome(await backend.service.get_config_status(record.id)) == RUNNING
    assert (await stored(backend, record)).config == record.config


async def test_deleting_needs_the_version_that_was_read(backend: Backend) -> None:
    record = await backend.running()
    with pytest.raises(VersionConflict):
        await backend.service.delete_config(record.id, version=record.version + 1)
    assert outcome(await backend.service.get_config_status(record.id)) == RUNNING
    assert await backend.service.delete_config(record.id, version=record.version)
    assert backend.containers() == []


# ── the proxy is away ────────────────────────────────────────────────────────────────────────────


async def test_while_the_proxy_is_away_every_answer_says_so_and_nothing_is_lost(backend: Backend) -> None:
    record = await backend.running(env={"GREETING": "hello"})
    async with without_proxy(backend) as service:
        for call in (service.get_config_status, service.start_server, service.stop_server, service.restart_server):
            status = await call(record.id)
            assert outcome(status) == AWAY
            assert status is not None
            assert (status.problem, status.container_id) == ("proxy-unavailable", None)
            assert status.error_message is not None
            assert status.error_message.startswith("cannot connect to the proxy at unix://")
        changes: list[Callable[[], object]] = [
            lambda: service.delete_config(record.id),
            lambda: service.update_config(record.id, ConfigUpdate(env={})),
            lambda: service.update_config(record.id, ConfigUpdate(enabled=False)),
        ]
        for change in changes:
            with pytest.raises(StopFailed, match="'test' could not be stopped, so nothing was changed") as failed:
                await change()  # type: ignore[misc]  # they are coroutines
            assert isinstance(failed.value.cause, ProxyUnavailable)
        renamed = await service.update_config(record.id, ConfigUpdate(name="renamed"))
        assert renamed is not None, "what does not concern the server goes on"
        with pytest.raises(ProxyUnavailable):
            await service.call_tool(record.id, "where", {})
        with pytest.raises(ProxyUnavailable):
            await service.get_logs(record.id)
    kept = await stored(backend, record)
    assert (kept.config, kept.status) == (record.config, Status.ERROR)
    assert outcome(await backend.service.get_config_status(record.id)) == RUNNING
    assert await backend.text(record, "text", text="alive") == "alive"
    assert await backend.service.delete_config(record.id)


# ── start-up ─────────────────────────────────────────────────────────────────────────────────────


async def test_at_start_up_all_that_is_enabled_is_started_and_failures_are_kept(any_backend: Backend) -> None:
    good = [await any_backend.config(f"good {n}") for n in range(3)]
    denied = await any_backend.config("denied", env={"FORBIDDEN": "x"})
    disabled = await any_backend.config("disabled")
    await any_backend.service.update_config(disabled.id, ConfigUpdate(enabled=False))
    statuses = {status.id: status for status in await any_backend.service.start_all_enabled()}
    assert statuses.keys() == {denied.id, *(record.id for record in good)}
    assert {outcome(statuses[record.id]) for record in good} == {RUNNING}
    assert statuses[denied.id].problem == "policy-denied"
    assert len(any_backend.containers()) == 3
    asked = [request.path for request in any_backend.proxy.recorder.about_containers()]
    begun = accumulate(1 if "/create?" in path else -1 if path.endswith("/start") else 0 for path in asked)
    assert max(begun) in {1, 2}, "no more at once than was set"
    assert (await stored(any_backend, denied)).error_message == statuses[denied.id].error_message


async def test_start_up_goes_on_without_a_proxy(backend: Backend) -> None:
    record = await backend.config()
    async with without_proxy(backend, run_dir="other") as service:
        (status,) = await service.start_all_enabled()
        assert outcome(status) == AWAY
        kept = await stored(backend, record)
        assert (kept.status, kept.error_message) == (Status.ERROR, status.error_message)


async def test_start_up_goes_on_without_a_database(postgres: PostgresCluster, key_file: Path, tmp_path: Path) -> None:
    with postgres.database() as url:
        store = await SqlConfigStore.open(url, key_file=key_file, create_key=True)
    async with (
        store,
        ProxyClient(f"unix://{tmp_path}/nobody.sock", TOKEN) as away,
        service_of(away, store, tmp_path / "d") as service,
    ):
        assert await service.start_all_enabled() == []


async def test_a_process_that_comes_later_does_not_start_again_what_was_stopped(backend: Backend) -> None:
    record = await backend.config()
    await backend.service.start_all_enabled()
    await backend.service.stop_server(record.id)
    async with service_of(backend.client, backend.store, backend.run_dir) as later:
        assert await later.start_all_enabled() == []
    assert backend.containers() == []


# ── the rest ─────────────────────────────────────────────────────────────────────────────────────


async def test_an_operation_whose_caller_goes_away_is_carried_on_once_it_has_begun(backend: Backend) -> None:
    record = await backend.running(program="import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(1000)")
    stopping = asyncio.create_task(backend.service.stop_server(record.id))
    await backend.proxy.until(record.server_name, "stopping")
    waiting = asyncio.create_task(backend.service.delete_config(record.id))
    await asyncio.sleep(0)
    for task in (stopping, waiting):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    async with asyncio.timeout(10):
        while (await stored(backend, record)).status is not Status.STOPPED:
            await asyncio.sleep(0.01)
    assert backend.containers() == []


async def test_users_see_their_own_configurations_and_shared_ones(backend: Backend) -> None:
    own, shared = await backend.config("own"), await backend.config("shared", shared=True)
    assert [record.id for record in await backend.service.get_configs_by_user(ADMIN)] == [own.id, shared.id]
    assert [record.id for record in await backend.service.get_configs_by_user("user")] == [shared.id]
    await backend.service.update_config(own.id, ConfigUpdate(enabled=False))
    assert [record.id for record in await backend.service.get_all_enabled_configs()] == [shared.id]
    assert await backend.service.generate_mcp_config_json(ADMIN) == {
        "mcpServers": {"shared": {"command": "doogie", "args": ["stdio", "shared"]}}
    }
