"""Keeps what is held here in line with the engine: by its events, and by a sweep whenever some may have been missed.

sweep   at start-up, after the engine was away, and periodically: adopts what is ours, ends what is expired,
        removes what is dead for long enough
"""

import asyncio
import time
from collections.abc import Callable, Collection, Coroutine, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Literal

import structlog

from doogie_proxy.adoption import adopt
from doogie_proxy.ending import complete, end_lease, finish, hear, is_unfinished, remove_dead
from doogie_proxy.engine_failures import EngineFailure, EngineRefused, EngineTimeout, EngineUnavailable, NotFound
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
        stale_after_s: for how long the engine's socket may refuse.
        on_stale_socket: called when it has refused that long.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        sweep_interval_s: float,
        reconnect_s: float,
        stale_after_s: float,
        on_stale_socket: Callable[[], None],
    ) -> None:
        self._registry = registry
        self._sweep_interval_s = sweep_interval_s
        self._reconnect_s = reconnect_s
        self._label = f"{LABEL_INSTANCE}={registry.instance}"
        self._foreign: set[str] = set()
        self._stale_after_s = stale_after_s
        self._on_stale_socket = on_stale_socket
        self._refused_since: float | None = None
        self._shortcomings = ["the engine has not been asked yet"]
        self._trouble: dict[Literal["events", "sweep"], str] = {}

    def forgive(self) -> None:
        """Look again at containers whose signature did not verify."""
        self._foreign.clear()

    @property
    def not_ready(self) -> list[str]:
        """What keeps servers from being started; empty when nothing does."""
        return list(dict.fromkeys([*self._trouble.values(), *self._shortcomings]))

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
                with self._telling():
                    self._shortcomings, self._trouble, self._refused_since = shortcomings, {}, None
                async for event in engine.events(self._label, since=since):
                    hear(self._registry, event)
                raise EngineUnavailable("the event stream ended")
            except EngineFailure as exc:
                log.warning("engine_away", error=str(exc))
                with self._telling():
                    self._shortcomings, self._trouble["events"] = [], exc.readiness
                self._look_for_a_stale_socket(exc)
            await asyncio.sleep(self._reconnect_s)

    async def sweep_periodically(self) -> None:
        """Sweep now and then; notice also an engine that hangs, and when it goes on. Runs until cancelled."""
        while True:
            await asyncio.sleep(self._sweep_interval_s)
            try:
                await self._registry.engine.ping()
                await self._sweep()
                with self._telling():
                    self._trouble.pop("sweep", None)
            except EngineFailure as exc:
                log.warning("sweep_failed", error=str(exc))
                if isinstance(exc, EngineUnavailable | EngineTimeout):
                    with self._telling():
                        self._trouble["sweep"] = exc.readiness

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Log what the block changes about readiness."""
        before = self.not_ready
        yield
        if self.not_ready != before:
            log.info("readiness_changed", ready=not self.not_ready, reasons=self.not_ready)

    def _look_for_a_stale_socket(self, exc: EngineFailure) -> None:
        """A socket that was mounted stays the old one when the engine makes another: it refuses for ever."""
        now = time.monotonic()
        if not isinstance(exc, EngineRefused):
            self._refused_since = None
        elif self._refused_since is None:
            self._refused_since = now
        elif now - self._refused_since >= self._stale_after_s:
            self._on_stale_socket()

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
        registry.forget_failures(now)
        for server in registry.servers.values():
            if registry.busy(server.key):
                continue  # an operation is under way: the next sweep sees what has become of it
            if is_unfinished(server):
                registry.spawn("complete", complete(registry, server))
                continue
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
