"""Keeps what is held here in line with the engine: by its events, and by a sweep whenever some may have been missed.

sweep   at start-up, after the engine was away, and periodically: adopts what is ours, ends what is expired,
        removes what is dead for long enough
"""

import asyncio
import time
from collections.abc import Collection, Coroutine
from datetime import UTC, datetime
from typing import Any

import structlog

from doogie_proxy.adoption import adopt
from doogie_proxy.ending import end_lease, finish, hear, remove_dead
from doogie_proxy.engine_failures import EngineFailure, EngineUnavailable, NotFound
from doogie_proxy.identity import LABEL_INSTANCE, IdentityError
from doogie_proxy.registry import Registry
from doogie_proxy.streams import probe, reattach

log = structlog.get_logger(__name__)


class Reconciler:
    """Follows the engine.

    Args:
        registry: what is held here.
        sweep_interval_s: between two sweeps.
        reconnect_s: before the engine is asked again after it was away.
    """

    def __init__(self, registry: Registry, *, sweep_interval_s: float, reconnect_s: float) -> None:
        self._registry = registry
        self._sweep_interval_s = sweep_interval_s
        self._reconnect_s = reconnect_s
        self._label = f"{LABEL_INSTANCE}={registry.instance}"
        self._foreign: set[str] = set()
        self.not_ready = ["the engine has not been asked yet"]
        """What keeps servers from being started; empty when nothing does."""

    def forgive(self) -> None:
        """Look again at containers whose signature did not verify."""
        self._foreign.clear()

    async def follow_engine(self) -> None:
        """Sweep, then follow the engine's events; begin again whenever it was away. Runs until cancelled."""
        engine = self._registry.engine
        while True:
            try:
                # From before the list on, so that nothing falls between; a death told twice does no harm.
                since = time.time() - 1
                shortcomings = await engine.shortcomings()
                known = await self._sweep()
                self._registry.state.forget_others(known)
                self._set_not_ready(shortcomings)
                async for event in engine.events(self._label, since=since):
                    hear(self._registry, event)
            except EngineFailure as exc:
                log.warning("engine_away", error=str(exc))
            else:
                log.warning("engine_away", error="the event stream ended")
            self._set_not_ready(["the engine cannot be reached"])
            await asyncio.sleep(self._reconnect_s)

    async def sweep_periodically(self) -> None:
        """Sweep now and then. Runs until cancelled."""
        while True:
            await asyncio.sleep(self._sweep_interval_s)
            try:
                await self._sweep()
            except EngineFailure as exc:
                log.warning("sweep_failed", error=str(exc))

    def _set_not_ready(self, reasons: list[str]) -> None:
        if reasons != self.not_ready:
            log.info("readiness_changed", ready=not reasons, reasons=reasons)
        self.not_ready = reasons

    async def _sweep(self) -> Collection[str]:
        """Bring what is held here in line with the engine, and end what is due. Returns the ids that the engine has."""
        registry = self._registry
        states = await registry.engine.list_states(self._label)
        tracked = {server.container.id: server for server in registry.servers.values()}
        for container_id in states.keys() - tracked.keys() - self._foreign:
            await self._look_after("adopt", self._adopt(container_id))
        self._foreign &= states.keys()
        for container_id, server in tracked.items():
            if states.get(container_id) != "running":
                await self._look_after("finish", finish(registry, server))
            elif server.hub.lost and not registry.busy(server.key):
                await self._look_after("reattach", reattach(registry, server))
            elif server.hub.stalled:
                registry.spawn("probe", probe(registry, server))
        now = datetime.now(UTC)
        for server in registry.servers.values():
            if registry.busy(server.key):
                continue  # an operation is under way: the next sweep sees what has become of it
            lease, removal = server.lease_end(), server.removal_due()
            if lease is not None and lease[0] <= now:
                registry.spawn("lease", end_lease(registry, server))
            elif removal is not None and removal <= now:
                registry.spawn("remove", remove_dead(registry, server))
        return states.keys()

    async def _adopt(self, container_id: str) -> None:
        try:
            await adopt(self._registry, container_id)
        except IdentityError as exc:
            self._foreign.add(container_id)
            log.warning("container_not_ours", container_id=container_id, error=str(exc))

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
