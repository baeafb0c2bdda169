import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path

import pytest
from aiohttp import web

from doogie_client import (
    ImageUnavailable,
    InvalidName,
    PolicyDenied,
    ProblemResponse,
    ProtocolError,
    ProxyClient,
    ProxyUnavailable,
    StartRequest,
    StdioBusy,
)
from doogie_client.errors import PROBLEM_CLASSES
from doogie_contract.problems import ProblemType
from tests.unit.client.fake_proxy import TOKEN, FakeProxy

REQUEST = StartRequest(image="mcp/time", args=["--local-timezone=UTC"], env={"TZ": "UTC"})
RUNNING = {"name": "time", "state": "running", "of_a_newer_proxy": 1}
LIMITS = {
    "memory_bytes": 1, "cpus": 0.5, "pids": 1, "tmp_bytes": 1, "shm_bytes": 1, "nofile": 1, "max_message_bytes": 1,
    "buffer_bytes": 1, "replay": "none", "network": "none", "user": "1:1", "detached_ttl_s": 1, "max_age_s": 1,
    "stop_grace_s": 1, "keep_exited_s": 1,
}  # fmt: skip
ADMISSION = {"rule": "time", "image": "mcp/time@sha256:0", "args": [], "limits": LIMITS}


# --- requests as they go over the wire ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "answer", "method", "target", "body"),
    [
        (lambda c: c.start("time", REQUEST), RUNNING, "POST", "/v1/servers/time/start", REQUEST.model_dump()),
        (
            lambda c: c.start("time", REQUEST, wait=False),
            RUNNING,
            "POST",
            "/v1/servers/time/start?wait=none",
            REQUEST.model_dump(),
        ),
        (
            lambda c: c.admit("time", REQUEST),
            ADMISSION,
            "POST",
            "/v1/servers/time/start?dry_run=1",
            REQUEST.model_dump(),
        ),
        (lambda c: c.stop("time"), {"name": "time", "state": "absent"}, "POST", "/v1/servers/time/stop", {}),
        (
            lambda c: c.stop("time", grace_s=3),
            {"name": "time", "state": "absent"},
            "POST",
            "/v1/servers/time/stop",
            {"grace_s": 3},
        ),
        (lambda c: c.status("time"), RUNNING, "GET", "/v1/servers/time", None),
        (lambda c: c.list(), {"servers": [RUNNING]}, "GET", "/v1/servers", None),
        (lambda c: c.logs("time", tail=5), "text", "GET", "/v1/servers/time/logs?tail=5", None),
        (
            lambda c: c.ticket("time"),
            {"ticket": "t", "expires_at": "2026-11-01T00:00:00Z"},
            "POST",
            "/v1/servers/time/ticket",
            None,
        ),
        (lambda c: c.renew("time"), RUNNING, "POST", "/v1/servers/time/renew", None),
        (lambda c: c.policy(), {"client": "chat", "rules": []}, "GET", "/v1/policy", None),
    ],
)
async def test_each_call_sends_its_request(
    fake: FakeProxy,
    client: ProxyClient,
    call: Callable[[ProxyClient], Awaitable[object]],
    answer: object,
    method: str,
    target: str,
    body: object,
) -> None:
    fake.answer_json(answer)
    await call(client)
    (request,) = fake.requests
    assert (request.method, request.path_qs) == (method, target)
    assert request.headers["Authorization"] == f"Bearer {TOKEN}"
    if body is None:
        assert fake.bodies == [b""]
    else:
        assert request.content_type == "application/json"
        assert json.loads(fake.bodies[0]) == body


async def test_restart_asks_the_policy_before_it_stops_anything(fake: FakeProxy, client: ProxyClient) -> None:
    fake.answer_problem(ProblemType.POLICY_DENIED)
    with pytest.raises(PolicyDenied):
        await client.restart("time", REQUEST)
    assert [r.path_qs for r in fake.requests] == ["/v1/servers/time/start?dry_run=1"]


async def test_restart_is_admit_stop_start(fake: FakeProxy, client: ProxyClient) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.json_response(ADMISSION if "dry_run" in request.query else RUNNING)

    fake.handler = handler
    assert (await client.restart("time", REQUEST)).state == "running"
    assert [r.path_qs.rpartition("/")[2] for r in fake.requests] == ["start?dry_run=1", "stop", "start"]


@pytest.mark.parametrize("name", ["", "..", "a/b", "../policy", "Time", "time\n", "a?b", "a%2fb", "x" * 64, "-a", "é"])
async def test_a_bad_name_is_refused_before_anything_is_sent(fake: FakeProxy, client: ProxyClient, name: str) -> None:
    with pytest.raises(InvalidName, match="not a server name"):
        await client.status(name)
    with pytest.raises(ValueError, match="not a server name"):
        async with client.stdio(name):
            pass
    assert fake.requests == []


