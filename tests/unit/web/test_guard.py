"""What every request goes through: its form, Host and Origin, one log line, and a problem for whatever fails."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import ClientConnectionResetError, web
from aiohttp.test_utils import TestServer, make_mocked_request
from structlog.testing import capture_logs
from yarl import URL

from doogie_client.errors import ProxyUnavailable
from doogie_client.web.connection import Connection
from doogie_client.web.guard import ALLOWED_HOSTS, USER, Handler, finish_headers, guard
from doogie_client.web.problems import Refusal
from doogie_client.web.users import Role, User
from doogie_contract.problems import ProblemType

SECRET = "planted-secret-of-the-guard"


async def well(request: web.Request) -> web.Response:
    request[USER] = User("alice", Role.ADMIN)
    return web.Response(text="well")


def app_of(
    handler: Handler = well, allowed: frozenset[str] | None = frozenset({"chat.example", "[::1]"})
) -> web.Application:
    app = web.Application(middlewares=[guard])
    if allowed is not None:
        app[ALLOWED_HOSTS] = allowed
    app.router.add_get("/thing", handler)
    app.router.add_get("/healthz", handler)
    app.on_response_prepare.append(finish_headers)
    return app


@asynccontextmanager
async def asked(
    app: web.Application, path: str = "/thing", *, method: str = "GET", headers: Mapping[str, str] | None = None
) -> AsyncIterator[aiohttp.ClientResponse]:
    sent = {"Host": "chat.example", **(headers or {})}
    async with TestServer(app) as server, aiohttp.ClientSession() as http:
        url = URL(f"{server.make_url('/')}".rstrip("/") + path, encoded=True)
        async with http.request(method, url, headers=sent) as answer:
            yield answer


async def problem_of(answer: aiohttp.ClientResponse) -> str:
    assert answer.content_type == "application/problem+json"
    body = await answer.json()
    assert body["status"] == answer.status
    assert body["request_id"] == answer.headers["X-Request-Id"]
    return str(body["type"]).removeprefix("urn:doogie:problem:")


async def test_an_answer_has_an_id_and_says_nothing_about_what_serves() -> None:
    async with asked(app_of()) as answer:
        assert await answer.text() == "well"
        assert len(answer.headers["X-Request-Id"]) == 32
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "Server" not in answer.headers
        assert not any(name.lower().startswith("access-control") for name in answer.headers)


@pytest.mark.parametrize("path", ["/th%69ng", "/thing%2f..", "/thing;x=1", "/thing%00", "/thing/%2e%2e/x", "/th'ing"])
async def test_a_target_that_is_not_plain_is_refused(path: str) -> None:
    async with asked(app_of(), path) as answer:
        assert (answer.status, await problem_of(answer)) == (400, "bad-request")


@pytest.mark.parametrize("path", ["/", "/things", "/thing/", "//thing", "/thing/..", "/../thing", "/THING"])
async def test_another_path_is_not_found(path: str) -> None:
    async with asked(app_of(), path) as answer:
        assert (answer.status, await problem_of(answer)) == (404, "not-found")


async def test_another_method_is_refused_and_told_which_there_are() -> None:
    async with asked(app_of(), method="POST") as answer:
        assert (answer.status, await problem_of(answer)) == (405, "method-not-allowed")
        assert answer.headers["Allow"] == "GET,HEAD"


async def test_a_preflight_gets_no_permission() -> None:
    headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "GET"}
    async with asked(app_of(), method="OPTIONS", headers=headers) as answer:
        assert answer.status == 403
        assert not any(name.lower().startswith("access-control") for name in answer.headers)


@pytest.mark.parametrize("host", ["chat.example", "CHAT.example:8443", "[::1]:80"])
async def test_a_name_the_app_is_reached_by_is_served(host: str) -> None:
    async with asked(app_of(), headers={"Host": host}) as answer:
        assert answer.status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "", "chat.example.evil.example", "chat.example@evil.example", "chat.example:x"]
)
async def test_another_name_is_refused(host: str) -> None:
    async with asked(app_of(), headers={"Host": host}) as answer:
        assert (answer.status, await problem_of(answer)) == (403, "host-not-allowed")


@pytest.mark.parametrize("origin", ["https://chat.example", "http://chat.example:8080", "http://[::1]"])
async def test_a_page_of_our_own_may_ask(origin: str) -> None:
    async with asked(app_of(), headers={"Origin": origin}) as answer:
        assert answer.status == 200


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "https://chat.example.evil.example", "ftp://chat.example", ""]
)
async def test_a_page_of_another_site_is_refused(origin: str) -> None:
    async with asked(app_of(), headers={"Origin": origin}) as answer:
        assert (answer.status, await problem_of(answer)) == (403, "host-not-allowed")


async def test_without_names_the_application_around_it_looks_at_them() -> None:
    headers = {"Host": "anything.example", "Origin": "https://other.example"}
    async with asked(app_of(allowed=None), headers=headers) as answer:
        assert answer.status == 200


async def test_on_a_unix_socket_any_host_is_served_and_other_sites_are_refused(tmp_path: Path) -> None:
    runner = web.AppRunner(app_of())
    await runner.setup()
    path = str(tmp_path / "chat.sock")
    await web.UnixSite(runner, path).start()
    try:
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(path)) as http:
            async with http.get("http://behind-nginx/thing") as answer:
                assert answer.status == 200
            async with http.get("http://behind-nginx/thing", headers={"Origin": "http://behind-nginx"}) as answer:
                assert answer.status == 200
            async with http.get("http://behind-nginx/thing", headers={"Origin": "https://evil.example"}) as answer:
                assert answer.status == 403
    finally:
        await runner.cleanup()


async def test_a_request_is_one_line_of_the_log_without_its_query() -> None:
    with capture_logs() as logs:
        async with asked(app_of(), f"/thing?token={SECRET}", headers={"Authorization": f"Bearer {SECRET}"}):
            pass
    [line] = [entry for entry in logs if entry["event"] == "request"]
    assert {name: line[name] for name in ("method", "path", "status", "user", "role", "problem", "log_level")} == {
        "method": "GET", "path": "/thing", "status": 200, "user": "alice", "role": "admin", "problem": None,
        "log_level": "info",
    }  # fmt: skip
    assert SECRET not in str(logs)


async def test_probes_are_logged_at_debug_level() -> None:
    with capture_logs() as logs:
        async with asked(app_of(), "/healthz"):
            pass
    assert [entry["log_level"] for entry in logs] == ["debug"]


def failing(exc: BaseException) -> Handler:
    async def handler(_request: web.Request) -> web.Response:
        raise exc

    return handler


async def test_a_defect_is_told_without_its_particulars() -> None:
    with capture_logs() as logs:
        async with asked(app_of(failing(RuntimeError(SECRET)))) as answer:
            assert (answer.status, await problem_of(answer)) == (500, "internal-error")
            assert SECRET not in await answer.text()
    assert [entry["event"] for entry in logs] == ["internal_error", "request"]
    assert logs[1]["problem"] == "internal-error"


async def test_a_failure_behind_the_app_is_logged_with_its_reason_and_told_as_its_problem() -> None:
    with capture_logs() as logs:
        async with asked(app_of(failing(ProxyUnavailable("no such socket: /run/doogie/proxy.sock")))) as answer:
            assert (answer.status, await problem_of(answer)) == (503, "proxy-unavailable")
            assert "/run/doogie" not in await answer.text()
    assert logs[0]["error"] == "ProxyUnavailable: no such socket: /run/doogie/proxy.sock"


@pytest.mark.parametrize(
    ("exc", "problem"),
    [
        (web.HTTPUnauthorized(), "unauthenticated"),
        (web.HTTPForbidden(), "forbidden"),
        (web.HTTPFound("/login"), "bad-request"),
    ],
)
async def test_what_the_authentication_around_it_raises_becomes_a_problem(exc: web.HTTPException, problem: str) -> None:
    async with asked(app_of(failing(exc))) as answer:
        assert await problem_of(answer) == problem


async def test_a_refusal_says_who_is_asked_and_when_to_come_again() -> None:
    refusal = Refusal(ProblemType.UNAUTHENTICATED, "who?", retry_after_s=3)
    async with asked(app_of(failing(refusal))) as answer:
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert answer.headers["Retry-After"] == "3"


async def test_a_caller_that_goes_away_before_its_answer_is_no_defect() -> None:
    request = make_mocked_request("GET", "/thing", headers={"Host": "chat.example"}, app=app_of())
    with capture_logs() as logs, pytest.raises(ConnectionResetError):
        await guard(request, failing(ClientConnectionResetError("Cannot write to closing transport")))
    assert [(log["event"], log["status"]) for log in logs] == [("request", None)]


async def test_a_log_context_of_the_application_around_it_is_kept() -> None:
    import structlog

    with structlog.contextvars.bound_contextvars(tenant="a"):
        request = make_mocked_request("GET", "/thing", headers={"Host": "chat.example"}, app=app_of())
        await guard(request, well)
        assert structlog.contextvars.get_contextvars() == {"tenant": "a"}


# ── what is no HTTP at all ───────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def raw_server() -> AsyncIterator[Callable[[bytes], "asyncio.Future[bytes]"]]:
    runner = web.AppRunner(app_of())
    await runner.setup()
    assert runner.server is not None
    manager = runner.server
    listening = socket.create_server(("127.0.0.1", 0))
    server = await asyncio.get_running_loop().create_server(lambda: Connection(manager, 0.2), sock=listening)

    async def exchange(sent: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(*listening.getsockname())
        writer.write(sent)
        async with asyncio.timeout(10):
            answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer

    try:
        yield lambda sent: asyncio.ensure_future(exchange(sent))
    finally:
        server.close()
        await runner.cleanup()


LINE = b"GET /thing HTTP/1.1\r\nHost: chat.example\r\n"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (LINE + b"Content-Length: x\r\n\r\n", b"400"),
        (LINE + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", b"400"),
        (LINE + b"X: " + b"a" * 20_000 + b"\r\n\r\n", b"431"),
        (LINE + b"X: a\r\n" * 200 + b"\r\n", b"431"),
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n", b"431"),
    ],
)
async def test_what_is_no_request_is_answered_as_plain_as_the_rest(sent: bytes, status: bytes) -> None:
    with capture_logs() as logs:
        async with raw_server() as exchange:
            answer = await exchange(sent)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.split()[1] == status
    assert b"application/problem+json" in head
    assert b"Server:" not in head
    assert b"urn:doogie:problem:" in body
    assert [entry["event"] for entry in logs] == ["malformed_request"]


@pytest.mark.parametrize("header", ["Authorization", "Content-Type", "Content-Encoding", "Origin"])
async def test_a_header_that_two_readers_read_differently_is_refused(header: str) -> None:
    async with raw_server() as exchange:
        answer = await exchange(LINE + f"{header}: a\r\n{header}: b\r\nConnection: close\r\n\r\n".encode())
    assert answer.split()[1] == b"400"
    assert b"urn:doogie:problem:bad-request" in answer


async def test_a_head_that_is_never_whole_is_given_up() -> None:
    async with raw_server() as exchange:
        assert await exchange(b"GET /thing HTTP/1.1\r\nHost:") == b""
