"""The example of docs/integration.md as an operator runs it: migrated by Alembic, served by uvicorn's workers."""

import asyncio
import json
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import httpx

from tests.support.harness import TOKEN, Json

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "fastapi"
TIMEOUT_S = 60


@dataclass(frozen=True)
class Deployment:
    """An installation: a directory for what it keeps, its database, its environment, and the tokens of two users."""

    directory: Path
    environment: dict[str, str]
    admin: str
    user: str

    @classmethod
    async def make(cls, directory: Path, database_url: str, proxy_socket: Path) -> Self:
        """Make the application's own tables and its users; its service is not told yet."""
        token_file, key_file = directory / "proxy.token", directory / "chat.key"
        token_file.write_text(TOKEN)
        key_file.write_text(secrets.token_hex(32))
        key_file.chmod(0o600)
        environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(EXAMPLE),
            "PYTHONWARNINGS": "error",
            "TMPDIR": str(directory),  # where run_dir comes to be
            "DATABASE_URL": database_url,
            "DOOGIE_CHAT_KEY_FILE": str(key_file),
            "DOOGIE_PROXY_URL": f"unix://{proxy_socket}",
            "DOOGIE_PROXY_TOKEN_FILE": str(token_file),
        }
        new = cls(directory, environment, "", "")
        await new.run("-m", "alembic", "upgrade", "head")
        admin, user = (await new.run("-m", "chatbot.users", "admin:admin", "user:user")).split()
        return cls(directory, environment, admin, user)

    async def run(self, *args: str) -> str:
        """Run Python in the application's environment; what it prints, without the newline."""
        return await self._run(sys.executable, *args, cwd=EXAMPLE)

    async def shell(self, script: str) -> str:
        """Run a script in the application's directory; what it prints, as above."""
        return await self._run("bash", "-euc", script, cwd=self.directory)

    async def _run(self, *command: str, cwd: Path) -> str:
        process = await asyncio.create_subprocess_exec(
            *command,
            env=self.environment,
            cwd=cwd,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await process.communicate()
        assert (process.returncode, errors) == (0, b""), (output + errors).decode()
        return output.decode().strip()


class Application:
    """uvicorn and its workers, behind a unix socket."""

    def __init__(self, socket: Path, log: Path) -> None:
        self._socket = socket
        self._log = log

    @property
    def log(self) -> str:
        """All that it has printed."""
        return self._log.read_text()

    async def started(self, workers: int) -> None:
        """Return when that many workers have been started since the beginning."""
        async with asyncio.timeout(TIMEOUT_S):
            while self.log.count("Application startup complete") < workers:
                await asyncio.sleep(0.05)

    def caller(self, token: str | None = None) -> httpx.AsyncClient:
        """One connection, which is kept, and so one worker."""
        return httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(
                uds=str(self._socket), limits=httpx.Limits(max_connections=1, keepalive_expiry=None)
            ),
            base_url="http://chatbot/api/v1",
            headers={} if token is None else {"Authorization": f"Bearer {token}"},
            timeout=TIMEOUT_S,
        )

    @asynccontextmanager
    async def callers(self, number: int, token: str) -> AsyncIterator[dict[int, httpx.AsyncClient]]:
        """Connections to that many different workers, which all run, by the workers' pids.

        All of them accept from one socket. Each one that is found is stopped until all are, so that another accepts.
        """
        async with AsyncExitStack() as stack:
            found: dict[int, httpx.AsyncClient] = {}
            try:
                while len(found) < number:
                    caller = await stack.enter_async_context(self.caller(token))
                    worker = (await caller.get("/health")).json()["worker"]
                    os.kill(worker, signal.SIGSTOP)
                    found[worker] = caller
            finally:
                for worker in found:
                    os.kill(worker, signal.SIGCONT)
            yield found


@asynccontextmanager
async def application(deployment: Deployment, *, workers: int) -> AsyncIterator[Application]:
    """The application, once all workers have started. At the end it is told to end, and must do so in good order."""
    socket, log = deployment.directory / "chatbot.sock", deployment.directory / "chatbot.log"
    command = ["uvicorn", "chatbot.main:app", "--workers", str(workers), "--uds", str(socket)]
    # Tests stop workers for a while, and tell them apart by their connections.
    command += ["--timeout-worker-healthcheck", str(TIMEOUT_S), "--timeout-keep-alive", "600"]
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", *command, env=deployment.environment, cwd=EXAMPLE, stdout=output, stderr=output
        )
    try:
        running = Application(socket, log)
        await running.started(workers)
        yield running
        process.terminate()
        async with asyncio.timeout(TIMEOUT_S):
            await process.wait()
        assert running.log.count("Application shutdown complete") == workers, running.log
        assert "Traceback" not in running.log, running.log
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def tool_answer(caller: httpx.AsyncClient, tool: str, arguments: str = "{}") -> Json:
    """What a tool answers through the chat: ``{"result": …}`` or ``{"error": …}``."""
    answer = await caller.post("/chat", json={"content": f"/{tool} {arguments}"})
    assert answer.status_code == 200, answer.text
    (message,) = [message for message in answer.json() if message["role"] == "tool"]
    return json.loads(message["content"])
