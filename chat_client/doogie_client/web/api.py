"""The handlers of ``/api/v1/mcp``: authenticate, parse, ask the service, answer.

``OPERATIONS`` (``web.operations``) is the one table of them: the router and ``/openapi.json`` are both made from it.
"""

import asyncio
import base64
import binascii
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import structlog
from aiohttp import hdrs, web
from pydantic import BaseModel, JsonValue, TypeAdapter

from doogie_client.client import ProxyClient
from doogie_client.commands.catalogue import Catalogue
from doogie_client.commands.command import MASK
from doogie_client.commands.translate import translate
from doogie_client.errors import DoogieError
from doogie_client.service.errors import CallInterrupted, ServerNotRunning, SessionUnavailable
from doogie_client.service.import_report import ImportRequest
from doogie_client.service.records import ConfigRecord, ConfigStatus, ConfigUpdate, ServerConfig, Status
from doogie_client.service.service import MCPConfigService
from doogie_client.service.store import ConfigStore
from doogie_client.service.tools import ServerTool, anthropic_tools, openai_tools
from doogie_client.web.bodies import BodyLimits, query, read_model, wanted_version
from doogie_client.web.display import ASK_AN_ADMIN, require_values, restored
from doogie_client.web.events import News, stream
from doogie_client.web.failures import not_found, refusal_of, refusal_of_status
from doogie_client.web.guard import USER
from doogie_client.web.models import (
    Config,
    ConfigCreate,
    DryRun,
    ToolCall,
    ToolDefinitions,
    ToolList,
    Unavailable,
)
from doogie_client.web.operation import Access, Operation
from doogie_client.web.problems import ChatProblem, Refusal, invalid
from doogie_client.web.users import Authenticate, User
from doogie_client.web.viewer import Viewer
from doogie_contract.models import Health
from doogie_contract.problems import ProblemType

MAX_LOG_LINES = 10_000
CONCURRENT_LISTS = 8
"""Servers that are asked for their tools at the same time by one request."""
LIST_TIMEOUT_S = 10.0
"""For one of them to answer: those that do should not wait for one that never does."""
READINESS_TIMEOUT_S = 5.0
DRY_RUN_NAME = "dry-run"
"""The proxy wants a server's name even to decide; no rule looks at it."""

VIEWER = web.RequestKey("viewer", Viewer)

_CONFIGS = TypeAdapter(list[Config])

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Backend:
    """What the app is built on. All of it is entered already, and outlives the app."""

    service: MCPConfigService
    store: ConfigStore
    proxy: ProxyClient
    catalogue: Catalogue


@dataclass(frozen=True)
class Limits:
    """What one caller may take."""

    body: BodyLimits = field(default_factory=BodyLimits)
    user_requests_max: int = 64
    heartbeat_s: float = 15.0


