"""What the API has beside the old one: roles, versions, pages, dry runs, tools, logs, policy, readiness."""

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path

from doogie_client.web.api import Limits
from doogie_client.web.operation import Access, Operation
from doogie_client.web.operations import OPERATIONS
from tests.support.chat import ADMIN, ALICE, BOB, ROOT, SLEEPER, TIME, Chat, chat_rules, chat_under_test
from tests.support.harness import TOOLBOX, ProxyUnderTest, policy_document, proxy_under_test
from tests.web.old_api import UNKNOWN

TIME_SERVER = {"args": ["run", "-i", "--rm", TIME]}


# ── who may do what ──────────────────────────────────────────────────────────────────────────────


def path_of(operation: Operation, config_id: str) -> str:
    return operation.path.replace("{id}", config_id)


async def test_nobody_may_do_what_is_not_for_anyone(chat: Chat) -> None:
    made = await chat.create("server", shared=True)
    for operation in OPERATIONS:
        if operation.access is Access.ANYONE:
            assert (await chat.call(operation.method, operation.path, token=None)).status == 200, operation.path
            continue
        for token in (None, "wrong"):
            answer = await chat.call(operation.method, path_of(operation, made["id"]), token=token)
            assert (answer.status, answer.problem) == (401, "unauthenticated"), operation.path
            assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_users_may_not_do_what_is_for_admins(chat: Chat) -> None:
    made = await chat.create("server", shared=True)
    for operation in OPERATIONS:
        if operation.access is Access.ADMIN:
            for config_id in (made["id"], UNKNOWN):
                answer = await chat.call(operation.method, path_of(operation, config_id), token=ALICE)
                assert (answer.status, answer.problem) == (403, "forbidden"), operation.path
    assert (await chat.call("GET", f"./configs/{made['id']}")).json == made


async def test_what_is_someone_elses_is_not_there(chat: Chat) -> None:
    """Byte for byte but for the request's id, which is each time another."""
    made = await chat.create("private")
    for operation in OPERATIONS:
        if operation.access is not Access.USER or "{id}" not in operation.path:
            continue
        answers = []
        for config_id in (made["id"], UNKNOWN):
            body = {"name": "tool"} if operation.body is not None else None
            answer = await chat.call(operation.method, path_of(operation, config_id), body, token=ALICE)
            assert (answer.status, answer.problem) == (404, "not-found"), operation.path
            answers.append({**answer.json, "request_id": ""})
        assert answers[0] == answers[1]


async def test_what_is_shared_may_be_seen_and_its_log_is_its_owners(chat: Chat) -> None:
    made = await chat.create("shared", shared=True)
    await chat.call("POST", f"./configs/{made['id']}/start")
    for token in (ADMIN, ALICE, BOB):
        assert (await chat.call("GET", f"./configs/{made['id']}", token=token)).status == 200
        logs = await chat.call("GET", f"./configs/{made['id']}/logs", token=token)
        assert logs.status == (200 if token == ADMIN else 403)
    await chat.call("PUT", f"./configs/{made['id']}", {"shared": False})
    assert (await chat.call("GET", f"./configs/{made['id']}", token=ALICE)).status == 404


async def test_who_may_only_call_a_server_sees_neither_its_arguments_nor_its_last_words(chat: Chat) -> None:
    made = await chat.create("failing", args=["run", "-i", "--rm", TOOLBOX, "exit", "3"], shared=True)
    path = f"./configs/{made['id']}"
    await chat.call("POST", f"{path}/start")
    async with asyncio.timeout(30):
        while (await chat.call("GET", f"{path}/status")).json["state"] != "exited":
            await asyncio.sleep(0.02)
    assert "exiting with code 3" in (await chat.call("GET", f"{path}/status")).json["error_message"]
    async with chat.events(token=ALICE) as events:
        told = [str(await events.next())]
    for method, read, body in (
        ("GET", path, None),
        ("GET", "./configs", None),
        ("GET", f"{path}/status", None),
        ("GET", f"{path}/tools", None),
        ("POST", f"{path}/call", {"name": "tool"}),
        ("GET", "./tools", None),
    ):
        told.append((await chat.call(method, read, body, token=ALICE)).text)
    assert not [one for one in told if "exiting with" in one or TOOLBOX in one]
    assert "exiting with code 3" in (await chat.call("POST", f"{path}/call", {"name": "tool"})).text


