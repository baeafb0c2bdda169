"""HTTP and WebSocket, by hand: what is no plain request of the API is refused, and holds neither memory nor time."""

import asyncio
import hmac
import json
import logging
import re
import struct
import unicodedata
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from doogie_proxy import auth
from doogie_proxy.api import OPERATIONS
from doogie_proxy.policy_file import parse
from tests.support.harness import (
    ENGINE_SOCKET,
    INSTANCES,
    OTHER_TOKEN,
    TOKEN,
    TOOLBOX,
    ProxyUnderTest,
    doogie_proxy_command,
    policy_document,
    proxy_under_test,
    toolbox_rule,
    write_yaml,
)
from tests.support.wire import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Peer,
    answer_to,
    attached,
    connected,
    frame,
    head,
    refusal_of,
    request_with_body,
    upgrade,
)

KIB = 2**10
MIB = 2**20
START = "/v1/servers/smuggled/start"
GOOD = {"image": TOOLBOX, "args": ["sleep"]}
SMUGGLED = request_with_body(f"POST {START}", GOOD)
"""A start that the policy allows: if it is ever taken for a request of its own, a container says so."""


@pytest.fixture
async def impatient(engine: str, tmp_path: Path) -> AsyncIterator[ProxyUnderTest]:
    """A proxy with small limits, and one rule with any arguments and messages of 64 KiB."""
    rule = toolbox_rule(stdio={"max_message": "64KiB", "buffer": "64KiB"})
    async with proxy_under_test(
        tmp_path,
        policy_document(rule),
        sweep_interval_s=3600,
        idle_timeout_s=0.6,
        body_timeout_s=0.6,
        send_timeout_s=0.6,
        close_timeout_s=0.3,
        connections_max=4,
        client_requests_max=2,
        body_max_bytes=64 * KIB,
    ) as running:
        yield running


async def taken_of(peer: Peer, data: bytes, *, most: int = 64 * MIB) -> int:
    """How many bytes of ``data``, repeated, the proxy takes from a peer that reads nothing, before it stops reading."""
    taken = 0
    while taken < most:
        peer.send(data)
        try:
            async with asyncio.timeout(2):
                await peer.writer.drain()
        except (TimeoutError, ConnectionError):
            break
        taken += len(data)
    return taken


async def seats_taken(proxy: ProxyUnderTest) -> int:
    """How many connections the listener of ``impatient`` has: those that can be opened are left of its four."""
    async with AsyncExitStack() as stack:
        for free in range(4):
            peer = await stack.enter_async_context(connected(proxy))
            peer.send(head("GET /healthz"))
            if (await peer.answer()).status == 429:
                return 4 - free
    return 0


# ── 30 … 33: what a request may look like ────────────────────────────────────────────────────────


@pytest.mark.redteam(30)
@pytest.mark.parametrize("tcp", [False, True], ids=["unix", "tcp"])
async def test_only_the_plain_path_of_a_call_is_one(target: ProxyUnderTest, tcp: bool) -> None:
    with target.recorder.silence():
        for path in (
            "//v1/servers", "/v1//servers", "/v1/servers/", "/v1/servers//box", "/v1/servers/box//start", "/v1/",
            "/v1/../v1/servers", "/v1/./servers", "/v1/servers/..", "/v1/servers/.", "/v1/servers/../policy",
            "/v1/servers/box/../box/start", "/../v1/servers", "/v1.41/servers", "/v2/servers", "/V1/servers",
            "/v1/Servers", "/v1/servers/box/Start", "/v1servers", "/v1.41/v1/servers",
        ):  # fmt: skip
            for method in ("GET", "POST"):
                answer = await answer_to(target, request_with_body(f"{method} {path}", GOOD), tcp=tcp)
                assert answer.problem in ("not-found", "method-not-allowed", "invalid-request"), path
        for path in (
            "/v1/%73ervers", "/v1%2fservers", "/v1/servers/%2e%2e/policy", "/v1/servers/a%00b", "/v1/servers/a%0d%0ab",
            "/v1/servers;x=1", "/v1/servers/box;x/start", "/v1/servers/box%2fstart", "/v1\\servers", "/v1/servers#x",
            "/v1/servers/a@b", "/v1/servers/a:b", "/v1/servers/a,b", "/v1/servers/$(id)", "/v1/servers/%c0%ae",
            "http://localhost/v1/servers", "http://evil.example/v1/servers", "HTTP://localhost/v1/servers",
            "unix:///var/run/docker.sock", "*", "localhost:80", "v1/servers",
        ):  # fmt: skip
            for method in ("GET", "POST"):
                answer = await answer_to(target, request_with_body(f"{method} {path}", GOOD), tcp=tcp)
                assert (answer.status, answer.problem) == (400, "bad-request"), path


