"""``doogie-proxy reap``: finds all containers of an instance, and ends them, while no proxy runs.

Only what a signature proves to be ours is touched. The lock of ``STATE_DIR`` keeps a proxy from starting meanwhile;
where there is no directory to lock, a proxy is known by its listeners.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple

from doogie_proxy.engine import Container, Engine
from doogie_proxy.engine_failures import EngineFailure, NotFound
from doogie_proxy.identity import LABEL_INSTANCE, Identity, IdentityError, Keyring
from doogie_proxy.settings import Listener, Settings, TcpListener
from doogie_proxy.state import State

AT_ONCE = 16
"""How many servers are ended at the same time."""
CONNECT_TIMEOUT_S = 5.0


class ProxyRunsError(Exception):
    """A proxy of the instance runs; says where it listens."""


class Ours(NamedTuple):
    """A container whose signature verifies, and whose it is."""

    container: Container
    identity: Identity

    def __str__(self) -> str:
        server = f"{self.identity.server} of client {self.identity.client}, rule {self.identity.rule}"
        return f"{self.container.id[:12]} {self.container.status}: {server}"


class Found(NamedTuple):
    """The containers that have the instance's label, dead ones too; ``foreign`` are ids."""

    ours: list[Ours]
    foreign: list[str]


@asynccontextmanager
async def without_proxy(settings: Settings) -> AsyncIterator[State]:
    """A time in which no proxy of the instance runs.

    Raises:
        StateLockedError, ProxyRunsError: one does.
        OSError: it cannot be known whether one listens.
    """
    async with State(settings.state_dir, settings.instance) as state:
        for listener in settings.listeners:
            if await asyncio.to_thread(_answers, listener):
                raise ProxyRunsError(f"a proxy listens on {listener}: stop it first")
        yield state


async def find(engine: Engine, keyring: Keyring, instance: str) -> Found:
    """What there is.

    Raises:
        EngineFailure: the engine cannot be asked.
    """
    found = Found([], [])
    for container_id in await engine.list_states(f"{LABEL_INSTANCE}={instance}"):
        with suppress(NotFound):  # gone meanwhile
            container = await engine.inspect(container_id)
            try:
                identity = Identity.from_labels(container.labels, keyring, container.image_id)
            except IdentityError:
                found.foreign.append(container_id)
            else:
                found.ours.append(Ours(container, identity))
    return found


async def end(engine: Engine, state: State, ours: Iterable[Ours]) -> list[str]:
    """Stop and remove containers, each with its own grace. Returns a line for each that could not be."""
    turn = asyncio.Semaphore(AT_ONCE)

    async def end_one(one: Ours) -> str | None:
        try:
            async with turn:
                with suppress(NotFound):  # gone meanwhile
                    await engine.stop(one.container.id, grace_s=one.identity.lifetime.stop_grace_s)
                await engine.remove(one.container.id)
        except EngineFailure as exc:
            return f"{one}: {exc}"
        state.forget(one.container.id)
        return None

    return [fault for fault in await asyncio.gather(*map(end_one, ours)) if fault is not None]


def _answers(listener: Listener) -> bool:
    try:
        if isinstance(listener, TcpListener):
            socket.create_connection(listener, timeout=CONNECT_TIMEOUT_S).close()
        else:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(CONNECT_TIMEOUT_S)
                connection.connect(str(listener.path))
    except (ConnectionRefusedError, FileNotFoundError):
        return False
    return True
