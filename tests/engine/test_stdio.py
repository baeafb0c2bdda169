"""Bytes through the hub, both subprotocols, on the real engine."""

import asyncio
import hashlib
import json
import os
import tracemalloc
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import ClientWebSocketResponse, WSMsgType, WSServerHandshakeError
from structlog.testing import capture_logs

from doogie_contract import channels
from doogie_contract.channels import Channel, CloseCode
from doogie_proxy import stdio
from tests.support.harness import TOKEN, ProxyUnderTest, policy_document, proxy_under_test, toolbox_rule

MIB = 2**20
WebSocket = ClientWebSocketResponse[Any]
BIG = {"max_message": "32MiB", "buffer": "32MiB"}


@pytest.fixture
async def pipes(engine: str, tmp_path: Path) -> AsyncIterator[ProxyUnderTest]:
    """A proxy whose servers have ``replay: none``, so that EOF works, and take messages of 32 MiB."""
    rule = toolbox_rule(stdio={"replay": "none", **BIG}, resources={"memory": "512MiB", "cpus": 1.0})
    async with proxy_under_test(tmp_path, policy_document(rule)) as running:
        yield running


class Received:
    """Everything that came over one ``v5.channel.k8s.io`` WebSocket until it was closed."""

    def __init__(self) -> None:
        self.output = {Channel.STDOUT: bytearray(), Channel.STDERR: bytearray(), Channel.STATUS: bytearray()}
        self.close_code: int | None = None

    @property
    def exit_code(self) -> int | None:
        return channels.decode_exit_status(bytes(self.output[Channel.STATUS])).code


async def receive_all(ws: WebSocket, *, timeout_s: float = 60) -> Received:
    received = Received()
    async with asyncio.timeout(timeout_s):
        async for message in ws:
            assert message.type is WSMsgType.BINARY
            frame = channels.decode(message.data)
            received.output[frame.channel] += frame.payload
    received.close_code = ws.close_code
    return received


async def closed_with(ws: WebSocket) -> int | None:
    """The close code, after whatever else comes."""
    async with asyncio.timeout(30):
        async for _ in ws:
            pass
    return ws.close_code


# ── v5.channel.k8s.io ────────────────────────────────────────────────────────────────────────────


async def test_random_binary_through_cat_compares_equal_and_half_close_ends_it(pipes: ProxyUnderTest) -> None:
    data = os.urandom(3 * MIB + 17)
    await pipes.start("cat", "cat")
    async with pipes.stdio("cat") as ws:
        assert ws.protocol == channels.SUBPROTOCOL_CHANNEL
        receiving = asyncio.create_task(receive_all(ws))
        for offset in range(0, len(data), 70_001):
            await ws.send_bytes(channels.encode(Channel.STDIN, data[offset : offset + 70_001]))
        await ws.send_bytes(channels.encode_close(Channel.STDIN))
        received = await receiving
    assert hashlib.sha256(received.output[Channel.STDOUT]).digest() == hashlib.sha256(data).digest()
    assert received.output[Channel.STDERR] == b""
    assert received.exit_code == 0
    assert received.close_code == CloseCode.NORMAL


async def test_stdin_eof_still_delivers_trailing_stdout_without_newline(pipes: ProxyUnderTest) -> None:
    await pipes.start("cat", "cat")
    async with pipes.stdio("cat") as ws:
        await ws.send_bytes(channels.encode(Channel.STDIN, b"no newline at the end"))
        await ws.send_bytes(channels.encode_close(Channel.STDIN))
        received = await receive_all(ws)
    assert received.output[Channel.STDOUT] == b"no newline at the end"


async def test_stderr_comes_on_its_own_channel(pipes: ProxyUnderTest) -> None:
    data = os.urandom(100_000)
    await pipes.start("err", "stderr")
    async with pipes.stdio("err") as ws:
        await ws.send_bytes(channels.encode(Channel.STDIN, data))
        await ws.send_bytes(channels.encode_close(Channel.STDIN))
        received = await receive_all(ws)
    assert received.output[Channel.STDERR] == data
    assert received.output[Channel.STDOUT] == b""


async def test_twenty_megabyte_message_crosses_both_ways_intact(pipes: ProxyUnderTest) -> None:
    data = os.urandom(20 * MIB)
    await pipes.start("cat", "cat")
    async with pipes.stdio("cat") as ws:
        receiving = asyncio.create_task(receive_all(ws))
        await ws.send_bytes(channels.encode(Channel.STDIN, data))
        await ws.send_bytes(channels.encode_close(Channel.STDIN))
        received = await receiving
    assert received.output[Channel.STDOUT] == data


