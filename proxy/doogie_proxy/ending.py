"""How servers end: (EOF) → SIGTERM → SIGKILL → dead → removed. Each step is bounded, and may find itself done.

A server that was not ended from here dies all the same: ``finish`` learns how, once, and tells its clients.
"""

import asyncio
import signal
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

import structlog

from doogie_contract.models import ExitReason, ServerExit, ServerState
from doogie_contract.problems import ProblemError, ProblemType
from doogie_proxy.engine import EngineEvent
from doogie_proxy.engine_failures import EngineFailure, NotFound
from doogie_proxy.registry import Registry
from doogie_proxy.server import Key, Server

STDERR_TAIL_BYTES = 4096
KILLED = 128 + signal.SIGKILL
"""The exit code of a process that SIGKILL ended."""
OOM_EVENT_TIMEOUT_S = 0.05
"""How long an end by SIGKILL waits for the engine to say that it was for want of memory."""
STREAM_END_TIMEOUT_S = 2.0
"""How long a dead container's last output may take to arrive."""

log = structlog.get_logger(__name__)


async def stop(registry: Registry, key: Key, grace_s: int | None) -> ServerExit | None:
    """End a server and remove its container; None when there is none. A start that has no container yet fails."""
    if (start := registry.starts.get(key)) is not None and start.under_way:
        start.give_up(ProblemError(ProblemType.IMAGE_UNAVAILABLE, "a stop came before the image was there"))
    async with registry.locked(key):
        registry.forget_failure(key)
        server = registry.servers.get(key)
        if server is None:
            return None
        await end(registry, server, ExitReason.STOPPED, grace_s)
        await remove(registry, server)
        return server.exit


def is_unfinished(server: Server) -> bool:
    """Whether an end was begun and came to nothing, here or in a proxy that died: the engine failed, or it did."""
    return server.end_reason is ExitReason.STOPPED or (server.end_reason is not None and server.exit is None)


async def complete(registry: Registry, server: Server) -> None:
    """Do the rest of an end that was begun: a stop removes the container, a lease leaves it."""
    async with registry.locked(server.key):
        if server.end_reason is not None and registry.servers.get(server.key) is server:
            await end(registry, server, server.end_reason)
            if server.end_reason is ExitReason.STOPPED:
                await remove(registry, server)


async def end_lease(registry: Registry, server: Server) -> None:
    """End a server whose lease is over, if it still is; its dead container stays."""
    async with registry.locked(server.key):
        lease = server.lease_end()
        if lease is not None and lease[0] <= datetime.now(UTC):
            await end(registry, server, server.end_reason or lease[1])  # the first one is why it ends


async def remove_dead(registry: Registry, server: Server) -> None:
    """Remove a container that was kept long enough."""
    async with registry.locked(server.key):
        if registry.servers.get(server.key) is server:
            await remove(registry, server)


async def let_go(registry: Registry, server: Server) -> None:
    """Leave a server to the next proxy; one that cannot outlive this one is ended."""
    async with registry.locked(server.key):
        if server.hub.can_half_close and server.exit is None:
            try:
                await end(registry, server, ExitReason.STOPPED)
                await remove(registry, server)
            except EngineFailure as exc:
                log.warning("close_failed", **server.names(), error=str(exc))
        server.hub.close()


async def end(registry: Registry, server: Server, reason: ExitReason, grace_s: int | None = None) -> None:
    """Bring a server to its end, whatever it does; its dead container stays. Under its lock.

    Why is written down first: if the proxy dies meanwhile, the next one knows, and does the rest.
    """
    if server.exit is not None:
        return
    grace_s = server.identity.lifetime.stop_grace_s if grace_s is None else grace_s
    server.end_reason = reason
    if registry.state_of(server.key) is not ServerState.STOPPING:  # as it is when a stop before has failed
        registry.move(server.key, ServerState.STOPPING)
    registry.state.put(server.container.id, replace(registry.state.get(server.container.id), ending=reason))
    await registry.state.saved()
    server.hub.drain()
    if server.hub.can_half_close and server.streams is not None:
        server.hub.close_stdin()
        await asyncio.wait([server.streams], timeout=grace_s)  # they end with it, also when no event is followed
    with suppress(NotFound):
        await registry.engine.stop(server.container.id, grace_s=grace_s)
    await finish(registry, server)


async def remove(registry: Registry, server: Server) -> None:
    """Remove a server's container; returns when its name is free. Under its lock."""
    await registry.engine.remove(server.container.id)
    server.hub.close()
    registry.forget(server)
    log.info("server_removed", **server.names())


async def finish(registry: Registry, server: Server) -> None:
    """Learn how a server ended, once, and tell its client. Does nothing while it lives."""
    async with server.finishing:
        if server.exit is not None:
            return
        code, finished_at = None, datetime.now(UTC)
        try:
            container = await registry.engine.inspect(server.container.id)
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
        started_at = server.container.started_at
        server.exit = ServerExit(
            reason=reason if reason is ExitReason.OOM else server.end_reason or reason,
            code=code,
            signal=_signal_name(code),
            finished_at=finished_at,
            duration_s=None if started_at is None else round((finished_at - started_at).total_seconds(), 3),
            stderr_tail=server.hub.stderr.tail(STDERR_TAIL_BYTES).decode(errors="replace"),
        )
        if registry.servers.get(server.key) is server:  # not one whose start has failed meanwhile
            registry.move(server.key, ServerState.EXITED)
        server.hub.finish(server.exit)
        registry.metrics.exit(server.identity.rule, server.exit.reason)
        _log_exit(server, server.exit)


def _log_exit(server: Server, exit_: ServerExit) -> None:
    """The one line of a container's life."""
    traffic = server.hub.traffic()
    log.info(
        "server_exited",
        **server.names(),
        reason=exit_.reason.value,
        code=exit_.code,
        signal=exit_.signal,
        duration_s=exit_.duration_s,
        stdin_bytes=traffic.stdin_bytes,
        stdout_bytes=traffic.stdout_bytes,
        stderr_bytes=traffic.stderr_bytes,
    )


def hear(registry: Registry, event: EngineEvent) -> None:
    """Act on what the engine says of a container; of one that is not held here, the next sweep will know."""
    server = registry.by_container(event.container_id)
    if server is None:
        return
    if event.action == "die":
        registry.spawn("finish", finish(registry, server))
        return
    server.oom.set()
    if server.exit is not None and server.exit.reason is ExitReason.EXITED and server.exit.code == KILLED:
        server.exit = server.hub.exit = server.exit.model_copy(update={"reason": ExitReason.OOM})  # told late
        registry.changes.tell(server.key)


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
