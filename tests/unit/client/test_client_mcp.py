import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from mcp.client import Client, IncomingMessage
from mcp.server.mcpserver import MCPServer
from mcp.shared.exceptions import MCPError
from mcp_types import TextContent

from doogie_client import DoogieError, PolicyDenied, ProxyClient, ServerExited, StartRequest, TakenOver
from doogie_client.mcp import McpSession, stdio_transport
from doogie_contract.channels import CloseCode
from doogie_contract.problems import PROBLEM_CONTENT_TYPE, ProblemType
from tests.unit.client.fake_proxy import FakeProxy, join_process, problem

LEGACY_SERVER = (sys.executable, str(Path(__file__).with_name("mcp_server.py")))
REQUEST = StartRequest(image="mcp/test")
SERVER_OF_ONE_ANSWER = (
    f"sed -u 2q | {sys.executable} {LEGACY_SERVER[1]}"  # the probe and initialize; then its stdin ends, and so does it
)


@asynccontextmanager
async def session(fake: FakeProxy, client: ProxyClient, *argv: str) -> AsyncIterator[McpSession]:
    fake.answer_process(*(argv or LEGACY_SERVER))
    async with client.mcp_session("test") as opened:
        yield opened


async def test_a_server_of_the_handshake_era_is_found_out_and_answers(fake: FakeProxy, client: ProxyClient) -> None:
    async with session(fake, client) as opened:
        assert opened.protocol_version == "2025-06-18"
        (content,) = (await opened.call_tool("echo", {"text": "grün  "})).content
        assert isinstance(content, TextContent)
        assert content.text == "grün  "
        assert opened.end is None


async def test_a_server_of_the_stateless_era_is_found_out_and_answers(fake: FakeProxy, client: ProxyClient) -> None:
    program = f"from {MCPServer.__module__} import MCPServer; MCPServer('modern').run()"
    async with session(fake, client, sys.executable, "-c", program) as opened:
        assert opened.protocol_version == "2026-07-28"
        assert (await opened.list_tools()).tools == []


async def test_a_message_of_20_mb_crosses_both_ways_intact(fake: FakeProxy, client: ProxyClient) -> None:
    text = "0123456789abcdef" * 1_250_000
    async with session(fake, client) as opened:
        (content,) = (await opened.call_tool("echo", {"text": text})).content
        assert isinstance(content, TextContent)
        assert content.text == text


async def test_a_line_that_is_no_message_reaches_the_message_handler_and_harms_nothing(
    fake: FakeProxy, client: ProxyClient
) -> None:
    seen: list[IncomingMessage] = []

    async def handler(message: IncomingMessage) -> None:
        seen.append(message)

    fake.answer_process(*LEGACY_SERVER)
    async with client.stdio("test") as stream, Client(stdio_transport(stream), message_handler=handler) as opened:
        await opened.call_tool("junk", {})
    assert any(isinstance(message, ValueError) for message in seen)


async def test_when_the_server_dies_all_calls_fail_at_once_with_code_and_stderr(
    fake: FakeProxy, client: ProxyClient
) -> None:
    async with session(fake, client) as opened:
        hanging = [asyncio.create_task(opened.call_tool("hang", {})) for _ in range(3)]
        await asyncio.sleep(0)
        async with asyncio.timeout(5):
            errors = await asyncio.gather(opened.call_tool("exit", {}), *hanging, return_exceptions=True)
            later = await asyncio.gather(opened.list_tools(), return_exceptions=True)
        for error in [*errors, *later]:
            assert isinstance(error, MCPError)
            assert error.message == "told by the fake proxy: Traceback: boom"
            assert error.data == {
                "end": "ServerExited", "exit_code": 3, "signal": None, "stderr_tail": "Traceback: boom\n",
            }  # fmt: skip
        assert isinstance(opened.end, ServerExited)


async def test_an_idle_session_notices_the_end_by_itself(fake: FakeProxy, client: ProxyClient) -> None:
    async with asyncio.timeout(10), session(fake, client, "sh", "-c", SERVER_OF_ONE_ANSWER) as opened:
        assert opened.end is None
        await opened.wait_end()
        assert isinstance(opened.end, ServerExited)


async def test_the_block_is_left_with_the_typed_error(fake: FakeProxy, client: ProxyClient) -> None:
    with pytest.raises(ServerExited, match="boom") as caught:
        async with session(fake, client) as opened:
            await opened.call_tool("exit", {})
    assert caught.value.code == 3
    assert isinstance(caught.value.__cause__, MCPError)


async def test_a_server_that_dies_in_the_handshake_is_the_typed_error(fake: FakeProxy, client: ProxyClient) -> None:
    with pytest.raises(ServerExited, match="no API key"):
        async with session(fake, client, "sh", "-c", "echo no API key >&2; exit 5"):
            pass