async def test_exit_code_is_a_kubernetes_status_and_close_4500(proxy: ProxyUnderTest) -> None:
    await proxy.start("box", "exit-after-line", "7")
    async with proxy.stdio("box") as ws:
        await ws.send_bytes(channels.encode(Channel.STDIN, b"go\n"))
        received = await receive_all(ws)
    status = json.loads(received.output[Channel.STATUS])
    assert (status["status"], status["reason"]) == ("Failure", "NonZeroExitCode")
    assert status["details"]["causes"] == [{"reason": "ExitCode", "message": "7"}]
    assert received.output[Channel.STDERR] == b"exiting with code 7\n"
    assert received.close_code == CloseCode.EXITED_NON_ZERO


async def test_half_close_where_the_server_survives_the_proxy_is_refused_by_its_code(proxy: ProxyUnderTest) -> None:
    await proxy.start("cat", "cat")
    async with proxy.stdio("cat") as ws:
        await ws.send_bytes(channels.encode_close(Channel.STDIN))
        assert await closed_with(ws) == CloseCode.HALF_CLOSE_UNAVAILABLE
    assert (await proxy.call("GET", "/v1/servers/cat")).json["state"] == "running"


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b"", CloseCode.INVALID_DATA),
        (b"\x09x", CloseCode.INVALID_DATA),
        (b"\x01stdout is not for clients", CloseCode.INVALID_DATA),
        (b"\xff\x01", CloseCode.INVALID_DATA),
        ("text", CloseCode.UNSUPPORTED_DATA),
    ],
)
async def test_message_outside_the_framing_closes_the_stream_and_not_the_server(
    proxy: ProxyUnderTest, message: bytes | str, code: CloseCode
) -> None:
    await proxy.start("cat", "cat")
    async with proxy.stdio("cat") as ws:
        await (ws.send_str(message) if isinstance(message, str) else ws.send_bytes(message))
        assert await closed_with(ws) == code
    assert (await proxy.call("GET", "/v1/servers/cat")).json["state"] == "running"


async def test_terminal_resize_is_ignored(proxy: ProxyUnderTest) -> None:
    await proxy.start("echo", "echo-lines")
    async with proxy.stdio("echo") as ws:
        await ws.send_bytes(channels.encode(Channel.RESIZE, b'{"Width":80,"Height":24}'))
        await ws.send_bytes(channels.encode(Channel.STDIN, b"hello\n"))
        assert (await ws.receive(timeout=20)).data == channels.encode(Channel.STDOUT, b"hello\n")


async def test_message_above_the_rules_limit_closes_with_1009(engine: str, tmp_path: Path) -> None:
    rule = toolbox_rule(stdio={"max_message": "64KiB", "buffer": "64KiB"})
    async with proxy_under_test(tmp_path, policy_document(rule)) as proxy:
        await proxy.start("cat", "cat")
        async with proxy.stdio("cat") as ws:
            await ws.send_bytes(channels.encode(Channel.STDIN, b"x" * 65536))  # just allowed
            assert await drain_bytes(ws, 65536) == b"x" * 65536
            await ws.send_bytes(channels.encode(Channel.STDIN, b"x" * 65537))
            assert await closed_with(ws) == CloseCode.MESSAGE_TOO_BIG


async def drain_bytes(ws: WebSocket, count: int) -> bytes:
    """The next ``count`` bytes of stdout."""
    output = bytearray()
    while len(output) < count:
        frame = channels.decode((await ws.receive(timeout=30)).data)
        assert frame.channel is Channel.STDOUT
        output += frame.payload
    return bytes(output)


async def test_server_that_ended_unattended_still_delivers_its_output_and_its_end(proxy: ProxyUnderTest) -> None:
    await proxy.start("box", "big-then-exit", "100000", "9")
    await proxy.until("box", "exited")
    async with proxy.stdio("box") as ws:
        received = await receive_all(ws)
    assert received.output[Channel.STDOUT] == b"x" * 100000 + b"\n"
    assert received.exit_code == 9
    async with proxy.stdio("box") as ws:
        again = await receive_all(ws)
    assert (bytes(again.output[Channel.STDOUT]), again.exit_code) == (b"", 9)


