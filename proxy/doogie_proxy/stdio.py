"""The stdio hub of one server: between the engine's attachments and whichever client comes.

    engine stdin  ◄── write()                          clients come and go (sessions.py); the hub stays
    engine stdout ──► StdoutBuffer ──► one client      bounded: when full, the container blocks as on any full pipe
    engine stderr ──► StderrRing   ──► client, logs    always drained: the oldest bytes give way

Bytes leave the stdout buffer only when a client has taken them, so the next client continues where the last one
stopped. The hub knows no HTTP and no policy.
"""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple

from doogie_contract.channels import CloseCode
from doogie_contract.models import ServerExit
from doogie_proxy.attachment import Attachment
from doogie_proxy.engine_failures import EngineUnavailable

STDERR_RING_BYTES = 256 * 1024
DRAIN_RESERVE_BYTES = 2 * 1024 * 1024
"""Taken beyond the limit while a server is stopped: the engine cannot announce a death behind a stalled attachment."""
LINGER_S = 30.0
"""How long a client may take to read the rest of a server that has ended."""


class StdoutBuffer:
    """Output that no client has taken yet, with the state needed to cut it into lines. Pure."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._searched = 0
        self._at_line_start = True

    def __len__(self) -> int:
        return len(self._data)

    def append(self, piece: bytes | memoryview) -> None:
        """Add output at the end."""
        self._data += piece

    def peek(self, limit: int) -> bytes:
        """The next bytes, at most ``limit``, without taking them."""
        return bytes(memoryview(self._data)[:limit])

    def peek_line(self) -> bytes | None:
        """The next whole line without its newline, or None while there is none; each byte is searched once."""
        end = self._data.find(b"\n", self._searched)
        if end < 0:
            self._searched = len(self._data)
            return None
        self._searched = end
        return self.peek(end)

    def rest_of_line(self) -> int:
        """How many of the waiting bytes belong to a line whose beginning a client has taken."""
        if self._at_line_start:
            return 0
        line = self.peek_line()
        return len(self) if line is None else len(line) + 1

    def consume(self, count: int) -> None:
        """Take ``count`` bytes off the front: a client has them."""
        if count:
            self._at_line_start = self._data[count - 1] == ord("\n")
            del self._data[:count]
            self._searched = max(0, self._searched - count)


class StderrRing:
    """The last of what was written to stderr, at absolute offsets. Pure."""

    def __init__(self, capacity: int = STDERR_RING_BYTES) -> None:
        self._data = bytearray()
        self._capacity = capacity
        self.end = 0
        """Bytes seen so far."""

    def append(self, piece: bytes | memoryview) -> None:
        """Add output; beyond the capacity the oldest gives way."""
        self._data += piece
        self.end += len(piece)
        if (excess := len(self._data) - self._capacity) > 0:
            del self._data[:excess]

    def since(self, offset: int) -> bytes:
        """What is held of the output from ``offset`` on."""
        start = self.end - len(self._data)
        return bytes(memoryview(self._data)[max(0, offset - start) :])

    def tail(self, limit: int) -> bytes:
        """The last ``limit`` bytes."""
        return self.since(self.end - limit)

    def tail_lines(self, count: int) -> bytes:
        """The last ``count`` lines; an unterminated last line counts as one."""
        position = len(self._data)
        if position and self._data[-1] == ord("\n"):
            position -= 1
        for _ in range(count):
            position = self._data.rfind(b"\n", 0, position)
            if position < 0:
                return bytes(self._data)
        return bytes(memoryview(self._data)[position + 1 :])


class Traffic(NamedTuple):
    """What a hub has carried so far, and for how long it was waited for: by clients (stdin), by the server (stdout)."""

    stdin_bytes: int = 0
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    stdout_taken_bytes: int = 0
    """By clients."""
    stdin_wait_s: float = 0.0
    stdout_wait_s: float = 0.0


class _Stopwatch:
    """How long its blocks have lasted, the one that is under way included."""

    def __init__(self) -> None:
        self._total_s = 0.0
        self._begun: float | None = None

    def __enter__(self) -> None:
        self._begun = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._total_s, self._begun = self.seconds, None

    @property
    def seconds(self) -> float:
        return self._total_s + (0.0 if self._begun is None else time.monotonic() - self._begun)


class StdioBusyError(Exception):
    """Another client is attached."""


class Seat:
    """The one place for a client at a hub. Its holder watches ``evicted`` and leaves when told to."""

    def __init__(self) -> None:
        self.evicted: asyncio.Future[tuple[CloseCode, str]] = asyncio.get_running_loop().create_future()
        self.left = asyncio.Event()

    def evict(self, code: CloseCode, reason: str) -> None:
        """Tell the holder to leave, and why."""
        if not self.evicted.done():
            self.evicted.set_result((code, reason))


class StdioHub:
    """All stdio of one running server.

    Args:
        stdin, stdout, stderr: the engine's attachments; None for a server that is already dead.
        buffer_bytes: how much stdout may wait for a client.
        max_message_bytes: the longest line or message that a client session takes or sends.
        can_half_close: whether the end of the stdin attachment is EOF for the server.
    """

    def __init__(
        self,
        stdin: Attachment | None,
        stdout: Attachment | None,
        stderr: Attachment | None,
        *,
        buffer_bytes: int,
        max_message_bytes: int,
        can_half_close: bool,
    ) -> None:
        self.stdout = StdoutBuffer()
        self.stderr = StderrRing()
        self.stderr_taken = 0
        self.max_message_bytes = max_message_bytes
        self.can_half_close = can_half_close
        self.detached_at: datetime | None = datetime.now(UTC)
        self.on_seat_change: Callable[[], None] = lambda: None
        """Called when a client has come or gone."""
        self.exit: ServerExit | None = None
        self.running = False
        """Whether ``run`` is at it: more output may come, also after the exit."""
        self.lost = False
        """Whether the engine went away under the attachments of a living server: stdin has nowhere to go."""
        self._attachments = (stdin, stdout, stderr)
        self._stdin_bytes = self._stdout_bytes = self._stdout_taken_bytes = 0
        self._stdin_wait, self._stdout_wait = _Stopwatch(), _Stopwatch()
        self._limit = buffer_bytes
        self._draining = False
        self._reserve_used = False
        self._cut = False
        self._seat: Seat | None = None
        self._changed = asyncio.Event()
        self._room = asyncio.Event()

    @property
    def attached(self) -> bool:
        """Whether a client holds the seat."""
        return self._seat is not None

    def traffic(self) -> Traffic:
        """What it has carried so far."""
        return Traffic(
            self._stdin_bytes,
            self._stdout_bytes,
            self.stderr.end,
            self._stdout_taken_bytes,
            self._stdin_wait.seconds,
            self._stdout_wait.seconds,
        )

    async def run(self) -> None:
        """Move output from the engine until both streams end."""
        self.running = True
        _, stdout, stderr = self._attachments
        async with asyncio.TaskGroup() as group:
            if stdout:
                group.create_task(self._pump_stdout(stdout))
            if stderr:
                group.create_task(self._pump_stderr(stderr))
        self.running = False
        self._ring(self._changed)

    async def write(self, data: bytes | memoryview) -> None:
        """Hand bytes to the server's stdin; returns when there is room for more.

        Raises:
            EngineUnavailable: the attachment is gone.
        """
        stdin = self._attachments[0]
        if stdin is not None:
            self._stdin_bytes += len(data)
            with self._stdin_wait:
                await stdin.write(data)

    def close_stdin(self) -> None:
        """EOF for the server's stdin, where ``can_half_close``."""
        if self._attachments[0] is not None and self.can_half_close:
            self._attachments[0].write_eof()

    async def changed(self) -> None:
        """Wait for output, an exit, or the loss of the engine. Check before waiting: it tells only of news."""
        await self._changed.wait()

    def consume_stdout(self, count: int) -> None:
        """A client has taken ``count`` bytes."""
        self._stdout_taken_bytes += count
        self.stdout.consume(count)
        if len(self.stdout) <= self._limit:
            self._ring(self._room)

    @property
    def stalled(self) -> bool:
        """Whether the server's output waits for a client to make room."""
        return len(self.stdout) > self._limit and not self._draining

    def use_reserve(self) -> None:
        """Read on a little past the limit, once, so that the engine can announce a death."""
        if not self._reserve_used:
            self._limit += DRAIN_RESERVE_BYTES
            self._reserve_used = True
        self._ring(self._room)

    def drain(self) -> None:
        """Read on, so that the engine can stop the server; what is beyond the reserve is cut off."""
        self._draining = True
        self.use_reserve()

    def finish(self, exit_: ServerExit) -> None:
        """The server is dead; its client is told once it has taken all of the output."""
        self.exit = exit_
        self._ring(self._changed)
        if self._seat is not None:
            self._linger(self._seat, exit_)
        else:
            self._await_a_client()

    async def take_seat(self, seat: Seat, *, takeover: bool) -> None:
        """Attach a client.

        Raises:
            StdioBusyError: another is attached, and ``takeover`` is False.
            EngineUnavailable: the attachments are lost; until they are made anew, what a client writes would vanish.
        """
        while self._seat is not None:
            if not takeover:
                raise StdioBusyError
            previous = self._seat
            previous.evict(CloseCode.TAKEN_OVER, "another session of the same client took over")
            await previous.left.wait()
        if self.lost:
            raise EngineUnavailable("the attachments are lost")
        self._seat = seat
        self.detached_at = None
        self.on_seat_change()
        if self.exit is not None:
            self._linger(seat, self.exit)

    def leave_seat(self, seat: Seat) -> None:
        """Detach; the server runs on."""
        if self._seat is seat:
            self._seat = None
            self.detached_at = datetime.now(UTC)
            self.on_seat_change()
            if self.exit is not None:
                self._await_a_client()
        seat.left.set()

    def evict(self, code: CloseCode, reason: str) -> None:
        """Ask the attached client, if any, to leave, and let others that wait look around."""
        if self._seat is not None:
            self._seat.evict(code, reason)
        self.wake()

    def wake(self) -> None:
        """Let all who wait for news look around."""
        self._ring(self._changed)

    def reattach(self, stdin: Attachment | None, stdout: Attachment | None, stderr: Attachment | None) -> None:
        """Go on with new attachments after the engine came back; ``run`` must have ended."""
        self._close_attachments()
        self._attachments = (stdin, stdout, stderr)
        self.lost = False

    def close(self) -> None:
        """End the attachments, and ``run``. With ``can_half_close`` this is EOF for the server; else it is not told."""
        self._close_attachments()
        self.drain()  # what waits for room would wait for ever

    def _close_attachments(self) -> None:
        for attachment in self._attachments:
            if attachment is not None:
                attachment.close()

    async def _pump_stdout(self, attachment: Attachment) -> None:
        while pieces := await attachment.read():
            for piece in pieces:
                self._stdout_bytes += len(piece)
                self._cut = self._cut or (self._draining and len(self.stdout) >= self._limit)
                if not self._cut:  # and nothing after what was left out: a hole would make two lines one
                    self.stdout.append(piece)
            self._ring(self._changed)
            if self.stalled:
                with self._stdout_wait:
                    while self.stalled:
                        await self._room.wait()

    async def _pump_stderr(self, attachment: Attachment) -> None:
        while pieces := await attachment.read():
            for piece in pieces:
                self.stderr.append(piece)
            self._ring(self._changed)

    def _await_a_client(self) -> None:
        """Keep a dead server's output for a while only; its end, and its stderr, can be asked for all the same."""
        asyncio.get_running_loop().call_later(LINGER_S, self._drop_if_nobody_came)

    def _drop_if_nobody_came(self) -> None:
        if self._seat is None:
            self.stdout.consume(len(self.stdout))

    @staticmethod
    def _linger(seat: Seat, exit_: ServerExit) -> None:
        """Bound the time for the rest: a client that does not read would keep a dead server's output for ever."""
        code = CloseCode.NORMAL if exit_.code == 0 else CloseCode.EXITED_NON_ZERO
        asyncio.get_running_loop().call_later(LINGER_S, seat.evict, code, "the server ended")

    @staticmethod
    def _ring(bell: asyncio.Event) -> None:
        """Wake whoever waits now; nobody who comes later."""
        bell.set()
        bell.clear()
