"""The hub, between an attachment at which the test speaks and a client that the test plays."""

import asyncio

import pytest

from doogie_contract.models import ExitReason, ServerExit
from doogie_proxy.attachment import Attachment
from doogie_proxy.stdio import DRAIN_RESERVE_BYTES, Seat, StdioHub

LIMIT = 1000


class Script(Attachment):
    """An output stream; ``say`` returns when the hub has done with the piece, ``close`` ends it."""

    def __init__(self) -> None:
        self._pieces: asyncio.Queue[bytes] = asyncio.Queue()
        self._reading = False

    async def say(self, piece: bytes) -> None:
        self._pieces.put_nowait(piece)
        async with asyncio.timeout(5):
            await self._pieces.join()

    async def read(self) -> list[memoryview]:
        if self._reading:
            self._pieces.task_done()
        self._reading = True
        piece = await self._pieces.get()
        return [memoryview(piece)] if piece else []

    def close(self) -> None:
        self._pieces.put_nowait(b"")


async def test_output_beyond_the_reserve_of_a_drain_is_cut_off_and_never_left_out_in_the_middle() -> None:
    stdout = Script()
    hub = StdioHub(None, stdout, None, buffer_bytes=LIMIT, max_message_bytes=LIMIT, can_half_close=False)
    running = asyncio.create_task(hub.run())
    hub.drain()
    held = b"x" * (LIMIT + DRAIN_RESERVE_BYTES)
    await stdout.say(held)
    await stdout.say(b"no room")
    hub.consume_stdout(LIMIT)  # the client reads on
    await stdout.say(b"room again, behind a hole")
    hub.close()
    await running
    assert hub.stdout.peek(len(held)) == held[LIMIT:]


async def test_the_reserve_is_used_once_and_nothing_of_a_living_servers_output_is_lost() -> None:
    stdout = Script()
    hub = StdioHub(None, stdout, None, buffer_bytes=LIMIT, max_message_bytes=LIMIT, can_half_close=False)
    running = asyncio.create_task(hub.run())
    first = asyncio.create_task(stdout.say(b"a" * (LIMIT + 1)))
    async with asyncio.timeout(5):
        while not hub.stalled:
            await asyncio.sleep(0)
    hub.use_reserve()
    await first
    second = asyncio.create_task(stdout.say(b"b" * DRAIN_RESERVE_BYTES))
    async with asyncio.timeout(5):
        while not hub.stalled:
            await asyncio.sleep(0)
    hub.use_reserve()
    assert hub.stalled
    hub.consume_stdout(LIMIT + 1)
    await second
    assert hub.stdout.peek(2**30) == b"b" * DRAIN_RESERVE_BYTES
    stdout.close()
    await running


async def test_a_dead_servers_output_is_kept_for_a_while_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("doogie_proxy.stdio.LINGER_S", 0.01)
    hub = StdioHub(None, None, None, buffer_bytes=LIMIT, max_message_bytes=LIMIT, can_half_close=False)
    hub.stdout.append(b"x" * LIMIT)
    hub.finish(ServerExit(reason=ExitReason.EXITED, code=0, signal=None, finished_at=None, stderr_tail=""))
    async with asyncio.timeout(5):
        while len(hub.stdout):
            await asyncio.sleep(0.005)
    assert hub.exit is not None


async def test_a_dead_servers_output_is_let_go_of_after_a_client_that_did_not_take_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("doogie_proxy.stdio.LINGER_S", 0.01)
    hub = StdioHub(None, None, None, buffer_bytes=LIMIT, max_message_bytes=LIMIT, can_half_close=False)
    hub.stdout.append(b"x" * LIMIT)
    seat = Seat()
    await hub.take_seat(seat, takeover=False)
    hub.finish(ServerExit(reason=ExitReason.EXITED, code=0, signal=None, finished_at=None, stderr_tail=""))
    async with asyncio.timeout(5):
        await seat.evicted
        assert len(hub.stdout) == LIMIT
        hub.leave_seat(seat)
        while len(hub.stdout):
            await asyncio.sleep(0.005)
