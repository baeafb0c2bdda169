"""The old front end's calls, each as request and answer; and each difference that is there on purpose."""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from tests.support.chat import ALICE, MCP, SLEEPER, TIME, Chat, chat_rules, chat_under_test
from tests.support.harness import TOOLBOX, Json, ProxyUnderTest, policy_document, proxy_under_test
from tests.web.old_api import DIFFERENCES, EXCHANGES, NEW, Exchange

TOKENS = {"admin": "token-of-the-admin", "alice": ALICE, None: None}


async def prepared(chat: Chat, state: str | None) -> str:
    """The id of the admin's configuration in this state."""
    if state is None:
        return ""
    made = await chat.create("server", env={"GREETING": "hello"}, enabled=state != "disabled")
    if state == "running":
        answer = await chat.call("POST", f"./configs/{made['id']}/start")
        assert answer.status == 200, answer.text
    return str(made["id"])


def check(answered: Json, fields: Mapping[str, tuple[type, ...]]) -> None:
    for name, types in fields.items():
        value = answered[name]
        if datetime in types:
            datetime.fromisoformat(value)
        else:
            assert isinstance(value, types), f"{name}: {value!r}"


async def answered(chat: Chat, exchange: Exchange) -> None:
    """Fail unless the exchange is as the table says."""
    config_id = await prepared(chat, exchange.state)
    path = MCP + exchange.path.replace("{id}", config_id)
    answer = await chat.call(exchange.method, path, exchange.body, token=TOKENS[exchange.token])
    if answer.status == 200 and exchange.method == "POST" and exchange.path == "/configs":
        chat.created.append(answer.json["id"])
    assert answer.status == exchange.status, answer.text
    if exchange.fields is None:
        assert answer.text == ""
        return
    for one in answer.json if exchange.many else [answer.json]:
        check(one, exchange.fields)
        assert {name: one[name] for name in exchange.values} == exchange.values


async def test_the_old_api_is_answered_alike(chat: Chat) -> None:
    """In one app, because a proxy and a database for each of them takes longer than all of them together."""
    unlike = []
    for exchange in EXCHANGES:
        try:
            await answered(chat, exchange)
        except (AssertionError, KeyError) as exc:
            unlike.append(f"{exchange.sentence}: {exchange.method} {exchange.path}: {exc!r}")
        await chat.delete_all()
    assert unlike == []


# ── what is otherwise, on purpose ────────────────────────────────────────────────────────────────


def test_each_difference_is_shown_by_a_test_of_this_module() -> None:
    for difference in DIFFERENCES:
        assert difference.test in globals(), difference.call


async def test_a_start_that_the_policy_denies_is_no_500(chat: Chat) -> None:
    made = await chat.create("denied", args=["run", "-i", "--rm", TOOLBOX, "forbidden"])
    answer = await chat.call("POST", f"./configs/{made['id']}/start")
    assert (answer.status, answer.problem) == (403, "policy-denied")
    assert [error["loc"] for error in answer.json["errors"]] == ["rules.toolbox", "rules.time"]
    status = (await chat.call("GET", f"./configs/{made['id']}/status")).json
    assert status["status"] == "error"
    assert "The policy does not allow this" in status["error_message"]


async def test_an_image_that_is_not_there_is_no_500(engine: str, tmp_path: Path) -> None:
    rule = {"name": "absent", "images": ["doogie-test/never-built:1"], "allow_tags": True}
    async with (
        proxy_under_test(tmp_path, policy_document(rule)) as proxy,
        chat_under_test(tmp_path, proxy) as chat,
    ):
        made = await chat.create("absent", args=["run", "-i", "--rm", "doogie-test/never-built:1"])
        answer = await chat.call("POST", f"./configs/{made['id']}/start")
        assert (answer.status, answer.problem) == (424, "image-unavailable")


