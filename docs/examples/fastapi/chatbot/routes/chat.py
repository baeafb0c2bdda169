"""The loop of language model and tools."""

import asyncio
import json
from collections.abc import Sequence

from fastapi import APIRouter

from chatbot import model
from chatbot.database import Message
from chatbot.deps import CurrentUser, Db, Mcp
from chatbot.schemas import ChatMessage, ToolCall, UserMessage
from doogie_client.service import MCPConfigService, ServerTool, find_tool, openai_tools

MAX_TOOL_TURNS = 5

router = APIRouter()


@router.post("/chat")
async def chat(question: UserMessage, user: CurrentUser, db: Db, mcp: Mcp) -> list[ChatMessage]:
    """Answer a user: the tool calls on the way, and the answer at the end."""
    db.add(Message(user_id=user.id, role="user", content=question.content))
    await db.commit()
    tools = await mcp.list_tools_by_user(user.id)
    messages = [ChatMessage(role="user", content=question.content)]
    for _ in range(MAX_TOOL_TURNS):
        messages.append(await model.generate(messages, openai_tools(tools)))
        if not (calls := messages[-1].tool_calls):
            break
        messages += await asyncio.gather(*(execute(mcp, tools, call) for call in calls))
    db.add_all(Message(user_id=user.id, role=said.role, content=said.content) for said in messages[1:])
    await db.commit()
    return messages[1:]


async def execute(mcp: MCPConfigService, tools: Sequence[ServerTool], call: ToolCall) -> ChatMessage:
    """Call the tool that a language model names."""
    tool = find_tool(tools, call.function.name)
    if tool is None:
        content = json.dumps({"error": {"message": f"there is no tool {call.function.name!r}"}})
    else:
        answer = await mcp.execute_mcp_tool(tool.config_id, call.id, call.function.name, call.function.arguments)
        content = answer["result"]
    return ChatMessage(role="tool", tool_call_id=call.id, name=call.function.name, content=content)
