"""The app within a larger one, which knows its users itself."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from doogie_client.web.api import Limits
from doogie_client.web.app import make_app
from doogie_client.web.users import Role, User
from tests.support.chat import SLEEPER, Chat, opened_backend
from tests.support.harness import ProxyUnderTest

SESSIONS = {"session-of-the-boss": User("the boss", Role.ADMIN), "session-of-eve": User("eve", Role.USER)}


async def by_session(request: web.Request) -> User | None:
    """What a backend with cookies would do."""
    return SESSIONS.get(request.cookies.get("session", ""))


@asynccontextmanager
async def larger_app(directory: Path, proxy: ProxyUnderTest) -> AsyncIterator[Chat]:
    async def own(_request: web.Request) -> web.Response:
        return web.Response(text="of the larger app", headers={"Server": "its own"})

    larger = web.Application(client_max_size=1024)
    larger.router.add_get("/own", own)
    async with opened_backend(directory, proxy.socket, f"sqlite:///{directory}/chat.db") as backend:
        larger.add_subapp("/doogie/", make_app(backend, by_session, allowed_hosts={"chat"}))
        runner = web.AppRunner(larger, shutdown_timeout=5)
        await runner.setup()
        socket = directory / "larger.sock"
        try:
            await web.UnixSite(runner, str(socket)).start()
            async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(socket))) as http:
                yield Chat(http, "http://chat/doogie")
        finally:
            await runner.cleanup()


async def test_it_serves_below_a_prefix_with_users_of_the_application_around_it(
    chat_proxy: ProxyUnderTest, tmp_path: Path
) -> None:
    boss, eve = {"Cookie": "session=session-of-the-boss"}, {"Cookie": "session=session-of-eve"}
    async with larger_app(tmp_path, chat_proxy) as chat:
        assert (await chat.call("GET", "./configs", token=None)).status == 401
        made = await chat.call("POST", "./configs", {"name": "x", **SLEEPER}, token=None, headers=boss)
        assert (made.status, made.json["user_id"]) == (200, "the boss")
        large = {"name": "large", **SLEEPER, "description": "x" * 1900}  # the larger app's own bound is below this
        assert (await chat.call("POST", "./configs", large, token=None, headers=boss)).status == 200
        assert (await chat.call("POST", "./configs", {"name": "y", **SLEEPER}, token=None, headers=eve)).status == 403
        assert (await chat.call("GET", f"./configs/{made.json['id']}", token=None, headers=eve)).status == 404
        page = await chat.call("GET", "./configs?limit=1", token=None, headers=boss)
        assert page.headers["Link"].startswith("</doogie/api/v1/mcp/configs?limit=1&cursor=")
        nothing = await chat.call("GET", "/nothing", token=None)
        assert (nothing.status, nothing.problem) == (404, "not-found")


async def test_a_page_of_another_site_cannot_use_a_browsers_cookie(chat_proxy: ProxyUnderTest, tmp_path: Path) -> None:
    boss = {"Cookie": "session=session-of-the-boss", "Origin": "https://evil.example"}
    async with larger_app(tmp_path, chat_proxy) as chat:
        for method, path in (("POST", "./configs"), ("GET", "./configs"), ("GET", "./events")):
            answer = await chat.call(method, path, token=None, headers=boss)
            assert (answer.status, answer.problem) == (403, "host-not-allowed")


async def test_the_application_around_it_stays_as_it_is(chat_proxy: ProxyUnderTest, tmp_path: Path) -> None:
    async with larger_app(tmp_path, chat_proxy) as chat, chat.http.get("http://any.name/own") as own:
        assert await own.text() == "of the larger app"
        assert own.headers["Server"] == "its own"
        assert "X-Request-Id" not in own.headers


@pytest.mark.parametrize("how", ["another role", "nobody", "raises"])
async def test_a_session_that_ends_ends_its_stream(chat_proxy: ProxyUnderTest, tmp_path: Path, how: str) -> None:
    eve = User("eve", Role.USER)
    now: list[str] = []

    async def authenticate(_request: web.Request) -> User | None:
        if now == ["raises"]:
            raise web.HTTPUnauthorized
        return {"another role": User("eve", Role.ADMIN), "nobody": None}[now[0]] if now else eve

    async with opened_backend(tmp_path, chat_proxy.socket, f"sqlite:///{tmp_path}/chat.db") as backend:
        runner = web.AppRunner(make_app(backend, authenticate, limits=Limits(heartbeat_s=0.1)), shutdown_timeout=5)
        await runner.setup()
        socket = str(tmp_path / "chat.sock")
        try:
            await web.UnixSite(runner, socket).start()
            async with (
                aiohttp.ClientSession(connector=aiohttp.UnixConnector(socket)) as http,
                Chat(http).events(token="s") as events,
            ):
                assert await events.next() == ("snapshot", {"configs": []})
                now.append(how)
                async with asyncio.timeout(10):
                    while await events.block() is not None:
                        pass
        finally:
            await runner.cleanup()
