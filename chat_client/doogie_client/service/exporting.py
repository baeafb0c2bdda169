"""Configurations as documents of other hosts. Pure.

    export_mcp_servers   for a host on a desktop: each server is the one that runs here, through ``doogie stdio``
    export_commands      the commands themselves, to be imported elsewhere; for values, ``${NAME}`` asks again

Neither has a value of an environment in it, which may be a secret.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from pydantic import JsonValue

from doogie_client.service.records import ConfigRecord

STDIO = ("doogie", "stdio")
"""How a server is reached where ``doogie`` is installed and ``DOOGIE_PROXY_URL`` and its like are set."""

Document = dict[str, JsonValue]


def export_mcp_servers(
    records: Iterable[ConfigRecord],
    *,
    command: Sequence[str] = STDIO,
    env: Mapping[str, str] | None = None,
    form: Literal["mcpServers", "servers"] = "mcpServers",
) -> Document:
    """A document with which a desktop host uses the servers that run here.

    Args:
        records: what the user may use; those that are disabled are left out, as no server runs for them.
        command: the words before a server's name, for example ``docker compose exec -T chat doogie stdio``.
        env: settings of that command, such as ``DOOGIE_PROXY_TOKEN_FILE``; whoever reads the document reads them.
        form: ``mcpServers`` for Claude Desktop, Cursor and most others; ``servers`` for VS Code.
    """
    program, *args = command
    servers: dict[str, JsonValue] = {}
    for record in records:
        if not record.config.enabled:
            continue
        server: dict[str, JsonValue] = {"type": "stdio"} if form == "servers" else {}
        server |= {"command": program, "args": [*args, record.server_name]}
        if env:
            server["env"] = dict(env)
        servers[record.name] = server
    return {form: servers}


def export_commands(records: Iterable[ConfigRecord]) -> Document:
    """The configurations as ``read_document`` takes them.

    Arguments are as they are: a secret among them is exported.
    """
    servers: dict[str, JsonValue] = {}
    for record in records:
        config = record.config
        server: dict[str, JsonValue] = {"command": config.command, "args": [*config.args]}
        if config.env:
            server["env"] = {name: f"${{{name}}}" for name in config.env}
        server["doogie"] = {"secrets": [*config.secrets], "mounts": [*config.mounts]}
        if record.description is not None:
            server["description"] = record.description
        if not config.enabled:
            server["disabled"] = True
        servers[record.name] = server
    return {"mcpServers": servers}
