"""A real proxy on the real engine, for one test; and what a test asks the engine behind the proxy's back."""

import asyncio
import json
import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from ruamel.yaml import YAML
from yarl import URL

from doogie_proxy.api import Api
from doogie_proxy.app import running
from doogie_proxy.auth import hash_token
from doogie_proxy.configuration import Configuration, read_secrets
from doogie_proxy.identity import Keyring
from doogie_proxy.policy_file import parse
from doogie_proxy.settings import Settings
from tests.support.recording_engine import RecordingEngine

ENGINE_SOCKET = os.environ.get("DOOGIE_ENGINE_SOCKET", "/var/run/docker.sock")
TOOLBOX = "doogie-test/toolbox:2"
TOKEN = "test-token-of-chat"
OTHER_TOKEN = "test-token-of-other"

Json = Any

INSTANCES: dict[str, str] = {}
"""Every instance that the running test has made containers under, and the socket of the engine they are on."""


def toolbox_rule(**fields: object) -> dict[str, object]:
    """A permissive rule named ``toolbox`` for the toolbox image; ``fields`` replace or add."""
    rule: dict[str, object] = {
        "name": "toolbox",
        "images": [TOOLBOX],
        "allow_tags": True,
        "args": {"any": True},
        "env": {"allow": ["GREETING"]},
        "lifetime": {"stop_grace_s": 2},
    }
    return {**rule, **fields}


def policy_document(*rules: Mapping[str, object]) -> dict[str, object]:
    """A policy in which ``chat`` and ``other`` may use all ``rules``, in order."""
    names = [rule["name"] for rule in rules]
    return {
        "version": 1,
        "clients": {
            "chat": {"token_sha256": [hash_token(TOKEN)], "rules": names},
            "other": {"token_sha256": [hash_token(OTHER_TOKEN)], "rules": names},
        },
        "rules": [dict(rule) for rule in rules],
    }


def configuration_of(document: Mapping[str, object], keyring: Keyring) -> Configuration:
    """What a proxy is given that reads this policy."""
    policy = parse(json.dumps(document))  # JSON is YAML
    return Configuration(policy, read_secrets(policy), keyring)


def docker(*args: str, engine_socket: str = ENGINE_SOCKET) -> str:
    """Run the Docker CLI against the engine under test, or another, and return its output."""
    command = ["docker", "--host", f"unix://{engine_socket}", *args]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.strip()


def containers_of(instance: str, engine_socket: str = ENGINE_SOCKET) -> list[str]:
    """Ids of every container, dead or alive, that carries the instance's label."""
    label = f"label=io.doogie.instance={instance}"
    return docker("ps", "-aq", "--no-trunc", "--filter", label, engine_socket=engine_socket).split()


def inspect(container_id: str, engine_socket: str = ENGINE_SOCKET) -> Json:
    """``docker inspect`` of one container."""
    return json.loads(docker("inspect", container_id, engine_socket=engine_socket))[0]


def proc(pid: int, file: str) -> str:
    """A file of ``/proc/<pid>``, as the host sees it."""
    return Path(f"/proc/{pid}/{file}").read_text()


def process_status(pid: int) -> dict[str, str]:
    """``/proc/<pid>/status`` of a container's first process, as the host sees it."""
    lines = proc(pid, "status").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


@dataclass
class Answer:
    """An HTTP answer, read."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Json:
        return json.loads(self.text)

    @property
    def problem(self) -> str:
        """The problem's name, after a check that the answer is a whole problem document."""
        if self.headers["Content-Type"] != "application/problem+json":
            raise AssertionError(f"not a problem: {self.status} {self.headers['Content-Type']} {self.text[:500]}")
        body = self.json
        if body["status"] != self.status or body["request_id"] != self.headers["X-Request-Id"]:
            raise AssertionError(f"inconsistent problem: {self.status} {body}")
        return str(body["type"]).removeprefix("urn:doogie:problem:")


