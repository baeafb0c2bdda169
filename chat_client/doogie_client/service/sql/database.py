"""The database: its address, its transactions, and the one place where its errors become ours.

postgresql://user:password@host/database    as libpq takes it (sslmode, a directory as host …)
sqlite:///doogie.db, sqlite:////srv/doogie/doogie.db    a path relative to the working directory; an absolute one
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

import asyncpg
from sqlalchemy.engine.url import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from doogie_client.service.store import StoreMisconfigured, StoreUnavailable

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
    return url.set(drivername=url.get_backend_name(), password=None, query={}).render_as_string()


class Database:
    """An engine and its transactions, each of them bounded by ``timeout_s``, waiting for its turn included.

    Args:
        engine: its pool is closed by ``close``.
        name: what errors call it.
        one_writer: writers of this process wait in line for one another, where the database would let them collide.
    """

    def __init__(self, engine: AsyncEngine, name: str, *, timeout_s: float, one_writer: bool) -> None:
        self.engine = engine
        self.name = name
        self._writer = engine.execution_options(**{WRITES: True})
        self._timeout_s = timeout_s
        self._turn = asyncio.Lock() if one_writer else None

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that only reads."""
        with database_errors(self.name):
            async with asyncio.timeout(self._timeout_s), self.engine.begin() as connection:
                yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that is committed at the end, or rolled back when the body raises."""
        with database_errors(self.name):
            async with asyncio.timeout(self._timeout_s), AsyncExitStack() as stack:
                if self._turn is not None:
                    await stack.enter_async_context(self._turn)
                yield await stack.enter_async_context(self._writer.begin())

    async def close(self) -> None:
        """Close all connections."""
        await self.engine.dispose()


@contextmanager
def database_errors(name: str) -> Iterator[None]:
    """Every error of a database, its driver or its connection becomes ``StoreUnavailable``."""
    try:
        yield
    except DBAPIError as exc:
        cause = exc.orig if exc.orig is None or exc.orig.__cause__ is None else exc.orig.__cause__
        raise StoreUnavailable(f"{name}: {cause}") from exc
    except (PoolTimeout, TimeoutError) as exc:
        raise StoreUnavailable(f"{name}: no answer in time") from exc
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, sqlite3.Error, OSError) as exc:
        raise StoreUnavailable(f"{name}: {exc}") from exc
