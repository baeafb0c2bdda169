"""The engine's own API: nothing of it can be reached through the proxy, whatever stands before its paths."""

import json

import pytest

from tests.support.harness import ProxyUnderTest
from tests.support.wire import answer_to, connected, head, refusal_of, request_with_body

OURS = "GET /v1/events"
"""The one line that means something here, too: events of the caller's own servers."""
PREFIXES = ("", "/v1", "/v1.41", "/v1/servers/box", "/v1/servers/box/stdio", "/v1/servers/.", "/v1/servers/..")


async def assert_unreachable(target: ProxyUnderTest, *requests: str) -> None:
    """Each of the engine's requests, about a container that runs, is a 404 or 405, and the engine hears nothing."""
    container = (await target.start("box", "sleep"))["container_id"]
    with target.recorder.silence():
        async with connected(target) as peer:
            for request in requests:
                method, path = request.replace("{id}", container).split(" ")
                for prefix in PREFIXES:
                    if (line := f"{method} {prefix}{path}") == OURS:
                        continue
                    peer.send(head(line) if method in ("GET", "HEAD") else request_with_body(line, {}))
                    answer = await peer.answer(of_head=method == "HEAD")
                    assert answer.status in (404, 405), line
                    assert method == "HEAD" or answer.problem in ("not-found", "method-not-allowed"), line
    assert (await target.until("box", "running"))["container_id"] == container


@pytest.mark.redteam(20)
async def test_a_process_cannot_be_started_in_a_running_container(target: ProxyUnderTest) -> None:
    await assert_unreachable(
        target,
        "POST /containers/{id}/exec",
        "POST /exec/{id}/start",
        "POST /exec/{id}/resize?h=1&w=1",
        "GET /exec/{id}/json",
    )


@pytest.mark.redteam(21)
async def test_files_of_containers_and_images_cannot_be_read_or_written(target: ProxyUnderTest) -> None:
    await assert_unreachable(
        target,
        "GET /containers/{id}/archive?path=/etc",
        "HEAD /containers/{id}/archive?path=/etc",
        "PUT /containers/{id}/archive?path=/",
        "GET /containers/{id}/export",
        "GET /containers/{id}/changes",
        "GET /images/doogie-test/toolbox/get",
        "GET /images/get?names=doogie-test/toolbox",
    )


@pytest.mark.redteam(22)
async def test_images_cannot_be_made(target: ProxyUnderTest) -> None:
    await assert_unreachable(
        target,
        "POST /build?remote=http://evil.example/Dockerfile",
        "POST /build/prune",
        "POST /commit?container={id}&repo=evil",
        "POST /images/load",
        "POST /images/create?fromImage=evil&tag=latest",
        "POST /images/create?fromSrc=-&repo=evil",
        "POST /images/doogie-test/toolbox/tag?repo=evil",
        "POST /images/doogie-test/toolbox/push",
        "DELETE /images/doogie-test/toolbox?force=1",
    )


@pytest.mark.redteam(23)
async def test_plugins_and_swarm_cannot_be_managed(target: ProxyUnderTest) -> None:
    await assert_unreachable(
        target,
        "POST /plugins/pull?remote=evil/plugin",
        "POST /plugins/evil/enable",
        "POST /plugins/create?name=evil",
        "GET /plugins",
        "POST /swarm/init",
        "POST /swarm/join",
        "GET /swarm/unlockkey",
        "POST /secrets/create",
        "GET /secrets",
        "POST /configs/create",
        "POST /services/create",
        "GET /services",
        "GET /nodes",
        "GET /tasks",
    )


@pytest.mark.redteam(24)
async def test_a_running_container_cannot_be_changed(target: ProxyUnderTest) -> None:
    await assert_unreachable(
        target,
        "POST /containers/{id}/update",
        "POST /containers/{id}/rename?name=evil",
        "POST /containers/{id}/pause",
        "POST /containers/{id}/unpause",
        "POST /containers/{id}/kill?signal=STOP",
        "POST /containers/{id}/restart",
        "POST /containers/{id}/resize?h=1&w=1",
        "DELETE /containers/{id}?force=1",
        "POST /networks/host/connect",
        "POST /volumes/create",
    )


