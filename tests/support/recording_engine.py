"""A pass-through unix socket in front of the real engine that keeps every request the proxy makes."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self


@dataclass(frozen=True)
class EngineRequest:
    """One request as the engine got it; ``path`` without the API version, ``body`` parsed."""

    method: str
    path: str
    body: Any


class RecordingEngine:
    """``async with RecordingEngine(listen_on, real_socket) as recorder``: every byte passes both ways.

    ``replace`` is the one exception: it exchanges bytes in the engine's answers for others of the same length.
    """

    def __init__(self, path: Path, engine_socket: str, *, replace: tuple[bytes, bytes] | None = None) -> None:
        self.path = path
        self._replace = replace
        self._flowing = asyncio.Event()
        self._stall_before = self._stall_after = ""
        self._flowing.set()
        self.requests: list[EngineRequest] = []
        self.streams = 0
        """How many of the open connections carry a container's stdio."""
        self._engine_socket = engine_socket
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._accept, self.path)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.close()
        self.cut()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._server.wait_closed()
        self.path.unlink(missing_ok=True)

    def stall(self, *, before: str = "", after: str = "") -> None:
        """Let nothing through any more; connections stay open, as with an engine that hangs.

        With ``before``, from the next request on whose path contains it; with ``after``, that one is let through yet.
        """
        self._stall_before, self._stall_after = before, after
        if not before and not after:
            self._flowing.clear()

    def resume(self) -> None:
        """Let everything through again, and first what has waited."""
        self._stall_before = self._stall_after = ""
        self._flowing.set()

    def cut(self) -> None:
        """Break all connections, and with them what has not been let through; new ones are accepted."""
        for writer in self._writers:
            writer.transport.abort()

    @property
    def connections(self) -> int:
        """How many connections of the proxy are open."""
        return len(self._writers) // 2

    def about_containers(self) -> list[EngineRequest]:
        """What was asked of the engine that could change something, in order."""
        return [request for request in self.requests if request.method != "GET"]

    @contextmanager
    def silence(self) -> Iterator[None]:
        """Fail when the engine is asked anything meanwhile, however harmless. For a proxy that does not sweep."""
        before = len(self.requests)
        yield
        if asked := self.requests[before:]:
            raise AssertionError(f"the engine was asked: {asked}")

    def creates(self) -> list[EngineRequest]:
        """The container creations."""
        return [request for request in self.requests if request.path.startswith("/containers/create")]

    def for_clients(self) -> list[EngineRequest]:
        """All that was asked of the engine, but for what the proxy asks of its own accord, whoever calls it."""
        own = ("/version", "/info", "/events", "/containers/json")
        return [request for request in self.requests if request.method != "GET" or not request.path.startswith(own)]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a connection is always handled in a task")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        engine_reader, engine_writer = await asyncio.open_unix_connection(self._engine_socket)
        pair = {writer, engine_writer}
        self._writers |= pair
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._requests(reader, engine_writer))
                group.create_task(self._copy(engine_reader, writer, self._replace))
        except* OSError:
            pass  # either side went away: so does the other
        finally:
            self._writers -= pair
            for one in pair:
                one.close()

    async def _requests(self, reader: asyncio.StreamReader, engine: asyncio.StreamWriter) -> None:
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                break
            lines = head.decode("latin-1").split("\r\n")
            method, target, _ = lines[0].split(" ")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            path = "/" + target.split("/", 2)[2] if target.startswith("/v1.") else target
            self.requests.append(EngineRequest(method, path, json.loads(body) if body else None))
            if self._stall_before and self._stall_before in path:
                self._flowing.clear()
            await self._flowing.wait()
            engine.write(head + body)
            if self._stall_after and self._stall_after in path:
                self._flowing.clear()  # before the answer can be here
            await engine.drain()
            if headers.get("upgrade"):  # hijacked: from here on it is a stream
                self.streams += 1
                try:
                    await self._copy(reader, engine)
                finally:
                    self.streams -= 1
                return
        if engine.can_write_eof():
            engine.write_eof()

    async def _copy(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, replace: tuple[bytes, bytes] | None = None
    ) -> None:
        while data := await reader.read(65536):
            await self._flowing.wait()
            writer.write(data.replace(*replace) if replace else data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