class Api:
    """The handlers, over what they need."""

    def __init__(self, backend: Backend, authenticate: Authenticate, limits: Limits) -> None:
        self._backend = backend
        self._service = backend.service
        self._authenticate = authenticate
        self._limits = limits
        self._requests: Counter[str] = Counter()
        self.news = News(backend.store)
        self.openapi_document = ""
        self.shutting_down = False

    def bind(self, operation: Operation) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """The handler of an operation, behind what every one checks first."""

        async def handle(request: web.Request) -> web.StreamResponse:
            if operation.access is Access.ANYONE:
                query(request, operation.query)
                return await operation.handler(self, request)
            user = await self._authenticate(request)
            if user is None:
                raise Refusal(ProblemType.UNAUTHENTICATED, "send Authorization: Bearer <token> with a token of a user")
            request[USER] = user
            viewer = request[VIEWER] = Viewer(user, self._backend.store)
            if operation.access is Access.ADMIN and not viewer.is_admin:
                raise Refusal(ChatProblem.FORBIDDEN, f"{user.id} has the role {user.role.value}")
            if self.shutting_down:
                raise Refusal(ChatProblem.SHUTTING_DOWN, "try again shortly", retry_after_s=1)
            query(request, operation.query)
            with self._counted(user):
                return await operation.handler(self, request)

        return handle

    def end(self) -> None:
        """Take no new requests, and end event streams."""
        self.shutting_down = True
        self.news.end()

    # ── configurations ───────────────────────────────────────────────────────────────────────────

    async def list_configs(self, request: web.Request) -> web.Response:
        """``GET /configs``: a bare array; ``Link`` leads to the rest where ``limit`` leaves some out (RFC 8288)."""
        limit = int(request.query["limit"]) if "limit" in request.query else None
        after = _name_of_cursor(request.query["cursor"]) if "cursor" in request.query else None
        viewer = request[VIEWER]
        records = await viewer.list_visible(after=after, limit=None if limit is None else limit + 1)
        shown = records if limit is None else records[:limit]
        response = web.Response(
            body=_CONFIGS.dump_json([viewer.config(record) for record in shown]), content_type="application/json"
        )
        if len(shown) < len(records):
            rest = request.rel_url.with_query(limit=str(limit), cursor=_cursor_of_name(shown[-1].name))
            response.headers[hdrs.LINK] = f'<{rest}>; rel="next"'
        return response

    async def create_config(self, request: web.Request) -> web.Response:
        """``POST /configs``."""
        wanted = await read_model(request, ConfigCreate, self._limits.body)
        require_values(wanted)
        return _config(request, await self._service.create_config(wanted.new_config(), request[USER].id))

    async def get_config(self, request: web.Request) -> web.Response:
        """``GET /configs/{id}``."""
        return _config(request, await self._record(request))

    async def update_config(self, request: web.Request) -> web.Response:
        """``PUT /configs/{id}``: what is not given stays as it is."""
        record = await self._record(request)
        version = wanted_version(request, record.version)
        update = await read_model(request, ConfigUpdate, self._limits.body)
        mended = restored(update, record)
        if mended != update and version is None:
            version = record.version  # its values are of this one
        updated = await self._service.update_config(record.id, mended, version=version)
        if updated is None:
            raise not_found()
        return _config(request, updated)

    async def delete_config(self, request: web.Request) -> web.Response:
        """``DELETE /configs/{id}``."""
        record = await self._record(request)
        version = wanted_version(request, record.version)
        if not await self._service.delete_config(record.id, version=version):
            raise not_found()
        return web.Response(status=204)

    async def import_configs(self, request: web.Request) -> web.Response:
        """``POST /import``: what another host's file has; the report says what became of each server."""
        wanted = await read_model(request, ImportRequest, self._limits.body)
        flags = {name: True for name in ("atomic", "dry_run") if request.query.get(name) == "1"}
        report = await self._service.import_mcp_config_json(wanted.model_copy(update=flags), request[USER].id)
        return _answer(report)

    async def export_configs(self, request: web.Request) -> web.Response:
        """``GET /configs/export/json``."""
        exported = await self._service.generate_mcp_config_json(request[USER].id)
        return web.Response(text=json.dumps(exported), content_type="application/json")

    async def export_configs_short(self, request: web.Request) -> web.Response:
        """``GET /configs/json``: what the old front end asks for, and the old API took for a configuration's id."""
        return await self.export_configs(request)

    # ── servers ──────────────────────────────────────────────────────────────────────────────────

    async def get_status(self, request: web.Request) -> web.Response:
        """``GET /configs/{id}/status``."""
        record = await self._record(request)
        return _status(request, record, await self._service.get_config_status(record.id))

    async def start_server(self, request: web.Request) -> web.Response:
        """``POST /configs/{id}/start``."""
        record = await self._record(request)
        if not record.config.enabled:
            raise Refusal(ChatProblem.CONFIG_DISABLED, "enable the configuration first")
        status = await self._service.start_server(record.id)
        return _done(request, record, status, "the server was not started")

    async def stop_server(self, request: web.Request) -> web.Response:
        """``POST /configs/{id}/stop``."""
        record = await self._record(request)
        status = await self._service.stop_server(record.id)
        return _done(request, record, status, "the server was not stopped")

    async def restart_server(self, request: web.Request) -> web.Response:
        """``POST /configs/{id}/restart``."""
        record = await self._record(request)
        status = await self._service.restart_server(record.id)
        return _done(request, record, status, "the server was not restarted")

    async def get_logs(self, request: web.Request) -> web.Response:
        """``GET /configs/{id}/logs``: for the owner and admins, because what one user did another may read there."""
        record = await self._record(request)
        if not request[VIEWER].may_look_into(record):
            raise Refusal(ChatProblem.FORBIDDEN, "the log of a shared server is for its owner and for admins")
        tail = min(int(request.query.get("tail", "200")), MAX_LOG_LINES)
        return web.Response(text=await self._service.get_logs(record.id, tail=tail), content_type="text/plain")

    async def dry_run(self, request: web.Request) -> web.Response:
        """``POST /configs/dry-run``."""
        wanted = await read_model(request, ConfigCreate, self._limits.body)
        require_values(wanted)
        return await self._admitted(wanted.new_config().config, DRY_RUN_NAME)

    async def dry_run_config(self, request: web.Request) -> web.Response:
        """``GET /configs/{id}/dry-run``."""
        record = await self._record(request)
        return await self._admitted(record.config, record.server_name)

    # ── tools ────────────────────────────────────────────────────────────────────────────────────

    async def list_config_tools(self, request: web.Request) -> web.Response:
        """``GET /configs/{id}/tools``."""
        record = await self._record(request)
        with _last_words_kept(request[VIEWER], record):
            tools = await self._service.list_tools(record.id)
        return _answer(ToolList(tools=[one.tool for one in tools]), as_given=True)

    async def call_config_tool(self, request: web.Request) -> web.Response:
        """``POST /configs/{id}/call``."""
        record = await self._record(request)
        return await self._called(request, record, await read_model(request, ToolCall, self._limits.body))

    async def list_tools(self, request: web.Request) -> web.Response:
        """``GET /tools``: of all running servers that the caller may call, as definitions for a language model."""
        viewer = request[VIEWER]
        enabled = [record for record in await viewer.list_usable() if record.config.enabled]
        places = asyncio.Semaphore(CONCURRENT_LISTS)

        async def tools_of(record: ConfigRecord) -> list[ServerTool] | Unavailable:
            try:
                async with places, asyncio.timeout(LIST_TIMEOUT_S):
                    with _last_words_kept(viewer, record):
                        return await self._service.list_tools(record.id)
            except TimeoutError:
                refusal = Refusal(ChatProblem.CALL_TIMED_OUT, f"no answer within {LIST_TIMEOUT_S:g} s")
            except Refusal as exc:
                refusal = exc
            except DoogieError as exc:
                refusal = refusal_of(exc)
            return Unavailable(id=record.id, name=record.name, type=refusal.kind.urn, detail=refusal.detail)

        found = await asyncio.gather(*map(tools_of, enabled))
        tools = [tool for of_one in found if not isinstance(of_one, Unavailable) for tool in of_one]
        return _answer(
            ToolDefinitions(
                tools=_STYLES[request.query.get("style", "mcp")](tools),
                unavailable=[one for one in found if isinstance(one, Unavailable)],
            )
        )

    async def call_tool(self, request: web.Request) -> web.Response:
        """``POST /call``: by a name of ``GET /tools``."""
        call = await read_model(request, ToolCall, self._limits.body)
        server_name = call.name.partition("__")[0]
        for record in await request[VIEWER].list_usable():
            if record.server_name == server_name:
                return await self._called(request, record, call)
        raise Refusal(ProblemType.NOT_FOUND, "there is no such tool: GET /tools names them, <server>__<tool>")

    # ── news, the proxy's policy, and the app itself ─────────────────────────────────────────────

    async def events(self, request: web.Request) -> web.StreamResponse:
        """``GET /events``: server-sent events."""

        async def is_still_known() -> bool:
            try:
                return await self._authenticate(request) == request[USER]
            except web.HTTPException:  # how an application around this one may say no
                return False

        with self.news.subscribed() as subscription:
            return await stream(
                request,
                subscription,
                request[VIEWER],
                is_still_known=is_still_known,
                heartbeat_s=self._limits.heartbeat_s,
            )

    async def policy(self, _request: web.Request) -> web.Response:
        """``GET /policy``: what the proxy lets the chat side start."""
        return _answer(await self._backend.proxy.policy())

    async def healthz(self, _request: web.Request) -> web.Response:
        """``GET /healthz``: the process answers."""
        return _answer(Health(status="ok"))

    async def readyz(self, _request: web.Request) -> web.Response:
        """``GET /readyz``: database and proxy answer."""
        reasons = ["the web app is ending"] if self.shutting_down else []
        questions: dict[str, Callable[[], Awaitable[object]]] = {
            "database": partial(self._backend.store.get, ""),
            "proxy": self._backend.proxy.list,
        }
        for what, ask in questions.items():
            try:
                async with asyncio.timeout(READINESS_TIMEOUT_S):
                    await ask()
            except (DoogieError, TimeoutError) as exc:
                reasons.append(f"the {what} cannot be used")
                log.warning("not_ready", what=what, error=str(exc))
        return _answer(Health(status="not ready" if reasons else "ok", reasons=reasons), 503 if reasons else 200)

    async def openapi(self, _request: web.Request) -> web.Response:
        """``GET /openapi.json``."""
        return web.Response(text=self.openapi_document, content_type="application/json")

    # ── what they share ──────────────────────────────────────────────────────────────────────────

    @contextmanager
    def _counted(self, user: User) -> Iterator[None]:
        if self._requests[user.id] >= self._limits.user_requests_max:
            detail = f"{self._limits.user_requests_max} requests and event streams of {user.id} are under way"
            raise Refusal(ProblemType.QUOTA_EXCEEDED, detail, retry_after_s=1)
        self._requests[user.id] += 1
        try:
            yield
        finally:
            self._requests[user.id] -= 1
            if not self._requests[user.id]:
                del self._requests[user.id]

    async def _record(self, request: web.Request) -> ConfigRecord:
        """The configuration of the path. Raises one and the same ``Refusal`` for none and for one of somebody else."""
        record = await self._service.get_config_by_id(request.match_info["id"])
        if record is None or not request[VIEWER].may_see(record):
            raise not_found()
        return record

    async def _called(self, request: web.Request, record: ConfigRecord, call: ToolCall) -> web.Response:
        with _last_words_kept(request[VIEWER], record):
            result = await self._service.call_tool(record.id, call.name, call.arguments, timeout_s=call.timeout_s)
        return _answer(result, as_given=True)

    async def _admitted(self, config: ServerConfig, name: str) -> web.Response:
        translation = translate(config, self._backend.catalogue)
        admission = await self._backend.proxy.admit(name, translation.request)
        env = dict.fromkeys(translation.request.env, MASK)
        return _answer(
            DryRun(
                request=translation.request.model_copy(update={"env": env}),
                rule=admission.rule,
                image=admission.image,
                limits=admission.limits,
                notes=list(translation.notes),
            )
        )


