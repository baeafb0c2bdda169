"""One row of the API's table: the router and ``/openapi.json`` are both made from it."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from aiohttp import web

from doogie_client.web.problems import Kind

PREFIX = "/api/v1/mcp"


class Access(Enum):
    """Who may call an operation."""

    ANYONE = "anyone"
    USER = "user"
    ADMIN = "admin"


@dataclass(frozen=True)
class Operation:
    """How an operation is reached, what it takes and what it answers.

    Args:
        method, path: ``{id}`` in the path is a configuration's.
        handler: of the API's object.
        summary: one line.
        answers: by status: the type of the JSON, or a media type, or None where there is no body.
        problems: what it answers with when it does not do it, beside what any operation may.
        body: the type of the JSON it takes.
        query: names of parameters, with the pattern that each matches as a whole.
        conditional: whether ``If-Match`` makes it depend on the configuration's version.
        access: who may.
    """

    method: str
    path: str
    handler: Callable[[Any, web.Request], Awaitable[web.StreamResponse]]
    summary: str
    answers: Mapping[int, Any]
    problems: tuple[Kind, ...] = ()
    body: Any = None
    query: Mapping[str, str] = field(default_factory=dict)
    conditional: bool = False
    access: Access = Access.USER
