"""What every HTTP request goes through: a request id, checks of its form, one log line, problems as RFC 9457.

request ──► guard ──► router ──► api.py
              └── every failure ──► problem+json; what the engine said goes to the log alone
"""

import asyncio
import json
import re
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn, TypeVar

import structlog
from aiohttp import hdrs, web
from pydantic import BaseModel, ValidationError

from doogie_contract.models import SERVER_NAME_PATTERN
from doogie_contract.problems import PROBLEM_CONTENT_TYPE, ProblemDetail, ProblemError, ProblemType
from doogie_proxy.connection import SERVED_VERSIONS, VERSION
from doogie_proxy.engine_failures import EngineFailure, EngineTimeout, EngineUnavailable, ImageNotPulled, NoSuchImage
from doogie_proxy.metrics import Metrics
from doogie_proxy.spec import ImageRefusedError

ModelT = TypeVar("ModelT", bound=BaseModel)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

REQUEST_ID = web.RequestKey("request_id", str)
CLIENT = web.RequestKey("client", str)
METRICS = web.AppKey("metrics", Metrics)
PROBLEM = web.RequestKey("problem", str)
ALLOWED_HOSTS = web.AppKey("allowed_hosts", frozenset[str])

MAX_JSON_DEPTH = 8

_PROBES = ("/healthz", "/readyz")  # asked every few seconds: logged at debug level
_ONCE = (hdrs.AUTHORIZATION, hdrs.CONTENT_ENCODING, hdrs.ORIGIN, hdrs.UPGRADE)  # aiohttp sees to the others
_PLAIN_PATH = re.compile(r"/[A-Za-z0-9_.~/-]*")
_HOST = re.compile(r"([a-z0-9.-]+|\[[0-9a-f:.]+\])(?::[0-9]+)?", re.IGNORECASE)
_JSON_CONTENT_TYPE = re.compile(r'application/json(?:\s*;\s*charset="?utf-8"?)?', re.IGNORECASE)
_SERVER_NAME = re.compile(SERVER_NAME_PATTERN.removesuffix("$"))

log = structlog.get_logger(__name__)


@web.middleware
async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give the request an id, check its form, answer every failure with a problem, and log one line."""
    request[REQUEST_ID] = uuid.uuid4().hex
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=request[REQUEST_ID])
    begun = time.monotonic()
    status = None
    try:
        response = await _handle(request, handler)
        status = response.status
        return response
    finally:
        note = log.debug if request.path in _PROBES else log.info
        note(
            "request",
            method=request.method,
            path=request.raw_path.partition("?")[0],  # the query may hold a ticket
            status=status,  # None: the client went away first
            client=request.get(CLIENT),
            problem=request.get(PROBLEM),
            duration_ms=round((time.monotonic() - begun) * 1000, 1),
        )


async def _handle(request: web.Request, handler: Handler) -> web.StreamResponse:
    headers: dict[str, str] = {}
    try:
        _check_version(request)
        _check_target(request)
        _check_headers(request)
        _check_origin(request)
        return await handler(request)
    except ProblemError as exc:
        problem = exc
        if problem.type is ProblemType.UNAUTHENTICATED:
            headers[hdrs.WWW_AUTHENTICATE] = "Bearer"
        if problem.retry_after_s is not None:
            headers[hdrs.RETRY_AFTER] = str(problem.retry_after_s)
    except web.HTTPException as exc:
        problem = _problem_of_http(exc, request)
        if hdrs.ALLOW in exc.headers:
            headers[hdrs.ALLOW] = exc.headers[hdrs.ALLOW]
    except (EngineFailure, ImageRefusedError) as exc:
        problem = problem_of_failure(exc)
        log.warning("engine_failure", error=str(exc))
    except ConnectionError:
        raise  # the client is gone: no one to answer, and no error of ours; aiohttp lets go of the connection
    except Exception as exc:
        problem = problem_of_failure(exc)
        log.exception("internal_error")
    request[PROBLEM] = problem.type.slug
    request.app[METRICS].problem(problem.type)
    return web.Response(
        status=problem.type.status,
        body=problem.to_problem(request[REQUEST_ID]).model_dump_json().encode(),
        content_type=PROBLEM_CONTENT_TYPE,
        headers=headers,
    )


async def finish_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Signal ``on_response_prepare``: every answer has its request's id, and says nothing about what serves."""
    response.headers["X-Request-Id"] = request[REQUEST_ID]
    response.headers.popall(hdrs.SERVER, None)


