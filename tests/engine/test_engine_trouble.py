"""An engine that hangs, restarts, moves its socket, or speaks another API: said, bounded, and over when it is over."""

import asyncio
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from doogie_contract.channels import CloseCode
from tests.support.harness import (
    ENGINE_SOCKET,
    TOOLBOX,
    Answer,
    ProxyCalls,
    policy_document,
    proxy_under_test,
    toolbox_rule,
)
from tests.support.private_engine import SYSTEM, PrivateEngine, private_engine
from tests.support.served import Served, served

HANG_S = float(os.environ.get("DOOGIE_TEST_HANG_S", "3"))
"""How long the engine hangs; `DOOGIE_TEST_HANG_S=30` for a long look."""
TIMEOUT_S = 1.0
"""``DOOGIE_PROXY_ENGINE_TIMEOUT_S``."""
GRACE_S = 1
POOLED = 12
"""Connections that wait to be used again: ours to the proxy, the proxy's to the engine."""
SLEEP = {"image": TOOLBOX, "args": ["sleep"]}
DOCUMENT = policy_document(toolbox_rule(lifetime={"stop_grace_s": GRACE_S}))


@pytest.fixture(scope="module")
def private(engine: str) -> Iterator[PrivateEngine]:
    """An engine for these tests alone, whose containers outlive it."""
    with private_engine(SYSTEM, images=[TOOLBOX], source=ENGINE_SOCKET, live_restore=True) as started:
        yield started


@asynccontextmanager
async def calls_of(proxy: Served) -> AsyncIterator[ProxyCalls]:
    async with proxy.http() as http:
        yield ProxyCalls(proxy.instance, proxy.socket, http)


async def echoed(ws: "aiohttp.ClientWebSocketResponse[bool]", text: bytes) -> None:
    """Send a line and have it back."""
    await ws.send_bytes(b"\x00" + text + b"\n")
    received = b""
    async with asyncio.timeout(30):
        while not received.endswith(b"\n"):
            message = await ws.receive()
            assert message.type is aiohttp.WSMsgType.BINARY, message
            received += message.data[1:]
    assert received == text + b"\n"


async def readiness(proxy: ProxyCalls, status: int) -> list[str]:
    """The reasons, once ``/readyz`` answers with a status."""
    async with asyncio.timeout(30):
        while (answer := await proxy.call("GET", "/readyz")).status != status:
            await asyncio.sleep(0.02)
    reasons: list[str] = answer.json["reasons"]
    return reasons


async def timed(seconds: float, proxy: ProxyCalls, method: str, path: str, body: object = None) -> Answer:
    """A call that must be answered in time."""
    begun = time.monotonic()
    answer = await proxy.call(method, path, body)
    assert time.monotonic() - begun < seconds, (method, path, answer)
    return answer


@asynccontextmanager
async def beside(private: PrivateEngine, directory: Path) -> AsyncIterator[tuple[Served, ProxyCalls]]:
    """A proxy on the private engine that notices soon how that is."""
    async with (
        served(
            directory,
            DOCUMENT,
            engine=f"unix://{private.socket}",
            engine_timeout_s=TIMEOUT_S,
            sweep_interval_s=0.2,
            reconnect_s=0.1,
            engine_stale_after_s=0.1,  # it would exit at once if it took a hang for a dead socket
        ) as process,
        calls_of(process) as proxy,
    ):
        yield process, proxy
        assert {defect["level"] for defect in process.defects()} <= {"warning"}


async def ask_on_and_on(proxy: ProxyCalls, number: int) -> Counter[tuple[str, int, str]]:
    """One client that goes on asking for ``HANG_S``; what it was answered, and always in time."""
    seen: Counter[tuple[str, int, str]] = Counter()
    ends = time.monotonic() + HANG_S
    while time.monotonic() < ends:
        for what, seconds, method, path, body in (
            ("list", TIMEOUT_S, "GET", "", None),
            ("status", TIMEOUT_S, "GET", "/box3", None),
            ("start", 3 * TIMEOUT_S, "POST", f"/new{number}-{seen.total()}/start", SLEEP),
            ("stop", 3 * TIMEOUT_S + GRACE_S, "POST", f"/box{number}/stop", None),
        ):
            answer = await timed(seconds, proxy, method, f"/v1/servers{path}", body)
            seen[what, answer.status, "" if answer.status == 200 else answer.problem] += 1
    return seen


