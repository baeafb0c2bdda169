"""Server-sent events: a snapshot, then what changes, to those who may see it."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from doogie_client.service.sql.keys import KeyFile
from doogie_client.web.api import Limits
from tests.support.chat import ADMIN, ALICE, MCP, Chat, ChatHere, chat_under_test, users_document
from tests.support.harness import TOOLBOX, ProxyUnderTest, write_yaml

BEAT_S = 0.1


@asynccontextmanager
async def fast_beats(directory: Path, proxy: ProxyUnderTest) -> AsyncIterator[ChatHere]:
    async with chat_under_test(directory, proxy, limits=Limits(heartbeat_s=BEAT_S)) as chat:
        yield chat


async def test_a_stream_begins_with_all_that_the_caller_may_see(chat: Chat) -> None:
    private, shared = await chat.create("private"), await chat.create("shared", shared=True, env={"API_KEY": "planted"})
    for token, expected in ((ADMIN, [private, shared]), (ALICE, [shared])):
        async with chat.events(token=token) as events:
            found = await events.next()
            assert found is not None
            name, data = found
            assert name == "snapshot"
            assert [one["config"]["id"] for one in data["configs"]] == [one["id"] for one in expected]
            if token == ADMIN:
                assert [one["config"] for one in data["configs"]] == expected
            assert {one["status"] for one in data["configs"]} == {"stopped"}
            assert "planted" not in str(data)
            assert events.response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
            assert events.response.headers["Cache-Control"] == "no-store"


async def test_a_servers_life_is_told(chat: Chat) -> None:
    async with chat.events() as events:
        assert await events.next() == ("snapshot", {"configs": []})
        made = await chat.create("failing", args=["run", "-i", "--rm", TOOLBOX, "exit", "3"])
        assert (await events.until("config", made["id"]))["config"] == made
        await chat.call("POST", f"./configs/{made['id']}/start")
        running = await events.until("config", made["id"], status="running")
        assert len(running["container_id"]) == 64
        async with asyncio.timeout(30):
            while (await chat.call("GET", f"./configs/{made['id']}/status")).json["state"] != "exited":
                await asyncio.sleep(0.02)
        ended = await events.until("config", made["id"], status="error")
        assert "exited with code 3" in ended["error_message"]
        await chat.call("PUT", f"./configs/{made['id']}", {"name": "renamed"})
        while (await events.until("config", made["id"]))["config"]["name"] != "renamed":
            pass
        await chat.call("DELETE", f"./configs/{made['id']}")
        assert await events.until("deleted", made["id"]) == {"id": made["id"]}
        assert events.ids == list(range(1, len(events.ids) + 1))


async def test_users_are_told_of_what_they_may_see_alone(chat: Chat) -> None:
    private = await chat.create("private")
    async with chat.events(token=ALICE) as events:
        assert await events.next() == ("snapshot", {"configs": []})
        await chat.call("PUT", f"./configs/{private['id']}", {"description": "still private"})
        await chat.call("PUT", f"./configs/{private['id']}", {"shared": True})
        found = await events.next()
        assert found is not None
        name, data = found
        assert (name, data["config"]["shared"]) == ("config", True)
        await chat.call("PUT", f"./configs/{private['id']}", {"shared": False})
        assert await events.next() == ("deleted", {"id": private["id"]})
        await chat.call("DELETE", f"./configs/{private['id']}")
        sign = await chat.create("shared", shared=True)
        told = await events.next()
        assert told is not None
        assert (told[1]["config"]["id"], told[1]["config"]["args"]) == (sign["id"], ["***"])


async def test_a_stream_without_news_has_heartbeats(chat_proxy: ProxyUnderTest, tmp_path: Path) -> None:
    async with fast_beats(tmp_path, chat_proxy) as chat, chat.events() as events:
        assert await events.next() == ("snapshot", {"configs": []})
        for _ in range(3):
            while (block := await events.block()) != ":\n":
                assert block is not None


@pytest.mark.parametrize("busy", [False, True])
async def test_a_stream_ends_when_its_caller_is_no_longer_known(
    chat_proxy: ProxyUnderTest, tmp_path: Path, busy: bool
) -> None:
    async with fast_beats(tmp_path, chat_proxy) as chat, chat.events(token=ALICE) as events:
        assert await events.next() == ("snapshot", {"configs": []})
        made = await chat.create("shared", shared=True)
        document = users_document()
        del document["users"]["alice"]  # type: ignore[attr-defined]  # a mapping, whatever its values are
        write_yaml(tmp_path / "users.yaml", document)
        chat.users.reload()

        async def change() -> None:
            for number in range(1000):
                await chat.call("PUT", f"./configs/{made['id']}", {"description": str(number)})

        changing = asyncio.create_task(change() if busy else asyncio.sleep(0))
        try:
            async with asyncio.timeout(10):
                while await events.block() is not None:
                    pass
        finally:
            changing.cancel()
            await asyncio.wait([changing])


async def test_a_reader_that_does_not_read_is_cut_off(chat_proxy: ProxyUnderTest, tmp_path: Path) -> None:
    async with fast_beats(tmp_path, chat_proxy) as chat:
        made = await chat.create("server", description="x" * 2000)
        with socket.socket(socket.AF_UNIX) as lazy, capture_logs() as logs:
            lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            lazy.setblocking(False)
            await asyncio.get_running_loop().sock_connect(lazy, str(tmp_path / "chat.sock"))
            head = f"GET {MCP}/events HTTP/1.1\r\nHost: chat\r\nAuthorization: Bearer {ADMIN}\r\n\r\n"
            await asyncio.get_running_loop().sock_sendall(lazy, head.encode())

            def cut_off() -> bool:
                return any(log["event"] == "request" and log["path"].endswith("/events") for log in logs)

            async with asyncio.timeout(60):
                number = 0
                while not cut_off():
                    number += 1
                    await chat.call("PUT", f"./configs/{made['id']}", {"description": f"{number} " + "x" * 1900})


async def test_streams_end_when_the_app_does(chat_proxy: ProxyUnderTest, tmp_path: Path) -> None:
    async with chat_under_test(tmp_path, chat_proxy) as chat, chat.events() as events:
        assert await events.next() == ("snapshot", {"configs": []})
        shutting = asyncio.create_task(chat.shut_down())
        assert await events.next() is None
        await shutting


async def test_news_of_another_process_are_told_too(chat_proxy: ProxyUnderTest, tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path}/both.db"
    (tmp_path / "two").mkdir()
    KeyFile(tmp_path / "chat.key").create()
    (tmp_path / "two" / "chat.key").symlink_to(tmp_path / "chat.key")
    async with (
        chat_under_test(tmp_path, chat_proxy, database=database) as one,
        chat_under_test(tmp_path / "two", chat_proxy, database=database) as two,
        two.events() as events,
    ):
        assert await events.next() == ("snapshot", {"configs": []})
        made = await one.create("server")
        assert (await events.until("config", made["id"]))["config"] == made
