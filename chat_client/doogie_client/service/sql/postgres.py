"""PostgreSQL: how it is connected to, and the one connection of a process that lasts.

That connection listens for news (NOTIFY) and holds all locks (advisory ones of a session), however many; the server
frees them when it ends. ``PostgresPeers`` is the only one to use it: requests wait in a queue. When it breaks, the
holders of locks are told at once, a new one is made, with growing pauses, and listeners hear that they may have missed
something.
"""

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import asyncpg
import structlog
from sqlalchemy import func, select, text
from sqlalchemy.engine.url import URL
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from doogie_client.service.sql.database import Database, closed, database_errors, shown
from doogie_client.service.sql.news import MISSED, Feed, read_news
from doogie_client.service.sql.peers import end
from doogie_client.service.store import ConfigChanged, StoreUnavailable

CONNECT_TIMEOUT_S = 10
STATEMENT_TIMEOUT_S = 10
COMMAND_TIMEOUT_S = STATEMENT_TIMEOUT_S + 5  # the server says first what is wrong
HEARTBEAT_S = 10
FIRST_RETRY_S = 0.1
MAX_RETRY_S = 5
CLOSE_TIMEOUT_S = 2

_SETTINGS = {
    "statement_timeout": f"{STATEMENT_TIMEOUT_S}s",
    "idle_in_transaction_session_timeout": "60s",
    # What a machine that vanished had locked is free after 30 + 3 * 10 seconds.
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
}

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
log = structlog.get_logger(__name__)


def connector(url: URL) -> Callable[[], Awaitable[Connection]]:
    """What connects to the server; the address is asyncpg's to understand, which knows libpq's options."""
    dsn = url.set(drivername="postgresql").render_as_string(hide_password=False)
    settings = {"application_name": "doogie-chat"} if "application_name" not in url.query else {}

    async def connect() -> Connection:
        return await asyncpg.connect(
            dsn,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=COMMAND_TIMEOUT_S,
            server_settings={**_SETTINGS, **settings},
        )

    return connect


def postgres_database(url: URL, *, pool_size: int, timeout_s: float) -> Database:
    """The database at an address; nothing is connected yet."""
    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=connector(url),
        pool_size=pool_size,
        max_overflow=0,
        isolation_level="READ COMMITTED",  # whatever the role's default is
        pool_pre_ping=True,  # a server that was restarted costs nobody a failed call
        hide_parameters=True,
    )
    return Database(engine, shown(url), timeout_s=timeout_s, readers=pool_size, one_writer=False)


async def table_oid(connection: AsyncConnection) -> int:
    """The number of our table, which tells it from one of the same name in another schema."""
    return await connection.scalar(text("SELECT 'doogie_configs'::regclass::oid::bigint")) or 0


@dataclass
class _Acquire:
    name: str
    on_lost: Callable[[], None]
    answer: asyncio.Future[bool] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


