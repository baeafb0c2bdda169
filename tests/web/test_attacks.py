"""What a user who may do little, or nobody at all, tries; and where a planted secret must not be found."""

import io
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from doogie_client.web.api import Limits
from doogie_client.web.bodies import BodyLimits
from doogie_client.web.operation import Operation
from doogie_client.web.operations import OPERATIONS
from tests.support.chat import ADMIN, ALICE, MCP, SLEEPER, TIME, Chat, chat_under_test
from tests.support.chat_served import served_chat
from tests.support.harness import TOOLBOX, ProxyUnderTest

SECRET = "planted-0c5e6b1f-secret"
BODIES = [operation for operation in OPERATIONS if operation.body is not None]


@pytest.mark.parametrize("operation", BODIES, ids=lambda operation: operation.handler.__name__)
async def test_a_hostile_body_is_refused_wherever_one_is_taken(chat: Chat, operation: Operation) -> None:
    made = await chat.create("server")
    path = operation.path.replace("{id}", made["id"])
    for data, problem in (
        (b"", "invalid-request"),
        (b"null", "invalid-request"),
        (b"[" * 100_000, "invalid-request"),
        (b'{"a":' * 70 + b"1" + b"}" * 70, "invalid-request"),
        (b'{"name": "x", "name": "y"}', "invalid-request"),
        (b'{"name": "x", "\\u006eame": "y"}', "invalid-request"),
        (b'{"name": NaN}', "invalid-request"),
        (b'{"name": "\\ud800"}', "invalid-request"),
        (b'\xff\xfe{"name": "x"}', "invalid-request"),
        (b'{"name": "x", "__proto__": {}}', "invalid-request"),
    ):
        answer = await chat.call(operation.method, path, data=data)
        assert answer.problem == problem, data[:80]
    with io.BytesIO(b" " * 1_100_000) as large:
        assert (await chat.call(operation.method, path, data=large)).problem == "body-too-large"
    for content_type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
        answer = await chat.call(operation.method, path, data=b'{"name": "x"}', headers={"Content-Type": content_type})
        assert (answer.status, answer.problem) == (415, "unsupported-media-type"), content_type
    assert [one["id"] for one in (await chat.call("GET", "./configs")).json] == [made["id"]]


PATHS = [
    ("./configs/../policy", 404),
    ("./configs/%2e%2e/policy", 400),
    ("./configs/..%2fpolicy", 400),
    ("./configs//start", 404),
    ("./configs/", 404),
    ("./configs/a/b/c", 404),
    ("./configs/export", 404),
    ("./configs/export/json/", 404),
    ("//api/v1/mcp/configs", 404),
    ("./CONFIGS", 404),
    ("./configs;x=1", 400),
    ("./configs%00", 400),
    ("./configs/'or'1'='1", 400),
    (f"./configs/{'a' * 65}", 404),
    ("./configs/__proto__", 404),
    ("./configs/.", 404),
    ("./configs/...", 404),
    ("./configs/dry-run", 405),
    ("./configs?token=x", 422),
    ("./configs?limit=1;drop", 422),
    ("/metrics", 404),
    ("/", 404),
]


async def test_paths_lead_where_they_say(chat: Chat) -> None:
    answers = [(path, await chat.call("GET", path)) for path, _ in PATHS]
    assert [(path, answer.status) for path, answer in answers] == PATHS
    assert all(answer.problem for _, answer in answers)


async def test_other_methods_are_refused(chat: Chat) -> None:
    for method in ("HEAD", "OPTIONS", "TRACE", "PATCH", "PROPFIND", "put"):
        assert (await chat.call(method, "./configs")).status == 405, method
    override = await chat.call("GET", "./configs", headers={"X-HTTP-Method-Override": "DELETE"})
    assert (override.status, override.json) == (200, [])


async def test_who_forwards_says_nothing_about_who_asks(chat: Chat) -> None:
    headers = {
        "X-Forwarded-User": "admin",
        "X-Remote-User": "admin",
        "Cookie": f"token={ADMIN}",
        "X-Forwarded-For": "::1",
    }
    answer = await chat.call("GET", "./configs", token=None, headers=headers)
    assert answer.status == 401
    assert (await chat.call("GET", f"./configs?token={ADMIN}", token=None)).status == 401
    assert (await chat.call("POST", "./configs", {"name": "x"}, token=ALICE, headers=headers)).status == 403


