"""The hub, between an attachment at which the test speaks and a client that the test plays."""

import asyncio

from doogie_proxy.engine import Attachment
from doogie_proxy.stdio import DRAIN_RESERVE_BYTES, StdioHub

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
