"""Who is asking: bearer tokens, of which the policy holds hashes, and one-use tickets."""

import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from doogie_contract.models import Ticket
from doogie_proxy.policy import Policy

MAX_TICKETS_PER_CLIENT = 64
"""Tickets that may be outstanding; a further one makes the oldest worthless."""


def hash_token(token: str) -> str:
    """SHA-256 (hex), as ``token_sha256`` in the policy wants it. A token is random, so no slow hash is needed."""
    return hashlib.sha256(token.encode()).hexdigest()


def new_token() -> str:
    """A fresh token: 256 random bits."""
    return secrets.token_urlsafe(32)


def client_of_token(policy: Policy, token: str) -> str | None:
    """The client that holds ``token``. Every hash is compared, each in constant time."""
    digest = hash_token(token)
    found = None
    for name, client in policy.clients.items():
        for known in client.token_sha256:
            if hmac.compare_digest(known, digest):
                found = name
    return found


@dataclass(frozen=True)
class _Grant:
    client: str
    server: str
    expires: float


class Tickets:
    """One-use passes to one server's stdio, for WebSocket clients that cannot send headers. In memory only.

    Args:
        ttl_s: a ticket's life.
    """

    def __init__(self, ttl_s: float) -> None:
        self._ttl_s = ttl_s
        self._grants: dict[str, _Grant] = {}

    def issue(self, client: str, server: str) -> Ticket:
        """A new ticket for this client and server."""
        now = time.monotonic()
        self._grants = {ticket: grant for ticket, grant in self._grants.items() if grant.expires > now}
        of_client = [ticket for ticket, grant in self._grants.items() if grant.client == client]
        if len(of_client) >= MAX_TICKETS_PER_CLIENT:
            del self._grants[of_client[0]]
        ticket = secrets.token_urlsafe(32)
        self._grants[ticket] = _Grant(client, server, now + self._ttl_s)
        return Ticket(ticket=ticket, expires_at=datetime.now(UTC) + timedelta(seconds=self._ttl_s))

    def redeem(self, ticket: str, server: str) -> str | None:
        """The client whose ticket this is, if it is for ``server`` and alive. It is worthless afterwards."""
        grant = self._grants.pop(ticket, None)
        if grant is None or grant.server != server or grant.expires <= time.monotonic():
            return None
        return grant.client
