"""The lives of the servers: start, stop, adoption, leases, exits.

    start   image → create → attach → start        under the server's lock; whatever fails is undone
    stop    (EOF) → SIGTERM → SIGKILL → remove     returns when the name is free
    die     an engine event, or the end of the streams: exit code, OOM, stderr tail; attached clients are told
    sweep   at start-up, after the engine was away, and periodically: adopts what is ours, ends what is expired,
            removes what is dead for long enough

The engine is the database: a server exists because its container does. What is held here mirrors it, and is made
anew from the signed labels when the proxy starts. An operation runs to its end even when its caller goes away.
"""

import asyncio
import contextvars
import signal
import time
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar
from weakref import WeakValueDictionary

import structlog

from doogie_contract.channels import CloseCode
from doogie_contract.models import ExitReason, ServerExit, StartRequest
from doogie_contract.problems import ProblemError, ProblemType
from doogie_proxy.admission import Admitted
from doogie_proxy.attachment import Attachment
from doogie_proxy.engine import Engine, EngineEvent
from doogie_proxy.engine_failures import EngineConflict, EngineFailure, EngineTimeout, EngineUnavailable, NotFound
from doogie_proxy.identity import LABEL_INSTANCE, Identity, IdentityError, Keyring, same_spec, spec_mac
from doogie_proxy.quotas import Quotas
from doogie_proxy.server import Key, Server
from doogie_proxy.spec import ImageRefusedError, create_body
from doogie_proxy.stdio import StdioHub

T = TypeVar("T")

STDERR_TAIL_BYTES = 4096
KILLED = 128 + signal.SIGKILL
"""The exit code of a process that SIGKILL ended."""
OOM_EVENT_TIMEOUT_S = 0.05
"""How long an end by SIGKILL waits for the engine to say that it was for want of memory."""
PROBE_TIMEOUT_S = 5.0
"""How long a living container may take to be inspected while its output is stalled."""
STREAM_END_TIMEOUT_S = 2.0
"""How long a dead container's last output may take to arrive."""

log = structlog.get_logger(__name__)


class Attachments(NamedTuple):
    """The three streams of a container; None where there is nothing left to attach to."""

    stdin: Attachment | None
    stdout: Attachment | None
    stderr: Attachment | None


