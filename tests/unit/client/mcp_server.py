"""An MCP server of the handshake era on stdio, without any SDK, for what real servers do not do on purpose.

A tool's name says what it does: ``echo`` answers its argument ``text``; ``junk`` writes a line that is no message
first; ``exit`` dies with code 3; ``hang`` never answers.
"""

import json
import sys

TOOLS = [{"name": name, "inputSchema": {"type": "object"}} for name in ("echo", "junk", "exit", "hang")]


def answer(message: dict[str, object]) -> dict[str, object] | None:
    params = message.get("params")
    assert isinstance(params, dict | None)
    match message["method"], params:
        case "initialize", _:
            info = {"name": "test", "version": "1"}
            return {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": info}
        case "tools/list", _:
            return {"tools": TOOLS}
        case "tools/call", {"name": "echo", "arguments": {"text": text}}:
            return {"content": [{"type": "text", "text": text}]}
        case "tools/call", {"name": "junk"}:
            print("this is no message")
            return {"content": []}
        case "tools/call", {"name": "exit"}:
            sys.stderr.write("Traceback: boom\n")
            sys.exit(3)
    return None


for line in sys.stdin:
    message = json.loads(line)
    if "id" in message:
        reply = {"jsonrpc": "2.0", "id": message["id"]}
        result = answer(message)
        if result is not None:
            print(json.dumps({**reply, "result": result}), flush=True)
        elif message["method"] != "tools/call":
            print(json.dumps({**reply, "error": {"code": -32601, "message": "no such method"}}), flush=True)
