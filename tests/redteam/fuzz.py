"""A fuzzer for ``doogie-proxy serve``, a real process on the real engine: ``make fuzz N=100000 SEED=…``.

Every answer is judged as it comes; what the process is afterwards is compared with what it was after a warm-up. Then
nothing may be left: no container, no file descriptor, no memory, no traceback in its log, and no body that the engine
has seen may break ``tests/support/invariants.py``. A fault names the request, which its seed and number make again.
"""

import argparse
import asyncio
import secrets
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp

from tests.redteam.fuzz_requests import LIVE, Shot, shot
from tests.support.harness import (
    INSTANCES,
    OTHER_TOKEN,
    TOKEN,
    TOOLBOX,
    assert_nothing_left,
    containers_of,
    policy_document,
    toolbox_rule,
)
from tests.support.http_answers import RawAnswer, faults, read_answer
from tests.support.invariants import violations
from tests.support.served import Served, served

WORKERS = 24
PLANTED = "planted-5d1f0c"
"""The value of the one secret of the policy; it may come out nowhere."""
SILENCE_S = 0.3
"""After which nothing more is awaited on a connection of its own."""
SETTLE_S = 20
"""For connections and containers to end that nobody needs any more."""
STREAMS = 3
"""Of the one server that is to run all the time."""
SOCKET_BUFFER_BYTES = 65_536
"""More than this is not sent in one piece: the answer may be lost with a connection that is closed meanwhile."""
GROWTH = 1.10
"""What memory may have become of what it was after the warm-up."""
MAX_FAULTS = 20

_REFUSALS = (400, 401, 422, 431)


class Footprint(NamedTuple):
    """What the process holds while nobody asks anything of it."""

    rss_bytes: int
    open_files: int
    """Those to the engine apart."""
    streams: int
    """Attachments to containers."""


NOTHING = Footprint(0, 0, 0)


@dataclass
class Tally:
    """What came of it all."""

    seed: str
    answers: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    sent: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    seconds: float = 0
    before: Footprint = NOTHING
    after: Footprint = NOTHING
    containers: int = 0

    def fault(self, number: int, one: Shot, what: str) -> None:
        """Note one, with what makes the request again."""
        self.faults.append(f"seed {self.seed} number {number} ({one.category}): {what}; sent {one.data[:300]!r}")

    def judge(self, number: int, one: Shot, answer: RawAnswer) -> None:
        """Count an answer, and look at it."""
        self.answers[one.category][str(answer.status)] += 1
        for what in faults(answer, to_head=one.to_head):
            self.fault(number, one, what)
        if one.refused and answer.status not in _REFUSALS:
            self.fault(number, one, f"{answer.status} without a valid token")
        if PLANTED.encode() in answer.body:
            self.fault(number, one, "the answer shows a secret")

    def table(self) -> str:
        """For people."""
        lines = [f"seed {self.seed}", f"{'':10} {'requests':>8}  answers"]
        for category, count in sorted(self.sent.items()):
            answers = ", ".join(f"{status}: {n}" for status, n in sorted(self.answers[category].items()))
            lines.append(f"{category:10} {count:8}  {answers}")
        total, before, after = self.sent.total(), self.before, self.after
        lines += [
            f"{'all':10} {total:8}  in {self.seconds:.0f} s, {total / max(self.seconds, 1e-9):.0f} a second",
            f"containers created: {self.containers}",
            f"memory: {before.rss_bytes / 2**20:.1f} MiB after the warm-up, {after.rss_bytes / 2**20:.1f} at the end",
            f"open files: {before.open_files} after the warm-up, {after.open_files} at the end",
            f"faults: {len(self.faults)}",
        ]
        return "\n".join(lines + self.faults[:MAX_FAULTS])


def policy(directory: Path) -> dict[str, Any]:
    """One cheap rule with a bit of everything, and one whose image is not there; starts are few."""
    secret = directory / "secret"
    secret.write_text(PLANTED)
    rule = toolbox_rule(
        args={"patterns": ["sleep", "echo-lines"]},
        tmpfs={"/home/app": "1MiB"},
        secrets={"key": {"file": str(secret), "env": "KEY"}},
        mounts={"scratch": {"tmpfs": "1MiB", "target": "/scratch"}},
        stdio={"max_message": "64KiB", "buffer": "128KiB"},
        lifetime={"stop_grace_s": 1, "keep_exited_s": 5},
    )
    document = policy_document(rule, toolbox_rule(name="missing", images=["doogie-test/never-built:1"]))
    clients: Any = document["clients"]
    clients["chat"] |= {"max_running": 2, "starts_per_minute": 60}
    return document


