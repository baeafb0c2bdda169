"""Worker processes of a chat backend, each with a service of its own, that a test drives from outside.

    async with workers(4, …) as (first, *others):
        result = await first.call("call_tool", config_id, "echo", {})

A call runs in the process; its result or error comes back. Cancelling the call here cancels it there.
"""

import asyncio
import multiprocessing
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from doogie_client import ProxyClient
from doogie_client.service.sql import SqlConfigStore
from tests.service.backend import Backend, service_of
from tests.support.harness import TOKEN

TIMEOUT_S = 60

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload([__name__])

Wire = Any
"""Pickles go through it: (number, method, args) there, (number, result, error) back; method None: cancel the call."""


@dataclass(frozen=True)
class Place:
    """What all processes share."""

    database: str
    key_file: Path
    proxy: Path
    run_dir: Path


class WorkerProcess:
    """A process with a service. ``start`` returns when it is ready."""

    def __init__(self, place: Place) -> None:
        self._wire, theirs = _processes.Pipe()
        self._process = _processes.Process(target=_main, args=(theirs, place))
        self._process.start()
        theirs.close()
        self._numbers = count(1)
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[int, asyncio.Future[Any]] = {0: self._loop.create_future()}
        self._loop.add_reader(self._wire.fileno(), self._receive)

    async def ready(self) -> None:
        """Return when its service is open."""
        async with asyncio.timeout(TIMEOUT_S):
            await self._waiting[0]

    async def call(self, method: str, *args: object, **named: object) -> Any:
        """Call a method of its service."""
        number = next(self._numbers)
        self._waiting[number] = self._loop.create_future()
        self._wire.send((number, method, args, named))
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await self._waiting[number]
        except asyncio.CancelledError:
            self._wire.send((number, None, (), {}))
            raise

    async def text(self, config_id: str, tool: str, **arguments: object) -> str:
        """What a tool answers, which must be one text."""
        (block,) = (await self.call("call_tool", config_id, tool, arguments)).content
        return str(block.text)

    def kill(self) -> None:
        """SIGKILL; what waits for it gets ``EOFError``."""
        self._process.kill()

    async def close(self) -> None:
        """Have it end in good order, if it still runs."""
        if self._process.is_alive():
            self._wire.send((-1, None, (), {}))
        await asyncio.to_thread(self._process.join, TIMEOUT_S)
        self._loop.remove_reader(self._wire.fileno())
        self._wire.close()
        assert self._process.exitcode in {0, -9}, f"the process ended with {self._process.exitcode}"
        self._process.close()

    def _receive(self) -> None:
        try:
            number, result, error = self._wire.recv()
        except (EOFError, ConnectionResetError):
            self._loop.remove_reader(self._wire.fileno())
            for waiting in self._waiting.values():
                if not waiting.done():
                    waiting.set_exception(EOFError("the process has ended"))
            return
        waiting = self._waiting[number]
        if waiting.done():
            return
        if error is not None:
            waiting.set_exception(error)
        else:
            waiting.set_result(result)


@asynccontextmanager
async def workers(
    number: int, backend: Backend, database: str, key_file: Path, *, run_dir: Path | None = None
) -> AsyncIterator[list[WorkerProcess]]:
    """That many processes beside a backend."""
    place = Place(database, key_file, backend.proxy.socket, run_dir or backend.run_dir)
    async with AsyncExitStack() as stack:
        started = []
        for _ in range(number):
            started.append(WorkerProcess(place))
            stack.push_async_callback(started[-1].close)
        for process in started:
            await process.ready()
        yield started


def _main(wire: Wire, place: Place) -> None:
    asyncio.run(_serve(wire, place))


async def _serve(wire: Wire, place: Place) -> None:
    loop = asyncio.get_running_loop()
    received: asyncio.Queue[tuple[int, str | None, tuple[object, ...], dict[str, object]]] = asyncio.Queue()
    loop.add_reader(wire.fileno(), lambda: received.put_nowait(wire.recv()))
    tasks: dict[int, asyncio.Task[None]] = {}
    async with (
        await SqlConfigStore.open(place.database, key_file=place.key_file) as store,
        ProxyClient(f"unix://{place.proxy}", TOKEN) as client,
        service_of(client, store, place.run_dir) as service,
        asyncio.TaskGroup() as group,
    ):
        wire.send((0, None, None))

        async def answer(number: int, method: str, args: tuple[object, ...], named: dict[str, object]) -> None:
            try:
                wire.send((number, await getattr(service, method)(*args, **named), None))
            except Exception as exc:  # noqa: BLE001 - the test's to judge
                wire.send((number, None, exc))

        while True:
            number, method, args, named = await received.get()
            if number < 0:
                break
            if method is None:
                tasks[number].cancel()
            else:
                tasks[number] = group.create_task(answer(number, method, args, named))
        for task in tasks.values():
            task.cancel()
