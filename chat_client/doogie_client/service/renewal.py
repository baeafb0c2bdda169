"""Keeps the servers of enabled configurations while nobody calls them.

The proxy ends a server that nobody is attached to for its rule's ``detached_ttl_s``: so nothing outlives a chat side
that is gone. While the chat side is there, a server that an administrator started runs until it is stopped.
"""

import asyncio
from contextlib import suppress

import structlog

from doogie_client.client import ProxyClient
from doogie_client.errors import NotFound
from doogie_client.service.lifecycle import PROXY_ERRORS
from doogie_client.service.store import ConfigStore, StoreError
from doogie_contract.models import ServerState, ServerStatus

log = structlog.get_logger(__name__)


async def keep_renewing(store: ConfigStore, proxy: ProxyClient, interval_s: float) -> None:
    """Renew the leases now and then, without end. Trouble is logged, and the next turn tries again."""
    while True:
        try:
            await _renew_all(store, proxy)
        except (StoreError, *PROXY_ERRORS) as exc:
            log.warning("renewal_failed", error=str(exc))
        await asyncio.sleep(interval_s)


async def _renew_all(store: ConfigStore, proxy: ProxyClient) -> None:
    enabled = {record.server_name for record in await store.list(enabled=True)}
    for server in await proxy.list():
        if server.name in enabled and _runs_unattended(server):
            with suppress(NotFound):  # it has ended since the list was made
                await proxy.renew(server.name)


def _runs_unattended(server: ServerStatus) -> bool:
    return server.state is ServerState.RUNNING and not (server.stdio is not None and server.stdio.attached)
