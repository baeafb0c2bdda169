import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from doogie_client import (
    Channel,
    DoogieError,
    EngineLost,
    ExitStatus,
    HalfCloseUnavailable,
    MessageRejected,
    MessageTooLarge,
    ProtocolError,
    ProxyClient,
    ProxyRestarting,
    ProxyUnavailable,
    Revoked,
    ServerExited,
    StdioClosed,
    StdioStream,
    TakenOver,
)
from doogie_client.stdio import STDERR_TAIL_BYTES, WRITE_CHUNK_BYTES, LineSplitter
from doogie_contract.channels import CloseCode, encode, encode_exit_status
from tests.unit.client.fake_proxy import FakeProxy


async def read_all(stream: StdioStream) -> bytes:
    parts = []
    while chunk := await stream.read():
        parts.append(chunk)
    return b"".join(parts)


# --- bytes ------------------------------------------------------------------------------------------------------------


async def test_random_bytes_come_back_equal_and_the_half_close_is_seen(fake: FakeProxy, client: ProxyClient) -> None:
    fake.answer_process("cat")
    data = os.urandom(20 * 1024 * 1024 + 1)

    async with client.stdio("cat") as stream:

        async def feed() -> None:
            await stream.write(data)
            await stream.close_stdin()

        feeding = asyncio.create_task(feed())
        assert await read_all(stream) == data
        await feeding
        assert stream.exit == ExitStatus(0, "")
        assert await stream.read() == b""


async def test_a_long_write_goes_out_in_small_messages(fake: FakeProxy, client: ProxyClient) -> None:
    sizes: list[int] = []

    async def talk(socket: web.WebSocketResponse) -> None:
        async for message in socket:
            sizes.append(len(message.data) - 1)  # noqa: PERF401 - an async comprehension would hide the loop's end

    fake.answer_websocket(talk)
    async with client.stdio("x") as stream:
        await stream.write(bytearray(WRITE_CHUNK_BYTES * 2 + 5))
        await stream.write(memoryview(b""))
    assert sizes == [WRITE_CHUNK_BYTES, WRITE_CHUNK_BYTES, 5]


async def test_stderr_is_separate_and_in_order_with_stdout(fake: FakeProxy, client: ProxyClient) -> None:
    async def talk(socket: web.WebSocketResponse) -> None:
        for channel, data in ((Channel.STDERR, b"e1"), (Channel.STDOUT, b"o1"), (Channel.STDERR, b"e2")):
            await socket.send_bytes(encode(channel, data))
        await socket.send_bytes(encode_exit_status(0, ""))
        await socket.close(code=CloseCode.NORMAL)

    fake.answer_websocket(talk)
    async with client.stdio("x") as stream:
        seen = []
        while (frame := await stream.receive()) is not None:
            seen.append((frame.channel, bytes(frame.payload)))
    assert seen == [(Channel.STDERR, b"e1"), (Channel.STDOUT, b"o1"), (Channel.STDERR, b"e2")]
    async with client.stdio("x") as stream:
        assert await read_all(stream) == b"o1"
        assert stream.stderr_tail == "e1e2"


async def test_a_flood_of_stderr_blocks_nothing_and_is_bounded(fake: FakeProxy, client: ProxyClient) -> None:
    program = (
        "import sys; [sys.stderr.write('x' * 999 + chr(10)) for _ in range(9000)]; sys.stderr.write('end'); print(1)"
    )
    fake.answer_process(sys.executable, "-c", program)
    async with client.stdio("x") as stream:
        assert await read_all(stream) == b"1\n"
        assert stream.stderr_tail.endswith("end")
        assert len(stream.stderr_tail) == STDERR_TAIL_BYTES


async def test_who_does_not_read_makes_the_server_stop_writing(fake: FakeProxy, client: ProxyClient) -> None:
    sent = 0

    async def flood(socket: web.WebSocketResponse) -> None:
        nonlocal sent
        while True:
            await socket.send_bytes(encode(Channel.STDOUT, bytes(64 * 1024)))
            sent += 64 * 1024

    async def talk(socket: web.WebSocketResponse) -> None:
        flooding = asyncio.create_task(flood(socket))
        await socket.receive()
        flooding.cancel()
        await asyncio.wait([flooding])

    fake.answer_websocket(talk)
    async with client.stdio("x") as stream:
        await stream.read()
        before = -1
        while sent != before:
            before = sent
            await asyncio.sleep(0.1)
        assert sent < 4 * 1024 * 1024


