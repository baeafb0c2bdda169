"""The service as a chat backend has it: with a real store, a real proxy and a real engine."""

import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from doogie_client import ProxyClient
from doogie_client.commands import Catalogue
from doogie_client.service.records import ConfigRecord, NewConfig, ServerConfig
from doogie_client.service.service import MCPConfigService
from doogie_client.service.sql import SqlConfigStore
from tests.e2e.servers import starter_rules
from tests.service.mcp_program import SERVER
from tests.support.harness import (
    TOKEN,
    TOOLBOX,
    Json,
    ProxyUnderTest,
    containers_of,
    inspect,
    policy_document,
    proxy_under_test,
    toolbox_rule,
)

ADMIN = "admin"


def policy() -> dict[str, object]:
    """What the tests start: the scripted server (``tests.service.mcp_program``), and those of the starter policy."""
    program = toolbox_rule(name="program", entrypoint=["/usr/bin/env", "python3", "-u", "-c"])
    return policy_document(program, *starter_rules())


def scripted(program: str = SERVER, *args: str, env: Mapping[str, str] | None = None) -> ServerConfig:
    """The command of the scripted server."""
    return ServerConfig(command="docker", args=["run", "-i", "--rm", TOOLBOX, program, *args], env=dict(env or {}))


@dataclass
class Backend:
    """One process of a chat backend, and what is behind it."""

    proxy: ProxyUnderTest
    client: ProxyClient
    store: SqlConfigStore
    service: MCPConfigService
    run_dir: Path

    async def config(
        self,
        name: str = "test",
        *args: str,
        program: str = SERVER,
        env: Mapping[str, str] | None = None,
        shared: bool = False,
    ) -> ConfigRecord:
        """A configuration of the scripted server."""
        new = NewConfig(name=name, config=scripted(program, *args, env=env), shared=shared)
        return await self.service.create_config(new, ADMIN)

    async def running(self, name: str = "test", *args: str, **fields: Json) -> ConfigRecord:
        """The same, and its server runs."""
        record = await self.config(name, *args, **fields)
        status = await self.service.start_server(record.id)
        assert status is not None
        assert status.status == "running", status
        return record

    async def text(self, record: ConfigRecord, tool: str, **arguments: Json) -> str:
        """What a tool answers, which must be one text."""
        (block,) = (await self.service.call_tool(record.id, tool, arguments)).content
        assert block.type == "text"
        return block.text

    def containers(self) -> list[str]:
        """Every container of this proxy."""
        return containers_of(self.proxy.instance)

    def hostname(self, container_id: str | None) -> str:
        """What the server in a container answers to the tool ``where``."""
        assert container_id is not None
        return str(inspect(container_id)["Config"]["Hostname"])


@asynccontextmanager
async def service_of(
    client: ProxyClient,
    store: SqlConfigStore,
    run_dir: Path,
    *,
    session_timeout_s: float = 20,
    renew_interval_s: float = 30,
) -> AsyncIterator[MCPConfigService]:
    """A service with time-outs for tests."""
    async with MCPConfigService(
        store=store,
        proxy=client,
        catalogue=Catalogue.shipped(),
        run_dir=run_dir,
        call_timeout_s=20,
        session_timeout_s=session_timeout_s,
        concurrent_starts=2,
        renew_interval_s=renew_interval_s,
    ) as service:
        yield service


@asynccontextmanager
async def running_backend(
    directory: Path, store: SqlConfigStore, document: Mapping[str, object] | None = None
) -> AsyncIterator[Backend]:
    """A backend with a proxy of its own; at the end, its servers are stopped."""
    with tempfile.TemporaryDirectory(prefix="doogie-run-") as run:
        run_dir = Path(run) / "d"
        async with (
            proxy_under_test(directory, document or policy()) as proxy,
            ProxyClient(f"unix://{proxy.socket}", TOKEN) as client,
        ):
            try:
                async with service_of(client, store, run_dir) as service:
                    yield Backend(proxy, client, store, service, run_dir)
            finally:
                for server in await client.list():
                    await client.stop(server.name, grace_s=0)


@asynccontextmanager
async def without_proxy(backend: Backend, *, run_dir: str | None = None) -> AsyncIterator[MCPConfigService]:
    """A second process with the same database, whose proxy is away; with another ``run_dir`` it is the first one."""
    directory = backend.run_dir if run_dir is None else backend.run_dir.with_name(run_dir)
    async with (
        ProxyClient(f"unix://{backend.run_dir}/nobody.sock", TOKEN) as away,
        service_of(away, backend.store, directory) as service,
    ):
        yield service