@dataclass
class _Release:
    name: str
    answer: asyncio.Future[bool] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class PostgresPeers:
    """The other processes that are connected to the database.

    Args:
        connect: makes the connection that lasts.
        name: what errors call the database.
        scope: ``table_oid``: channels and locks are the database's, and another schema may have the same table.
        timeout_s: longest wait of a caller for an answer, a broken connection's return included.
    """

    def __init__(
        self, connect: Callable[[], Awaitable[Connection]], name: str, *, scope: int, timeout_s: float
    ) -> None:
        self.feed = Feed()
        self._connect = connect
        self._name = name
        self._scope = scope
        self._channel = f"doogie_configs_{scope}"
        self._timeout_s = timeout_s
        self._requests: asyncio.Queue[_Acquire | _Release | None] = asyncio.Queue()
        self._held: dict[str, Callable[[], None]] = {}
        self._connected = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    async def start(self) -> None:
        """Connect."""
        self._task = asyncio.create_task(self._run(), name="doogie-postgres-peers")
        try:
            await self.listening()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Disconnect; locks that are held are lost."""
        self._closed = True
        if self._task is not None:
            await end(self._task)
        while not self._requests.empty():
            request = self._requests.get_nowait()
            if isinstance(request, _Acquire) and not request.answer.done():
                request.answer.set_exception(closed(self._name))
        self.feed.close()

    async def tell(self, connection: AsyncConnection, news: ConfigChanged) -> None:
        """NOTIFY, which the server does when the transaction is committed."""
        payload = json.dumps([news.change.value, news.config_id])
        await connection.execute(select(func.pg_notify(self._channel, payload)))

    def committed(self) -> None:
        """Nothing to do: the server tells this process as it does the others."""

    async def listening(self) -> None:
        """Wait for the connection."""
        if self._closed:
            raise closed(self._name)
        with database_errors(self._name):
            async with asyncio.timeout(self._timeout_s):
                await self._connected.wait()

    async def acquire(self, name: str, on_lost: Callable[[], None]) -> bool:
        """Take the advisory lock if it is free. Raises ``StoreUnavailable``."""
        if self._closed:
            raise closed(self._name)
        request = _Acquire(name, on_lost)
        self._requests.put_nowait(request)
        try:
            with database_errors(self._name):
                async with asyncio.timeout(self._timeout_s):
                    return await request.answer
        except BaseException:
            self._requests.put_nowait(_Release(name))  # the answer may have come in the same moment
            raise

    async def release(self, name: str) -> None:
        """Let go of the advisory lock; returns when others can have it."""
        if self._connected.is_set():  # else it is lost already
            request = _Release(name)
            self._requests.put_nowait(request)
            await request.answer

    async def _run(self) -> None:
        retry_s: float = FIRST_RETRY_S
        while True:
            try:
                with database_errors(self._name):
                    connection = await self._connect()
                    try:
                        await self._serve(connection)
                    finally:
                        await connection.close(timeout=CLOSE_TIMEOUT_S)
            except StoreUnavailable as exc:
                if self._connected.is_set():
                    retry_s = FIRST_RETRY_S
                log.warning("database_connection_lost", error=str(exc), retry_s=retry_s)
            finally:
                self._lose()
            await asyncio.sleep(retry_s)
            retry_s = min(2 * retry_s, MAX_RETRY_S)

    async def _serve(self, connection: Connection) -> None:
        connection.add_termination_listener(lambda _: self._requests.put_nowait(None))
        await connection.add_listener(self._channel, self._heard)
        self._connected.set()
        self.feed.publish(MISSED)
        while True:
            request = await self._next_request()
            try:
                match request:
                    case _Acquire():
                        await self._acquire(connection, request)
                    case _Release():
                        await self._release(connection, request)
                    case None:
                        await connection.execute("SELECT 1")  # raises if the connection is no more
            except BaseException:
                self._requests.put_nowait(request)  # unanswered
                raise

    async def _next_request(self) -> _Acquire | _Release | None:
        """None when the connection is to be looked at: it ended, or was idle for a while."""
        try:
            async with asyncio.timeout(HEARTBEAT_S):
                return await self._requests.get()
        except TimeoutError:
            return None

    async def _acquire(self, connection: Connection, request: _Acquire) -> None:
        if request.answer.done():  # nobody waits for it any more
            return
        try:
            free = bool(await connection.fetchval("SELECT pg_try_advisory_lock($1)", self._key(request.name)))
        except asyncpg.PostgresError as exc:
            if not request.answer.done():
                request.answer.set_exception(StoreUnavailable(f"{self._name}: {exc}"))
            return
        if free:
            self._held[request.name] = request.on_lost
        if not request.answer.done():
            request.answer.set_result(free)

    async def _release(self, connection: Connection, request: _Release) -> None:
        if self._held.pop(request.name, None) is not None:
            await connection.execute("SELECT pg_advisory_unlock($1)", self._key(request.name))
        if not request.answer.done():
            request.answer.set_result(True)

    def _lose(self) -> None:
        """The connection is gone, and with it all locks: tell their holders, answer those who let go of one."""
        self._connected.clear()
        for on_lost in self._held.values():
            asyncio.get_running_loop().call_soon(on_lost)
        self._held.clear()
        for _ in range(self._requests.qsize()):
            request = self._requests.get_nowait()
            if isinstance(request, _Acquire):
                self._requests.put_nowait(request)  # the next connection's
            elif request is not None and not request.answer.done():
                request.answer.set_result(True)

    def _heard(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        try:
            change, config_id = json.loads(str(payload))
        except (ValueError, TypeError):
            change, config_id = None, None
        self.feed.publish(read_news(change, config_id))

    def _key(self, name: str) -> int:
        digest = hashlib.sha256(f"{self._scope}\0{name}".encode()).digest()
        return int.from_bytes(digest[:8], "big", signed=True)
