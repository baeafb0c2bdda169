"""The lives of the servers, as the API asks for them: start, stop, look.

    start   image (→ pull) → create → attach → start   starting.py, pulls.py
    stop    (EOF) → SIGTERM → SIGKILL → remove         ending.py
    die     an engine event, or the end of the streams: exit code, OOM, stderr tail; attached clients are told
    sweep   the rest of the truth, from the engine     reconciler.py, adoption.py

One state for each name (states.py) and one lock (registry.py); an operation runs to its end even when its caller goes
away.
"""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple, Self

from doogie_contract.channels import CloseCode
from doogie_contract.models import ServerExit, ServerState
from doogie_contract.problems import ProblemError, ProblemType
from doogie_proxy.changes import Changes
from doogie_proxy.ending import let_go, stop
from doogie_proxy.engine import Engine
from doogie_proxy.engine_failures import EngineFailure
from doogie_proxy.identity import Keyring
from doogie_proxy.leases import renew
from doogie_proxy.metrics import Metrics
from doogie_proxy.pending import Start, Wanted
from doogie_proxy.reconciler import Reconciler
from doogie_proxy.registry import Registry
from doogie_proxy.server import Key, Server
from doogie_proxy.starting import begin, find
from doogie_proxy.state import State


class View(NamedTuple):
    """What there is under a name: a state, and a container, or a start that has none."""

    key: Key
    state: ServerState
    server: Server | None
    start: Start | None

    @property
    def exists(self) -> bool:
        """Whether there is anything to tell."""
        return self.state is not ServerState.ABSENT or (self.start is not None and self.start.failure is not None)

    @property
    def rule(self) -> str:
        """Under which it is."""
        if self.server is not None:
            return self.server.identity.rule
        return "" if self.start is None else self.start.wanted.admitted.rule.name


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
        pull_timeout_s: for each image.
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
        pull_timeout_s: float,
    ) -> None:
        self._registry = Registry(engine, keyring, state, metrics, instance=instance, pull_timeout_s=pull_timeout_s)
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
        self._give_up_starts()
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
        registry, admitted = self._registry, wanted.admitted
        try:
            found = find(registry, key, wanted)
            if found is None and not wait:  # what can be known now is told now
                registry.quotas.check(key, admitted, registry.servers.values())
                if admitted.rule.pull == "never":
                    await registry.engine.inspect_image(admitted.references)
                    found = find(registry, key, wanted)
        except (ProblemError, EngineFailure) as exc:
            registry.metrics.start_failed(admitted.rule.name, exc)
            raise
        if found is not None:
            registry.metrics.start(admitted.rule.name, "found")
        if isinstance(found, Server):
            return found, False
        start = found or begin(registry, key, wanted)
        if not wait:
            return None, found is None
        server, created = await start.outcome()
        return server, created and found is None

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
        """The server of this client and name; none while a start is under way that has no container yet."""
        return self.view(key).server

    def view(self, key: Key) -> View:
        """What there is under this name."""
        state, start = self._registry.state_of(key), self._registry.starts.get(key)
        has_container = state not in (ServerState.ABSENT, ServerState.PULLING)
        return View(key, state, self._registry.servers[key] if has_container else None, start)

    def of_client(self, client: str) -> list[View]:
        """All there is of this client, by name."""
        keys = self._registry.servers.keys() | self._registry.starts.keys()
        views = (self.view(key) for key in sorted(keys) if key.client == client)
        return [view for view in views if view.exists]

    @property
    def changes(self) -> Changes:
        """Who is told of what changes."""
        return self._registry.changes

    def exposition(self) -> bytes:
        """The metrics, in Prometheus' text format."""
        views = [self.view(key) for key in self._registry.servers.keys() | self._registry.starts.keys()]
        servers = [(view.rule, view.state, None if view.server is None else view.server.hub) for view in views]
        return self._registry.metrics.exposition(servers, ready=not self._reconciler.not_ready)

    def readiness(self) -> list[str]:
        """What keeps servers from being started; empty when nothing does."""
        return list(self._reconciler.not_ready)

    def evict_all(self, code: CloseCode, reason: str) -> None:
        """Ask every attached client to leave, and give up starts that have no image yet: the proxy ends."""
        self._registry.leaving = True
        self._give_up_starts()
        for server in self._registry.servers.values():
            server.hub.evict(code, reason)
        self._registry.changes.look_again()

    def wake_all(self) -> None:
        """Let everybody who waits for a server's news look around."""
        for server in self._registry.servers.values():
            server.hub.wake()
        self._registry.changes.look_again()

    def _give_up_starts(self) -> None:
        for start in self._registry.starts.values():
            if start.under_way:
                start.give_up(ProblemError(ProblemType.SHUTTING_DOWN, "the proxy is ending: try again shortly"))

    def _require_ready(self) -> None:
        if reasons := self._reconciler.not_ready:
            raise ProblemError(ProblemType.ENGINE_UNAVAILABLE, "; ".join(reasons) + ": try again later")
