"""SQLite: how its file is opened, and what stands for NOTIFY and advisory locks among processes on one machine.

News are rows of a journal, written in the transaction that makes them true. This process reads its own at once and the
others' within ``POLL_S``. Locks are ``flock`` on files in ``<database>.locks/``: the kernel frees them when their
holder dies, however it dies.
"""

import asyncio
import fcntl
import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import structlog
from sqlalchemy import Connection, RowMapping, delete, event, func, insert, select
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.engine.url import URL
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from doogie_client.service.sql.database import WRITES, Database, closed, shown
from doogie_client.service.sql.news import MISSED, Feed, read_news
from doogie_client.service.sql.peers import end
from doogie_client.service.sql.tables import journal
from doogie_client.service.store import ConfigChanged, StoreMisconfigured, StoreUnavailable

POLL_S = 0.25
JOURNAL_ROWS = 1000
BUSY_TIMEOUT_S = 10

_PRAGMAS = (
    f"busy_timeout = {BUSY_TIMEOUT_S * 1000}",
    "journal_mode = WAL",
    "synchronous = FULL",  # what is committed survives a power cut, not the process's end alone
    "foreign_keys = ON",
)

log = structlog.get_logger(__name__)


def sqlite_database(url: URL, *, pool_size: int, timeout_s: float) -> Database:
    """The database in a file, which is made, mode 0600, unless it is there.

    Raises:
        StoreMisconfigured: it cannot be made or opened.
    """
    path = url.database or ""
    try:
        os.close(
            os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        )  # SQLite gives the files beside it the same mode
    except OSError as exc:
        raise StoreMisconfigured(f"the database {path} cannot be opened: {exc.strerror}") from exc
    engine = create_async_engine(
        url,
        pool_size=pool_size + 1,
        max_overflow=0,
        hide_parameters=True,
        connect_args={"isolation_level": None},  # sqlite3 begins no transactions of its own accord: _begin does
    )
    event.listen(engine.sync_engine, "connect", _set_up)
    event.listen(engine.sync_engine, "begin", _begin)
    return Database(engine, shown(url), timeout_s=timeout_s, readers=pool_size, one_writer=True)


def _set_up(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Connection) -> None:
    # A transaction that reads first and writes later fails if another one wrote in between: writers say so first.
    writes = connection.get_execution_options().get(WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


class SqlitePeers:
    """The other processes that have the file open."""

    def __init__(self, database: Database, path: Path) -> None:
        self.feed = Feed()
        self._database = database
        self._lock_files = LockFiles(path.with_name(path.name + ".locks"))
        self._held: dict[str, Callable[[], None]] = {}
        self._last = 0
        self._reading = asyncio.Lock()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    async def start(self) -> None:
        """Begin to read the journal at its end."""

        async def latest(connection: AsyncConnection) -> int:
            return await connection.scalar(select(func.max(journal.c.seq))) or 0

        self._last = await self._database.read(latest)
        self._task = asyncio.create_task(self._poll(), name="doogie-journal")

    async def close(self) -> None:
        """End reading; locks that are held are lost."""
        self._closed = True
        if self._task is not None:
            await end(self._task)
        self.feed.close()
        for name, on_lost in self._held.items():
            self._lock_files.release(name)
            asyncio.get_running_loop().call_soon(on_lost)
        self._held.clear()

    async def tell(self, connection: AsyncConnection, news: ConfigChanged) -> None:
        """Write it to the journal."""
        row = {"change": news.change.value, "config_id": news.config_id}
        seq = await connection.scalar(insert(journal).values(row).returning(journal.c.seq))
        await connection.execute(delete(journal).where(journal.c.seq <= (seq or 0) - JOURNAL_ROWS))

    def committed(self) -> None:
        """Read it at once."""
        self._wake.set()

    async def listening(self) -> None:
        """What was told before is not news."""
        await self._read()

    async def acquire(self, name: str, on_lost: Callable[[], None]) -> bool:
        """Lock its file: a few system calls on a local directory, which is why they need no thread."""
        if self._closed:
            raise closed(self._database.name)
        if not self._lock_files.acquire(name):
            return False
        self._held[name] = on_lost
        return True

    async def release(self, name: str) -> None:
        """Unlock its file."""
        if self._held.pop(name, None) is not None:
            self._lock_files.release(name)

    async def _poll(self) -> None:
        reachable = True
        while True:
            await self.feed.wanted.wait()
            self._wake.clear()  # before reading: what comes meanwhile may not be read any more
            try:
                await self._read()
                reachable = True
            except StoreUnavailable as exc:
                if reachable:
                    log.warning("journal_unreadable", error=str(exc))
                reachable = False
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._wake.wait()

    async def _read(self) -> None:
        async def unread(connection: AsyncConnection) -> Sequence[RowMapping]:
            query = select(journal).where(journal.c.seq > self._last).order_by(journal.c.seq)
            return (await connection.execute(query)).mappings().all()

        async with self._reading:
            rows = await self._database.read(unread)
            if rows and rows[0]["seq"] != self._last + 1:
                self.feed.publish(MISSED)
            for row in rows:
                self.feed.publish(read_news(row["change"], row["config_id"]))
                self._last = row["seq"]


class LockFiles:
    """Locked files in a directory, one for each name, which are removed when they are let go of."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._held: dict[str, int] = {}

    def acquire(self, name: str) -> bool:
        """Lock the file of a name, unless somebody has."""
        path = self._path(name)
        try:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise self._unusable(exc) from exc
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Its holder removes it: what was locked may be nobody's file any more, and another one be there instead.
            locked = os.fstat(descriptor).st_ino == path.stat().st_ino
        except (BlockingIOError, FileNotFoundError):
            locked = False
        except OSError as exc:
            os.close(descriptor)
            raise self._unusable(exc) from exc
        if locked:
            self._held[name] = descriptor
        else:
            os.close(descriptor)
        return locked

    def release(self, name: str) -> None:
        """Unlock the file of a name and remove it."""
        descriptor = self._held.pop(name)
        self._path(name).unlink(missing_ok=True)  # before it is unlocked: afterwards it may be another's
        os.close(descriptor)

    def _unusable(self, exc: OSError) -> StoreUnavailable:
        return StoreUnavailable(f"no lock can be made in {self._directory}: {exc.strerror}")

    def _path(self, name: str) -> Path:
        return self._directory / hashlib.sha256(name.encode()).hexdigest()[:32]
