"""What `make demo` shows: a Claude Desktop file is pasted, a server of it started, a tool of it called.

Speaks to the chat side's web app over its unix socket, with nothing but Python's own library; docs/chat-api.md has all
calls. Runs in the container `tools`, which sets $A to the admin's token and $C to the socket.
"""

import http.client
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

CONFIGURATION = Path(__file__).with_name("claude_desktop_config.json")


def call(method: str, path: str, body: object = None) -> Any:
    """The answer of the chat side's API; what it refuses ends the demo with its reason."""
    connection = http.client.HTTPConnection("chat", timeout=120)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(os.environ["C"])
    headers = {"Authorization": f"Bearer {os.environ['A']}", "Content-Type": "application/json"}
    connection.request(method, f"/api/v1/mcp{path}", json.dumps(body) if body is not None else None, headers)
    answer = connection.getresponse()
    document = json.load(answer)
    if answer.status >= 400:
        sys.exit(f"demo: {method} {path}: {answer.status} {document['detail']}")
    return document


def main() -> None:
    """Paste, start, call."""
    print(f"\nPasting {CONFIGURATION.name}, as Claude Desktop has it:")
    report = call("POST", "/import", {"document": CONFIGURATION.read_text()})
    for server in report["servers"]:
        reasons = "".join(f": {reason['msg']}" for reason in server["reasons"])
        print(f"  {server['name']:12}{server['outcome']}{reasons}")
        if server["needs_operator"] and server["needs_operator"]["build"]:
            print(f"{'':14}what the operator can do: {server['needs_operator']['build']}")

    ids = {config["name"]: config["id"] for config in call("GET", "/configs")}
    started = call("POST", f"/configs/{ids['time']}/start")
    print(f"\nStarting time: {started['status']}, container {started['container_id'][:12]}")

    print("\nCalling its tool get_current_time:")
    answer = call(
        "POST", f"/configs/{ids['time']}/call", {"name": "get_current_time", "arguments": {"timezone": "UTC"}}
    )
    print(answer["content"][0]["text"])


if __name__ == "__main__":
    main()
