"""The code that this replaces: what was wrong with it, each a test of its own, and what its callers rely on.

What was wrong with its reading of commands is in the tests of ``doogie_client.commands``.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from doogie_client import ProxyClient
from doogie_client.service.errors import CallTimedOut, StopFailed
from doogie_client.service.records import ConfigUpdate, NewConfig
from doogie_client.service.service import MCPConfigService
from doogie_client.service.sql import SqlConfigStore
from doogie_client.service.tools import find_tool
from tests.service.backend import ADMIN, Backend, scripted, service_of, without_proxy
from tests.support.harness import TOKEN, inspect

MISSING = "00000000-0000-0000-0000-000000000000"
SECRET = "sk-planted-9f8e7d6c5b4a"


def answered(outcome: dict[str, str]) -> object:
    """What is in the one string that the chat loop gets."""
    assert outcome.keys() == {"result"}
    return json.loads(outcome["result"])


# ── what was wrong ───────────────────────────────────────────────────────────────────────────────


async def test_no_second_container_is_started_to_call_a_tool(backend: Backend) -> None:
    record = await backend.running()
    before = backend.containers()
    for _ in range(3):
        await backend.service.execute_mcp_tool(record.id, "call_1", "test__where", "{}")
    assert backend.containers() == before


async def test_nothing_of_the_backends_own_environment_reaches_the_container(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    await backend.running(env={"GREETING": "hello"})
    (container,) = backend.containers()
    env = inspect(container)["Config"]["Env"]
    assert "GREETING=hello" in env
    assert not [line for line in env if SECRET in line or line == f"HOME={os.environ['HOME']}"]


async def test_a_tool_that_never_answers_is_given_up_and_called_once(backend: Backend) -> None:
    record = await backend.running()
    with pytest.raises(CallTimedOut):
        await backend.service.call_tool(record.id, "hang", {}, timeout_s=0.3)
    assert json.loads(await backend.text(record, "calls"))["hang"] == 1


async def test_a_call_that_fails_is_not_made_again(backend: Backend) -> None:
    record = await backend.running()
    for tool in ("refuse", "fail", "nonsense"):
        outcome = answered(await backend.service.execute_mcp_tool(record.id, "call_1", tool, "{}"))
        assert isinstance(outcome, dict)
        assert outcome.keys() == {"error"}
    assert json.loads(await backend.text(record, "calls")) == {"refuse": 1, "fail": 1, "nonsense": 1, "calls": 1}


async def test_images_resources_and_failures_are_not_dropped(backend: Backend) -> None:
    record = await backend.running()
    assert answered(await backend.service.execute_mcp_tool(record.id, "call_1", "test__mixed", "{}")) == {
        "result": "one[image image/png, 70 bytes][audio audio/wav, 3 bytes]two[resource file:///a.txt, image/png]"
        "[resource file:///a.txt, a]"
    }
    assert answered(await backend.service.execute_mcp_tool(record.id, "call_1", "test__fail", "{}")) == {
        "error": {"code": -32000, "message": "it went wrong"}
    }


async def test_the_event_loop_goes_on_while_a_server_is_started_and_stopped(backend: Backend) -> None:
    record = await backend.config()
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    turning = asyncio.create_task(turn())
    longest: dict[str, int] = {}
    operations: dict[str, Callable[[str], object]] = {
        "start": backend.service.start_server,
        "restart": backend.service.restart_server,
        "stop": backend.service.stop_server,
    }
    for name, operation in operations.items():
        before = turns
        await operation(record.id)  # type: ignore[misc]  # they are coroutines
        longest[name] = turns - before
    turning.cancel()
    assert min(longest.values()) > 20, longest


async def test_concurrent_operations_on_one_server_take_turns(backend: Backend) -> None:
    record = await backend.config()
    starts = await asyncio.gather(*(backend.service.start_server(record.id) for _ in range(20)))
    assert len({status.container_id for status in starts if status is not None}) == 1
    assert len(backend.containers()) == 1
    await asyncio.gather(
        *(backend.service.restart_server(record.id) for _ in range(3)),
        *(backend.service.stop_server(record.id) for _ in range(3)),
        *(backend.service.update_config(record.id, ConfigUpdate(description=str(n))) for n in range(3)),
    )
    deleted = await asyncio.gather(
        *(backend.service.delete_config(record.id) for _ in range(3)),
        *(backend.service.start_server(record.id) for _ in range(3)),
    )
    assert deleted.count(True) == 1
    assert backend.containers() == []


async def test_a_failed_stop_does_not_delete_the_configuration(backend: Backend) -> None:
    record = await backend.running()
    async with without_proxy(backend) as service:
        with pytest.raises(StopFailed):
            await service.delete_config(record.id)
    assert await backend.service.get_config_by_id(record.id) is not None
    status = await backend.service.get_config_status(record.id)
    assert status is not None
    assert status.status == "running"


async def test_servers_whose_names_differ_by_one_character_do_not_share_tools(backend: Backend) -> None:
    dash, underscore = await asyncio.gather(backend.running("a-b"), backend.running("a_b"))
    tools = await backend.service.list_tools_by_user(ADMIN)
    assert len({tool.name for tool in tools}) == len(tools)
    for record in (dash, underscore):
        (name,) = [tool.name for tool in tools if tool.config_id == record.id and tool.tool.name == "where"]
        found = find_tool(tools, name)
        assert found is not None
        assert found.config_id == record.id
        status = await backend.service.get_config_status(record.id)
        assert status is not None
        assert await backend.text(record, name) == backend.hostname(status.container_id)


async def test_a_tool_whose_own_name_has_the_separator_in_it_is_called_by_it(backend: Backend) -> None:
    record = await backend.running()
    for name in ("a__b", "test__a__b"):
        assert answered(await backend.service.execute_mcp_tool(record.id, "call_1", name, "{}")) == {
            "result": "called a__b"
        }


# ── what its callers rely on ─────────────────────────────────────────────────────────────────────


async def test_every_outcome_has_its_old_shape_and_code(backend: Backend) -> None:
    record, idle = await backend.running(), await backend.config("idle")
    off = await backend.config("off")
    await backend.service.update_config(off.id, ConfigUpdate(enabled=False))
    ok = '{"text": "hello"}'
    table: list[tuple[str, str, str, dict[str, object]]] = [
        (record.id, "test__text", ok, {"result": "hello"}),
        (record.id, "text", ok, {"result": "hello"}),
        (record.id, "test__text", "[1]", {"code": -32602, "message": "invalid tool arguments"}),
        (record.id, "test__text", "", {"code": -32602, "message": "invalid tool arguments"}),
        (record.id, "test__refuse", "{}", {"code": -32000, "message": "not like this"}),
        (record.id, "test__gone_h0123456789ab", "{}", {"code": -32000, "message": "has no tool"}),
        (idle.id, "idle__text", ok, {"code": -32000, "message": "'idle' is not running"}),
        (off.id, "off__text", ok, {"code": -32603, "message": "'off' is disabled"}),
        (MISSING, "x__text", "not even JSON", {"code": -32603, "message": "there is no configuration"}),
    ]
    for config_id, tool, arguments, expected in table:
        outcome = answered(await backend.service.execute_mcp_tool(config_id, "call_1", tool, arguments))
        assert isinstance(outcome, dict)
        if "result" in expected:
            assert outcome == expected
        else:
            assert outcome.keys() == {"error"}
            assert outcome["error"]["code"] == expected["code"]
            assert str(expected["message"]) in outcome["error"]["message"]


async def test_a_worker_thread_calls_it_as_fastapis_synchronous_routes_do(backend: Backend) -> None:
    record = await backend.config()

    def route() -> str:
        anyio.from_thread.run(backend.service.start_server, record.id)
        outcome = anyio.from_thread.run(backend.service.execute_mcp_tool, record.id, "call_1", "test__where", "{}")
        return str(json.loads(outcome["result"])["result"])

    (hostname,) = {await anyio.to_thread.run_sync(route) for _ in range(2)}
    (container,) = backend.containers()
    assert hostname == backend.hostname(container)


def test_a_program_without_an_event_loop_calls_it_through_a_portal(key_file: Path, tmp_path: Path) -> None:
    @asynccontextmanager
    async def opened() -> AsyncIterator[MCPConfigService]:
        async with (
            await SqlConfigStore.open(f"sqlite:///{tmp_path}/doogie.db", key_file=key_file, create_key=True) as store,
            ProxyClient(f"unix://{tmp_path}/nobody.sock", TOKEN) as proxy,
            service_of(proxy, store, tmp_path / "d") as service,
        ):
            yield service

    with (
        anyio.from_thread.start_blocking_portal() as portal,
        portal.wrap_async_context_manager(opened()) as service,
    ):
        record = portal.call(service.create_config, NewConfig(name="test", config=scripted()), ADMIN)
        status = portal.call(service.start_server, record.id)
        assert status is not None
        assert status.problem == "proxy-unavailable"


# ── secrets ──────────────────────────────────────────────────────────────────────────────────────


async def test_a_planted_secret_is_in_no_log_status_message_answer_or_export(
    backend: Backend, capfd: pytest.CaptureFixture[str], sqlite_store: SqlConfigStore
) -> None:
    service = backend.service
    record = await backend.running(env={"GREETING": SECRET})
    told = [
        repr(record),
        str(record.masked().model_dump_json()),
        repr(await service.list_tools_by_user(ADMIN)),
        await service.execute_mcp_tool(record.id, "call_1", "test__die", '{"words": "x"}'),
        repr(await service.get_config_status(record.id)),
        await service.get_logs(record.id),
        await service.execute_mcp_tool(record.id, "call_1", "test__where", "{}"),
        await service.generate_mcp_config_json(ADMIN),
    ]
    denied = await backend.config("denied", env={"FORBIDDEN": SECRET})
    told += [repr(await service.start_server(denied.id)), repr(await service.restart_server(denied.id))]
    arguments = json.dumps({"text": SECRET})
    await service.start_server(record.id)
    await service.execute_mcp_tool(record.id, "call_1", "test__text", arguments)
    await service.execute_mcp_tool(record.id, "call_1", "test__refuse", arguments)
    await service.update_config(record.id, ConfigUpdate(env={"GREETING": f"other-{SECRET}"}))
    assert "last words: x***" in str(told)
    assert SECRET not in str(told)
    output, errors = capfd.readouterr()
    assert "tool_called" in output + errors
    assert SECRET not in output + errors
    for stored in await sqlite_store.list():
        assert SECRET not in str((stored.error_message, repr(stored)))