async def test_values_among_the_arguments_are_masked_and_can_be_sent_back(chat: Chat) -> None:
    args = ["run", "-i", "-e", "GREETING=planted", "--env=API_KEY=secret", TOOLBOX, "sleep"]
    made = await chat.create("server", args=args)
    masked = ["run", "-i", "-e", "GREETING=***", "--env=API_KEY=***", TOOLBOX, "sleep"]
    assert made["args"] == masked
    path = f"./configs/{made['id']}"
    await chat.call("POST", f"{path}/start")
    same = await chat.call("PUT", path, {"args": masked, "env": {}})
    assert (same.json["args"], same.json["version"]) == (masked, made["version"])
    assert (await chat.call("GET", f"{path}/status")).json["status"] == "running", "nothing has changed"
    other = await chat.call("PUT", path, {"args": [*masked[:-1], "exit", "3"]})
    assert (other.status, other.json["version"]) == (200, made["version"] + 1)
    refused = await chat.call("PUT", path, {"args": ["run", "-e", "OTHER=***", TOOLBOX]})
    assert (refused.status, refused.problem) == (422, "invalid-request")
    refused = await chat.call("POST", "./configs", {"name": "new", "args": masked})
    assert (refused.status, refused.problem) == (422, "invalid-request")


async def test_one_user_cannot_take_all_there_is(chat_proxy: ProxyUnderTest, tmp_path: Path) -> None:
    async with (
        chat_under_test(tmp_path, chat_proxy, limits=Limits(user_requests_max=2)) as chat,
        chat.events(token=ALICE),
        chat.events(token=ALICE),
    ):
        answer = await chat.call("GET", "./configs", token=ALICE)
        assert (answer.status, answer.problem) == (429, "quota-exceeded")
        assert answer.headers["Retry-After"] == "1"
        assert (await chat.call("GET", "./configs", token=BOB)).status == 200


# ── versions and pages ───────────────────────────────────────────────────────────────────────────


async def test_a_change_that_names_an_older_version_is_refused(chat: Chat) -> None:
    made = await chat.create("server")
    path = f"./configs/{made['id']}"
    first = await chat.call("GET", path)
    assert first.headers["ETag"] == f'"{made["version"]}"'
    changed = await chat.call("PUT", path, {"description": "one"}, headers={"If-Match": first.headers["ETag"]})
    assert (changed.status, changed.headers["ETag"]) == (200, f'"{made["version"] + 1}"')
    for method, body in (("PUT", {"description": "two"}), ("DELETE", None)):
        late = await chat.call(method, path, body, headers={"If-Match": first.headers["ETag"]})
        assert (late.status, late.problem) == (412, "version-mismatch")
    assert (await chat.call("GET", path)).json == changed.json
    assert (await chat.call("PUT", path, {"description": "any"}, headers={"If-Match": "*"})).status == 200
    latest = (await chat.call("GET", path)).headers["ETag"]
    assert (await chat.call("DELETE", path, headers={"If-Match": latest})).status == 204


async def test_of_two_changes_of_one_version_one_is_made(chat: Chat) -> None:
    made = await chat.create("server")
    answers = await asyncio.gather(
        *(
            chat.call("PUT", f"./configs/{made['id']}", {"description": str(n)}, headers={"If-Match": '"1"'})
            for n in range(8)
        )
    )
    assert sorted(answer.status for answer in answers) == [200] + [412] * 7
    [winner] = [answer.json for answer in answers if answer.status == 200]
    assert (await chat.call("GET", f"./configs/{made['id']}")).json == winner


