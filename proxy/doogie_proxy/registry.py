"""The servers of one proxy, the state of each name and a lock for it, and the operations that are under way.

The engine is the database: a server exists because its container does. What is held here mirrors it, and is made anew
from the signed labels when the proxy starts. ``starting.py``, ``ending.py``, ``streams.py`` and ``adoption.py`` are
the operations.
"""

import asyncio
import contextvars
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar
from weakref import WeakValueDictionary

import structlog

from doogie_contract.models import ServerState
from doogie_contract.problems import ProblemError
from doogie_proxy.changes import Changes
from doogie_proxy.engine import Engine
from doogie_proxy.engine_failures import EngineFailure
from doogie_proxy.identity import Keyring
from doogie_proxy.metrics import Metrics
from doogie_proxy.pending import FAILURE_KEPT, Start
from doogie_proxy.pulls import Pulls
from doogie_proxy.quotas import Quotas
from doogie_proxy.server import Key, Server
from doogie_proxy.spec import ImageRefusedError
from doogie_proxy.state import State
from doogie_proxy.states import require_legal

T = TypeVar("T")

log = structlog.get_logger(__name__)


class Registry:
    """What all operations share. ``async with Registry(...)``: at its end it waits for them.

    Args:
        engine, state, metrics: entered already.
        keyring: signs labels.
        instance: of this proxy; containers of others are not touched.
        pull_timeout_s: for each image.
    """

    def __init__(
        self,
        engine: Engine,
        keyring: Keyring,
        state: State,
        metrics: Metrics,
        *,
        instance: str,
        pull_timeout_s: float,
    ) -> None:
        self.engine = engine
        self.keyring = keyring
        self.state = state
        self.metrics = metrics
        self.instance = instance
        self.servers: dict[Key, Server] = {}
        self.starts: dict[Key, Start] = {}
        """Starts that have no container yet, and those that failed with nobody there to be told."""
        self.changes = Changes()
        self.pulls = Pulls(engine, timeout_s=pull_timeout_s, follow=self.follow)
        self.quotas = Quotas()
        self.closing = False
        """Whether the proxy ends: streams that end now are no news."""
        self.leaving = False
        """Whether clients are sent away because the proxy ends: that begins no lease."""
        self._states: dict[Key, ServerState] = {}
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

    def state_of(self, key: Key) -> ServerState:
        """The state of a server's name."""
        return self._states.get(key, ServerState.ABSENT)

    def move(self, key: Key, to: ServerState) -> None:
        """Bring a name into another state, and tell of it; the only way to.

        Raises:
            IllegalTransitionError: nothing may move it so.
        """
        require_legal(self.state_of(key), to)
        if to is ServerState.ABSENT:
            del self._states[key]
        else:
            self._states[key] = to
        self.changes.tell(key)

    def forget(self, server: Server) -> None:
        """Its container is gone."""
        self.state.forget(server.container.id)
        self.metrics.account(server.hub)
        if self.servers.get(server.key) is server:
            del self.servers[server.key]
            if self.state_of(server.key) is not ServerState.PULLING:  # else it gave way to a start
                self.move(server.key, ServerState.ABSENT)

    def forget_failures(self, now: datetime) -> None:
        """Of starts, where they have been kept long enough."""
        for key, start in list(self.starts.items()):
            if start.failed_at is not None and start.failed_at + FAILURE_KEPT <= now:
                self.forget_failure(key)

    def forget_failure(self, key: Key) -> None:
        """Of the last start, if it failed."""
        if (start := self.starts.get(key)) is not None and start.failure is not None:
            del self.starts[key]
            self.changes.tell(key)

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

    def follow(self, what: str, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin what goes on until it ends or is cancelled; in a context of its own, as it outlives any request."""
        return self._group.create_task(work, name=what, context=contextvars.Context())

    async def settle(self) -> None:
        """Wait until no operation is under way."""
        while self._operations:
            await asyncio.wait(self._operations)

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._operations.add(task)
        task.add_done_callback(self._operations.discard)
