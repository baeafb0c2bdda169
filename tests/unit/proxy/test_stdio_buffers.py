"""What holds output between the engine and clients, against models that keep everything."""

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from doogie_proxy.stdio import StderrRing, StdoutBuffer

output = st.lists(st.sampled_from([b"a", b"bc", b"\n", b"\n\n", b"de\nf", b"\r\n", b"\0\xff"]), max_size=6).map(
    b"".join
)


class StdoutBufferAgainstModel(RuleBasedStateMachine):
    """The model is two byte strings: what clients took, and what waits."""

    def __init__(self) -> None:
        super().__init__()
        self.buffer = StdoutBuffer()
        self.taken = b""
        self.waiting = b""

    def take(self, count: int) -> None:
        self.taken += self.waiting[:count]
        self.waiting = self.waiting[count:]

    @rule(piece=output)
    def append(self, piece: bytes) -> None:
        self.buffer.append(memoryview(piece))
        self.waiting += piece

    @rule(share=st.floats(0, 1))
    def consume(self, share: float) -> None:
        count = round(share * len(self.waiting))
        self.buffer.consume(count)
        self.take(count)

    @rule()
    def peek_line(self) -> None:
        line, newline, _ = self.waiting.partition(b"\n")
        assert self.buffer.peek_line() == (line if newline else None)

    @precondition(lambda self: b"\n" in self.waiting)
    @rule()
    def consume_line(self) -> None:
        line = self.buffer.peek_line()
        assert line is not None
        self.buffer.consume(len(line) + 1)
        self.take(len(line) + 1)

    @invariant()
    def tells_what_belongs_to_a_line_that_another_client_began(self) -> None:
        rest, newline, _ = self.waiting.partition(b"\n")
        begun = bool(self.taken) and not self.taken.endswith(b"\n")
        assert self.buffer.rest_of_line() == (len(rest) + len(newline) if begun else 0)

    @invariant()
    def holds_what_waits(self) -> None:
        assert len(self.buffer) == len(self.waiting)
        assert self.buffer.peek(len(self.waiting) + 1) == self.waiting

    @invariant()
    def peeks_no_more_than_asked(self) -> None:
        for limit in (0, 1, 3):
            assert self.buffer.peek(limit) == self.waiting[:limit]


TestStdoutBuffer = StdoutBufferAgainstModel.TestCase


def held(written: bytes, capacity: int) -> bytes:
    return written[max(0, len(written) - capacity) :]


@given(pieces=st.lists(output), capacity=st.integers(1, 12), offset=st.integers(0, 60))
def test_stderr_is_held_from_an_offset_on_as_far_as_capacity_allows(
    pieces: list[bytes], capacity: int, offset: int
) -> None:
    ring = StderrRing(capacity)
    for piece in pieces:
        ring.append(piece)
    written = b"".join(pieces)
    assert ring.end == len(written)
    assert ring.since(offset) == written[max(offset, len(written) - capacity) :]


@given(pieces=st.lists(output), capacity=st.integers(1, 12), limit=st.integers(0, 20))
def test_the_tail_of_stderr_is_its_last_bytes(pieces: list[bytes], capacity: int, limit: int) -> None:
    ring = StderrRing(capacity)
    for piece in pieces:
        ring.append(memoryview(piece))
    assert ring.tail(limit) == held(b"".join(pieces), min(limit, capacity))


@given(pieces=st.lists(output), capacity=st.integers(1, 30), count=st.integers(0, 6))
def test_the_last_lines_of_stderr_are_whole_as_far_as_they_are_held(
    pieces: list[bytes], capacity: int, count: int
) -> None:
    ring = StderrRing(capacity)
    for piece in pieces:
        ring.append(piece)
    lines = [line + b"\n" for line in held(b"".join(pieces), capacity).split(b"\n")]
    lines[-1] = lines[-1][:-1]  # unterminated, or nothing at all
    if not lines[-1]:
        lines.pop()
    assert ring.tail_lines(count) == b"".join(lines[len(lines) - min(count, len(lines)) :])


def test_a_follower_that_reads_each_time_misses_nothing() -> None:
    ring, offset, seen = StderrRing(8), 0, b""
    for piece in (b"one", b"two", b"three", b"four"):
        ring.append(piece)
        seen += ring.since(offset)
        offset = ring.end
    assert seen == b"onetwothreefour"


def test_a_piece_longer_than_the_ring_leaves_its_end() -> None:
    ring = StderrRing(4)
    ring.append(b"0123456789")
    assert (ring.since(0), ring.end) == (b"6789", 10)
