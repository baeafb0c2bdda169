"""A small real HTTP server that speaks the wire, for answers and faults a real proxy cannot easily be made to give."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
from aiohttp import web

from doogie_contract.channels import (
    SUBPROTOCOL_CHANNEL,
    Channel,
    CloseCode,
    decode,
    encode,
    encode_exit_status,
)
from doogie_contract.problems import PROBLEM_CONTENT_TYPE, ProblemType

TOKEN = "planted-secret-token"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class FakeProxy:
    """Answers every request with ``handler``; keeps what it was asked."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.url = f"unix://{socket}"
        self.handler: Handler = self._unset
        self.requests: list[web.Request] = []
        self.bodies: list[bytes] = []

    async def _unset(self, request: web.Request) -> web.StreamResponse:
        raise NotImplementedError(request.path)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        self.bodies.append(await request.read())
        return await self.handler(request)

    def answer_json(self, value: object, status: int = 200, content_type: str = "application/json") -> None:
        async def handler(request: web.Request) -> web.Response:
            return web.Response(body=json.dumps(value).encode(), status=status, content_type=content_type)

        self.handler = handler

    def answer_problem(self, type: ProblemType) -> None:
        self.answer_json(problem(type), type.status, PROBLEM_CONTENT_TYPE)

    def answer_websocket(self, talk: Callable[[web.WebSocketResponse], Awaitable[None]]) -> None:
        async def handler(request: web.Request) -> web.WebSocketResponse:
            socket = web.WebSocketResponse(protocols=[SUBPROTOCOL_CHANNEL], compress=False, timeout=0.2)
            await socket.prepare(request)
            await talk(socket)
            return socket

        self.handler = handler

    def answer_process(self, *argv: str) -> None:
        """Each attach runs a process of its own, and joins it as the proxy joins a container."""

        async def talk(socket: web.WebSocketResponse) -> None:
            await join_process(socket, *argv)

        self.answer_websocket(talk)


def problem(type: ProblemType) -> dict[str, object]:
    errors = [{"loc": "rules.time", "msg": "the image is not one of the rule's"}]
    return {
        "type": type.urn,
        "title": type.title,
        "status": type.status,
        "detail": "the detail",
        "request_id": "req-1",
        "errors": errors,
    }


async def join_process(socket: web.WebSocketResponse, *argv: str) -> None:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*argv, stdin=pipe, stdout=pipe, stderr=pipe)
    stdin, stdout, stderr = process.stdin, process.stdout, process.stderr
    assert stdin is not None
    assert stdout is not None
    assert stderr is not None

    async def copy(reader: asyncio.StreamReader, channel: Channel) -> None:
        while data := await reader.read(32 * 1024):
            await socket.send_bytes(encode(channel, data))

    async def end() -> None:
        await asyncio.gather(copy(stdout, Channel.STDOUT), copy(stderr, Channel.STDERR))
        code = await process.wait()
        code = 128 - code if code < 0 else code
        await socket.send_bytes(encode_exit_status(code, "" if code == 0 else "told by the fake proxy"))
        await socket.close(code=CloseCode.NORMAL if code == 0 else CloseCode.EXITED_NON_ZERO)

    ending = asyncio.create_task(end())
    try:
        async for message in socket:
            if message.type is not aiohttp.WSMsgType.BINARY:
                break
            channel, payload = decode(message.data)
            if channel is Channel.STDIN:
                stdin.write(payload)
                await stdin.drain()
            elif channel is Channel.CLOSE:
                stdin.close()
    except ConnectionError:
        pass  # the process is gone; its end is told by `ending`
    finally:
        transport = process._transport  # type: ignore[attr-defined] # no public way to let go of pipes a child holds
        if socket.closed or ending.done():  # nobody takes the rest
            transport.close()
        await asyncio.gather(ending, return_exceptions=True)
        transport.close()
