import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doogie_client.cli.arguments import JsonValue, environment, tool_arguments

# --- environment ------------------------------------------------------------------------------------------------------


def test_options_win_over_files_and_later_ones_over_earlier() -> None:
    files = [("a.env", "A=file\nB=file\n"), ("b.env", "B=later file")]
    assert environment(["A=option", "A=last"], files, {}) == {"A": "last", "B": "later file"}


def test_an_env_file_is_read_as_docker_reads_it() -> None:
    content = '# comment\n\n  \nQUOTED="kept"\nEQUALS=a=b=\nEMPTY=\nSPACES= kept \nFROM_HERE\nNOT_HERE\n'
    assert environment([], [("f", content)], {"FROM_HERE": "own"}) == {
        "QUOTED": '"kept"',
        "EQUALS": "a=b=",
        "EMPTY": "",
        "SPACES": " kept ",
        "FROM_HERE": "own",
    }


@pytest.mark.parametrize("bad", ["=x", "1A=secret", "A B=secret", "", "export A=secret", "-=secret"])
def test_a_bad_name_is_refused_with_its_place_and_without_its_value(bad: str) -> None:
    with pytest.raises(ValueError, match="-e: expected NAME=VALUE"):
        environment([bad], [], {})
    with pytest.raises(ValueError, match=r"f\.env:2: expected") as caught:
        environment([], [("f.env", f"OK=1\n{bad or '='}")], {})
    assert "secret" not in str(caught.value)


# --- tool arguments ---------------------------------------------------------------------------------------------------

SCHEMA = {
    "properties": {
        "text": {"type": "string"},
        "count": {"type": "integer"},
        "ratio": {"type": "number"},
        "flag": {"type": "boolean"},
        "list": {"type": "array"},
        "object": {"type": "object"},
        "maybe": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "either": {"type": ["string", "integer"]},
        "untyped": {},
    }
}


@pytest.mark.parametrize(
    ("pair", "value"),
    [
        ("text=5", "5"),
        ("text=a=b", "a=b"),
        ("text=", ""),
        ('text="quoted"', '"quoted"'),
        ("count=5", 5),
        ("count=12345678901234567890123", 12345678901234567890123),
        ("ratio=5", 5),
        ("ratio=0.5", 0.5),
        ("flag=true", True),
        ("list=[1, 2]", [1, 2]),
        ('object={"a": 1}', {"a": 1}),
        ("maybe=null", None),
        ("maybe=3", 3),
        ("either=3", 3),
        ("either=x", "x"),
        ('either="3"', '"3"'),
        ("untyped=3", 3),
        ("untyped=text", "text"),
        ("unknown=[1]", [1]),
    ],
)
def test_a_value_is_typed_as_the_tool_wants_it(pair: str, value: JsonValue) -> None:
    (result,) = tool_arguments([pair], None, SCHEMA).values()
    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("count=5.5", "--arg count: '5.5' is not of type integer"),
        ("count=true", "--arg count: 'true' is not of type integer"),
        ("count=five", "--arg count: 'five' is not of type integer"),
        ("ratio=NaN", "--arg ratio: 'NaN' is not of type number"),
        ("flag=1", "--arg flag: '1' is not of type boolean"),
        ("flag=yes", "--arg flag: 'yes' is not of type boolean"),
        ("maybe=x", "--arg maybe: 'x' is not of type integer or null"),
        ("list=1,2", "--arg list: '1,2' is not of type array"),
        ("count", "--arg count: expected NAME=VALUE"),
    ],
)
def test_a_value_of_another_type_is_refused(pair: str, message: str) -> None:
    with pytest.raises(ValueError, match="--arg") as caught:
        tool_arguments([pair], None, SCHEMA)
    assert str(caught.value) == message


def test_an_unknown_name_is_refused_where_the_schema_is_closed() -> None:
    with pytest.raises(ValueError, match="no such argument; it has text, count"):
        tool_arguments(["txt=a"], None, {**SCHEMA, "additionalProperties": False})


def test_single_arguments_win_over_the_object() -> None:
    assert tool_arguments(["count=2"], '{"count": 1, "text": "t"}', SCHEMA) == {"count": 2, "text": "t"}


@pytest.mark.parametrize("text", ["[1]", "null", "1", "{", "", '{"a": NaN}'])
def test_anything_but_one_json_object_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        tool_arguments([], text, {})


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.booleans()))
def test_an_object_is_taken_as_it_is(value: dict[str, JsonValue]) -> None:
    assert tool_arguments([], json.dumps(value), {}) == value
