"""``Sessions``: at most one MCP session per configuration, over all processes; opened when first needed, then kept.

    caller ──► Session                 this process has it
          ├──► RemoteSession           a sibling on this host has it: over its unix socket
          └──► open                    nobody has it: take the lock session:<id>, attach, shake hands

One container, one session. A server's process remembers what a session did: the protocol's era, log level,
subscriptions, and replies that nobody waited for, which a second session would take for its own because both count
their requests from 1. So a session begins in a container that has had none; where one had begun and was lost (its
process died or let go of it), the server is restarted first. Status shows the new container then: it is always the one
that is called.

Each session lives in a task of its own, because the SDK's client is bound to the task that enters it. The task ends
with the server, or when it is told to close; then it lets go of the lock, and notes how the server ended.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from types import TracebackType
from typing import Self, TypeVar

import structlog
from mcp.shared.exceptions import MCPError
from mcp_types import Tool
from pydantic import JsonValue

from doogie_client.client import ProxyClient
from doogie_client.errors import NotFound, StdioBusy, StdioClosed
from doogie_client.service.errors import ConfigDisabled, ServerNotRunning, SessionUnavailable
from doogie_client.service.lifecycle import Lifecycle
from doogie_client.service.operations import Operations
from doogie_client.service.records import ConfigRecord
from doogie_client.service.run_dir import RunDir
from doogie_client.service.session import Caller, Session, ToolResult
from doogie_client.service.siblings import NotServed, RemoteSession
from doogie_client.service.status import redacted, seen
from doogie_client.service.store import ConfigNotFound, ConfigStore
from doogie_contract.models import ServerState, ServerStatus

T = TypeVar("T")

TAKEOVER_TIMEOUT_S = 2.0
"""How long a session's lock may be held by a process that does not answer, as one does that has just died."""
DETACH_TIMEOUT_S = 2.0
"""How long the proxy may take to notice that a process that was attached has died."""
POLL_S = 0.05
ATTEMPTS = 3
"""How often a call looks anew for the session, each time before anything was sent."""

log = structlog.get_logger(__name__)


class _Held:
    """The session of a configuration in this process, from the first wish for it until its end."""

    def __init__(self) -> None:
        self.opened: asyncio.Future[Session | None] = asyncio.get_running_loop().create_future()
        self.gone = asyncio.Event()

    @property
    def session(self) -> Session | None:
        """The session, while it is open."""
        if not self.opened.done() or self.opened.exception() is not None:
            return None
        session = self.opened.result()
        return session if session is not None and not session.over else None

    async def close(self) -> None:
        """Close the session, once it is open, and return when it is closed."""
        await asyncio.wait([self.opened])
        if (session := self.session) is not None:
            session.close()
        await self.gone.wait()

    def fail(self, exc: Exception) -> None:
        """It did not open, and this is what everybody who waits for it gets."""
        if not self.opened.done():
            self.opened.set_exception(exc)
            self.opened.exception()  # seen, even if whoever waited has gone


