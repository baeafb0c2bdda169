"""A server's stdio as a stream: bytes in, bytes out, over the ``v5.channel.k8s.io`` WebSocket.

    write(data) ──► channel 0 ─┐                 ┌─ channel 1 ──► read(), lines()
    close_stdin() ► channel 255 ┼── WebSocket ──┼─ channel 2 ──► stderr_tail     (both: receive())
                                └────────────────┴─ channel 3 ──► exit

There is no queue in here: a read pulls from the WebSocket, and a caller who does not read makes the
proxy stop reading, which makes the server block on a full pipe. Writes return when the transport has taken the bytes.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress

import aiohttp

from doogie_client.errors import (
    DoogieError,
    MessageTooLarge,
    ProtocolError,
    ProxyUnavailable,
    ServerExited,
    StdioClosed,
    foreign_errors,
    stdio_closed,
)
from doogie_contract.channels import (
    Channel,
    ChannelError,
    CloseCode,
    ExitStatus,
    Frame,
    decode,
    decode_exit_status,
    encode,
    encode_close,
)

WRITE_CHUNK_BYTES = 64 * 1024
"""Longer writes are split: stdin is a byte stream, and small frames keep both sides' buffers small."""

STDERR_TAIL_BYTES = 4096
"""How much of stderr is kept for ``ServerExited``; the contract's own bound on ``ServerExit.stderr_tail``."""

DETACH_TIMEOUT_S = 5.0
"""How long a detach waits for the answer to its close frame, before it drops the connection."""

MAX_LINE_BYTES = 64 * 1024 * 1024
"""Default bound on one line in ``StdioStream.lines``: what a hostile server can make this side hold."""


