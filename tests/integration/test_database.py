"""The application's tables and the service's in one database, and what comes from DoogieBot's old table."""

import json
import sqlite3
from pathlib import Path

import pytest

from doogie_client.service import NewConfig, ServerConfig, SqlConfigStore
from tests.integration.application import Deployment, application, tool_answer
from tests.integration.page import block
from tests.integration.test_backend import Call, hostname, made, scripted, until_status

OLD_TABLE = """
    CREATE TABLE mcp_server_configs (
        id VARCHAR PRIMARY KEY, name VARCHAR NOT NULL, description VARCHAR, server_type VARCHAR NOT NULL,
        base_url VARCHAR, api_key VARCHAR, models JSON, status VARCHAR, port INTEGER, container_id VARCHAR,
        user_id VARCHAR NOT NULL REFERENCES users (id), created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP NOT NULL,
        updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP NOT NULL, is_active BOOLEAN, config JSON
    )
"""
"""As in backend/alembic and backend/app/models/mcp_config.py of ThreatFlux/DoogieBot."""


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


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_old_configurations_are_imported_where_they_are_and_run(deployment: Deployment) -> None:
    with sqlite3.connect(deployment.directory / "chatbot.db") as database:
        database.execute(OLD_TABLE)
        (admin_id,) = database.execute("SELECT id FROM users WHERE name = 'admin'").fetchone()
        old = scripted()
        rows = [
            ("old-1", "test", {**old, "enabled": True, "env": {"GREETING": "hello"}}),
            ("old-2", "Test", {**old, "enabled": False, "env": None}),
            ("old-3", "denied", {"command": "docker", "args": ["run", "-v", "/:/host", "mcp/time"], "enabled": False}),
        ]
        for id_, name, config in rows:
            database.execute(
                "INSERT INTO mcp_server_configs (id, name, server_type, status, user_id, config)"
                " VALUES (?, ?, 'custom', 'running', ?, ?)",
                (id_, name, admin_id, json.dumps(config)),
            )
    database.close()
    told = await deployment.shell(block("import", "sh"))
    assert "3 imported, 0 skipped" in told
    async with (
        application(deployment, workers=1) as app,
        app.caller(deployment.admin) as admin,
        app.caller(deployment.user) as user,
    ):
        configs = {config["id"]: config for config in (await admin.get("/mcp/configs")).json()}
        assert {id_: (config["name"], config["user_id"]) for id_, config in configs.items()} == {
            "old-1": ("test", admin_id), "old-2": ("Test (2)", admin_id), "old-3": ("denied", admin_id),
        }  # fmt: skip
        assert configs["old-1"]["args"] == old["args"]
        running = await until_status(admin, "old-1", "running")
        assert await tool_answer(user, "test__where") == {"result": hostname(running["container_id"])}, "it is shared"
        await made(admin, Call("PUT", "/configs/old-3", 200, {"enabled": True}))
        answer = await made(admin, Call("POST", "/configs/old-3/start", 500))
        assert "args.1" in answer["detail"]
