"""How a server starts: image → create → attach → start, under the lock of its name. Whatever fails is undone."""

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import structlog

from doogie_contract.models import StartRequest
from doogie_contract.problems import ProblemError, ProblemType
from doogie_proxy.admission import Admitted
from doogie_proxy.adoption import remove_leftover
from doogie_proxy.ending import remove
from doogie_proxy.engine_failures import EngineConflict, EngineFailure
from doogie_proxy.identity import Identity, same_spec, spec_mac
from doogie_proxy.registry import Registry
from doogie_proxy.server import Key, Server
from doogie_proxy.spec import create_body
from doogie_proxy.streams import attach, hub_of, track

log = structlog.get_logger(__name__)


class Wanted(NamedTuple):
    """What is to run: a client's request, what the policy made of it, and the secrets' values by path."""

    request: StartRequest
    admitted: Admitted
    secrets: Mapping[str, str]


async def start(registry: Registry, key: Key, wanted: Wanted) -> tuple[Server, bool]:
    """Start a server, or find it running with an equal request; says also whether it was created now.

    Raises:
        ProblemError: spec-conflict, quota-exceeded.
        EngineFailure, ImageRefusedError: nothing is left behind.
    """
    rule = wanted.admitted.rule.name
    try:
        async with registry.locked(key):
            if (server := running(registry, key, wanted.request)) is not None:
                registry.metrics.start(rule, "found")
                return server, False
            with registry.quotas.starting(key, wanted.admitted, registry.servers.values()):
                server = await _start_new(registry, key, wanted)
    except Exception as exc:
        registry.metrics.start(rule, "failed" if isinstance(exc, EngineFailure) else "refused")
        raise
    registry.metrics.start(rule, "created")
    return server, True


def running(registry: Registry, key: Key, request: StartRequest) -> Server | None:
    """The server that runs with an equal request, and is to run on.

    Raises:
        ProblemError: spec-conflict, it runs with another.
    """
    server = registry.servers.get(key)
    if server is None or server.exit is not None or server.end_reason is not None:
        return None
    if not same_spec(registry.keyring, request, server.identity.spec):
        detail = f"{key.name} runs with another image, arguments or environment: stop it first"
        raise ProblemError(ProblemType.SPEC_CONFLICT, detail)
    return server


async def _start_new(registry: Registry, key: Key, wanted: Wanted) -> Server:
    admitted = wanted.admitted
    image = await registry.engine.inspect_image(admitted.references)
    for mount in admitted.mounts:
        if mount.volume is not None:
            await registry.engine.require_volume(mount.volume)
    identity = Identity(
        instance=registry.instance,
        client=key.client,
        server=key.name,
        rule=admitted.rule.name,
        image=str(admitted.image),
        spec=spec_mac(registry.keyring, wanted.request),
        plan=admitted.plan,
        lifetime=admitted.rule.lifetime,
        stdio=admitted.rule.stdio,
    )
    body = create_body(admitted, image, identity.to_labels(registry.keyring, image.id), wanted.secrets)
    if (previous := registry.servers.get(key)) is not None:  # dead, or its stop has failed
        await remove(registry, previous)
    return await _create(registry, identity, body)


async def _create(registry: Registry, identity: Identity, body: dict[str, Any]) -> Server:
    engine, metrics, begun = registry.engine, registry.metrics, time.monotonic()
    try:
        with metrics.phase("create"):
            container_id = await engine.create(identity.container_name, body)
    except EngineConflict:
        # Left by a create whose answer was lost: ours by signature, and known to no one.
        await remove_leftover(registry, identity)
        container_id = await engine.create(identity.container_name, body)
    try:
        with metrics.phase("attach"):
            hub = hub_of(identity, await attach(engine, container_id))
        try:
            server = Server(identity, await engine.inspect(container_id), hub)
            track(registry, server)
            with metrics.phase("start"):
                await engine.start(container_id)
            server.container = await engine.inspect(container_id)
            server.started = True
        except BaseException:
            hub.close()
            raise
    except BaseException:
        registry.servers.pop(Key(identity.client, identity.server), None)
        registry.state.forget(container_id)
        await engine.remove(container_id)
        raise
    log.info("server_started", **server.names(), duration_s=round(time.monotonic() - begun, 3))
    return server
