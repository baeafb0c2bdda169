"""The MCP SDKs, unmodified, against real MCP servers through a real proxy."""

import json

import pytest
from mcp import ClientSession
from pydantic import BaseModel

from doogie_client import ProxyClient, StartRequest
from doogie_client.mcp import stdio_transport
from tests.e2e.programs import run
from tests.e2e.servers import SERVERS, McpServer
from tests.support.harness import TOKEN, Json, ProxyUnderTest

each_server = pytest.mark.parametrize("server", SERVERS, ids=lambda server: server.name)


async def ticket_url(proxy: ProxyUnderTest, name: str) -> str:
    """Where a client that cannot send headers attaches, once."""
    issued = await proxy.call("POST", f"/v1/servers/{name}/ticket")
    return f"{proxy.tcp_url.replace('http', 'ws', 1)}/v1/servers/{name}/stdio?ticket={issued.json['ticket']}"


async def check_program(command: list[str], proxy: ProxyUnderTest, server: McpServer) -> None:
    await proxy.start(server.name, image=server.image)
    url = await ticket_url(proxy, server.name)
    done = await run(*command, url, server.tool, server.arguments_json)
    assert done.code == 0, done.stderr
    server.check(json.loads(done.stdout))
    await proxy.until_detached(server.name)


@each_server
async def test_python_sdk_1_calls_a_tool_over_its_own_websocket_client(
    server: McpServer, mcp_proxy: ProxyUnderTest, python_sdk_1: list[str]
) -> None:
    await check_program(python_sdk_1, mcp_proxy, server)


@each_server
async def test_typescript_sdk_calls_a_tool_over_its_own_websocket_transport(
    server: McpServer, mcp_proxy: ProxyUnderTest, typescript_sdk: list[str]
) -> None:
    await check_program(typescript_sdk, mcp_proxy, server)


async def test_a_ticket_is_good_for_one_sdk_session(mcp_proxy: ProxyUnderTest, python_sdk_1: list[str]) -> None:
    server = SERVERS[0]
    await mcp_proxy.start(server.name, image=server.image)
    url = await ticket_url(mcp_proxy, server.name)
    first = await run(*python_sdk_1, url, server.tool, server.arguments_json)
    again = await run(*python_sdk_1, url, server.tool, server.arguments_json)
    assert (first.code, again.code) == (0, 1)
    assert "server rejected WebSocket connection: HTTP 401" in again.stderr


def on_the_wire(**answers: BaseModel) -> Json:
    return {name: answer.model_dump(mode="json", by_alias=True) for name, answer in answers.items()}


@each_server
async def test_python_sdk_2_calls_a_tool_in_a_container_of_its_own(
    server: McpServer, mcp_proxy: ProxyUnderTest
) -> None:
    request = StartRequest(image=server.image)
    async with ProxyClient(f"unix://{mcp_proxy.socket}", TOKEN) as proxy:
        async with proxy.mcp_session(server.name, request=request, read_timeout_s=60) as session:
            tools = await session.list_tools()
            call = await session.call_tool(server.tool, dict(server.arguments))
            info = session.server_info
        assert await proxy.list() == []
    assert info is not None
    server.check({"initialize": {"serverInfo": {"name": info.name}}, **on_the_wire(tools=tools, call=call)})


@each_server
async def test_python_sdk_2s_bare_session_runs_on_our_transport(server: McpServer, mcp_proxy: ProxyUnderTest) -> None:
    await mcp_proxy.start(server.name, image=server.image)
    async with (
        ProxyClient(f"unix://{mcp_proxy.socket}", TOKEN) as proxy,
        proxy.stdio(server.name) as stream,
        stdio_transport(stream) as (read, write),
        ClientSession(read, write) as session,
    ):
        initialize = await session.initialize()
        tools = await session.list_tools()
        call = await session.call_tool(server.tool, dict(server.arguments))
    server.check(on_the_wire(initialize=initialize, tools=tools, call=call))