def problem_of_failure(exc: Exception) -> ProblemError:
    """What a client is told of a failure: never the engine's own words."""
    match exc:
        case ProblemError():
            return exc
        case ImageRefusedError():
            return ProblemError(ProblemType.POLICY_DENIED, str(exc))
        case NoSuchImage():
            detail = f"the image {exc.reference} is not on the engine: have the operator build or pull it"
            return ProblemError(ProblemType.IMAGE_UNAVAILABLE, detail)
        case ImageNotPulled():
            detail = f"the image {exc.reference} could not be pulled: {exc.reason}"
            return ProblemError(ProblemType.IMAGE_UNAVAILABLE, detail)
        case EngineUnavailable():
            return ProblemError(ProblemType.ENGINE_UNAVAILABLE, "the engine cannot be reached: try again later")
        case EngineTimeout():
            return ProblemError(ProblemType.ENGINE_TIMEOUT, "the engine did not answer in time: try again later")
        case EngineFailure():
            return ProblemError(
                ProblemType.ENGINE_ERROR, "the engine refused; the proxy's log says why under this request_id"
            )
        case _:
            return ProblemError(ProblemType.INTERNAL_ERROR, "please report it with the proxy's log of this request_id")


async def read_model(request: web.Request, model: type[ModelT], *, timeout_s: float) -> ModelT:
    """The request's body as ``model``: JSON, strictly.

    Raises:
        ProblemError: unsupported-media-type, body-too-large, request-timeout, invalid-request.
    """
    if not _JSON_CONTENT_TYPE.fullmatch(request.headers.get(hdrs.CONTENT_TYPE, "")):
        raise ProblemError(ProblemType.UNSUPPORTED_MEDIA_TYPE, "send Content-Type: application/json")
    if hdrs.CONTENT_ENCODING in request.headers:
        raise ProblemError(ProblemType.UNSUPPORTED_MEDIA_TYPE, "send the body without Content-Encoding")
    try:
        async with asyncio.timeout(timeout_s):
            body = await request.read()
    except TimeoutError:
        raise ProblemError(ProblemType.REQUEST_TIMEOUT, f"the body did not arrive within {timeout_s:g} s") from None
    try:
        return model.model_validate(parse_json(body), strict=True)
    except ValidationError as exc:
        errors = [
            ProblemDetail(loc=".".join(["body", *(str(part) for part in error["loc"])]), msg=_error_message(error))
            for error in exc.errors(include_url=False, include_context=False, include_input=False)
        ]
    except (ValueError, RecursionError) as exc:
        errors = [ProblemDetail(loc="body", msg=f"not JSON that is accepted here: {exc}")]
    raise ProblemError(ProblemType.INVALID_REQUEST, "the body is not valid: see errors", errors)


def parse_json(body: bytes) -> object:
    """RFC 8259 without its ambiguities: UTF-8, no duplicate names, no NaN, nothing deeper than ``MAX_JSON_DEPTH``.

    Raises:
        ValueError: anything else.
        RecursionError: far too deep.
    """
    value = json.loads(body.decode("utf-8"), object_pairs_hook=_unique_names, parse_constant=_refuse_constant)
    if _depth(value) > MAX_JSON_DEPTH:
        raise ValueError(f"nested deeper than {MAX_JSON_DEPTH}")
    return value


def server_name(request: web.Request) -> str:
    """The ``{name}`` of the path.

    Raises:
        ProblemError: invalid-request.
    """
    name = request.match_info["name"]
    if not _SERVER_NAME.fullmatch(name):
        raise invalid("path.name", f"must match {SERVER_NAME_PATTERN}")
    return name


