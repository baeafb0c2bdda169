"""One WebSocket at one server's stdio: the two subprotocols, in both directions.

    client ──► receive ──► codec.accept ──► hub.write      the next message is read when the engine took this one
    client ◄── send    ◄── codec.next   ◄── hub.stdout     bytes leave the buffer when the WebSocket took them

A session ends with a close code of ``doogie_contract.channels.CloseCode``; the server runs on.
"""

import asyncio
from contextlib import suppress
from typing import Protocol

from aiohttp import WSMsgType, web

from doogie_contract import channels
from doogie_contract.channels import Channel, ChannelError, CloseCode
from doogie_contract.models import ServerExit
from doogie_proxy.engine import EngineUnavailable
from doogie_proxy.stdio import Seat, StdioHub

OUTPUT_CHUNK_BYTES = 256 * 1024
"""The most stdout in one WebSocket message of ``v5.channel.k8s.io``."""


class _CloseSession(Exception):  # noqa: N818  # carries a close code, often a good one
    """Ends the session with a close code and a reason of at most 123 bytes (RFC 6455 section 5.5)."""

    def __init__(self, code: CloseCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Codec(Protocol):
    """How one subprotocol carries stdio."""

    in_flight: int
    """How much stdout the message holds that the WebSocket has, and that waits for room; 0 when none does."""

    async def accept(self, hub: StdioHub, message: bytes | str) -> None:
        """Act on one message of the client."""

    async def send_next(self, hub: StdioHub, ws: web.WebSocketResponse) -> bool:
        """Send some waiting output; False when nothing can be sent now."""

    async def send_exit(self, exit_: ServerExit, ws: web.WebSocketResponse) -> None:
        """Say how the server ended, where the subprotocol can."""


class ChannelCodec:
    """``v5.channel.k8s.io``: a channel byte, then raw bytes."""

    in_flight = 0

    async def accept(self, hub: StdioHub, message: bytes | str) -> None:
        """See ``Codec``."""
        if isinstance(message, str):
            raise _CloseSession(CloseCode.UNSUPPORTED_DATA, "messages are binary: the first byte is the channel")
        try:
            channel, payload = channels.decode(message)
        except ChannelError as exc:
            raise _CloseSession(CloseCode.INVALID_DATA, str(exc)) from None
        match channel:
            case Channel.STDIN:
                await hub.write(payload)
            case Channel.RESIZE:
                pass  # there is no terminal
            case Channel.CLOSE if bytes(payload) == bytes([Channel.STDIN]):
                if not hub.can_half_close:
                    raise _CloseSession(
                        CloseCode.HALF_CLOSE_UNAVAILABLE, "EOF exists only under a rule with replay: none; use stop"
                    )
                hub.close_stdin()
            case _:
                raise _CloseSession(CloseCode.INVALID_DATA, f"channel {int(channel)} is not for clients to write")

    async def send_next(self, hub: StdioHub, ws: web.WebSocketResponse) -> bool:
        """See ``Codec``."""
        sent = False
        if stderr := hub.stderr.since(hub.stderr_taken):
            end = hub.stderr.end
            await ws.send_bytes(channels.encode(Channel.STDERR, stderr))
            hub.stderr_taken = end
            sent = True
        if stdout := hub.stdout.peek(OUTPUT_CHUNK_BYTES):
            self.in_flight = len(stdout)
            await ws.send_bytes(channels.encode(Channel.STDOUT, stdout))
            self.in_flight = 0
            hub.consume_stdout(len(stdout))
            sent = True
        return sent

    async def send_exit(self, exit_: ServerExit, ws: web.WebSocketResponse) -> None:
        """See ``Codec``."""
        await ws.send_bytes(channels.encode_exit_status(exit_.code, exit_message(exit_)))


class McpCodec:
    """``mcp``: one JSON-RPC message per text frame, which is one line of stdio without its newline."""

    in_flight = 0

    async def accept(self, hub: StdioHub, message: bytes | str) -> None:
        """See ``Codec``."""
        if isinstance(message, bytes):
            raise _CloseSession(CloseCode.UNSUPPORTED_DATA, "messages are text: one JSON-RPC message each")
        if "\n" in message:
            raise _CloseSession(CloseCode.INVALID_DATA, "a message must not contain a newline")
        await hub.write(message.encode() + b"\n")

    async def send_next(self, hub: StdioHub, ws: web.WebSocketResponse) -> bool:
        """See ``Codec``."""
        if rest := hub.stdout.rest_of_line():
            hub.consume_stdout(rest)
            return True
        line = hub.stdout.peek_line()
        if (length := len(hub.stdout if line is None else line)) > hub.max_message_bytes:
            # Taken, whole or as far as it came, so that the next session does not fail on the same line.
            hub.consume_stdout(length if line is None else length + 1)
            raise _CloseSession(
                CloseCode.MESSAGE_TOO_BIG, f"a line of stdout exceeds the rule's max_message ({hub.max_message_bytes})"
            )
        if line is None:
            return False
        try:
            text = line.decode()
        except UnicodeDecodeError:
            hub.consume_stdout(len(line) + 1)
            raise _CloseSession(CloseCode.INVALID_DATA, "a line of stdout is not UTF-8") from None
        self.in_flight = len(line) + 1
        await ws.send_str(text)
        self.in_flight = 0
        hub.consume_stdout(len(line) + 1)
        return True

    async def send_exit(self, exit_: ServerExit, ws: web.WebSocketResponse) -> None:
        """The close code says it."""


CODECS: dict[str, type[ChannelCodec] | type[McpCodec]] = {
    channels.SUBPROTOCOL_CHANNEL: ChannelCodec,
    channels.SUBPROTOCOL_MCP: McpCodec,
}


class Session(Seat):
    """A client at a hub's seat, over an upgraded WebSocket.

    Args:
        hub: of the server.
        codec: of the subprotocol that was agreed on.
        close_timeout_s: for the closing handshake; after it the connection is cut.
    """

    def __init__(self, hub: StdioHub, codec: Codec, *, close_timeout_s: float) -> None:
        super().__init__()
        self._hub = hub
        self._codec = codec
        self._close_timeout_s = close_timeout_s
        self.code = CloseCode.ABNORMAL
        """How the session ended."""

    async def run(self, ws: web.WebSocketResponse) -> None:
        """Carry stdio until the client leaves, the server ends, or the session is evicted; ``code`` says which."""
        sending = asyncio.create_task(self._send(ws), name="stdio send")
        tasks = {
            sending,
            asyncio.create_task(self._receive(ws), name="stdio receive"),
            asyncio.create_task(self._until_evicted(), name="stdio evicted"),
        }
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        ending = done.pop().result()
        self.code = ending.code
        if sending.cancelled():  # what it waited with comes before the close: this client's, not the next one's too
            self._hub.consume_stdout(self._codec.in_flight)
        self._hub.leave_seat(self)  # before the handshake: a client that does not read must not hold it
        try:
            async with asyncio.timeout(self._close_timeout_s):
                await ws.close(code=ending.code, message=ending.reason.encode())
        except (TimeoutError, OSError):
            pass  # it does not read: the caller cuts the connection

    async def _receive(self, ws: web.WebSocketResponse) -> _CloseSession:
        try:
            async for message in ws:
                if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                    break
                # Nobody reads stdin any more. If that is the server's end, or the engine's, the sending side tells it.
                with suppress(EngineUnavailable):
                    await self._codec.accept(self._hub, message.data)
        except _CloseSession as ending:
            return ending
        return _CloseSession(CloseCode.NORMAL, "detached")

    async def _send(self, ws: web.WebSocketResponse) -> _CloseSession:
        hub = self._hub
        try:
            while True:
                if await self._codec.send_next(hub, ws):
                    continue
                if hub.exit is None or hub.running:
                    await hub.changed()
                else:
                    await self._codec.send_exit(hub.exit, ws)
                    code = CloseCode.NORMAL if hub.exit.code == 0 else CloseCode.EXITED_NON_ZERO
                    return _CloseSession(code, exit_message(hub.exit))
        except _CloseSession as ending:
            return ending
        except OSError:
            return _CloseSession(CloseCode.NORMAL, "the client is gone")

    async def _until_evicted(self) -> _CloseSession:
        return _CloseSession(*await self.evicted)


def exit_message(exit_: ServerExit) -> str:
    """One line for people: how the server ended."""
    how = f"signal {exit_.signal}" if exit_.signal else "unknown code" if exit_.code is None else f"code {exit_.code}"
    return f"the server ended: {exit_.reason.value}, {how}"