async def test_output_that_waited_for_room_when_the_server_ended_is_delivered_too(engine: str, tmp_path: Path) -> None:
    rule = toolbox_rule(stdio={"buffer": "64KiB", "max_message": "64KiB"})
    async with proxy_under_test(tmp_path, policy_document(rule)) as proxy:
        await proxy.start("box", "big-then-exit", "400000", "0")
        await proxy.until("box", "exited")
        async with proxy.stdio("box") as ws:
            received = await receive_all(ws)
    assert received.output[Channel.STDOUT] == b"x" * 400000 + b"\n"
    assert received.close_code == CloseCode.NORMAL


async def test_client_that_does_not_read_the_rest_of_a_dead_server_is_cut_off_whenever_it_came(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stdio, "LINGER_S", 0.2)
    async with proxy_under_test(tmp_path, policy_document(toolbox_rule()), close_timeout_s=0.2) as proxy:
        await proxy.start("box", "big-then-exit", "8000000", "0")
        finished = datetime.fromisoformat((await proxy.until("box", "exited"))["exit"]["finished_at"])
        while datetime.now(UTC) < finished + timedelta(seconds=1):
            await asyncio.sleep(0.1)
        reader, writer = await attach_by_hand(proxy, UPGRADE + KEY)
        await reader.readuntil(b"\r\n\r\n")
        with pytest.raises(ConnectionError):
            await write_for_ever(writer)
        assert (await proxy.call("GET", "/v1/servers/box")).json["stdio"]["attached"] is False


# ── one client at a time ─────────────────────────────────────────────────────────────────────────


async def test_second_attach_is_busy_and_takeover_closes_the_first_with_4409(proxy: ProxyUnderTest) -> None:
    await proxy.start("echo", "echo-lines")
    async with proxy.stdio("echo") as first:
        with pytest.raises(WSServerHandshakeError) as refused:
            async with proxy.stdio("echo"):
                pass
        assert refused.value.status == 409
        assert (await proxy.call("GET", "/v1/servers/echo")).json["stdio"]["attached"] is True
        async with proxy.stdio("echo", query="?takeover=1") as second:
            assert await closed_with(first) == CloseCode.TAKEN_OVER
            await second.send_bytes(channels.encode(Channel.STDIN, b"mine\n"))
            assert await drain_bytes(second, 5) == b"mine\n"


@pytest.mark.parametrize("subprotocol", ["v5.channel.k8s.io", "mcp"])
async def test_takeover_of_a_slow_client_tells_it_so_and_gives_each_byte_to_one_of_the_two(
    engine: str, tmp_path: Path, subprotocol: str
) -> None:
    rule = toolbox_rule(stdio={"buffer": "64KiB", "max_message": "64KiB"})
    async with proxy_under_test(tmp_path, policy_document(rule)) as proxy:
        await proxy.start("count", "count", "400000")
        async with proxy.stdio("count", subprotocol) as slow:
            await asyncio.sleep(1)  # every buffer on the way is full then, which nothing tells from here
            async with proxy.stdio("count", query="?takeover=1") as quick:
                async with asyncio.timeout(20):
                    messages = [message.data async for message in slow]
                assert slow.close_code == CloseCode.TAKEN_OVER
                heard = b"".join(m.encode() + b"\n" if isinstance(m, str) else m[1:] for m in messages)
                heard += await drain_bytes(quick, 1)
    assert b"".join(b"%d\n" % number for number in range(400000)).startswith(heard)


