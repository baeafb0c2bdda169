import re

from hypothesis import example, given
from hypothesis import strategies as st
from mcp_types import Tool

from doogie_client.service.tools import (
    ServerTool,
    anthropic_tools,
    exposed_name,
    find_tool,
    is_escaped,
    openai_tools,
    own_name,
)

server_names = st.from_regex(r"[a-z0-9][a-z0-9-]{0,30}", fullmatch=True)
tool_names = st.one_of(st.text(max_size=80), st.from_regex(r"[a-zA-Z0-9_-]{1,80}", fullmatch=True))


def tools(server_name: str, *names: str) -> list[ServerTool]:
    schema = {"type": "object", "additionalProperties": False, "x-anything": [1]}
    return [ServerTool(server_name, server_name, Tool(name=name, input_schema=schema)) for name in names]


@given(server_names, tool_names)
@example("a", "")
@example("a" * 31, "x" * 31)
@example("a" * 31, "x" * 32)
@example("time", "\ud800")
def test_a_name_is_one_that_openai_and_anthropic_take(server_name: str, tool_name: str) -> None:
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", exposed_name(server_name, tool_name))


@given(st.lists(st.tuples(server_names, tool_names), unique=True, max_size=20))
@example([("a", "b__c"), ("a", "b"), ("a-b", "c"), ("a-b", "_c")])
@example([("a", "x/y"), ("a", "x_y"), ("a", exposed_name("a", "x/y").removeprefix("a__"))])
@example([("a", "x" * 80), ("a", "x" * 81), ("a", "x" * 61)])
def test_no_two_tools_have_one_name_and_each_is_found_by_its_own(pairs: list[tuple[str, str]]) -> None:
    listed = [tool for server_name, tool_name in pairs for tool in tools(server_name, tool_name)]
    assert len({tool.name for tool in listed}) == len(listed)
    for tool in listed:
        assert find_tool(listed, tool.name) is tool


@given(server_names, tool_names)
def test_a_name_that_is_not_escaped_can_be_taken_back_without_a_list(server_name: str, tool_name: str) -> None:
    own = own_name(server_name, exposed_name(server_name, tool_name))
    assert is_escaped(own) or own == tool_name


def test_what_can_be_read_of_an_odd_name_stays_readable() -> None:
    assert exposed_name("my-server", "get-sum") == "my-server__get-sum"
    assert re.fullmatch(r"fs__files_read_h[0-9a-f]{12}", exposed_name("fs", "files/read"))


def test_a_name_that_the_server_does_not_have_finds_nothing() -> None:
    assert find_tool(tools("time", "now"), "time__then") is None


def test_definitions_leave_the_schema_as_the_server_wrote_it() -> None:
    (tool,) = tools("time", "now")
    schema = tool.tool.input_schema
    assert openai_tools([tool]) == [{"type": "function", "function": {"name": "time__now", "parameters": schema}}]
    described = ServerTool("1", "time", tool.tool.model_copy(update={"description": "Tells the time."}))
    assert anthropic_tools([described]) == [
        {"name": "time__now", "description": "Tells the time.", "input_schema": schema}
    ]
