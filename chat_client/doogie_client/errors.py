"""Everything this package raises on purpose, and the one place where foreign errors become ours.

    DoogieError
    ├── InvalidName               a server name no proxy takes (also a ValueError); nothing was sent
    ├── ProxyUnavailable          cannot connect, connection lost, or no answer in time
    ├── ProtocolError             the proxy answered something that is not the contract
    ├── ProblemResponse           the proxy said no: RFC 9457 problem; one subclass for each ProblemType
    │   └── BadRequest … EngineTimeout
    └── StdioClosed               an attached stdio stream ended
        ├── ServerExited          the container ended: code, signal, the last stderr lines
        ├── TakenOver             another attach took the stream (4409)
        ├── Revoked               the operator took back the token that opened it (4403)
        ├── HalfCloseUnavailable  this server's stdin cannot be closed alone (4405)
        ├── MessageRejected       the proxy does not take what was sent (1003, 1007)
        ├── MessageTooLarge       a message over the limit (1009, or this side's own bound on a line)
        ├── ProxyRestarting       the proxy goes away and comes back (1012)
        └── EngineLost            the proxy lost the engine (4503)

``foreign_errors`` wraps every use of aiohttp; no aiohttp, OSError, TimeoutError or pydantic error leaves this package.
"""

import errno
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

import aiohttp
from pydantic import ValidationError

from doogie_contract.channels import CloseCode
from doogie_contract.problems import Problem, ProblemType


class DoogieError(Exception):
    """Base of all errors of this package."""


class InvalidName(DoogieError, ValueError):  # noqa: N818 - the tree's names say what happened, without "Error"
    """A server name that does not match ``SERVER_NAME_PATTERN``; raised before anything is sent."""


class ProxyUnavailable(DoogieError):  # noqa: N818 - as above
    """The proxy cannot be reached, the connection was lost, or no answer came in time.

    It is not known whether a request that was already sent took effect. ``start`` and ``stop`` are idempotent:
    call them again.
    """


class ProtocolError(DoogieError):
    """The proxy's answer is not of the contract: not a Doogie proxy, or one of an incompatible version."""


# --- problems ---------------------------------------------------------------------------------------------------


class ProblemResponse(DoogieError):  # noqa: N818 - as above
    """The proxy refused or failed; ``problem`` is its answer. This base itself: a type this version does not know."""

    problem_type: ClassVar[ProblemType | None] = None

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem

    def __str__(self) -> str:
        faults = "".join(f"; {fault.loc}: {fault.msg}" for fault in self.problem.errors)
        return f"{self.problem.title}: {self.problem.detail}{faults} (request {self.problem.request_id})"


class BadRequest(ProblemResponse):
    """400: the request is not well-formed HTTP."""

    problem_type = ProblemType.BAD_REQUEST


class Unauthenticated(ProblemResponse):
    """401: no token, or one the policy does not know."""

    problem_type = ProblemType.UNAUTHENTICATED


class PolicyDenied(ProblemResponse):
    """403: no rule admits the request; ``problem.errors`` says rule by rule why."""

    problem_type = ProblemType.POLICY_DENIED


class HostNotAllowed(ProblemResponse):
    """403: the Host or Origin header is not one this listener serves."""

    problem_type = ProblemType.HOST_NOT_ALLOWED


class NotFound(ProblemResponse):
    """404: no such server of this client."""

    problem_type = ProblemType.NOT_FOUND


class MethodNotAllowed(ProblemResponse):
    """405: the resource has no such method."""

    problem_type = ProblemType.METHOD_NOT_ALLOWED


class RequestTimeout(ProblemResponse):
    """408: the proxy did not get the whole request in time."""

    problem_type = ProblemType.REQUEST_TIMEOUT


class SpecConflict(ProblemResponse):
    """409: the server runs with another specification; ``restart`` replaces it."""

    problem_type = ProblemType.SPEC_CONFLICT


class StdioBusy(ProblemResponse):
    """409: someone is attached already; ``takeover=True`` replaces them."""

    problem_type = ProblemType.STDIO_BUSY


