"""Calls of tools: the session behind them, what comes back, and what becomes of them when something ends."""

import asyncio
import json
import re
import uuid
from pathlib import Path

import pytest
from mcp_types import CallToolResult

from doogie_client import ProxyClient
from doogie_client.service.errors import (
    CallFailed,
    CallInterrupted,
    CallRefused,
    CallTimedOut,
    ConfigDisabled,
    InvalidCall,
    ServerNotRunning,
    SessionUnavailable,
    UnknownTool,
)
from doogie_client.service.records import ConfigRecord, ConfigUpdate, NewConfig, ServerConfig
from doogie_client.service.session import ToolResult
from doogie_client.service.sql import SqlConfigStore
from doogie_client.service.store import ConfigNotFound
from doogie_client.service.tools import anthropic_tools, find_tool, openai_tools
from tests.service.backend import ADMIN, Backend, policy, scripted, service_of
from tests.service.mcp_program import TINY_PNG
from tests.support.harness import ENGINE_SOCKET, INSTANCES, TOKEN, containers_of, docker
from tests.support.served import served

SECRET = "sk-9f8e7d6c5b4a"


def call(backend: Backend, record: ConfigRecord, tool: str, **arguments: object) -> asyncio.Task[ToolResult]:
    """A call that is under way."""
    return asyncio.create_task(backend.service.call_tool(record.id, tool, dict(arguments)))  # type: ignore[arg-type]  # JSON, by the tests' word


async def until_called(backend: Backend, record: ConfigRecord, tool: str, times: int = 1) -> None:
    """Return when the server has begun that many calls of a tool."""
    async with asyncio.timeout(10):
        while json.loads(await backend.text(record, "calls")).get(tool, 0) < times:
            await asyncio.sleep(0.01)


async def container_id(backend: Backend, record: ConfigRecord) -> str | None:
    """The container that status reports, which must run."""
    status = await backend.service.get_config_status(record.id)
    assert status is not None
    assert status.status == "running"
    return status.container_id


# ── the session ──────────────────────────────────────────────────────────────────────────────────


async def test_a_tool_is_called_in_the_very_container_that_status_reports(any_backend: Backend) -> None:
    record = await any_backend.running()
    reported = await container_id(any_backend, record)
    assert await any_backend.text(record, "where") == any_backend.hostname(reported)
    assert any_backend.containers() == [reported]
    assert await container_id(any_backend, record) == reported


async def test_the_session_is_opened_by_the_first_call_and_kept(backend: Backend) -> None:
    record = await backend.running()
    server = await backend.client.status(record.server_name)
    assert server.stdio is not None
    assert not server.stdio.attached
    await asyncio.gather(*(backend.text(record, "text", text="x") for _ in range(10)))
    assert json.loads(await backend.text(record, "calls")) == {"text": 10, "calls": 1}
    server = await backend.client.status(record.server_name)
    assert server.stdio is not None
    assert server.stdio.attached


async def test_calls_run_at_the_same_time_on_one_session(backend: Backend) -> None:
    record = await backend.running()
    hanging = call(backend, record, "hang")
    slow = [call(backend, record, "slow", s=1) for _ in range(8)]
    await until_called(backend, record, "slow", 8)
    assert not any(task.done() for task in slow), "all eight were begun before one was done"
    await asyncio.gather(*slow)
    hanging.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hanging


async def test_a_call_that_takes_too_long_is_cancelled_alone(backend: Backend) -> None:
    record = await backend.running()
    slow = call(backend, record, "slow", s=1)
    with pytest.raises(CallTimedOut, match=r"within 0\.2 s"):
        await backend.service.call_tool(record.id, "hang", {}, timeout_s=0.2)
    assert len(json.loads(await backend.text(record, "cancelled"))) == 1, "the server was told"
    assert not (await slow).is_error
    assert json.loads(await backend.text(record, "calls"))["hang"] == 1, "it was sent once"


async def test_a_call_that_is_cancelled_is_cancelled_alone(backend: Backend) -> None:
    record = await backend.running()
    slow, hanging = call(backend, record, "slow", s=1), call(backend, record, "hang")
    await until_called(backend, record, "hang")
    hanging.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hanging
    assert len(json.loads(await backend.text(record, "cancelled"))) == 1
    assert not (await slow).is_error


async def test_the_callers_that_wait_for_a_session_may_go_away(backend: Backend) -> None:
    record = await backend.running()
    waiting = [call(backend, record, "calls") for _ in range(3)]
    await asyncio.sleep(0)
    for task in waiting[:2]:
        task.cancel()
    assert not (await waiting[2]).is_error
    assert all(task.cancelled() for task in waiting[:2])