async def test_pages_have_each_configuration_once(chat: Chat) -> None:
    names = ["Beta", "alpha", "gamma/ü", "delta", "Épsilon"]
    for name in names:
        await chat.create(name, shared=name != "delta")
    everything = [one["name"] for one in (await chat.call("GET", "./configs")).json]
    assert sorted(everything) == sorted(names)
    for token, expected in ((ADMIN, everything), (ALICE, [name for name in everything if name != "delta"])):
        for limit in (1, 2, 5, 999):
            seen, path = [], f"/api/v1/mcp/configs?limit={limit}"
            while path:
                page = await chat.call("GET", path, token=token)
                assert len(page.json) <= limit
                seen += [one["name"] for one in page.json]
                path = page.headers.get("Link", "").removesuffix('>; rel="next"').removeprefix("<")
            assert seen == expected


async def test_another_page_is_refused(chat: Chat) -> None:
    for query in ("limit=0", "limit=-1", "limit=1000", "cursor=%00", "cursor=_w", "page=2", "limit=1&limit=2"):
        answer = await chat.call("GET", f"./configs?{query}")
        assert (answer.status, answer.problem) == (422, "invalid-request"), query


# ── dry runs ─────────────────────────────────────────────────────────────────────────────────────


async def test_a_dry_run_says_what_would_start_and_under_which_rule(chat: Chat, chat_proxy: ProxyUnderTest) -> None:
    body = {
        "name": "server",
        "args": ["run", "--rm", "-i", "-e", "GREETING", TOOLBOX, "sleep"],
        "env": {"GREETING": "hello"},
    }
    answer = await chat.call("POST", "./configs/dry-run", body)
    assert answer.status == 200, answer.text
    assert answer.json["request"] == {
        "image": TOOLBOX, "args": ["sleep"], "env": {"GREETING": "***"}, "secrets": [], "mounts": [],
    }  # fmt: skip
    assert (answer.json["rule"], answer.json["image"]) == ("toolbox", TOOLBOX)
    assert answer.json["limits"]["network"] == "none"
    assert (await chat.call("GET", "./configs")).json == []
    assert chat_proxy.recorder.about_containers() == []


async def test_a_dry_run_that_is_refused_says_why_rule_by_rule(chat: Chat) -> None:
    answer = await chat.call("POST", "./configs/dry-run", {"name": "x", "args": ["run", "-i", TOOLBOX, "forbidden"]})
    assert (answer.status, answer.problem) == (403, "policy-denied")
    assert [error["loc"] for error in answer.json["errors"]] == ["rules.toolbox", "rules.time"]
    assert answer.json["proxy_request_id"] != answer.json["request_id"]


async def test_a_dry_run_of_a_faulty_command_says_whom_to_ask_for_what(chat: Chat) -> None:
    body = {"name": "x", "command": "npx", "args": ["-y", "@nobody/has-built-this@1.0.0"]}
    answer = await chat.call("POST", "./configs/dry-run", body)
    assert (answer.status, answer.problem) == (422, "command-refused")
    assert "doogie-images build npx:@nobody/has-built-this@1.0.0" in answer.json["errors"][0]["ask"]


async def test_a_stored_configuration_can_be_tried_too(chat: Chat) -> None:
    made = await chat.create("server", env={"GREETING": "planted"})
    answer = await chat.call("GET", f"./configs/{made['id']}/dry-run")
    assert (answer.status, answer.json["rule"]) == (200, "toolbox")
    assert "planted" not in answer.text


# ── import ───────────────────────────────────────────────────────────────────────────────────────

