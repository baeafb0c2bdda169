"""``GET /events``: server-sent events (HTML Living Standard, section 9.2) of configurations and their servers.

store.changes ──► ``News``, one reader of this process ──► a ``Subscription`` for each stream ──► ``stream``

First comes a snapshot, then what changes: ``config`` and ``deleted``. A stream that reads slowly misses states that
were replaced meanwhile, never the last one. Whoever comes back after a disconnect begins with a snapshot again, so
nothing is kept for it. ``id`` counts the events of one stream.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

import structlog
from aiohttp import hdrs, web
from pydantic import BaseModel

from doogie_client.service.records import ConfigRecord
from doogie_client.service.store import ConfigStore, StoreError
from doogie_client.web.models import Deleted, Snapshot
from doogie_client.web.viewer import Viewer

RETRY_S = 1.0
"""Before a lost database is tried again."""

log = structlog.get_logger(__name__)


class Subscription:
    """What one stream has not told yet: at most one entry for each configuration."""

    def __init__(self) -> None:
        self._records: dict[str, ConfigRecord | None] = {}
        self._all = False
        self._ended = False
        self._news = asyncio.Event()

    def tell(self, config_id: str, record: ConfigRecord | None) -> None:
        """A configuration is so now; None: it is gone."""
        self._records[config_id] = record
        self._news.set()

    def tell_all(self) -> None:
        """Some changes were missed: all must be looked at."""
        self._all = True
        self._news.set()

    def end(self) -> None:
        """Nothing more will come."""
        self._ended = True
        self._news.set()

    @property
    def ended(self) -> bool:
        """Whether the stream is to end."""
        return self._ended

    async def wait(self) -> None:
        """Until there is something to take."""
        await self._news.wait()

    def take(self) -> dict[str, ConfigRecord | None] | None:
        """What is new by id, and forget it; None: look at all."""
        records, looks_at_all = self._records, self._all
        self._records, self._all = {}, False
        self._news.clear()
        return None if looks_at_all else records


class News:
    """The store's changes, read once for all streams of this process. ``run`` it as a task."""

    def __init__(self, store: ConfigStore) -> None:
        self._store = store
        self._subscriptions: set[Subscription] = set()
        self._ended = False

    @contextmanager
    def subscribed(self) -> Iterator[Subscription]:
        """A subscription for the block; it begins with ``look at all``."""
        subscription = Subscription()
        subscription.tell_all()
        if self._ended:
            subscription.end()
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)

    def end(self) -> None:
        """End every stream."""
        self._ended = True
        for subscription in self._subscriptions:
            subscription.end()

    async def run(self) -> None:
        """Read changes until cancelled; what was missed while the database was away is looked up afterwards."""
        while True:
            try:
                async with self._store.changes() as changes:
                    self._look_at_all()
                    async for change in changes:
                        if change.config_id is None:
                            self._look_at_all()
                        elif self._subscriptions:
                            record = await self._store.get(change.config_id)
                            for subscription in self._subscriptions:
                                subscription.tell(change.config_id, record)
            except StoreError as exc:
                log.warning("changes_lost", error=str(exc))
            await asyncio.sleep(RETRY_S)

    def _look_at_all(self) -> None:
        for subscription in self._subscriptions:
            subscription.tell_all()


async def stream(
    request: web.Request,
    subscription: Subscription,
    viewer: Viewer,
    *,
    is_still_known: Callable[[], Awaitable[bool]],
    heartbeat_s: float,
) -> web.StreamResponse:
    """Answer with events until the caller goes away, may no longer see them, or the app ends.

    Args:
        request: of the caller.
        subscription: of ``News``.
        viewer: what the caller may see.
        is_still_known: whether the caller is who it was; asked with every heartbeat.
        heartbeat_s: between two, so that neither side keeps a dead connection.
    """
    response = web.StreamResponse(headers={hdrs.CONTENT_TYPE: "text/event-stream; charset=utf-8"})
    response.headers["X-Accel-Buffering"] = "no"  # nginx would hold events back
    known: set[str] = set()
    count = 0
    await response.prepare(request)
    now = asyncio.get_running_loop().time
    beat = now() + heartbeat_s
    try:
        while not subscription.ended:
            if now() >= beat:
                if not await is_still_known():
                    break
                beat = now() + heartbeat_s
                await _write(request, response, ":\n\n", heartbeat_s)
            with suppress(TimeoutError):
                async with asyncio.timeout_at(beat):
                    await subscription.wait()
            for event, data in await _events(subscription, known, viewer):
                count += 1
                text = f"id: {count}\nevent: {event}\ndata: {data.model_dump_json()}\n\n"
                await _write(request, response, text, heartbeat_s)
    except StoreError as exc:
        log.warning("event_stream_ended", error=str(exc))  # its caller comes back, for a snapshot
    return response


async def _write(request: web.Request, response: web.StreamResponse, text: str, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await response.write(text.encode())
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()  # else what is unsent would hold the connection for ever
        raise ConnectionResetError("the reader of an event stream does not read") from None


async def _events(subscription: Subscription, known: set[str], viewer: Viewer) -> list[tuple[str, BaseModel]]:
    """What is new for a stream that has told of ``known``."""
    records = subscription.take()
    if records is None:
        everything = await viewer.list_visible()
        known.clear()
        known.update(record.id for record in everything)
        return [("snapshot", Snapshot(configs=[viewer.event(record) for record in everything]))]
    events: list[tuple[str, BaseModel]] = []
    for config_id, record in records.items():
        if record is not None and viewer.may_see(record):
            known.add(config_id)
            events.append(("config", viewer.event(record)))
        elif config_id in known:
            known.discard(config_id)
            events.append(("deleted", Deleted(id=config_id)))
    return events
