"""The proxy is killed at any moment, again and again, and every container is accounted for.

    DOOGIE_KILLS=100 DOOGIE_SEED=7 pytest tests/engine/test_kill.py -s        (make kill-test N=100)

Each round: twenty servers are started, stopped and pulled for all at once; SIGKILL; the next process has swept when it
is ready, and then what it says must be what the engine says.
"""

import asyncio
import os
import random
import re
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.harness import ENGINE_SOCKET, TOKEN, TOOLBOX, docker, policy_document, toolbox_rule
from tests.support.registry import Published, Registry, relay
from tests.support.served import Served, served

KILLS = int(os.environ.get("DOOGIE_KILLS", "12"))
SERVERS = 20
IMAGES = 8
MIB = 2**20


@dataclass(frozen=True)
class Found:
    """A container of the instance, as the engine has it."""

    id: str
    server: str
    state: str
    code: int


def on_engine(instance: str) -> list[Found]:
    """All containers of the instance."""
    shown = '{{.ID}} {{.Label "io.doogie.server"}} {{.State}} {{.Status}}'
    label = f"label=io.doogie.instance={instance}"
    lines = docker("ps", "--all", "--no-trunc", "--filter", label, "--format", shown).splitlines()
    found = []
    for container_id, server, state, status in (line.split(" ", 3) for line in lines):
        code = re.match(r"Exited \((\d+)\)", status)
        found.append(Found(container_id, server, state, int(code[1]) if code else 0))
    return found


async def listed(proxy: Served) -> list[dict[str, Any]]:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with proxy.http() as http, http.get("http://proxy/v1/servers", headers=headers) as answer:
        servers: list[dict[str, Any]] = (await answer.json())["servers"]
        return servers


def disagreements(servers: Sequence[dict[str, Any]], containers: Sequence[Found]) -> Iterator[str]:
    """What a proxy says that nothing is asked of, against what there is."""
    names = Counter(container.server for container in containers)
    yield from (f"{count} containers of {name}" for name, count in names.items() if count > 1)
    by_id = {container.id: container for container in containers}
    for server in servers:
        container = by_id.pop(server["container_id"], None)
        match server["state"], container:
            case "running" | "stopping", Found(state="running"):
                pass
            case "exited", Found(state="exited") as dead if server["exit"]["code"] == dead.code:
                pass
            case _:
                yield f"{server['name']} is said to be {server['state']}, and there is {container}"
    yield from (f"nobody accounts for {container}" for container in by_id.values())


async def until_true(proxy: Served) -> tuple[list[str], float]:
    """What was not true at first, and how many seconds it took until all was."""
    begun, first = time.monotonic(), None
    while True:
        found = list(disagreements(await listed(proxy), await asyncio.to_thread(on_engine, proxy.instance)))
        first = found if first is None else first
        seconds = time.monotonic() - begun
        if not found:
            return first, seconds
        if seconds > 20:
            raise AssertionError(found)
        await asyncio.sleep(0.1)


class Load:
    """Starts and stops of all servers, without end."""

    def __init__(self, proxy: Served, images: Sequence[Published], seed: random.Random) -> None:
        self._proxy = proxy
        self._images = cycle(images)
        self._seed = seed
        self.answers: Counter[str] = Counter()

    async def run(self) -> None:
        async with self._proxy.http() as http, asyncio.TaskGroup() as group:
            for number in range(SERVERS):
                group.create_task(self._one(http, number))

    async def _one(self, http: aiohttp.ClientSession, number: int) -> None:
        url, headers = f"http://proxy/v1/servers/s{number}", {"Authorization": f"Bearer {TOKEN}"}
        with suppress(aiohttp.ClientError, ConnectionError):  # it is killed
            while True:
                what = self._seed.choice(("start", "start?wait=none", "stop"))
                body = None if what == "stop" else self._request(number)
                async with http.post(f"{url}/{what}", json=body, headers=headers) as answer:
                    text = await answer.text()
                    self.answers[f"{what} {answer.status}"] += 1
                    if answer.status not in (200, 201, 202, 409) and "a stop came before" not in text:
                        raise AssertionError(f"{what} s{number}: {text}")

    def _request(self, number: int) -> dict[str, object]:
        match number % 4:
            case 0:
                return {"image": next(self._images).pinned, "args": ["cat"]}
            case 1:
                return {"image": TOOLBOX, "args": ["exit", "3"]}
            case 2:
                return {"image": TOOLBOX, "args": ["cat"]}
        return {"image": TOOLBOX, "args": ["cat"], "env": {"GREETING": "for the rule that has no replay"}}


def forget_images(images: Sequence[Published]) -> None:
    """Have those pulled again that nothing runs of."""
    with suppress(subprocess.CalledProcessError):  # some are in use, or not there
        docker("image", "rm", *(image.by_digest for image in images))


@pytest.mark.timeout(60 + 10 * KILLS)
@pytest.mark.parametrize("state_is_lost", [False, True], ids=["state-kept", "state-lost"])
async def test_whatever_a_killed_proxy_was_at_the_next_one_accounts_for(
    own_registry: Registry, tmp_path: Path, state_is_lost: bool
) -> None:
    seed = int(os.environ.get("DOOGIE_SEED", "0")) or time.time_ns() % 10**6
    chance, kills = random.Random(seed), KILLS if "DOOGIE_KILLS" in os.environ else KILLS // 2
    print(f"\nseed {seed}")
    async with relay(own_registry) as between:
        images = [
            await own_registry.publish(f"tools/box{number}", "1", sizes=[MIB], via=between.address)
            for number in range(IMAGES)
        ]
        between.limit(8 * MIB)
        document: Any = policy_document(
            {"name": "pulled", "images": [image.pinned for image in images], "pull": "missing", "args": {"any": True}},
            toolbox_rule(env={}, lifetime={"stop_grace_s": 1}),
            toolbox_rule(name="no-replay", stdio={"replay": "none"}, lifetime={"stop_grace_s": 1}),
        )
        document["clients"]["chat"] |= {"starts_per_minute": 10**6, "max_running": 100}
        late, slowest, answers, killed_at = [], 0.0, Counter[str](), Counter[str]()
        settings: dict[str, Any] = {"engine": f"unix://{ENGINE_SOCKET}", "sweep_interval_s": 1}
        async with served(tmp_path, document, **settings) as proxy:
            for _ in range(kills):
                load = Load(proxy, images, chance)
                working = asyncio.create_task(load.run())
                await asyncio.sleep(chance.uniform(0.02, 1.5))  # the moment is what varies
                killed_at.update(server["state"] for server in await listed(proxy))
                await proxy.kill()
                await working
                answers += load.answers
                if state_is_lost:
                    shutil.rmtree(tmp_path / "state", ignore_errors=True)
                await asyncio.to_thread(forget_images, images)
                await proxy.run_again()
                untrue, seconds = await until_true(proxy)
                late += untrue
                slowest = max(slowest, seconds)
            await proxy.stop_all([TOKEN])
            assert on_engine(proxy.instance) == []
            assert await listed(proxy) == []
            assert proxy.defects() == []
        print(f"{kills} kills, {sum(answers.values())} answers: {dict(sorted(answers.items()))}")
        print(f"states at the kills: {dict(sorted(killed_at.items()))}")
        print(f"not true at the first look: {len(late)}; the longest until all was: {slowest:.1f} s")
        for line in late:
            print(f"  {line}")
