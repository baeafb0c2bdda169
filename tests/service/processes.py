"""Other processes that use a store: functions of this module, each run in a process of its own.

They are forked from one that has imported everything already, so that a test can have many. What one reports comes
through a pipe: ``worker.receive()``.
"""

import asyncio
import itertools
import multiprocessing
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

from doogie_client.service.records import ConfigRecord, ConfigUpdate, NewConfig, ServerConfig, Status
from doogie_client.service.sql import SqlConfigStore

TIMEOUT_S = 60

Report = Callable[[object], None]
Work = Callable[[SqlConfigStore, Report], Awaitable[None]]

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload([__name__])


class Worker:
    """A process at work."""

    def __init__(self, process: multiprocessing.process.BaseProcess, reports: "Connection[object, object]") -> None:
        self._process = process
        self._reports = reports

    def receive(self) -> object:
        """Its next report. Raises ``EOFError`` when it has ended and all was read."""
        if not self._reports.poll(TIMEOUT_S):
            raise TimeoutError("the worker says nothing")
        return self._reports.recv()

    async def received(self) -> object:
        """``receive`` beside other tasks."""
        return await asyncio.to_thread(self.receive)

    def kill(self) -> None:
        """SIGKILL, and wait for its end."""
        if self._process.is_alive():  # who has ended has no number any more: it may be another's by now
            self._process.kill()
        self._process.join(TIMEOUT_S)

    def join(self) -> None:
        """Wait for its end, which must be a good one."""
        self._process.join(TIMEOUT_S)
        assert self._process.exitcode == 0


@contextmanager
def worker(work: Work, database: str, key_file: Path, *, create_key: bool = False) -> Iterator[Worker]:
    """A process that opens the store and does the work; it is killed at the end if it still runs."""
    ours, its = _processes.Pipe(duplex=False)
    process = _processes.Process(target=_run, args=(work, database, key_file, create_key, its))
    process.start()
    its.close()
    running = Worker(process, ours)
    try:
        yield running
    finally:
        running.kill()
        ours.close()
        process.close()


def _run(work: Work, database: str, key_file: Path, create_key: bool, reports: "Connection[object, object]") -> None:
    async def run() -> None:
        async with await SqlConfigStore.open(database, key_file=key_file, create_key=create_key) as store:
            await work(store, reports.send)

    asyncio.run(run())


# --- what they do -----------------------------------------------------------------------------------------------


async def write_without_end(store: SqlConfigStore, report: Report) -> None:
    """Create configurations and edit them; report each change that is committed, as (id, generation)."""
    run = uuid.uuid4()
    for number in itertools.count():
        created = await store.create(NewConfig(name=f"{run}-{number}", config=generation(0)), "writer")
        report((created.id, 0))
        for edit in (1, 2):
            config = generation(edit)
            await store.update(created.id, ConfigUpdate(args=config.args, env=config.env, mounts=config.mounts))
            report((created.id, edit))
        await store.set_status(created.id, Status.RUNNING, container_id=str(number), error_message=None)


def generation(number: int) -> ServerConfig:
    """A configuration all of whose parts have the same number in them."""
    word = f"g{number}"
    return ServerConfig(command="mcp/time", args=[word] * 50, env={"A": word, "B": word}, mounts=[word])


def whole_generation(record: ConfigRecord) -> int:
    """Of which generation all of its parts are."""
    number = int(record.config.args[0].removeprefix("g"))
    assert record.config == generation(number)
    assert record.version == number + 1
    return number


async def create_one(store: SqlConfigStore, report: Report) -> None:
    """Create a configuration and report its id."""
    created = await store.create(NewConfig(name="From elsewhere", config=generation(0)), "elsewhere")
    report(created.id)


async def report_all(store: SqlConfigStore, report: Report) -> None:
    """Report how many configurations there are."""
    report(len(await store.list()))


async def hold_locks(store: SqlConfigStore, report: Report) -> None:
    """Hold the locks ``first`` and ``second`` until killed."""
    async with store.lock("first") as first, store.lock("second") as second:
        report((first, second))
        await asyncio.Event().wait()


async def rotate(store: SqlConfigStore, report: Report) -> None:
    """Rotate to a new key, again and again."""
    while True:
        report((await store.rotate_keys(new_key=True)).key_id)


async def edit_without_end(store: SqlConfigStore, report: Report) -> None:
    """Edit every configuration there is, round after round; report each round."""
    for number in itertools.count(1):
        for record in await store.list():
            config = generation(number)
            await store.update(record.id, ConfigUpdate(args=config.args, env=config.env, mounts=config.mounts))
        report(number)
