"""The example of docs/integration.md: DoogieBot's routes on the whole stack, served by uvicorn."""

import asyncio
import json
import os
import signal
from collections.abc import Mapping
from typing import NamedTuple
from unittest.mock import ANY

import httpx
import pytest

from doogie_client.commands.command import MASK
from tests.integration.application import Deployment, application, tool_answer
from tests.service.mcp_program import SERVER
from tests.support.harness import TOOLBOX, Json, inspect

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


class Callers(NamedTuple):
    """Connections: two of an admin's, perhaps to different workers, a user's, and one without a token."""

    admin: httpx.AsyncClient
    same_admin: httpx.AsyncClient
    user: httpx.AsyncClient
    nobody: httpx.AsyncClient


async def check_every_old_route(callers: Callers) -> None:
    """Walk through all of them, and leave nothing."""
    admin, same_admin, user, nobody = callers
    for caller, status in ((nobody, 401), (user, 403)):
        await made(caller, Call("POST", "/configs", status, scripted()))
    config = await made(admin, Call("POST", "/configs", 200, scripted("walked", env={"GREETING": SECRET})))
    assert config.keys() == OLD_CONFIG_FIELDS
    assert config["env"] == {"GREETING": MASK}, "what is stored is not told"
    assert {name: config[name] for name in scripted()} == scripted("walked")
    assert (await same_admin.get("/mcp/configs")).json() == [config]
    assert (await user.get("/mcp/configs")).json() == []
    own = f"/configs/{config['id']}"
    await made(same_admin, Call("GET", own, 200, answer=config))

    for caller, path in ((user, own), (admin, "/configs/no-such-id")):
        await made(caller, Call("GET", path, 404, answer={"detail": "MCP configuration not found"}))
        await made(caller, Call("GET", f"{path}/status", 404))
    for method, path in (("PUT", own), ("DELETE", own), ("POST", f"{own}/start"), ("POST", f"{own}/stop")):
        await made(user, Call(method, path, 403, {}))

    stopped = await made(admin, Call("GET", f"{own}/status", 200, answer={"status": "stopped", "container_id": None}))
    assert stopped.keys() > OLD_STATUS_FIELDS
    started = await made(admin, Call("POST", f"{own}/start", 200, answer={"status": "running", "enabled": True}))
    await made(same_admin, Call("GET", f"{own}/status", 200, answer=started))
    restarted = await made(same_admin, Call("POST", f"{own}/restart", 200, answer={"status": "running"}))
    assert restarted["container_id"] != started["container_id"]
    assert await tool_answer(admin, "walked__where") == {"result": hostname(restarted["container_id"])}
    assert await tool_answer(user, "walked__where") == {"error": {"message": "there is no tool 'walked__where'"}}

    renamed = {**config, "name": "renamed", "updated_at": ANY}
    await made(admin, Call("PUT", own, 200, {"name": "renamed"}, renamed))
    await made(same_admin, Call("GET", f"{own}/status", 200, answer={"status": "running", "name": "renamed"}))
    exported = {"mcpServers": {"renamed": {"command": "doogie", "args": ["stdio", "walked"]}}}
    assert await made(admin, Call("GET", "/configs/export/json", 200)) == exported
    await made(admin, Call("PUT", own, 200, {"env": {}, "enabled": False}, {"env": {}, "enabled": False}))
    await made(same_admin, Call("GET", f"{own}/status", 200, answer={"status": "stopped", "enabled": False}))
    disabled = {"detail": "Cannot start disabled MCP server"}
    await made(admin, Call("POST", f"{own}/start", 400, answer=disabled))
    await made(admin, Call("PUT", own, 200, {"enabled": True}))
    await made(admin, Call("POST", f"{own}/start", 200, answer={"status": "running"}))
    await made(same_admin, Call("POST", f"{own}/stop", 200, answer={"status": "stopped", "container_id": None}))

    await made(admin, Call("DELETE", own, 204))
    for method, path in (("GET", own), ("PUT", own), ("DELETE", own), ("POST", f"{own}/start")):
        await made(same_admin, Call(method, path, 404, {}))


async def check_what_is_refused(admin: httpx.AsyncClient) -> None:
    """Bad input, a name that is taken, and what the policy denies: each says why, in the old shape."""
    taken = await made(admin, Call("POST", "/configs", 200, scripted("Taken")))
    for body, status, why in (
        (scripted("TAKEN"), 409, "there is a configuration 'TAKEN' already"),
        ({"name": "bad", "args": ["run", "--privileged", TOOLBOX]}, 422, "args.1: --privileged"),
        (scripted("bad", env={"A": MASK}), 422, "env.A: *** stands for a stored value"),
        (scripted("n" * 101), 422, "name"),
        (scripted("bad", env={"NOT A NAME": SECRET}), 422, "env"),
    ):
        assert why in (await made(admin, Call("POST", "/configs", status, body)))["detail"]
    denied = await made(admin, Call("POST", "/configs", 200, scripted("denied", env={"FORBIDDEN": SECRET})))
    answer = await made(admin, Call("POST", f"/configs/{denied['id']}/start", 500))
    assert answer["detail"].startswith("Failed to start MCP server: ")
    assert "FORBIDDEN" in answer["detail"]
    kept = await made(admin, Call("GET", f"/configs/{denied['id']}/status", 200, answer={"status": "error"}))
    assert kept["error_message"] in answer["detail"], "the reason is still told when the page is loaded again"
    for config in (taken, denied):
        await made(admin, Call("DELETE", f"/configs/{config['id']}", 204))