DESKTOP = {
    "mcpServers": {
        "time": {"command": "uvx", "args": ["mcp-server-time"]},
        "sleeper": {"command": "docker", "args": ["run", "-i", "--rm", "-e", "API_KEY", TOOLBOX, "sleep"],
                    "env": {"API_KEY": "${API_KEY}"}},
        "elsewhere": {"url": "https://mcp.example/sse"},
        "forbidden": {"command": "docker", "args": ["run", "-i", "--rm", TOOLBOX, "forbidden"]},
    }
}  # fmt: skip


async def test_a_file_of_another_host_is_imported_server_by_server(chat: Chat) -> None:
    document = json.dumps(DESKTOP)
    dry = await chat.call("POST", "./import?dry_run=1", {"document": document})
    assert dry.status == 200, dry.text
    assert {one["name"]: one["outcome"] for one in dry.json["servers"]} == {
        "time": "created", "sleeper": "needs_input", "elsewhere": "refused", "forbidden": "needs_operator",
    }  # fmt: skip
    assert dry.json["saved"] is False
    assert (await chat.call("GET", "./configs")).json == []

    report = (await chat.call("POST", "./import", {"document": document})).json
    assert report["saved"] is True
    [stored] = (await chat.call("GET", "./configs")).json
    chat.created.append(stored["id"])
    assert (stored["name"], stored["command"], stored["args"]) == ("time", "uvx", ["mcp-server-time"])
    assert report["servers"][0]["config_id"] == stored["id"]
    assert (await chat.call("POST", f"./configs/{stored['id']}/start")).json["status"] == "running"

    again = await chat.call("POST", "./import", {"document": document, "values": {"API_KEY": "planted-secret"}})
    outcomes = {one["name"]: one["outcome"] for one in again.json["servers"]}
    assert (outcomes["time"], outcomes["sleeper"]) == ("unchanged", "created")
    assert "planted-secret" not in again.text
    chat.created += [one["config_id"] for one in again.json["servers"] if one["config_id"] is not None]


async def test_an_atomic_import_saves_all_or_nothing(chat: Chat) -> None:
    report = await chat.call("POST", "./import?atomic=1", {"document": json.dumps(DESKTOP)})
    assert (report.status, report.json["saved"]) == (200, False)
    assert (await chat.call("GET", "./configs")).json == []


async def test_a_changed_import_stops_what_runs(chat: Chat) -> None:
    made = await chat.create("sleeper")
    await chat.call("POST", f"./configs/{made['id']}/start")
    server = {"command": "docker", "args": ["run", "-i", "--rm", TOOLBOX, "exit", "3"]}
    body = {"document": json.dumps({"mcpServers": {"sleeper": server}}), "replace": True}
    report = (await chat.call("POST", "./import", body)).json
    assert report["servers"][0]["outcome"] == "updated"
    assert (await chat.call("GET", f"./configs/{made['id']}/status")).json["status"] == "stopped"


async def test_what_is_no_document_is_refused_with_its_place(chat: Chat) -> None:
    for document in ("", "{", '{"mcpServers": 1}', '{"mcpServers": {"a": {}, "a": {}}}', "[" * 10_000):
        answer = await chat.call("POST", "./import", {"document": document})
        assert answer.status == 422 or answer.json["servers"][0]["outcome"] == "refused", document[:50]


# ── tools ────────────────────────────────────────────────────────────────────────────────────────