async def names_of(proxy: ProxyCalls) -> set[str]:
    return {server["name"] for server in (await proxy.call("GET", "/v1/servers")).json["servers"]}


async def nothing_left(private: PrivateEngine, proxy: ProxyCalls, stopped: set[str]) -> None:
    """The stops that came to nothing are completed, and what was made for nobody is removed; the rest is stopped here.

    A start that was told to have failed may have reached the engine all the same; then its server is listed and runs.
    """
    async with asyncio.timeout(30):
        while stopped & await names_of(proxy):
            await asyncio.sleep(0.05)
        while private.docker("ps", "-aq"):
            for name in await names_of(proxy):
                await proxy.stop(name)
            await asyncio.sleep(0.05)


async def test_an_engine_that_hangs_under_load_times_out_every_call_and_afterwards_all_is_well(
    private: PrivateEngine, tmp_path: Path
) -> None:
    async with beside(private, tmp_path) as (process, proxy), AsyncExitStack() as stack:
        await proxy.start("warm-up", "sleep")
        await proxy.stop("warm-up")
        files = process.open_files()
        for name in ("box0", "box1", "box2", "box3"):
            await proxy.start(name, "echo-lines")
        streams = [await stack.enter_async_context(proxy.stdio(name)) for name in ("box2", "box3")]
        for ws in streams:
            await echoed(ws, b"before")
        with private.hanging():
            asking = [asyncio.create_task(ask_on_and_on(proxy, number)) for number in (0, 1)]
            assert await readiness(proxy, 503) == ["the engine does not answer"]
            for ws in streams:
                await ws.send_bytes(b"\x00during\n")
            answers = await asking[0] + await asking[1]
        print(f"\nthe engine hung for {HANG_S:g} s, and calls were answered: {dict(answers)}")
        assert {what for what, status, _ in answers if status == 200} == {"list", "status"}
        assert {seen[1:] for seen in answers} - {(200, "")} <= {(503, "engine-unavailable"), (504, "engine-timeout")}
        assert await readiness(proxy, 200) == []
        for ws in streams:  # what was sent meanwhile was not lost
            assert (await ws.receive(timeout=20)).data == b"\x01during\n"
            await echoed(ws, b"after")
        for ws in streams:
            await ws.close()
        await nothing_left(private, proxy, {"box0", "box1"})
        async with asyncio.timeout(30):
            while process.open_files() > files + POOLED:
                await asyncio.sleep(0.05)


async def test_starts_and_stops_that_a_hang_catches_in_the_middle_leave_nothing_behind(
    private: PrivateEngine, tmp_path: Path
) -> None:
    async with beside(private, tmp_path) as (_, proxy):
        for pause_s in (0.05, 0.3):
            for name in ("old0", "old1", "old2"):
                await proxy.start(name, "sleep")
            calls: list[tuple[str, float, object]] = [
                (f"/v1/servers/new{n}/start", 6 * TIMEOUT_S, SLEEP) for n in range(4)
            ]
            calls += [(f"/v1/servers/old{n}/stop", 3 * TIMEOUT_S + GRACE_S, None) for n in range(3)]
            caught = [asyncio.create_task(timed(limit, proxy, "POST", path, body)) for path, limit, body in calls]
            await asyncio.sleep(pause_s)  # some moment or other
            with private.hanging():
                await readiness(proxy, 503)
                statuses = [(await task).status for task in caught]
            print(f"\nhung after {pause_s} s: {statuses}")
            assert set(statuses) <= {200, 201, 503, 504}
            await readiness(proxy, 200)
            await nothing_left(private, proxy, {"old0", "old1", "old2"})


