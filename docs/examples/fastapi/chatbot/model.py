"""Stands in for a language model, so that this runs without one: ``/NAME {…}`` calls the tool NAME."""

import uuid
from collections.abc import Sequence

from pydantic import JsonValue

from chatbot.schemas import ChatMessage, Function, ToolCall


async def generate(messages: Sequence[ChatMessage], tools: Sequence[dict[str, JsonValue]]) -> ChatMessage:
    """The next message: a tool call, what the tools have answered, or the names of all tools."""
    last = messages[-1]
    if last.role == "user" and last.content.startswith("/"):
        name, _, arguments = last.content[1:].partition(" ")
        wanted = Function(name=name, arguments=arguments or "{}")
        call = ToolCall(id=f"call_{uuid.uuid4().hex}", function=wanted)
        return ChatMessage(role="assistant", content="", tool_calls=[call])
    if last.role == "tool":
        return ChatMessage(role="assistant", content=f"The tool says: {last.content}")
    names = [str(function["name"]) for tool in tools if isinstance(function := tool["function"], dict)]
    return ChatMessage(role="assistant", content="\n".join(names))
