"""``ProxyClient.events`` against the fake proxy: what comes, how it ends, and how it goes on."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing

import pytest
from aiohttp import web

from doogie_client import (
    ImageUnavailable,
    ProtocolError,
    ProxyClient,
    ProxyUnavailable,
    ServerEvent,
    ServerList,
    ServerState,
    ShuttingDown,
    StartRequest,
    Unauthenticated,
)
from doogie_contract.problems import ProblemType
from tests.unit.client.fake_proxy import TOKEN, FakeProxy, problem

Talk = Callable[[web.StreamResponse], Awaitable[None]]
REQUEST = StartRequest(image="mcp/time")


def sse(event: str, data: object) -> bytes:
    return f"id: 1\nevent: {event}\ndata: {json.dumps(data)}\n\n".encode()


def server(name: str, state: str) -> dict[str, object]:
    return {"server": {"name": name, "state": state}, "skipped": 2}


def answer_streams(fake: FakeProxy, *talks: Talk) -> None:
    """Each connection gets the next of these, and the last one again and again."""
    left = list(talks)

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await (left.pop(0) if len(left) > 1 else left[0])(response)
        await response.write_eof()
        return response

    fake.handler = handler


@pytest.fixture
async def client(fake: FakeProxy) -> AsyncIterator[ProxyClient]:
    async with ProxyClient(fake.url, TOKEN, timeout_s=2) as opened:
        yield opened


async def test_events_come_as_wire_models_and_comments_do_not(fake: FakeProxy, client: ProxyClient) -> None:
    async def talk(response: web.StreamResponse) -> None:
        await response.write(sse("snapshot", {"servers": [{"name": "a", "state": "running"}]}) + b": alive\n\n")
        await response.write(b"id: 2\nevent: ser")  # cut anywhere
        await response.write(b"ver\ndata: " + json.dumps(server("a", "exited")).encode() + b"\n\n")
        await response.write(sse("of_a_newer_proxy", {}) + sse("server", server("a", "absent")))
        await asyncio.Event().wait()

    answer_streams(fake, talk)
    async with asyncio.timeout(20), aclosing(client.events()) as events:
        first, second, third = [await anext(events) for _ in range(3)]
    assert isinstance(first, ServerList)
    assert first.servers[0].state is ServerState.RUNNING
    assert isinstance(second, ServerEvent)
    assert isinstance(third, ServerEvent)
    assert (second.server.state, second.skipped, third.server.state) == (ServerState.EXITED, 2, ServerState.ABSENT)


@pytest.mark.parametrize("problem_type", [None, ProblemType.SHUTTING_DOWN])
async def test_stream_that_is_lost_or_ended_by_a_restart_is_opened_anew(
    fake: FakeProxy, client: ProxyClient, problem_type: ProblemType | None
) -> None:
    async def first(response: web.StreamResponse) -> None:
        await response.write(sse("snapshot", {"servers": []}))
        if problem_type is not None:
            await response.write(sse("problem", problem(problem_type)))

    async def second(response: web.StreamResponse) -> None:
        await response.write(sse("snapshot", {"servers": [{"name": "a", "state": "running"}]}))
        await asyncio.Event().wait()

    answer_streams(fake, first, second)
    async with asyncio.timeout(20), aclosing(client.events()) as events:
        sizes = [len(event.servers) async for event in take(events, 2) if isinstance(event, ServerList)]
    assert sizes == [0, 1]


async def take(events: AsyncIterator[ServerList | ServerEvent], count: int) -> AsyncIterator[ServerList | ServerEvent]:
    for _ in range(count):
        yield await anext(events)


async def test_stream_of_a_token_that_is_revoked_ends(fake: FakeProxy, client: ProxyClient) -> None:
    async def talk(response: web.StreamResponse) -> None:
        await response.write(sse("snapshot", {"servers": []}) + sse("problem", problem(ProblemType.UNAUTHENTICATED)))

    answer_streams(fake, talk)
    async with aclosing(client.events()) as events:
        await anext(events)
        with pytest.raises(Unauthenticated):
            await anext(events)
    assert len(fake.requests) == 1


async def test_stream_that_stays_away_is_given_up_after_the_timeout(fake: FakeProxy) -> None:
    async def talk(response: web.StreamResponse) -> None:
        await response.write(sse("snapshot", {"servers": []}))

    answer_streams(fake, talk)
    async with ProxyClient(fake.url, TOKEN, timeout_s=0.5) as client, aclosing(client.events()) as events:
        await anext(events)
        fake.answer_problem(ProblemType.SHUTTING_DOWN)
        with pytest.raises(ShuttingDown):
            await anext(events)
    assert len(fake.requests) > 2


async def test_stream_without_a_sign_of_life_is_taken_for_lost(fake: FakeProxy) -> None:
    async def mute(response: web.StreamResponse) -> None:
        await response.write(sse("snapshot", {"servers": []}))
        await asyncio.Event().wait()

    answer_streams(fake, mute)
    async with (
        asyncio.timeout(20),
        ProxyClient(fake.url, TOKEN, timeout_s=0.2) as client,
        aclosing(client.events()) as events,
    ):
        await anext(events)
        await anext(events)
    assert len(fake.requests) == 2


async def test_first_connection_that_fails_is_told_at_once(fake: FakeProxy, client: ProxyClient) -> None:
    fake.answer_problem(ProblemType.UNAUTHENTICATED)
    with pytest.raises(Unauthenticated):
        await anext(client.events())
    async with ProxyClient("unix:///nonexistent.sock", TOKEN) as nobody:
        with pytest.raises(ProxyUnavailable):
            await anext(nobody.events())


async def test_what_no_proxy_sends_is_a_protocol_error(fake: FakeProxy, client: ProxyClient) -> None:
    async def talk(response: web.StreamResponse) -> None:
        await response.write(b"event: snapshot\ndata: {}\n\n")

    answer_streams(fake, talk)
    with pytest.raises(ProtocolError):
        await anext(client.events())


async def test_start_waits_as_long_as_its_image_is_pulled(fake: FakeProxy) -> None:
    states = iter(["pulling", "pulling", "running"])
    starts = 0

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal starts
        if request.method == "GET":
            return web.json_response({"name": "time", "state": next(states)})
        starts += 1
        if starts < 4:
            await asyncio.Event().wait()
        return web.json_response({"name": "time", "state": "running"})

    fake.handler = handler
    async with ProxyClient(fake.url, TOKEN, timeout_s=0.2) as client:
        assert (await client.start("time", REQUEST)).state is ServerState.RUNNING
    assert starts == 4


@pytest.mark.parametrize("status", [404, 200])
async def test_start_that_is_not_answered_and_not_under_way_is_given_up(fake: FakeProxy, status: int) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        if request.method == "POST":
            await asyncio.Event().wait()
        if status == 404:
            body = json.dumps(problem(ProblemType.NOT_FOUND))
            return web.Response(text=body, status=404, content_type="application/problem+json")
        return web.json_response({"name": "time", "state": "absent"})

    fake.handler = handler
    async with ProxyClient(fake.url, TOKEN, timeout_s=0.2) as client:
        with pytest.raises(ProxyUnavailable, match="did not answer in time"):
            await client.start("time", REQUEST)


async def test_start_whose_image_is_not_to_be_had_says_so(fake: FakeProxy, client: ProxyClient) -> None:
    fake.answer_problem(ProblemType.IMAGE_UNAVAILABLE)
    with pytest.raises(ImageUnavailable):
        await client.start("time", REQUEST)
