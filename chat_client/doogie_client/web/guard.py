"""What every request goes through: an id, checks of its form, one log line, and a problem for whatever fails.

request ──► guard ──► router ──► api.py
              └── every failure ──► problem+json; what others said of it goes to the log alone
"""

import re
import time
import uuid
from collections.abc import Awaitable, Callable

import structlog
from aiohttp import hdrs, web

from doogie_client.errors import DoogieError
from doogie_client.web.failures import for_the_log, refusal_of
from doogie_client.web.problems import ChatProblem, Refusal
from doogie_client.web.users import User
from doogie_contract.problems import PROBLEM_CONTENT_TYPE, ProblemType

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

REQUEST_ID = web.RequestKey("request_id", str)
USER = web.RequestKey("user", User)
PROBLEM = web.RequestKey("problem", str)
ALLOWED_HOSTS = web.AppKey("allowed_hosts", frozenset[str])
"""Names in ``Host`` and ``Origin``. Without it neither is looked at: the application around this one does that."""

_PROBES = ("/healthz", "/readyz")  # asked every few seconds: logged at debug level
_ONCE = (hdrs.AUTHORIZATION, hdrs.CONTENT_ENCODING, hdrs.CONTENT_TYPE, hdrs.ORIGIN)
_PLAIN_PATH = re.compile(r"/[A-Za-z0-9_.~/-]*")
_HOST = re.compile(r"([a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[0-9]+)?", re.IGNORECASE)
_ORIGIN = re.compile(r"https?://(.+)", re.IGNORECASE)

log = structlog.get_logger(__name__)


@web.middleware
async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give the request an id, check its form, answer every failure with a problem, and log one line."""
    request[REQUEST_ID] = uuid.uuid4().hex
    begun = time.monotonic()
    status = None
    with structlog.contextvars.bound_contextvars(request_id=request[REQUEST_ID]):
        try:
            response = await _handle(request, handler)
            status = response.status
            return response
        finally:
            user = request.get(USER)
            note = log.debug if request.path.endswith(_PROBES) else log.info
            note(
                "request",
                method=request.method,
                path=request.raw_path.partition("?")[0],
                status=status,  # None: the caller went away first
                user=user.id if user else None,
                role=user.role.value if user else None,
                problem=request.get(PROBLEM),
                duration_ms=round((time.monotonic() - begun) * 1000, 1),
            )


async def _handle(request: web.Request, handler: Handler) -> web.StreamResponse:
    headers: dict[str, str] = {}
    try:
        _check_target(request)
        _check_origin(request)
        return await handler(request)
    except Refusal as exc:
        refusal = exc
    except web.HTTPException as exc:
        refusal = _refusal_of_http(exc, request)
        if hdrs.ALLOW in exc.headers:
            headers[hdrs.ALLOW] = exc.headers[hdrs.ALLOW]
    except DoogieError as exc:
        refusal = refusal_of(exc)
        log.warning("call_failed", error=for_the_log(exc), proxy_request_id=refusal.proxy_request_id)
    except ConnectionError:
        raise  # the caller is gone: no one to answer, and no error of ours; aiohttp lets go of the connection
    except Exception:
        refusal = Refusal(ChatProblem.INTERNAL_ERROR, "please report it with the log of this request_id")
        log.exception("internal_error")
    request[PROBLEM] = refusal.kind.slug
    if refusal.kind is ProblemType.UNAUTHENTICATED:
        headers[hdrs.WWW_AUTHENTICATE] = "Bearer"
    if refusal.retry_after_s is not None:
        headers[hdrs.RETRY_AFTER] = str(refusal.retry_after_s)
    return web.Response(
        status=refusal.kind.status,
        body=refusal.document(request[REQUEST_ID]),
        content_type=PROBLEM_CONTENT_TYPE,
        headers=headers,
    )


async def finish_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Signal ``on_response_prepare``: ids, no caches for what is a caller's own, and nothing about what serves."""
    if (request_id := request.get(REQUEST_ID)) is not None:  # None: aiohttp refused it before any middleware
        response.headers["X-Request-Id"] = request_id
    response.headers.setdefault(hdrs.CACHE_CONTROL, "no-store")
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers.popall(hdrs.SERVER, None)


def _check_target(request: web.Request) -> None:
    """Decide on the path as it was sent, so that nothing that normalises it can decide otherwise."""
    if not _PLAIN_PATH.fullmatch(request.raw_path.partition("?")[0]):
        raise Refusal(ProblemType.BAD_REQUEST, "the target must be a plain path without percent-encoding")
    for name in _ONCE:
        if len(request.headers.getall(name, ())) > 1:
            raise Refusal(ProblemType.BAD_REQUEST, f"{name} is given twice")


def _check_origin(request: web.Request) -> None:
    """Refuse names that a web page could have pointed at this address (DNS rebinding), and pages of other sites.

    A token is no cookie, so no browser adds it by itself; this holds where the application around this one knows its
    users by something that a browser does add. On a unix socket nothing is rebound, and ``Host`` may be anything.
    """
    allowed = request.config_dict.get(ALLOWED_HOSTS)
    if allowed is None:
        return
    host = request.headers.get(hdrs.HOST, "")
    over_tcp = request.transport is not None and isinstance(request.transport.get_extra_info("sockname"), tuple)
    if over_tcp and _name_of(host) not in allowed:
        raise Refusal(ProblemType.HOST_NOT_ALLOWED, "Host is none of the names that this app is reached by")
    origin = request.headers.get(hdrs.ORIGIN)
    if origin is None:
        return
    site = _ORIGIN.fullmatch(origin)
    if site is None or (site[1] != host and _name_of(site[1]) not in allowed):
        raise Refusal(ProblemType.HOST_NOT_ALLOWED, "Origin must be absent, or one of the names this app is reached by")


def _name_of(host: str) -> str | None:
    """The name in a ``Host``, without the port, in lower case; None if it has not that form."""
    match = _HOST.fullmatch(host)
    return match[1].lower() if match else None


def _refusal_of_http(exc: web.HTTPException, request: web.Request) -> Refusal:
    match exc.status:
        case 401:  # as 403: of the authentication of the application around this one
            return Refusal(ProblemType.UNAUTHENTICATED, exc.reason)
        case 403:
            return Refusal(ChatProblem.FORBIDDEN, exc.reason)
        case 404:
            return Refusal(ProblemType.NOT_FOUND, "no such path; /openapi.json lists them all")
        case 405:
            return Refusal(ProblemType.METHOD_NOT_ALLOWED, f"{request.method[:16]} is not a method of this path")
        case _:
            return Refusal(ProblemType.BAD_REQUEST, "the request is not well-formed")