def query_flags(request: web.Request, allowed: dict[str, str]) -> dict[str, str]:
    """The query's parameters, each given once and matching the pattern that ``allowed`` has for it.

    Raises:
        ProblemError: invalid-request.
    """
    for name in request.query:
        if name not in allowed:
            raise invalid("query", f"unknown parameter {name[:64]!r}; known: {', '.join(allowed) or 'none'}")
        values = request.query.getall(name)
        if len(values) > 1 or not re.fullmatch(allowed[name], values[0]):
            raise invalid(f"query.{name}", f"must be given once and match {allowed[name]}")
    return dict(request.query)


def invalid(loc: str, msg: str) -> ProblemError:
    """An invalid-request about one place."""
    return ProblemError(ProblemType.INVALID_REQUEST, f"{loc}: {msg}", [ProblemDetail(loc=loc, msg=msg)])


def _check_version(request: web.Request) -> None:
    if request.get(VERSION, request.version) not in SERVED_VERSIONS:
        raise ProblemError(ProblemType.BAD_REQUEST, "this is HTTP/1.1: end the request line with it")


def _check_target(request: web.Request) -> None:
    """Decide on the path as it was sent, so that nothing that normalises it can decide otherwise."""
    path = request.raw_path.partition("?")[0]
    if not _PLAIN_PATH.fullmatch(path):
        raise ProblemError(
            ProblemType.BAD_REQUEST,
            f"the target must be a plain path without percent-encoding; a server name matches {SERVER_NAME_PATTERN}",
        )


def _check_headers(request: web.Request) -> None:
    """Refuse headers of which it would depend on the reader which of them counts, and protocols other than ours."""
    for name in _ONCE:
        if len(request.headers.getall(name, ())) > 1:
            raise ProblemError(ProblemType.BAD_REQUEST, f"{name} is given twice")
    if request.headers.get(hdrs.UPGRADE, "websocket").lower() != "websocket":
        raise ProblemError(ProblemType.BAD_REQUEST, "websocket is the only protocol to upgrade to")


def _check_origin(request: web.Request) -> None:
    """On TCP, refuse names that a web page could have pointed at this address (DNS rebinding), and other sites."""
    transport = request.transport
    if transport is None or not isinstance(transport.get_extra_info("sockname"), tuple):
        return  # a unix socket: no browser reaches it
    host = request.headers.get(hdrs.HOST, "")
    if _name_of(host) not in request.app[ALLOWED_HOSTS]:
        raise ProblemError(ProblemType.HOST_NOT_ALLOWED, "Host is none of the names that the proxy answers to on TCP")
    origin = request.headers.get(hdrs.ORIGIN)
    if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
        raise ProblemError(ProblemType.HOST_NOT_ALLOWED, "Origin must be absent or this very host")


def _name_of(host: str) -> str | None:
    """The name in a ``Host``, without the port, in lower case; None if it has not that form."""
    match = _HOST.fullmatch(host)
    return match[1].lower() if match else None


def _problem_of_http(exc: web.HTTPException, request: web.Request) -> ProblemError:
    match exc.status:
        case 404:
            return ProblemError(ProblemType.NOT_FOUND, "no such path; /openapi.json lists them all")
        case 405:
            return ProblemError(ProblemType.METHOD_NOT_ALLOWED, f"{request.method[:16]} is not a method of this path")
        case 413:
            return ProblemError(ProblemType.BODY_TOO_LARGE, "the body is larger than this proxy accepts")
        case _:
            return ProblemError(ProblemType.BAD_REQUEST, "the request is not well-formed")


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name, value in pairs:
        if name in members:
            raise ValueError(f"the name {name[:64]!r} is given twice")
        members[name] = value
    return members


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _depth(value: object) -> int:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, children), default=0)


def _error_message(error: Any) -> str:
    message = str(error["msg"]).removeprefix("Value error, ")
    return "unknown field" if error["type"] == "extra_forbidden" else message
