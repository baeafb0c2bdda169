"""Pulls: one for each image, however many starts wait for it. It ends when nobody does any more.

The engine fetches the image; what it says of that is read here. It names failures in words alone, which are sorted
into reasons that a client may know.
"""

import asyncio
import re
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog

from doogie_contract.models import PullLayer, PullPhase, PullStatus
from doogie_proxy.engine import Engine
from doogie_proxy.engine_failures import EngineFailure, EngineTimeout, EngineUnavailable, ImageNotPulled

MAX_LAYERS = 128
"""An engine refuses an image with more; a registry may name any number."""
PROGRESS_INTERVAL_S = 0.2
"""The engine tells of every few kilobytes. That many times less often it is passed on."""

_PHASES = {
    "Pulling fs layer": PullPhase.WAITING,
    "Waiting": PullPhase.WAITING,
    "Downloading": PullPhase.DOWNLOADING,
    "Verifying Checksum": PullPhase.DOWNLOADED,
    "Download complete": PullPhase.DOWNLOADED,
    "Extracting": PullPhase.EXTRACTING,
    "Pull complete": PullPhase.COMPLETE,
    "Already exists": PullPhase.COMPLETE,
}
_REASONS = (
    (re.compile(r"no match(?:ing manifest)? for"), "its registry has none for this engine's platform"),
    (
        re.compile(r"denied|unauthorized|authentication required|no basic auth"),
        "its registry has none that anybody may pull: have the operator pull it",
    ),
    (re.compile(r"not found|unknown"), "its registry does not have it"),
)
_OTHER_REASON = "its registry cannot be reached, or failed: try again later, or have the operator look"

log = structlog.get_logger(__name__)


@dataclass(eq=False)
class Pull:
    """One image on its way, and whoever wants to hear how far it is."""

    reference: str
    task: asyncio.Task[EngineFailure | None] = field(init=False)
    listeners: set[Callable[[], None]] = field(default_factory=set)
    _layers: dict[str, PullLayer] = field(default_factory=dict)
    _told: float = 0.0

    @property
    def status(self) -> PullStatus:
        """The wire form."""
        return PullStatus(image=self.reference, layers=list(self._layers.values()))

    def hear(self, message: Mapping[str, Any]) -> None:
        """Take in a message of the engine's progress stream (``POST /images/create``)."""
        phase, layer_id = _PHASES.get(str(message.get("status"))), str(message.get("id"))[:64]
        if phase is None or (layer_id not in self._layers and len(self._layers) >= MAX_LAYERS):
            return
        known = self._layers.get(layer_id)
        current, total = (known.current_bytes, known.total_bytes) if known else (None, None)
        if phase is PullPhase.DOWNLOADING:
            detail = dict(message.get("progressDetail") or {})
            current, total = detail.get("current"), detail.get("total")
        elif phase is not PullPhase.WAITING:
            current = total
        self._layers[layer_id] = PullLayer(id=layer_id, phase=phase, current_bytes=current, total_bytes=total)
        if (now := time.monotonic()) >= self._told + PROGRESS_INTERVAL_S:
            self._told = now
            for listener in self.listeners:
                listener()


class Pulls:
    """The pulls under way.

    Args:
        engine: that pulls.
        timeout_s: for each pull.
        follow: makes a task that outlives whoever asks for it.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        timeout_s: float,
        follow: Callable[[str, Coroutine[Any, Any, EngineFailure | None]], asyncio.Task[EngineFailure | None]],
    ) -> None:
        self._engine = engine
        self._timeout_s = timeout_s
        self._follow = follow
        self._under_way: dict[str, Pull] = {}

    def join(self, reference: str) -> Pull:
        """The pull of this image that is under way, or a new one."""
        pull = self._under_way.get(reference)
        if pull is None:
            pull = self._under_way[reference] = Pull(reference)
            pull.task = self._follow(f"pull {reference}", self._run(pull))
        return pull

    async def wait(self, pull: Pull, listener: Callable[[], None]) -> None:
        """Wait until the image is there; ``listener`` is called whenever there is progress.

        Raises:
            ImageNotPulled, EngineUnavailable: it will not be.
        """
        pull.listeners.add(listener)
        try:
            failure = await asyncio.shield(pull.task)
        finally:
            pull.listeners.discard(listener)
            if not pull.listeners and not pull.task.done():
                self._forget(pull)  # who comes now begins anew
                pull.task.cancel()
        if failure is not None:
            raise failure

    async def _run(self, pull: Pull) -> EngineFailure | None:
        begun = time.monotonic()
        try:
            await self._engine.pull(pull.reference, pull.hear, timeout_s=self._timeout_s)
        except EngineFailure as exc:
            log.warning("pull_failed", image=pull.reference, error=str(exc))
            return self._sorted(pull.reference, exc)
        finally:
            self._forget(pull)
        log.info("image_pulled", image=pull.reference, duration_s=round(time.monotonic() - begun, 3))
        return None

    def _forget(self, pull: Pull) -> None:
        if self._under_way.get(pull.reference) is pull:
            del self._under_way[pull.reference]

    def _sorted(self, reference: str, exc: EngineFailure) -> EngineFailure:
        if isinstance(exc, EngineUnavailable):
            return exc
        if isinstance(exc, EngineTimeout):
            return ImageNotPulled(reference, f"that took longer than {self._timeout_s:g} s")
        return ImageNotPulled(reference, reason_of(str(exc)))


def reason_of(words: str) -> str:
    """What the engine's words about a pull mean, for a client."""
    return next((reason for pattern, reason in _REASONS if pattern.search(words)), _OTHER_REASON)
