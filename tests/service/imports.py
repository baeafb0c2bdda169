"""Documents to import, and the short way to import them."""

import json
from collections.abc import Sequence
from typing import Any

from doogie_client.commands import Catalogue
from doogie_client.service.import_report import ImportReport, ImportRequest
from doogie_client.service.importing import import_document
from doogie_client.service.records import ConfigRecord, NewConfig
from doogie_client.service.sql import SqlConfigStore
from doogie_client.service.store import ConfigEdit

CATALOGUE = Catalogue.shipped()
TIME = {"command": "uvx", "args": ["mcp-server-time"]}
TIME_IN_DOCKER = {"command": "docker", "args": ["run", "-i", "--rm", "mcp/time"]}
GITHUB = {
    "command": "docker",
    "args": ["run", "-i", "--rm", "-e", "GITHUB_TOKEN", "ghcr.io/github/github-mcp-server"],
    "env": {"GITHUB_TOKEN": "${GITHUB_TOKEN}"},
}
FILES = {"command": "npx", "args": ["-y", "@modelcontextprotocol/server-filesystem", "/Users/me/Desktop"]}
FAR = {"url": "https://mcp.example/mcp"}
PYTHON = {"command": "python", "args": ["-m", "x"]}


def document(**servers: object) -> str:
    return json.dumps({"mcpServers": servers})


async def imported(store: SqlConfigStore, text: str, user: str = "alice", **options: Any) -> ImportReport:
    known = {key: options.pop(key) for key in ("admit", "mounts", "stop") if key in options}
    request = ImportRequest(document=text, **options)
    return await import_document(store, request, user, catalogue=CATALOGUE, **known)


def outcomes(report: ImportReport) -> dict[str, str]:
    return {server.name: server.outcome.value for server in report.servers}


class Raced:
    """A store that somebody else changes just before the first save."""

    def __init__(self, store: SqlConfigStore, other: Any, times: int = 1) -> None:
        self._store = store
        self._other = other
        self.times = times

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def save_all(self, changes: Sequence[NewConfig | ConfigEdit], user_id: str) -> Sequence[ConfigRecord]:
        if self.times:
            self.times -= 1
            await self._other()
        return await self._store.save_all(changes, user_id)
