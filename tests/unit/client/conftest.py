from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from doogie_client import ProxyClient
from tests.unit.client.fake_proxy import TOKEN, FakeProxy


@pytest.fixture
async def fake(tmp_path: Path) -> AsyncIterator[FakeProxy]:
    proxy = FakeProxy(tmp_path / "proxy.sock")
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", proxy.handle)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    await web.UnixSite(runner, str(proxy.socket)).start()
    yield proxy
    await runner.cleanup()


@pytest.fixture
async def client(fake: FakeProxy) -> AsyncIterator[ProxyClient]:
    async with ProxyClient(fake.url, TOKEN, timeout_s=5) as client:
        yield client
