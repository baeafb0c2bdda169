"""MCP sessions of the official SDK over a server's stdio. Needs the extra ``[mcp]``.

    async with mcp_session(proxy, "time", request=StartRequest(image="mcp/time")) as session:
        result = await session.call_tool("get_current_time", {"timezone": "UTC"})

``session`` is the SDK's own ``Client``, which finds out by itself which protocol era the server speaks (2025-11-25 and
earlier with a handshake, 2026-07-28 without). For the SDK's further options (sampling, elicitation, roots …) make the
``Client`` yourself: ``Client(stdio_transport(stream), …)``, where ``stream`` comes from ``proxy.stdio(name)``.

When the server ends, the SDK alone says "Connection closed". Here the transport answers every request that waits, and
every later one, with an error that tells exit code and stderr, and the block of ``mcp_session`` is left with the typed
error, such as ``ServerExited``.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from typing import cast

import anyio
import mcp_types as types
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.client import Client, IncomingMessage
from mcp.shared.exceptions import MCPError
from mcp.shared.message import SessionMessage

from doogie_client.client import ProxyClient
from doogie_client.errors import DoogieError, ServerExited, StdioClosed
from doogie_client.stdio import MAX_LINE_BYTES, StdioStream
from doogie_contract.models import StartRequest

FLUSH_TIMEOUT_S = 0.5
"""How long a session that ends waits until its last message is written; the SDK's ``stdio_client`` waits as long."""

ToSession = MemoryObjectSendStream[SessionMessage | Exception]
FromSession = MemoryObjectReceiveStream[SessionMessage]
TransportStreams = tuple[MemoryObjectReceiveStream[SessionMessage | Exception], MemoryObjectSendStream[SessionMessage]]


class McpSession(Client):
    """The SDK's ``Client`` of one attached server, which also knows how that server ended."""

    def __init__(self, stream: StdioStream, *, mode: str = "auto", read_timeout_s: float | None = None) -> None:
        super().__init__(
            stdio_transport(stream), mode=mode, read_timeout_seconds=read_timeout_s, message_handler=self._hear
        )
        self._stream = stream
        self._ended = anyio.Event()

    @property
    def end(self) -> DoogieError | None:
        """How the server's stdio ended, None while it lives; tells an ``MCPError`` of the server from its death."""
        return self._stream.end

    async def wait_end(self) -> None:
        """Return once the server's stdio has ended; ``end`` says how. Until then nobody need ask it anything."""
        await self._ended.wait()

    async def _hear(self, message: IncomingMessage) -> None:
        if isinstance(message, DoogieError):  # the transport's last one
            self._ended.set()


@asynccontextmanager
async def mcp_session(
    proxy: ProxyClient,
    name: str,
    *,
    request: StartRequest | None = None,
    takeover: bool = False,
    mode: str = "auto",
    read_timeout_s: float | None = None,
) -> AsyncIterator[McpSession]:
    """An initialised MCP session with the server ``name``.

    With ``request``, in a container of its own: whatever runs as ``name`` is stopped, a fresh container is started,
    and it is stopped when the block is left. This is what MCP's stdio transport means by a session.

    Without ``request``, with the container that runs. The server's process then keeps what earlier sessions left: its
    protocol era and log level, and replies that a session did not wait for, which this session may take for
    replies to its own requests, because each session numbers them from the beginning. Fine for one call by hand.

    Args:
        proxy: an open client.
        name: the server's name.
        request: what to start; None to attach to what runs.
        takeover: take the stream from whoever is attached.
        mode: ``"auto"``, ``"legacy"`` or a protocol revision, as the SDK's ``Client`` takes it.
        read_timeout_s: the longest wait for a reply; None: no limit. A dead server is noticed in any case.

    Raises:
        StdioClosed, ProxyUnavailable: the server or the way to it ended, and a request failed because of it.
        ProblemResponse: as ``ProxyClient.start`` and ``ProxyClient.stdio``.
        MCPError: the server answered a request with an error.
    """
    async with AsyncExitStack() as stack:
        if request is not None:
            await stack.enter_async_context(_own_container(proxy, name, request))
        stream = await stack.enter_async_context(proxy.stdio(name, takeover=takeover))
        failure: Exception | None = None
        async with AsyncExitStack() as sdk:
            try:
                session = McpSession(stream, mode=mode, read_timeout_s=read_timeout_s)
                with _single_error():
                    await sdk.enter_async_context(session)
                yield session
            except Exception as exc:  # noqa: BLE001 - raised again below, where no task group of the SDK wraps it
                failure = exc
        if isinstance(failure, MCPError) and stream.end is not None:
            raise stream.end from failure
        if failure is not None:
            raise failure


