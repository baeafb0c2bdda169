"""What callers write and read: arguments, and ``execute_mcp_tool``'s answers in their old shape. Pure.

The old answer is ``{"result": "<JSON>"}``. The JSON is ``{"result": text}``, or ``{"error": {"code", "message"}}`` with
a code of JSON-RPC 2.0 (section 5.1). It goes to a language model as it stands: so what is no text is named in the text,
and a tool that says that it failed (``isError``) is an error.
"""

import json
from collections.abc import Mapping

from mcp_types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    AudioContent,
    ContentBlock,
    EmbeddedResource,
    ImageContent,
    TextContent,
    TextResourceContents,
)
from pydantic import JsonValue, TypeAdapter, ValidationError

from doogie_client.errors import DoogieError
from doogie_client.service.errors import ConfigDisabled, InvalidCall
from doogie_client.service.session import ToolResult
from doogie_client.service.store import ConfigNotFound

FAILED = -32000
"""Everything that has no code of its own; of JSON-RPC's range for implementations."""

_CODES: dict[type[DoogieError], int] = {
    InvalidCall: INVALID_PARAMS,
    ConfigNotFound: INTERNAL_ERROR,
    ConfigDisabled: INTERNAL_ERROR,
}
_ARGUMENTS: TypeAdapter[dict[str, JsonValue]] = TypeAdapter(dict[str, JsonValue])


def parse_arguments(text: str) -> dict[str, JsonValue]:
    """The arguments that a language model wrote. Raises ``InvalidCall``."""
    try:
        return _ARGUMENTS.validate_json(text)
    except ValidationError as exc:
        fault = exc.errors(include_input=False, include_url=False)[0]["msg"]
        raise InvalidCall(f"invalid tool arguments: a JSON object is needed: {fault}") from None


def checked_arguments(arguments: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """The arguments as a server will read them. Raises ``InvalidCall`` for what JSON cannot say.

    NaN, half a surrogate pair, more than 200 levels: found in the middle of writing, it would end the session that
    other calls share.
    """
    try:
        text = json.dumps(dict(arguments), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as exc:
        raise InvalidCall(f"invalid tool arguments: they cannot be written as JSON: {exc}") from None
    return parse_arguments(text)


def checked_name(name: str) -> str:
    """A tool's name that can be sent. Raises ``InvalidCall``."""
    try:
        name.encode()
    except UnicodeEncodeError as exc:
        raise InvalidCall(f"invalid tool name: {exc}") from None
    return name


def old_result(result: ToolResult) -> dict[str, str]:
    """The old answer of a call that came back."""
    text = text_of(result)
    if result.is_error:
        return _wrapped({"error": {"code": FAILED, "message": text or "the tool failed and did not say why"}})
    return _wrapped({"result": text})


def old_error(tool_name: str, exc: DoogieError) -> dict[str, str]:
    """The old answer of a call that did not."""
    code = _CODES.get(type(exc), FAILED)
    message = str(exc) if code != FAILED else f"Error executing tool '{tool_name}': {exc}"
    return _wrapped({"error": {"code": code, "message": message}})


def text_of(result: ToolResult) -> str:
    """All of a result as text: texts as they are, one after another; what is no text, by what it is, in brackets.

    Structured content stands in it where a server has put it there, as MCP asks for, or where there is nothing else.
    """
    if not result.content and result.structured_content is not None:
        return json.dumps(result.structured_content, ensure_ascii=False)
    return "".join(_block_text(block) for block in result.content)


def _block_text(block: ContentBlock) -> str:
    match block:
        case TextContent():
            return block.text
        case EmbeddedResource(resource=TextResourceContents() as resource):
            return resource.text
        case ImageContent() | AudioContent():
            return f"[{block.type} {block.mime_type}, {_bytes(block.data)} bytes]"
        case EmbeddedResource(resource=resource):
            return f"[resource {resource.uri}, {resource.mime_type or 'of an unknown type'}]"
        case _:
            return f"[resource {block.uri}, {block.name}]"


def _bytes(base64: str) -> int:
    """How many bytes base64 text stands for (RFC 4648 section 4)."""
    return len(base64) * 3 // 4 - base64.count("=", -2)


def _wrapped(answer: Mapping[str, object]) -> dict[str, str]:
    return {"result": json.dumps(answer)}
