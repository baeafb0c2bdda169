"""Bodies: RFC 8259 without what two parsers could read differently."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doogie_proxy.http import MAX_JSON_DEPTH, parse_json

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()


def nested(depth: int) -> st.SearchStrategy[object]:
    """JSON values at most ``depth`` deep."""
    if depth == 1:
        return scalars
    return scalars | st.lists(nested(depth - 1), max_size=3) | st.dictionaries(st.text(), nested(depth - 1), max_size=3)


@given(value=nested(4), ascii_only=st.booleans())
def test_what_was_written_is_read(value: object, ascii_only: bool) -> None:
    assert parse_json(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@given(st.binary() | st.text('[]{}":,0123456789eE.+-truefalsn\\ud8 ').map(str.encode))
def test_any_body_is_read_as_json_reads_it_or_refused(body: bytes) -> None:
    try:
        value = parse_json(body)
    except ValueError:
        return
    assert value == json.loads(body)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "Expecting value"),
        (b" ", "Expecting value"),
        (b"{}{}", "Extra data"),
        (b"{} x", "Extra data"),
        (b"{}\0", "Extra data"),
        (b"[1,]", "Expecting value|Illegal trailing comma"),
        (b'{"a":1,}', "Expecting property name|Illegal trailing comma"),
        (b"{'a':1}", "Expecting property name"),
        (b"{a:1}", "Expecting property name"),
        (b"// x\n{}", "Expecting value"),
        (b"01", "Extra data"),
        (b"+1", "Expecting value"),
        (b".5", "Expecting value"),
        (b"0x10", "Extra data"),
        (b'"a\nb"', "Invalid control character"),
        (b'"\\x41"', "Invalid \\\\escape"),
        (b'"\\ud8"', "Invalid \\\\uXXXX escape"),
        (b"\xef\xbb\xbf{}", "BOM"),
        ("{}".encode("utf-16"), "decode"),
        (b"{\0}\0", "Expecting property name"),
        (b'"\xff"', "decode"),
        (b'"\xc0\xaf"', "decode"),
        (b'"\xed\xa0\x80"', "decode"),
        (b"NaN", "NaN is not a JSON number"),
        (b'{"a":[Infinity]}', "Infinity is not a JSON number"),
        (b"-Infinity", "-Infinity is not a JSON number"),
        (b"1" * 5000, "4300 digits"),
    ],
)
def test_a_body_is_refused_that_is(body: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_json(body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":1,"a":1}',
        b'{"a":1,"b":2,"a":3}',
        b'{"x":[{"a":1,"a":2}]}',
        b'{"image":"a","\\u0069mage":"b"}',
        b'{"":1,"":2}',
        b'{"\\ud800":1,"\\ud800":2}',
    ],
)
def test_a_name_given_twice_is_refused_however_it_is_spelled(body: bytes) -> None:
    with pytest.raises(ValueError, match="is given twice") as caught:
        parse_json(body)
    str(caught.value).encode()  # can be sent as it stands


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_depth_is_bounded(opening: bytes, closing: bytes) -> None:
    def body(depth: int) -> bytes:
        return opening * (depth - 1) + b"1" + closing * (depth - 1)

    parse_json(body(MAX_JSON_DEPTH))
    for depth in (MAX_JSON_DEPTH + 1, MAX_JSON_DEPTH * 4):
        with pytest.raises(ValueError, match="nested deeper than 8"):
            parse_json(body(depth))


@pytest.mark.parametrize("body", [b"[" * 200_000, b'{"a":' * 40_000, b"[" * 100_000 + b"]" * 100_000])
def test_a_body_that_would_exhaust_the_stack_is_refused(body: bytes) -> None:
    with pytest.raises((RecursionError, ValueError)):
        parse_json(body)


def test_lone_surrogates_are_left_to_the_models_which_refuse_them() -> None:
    assert parse_json(b'"\\ud800"') == "\ud800"


def test_a_number_too_large_for_a_float_is_left_to_the_models_which_take_none() -> None:
    value = parse_json(b"1e999")
    assert isinstance(value, float)
    assert math.isinf(value)
