"""Each refusal is its own problem, says what would be right, and never reaches the engine."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.harness import (
    ENGINE_SOCKET,
    TOOLBOX,
    ProxyUnderTest,
    policy_document,
    proxy_under_test,
    toolbox_rule,
)
from tests.support.wire import answer_to

START = "/v1/servers/box/start"
GOOD = {"image": TOOLBOX, "args": ["sleep"]}


@pytest.fixture
async def strict(engine: str, tmp_path: Path) -> AsyncIterator[ProxyUnderTest]:
    """A proxy whose rule allows one argument and no environment; its image is not on the engine."""
    rules = [
        toolbox_rule(args={"patterns": ["sleep"]}, env={}),
        toolbox_rule(name="missing", images=["doogie-test/never-built:1"]),
    ]
    async with proxy_under_test(tmp_path, policy_document(*rules), body_timeout_s=0.5) as running:
        yield running
        assert running.recorder.about_containers() == [], "the engine was asked to change nothing"


async def test_unlisted_image_is_denied_rule_by_rule(strict: ProxyUnderTest) -> None:
    answer = await strict.call("POST", START, {"image": "alpine:3"})
    assert (answer.status, answer.problem) == (403, "policy-denied")
    assert [error["loc"] for error in answer.json["errors"]] == ["rules.toolbox", "rules.missing"]
    assert TOOLBOX in answer.json["errors"][0]["msg"]


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ({**GOOD, "args": ["sleep", "--privileged"]}, "'--privileged'"),
        ({**GOOD, "args": ["sleep\n"]}, "matches none of 'sleep'"),
        ({**GOOD, "env": {"LD_PRELOAD": "/tmp/x.so"}}, "LD_PRELOAD"),
        ({**GOOD, "args": ["x" * 2000]}, "1024"),
    ],
)
async def test_what_the_rule_does_not_allow_is_named(
    strict: ProxyUnderTest, body: dict[str, object], what: str
) -> None:
    answer = await strict.call("POST", START, body)
    assert (answer.status, answer.problem) == (403, "policy-denied")
    assert what in answer.json["errors"][0]["msg"]


@pytest.mark.parametrize(
    ("body", "loc"),
    [
        ({**GOOD, "Privileged": True}, "body.Privileged"),
        ({**GOOD, "HostConfig": {"Binds": ["/:/host"]}}, "body.HostConfig"),
        ({**GOOD, "image": 7}, "body.image"),
        ({**GOOD, "image": ""}, "body.image"),
        ({"args": []}, "body.image"),
        ({**GOOD, "args": ["a\x00b"]}, "body.args.0"),
        ({**GOOD, "args": ["x"] * 1000}, "body.args"),
        ({**GOOD, "env": {"A=B": "c"}}, "body.env.A=B.[key]"),
        ({**GOOD, "env": {"A": 1}}, "body.env.A"),
        ([], "body"),
        ("text", "body"),
    ],
)
async def test_invalid_body_says_where(strict: ProxyUnderTest, body: object, loc: str) -> None:
    answer = await strict.call("POST", START, body)
    assert (answer.status, answer.problem) == (422, "invalid-request")
    assert loc in [error["loc"] for error in answer.json["errors"]]


@pytest.mark.parametrize(
    "data",
    [
        b'{"image": "a", "image": "b"}',
        b'{"image": "a"} trailing',
        b'{"image": NaN}',
        b'\xef\xbb\xbf{"image": "a"}',
        b'{"image": "\xff"}',
        b'{"image": "\\ud800"}',
        b"[" * 100_000,
        b'{"a":' * 20 + b"1" + b"}" * 20,
        b"",
    ],
)
async def test_json_that_could_be_read_in_two_ways_is_invalid(strict: ProxyUnderTest, data: bytes) -> None:
    answer = await strict.call("POST", START, data=data)
    assert (answer.status, answer.problem) == (422, "invalid-request")


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/json; charset=utf-16"},
        {"Content-Type": "application/json, text/plain"},
        {"Content-Encoding": "gzip"},
    ],
)
async def test_other_content_types_and_encodings_are_unsupported(
    strict: ProxyUnderTest, headers: dict[str, str]
) -> None:
    answer = await strict.call("POST", START, data=json.dumps(GOOD).encode(), headers=headers)
    assert (answer.status, answer.problem) == (415, "unsupported-media-type")


async def test_body_above_256_kib_is_too_large(strict: ProxyUnderTest) -> None:
    answer = await strict.call("POST", START, data=b" " * 262_145)
    assert (answer.status, answer.problem) == (413, "body-too-large")


async def test_body_that_does_not_come_is_a_request_timeout(strict: ProxyUnderTest) -> None:
    reader, writer = await asyncio.open_unix_connection(strict.socket)
    writer.write(
        b"POST /v1/servers/box/start HTTP/1.1\r\nHost: proxy\r\nAuthorization: Bearer test-token-of-chat\r\n"
        b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    )
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("name", ["UPPER", "-x", "a" * 64, "a_b~c"])
async def test_bad_server_name_says_what_a_name_is(strict: ProxyUnderTest, name: str) -> None:
    answer = await strict.call("POST", f"/v1/servers/{name}/start", GOOD)
    assert (answer.status, answer.problem) == (422, "invalid-request")
    assert answer.json["errors"] == [{"loc": "path.name", "msg": "must match ^[a-z0-9][a-z0-9_.-]{0,62}$"}]


@pytest.mark.parametrize("query", ["?wait=maybe", "?dry_run=2", "?dry_run=1&dry_run=1", "?force=1"])
async def test_unknown_query_parameters_are_invalid(strict: ProxyUnderTest, query: str) -> None:
    answer = await strict.call("POST", START + query, GOOD)
    assert (answer.status, answer.problem) == (422, "invalid-request")


async def test_missing_image_is_its_own_problem_and_creates_nothing(strict: ProxyUnderTest) -> None:
    answer = await strict.call("POST", START, {"image": "doogie-test/never-built:1"})
    assert (answer.status, answer.problem) == (424, "image-unavailable")
    assert "doogie-test/never-built:1" in answer.json["detail"]
    assert "operator" in answer.json["detail"]


@pytest.mark.parametrize(
    ("method", "path", "status", "problem"),
    [
        ("GET", "/", 404, "not-found"),
        ("GET", "/containers/json", 404, "not-found"),
        ("POST", "/v1.41/containers/create", 404, "not-found"),
        ("GET", "/v1/servers/", 404, "not-found"),
        ("GET", "/v1//servers", 404, "not-found"),
        ("DELETE", "/v1/servers/box", 405, "method-not-allowed"),
        ("GET", START, 405, "method-not-allowed"),
    ],
)
async def test_what_is_not_in_the_table_of_operations_does_not_exist(
    strict: ProxyUnderTest, method: str, path: str, status: int, problem: str
) -> None:
    answer = await strict.call(method, path)
    assert (answer.status, answer.problem) == (status, problem)


@pytest.mark.parametrize("expectation", ["miracles", "100-continue, miracles", "\xe9"])
async def test_expectation_that_is_not_known_is_ignored(strict: ProxyUnderTest, expectation: str) -> None:
    for target, status in (("/healthz", 200), ("/v1/policy", 401), ("/no", 404)):
        request = f"GET {target} HTTP/1.1\r\nHost: p\r\nExpect: {expectation}\r\n\r\n"
        assert (await answer_to(strict, request.encode("latin-1"))).status == status


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
async def test_encoded_body_that_nobody_reads_is_not_decoded(
    strict: ProxyUnderTest, encoding: str, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):  # the second is answered on the same connection
        answer = await strict.call("POST", "/no", data=b"not encoded at all", headers={"Content-Encoding": encoding})
        assert (answer.status, answer.problem) == (404, "not-found")
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_openapi_and_health_need_no_token(strict: ProxyUnderTest) -> None:
    for path in ("/healthz", "/readyz", "/openapi.json"):
        answer = await strict.call("GET", path, token=None)
        assert answer.status == 200
    assert "/v1/servers/{name}/start" in answer.json["paths"]


async def test_policy_shows_the_callers_rules_and_no_fixed_values(engine: str, tmp_path: Path) -> None:
    rule = toolbox_rule(env={"fixed": {"API_KEY": "planted-secret"}})
    async with proxy_under_test(tmp_path, policy_document(rule)) as proxy:
        answer = await proxy.call("GET", "/v1/policy")
        assert answer.json["rules"][0]["env_fixed"] == ["API_KEY"]
        assert "planted-secret" not in answer.text


# ── the engine is in trouble ─────────────────────────────────────────────────────────────────────


async def test_engine_that_is_down_is_engine_unavailable_and_not_ready_until_it_is_back(
    engine: str, tmp_path: Path
) -> None:
    async with proxy_under_test(tmp_path, policy_document(toolbox_rule()), reconnect_s=0.05) as proxy:
        path = proxy.recorder.path
        await proxy.recorder.__aexit__(None, None, None)
        async with asyncio.timeout(20):
            while (await proxy.call("GET", "/readyz")).status == 200:
                await asyncio.sleep(0.01)
        ready = await proxy.call("GET", "/readyz")
        assert ready.json["reasons"] == ["the engine cannot be reached"]
        answer = await proxy.call("POST", START, GOOD)
        assert (answer.status, answer.problem) == (503, "engine-unavailable")
        assert ENGINE_SOCKET not in answer.text
        assert str(path) not in answer.text
        await proxy.recorder.__aenter__()
        async with asyncio.timeout(20):
            while (await proxy.call("GET", "/readyz")).status != 200:
                await asyncio.sleep(0.01)
        await proxy.start("box", "sleep")


async def test_engine_that_hangs_is_an_engine_timeout(engine: str, tmp_path: Path) -> None:
    document = policy_document(toolbox_rule())
    async with proxy_under_test(tmp_path, document, engine_timeout_s=0.5) as proxy:
        proxy.recorder.stall()
        answer = await proxy.call("POST", START, GOOD)
        assert (answer.status, answer.problem) == (504, "engine-timeout")
        proxy.recorder.resume()
        async with asyncio.timeout(20):
            while (await proxy.call("POST", START, GOOD)).status not in (200, 201):
                await asyncio.sleep(0.05)
        await proxy.stop("box")


async def test_answers_that_are_none_end_no_background_work(engine: str, tmp_path: Path) -> None:
    # No list in any answer is JSON any more. The proxy asks again and again, and serves.
    async with proxy_under_test(
        tmp_path, policy_document(toolbox_rule()), wait_ready=False, reconnect_s=0.05, replace_in_answers=(b"[", b"{")
    ) as proxy:
        async with asyncio.timeout(20):
            while len(proxy.recorder.requests) < 4:
                assert (await proxy.call("GET", "/readyz")).status == 503
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("limit", ["MemoryLimit", "PidsLimit", "CpuCfsQuota"])
async def test_engine_that_cannot_enforce_a_limit_is_never_ready(engine: str, tmp_path: Path, limit: str) -> None:
    # The one thing of the real engine that is changed on its way: what /info says of this limit. Same length.
    replace = (f'"{limit}":true'.encode(), f'"{limit}":null'.encode())
    async with proxy_under_test(
        tmp_path, policy_document(toolbox_rule()), wait_ready=False, replace_in_answers=replace
    ) as proxy:
        async with asyncio.timeout(20):
            while limit not in (answer := await proxy.call("GET", "/readyz")).text:
                await asyncio.sleep(0.01)
        assert answer.status == 503
        start = await proxy.call("POST", START, GOOD)
        assert (start.status, start.problem) == (503, "engine-unavailable")
        assert limit in start.json["detail"]
        assert proxy.recorder.about_containers() == []
