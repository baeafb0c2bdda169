"""One HTTP connection: aiohttp's own, with what it lacks at a privileged door.

- What its parser refuses is answered like every other refusal. aiohttp answers it itself, past the application: as
  text, with the names and versions of what serves, and a traceback in the log.
- A listener has so many seats.
- A peer that does not read what it asked for is cut off. Only an attached stream may wait for its reader.
- Whoever is cancelled while it waits for room leaves the others alone.
- What aiohttp would stumble over is mended before (``mend_requests``).
"""

import asyncio
import uuid
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, cast

import structlog
from aiohttp import hdrs, web
from aiohttp.http import HttpVersion, HttpVersion10, HttpVersion11, RawRequestMessage, WebSocketReader
from aiohttp.http_exceptions import LineTooLong
from multidict import CIMultiDict, CIMultiDictProxy

from doogie_contract.problems import PROBLEM_CONTENT_TYPE, ProblemError, ProblemType
from doogie_proxy.metrics import Metrics
from doogie_proxy.settings import Settings

_RESERVED_BITS = b"\xf0\x00"
"""A frame that aiohttp refuses with 1002."""

VERSION = web.RequestKey("version", HttpVersion)
"""Of HTTP, as the request has it."""
SERVED_VERSIONS = (HttpVersion10, HttpVersion11)

log = structlog.get_logger(__name__)


def mend_requests(manager: web.Server) -> None:
    """Have every request made so that the application decides on it, and not aiohttp before it.

    ``Expect`` is taken out unless it is ``100-continue`` (RFC 9110 section 10.1.1 leaves us the choice): aiohttp
    refuses others before any middleware runs, and trips over our signal, which misses a request's id. A version that is
    not 1.0 or 1.1 is noted in ``VERSION`` for ``guard`` to refuse: aiohttp would serve it, and answer in that version.
    """
    make = manager.request_factory

    def request(message: RawRequestMessage, *rest: Any) -> web.BaseRequest:
        version = message.version
        if message.headers.get(hdrs.EXPECT, "100-continue").lower() != "100-continue":
            headers = CIMultiDict(message.headers)
            headers.popall(hdrs.EXPECT)
            message = message._replace(headers=CIMultiDictProxy(headers))
        if version not in SERVED_VERSIONS:
            message = message._replace(version=HttpVersion11, should_close=True)
        made = make(message, *rest)
        made[VERSION] = version
        return made

    manager.request_factory = request


