"""Servers that nobody calls are kept while the service is there, and end by their lease when it is not."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from doogie_client import ProxyClient
from doogie_client.commands import Catalogue, translate
from doogie_client.service.records import ConfigUpdate, NewConfig, Status
from doogie_client.service.sql import SqlConfigStore
from doogie_contract.models import ExitReason, ServerState
from tests.service.backend import ADMIN, policy, scripted, service_of
from tests.support.harness import TOKEN, proxy_under_test

DETACHED_TTL_S = 2


@pytest.fixture
async def client(engine: str, tmp_path: Path) -> AsyncIterator[ProxyClient]:
    """Of a proxy whose servers end when nobody is attached for two seconds."""
    document = json.loads(json.dumps(policy()))
    for rule in document["rules"]:
        rule["lifetime"] = {"detached_ttl_s": DETACHED_TTL_S, "stop_grace_s": 1}
    async with (
        proxy_under_test(tmp_path, document) as proxy,
        ProxyClient(f"unix://{proxy.socket}", TOKEN) as opened,
    ):
        yield opened


async def test_an_uncalled_server_outlives_its_lease_while_the_service_is_there_and_no_longer(
    client: ProxyClient, sqlite_store: SqlConfigStore, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    async with service_of(client, sqlite_store, run_dir, renew_interval_s=0.3) as service:
        record = await service.create_config(NewConfig(name="kept", config=scripted()), ADMIN)
        started = await service.start_server(record.id)
        assert started is not None
        assert started.status is Status.RUNNING, started
        await asyncio.sleep(2 * DETACHED_TTL_S)  # twice what it would live
        status = await service.get_config_status(record.id)
        assert status is not None
        assert (status.status, status.container_id) == (Status.RUNNING, started.container_id)
    async with asyncio.timeout(30):
        while (server := await client.status(record.server_name)).state is not ServerState.EXITED:
            await asyncio.sleep(0.2)
    assert server.exit is not None
    assert server.exit.reason is ExitReason.LEASE_DETACHED
    await client.stop(record.server_name)


async def test_what_somebody_else_started_under_another_name_is_not_kept(
    client: ProxyClient, sqlite_store: SqlConfigStore, tmp_path: Path
) -> None:
    async with service_of(client, sqlite_store, tmp_path / "run", renew_interval_s=0.3) as service:
        record = await service.create_config(NewConfig(name="off", config=scripted()), ADMIN)
        await service.update_config(record.id, ConfigUpdate(enabled=False))
        await client.start("by-hand", translate(record.config, Catalogue.shipped()).request)
        async with asyncio.timeout(30):
            while (await client.status("by-hand")).state is not ServerState.EXITED:
                await asyncio.sleep(0.2)
    await client.stop("by-hand")
