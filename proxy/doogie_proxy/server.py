"""One server as the proxy sees it: its container, its hub, how it ended, when its leases do."""

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from doogie_contract.models import ExitReason, ServerExit
from doogie_proxy.engine import Container
from doogie_proxy.identity import Identity
from doogie_proxy.stdio import StdioHub


class Key(NamedTuple):
    """What names a server: one client's servers are another namespace than another's."""

    client: str
    name: str


@dataclass(eq=False)
class Server:
    """A container of ours."""

    identity: Identity
    container: Container
    hub: StdioHub
    end_reason: ExitReason | None = None
    """Why we are ending it; None while it runs, or when it ended by itself."""
    exit: ServerExit | None = None
    streams: asyncio.Task[None] | None = None
    finishing: asyncio.Lock = field(default_factory=asyncio.Lock)
    oom: asyncio.Event = field(default_factory=asyncio.Event)
    """The engine told that a process of it was killed for want of memory."""

    @property
    def key(self) -> Key:
        """The name it is known by."""
        return Key(self.identity.client, self.identity.server)

    def lease_end(self) -> tuple[datetime, ExitReason] | None:
        """When the nearest lease ends, and which."""
        if self.exit is not None:
            return None
        lifetime = self.identity.lifetime
        age_end = self.container.created_at + timedelta(seconds=lifetime.max_age_s)
        if self.hub.detached_at is None:
            return age_end, ExitReason.LEASE_MAX_AGE
        detached_end = self.hub.detached_at + timedelta(seconds=lifetime.detached_ttl_s)
        return min((age_end, ExitReason.LEASE_MAX_AGE), (detached_end, ExitReason.LEASE_DETACHED))

    def removal_due(self) -> datetime | None:
        """When a dead container has been kept long enough."""
        if self.exit is None:
            return None
        finished = self.exit.finished_at or self.container.created_at
        return finished + timedelta(seconds=self.identity.lifetime.keep_exited_s)

    def names(self) -> dict[str, str]:
        """What identifies it in the log."""
        return {
            "client": self.identity.client,
            "server": self.identity.server,
            "rule": self.identity.rule,
            "container_id": self.container.id,
        }
