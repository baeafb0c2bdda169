"""``MCPConfigService``: what a chat backend calls. The package's docstring follows a call through its hops."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog
from pydantic import JsonValue

from doogie_client.client import ProxyClient
from doogie_client.commands.catalogue import Catalogue
from doogie_client.errors import DoogieError, NotFound
from doogie_client.service.calls import checked_arguments, checked_name, old_error, old_result, parse_arguments
from doogie_client.service.configurations import Configurations
from doogie_client.service.errors import ConfigDisabled, UnknownTool
from doogie_client.service.exporting import export_mcp_servers
from doogie_client.service.import_report import ImportReport, ImportRequest
from doogie_client.service.importing import import_document
from doogie_client.service.lifecycle import Lifecycle
from doogie_client.service.operations import Operations
from doogie_client.service.records import ConfigRecord, ConfigStatus, ConfigUpdate, NewConfig
from doogie_client.service.renewal import keep_renewing
from doogie_client.service.run_dir import RunDir
from doogie_client.service.session import ToolResult
from doogie_client.service.sessions import Sessions
from doogie_client.service.siblings import Siblings
from doogie_client.service.status import redacted
from doogie_client.service.store import (
    Change,
    ConfigNotFound,
    ConfigStore,
    StoreError,
    StoreUnavailable,
)
from doogie_client.service.tools import ServerTool, find_tool, is_escaped, own_name

LOGGED_NAME_CHARS = 128
IMPORTED = "imported"
"""The name under which the policy is asked about what is not stored yet."""
FOLLOW_RETRY_S = 1.0

log = structlog.get_logger(__name__)


class MCPConfigService:
    """Configurations, the servers started from them, and their tools. ``async with MCPConfigService(…) as service``.

    It is entered and left by one task, and belongs to that one's event loop. From a worker thread of the loop:
    ``anyio.from_thread.run(service.start_server, config_id)``; where there is no loop at all:
    ``anyio.from_thread.start_blocking_portal``. Several processes may each have one, with the same database, proxy and
    ``run_dir``.

    Args:
        store: open, and closed by whoever opened it, as ``proxy`` is.
        proxy: of the client whose policy the servers are started under.
        catalogue: which image a package is.
        run_dir: where the worker processes of this host find each other; a directory of their user's alone.
        call_timeout_s: for a tool to answer, where a call says nothing.
        session_timeout_s: for a server to answer the MCP handshake.
        concurrent_starts: servers started at the same time by ``start_all_enabled``.
        renew_interval_s: between two renewals of servers that nobody calls; less than any rule's ``detached_ttl_s``.

    Raises:
        ValueError, OSError: ``run_dir`` cannot be used; the message says why.

    Every call may raise ``StoreUnavailable``.
    """

    def __init__(
        self,
        *,
        store: ConfigStore,
        proxy: ProxyClient,
        catalogue: Catalogue,
        run_dir: Path,
        call_timeout_s: float = 60,
        session_timeout_s: float = 30,
        concurrent_starts: int = 4,
        renew_interval_s: float = 30,
    ) -> None:
        self._store = store
        self._proxy = proxy
        self._catalogue = catalogue
        self._renew_interval_s = renew_interval_s
        self._call_timeout_s = call_timeout_s
        self._concurrent_starts = concurrent_starts
        self._run_dir = RunDir(run_dir)
        self._operations = Operations(store)
        self._lifecycle = Lifecycle(store=store, proxy=proxy, catalogue=catalogue, run_dir=self._run_dir)
        self._configurations = Configurations(store=store, lifecycle=self._lifecycle, catalogue=catalogue)
        self._sessions = Sessions(
            store=store,
            proxy=proxy,
            lifecycle=self._lifecycle,
            operations=self._operations,
            run_dir=self._run_dir,
            session_timeout_s=session_timeout_s,
        )
        self._noting: set[str] = set()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            stack.enter_context(self._run_dir)
            await stack.enter_async_context(self._operations)
            await stack.enter_async_context(Siblings(self._run_dir.socket, self._sessions.of))
            following = self._operations.spawn("follow changes", self._follow_changes)
            stack.callback(following.cancel)
            renewing = self._operations.spawn("renew leases", self._keep_renewing)
            stack.callback(renewing.cancel)
            await stack.enter_async_context(self._sessions)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the sessions and carry on to their end the operations that are under way; the servers run on."""
        await self._stack.aclose()

    async def _keep_renewing(self) -> None:
        await keep_renewing(self._store, self._proxy, self._renew_interval_s)

    # ── configurations ───────────────────────────────────────────────────────────────────────────

    async def create_config(self, new: NewConfig, user_id: str) -> ConfigRecord:
        """Store a configuration; it is not started. Raises ``CommandRefused``, ``NameTaken``, ``MaskedValue``."""
        return await self._configurations.create(new, user_id)

    async def get_config_by_id(self, config_id: str) -> ConfigRecord | None:
        """The configuration of this id."""
        return await self._store.get(config_id)

    async def get_configs_by_user(self, user_id: str) -> list[ConfigRecord]:
        """The configurations of this user and the shared ones, by name."""
        return await self._store.list(visible_to=user_id)

    async def get_all_enabled_configs(self) -> list[ConfigRecord]:
        """Every user's enabled configurations, by name."""
        return await self._store.list(enabled=True)

    async def update_config(
        self, config_id: str, update: ConfigUpdate, *, version: int | None = None
    ) -> ConfigRecord | None:
        """Change a configuration; what runs is stopped first when it is disabled or its command changes.

        Returns None for an unknown id.

        Raises:
            CommandRefused: the changed command cannot be translated; nothing was stopped or changed.
            StopFailed: nothing was changed.
            NameTaken, VersionConflict, MaskedValue
        """
        return await self._operations.run(config_id, partial(self._configurations.update, config_id, update, version))

    async def delete_config(self, config_id: str, *, version: int | None = None) -> bool:
        """Stop what runs, then remove the configuration; whether there was one.

        Raises:
            StopFailed: it was not removed.
            VersionConflict
        """
        return await self._operations.run(config_id, partial(self._configurations.delete, config_id, version))

    async def generate_mcp_config_json(self, user_id: str) -> dict[str, JsonValue]:
        """``{"mcpServers": {…}}`` for an MCP host on a desktop: each enabled server through ``doogie stdio``.

        Commands and environments stay here: the host is given the running server, not the means to start another.
        """
        return export_mcp_servers(await self.get_configs_by_user(user_id))

    async def import_mcp_config_json(self, request: ImportRequest, user_id: str) -> ImportReport:
        """Save the servers of another host's file, or of a command line, as this user's configurations.

        Each is shown to the proxy's policy: what no rule admits comes back with the rule to ask for. What runs of one
        that is replaced is stopped. Raises ``DocumentError``.
        """
        admit = partial(self._proxy.admit, IMPORTED)
        return await import_document(
            self._store, request, user_id, catalogue=self._catalogue, admit=admit, stop=self._end_replaced
        )

    async def _end_replaced(self, record: ConfigRecord) -> None:
        await self._operations.run(record.id, lambda: self._lifecycle.end(record))

    # ── servers ──────────────────────────────────────────────────────────────────────────────────

    async def get_config_status(self, config_id: str) -> ConfigStatus | None:
        """What the proxy says of the server now; None for an unknown id.

        A proxy that is away is an answer too: status ``error``, ``state`` None.
        """
        record = await self._store.get(config_id)
        if record is None:
            return None
        status = await self._lifecycle.look(record)
        kept = (record.status, record.container_id)
        if status.state is not None and kept != (status.status, status.container_id) and config_id not in self._noting:
            self._noting.add(config_id)
            self._operations.spawn("note status", partial(self._note, config_id))
        return status

    async def _note(self, config_id: str) -> None:
        try:
            await self._operations.run(config_id, partial(self._lifecycle.note, config_id))
        finally:
            self._noting.discard(config_id)

    async def start_server(self, config_id: str) -> ConfigStatus | None:
        """Make the server run; None for an unknown id.

        A refusal is an answer: status ``error`` with ``error_message``, ``problem`` and ``faults``. A disabled
        configuration is not started: status ``stopped`` with an ``error_message``.
        """
        return await self._operate(config_id, self._lifecycle.start)

    async def stop_server(self, config_id: str) -> ConfigStatus | None:
        """End the server; a failure is an answer, as in ``start_server``."""
        return await self._operate(config_id, self._lifecycle.stop)

    async def restart_server(self, config_id: str) -> ConfigStatus | None:
        """Stop and start; what the policy denies leaves the server running."""
        return await self._operate(config_id, self._lifecycle.restart)

    async def _operate(
        self, config_id: str, operation: Callable[[ConfigRecord], Awaitable[ConfigStatus]]
    ) -> ConfigStatus | None:
        async def operate() -> ConfigStatus | None:
            record = await self._store.get(config_id)
            return None if record is None else await operation(record)

        return await self._operations.run(config_id, operate)

    async def start_all_enabled(self) -> list[ConfigStatus]:
        """Start every enabled server, where this process is the first of its host; empty where it is not.

        For the start of the application: a worker process that comes later does not start again what was stopped
        meanwhile. Nothing that goes wrong is raised; each failure is kept in its configuration.
        """
        if not self._run_dir.first:
            return []
        try:
            records = await self._store.list(enabled=True)
        except StoreError as exc:
            log.error("start_all_failed", error=str(exc))  # noqa: TRY400 - the message says all
            return []
        turns = asyncio.Semaphore(self._concurrent_starts)

        async def start(record: ConfigRecord) -> ConfigStatus | None:
            async with turns:
                try:
                    return await self.start_server(record.id)
                except StoreError as exc:
                    log.error("start_failed", config_id=record.id, error=str(exc))  # noqa: TRY400 - as above
                    return None

        started = await asyncio.gather(*(start(record) for record in records))
        return [status for status in started if status is not None]

    async def get_logs(self, config_id: str, *, tail: int = 200) -> str:
        """The last lines of the server's stderr, empty where there is none.

        Raises ``ConfigNotFound``, ``ProxyUnavailable``, ``ProblemResponse``.
        """
        record = await self._require(config_id)
        try:
            return redacted(await self._proxy.logs(record.server_name, tail=tail), record.config.env)
        except NotFound:
            return ""

    # ── tools ────────────────────────────────────────────────────────────────────────────────────

    async def list_tools(self, config_id: str) -> list[ServerTool]:
        """The tools of a running server. Raises as ``call_tool``."""
        return await self._list_tools(await self._require_enabled(config_id))

    async def list_tools_by_user(self, user_id: str) -> list[ServerTool]:
        """The tools of all servers that run for this user, for a language model; see ``openai_tools``, ``find_tool``.

        Servers that do not run, or do not answer, have none; the log says why.
        """
        records = [record for record in await self.get_configs_by_user(user_id) if record.config.enabled]

        async def tools(record: ConfigRecord) -> list[ServerTool]:
            try:
                return await self._list_tools(record)
            except DoogieError as exc:
                log.info("tools_unavailable", config_id=record.id, server=record.server_name, error=str(exc))
                return []

        return [tool for listed in await asyncio.gather(*map(tools, records)) for tool in listed]

    async def call_tool(
        self, config_id: str, tool_name: str, arguments: Mapping[str, JsonValue], *, timeout_s: float | None = None
    ) -> ToolResult:
        """Call a tool, once, by its own name or the one for language models.

        A name that begins with the server's is taken for the latter. The first call of a server opens its session,
        which takes a second or so and has a time-out of its own.

        Raises:
            ConfigNotFound, ConfigDisabled, ServerNotRunning, SessionUnavailable, InvalidCall: nothing was sent.
            ProxyUnavailable, ProblemResponse: nothing was sent either.
            CallFailed: it was sent; see its kinds. It may have run, and is not sent again.
        """
        record = await self._require_enabled(config_id)
        return await self._call_tool(record, tool_name, arguments, timeout_s)

    async def execute_mcp_tool(
        self, config_id: str, tool_call_id: str, tool_name: str, arguments_str: str
    ) -> dict[str, str]:
        """``call_tool`` in the old shape: ``{"result": "<JSON>"}``.

        The JSON is ``{"result": text}`` or ``{"error": {"code": …, "message": …}}``, codes: -32602 arguments that are
        not a JSON object, -32603 no such configuration or a disabled one, -32000 all else.
        """
        with structlog.contextvars.bound_contextvars(tool_call_id=tool_call_id):
            try:
                record = await self._require_enabled(config_id)
                return old_result(await self._call_tool(record, tool_name, parse_arguments(arguments_str), None))
            except DoogieError as exc:
                return old_error(tool_name, exc)

    async def close_all_sessions(self) -> None:
        """Close the sessions of this process; the servers run on, and the next call of one restarts it."""
        await self._sessions.close_all()

    async def _list_tools(self, record: ConfigRecord) -> list[ServerTool]:
        tools = await self._sessions.list_tools(record.id, timeout_s=self._call_timeout_s)
        return [ServerTool(record.id, record.server_name, tool) for tool in tools]

    async def _call_tool(
        self, record: ConfigRecord, tool_name: str, arguments: Mapping[str, JsonValue], timeout_s: float | None
    ) -> ToolResult:
        begun = time.monotonic()
        outcome = "cancelled"
        try:
            checked = checked_arguments(arguments)
            name = checked_name(await self._own_name(record, tool_name))
            timeout_s = self._call_timeout_s if timeout_s is None else timeout_s
            result = await self._sessions.call_tool(record.id, name, checked, timeout_s=timeout_s)
            outcome = "tool_error" if result.is_error else "ok"
            return result
        except DoogieError as exc:
            outcome = type(exc).__name__
            raise
        finally:
            log.info(
                "tool_called",
                config_id=record.id,
                server=record.server_name,
                tool=tool_name[:LOGGED_NAME_CHARS],
                outcome=outcome,
                duration_s=round(time.monotonic() - begun, 3),
            )

    async def _own_name(self, record: ConfigRecord, name: str) -> str:
        """The name by which the server knows the tool."""
        own = own_name(record.server_name, name)
        if own == name or not is_escaped(own):
            return own
        found = find_tool(await self._list_tools(record), name)
        if found is None:
            raise UnknownTool(f"the server of {record.name!r} has no tool {name!r}")
        return found.tool.name

    # ── plumbing ─────────────────────────────────────────────────────────────────────────────────

    async def _require(self, config_id: str) -> ConfigRecord:
        record = await self._store.get(config_id)
        if record is None:
            raise ConfigNotFound(f"there is no configuration {config_id!r}")
        return record

    async def _require_enabled(self, config_id: str) -> ConfigRecord:
        record = await self._require(config_id)
        if not record.config.enabled:
            raise ConfigDisabled(f"{record.name!r} is disabled: enable it first")
        return record

    async def _follow_changes(self) -> None:
        """Close sessions whose configuration another process has deleted or disabled, until the store is closed."""
        while True:
            try:
                async with self._store.changes() as changes:
                    await self._sessions.close_where_gone(None)  # while nobody listened
                    async for news in changes:
                        if news.change is not Change.STATUS:
                            await self._sessions.close_where_gone(news.config_id)
                return
            except StoreUnavailable as exc:
                log.warning("changes_unavailable", error=str(exc), retry_s=FOLLOW_RETRY_S)
                await asyncio.sleep(FOLLOW_RETRY_S)
