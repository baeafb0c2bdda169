"""The servers of one proxy, a lock for each name, and the operations on them that are under way.

The engine is the database: a server exists because its container does. What is held here mirrors it, and is made anew
from the signed labels when the proxy starts. ``starting.py``, ``ending.py``, ``streams.py`` and ``adoption.py`` are
the operations.
"""

import asyncio
import contextvars
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self, TypeVar
from weakref import WeakValueDictionary

import structlog

from doogie_contract.problems import ProblemError
from doogie_proxy.engine import Engine
from doogie_proxy.engine_failures import EngineFailure
from doogie_proxy.identity import Keyring
from doogie_proxy.metrics import Metrics
from doogie_proxy.quotas import Quotas
from doogie_proxy.server import Key, Server
from doogie_proxy.spec import ImageRefusedError
from doogie_proxy.state import State

T = TypeVar("T")

log = structlog.get_logger(__name__)


class Registry:
    """What all operations share. ``async with Registry(...)``: at its end it waits for them.

    Args:
        engine, state, metrics: entered already.
        keyring: signs labels.
        instance: of this proxy; containers of others are not touched.
    """

    def __init__(self, engine: Engine, keyring: Keyring, state: State, metrics: Metrics, *, instance: str) -> None:
        self.engine = engine
        self.keyring = keyring
        self.state = state
        self.metrics = metrics
        self.instance = instance
        self.servers: dict[Key, Server] = {}
        self.quotas = Quotas()
        self.closing = False
        """Whether the proxy ends: streams that end now are no news."""
        self.leaving = False
        """Whether clients are sent away because the proxy ends: that begins no lease."""
        self._locks: WeakValueDictionary[Key, asyncio.Lock] = WeakValueDictionary()
        self._group = asyncio.TaskGroup()
        self._operations: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._group.__aexit__(None, None, None)  # an error of the block goes on as it is, not in a group

    def forget(self, server: Server) -> None:
        """Its container is gone."""
        self.state.forget(server.container.id)
        self.metrics.account(server.hub)
        if self.servers.get(server.key) is server:
            del self.servers[server.key]

    def by_container(self, container_id: str) -> Server | None:
        """The server that this container is."""
        return next((server for server in self.servers.values() if server.container.id == container_id), None)

    @asynccontextmanager
    async def locked(self, key: Key) -> AsyncIterator[None]:
        """Serialise the operations on one server. A lock lives as long as somebody holds or awaits it."""
        lock = self._locks.setdefault(key, asyncio.Lock())
        async with lock:
            yield

    def busy(self, key: Key) -> bool:
        """Whether an operation on this server is under way."""
        return key in self._locks

    async def run(self, operation: Coroutine[Any, Any, T]) -> T:
        """Run an operation to its end, whatever becomes of its caller."""
        outcome: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        async def body() -> None:
            try:
                result = await operation
            except (Exception, asyncio.CancelledError) as exc:  # noqa: BLE001  # handed to whoever awaits it
                outcome.set_exception(exc)
                outcome.exception()  # seen, even if the caller has gone
            else:
                outcome.set_result(result)

        self._keep(self._group.create_task(body()))
        return await asyncio.shield(outcome)

    def spawn(
        self, what: str, operation: Coroutine[Any, Any, object], *, context: contextvars.Context | None = None
    ) -> None:
        """Run an operation that nobody awaits; a failure is logged, and the next sweep tries again."""

        async def body() -> None:
            try:
                await operation
            except (ProblemError, ImageRefusedError) as exc:
                log.info("operation_refused", operation=what, error=str(exc))
            except EngineFailure as exc:
                log.warning("operation_failed", operation=what, error=str(exc))
            except Exception:
                log.exception("operation_failed", operation=what)

        self._keep(self._group.create_task(body(), name=what, context=context or contextvars.Context()))

    def follow(self, what: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Begin what goes on until it ends or is cancelled; in a context of its own, as it outlives any request."""
        return self._group.create_task(work, name=what, context=contextvars.Context())

    async def settle(self) -> None:
        """Wait until no operation is under way."""
        while self._operations:
            await asyncio.wait(self._operations)

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._operations.add(task)
        task.add_done_callback(self._operations.discard)
