"""A session of the Python SDK 1.x over its own WebSocket client, unmodified; runs in that SDK's environment.

session.py URL TOOL ARGUMENTS      prints what the server answered, as JSON
"""

import asyncio
import json
import sys

from mcp import ClientSession
from mcp.client.websocket import (  # type: ignore[import-not-found] # of SDK 1; type checks see SDK 2, which has none
    websocket_client,
)


async def main(url: str, tool: str, arguments: str) -> None:
    async with websocket_client(url) as (read, write), ClientSession(read, write) as session:
        answers = {
            "initialize": await session.initialize(),
            "tools": await session.list_tools(),
            "call": await session.call_tool(tool, json.loads(arguments)),
        }
    print(json.dumps({name: answer.model_dump(mode="json", by_alias=True) for name, answer in answers.items()}))


asyncio.run(main(*sys.argv[1:]))
