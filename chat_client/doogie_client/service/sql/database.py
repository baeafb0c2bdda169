"""The database: its address, its transactions, and the one place where its errors become ours.

postgresql://user:password@host/database    as libpq takes it (sslmode, a directory as host …)
sqlite:///doogie.db, sqlite:////srv/doogie/doogie.db    a path relative to the working directory; an absolute one
"""

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias, TypeVar

import asyncpg
import structlog
from sqlalchemy.engine.url import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from doogie_client.service.store import StoreError, StoreMisconfigured, StoreUnavailable

T = TypeVar("T")
Work: TypeAlias = Callable[[AsyncConnection], Coroutine[Any, Any, T]]

log = structlog.get_logger(__name__)

WRITES = "doogie_writes"
"""Execution option of a transaction that writes."""

_DRIVERS = {
    "postgresql": "postgresql+asyncpg",
    "postgres": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
}


def parse_url(text: str) -> URL:
    """The address of a database, with its driver.

    Raises:
        StoreMisconfigured: it is none, or of a database that is not supported. The message has no password in it.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise StoreMisconfigured(
            "the database's URL is none: postgresql://user:password@host/database or sqlite:///path"
        ) from None
    if url.drivername not in _DRIVERS:
        raise StoreMisconfigured(f"the database's URL begins with {url.drivername}://, not postgresql:// or sqlite:///")
    if url.get_backend_name() == "sqlite" and (url.database in {None, "", ":memory:"} or url.query or url.host):
        raise StoreMisconfigured("SQLite needs a file and takes no options: sqlite:///path or sqlite:////absolute/path")
    return url.set(drivername=_DRIVERS[url.drivername])


def shown(url: URL) -> str:
    """The address without password and options, for errors and logs."""
    return url.set(drivername=url.get_backend_name(), query={}).render_as_string()  # with *** for the password


class Database:
    """An engine and its transactions, each of them bounded by ``timeout_s``, waiting for its turn included.

    A transaction that has begun is brought to its end in a task of its own, whatever becomes of its caller. Were it
    cancelled in the middle, the ``sqlite3`` cursor of a statement would stay open until it is collected as garbage, and
    keep the whole database locked.

    Args:
        engine: its pool is closed by ``close``.
        name: what errors call it.
        readers: how many transactions may go on at once.
        one_writer: those that write wait in line for one another, where the database would let them collide.
    """

    def __init__(self, engine: AsyncEngine, name: str, *, timeout_s: float, readers: int, one_writer: bool) -> None:
        self.name = name
        self._engine = engine
        self._timeout_s = timeout_s
        self._readers = asyncio.Semaphore(readers)
        self._writers = asyncio.Semaphore(1) if one_writer else self._readers
        self._running: set[asyncio.Task[object]] = set()
        self._closed = False

    async def read(self, work: Work[T]) -> T:
        """Do what only reads in a transaction."""
        return await self._run(self._readers, lambda: self._transaction(work, writes=False))

    async def write(self, work: Work[T], *, after: Callable[[], None] | None = None) -> T:
        """Do it in a transaction that is committed at the end, or rolled back if it raises; ``after`` if committed."""
        return await self._run(self._writers, lambda: self._transaction(work, writes=True, after=after))

    async def close(self) -> None:
        """Let transactions come to their end, and close all connections."""
        self._closed = True
        if self._running:
            _, stuck = await asyncio.wait(self._running, timeout=self._timeout_s)
            for task in stuck:
                task.cancel()
        await self._engine.dispose()

    async def _run(self, places: asyncio.Semaphore, begin: Callable[[], Coroutine[Any, Any, T]]) -> T:
        with database_errors(self.name):
            async with asyncio.timeout(self._timeout_s):
                await places.acquire()
                if self._closed:
                    places.release()
                    raise closed(self.name)
                task = asyncio.create_task(begin())
                self._running.add(task)
                task.add_done_callback(self._running.discard)
                task.add_done_callback(lambda _: places.release())
                try:
                    return await asyncio.shield(task)
                except asyncio.CancelledError:
                    task.add_done_callback(self._abandoned)
                    raise

    def _abandoned(self, task: asyncio.Task[Any]) -> None:
        """A transaction whose caller did not wait for its end: nobody else would tell of a failure."""
        failure = None if task.cancelled() else task.exception()
        if failure is not None and not isinstance(failure, StoreError):
            log.warning("abandoned_transaction_failed", database=self.name, error=str(failure))

    async def _transaction(self, work: Work[T], *, writes: bool, after: Callable[[], None] | None = None) -> T:
        async with self._engine.execution_options(**{WRITES: writes}).begin() as connection:
            result = await work(connection)
        if after is not None:
            after()
        return result


def closed(name: str) -> StoreUnavailable:
    """What a call on a closed store raises."""
    return StoreUnavailable(f"{name}: the store is closed")


@contextmanager
def database_errors(name: str) -> Iterator[None]:
    """Every error of a database, its driver or its connection becomes ``StoreUnavailable``."""
    try:
        yield
    except DBAPIError as exc:
        cause = exc.orig if exc.orig is None or exc.orig.__cause__ is None else exc.orig.__cause__
        if isinstance(cause, asyncpg.ClientConfigurationError):
            raise StoreMisconfigured(f"{name}: {cause}") from exc
        raise StoreUnavailable(f"{name}: {cause}") from exc
    except TimeoutError as exc:
        raise StoreUnavailable(f"{name}: no answer in time") from exc
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, sqlite3.Error, OSError) as exc:
        raise StoreUnavailable(f"{name}: {exc}") from exc