async def test_a_takeover_ends_the_session_with_its_own_error(fake: FakeProxy, client: ProxyClient) -> None:
    async def talk(socket: web.WebSocketResponse) -> None:
        asyncio.get_running_loop().call_later(0.2, lambda: closing.append(asyncio.ensure_future(close(socket))))
        await join_process(socket, *LEGACY_SERVER)

    async def close(socket: web.WebSocketResponse) -> None:
        await socket.close(code=CloseCode.TAKEN_OVER)

    closing: list[asyncio.Future[None]] = []
    fake.answer_websocket(talk)
    with pytest.raises(TakenOver):
        async with client.mcp_session("test") as opened:
            await opened.call_tool("hang", {})
    await asyncio.gather(*closing)


async def test_an_error_of_the_server_stays_what_it_is(fake: FakeProxy, client: ProxyClient) -> None:
    with pytest.raises(MCPError, match="no such method"):
        async with session(fake, client) as opened:
            await opened.list_prompts()


async def test_an_error_of_the_block_leaves_as_itself(fake: FakeProxy, client: ProxyClient) -> None:
    error = KeyError("mine")
    with pytest.raises(KeyError) as caught:
        async with session(fake, client):
            raise error
    assert caught.value is error


async def test_cancelling_the_block_leaves_as_a_cancellation(fake: FakeProxy, client: ProxyClient) -> None:
    async def hang() -> None:
        async with session(fake, client) as opened:
            await opened.call_tool("hang", {})

    task = asyncio.create_task(hang())
    await asyncio.sleep(0.5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# --- a container of the session's own ---------------------------------------------------------------------------------


def serve_container(fake: FakeProxy, *argv: str, denied: bool = False) -> list[str]:
    """A proxy that admits, stops, starts and attaches; the list fills with what was asked."""
    asked: list[str] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        what = request.path.rpartition("/")[2] + ("?dry_run" if request.query else "")
        asked.append(what)
        if denied:
            return web.json_response(problem(ProblemType.POLICY_DENIED), status=403, content_type=PROBLEM_CONTENT_TYPE)
        if what == "stdio":
            socket = web.WebSocketResponse(protocols=["v5.channel.k8s.io"])
            await socket.prepare(request)
            await join_process(socket, *argv)
            return socket
        if what == "start?dry_run":
            return web.json_response({"rule": "r", "image": "i", "args": [], "limits": LIMITS})
        return web.json_response({"name": "test", "state": "absent" if what == "stop" else "running"})

    fake.handler = handler
    return asked


LIMITS = {
    "memory_bytes": 1, "cpus": 0.5, "pids": 1, "tmp_bytes": 1, "shm_bytes": 1, "nofile": 1, "max_message_bytes": 1,
    "buffer_bytes": 1, "replay": "none", "network": "none", "user": "1:1", "detached_ttl_s": 1, "max_age_s": 1,
    "stop_grace_s": 1, "keep_exited_s": 1,
}  # fmt: skip


async def test_with_a_request_the_session_has_a_container_of_its_own(fake: FakeProxy, client: ProxyClient) -> None:
    asked = serve_container(fake, *LEGACY_SERVER)
    async with client.mcp_session("test", request=REQUEST) as opened:
        await opened.list_tools()
        assert asked == ["start?dry_run", "stop", "start", "stdio"]
    assert asked[-1] == "stop"


@pytest.mark.parametrize("argv", [("sh", "-c", "exit 1"), LEGACY_SERVER])
async def test_the_container_is_stopped_whatever_goes_wrong(
    fake: FakeProxy, client: ProxyClient, argv: tuple[str, ...]
) -> None:
    asked = serve_container(fake, *argv)
    with pytest.raises((DoogieError, ZeroDivisionError)):
        async with client.mcp_session("test", request=REQUEST):
            raise ZeroDivisionError
    assert asked[-1] == "stop"


async def test_the_container_is_stopped_when_the_session_is_cancelled(fake: FakeProxy, client: ProxyClient) -> None:
    asked = serve_container(fake, *LEGACY_SERVER)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1), client.mcp_session("test", request=REQUEST) as opened:
            await opened.call_tool("hang", {})
    assert asked[-1] == "stop"


async def test_a_request_the_policy_denies_stops_nothing(fake: FakeProxy, client: ProxyClient) -> None:
    asked = serve_container(fake, denied=True)
    with pytest.raises(PolicyDenied):
        async with client.mcp_session("test", request=REQUEST):
            pass
    assert asked == ["start?dry_run"]


async def test_the_transport_alone_delivers_the_end_to_an_idle_session(fake: FakeProxy, client: ProxyClient) -> None:
    fake.answer_process("sh", "-c", "exit 4")
    async with client.stdio("test") as stream, stdio_transport(stream) as (read, write), write, aclosing(read):
        end = await read.receive()
    assert isinstance(end, ServerExited)
    assert end.code == 4
