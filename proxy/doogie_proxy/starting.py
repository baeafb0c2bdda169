"""How a server starts: image → create → attach → start, under the lock of its name. Whatever fails is undone."""

import contextvars
import time
from functools import partial
from typing import Any

import structlog

from doogie_contract.models import ServerState
from doogie_contract.problems import ProblemError, ProblemType
from doogie_proxy.adoption import remove_leftover
from doogie_proxy.ending import remove
from doogie_proxy.engine_failures import EngineConflict, ImageNotPulled, NoSuchImage
from doogie_proxy.identity import Identity, same_spec, spec_mac
from doogie_proxy.pending import Start, Wanted
from doogie_proxy.registry import Registry
from doogie_proxy.server import Key, Server
from doogie_proxy.spec import ImageConfig, create_body
from doogie_proxy.streams import attach, hub_of, track

log = structlog.get_logger(__name__)


def find(registry: Registry, key: Key, wanted: Wanted) -> Server | Start | None:
    """The server that runs with an equal request and is to run on, or its start that is under way.

    Raises:
        ProblemError: spec-conflict, it is another request.
    """
    if (server := _running(registry, key, wanted)) is not None:
        return server
    start = registry.starts.get(key)
    if start is None or not start.under_way:
        return None
    if start.wanted.request != wanted.request:
        raise _conflict(key)
    return start


def begin(registry: Registry, key: Key, wanted: Wanted) -> Start:
    """Have a server started that ``find`` has not found. It goes on whatever becomes of its caller."""
    start = registry.starts[key] = Start(key, wanted)
    if registry.state_of(key) in (ServerState.ABSENT, ServerState.EXITED):  # else something is still going on
        registry.move(key, ServerState.PULLING)
    registry.spawn("start", _carry_out(registry, start), context=contextvars.copy_context())
    return start


async def _carry_out(registry: Registry, start: Start) -> None:
    """Bring a start to its end. A failure that nobody waits for is raised, to be logged, and kept, to be asked for."""
    key, rule, told = start.key, start.wanted.admitted.rule.name, True
    try:
        async with registry.locked(key):
            try:
                server, created = await _start(registry, start)
                registry.metrics.start(rule, "created" if created else "found")
                start.succeed(server, created)
            except Exception as exc:
                registry.metrics.start_failed(rule, exc)
                told = start.fail(exc)
                _step_back(registry, key)
                if not told:
                    raise
    finally:
        start.close()
        if told and registry.starts.get(key) is start:
            del registry.starts[key]


def _step_back(registry: Registry, key: Key) -> None:
    """Nothing came of a start: its predecessor may be there yet."""
    if registry.state_of(key) is ServerState.PULLING:
        registry.move(key, ServerState.EXITED if key in registry.servers else ServerState.ABSENT)


async def _start(registry: Registry, start: Start) -> tuple[Server, bool]:
    key, wanted = start.key, start.wanted
    if start.given_up is not None:
        raise start.given_up
    if (server := _running(registry, key, wanted)) is not None:  # a sweep has found it
        return server, False
    previous = registry.servers.get(key)
    if previous is not None and previous.exit is None:  # its stop has failed
        await remove(registry, previous)
    if registry.state_of(key) is not ServerState.PULLING:
        registry.move(key, ServerState.PULLING)
    with registry.quotas.starting(key, wanted.admitted, registry.servers.values()):
        return await _start_new(registry, start), True


async def _start_new(registry: Registry, start: Start) -> Server:
    key, wanted = start.key, start.wanted
    admitted = wanted.admitted
    image = await _image(registry, start)
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
    if (previous := registry.servers.get(key)) is not None:
        await remove(registry, previous)
    return await _create(registry, identity, body)


async def _image(registry: Registry, start: Start) -> ImageConfig:
    """The image as the engine has it, pulled before where the rule says so.

    A digest is the only name that it is pulled by where there is one: what a tag says meanwhile does not matter.
    """
    admitted = start.wanted.admitted
    if admitted.rule.pull == "never":
        return await registry.engine.inspect_image(admitted.references)
    reference = admitted.references[0]
    try:
        image = await registry.engine.inspect_image(admitted.references)
    except NoSuchImage:
        start.pull = registry.pulls.join(reference)
        registry.changes.tell(start.key)
        with registry.metrics.phase("pull"):
            async with start.patience():
                await registry.pulls.wait(start.pull, partial(registry.changes.tell, start.key))
        start.pull = None
        try:
            image = await registry.engine.inspect_image(admitted.references)
        except NoSuchImage:
            raise ImageNotPulled(reference, "its registry broke off, or sent something else") from None
    if image.platform != (platform := await registry.engine.platform()):
        raise ImageNotPulled(reference, f"its registry has it for {image.platform}, and this engine runs {platform}")
    return image


async def _create(registry: Registry, identity: Identity, body: dict[str, Any]) -> Server:
    engine, metrics, begun = registry.engine, registry.metrics, time.monotonic()
    key = Key(identity.client, identity.server)
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
            registry.move(key, ServerState.CREATED)
            with metrics.phase("start"):
                await engine.start(container_id)
            server.container = await engine.inspect(container_id)
            if server.exit is None:
                registry.move(key, ServerState.RUNNING)
        except BaseException:
            hub.close()
            raise
    except BaseException:
        if registry.servers.pop(key, None) is not None:
            registry.move(key, ServerState.ABSENT)
        registry.state.forget(container_id)
        await engine.remove(container_id)
        raise
    log.info("server_started", **server.names(), duration_s=round(time.monotonic() - begun, 3))
    return server


def _running(registry: Registry, key: Key, wanted: Wanted) -> Server | None:
    if registry.state_of(key) is not ServerState.RUNNING:
        return None
    server = registry.servers[key]
    if not same_spec(registry.keyring, wanted.request, server.identity.spec):
        raise _conflict(key)
    return server


def _conflict(key: Key) -> ProblemError:
    detail = f"{key.name} runs with another image, arguments or environment: stop it first"
    return ProblemError(ProblemType.SPEC_CONFLICT, detail)