async def test_a_user_calls_the_tools_of_a_shared_server(chat: Chat) -> None:
    made = await chat.create("time", shared=True, **TIME_SERVER)
    sleeping = await chat.create("asleep", shared=True)
    await chat.create("of the admin alone", **TIME_SERVER)
    path = f"./configs/{made['id']}"

    early = await chat.call("POST", f"{path}/call", {"name": "get_current_time"}, token=ALICE)
    assert (early.status, early.problem) == (409, "server-not-running")
    assert (await chat.call("POST", f"{path}/start")).status == 200

    listed = await chat.call("GET", f"{path}/tools", token=ALICE)
    assert {tool["name"] for tool in listed.json["tools"]} == {"get_current_time", "convert_time"}
    assert listed.json["tools"][0]["inputSchema"]["type"] == "object"

    arguments = {"timezone": "Asia/Tokyo"}
    result = await chat.call("POST", f"{path}/call", {"name": "get_current_time", "arguments": arguments}, token=ALICE)
    assert result.status == 200, result.text
    assert result.json["isError"] is False
    assert result.json["structuredContent"]["timezone"] == "Asia/Tokyo"
    assert result.json["content"][0]["type"] == "text"

    definitions = {}
    for style in ("mcp", "openai", "anthropic"):
        answer = (await chat.call("GET", f"./tools?style={style}", token=ALICE)).json
        definitions[style] = answer["tools"]
        assert [(one["id"], one["type"]) for one in answer["unavailable"]] == [
            (sleeping["id"], "urn:doogie:problem:server-not-running")
        ]
    assert {one["name"] for one in definitions["mcp"]} == {"time__get_current_time", "time__convert_time"}
    assert {one["function"]["name"] for one in definitions["openai"]} == {
        "time__get_current_time",
        "time__convert_time",
    }
    assert {one["name"] for one in definitions["anthropic"]} == {"time__get_current_time", "time__convert_time"}
    assert "input_schema" in definitions["anthropic"][0]

    called = await chat.call("POST", "./call", {"name": "time__get_current_time", "arguments": arguments}, token=ALICE)
    assert called.json["structuredContent"]["timezone"] == "Asia/Tokyo"
    for name in ("get_current_time", "asleep2__tool", "of-the-admin-alone__get_current_time"):
        unknown = await chat.call("POST", "./call", {"name": name}, token=ALICE)
        assert (unknown.status, unknown.problem) == (404, "not-found")

    failed = await chat.call(
        "POST", f"{path}/call", {"name": "get_current_time", "arguments": {"timezone": "No/Where"}}
    )
    assert (failed.status, failed.json["isError"]) == (200, True)


async def test_a_call_that_is_none_is_refused(chat: Chat) -> None:
    made = await chat.create("server")
    for body in (
        {},
        {"name": ""},
        {"name": "t", "arguments": []},
        {"name": "t", "arguments": "{}"},
        {"name": "t", "timeout_s": 0},
        {"name": "t", "x": 1},
    ):
        for path in (f"./configs/{made['id']}/call", "./call"):
            answer = await chat.call("POST", path, body)
            assert (answer.status, answer.problem) == (422, "invalid-request"), body


async def test_what_is_anothers_is_no_tool_of_an_admins_chat(chat: Chat, chat_proxy: ProxyUnderTest) -> None:
    document = json.dumps({"mcpServers": {"time": {"command": "uvx", "args": ["mcp-server-time"]}}})
    made = await chat.create("time", **TIME_SERVER)
    await chat.call("POST", f"./configs/{made['id']}/start")
    other = {"Authorization": f"Bearer {ROOT}"}
    assert (await chat.call("GET", f"./configs/{made['id']}", headers=other)).status == 200
    assert (await chat.call("GET", "./tools", headers=other)).json == {"tools": [], "unavailable": []}
    called = await chat.call("POST", "./call", {"name": "time__get_current_time"}, headers=other)
    assert (called.status, called.problem) == (404, "not-found")
    taken = await chat.call("POST", "./import", {"document": document}, headers=other)
    assert taken.json["servers"][0]["outcome"] == "refused"


async def test_a_disabled_server_is_not_called(chat: Chat) -> None:
    made = await chat.create("server", enabled=False)
    answer = await chat.call("POST", f"./configs/{made['id']}/call", {"name": "tool"})
    assert (answer.status, answer.problem) == (400, "config-disabled")


# ── logs, policy, the app itself ─────────────────────────────────────────────────────────────────


