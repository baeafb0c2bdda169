"""``Operations``: what changes a configuration or its server, one at a time over all processes, each to its end.

An operation whose caller goes away before its turn comes is not begun; one that has begun is carried on, so that what
runs and what is stored never part because a browser was closed.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Self, TypeVar

import structlog

from doogie_client.errors import DoogieError
from doogie_client.service.store import ConfigStore

T = TypeVar("T")

log = structlog.get_logger(__name__)


class Operations:
    """The tasks of one service. ``async with``; leaving waits for all of them."""

    def __init__(self, store: ConfigStore) -> None:
        self._store = store
        self._group = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._group.__aexit__(None, None, None)  # an error of the block goes on as it is, not in a group

    def lock(self, config_id: str) -> AbstractAsyncContextManager[bool]:
        """The right to change a configuration and its server. Raises ``StoreUnavailable``, also when it is lost."""
        return self._store.lock(f"config:{config_id}")

    async def run(self, config_id: str, operation: Callable[[], Awaitable[T]]) -> T:
        """Do something to a configuration when its turn comes; what it returns or raises."""
        begun = False
        outcome: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        async def body() -> None:
            nonlocal begun
            try:
                async with self.lock(config_id):
                    begun = True
                    result = await operation()
            except (Exception, asyncio.CancelledError) as exc:  # noqa: BLE001 - handed to whoever awaits it
                outcome.set_exception(exc)
                outcome.exception()  # seen, even if the caller has gone
            else:
                outcome.set_result(result)

        task = self._group.create_task(body())
        try:
            return await asyncio.shield(outcome)
        except asyncio.CancelledError:
            if not begun:
                task.cancel()
            raise

    def spawn(self, what: str, work: Callable[[], Awaitable[object]]) -> asyncio.Task[None]:
        """Do something that nobody awaits; a failure is logged."""

        async def body() -> None:
            try:
                await work()
            except DoogieError as exc:
                log.warning("background_work_failed", what=what, error=str(exc))
            except Exception:
                log.exception("background_work_failed", what=what)  # a defect, which must not end the whole group

        return self._group.create_task(body(), name=what)
