"""``/metrics`` of a proxy that works: what it counts, who may read it, and that no client can make it grow."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from tests.support.harness import (
    OTHER_TOKEN,
    TOOLBOX,
    ProxyUnderTest,
    doogie_proxy_command,
    policy_document,
    proxy_under_test,
    toolbox_rule,
)

Series = tuple[str, tuple[tuple[str, str], ...]]


@pytest.fixture
async def proxy(engine: str, tmp_path: Path) -> AsyncIterator[ProxyUnderTest]:
    """``other`` may read metrics. The rule ``broken`` fails in the engine."""
    toolbox = toolbox_rule(stdio={"buffer": "64KiB", "max_message": "64KiB"}, lifetime={"stop_grace_s": 0})
    broken = toolbox_rule(name="broken", network="doogie-test-no-such-network", env={"allow": ["BREAK"]})
    short = toolbox_rule(name="short", env={"allow": ["SHORT"]}, lifetime={"detached_ttl_s": 1, "stop_grace_s": 0})
    document = policy_document(toolbox, broken, short)
    document["clients"]["other"]["metrics"] = True  # type: ignore[index]  # a mapping of mappings
    async with proxy_under_test(tmp_path, document, sweep_interval_s=0.2) as running:
        yield running


async def series(proxy: ProxyUnderTest) -> dict[Series, float]:
    """Every sample by name and labels."""
    answer = await proxy.call("GET", "/metrics", token=OTHER_TOKEN)
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def value(found: dict[Series, float], name: str, **labels: str) -> float:
    return found.get((name, tuple(sorted(labels.items()))), 0)


async def test_only_a_client_that_the_policy_names_for_it_reads_metrics(proxy: ProxyUnderTest) -> None:
    refused = await proxy.call("GET", "/metrics")
    assert (refused.status, refused.problem) == (403, "policy-denied")
    assert "metrics: true" in refused.json["detail"]
    assert (await proxy.call("GET", "/metrics", token=None)).status == 401
    assert value(await series(proxy), "doogie_problems_total", problem="policy-denied") == 1


async def test_what_happens_is_counted(proxy: ProxyUnderTest) -> None:
    async def start(name: str, *args: str, **body: object) -> int:
        answer = await proxy.call("POST", f"/v1/servers/{name}/start", {"image": TOOLBOX, "args": list(args), **body})
        return answer.status

    with capture_logs() as logs:
        assert await start("echo", "echo-lines") == 201
        assert await start("echo", "echo-lines") == 200
        assert await start("echo", "cat") == 409
        assert await start("broken", "sleep", env={"BREAK": "1"}) == 502
        assert await start("denied", "sleep", env={"NO": "1"}) == 403
        assert await start("short", "sleep", env={"SHORT": "1"}) == 201
        assert await start("dead", "exit", "3") == 201
        async with proxy.stdio("echo") as ws:
            attached = await series(proxy)
            await ws.send_bytes(b"\x00" + b"x" * 999 + b"\n")
            received = 0
            while received < 1000:
                received += len((await ws.receive(timeout=20)).data) - 1
        await proxy.until_detached("echo")
        await proxy.until("dead", "exited")
        await proxy.until("short", "exited")
        for name in ("echo", "dead", "short"):
            await proxy.stop(name)
    found = await series(proxy)
    starts = {labels: count for (name, labels), count in found.items() if name == "doogie_starts_total"}
    assert starts == {
        (("outcome", "created"), ("rule", "toolbox")): 2,
        (("outcome", "created"), ("rule", "short")): 1,
        (("outcome", "found"), ("rule", "toolbox")): 1,
        (("outcome", "refused"), ("rule", "toolbox")): 1,
        (("outcome", "failed"), ("rule", "broken")): 1,
        (("outcome", "denied"), ("rule", "")): 1,
    }
    for phase, count in (("create", 4), ("attach", 4), ("start", 4), ("pull", 0)):
        assert value(found, "doogie_start_phase_seconds_count", phase=phase) == count
    assert value(found, "doogie_server_exits_total", rule="toolbox", reason="exited") == 1
    assert value(found, "doogie_server_exits_total", rule="toolbox", reason="stopped") == 1
    assert value(found, "doogie_server_exits_total", rule="short", reason="lease_detached") == 1
    assert value(attached, "doogie_servers", rule="toolbox", state="running") >= 1
    assert (value(attached, "doogie_stdio_attached"), value(found, "doogie_stdio_attached")) == (1, 0)
    assert value(found, "doogie_servers", rule="toolbox", state="running") == 0
    assert value(found, "doogie_stdio_bytes_total", stream="stdin") == 1000
    assert value(found, "doogie_stdio_bytes_total", stream="stdout") == 1000
    assert value(found, "doogie_stdio_bytes_total", stream="stderr") == len("exiting with code 3\n")
    assert value(found, "doogie_stdio_sessions_total", subprotocol="v5.channel.k8s.io", code="1000") == 1
    assert value(found, "doogie_problems_total", problem="spec-conflict") == 1
    assert value(found, "doogie_engine_failures_total", call="start", failure="NotFound") == 1
    assert value(found, "doogie_engine_call_seconds_count", call="create") == 4
    assert value(found, "doogie_ready") == 1
    assert value(found, "doogie_event_loop_tasks") > 3
    assert value(found, "process_open_fds") > 3
    [session] = [log for log in logs if log["event"] == "stdio_session"]
    assert (session["client"], session["server"], session["rule"]) == ("chat", "echo", "toolbox")
    assert (session["stdin_bytes"], session["stdout_bytes"]) == (1000, 1000)
    [life] = [log for log in logs if log["event"] == "server_exited" and log["server"] == "echo"]
    assert {"reason": "stopped", "stdin_bytes": 1000, "stdout_bytes": 1000, "stderr_bytes": 0}.items() <= life.items()
    assert 0 < life["duration_s"] < 60


async def test_time_that_a_server_waits_for_its_client_is_counted_while_it_waits(proxy: ProxyUnderTest) -> None:
    await proxy.start("flood", "flood")
    async with asyncio.timeout(20):
        while value(first := await series(proxy), "doogie_stdio_backpressure_seconds_total", stream="stdout") < 0.2:
            await asyncio.sleep(0.05)
        while value(await series(proxy), "doogie_stdio_backpressure_seconds_total", stream="stdout") < 0.4:
            await asyncio.sleep(0.05)
    assert value(first, "doogie_stdio_backpressure_seconds_total", stream="stdin") == 0


async def test_nothing_that_a_client_chooses_becomes_a_series(proxy: ProxyUnderTest) -> None:
    async def provoke(name: str) -> None:
        for method, path, body in (
            ("GET", f"/v1/servers/{name}", None),
            ("POST", f"/v1/servers/{name}/stop", None),
            ("POST", f"/v1/servers/{name}/renew", None),
            ("POST", f"/v1/servers/{name}/start", {"image": f"planted/{name}"}),
            ("POST", f"/v1/servers/{name}/start", {"image": TOOLBOX, "env": {f"planted_{name}": name}}),
            ("POST", f"/v1/servers/{name}/start?dry_run=1", {"image": TOOLBOX, "args": [f"planted {name}"]}),
            (f"PLANTED{name.upper().replace('.', '')}", "/v1/servers", None),
            ("GET", f"/planted/{name}", None),
            ("GET", f"/v1/servers?planted{name}=1", None),
        ):
            await proxy.call(method, path, body)
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await proxy.stdio(name, subprotocol=f"planted{name}")

        await proxy.call("GET", "/v1/policy", token=name)

    async def provoked() -> set[Series]:
        """But for calls of the engine, which come with time, too."""
        found = await series(proxy)
        assert "planted" not in repr(found)
        return {one for one in found if not one[0].startswith("doogie_engine_")}

    await provoke("planted")
    before = await provoked()
    for number in range(30):
        await provoke(f"planted.{number}")
    assert await provoked() == before


async def test_the_relay_answers_on_tcp_what_the_proxy_answers_on_its_socket(
    proxy: ProxyUnderTest, tmp_path: Path
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    token = tmp_path / "token"
    token.write_text("wrong\n")
    relay = await asyncio.create_subprocess_exec(
        *doogie_proxy_command(), "metrics", f"--socket={proxy.socket}", f"--token-file={token}", f"--port={port}",
        env={key: value for key, value in os.environ.items() if not key.startswith("DOOGIE_")},
    )  # fmt: skip
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http, asyncio.timeout(30):
            while True:
                try:
                    async with http.get("/metrics") as answer:
                        told = answer.status, await answer.text()
                    assert told == (502, "the proxy answers with 401: see its log\n")
                    break
                except aiohttp.ClientConnectorError:
                    await asyncio.sleep(0.05)
            token.write_text(f"{OTHER_TOKEN}\n")
            async with http.get("/metrics") as answer:
                assert (answer.status, answer.headers["Content-Type"]) == (
                    200,
                    "text/plain; version=0.0.4; charset=utf-8",
                )
                assert "\ndoogie_ready 1.0\n" in await answer.text()
            token.unlink()
            async with http.get("/metrics") as answer:
                assert (answer.status, await answer.text()) == (502, "the proxy cannot be asked: FileNotFoundError\n")
            async with http.get("/v1/servers") as answer:
                assert answer.status == 404
    finally:
        relay.terminate()
        await relay.wait()
    assert relay.returncode == 0
