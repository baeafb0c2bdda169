"""A synchronous caller: FastAPI runs these routes in threads, from where ``from_thread`` leads back to its loop."""

from anyio import from_thread
from fastapi import APIRouter
from pydantic import JsonValue

from chatbot.deps import CurrentUser, Mcp
from chatbot.routes.chat import execute
from chatbot.schemas import ChatMessage, ToolCall
from doogie_client.service import openai_tools

router = APIRouter()


@router.get("/tools")
def get_tools(user: CurrentUser, mcp: Mcp) -> list[dict[str, JsonValue]]:
    """What a language model that runs elsewhere may call for this user."""
    return openai_tools(from_thread.run(mcp.list_tools_by_user, user.id))


@router.post("/tool-calls")
def call_tools(calls: list[ToolCall], user: CurrentUser, mcp: Mcp) -> list[ChatMessage]:
    """Call tools for it, one after another."""
    tools = from_thread.run(mcp.list_tools_by_user, user.id)
    return [from_thread.run(execute, mcp, tools, call) for call in calls]