async def test_the_export_is_where_the_front_end_asks_for_it(chat: Chat) -> None:
    await chat.create("server")
    short = await chat.call("GET", "./configs/json")
    assert short.status == 200
    assert short.json == (await chat.call("GET", "./configs/export/json")).json


async def test_a_command_that_cannot_run_is_refused_when_it_is_saved(chat: Chat) -> None:
    body = {**NEW, "args": ["run", "-i", "--privileged", "--frobnicate", TOOLBOX]}
    answer = await chat.call("POST", "./configs", body)
    assert (answer.status, answer.problem) == (422, "command-refused")
    assert [error["loc"] for error in answer.json["errors"]] == ["args.2", "args.3"]
    made = await chat.create("server")
    answer = await chat.call("PUT", f"./configs/{made['id']}", {"args": body["args"]})
    assert (answer.status, answer.problem) == (422, "command-refused")
    assert (await chat.call("GET", f"./configs/{made['id']}")).json == made


@pytest.mark.parametrize(
    "command",
    [
        {"command": "npx", "args": ["-y", "@modelcontextprotocol/server-everything"]},
        {"command": f"docker run -i --rm {TIME}"},
        {"command": TIME},
    ],
)
async def test_other_commands_than_docker_are_taken(chat: Chat, command: Json) -> None:
    answer = await chat.call("POST", "./configs/dry-run", {"name": "other", **command})
    assert answer.status == 200 or answer.problem == "policy-denied", answer.text


async def test_a_name_is_taken_once(chat: Chat) -> None:
    await chat.create("server")
    answer = await chat.call("POST", "./configs", {"name": "Server", **SLEEPER})
    assert (answer.status, answer.problem) == (409, "name-taken")
    other = await chat.create("other")
    answer = await chat.call("PUT", f"./configs/{other['id']}", {"name": "server"})
    assert (answer.status, answer.problem) == (409, "name-taken")


async def test_an_unknown_field_is_refused(chat: Chat) -> None:
    answer = await chat.call("POST", "./configs", {**NEW, "enviroment": {}})
    assert (answer.status, answer.problem) == (422, "invalid-request")
    assert answer.json["errors"] == [{"loc": "body.enviroment", "msg": "unknown field"}]


async def test_values_of_an_environment_are_never_shown(chat: Chat) -> None:
    made = await chat.create("server", env={"GREETING": "first", "API_KEY": "second"})
    masked = {"GREETING": "***", "API_KEY": "***"}
    assert made["env"] == masked
    changed = await chat.call("PUT", f"./configs/{made['id']}", {"env": {**masked, "GREETING": "third"}})
    assert changed.json["env"] == masked
    status = await chat.call("POST", f"./configs/{made['id']}/start")
    assert status.status == 200, status.text
    cleared = await chat.call("PUT", f"./configs/{made['id']}", {"env": {}})
    assert cleared.json["env"] == {}
    refused = await chat.call("PUT", f"./configs/{made['id']}", {"env": {"GREETING": "***"}})
    assert (refused.status, refused.problem) == (422, "invalid-request")


async def test_the_export_holds_no_command_and_no_secret(chat: Chat) -> None:
    made = await chat.create("my server", env={"API_KEY": "planted-secret"})
    await chat.create("disabled", enabled=False)
    exported = (await chat.call("GET", "./configs/export/json")).json
    assert exported == {"mcpServers": {"my server": {"command": "doogie", "args": ["stdio", made["server_name"]]}}}


async def test_users_see_what_is_shared_and_admins_all(chat: Chat) -> None:
    private, shared = await chat.create("private"), await chat.create("shared", shared=True)
    assert {one["id"] for one in (await chat.call("GET", "./configs")).json} == {private["id"], shared["id"]}
    assert [one["id"] for one in (await chat.call("GET", "./configs", token=ALICE)).json] == [shared["id"]]
    assert (await chat.call("GET", f"./configs/{shared['id']}/status", token=ALICE)).status == 200


