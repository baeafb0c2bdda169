"""``GET /v1/events``: all there is, then what changes, to the caller alone, however slowly it reads."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from doogie_proxy.auth import hash_token
from tests.support.harness import (
    OTHER_TOKEN,
    TOKEN,
    ProxyUnderTest,
    policy_document,
    proxy_under_test,
    toolbox_rule,
)
from tests.support.registry import Registry, relay

MIB = 2**20


@dataclass(frozen=True)
class Event:
    id: int
    type: str
    data: Any


class Events:
    """An event stream, read as a browser's EventSource would."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self.comments = 0

    async def next(self) -> Event:
        async with asyncio.timeout(20):
            fields: dict[str, str] = {}
            while line := (await self.response.content.readline()).decode():
                if line.startswith(":"):
                    self.comments += 1
                elif line != "\n":
                    name, _, value = line.removesuffix("\n").partition(": ")
                    fields[name] = value
                elif fields:
                    return Event(int(fields["id"]), fields["event"], json.loads(fields["data"]))
            raise EOFError

    async def until(self, state: str, name: str = "box") -> list[dict[str, Any]]:
        """The statuses of a server up to the first in this state."""
        seen = []
        while True:
            event = await self.next()
            assert event.type == "server"
            if event.data["server"]["name"] == name:
                seen.append(event.data["server"])
                if seen[-1]["state"] == state:
                    return seen


@asynccontextmanager
async def events(proxy: ProxyUnderTest, token: str = TOKEN, **headers: str) -> AsyncIterator[Events]:
    headers["Authorization"] = f"Bearer {token}"
    async with proxy.http.get("http://proxy/v1/events", headers=headers) as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/event-stream"
        assert response.headers["Cache-Control"] == "no-store"
        yield Events(response)


def states(statuses: list[dict[str, Any]]) -> list[str]:
    """The states in order, each once."""
    listed = [status["state"] for status in statuses]
    return [state for number, state in enumerate(listed) if listed[number - 1 : number] != [state]]


async def test_snapshot_comes_first_then_every_state_of_a_life(proxy: ProxyUnderTest) -> None:
    await proxy.start("before", "sleep")
    async with events(proxy) as stream:
        first = await stream.next()
        assert (first.id, first.type) == (1, "snapshot")
        assert [server["name"] for server in first.data["servers"]] == ["before"]
        await proxy.start("box", "sleep")
        started = await stream.until("running")
        assert states(started) == ["pulling", "created", "running"]
        assert started[-1] == (await proxy.call("GET", "/v1/servers/box")).json
        async with proxy.stdio("box"):
            assert (await stream.until("running"))[-1]["stdio"]["attached"] is True
        assert (await stream.until("running"))[-1]["stdio"]["attached"] is False
        await proxy.stop("box")
        ended = await stream.until("absent")
        assert states(ended) == ["stopping", "exited", "absent"]
        (exited,) = [status["exit"] for status in ended if status["state"] == "exited"]
        assert exited["reason"] == "stopped"


async def test_death_of_a_server_is_told_with_how_it_ended(proxy: ProxyUnderTest) -> None:
    async with events(proxy) as stream:
        await stream.next()
        await proxy.start("box", "exit", "3")
        ended = (await stream.until("exited"))[-1]
        assert (ended["exit"]["code"], ended["exit"]["reason"]) == (3, "exited")
        assert 0 < ended["exit"]["duration_s"] < 60


async def test_nobody_hears_of_anothers_servers(proxy: ProxyUnderTest) -> None:
    await proxy.start("theirs", "sleep", token=OTHER_TOKEN)
    async with events(proxy) as stream:
        assert (await stream.next()).data == {"servers": []}
        await proxy.stop("theirs", token=OTHER_TOKEN)
        await proxy.start("box", "sleep")
        assert (await stream.next()).data["server"]["name"] == "box"


async def test_pull_is_told_layer_by_layer_and_not_too_often(own_registry: Registry, tmp_path: Path) -> None:
    async with relay(own_registry) as between:
        image = await own_registry.publish("tools/box", "1", sizes=[8 * MIB, MIB], via=between.address)
        rule = {"name": "r", "images": [image.pinned], "pull": "missing", "args": {"any": True}}
        async with proxy_under_test(tmp_path, policy_document(rule)) as proxy, events(proxy) as stream:
            await stream.next()
            between.limit(8 * MIB)
            body = {"image": image.repo, "args": ["cat"]}
            assert (await proxy.call("POST", "/v1/servers/box/start?wait=none", body)).status == 202
            told = await stream.until("running")
            pulls = [status["pull"] for status in told if status["pull"] is not None]
            assert {pull["image"] for pull in pulls} == {image.by_digest}
            layers = [layer for pull in pulls for layer in pull["layers"]]
            assert len({layer["id"] for layer in layers}) == 3
            assert {"downloading", "complete"} <= {layer["phase"] for layer in layers}
            largest = [layer for layer in layers if (layer["total_bytes"] or 0) > 4 * MIB]
            assert len({layer["current_bytes"] for layer in largest}) > 2
            assert 3 <= len(told) < 40, "a pull of two seconds"
            await proxy.stop("box")