@asynccontextmanager
async def stdio_transport(
    stream: StdioStream, *, max_line_bytes: int = MAX_LINE_BYTES
) -> AsyncGenerator[TransportStreams, None]:
    """The SDK's transport (``mcp.client.Transport``) over an attached stream, as its own ``stdio_client`` is one.

    One JSON-RPC message per line. A line that is not one is handed to the session as the error it is, and so is the
    end of the stream; both reach the session's ``message_handler``.
    """
    to_session, read_stream = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    write_stream, from_session = anyio.create_memory_object_stream[SessionMessage](0)
    pump = _Pump(stream, to_session, from_session, max_line_bytes)
    with to_session, read_stream, write_stream, from_session:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pump.server_to_session)
            tasks.start_soon(pump.session_to_server)
            try:
                yield read_stream, write_stream
            finally:
                write_stream.close()
                with anyio.move_on_after(FLUSH_TIMEOUT_S, shield=True):
                    await pump.flushed.wait()
                tasks.cancel_scope.cancel()


class _Pump:
    """Both directions of a transport, and the answers to requests that the server can no longer answer."""

    def __init__(
        self, stream: StdioStream, to_session: ToSession, from_session: FromSession, max_line_bytes: int
    ) -> None:
        self._stream = stream
        self._to_session = to_session
        self._from_session = from_session
        self._max_line_bytes = max_line_bytes
        self._waiting: set[types.RequestId] = set()
        self._end: DoogieError | None = None
        self.flushed = anyio.Event()

    async def server_to_session(self) -> None:
        """Deliver what the server says, then how it ended."""
        try:
            try:
                async with aclosing(self._stream.lines(max_bytes=self._max_line_bytes)) as lines:
                    async for line in lines:
                        await self._to_session.send(self._parse(line))
                self._end = self._stream.end or StdioClosed("the stream ended")
            except DoogieError as exc:
                self._end = exc
            waiting, self._waiting = self._waiting, set()
            for request_id in waiting:
                await self._to_session.send(_no_answer(request_id, self._end))
            await self._to_session.send(self._end)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            return  # the session is gone, nobody waits for anything

    async def session_to_server(self) -> None:
        """Write what the session says, or answer it when nobody else can."""
        try:
            async for item in self._from_session:
                request_id = item.message.id if isinstance(item.message, types.JSONRPCRequest) else None
                if self._end is None:
                    if request_id is not None:
                        self._waiting.add(request_id)
                    await self._write(item.message)
                elif request_id is not None:
                    await self._to_session.send(_no_answer(request_id, self._end))
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            return  # as above
        finally:
            self.flushed.set()

    def _parse(self, line: bytes) -> SessionMessage | Exception:
        try:
            message = types.jsonrpc_message_adapter.validate_json(line, by_name=False)
        except ValueError as exc:
            return exc
        if isinstance(message, types.JSONRPCResponse | types.JSONRPCError) and message.id is not None:
            self._waiting.discard(message.id)
        return SessionMessage(message)

    async def _write(self, message: types.JSONRPCMessage) -> None:
        line = message.model_dump_json(by_alias=True, exclude_unset=True) + "\n"
        try:
            await self._stream.write(line.encode())
        except DoogieError:
            return  # reading comes to the same end, knows why, and answers what waits


def _no_answer(request_id: types.RequestId, end: DoogieError) -> SessionMessage:
    """The JSON-RPC error in place of a server's answer; its data is for programs that relay it."""
    data: dict[str, str | int | None] = {"end": type(end).__name__}
    if isinstance(end, ServerExited):
        data |= {"exit_code": end.code, "signal": end.signal, "stderr_tail": end.stderr_tail}
    error = types.ErrorData(code=types.CONNECTION_CLOSED, message=str(end), data=data)
    return SessionMessage(types.JSONRPCError(jsonrpc="2.0", id=request_id, error=error))


@asynccontextmanager
async def _own_container(proxy: ProxyClient, name: str, request: StartRequest) -> AsyncIterator[None]:
    """A fresh container for the block. A request the policy denies raises before anything is stopped."""
    await proxy.admit(name, request)
    try:
        await proxy.stop(name)
        await proxy.start(name, request)
        yield
    finally:
        # Also when start was cancelled or timed out: the proxy may have started it all the same.
        with anyio.CancelScope(shield=True):
            await proxy.stop(name)


@contextmanager
def _single_error() -> Iterator[None]:
    """Raise the one error in the exception groups that the SDK's task groups make of a failed handshake."""
    try:
        yield
    except ExceptionGroup as group:
        error: Exception = group
        while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
            error = cast("Exception", error.exceptions[0])
        raise error from error.__cause__
