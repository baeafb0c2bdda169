"""``doogie-proxy serve`` as a process of its own, on the real engine, with all that it asks of the engine recorded."""

import asyncio
import json
import os
import signal
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from tests.support.harness import ENGINE_SOCKET, INSTANCES, doogie_proxy_command, write_yaml
from tests.support.recording_engine import RecordingEngine


@dataclass
class Served:
    """The process, where it listens, its files, and the engine as it sees it."""

    instance: str
    process: asyncio.subprocess.Process
    socket: Path
    policy: Path
    audit: Path
    log: Path
    recorder: RecordingEngine
    _run: Callable[[], Awaitable[asyncio.subprocess.Process]]
    ends_with: int = 0
    """The exit code that is right."""
    _told: int = 0
    """How many events ``event`` has passed."""

    async def kill(self) -> None:
        """End it as a crash does."""
        self.process.kill()
        await self.process.wait()

    async def run_again(self) -> None:
        """Start its next process, after ``kill``; return when it is ready."""
        self.process = await self._run()
        await _ready(self)

    async def event(self, name: str, *, timeout_s: float = 30) -> dict[str, Any]:
        """The next event of this name in its log, after the one that was asked for before."""
        async with asyncio.timeout(timeout_s):
            while True:
                for number, event in enumerate(self.events()):
                    if number >= self._told and event["event"] == name:
                        self._told = number + 1
                        return event
                await asyncio.sleep(0.02)

    def events(self) -> Iterator[dict[str, Any]]:
        """What it has logged.

        Raises:
            ValueError: a line is no JSON object.
        """
        with self.log.open(encoding="utf-8") as lines:
            for line in lines:
                if line.endswith("\n"):  # else it is being written
                    event: dict[str, Any] = json.loads(line)
                    yield event

    def defects(self) -> list[dict[str, Any]]:
        """What it has logged that no client may be able to cause: errors, tracebacks, operations that failed."""
        return [
            event
            for event in self.events()
            if event["level"] in ("error", "critical") or "exception" in event or event["event"] == "operation_failed"
        ]

    async def tcp_url(self) -> str:
        """The URL of its loopback port, once it listens."""
        async with asyncio.timeout(30):
            while True:
                for event in self.events():
                    if event["event"] == "listening":
                        return str(event["urls"][1])
                await asyncio.sleep(0.05)

    def rss_bytes(self) -> int:
        """Its resident memory (proc(5), statm)."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def open_files(self) -> int:
        """How many file descriptors it has."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def http(self) -> aiohttp.ClientSession:
        """A session over its unix socket."""
        return aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(self.socket)))

    async def post(self, path: str, body: object, *, token: str) -> dict[str, Any]:
        """The JSON that a call is answered with, whatever its status."""
        headers = {"Authorization": f"Bearer {token}"}
        async with self.http() as http, http.post(f"http://proxy{path}", json=body, headers=headers) as answer:
            answered: dict[str, Any] = json.loads(await answer.read())
            return answered

    async def stop_all(self, tokens: Iterable[str]) -> int:
        """Stop every server of these clients; how many there were."""
        count = 0
        async with self.http() as http:
            for token in tokens:
                headers = {"Authorization": f"Bearer {token}"}
                async with http.get("http://proxy/v1/servers", headers=headers) as answer:
                    names = [server["name"] for server in (await answer.json())["servers"]]
                for name in names:
                    async with http.post(f"http://proxy/v1/servers/{name}/stop", headers=headers) as answer:
                        if answer.status != 200:
                            raise AssertionError(f"stop {name}: {answer.status} {await answer.text()}")
                count += len(names)
        return count


@asynccontextmanager
async def served(
    directory: Path, document: Mapping[str, object], *, under: Sequence[str] = (), **settings: object
) -> AsyncIterator[Served]:
    """Run the installed command until the block ends, on a unix socket and a loopback port; enter when it is ready.

    ``settings`` are ``DOOGIE_PROXY_<NAME>``; ``under`` is a command that runs the command which follows it. Containers
    that are left are the caller's.
    """
    instance = "t" + uuid.uuid4().hex[:12]
    INSTANCES[instance] = ENGINE_SOCKET
    key, socket, log = directory / "signing.key", directory / "served.sock", directory / "proxy.log"
    policy, audit = directory / "policy.yaml", directory / "audit.log"
    key.write_text("ab" * 32 + "\n")
    key.chmod(0o600)
    async with RecordingEngine(directory / "engine.sock", ENGINE_SOCKET) as recorder:
        environment = {
            "listen": f"unix://{socket},tcp://127.0.0.1:0",
            "policy": write_yaml(policy, document),
            "audit_file": audit,
            "engine": f"unix://{recorder.path}",
            "signing_key_file": key,
            "state_dir": directory / "state",
            "instance": instance,
            **settings,
        }
        variables = {f"DOOGIE_PROXY_{name.upper()}": str(value) for name, value in environment.items()}

        async def run() -> asyncio.subprocess.Process:
            with log.open("ab") as output:
                command = [*under, *doogie_proxy_command(), "serve"]
                env = {**os.environ, **variables}
                return await asyncio.create_subprocess_exec(*command, env=env, stdout=output, stderr=output)

        proxy = Served(instance, await run(), socket, policy, audit, log, recorder, run)
        try:
            await _ready(proxy)
            yield proxy
        finally:
            if proxy.process.returncode is None:
                proxy.process.send_signal(signal.SIGTERM)
            code = await proxy.process.wait()
        if code != proxy.ends_with:
            raise AssertionError(f"the proxy ended with {code}: {log.read_text()[-2000:]}")


async def _ready(proxy: Served) -> None:
    async with asyncio.timeout(30), proxy.http() as http:
        while True:
            try:
                async with http.get("http://proxy/readyz") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientConnectorError:
                if proxy.process.returncode is not None:
                    raise AssertionError(f"it does not start: {proxy.log.read_text()}") from None
            await asyncio.sleep(0.05)