async def test_start_that_fails_is_told_with_its_problem(own_registry: Registry, tmp_path: Path) -> None:
    image = await own_registry.publish("tools/box", "1")
    rule = {"name": "r", "images": [f"{image.repo}:2"], "allow_tags": True, "pull": "missing"}
    async with proxy_under_test(tmp_path, policy_document(rule)) as proxy, events(proxy) as stream:
        await stream.next()
        await proxy.call("POST", "/v1/servers/box/start?wait=none", {"image": image.repo})
        told = await stream.until("absent")
        assert told[-1]["problem"]["type"] == "urn:doogie:problem:image-unavailable"
        await proxy.stop("box")
        assert (await stream.until("absent"))[-1]["problem"] is None


async def test_whoever_comes_back_begins_with_a_snapshot(proxy: ProxyUnderTest) -> None:
    await proxy.start("box", "sleep")
    async with events(proxy, **{"Last-Event-ID": "41"}) as stream:
        event = await stream.next()
        assert (event.id, event.type, event.data["servers"][0]["state"]) == (1, "snapshot", "running")


async def test_slow_reader_gets_the_newest_state_and_is_told_how_much_it_missed(engine: str, tmp_path: Path) -> None:
    async with proxy_under_test(tmp_path, policy_document(toolbox_rule()), send_timeout_s=60) as proxy:
        await proxy.start("box", "sleep", env={"GREETING": "x"})
        reader, writer = await asyncio.open_unix_connection(str(proxy.socket), limit=2**16)
        try:
            head = f"GET /v1/events HTTP/1.1\r\nHost: proxy\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
            writer.write(head.encode())
            await reader.readuntil(b"event: snapshot")
            changes = proxy.api._servers.changes  # what nobody could bring about fast enough
            (waiting,) = changes._readers
            key = next(iter(proxy.api._servers._registry.servers))
            while not waiting._waiting["box"] > 1000:  # the stream is full: nobody takes this reader's news any more
                changes.tell(key)
                await asyncio.sleep(0)
            assert len(waiting._waiting) == 1
            await proxy.stop("box")
            skipped, text = 0, b""
            async with asyncio.timeout(20):
                while b'"state":"absent"' not in text:
                    text = await reader.readuntil(b"\n")
                    if text.startswith(b"data: "):
                        skipped = max(skipped, json.loads(text.removeprefix(b"data: ")).get("skipped", 0))
            assert skipped >= 1000
        finally:
            writer.close()


async def test_reader_that_missed_too_much_is_given_everything_anew(proxy: ProxyUnderTest) -> None:
    await proxy.start("box", "sleep")
    async with events(proxy) as stream:
        await stream.next()
        changes = proxy.api._servers.changes
        (key,) = proxy.api._servers._registry.servers
        for number in range(2000):
            changes.tell(key._replace(name=f"s{number}"))
        event = await stream.next()
        assert (event.type, [server["name"] for server in event.data["servers"]]) == ("snapshot", ["box"])


async def test_reader_that_takes_nothing_is_cut_off(engine: str, tmp_path: Path) -> None:
    async with proxy_under_test(tmp_path, policy_document(toolbox_rule()), send_timeout_s=0.5) as proxy:
        await proxy.start("box", "sleep")
        _, writer = await asyncio.open_unix_connection(str(proxy.socket))
        head = f"GET /v1/events HTTP/1.1\r\nHost: proxy\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
        writer.write(head.encode())
        changes = proxy.api._servers.changes
        key = next(iter(proxy.api._servers._registry.servers))
        async with asyncio.timeout(20):
            while not changes._readers:
                await asyncio.sleep(0.01)
            while changes._readers:
                changes.tell(key)
                await asyncio.sleep(0)
        writer.close()


async def test_sign_of_life_comes_when_nothing_happens(engine: str, tmp_path: Path) -> None:
    async with (
        proxy_under_test(tmp_path, policy_document(toolbox_rule()), heartbeat_s=0.1) as proxy,
        events(proxy) as stream,
    ):
        await stream.next()
        for _ in range(2):
            async with asyncio.timeout(20):
                assert await stream.response.content.readline() == b": alive\n"
                assert await stream.response.content.readline() == b"\n"


async def test_stream_ends_with_a_problem_when_its_token_is_revoked(proxy: ProxyUnderTest) -> None:
    async with events(proxy) as stream, events(proxy, token=OTHER_TOKEN) as others:
        for one in (stream, others):
            await one.next()
        document: Any = policy_document(toolbox_rule())
        document["clients"]["chat"]["token_sha256"] = [hash_token("another")]
        proxy.reload(document)
        event = await stream.next()
        assert (event.type, event.data["type"]) == ("problem", "urn:doogie:problem:unauthenticated")
        assert event.data["request_id"] == stream.response.headers["X-Request-Id"]
        assert await stream.response.content.read() == b""
        assert (await others.next()).type == "snapshot", "what a policy says of a server may have changed"
        proxy.reload(policy_document(toolbox_rule()))


async def test_stream_ends_with_a_problem_when_the_proxy_ends(engine: str, tmp_path: Path) -> None:
    async with aiohttp.ClientSession() as http:
        async with proxy_under_test(tmp_path, policy_document(toolbox_rule())) as proxy:
            response = await http.get(f"{proxy.tcp_url}/v1/events", headers={"Authorization": f"Bearer {TOKEN}"})
            stream = Events(response)
            await stream.next()
        event = await stream.next()
        assert (event.type, event.data["type"]) == ("problem", "urn:doogie:problem:shutting-down")
        assert await response.content.read() == b""
        response.release()
