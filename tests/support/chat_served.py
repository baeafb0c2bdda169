"""``doogie-chat serve`` as a process of its own, with its workers, over a proxy of the test's."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from tests.support.chat import Chat, users_document
from tests.support.harness import TOKEN, ProxyUnderTest, write_yaml

DOOGIE_CHAT = [sys.executable, "-m", "doogie_client.web"]


def chat_environment(directory: Path, proxy: ProxyUnderTest, **settings: object) -> dict[str, str]:
    """What the command is told: a users file, the proxy, and ``DOOGIE_CHAT_<NAME>`` for each of ``settings``."""
    token_file = directory / "proxy.token"
    token_file.write_text(TOKEN)
    given = {
        "listen": f"unix://{directory}/chat.sock,tcp://127.0.0.1:0",
        "users_file": write_yaml(directory / "users.yaml", users_document()),
        "database_url": f"sqlite:///{directory}/chat.db",
        "run_dir": directory / "run",
        **settings,
    }
    return {
        **os.environ,
        **{f"DOOGIE_CHAT_{name.upper()}": str(value) for name, value in given.items()},
        "DOOGIE_PROXY_URL": f"unix://{proxy.socket}",
        "DOOGIE_PROXY_TOKEN_FILE": str(token_file),
    }


@dataclass
class ServedChat(Chat):
    """The process, and its API over a new connection for each request, so that any worker may get it."""

    process: asyncio.subprocess.Process = field(kw_only=True)
    directory: Path = field(kw_only=True)
    log: Path = field(kw_only=True)

    def events_logged(self) -> Iterator[dict[str, Any]]:
        """What it has logged. Raises ValueError: a line is no JSON object."""
        with self.log.open(encoding="utf-8") as lines:
            for line in lines:
                if line.endswith("\n"):  # else it is being written
                    event: dict[str, Any] = json.loads(line)
                    yield event

    def logged(self, name: str) -> list[dict[str, Any]]:
        """All events of this name."""
        return [event for event in self.events_logged() if event["event"] == name]

    async def until_logged(self, name: str, count: int = 1, *, timeout_s: float = 30) -> list[dict[str, Any]]:
        """The events of this name, once there are so many."""
        async with asyncio.timeout(timeout_s):
            while len(found := self.logged(name)) < count:
                if self.process.returncode is not None:
                    raise AssertionError(f"it ended: {self.log.read_text()[-3000:]}")
                await asyncio.sleep(0.02)
            return found

    def defects(self) -> list[dict[str, Any]]:
        """What it has logged that no caller may be able to cause."""
        return [
            event for event in self.events_logged() if event["level"] in ("error", "critical") or "exception" in event
        ]

    def workers(self) -> list[int]:
        """The processes below it that are alive."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in children.split()]

    async def tcp_url(self) -> str:
        """The URL of its loopback port."""
        [listening] = await self.until_logged("listening")
        return str(listening["urls"][1])

    async def end(self) -> int:
        """End it in good order; its exit code."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        return await self.process.wait()


@asynccontextmanager
async def served_chat(directory: Path, proxy: ProxyUnderTest, **settings: object) -> AsyncIterator[ServedChat]:
    """Run the installed command until the block ends; enter when all of its workers serve."""
    log = directory / "chat.log"
    environment = chat_environment(directory, proxy, **settings)
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *DOOGIE_CHAT, "serve", env=environment, stdout=output, stderr=output
        )
    connector = aiohttp.UnixConnector(str(directory / "chat.sock"), limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector) as http:
        chat = ServedChat(http, process=process, directory=directory, log=log)
        try:
            await chat.until_logged("serving", int(str(settings.get("workers", 1))))
            yield chat
        finally:
            code = await chat.end()
    if code != 0:
        raise AssertionError(f"doogie-chat ended with {code}: {log.read_text()[-3000:]}")