async def test_a_lost_session_is_replaced_in_a_fresh_container_so_that_no_late_reply_is_taken_for_another(
    backend: Backend,
) -> None:
    record = await backend.running()
    before = await container_id(backend, record)
    slow = call(backend, record, "slow", s=1)  # would answer request 3 or so of the next session
    await until_called(backend, record, "slow")
    await backend.service.close_all_sessions()
    with pytest.raises(CallInterrupted, match="may have run: the session was closed"):
        await slow
    assert await container_id(backend, record) == before, "closing a session ends no server"
    answers = await asyncio.gather(*(backend.text(record, "text", text=str(n)) for n in range(50)))
    assert answers == [str(n) for n in range(50)]
    after = await container_id(backend, record)
    assert after != before
    assert backend.containers() == [after]
    assert await backend.text(record, "where") == backend.hostname(after)


async def test_a_session_does_not_push_away_somebody_who_is_attached(backend: Backend) -> None:
    record = await backend.running()
    before = await container_id(backend, record)
    async with backend.client.stdio(record.server_name):
        with pytest.raises(SessionUnavailable, match="someone else is attached to test, like `doogie stdio`"):
            await backend.text(record, "where")
        assert await container_id(backend, record) == before


async def test_a_server_that_does_not_speak_mcp_is_found_out(backend: Backend) -> None:
    silent = await backend.running("silent", program="import sys; sys.stdin.read()")
    async with service_of(backend.client, backend.store, backend.run_dir, session_timeout_s=1) as hasty:
        with pytest.raises(SessionUnavailable, match=r"handshake failed: no answer within 1 s"):
            await hasty.call_tool(silent.id, "where", {})
    program = "import sys; sys.stdin.readline(); sys.stderr.write('no API key'); sys.exit(5)"
    dying = await backend.running("dying", program=program)
    with pytest.raises(SessionUnavailable, match=r"handshake failed: .*5.*: no API key"):
        await backend.text(dying, "where")
    status = await backend.service.get_config_status(dying.id)
    assert status is not None
    assert (status.status, status.problem) == ("error", "server-exited")


# ── ends ─────────────────────────────────────────────────────────────────────────────────────────


async def ends(calls: list[asyncio.Task[ToolResult]]) -> list[CallInterrupted]:
    """How calls were interrupted, all of them and soon."""
    async with asyncio.timeout(10):
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(outcome, CallInterrupted) for outcome in outcomes), outcomes
    return [outcome for outcome in outcomes if isinstance(outcome, CallInterrupted)]


async def test_a_servers_death_ends_all_calls_at_once_with_its_last_words_but_not_its_secrets(
    backend: Backend,
) -> None:
    record = await backend.running(env={"GREETING": SECRET})
    hanging = [call(backend, record, "hang") for _ in range(3)]
    await until_called(backend, record, "hang", 3)
    for interrupted in await ends([*hanging, call(backend, record, "die", words="boom ", code=3)]):
        assert re.search(r"may have run: .*code 3.*last words: boom \*\*\*", str(interrupted), re.DOTALL)
    with pytest.raises(ServerNotRunning, match=r"not running: it exited with code 3: last words: boom \*\*\*$"):
        await backend.text(record, "where")
    async with asyncio.timeout(10):  # the end was noted, though nobody asked for the status
        while (stored := await backend.store.get(record.id)) is not None and stored.status != "error":
            await asyncio.sleep(0.01)
    assert stored is not None
    assert stored.error_message == "it exited with code 3: last words: boom ***"
    assert (await backend.service.get_logs(record.id)) == "last words: boom ***\n"
    status = await backend.service.start_server(record.id)
    assert status is not None
    assert status.status == "running"
    assert json.loads(await backend.text(record, "calls")) == {"calls": 1}, "nothing was called again"


async def test_a_container_that_is_removed_behind_the_proxys_back_ends_its_calls(backend: Backend) -> None:
    record = await backend.running()
    hanging = call(backend, record, "hang")
    await until_called(backend, record, "hang")
    docker("rm", "--force", *backend.containers())
    await ends([hanging])
    status = await backend.service.get_config_status(record.id)
    assert status is not None
    assert status.status != "running"
    restarted = await backend.service.start_server(record.id)
    assert restarted is not None
    assert await backend.text(record, "where") == backend.hostname(restarted.container_id)


