"""Who wants to hear of changes, and what each has not heard yet.

A reader is told which servers have changed, not how: it looks at them when it comes to it. So what waits for a slow
one is a name and a number for each server, however much happens; and beyond ``MAX_WAITING`` names, nothing but that it
must look at everything.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from doogie_proxy.server import Key

MAX_WAITING = 1000


class Reader:
    """One reader's backlog."""

    def __init__(self, client: str) -> None:
        self.client = client
        self._waiting: Counter[str] = Counter()
        self._lost = False
        self._news = asyncio.Event()

    def note(self, name: str) -> None:
        """A server has changed."""
        self._waiting[name] += 1
        self._news.set()
        if len(self._waiting) > MAX_WAITING:
            self.look_again()

    def look_again(self) -> None:
        """Anything may have changed."""
        self._waiting.clear()
        self._lost = True
        self._news.set()

    async def next(self) -> Mapping[str, int] | None:
        """Wait for news: how often each server has changed since the last time; None: look at all of them."""
        await self._news.wait()
        self._news.clear()
        waiting, lost = self._waiting, self._lost
        self._waiting, self._lost = Counter(), False
        return None if lost else waiting


class Changes:
    """All readers."""

    def __init__(self) -> None:
        self._readers: set[Reader] = set()

    @contextmanager
    def reader(self, client: str) -> Iterator[Reader]:
        """Be told of this client's servers from now on."""
        reader = Reader(client)
        self._readers.add(reader)
        try:
            yield reader
        finally:
            self._readers.discard(reader)

    def tell(self, key: Key) -> None:
        """A server has changed."""
        for reader in self._readers:
            if reader.client == key.client:
                reader.note(key.name)

    def look_again(self) -> None:
        """Have all readers look at everything, and whether they still may."""
        for reader in self._readers:
            reader.look_again()
