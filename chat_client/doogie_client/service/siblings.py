"""Calls among the worker processes of one host: one of them has a server's session, the others call through it.

    sibling                                   owner
    RemoteSession.call_tool ── HTTP over its unix socket ──► Siblings ──► Session.call_tool

JSON over HTTP/1.1, a connection for each call: a call that could not connect was not sent, and one whose connection
breaks may have run. A sibling that cancels closes its connection, and the owner cancels the call.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import aiohttp
from aiohttp import web
from mcp_types import Tool
from pydantic import BaseModel, ConfigDict, JsonValue

from doogie_client.service.errors import CallFailed, CallInterrupted, CallRefused, CallTimedOut, ServiceError
from doogie_client.service.session import Session, ToolResult

CONNECT_TIMEOUT_S = 5.0
GRACE_S = 15.0
"""How much longer than the call's own time-out a sibling waits: the owner says first that it is over."""
SHUTDOWN_TIMEOUT_S = 5.0

FAILURES: dict[str, type[CallFailed]] = {
    cls.__name__: cls for cls in (CallFailed, CallRefused, CallTimedOut, CallInterrupted)
}


class NotServed(ServiceError):  # noqa: N818 - says what happened, as the others do
    """The process at the other end does not have the session, or is no more: nothing was sent. Never leaves here."""


class Call(BaseModel):
    """What a sibling asks: ``tools/call``, or ``tools/list`` where ``tool`` is None."""

    model_config = ConfigDict(frozen=True)

    config_id: str
    tool: str | None = None
    arguments: dict[str, JsonValue] = {}
    timeout_s: float


class Failure(BaseModel):
    """A ``CallFailed`` by the name of its class."""

    model_config = ConfigDict(frozen=True)

    kind: str
    message: str
    code: int | None = None
    data: JsonValue = None

    @classmethod
    def of(cls, exc: CallFailed) -> Self:
        """As it is sent."""
        if isinstance(exc, CallRefused):
            return cls(kind=type(exc).__name__, message=exc.message, code=exc.code, data=exc.data)
        return cls(kind=type(exc).__name__, message=str(exc))

    def to_error(self) -> CallFailed:
        """As it is raised."""
        if self.code is not None:
            return CallRefused(self.code, self.message, self.data)
        return FAILURES.get(self.kind, CallFailed)(self.message)


class Answer(BaseModel):
    """One of the three."""

    model_config = ConfigDict(frozen=True)

    tools: list[Tool] | None = None
    result: ToolResult | None = None
    failure: Failure | None = None


class Siblings:
    """What this process serves its siblings. ``async with``; it listens within.

    Args:
        socket: where, in a directory that is this user's alone.
        session_of: the open session of a configuration, if this process has it.
    """

    def __init__(self, socket: Path, session_of: Callable[[str], Session | None]) -> None:
        self._socket = socket
        self._session_of = session_of
        app = web.Application(client_max_size=0)  # no limit: who may connect is this user
        app.router.add_get("/sessions/{config_id}", self._has)
        app.router.add_post("/call", self._call)
        self._runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=SHUTDOWN_TIMEOUT_S
        )

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.UnixSite(self._runner, str(self._socket)).start()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    async def _has(self, request: web.Request) -> web.Response:
        found = self._session_of(request.match_info["config_id"]) is not None
        return web.Response(status=204 if found else 404)

    async def _call(self, request: web.Request) -> web.Response:
        call = Call.model_validate_json(await request.read())
        session = self._session_of(call.config_id)
        if session is None:
            raise web.HTTPNotFound
        try:
            answer = await _answer(session, call)
        except CallFailed as exc:
            answer = Answer(failure=Failure.of(exc))
        body = answer.model_dump_json(by_alias=True, exclude_unset=True).encode()
        return web.Response(body=body, content_type="application/json")


async def _answer(session: Session, call: Call) -> Answer:
    if call.tool is None:
        return Answer(tools=await session.list_tools(timeout_s=call.timeout_s))
    return Answer(result=await session.call_tool(call.tool, call.arguments, timeout_s=call.timeout_s))


class RemoteSession:
    """A session that another process of this host has. A ``Caller``; every call may raise ``NotServed``."""

    def __init__(self, socket: Path, config_id: str) -> None:
        self._socket = socket
        self._config_id = config_id

    async def is_served(self) -> bool:
        """Whether the process is there and has the session."""
        timeout = aiohttp.ClientTimeout(total=CONNECT_TIMEOUT_S)
        try:
            async with (
                self._connect(timeout) as http,
                http.get(f"/sessions/{quote(self._config_id, safe='')}") as answer,
            ):
                return answer.status == web.HTTPNoContent.status_code
        except (aiohttp.ClientError, OSError):  # TimeoutError is one
            return False

    async def list_tools(self, *, timeout_s: float) -> list[Tool]:
        """As ``Session.list_tools``."""
        return (await self._ask(Call(config_id=self._config_id, timeout_s=timeout_s))).tools or []

    async def call_tool(self, name: str, arguments: Mapping[str, JsonValue], *, timeout_s: float) -> ToolResult:
        """As ``Session.call_tool``."""
        call = Call(config_id=self._config_id, tool=name, arguments=dict(arguments), timeout_s=timeout_s)
        result = (await self._ask(call)).result
        if result is None:
            raise CallFailed("the process that has the session answered something else than what it was asked")
        return result

    def _connect(self, timeout: aiohttp.ClientTimeout) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            "http://sibling", connector=aiohttp.UnixConnector(str(self._socket)), timeout=timeout
        )

    async def _ask(self, call: Call) -> Answer:
        timeout = aiohttp.ClientTimeout(total=call.timeout_s + GRACE_S, sock_connect=CONNECT_TIMEOUT_S)
        try:
            async with (
                self._connect(timeout) as http,
                http.post("/call", data=call.model_dump_json().encode()) as response,
            ):
                if response.status == web.HTTPNotFound.status_code:
                    raise NotServed("the process does not have the session")
                response.raise_for_status()
                answer = Answer.model_validate_json(await response.read())
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as exc:
            raise NotServed("the process is no more") from exc
        except TimeoutError:
            raise CallTimedOut(f"no answer within {call.timeout_s:g} s; the call may have run, or still run") from None
        except (aiohttp.ClientError, OSError) as exc:
            raise CallInterrupted(
                "the process that had the session ended before the answer came; the call may have run"
            ) from exc
        if answer.failure is not None:
            raise answer.failure.to_error()
        return answer