async def test_logs_are_the_last_lines_of_stderr(chat: Chat) -> None:
    made = await chat.create("failing", args=["run", "-i", "--rm", TOOLBOX, "exit", "3"])
    path = f"./configs/{made['id']}"
    assert (await chat.call("GET", f"{path}/logs")).text == ""
    await chat.call("POST", f"{path}/start")
    async with asyncio.timeout(30):
        while (await chat.call("GET", f"{path}/status")).json["state"] != "exited":
            await asyncio.sleep(0.02)
    logs = await chat.call("GET", f"{path}/logs?tail=1")
    assert logs.text == "exiting with code 3\n"
    assert logs.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert logs.headers["X-Content-Type-Options"] == "nosniff"


async def test_the_policy_is_the_proxys(chat: Chat) -> None:
    policy = (await chat.call("GET", "./policy")).json
    assert policy["client"] == "chat"
    assert [rule["name"] for rule in policy["rules"]] == [rule["name"] for rule in chat_rules()]


async def test_readiness_names_what_is_missing(engine: str, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(proxy_under_test(tmp_path, policy_document(*chat_rules())))
        async with chat_under_test(tmp_path, proxy) as chat:
            ready = await chat.call("GET", "/readyz", token=None)
            assert (ready.status, ready.json) == (200, {"status": "ok", "reasons": []})
            await stack.aclose()
            ready = await chat.call("GET", "/readyz", token=None)
            assert (ready.status, ready.json["reasons"]) == (503, ["the proxy cannot be used"])
            assert (await chat.call("GET", "/healthz", token=None)).status == 200
            policy = await chat.call("GET", "./policy")
            assert (policy.status, policy.problem) == (503, "proxy-unavailable")


async def test_the_app_starts_what_is_enabled_and_serves_before_that_is_done(
    chat_proxy: ProxyUnderTest, tmp_path: Path
) -> None:
    async with chat_under_test(tmp_path, chat_proxy) as chat:
        for name in ("one", "two"):
            await chat.create(name)
        await chat.create("three", enabled=False)
        denied = await chat.create("denied", args=["run", "-i", TOOLBOX, "forbidden"])
        kept, chat.created = chat.created, []
    async with chat_under_test(tmp_path, chat_proxy) as chat:
        chat.created = kept
        async with asyncio.timeout(30):
            while (await chat.call("GET", f"./configs/{denied['id']}/status")).json["status"] != "error":
                await asyncio.sleep(0.02)
            while len((await chat_proxy.call("GET", "/v1/servers")).json["servers"]) < 2:
                await asyncio.sleep(0.02)
        names = [one["name"] for one in (await chat_proxy.call("GET", "/v1/servers")).json["servers"]]
        assert names == ["one", "two"]


async def test_a_start_is_carried_on_when_its_caller_goes_away(chat: Chat, chat_proxy: ProxyUnderTest) -> None:
    made = await chat.create("server")
    starting = asyncio.create_task(chat.call("POST", f"./configs/{made['id']}/start"))
    async with asyncio.timeout(30):
        while not chat_proxy.recorder.about_containers():
            await asyncio.sleep(0.001)
        starting.cancel()
        await asyncio.wait([starting])
        while (await chat.call("GET", f"./configs/{made['id']}/status")).json["status"] != "running":
            await asyncio.sleep(0.02)


async def test_a_body_is_not_needed_to_start_and_one_is_not_looked_at(chat: Chat) -> None:
    """axios sends ``Content-Type`` or not, as it likes, and no body."""
    made = await chat.create("server")
    path = f"./configs/{made['id']}"
    assert (await chat.call("POST", f"{path}/start", headers={"Content-Type": "application/json"})).status == 200
    assert (await chat.call("POST", f"{path}/stop", {})).status == 200
    assert (await chat.call("POST", "./configs", {"name": "x", **SLEEPER, "env": {"GREETING": 1}})).status == 422