@dataclass
class ProxyCalls:
    """What a test asks of a proxy, through an HTTP session over its unix socket; as client ``chat`` unless it says."""

    instance: str
    socket: Path
    http: aiohttp.ClientSession
    started: set[tuple[str, str]] = field(default_factory=set, kw_only=True)

    async def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        token: str | None = TOKEN,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One call over the unix socket; ``body`` is sent as JSON, ``data`` as it is."""
        sent = dict(headers or {})
        if token is not None:
            sent.setdefault("Authorization", f"Bearer {token}")
        if body is not None:
            data = json.dumps(body).encode()
        if data is not None:
            sent.setdefault("Content-Type", "application/json")
        url = URL(f"http://proxy{path}", encoded=True)  # as it is: "..", "%2f" and all
        async with self.http.request(method, url, data=data, headers=sent) as response:
            return Answer(response.status, response.headers, await response.text())

    async def start(self, name: str, *args: str, image: str = TOOLBOX, token: str = TOKEN, **body: object) -> Json:
        """Start a server and return its status; fails the test if it does not start."""
        answer = await self.call(
            "POST", f"/v1/servers/{name}/start", {"image": image, "args": list(args), **body}, token=token
        )
        if answer.status not in (200, 201):
            raise AssertionError(f"start {name}: {answer.status} {answer.text}")
        self.started.add((token, name))
        return answer.json

    async def stop(self, name: str, *, token: str = TOKEN) -> Json:
        """Stop a server and return its last status."""
        answer = await self.call("POST", f"/v1/servers/{name}/stop", token=token)
        if answer.status != 200:
            raise AssertionError(f"stop {name}: {answer.status} {answer.text}")
        self.started.discard((token, name))
        return answer.json

    def stdio(
        self, name: str, subprotocol: str = "v5.channel.k8s.io", *, query: str = "", token: str = TOKEN
    ) -> "aiohttp.client._WSRequestContextManager":
        """Open a server's stdio; ``async with proxy.stdio(name) as ws``."""
        return self.http.ws_connect(
            f"http://proxy/v1/servers/{name}/stdio{query}",
            protocols=[subprotocol],
            max_msg_size=0,
            headers={"Authorization": f"Bearer {token}"},
        )

    async def until(self, name: str, state: str, *, timeout_s: float = 30) -> Json:
        """The server's status once it is in ``state``."""
        async with asyncio.timeout(timeout_s):
            while True:
                answer = await self.call("GET", f"/v1/servers/{name}")
                if answer.status == 200 and answer.json["state"] == state:
                    return answer.json
                await asyncio.sleep(0.02)

    async def run_out_of_memory(self, name: str, *args: str, tries: int = 5) -> Json:
        """How a server (``hog-memory``) ended that took memory until it died, once the engine has told the reason.

        It may say so after the death. With cgroup v1 it may also never hear of it: containerd drops the kernel's notice
        when the cgroup is gone before it is read. Such a run is done again.
        """
        for _ in range(tries):
            await self.start(name, *(args or ("hog-memory",)))
            ended = (await self.until(name, "exited"))["exit"]
            if (ended["code"], ended["signal"]) != (137, "SIGKILL"):
                raise AssertionError(f"{name} ended otherwise: {ended}")
            with suppress(TimeoutError):
                async with asyncio.timeout(2):
                    while (ended := (await self.until(name, "exited"))["exit"])["reason"] != "oom":
                        await asyncio.sleep(0.02)
                    return ended
        raise AssertionError(f"the engine never said that {name} ran out of memory")

    async def until_detached(self, name: str, *, timeout_s: float = 10) -> None:
        """Return once nobody is attached to the server, which must run."""
        async with asyncio.timeout(timeout_s):
            while (await self.until(name, "running"))["stdio"]["attached"]:
                await asyncio.sleep(0.02)


@dataclass
class ProxyUnderTest(ProxyCalls):
    """A proxy that runs in this process."""

    tcp_url: str
    recorder: RecordingEngine
    api: Api

    async def call_tcp(self, method: str, path: str, *, token: str = TOKEN) -> Answer:
        """One call over the loopback port."""
        headers = {"Authorization": f"Bearer {token}"}
        async with (
            aiohttp.ClientSession() as http,
            http.request(method, self.tcp_url + path, headers=headers) as response,
        ):
            return Answer(response.status, response.headers, await response.text())

    def reload(self, document: Mapping[str, object], *, key: str = "ab" * 32) -> None:
        """Have the proxy decide by another policy from now on."""
        self.api.use(configuration_of(document, Keyring([bytes.fromhex(key)])))


@asynccontextmanager
async def proxy_under_test(
    directory: Path,
    document: Mapping[str, object],
    *,
    engine_socket: str = ENGINE_SOCKET,
    instance: str | None = None,
    key: str | None = None,
    leave_running: bool = False,
    wait_ready: bool = True,
    replace_in_answers: tuple[bytes, bytes] | None = None,
    **settings: Any,
) -> AsyncIterator[ProxyUnderTest]:
    """Run a proxy in this process, on a unix socket and a loopback port, its engine behind a recorder.

    At the end it stops what the test started through ``ProxyUnderTest.start``, unless ``leave_running``, with which the
    servers are the next proxy's. When the test is over, containers that are left fail it (``tests/conftest.py``).
    """
    instance = instance or "t" + uuid.uuid4().hex[:12]
    INSTANCES[instance] = engine_socket
    async with AsyncExitStack() as stack:
        engine = directory / f"engine-{uuid.uuid4().hex[:6]}.sock"
        recorder = await stack.enter_async_context(RecordingEngine(engine, engine_socket, replace=replace_in_answers))
        socket = directory / f"proxy-{uuid.uuid4().hex[:6]}.sock"
        configured = Settings(
            listen=f"unix://{socket},tcp://127.0.0.1:0",
            engine=f"unix://{engine}",
            state_dir=directory / "state",
            instance=instance,
            **settings,
        )
        keyring = Keyring([bytes.fromhex(key or "ab" * 32)])
        serving = await stack.enter_async_context(running(configured, configuration_of(document, keyring)))
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(socket))))
        proxy = ProxyUnderTest(instance, socket, http, serving.urls[1], recorder, serving.api)
        if wait_ready:
            async with asyncio.timeout(30):
                while (await proxy.call("GET", "/readyz")).status != 200:
                    await asyncio.sleep(0.02)
        try:
            yield proxy
        finally:
            if not leave_running:
                for token, name in list(proxy.started):
                    await proxy.stop(name, token=token)


def assert_nothing_left(instance: str, engine_socket: str = ENGINE_SOCKET) -> None:
    """Fail, after cleaning up, when the instance has containers."""
    if left := containers_of(instance, engine_socket):
        names = docker("inspect", "--format", "{{.Name}} {{.State.Status}}", *left, engine_socket=engine_socket)
        docker("rm", "--force", "--volumes", *left, engine_socket=engine_socket)
        raise AssertionError(f"containers left behind: {names}")


def write_yaml(path: Path, document: Mapping[str, object]) -> Path:
    """Write a policy as a file."""
    with path.open("w", encoding="utf-8") as file:
        YAML().dump(dict(document), file)
    return path


def doogie_proxy_command() -> list[str]:
    """The installed command, as a subprocess argument list."""
    return [sys.executable, "-m", "doogie_proxy"]