@pytest.mark.redteam(25)
async def test_no_session_is_opened_and_http_2_is_not_spoken(target: ProxyUnderTest) -> None:
    await assert_unreachable(target, "POST /session", "POST /grpc", "POST /moby.buildkit.v1.Control/Solve")
    with target.recorder.silence():
        for path in ("/session", "/grpc", "/v1.41/session", "/healthz", "/v1/servers", "/v1/servers/box/stdio"):
            for headers in (
                ("Connection: Upgrade", "Upgrade: h2c"),
                ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"),
                ("Connection: Upgrade", "Upgrade: tcp"),
            ):
                answer = await answer_to(target, head(f"GET {path}", *headers))
                assert (answer.status, answer.problem) == (400, "bad-request"), path
                assert "Upgrade" not in answer.headers
        preface = await refusal_of(target, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9))
        assert (preface.status, preface.problem) == (400, "bad-request")


@pytest.mark.redteam(26)
async def test_nothing_can_be_pruned(target: ProxyUnderTest) -> None:
    await assert_unreachable(
        target,
        *(f"POST /{what}/prune" for what in ("containers", "images", "volumes", "networks", "build", "system")),
        "DELETE /volumes/any?force=1",
        "DELETE /networks/any",
    )


@pytest.mark.redteam(27)
async def test_the_engines_attach_cannot_be_reached_past_the_seat(target: ProxyUnderTest) -> None:
    await assert_unreachable(
        target,
        "POST /containers/{id}/attach?stream=1&stdin=1&stdout=1",
        "GET /containers/{id}/attach/ws?stream=1&stdin=1",
        "POST /containers/{id}/start",
        "POST /containers/{id}/wait",
    )
    with target.recorder.silence():
        for path in ("/containers/{id}/attach/ws", "/v1.41/containers/box/attach/ws", "/v1/servers/box/attach/ws"):
            answer = await answer_to(
                target,
                head(
                    f"GET {path}".replace("{id}", "box"),
                    "Connection: Upgrade",
                    "Upgrade: websocket",
                    "Sec-WebSocket-Version: 13",
                    "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==",
                ),
            )
            assert (answer.status, answer.problem) == (404, "not-found")
        hijack = head("POST /v1.41/containers/box/attach?stream=1&stdin=1", "Connection: Upgrade", "Upgrade: tcp")
        assert (await answer_to(target, hijack)).problem == "bad-request"


@pytest.mark.redteam(28)
async def test_no_environment_can_be_read_through_inspect_or_logs(target: ProxyUnderTest) -> None:
    await assert_unreachable(
        target,
        "GET /containers/json?all=1",
        "GET /containers/{id}/json?size=1",
        "GET /containers/{id}/logs?stdout=1&stderr=1",
        "GET /containers/{id}/top?ps_args=auxe",
        "GET /containers/{id}/stats",
        "GET /images/doogie-test/toolbox/json",
        "GET /images/doogie-test/toolbox/history",
        "GET /volumes",
        "GET /networks",
    )
    planted = "planted-value-of-greeting"
    await target.start("env", "sleep", env={"GREETING": planted})
    for path in ("/v1/servers", "/v1/servers/env", "/v1/servers/env/logs", "/v1/policy", "/openapi.json", "/readyz"):
        answer = await target.call("GET", path)
        assert answer.status == 200
        assert planted not in answer.text
        assert planted not in json.dumps(dict(answer.headers))


@pytest.mark.redteam(29)
async def test_what_else_the_engine_knows_cannot_be_read(target: ProxyUnderTest) -> None:
    await assert_unreachable(
        target,
        "GET /events",
        "GET /images/json",
        "GET /images/search?term=evil",
        "GET /info",
        "GET /version",
        "GET /_ping",
        "HEAD /_ping",
        "GET /system/df",
        "GET /distribution/busybox/json",
        "POST /auth",
    )