class Sessions:
    """The sessions of this process, and the way to those of its siblings.

    Args:
        store: for the locks, and for the configurations.
        proxy: the servers' proxy.
        lifecycle: restarts a server whose session was lost, and notes how one ended.
        operations: owns the tasks.
        run_dir: where the siblings are.
        session_timeout_s: for a server to answer the handshake.
    """

    def __init__(
        self,
        *,
        store: ConfigStore,
        proxy: ProxyClient,
        lifecycle: Lifecycle,
        operations: Operations,
        run_dir: RunDir,
        session_timeout_s: float,
    ) -> None:
        self._store = store
        self._proxy = proxy
        self._lifecycle = lifecycle
        self._operations = operations
        self._run_dir = run_dir
        self._session_timeout_s = session_timeout_s
        self._held: dict[str, _Held] = {}
        self._closing = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closing = True
        await self.close_all()

    # ── calls ────────────────────────────────────────────────────────────────────────────────────

    async def list_tools(self, config_id: str, *, timeout_s: float) -> list[Tool]:
        """All tools of a running server. Raises as ``call_tool``."""
        return await self._through(config_id, lambda caller: caller.list_tools(timeout_s=timeout_s))

    async def call_tool(
        self, config_id: str, name: str, arguments: Mapping[str, JsonValue], *, timeout_s: float
    ) -> ToolResult:
        """One call of a tool by its own name, sent once.

        Raises:
            ConfigNotFound, ConfigDisabled, ServerNotRunning, SessionUnavailable: nothing was sent.
            ProxyUnavailable, ProblemResponse: as ``SessionUnavailable``, and the proxy says why.
            CallFailed: and its kinds; it was sent.
        """
        return await self._through(config_id, lambda caller: caller.call_tool(name, arguments, timeout_s=timeout_s))

    def of(self, config_id: str) -> Session | None:
        """The open session, if this process has it."""
        held = self._held.get(config_id)
        return held.session if held is not None else None

    async def _through(self, config_id: str, ask: Callable[[Caller], Awaitable[T]]) -> T:
        owner = self._run_dir.owner(config_id) if self.of(config_id) is None else None
        caller: Caller | None = None if owner is None else RemoteSession(owner, config_id)
        for _ in range(ATTEMPTS):
            try:
                return await ask(caller or await self._caller(config_id))
            except NotServed:
                caller = None
        raise SessionUnavailable("the session went from process to process faster than it could be called")

    async def _caller(self, config_id: str) -> Caller:
        """The session: this process's, opened if need be, or the way to the sibling that has it."""
        held = self._held.get(config_id)
        if held is None or (held.opened.done() and held.session is None):
            if self._closing:
                raise SessionUnavailable("the service is closing")
            held = self._held[config_id] = _Held()
            self._operations.spawn(f"session {config_id}", partial(self._hold, config_id, held))
        session = await asyncio.shield(held.opened)
        if session is not None:
            return session
        owner = self._run_dir.owner(config_id)
        if owner is None:
            raise NotServed("the sibling that had the session has let go of it")
        return RemoteSession(owner, config_id)

    # ── the life of a session ────────────────────────────────────────────────────────────────────

    async def _hold(self, config_id: str, held: _Held) -> None:
        """Open a session, tell who waits for it, keep it until it is over; in one task."""
        session: Session | None = None
        try:
            async with AsyncExitStack() as stack:
                async with self._operations.lock(config_id):
                    session = await self._open(stack, config_id)
                    held.opened.set_result(session)  # before a sibling, whose turn it is next, asks for it
                if session is None:
                    return
                await session.wait_over()
        except BaseException as exc:
            if held.opened.done() or not isinstance(exc, Exception):
                held.fail(SessionUnavailable("the service is closing"))
                raise
            held.fail(exc)
        finally:
            held.gone.set()
            if self._held.get(config_id) is held:
                del self._held[config_id]
            if session is not None:
                log.info("session_closed", config_id=config_id, container_id=session.container_id, reason=session.end)
        if session is not None and session.ended:
            await self._operations.run(config_id, partial(self._lifecycle.note, config_id))

    async def _open(self, stack: AsyncExitStack, config_id: str) -> Session | None:
        """A new session, which ends with the stack; None where a sibling has one. Under the configuration's lock."""
        begun = time.monotonic()
        record = await self._store.get(config_id)
        if record is None:
            raise ConfigNotFound(f"there is no configuration {config_id}")
        if not record.config.enabled:
            raise ConfigDisabled(f"{record.name!r} is disabled: enable it first")
        if not await self._take_lock(stack, config_id):
            return None
        try:
            container_id = await self._fresh_container(record)
            session = await self._shake_hands(stack, record, container_id)
            stack.callback(self._run_dir.withdraw, config_id)
            self._run_dir.publish(config_id)
        except OSError as exc:
            raise SessionUnavailable(f"run_dir cannot be used: {exc}") from exc
        log.info(
            "session_opened",
            config_id=config_id,
            server=record.server_name,
            container_id=container_id,
            duration_s=round(time.monotonic() - begun, 3),
        )
        return session

    async def _take_lock(self, stack: AsyncExitStack, config_id: str) -> bool:
        """The right to the session, until the stack ends; False where a sibling that answers has it.

        On this host the configuration's lock and the siblings' answers would do. This one tells processes that cannot
        be asked; so a session goes on without it when the database is away for a moment.
        """
        owner = self._run_dir.owner(config_id)
        if owner is not None and await RemoteSession(owner, config_id).is_served():
            return False

        def lost() -> None:
            log.warning("session_lock_lost", config_id=config_id)

        name = f"session:{config_id}"
        if await stack.enter_async_context(self._store.lock(name, wait=False, on_lost=lost)):
            return True
        try:
            async with asyncio.timeout(TAKEOVER_TIMEOUT_S):
                return await stack.enter_async_context(self._store.lock(name, on_lost=lost))
        except TimeoutError:
            raise SessionUnavailable(
                "another process has the session and cannot be reached: it is on another host, or has another run_dir"
            ) from None

    async def _fresh_container(self, record: ConfigRecord) -> str:
        """The id of the server's container, which runs and has had no session; restarted where it may have had one."""
        server = await self._running(record)
        if (container_id := server.container_id) is None or not self._run_dir.take_fresh(record.id, container_id):
            log.info("session_needs_fresh_container", config_id=record.id, container_id=container_id)
            await self._lifecycle.replace(record)
            server = await self._running(record)
            if (container_id := server.container_id) is None or not self._run_dir.take_fresh(record.id, container_id):
                raise SessionUnavailable("the server was replaced while a session was opened: try again")
        return container_id

    async def _shake_hands(self, stack: AsyncExitStack, record: ConfigRecord, container_id: str) -> Session:
        """Attach and initialise; the session is with this container and no other."""
        try:
            async with asyncio.timeout(self._session_timeout_s):
                client = await stack.enter_async_context(self._proxy.mcp_session(record.server_name))
        except (TimeoutError, MCPError, StdioClosed, StdioBusy, NotFound) as exc:
            await self._lifecycle.note(record.id)  # it may have ended
            why = f"no answer within {self._session_timeout_s:g} s" if isinstance(exc, TimeoutError) else str(exc)
            raise SessionUnavailable(f"the MCP handshake failed: {redacted(why, record.config.env)}") from exc
        # The proxy attaches to whatever has the name; a container never comes back, so one look afterwards is enough.
        if (await self._proxy.status(record.server_name)).container_id != container_id:
            raise SessionUnavailable("the server was replaced while a session was opened: try again")
        return Session(client, record, container_id)

    async def _running(self, record: ConfigRecord) -> ServerStatus:
        """The server, once it runs and nobody is attached.

        Raises:
            ServerNotRunning: what it does instead.
            SessionUnavailable: somebody stays attached who is no process of this service.
        """
        deadline = time.monotonic() + DETACH_TIMEOUT_S
        while (server := await self._require_running(record)).stdio is not None and server.stdio.attached:
            if time.monotonic() > deadline:
                raise SessionUnavailable(
                    f"someone else is attached to {record.server_name}, like `doogie stdio`: only one can be"
                )
            await asyncio.sleep(POLL_S)  # what tells when it is free again is the proxy's
        return server

    async def _require_running(self, record: ConfigRecord) -> ServerStatus:
        server = await self._lifecycle.find(record)
        if server.state is not ServerState.RUNNING:
            status = seen(record, server)
            if (status.status, status.container_id) != (record.status, record.container_id):
                await self._lifecycle.keep(status)
            reason = f": {status.error_message}" if status.error_message else ": start it first"
            raise ServerNotRunning(f"the server of {record.name!r} is not running{reason}")
        return server

    # ── ends ─────────────────────────────────────────────────────────────────────────────────────

    async def close_where_gone(self, config_id: str | None) -> None:
        """Close the session of a configuration that is deleted or disabled; None: of all that are."""
        for held_id in list(self._held) if config_id is None else [config_id]:
            if (session := self.of(held_id)) is not None:
                record = await self._store.get(held_id)
                if record is None or not record.config.enabled:
                    session.close()

    async def close_all(self) -> None:
        """Close all sessions of this process and return when they are closed; the servers run on."""
        await asyncio.gather(*(held.close() for held in list(self._held.values())))