async def fuzz(directory: Path, *, seed: str, count: int, warm_up: int) -> Tally:
    """Send ``count`` requests after ``warm_up`` others, and say what came of it."""
    tally = Tally(seed)
    async with served(directory, policy(directory), body_timeout_s=1, close_timeout_s=1, sweep_interval_s=2) as proxy:
        await _start_live(proxy)
        begun = time.monotonic()
        numbers = iter(range(warm_up + count))
        await _volley(proxy, tally, numbers, warm_up)
        tally.seconds = time.monotonic() - begun
        tally.before = await _settled(proxy)
        begun = time.monotonic()
        await _volley(proxy, tally, numbers, count)
        tally.seconds += time.monotonic() - begun
        tally.after = await _settled(proxy)
        tally.containers = len(proxy.recorder.creates())
        tally.faults += await _aftermath(proxy, tally)
    tally.faults += [f"in the log: {event}" for event in proxy.defects()]
    if PLANTED in proxy.log.read_text():
        tally.faults.append("the log shows a secret")
    if left := containers_of(proxy.instance):
        tally.faults.append(f"containers left behind: {left}")
    return tally


async def _start_live(proxy: Served) -> None:
    body = {"image": TOOLBOX, "args": ["echo-lines"]}
    headers = {"Authorization": f"Bearer {OTHER_TOKEN}"}
    async with (
        proxy.http() as http,
        http.post(f"http://proxy/v1/servers/{LIVE}/start", json=body, headers=headers) as got,
    ):
        if got.status != 201:
            raise AssertionError(f"{LIVE} does not start: {got.status} {await got.text()}")


async def _volley(proxy: Served, tally: Tally, numbers: Iterator[int], count: int) -> None:
    """The next ``count`` requests, by workers that each keep a connection."""
    mine = (next(numbers) for _ in range(count))
    async with asyncio.TaskGroup() as group:
        for _ in range(min(WORKERS, count)):
            group.create_task(_worker(proxy, tally, mine))


async def _worker(proxy: Served, tally: Tally, numbers: Iterator[int]) -> None:
    kept: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
    for number in numbers:
        if len(tally.faults) >= MAX_FAULTS:
            break
        one = shot(tally.seed, number)
        tally.sent[one.category] += 1
        if one.alone:
            await _alone(proxy, tally, number, one)
            continue
        kept = await _kept(proxy, tally, number, one, kept)
    if kept is not None:
        kept[1].close()


async def _kept(
    proxy: Served,
    tally: Tally,
    number: int,
    one: Shot,
    connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None,
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
    """Ask over a connection that is kept; returns it, unless it has ended. One that ended before is made anew."""
    for reused in (connection is not None, False):
        reader, writer = connection if reused and connection else await asyncio.open_unix_connection(proxy.socket)
        answer = None
        try:
            async with asyncio.timeout(60):
                with suppress(OSError):  # refused before all of it was sent: the answer is there nevertheless
                    writer.write(one.data)
                    await writer.drain()
                answer = await read_answer(reader, to_head=one.to_head)
        except (TimeoutError, ValueError, asyncio.IncompleteReadError) as exc:
            writer.close()
            tally.fault(number, one, f"no whole answer: {exc!r}")
            return None
        except OSError as exc:
            writer.close()
            if reused:
                continue
            if len(one.data) > SOCKET_BUFFER_BYTES:
                tally.answers[one.category]["reset"] += 1  # refused before all of it was sent
            else:
                tally.fault(number, one, f"no answer: {exc!r}")
            return None
        if answer is not None:
            tally.judge(number, one, answer)
            if answer.closes:
                writer.close()
                return None
            return reader, writer
        writer.close()
    tally.fault(number, one, "the connection was closed without an answer")
    return None


async def _alone(proxy: Served, tally: Tally, number: int, one: Shot) -> None:
    """Ask over a new connection, and read answers until it ends or falls silent."""
    reader, writer = await asyncio.open_unix_connection(proxy.socket)
    answered = False
    try:
        with suppress(OSError):
            writer.write(one.data)
            await writer.drain()
        while True:
            async with asyncio.timeout(SILENCE_S):
                answer = await read_answer(reader, to_head=one.to_head)
            if answer is None:
                if not answered:
                    tally.answers[one.category]["closed"] += 1
                break
            answered = True
            tally.judge(number, one, answer)
            if answer.status == 101:
                await _garbage(reader, writer, one)
                break
            if one.to_head and answer.closes:
                break  # what the parser refuses has no method: the problem itself follows
    except (ValueError, asyncio.IncompleteReadError) as exc:
        tally.fault(number, one, f"no whole answer: {exc!r}")
    except TimeoutError:
        if not answered:  # it waits for more of the request, or the server is starting
            tally.answers[one.category]["silence"] += 1
    except OSError:
        tally.answers[one.category]["reset"] += 1
    finally:
        writer.transport.abort()


async def _garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, one: Shot) -> None:
    """Send a WebSocket what is none, and take what comes, until it ends or falls silent."""
    with suppress(OSError, TimeoutError):
        writer.write(one.frames)
        async with asyncio.timeout(SILENCE_S):
            await writer.drain()
            while await reader.read(65536):
                pass


