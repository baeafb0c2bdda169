"""The MCP servers every client is tried on: those of the starter policy, and one tool call of each."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

from ruamel.yaml import YAML

from tests.support.harness import Json


@dataclass(frozen=True)
class McpServer:
    """A server and a call: ``tool`` with ``arguments`` answers a text that has ``answer`` in it."""

    name: str
    reports: str
    """What it calls itself."""
    image: str
    tool: str
    arguments: Mapping[str, str]
    answer: str

    @property
    def arguments_json(self) -> str:
        """For a command line."""
        return json.dumps(self.arguments)

    def check(self, answers: Json) -> None:
        """Fail unless these, as they are on the wire, are what the server should have said."""
        assert answers["initialize"]["serverInfo"]["name"] == self.reports
        assert self.tool in [tool["name"] for tool in answers["tools"]["tools"]]
        assert not answers["call"].get("isError")
        assert self.answer in answers["call"]["content"][0]["text"]


SERVERS = [
    McpServer(
        "time",
        "mcp-time",
        "doogie/mcp-server-time",
        "get_current_time",
        {"timezone": "Asia/Tokyo"},
        '"timezone": "Asia/Tokyo"',
    ),
    McpServer(
        "everything",
        "mcp-servers/everything",
        "doogie/mcp-server-everything",
        "echo",
        # Beyond ASCII and the basic plane, and a line separator, which must not be taken for the end of a message.
        {"message": "Grüße \u2028 🦆"},
        "Echo: Grüße \u2028 🦆",
    ),
    McpServer(
        "filesystem",
        "secure-filesystem-server",
        "doogie/mcp-server-filesystem",
        "write_file",
        {"path": "/tmp/note.txt", "content": "into the tmpfs"},
        "Successfully wrote to /tmp/note.txt",
    ),
]


def starter_rules() -> list[dict[str, object]]:
    """The rules of the starter policy, with its defaults."""
    text = resources.files("doogie_proxy").joinpath("starter-policy.yaml").read_text(encoding="utf-8")
    policy = YAML(typ="safe").load(text)
    return [{**policy["defaults"], **rule} for rule in policy["rules"]]
