"""The Kubernetes Python client's own WebSocket client, unmodified, on our ``v5.channel.k8s.io``.

It offers v5 by itself, sends the token as its Authorization header, parses the channels, half-closes stdin (v5's own
addition) and reads the exit code from the status channel: what ``kubectl exec`` users rely on. It is synchronous, so
each conversation runs in a thread.
"""

# mypy: allow-untyped-calls
# (the Kubernetes client is not annotated)

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeVar

import kubernetes.client
import pytest
from kubernetes.stream.ws_client import STDERR_CHANNEL, STDIN_CHANNEL, STDOUT_CHANNEL, V5_CHANNEL_PROTOCOL, WSClient

from tests.support.harness import TOKEN, ProxyUnderTest, policy_document, proxy_under_test, toolbox_rule

T = TypeVar("T")
TIMEOUT_S = 30


@pytest.fixture
async def proxy(engine: str, tmp_path: Path) -> AsyncIterator[ProxyUnderTest]:
    """A proxy whose rule lets servers see the end of stdin."""
    rule = toolbox_rule(stdio={"replay": "none"})
    async with proxy_under_test(tmp_path, policy_document(rule)) as running:
        yield running


async def converse(proxy: ProxyUnderTest, name: str, talk: Callable[[WSClient], T], *, binary: bool = True) -> T:
    """The result of ``talk`` with the stdio of a server."""
    url = f"{proxy.tcp_url.replace('http', 'ws', 1)}/v1/servers/{name}/stdio"
    configuration = kubernetes.client.Configuration()
    configuration.proxy = None  # that of this machine's environment: not for loopback

    def run() -> T:
        headers = {"authorization": f"Bearer {TOKEN}"}
        client = WSClient(configuration, url, headers, capture_all=False, binary=binary)
        try:
            return talk(client)
        finally:
            client.close()
            client.sock.shutdown()  # close() does nothing once the other side has closed, and leaves the socket open

    return await asyncio.to_thread(run)


def write_all_and_read_to_the_end(client: WSClient, data: bytes) -> tuple[bytes, bytes, int | None]:
    """Write ``data`` and end-of-file; then stdout, stderr and exit code of the server that ended because of it."""
    assert client.subprotocol == V5_CHANNEL_PROTOCOL
    client.write_stdin(data)
    client.close_channel(STDIN_CHANNEL)
    client.run_forever(timeout=TIMEOUT_S)
    return client.read_channel(STDOUT_CHANNEL), client.read_channel(STDERR_CHANNEL), client.returncode


@pytest.mark.parametrize("code", [0, 3])
async def test_kubernetes_client_reads_stdout_stderr_and_exit_code_apart(proxy: ProxyUnderTest, code: int) -> None:
    data = os.urandom(200_000)
    await proxy.start("box", "tee", str(code))
    ended = await converse(proxy, "box", lambda client: write_all_and_read_to_the_end(client, data))
    assert ended == (data, data, code)


async def test_kubernetes_client_keeps_stderr_off_stdout(proxy: ProxyUnderTest) -> None:
    await proxy.start("box", "stderr")
    ended = await converse(proxy, "box", lambda client: write_all_and_read_to_the_end(client, b"\x00\x01\x02\xff"))
    assert ended == (b"", b"\x00\x01\x02\xff", 0)


async def test_kubernetes_client_converses_line_by_line_in_text_and_bytes(proxy: ProxyUnderTest) -> None:
    def in_bytes(client: WSClient) -> list[bytes]:
        lines = []
        for line in (b"one", b"two \xff"):
            client.write_stdin(line + b"\n")
            lines.append(client.readline_stdout(timeout=TIMEOUT_S))
        assert client.returncode is None
        return lines

    def in_text(client: WSClient) -> str:
        # Its text mode decodes what it reads; what it sends as text goes in text frames, which v5 does not have.
        client.write_stdin("Grüße\n".encode())
        line: str = client.readline_stdout(timeout=TIMEOUT_S)
        return line

    await proxy.start("box", "echo-lines")
    assert await converse(proxy, "box", in_bytes) == [b"one", b"two \xff"]
    await proxy.until_detached("box")
    assert await converse(proxy, "box", in_text, binary=False) == "Grüße"
