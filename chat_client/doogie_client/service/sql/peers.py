"""``Peers``: the other processes that work on the same database, as the store sees them."""

import asyncio
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from doogie_client.service.sql.locks import Backend
from doogie_client.service.sql.news import Feed
from doogie_client.service.store import ConfigChanged


class Peers(Backend, Protocol):
    """Tells them news and hears theirs, and excludes them by locks. One implementation for each kind of database."""

    feed: Feed
    """What all processes tell, this one included."""

    async def start(self) -> None:
        """Begin to work. Raises ``StoreUnavailable``."""
        ...

    async def close(self) -> None:
        """End; locks that are held are lost."""
        ...

    async def tell(self, connection: AsyncConnection, news: ConfigChanged) -> None:
        """Have it told when the connection's transaction is committed, and only then."""
        ...

    def committed(self) -> None:
        """A transaction that told something was committed."""
        ...

    async def listening(self) -> None:
        """Return when no news from now on can be missed. Raises ``StoreUnavailable``."""
        ...


async def end(task: asyncio.Task[None]) -> None:
    """Cancel a task that goes on for ever and wait for its end; raises what it died of if it was dead before."""
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()
