"""The engine's framing of output, undone wherever the reads happen to cut it."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from doogie_proxy.multiplexed import HEADER_BYTES, Demultiplexer

frames = st.lists(st.tuples(st.sampled_from([0, 1, 2]), st.binary(max_size=40)), max_size=8)


def multiplex(content: list[tuple[int, bytes]]) -> bytes:
    """What the engine sends for payloads of these streams."""
    return b"".join(bytes([stream, 0, 0, 0]) + len(data).to_bytes(4) + data for stream, data in content)


def feed(demultiplexer: Demultiplexer, data: bytes) -> bytes:
    return b"".join(demultiplexer.feed(data))


@given(content=frames, data=st.data())
def test_any_split_of_any_frames_gives_the_same_bytes(content: list[tuple[int, bytes]], data: st.DataObject) -> None:
    stream = multiplex(content)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    demultiplexer = Demultiplexer()
    pieces = [feed(demultiplexer, stream[a:b]) for a, b in pairwise([0, *cuts, len(stream)])]
    assert b"".join(pieces) == b"".join(payload for _, payload in content)


@given(frames)
def test_single_bytes_give_the_same_bytes(content: list[tuple[int, bytes]]) -> None:
    demultiplexer = Demultiplexer()
    received = b"".join(feed(demultiplexer, bytes([byte])) for byte in multiplex(content))
    assert received == b"".join(payload for _, payload in content)


@given(content=frames, cut=st.integers(0, 200))
def test_a_payload_is_not_kept_back_until_its_frame_is_whole(content: list[tuple[int, bytes]], cut: int) -> None:
    position, due = 0, b""
    for _, payload in content:
        position += HEADER_BYTES
        due += payload[: max(0, cut - position)]
        position += len(payload)
    assert feed(Demultiplexer(), multiplex(content)[:cut]) == due


def test_an_empty_payload_gives_nothing_and_what_follows_is_not_lost() -> None:
    assert Demultiplexer().feed(multiplex([(1, b"")])) == []
    assert feed(Demultiplexer(), multiplex([(1, b""), (1, b"a"), (1, b""), (1, b"b")])) == b"ab"


def test_payloads_are_views_into_what_was_read() -> None:
    data = multiplex([(1, b"payload")])
    [piece] = Demultiplexer().feed(data)
    assert piece.obj is data


def test_a_length_has_all_of_its_32_bits() -> None:
    for length in (2**24 + 3, 2**31, 2**32 - 1):
        demultiplexer = Demultiplexer()
        demultiplexer.feed(b"\1\0\0\0" + length.to_bytes(4))
        assert demultiplexer._left == length


def test_a_payload_longer_than_any_read_comes_out_whole() -> None:
    payload = bytes(2**24) + b"end"
    stream = multiplex([(1, payload), (1, b"next")])
    demultiplexer = Demultiplexer()
    received = b"".join(feed(demultiplexer, stream[at : at + 2**18]) for at in range(0, len(stream), 2**18))
    assert received == payload + b"next"
