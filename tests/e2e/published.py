"""Eight MCP servers of npm and PyPI: the command line as its README has it, and a tool call that shows it at work.

Paths of a reader's laptop are those of the README where a directory in the container can stand for them. What a server
needs besides is the builder's to be told: a Debian package, a directory, a network.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mcp_types import CallToolResult

from doogie_client.mcp import McpSession

Call = Callable[[McpSession, "Surroundings"], Awaitable[None]]


@dataclass(frozen=True)
class Surroundings:
    """What the test has for servers that look outside.

    Args:
        repository: a git repository on the host, with one commit: ``Begin``.
        network: one that the operator made.
        url: of a page on that network, whose text is ``Good day``.
    """

    repository: str
    network: str
    url: str


@dataclass(frozen=True)
class Published:
    """A server.

    Args:
        name: for the test.
        line: as published.
        call: asks for something and checks the answer.
        options: of the builder; ``{repository}`` and ``{network}`` are the surroundings'.
        env: of the server.
        mounts: what a command asks for by name.
    """

    name: str
    line: str
    call: Call
    options: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[str, ...] = ()


def text_of(result: CallToolResult) -> str:
    """The text of an answer that is no error."""
    assert not result.is_error, result.content
    return "".join(block.text for block in result.content if block.type == "text")


async def remember(session: McpSession, _: Surroundings) -> None:
    """A knowledge graph keeps what it was told, in the tmpfs."""
    entity: dict[str, Any] = {"name": "Duck", "entityType": "bird", "observations": ["swims"]}
    text_of(await session.call_tool("create_entities", {"entities": [entity]}))
    assert "swims" in text_of(await session.call_tool("search_nodes", {"query": "Duck"}))


async def think(session: McpSession, _: Surroundings) -> None:
    """A thought is counted."""
    thought = {"thought": "First", "nextThoughtNeeded": True, "thoughtNumber": 1, "totalThoughts": 3}
    assert '"thoughtHistoryLength": 1' in text_of(await session.call_tool("sequentialthinking", thought))


async def add(session: McpSession, _: Surroundings) -> None:
    """A sum."""
    assert "42" in text_of(await session.call_tool("get-sum", {"a": 2, "b": 40}))


async def write(session: McpSession, _: Surroundings) -> None:
    """A file is written where the command says, and nowhere else."""
    path = "/Users/username/Desktop/note.txt"
    text_of(await session.call_tool("write_file", {"path": path, "content": "Grüße 🦆"}))
    assert "Grüße 🦆" in text_of(await session.call_tool("read_text_file", {"path": path}))
    assert (await session.call_tool("read_text_file", {"path": "/etc/hostname"})).is_error


async def tell_time(session: McpSession, _: Surroundings) -> None:
    """A time is converted; the zone of the command is the server's own."""
    asked = {"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"}
    assert '"time_difference": "+9.0h"' in text_of(await session.call_tool("convert_time", asked))
    tools = (await session.list_tools()).tools
    assert any("America/New_York" in str(tool.input_schema) for tool in tools)


async def show_log(session: McpSession, _: Surroundings) -> None:
    """The commits of the operator's repository."""
    assert "Begin" in text_of(await session.call_tool("git_log", {"repo_path": "/repo"}))


async def fetch(session: McpSession, surroundings: Surroundings) -> None:
    """A page of the one network that the rule gives."""
    assert "Good day" in text_of(await session.call_tool("fetch", {"url": surroundings.url}))


async def query(session: McpSession, _: Surroundings) -> None:
    """A table is made, filled and asked."""
    for statement in ("CREATE TABLE ducks (name TEXT)", "INSERT INTO ducks VALUES ('Erpel')"):
        tool = "create_table" if statement.startswith("CREATE") else "write_query"
        text_of(await session.call_tool(tool, {"query": statement}))
    assert "Erpel" in text_of(await session.call_tool("read_query", {"query": "SELECT name FROM ducks"}))


REPOSITORIES = ("doogie/npx/modelcontextprotocol/server-", "doogie/uvx/mcp-server-")
"""How their images' names begin."""

SERVERS = [
    Published(
        "memory",
        "npx -y @modelcontextprotocol/server-memory",
        remember,
        env={"MEMORY_FILE_PATH": "/tmp/memory.jsonl"},
    ),
    Published("sequential-thinking", "npx -y @modelcontextprotocol/server-sequential-thinking", think),
    Published("everything", "npx -y @modelcontextprotocol/server-everything", add),
    Published(
        "filesystem",
        "npx -y @modelcontextprotocol/server-filesystem /Users/username/Desktop /path/to/other/allowed/dir",
        write,
        options=("--tmpfs", "/Users/username/Desktop=16MiB", "--tmpfs", "/path/to/other/allowed/dir=1MiB"),
    ),
    Published("time", "uvx mcp-server-time --local-timezone=America/New_York", tell_time),
    Published(
        "git",
        "uvx mcp-server-git --repository /repo",
        show_log,
        options=("--apt", "git", "--mount", "repo={repository}:/repo"),
        # The repository is another user's than the server's.
        env={"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "/repo"},
        mounts=("repo",),
    ),
    Published("fetch", "uvx mcp-server-fetch --allow-private-ips", fetch, options=("--network", "{network}")),
    Published("sqlite", "uvx --with 'mcp<2' mcp-server-sqlite --db-path /tmp/test.db", query),
]