async def test_a_change_of_the_command_stops_what_runs(chat: Chat) -> None:
    config_id = await prepared(chat, "running")
    await chat.call("PUT", f"./configs/{config_id}", {"name": "renamed"})
    assert (await chat.call("GET", f"./configs/{config_id}/status")).json["status"] == "running"
    await chat.call("PUT", f"./configs/{config_id}", {"env": {"GREETING": "other"}})
    assert (await chat.call("GET", f"./configs/{config_id}/status")).json["status"] == "stopped"


async def test_a_failed_stop_keeps_the_configuration(engine: str, tmp_path: Path) -> None:
    document, link = policy_document(*chat_rules()), tmp_path / "proxy.sock"
    async with AsyncExitStack() as first:
        proxy = await first.enter_async_context(proxy_under_test(tmp_path, document, leave_running=True))
        link.symlink_to(proxy.socket)
        async with chat_under_test(tmp_path, replace(proxy, socket=link)) as chat:
            config_id = await prepared(chat, "running")
            await first.aclose()
            for method, body in (("DELETE", None), ("PUT", {"enabled": False})):
                answer = await chat.call(method, f"./configs/{config_id}", body)
                assert (answer.status, answer.problem) == (503, "proxy-unavailable")
            status = await chat.call("GET", f"./configs/{config_id}/status")
            assert (status.status, status.json["status"], status.json["state"]) == (200, "error", None)
            async with proxy_under_test(tmp_path, document, instance=proxy.instance) as second:
                link.unlink()
                link.symlink_to(second.socket)
                kept = await chat.call("GET", f"./configs/{config_id}")
                assert (kept.status, kept.json["enabled"]) == (200, True)
                assert (await chat.call("GET", f"./configs/{config_id}/status")).json["status"] == "running"
                await chat.delete_all()


async def test_the_vocabulary_of_status_is_the_front_ends(chat: Chat) -> None:
    sleeper = await chat.create("sleeper")
    failing = await chat.create("failing", args=["run", "-i", "--rm", TOOLBOX, "exit", "3"])
    seen = {}
    for config in (sleeper, failing):
        await chat.call("POST", f"./configs/{config['id']}/start")
    status = await chat.call("GET", f"./configs/{sleeper['id']}/status")
    seen[status.json["status"]] = status.json["state"]
    while (status := await chat.call("GET", f"./configs/{failing['id']}/status")).json["state"] != "exited":
        assert status.json["status"] in ("running", "stopped")
    seen[status.json["status"]] = status.json["state"]
    assert "exited with code 3" in status.json["error_message"]
    await chat.call("POST", f"./configs/{sleeper['id']}/stop")
    status = await chat.call("GET", f"./configs/{sleeper['id']}/status")
    seen[status.json["status"]] = status.json["state"]
    assert seen == {"running": "running", "error": "exited", "stopped": "absent"}


async def test_an_error_is_a_problem_whose_detail_is_text(chat: Chat) -> None:
    answer = await chat.call("POST", "./configs", {"args": 1})
    assert answer.problem == "invalid-request"
    assert answer.json["detail"] == "body.args: Input should be a valid list; body.name: Field required"
    assert {error["loc"] for error in answer.json["errors"]} == {"body.name", "body.args"}


async def test_times_have_an_offset(chat: Chat) -> None:
    made = await chat.create("server")
    for name in ("created_at", "updated_at"):
        assert datetime.fromisoformat(made[name]).utcoffset() is not None


async def test_another_origin_is_refused(chat_proxy: ProxyUnderTest, tmp_path: Path) -> None:
    async with chat_under_test(tmp_path, chat_proxy, allowed_hosts={"chat"}) as chat:
        for method in ("GET", "OPTIONS"):
            answer = await chat.call(method, "./configs", headers={"Origin": "https://other.example"})
            assert (answer.status, answer.problem) == (403, "host-not-allowed")
            assert not any(name.lower().startswith("access-control") for name in answer.headers)
        assert (await chat.call("GET", "./configs", headers={"Origin": "http://chat"})).status == 200