async def test_a_proxy_that_is_killed_ends_its_calls_and_the_next_proxy_serves_them(
    engine: str, sqlite_store: SqlConfigStore, tmp_path: Path
) -> None:
    instance = f"t{uuid.uuid4().hex[:12]}"
    INSTANCES[instance] = ENGINE_SOCKET
    async with (
        ProxyClient(f"unix://{tmp_path}/served.sock", TOKEN) as client,
        service_of(client, sqlite_store, tmp_path / "d") as service,
    ):
        with pytest.raises(AssertionError, match="the proxy ended with -9"):  # noqa: PT012 - at the end of what it runs for
            async with served(tmp_path, policy(), instance=instance) as first:
                record = await service.create_config(NewConfig(name="test", config=scripted()), ADMIN)
                await service.start_server(record.id)
                hanging = asyncio.create_task(service.call_tool(record.id, "hang", {}))
                async with asyncio.timeout(10):
                    while "hang" not in str((await service.call_tool(record.id, "calls", {})).content):
                        await asyncio.sleep(0.01)
                first.process.kill()
                (interrupted,) = await ends([hanging])
                assert "the connection to the proxy" in str(interrupted)
                status = await service.get_config_status(record.id)
                assert status is not None
                assert (status.status, status.state) == ("error", None)
        before = containers_of(instance)
        async with served(tmp_path, policy(), instance=instance):
            status = await service.get_config_status(record.id)
            assert status is not None
            assert [status.container_id] == before, "the server has survived"
            result = await service.call_tool(record.id, "text", {"text": "again"})
            assert result.content[0].model_dump()["text"] == "again"
            assert containers_of(instance) != before, "its session had not"
            assert await service.delete_config(record.id)


@pytest.mark.parametrize("what", ["stop", "restart", "edit", "disable", "delete"])
async def test_whatever_ends_a_server_ends_its_session(backend: Backend, what: str) -> None:
    record = await backend.running()
    hanging = call(backend, record, "hang")
    await until_called(backend, record, "hang")
    match what:
        case "stop":
            await backend.service.stop_server(record.id)
        case "restart":
            await backend.service.restart_server(record.id)
        case "edit":
            await backend.service.update_config(record.id, ConfigUpdate(env={"GREETING": "x"}))
        case "disable":
            await backend.service.update_config(record.id, ConfigUpdate(enabled=False))
        case "delete":
            await backend.service.delete_config(record.id)
    await ends([hanging])
    expected = {"disable": ConfigDisabled, "delete": ConfigNotFound}.get(what, ServerNotRunning)
    if what == "restart":
        assert await backend.text(record, "where") == backend.hostname(await container_id(backend, record))
    else:
        with pytest.raises(expected):
            await backend.text(record, "where")
        assert backend.containers() == []


# ── what goes in and comes out ───────────────────────────────────────────────────────────────────


async def test_a_result_keeps_everything_the_server_said(backend: Backend) -> None:
    record = await backend.running()
    result = await backend.service.call_tool(record.id, "mixed", {})
    dumped = result.model_dump(mode="json", by_alias=True, exclude_unset=True)
    uri = "file:///a.txt"
    assert dumped == {
        "content": [
            {"type": "text", "text": "one"},
            {"type": "image", "data": TINY_PNG, "mimeType": "image/png", "annotations": {"priority": 0.5}},
            {"type": "audio", "data": "AAEC", "mimeType": "audio/wav"},
            {"type": "resource", "resource": {"uri": uri, "mimeType": "text/plain", "text": "two"}},
            {"type": "resource", "resource": {"uri": uri, "mimeType": "image/png", "blob": TINY_PNG}},
            {"type": "resource_link", "uri": uri, "name": "a", "description": "a link"},
        ],
        "structuredContent": {"big": 2**60 + 1, "nested": [None, 1.5, "\u2028"]},
        "_meta": {"example.org/trace": "abc"},
    }
    assert CallToolResult.model_validate(dumped) == result
    failed = await backend.service.call_tool(record.id, "fail", {})
    assert failed.is_error


async def test_an_error_of_the_server_is_told_with_its_code_and_data(backend: Backend) -> None:
    record = await backend.running()
    with pytest.raises(CallRefused, match="not like this") as refused:
        await backend.text(record, "refuse")
    assert (refused.value.code, refused.value.data) == (-32602, {"why": ["because", 1]})
    with pytest.raises(CallFailed, match="not what MCP defines: content"):
        await backend.text(record, "nonsense")
    assert await backend.text(record, "text", text="still there") == "still there"


