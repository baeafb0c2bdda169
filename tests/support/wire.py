"""HTTP and WebSocket by hand: exactly these bytes, which no client library would send."""

import asyncio
import json
import os
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple
from urllib.parse import urlsplit

from aiohttp import hdrs
from multidict import CIMultiDict

from tests.support.harness import TOKEN, Answer, ProxyUnderTest

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
"""Opcodes of RFC 6455 section 5.2."""


class Peer(NamedTuple):
    """A connection to a proxy."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, data: bytes) -> None:
        """Send, without waiting until it is taken."""
        self.writer.write(data)

    async def answer(self, *, of_head: bool = False) -> Answer:
        """The next answer, whole; one to HEAD has no body."""
        async with asyncio.timeout(20):
            head = await self.reader.readuntil(b"\r\n\r\n")
            status, *lines = head.decode("latin-1").split("\r\n")[:-2]
            headers = CIMultiDict((name, value) for name, _, value in (line.partition(": ") for line in lines))
            length = 0 if of_head else int(headers.get(hdrs.CONTENT_LENGTH, "0"))
            body = await self.reader.readexactly(length)
        return Answer(int(status.split(" ")[1]), headers, body.decode())

    async def rest(self, *, timeout_s: float = 20) -> bytes:
        """Everything until the proxy closes the connection, which it must."""
        async with asyncio.timeout(timeout_s):
            try:
                return await self.reader.read()
            except ConnectionError:  # it closed while it was still sent to
                return b""

    async def frame(self) -> tuple[int, bytes]:
        """The next WebSocket frame: opcode and payload."""
        async with asyncio.timeout(20):
            first, length = await self.reader.readexactly(2)
            if length == 126:
                length = int.from_bytes(await self.reader.readexactly(2))
            elif length == 127:
                length = int.from_bytes(await self.reader.readexactly(8))
            return first & 0x0F, await self.reader.readexactly(length)

    async def close_code(self) -> int:
        """The code of the close frame, after whatever else comes."""
        while True:
            opcode, payload = await self.frame()
            if opcode == CLOSE:
                return int(struct.unpack("!H", payload[:2])[0])


@asynccontextmanager
async def connected(proxy: ProxyUnderTest, *, tcp: bool = False, limit: int = 2**20) -> AsyncIterator[Peer]:
    """A connection over the unix socket, or to the loopback port."""
    if tcp:
        url = urlsplit(proxy.tcp_url)
        reader, writer = await asyncio.open_connection(url.hostname, url.port, limit=limit)
    else:
        reader, writer = await asyncio.open_unix_connection(proxy.socket, limit=limit)
    try:
        yield Peer(reader, writer)
    finally:
        writer.transport.abort()


async def answer_to(proxy: ProxyUnderTest, request: bytes, *, tcp: bool = False) -> Answer:
    """The first answer to these bytes on a connection of their own."""
    async with connected(proxy, tcp=tcp) as peer:
        peer.send(request)
        return await peer.answer()


async def refusal_of(proxy: ProxyUnderTest, request: bytes, *, tcp: bool = False) -> Answer:
    """The one answer to these bytes, after which the proxy must close the connection."""
    async with connected(proxy, tcp=tcp) as peer:
        peer.send(request)
        answer = await peer.answer()
        rest = await peer.rest()
    if rest:
        raise AssertionError(f"answered twice: {rest[:200]!r}")
    return answer


def head(line: str, *headers: str, token: str = TOKEN) -> bytes:
    """A request's head with a token; ``line`` without the version."""
    lines = [f"{line} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {token}", *headers, "", ""]
    return "\r\n".join(lines).encode()


def request_with_body(line: str, body: object, *headers: str) -> bytes:
    """A whole request with a JSON body."""
    data = json.dumps(body).encode()
    return head(line, "Content-Type: application/json", f"Content-Length: {len(data)}", *headers) + data


def upgrade(name: str, *headers: str, subprotocol: str = "v5.channel.k8s.io") -> bytes:
    """The handshake for a server's stdio."""
    return head(
        f"GET /v1/servers/{name}/stdio",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==",
        f"Sec-WebSocket-Protocol: {subprotocol}",
        *headers,
    )


@asynccontextmanager
async def attached(
    proxy: ProxyUnderTest, name: str, *headers: str, subprotocol: str = "v5.channel.k8s.io"
) -> AsyncIterator[Peer]:
    """A WebSocket at a server's stdio, whose handshake is done."""
    async with connected(proxy) as peer:
        peer.send(upgrade(name, *headers, subprotocol=subprotocol))
        answer = await peer.answer()
        if answer.status != 101 or "Sec-WebSocket-Extensions" in answer.headers:
            raise AssertionError(f"no plain WebSocket: {answer}")
        yield peer


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    reserved: int = 0,
    mask: bool = True,
    claim: int | None = None,
) -> bytes:
    """One frame of RFC 6455 section 5.2; ``claim`` is another length than that of the payload."""
    length = len(payload) if claim is None else claim
    first = (0x80 if fin else 0) | reserved << 4 | opcode
    bit = 0x80 if mask else 0
    if length < 126:
        start = bytes([first, bit | length])
    elif length < 2**16:
        start = bytes([first, bit | 126]) + length.to_bytes(2)
    else:
        start = bytes([first, bit | 127]) + length.to_bytes(8)
    if not mask:
        return start + payload
    key = os.urandom(4)
    return start + key + bytes(byte ^ key[index % 4] for index, byte in enumerate(payload))