@contextmanager
def _last_words_kept(viewer: Viewer, record: ConfigRecord) -> Iterator[None]:
    """How a server ended is told, with what it wrote last, only to whom its log is for."""
    try:
        yield
    except (ServerNotRunning, SessionUnavailable, CallInterrupted) as exc:
        if viewer.may_look_into(record):
            raise
        raise Refusal(refusal_of(exc).kind, ASK_AN_ADMIN) from exc


def _answer(model: BaseModel, status: int = 200, *, as_given: bool = False) -> web.Response:
    """``as_given``: what a server said, with no member that it did not say."""
    body = model.model_dump_json(by_alias=True, exclude_unset=as_given).encode()
    return web.Response(status=status, body=body, content_type="application/json")


def _config(request: web.Request, record: ConfigRecord) -> web.Response:
    response = _answer(request[VIEWER].config(record))
    response.etag = str(record.version)
    return response


def _status(request: web.Request, record: ConfigRecord, status: ConfigStatus | None) -> web.Response:
    if status is None:  # deleted meanwhile
        raise not_found()
    return _answer(request[VIEWER].status(record, status))


def _done(request: web.Request, record: ConfigRecord, status: ConfigStatus | None, otherwise: str) -> web.Response:
    if status is not None and status.status is Status.ERROR:
        raise refusal_of_status(status, otherwise)
    return _status(request, record, status)


def _cursor_of_name(name: str) -> str:
    return base64.urlsafe_b64encode(name.encode()).decode().rstrip("=")


def _name_of_cursor(cursor: str) -> str:
    try:
        return base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise invalid("query.cursor", "must be from the Link of an earlier answer") from None


def _mcp_tools(tools: list[ServerTool]) -> list[dict[str, JsonValue]]:
    return [{**one.tool.model_dump(mode="json", by_alias=True, exclude_unset=True), "name": one.name} for one in tools]


_STYLES: dict[str, Callable[[list[ServerTool]], list[dict[str, JsonValue]]]] = {
    "mcp": _mcp_tools,
    "openai": openai_tools,
    "anthropic": anthropic_tools,
}
