"""The names under which tools are given to language models, and their definitions. Pure.

    server ``time``, tool ``get_current_time``   ──►  ``time__get_current_time``
    tool ``files/read`` (no name for an LLM)     ──►  ``fs__files_read_h3f1c9a7b20de``

A name is ``<server>__<tool>`` in ``[a-zA-Z0-9_-]{1,64}``, which OpenAI and Anthropic both take. A server's name has no
``_``, so the first ``__`` is the separator and two servers never meet. A tool's name that does not fit, or that looks
like an escaped one, is escaped: what can be read of it, then ``_h`` and 12 hex digits of its SHA-256.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from mcp_types import Tool
from pydantic import JsonValue

MAX_NAME_CHARS = 64
SEPARATOR = "__"

_DIGEST_CHARS = 12
_PLAIN = re.compile(r"[a-zA-Z0-9_-]+")
_NOT_PLAIN = re.compile(r"[^a-zA-Z0-9_-]+")
_ESCAPED = re.compile(rf".*_h[0-9a-f]{{{_DIGEST_CHARS}}}", re.DOTALL)


@dataclass(frozen=True)
class ServerTool:
    """A tool of a configuration's server, as the server describes it."""

    config_id: str
    server_name: str
    tool: Tool

    @property
    def name(self) -> str:
        """Its name for a language model."""
        return exposed_name(self.server_name, self.tool.name)


def exposed_name(server_name: str, tool_name: str) -> str:
    """The name of a tool for a language model.

    ``server_name`` is one of ``ConfigRecord``: at most 31 characters, none of them ``_``.
    """
    room = MAX_NAME_CHARS - len(server_name) - len(SEPARATOR)
    if len(tool_name) <= room and _PLAIN.fullmatch(tool_name) and not is_escaped(tool_name):
        return f"{server_name}{SEPARATOR}{tool_name}"
    digest = hashlib.sha256(tool_name.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST_CHARS]
    readable = _NOT_PLAIN.sub("_", tool_name)[: room - len("_h") - _DIGEST_CHARS]
    return f"{server_name}{SEPARATOR}{readable}_h{digest}"


def is_escaped(name: str) -> bool:
    """Whether this, without its server, is not the tool's own name: only the list of tools tells which one is meant."""
    return _ESCAPED.fullmatch(name) is not None


def own_name(server_name: str, name: str) -> str:
    """A tool's own name, or its escaped one, from either of its names."""
    return name.removeprefix(server_name + SEPARATOR)


def find_tool(tools: Iterable[ServerTool], name: str) -> ServerTool | None:
    """The tool that a language model calls by this name."""
    return next((tool for tool in tools if tool.name == name), None)


def openai_tools(tools: Iterable[ServerTool]) -> list[dict[str, JsonValue]]:
    """Definitions for OpenAI's ``tools`` (chat completions); the schema as the server wrote it."""
    return [{"type": "function", "function": _definition(tool, "parameters")} for tool in tools]


def anthropic_tools(tools: Iterable[ServerTool]) -> list[dict[str, JsonValue]]:
    """Definitions for Anthropic's ``tools``; the schema as the server wrote it."""
    return [_definition(tool, "input_schema") for tool in tools]


def _definition(tool: ServerTool, schema: str) -> dict[str, JsonValue]:
    definition: dict[str, JsonValue] = {"name": tool.name}
    if tool.tool.description is not None:
        definition["description"] = tool.tool.description
    return {**definition, schema: tool.tool.input_schema}