class Connection(web.RequestHandler):
    """The protocol of one accepted connection; made by ``asyncio.loop.create_server`` for each.

    Args:
        manager: of the application.
        settings: the limits.
        seats: the connections of this listener that are open.
        metrics: count what is refused here.
    """

    def __init__(
        self, manager: web.Server, settings: Settings, seats: set[asyncio.BaseProtocol], metrics: Metrics
    ) -> None:
        super().__init__(
            manager,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]  # None turns it off; guard logs the one line of a request
            # Counts from the last answer, whatever trickles in: it ends idle connections and half-sent heads alike.
            keepalive_timeout=settings.idle_timeout_s,
            lingering_time=settings.close_timeout_s,
            max_line_size=settings.head_line_max_bytes,
            max_field_size=settings.head_line_max_bytes,
            max_headers=settings.head_lines_max,
            auto_decompress=False,  # no encoded body is taken; and nothing that nobody reads is to be inflated
        )
        # aiohttp would hold 32 whole heads behind a request under way. What is pipelined waits in the kernel instead.
        self._max_msg_queue_size, self._msg_queue_resume_size = 1, 0
        self._settings = settings
        self._seats = seats
        self._metrics = metrics
        self._wire: asyncio.Transport | None = None
        self._is_stream = False
        self._cut: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a seat, unless it was given one before its TLS handshake, or close the connection."""
        self._wire = cast("asyncio.Transport", transport)
        if self not in self._seats and len(self._seats) >= self._settings.connections_max:
            log.info("connection_refused", connections=len(self._seats))
            detail = f"{self._settings.connections_max} connections are open: close some, or try again later"
            self._metrics.problem(ProblemType.QUOTA_EXCEEDED)
            self._wire.write(_plain_answer(ProblemError(ProblemType.QUOTA_EXCEEDED, detail), uuid.uuid4().hex))
            self._close = True  # what it sends is not read
            self._wire.close()
            self._cut_in(self._settings.close_timeout_s)
            return
        self._seats.add(self)
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Free the seat."""
        self._seats.discard(self)
        self._wire = None
        self._spare()
        super().connection_lost(exc)

    async def start(self) -> None:
        """Handle requests, one after another; at the end the connection closes, whether its peer reads or not."""
        try:
            await super().start()
        finally:
            self._cut_in(self._settings.close_timeout_s)

    def pause_writing(self) -> None:
        """The peer reads more slowly than it is answered."""
        super().pause_writing()
        if not self._is_stream:
            self._cut_in(self._settings.send_timeout_s)

    def resume_writing(self) -> None:
        """The peer has read."""
        super().resume_writing()
        self._spare()

    def abort(self) -> None:
        """Cut the connection, and drop what is unsent."""
        if self._wire is not None:
            self._wire.abort()

    def _cut_in(self, delay_s: float) -> None:
        self._spare()
        if self._wire is not None:
            self._cut = self._loop.call_later(delay_s, self.abort)

    def _spare(self) -> None:
        if self._cut is not None:
            self._cut.cancel()

    def set_parser(self, parser: WebSocketReader, data_received_cb: Callable[[], None] | None = None) -> None:
        """From here on the connection is a WebSocket."""
        self._is_stream = True
        self._spare()
        super().set_parser(cast("WebSocketReader", _MaskedFrames(parser)), data_received_cb)

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
        elif "Too many headers" in str(exc):  # aiohttp has no class for it
            problem = ProblemError(ProblemType.HEADERS_TOO_LARGE, f"there are more than {self.max_headers} headers")
        else:
            problem = ProblemError(ProblemType.BAD_REQUEST, "this is not a well-formed HTTP/1.1 request")
        self._metrics.problem(problem.type)
        request_id = uuid.uuid4().hex
        log.info("malformed_request", request_id=request_id, problem=problem.type.slug, error=type(exc).__name__)
        if request.writer.output_size == 0:
            self.transport.write(_plain_answer(problem, request_id))
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


class _MaskedFrames:
    """Before aiohttp's reader of frames, which takes unmasked ones as well: RFC 6455 section 5.1 has them refused."""

    def __init__(self, reader: WebSocketReader) -> None:
        self._reader = reader
        self.feed_eof = reader.feed_eof
        self._rest = b""  # of a head that is not whole yet
        self._skip = 0  # what is still to come of a frame whose head was seen

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        data, start = self._rest + data, self._skip
        while start + 2 <= len(data):
            if not data[start + 1] & 0x80:
                return self._reader.feed_data(data[:start] + _RESERVED_BITS)
            length = data[start + 1] & 0x7F
            payload = start + 2 + {126: 2, 127: 8}.get(length, 0)
            if payload > len(data):
                break
            start = payload + 4 + (length if length < 126 else int.from_bytes(data[start + 2 : payload]))
        known = min(start, len(data))
        self._rest, self._skip = data[known:], start - known
        return self._reader.feed_data(data[:known])


def _plain_answer(problem: ProblemError, request_id: str) -> bytes:
    body = problem.to_problem(request_id).model_dump_json().encode()
    head = (
        f"HTTP/1.1 {problem.type.status} {HTTPStatus(problem.type.status).phrase}\r\n"
        f"Content-Type: {PROBLEM_CONTENT_TYPE}\r\nContent-Length: {len(body)}\r\n"
        f"X-Request-Id: {request_id}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