class Servers:
    """All servers of one proxy instance. ``async with Servers(...)``.

    Args:
        engine: entered already.
        keyring: signs labels.
        instance: of this proxy; containers of others are not touched.
        sweep_interval_s: between two sweeps.
        reconnect_s: before the engine is asked again after it was away.
    """

    def __init__(
        self, engine: Engine, keyring: Keyring, *, instance: str, sweep_interval_s: float, reconnect_s: float
    ) -> None:
        self._engine = engine
        self._keyring = keyring
        self._instance = instance
        self._sweep_interval_s = sweep_interval_s
        self._reconnect_s = reconnect_s
        self._servers: dict[Key, Server] = {}
        self._locks: WeakValueDictionary[Key, asyncio.Lock] = WeakValueDictionary()
        self._quotas = Quotas()
        self._foreign: set[str] = set()
        self._not_ready = ["the engine has not been asked yet"]
        self._group = asyncio.TaskGroup()
        self._loops: list[asyncio.Task[None]] = []
        self._operations: set[asyncio.Task[None]] = set()
        self._closing = False

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        self._loops = [
            self._group.create_task(self._follow_engine(), name="engine events"),
            self._group.create_task(self._sweep_periodically(), name="sweep"),
        ]
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End what cannot outlive the proxy; leave the rest running for the next one."""
        self._closing = True
        for task in self._loops:
            task.cancel()
        while self._operations:
            await asyncio.wait(self._operations)
        await asyncio.gather(*(self._close(server) for server in list(self._servers.values())))
        await self._group.__aexit__(None, None, None)  # an error of the block goes on as it is, not in a group

    # ── what a client may ask for ────────────────────────────────────────────────────────────────

    def use(self, keyring: Keyring) -> None:
        """Sign with other keys from now on. Containers whose signature did not verify are looked at again."""
        self._keyring = keyring
        self._foreign.clear()

    async def start(
        self, key: Key, request: StartRequest, admitted: Admitted, secrets: Mapping[str, str], *, wait: bool = True
    ) -> tuple[Server | None, bool]:
        """Start a server, or find it running with the same request.

        Args:
            key: of the server.
            request: of the client.
            admitted: what the policy made of it.
            secrets: values, by the path of their file.
            wait: until it runs.

        Returns:
            The server and whether it was created now. Without ``wait``, (None, True) once the start is under way.

        Raises:
            ProblemError: spec-conflict; quota-exceeded; engine-unavailable before the first sweep.
            EngineFailure, ImageRefusedError: nothing is left behind.
        """
        self._require_ready()
        if wait:
            return await self._run(self._start(key, request, admitted, secrets))
        # What can be known now is told now.
        if (server := self._running(key, request)) is not None:
            return server, False
        self._quotas.check(key, admitted, self._servers.values())
        await self._engine.inspect_image(admitted.references)
        self._spawn("start", self._start(key, request, admitted, secrets), context=contextvars.copy_context())
        return None, True

    async def stop(self, key: Key, *, grace_s: int | None) -> ServerExit | None:
        """End a server and remove its container; returns when the name is free. Unknown: None, at once.

        Raises:
            EngineFailure: it may still run; ask again.
        """
        self._require_ready()
        return await self._run(self._stop(key, grace_s))

    def get(self, key: Key) -> Server | None:
        """The server of this client and name."""
        return self._servers.get(key)

    def of_client(self, client: str) -> list[Server]:
        """All servers of this client, by name."""
        return [server for key, server in sorted(self._servers.items()) if key.client == client]

    def readiness(self) -> list[str]:
        """What keeps servers from being started; empty when nothing does."""
        return list(self._not_ready)

    def evict_all(self, code: CloseCode, reason: str) -> None:
        """Ask every attached client to leave."""
        for server in self._servers.values():
            server.hub.evict(code, reason)

    def wake_all(self) -> None:
        """Let everybody who waits for a server's news look around."""
        for server in self._servers.values():
            server.hub.wake()

    # ── operations, each under the server's lock ─────────────────────────────────────────────────

    async def _start(
        self, key: Key, request: StartRequest, admitted: Admitted, secrets: Mapping[str, str]
    ) -> tuple[Server, bool]:
        async with self._locked(key):
            if (running := self._running(key, request)) is not None:
                return running, False
            with self._quotas.starting(key, admitted, self._servers.values()):
                return await self._start_new(key, request, admitted, secrets), True

    async def _start_new(
        self, key: Key, request: StartRequest, admitted: Admitted, secrets: Mapping[str, str]
    ) -> Server:
        image = await self._engine.inspect_image(admitted.references)
        for mount in admitted.mounts:
            if mount.volume is not None:
                await self._engine.require_volume(mount.volume)
        identity = Identity(
            instance=self._instance,
            client=key.client,
            server=key.name,
            rule=admitted.rule.name,
            image=str(admitted.image),
            spec=spec_mac(self._keyring, request),
            plan=admitted.plan,
            lifetime=admitted.rule.lifetime,
            stdio=admitted.rule.stdio,
        )
        body = create_body(admitted, image, identity.to_labels(self._keyring, image.id), secrets)
        if (previous := self._servers.get(key)) is not None:  # dead, or its stop has failed
            await self._remove(previous)
        return await self._create(identity, body)

    def _running(self, key: Key, request: StartRequest) -> Server | None:
        """The server that runs with an equal request, and is to run on.

        Raises:
            ProblemError: spec-conflict, it runs with another.
        """
        server = self._servers.get(key)
        if server is None or server.exit is not None or server.end_reason is not None:
            return None
        if not same_spec(self._keyring, request, server.identity.spec):
            detail = f"{key.name} runs with another image, arguments or environment: stop it first"
            raise ProblemError(ProblemType.SPEC_CONFLICT, detail)
        return server

    async def _create(self, identity: Identity, body: dict[str, Any]) -> Server:
        begun = time.monotonic()
        try:
            container_id = await self._engine.create(identity.container_name, body)
        except EngineConflict:
            # Left by a create whose answer was lost: ours by signature, and known to no one.
            await self._remove_leftover(identity)
            container_id = await self._engine.create(identity.container_name, body)
        try:
            hub = self._hub(identity, await self._attach(container_id))
            try:
                server = Server(identity, await self._engine.inspect(container_id), hub)
                self._track(server)
                await self._engine.start(container_id)
                server.container = await self._engine.inspect(container_id)
                server.started = True
            except BaseException:
                hub.close()
                raise
        except BaseException:
            self._servers.pop(Key(identity.client, identity.server), None)
            await self._engine.remove(container_id)
            raise
        log.info("server_started", **server.names(), duration_s=round(time.monotonic() - begun, 3))
        return server

    async def _stop(self, key: Key, grace_s: int | None) -> ServerExit | None:
        async with self._locked(key):
            server = self._servers.get(key)
            if server is None:
                return None
            await self._end(server, ExitReason.STOPPED, grace_s)
            await self._remove(server)
            return server.exit

    async def _end(self, server: Server, reason: ExitReason, grace_s: int | None = None) -> None:
        """Bring a server to its end, whatever it does; its dead container stays."""
        if server.exit is not None:
            return
        grace_s = server.identity.lifetime.stop_grace_s if grace_s is None else grace_s
        server.end_reason = reason
        server.hub.drain()
        if server.hub.can_half_close and server.streams is not None:
            server.hub.close_stdin()
            await asyncio.wait([server.streams], timeout=grace_s)  # they end with it, also when no event is followed
        with suppress(NotFound):
            await self._engine.stop(server.container.id, grace_s=grace_s)
        await self._finish(server)

    async def _remove(self, server: Server) -> None:
        await self._engine.remove(server.container.id)
        server.hub.close()
        if self._servers.get(server.key) is server:
            del self._servers[server.key]
        log.info("server_removed", **server.names())

    async def _finish(self, server: Server) -> None:
        """Learn how a server ended, once, and tell its client. Does nothing while it lives."""
        async with server.finishing:
            if server.exit is not None:
                return
            code, finished_at = None, datetime.now(UTC)
            try:
                container = await self._engine.inspect(server.container.id)
            except NotFound:
                reason = ExitReason.ENGINE
            else:
                if container.alive or container.status == "created":
                    return
                server.container = container
                code, finished_at = container.exit_code, container.finished_at or finished_at
                reason = ExitReason.OOM if await _ran_out_of_memory(server) else ExitReason.EXITED
            if server.streams is not None:
                await asyncio.wait([server.streams], timeout=STREAM_END_TIMEOUT_S)
            server.exit = ServerExit(
                reason=reason if reason is ExitReason.OOM else server.end_reason or reason,
                code=code,
                signal=_signal_name(code),
                finished_at=finished_at,
                stderr_tail=server.hub.stderr.tail(STDERR_TAIL_BYTES).decode(errors="replace"),
            )
            server.hub.finish(server.exit)
            log.info("server_exited", **server.names(), reason=server.exit.reason.value, code=code)

    # ── attachments ──────────────────────────────────────────────────────────────────────────────

    async def _attach(self, container_id: str, *, logs: bool = False) -> Attachments:
        """Open stdin, stdout and stderr, each on its own: a combined one loses accepted stdin when the proxy dies."""
        opened: list[Attachment] = []
        try:
            opened.append(await self._engine.attach(container_id, "stdin"))
            opened.append(await self._engine.attach(container_id, "stdout"))
            opened.append(await self._engine.attach(container_id, "stderr", logs=logs))
        except BaseException:
            for attachment in opened:
                attachment.close()
            raise
        return Attachments(*opened)

    def _track(self, server: Server) -> None:
        self._servers[server.key] = server
        # In a context of its own: it outlives the request that it would else be logged under.
        stream = self._stream(server)
        server.streams = self._group.create_task(stream, name=f"stdio {server.key}", context=contextvars.Context())

    async def _stream(self, server: Server) -> None:
        await server.hub.run()
        if server.exit is None and not self._closing:
            self._spawn("streams_ended", self._streams_ended(server))

    async def _streams_ended(self, server: Server) -> None:
        """Both output streams ended: the server died, or the engine went away, be it for a moment."""
        try:
            await self._finish(server)
        finally:
            if server.exit is None:
                server.hub.lost = True  # the sweep attaches again
                server.hub.evict(CloseCode.ENGINE_LOST, "the engine went away")

    # ── the engine's side of the story ───────────────────────────────────────────────────────────

    @property
    def _label(self) -> str:
        return f"{LABEL_INSTANCE}={self._instance}"

    async def _follow_engine(self) -> None:
        """Sweep, then follow the engine's events; begin again whenever it was away."""
        while True:
            try:
                # From before the list on, so that nothing falls between; a death told twice does no harm.
                since = time.time() - 1
                shortcomings = await self._engine.shortcomings()
                await self._sweep()
                self._set_not_ready(shortcomings)
                async for event in self._engine.events(self._label, since=since):
                    for server in self._servers.values():
                        if server.container.id == event.container_id:
                            self._hear(server, event)
            except EngineFailure as exc:
                log.warning("engine_away", error=str(exc))
            else:
                log.warning("engine_away", error="the event stream ended")
            self._set_not_ready(["the engine cannot be reached"])
            await asyncio.sleep(self._reconnect_s)

    def _hear(self, server: Server, event: EngineEvent) -> None:
        if event.action == "die":
            self._spawn("finish", self._finish(server))
            return
        server.oom.set()
        if server.exit is not None and server.exit.reason is ExitReason.EXITED and server.exit.code == KILLED:
            server.exit = server.hub.exit = server.exit.model_copy(update={"reason": ExitReason.OOM})  # told late

    def _set_not_ready(self, reasons: list[str]) -> None:
        if reasons != self._not_ready:
            log.info("readiness_changed", ready=not reasons, reasons=reasons)
        self._not_ready = reasons

    async def _sweep_periodically(self) -> None:
        while True:
            await asyncio.sleep(self._sweep_interval_s)
            try:
                await self._sweep()
            except EngineFailure as exc:
                log.warning("sweep_failed", error=str(exc))

    async def _sweep(self) -> None:
        """Bring what is held here in line with the engine, and end what is due."""
        states = await self._engine.list_states(self._label)
        tracked = {server.container.id: server for server in self._servers.values()}
        for container_id in states.keys() - tracked.keys() - self._foreign:
            await self._look_after("adopt", self._adopt(container_id))
        self._foreign &= states.keys()
        for container_id, server in tracked.items():
            if states.get(container_id) != "running":
                await self._look_after("finish", self._finish(server))
            elif server.hub.lost and server.key not in self._locks:
                await self._look_after("reattach", self._reattach(server))
            elif server.hub.stalled:
                self._spawn("probe", self._probe(server))
        now = datetime.now(UTC)
        for server in tracked.values():
            if server.key in self._locks:
                continue  # an operation is under way: the next sweep sees what has become of it
            lease, removal = server.lease_end(), server.removal_due()
            if lease is not None and lease[0] <= now:
                self._spawn("lease", self._end_lease(server))
            elif removal is not None and removal <= now:
                self._spawn("remove", self._remove_dead(server))

    async def _look_after(self, what: str, operation: Coroutine[Any, Any, None]) -> None:
        """Do one container's part of a sweep. Its trouble is not the others': it is logged, and tried again."""
        try:
            await operation
        except NotFound:
            pass  # removed in between
        except EngineUnavailable:
            raise
        except EngineFailure as exc:
            log.warning("operation_failed", operation=what, error=str(exc))

    async def _adopt(self, container_id: str) -> None:
        """Take charge of a container that another process of this instance left."""
        container = await self._engine.inspect(container_id)
        try:
            identity = Identity.from_labels(container.labels, self._keyring, container.image_id)
        except IdentityError as exc:
            self._foreign.add(container_id)
            log.warning("container_not_ours", container_id=container_id, error=str(exc))
            return
        key = Key(identity.client, identity.server)
        async with self._locked(key):
            if any(server.container.id == container_id for server in self._servers.values()):
                return  # a start that was under way has it
            container = await self._engine.inspect(container_id)
            half_made = container.status == "created" or key in self._servers
            if half_made or (container.alive and identity.stdio.replay == "none"):
                # Never started, or its stdin ended with the proxy that held it.
                await self._engine.remove(container_id)
                log.info("leftover_removed", container_id=container_id, client=key.client, server=key.name)
                return
            if container.alive:
                hub = self._hub(identity, await self._attach(container_id, logs=True))
            elif identity.stdio.replay == "none":
                hub = self._hub(identity, Attachments(None, None, None))
            else:
                stderr = await self._engine.attach(container_id, "stderr", logs=True, follow=False)
                hub = self._hub(identity, Attachments(None, None, stderr))
            server = Server(identity, container, hub, started=True)
            self._track(server)
            log.info("server_adopted", **server.names(), status=container.status)
        await self._finish(server)

    async def _reattach(self, server: Server) -> None:
        """Go on after the engine was away and its containers were not."""
        async with self._locked(server.key):
            if server.hub.lost and server.exit is None:
                server.hub.reattach(*await self._attach(server.container.id))
                self._track(server)
                log.info("server_reattached", **server.names())

    async def _probe(self, server: Server) -> None:
        """Find out whether a server is dead whose output waits for a client.

        Behind a stalled attachment the engine cannot announce the death, and answers nothing about the container. A
        few bytes further on it can. A server that lives loses none: they are held like the others.
        """
        try:
            await self._engine.inspect(server.container.id, timeout_s=PROBE_TIMEOUT_S)
        except EngineTimeout:
            server.hub.use_reserve()

    async def _end_lease(self, server: Server) -> None:
        async with self._locked(server.key):
            lease = server.lease_end()
            if lease is not None and lease[0] <= datetime.now(UTC):
                await self._end(server, lease[1])

    async def _remove_dead(self, server: Server) -> None:
        async with self._locked(server.key):
            if self._servers.get(server.key) is server:
                await self._remove(server)

    async def _remove_leftover(self, identity: Identity) -> None:
        """Free a container name that a lost answer left taken; only when the container is provably ours."""
        container_id = await self._engine.find(identity.container_name)
        if container_id is None:
            return
        try:
            container = await self._engine.inspect(container_id)
        except NotFound:
            return  # a sweep was faster
        try:
            found = Identity.from_labels(container.labels, self._keyring, container.image_id)
        except IdentityError as exc:
            raise EngineConflict(f"{identity.container_name} is taken by a container that is not ours: {exc}") from exc
        if (found.instance, found.client, found.server) == (identity.instance, identity.client, identity.server):
            await self._engine.remove(container_id)

    async def _close(self, server: Server) -> None:
        """Let go of a server when the proxy ends; one that cannot outlive it is ended."""
        async with self._locked(server.key):
            if server.hub.can_half_close and server.exit is None:
                try:
                    await self._end(server, ExitReason.STOPPED)
                    await self._remove(server)
                except EngineFailure as exc:
                    log.warning("close_failed", **server.names(), error=str(exc))
            server.hub.close()

    # ── plumbing ─────────────────────────────────────────────────────────────────────────────────

    def _hub(self, identity: Identity, attachments: Attachments) -> StdioHub:
        return StdioHub(
            *attachments,
            buffer_bytes=identity.stdio.buffer,
            max_message_bytes=identity.stdio.max_message,
            can_half_close=identity.stdio.replay == "none",
        )

    @asynccontextmanager
    async def _locked(self, key: Key) -> AsyncIterator[None]:
        """Serialise the operations on one server. A lock lives as long as somebody holds or awaits it."""
        lock = self._locks.setdefault(key, asyncio.Lock())
        async with lock:
            yield

    def _require_ready(self) -> None:
        if self._not_ready:
            raise ProblemError(ProblemType.ENGINE_UNAVAILABLE, "; ".join(self._not_ready) + ": try again later")

    async def _run(self, operation: Coroutine[Any, Any, T]) -> T:
        """Run an operation to its end, whatever becomes of its caller."""
        outcome: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        async def body() -> None:
            try:
                result = await operation
            except (Exception, asyncio.CancelledError) as exc:  # noqa: BLE001  # handed to whoever awaits it
                outcome.set_exception(exc)
                outcome.exception()  # seen, even if the caller has gone
            else:
                outcome.set_result(result)

        self._keep(self._group.create_task(body()))
        return await asyncio.shield(outcome)

    def _spawn(
        self, what: str, operation: Coroutine[Any, Any, object], *, context: contextvars.Context | None = None
    ) -> None:
        """Run an operation that nobody awaits; a failure is logged, and the next sweep tries again."""

        async def body() -> None:
            try:
                await operation
            except (ProblemError, ImageRefusedError) as exc:
                log.info("operation_refused", operation=what, error=str(exc))
            except EngineFailure as exc:
                log.warning("operation_failed", operation=what, error=str(exc))
            except Exception:
                log.exception("operation_failed", operation=what)

        self._keep(self._group.create_task(body(), name=what, context=context or contextvars.Context()))

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._operations.add(task)
        task.add_done_callback(self._operations.discard)


async def _ran_out_of_memory(server: Server) -> bool:
    """Whether the kernel killed the server itself for that; a dead child alone is not it.

    The engine hears of it on another way than of the death, and may know it a little later.
    """
    if server.container.exit_code != KILLED:
        return False
    if not server.container.oom_killed and server.end_reason is None:
        with suppress(TimeoutError):
            async with asyncio.timeout(OOM_EVENT_TIMEOUT_S):
                await server.oom.wait()
    return server.container.oom_killed or server.oom.is_set()


def _signal_name(code: int | None) -> str | None:
    """The signal that an exit code above 128 stands for, as a shell tells it."""
    try:
        return signal.Signals(code - 128).name if code is not None and code > 128 else None
    except ValueError:
        return None