@pytest.mark.redteam(30, 36)
async def test_a_target_with_a_host_of_its_own_overrides_no_host(target: ProxyUnderTest) -> None:
    for request in (
        b"GET http://localhost/healthz HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        b"GET http://evil.example/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET //evil.example/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ):
        assert (await answer_to(target, request, tcp=True)).status in (400, 403, 404)


@pytest.mark.redteam(31)
@pytest.mark.parametrize(
    "headers",
    [
        "Content-Length: {n}\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: {n}",
        "Content-Length: 0\r\nContent-Length: {n}",
        "Content-Length: {n}\r\nContent-Length: {n}",
        "Content-Length: 0, {n}",
        "Content-Length: +0",
        "Content-Length: -1",
        "Content-Length: 0x0",
        "Content-Length: 0 0",
        "Content-Length: 99999999999999999999999",
        "Content-Length:",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: \x0bchunked",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding\x00: chunked",
        "Transfer-Encoding",
        "X: a\r\n Content-Length: 0",
        "X: a\r\n\tfolded",
        "X: a\nContent-Length: 0",
        "X: a\rContent-Length: 0",
        "X: a\x00b",
        " X: a",
        ": a",
        "X y: a",
        "Host: evil.example",
    ],
)
async def test_what_two_parsers_could_cut_differently_is_refused_and_closed(
    refusing: ProxyUnderTest, headers: str
) -> None:
    request = head(f"POST {START}", "Content-Type: application/json", headers.replace("{n}", str(len(SMUGGLED))))
    with refusing.recorder.silence():
        answer = await refusal_of(refusing, request + SMUGGLED)
        assert (answer.status, answer.problem) == (400, "bad-request")


@pytest.mark.redteam(31)
@pytest.mark.parametrize(
    "request_",
    [
        head("GET /v1/servers").replace(b"\r\n", b"\n"),
        head("GET /v1/servers").replace(b"\r\n", b"\r"),
        b"GET /v1/servers HTTP/1.1\nHost: localhost\r\n\r\n",
        b"GET\t/v1/servers\tHTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /v1/servers HTTP/1.1 \r\nHost: localhost\r\n\r\n",
        b"GET /v1/servers HTTP/1.1\r\n\r\n",
        b"GET /v1/servers\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /v1/servers/a\xc3\xa9 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"G\x00T /v1/servers HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    ],
)
async def test_what_is_no_request_is_refused_and_closed(refusing: ProxyUnderTest, request_: bytes) -> None:
    with refusing.recorder.silence():
        answer = await refusal_of(refusing, request_ + SMUGGLED)
        assert (answer.status, answer.problem) == (400, "bad-request")


@pytest.mark.redteam(31)
@pytest.mark.parametrize(
    "body",
    [b"2 \r\n{}\r\n0\r\n\r\n", b"+2\r\n{}\r\n0\r\n\r\n", b"0x2\r\n{}\r\n0\r\n\r\n", b"-1\r\n{}\r\n0\r\n\r\n",
     b"2\n{}\n0\n\n", b"2\r\n{}X\r\n0\r\n\r\n", b"2\r\n{}\r\n0\n\n", b"zz\r\n", b"10000000000000000\r\n{}",
     b"2;\n\r\n{}\r\n0\r\n\r\n", b"2\r\n{}\r\n0\r\nX: a\n\r\n"],
)  # fmt: skip
@pytest.mark.parametrize("apart", [False, True], ids=["at-once", "after-the-head"])
async def test_chunks_that_two_parsers_could_cut_differently_start_nothing(
    impatient: ProxyUnderTest, body: bytes, apart: bool
) -> None:
    line = head(f"POST {START}", "Content-Type: application/json", "Transfer-Encoding: chunked")
    with impatient.recorder.silence():
        async with connected(impatient) as peer:
            peer.send(line if apart else line + body + SMUGGLED)
            if apart:
                await impatient.call("GET", "/healthz")  # by now the head is handled
                peer.send(body + SMUGGLED)
            assert (await peer.answer()).status in (400, 408, 422)
            assert b" 20" not in (await peer.rest()).partition(b"\r\n")[0]


@pytest.mark.redteam(31)
async def test_a_body_that_looks_like_a_request_is_none(refusing: ProxyUnderTest) -> None:
    for line, status in (
        ("GET /v1/servers", 200),
        ("POST /nowhere", 404),
        ("GET /healthz", 200),
        (f"POST {START}", 415),
    ):
        with refusing.recorder.silence():
            async with connected(refusing) as peer:
                peer.send(head(line, f"Content-Length: {len(SMUGGLED)}") + SMUGGLED + head("GET /v1/policy"))
                assert (await peer.answer()).status == status
                assert json.loads((await peer.answer()).text)["client"] == "chat"


@pytest.mark.redteam(32)
async def test_only_http_1_is_spoken_and_only_to_a_websocket_is_upgraded(target: ProxyUnderTest) -> None:
    await target.start("box", "sleep")
    with target.recorder.silence():
        for version in ("HTTP/2.0", "HTTP/0.9", "HTTP/1.2", "HTTP/3.0", "ICY", "HTTP/11.1"):
            request = head("GET /v1/servers").replace(b"HTTP/1.1", version.encode())
            assert (await answer_to(target, request)).problem == "bad-request", version
        assert (await answer_to(target, b"GET /v1/servers\r\n\r\n")).problem == "bad-request"
        for protocol in ("h2c", "tcp", "TLS/1.0", "websocket, h2c", "h2c, websocket", "websocket2", ""):
            for path in ("/healthz", "/v1/servers", "/v1/servers/box/stdio", "/nowhere"):
                answer = await answer_to(target, head(f"GET {path}", "Connection: Upgrade", f"Upgrade: {protocol}"))
                assert (answer.status, answer.problem) == (400, "bad-request"), protocol
                assert answer.headers.get("Connection", "") != "upgrade"
        for path in ("/v1/servers", "/v1/servers/box/stdio"):
            for request, status in (
                (head(f"GET {path}", "Connection: Upgrade", "Upgrade: websocket"), 200 if "stdio" not in path else 426),
                (upgrade("box").replace(b"Version: 13", b"Version: 12"), 426),
                (upgrade("box").replace(b"MDEyMzQ1Njc4OWFiY2RlZg==", b"short"), 426),
                (upgrade("box").replace(b"v5.channel", b"v4.channel"), 426),
            ):
                assert (await answer_to(target, request)).status == status


@pytest.mark.redteam(32)
@pytest.mark.parametrize("method", ["CONNECT", "TRACE", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND", "M-SEARCH"])
async def test_no_other_method_does_anything(target: ProxyUnderTest, method: str) -> None:
    container = (await target.start("box", "sleep"))["container_id"]
    with target.recorder.silence():
        for path in ("/v1/servers/box", "/v1/servers", "/healthz", "/", "localhost:80", "*"):
            async with connected(target) as peer:
                peer.send(head(f"{method} {path}", "X-Secret: planted") + head("GET /v1/servers/box"))
                answer = await peer.answer()
                assert answer.problem in ("method-not-allowed", "not-found", "bad-request"), path
                assert "planted" not in answer.text
                if method == "CONNECT":  # what follows is a request again, and goes nowhere else
                    assert json.loads((await peer.answer()).text)["container_id"] == container


@pytest.mark.redteam(33)
@pytest.mark.parametrize("name", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "_method"])
async def test_no_header_overrides_the_method(target: ProxyUnderTest, name: str) -> None:
    await target.start("box", "sleep")
    with target.recorder.silence():
        for line, wanted, status in (
            ("GET /v1/servers/box/stop", "POST", 405),
            ("GET /v1/servers/box/start", "POST", 405),
            ("GET /v1/servers/box", "DELETE", 200),
            ("POST /v1/servers/box", "GET", 405),
        ):
            assert (await answer_to(target, request_with_body(line, {}, f"{name}: {wanted}"))).status == status
        if name == "_method":
            assert (await target.call("GET", "/v1/servers/box?_method=POST")).problem == "invalid-request"


# ── 34, 35: size and time ────────────────────────────────────────────────────────────────────────


@pytest.mark.redteam(34)
async def test_a_request_in_single_bytes_is_one_request(refusing: ProxyUnderTest) -> None:
    request = request_with_body(f"POST {START}?dry_run=1", GOOD)
    async with connected(refusing) as peer:
        for index in range(len(request)):
            peer.send(request[index : index + 1])
            await peer.writer.drain()
        assert (await peer.answer()).json["rule"] == "toolbox"


@pytest.mark.redteam(34)
@pytest.mark.parametrize(
    "beginning", [b"", b"G", b"GET /healthz HTTP/1.1\r\nHost: local", b"POST /v1/servers/a/start HTTP/1.1\r\n", b"\r\n"]
)
async def test_who_brings_no_whole_head_is_cut_off_also_if_it_dawdles(
    impatient: ProxyUnderTest, beginning: bytes
) -> None:
    async with connected(impatient) as silent, connected(impatient) as dawdling, connected(impatient) as used:
        silent.send(beginning)
        used.send(head("GET /healthz"))
        assert (await used.answer()).status == 200
        used.send(beginning)

        async def dawdle() -> None:
            dawdling.send(beginning or b"GET / HTTP/1.1\r\n")
            while True:
                dawdling.send(b"X: y\r\n")
                await asyncio.sleep(0.05)

        task = asyncio.create_task(dawdle())
        assert [await peer.rest(timeout_s=3) for peer in (silent, dawdling, used)] == [b"", b"", b""]
        task.cancel()


@pytest.mark.redteam(34)
async def test_a_body_that_is_late_or_too_large_is_refused_and_the_connection_ends(impatient: ProxyUnderTest) -> None:
    json_ = "Content-Type: application/json"
    large = b"[" + b" " * 70 * KIB
    with impatient.recorder.silence():
        for request, status in (
            (head(f"POST {START}", json_, "Content-Length: 100") + b"{", 408),
            (head(f"POST {START}", json_, "Transfer-Encoding: chunked") + b"1\r\n{", 408),
            (head(f"POST {START}", json_, "Transfer-Encoding: chunked") + b"1;" + b"x" * 8 * KIB, 408),
            (head(f"POST {START}", json_, f"Content-Length: {2**40}") + large, 413),
            (head(f"POST {START}", json_, "Transfer-Encoding: chunked") + b"20000\r\n" + large, 413),
            (head("POST /v1/servers/a/stop", json_, "Content-Length: 2") + b"{", 408),
            (head("GET /v1/servers", "Content-Length: 100") + b"{", 200),
            (head("POST /nowhere", f"Content-Length: {2**40}") + large, 404),
        ):
            async with connected(impatient) as peer:
                peer.send(request)
                answer = await peer.answer()
                assert (answer.status, answer.status < 400 or bool(answer.problem)) == (status, True), request[:80]
                assert await peer.rest(timeout_s=3) == b""


@pytest.mark.redteam(34)
async def test_what_the_parser_refuses_is_answered_as_plainly_as_the_rest(
    refusing: ProxyUnderTest, caplog: pytest.LogCaptureFixture
) -> None:
    with capture_logs() as logged, caplog.at_level(logging.WARNING):
        for request in (
            b"\x00\r\n\r\n",
            head("GET /v1/servers", "X : y"),
            head("GET /" + "x" * 9000),
            head(f"POST {START}", "Transfer-Encoding: chunked") + b"zz\r\n",
            head("GET /", "Sec-WebSocket-Key1: x"),
        ):
            answer = await refusal_of(refusing, request)
            assert answer.problem in ("bad-request", "headers-too-large")
            assert "Server" not in answer.headers
            assert not re.search("aiohttp|python|llhttp|Traceback|File ", str(answer), re.IGNORECASE)
        for path in ("/healthz", "/v1/policy", "/nowhere"):
            assert "Server" not in (await answer_to(refusing, head(f"GET {path}"))).headers
    assert not caplog.records
    assert [entry for entry in logged if "exc_info" in entry or entry["log_level"] not in ("info", "debug")] == []
    assert len([entry for entry in logged if entry["event"] == "malformed_request"]) == 5


@pytest.mark.redteam(34)
async def test_a_listener_has_so_many_seats_and_gives_them_back(impatient: ProxyUnderTest) -> None:
    async with AsyncExitStack() as stack:  # one more is the harness's own
        await impatient.call("GET", "/healthz")
        for _ in range(3):
            await stack.enter_async_context(connected(impatient))
        refused = await refusal_of(impatient, b"")
        assert (refused.status, refused.problem) == (429, "quota-exceeded")
        assert (await answer_to(impatient, head("GET /healthz"), tcp=True)).status == 200  # a listener of its own
    async with asyncio.timeout(5):
        while (await answer_to(impatient, head("GET /v1/servers"))).status != 200:
            await asyncio.sleep(0.02)


@pytest.mark.redteam(34)
async def test_a_client_has_so_many_requests_under_way(impatient: ProxyUnderTest) -> None:
    await impatient.start("box", "sleep")
    follow = head("GET /v1/servers/box/logs?follow=1")
    async with attached(impatient, "box"), connected(impatient) as following:
        following.send(follow)
        assert (await following.answer()).status == 200
        for path in ("/v1/servers", "/v1/servers/box/stdio", "/v1/policy"):
            answer = await impatient.call("GET", path)
            assert (answer.status, answer.problem) == (429, "quota-exceeded")
        assert (await impatient.call("GET", "/v1/servers", token=OTHER_TOKEN)).status == 200
        assert (await impatient.call("GET", "/v1/servers", token="wrong")).status == 401
        assert (await impatient.call("GET", "/readyz")).status == 200
    async with asyncio.timeout(5):
        while (await impatient.call("GET", "/v1/servers")).status != 200:
            await asyncio.sleep(0.02)


@pytest.mark.redteam(34)
@pytest.mark.parametrize(
    "requests",
    [
        [head("GET /v1/servers/noisy/logs?follow=1")] * 3,
        [head("GET /v1/servers/noisy/logs?tail=10000") * 3] * 3,
        [head("GET /openapi.json") * 200] * 3,
        # About as much as the kernel takes, and less than would stop the proxy from writing more.
        [head("GET /openapi.json") * count for count in (8, 9, 10)],
        [head("GET /openapi.json") * count + head("GET /healthz", "Connection: close") for count in (8, 9, 10)],
    ],
    ids=["endless", "large", "many", "idle", "closing"],
)
async def test_who_does_not_read_what_it_asked_for_is_cut_off(impatient: ProxyUnderTest, requests: list[bytes]) -> None:
    await impatient.start("noisy", "flood-stderr")
    while len((await impatient.call("GET", "/v1/servers/noisy/logs?tail=10000")).text) < 200 * KIB:
        await asyncio.sleep(0.02)
    async with AsyncExitStack() as stack:
        for request in requests:  # the fourth connection is the harness's own
            peer = await stack.enter_async_context(connected(impatient))
            peer.writer.transport.pause_reading()  # type: ignore[attr-defined]  # it is a socket's, and can
            peer.send(request)
        assert (await refusal_of(impatient, b"")).problem == "quota-exceeded"
        async with asyncio.timeout(10):  # all seats come free, though no peer closed anything
            while await seats_taken(impatient) > 1:
                await asyncio.sleep(0.05)


@pytest.mark.redteam(34, 35)
async def test_what_is_sent_ahead_of_an_answer_waits_in_the_kernel(proxy: ProxyUnderTest) -> None:
    await proxy.start("box", "sleep")
    full = head("GET /healthz", *(f"X-{index}: {'x' * 8000}" for index in range(60)))
    async with connected(proxy) as peer:
        peer.send(head("GET /v1/servers/box/logs?follow=1"))
        assert (await peer.answer()).status == 200
        assert await taken_of(peer, full) < 4 * MIB


@pytest.mark.redteam(35)
@pytest.mark.parametrize(
    "headers",
    [
        [f"X-{index}: y" for index in range(100)],
        ["X: y"] * 100_000,
        ["X: " + "y" * 9000],
        ["X" * 9000 + ": y"],
        ["Cookie: " + "y" * MIB],
    ],
    ids=["many", "very-many", "long", "long-name", "very-long"],
)
async def test_a_flood_of_headers_is_refused_and_closed(refusing: ProxyUnderTest, headers: list[str]) -> None:
    with refusing.recorder.silence():
        answer = await answer_to(refusing, head("GET /v1/servers", *headers))
        assert (answer.status, answer.problem) == (431, "headers-too-large")
        assert answer.headers["Connection"] == "close"


# ── 36, 37: who seems to be asking ───────────────────────────────────────────────────────────────


@pytest.mark.redteam(36)
@pytest.mark.parametrize("line", ["GET /healthz", "GET /v1/servers", "GET /v1/servers/box/stdio"])
async def test_on_tcp_only_the_allowed_names_and_no_other_sites_page_are_answered(
    refusing: ProxyUnderTest, line: str
) -> None:
    websocket = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
                 "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==", "Sec-WebSocket-Protocol: mcp")  # fmt: skip
    more = websocket if line.endswith("stdio") else ()
    accepted = 404 if line.endswith("stdio") else 200  # past the check: there is no such server
    with refusing.recorder.silence():
        for host in ("localhost", "localhost:8080", "LOCALHOST", "127.0.0.1", "127.0.0.1:1", "[::1]", "[::1]:65535"):
            for origin in ([], [f"Origin: http://{host}"], [f"Origin: https://{host}"]):
                request = head(line, *more, *origin).replace(b"Host: localhost", b"Host: " + host.encode())
                assert (await answer_to(refusing, request, tcp=True)).status == accepted, request
        for host in (
            "rebound.example", "localhost.evil.example", "127.0.0.1.nip.io", "localhost.", "localhost@evil.example",
            "localhost:80@evil.example", "127.1", "2130706433", "0.0.0.0", "[::]", "[::ffff:127.0.0.1]", "[::1", "",
            "localhost, evil.example", "localhost/evil", "evil.example#localhost", "proxy",
        ):  # fmt: skip
            request = head(line, *more).replace(b"Host: localhost", b"Host: " + host.encode())
            assert (await answer_to(refusing, request, tcp=True)).problem == "host-not-allowed", host
        for origin_ in (
            "http://evil.example", "null", "", "http://localhost:81", "file://", "http://[", "http://localhost.evil",
            "http://localhost@evil.example", "ws://localhost", "http://localhost/", "http://127.0.0.1",
        ):  # fmt: skip
            answer = await answer_to(refusing, head(line, *more, f"Origin: {origin_}"), tcp=True)
            assert (answer.status, answer.problem) == (403, "host-not-allowed"), origin_


@pytest.mark.redteam(37)
async def test_what_a_forwarder_would_say_is_not_believed_or_even_logged(refusing: ProxyUnderTest) -> None:
    claims = (
        "X-Forwarded-For: 203.0.113.7",
        "X-Forwarded-Host: localhost",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Prefix: /v1",
        "X-Forwarded-User: other",
        "X-Real-IP: 203.0.113.7",
        "Forwarded: for=203.0.113.7;host=localhost;proto=https",
        "X-Original-URL: /v1/policy",
        "X-Rewrite-URL: /v1/policy",
        "X-Request-Id: chosen-by-the-client",
        "True-Client-IP: 203.0.113.7",
    )
    with capture_logs() as logged, refusing.recorder.silence():
        foreign = head("GET /v1/servers", *claims).replace(b"Host: localhost", b"Host: evil.example")
        assert (await answer_to(refusing, foreign, tcp=True)).problem == "host-not-allowed"
        for tcp in (False, True):
            answer = await answer_to(refusing, head("GET /v1/servers", *claims), tcp=tcp)
            assert (answer.status, answer.json) == (200, {"servers": []})
            assert answer.headers["X-Request-Id"] != "chosen-by-the-client"
        anonymous = head("GET /v1/servers", *claims, token="wrong")
        assert (await answer_to(refusing, anonymous, tcp=True)).problem == "unauthenticated"
    assert not re.search("203.0.113.7|chosen-by-the-client", repr(logged))


# ── 38: frames ───────────────────────────────────────────────────────────────────────────────────

STDIN = b"\x00"


async def assert_echo(proxy: ProxyUnderTest) -> None:
    """The seat is free, the server runs, and bytes pass both ways."""
    await proxy.until_detached("echo")
    async with attached(proxy, "echo") as peer:
        peer.send(frame(BINARY, STDIN + b"hello\n"))
        output = b""
        while not output.endswith(b"hello\n"):
            opcode, payload = await peer.frame()
            assert (opcode, payload[:1]) == (BINARY, b"\x01")
            output += payload


BROKEN: list[tuple[list[bytes], int]] = [
    ([frame(BINARY, STDIN, claim=64 * KIB + 2)], 1009),
    ([frame(BINARY, STDIN, claim=2**31)], 1009),
    ([frame(BINARY, STDIN, claim=2**63 - 1)], 1009),
    ([frame(BINARY, STDIN, claim=2**64 - 1)], 1009),
    ([frame(TEXT, b"x", claim=2**40)], 1009),
    ([frame(BINARY, STDIN, fin=False), frame(CONTINUATION, b"x", claim=2**63 - 1)], 1009),
    ([frame(BINARY, STDIN, fin=False), *[frame(CONTINUATION, b"x" * 1024, fin=False)] * 65], 1009),
    ([frame(BINARY, STDIN, reserved=0b100)], 1002),
    ([frame(BINARY, STDIN, reserved=0b010)], 1002),
    ([frame(BINARY, STDIN, reserved=0b001)], 1002),
    ([frame(BINARY, STDIN + b"x", mask=False)], 1002),
    ([frame(PING, b"x", mask=False)], 1002),
    ([frame(CLOSE, b"", mask=False)], 1002),
    ([frame(BINARY, STDIN + b"x" * 300), frame(BINARY, STDIN + b"x", mask=False)], 1002),
    ([frame(BINARY, STDIN, fin=False), frame(CONTINUATION, b"x", mask=False)], 1002),
    ([frame(PING, b"x" * 126)], 1002),
    ([frame(PING, b"x", claim=2**62)], 1002),
    ([frame(CLOSE, b"x" * 126)], 1002),
    ([frame(PING, b"x", fin=False)], 1002),
    ([frame(3, b"x")], 1002),
    ([frame(7, b"x")], 1002),
    ([frame(11, b"x")], 1002),
    ([frame(15, b"x")], 1002),
    ([frame(CONTINUATION, b"x")], 1002),
    ([frame(BINARY, STDIN, fin=False), frame(BINARY, STDIN)], 1002),
    ([frame(CLOSE, b"x")], 1002),
    ([frame(CLOSE, struct.pack("!H", 999))], 1002),
    ([frame(CLOSE, struct.pack("!H", 1005))], 1002),
    ([frame(TEXT, b"\xff")], 1007),
    ([frame(CLOSE, struct.pack("!H", 1000) + b"\xff")], 1007),
    ([frame(TEXT, b"text")], 1003),
    ([frame(BINARY, b"")], 1007),
    ([frame(BINARY, b"\x09x")], 1007),
]
"""What no client may send, and the close code for it."""


@pytest.mark.redteam(38)
@pytest.mark.parametrize("apart", [False, True], ids=["at-once", "in-pieces"])
async def test_a_frame_that_is_none_closes_the_session_and_nothing_else(impatient: ProxyUnderTest, apart: bool) -> None:
    await impatient.start("echo", "cat")
    for sent, code in BROKEN:
        async with attached(impatient, "echo") as peer:
            closed = asyncio.create_task(peer.close_code())
            data = b"".join(sent)
            step = max(len(data) // 100, 1) if apart else len(data)
            for start in range(0, len(data), step):
                if closed.done():
                    break
                peer.send(data[start : start + step])
                await asyncio.sleep(0)
            assert await closed == code, sent
            await peer.rest(timeout_s=3)
        await impatient.until_detached("echo")
    await assert_echo(impatient)


@pytest.mark.redteam(38)
@pytest.mark.parametrize("offer", ["permessage-deflate", "permessage-deflate; client_max_window_bits=15"])
async def test_compression_is_never_agreed_on(impatient: ProxyUnderTest, offer: str) -> None:
    await impatient.start("echo", "cat")
    async with attached(impatient, "echo", f"Sec-WebSocket-Extensions: {offer}") as peer:
        peer.send(frame(BINARY, b"\x4a\x4c\x1c\x05\xa3\x00\x00", reserved=0b100))
        assert await peer.close_code() == 1002
    await assert_echo(impatient)


@pytest.mark.redteam(38)
async def test_pings_are_answered_and_a_flood_of_them_is_not_queued(impatient: ProxyUnderTest) -> None:
    await impatient.start("echo", "cat")
    async with attached(impatient, "echo") as peer:
        for payload in (b"", b"x", b"y" * 125):
            peer.send(frame(BINARY, STDIN + b"part", fin=False) + frame(PING, payload) + frame(CONTINUATION, b"\n"))
            answers = [await peer.frame(), await peer.frame()]
            assert sorted(answers) == [(BINARY, b"\x01part\n"), (PONG, payload)]
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]  # it is a socket's, and can
        flood = b"".join(frame(PING, b"z" * 125) for _ in range(500))
        assert await taken_of(peer, flood) < 4 * MIB
        assert (await impatient.call("GET", "/healthz")).status == 200
    await assert_echo(impatient)


@pytest.mark.redteam(38, 62)
async def test_what_a_server_does_not_read_is_not_queued(impatient: ProxyUnderTest) -> None:
    await impatient.start("echo", "sleep")
    async with attached(impatient, "echo") as peer:
        assert await taken_of(peer, frame(BINARY, STDIN + b"x" * 32 * KIB)) < 4 * MIB
        assert await taken_of(peer, frame(PONG, b"x" * 100) * 300) < 4 * MIB


@pytest.mark.redteam(38)
async def test_fragments_without_bytes_hold_nothing(impatient: ProxyUnderTest) -> None:
    await impatient.start("echo", "cat")
    async with attached(impatient, "echo") as peer:
        peer.send(frame(BINARY, STDIN + b"begun ", fin=False))
        for _ in range(100):
            peer.send(frame(CONTINUATION, b"", fin=False) * 500)
            await peer.writer.drain()
        peer.send(frame(CONTINUATION, b"ended\n"))
        assert await peer.frame() == (BINARY, b"\x01begun ended\n")


# ── 39: the log ──────────────────────────────────────────────────────────────────────────────────

NASTY = "a\r\nb\x1b[31m\u2028\u2029\x85\x07\u202e{}%s\x00"
SMALL_NASTY = "\x1b[2J\u2028\u202e"


@pytest.mark.redteam(39)
@pytest.mark.parametrize("format_", ["json", "console"])
async def test_what_a_client_sends_stays_on_one_line_of_the_log(engine: str, tmp_path: Path, format_: str) -> None:
    policy = write_yaml(tmp_path / "policy.yaml", policy_document(toolbox_rule(args={"patterns": ["sleep"]})))
    key, socket = tmp_path / "signing.key", tmp_path / "proxy.sock"
    key.write_text("ab" * 32)
    key.chmod(0o600)
    settings = {
        "LISTEN": f"unix://{socket}", "ENGINE": f"unix://{ENGINE_SOCKET}", "POLICY": policy, "SIGNING_KEY_FILE": key,
        "INSTANCE": "tnasty", "STATE_DIR": tmp_path / "state", "LOG_FORMAT": format_, "LOG_LEVEL": "debug",
    }  # fmt: skip
    INSTANCES["tnasty"] = ENGINE_SOCKET
    serving = await asyncio.create_subprocess_exec(
        *doogie_proxy_command(),
        "serve",
        env={f"DOOGIE_PROXY_{name}": str(value) for name, value in settings.items()},
        stdout=asyncio.subprocess.PIPE,
    )
    sent = 0
    try:
        async with asyncio.timeout(20):
            while not socket.exists():
                await asyncio.sleep(0.05)
        for body in (
            {**GOOD, "args": [NASTY.replace("\x00", "")]},
            {**GOOD, "args": [NASTY]},
            {**GOOD, "args": [SMALL_NASTY]},
            {**GOOD, "image": f"image{NASTY}"},
            {**GOOD, "image": "image%0d%0a"},
            {**GOOD, "env": {f"A{NASTY}": "x"}},
            {**GOOD, "env": {"A": NASTY}},
            {**GOOD, NASTY: 1},
            {**GOOD, SMALL_NASTY: 1},
            {"image": NASTY, SMALL_NASTY: {NASTY: NASTY}},
        ):
            answer = await _over(socket, request_with_body(f"POST /v1/servers/box/start?x={sent}"[:-3], body))
            assert answer.startswith((b"HTTP/1.1 403", b"HTTP/1.1 422")), answer
            sent += 1
        for line in ("GET /%0d%0a%1b[31m", "GET /v1/servers/a%0ab", "GET /v1/servers/%e2%80%a8", "GET /a\u2028b",
                     "GET /v1/servers?x=%0d%0aevent=forged", "GET /v1/servers/box?x\u2028y=1", "GET /a\x1b[31mb",
                     "G\x1bT /", "GET /v1/servers/" + "a" * 7000):  # fmt: skip
            await _over(socket, head(line, f"User-Agent: {SMALL_NASTY}", "X-Request-Id: forged"))
            sent += 1
        await _over(socket, head("GET /v1/servers", token="x\x1b[31m"))
        await _over(socket, head("GET /v1/servers", f"Authorization: {SMALL_NASTY}"))
        sent += 2
    finally:
        serving.terminate()
        output = (await serving.communicate())[0].decode()
    unprintable = {character for character in output if unicodedata.category(character)[0] in "CZ"}
    assert unprintable == {" ", "\n"}
    lines = output.splitlines()
    assert len(lines) == output.count("\n")
    if format_ == "json":
        events = [json.loads(line)["event"] for line in lines]
    else:
        matches = [re.match(r"[0-9-]{10}T[0-9:.]+Z \[(?:info|debug|warning) *\] (\w+)", line) for line in lines]
        assert None not in matches
        events = [match[1] for match in matches if match]
    assert events.count("request") + events.count("malformed_request") == sent
    assert events[-1] == "ended"


async def _over(socket: Path, request: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(socket)
    try:
        writer.write(request)
        async with asyncio.timeout(20):
            return await reader.readuntil(b"\r\n\r\n")
    finally:
        writer.close()


# ── 40: tokens ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.redteam(40)
@pytest.mark.parametrize(
    "headers",
    [
        [],
        ["Authorization:"],
        ["Authorization: Bearer"],
        ["Authorization: Bearer "],
        ["Authorization: Bearer wrong"],
        [f"Authorization: Bearer {TOKEN[:-1]}"],
        [f"Authorization: Bearer {TOKEN[1:]}"],
        [f"Authorization: Bearer {TOKEN}x"],
        [f"Authorization: Bearer {TOKEN.upper()}"],
        [f"Authorization: Bearer {TOKEN} {TOKEN}"],
        [f"Authorization: Bearer {TOKEN},{TOKEN}"],
        [f"Authorization: Bearer{TOKEN}"],
        [f"Authorization: Basic {TOKEN}"],
        [f"Authorization: {TOKEN}"],
        [f'Authorization: Bearer "{TOKEN}"'],
        [f"Authorization: Bearer {auth.hash_token(TOKEN)}"],
        ["Authorization: Bearer " + "x" * 8000],
        ["Authorization: Bearer \xe9"],
        [f"Cookie: token={TOKEN}"],
        [f"X-Authorization: Bearer {TOKEN}"],
        [f"Proxy-Authorization: Bearer {TOKEN}"],
    ],
)
async def test_without_a_whole_token_every_call_is_unauthenticated(
    refusing: ProxyUnderTest, headers: list[str]
) -> None:
    with refusing.recorder.silence():
        for operation in OPERATIONS:
            if not operation.authenticated:
                continue
            for query in ("", f"?token={TOKEN}", f"?access_token={TOKEN}", f"?ticket={TOKEN}"):
                line = f"{operation.method} {operation.path.replace('{name}', 'box')}{query} HTTP/1.1"
                lines = [line, "Host: localhost", *headers, "Content-Length: 0", "", ""]
                answer = await answer_to(refusing, "\r\n".join(lines).encode("latin-1"))
                assert (answer.status, answer.problem) == (401, "unauthenticated"), line
                assert answer.headers["WWW-Authenticate"] == "Bearer"
                assert TOKEN not in answer.text


@pytest.mark.redteam(40)
async def test_two_tokens_are_none(refusing: ProxyUnderTest) -> None:
    for second in (TOKEN, OTHER_TOKEN, "wrong", ""):
        request = head("GET /v1/servers", f"Authorization: Bearer {second}")
        assert (await answer_to(refusing, request)).problem == "bad-request"


@pytest.mark.redteam(40)
@pytest.mark.parametrize("token", [TOKEN, OTHER_TOKEN, "wrong", TOKEN[:-1], ""])
def test_every_hash_is_compared_and_only_in_constant_time(monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    compared: list[tuple[str, str]] = []

    class Hash(str):
        """A string that can be compared by nothing but ``hmac.compare_digest``."""

        def __eq__(self, other: object) -> bool:
            raise AssertionError("compared in a time that depends on the values")

        __hash__ = str.__hash__

    def compare_digest(one: str, other: str) -> bool:
        compared.append((str.__str__(one), str.__str__(other)))
        return hmac.compare_digest(*map(str.__str__, (one, other)))

    policy = parse(json.dumps(policy_document(toolbox_rule())))
    hashes = [value for client in policy.clients.values() for value in client.token_sha256]
    for client in policy.clients.values():
        client.token_sha256[:] = [Hash(value) for value in client.token_sha256]
    monkeypatch.setattr(auth, "hmac", type("hmac", (), {"compare_digest": staticmethod(compare_digest)}))
    auth.caller_of_token(policy, token)
    assert sorted(one for one, _ in compared) == sorted(hashes)
    assert {other for _, other in compared} == {auth.hash_token(token)}
