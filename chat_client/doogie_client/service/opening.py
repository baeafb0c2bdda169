"""``open_service``: the service and all that it stands on, from settings; what an application's start calls."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from doogie_client.client import ProxyClient
from doogie_client.commands.catalogue import Catalogue
from doogie_client.service.service import MCPConfigService
from doogie_client.service.settings import ServiceSettings
from doogie_client.service.sql import SqlConfigStore
from doogie_client.service.sql.database import parse_url
from doogie_client.service.store import StoreMisconfigured


@asynccontextmanager
async def open_service(
    settings: ServiceSettings | None = None, *, start_enabled: bool = True
) -> AsyncIterator[MCPConfigService]:
    """The service, with a store and a client of the proxy of its own; each worker process opens one.

    Args:
        settings: None: those of the environment. The proxy is always that of ``ProxyClient.from_env``.
        start_enabled: have ``start_all_enabled`` done beside the block; what has not begun at its end is left.

    Raises:
        StoreError: the database or the key file cannot be used.
        CatalogueError: the catalogue cannot be used.
        OSError, ValueError: ``run_dir``, or a setting of the proxy's client, cannot be used.
    """
    settings = settings or ServiceSettings()
    async with (
        await open_store(settings) as store,
        ProxyClient.from_env() as proxy,
        MCPConfigService(
            store=store,
            proxy=proxy,
            catalogue=Catalogue.load(*([settings.catalogue] if settings.catalogue else [])),
            run_dir=settings.run_dir,
            call_timeout_s=settings.call_timeout_s,
            session_timeout_s=settings.session_timeout_s,
            concurrent_starts=settings.concurrent_starts,
            renew_interval_s=settings.renew_interval_s,
        ) as service,
    ):
        starting = asyncio.create_task(service.start_all_enabled()) if start_enabled else None
        try:
            yield service
        finally:
            if starting is not None:
                starting.cancel()
                await asyncio.wait([starting])


async def open_store(settings: ServiceSettings) -> SqlConfigStore:
    """The store alone, for what needs no server. Raises ``StoreError``.

    A key file that is named must be there. Where none is, SQLite's is made beside its file.
    """
    if settings.key_file is not None:
        return await SqlConfigStore.open(settings.database_url, key_file=settings.key_file)
    address = parse_url(settings.database_url)
    if address.get_backend_name() != "sqlite":
        raise StoreMisconfigured("DOOGIE_CHAT_KEY_FILE is missing: `doogie-chat init` makes one")
    return await SqlConfigStore.open(settings.database_url, key_file=Path(f"{address.database}.key"), create_key=True)
