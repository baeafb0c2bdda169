"""What requests carry: JSON without what two readers could read differently, queries, If-Match, and their bounds."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import ClientResponse, ClientSession, web
from aiohttp.test_utils import TestServer, make_mocked_request
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from doogie_client.web.bodies import MAX_JSON_DEPTH, BodyLimits, parse_json, query, read_model, wanted_version
from doogie_client.web.guard import guard
from doogie_client.web.problems import Refusal

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=20
)


class Thing(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    count: int = 0


@given(value=values, ascii_only=st.booleans())
def test_what_was_written_is_read(value: object, ascii_only: bool) -> None:
    assert parse_json(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@given(st.binary() | st.text('[]{}":,0123456789eE.+-truefalsn\\ud8 ').map(str.encode))
def test_any_body_is_read_as_json_reads_it_or_refused(body: bytes) -> None:
    try:
        value = parse_json(body)
    except ValueError:
        return
    assert value == json.loads(body)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "Expecting value"),
        (b'{"a":1}x', "Extra data"),
        (b'{"a":1,"a":2}', "the name 'a' is given twice"),
        (b'{"a":{"b":1,"\\u0062":2}}', "the name 'b' is given twice"),
        (b"NaN", "NaN is not a JSON number"),
        (b"[-Infinity]", "-Infinity is not a JSON number"),
        (b"1e999", "too large for a double"),
        (b"9" * 401, "more than 400 digits"),
        (b"-" + b"9" * 5000, "more than 400 digits"),
        (b"\xef\xbb\xbf{}", "Expecting value|BOM"),
        (b'"\xff"', "can't decode"),
        ('{"a":1}'.encode("utf-16"), "can't decode"),
        (b"[" * (MAX_JSON_DEPTH + 1) + b"]" * (MAX_JSON_DEPTH + 1), "nested deeper than 64"),
    ],
)
def test_ambiguous_bodies_are_refused(body: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_json(body)


def test_a_body_as_deep_as_allowed_is_read() -> None:
    assert parse_json(b"[" * MAX_JSON_DEPTH + b"]" * MAX_JSON_DEPTH) is not None


def test_a_body_that_is_all_depth_is_refused_before_it_hurts() -> None:
    with pytest.raises((ValueError, RecursionError)):
        parse_json(b"[" * 500_000)


@asynccontextmanager
async def thing_server(limits: BodyLimits) -> AsyncIterator[Callable[..., Awaitable[ClientResponse]]]:
    async def handler(request: web.Request) -> web.Response:
        thing = await read_model(request, Thing, limits)
        return web.json_response(thing.model_dump())

    app = web.Application(middlewares=[guard])
    app.router.add_post("/", handler)
    async with TestServer(app) as server, ClientSession() as http:

        async def post(data: object, content_type: str | None = "application/json", **headers: str) -> ClientResponse:
            if content_type is not None:
                headers["Content-Type"] = content_type
            skip = ["Content-Type"] if content_type is None else []
            return await http.post(server.make_url("/"), data=data, headers=headers, skip_auto_headers=skip)

        yield post


async def test_a_body_becomes_its_model() -> None:
    async with thing_server(BodyLimits()) as post:
        answer = await post(b'{"name": "x", "count": 3}', "application/json; charset=utf-8")
        assert answer.status == 200
        assert await answer.json() == {"name": "x", "count": 3}


@pytest.mark.parametrize(
    "content_type",
    [None, "text/plain", "application/jsonp", "application/json; charset=latin-1", "application/json, text/plain"],
)
async def test_another_content_type_is_refused(content_type: str | None) -> None:
    async with thing_server(BodyLimits()) as post:
        answer = await post(b'{"name": "x"}', content_type)
        assert answer.status == 415
        assert (await answer.json())["type"] == "urn:doogie:problem:unsupported-media-type"


async def test_an_encoded_body_is_refused() -> None:
    async with thing_server(BodyLimits()) as post:
        answer = await post(b"x", **{"Content-Encoding": "gzip"})
        assert answer.status == 415


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        (b"{}", [{"loc": "body.name", "msg": "Field required"}]),
        (b'{"name": "x", "surplus": 1}', [{"loc": "body.surplus", "msg": "unknown field"}]),
        (b'{"name": 1}', [{"loc": "body.name", "msg": "Input should be a valid string"}]),
        (b'{"name": "x", "count": "3"}', [{"loc": "body.count", "msg": "Input should be a valid integer"}]),
        (
            b'{"name": "x", "name": "y"}',
            [{"loc": "body", "msg": "not JSON that is accepted here: the name 'name' is given twice"}],
        ),
        (b"[]", [{"loc": "body", "msg": "Input should be a valid dictionary or instance of Thing"}]),
    ],
)
async def test_each_fault_of_a_body_is_told_with_its_place(body: bytes, errors: list[dict[str, str]]) -> None:
    async with thing_server(BodyLimits()) as post:
        answer = await post(body)
        problem = await answer.json()
        assert (answer.status, answer.content_type) == (422, "application/problem+json")
        assert problem["type"] == "urn:doogie:problem:invalid-request"
        assert problem["errors"] == errors
        assert problem["request_id"] != ""


async def test_a_body_that_is_all_faults_is_answered_briefly() -> None:
    async with thing_server(BodyLimits()) as post:
        answer = await post(json.dumps({f"field{number}": 1 for number in range(10_000)}).encode())
        assert answer.status == 422
        assert len((await answer.json())["errors"]) == 50


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_above_the_bound_is_refused(chunked: bool) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b" " * 100

    async with thing_server(BodyLimits(max_bytes=2000)) as post:
        answer = await post(pieces() if chunked else b" " * 4000)
        assert answer.status == 413
        assert (await answer.json())["detail"] == "a body has at most 2000 bytes"


async def test_a_body_at_the_bound_is_taken() -> None:
    async with thing_server(BodyLimits(max_bytes=100)) as post:
        body = b'{"name": "x"}'
        assert (await post(body + b" " * (100 - len(body)))).status == 200
        assert (await post(body + b" " * (101 - len(body)))).status == 413


async def test_a_body_that_does_not_arrive_is_given_up() -> None:
    async def never() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    async with thing_server(BodyLimits(timeout_s=0.05)) as post:
        answer = await post(never())
        assert answer.status == 408


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("/?other=1", "unknown parameter 'other'; known: tail"),
        ("/?tail=1&tail=2", "query.tail: must be given once"),
        ("/?tail=x", "query.tail: must be given once and match [0-9]{1,5}"),
        ("/?tail=12%0a", "query.tail: must be given once and match [0-9]{1,5}"),
        ("/?tail=", "query.tail: must be given once and match [0-9]{1,5}"),
    ],
)
def test_a_query_that_is_not_known_is_refused(target: str, reason: str) -> None:
    with pytest.raises(Refusal) as caught:
        query(make_mocked_request("GET", target), {"tail": "[0-9]{1,5}"})
    assert reason in caught.value.detail


def test_a_query_that_is_known_is_read() -> None:
    assert query(make_mocked_request("GET", "/?tail=12"), {"tail": "[0-9]{1,5}"}) == {"tail": "12"}


@pytest.mark.parametrize(
    ("given", "version"), [(None, None), ("*", None), ('"3"', 3), ('"1", "3"', 3), ('W/"3", "3"', 3)]
)
def test_if_match_is_a_version(given: str | None, version: int | None) -> None:
    headers = {} if given is None else {"If-Match": given}
    assert wanted_version(make_mocked_request("PUT", "/", headers=headers), 3) == version


@pytest.mark.parametrize("given", ["3", 'W/"3"', '"a"', '"2", "4"', '""', '"03"', "", '"*'])
def test_another_if_match_does_not_match(given: str) -> None:
    with pytest.raises(Refusal, match="version-mismatch"):
        wanted_version(make_mocked_request("PUT", "/", headers={"If-Match": given}), 3)