async def test_following_logs_yields_text_as_it_comes_and_never_half_a_character(
    fake: FakeProxy, client: ProxyClient
) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        for piece in (b"gr\xc3", b"\xbcn\n", b"\xff!"):
            await response.write(piece)
            await asyncio.sleep(0.01)
        return response

    fake.handler = handler
    async with aclosing(client.follow_logs("time", tail=3)) as pieces:
        text = "".join([piece async for piece in pieces])
    assert text == "grün\n�!"
    assert fake.requests[0].query == {"tail": "3", "follow": "1"}


async def test_a_log_stream_that_is_cut_is_not_taken_for_its_end(fake: FakeProxy, client: ProxyClient) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"some")
        assert request.transport is not None
        request.transport.close()
        return response

    fake.handler = handler
    with pytest.raises(ProxyUnavailable, match="lost"):
        async for _ in client.follow_logs("time"):
            pass


# --- answers that are errors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("type", ProblemType)
async def test_each_problem_raises_its_class_from_calls_and_from_attaching(
    fake: FakeProxy, client: ProxyClient, type: ProblemType
) -> None:
    fake.answer_problem(type)
    with pytest.raises(PROBLEM_CLASSES[type]) as caught:
        await client.start("time", REQUEST)
    assert caught.value.problem.request_id == "req-1"
    with pytest.raises(PROBLEM_CLASSES[type]) as caught:
        async with client.stdio("time"):
            pass
    assert caught.value.problem.errors[0].loc == "rules.time"


async def test_a_busy_stream_keeps_its_detail(fake: FakeProxy, client: ProxyClient) -> None:
    fake.answer_problem(ProblemType.STDIO_BUSY)
    with pytest.raises(StdioBusy, match="the detail"):
        async with client.stdio("time"):
            pass


@pytest.mark.parametrize(
    ("status", "content_type", "body"),
    [
        (200, "application/json", b"{not json"),
        (200, "application/json", b'{"name": "time"}'),
        (200, "text/html", b"<html>"),
        (200, "application/json", b""),
        (302, "text/html", b""),
        (502, "text/html", b"<html>Bad Gateway"),
        (500, "text/plain", b"500 Internal Server Error"),
        (403, "application/problem+json", b"{not json"),
        (403, "application/problem+json", b'{"type": "about:blank"}'),
    ],
)
async def test_an_answer_that_is_not_the_contract_is_a_protocol_error(
    fake: FakeProxy, client: ProxyClient, status: int, content_type: str, body: bytes
) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=status, content_type=content_type, body=body, headers={"Location": "/elsewhere"})

    fake.handler = handler
    with pytest.raises(ProtocolError):
        await client.status("time")
    assert len(fake.requests) == 1


async def test_a_server_that_opens_no_websocket_is_a_protocol_error(fake: FakeProxy, client: ProxyClient) -> None:
    fake.answer_json({})
    with pytest.raises(ProtocolError, match="did not open a WebSocket"):
        async with client.stdio("time"):
            pass


