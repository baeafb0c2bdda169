"""What requests carry, parsed at the edge: JSON bodies, query parameters, ``If-Match``."""

import asyncio
import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn, TypeVar

from aiohttp import hdrs, web
from aiohttp.helpers import ETAG_ANY
from pydantic import BaseModel, ValidationError

from doogie_client.web.problems import ChatProblem, Refusal, invalid
from doogie_contract.problems import ProblemDetail, ProblemType

MAX_JSON_DEPTH = 64
"""Arguments of tools may be deep; what is far deeper is made to hurt."""
MAX_FAULTS = 50
"""Of one body that are told: one of a million unknown fields is not answered with a million of them."""
MAX_NUMBER_CHARS = 400
"""Enough for every float; Python takes quadratic time for an integer's digits."""

ModelT = TypeVar("ModelT", bound=BaseModel)

_JSON_CONTENT_TYPE = re.compile(r'application/json(?:\s*;\s*charset="?utf-8"?)?', re.IGNORECASE)


class BodyLimits(NamedTuple):
    """Of one request's body."""

    max_bytes: int = 1_048_576
    timeout_s: float = 10.0


async def read_json(request: web.Request, limits: BodyLimits) -> object:
    """The request's body as plain data.

    Raises:
        Refusal: unsupported-media-type, body-too-large, request-timeout, invalid-request.
    """
    if not _JSON_CONTENT_TYPE.fullmatch(request.headers.get(hdrs.CONTENT_TYPE, "")):
        raise Refusal(ProblemType.UNSUPPORTED_MEDIA_TYPE, "send Content-Type: application/json")
    if hdrs.CONTENT_ENCODING in request.headers:
        raise Refusal(ProblemType.UNSUPPORTED_MEDIA_TYPE, "send the body without Content-Encoding")
    body = bytearray()
    try:
        async with asyncio.timeout(limits.timeout_s):
            # Not request.read(): the bound would be that of the application that embeds this one.
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > limits.max_bytes:
                    raise Refusal(ProblemType.BODY_TOO_LARGE, f"a body has at most {limits.max_bytes} bytes")
    except TimeoutError:
        detail = f"the body did not arrive within {limits.timeout_s:g} s"
        raise Refusal(ProblemType.REQUEST_TIMEOUT, detail) from None
    try:
        return parse_json(bytes(body))
    except (ValueError, RecursionError) as exc:
        fault = ProblemDetail(loc="body", msg=f"not JSON that is accepted here: {exc}")
    raise Refusal(ProblemType.INVALID_REQUEST, "the body is not valid JSON: see errors", [fault])


async def read_model(request: web.Request, model: type[ModelT], limits: BodyLimits) -> ModelT:
    """The request's body as ``model``, strictly. Raises ``Refusal`` as ``read_json`` does."""
    body = await read_json(request, limits)
    try:
        return model.model_validate(body, strict=True)
    except ValidationError as exc:
        faults = [
            ProblemDetail(loc=".".join(["body", *(str(part) for part in error["loc"])]), msg=_message(error))
            for error in exc.errors(include_url=False, include_context=False, include_input=False)[:MAX_FAULTS]
        ]
    raise Refusal(ProblemType.INVALID_REQUEST, "; ".join(f"{fault.loc}: {fault.msg}" for fault in faults[:5]), faults)


def parse_json(body: bytes) -> object:
    """RFC 8259 without its ambiguities: UTF-8, no duplicate names, no NaN, nothing deeper than ``MAX_JSON_DEPTH``.

    Raises:
        ValueError: anything else.
        RecursionError: far too deep.
    """
    value: object = json.loads(
        body.decode("utf-8"),
        object_pairs_hook=_unique_names,
        parse_constant=_refuse_constant,
        parse_int=_bounded_int,
        parse_float=_finite_float,
    )
    if _depth(value) > MAX_JSON_DEPTH:
        raise ValueError(f"nested deeper than {MAX_JSON_DEPTH}")
    return value


def query(request: web.Request, allowed: Mapping[str, str]) -> dict[str, str]:
    """The query's parameters, each given once and matching the pattern that ``allowed`` has for it.

    Raises:
        Refusal: invalid-request.
    """
    for name in request.query:
        if name not in allowed:
            raise invalid("query", f"unknown parameter {name[:64]!r}; known: {', '.join(allowed) or 'none'}")
        values = request.query.getall(name)
        if len(values) > 1 or not re.fullmatch(allowed[name], values[0]):
            raise invalid(f"query.{name}", f"must be given once and match {allowed[name]}")
    return dict(request.query)


def wanted_version(request: web.Request, current: int) -> int | None:
    """The version that ``If-Match`` makes the condition (RFC 9110 section 13.1.1); None: no condition, or ``*``.

    Raises:
        Refusal: version-mismatch: ``current`` is none of those that are meant.
    """
    if hdrs.IF_MATCH not in request.headers:
        return None
    tags = request.if_match or ()  # an empty one is no condition that is met, and not none
    if any(tag.value == ETAG_ANY for tag in tags):
        return None
    if not any(tag.value == str(current) and not tag.is_weak for tag in tags):
        raise Refusal(ChatProblem.VERSION_MISMATCH, f'it is at version "{current}": read it again')
    return current


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name, value in pairs:
        if name in members:
            raise ValueError(f"the name {name[:64]!r} is given twice")
        members[name] = value
    return members


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _bounded_int(digits: str) -> int:
    if len(digits) > MAX_NUMBER_CHARS:
        raise ValueError(f"a number has more than {MAX_NUMBER_CHARS} digits")
    return int(digits)


def _finite_float(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError("a number is too large for a double")
    return value


def _depth(value: object) -> int:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, children), default=0)


def _message(error: Any) -> str:
    message = str(error["msg"]).removeprefix("Value error, ")
    return "unknown field" if error["type"] == "extra_forbidden" else message
