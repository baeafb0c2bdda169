"""The chat side's web app, in this process or as ``doogie-chat serve``, over a real proxy on the real engine."""

import asyncio
import io
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from yarl import URL

from doogie_client.client import ProxyClient
from doogie_client.commands.catalogue import Catalogue
from doogie_client.service.service import MCPConfigService
from doogie_client.service.sql import SqlConfigStore
from doogie_client.web.api import Backend, Limits
from doogie_client.web.app import make_app
from doogie_client.web.users import UsersFile, hash_token
from tests.support.harness import TOKEN, TOOLBOX, Answer, Json, ProxyUnderTest, toolbox_rule, write_yaml

ADMIN, ROOT, ALICE, BOB = "token-of-the-admin", "token-of-root", "token-of-alice", "token-of-bob"
MCP = "/api/v1/mcp"
TIME = "doogie/mcp-server-time:2026.10.19"
SLEEPER: dict[str, Any] = {"args": ["run", "-i", "--rm", TOOLBOX, "sleep"]}
"""A server that runs until it is stopped, without MCP."""


def time_rule() -> dict[str, object]:
    """A rule for a real MCP server."""
    return {
        "name": "time",
        "images": [TIME],
        "allow_tags": True,
        "args": {"patterns": ["--local-timezone=[A-Za-z0-9_+/-]+"]},
        "env": {"allow": ["TZ"]},
        "lifetime": {"stop_grace_s": 2},
    }


def chat_rules() -> list[dict[str, object]]:
    """What the tests of the web app start."""
    sleeper = toolbox_rule(args={"patterns": ["sleep", "exit", "[0-9]"]}, env={"allow": ["GREETING", "API_KEY"]})
    return [sleeper, time_rule()]


def users_document() -> dict[str, object]:
    """Two admins and two users."""
    roles = {"admin": ("admin", ADMIN), "root": ("admin", ROOT), "alice": ("user", ALICE), "bob": ("user", BOB)}
    return {
        "version": 1,
        "users": {name: {"role": role, "token_sha256": [hash_token(token)]} for name, (role, token) in roles.items()},
    }


@dataclass
class Chat:
    """What a test asks of a web app, through one of its sockets; as the admin unless it says."""

    http: aiohttp.ClientSession
    base: str = "http://chat"
    created: list[str] = field(default_factory=list, kw_only=True)

    async def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        token: str | None = ADMIN,
        data: bytes | io.BytesIO | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One call; ``body`` is sent as JSON, ``data`` as it is. A path that begins with ``.`` is below the API's."""
        sent = dict(headers or {})
        if token is not None:
            sent.setdefault("Authorization", f"Bearer {token}")
        if body is not None:
            data = json.dumps(body).encode()
        if data is not None:
            sent.setdefault("Content-Type", "application/json")
        url = URL(self.base + (MCP + path[1:] if path.startswith("./") else path), encoded=True)
        async with self.http.request(method, url, data=data, headers=sent) as response:
            return Answer(response.status, response.headers, await response.text())

    async def create(self, name: str, **fields: object) -> Json:
        """Store a configuration, of the sleeper unless ``fields`` say otherwise; fails the test if it is not stored."""
        answer = await self.call("POST", "./configs", {"name": name, **SLEEPER, **fields})
        if answer.status != 200:
            raise AssertionError(f"create {name}: {answer.status} {answer.text}")
        self.created.append(answer.json["id"])
        return answer.json

    async def delete_all(self) -> None:
        """Stop and remove what ``create`` made."""
        while self.created:
            config_id = self.created.pop()
            answer = await self.call("DELETE", f"./configs/{config_id}")
            if answer.status not in (204, 404):
                raise AssertionError(f"delete {config_id}: {answer.status} {answer.text}")

    @asynccontextmanager
    async def events(self, *, token: str = ADMIN) -> AsyncIterator["Events"]:
        """An event stream."""
        async with self.http.get(
            f"{self.base}{MCP}/events",
            headers={"Authorization": f"Bearer {token}"},
            timeout=aiohttp.ClientTimeout(total=None),
        ) as response:
            if response.status != 200:
                raise AssertionError(f"events: {response.status} {await response.text()}")
            yield Events(response)


@dataclass
class ChatHere(Chat):
    """A web app that runs in this process."""

    users: UsersFile = field(kw_only=True)
    runner: web.AppRunner = field(kw_only=True)

    async def shut_down(self) -> None:
        """End it in good order."""
        await self.runner.cleanup()


class Events:
    """The events of a stream, one after another."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self.ids: list[int] = []
        self._last: tuple[str, Json] | None = None

    async def block(self, timeout_s: float = 30) -> str | None:
        """What comes until the next empty line, a heartbeat too; None at the stream's end."""
        lines: list[str] = []
        async with asyncio.timeout(timeout_s):
            while line := (await self.response.content.readline()).decode():
                if line == "\n":
                    return "".join(lines)
                lines.append(line)
        return None

    async def next(self, timeout_s: float = 30) -> tuple[str, Json] | None:
        """The next event's name and data; None at the stream's end.

        An app that has just been started tells all twice, the second time when it hears of changes: that is left out.
        """
        while (block := await self.block(timeout_s)) is not None:
            fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
            if fields:
                self.ids.append(int(fields["id"]))
                found = fields["event"], json.loads(fields["data"])
                if found != self._last:
                    self._last = found
                    return found
        return None

    async def until(self, event: str, config_id: str, **seen: object) -> Json:
        """The data of the first such event of a configuration in which ``seen`` is so."""
        while (found := await self.next()) is not None:
            name, data = found
            about = data["id"] if name == "deleted" else data.get("config", {}).get("id")
            if (name, about) == (event, config_id) and all(data[key] == value for key, value in seen.items()):
                return data
        raise AssertionError("the stream ended")


@asynccontextmanager
async def opened_backend(directory: Path, proxy_socket: Path, database: str) -> AsyncIterator[Backend]:
    """Store, proxy client and service, on this database."""
    catalogue = Catalogue.shipped()
    async with (
        await SqlConfigStore.open(database, key_file=directory / "chat.key", create_key=True) as store,
        ProxyClient(f"unix://{proxy_socket}", TOKEN) as proxy,
        MCPConfigService(store=store, proxy=proxy, catalogue=catalogue, run_dir=directory / "run") as service,
    ):
        yield Backend(service, store, proxy, catalogue)


@asynccontextmanager
async def chat_under_test(
    directory: Path,
    proxy: ProxyUnderTest,
    *,
    database: str | None = None,
    limits: Limits | None = None,
    allowed_hosts: Iterable[str] | None = None,
) -> AsyncIterator[ChatHere]:
    """A web app on a unix socket. What was stored through ``Chat.create`` is stopped and removed at the end."""
    database = database or f"sqlite:///{directory}/chat.db"
    users = UsersFile(write_yaml(directory / "users.yaml", users_document()))
    socket = directory / "chat.sock"
    async with opened_backend(directory, proxy.socket, database) as backend:
        app = make_app(backend, users, limits=limits, allowed_hosts=allowed_hosts)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=5)
        await runner.setup()
        try:
            await web.UnixSite(runner, str(socket)).start()
            async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(socket), limit=0)) as http:
                chat = ChatHere(http, users=users, runner=runner)
                try:
                    yield chat
                finally:
                    await chat.delete_all()
        finally:
            await runner.cleanup()
