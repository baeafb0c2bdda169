"""Leases: what renews them, what outlives the proxy that counted, and what was begun when it died."""

import asyncio
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from doogie_contract.channels import CloseCode
from doogie_proxy.state import StateLockedError
from tests.support.harness import (
    OTHER_TOKEN,
    TOKEN,
    TOOLBOX,
    ProxyUnderTest,
    containers_of,
    policy_document,
    proxy_under_test,
    toolbox_rule,
)
from tests.support.served import Served, served

LONG = {"detached_ttl_s": 600, "max_age_s": 3600, "stop_grace_s": 0}
SHORT = {"detached_ttl_s": 1, "keep_exited_s": 3600, "stop_grace_s": 0}


def lifetime(**fields: int) -> dict[str, object]:
    return policy_document(toolbox_rule(lifetime=fields))


def expiry(status: Any) -> datetime:
    return datetime.fromisoformat(status["expires_at"])


async def status_of(proxy: ProxyUnderTest, name: str = "box") -> Any:
    return (await proxy.call("GET", f"/v1/servers/{name}")).json


@asynccontextmanager
async def attached(socket: Path) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """The stdio of the server, on a connection of its own."""
    async with (
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(socket))) as http,
        http.ws_connect(
            "http://proxy/v1/servers/box/stdio",
            protocols=["v5.channel.k8s.io"],
            headers={"Authorization": f"Bearer {TOKEN}"},
        ) as ws,
    ):
        yield ws


async def test_renew_counts_as_if_the_last_client_had_left_just_now(engine: str, tmp_path: Path) -> None:
    async with proxy_under_test(tmp_path, lifetime(**LONG)) as proxy:
        first = expiry(await proxy.start("box", "sleep"))
        before = datetime.now(UTC)
        answer = await proxy.call("POST", "/v1/servers/box/renew")
        assert (answer.status, answer.json["state"]) == (200, "running")
        assert expiry(answer.json) == expiry(await status_of(proxy)) > first
        assert before <= expiry(answer.json) - timedelta(seconds=600) <= datetime.now(UTC)
        for name, token in (("nix", TOKEN), ("box", OTHER_TOKEN)):
            refused = await proxy.call("POST", f"/v1/servers/{name}/renew", token=token)
            assert (refused.status, refused.problem) == (404, "not-found")


async def test_renewing_in_time_keeps_a_server_that_nobody_is_attached_to(engine: str, tmp_path: Path) -> None:
    async with proxy_under_test(tmp_path, lifetime(**{**SHORT, "detached_ttl_s": 2}), sweep_interval_s=0.1) as proxy:
        first = expiry(await proxy.start("box", "sleep"))
        while datetime.now(UTC) < first + timedelta(seconds=1):
            assert (await proxy.call("POST", "/v1/servers/box/renew")).json["state"] == "running"
            await asyncio.sleep(0.2)
        assert (await proxy.until("box", "exited"))["exit"]["reason"] == "lease_detached"
        answer = await proxy.call("POST", "/v1/servers/box/renew")
        assert (answer.status, answer.json["state"]) == (200, "exited")


async def test_nothing_renews_max_age(engine: str, tmp_path: Path) -> None:
    async with proxy_under_test(tmp_path, lifetime(**{**LONG, "max_age_s": 300})) as proxy:
        status = await proxy.start("box", "sleep")
        end = datetime.fromisoformat(status["created_at"]) + timedelta(seconds=300)
        renewed = await proxy.call("POST", "/v1/servers/box/renew")
        async with proxy.stdio("box"):
            attached = await proxy.call("POST", "/v1/servers/box/renew")
        assert [expiry(status), expiry(renewed.json), expiry(attached.json)] == [end] * 3


async def test_the_clock_goes_on_over_a_restart_and_starts_anew_where_the_directory_is_lost(
    engine: str, tmp_path: Path
) -> None:
    async with proxy_under_test(tmp_path, lifetime(**LONG), leave_running=True) as first:
        await first.start("box", "sleep")
        async with first.stdio("box"):
            pass
        await first.until_detached("box")
        counted = expiry(await status_of(first))
    async with proxy_under_test(tmp_path, lifetime(**LONG), instance=first.instance, leave_running=True) as second:
        assert expiry(await status_of(second)) == counted
    shutil.rmtree(tmp_path / "state")
    lost = datetime.now(UTC)
    async with proxy_under_test(tmp_path, lifetime(**LONG), instance=first.instance) as third:
        status = await status_of(third)
        assert status["state"] == "running"
        assert expiry(status) >= lost + timedelta(seconds=600)
        await third.stop("box")
    assert [path.name for path in (tmp_path / "state" / first.instance).iterdir()] == ["lock"]


