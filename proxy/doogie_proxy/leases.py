"""The detached clock of a server: since when nobody is attached. A detach or a renewal starts it, an attach stops it.

It is written down (state.py), so that it goes on while no proxy runs. A client that was attached when the proxy ended
did not leave: there the clock starts with the next proxy. The other lease, ``max_age_s``, needs no clock but the
engine's own. ``Server.lease_end`` knows both, ``ending.py`` ends what is due.
"""

from dataclasses import replace
from datetime import UTC, datetime

from doogie_proxy.registry import Registry
from doogie_proxy.server import Server
from doogie_proxy.state import Record


def watch(registry: Registry, server: Server) -> None:
    """Write down from now on when clients come and go."""
    server.hub.on_seat_change = lambda: _remember(registry, server)
    _remember(registry, server)


def renew(registry: Registry, server: Server) -> None:
    """Start the clock anew, if it runs."""
    if not server.hub.attached:
        server.hub.detached_at = datetime.now(UTC)
        _remember(registry, server)


def resume(server: Server, record: Record) -> None:
    """Set the clock of a server that an earlier proxy left; one without a record starts now."""
    now = datetime.now(UTC)
    server.hub.detached_at = min(record.detached_at or now, now)  # the system's clock may have been set back
    server.end_reason = record.ending


def _remember(registry: Registry, server: Server) -> None:
    if not registry.leaving and registry.servers.get(server.key) is server:
        record = registry.state.get(server.container.id)
        registry.state.put(server.container.id, replace(record, detached_at=server.hub.detached_at))
        registry.changes.tell(server.key)
