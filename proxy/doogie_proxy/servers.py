"""The lives of the servers, as the API asks for them: start, stop, look.

    start   image → create → attach → start        starting.py
    stop    (EOF) → SIGTERM → SIGKILL → remove     ending.py
    die     an engine event, or the end of the streams: exit code, OOM, stderr tail; attached clients are told
    sweep   the rest of the truth, from the engine reconciler.py, adoption.py

One lock per server (registry.py), and an operation runs to its end even when its caller goes away.
"""

import asyncio
import contextvars
from collections.abc import Callable
from types import TracebackType
from typing import Self

from doogie_contract.channels import CloseCode
from doogie_contract.models import ServerExit
from doogie_contract.problems import ProblemError, ProblemType
from doogie_proxy.ending import let_go, stop
from doogie_proxy.engine import Engine
from doogie_proxy.identity import Keyring
from doogie_proxy.leases import renew
from doogie_proxy.metrics import Metrics
from doogie_proxy.reconciler import Reconciler
from doogie_proxy.registry import Registry
from doogie_proxy.server import Key, Server
from doogie_proxy.starting import Wanted, running, start
from doogie_proxy.state import State


class Servers:
    """All servers of one proxy instance. ``async with Servers(...)``.

    Args:
        engine, state, metrics: entered already.
        keyring: signs labels.
        instance: of this proxy; containers of others are not touched.
        sweep_interval_s: between two sweeps.
        reconnect_s: before the engine is asked again after it was away.
        stale_after_s: for how long the engine's socket may refuse.
        on_stale_socket: called when it has refused that long.
    """

    def __init__(
        self,
        engine: Engine,
        keyring: Keyring,
        state: State,
        metrics: Metrics,
        *,
        instance: str,
        sweep_interval_s: float,
        reconnect_s: float,
        stale_after_s: float,
        on_stale_socket: Callable[[], None],
    ) -> None:
        self._registry = Registry(engine, keyring, state, metrics, instance=instance)
        self._reconciler = Reconciler(
            self._registry,
            sweep_interval_s=sweep_interval_s,
            reconnect_s=reconnect_s,
            stale_after_s=stale_after_s,
            on_stale_socket=on_stale_socket,
        )
        self._loops: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        await self._registry.__aenter__()
        self._loops = [
            self._registry.follow("engine events", self._reconciler.follow_engine()),
            self._registry.follow("sweep", self._reconciler.sweep_periodically()),
        ]
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End what cannot outlive the proxy; leave the rest running for the next one."""
        self._registry.closing = True
        for task in self._loops:
            task.cancel()
        await self._registry.settle()
        await asyncio.gather(*(let_go(self._registry, server) for server in list(self._registry.servers.values())))
        await self._registry.__aexit__(exc_type, exc, traceback)

    def use(self, keyring: Keyring) -> None:
        """Sign with other keys from now on. Containers whose signature did not verify are looked at again."""
        self._registry.keyring = keyring
        self._reconciler.forgive()

    async def start(self, key: Key, wanted: Wanted, *, wait: bool = True) -> tuple[Server | None, bool]:
        """Start a server, or find it running with the same request.

        Args:
            key: of the server.
            wanted: what is to run.
            wait: until it runs.

        Returns:
            The server and whether it was created now. Without ``wait``, (None, True) once the start is under way.

        Raises:
            ProblemError: spec-conflict; quota-exceeded; engine-unavailable before the first sweep.
            EngineFailure, ImageRefusedError: nothing is left behind.
        """
        self._require_ready()
        registry = self._registry
        if wait:
            return await registry.run(start(registry, key, wanted))
        # What can be known now is told now.
        if (server := running(registry, key, wanted.request)) is not None:
            return server, False
        registry.quotas.check(key, wanted.admitted, registry.servers.values())
        await registry.engine.inspect_image(wanted.admitted.references)
        registry.spawn("start", start(registry, key, wanted), context=contextvars.copy_context())
        return None, True

    async def stop(self, key: Key, *, grace_s: int | None) -> ServerExit | None:
        """End a server and remove its container; returns when the name is free. Unknown: None, at once.

        Raises:
            EngineFailure: it may still run; ask again.
        """
        self._require_ready()
        return await self._registry.run(stop(self._registry, key, grace_s))

    def renew(self, server: Server) -> None:
        """Count as if its last client had left just now."""
        renew(self._registry, server)

    def get(self, key: Key) -> Server | None:
        """The server of this client and name."""
        return self._registry.servers.get(key)

    def of_client(self, client: str) -> list[Server]:
        """All servers of this client, by name."""
        return [server for key, server in sorted(self._registry.servers.items()) if key.client == client]

    def exposition(self) -> bytes:
        """The metrics, in Prometheus' text format."""
        registry = self._registry
        return registry.metrics.exposition(registry.servers.values(), ready=not self._reconciler.not_ready)

    def readiness(self) -> list[str]:
        """What keeps servers from being started; empty when nothing does."""
        return list(self._reconciler.not_ready)

    def evict_all(self, code: CloseCode, reason: str) -> None:
        """Ask every attached client to leave, because the proxy ends."""
        self._registry.leaving = True
        for server in self._registry.servers.values():
            server.hub.evict(code, reason)

    def wake_all(self) -> None:
        """Let everybody who waits for a server's news look around."""
        for server in self._registry.servers.values():
            server.hub.wake()

    def _require_ready(self) -> None:
        if reasons := self._reconciler.not_ready:
            raise ProblemError(ProblemType.ENGINE_UNAVAILABLE, "; ".join(reasons) + ": try again later")
