"""Locks that hold over all processes: one task of this process at a time, then this process against the others.

What excludes the other processes is a ``Backend``: advisory locks in PostgreSQL, ``flock`` beside a SQLite file.
Waiting within the process is in line and ends at once; for another process it is asking again.
"""

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol, Self

from doogie_client.service.store import LockLost

FIRST_RETRY_S = 0.02
MAX_RETRY_S = 0.25


class Backend(Protocol):
    """What excludes other processes. It is called by one task at a time for each name."""

    async def acquire(self, name: str, on_lost: Callable[[], None]) -> bool:
        """Take the lock if it is free. Cancelled, it is not held."""
        ...

    async def release(self, name: str) -> None:
        """Let go of it. Cancelled, it is let go of all the same, before anything that is asked later."""
        ...


class Locks:
    """The locks of one store."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._users: Counter[str] = Counter()

    @asynccontextmanager
    async def hold(self, name: str, *, wait: bool, on_lost: Callable[[], None] | None) -> AsyncIterator[bool]:
        """As ``ConfigStore.lock``."""
        self._users[name] += 1
        try:
            turn = self._turns[name]
            held = False
            if wait or not turn.locked():
                async with turn, _Holder(name, on_lost) as holder:
                    held = await self._acquire(name, holder, wait=wait)
                    if held:
                        try:
                            yield True
                        finally:
                            holder.done()
                            await self._backend.release(name)
            if not held:
                yield False
        finally:
            self._users[name] -= 1
            if not self._users[name]:
                del self._users[name], self._turns[name]

    async def _acquire(self, name: str, holder: "_Holder", *, wait: bool) -> bool:
        retry_s = FIRST_RETRY_S
        while not await self._backend.acquire(name, holder.lost):
            if not wait:
                return False
            await asyncio.sleep(retry_s * random.uniform(0.5, 1))  # noqa: S311 - spreads the askers, decides nothing
            retry_s = min(2 * retry_s, MAX_RETRY_S)
        return True


class _Holder:
    """Tells the holder that the lock is lost: by its own callback, or by cancelling it as ``asyncio.timeout`` does."""

    def __init__(self, name: str, on_lost: Callable[[], None] | None) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a lock is held by a task")
        self._name = name
        self._task = task
        self._on_lost = on_lost
        self._cancelling = task.cancelling()
        self._cancelled = False
        self._done = False

    def lost(self) -> None:
        """The lock may be another process's now."""
        if self._done:
            return
        self._done = True
        if self._on_lost is not None:
            self._on_lost()
        else:
            self._cancelled = True
            self._task.cancel()

    def done(self) -> None:
        """It is being let go of: what is lost from now on does not matter."""
        self._done = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, exc: BaseException | None, _: object) -> None:
        if not self._cancelled:
            return
        if kind is None:  # the body ended before the cancellation came to it; it must not reach what follows
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError as late:
                kind, exc = asyncio.CancelledError, late
        if self._task.uncancel() <= self._cancelling and (kind is None or kind is asyncio.CancelledError):
            raise LockLost(f"the lock {self._name!r} was lost: the connection that held it broke") from exc
