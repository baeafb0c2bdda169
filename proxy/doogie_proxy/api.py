"""The routes of the HTTP API, version 1: authenticate, parse, ask ``Servers``, answer.

``OPERATIONS`` is the one table of them: the router and ``/openapi.json`` are both made from it.
"""

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import UnionType

import structlog
from aiohttp import hdrs, web
from pydantic import BaseModel

from doogie_contract.channels import CloseCode
from doogie_contract.models import (
    Admission,
    ClientPolicy,
    Health,
    ServerList,
    ServerState,
    ServerStatus,
    StartRequest,
    StopRequest,
    Ticket,
)
from doogie_contract.problems import Problem, ProblemError, ProblemType
from doogie_proxy.admission import Denied, admit
from doogie_proxy.answers import admission, policy_rule, server_status
from doogie_proxy.audit import Decision
from doogie_proxy.auth import Caller, Tickets, caller_of_token, peer_uid
from doogie_proxy.configuration import Configuration
from doogie_proxy.event_stream import send_events
from doogie_proxy.http import CLIENT, REQUEST_ID, query_flags, read_model, server_name
from doogie_proxy.metrics import CONTENT_TYPE as METRICS_CONTENT_TYPE
from doogie_proxy.metrics import Metrics
from doogie_proxy.pending import Wanted
from doogie_proxy.quotas import Requests
from doogie_proxy.server import Key, Server
from doogie_proxy.servers import Servers, View
from doogie_proxy.sessions import CODECS, Session
from doogie_proxy.settings import Settings
from doogie_proxy.spec import ImageRefusedError
from doogie_proxy.stdio import StdioBusyError

MAX_LOG_LINES = 10_000

_BEARER = re.compile(r"Bearer +([\x21-\x7e]{1,512})", re.IGNORECASE)

CALLER = web.RequestKey("caller", Caller)
DECISION = web.RequestKey("decision", Decision)

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Operation:
    """One row of the API: how it is reached, what it takes and answers. ``query`` maps names to patterns."""

    method: str
    path: str
    handler: Callable[["Api", web.Request], Awaitable[web.StreamResponse]]
    summary: str
    answers: dict[int, type[BaseModel] | UnionType | str]
    problems: tuple[ProblemType, ...] = ()
    body: type[BaseModel] | None = None
    body_optional: bool = False
    query: dict[str, str] = field(default_factory=dict)
    authenticated: bool = True
    audited: bool = False
    """Whether a request that is allowed goes into the audit log; one that is refused always does."""


