"""Whether the engine has what a policy names, for ``doogie-proxy check --live``. The proxy asks at each start."""

import uuid
from collections.abc import AsyncIterator

from doogie_proxy.admission import Admitted
from doogie_proxy.configuration import read_secrets
from doogie_proxy.engine import Engine
from doogie_proxy.engine_failures import EngineFailure, NoSuchImage, NotFound
from doogie_proxy.policy import Client, Mount, Policy, Rule
from doogie_proxy.policy_file import ConfigurationError
from doogie_proxy.references import ImageRef
from doogie_proxy.settings import Settings
from doogie_proxy.spec import ImageConfig, ImageRefusedError, create_body

_NOBODY = Client(token_sha256=["0" * 64], rules=[])


async def missing(policy: Policy, settings: Settings) -> list[str]:
    """One line for each thing that is not there, or that the engine refuses; empty when all is well.

    Raises:
        EngineFailure: the engine cannot be asked.
    """
    try:
        read_secrets(policy)
        faults = []
    except ConfigurationError as exc:
        faults = exc.lines
    async with Engine(settings.engine_socket, timeout_s=settings.engine_timeout_s) as engine:
        faults += await engine.shortcomings()
        runtimes, networks = await engine.runtimes(), await engine.networks()
        for rule in policy.rules:
            where = f"rules.{rule.name}"
            if rule.runtime not in runtimes:
                faults.append(f"{where}.runtime: the engine has no {rule.runtime}; it has {', '.join(runtimes)}")
            if rule.network not in networks:
                faults.append(f"{where}.network: there is no {rule.network}: docker network create --internal")
            faults += [f"{where}.{fault}" async for fault in _of_rule(engine, rule)]
    return faults


async def _of_rule(engine: Engine, rule: Rule) -> AsyncIterator[str]:
    found: tuple[ImageRef, ImageConfig] | None = None
    for ref in rule.listed_images:
        admitted = Admitted(_NOBODY, rule, ref, (), {})
        try:
            image = await engine.inspect_image(admitted.references)
            create_body(admitted, image, {}, {})
            found = ref, image
        except NoSuchImage:
            if rule.pull == "never":
                yield f"images: {ref} is not on the engine: build it, pull it, or say pull: missing"
        except ImageRefusedError as exc:
            yield f"images: {ref}: {exc}"
    for name, mount in rule.mounts.items():
        if mount.volume is not None:
            try:
                await engine.require_volume(mount.volume)
            except NotFound:
                yield f"mounts.{name}: there is no volume {mount.volume}: docker volume create"
        elif mount.host is not None and found is not None:
            if (fault := await _try_mount(engine, rule, *found, mount)) is not None:
                yield f"mounts.{name}: {fault}"
        elif mount.host is not None:
            yield f"mounts.{name}: {mount.host} cannot be tried without an image of the rule"


async def _try_mount(engine: Engine, rule: Rule, ref: ImageRef, image: ImageConfig, mount: Mount) -> str | None:
    """What the engine says of a container with this mount; only it can see the host's directories."""
    body = create_body(Admitted(_NOBODY, rule, ref, (), {}, mounts=(mount,)), image, {}, {})
    try:
        container_id = await engine.create(f"doogie-check-{uuid.uuid4().hex[:12]}", body)
    except EngineFailure as exc:
        return f"the engine refuses it: {exc}"
    await engine.remove(container_id)
    return None
