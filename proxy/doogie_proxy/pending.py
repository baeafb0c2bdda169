"""A start before there is a container: under way, or failed with nobody there to be told."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from doogie_contract.models import StartRequest
from doogie_contract.problems import ProblemError
from doogie_proxy.admission import Admitted
from doogie_proxy.pulls import Pull
from doogie_proxy.server import Key, Server

FAILURE_KEPT = timedelta(minutes=5)
"""How long a failure can be asked for that nobody was told."""


class Wanted(NamedTuple):
    """What is to run: a client's request, what the policy made of it, the secrets' values by path."""

    request: StartRequest
    admitted: Admitted
    secrets: Mapping[str, str]
    request_id: str
    """Of the call that asked for it: the log says more under it."""


class Start:
    """One start of a server, however many ask for it. Whoever wants to know how it ends awaits ``outcome``."""

    def __init__(self, key: Key, wanted: Wanted) -> None:
        self.key = key
        self.wanted = wanted
        self.pull: Pull | None = None
        self.failure: Exception | None = None
        self.failed_at: datetime | None = None
        self.given_up: ProblemError | None = None
        self._waiting = 0
        self._outcome: asyncio.Future[tuple[Server, bool]] = asyncio.get_running_loop().create_future()
        self._patience: asyncio.Timeout | None = None

    @property
    def under_way(self) -> bool:
        """Whether it may still come to something."""
        return self.failure is None and self.given_up is None

    async def outcome(self) -> tuple[Server, bool]:
        """The server, once it runs, and whether it was made for this start.

        Raises:
            ProblemError, EngineFailure, ImageRefusedError: it never will.
        """
        self._waiting += 1
        try:
            return await asyncio.shield(self._outcome)
        finally:
            self._waiting -= 1

    def succeed(self, server: Server, created: bool) -> None:
        """Tell whoever waits."""
        self._outcome.set_result((server, created))

    def fail(self, failure: Exception) -> bool:
        """Tell whoever waits; whether there is somebody."""
        self.failure, self.failed_at = failure, datetime.now(UTC)
        self._outcome.set_exception(failure)
        self._outcome.exception()  # seen, even if nobody waits
        return self._waiting > 0

    def give_up(self, why: ProblemError) -> None:
        """Have it fail, unless it has its image already."""
        self.given_up = why
        if self._patience is not None:
            self._patience.reschedule(0)

    @asynccontextmanager
    async def patience(self) -> AsyncIterator[None]:
        """A block that ``give_up`` ends.

        Raises:
            ProblemError: what it was given.
        """
        try:
            async with asyncio.timeout(None if self.given_up is None else 0) as self._patience:
                yield
        except TimeoutError:
            raise self.given_up or TimeoutError from None
        finally:
            self._patience = None

    def close(self) -> None:
        """Leave nobody waiting."""
        self._outcome.cancel()
