"""One HTTP connection: aiohttp's own, but for two things that it does not get right for us.

What its parser refuses is answered like every other refusal; aiohttp answers a malformed request itself, past the
application: as text, with the names and versions of what serves, and a traceback in the log. And whoever is cancelled
while it waits for room leaves the others alone.
"""

import uuid
from http import HTTPStatus

import structlog
from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

from doogie_contract.problems import PROBLEM_CONTENT_TYPE, ProblemError, ProblemType

log = structlog.get_logger(__name__)


class Connection(web.RequestHandler):
    """The protocol of one accepted connection; made by ``asyncio.loop.create_server`` for each."""

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no request with a problem, and close the connection.

        Raises:
            ConnectionError: always, so that aiohttp says nothing itself. It asks a second time, about this very error.
        """
        if self.transport is None or self.transport.is_closing():
            raise ConnectionError("already answered") from exc
        if isinstance(exc, LineTooLong):
            detail = f"a line of the head exceeds {self.max_field_size} bytes"
            problem = ProblemError(ProblemType.HEADERS_TOO_LARGE, detail)
        else:
            problem = ProblemError(ProblemType.BAD_REQUEST, "this is not a well-formed HTTP/1.1 request")
        request_id = uuid.uuid4().hex
        log.info("malformed_request", request_id=request_id, problem=problem.type.slug, error=type(exc).__name__)
        body = problem.to_problem(request_id).model_dump_json().encode()
        head = (
            f"HTTP/1.1 {problem.type.status} {HTTPStatus(problem.type.status).phrase}\r\n"
            f"Content-Type: {PROBLEM_CONTENT_TYPE}\r\nContent-Length: {len(body)}\r\n"
            f"X-Request-Id: {request_id}\r\nConnection: close\r\n\r\n"
        )
        if request.writer.output_size == 0:
            self.transport.write(head.encode() + body)
        self.transport.close()
        raise ConnectionError(problem.detail) from exc

    async def _drain_helper(self) -> None:
        """Wait until the transport has room.

        aiohttp makes everyone wait for one future, and a task that is cancelled there cancels it for all who come
        later: a session that was ended while its client did not read would be cut off without its close code. Since
        https://github.com/aio-libs/aiohttp/pull/12307, which takes a connection to have one task.
        """
        if self._drain_waiter is not None and self._drain_waiter.cancelled():
            self._drain_waiter = None
        await super()._drain_helper()
