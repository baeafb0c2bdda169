"""HTTP/1.1 answers off a raw connection, and what must hold of each that the proxy gives."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from doogie_contract.problems import PROBLEM_CONTENT_TYPE, Problem, ProblemType


@dataclass(frozen=True)
class RawAnswer:
    """One answer; the names of ``headers`` are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def closes(self) -> bool:
        """Whether the connection ends with it."""
        return self.headers.get("connection", "").lower() == "close"


async def read_answer(reader: asyncio.StreamReader, *, to_head: bool = False) -> RawAnswer | None:
    """The next answer that is not provisional; None when the connection ended before one.

    Raises:
        asyncio.IncompleteReadError: it ended within one.
        ValueError: what came is not HTTP.
    """
    while True:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as exc:
            if exc.partial:
                raise
            return None
        lines = head.decode("ascii").split("\r\n")
        version, status, _ = lines[0].split(" ", 2)
        if version not in ("HTTP/1.1", "HTTP/1.0") or len(status) != 3:
            raise ValueError(f"not a status line: {lines[0]!r}")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:-2])}
        if status != "100":
            break
    bodiless = to_head or status in ("101", "204", "304")
    return RawAnswer(int(status), headers, b"" if bodiless else await _body(reader, headers))


async def _body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    if headers.get("transfer-encoding") == "chunked":
        pieces = []
        while size := int(await reader.readuntil(b"\r\n"), 16):
            pieces.append((await reader.readexactly(size + 2))[:-2])
        await reader.readuntil(b"\r\n")
        return b"".join(pieces)
    if "content-length" in headers:
        return await reader.readexactly(int(headers["content-length"]))
    return await reader.read()


def faults(answer: RawAnswer, *, to_head: bool = False) -> list[str]:
    """What is wrong with an answer, whatever was asked: an engine that works gives no reason for a 5xx."""
    found = []
    if answer.status >= 500:
        found.append(f"status {answer.status}: {answer.body[:300]!r}")
    if "server" in answer.headers:
        found.append("it says what serves")
    if "x-request-id" not in answer.headers:
        found.append("it has no X-Request-Id")
    if answer.status >= 300:
        found += _problem_faults(answer, to_head=to_head)
    return found


def _problem_faults(answer: RawAnswer, *, to_head: bool) -> list[str]:
    if answer.headers.get("content-type") != PROBLEM_CONTENT_TYPE:
        return [f"{answer.status} is {answer.headers.get('content-type')}, no problem document"]
    if to_head:
        return []
    try:
        problem = Problem.model_validate_json(answer.body, strict=True, extra="forbid")
    except ValidationError:
        return [f"{answer.status} is no whole problem document: {answer.body[:300]!r}"]
    type_ = ProblemType.from_urn(problem.type)
    told = (problem.title, problem.status, answer.status)
    if type_ is None or told != (type_.title, type_.status, type_.status) or not problem.detail:
        return [f"inconsistent: {answer.status} {json.loads(answer.body)}"]
    if problem.request_id != answer.headers.get("x-request-id"):
        return ["the problem's request_id is not X-Request-Id"]
    return []