async def test_a_user_cannot_reach_past_what_is_shared(chat: Chat) -> None:
    private = await chat.create("private", args=["run", "-i", TIME])
    await chat.call("POST", f"./configs/{private['id']}/start")
    for method, path, body in (
        ("POST", f"./configs/{private['id']}/call", {"name": "get_current_time"}),
        ("POST", "./call", {"name": f"{private['server_name']}__get_current_time"}),
        ("GET", f"./configs/{private['id']}/logs", None),
        ("GET", f"./configs/{private['id']}/tools", None),
    ):
        answer = await chat.call(method, path, body, token=ALICE)
        assert (answer.status, answer.problem) == (404, "not-found")
    tools = (await chat.call("GET", "./tools", token=ALICE)).json
    assert tools == {"tools": [], "unavailable": []}
    assert (await chat.call("GET", "./configs/export/json", token=ALICE)).json == {"mcpServers": {}}


# ── a planted secret ─────────────────────────────────────────────────────────────────────────────


async def test_a_planted_secret_is_found_nowhere(chat_proxy: ProxyUnderTest, tmp_path: Path) -> None:
    """In environments, tokens and bodies that are refused: not in an answer, an event, a log or the database's file."""
    answers = []
    async with served_chat(tmp_path, chat_proxy, log_level="debug") as chat, chat.events() as events:

        async def call(method: str, path: str, body: object = None, token: str | None = ADMIN) -> None:
            answer = await chat.call(method, path, body, token=token)
            answers.append(f"{answer.status} {answer.headers} {answer.text}")

        env = {"API_KEY": SECRET, "GREETING": f"prefix-{SECRET}-suffix"}
        made = await chat.create(
            "server", env=env, args=["run", "-i", "-e", f"API_KEY={SECRET}", TOOLBOX, "exit", "3"], shared=True
        )
        path = f"./configs/{made['id']}"
        answers.append(str(made))
        for body in (
            {"name": "x", "env": {"API_KEY": SECRET}, "args": ["run", "--frob", TOOLBOX]},
            {"name": "x", "env": {"API_KEY": SECRET, "1": SECRET}, "args": ["run", TOOLBOX]},
            {"name": "x", "env": {"API_KEY": [SECRET]}, "args": ["run", TOOLBOX]},
            {"name": "x", "env": SECRET, "args": ["run", TOOLBOX]},
            {"name": "x", "env": {"LD_PRELOAD": SECRET}, **SLEEPER},
        ):
            await call("POST", "./configs", body)
            await call("POST", "./configs/dry-run", body)
            await call("PUT", path, body)
        await call("PUT", path, {"env": {**env, "GREETING": "***"}})
        for read in ("", "/status", "/dry-run", "/tools", "/logs"):
            await call("GET", path + read)
            await call("GET", path + read, token=ALICE)
        for read in ("./configs", "./configs/export/json", "./tools", "./policy", "/openapi.json", "/readyz"):
            await call("GET", read)
        for action in ("start", "restart", "stop", "start"):
            await call("POST", f"{path}/{action}")
        await call("POST", f"{path}/call", {"name": "tool", "arguments": {"key": SECRET}})
        await call("GET", "./configs", token=SECRET)
        await call("GET", f"./configs?token={SECRET}", token=None)
        told: list[str] = []

        async def listen_until(words: str) -> None:
            while not told or words not in told[-1]:
                block = await events.block()
                assert block is not None, "the stream ended"
                told.append(block)

        await listen_until('"status":"error"')
        await call("DELETE", path)
        chat.created.clear()
        await listen_until("event: deleted")
        assert await chat.end() == 0
    for where, text in (
        ("answers", "\n".join(answers)),
        ("events", "\n".join(told)),
        ("log", chat.log.read_text()),
        ("database", "".join(p.read_bytes().decode("latin-1") for p in tmp_path.glob("chat.db*") if p.is_file())),
    ):
        assert SECRET not in text, where
        assert ADMIN not in text, where
    assert len(answers) > 30


async def test_what_a_tool_is_given_and_says_is_not_logged(chat_proxy: ProxyUnderTest, tmp_path: Path) -> None:
    limits = Limits(body=BodyLimits(max_bytes=100_000))
    async with chat_under_test(tmp_path, chat_proxy, limits=limits) as chat:
        made = await chat.create("time", args=["run", "-i", TIME])
        await chat.call("POST", f"./configs/{made['id']}/start")
        with capture_logs() as logs:
            body = {"name": "get_current_time", "arguments": {"timezone": SECRET}}
            answer = await chat.call("POST", f"{MCP}/configs/{made['id']}/call", body)
            assert SECRET in answer.text  # the tool says which zone it does not know
        assert SECRET not in str(logs)
        assert [log["event"] for log in logs if log["event"] == "tool_called"] == ["tool_called"]
