"""A planted secret is searched for in everything that comes out of the proxy, but what the container itself prints."""

import asyncio
import json
from pathlib import Path

import aiohttp
import pytest

from tests.support.harness import (
    TOKEN,
    TOOLBOX,
    containers_of,
    docker,
    inspect,
    policy_document,
    toolbox_rule,
)
from tests.support.served import served

RULE_SECRET = "planted-rule-secret"
ENV_VALUE = "planted-env-value"
ARGUMENT = "planted-argument"
PLANTED = (TOKEN, RULE_SECRET, ENV_VALUE, ARGUMENT)


@pytest.mark.redteam(53)
async def test_a_planted_secret_comes_out_nowhere(engine: str, tmp_path: Path) -> None:
    file = tmp_path / "planted-path"
    file.write_text(RULE_SECRET)
    rule = toolbox_rule(
        args={"patterns": ["sleep|exit|[0-9]"], "audit": "hashed"},
        env={"allow": ["GREETING"], "fixed": {"FIXED": RULE_SECRET}},
        secrets={"s": {"file": str(file), "env": "SECRET"}},
    )
    good = {"image": TOOLBOX, "args": ["sleep"], "env": {"GREETING": ENV_VALUE}, "secrets": ["s"]}
    seen = []
    async with (
        served(tmp_path, policy_document(rule), log_level="debug") as proxy,
        proxy.http() as http,
    ):

        async def call(method: str, path: str, body: object = None, token: str = TOKEN) -> aiohttp.ClientResponse:
            headers = {"Authorization": f"Bearer {token}"}
            async with http.request(method, f"http://proxy{path}", json=body, headers=headers) as response:
                seen.append(str(response.headers) + await response.text())
                return response

        start = "/v1/servers/box/start"
        for body in (
            {**good, "env": {"OTHER": ENV_VALUE}},
            {**good, "env": {"GREETING": ENV_VALUE + "\0"}},
            {**good, "env": ENV_VALUE},
            {**good, "env": {"GREETING": [ENV_VALUE]}},
            {**good, "secrets": ["unknown"]},
            {**good, "args": [ARGUMENT]},
            {**good, "image": "other:1"},
            {**good, "env": {"GREETING": ENV_VALUE, "SECRET": ENV_VALUE}},
        ):
            assert (await call("POST", start, body)).status in (403, 422)
        assert (await call("GET", "/v1/servers", token=TOKEN + "x")).status == 401
        for query in ("?dry_run=1", ""):
            assert (await call("POST", start + query, good)).status in (200, 201)
        assert (await call("POST", start, {**good, "env": {"GREETING": ENV_VALUE * 2}})).status == 409
        for path in ("", "/box", "/box/logs", "/box/stdio"):
            await call("GET", f"/v1/servers{path}")
        for path in ("/v1/policy", "/openapi.json", "/healthz", "/metrics"):
            await call("GET", path)
        ticket = (await call("POST", "/v1/servers/box/ticket")).status
        assert ticket == 201
        tickets = [json.loads(seen[-1].partition(">")[2])["ticket"]]
        assert (await call("GET", f"/v1/servers/box/stdio?ticket={tickets[0]}")).status == 426
        [container_id] = containers_of(proxy.instance)
        container = inspect(container_id)
        assert f"SECRET={RULE_SECRET}" in container["Config"]["Env"], "else nothing was planted"
        assert f"GREETING={ENV_VALUE}" in container["Config"]["Env"]
        seen.append(json.dumps(container["Config"]["Labels"]) + container["Name"])
        seen.append(docker("events", "--since", "1m", "--until", "0s", "--filter", f"container={container_id}"))
        await call("POST", "/v1/servers/box/stop")
        await call("POST", start, {**good, "args": ["exit", "3"]})
        async with asyncio.timeout(30):
            while json.loads(seen[-1].partition(">")[2]).get("state") != "exited":
                await call("GET", "/v1/servers/box")
                await asyncio.sleep(0.02)
        await call("POST", "/v1/servers/box/stop")
    log = proxy.log.read_text()
    assert log.count('"event": "audit"') > 10, "else nothing was searched"
    for secret in (*PLANTED, "planted-path"):
        assert secret not in "".join(seen)
    for secret in (*PLANTED, *tickets):
        assert secret not in log
        assert secret not in proxy.audit.read_text()