async def check_synchronous_routes(admin: httpx.AsyncClient) -> None:
    """They give and call tools like the others."""
    config = await made(admin, Call("POST", "/configs", 200, scripted("sync")))
    await made(admin, Call("POST", f"/configs/{config['id']}/start", 200))
    tools = {tool["function"]["name"]: tool for tool in (await admin.get("/tools")).json()}
    assert tools["sync__where"]["type"] == "function"
    assert tools["sync__where"]["function"]["description"] == "does where"
    calls = [
        {"id": f"call_{text}", "function": {"name": "sync__text", "arguments": json.dumps({"text": text})}}
        for text in ("one", "two")
    ]
    messages = (await admin.post("/tool-calls", json=calls)).json()
    assert [(said["role"], said["tool_call_id"], said["content"]) for said in messages] == [
        ("tool", "call_one", '{"result": "one"}'),
        ("tool", "call_two", '{"result": "two"}'),
    ]
    await made(admin, Call("DELETE", f"/configs/{config['id']}", 204))


@on_sqlite
async def test_every_old_route_answers_as_it_did(deployment: Deployment) -> None:
    async with (
        application(deployment, workers=1) as app,
        app.caller(deployment.admin) as admin,
        app.caller(deployment.user) as user,
        app.caller("wrong") as nobody,
    ):
        await check_every_old_route(Callers(admin, admin, user, nobody))
        await check_what_is_refused(admin)
        await check_synchronous_routes(admin)
        assert (await admin.get("/mcp/configs")).json() == []
    assert SECRET not in app.log


@on_postgresql
async def test_every_worker_calls_the_same_container_also_when_one_is_killed_and_after_a_restart(
    deployment: Deployment,
) -> None:
    async with application(deployment, workers=4) as app:
        async with app.callers(4, deployment.admin) as workers, app.caller(deployment.user) as user:
            (victim, first), *rest = workers.items()
            second, third, fourth = (caller for _, caller in rest)
            async with app.caller() as nobody:
                await check_every_old_route(Callers(second, third, user, nobody))
            config = await made(first, Call("POST", "/configs", 200, scripted()))
            own = f"/configs/{config['id']}"
            started = await made(second, Call("POST", f"{own}/start", 200, answer={"status": "running"}))
            for caller in workers.values():
                assert await tool_answer(caller, "test__where") == {"result": hostname(started["container_id"])}

            # The one that called first has the session. It dies in the middle of another one's call.
            hanging = asyncio.create_task(tool_answer(second, "test__hang"))
            async with asyncio.timeout(TIMEOUT_S):
                while "hang" not in await calls_so_far(third):
                    await asyncio.sleep(0.05)
            os.kill(victim, signal.SIGKILL)
            error = (await hanging)["error"]
            assert error["code"] == -32000
            assert "may have run" in error["message"]
            answers = await asyncio.gather(*(tool_answer(caller, "test__where") for caller in (second, third, fourth)))
            after = await made(fourth, Call("GET", f"{own}/status", 200, answer={"status": "running"}))
            assert answers == [{"result": hostname(after["container_id"])}] * 3
            assert "hang" not in await calls_so_far(second), "nothing is called again"
        await app.started(5)
        async with app.callers(4, deployment.admin) as workers:
            assert victim not in workers
            for caller in workers.values():
                assert await tool_answer(caller, "test__where") == {"result": hostname(after["container_id"])}
            idle = await made(caller, Call("POST", "/configs", 200, scripted("idle")))
    assert SECRET not in app.log

    async with application(deployment, workers=2) as app, app.callers(2, deployment.admin) as workers:
        for caller in workers.values():
            await until_status(caller, idle["id"], "running")
        where = {json.dumps(await tool_answer(caller, "test__where")) for caller in workers.values()}
        after = await made(caller, Call("GET", f"{own}/status", 200, answer={"status": "running"}))
        assert where == {json.dumps({"result": hostname(after["container_id"])})}


async def calls_so_far(caller: httpx.AsyncClient) -> Json:
    """How often which tool of the scripted server was called since its container started."""
    return json.loads((await tool_answer(caller, "test__calls"))["result"])
