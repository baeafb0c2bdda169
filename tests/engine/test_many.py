"""Many servers at once: each answers, they are listed at once, and nothing of them is left in the proxy afterwards."""

import asyncio
import os
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from tests.support.harness import ProxyCalls, policy_document, toolbox_rule
from tests.support.served import Served, served

SERVERS = int(os.environ.get("DOOGIE_TEST_SERVERS", "40"))
"""``make many`` runs 200."""
AT_ONCE = 8
"""How many starts and stops are asked for at the same time; the engine's work, two cores for all of them."""
HELD = {"process_open_fds": 16, "doogie_event_loop_tasks": 0}
"""How many more there may be afterwards: connections to the engine wait a while to be used again."""
RSS = "process_resident_memory_bytes"
RSS_SLACK = 16 * 2**20
"""What the allocator may keep for the next time."""


@asynccontextmanager
async def calls_of(proxy: Served) -> AsyncIterator[ProxyCalls]:
    """On connections that end with the block."""
    async with proxy.http() as http:
        yield ProxyCalls(proxy.instance, proxy.socket, http)


async def figures(proxy: Served) -> dict[str, float]:
    """What the proxy holds: descriptors, tasks, memory."""
    async with calls_of(proxy) as calls:
        text = (await calls.call("GET", "/metrics")).text
    found = {sample.name: sample.value for family in text_string_to_metric_families(text) for sample in family.samples}
    return {name: found[name] for name in (*HELD, RSS)}


async def timed(work: Callable[[str], Awaitable[object]], names: Iterable[str]) -> float:
    """How many seconds it took to do it for each name, ``AT_ONCE`` at a time."""
    turn, begun = asyncio.Semaphore(AT_ONCE), time.monotonic()

    async def one(name: str) -> None:
        async with turn:
            await work(name)

    await asyncio.gather(*map(one, names))
    return time.monotonic() - begun


async def answer_s(proxy: ProxyCalls, name: str) -> float:
    """How long an attached server takes to give a line back."""
    async with proxy.stdio(name) as ws:
        begun = time.monotonic()
        await ws.send_bytes(b"\x00" + name.encode() + b"\n")
        message = await ws.receive(timeout=60)
        assert message.type is aiohttp.WSMsgType.BINARY
        assert message.data == b"\x01" + name.encode() + b"\n"
        return time.monotonic() - begun


async def test_many_servers_run_are_listed_answer_and_leave_nothing(engine: str, tmp_path: Path) -> None:
    document: Any = policy_document(toolbox_rule(resources={"memory": "64MiB"}, lifetime={"stop_grace_s": 1}))
    document["clients"]["chat"] |= {"metrics": True, "max_running": SERVERS, "starts_per_minute": 100 * SERVERS}
    names = [f"box{number:03}" for number in range(SERVERS)]
    listed_s = []
    async with served(tmp_path, document) as proxy:

        async def run(names: list[str]) -> tuple[float, list[float], float]:
            """Start all, list them, have all answer at once, stop all; how long it took, but for the lists."""
            async with calls_of(proxy) as calls:
                started_s = await timed(lambda name: calls.start(name, "echo-lines"), names)
                for _ in range(5):
                    begun = time.monotonic()
                    listed = (await calls.call("GET", "/v1/servers")).json["servers"]
                    listed_s.append(time.monotonic() - begun)
                    assert [(one["name"], one["state"]) for one in listed] == [(name, "running") for name in names]
                answers_s = await asyncio.gather(*(answer_s(calls, name) for name in names))
                during.update(await figures(proxy))
                return started_s, answers_s, await timed(calls.stop, names)

        during: dict[str, float] = {}
        await run(names[:AT_ONCE])  # what is made once and kept is made
        before = await figures(proxy)
        listed_s.clear()
        started_s, answers_s, stopped_s = await run(names)
        async with asyncio.timeout(60):
            after = await figures(proxy)
            while any(after[name] > before[name] + more for name, more in HELD.items()):
                await asyncio.sleep(0.1)
                after = await figures(proxy)
        list_ms, answer_ms = statistics.median(listed_s) * 1000, statistics.median(answers_s) * 1000
        print(f"\n{SERVERS} servers: started in {started_s:.1f} s, stopped in {stopped_s:.1f} s")
        print(f"listed in {list_ms:.1f} ms; asked all at once, each answered in {answer_ms:.1f} ms (medians)")
        for name, value in before.items():
            print(f"{name}: {value:.0f} before, {during[name]:.0f} meanwhile, {after[name]:.0f} afterwards")
        assert list_ms < 100
        assert after[RSS] <= before[RSS] + RSS_SLACK
        assert proxy.defects() == []
