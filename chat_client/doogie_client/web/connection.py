"""One HTTP connection of ``doogie-chat``: aiohttp's own, with a problem for what its parser refuses.

aiohttp answers that itself, past the application: as text, with the names and versions of what serves, and a traceback
in the log.
"""

import asyncio
import uuid
from http import HTTPStatus

import structlog
from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

from doogie_client.web.problems import Refusal
from doogie_contract.problems import PROBLEM_CONTENT_TYPE, ProblemType

log = structlog.get_logger(__name__)


class Connection(web.RequestHandler):
    """The protocol of one accepted connection; made by ``asyncio.loop.create_server`` for each.

    Args:
        manager: of the application.
        idle_timeout_s: without a whole request head.
    """

    def __init__(self, manager: web.Server, idle_timeout_s: float) -> None:
        super().__init__(
            manager,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]  # None turns it off; the guard logs the one line of a request
            # Counts from the last answer, whatever trickles in: it ends idle connections and half-sent heads alike.
            keepalive_timeout=idle_timeout_s,
            auto_decompress=False,  # no encoded body is taken; and nothing that nobody reads is to be inflated
        )

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
        if isinstance(exc, LineTooLong) or "Too many headers" in str(exc):  # aiohttp has no class for the latter
            refusal = Refusal(ProblemType.HEADERS_TOO_LARGE, "the head of the request is too large")
        else:
            refusal = Refusal(ProblemType.BAD_REQUEST, "this is not a well-formed HTTP/1.1 request")
        request_id = uuid.uuid4().hex
        log.info("malformed_request", request_id=request_id, problem=refusal.kind.slug, error=type(exc).__name__)
        if request.writer.output_size == 0:
            self.transport.write(_plain_answer(refusal, request_id))
        self.transport.close()
        raise ConnectionError(refusal.detail) from exc


def _plain_answer(refusal: Refusal, request_id: str) -> bytes:
    body = refusal.document(request_id)
    head = (
        f"HTTP/1.1 {refusal.kind.status} {HTTPStatus(refusal.kind.status).phrase}\r\n"
        f"Content-Type: {PROBLEM_CONTENT_TYPE}\r\nContent-Length: {len(body)}\r\n"
        f"X-Request-Id: {request_id}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
