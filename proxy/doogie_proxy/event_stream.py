"""``GET /v1/events`` on the wire: server-sent events (WHATWG HTML, section 9.2).

    snapshot   all there is: first, and again whenever too much has changed to tell one by one
    server     one server as it is now; what a slow reader has missed is counted, not queued
    problem    why the stream ends; the last one
    : alive    a comment, when nothing happens

``id`` numbers them within one stream. Nothing is replayed: whoever comes back begins with a snapshot, whatever its
``Last-Event-ID``.
"""

import asyncio
from collections.abc import Callable

from aiohttp import web
from pydantic import BaseModel

from doogie_contract.models import ServerEvent, ServerList, ServerStatus
from doogie_contract.problems import Problem
from doogie_proxy.changes import Reader


async def send_events(
    response: web.StreamResponse,
    reader: Reader,
    *,
    everything: Callable[[], ServerList],
    status: Callable[[str], ServerStatus],
    ended: Callable[[], Problem | None],
    heartbeat_s: float,
) -> None:
    """Send events until ``ended`` says why no more.

    Args:
        response: prepared.
        reader: of the client's changes, from before ``everything`` is asked for.
        everything: the client's servers now.
        status: of one of them now, by name; absent ones too.
        ended: asked whenever the reader wakes.
        heartbeat_s: between two signs of life.
    """
    number = 0

    async def send(event: str, data: BaseModel) -> None:
        nonlocal number
        number += 1
        await response.write(f"id: {number}\nevent: {event}\ndata: {data.model_dump_json()}\n\n".encode())

    await send("snapshot", everything())
    while True:
        try:
            async with asyncio.timeout(heartbeat_s):
                news = await reader.next()
        except TimeoutError:
            await response.write(b": alive\n\n")
            continue
        if (problem := ended()) is not None:
            await send("problem", problem)
            return
        if news is None:
            await send("snapshot", everything())
            continue
        for name, changes in news.items():
            await send("server", ServerEvent(server=status(name), skipped=changes - 1))