class StdioStream:
    """An attached stdio; made by ``ProxyClient.stdio``. One reader and one writer may use it at the same time.

    The end. When the container exits, with whatever code, reading ends as on a pipe (``b""``), ``exit`` says how, and
    writing raises ``ServerExited``. Any other end (taken over, proxy restarting, connection lost …) raises its error
    from every call. Closing this side detaches; the container keeps running.

    Cancelling a read loses nothing. Cancelling a write of more than 64 KiB may leave a part of it written.
    """

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, where: str) -> None:
        self._socket = socket
        self._where = where
        self._stderr = bytearray()
        self._exit: ExitStatus | None = None
        self._end: DoogieError | None = None

    @property
    def exit(self) -> ExitStatus | None:
        """Exit code and message, once reading has come to the container's end; None before and for other ends."""
        return self._exit

    @property
    def stderr_tail(self) -> str:
        """The last stderr output seen by reads, at most 4 KiB, decoded as UTF-8 with replacement."""
        return self._stderr.decode(errors="replace")

    @property
    def end(self) -> DoogieError | None:
        """How the stream ended, once reading has come there; ``ServerExited`` for an exit with any code."""
        return self._end

    async def receive(self) -> Frame | None:
        """The next piece of stdout or stderr, in the order the proxy sent them; None when the container has exited.

        Raises:
            StdioClosed: another end than the container's exit.
            ProxyUnavailable: the connection was lost.
            ProtocolError: a message that is not of the framing.
        """
        while self._end is None:
            with foreign_errors(self._where):
                message = await self._socket.receive()
            try:
                if (frame := self._take(message)) is not None:
                    return frame
            except ChannelError as exc:
                self._end = ProtocolError(f"{self._where} broke the stdio framing: {exc}")
        if isinstance(self._end, ServerExited):
            return None
        raise self._end

    async def read(self) -> bytes:
        """The next piece of stdout, of any length; ``b""`` when the container has exited. Raises as ``receive``."""
        while (frame := await self.receive()) is not None:
            if frame.channel is Channel.STDOUT and frame.payload:
                return bytes(frame.payload)
        return b""

    async def lines(self, *, max_bytes: int = MAX_LINE_BYTES) -> AsyncGenerator[bytes, None]:
        r"""Stdout line by line, without the ``\n``; a last line without ``\n`` counts. Linear in the bytes read.

        One iteration takes stdout over: what it has read ahead is lost to other reads.

        Raises:
            MessageTooLarge: a line is longer than ``max_bytes``; that is the stream's end.
        """
        splitter = LineSplitter(max_bytes)
        while chunk := await self.read():
            try:
                lines = splitter.feed(chunk)
            except MessageTooLarge as exc:
                self._end = exc
                raise
            for line in lines:
                yield line
        if rest := splitter.finish():
            yield rest

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send ``data`` to stdin; waits while the proxy does not take it (the server does not read).

        Raises:
            ServerExited: the container is gone.
            StdioClosed, ProxyUnavailable: as ``receive``. When nothing has read up to the end yet, a plain
                ``StdioClosed``; reading on tells why.
        """
        view = memoryview(data).cast("B")
        for start in range(0, len(view), WRITE_CHUNK_BYTES):
            await self._send(encode(Channel.STDIN, view[start : start + WRITE_CHUNK_BYTES]))

    async def close_stdin(self) -> None:
        """End-of-file for the server; reading goes on.

        Only a server under a rule with ``replay: none`` can see it. Under another rule the proxy ends the stream:
        the next read raises ``HalfCloseUnavailable``.
        """
        await self._send(encode_close(Channel.STDIN))

    async def aclose(self) -> None:
        """Detach. The container keeps running, and its output waits in the proxy for the next attach.

        What this side has received and not read is lost with it: read first what matters.
        """
        if self._end is None:
            self._end = StdioClosed("the stream was closed on this side")
        with suppress(TimeoutError):
            async with asyncio.timeout(DETACH_TIMEOUT_S):
                await self._socket.close(code=CloseCode.NORMAL)

    async def _send(self, message: bytes) -> None:
        if self._socket.closed or self._end is not None:
            raise self._why_closed()
        try:
            with foreign_errors(self._where):
                # aiohttp has all senders wait for one future, and would cancel it with this one: the next write, and
                # the detach, would end in a CancelledError that nobody asked for. Since
                # https://github.com/aio-libs/aiohttp/pull/12307, which takes a connection to have one task.
                await asyncio.shield(asyncio.ensure_future(self._socket.send_bytes(message)))
        except ProxyUnavailable as exc:
            raise self._why_closed() from exc

    def _why_closed(self) -> DoogieError:
        """The end as far as it is known: the close frame that gives the reason may still wait to be read."""
        return self._end or StdioClosed("the stream has ended; reading on tells why")

    def _take(self, message: aiohttp.WSMessage) -> Frame | None:
        """Account for one WebSocket message; a frame for the reader, None when there is none in it."""
        if message.type is aiohttp.WSMsgType.BINARY:
            frame = decode(message.data)
            if frame.channel is Channel.STDERR:
                self._stderr += frame.payload[-STDERR_TAIL_BYTES:]
                del self._stderr[:-STDERR_TAIL_BYTES]
            elif frame.channel is Channel.STATUS:
                self._exit = decode_exit_status(frame.payload)
                return None
            elif frame.channel is not Channel.STDOUT:
                raise ChannelError(f"channel {frame.channel.name} does not come from a proxy")
            return frame
        if message.type is aiohttp.WSMsgType.TEXT:
            raise ChannelError("a text message")
        if self._exit is not None:
            self._end = ServerExited(self._exit.code, self._exit.message, self.stderr_tail)
        elif message.type is aiohttp.WSMsgType.CLOSE:
            self._end = stdio_closed(message.data, message.extra or "", self.stderr_tail)
            if isinstance(self._end, ServerExited):
                self._exit = ExitStatus(None, self._end.message)
        else:  # CLOSED or ERROR: no close frame came
            self._end = ProxyUnavailable(f"the connection to the proxy at {self._where} was lost")
        return None


class LineSplitter:
    r"""Cuts a byte stream at ``\n``. Pure; searches each byte once, and holds at most ``max_bytes`` and one feed."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        r"""The lines that ``data`` completes, without their ``\n``.

        Raises:
            MessageTooLarge: a line, complete or not, is longer than ``max_bytes``.
        """
        first, *more = data.split(b"\n")
        self._held += first
        lines = []
        if more:
            lines = [self.finish(), *more[:-1]]
            self._held += more[-1]
        if max(len(self._held), *map(len, lines), 0) > self._max_bytes:
            raise MessageTooLarge(f"a line of the server's output is longer than {self._max_bytes} bytes")
        return lines

    def finish(self) -> bytes:
        r"""What has come since the last ``\n``; it is forgotten."""
        rest, self._held = bytes(self._held), bytearray()
        return rest
