"""The application's own tables and the service's in one database, and what comes from DoogieBot's old table."""

from pathlib import Path

from doogie_client.service import NewConfig, ServerConfig, SqlConfigStore
from tests.integration.application import Deployment


async def test_neither_migration_touches_the_others_tables(deployment: Deployment, database_url: str) -> None:
    key_file = Path(deployment.environment["DOOGIE_CHAT_KEY_FILE"])
    new = NewConfig(name="test", config=ServerConfig(command="mcp/time"))
    async with await SqlConfigStore.open(database_url, key_file=key_file) as store:
        config = await store.create(new, "somebody")
        assert "No new upgrade operations detected" in await deployment.run("-m", "alembic", "check")
        await deployment.run("-m", "alembic", "downgrade", "base")
        assert await store.get(config.id) == config
        await deployment.run("-m", "alembic", "upgrade", "head")
    async with await SqlConfigStore.open(database_url, key_file=key_file) as store:
        assert await store.get(config.id) == config