class BodyTooLarge(ProblemResponse):
    """413: the request body is over the proxy's limit."""

    problem_type = ProblemType.BODY_TOO_LARGE


class UnsupportedMediaType(ProblemResponse):
    """415: the body is not application/json."""

    problem_type = ProblemType.UNSUPPORTED_MEDIA_TYPE


class InvalidRequest(ProblemResponse):
    """422: a field is wrong; ``problem.errors`` says which and what would be right."""

    problem_type = ProblemType.INVALID_REQUEST


class ImageUnavailable(ProblemResponse):
    """424: the image is allowed, but not on the engine."""

    problem_type = ProblemType.IMAGE_UNAVAILABLE


class UpgradeRequired(ProblemResponse):
    """426: the resource is a WebSocket."""

    problem_type = ProblemType.UPGRADE_REQUIRED


class QuotaExceeded(ProblemResponse):
    """429: as many servers, starts or requests as the policy allows; ``detail`` says which and how long to wait."""

    problem_type = ProblemType.QUOTA_EXCEEDED


class HeadersTooLarge(ProblemResponse):
    """431: the request's headers are over the proxy's limit."""

    problem_type = ProblemType.HEADERS_TOO_LARGE


class InternalError(ProblemResponse):
    """500: a defect of the proxy; please report it with what its log says under ``problem.request_id``."""

    problem_type = ProblemType.INTERNAL_ERROR


class EngineError(ProblemResponse):
    """502: the engine refused or failed; its own words are in the proxy's log under ``problem.request_id``."""

    problem_type = ProblemType.ENGINE_ERROR


class EngineUnavailable(ProblemResponse):
    """503: the proxy cannot reach the engine."""

    problem_type = ProblemType.ENGINE_UNAVAILABLE


class ShuttingDown(ProblemResponse):
    """503: the proxy is shutting down; it takes no new work."""

    problem_type = ProblemType.SHUTTING_DOWN


class EngineTimeout(ProblemResponse):
    """504: the engine did not answer the proxy in time."""

    problem_type = ProblemType.ENGINE_TIMEOUT


PROBLEM_CLASSES: dict[ProblemType, type[ProblemResponse]] = {
    cls.problem_type: cls for cls in ProblemResponse.__subclasses__() if cls.problem_type is not None
}


def problem_response(problem: Problem) -> ProblemResponse:
    """The error for a problem; ``ProblemResponse`` itself for a type this version does not know."""
    known = ProblemType.from_urn(problem.type)
    return (PROBLEM_CLASSES[known] if known is not None else ProblemResponse)(problem)


# --- ends of a stdio stream -------------------------------------------------------------------------------------


class StdioClosed(DoogieError):  # noqa: N818 - as above
    """An attached stdio stream ended. This base itself: detached, or for a reason this version does not know."""

    summary: ClassVar[str] = "the stream ended"


class ServerExited(StdioClosed):
    """The container ended.

    Attributes:
        code: its exit code; None when the engine could not tell.
        signal: inferred from a code above 128 as a shell does, like ``"SIGKILL"``; else None.
        message: what the proxy said about it, reason and code included; may be empty.
        stderr_tail: the last stderr output this stream received, at most 4 KiB.
    """

    def __init__(self, code: int | None, message: str = "", stderr_tail: str = "") -> None:
        super().__init__(code, message, stderr_tail)
        self.code = code
        self.message = message
        self.stderr_tail = stderr_tail
        self.signal = _signal_name(code)

    def __str__(self) -> str:
        code = "for an unknown reason" if self.code is None else f"with code {self.code}"
        signal_name = f" ({self.signal})" if self.signal is not None else ""
        what = self.message or f"the server exited {code}{signal_name}"
        return ": ".join(part for part in (what, self.stderr_tail.strip()) if part)


class TakenOver(StdioClosed):
    """Another attach took the stream over."""

    summary = "another attach took the stream over"


class Revoked(StdioClosed):
    """The token that opened the stream is no longer valid."""

    summary = "the token was revoked"