async def attach_by_hand(
    proxy: ProxyUnderTest, headers: str, *, query: str = ""
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Ask for ``box``'s stdio with these headers; nothing is read unless the caller does."""
    reader, writer = await asyncio.open_unix_connection(proxy.socket, limit=1024)
    request = f"GET /v1/servers/box/stdio{query} HTTP/1.1\r\nHost: proxy\r\nAuthorization: Bearer {TOKEN}\r\n"
    writer.write(f"{request}{headers}\r\n".encode())
    return reader, writer


async def write_for_ever(writer: asyncio.StreamWriter) -> None:
    """Fails when the other side is gone: who only waits is not told, behind output that it has not read."""
    async with asyncio.timeout(10):
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()
            await asyncio.sleep(0.01)


UPGRADE = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: v5.channel.k8s.io\r\n"
KEY = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"


async def test_session_that_is_ended_and_does_not_read_is_cut_off(engine: str, tmp_path: Path) -> None:
    async with proxy_under_test(tmp_path, policy_document(toolbox_rule()), close_timeout_s=0.2) as proxy:
        await proxy.start("box", "flood")
        reader, writer = await attach_by_hand(proxy, UPGRADE + KEY)
        await reader.readuntil(b"\r\n\r\n")  # and no more: what is printed now fills every buffer on the way
        await asyncio.sleep(0.5)
        with capture_logs() as logs:
            async with proxy.stdio("box", query="?takeover=1"), asyncio.timeout(10):
                while not any(log["event"] == "stdio_session" for log in logs):
                    await asyncio.sleep(0.01)
        with pytest.raises(ConnectionError):
            await write_for_ever(writer)


@pytest.mark.parametrize("headers", [UPGRADE, UPGRADE.partition("\r\n")[2] + KEY, UPGRADE + KEY.replace("13", "12")])
async def test_upgrade_that_is_no_websocket_is_refused_and_takes_nobodys_place(
    proxy: ProxyUnderTest, headers: str
) -> None:
    await proxy.start("box", "echo-lines")
    async with proxy.stdio("box") as ws:
        reader, writer = await attach_by_hand(proxy, headers, query="?takeover=1")
        async with asyncio.timeout(10):
            assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 426 ")
        writer.close()
        await writer.wait_closed()
        await ws.send_bytes(channels.encode(Channel.STDIN, b"still here\n"))
        assert await drain_bytes(ws, 11) == b"still here\n"


async def test_next_client_begins_at_the_first_byte_nobody_has_taken(proxy: ProxyUnderTest) -> None:
    await proxy.start("echo", "echo-lines")
    async with proxy.stdio("echo") as first:
        await first.send_bytes(channels.encode(Channel.STDIN, b"one\n"))
        assert await drain_bytes(first, 4) == b"one\n"
        await first.send_bytes(channels.encode(Channel.STDIN, b"two\n"))
    async with proxy.stdio("echo") as second:
        assert await drain_bytes(second, 4) == b"two\n"


async def test_client_that_vanishes_frees_its_place(proxy: ProxyUnderTest) -> None:
    await proxy.start("echo", "echo-lines")
    ws = await proxy.stdio("echo")
    transport = ws._response.connection.transport  # type: ignore[union-attr]  # the test cuts the cable
    assert transport is not None
    transport.abort()
    await ws.close()
    async with asyncio.timeout(20):
        while (await proxy.call("GET", "/v1/servers/echo")).json["stdio"]["attached"]:
            await asyncio.sleep(0.01)


async def test_stdin_of_a_server_that_does_not_read_is_bounded_however_often_clients_take_over(
    proxy: ProxyUnderTest,
) -> None:
    await proxy.start("deaf", "sleep")
    message = channels.encode(Channel.STDIN, bytes(8 * MIB))
    tracemalloc.start()
    try:
        for _ in range(6):
            ws = await proxy.stdio("deaf", query="?takeover=1")
            await ws.send_bytes(message)
            await asyncio.sleep(0.2)  # let it arrive: there is nothing to see from here
            ws._response.close()
        await proxy.until_detached("deaf")
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 3 * 8 * MIB


async def test_client_can_leave_after_it_wrote_to_a_stdin_that_nobody_reads(pipes: ProxyUnderTest) -> None:
    await pipes.start("box", "sleep")
    async with pipes.stdio("box") as ws:
        await ws.send_bytes(channels.encode_close(Channel.STDIN))
        await ws.send_bytes(channels.encode(Channel.STDIN, b"too late"))
        async with asyncio.timeout(5):
            await ws.close()
        assert ws.close_code == CloseCode.NORMAL
    await pipes.until_detached("box")


async def test_server_that_floods_waits_for_its_client_and_loses_nothing(engine: str, tmp_path: Path) -> None:
    rule = toolbox_rule(stdio={"buffer": "64KiB", "max_message": "64KiB"})
    async with proxy_under_test(tmp_path, policy_document(rule)) as proxy:
        await proxy.start("count", "count", "200000")
        async with proxy.stdio("count") as ws:
            expected = b"".join(b"%d\n" % number for number in range(200000))
            assert await drain_bytes(ws, len(expected)) == expected


async def test_chatty_stderr_never_blocks_and_its_log_stays_bounded(proxy: ProxyUnderTest) -> None:
    await proxy.start("chatty", "flood-stderr")
    async with asyncio.timeout(30):
        while len((await proxy.call("GET", "/v1/servers/chatty/logs?tail=10000")).text) < 200_000:
            await asyncio.sleep(0.01)
    assert len((await proxy.call("GET", "/v1/servers/chatty/logs?tail=10000")).text) <= 256 * 1024


async def test_logs_follow_until_the_server_ends(pipes: ProxyUnderTest) -> None:
    await pipes.start("err", "stderr")
    url = "http://proxy/v1/servers/err/logs?follow=1&tail=0"
    async with pipes.http.get(url, headers={"Authorization": "Bearer test-token-of-chat"}) as response:
        async with pipes.stdio("err") as ws:
            await ws.send_bytes(channels.encode(Channel.STDIN, b"followed\n"))
            assert await response.content.readline() == b"followed\n"
            await ws.send_bytes(channels.encode_close(Channel.STDIN))
            await receive_all(ws)
        assert await response.content.read() == b""


async def test_logs_tail_counts_lines(pipes: ProxyUnderTest) -> None:
    await pipes.start("err", "stderr")
    async with pipes.stdio("err") as ws:
        await ws.send_bytes(channels.encode(Channel.STDIN, b"one\ntwo\nthree\n"))
        await ws.send_bytes(channels.encode_close(Channel.STDIN))
        await receive_all(ws)
    assert (await pipes.call("GET", "/v1/servers/err/logs?tail=2")).text == "two\nthree\n"
    assert (await pipes.call("GET", "/v1/servers/err/logs?tail=0")).text == ""


# ── mcp ──────────────────────────────────────────────────────────────────────────────────────────


async def test_mcp_carries_one_line_as_one_text_message_unaltered(proxy: ProxyUnderTest) -> None:
    messages = [
        '{"id":1234567890123456789012345678901234567890,"x":"\\ud800 \U0001f600 \\u0000 é"}',
        "",
        "\r",
        '{"spaces" :  "kept"}\r',
        "x" * 300_000,
    ]
    await proxy.start("echo", "echo-lines")
    async with proxy.stdio("echo", "mcp") as ws:
        assert ws.protocol == "mcp"
        for message in messages:
            await ws.send_str(message)
        for message in messages:
            assert (await ws.receive(timeout=30)).data == message


async def test_mcp_twenty_megabyte_line_crosses_both_ways(pipes: ProxyUnderTest) -> None:
    message = json.dumps({"data": "é" * (10 * MIB)}, ensure_ascii=False)
    await pipes.start("echo", "echo-lines")
    async with pipes.stdio("echo", "mcp") as ws:
        await ws.send_str(message)
        assert (await ws.receive(timeout=60)).data == message


async def test_mcp_refuses_binary_newlines_and_output_that_is_not_utf8(proxy: ProxyUnderTest) -> None:
    await proxy.start("echo", "echo-lines")
    async with proxy.stdio("echo", "mcp") as ws:
        await ws.send_bytes(b"{}")
        assert await closed_with(ws) == CloseCode.UNSUPPORTED_DATA
    async with proxy.stdio("echo", "mcp") as ws:
        await ws.send_str("{}\n{}")
        assert await closed_with(ws) == CloseCode.INVALID_DATA
    await proxy.start("bad", "not-utf8")
    async with proxy.stdio("bad", "mcp") as ws:
        assert (await ws.receive(timeout=20)).data == "before"
        assert await closed_with(ws) == CloseCode.INVALID_DATA
    async with proxy.stdio("bad", "mcp") as ws:
        assert (await ws.receive(timeout=20)).data == "after"


async def test_mcp_line_above_the_limit_closes_with_1009_and_the_next_session_goes_on_after_it(
    engine: str, tmp_path: Path
) -> None:
    rule = toolbox_rule(stdio={"max_message": "64KiB", "buffer": "64KiB"})
    async with proxy_under_test(tmp_path, policy_document(rule)) as proxy:
        await proxy.start("big", "big-then-echo", "1000000")
        async with proxy.stdio("big", "mcp") as ws:
            assert await closed_with(ws) == CloseCode.MESSAGE_TOO_BIG
        async with proxy.stdio("big", "mcp") as ws:
            await ws.send_str("still here")
            assert (await ws.receive(timeout=30)).data == "still here"


async def test_mcp_begins_at_a_line_start_after_another_client_took_half_a_line(proxy: ProxyUnderTest) -> None:
    await proxy.start("cat", "cat")
    async with proxy.stdio("cat") as ws:
        await ws.send_bytes(channels.encode(Channel.STDIN, b"half of"))
        assert await drain_bytes(ws, 7) == b"half of"
    async with proxy.stdio("cat", "mcp") as ws:
        await ws.send_str(" a line")
        await ws.send_str("a whole line")
        assert (await ws.receive(timeout=20)).data == "a whole line"


async def test_mcp_close_code_tells_an_exit_from_a_crash(proxy: ProxyUnderTest) -> None:
    for code, expected in ((0, CloseCode.NORMAL), (3, CloseCode.EXITED_NON_ZERO)):
        await proxy.start(f"exit{code}", "exit-after-line", str(code))
        async with proxy.stdio(f"exit{code}", "mcp") as ws:
            await ws.send_str("go")
            assert await closed_with(ws) == expected


# ── before the upgrade ───────────────────────────────────────────────────────────────────────────


async def test_what_is_known_before_the_upgrade_is_an_http_problem(proxy: ProxyUnderTest) -> None:
    plain = await proxy.call("GET", "/v1/servers/none/stdio")
    assert (plain.status, plain.problem) == (404, "not-found")
    await proxy.start("echo", "echo-lines")
    no_upgrade = await proxy.call("GET", "/v1/servers/echo/stdio")
    assert (no_upgrade.status, no_upgrade.problem) == (426, "upgrade-required")
    with pytest.raises(WSServerHandshakeError) as unknown:
        async with proxy.stdio("echo", "soap"):
            pass
    assert unknown.value.status == 426
    with pytest.raises(WSServerHandshakeError) as denied:
        async with proxy.stdio("echo", token="wrong"):
            pass
    assert denied.value.status == 401


async def test_client_that_detaches_is_not_logged_as_lost(proxy: ProxyUnderTest) -> None:
    await proxy.start("echo", "echo-lines")
    with capture_logs() as logs:
        async with proxy.stdio("echo"):
            pass
        async with asyncio.timeout(10):
            while not (
                ends := [(log["event"], log.get("code"), log.get("status")) for log in logs if log["event"] != "audit"]
            )[1:]:
                await asyncio.sleep(0.01)
    assert ends == [("stdio_session", CloseCode.NORMAL, None), ("request", None, 101)]


async def test_ticket_in_the_url_opens_the_stream_once(proxy: ProxyUnderTest) -> None:
    await proxy.start("echo", "echo-lines")
    ticket = (await proxy.call("POST", "/v1/servers/echo/ticket")).json["ticket"]
    url = f"{proxy.tcp_url}/v1/servers/echo/stdio?ticket={ticket}"
    async with aiohttp.ClientSession() as browser:
        async with browser.ws_connect(url, protocols=["mcp"]) as ws:
            await ws.send_str("hello")
            assert (await ws.receive(timeout=20)).data == "hello"
        with pytest.raises(WSServerHandshakeError) as used:
            await browser.ws_connect(url, protocols=["mcp"])
        assert used.value.status == 401
        other = (await proxy.call("POST", "/v1/servers/echo/ticket")).json["ticket"]
        await proxy.start("second", "echo-lines")
        with pytest.raises(WSServerHandshakeError) as of_another:
            await browser.ws_connect(f"{proxy.tcp_url}/v1/servers/second/stdio?ticket={other}", protocols=["mcp"])
        assert of_another.value.status == 401


async def test_proxy_that_ends_tells_its_clients_1012_and_leaves_the_server_running(
    engine: str, tmp_path: Path
) -> None:
    document = policy_document(toolbox_rule())
    async with aiohttp.ClientSession() as client:
        async with proxy_under_test(tmp_path, document, leave_running=True) as first:
            await first.start("echo", "echo-lines")
            ticket = (await first.call("POST", "/v1/servers/echo/ticket")).json["ticket"]
            url = f"{first.tcp_url}/v1/servers/echo/stdio?ticket={ticket}"
            ws = await client.ws_connect(url, protocols=["mcp"])
            closing = asyncio.create_task(closed_with(ws))
        assert await closing == CloseCode.SERVICE_RESTART
    async with proxy_under_test(tmp_path, document, instance=first.instance) as second:
        assert (await second.call("GET", "/v1/servers/echo")).json["state"] == "running"
        await second.stop("echo")
