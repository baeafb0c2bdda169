"""What a chat loop of old gives to ``execute_mcp_tool`` and gets from it."""

import json

import pytest
from mcp_types import CallToolResult, ContentBlock, EmbeddedResource, ImageContent, ResourceLink, TextContent

from doogie_client.errors import DoogieError
from doogie_client.service.calls import (
    checked_arguments,
    checked_name,
    old_error,
    old_result,
    parse_arguments,
    text_of,
)
from doogie_client.service.errors import (
    CallInterrupted,
    CallRefused,
    CallTimedOut,
    ConfigDisabled,
    InvalidCall,
    ServerNotRunning,
    SessionUnavailable,
    UnknownTool,
)
from doogie_client.service.store import ConfigNotFound, StoreUnavailable


def result(*content: ContentBlock, **fields: object) -> CallToolResult:
    return CallToolResult.model_validate({"content": list(content), **fields})


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidCall("x"), -32602),
        (ConfigNotFound("x"), -32603),
        (ConfigDisabled("x"), -32603),
        (UnknownTool("x"), -32000),
        (ServerNotRunning("x"), -32000),
        (SessionUnavailable("x"), -32000),
        (CallTimedOut("x"), -32000),
        (CallInterrupted("x"), -32000),
        (CallRefused(-32602, "x"), -32000),
        (StoreUnavailable("x"), -32000),
    ],
)
def test_each_error_has_the_code_that_it_always_had(error: DoogieError, code: int) -> None:
    answer = json.loads(old_error("time__now", error)["result"])
    assert answer.keys() == {"error"}
    assert answer["error"].keys() == {"code", "message"}
    assert answer["error"]["code"] == code
    if code == -32000:
        assert answer["error"]["message"].startswith("Error executing tool 'time__now': x")


def test_texts_are_joined_as_they_always_were() -> None:
    answer = old_result(result(TextContent(text="a\n"), TextContent(text="b \u00fc \U0001f986")))
    assert answer == {"result": json.dumps({"result": "a\nb \u00fc \U0001f986"})}


def test_a_tool_that_failed_is_an_error() -> None:
    failed = old_result(result(TextContent(text="no such file"), isError=True))
    assert json.loads(failed["result"]) == {"error": {"code": -32000, "message": "no such file"}}
    silent = json.loads(old_result(result(isError=True))["result"])
    assert silent["error"]["message"] == "the tool failed and did not say why"


def test_what_is_no_text_is_named_and_text_in_resources_is_told() -> None:
    text = {"uri": "file:///a", "text": "inside"}
    blob = {"uri": "file:///b", "blob": "AAAA", "mimeType": "application/zip"}
    told = result(
        TextContent(text="see "),
        ImageContent(data="AAECAw==", mime_type="image/png"),
        EmbeddedResource.model_validate({"type": "resource", "resource": text}),
        EmbeddedResource.model_validate({"type": "resource", "resource": blob}),
        ResourceLink(uri="file:///c", name="c"),
    )
    assert text_of(told) == (
        "see [image image/png, 4 bytes]inside[resource file:///b, application/zip][resource file:///c, c]"
    )


def test_structured_content_is_told_where_there_is_nothing_else() -> None:
    assert json.loads(text_of(result(structuredContent={"n": 2**60 + 1}))) == {"n": 2**60 + 1}
    assert text_of(result(TextContent(text="n"), structuredContent={"n": 1})) == "n"


@pytest.mark.parametrize("text", ["", "null", "[]", "1", "{", '{"a": }', '{"a": "\\ud800"}', "{" * 5000])
def test_what_is_no_json_object_is_refused(text: str) -> None:
    with pytest.raises(InvalidCall, match="invalid tool arguments: a JSON object is needed"):
        parse_arguments(text)


def test_arguments_arrive_as_they_were_written() -> None:
    arguments = {"n": 2**70, "f": 0.1, "s": "\u2028\x00\U0001f986", "l": [None, True, {}]}
    assert parse_arguments(json.dumps(arguments)) == arguments
    assert checked_arguments(arguments) == arguments  # type: ignore[arg-type]  # mypy takes a list for invariant


@pytest.mark.parametrize("value", [float("nan"), float("-inf"), "\udfff", b"x", {1, 2}])
def test_what_json_cannot_say_is_refused(value: object) -> None:
    with pytest.raises(InvalidCall):
        checked_arguments({"x": value})  # type: ignore[dict-item]  # that is the point
    with pytest.raises(InvalidCall):
        checked_arguments(parse_arguments('{"x": NaN}'))


def test_a_name_that_cannot_be_written_is_refused() -> None:
    assert checked_name("\u00fc") == "\u00fc"
    with pytest.raises(InvalidCall, match="invalid tool name"):
        checked_name("\ud800")
