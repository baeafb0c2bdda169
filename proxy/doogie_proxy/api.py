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
    Limits,
    PolicyArgs,
    PolicyRule,
    ServerList,
    ServerState,
    ServerStatus,
    StartRequest,
    StopRequest,
    Ticket,
)
from doogie_contract.problems import ProblemError, ProblemType
from doogie_proxy.admission import Admitted, Denied, admit, plan_hash
from doogie_proxy.audit import Decision
from doogie_proxy.auth import Caller, Tickets, caller_of_token, peer_uid
from doogie_proxy.configuration import Configuration
from doogie_proxy.http import CLIENT, query_flags, read_model, server_name
from doogie_proxy.identity import Identity
from doogie_proxy.metrics import CONTENT_TYPE as METRICS_CONTENT_TYPE
from doogie_proxy.metrics import Metrics
from doogie_proxy.policy import Rule
from doogie_proxy.quotas import Requests
from doogie_proxy.references import ImageRef
from doogie_proxy.server import Key, Server
from doogie_proxy.servers import Servers
from doogie_proxy.sessions import CODECS, Session
from doogie_proxy.settings import Settings
from doogie_proxy.spec import ImageRefusedError
from doogie_proxy.starting import Wanted
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
            return _answer(200, _admission(decided))
        wait = request.query.get("wait") != "none"
        server, created = await self._servers.start(key, Wanted(wanted, decided, configuration.secrets), wait=wait)
        decision.note(created=created)
        if server is None:
            return _answer(202, ServerStatus(name=key.name, state=ServerState.CREATED, rule=decided.rule.name))
        return _answer(201 if created else 200, self._status(server))

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
        return _answer(200, self._status(self._server(request)))

    async def list(self, request: web.Request) -> web.Response:
        """``GET /v1/servers``."""
        servers = self._servers.of_client(request[CLIENT])
        return _answer(200, ServerList(servers=[self._status(server) for server in servers]))

    async def logs(self, request: web.Request) -> web.StreamResponse:
        """``GET /v1/servers/{name}/logs``: stderr; with ``follow=1``, until the server ends."""
        hub, caller = self._server(request).hub, request[CALLER]
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
            elif hub.exit is not None or self.shutting_down or not caller.is_known_to(self._configuration.policy):
                break
            else:
                await hub.changed()
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
        return _answer(200, self._status(server))

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
                rules=[_rule(rule) for rule in policy.rules_of(name)],
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
            raise ProblemError(ProblemType.NOT_FOUND, f"there is no server {key.name}: start it first")
        return server

    def _status(self, server: Server) -> ServerStatus:
        return server.status(outdated=self._outdated(server.identity))

    def _outdated(self, identity: Identity) -> bool:
        rule = next(
            (rule for rule in self._configuration.policy.rules_of(identity.client) if rule.name == identity.rule), None
        )
        image = rule.resolve(ImageRef.parse(identity.image)) if rule else None
        return rule is None or image is None or plan_hash(rule, image) != identity.plan


def _can_upgrade(ws: web.WebSocketResponse, request: web.Request) -> bool:
    try:
        return bool(ws.can_prepare(request))
    except ValueError:  # aiohttp takes it for granted that the headers of a handshake are ASCII
        return False


def _key(request: web.Request) -> Key:
    return Key(request[CLIENT], server_name(request))


def _answer(status: int, model: BaseModel) -> web.Response:
    return web.Response(status=status, body=model.model_dump_json().encode(), content_type="application/json")


def _admission(admitted: Admitted) -> Admission:
    return Admission(
        rule=admitted.rule.name, image=str(admitted.image), args=list(admitted.args), limits=_limits(admitted.rule)
    )


def _rule(rule: Rule) -> PolicyRule:
    return PolicyRule(
        name=rule.name,
        images=rule.images,
        image_patterns=rule.image_patterns,
        args=PolicyArgs(prefix=rule.args.prefix, any=rule.args.any, patterns=rule.args.patterns, max=rule.args.max),
        env_allow=rule.env.allow,
        env_patterns=rule.env.patterns,
        env_fixed=sorted(rule.env.fixed),
        secrets=sorted(rule.secrets),
        mounts=sorted(rule.mounts),
        limits=_limits(rule),
    )


def _limits(rule: Rule) -> Limits:
    return Limits(
        memory_bytes=rule.resources.memory,
        cpus=rule.resources.cpus,
        pids=rule.resources.pids,
        tmp_bytes=rule.resources.tmp,
        shm_bytes=rule.resources.shm,
        nofile=rule.resources.nofile,
        max_message_bytes=rule.stdio.max_message,
        buffer_bytes=rule.stdio.buffer,
        replay=rule.stdio.replay,
        network=rule.network,
        user=rule.user,
        runtime=rule.runtime,
        **rule.lifetime.model_dump(),
    )


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
