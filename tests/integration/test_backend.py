"""The example of docs/integration.md: DoogieBot's routes on the whole stack, served by uvicorn."""

import asyncio
import json
import os
import re
import signal
import sqlite3
from collections.abc import Mapping
from typing import NamedTuple

import httpx
import pytest

from doogie_client.commands.command import MASK
from tests.integration.application import ROOT, Deployment, application, tool_answer
from tests.service.mcp_program import SERVER
from tests.support.harness import TOOLBOX, Json, inspect
from tests.support.postgres import PostgresCluster

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
on_postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)

SECRET = "sk-a1b2c3d4e5f6"
TIMEOUT_S = 30

OLD_CONFIG_FIELDS = {"id", "user_id", "name", "command", "args", "env", "enabled", "created_at", "updated_at"}
OLD_STATUS_FIELDS = {"id", "name", "enabled", "status", "container_id", "error_message"}


def scripted(name: str = "test", **fields: Json) -> dict[str, Json]:
    """The body of a create: the scripted server, as the old front end sent it."""
    return {"name": name, "command": "docker", "args": ["run", "-i", "--rm", TOOLBOX, SERVER], **fields}


class Call(NamedTuple):
    """One call and its answer: the status, and some members."""

    method: str
    path: str
    status: int
    body: Json = None
    answer: Mapping[str, Json] = {}


async def made(caller: httpx.AsyncClient, call: Call) -> Json:
    """What the call is answered, after a check."""
    answer = await caller.request(call.method, f"/mcp{call.path}", json=call.body)
    assert answer.status_code == call.status, (call, answer.text)
    assert SECRET not in answer.text
    body = answer.json() if answer.content else {}
    assert {name: body.get(name) for name in call.answer} == call.answer, (call, body)
    return body


async def until_status(caller: httpx.AsyncClient, config_id: str, status: str) -> Json:
    """The server's status once it is this."""
    async with asyncio.timeout(TIMEOUT_S):
        while (found := await made(caller, Call("GET", f"/configs/{config_id}/status", 200)))["status"] != status:
            await asyncio.sleep(0.05)
    return found


def hostname(container_id: str) -> str:
    """What the tool ``where`` answers in a container."""
    return str(inspect(container_id)["Config"]["Hostname"])


async def test_every_old_route_answers_as_it_did(deployment: Deployment, database_url: str) -> None:
    async with (
        application(deployment, workers=1) as app,
        app.caller(deployment.admin) as admin,
        app.caller(deployment.user) as user,
        app.caller() as nobody,
        app.caller("wrong") as stranger,
    ):
        for caller, status in ((nobody, 401), (stranger, 401), (user, 403)):
            await made(caller, Call("POST", "/configs", status, scripted()))
        config = await made(admin, Call("POST", "/configs", 200, scripted(env={"GREETING": SECRET})))
        assert config.keys() == OLD_CONFIG_FIELDS
        assert config["env"] == {"GREETING": MASK}, "what is stored is not told"
        assert {name: config[name] for name in ("name", "command", "args", "enabled")} == {
            **scripted(), "enabled": True,
        }  # fmt: skip
        assert (await admin.get("/mcp/configs")).json() == [config]
        assert (await user.get("/mcp/configs")).json() == []
        own = f"/configs/{config['id']}"
        await made(admin, Call("GET", own, 200, answer=config))

        for caller, path in ((user, own), (admin, "/configs/no-such-id")):
            await made(caller, Call("GET", path, 404, answer={"detail": "MCP configuration not found"}))
            await made(caller, Call("GET", f"{path}/status", 404))
        for method, path in (("PUT", own), ("DELETE", own), ("POST", f"{own}/start"), ("POST", f"{own}/stop")):
            await made(user, Call(method, path, 403, {}))

        stopped = await made(admin, Call("GET", f"{own}/status", 200, answer={"status": "stopped"}))
        assert stopped.keys() > OLD_STATUS_FIELDS
        assert stopped["container_id"] is None
        started = await made(admin, Call("POST", f"{own}/start", 200, answer={"status": "running", "enabled": True}))
        await made(admin, Call("GET", f"{own}/status", 200, answer=started))
        restarted = await made(admin, Call("POST", f"{own}/restart", 200, answer={"status": "running"}))
        assert restarted["container_id"] != started["container_id"]
        assert await tool_answer(admin, "test__where") == {"result": hostname(restarted["container_id"])}
        (definition,) = [
            tool for tool in (await admin.get("/tools")).json() if tool["function"]["name"] == "test__where"
        ]
        assert definition["function"]["description"] == "does where"
        assert await tool_answer(user, "test__where") == {"error": {"message": "there is no tool 'test__where'"}}
        calls = [{"id": str(n), "function": {"name": "test__text", "arguments": f'{{"text": "{n}"}}'}} for n in (1, 2)]
        assert [said["content"] for said in (await admin.post("/tool-calls", json=calls)).json()] == [
            '{"result": "1"}', '{"result": "2"}',
        ], "a synchronous route calls tools as well"  # fmt: skip

        await made(admin, Call("PUT", own, 200, {"name": "renamed"}, {**config, "name": "renamed"} | changed(config)))
        await made(admin, Call("GET", f"{own}/status", 200, answer={"status": "running", "name": "renamed"}))
        await made(admin, Call("PUT", own, 200, {"env": {}, "args": None, "enabled": False}, {"env": {}}))
    assert SECRET not in app.log


def changed(config: Json) -> dict[str, Json]:
    return {}
