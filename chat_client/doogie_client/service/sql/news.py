"""News of configurations, from whatever tells them to all who want to hear."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from doogie_client.service.store import Change, ConfigChanged

MISSED = ConfigChanged(Change.UPDATED, None)
MAX_UNREAD = 1000
"""Of one listener; what it has not read by then becomes one ``MISSED``."""


def read_news(change: object, config_id: object) -> ConfigChanged:
    """News as another process has written it; ``MISSED`` where that was another version of this software."""
    try:
        return ConfigChanged(Change(str(change)), None if config_id is None else str(config_id))
    except ValueError:
        return MISSED


class Feed:
    """Passes each piece of news to all listeners, none of which can hold up another."""

    def __init__(self) -> None:
        self._listeners: set[asyncio.Queue[ConfigChanged | None]] = set()
        self.wanted = asyncio.Event()
        """Set while there is a listener."""

    def publish(self, news: ConfigChanged) -> None:
        """Tell all listeners."""
        for unread in self._listeners:
            if unread.qsize() >= MAX_UNREAD:
                while not unread.empty():
                    unread.get_nowait()
                unread.put_nowait(MISSED)
            unread.put_nowait(news)

    def close(self) -> None:
        """End all listeners' iterators once they have read what there is."""
        for unread in self._listeners:
            unread.put_nowait(None)

    @contextmanager
    def listen(self) -> Iterator[AsyncIterator[ConfigChanged]]:
        """The news from now on."""
        unread: asyncio.Queue[ConfigChanged | None] = asyncio.Queue()
        self._listeners.add(unread)
        self.wanted.set()
        try:
            yield _News(unread)
        finally:
            self._listeners.remove(unread)
            if not self._listeners:
                self.wanted.clear()


class _News(AsyncIterator[ConfigChanged]):
    def __init__(self, unread: asyncio.Queue[ConfigChanged | None]) -> None:
        self._unread = unread

    async def __anext__(self) -> ConfigChanged:
        news = await self._unread.get()
        if news is None:
            self._unread.put_nowait(None)  # it stays at its end
            raise StopAsyncIteration
        return news
