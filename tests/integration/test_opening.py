"""``open_service``: all of the service from settings."""

import asyncio
from pathlib import Path

import pytest

from doogie_client.service import NewConfig, ServiceSettings, open_service
from doogie_client.service.opening import open_store
from doogie_client.service.store import StoreMisconfigured
from tests.service.backend import ADMIN, policy, scripted
from tests.support.harness import TOKEN, containers_of, proxy_under_test


async def test_a_key_file_is_made_beside_sqlites_file_and_must_be_named_for_postgresql(directory: Path) -> None:
    settings = ServiceSettings(database_url=f"sqlite:///{directory}/chat.db")
    async with await open_store(settings):
        assert (directory / "chat.db.key").stat().st_mode & 0o777 == 0o600
    missing = ServiceSettings(database_url=settings.database_url, key_file=directory / "no.key")
    with pytest.raises(StoreMisconfigured, match=r"no\.key cannot be read"):
        await open_store(missing)
    with pytest.raises(StoreMisconfigured, match="DOOGIE_CHAT_KEY_FILE is missing"):
        await open_store(ServiceSettings(database_url="postgresql://127.0.0.1:1/chat"))


async def test_enabled_servers_are_started_beside_the_block_and_none_is_begun_after_it(
    engine: str, directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ServiceSettings(
        database_url=f"sqlite:///{directory}/chat.db", run_dir=directory / "run", concurrent_starts=1
    )
    async with await open_store(settings) as store:
        for number in range(3):
            await store.create(NewConfig(name=f"test {number}", config=scripted()), ADMIN)
    async with proxy_under_test(tmp_path, policy()) as proxy:
        monkeypatch.setenv("DOOGIE_PROXY_URL", f"unix://{proxy.socket}")
        monkeypatch.setenv("DOOGIE_PROXY_TOKEN", TOKEN)
        async with open_service(settings, start_enabled=False) as service:
            assert [config.status for config in await service.get_all_enabled_configs()] == ["stopped"] * 3
            assert containers_of(proxy.instance) == []
        async with open_service(settings) as service, asyncio.timeout(30):
            while "running" not in [config.status for config in await service.get_all_enabled_configs()]:
                await asyncio.sleep(0.01)
        begun = len(containers_of(proxy.instance))
        assert 1 <= begun < 3, "one was started, and the next at most begun"
        async with open_service(settings) as service, asyncio.timeout(30):
            while {config.status for config in await service.get_all_enabled_configs()} != {"running"}:
                await asyncio.sleep(0.01)
            for config in await service.get_all_enabled_configs():
                await service.stop_server(config.id)
