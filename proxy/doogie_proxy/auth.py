"""Who is asking: bearer tokens, of which the policy holds hashes, and one-use tickets."""

import asyncio
import hashlib
import hmac
import secrets
import socket
import struct
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from doogie_contract.models import Ticket
from doogie_proxy.policy import Policy

MAX_TICKETS_PER_CLIENT = 64
"""Tickets that may be outstanding; a further one makes the oldest worthless."""

_CREDENTIALS = struct.Struct("3i")
"""``struct ucred`` of unix(7): pid, uid, gid."""


def hash_token(token: str) -> str:
    """SHA-256 (hex), as ``token_sha256`` in the policy wants it. A token is random, so no slow hash is needed."""
    return hashlib.sha256(token.encode()).hexdigest()


def new_token() -> str:
    """A fresh token: 256 random bits."""
    return secrets.token_urlsafe(32)


class Caller(NamedTuple):
    """Who is asking, and with which of its tokens: when that is revoked, what it opened ends."""

    client: str
    token_sha256: str

    def is_known_to(self, policy: Policy) -> bool:
        """Whether the policy still has this client with this token."""
        client = policy.clients.get(self.client)
        return client is not None and self.token_sha256 in client.token_sha256


def caller_of_token(policy: Policy, token: str) -> Caller | None:
    """Who holds ``token``. Every hash is compared, each in constant time."""
    digest = hash_token(token)
    found = None
    for name, client in policy.clients.items():
        for known in client.token_sha256:
            if hmac.compare_digest(known, digest):
                found = Caller(name, known)
    return found


def peer_uid(transport: asyncio.BaseTransport | None) -> int | None:
    """The uid of the process at the other end of a unix socket (``SO_PEERCRED``), as this user namespace sees it.

    None for TCP and for a connection that is gone.
    """
    connected = transport.get_extra_info("socket") if transport is not None else None
    if connected is None or connected.family != socket.AF_UNIX or connected.fileno() == -1:
        return None
    with socket.fromfd(connected.fileno(), socket.AF_UNIX, socket.SOCK_STREAM) as peer:
        _, uid, _ = _CREDENTIALS.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return int(uid)


@dataclass(frozen=True)
class _Grant:
    caller: Caller
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

    def issue(self, caller: Caller, server: str) -> Ticket:
        """A new ticket for this caller and server."""
        now = time.monotonic()
        self._grants = {ticket: grant for ticket, grant in self._grants.items() if grant.expires > now}
        of_client = [ticket for ticket, grant in self._grants.items() if grant.caller.client == caller.client]
        if len(of_client) >= MAX_TICKETS_PER_CLIENT:
            del self._grants[of_client[0]]
        ticket = secrets.token_urlsafe(32)
        self._grants[ticket] = _Grant(caller, server, now + self._ttl_s)
        return Ticket(ticket=ticket, expires_at=datetime.now(UTC) + timedelta(seconds=self._ttl_s))

    def redeem(self, ticket: str, server: str) -> Caller | None:
        """The caller whose ticket this is, if it is for ``server`` and alive. It is worthless afterwards."""
        grant = self._grants.pop(ticket, None)
        if grant is None or grant.server != server or grant.expires <= time.monotonic():
            return None
        return grant.caller