async def test_a_websocket_of_another_subprotocol_is_a_protocol_error(fake: FakeProxy, client: ProxyClient) -> None:
    async def handler(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.receive()
        return socket

    fake.handler = handler
    with pytest.raises(ProtocolError, match=r"does not speak v5\.channel\.k8s\.io"):
        async with client.stdio("time"):
            pass


# --- a proxy that is not there, or goes away --------------------------------------------------------------------------


async def test_a_missing_socket_says_so(tmp_path: Path) -> None:
    async with ProxyClient(f"unix://{tmp_path}/absent.sock", TOKEN) as client:
        with pytest.raises(ProxyUnavailable, match="there is no such socket"):
            await client.list()


async def test_a_path_too_long_for_a_socket_is_an_unreachable_proxy(tmp_path: Path) -> None:
    async with ProxyClient(f"unix://{tmp_path}/{'x' * 120}", TOKEN) as client:
        with pytest.raises(ProxyUnavailable):
            await client.list()


async def test_a_port_where_nothing_listens_says_so(unused_tcp_port: int) -> None:
    async with ProxyClient(f"http://127.0.0.1:{unused_tcp_port}", TOKEN) as client:
        with pytest.raises(ProxyUnavailable, match="nothing listens there"):
            await client.list()


async def test_a_silent_proxy_times_out(fake: FakeProxy) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(60)
        raise NotImplementedError

    fake.handler = handler
    async with ProxyClient(fake.url, TOKEN, timeout_s=0.1) as client:
        with pytest.raises(ProxyUnavailable, match="in time"):
            await client.status("time")
        with pytest.raises(ProxyUnavailable, match="in time"):
            async with client.stdio("time"):
                pass


def cut_connection(fake: FakeProxy, *, times: int) -> None:
    """A proxy that reads this many requests on a reused connection and hangs up on them; then it answers."""
    answered = 0

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal answered
        if answered and len(fake.requests) <= 1 + times:
            assert request.transport is not None
            request.transport.abort()
        answered += 1
        return web.json_response(RUNNING)

    fake.handler = handler


async def test_a_get_on_a_reused_connection_that_died_is_sent_once_more(fake: FakeProxy, client: ProxyClient) -> None:
    cut_connection(fake, times=1)
    await client.status("time")
    assert (await client.status("time")).state == "running"
    assert len(fake.requests) == 3


async def test_a_get_is_not_sent_a_third_time(fake: FakeProxy, client: ProxyClient) -> None:
    cut_connection(fake, times=2)
    await client.status("time")
    with pytest.raises(ProxyUnavailable):
        await client.status("time")
    assert len(fake.requests) == 3


async def test_a_start_whose_connection_died_is_never_sent_again(fake: FakeProxy, client: ProxyClient) -> None:
    cut_connection(fake, times=1)
    await client.status("time")
    with pytest.raises(ProxyUnavailable):
        await client.start("time", REQUEST)
    assert len(fake.requests) == 2


async def test_more_than_a_hundred_connections_at_once_do_not_wait_for_each_other(
    fake: FakeProxy, client: ProxyClient
) -> None:
    everyone = asyncio.Barrier(150)

    async def handler(request: web.Request) -> web.Response:
        await everyone.wait()
        return web.json_response(RUNNING)

    fake.handler = handler
    await asyncio.gather(*(client.status("time") for _ in range(150)))


# --- how a client is made ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "unix:relative.sock",
        "unix://host/path.sock",
        "unix://",
        "http://127.0.0.1:1/v1",
        "http://user@127.0.0.1:1",
        "http://proxy:8080",
        "https://",
        "https://proxy:8443/v1",
        "https://user@proxy:8443",
        "http://192.0.2.1:8080",
        "tcp://127.0.0.1:1",
        "/run/doogie/proxy.sock",
        "",
    ],
)
def test_another_kind_of_url_is_refused_with_what_would_be_right(url: str) -> None:
    with pytest.raises(ValueError, match="expected unix:///"):
        ProxyClient(url, TOKEN)


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:1", "http://127.9.9.9:1/", "http://[::1]:1", "http://localhost:1", "https://proxy.example:8443"],
)
def test_urls_that_show_the_token_to_no_network_are_taken(url: str) -> None:
    assert repr(ProxyClient(url, TOKEN)) == f"ProxyClient({url!r})"


@pytest.mark.parametrize("token", ["", "two words", "line\r\nX-Header: 1", "é"])
def test_a_token_that_cannot_stand_in_a_header_is_refused_and_not_shown(token: str) -> None:
    with pytest.raises(ValueError, match="the token is empty or") as caught:
        ProxyClient("unix:///x", token)
    assert not token or token not in str(caught.value)


async def test_calls_outside_of_the_context_say_how_to_open_it() -> None:
    with pytest.raises(RuntimeError, match="async with ProxyClient"):
        await ProxyClient("unix:///x", TOKEN).list()


def test_the_environment_gives_url_and_token_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-file\n")
    environ = {
        "DOOGIE_PROXY_URL": "unix:///elsewhere.sock",
        "DOOGIE_PROXY_TOKEN_FILE": str(tmp_path / "token"),
        "DOOGIE_PROXY_TOKEN": "from-variable",
    }
    client = ProxyClient.from_env(environ)
    assert client.url == "unix:///elsewhere.sock"
    assert client._headers == {"Authorization": "Bearer from-file"}


def test_the_environment_has_defaults_for_the_url_but_not_for_the_token() -> None:
    assert ProxyClient.from_env({"DOOGIE_PROXY_TOKEN": "t"}).url == "unix:///run/doogie/proxy.sock"
    with pytest.raises(ValueError, match="DOOGIE_PROXY_TOKEN_FILE"):
        ProxyClient.from_env({})


async def test_the_token_is_in_no_error_and_no_repr(fake: FakeProxy, client: ProxyClient) -> None:
    fake.answer_problem(ProblemType.IMAGE_UNAVAILABLE)
    with pytest.raises(ImageUnavailable) as caught:
        await client.start("time", REQUEST)
    error: BaseException | None = caught.value
    assert isinstance(error, ProblemResponse)
    while error is not None:
        assert TOKEN not in f"{error!r} {error}"
        error = error.__cause__ or error.__context__
    assert TOKEN not in repr(client)