async def _settled(proxy: Served) -> Footprint:
    """What the process holds once the servers of the fuzzed client are gone, and what belonged to them."""
    await proxy.stop_all([TOKEN])
    found = NOTHING
    deadline = time.monotonic() + SETTLE_S
    while time.monotonic() < deadline:
        # Those to the engine come and go with its client's pool: what must end is the streams among them.
        files = proxy.open_files() - proxy.recorder.connections
        last, found = found, Footprint(proxy.rss_bytes(), files, proxy.recorder.streams)
        if found.streams == STREAMS and found[1:] == last[1:]:
            break
        await asyncio.sleep(0.5)
    return found


async def _aftermath(proxy: Served, tally: Tally) -> list[str]:
    """What must hold when all is over."""
    found = []
    async with proxy.http() as http, http.get("http://proxy/readyz") as ready:
        if ready.status != 200:
            found.append(f"readyz: {ready.status} {await ready.text()}")
    if not await _still_works(proxy):
        found.append(f"{LIVE} does not answer any more")
    await proxy.stop_all([TOKEN, OTHER_TOKEN])
    if tally.after.open_files > tally.before.open_files:
        found.append(f"open files: {tally.before.open_files} have become {tally.after.open_files}")
    if tally.after.streams != STREAMS:
        found.append(f"{tally.after.streams} attachments are open, of one server")
    if tally.after.rss_bytes > tally.before.rss_bytes * GROWTH:
        found.append(f"memory: {tally.before.rss_bytes} bytes have become {tally.after.rss_bytes}")
    for create in proxy.recorder.creates():
        found += violations(create.body)
    return found


async def _still_works(proxy: Served) -> bool:
    """Whether the server that got all the garbage gives a line back that it is sent now."""
    line = secrets.token_hex(16).encode()
    headers = {"Authorization": f"Bearer {OTHER_TOKEN}"}
    url = f"http://proxy/v1/servers/{LIVE}/stdio?takeover=1"
    seen = b""
    with suppress(TimeoutError):
        async with (
            asyncio.timeout(30),
            proxy.http() as http,
            http.ws_connect(url, protocols=["v5.channel.k8s.io"], headers=headers, max_msg_size=0) as ws,
        ):
            await ws.send_bytes(b"\0\n" + line + b"\n")
            async for message in ws:
                if message.type is aiohttp.WSMsgType.BINARY and message.data[:1] == b"\1":
                    seen = (seen + message.data[1:])[-1024:]
                if line in seen:
                    return True
    return False


def main() -> int:
    """The command; exit code 1 when there was a fault."""
    parser = argparse.ArgumentParser(description="fuzz doogie-proxy serve on the real engine")
    parser.add_argument("--count", type=int, default=100_000, help="requests, after the warm-up")
    parser.add_argument("--warm-up", type=int, default=5_000, help="requests before memory is measured")
    parser.add_argument("--seed", default="", help="of an earlier run, to repeat it; default: a new one")
    options = parser.parse_args()
    seed = options.seed or secrets.token_hex(4)
    print(f"seed {seed}", flush=True)
    try:
        with tempfile.TemporaryDirectory(prefix="doogie-fuzz-") as directory:
            tally = asyncio.run(fuzz(Path(directory), seed=seed, count=options.count, warm_up=options.warm_up))
        print(tally.table())
    finally:
        for instance in INSTANCES:
            assert_nothing_left(instance)
    return 1 if tally.faults else 0


if __name__ == "__main__":
    sys.exit(main())