async def test_cancelling_a_read_loses_nothing(fake: FakeProxy, client: ProxyClient) -> None:
    go = asyncio.Event()

    async def talk(socket: web.WebSocketResponse) -> None:
        await go.wait()
        await socket.send_bytes(encode(Channel.STDOUT, b"kept"))
        await socket.receive()

    fake.answer_websocket(talk)
    async with client.stdio("x") as stream:
        for _ in range(3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await stream.read()
        go.set()
        assert await stream.read() == b"kept"


# --- ends -------------------------------------------------------------------------------------------------------------


async def test_an_exit_ends_reading_as_on_a_pipe_and_refuses_writes(fake: FakeProxy, client: ProxyClient) -> None:
    fake.answer_process("sh", "-c", "echo out; echo 'last words' >&2; exit 3")
    async with client.stdio("x") as stream:
        assert await read_all(stream) == b"out\n"
        assert await stream.receive() is None
        assert stream.exit == ExitStatus(3, "told by the fake proxy")
        with pytest.raises(ServerExited, match=r"^told by the fake proxy: last words$") as caught:
            await stream.write(b"x")
        assert (caught.value.code, caught.value.stderr_tail) == (3, "last words\n")


async def test_a_killed_server_tells_its_signal(fake: FakeProxy, client: ProxyClient) -> None:
    fake.answer_process("sh", "-c", "kill -9 $$")
    async with client.stdio("x") as stream:
        assert await read_all(stream) == b""
        assert isinstance(stream.end, ServerExited)
        assert stream.end.signal == "SIGKILL"


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (CloseCode.NORMAL, StdioClosed),
        (CloseCode.UNSUPPORTED_DATA, MessageRejected),
        (CloseCode.INVALID_DATA, MessageRejected),
        (CloseCode.MESSAGE_TOO_BIG, MessageTooLarge),
        (CloseCode.SERVICE_RESTART, ProxyRestarting),
        (CloseCode.HALF_CLOSE_UNAVAILABLE, HalfCloseUnavailable),
        (CloseCode.TAKEN_OVER, TakenOver),
        (CloseCode.REVOKED, Revoked),
        (CloseCode.ENGINE_LOST, EngineLost),
        (4999, StdioClosed),
    ],
)
async def test_other_ends_raise_from_every_call_after_what_came_before_was_read(
    fake: FakeProxy, client: ProxyClient, code: int, error: type[DoogieError]
) -> None:
    async def talk(socket: web.WebSocketResponse) -> None:
        await socket.send_bytes(encode(Channel.STDOUT, b"before"))
        await socket.close(code=code, message=b"the reason")

    fake.answer_websocket(talk)
    async with client.stdio("x") as stream:
        assert await stream.read() == b"before"
        calls: list[Callable[[], Awaitable[object]]] = [
            stream.read,
            stream.receive,
            stream.close_stdin,
            lambda: stream.write(b"x"),
        ]
        for call in calls:
            with pytest.raises(error, match="the reason") as caught:
                await call()
            assert caught.value.__class__ is error
        assert stream.exit is None


async def test_4500_without_a_status_is_an_exit_with_unknown_code(fake: FakeProxy, client: ProxyClient) -> None:
    async def talk(socket: web.WebSocketResponse) -> None:
        await socket.close(code=CloseCode.EXITED_NON_ZERO, message=b"gone")

    fake.answer_websocket(talk)
    async with client.stdio("x") as stream:
        assert await stream.read() == b""
        assert stream.exit == ExitStatus(None, "gone")


@pytest.mark.parametrize("how", ["abort", "close"])
async def test_a_cut_connection_is_no_normal_end(fake: FakeProxy, client: ProxyClient, how: str) -> None:
    async def handler(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=["v5.channel.k8s.io"])
        await socket.prepare(request)
        await socket.send_bytes(encode(Channel.STDOUT, b"before"))
        assert request.transport is not None
        getattr(request.transport, how)()
        return socket

    fake.handler = handler
    async with client.stdio("x") as stream:
        assert await stream.read() == b"before"
        with pytest.raises(ProxyUnavailable, match="lost"):
            await stream.read()


