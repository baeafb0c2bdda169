"""The streams between a container and its hub: opened before it starts, made anew when they broke."""

from typing import NamedTuple

import structlog

from doogie_contract.channels import CloseCode
from doogie_proxy.attachment import Attachment
from doogie_proxy.ending import finish
from doogie_proxy.engine import Engine
from doogie_proxy.engine_failures import EngineTimeout
from doogie_proxy.identity import Identity
from doogie_proxy.leases import watch
from doogie_proxy.registry import Registry
from doogie_proxy.server import Server
from doogie_proxy.stdio import StdioHub

PROBE_TIMEOUT_S = 5.0
"""How long a living container may take to be inspected while its output is stalled."""

log = structlog.get_logger(__name__)


class Attachments(NamedTuple):
    """The three streams of a container; None where there is nothing left to attach to."""

    stdin: Attachment | None
    stdout: Attachment | None
    stderr: Attachment | None


async def attach(engine: Engine, container_id: str, *, logs: bool = False) -> Attachments:
    """Open stdin, stdout and stderr, each on its own: a combined one loses accepted stdin when the proxy dies."""
    opened: list[Attachment] = []
    try:
        opened.append(await engine.attach(container_id, "stdin"))
        opened.append(await engine.attach(container_id, "stdout"))
        opened.append(await engine.attach(container_id, "stderr", logs=logs))
    except BaseException:
        for attachment in opened:
            attachment.close()
        raise
    return Attachments(*opened)


def hub_of(identity: Identity, attachments: Attachments) -> StdioHub:
    """The hub that a server of this identity has."""
    return StdioHub(
        *attachments,
        buffer_bytes=identity.stdio.buffer,
        max_message_bytes=identity.stdio.max_message,
        can_half_close=identity.stdio.replay == "none",
    )


def track(registry: Registry, server: Server) -> None:
    """Hold a server, and move its output until it ends."""
    registry.servers[server.key] = server
    watch(registry, server)
    server.streams = registry.follow(f"stdio {server.key}", _run(registry, server))


async def reattach(registry: Registry, server: Server) -> None:
    """Go on after the engine was away and its containers were not."""
    async with registry.locked(server.key):
        if server.hub.lost and server.exit is None:
            server.hub.reattach(*await attach(registry.engine, server.container.id))
            track(registry, server)
            log.info("server_reattached", **server.names())


async def probe(registry: Registry, server: Server) -> None:
    """Find out whether a server is dead whose output waits for a client.

    Behind a stalled attachment the engine cannot announce the death, and answers nothing about the container. A
    few bytes further on it can. A server that lives loses none: they are held like the others.
    """
    try:
        await registry.engine.inspect(server.container.id, timeout_s=PROBE_TIMEOUT_S)
    except EngineTimeout:
        await registry.engine.ping()  # else it is the engine that hangs, and the reserve is there but once
        server.hub.use_reserve()


async def _run(registry: Registry, server: Server) -> None:
    await server.hub.run()
    if server.exit is None and not registry.closing:
        registry.spawn("streams_ended", _ended(registry, server))


async def _ended(registry: Registry, server: Server) -> None:
    """Both output streams ended: the server died, or the engine went away, be it for a moment."""
    try:
        await finish(registry, server)
    finally:
        if server.exit is None:
            server.hub.lost = True  # the sweep attaches again
            server.hub.evict(CloseCode.ENGINE_LOST, "the engine went away")
