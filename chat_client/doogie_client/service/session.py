"""``Session``: one MCP session that is open, and its calls. ``sessions.py`` opens and keeps them."""

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Protocol, TypeVar

import anyio
from mcp.shared.exceptions import MCPError
from mcp_types import (
    CONNECTION_CLOSED,
    CallToolRequest,
    CallToolRequestParams,
    CallToolResult,
    InputRequiredResult,
    Tool,
)
from pydantic import JsonValue, TypeAdapter, ValidationError

from doogie_client.mcp import McpSession
from doogie_client.service.errors import CallFailed, CallInterrupted, CallRefused, CallTimedOut
from doogie_client.service.records import ConfigRecord
from doogie_client.service.status import redacted

T = TypeVar("T")

ToolResult = CallToolResult
"""All that a tool answers: ``content`` blocks (text, image, audio, resources), ``structured_content``, ``is_error``,
``meta``. ``model_dump(mode="json", by_alias=True, exclude_unset=True)`` is its form on the wire."""

MAX_TOOLS = 10_000
ROUND_PAUSE_S = 0.1
"""Before a call is continued whose server said nothing but "go on" (2026-07-28, ``requestState``)."""

_ANSWER: TypeAdapter[CallToolResult | InputRequiredResult] = TypeAdapter(CallToolResult | InputRequiredResult)


class Caller(Protocol):
    """Whoever passes calls to a server: its session, or the way to the process that has it."""

    async def list_tools(self, *, timeout_s: float) -> list[Tool]:
        """All pages of the server's tools."""
        ...

    async def call_tool(self, name: str, arguments: Mapping[str, JsonValue], *, timeout_s: float) -> ToolResult:
        """One call of a tool by its own name."""
        ...


class Session:
    """An open session with one container. Calls may run at the same time; each can be cancelled alone.

    Args:
        client: entered, by the task that will leave it.
        record: the configuration that the container was started from.
        container_id: of the container the session is with, and no other.
    """

    def __init__(self, client: McpSession, record: ConfigRecord, container_id: str) -> None:
        self.container_id = container_id
        self._client = client
        self._env = record.config.env
        self._open = anyio.CancelScope()

    @property
    def over(self) -> bool:
        """The server has ended, or the session is being closed: nothing more can be asked."""
        return self._open.cancel_called or self.ended

    @property
    def ended(self) -> bool:
        """The server has ended, or the way to it."""
        return self._client.end is not None

    @property
    def end(self) -> str:
        """Why it is over, for people."""
        if self._client.end is None:
            return "the session was closed"
        return redacted(str(self._client.end), self._env)

    async def wait_over(self) -> None:
        """Return when it is over. For the one task that will leave ``client``."""
        with self._open:
            await self._client.wait_end()

    def close(self) -> None:
        """Have its task close it; calls that wait are interrupted."""
        self._open.cancel()

    async def list_tools(self, *, timeout_s: float) -> list[Tool]:
        """All pages of the server's tools. Raises ``CallFailed`` and its kinds."""
        return await self._ask("the list of tools", self._list_tools(), timeout_s)

    async def call_tool(self, name: str, arguments: Mapping[str, JsonValue], *, timeout_s: float) -> ToolResult:
        """One call of a tool by its own name. Raises ``CallFailed`` and its kinds."""
        return await self._ask("the call", self._call_tool(name, dict(arguments)), timeout_s)

    async def _list_tools(self) -> list[Tool]:
        tools: list[Tool] = []
        cursor: str | None = None
        while True:
            page = await self._client.list_tools(cursor=cursor, cache_mode="bypass")
            tools += page.tools
            if page.next_cursor is None:
                return tools
            if len(tools) > MAX_TOOLS or page.next_cursor == cursor:
                raise CallFailed(f"the server's list of tools has no end: {len(tools)} were read")
            cursor = page.next_cursor

    async def _call_tool(self, name: str, arguments: dict[str, JsonValue]) -> ToolResult:
        # Not ``Client.call_tool``: it holds the answer against the server's own JSON Schema, whose regular expressions
        # a hostile server chooses, and throws away what does not fit.
        state: str | None = None
        while True:
            params = CallToolRequestParams(name=name, arguments=arguments, request_state=state)
            answer = await self._client.session.send_request(CallToolRequest(params=params), _ANSWER)
            if isinstance(answer, CallToolResult):
                return answer
            if answer.input_requests:
                raise CallFailed("the tool asks for input in the middle of the call, which is not supported here")
            state = answer.request_state
            await asyncio.sleep(ROUND_PAUSE_S)

    async def _ask(self, what: str, question: Awaitable[T], timeout_s: float) -> T:
        try:
            async with asyncio.timeout(timeout_s):
                return await question
        except TimeoutError:
            raise CallTimedOut(f"no answer to {what} within {timeout_s:g} s; it may have run, or still run") from None
        except MCPError as exc:
            if exc.code == CONNECTION_CLOSED and (self.over or exc.message == "Connection closed"):  # the SDK's words
                raise CallInterrupted(f"no answer to {what}, which may have run: {self.end}") from exc
            raise CallRefused(exc.code, redacted(exc.message, self._env), exc.data) from exc
        except ValidationError as exc:
            fault = exc.errors(include_input=False, include_url=False)[0]
            where = ".".join(map(str, fault["loc"]))
            raise CallFailed(f"the answer to {what} is not what MCP defines: {where}: {fault['msg']}") from exc
