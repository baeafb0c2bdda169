"""Comments and trailing commas are read; all else that is no JSON is refused, with its place."""

import json
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doogie_client.hosts.jsonc import MAX_CHARS, MAX_DEPTH, DocumentError, load

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
BLANKS = ["", " ", "\n", "\t", '// , ] } " /*\n', '/* // ] , " */', "/***/"]


def commented(value: object, chance: Random) -> str:
    """JSON with comments between its tokens and, sometimes, a comma behind the last member."""

    def blank() -> str:
        return "".join(chance.choices(BLANKS, k=chance.randrange(3)))

    match value:
        case list() | dict():
            parts = [commented(item, chance) for item in value]
            if isinstance(value, dict):
                members = zip(parts, value.values(), strict=True)
                parts = [f"{key}:{commented(item, chance)}" for key, item in members]
            last = chance.choice(["", ","]) + blank() if parts else ""
            begin, end = "[]" if isinstance(value, list) else "{}"
            return blank() + begin + ",".join(parts) + last + end + blank()
        case _:
            return blank() + json.dumps(value) + blank()


@given(values, st.integers())
def test_comments_and_trailing_commas_change_nothing(value: object, seed: int) -> None:
    assert load(commented(value, Random(seed))) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1, column 1: Expecting value"),
        ('{"a": 1\n "b": 2}', "line 2, column 2: Expecting ',' delimiter"),
        ('{\n  "a": "x\n}', "line 2, column 8: a string begins here that does not end on its line"),
        ("{} /* x", "line 1, column 4: a comment begins here that does not end"),
        ("[,]", "line 1, column 2: Expecting value"),
        ("{,}", "line 1, column 2: Expecting property name enclosed in double quotes"),
        ("[1,,]", "line 1, column 4: Expecting value"),
        ("[1] // one\n[2]", "line 2, column 1: Extra data"),
        ('{"a": {"b": 1, "b": 2}}', "a.b: this key is given twice; keep one of them"),
        ('[{"a": 1}, {"a": 1, "c": 2, "a": 1}]', "1.a: this key is given twice; keep one of them"),
        ('{"a": ["\\ud800"]}', "a.0: half of a surrogate pair is not text"),
        ('{"a": {"\\udc00": 1}}', "a: half of a surrogate pair is in a key, and is not text"),
        ('{"a": NaN}', "NaN is not JSON"),
        ("1" * 101, "a number has more than 100 digits"),
        ("[" * (MAX_DEPTH + 1), f"line 1, column {MAX_DEPTH + 1}: nested deeper than {MAX_DEPTH}"),
        (" " * (MAX_CHARS + 1), f"the document has {MAX_CHARS + 1} characters; at most {MAX_CHARS} are read"),
    ],
)
def test_what_is_no_json_is_refused_with_its_place(text: str, message: str) -> None:
    with pytest.raises(DocumentError) as caught:
        load(text)
    assert str(caught.value) == message


def test_a_byte_order_mark_is_passed_over() -> None:
    assert load('\ufeff{"a": 1}') == {"a": 1}


def test_a_message_holds_no_value() -> None:
    for text in (
        '{"token": "s3cret" "x"}',
        '{"token": "s3cret\n"}',
        '{"a": {"t": "s3cret", "t": "s3cret"}}',
        '["s3cret',
    ):
        with pytest.raises(DocumentError) as caught:
            load(text)
        assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("junk", ['"\\', '"\n', "/*", "/", '{"a":', ",", "[1,", "\\", '"', "//", "*/"])
def test_a_document_of_the_greatest_size_is_read_in_linear_time(junk: str) -> None:
    # Quadratic time would be minutes; the time-out of the test run ends that.
    with pytest.raises(DocumentError):
        load((junk * MAX_CHARS)[:MAX_CHARS])
    with pytest.raises(DocumentError):
        load(("[" * 20 + junk * MAX_CHARS)[:MAX_CHARS])