async def test_servers_outlive_a_restart_of_the_engine_and_clients_come_back(
    private: PrivateEngine, tmp_path: Path
) -> None:
    async with (
        served(tmp_path, DOCUMENT, engine=f"unix://{private.socket}", sweep_interval_s=0.2, reconnect_s=0.1) as process,
        calls_of(process) as proxy,
    ):
        before = await proxy.start("box", "echo-lines")
        async with proxy.stdio("box") as ws:
            await echoed(ws, b"one")
            private.stop()
            assert (await ws.receive(timeout=20)).data == CloseCode.ENGINE_LOST
            assert await readiness(proxy, 503) == ["the engine cannot be reached"]
            refused = await proxy.call("POST", "/v1/servers/other/start", {"image": TOOLBOX, "args": ["sleep"]})
            assert (refused.status, refused.problem) == (503, "engine-unavailable")
            private.start()  # not in a thread: it would end with that thread
        assert await readiness(proxy, 200) == []
        assert (await proxy.until("box", "running"))["container_id"] == before["container_id"]
        async with proxy.stdio("box") as ws:
            await echoed(ws, b"two")
        await proxy.stop("box")


async def test_a_socket_that_refuses_for_ever_ends_the_proxy_and_the_next_one_carries_on(
    private: PrivateEngine, tmp_path: Path
) -> None:
    mounted = tmp_path / "mounted.sock"  # as a mount of the file does, it goes on naming the socket that it was made of
    mounted.hardlink_to(private.socket)
    async with served(
        tmp_path, DOCUMENT, engine=f"unix://{mounted}", reconnect_s=0.1, engine_stale_after_s=1.0
    ) as process:
        process.ends_with = os.EX_TEMPFAIL
        async with calls_of(process) as proxy:
            await proxy.start("box", "echo-lines")
        private.stop()
        private.start()  # not in a thread: it would end with that thread
        begun = time.monotonic()
        async with asyncio.timeout(30):
            assert await process.process.wait() == os.EX_TEMPFAIL
        assert time.monotonic() - begun < 20
        assert process.log.read_text().splitlines()[-1] == (
            f"doogie-proxy: unix://{mounted} has refused for 1 s: start again, on the new socket"
        )
    on = str(private.socket)
    async with proxy_under_test(tmp_path, DOCUMENT, engine_socket=on, instance=process.instance) as second:
        async with second.stdio("box") as ws:
            await echoed(ws, b"hello")
        await second.stop("box")


@pytest.mark.parametrize(
    ("replace", "reason"),
    [
        ((b'"ApiVersion":"1.41"', b'"ApiVersion":"1.40"'), "API 1.40 is older than 1.41 (Docker 20.10)"),
        (
            (b'"MinAPIVersion":"1.', b'"MinAPIVersion":"9.'),
            "API 9.12 and newer is all that the engine speaks, not 1.51",
        ),
    ],
)
async def test_an_engine_that_speaks_no_api_of_ours_is_never_ready_and_says_why(
    private: PrivateEngine, tmp_path: Path, replace: tuple[bytes, bytes], reason: str
) -> None:
    async with proxy_under_test(
        tmp_path, DOCUMENT, engine_socket=str(private.socket), wait_ready=False, replace_in_answers=replace
    ) as proxy:
        async with asyncio.timeout(20):
            while (answer := await proxy.call("GET", "/readyz")).json["reasons"] != [reason]:
                assert answer.status == 503
                await asyncio.sleep(0.02)
        start = await proxy.call("POST", "/v1/servers/box/start", {"image": TOOLBOX})
        assert (start.status, start.problem) == (503, "engine-unavailable")
        assert reason in start.json["detail"]


async def test_an_engine_that_speaks_later_apis_too_is_spoken_to_in_the_newest_that_is_known(
    newest_engine: PrivateEngine, tmp_path: Path
) -> None:
    async with proxy_under_test(
        tmp_path,
        DOCUMENT,
        engine_socket=str(newest_engine.socket),
        replace_in_answers=(b'"ApiVersion":"1.51"', b'"ApiVersion":"1.99"'),  # it would refuse 1.99
    ) as proxy:
        await proxy.start("box", "echo-lines")
        async with proxy.stdio("box") as ws:
            await echoed(ws, b"hello")
        await proxy.stop("box")
