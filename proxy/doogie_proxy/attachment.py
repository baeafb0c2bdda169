"""The engine's attach streams: raw bytes to and from one container, on a connection of their own.

Opened by hand, because aiodocker's ``Stream`` cannot half-close, hides what it has buffered and inspects the container
on each attach. Only ``engine.py`` opens one; from there on bytes take no other way.
"""

import asyncio
from typing import Self

from doogie_proxy.engine_failures import EngineUnavailable
from doogie_proxy.multiplexed import Demultiplexer

READ_BYTES = 256 * 1024
"""The most that one read takes from an attach stream."""


class AttachRefusedError(Exception):
    """The engine answered the upgrade with another status."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status = status
        self.message = line


class Attachment:
    """One stream of one container: written (stdin) or read (stdout, stderr). Raw bytes either way."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._demultiplexer = Demultiplexer()

    @classmethod
    async def open(cls, socket_path: str, target: str) -> Self:
        """Ask for a stream and keep its connection (Docker Engine API, ``POST /containers/{id}/attach``).

        Raises:
            AttachRefusedError: it is not given.
            OSError, asyncio.IncompleteReadError, ValueError: the connection broke, or what came is no answer.
        """
        reader, writer = await asyncio.open_unix_connection(socket_path, limit=READ_BYTES)
        try:
            writer.write(
                f"POST {target} HTTP/1.1\r\nHost: docker\r\n"
                "Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n".encode()
            )
            _expect_stream((await reader.readuntil(b"\r\n\r\n")).decode("latin-1"))
        except BaseException:
            writer.close()
            raise
        return cls(reader, writer)

    async def read(self) -> list[memoryview]:
        """The next payload pieces; empty at the end of the stream, however it came about."""
        while True:
            try:
                data = await self._reader.read(READ_BYTES)
            except OSError:
                return []
            if not data:
                return []
            if pieces := self._demultiplexer.feed(data):
                return pieces

    async def write(self, data: bytes | memoryview) -> None:
        """Hand bytes to the engine; returns when the socket's buffer has room again.

        Raises:
            EngineUnavailable: the attachment is gone.
        """
        try:
            await self._writer.drain()  # a write that was cancelled may have left the buffer full
            self._writer.write(data)
            await self._writer.drain()
        except (OSError, RuntimeError) as exc:
            raise EngineUnavailable(f"stdin attachment: {exc!r}") from exc

    def write_eof(self) -> None:
        """Half-close: EOF for the container's stdin where ``StdinOnce`` is set."""
        if not self._writer.is_closing():
            self._writer.write_eof()

    def close(self) -> None:
        """End the attachment; the container is not told."""
        self._writer.close()


def _expect_stream(head: str) -> None:
    """Nothing, when this is the beginning of a hijacked connection."""
    status = int(head.split(" ", 2)[1])
    if status not in (101, 200):
        raise AttachRefusedError(status, head.splitlines()[0])