async def test_writing_into_an_end_that_nobody_read_yet_says_where_the_reason_is(
    fake: FakeProxy, client: ProxyClient
) -> None:
    async def talk(socket: web.WebSocketResponse) -> None:
        await socket.close(code=CloseCode.TAKEN_OVER)

    fake.answer_websocket(talk)
    async with client.stdio("x") as stream:
        with pytest.raises(StdioClosed, match="reading on tells why"):  # noqa: PT012 - which write fails is not known
            while True:
                await stream.write(bytes(1024))
                await asyncio.sleep(0)
        with pytest.raises(TakenOver):
            await stream.read()
        with pytest.raises(TakenOver):
            await stream.write(b"x")


@pytest.mark.parametrize("message", [b"", b"\x09x", bytes([Channel.STDIN]), b"\x03{", "text"])
async def test_a_message_that_is_not_of_the_framing_is_a_protocol_error(
    fake: FakeProxy, client: ProxyClient, message: bytes | str
) -> None:
    async def talk(socket: web.WebSocketResponse) -> None:
        await (socket.send_str(message) if isinstance(message, str) else socket.send_bytes(message))
        await socket.receive()

    fake.answer_websocket(talk)
    async with client.stdio("x") as stream:
        with pytest.raises(ProtocolError, match="broke the stdio framing"):
            await stream.read()


async def test_leaving_the_block_detaches_with_1000(fake: FakeProxy, client: ProxyClient) -> None:
    codes: list[int | None] = []

    async def talk(socket: web.WebSocketResponse) -> None:
        await socket.receive()
        codes.append(socket.close_code)

    fake.answer_websocket(talk)
    async with client.stdio("x") as stream:
        pass
    assert codes == [1000]
    with pytest.raises(StdioClosed, match="closed on this side"):
        await stream.read()


# --- lines ------------------------------------------------------------------------------------------------------------


async def test_lines_of_any_size_come_whole(fake: FakeProxy, client: ProxyClient) -> None:
    program = "import sys; w = sys.stdout.write; w('a\\n\\n'); w('b' * 20_000_000 + '\\n'); w('tail')"
    fake.answer_process(sys.executable, "-c", program)
    async with client.stdio("x") as stream, aclosing(stream.lines()) as lines:
        assert [line async for line in lines] == [b"a", b"", b"b" * 20_000_000, b"tail"]


async def test_a_line_over_the_bound_ends_the_stream(fake: FakeProxy, client: ProxyClient) -> None:
    fake.answer_process(sys.executable, "-c", "print('ok'); print('x' * 2000)")
    async with client.stdio("x") as stream:
        with pytest.raises(MessageTooLarge, match="1000 bytes"):
            async for _ in stream.lines(max_bytes=1000):
                pass
        with pytest.raises(MessageTooLarge):
            await stream.read()


@given(st.lists(st.lists(st.sampled_from([b"a", b"bc", b"\n", b"\r", b"\xff"])).map(b"".join)))
def test_cutting_does_not_depend_on_how_the_bytes_come(pieces: list[bytes]) -> None:
    splitter = LineSplitter(max_bytes=1000)
    lines = [line for piece in pieces for line in splitter.feed(piece)]
    assert [*lines, splitter.finish()] == b"".join(pieces).split(b"\n")


@pytest.mark.parametrize("data", [b"xxxx", b"xxxx\n", b"a\nxxxx\nb", b"a\nxxxx"])
def test_a_line_one_over_the_bound_is_refused(data: bytes) -> None:
    LineSplitter(max_bytes=4).feed(data)
    with pytest.raises(MessageTooLarge):
        LineSplitter(max_bytes=3).feed(data)


def test_cutting_takes_linear_time() -> None:
    def seconds(size: int) -> float:
        splitter, chunk = LineSplitter(max_bytes=2**30), b"x" * 4096
        begun = time.process_time()  # others may keep the machine busy
        for _ in range(size // len(chunk)):
            splitter.feed(chunk)
        splitter.feed(b"\n")
        return time.process_time() - begun

    small, large = (min(seconds(size) for _ in range(3)) for size in (8 * 2**20, 64 * 2**20))
    assert large < 48 * small  # quadratic would be 64; 26 is usual, as 64 MiB fit into no cache