class Api:
    """The handlers, over what they need."""

    def __init__(self, settings: Settings, configuration: Configuration, servers: Servers, metrics: Metrics) -> None:
        self._settings = settings
        self._configuration = configuration
        self._servers = servers
        self._metrics = metrics
        self._requests = Requests(settings.client_requests_max)
        self._tickets = Tickets(settings.ticket_ttl_s)
        self._streams: dict[Session, Caller] = {}
        self._openapi = ""
        self.shutting_down = False

    def routes(self) -> list[web.RouteDef]:
        """For ``Application.router``."""
        return [web.route(operation.method, operation.path, self._bind(operation)) for operation in OPERATIONS]

    def use(self, configuration: Configuration) -> None:
        """Decide by other files from now on. What a token opened that is no longer known ends."""
        self._configuration = configuration
        self._servers.use(configuration.keyring)
        for session, caller in self._streams.items():
            if not caller.is_known_to(configuration.policy):
                session.evict(CloseCode.REVOKED, "the token was revoked")
        self._servers.wake_all()  # who follows a log asks again whether it may

    def _bind(self, operation: Operation) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            if not operation.authenticated:
                query_flags(request, operation.query)
                return await operation.handler(self, request)
            decision = request[DECISION] = Decision(operation.handler.__name__)
            try:
                decision.note(server=request.match_info.get("name"), peer_uid=peer_uid(request.transport))
                self._let_in(operation, request)
                with self._requests.counted(request[CLIENT]):
                    response = await operation.handler(self, request)
            except (ProblemError, ImageRefusedError, web.HTTPException) as exc:
                decision.write("refused", exc)
                raise
            except (asyncio.CancelledError, ConnectionError):
                decision.write("abandoned")
                raise
            except Exception:
                decision.write("failed")
                raise
            if operation.audited:
                decision.write("allowed")
            return response

        return handle

    def _let_in(self, operation: Operation, request: web.Request) -> None:
        caller = request[CALLER] = self._authenticate(operation, request)
        request[CLIENT] = caller.client
        structlog.contextvars.bind_contextvars(client=caller.client)
        if self.shutting_down:
            raise ProblemError(ProblemType.SHUTTING_DOWN, "the proxy is ending: try again shortly")
        query_flags(request, operation.query)

    def _authenticate(self, operation: Operation, request: web.Request) -> Caller:
        policy = self._configuration.policy
        match = _BEARER.fullmatch(request.headers.get(hdrs.AUTHORIZATION, ""))
        caller = None
        if match:
            caller = caller_of_token(policy, match[1])
        elif "ticket" in operation.query and (ticket := request.query.get("ticket")):
            caller = self._tickets.redeem(ticket, server_name(request))
        if caller is None or not caller.is_known_to(policy):
            raise ProblemError(
                ProblemType.UNAUTHENTICATED, "send Authorization: Bearer <token> with a token of the policy"
            )
        wanted_uid = policy.clients[caller.client].peer_uid
        if wanted_uid is not None and peer_uid(request.transport) != wanted_uid:
            raise ProblemError(ProblemType.UNAUTHENTICATED, "this token is not for a process of this user")
        return caller

    # ── servers ──────────────────────────────────────────────────────────────────────────────────

    async def start(self, request: web.Request) -> web.Response:
        """``POST /v1/servers/{name}/start``."""
        key, configuration, decision = _key(request), self._configuration, request[DECISION]
        wanted = await read_model(request, StartRequest, timeout_s=self._settings.body_timeout_s)
        decided = admit(configuration.policy, key.client, wanted)
        rules = configuration.policy.rules_of(key.client) if isinstance(decided, Denied) else [decided.rule]
        decision.note_request(wanted, rules, configuration.keyring)
        if isinstance(decided, Denied):
            self._metrics.start("", "denied")
            raise ProblemError(
                ProblemType.POLICY_DENIED, "no rule admits the request: see errors, rule by rule", decided.errors
            )
        dry_run = request.query.get("dry_run") == "1"
        decision.note(rule=decided.rule.name, dry_run=dry_run)
        if dry_run:
            return _answer(200, admission(decided))
        wait = request.query.get("wait") != "none"
        asked = Wanted(wanted, decided, configuration.secrets, request[REQUEST_ID])
        server, created = await self._servers.start(key, asked, wait=wait)
        decision.note(created=created)
        return _answer(202 if server is None else 201 if created else 200, self._status(self._servers.view(key)))

    async def stop(self, request: web.Request) -> web.Response:
        """``POST /v1/servers/{name}/stop``."""
        key = _key(request)
        wanted = StopRequest()
        if request.can_read_body:
            wanted = await read_model(request, StopRequest, timeout_s=self._settings.body_timeout_s)
        exit_ = await self._servers.stop(key, grace_s=wanted.grace_s)
        return _answer(200, ServerStatus(name=key.name, state=ServerState.ABSENT, exit=exit_))

    async def status(self, request: web.Request) -> web.Response:
        """``GET /v1/servers/{name}``."""
        view = self._servers.view(_key(request))
        if not view.exists:
            raise _no_server(view.key)
        return _answer(200, self._status(view))

    async def list(self, request: web.Request) -> web.Response:
        """``GET /v1/servers``."""
        return _answer(200, self._list(request[CLIENT]))

    async def logs(self, request: web.Request) -> web.StreamResponse:
        """``GET /v1/servers/{name}/logs``: stderr; with ``follow=1``, until the server ends."""
        hub = self._server(request).hub
        tail = min(int(request.query.get("tail", "200")), MAX_LOG_LINES)
        # text/plain of a hostile container: no browser may take it for anything else.
        response = web.StreamResponse(
            headers={hdrs.CONTENT_TYPE: "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}
        )
        await response.prepare(request)
        request[DECISION].write("allowed")
        offset = hub.stderr.end
        await response.write(hub.stderr.tail_lines(tail))
        while request.query.get("follow") == "1":
            if more := hub.stderr.since(offset):
                offset = hub.stderr.end
                await response.write(more)
            elif hub.exit is not None or self._end_of_stream(request) is not None:
                break
            else:
                await hub.changed()
        await response.write_eof()
        return response

    async def events(self, request: web.Request) -> web.StreamResponse:
        """``GET /v1/events``: server-sent events, until the client leaves, its token is revoked or the proxy ends."""

        def ended() -> Problem | None:
            end = self._end_of_stream(request)
            return None if end is None else end.to_problem(request[REQUEST_ID])

        response = web.StreamResponse(headers={hdrs.CONTENT_TYPE: "text/event-stream", hdrs.CACHE_CONTROL: "no-store"})
        with self._servers.changes.reader(request[CLIENT]) as reader:
            await response.prepare(request)
            request[DECISION].write("allowed")
            await send_events(
                response,
                reader,
                everything=lambda: self._list(request[CLIENT]),
                status=lambda name: self._status(self._servers.view(Key(request[CLIENT], name))),
                ended=ended,
                heartbeat_s=self._settings.heartbeat_s,
            )
        await response.write_eof()
        return response

    async def ticket(self, request: web.Request) -> web.Response:
        """``POST /v1/servers/{name}/ticket``."""
        server = self._server(request)
        return _answer(201, self._tickets.issue(request[CALLER], server.identity.server))

    async def renew(self, request: web.Request) -> web.Response:
        """``POST /v1/servers/{name}/renew``."""
        server = self._server(request)
        self._servers.renew(server)
        return _answer(200, self._status(self._servers.view(server.key)))

    async def stdio(self, request: web.Request) -> web.StreamResponse:
        """``GET /v1/servers/{name}/stdio``: a WebSocket."""
        server = self._server(request)
        offered = [text.strip() for text in request.headers.get(hdrs.SEC_WEBSOCKET_PROTOCOL, "").split(",")]
        subprotocol = next((name for name in offered if name in CODECS), None)
        wanted = f"open a WebSocket (RFC 6455, version 13) here, with subprotocol {' or '.join(CODECS)}"
        if subprotocol is None:
            raise ProblemError(ProblemType.UPGRADE_REQUIRED, wanted)
        session = Session(server.hub, CODECS[subprotocol](), close_timeout_s=self._settings.close_timeout_s)
        ws = web.WebSocketResponse(
            protocols=(subprotocol,),
            # The channel byte is not part of the message, and aiohttp refuses at this size already.
            max_msg_size=server.hub.max_message_bytes + 2,
            compress=False,
            autoclose=False,  # the session answers a close itself; else it is cut off before it knows how it ended
            timeout=self._settings.close_timeout_s,
        )
        if not _can_upgrade(ws, request):
            raise ProblemError(ProblemType.UPGRADE_REQUIRED, wanted)
        try:
            await server.hub.take_seat(session, takeover=request.query.get("takeover") == "1")
        except StdioBusyError:
            raise ProblemError(ProblemType.STDIO_BUSY, "another session is attached; ?takeover=1 ends it") from None
        if self.shutting_down:  # since it was let in
            session.evict(CloseCode.SERVICE_RESTART, "the proxy is restarting: come back")
        request[DECISION].write("allowed")
        self._streams[session] = request[CALLER]
        begun, before = time.monotonic(), server.hub.traffic()
        try:
            await ws.prepare(request)
            await session.run(ws)
        finally:
            del self._streams[session]
            server.hub.leave_seat(session)
            # Closed in good order it has a code; else what is still unsent would hold the connection for ever.
            if request.transport is not None and ws.close_code in (None, CloseCode.ABNORMAL):
                request.transport.abort()
            after = server.hub.traffic()
            self._metrics.session(subprotocol, session.code)
            log.info(
                "stdio_session",
                **server.names(),
                subprotocol=subprotocol,
                code=int(session.code),
                duration_s=round(time.monotonic() - begun, 3),
                stdin_bytes=after.stdin_bytes - before.stdin_bytes,
                stdout_bytes=after.stdout_taken_bytes - before.stdout_taken_bytes,
            )
        return ws

    # ── the caller's policy, and the proxy itself ────────────────────────────────────────────────

    async def policy(self, request: web.Request) -> web.Response:
        """``GET /v1/policy``."""
        name, policy = request[CLIENT], self._configuration.policy
        client = policy.clients[name]
        return _answer(
            200,
            ClientPolicy(
                client=name,
                max_running=client.max_running,
                starts_per_minute=client.starts_per_minute,
                rules=[policy_rule(rule) for rule in policy.rules_of(name)],
            ),
        )

    async def metrics(self, request: web.Request) -> web.Response:
        """``GET /metrics``."""
        name = request[CLIENT]
        if not self._configuration.policy.clients[name].metrics:
            raise ProblemError(
                ProblemType.POLICY_DENIED, f"client {name} may not: metrics show what others do, and need metrics: true"
            )
        return web.Response(body=self._servers.exposition(), headers={hdrs.CONTENT_TYPE: METRICS_CONTENT_TYPE})

    async def healthz(self, _request: web.Request) -> web.Response:
        """``GET /healthz``: the process answers."""
        return _answer(200, Health(status="ok"))

    async def readyz(self, _request: web.Request) -> web.Response:
        """``GET /readyz``: servers can be started."""
        reasons = ["the proxy is ending"] if self.shutting_down else self._servers.readiness()
        return _answer(503 if reasons else 200, Health(status="not ready" if reasons else "ok", reasons=reasons))

    async def openapi(self, _request: web.Request) -> web.Response:
        """``GET /openapi.json``."""
        if not self._openapi:
            from doogie_proxy.openapi import document  # it needs OPERATIONS, below

            self._openapi = json.dumps(document(OPERATIONS))
        return web.Response(text=self._openapi, content_type="application/json")

    def _server(self, request: web.Request) -> Server:
        key = _key(request)
        server = self._servers.get(key)
        if server is None:
            raise _no_server(key)
        return server

    def _status(self, view: View) -> ServerStatus:
        return server_status(view, self._configuration.policy)

    def _list(self, client: str) -> ServerList:
        return ServerList(servers=[self._status(view) for view in self._servers.of_client(client)])

    def _end_of_stream(self, request: web.Request) -> ProblemError | None:
        """Why nothing more is sent on a stream of this request; None while all is well."""
        if self.shutting_down:
            return ProblemError(ProblemType.SHUTTING_DOWN, "the proxy is ending: come back")
        if not request[CALLER].is_known_to(self._configuration.policy):
            return ProblemError(ProblemType.UNAUTHENTICATED, "the token was revoked")
        return None


def _can_upgrade(ws: web.WebSocketResponse, request: web.Request) -> bool:
    try:
        return bool(ws.can_prepare(request))
    except ValueError:  # aiohttp takes it for granted that the headers of a handshake are ASCII
        return False


def _no_server(key: Key) -> ProblemError:
    return ProblemError(ProblemType.NOT_FOUND, f"there is no server {key.name}: start it first")


def _key(request: web.Request) -> Key:
    return Key(request[CLIENT], server_name(request))


def _answer(status: int, model: BaseModel) -> web.Response:
    return web.Response(status=status, body=model.model_dump_json().encode(), content_type="application/json")


_ENGINE = (ProblemType.ENGINE_ERROR, ProblemType.ENGINE_UNAVAILABLE, ProblemType.ENGINE_TIMEOUT)
_BODY = (ProblemType.REQUEST_TIMEOUT, ProblemType.BODY_TOO_LARGE, ProblemType.UNSUPPORTED_MEDIA_TYPE)

OPERATIONS = (
    Operation(
        "POST",
        "/v1/servers/{name}/start",
        Api.start,
        "Start a server, or find it running with the same request",
        {200: ServerStatus | Admission, 201: ServerStatus, 202: ServerStatus},
        (
            ProblemType.POLICY_DENIED,
            ProblemType.SPEC_CONFLICT,
            ProblemType.IMAGE_UNAVAILABLE,
            ProblemType.QUOTA_EXCEEDED,
            *_BODY,
            *_ENGINE,
        ),
        body=StartRequest,
        query={"wait": "none", "dry_run": "[01]"},
        audited=True,
    ),
    Operation(
        "POST",
        "/v1/servers/{name}/stop",
        Api.stop,
        "End a server; answers when its container is gone",
        {200: ServerStatus},
        (*_BODY, *_ENGINE),
        body=StopRequest,
        body_optional=True,
        audited=True,
    ),
    Operation("GET", "/v1/servers/{name}", Api.status, "One server", {200: ServerStatus}, (ProblemType.NOT_FOUND,)),
    Operation("GET", "/v1/servers", Api.list, "The caller's servers", {200: ServerList}),
    Operation(
        "GET",
        "/v1/servers/{name}/logs",
        Api.logs,
        "A server's stderr, also for a while after its end",
        {200: "text/plain"},
        (ProblemType.NOT_FOUND,),
        query={"tail": "[0-9]{1,5}", "follow": "[01]"},
        audited=True,
    ),
    Operation(
        "GET",
        "/v1/servers/{name}/stdio",
        Api.stdio,
        "A server's stdio as a WebSocket; see docs/protocol.md",
        {101: "websocket"},
        (ProblemType.NOT_FOUND, ProblemType.STDIO_BUSY, ProblemType.UPGRADE_REQUIRED, ProblemType.ENGINE_UNAVAILABLE),
        query={"takeover": "[01]", "ticket": "[A-Za-z0-9_-]{1,128}"},
    ),
    Operation(
        "POST",
        "/v1/servers/{name}/ticket",
        Api.ticket,
        "A one-use pass to a server's stdio, for clients that cannot send headers",
        {201: Ticket},
        (ProblemType.NOT_FOUND,),
        audited=True,
    ),
    Operation(
        "POST",
        "/v1/servers/{name}/renew",
        Api.renew,
        "Count as if the server's last client had left just now",
        {200: ServerStatus},
        (ProblemType.NOT_FOUND,),
    ),
    Operation(
        "GET",
        "/v1/events",
        Api.events,
        "The caller's servers, then each change of them: server-sent events; see docs/protocol.md",
        {200: "text/event-stream"},
        audited=True,
    ),
    Operation("GET", "/v1/policy", Api.policy, "What the caller may start", {200: ClientPolicy}),
    Operation(
        "GET",
        "/metrics",
        Api.metrics,
        "Metrics for Prometheus, of all clients",
        {200: METRICS_CONTENT_TYPE},
        (ProblemType.POLICY_DENIED,),
    ),
    Operation("GET", "/healthz", Api.healthz, "The process answers", {200: Health}, authenticated=False),
    Operation("GET", "/readyz", Api.readyz, "Servers can be started", {200: Health, 503: Health}, authenticated=False),
    Operation("GET", "/openapi.json", Api.openapi, "This document", {200: "application/json"}, authenticated=False),
)
