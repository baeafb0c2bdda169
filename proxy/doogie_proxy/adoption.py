"""Containers that nobody here remembers: left by a proxy that died, or by a create whose answer was lost.

What a signature proves to be ours is taken charge of, or removed where nobody can; anything else is never touched.
"""

import structlog

from doogie_contract.models import ServerState
from doogie_proxy.ending import finish
from doogie_proxy.engine_failures import EngineConflict, NotFound
from doogie_proxy.identity import Identity, IdentityError
from doogie_proxy.leases import resume
from doogie_proxy.registry import Registry
from doogie_proxy.server import Key, Server
from doogie_proxy.streams import Attachments, attach, hub_of, track

log = structlog.get_logger(__name__)


async def adopt(registry: Registry, container_id: str) -> None:
    """Take charge of a container that another process of this instance left.

    Raises:
        IdentityError: it is not ours.
    """
    container = await registry.engine.inspect(container_id)
    identity = Identity.from_labels(container.labels, registry.keyring, container.image_id)
    key = Key(identity.client, identity.server)
    if registry.busy(key):
        return  # that may take long; the next sweep sees what has become of it
    async with registry.locked(key):
        if registry.by_container(container_id) is not None:
            return  # a start that was under way has it
        container = await registry.engine.inspect(container_id)
        half_made = container.status == "created" or key in registry.servers
        if half_made or (container.alive and identity.stdio.replay == "none"):
            # Never started, or its stdin ended with the proxy that held it.
            await registry.engine.remove(container_id)
            registry.state.forget(container_id)
            log.info("leftover_removed", container_id=container_id, client=key.client, server=key.name)
            return
        if container.alive:
            attachments = await attach(registry.engine, container_id, logs=True)
        elif identity.stdio.replay == "none":
            attachments = Attachments(None, None, None)
        else:
            stderr = await registry.engine.attach(container_id, "stderr", logs=True, follow=False)
            attachments = Attachments(None, None, stderr)
        server = Server(identity, container, hub_of(identity, attachments))
        resume(server, await registry.state.recall(container_id))
        track(registry, server)
        if container.alive:
            registry.move(key, ServerState.RUNNING)
            if server.end_reason is not None:
                registry.move(key, ServerState.STOPPING)
        log.info("server_adopted", **server.names(), status=container.status)
    await finish(registry, server)


async def remove_leftover(registry: Registry, identity: Identity) -> None:
    """Free a container name that a lost answer left taken; only when the container is provably ours."""
    container_id = await registry.engine.find(identity.container_name)
    if container_id is None:
        return
    try:
        container = await registry.engine.inspect(container_id)
    except NotFound:
        return  # a sweep was faster
    try:
        found = Identity.from_labels(container.labels, registry.keyring, container.image_id)
    except IdentityError as exc:
        raise EngineConflict(f"{identity.container_name} is taken by a container that is not ours: {exc}") from exc
    if (found.instance, found.client, found.server) == (identity.instance, identity.client, identity.server):
        await registry.engine.remove(container_id)