async def test_a_call_of_several_rounds_is_continued_unless_it_asks_for_something(backend: Backend) -> None:
    record = await backend.running("test", "modern")
    assert await backend.text(record, "rounds") == "after second"
    with pytest.raises(CallFailed, match="asks for input"):
        await backend.text(record, "asks")
    assert json.loads(await backend.text(record, "calls")) == {"rounds": 2, "asks": 1, "calls": 1}


async def test_a_call_that_cannot_be_written_harms_no_other(backend: Backend) -> None:
    record = await backend.running()
    hanging = call(backend, record, "hang")
    deep: object = 1
    for _ in range(300):
        deep = [deep]
    for broken in (float("nan"), float("inf"), "\ud800", b"bytes", object(), deep):
        with pytest.raises(InvalidCall):
            await call(backend, record, "text", text=broken)
    with pytest.raises(InvalidCall):
        await call(backend, record, "\ud800")
    assert not hanging.done()
    hanging.cancel()
    for text in ("\0", "\u2028\U0001f986\r\n", "x" * 5_000_000):
        assert await backend.text(record, "text", text=text) == text


async def test_every_tool_is_called_by_the_name_that_a_model_is_given_and_by_its_own(backend: Backend) -> None:
    record = await backend.running("My files")
    tools = await backend.service.list_tools(record.id)
    odd = ["a__b", "files/read", "x" * 80, "looks_h0123456789ab", "\u00fcml", ""]
    assert [tool.tool.name for tool in tools][-6:] == odd, "all pages were read"
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", tool.name) for tool in tools)
    assert len({tool.name for tool in tools}) == len(tools)
    for name in odd:
        (tool,) = [tool for tool in tools if tool.tool.name == name]
        assert await backend.text(record, tool.name) == "called " + name
        assert await backend.text(record, name) == "called " + name
    assert await backend.text(record, "my-files__a__b") == "called a__b"
    with pytest.raises(UnknownTool, match="has no tool 'my-files__gone_h0123456789ab'"):
        await backend.text(record, "my-files__gone_h0123456789ab")


async def test_a_user_is_given_the_tools_of_the_servers_that_run_for_him(backend: Backend) -> None:
    own, shared = await backend.running("own"), await backend.running("shared", shared=True)
    await backend.config("idle")
    assert {tool.config_id for tool in await backend.service.list_tools_by_user(ADMIN)} == {own.id, shared.id}
    tools = await backend.service.list_tools_by_user("user")
    assert {tool.config_id for tool in tools} == {shared.id}
    schema = {"type": "object", "properties": {"x": {"$ref": "#/$defs/y"}}, "$defs": {"y": {}}}
    definition = {"name": "shared__text", "description": "does text"}
    assert openai_tools(tools)[0] == {"type": "function", "function": {**definition, "parameters": schema}}
    assert anthropic_tools(tools)[0] == {**definition, "input_schema": schema}
    found = find_tool(tools, "shared__text")
    assert found is not None
    assert (found.config_id, found.tool.name) == (shared.id, "text")


# ── real servers ─────────────────────────────────────────────────────────────────────────────────


async def test_the_servers_of_the_starter_policy_answer(backend: Backend) -> None:
    lines = {
        "time": ("uvx", ["mcp-server-time", "--local-timezone=UTC"]),
        "everything": ("npx", ["-y", "@modelcontextprotocol/server-everything"]),
        "files": ("docker", ["run", "-i", "--rm", "doogie/mcp-server-filesystem"]),
    }

    async def start(name: str) -> ConfigRecord:
        command, args = lines[name]
        config = ServerConfig(command=command, args=args)
        record = await backend.service.create_config(NewConfig(name=name, config=config), ADMIN)
        status = await backend.service.start_server(record.id)
        assert status is not None
        assert status.status == "running", status
        return record

    time, everything, files = await asyncio.gather(*map(start, lines))
    tools = await backend.service.list_tools_by_user(ADMIN)
    assert {"time__get_current_time", "everything__get-sum", "files__write_file"} <= {tool.name for tool in tools}
    assert '"timezone": "Asia/Tokyo"' in await backend.text(time, "time__get_current_time", timezone="Asia/Tokyo")
    assert "42" in await backend.text(everything, "get-sum", a=2, b=40)
    image = await backend.service.call_tool(everything.id, "get-tiny-image", {})
    assert "image" in [block.type for block in image.content]
    structured = await backend.service.call_tool(everything.id, "get-structured-content", {"location": "New York"})
    assert isinstance(structured.structured_content, dict)
    assert "Success" in await backend.text(files, "files__write_file", path="/tmp/a", content="b")
    assert (await backend.service.call_tool(files.id, "read_text_file", {"path": "/etc/passwd"})).is_error