class HalfCloseUnavailable(StdioClosed):
    """Stdin cannot be closed alone: only servers under a rule with ``replay: none`` can see end-of-file."""

    summary = "this server's stdin cannot be closed alone"


class MessageRejected(StdioClosed):
    """The proxy does not take what this side sent: a fault of this package or of what it was given."""

    summary = "the proxy does not take what was sent"


class MessageTooLarge(StdioClosed):
    """A message is over the rule's limit, or a line is over this side's own bound."""

    summary = "a message is too large"


class ProxyRestarting(StdioClosed):
    """The proxy restarts; attach again when it is back."""

    summary = "the proxy restarts; attach again when it is back"


class EngineLost(StdioClosed):
    """The proxy lost its connection to the engine; whether the server still runs is not known."""

    summary = "the proxy lost the engine"


CLOSE_CLASSES: dict[int, type[StdioClosed]] = {
    CloseCode.NORMAL: StdioClosed,
    CloseCode.UNSUPPORTED_DATA: MessageRejected,
    CloseCode.INVALID_DATA: MessageRejected,
    CloseCode.MESSAGE_TOO_BIG: MessageTooLarge,
    CloseCode.SERVICE_RESTART: ProxyRestarting,
    CloseCode.HALF_CLOSE_UNAVAILABLE: HalfCloseUnavailable,
    CloseCode.TAKEN_OVER: TakenOver,
    CloseCode.REVOKED: Revoked,
    CloseCode.EXITED_NON_ZERO: ServerExited,
    CloseCode.ENGINE_LOST: EngineLost,
}


def stdio_closed(code: int, reason: str, stderr_tail: str = "") -> StdioClosed:
    """The error for a close frame (RFC 6455 section 5.5.1); ``StdioClosed`` itself for a code not in ``CloseCode``.

    4500 without the status message that belongs before it gives a ``ServerExited`` whose code is None.
    """
    cls = CLOSE_CLASSES.get(code, StdioClosed)
    if cls is ServerExited:
        return ServerExited(None, reason, stderr_tail)
    return cls(f"{cls.summary} (close code {code}{', ' + reason if reason else ''})")


def _signal_name(code: int | None) -> str | None:
    try:
        return signal.Signals(code - 128).name if code is not None and code > 128 else None
    except ValueError:
        return None


# --- foreign errors ---------------------------------------------------------------------------------------------

_CONNECT_HINTS = {
    errno.ENOENT: "there is no such socket: does the proxy run, and is its directory mounted here?",
    errno.EACCES: "this user may not open the socket: it must be in the group the proxy shares with its clients",
    errno.ECONNREFUSED: "nothing listens there: does the proxy run?",
    errno.ENAMETOOLONG: "the socket's path is too long for this system",
}


@contextmanager
def foreign_errors(where: str) -> Iterator[None]:
    """Turn what aiohttp, the OS and pydantic raise in the block into ``ProxyUnavailable`` or ``ProtocolError``.

    ``where`` is the proxy's address for the message. Our own errors and ``CancelledError`` pass unchanged.
    """
    try:
        yield
    except aiohttp.ClientConnectorError as exc:
        hint = _CONNECT_HINTS.get(exc.os_error.errno or 0, exc.os_error.strerror or str(exc.os_error))
        raise ProxyUnavailable(f"cannot connect to the proxy at {where}: {hint}") from exc
    except TimeoutError as exc:
        raise ProxyUnavailable(f"the proxy at {where} did not answer in time") from exc
    except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, OSError) as exc:
        raise ProxyUnavailable(
            f"the connection to the proxy at {where} was lost: {str(exc) or type(exc).__name__}"
        ) from exc
    except aiohttp.WSServerHandshakeError as exc:
        raise ProtocolError(f"{where} did not open a WebSocket: {exc.message}, HTTP status {exc.status}") from exc
    except (aiohttp.ClientError, aiohttp.http.WebSocketError, ValidationError) as exc:
        raise ProtocolError(f"the answer of {where} is not what a Doogie proxy says: {exc}") from exc