async def test_a_lease_that_ends_while_no_proxy_runs_is_ended_by_the_next_one(engine: str, tmp_path: Path) -> None:
    async with proxy_under_test(tmp_path, lifetime(**SHORT), leave_running=True, sweep_interval_s=3600) as first:
        ends = expiry(await first.start("box", "sleep"))
    while datetime.now(UTC) < ends:
        await asyncio.sleep(0.05)
    async with proxy_under_test(tmp_path, lifetime(**SHORT), instance=first.instance, sweep_interval_s=3600) as second:
        assert (await second.until("box", "exited"))["exit"]["reason"] == "lease_detached"
        await second.stop("box")


async def test_who_was_attached_when_the_proxy_ended_has_all_the_time_again(engine: str, tmp_path: Path) -> None:
    async with AsyncExitStack() as outlives_the_proxy:
        async with proxy_under_test(tmp_path, lifetime(**LONG), leave_running=True) as first:
            await first.start("box", "sleep")
            ws = await outlives_the_proxy.enter_async_context(attached(first.socket))
            closing = asyncio.create_task(ws.receive(timeout=20))
        assert (await closing).data == CloseCode.SERVICE_RESTART
        ended = datetime.now(UTC)
    async with proxy_under_test(tmp_path, lifetime(**LONG), instance=first.instance) as second:
        assert expiry(await status_of(second)) >= ended + timedelta(seconds=600)
        await second.stop("box")


async def test_a_second_proxy_of_the_instance_does_not_start(engine: str, tmp_path: Path) -> None:
    async with proxy_under_test(tmp_path, lifetime(**LONG)) as first:
        await first.start("box", "sleep")
        with pytest.raises(StateLockedError, match="another process has"):
            async with proxy_under_test(tmp_path, lifetime(**LONG), instance=first.instance):
                pass
        assert (await status_of(first))["state"] == "running"


# ── the proxy dies in the middle of an end ───────────────────────────────────────────────────────


@asynccontextmanager
async def killed(directory: Path, document: dict[str, object], *, sweep_interval_s: float = 5) -> AsyncIterator[Served]:
    """A proxy with one server that ignores SIGTERM, which the block ends in the hard way."""
    async with served(directory, document, sweep_interval_s=sweep_interval_s) as proxy:
        proxy.ends_with = -signal.SIGKILL
        await proxy.post("/v1/servers/box/start", {"image": TOOLBOX, "args": ["ignore-term"]}, token=TOKEN)
        async with attached(proxy.socket) as ws:  # it has installed its handler once it says so
            await ws.receive(timeout=20)
        yield proxy
        proxy.process.kill()


async def until_the_engine_stops_it(proxy: Served) -> None:
    async with asyncio.timeout(20):
        while not any("/stop" in request.path for request in proxy.recorder.requests):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("emptied", [False, True])
async def test_a_stop_that_a_kill_cut_short_is_completed(engine: str, tmp_path: Path, emptied: bool) -> None:
    document = lifetime(**LONG)
    async with killed(tmp_path, document) as first:
        asked = asyncio.create_task(first.post("/v1/servers/box/stop", {"grace_s": 120}, token=TOKEN))
        await until_the_engine_stops_it(first)
    with pytest.raises(Exception, match=r"(?i)disconnected|reset"):
        await asked
    if emptied:
        shutil.rmtree(tmp_path / "state")
    async with proxy_under_test(tmp_path, document, instance=first.instance) as second:
        if emptied:  # nobody knows that it was to be stopped
            assert (await status_of(second))["state"] == "running"
            await second.stop("box")
        async with asyncio.timeout(30):
            while await asyncio.to_thread(containers_of, first.instance):
                await asyncio.sleep(0.05)
        assert (await second.call("GET", "/v1/servers/box")).status == 404


async def test_a_lease_whose_end_a_kill_cut_short_is_told_as_such(engine: str, tmp_path: Path) -> None:
    document = lifetime(detached_ttl_s=1, stop_grace_s=2, keep_exited_s=3600)
    async with killed(tmp_path, document, sweep_interval_s=0.1) as first:
        await until_the_engine_stops_it(first)
    async with proxy_under_test(tmp_path, document, instance=first.instance) as second:
        ended = (await second.until("box", "exited"))["exit"]
        assert (ended["reason"], ended["signal"]) == ("lease_detached", "SIGKILL")
        await second.stop("box")
