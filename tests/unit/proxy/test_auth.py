"""Tokens and tickets."""

import asyncio
import hashlib
import os
import re
import socket
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from datetime import UTC, datetime

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from doogie_proxy.auth import MAX_TICKETS_PER_CLIENT, Caller, Tickets, caller_of_token, hash_token, new_token, peer_uid
from doogie_proxy.policy import Policy

POLICY = Policy.model_validate(
    {
        "version": 1,
        "clients": {
            "chat": {"token_sha256": [hash_token("old"), hash_token("new")], "rules": []},
            "other": {"token_sha256": [hash_token("others")], "rules": []},
        },
        "rules": [],
    }
)

CHAT = Caller("chat", hash_token("new"))
OTHER = Caller("other", hash_token("others"))


# ── tokens ───────────────────────────────────────────────────────────────────────────────────────


def test_the_hash_of_a_token_is_plain_sha256() -> None:
    assert hash_token("a token") == hashlib.sha256(b"a token").hexdigest()


def test_a_new_token_has_256_random_bits_and_fits_into_a_header() -> None:
    tokens = {new_token() for _ in range(100)}
    assert len(tokens) == 100
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{43}", token) for token in tokens)


@pytest.mark.parametrize(("token", "client"), [("old", "chat"), ("new", "chat"), ("others", "other")])
def test_a_token_is_its_clients(token: str, client: str) -> None:
    assert caller_of_token(POLICY, token) == Caller(client, hash_token(token))


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_another_token_is_nobodys(token: str) -> None:
    assume(token not in {"old", "new", "others"})
    assert caller_of_token(POLICY, token) is None


@pytest.mark.parametrize("token", ["", "OLD", "old ", "ol", hash_token("old")])
def test_a_token_that_is_nearly_right_is_nobodys(token: str) -> None:
    assert caller_of_token(POLICY, token) is None


def test_a_policy_without_clients_knows_no_token() -> None:
    assert caller_of_token(Policy.model_validate({"version": 1, "clients": {}, "rules": []}), "old") is None


def test_a_caller_is_known_while_the_policy_has_both_the_client_and_the_token() -> None:
    assert CHAT.is_known_to(POLICY)
    assert not Caller("chat", hash_token("others")).is_known_to(POLICY)
    assert not Caller("gone", hash_token("new")).is_known_to(POLICY)


# ── tickets ──────────────────────────────────────────────────────────────────────────────────────


def test_a_ticket_is_worth_its_client_once() -> None:
    tickets = Tickets(ttl_s=60)
    ticket = tickets.issue(CHAT, "time").ticket
    assert tickets.redeem(ticket, "time") == CHAT
    assert tickets.redeem(ticket, "time") is None


def test_a_ticket_for_another_server_is_worthless_and_used_up() -> None:
    tickets = Tickets(ttl_s=60)
    ticket = tickets.issue(CHAT, "time").ticket
    assert tickets.redeem(ticket, "files") is None
    assert tickets.redeem(ticket, "time") is None


def test_a_ticket_ends() -> None:
    tickets = Tickets(ttl_s=0)
    assert tickets.redeem(tickets.issue(CHAT, "time").ticket, "time") is None


def test_a_ticket_says_when_it_ends() -> None:
    tickets = Tickets(ttl_s=60)
    first, second = tickets.issue(CHAT, "time"), tickets.issue(CHAT, "time")
    assert first.expires_at.utcoffset() is not None
    assert 0 <= (second.expires_at - first.expires_at).total_seconds() < 10
    assert 50 < (first.expires_at - datetime.now(UTC)).total_seconds() <= 60


def test_a_ticket_cannot_be_guessed_and_fits_into_a_query() -> None:
    tickets = Tickets(ttl_s=60)
    issued = {tickets.issue(CHAT, "time").ticket for _ in range(50)}
    assert len(issued) == 50
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{43}", ticket) for ticket in issued)
    assert tickets.redeem("", "time") is None
    assert tickets.redeem("A" * 43, "time") is None


def test_a_clients_oldest_ticket_gives_way_and_nobody_elses() -> None:
    tickets = Tickets(ttl_s=60)
    others = tickets.issue(OTHER, "time").ticket
    issued = [tickets.issue(CHAT, "time").ticket for _ in range(66)]
    redeemed = [tickets.redeem(ticket, "time") for ticket in issued]
    assert redeemed == [None, None, *[CHAT] * 64]
    assert tickets.redeem(others, "time") == OTHER


def test_what_a_ticket_grants_cannot_be_changed() -> None:
    tickets = Tickets(ttl_s=60)
    tickets.issue(CHAT, "time")
    [grant] = tickets._grants.values()
    with pytest.raises(AttributeError):
        grant.server = "files"  # type: ignore[misc]  # the type checker knows it as well


def test_tickets_that_ended_are_not_kept() -> None:
    tickets = Tickets(ttl_s=0)
    for _ in range(MAX_TICKETS_PER_CLIENT * 2):
        tickets.issue(CHAT, "time")
    assert len(tickets._grants) == 1


# ── peers ────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def another_user() -> Iterator[int]:
    """Be one where that is possible, and in any case say who: 0 is also what a mistake would give."""
    if os.geteuid() != 0:
        yield os.geteuid()
        return
    os.seteuid(54321)
    try:
        yield 54321
    finally:
        os.seteuid(0)


@asynccontextmanager
async def accepted(listening: socket.socket, connecting: socket.socket) -> AsyncIterator[asyncio.BaseTransport]:
    """The server's end of a connection that is being made."""
    found: asyncio.Future[asyncio.StreamWriter] = asyncio.get_running_loop().create_future()

    def connected(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found.set_result(writer)

    with closing(connecting):
        server = await asyncio.start_server(connected, sock=listening)
        async with server, asyncio.timeout(10):
            writer = await found
            yield writer.transport
            writer.close()


async def test_the_peer_of_a_unix_socket_is_known_by_its_uid_until_it_is_gone() -> None:
    listening, connecting = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    listening.bind(f"\0doogie-test-{uuid.uuid4()}")  # abstract: whoever may connect
    listening.listen()
    with another_user() as uid:
        connecting.connect(listening.getsockname())
    async with accepted(listening, connecting) as transport:
        assert peer_uid(transport) == uid
        assert peer_uid(transport) == uid  # asking closes nothing
        assert not transport.is_closing()
        transport.close()
        connecting.close()
        await asyncio.sleep(0)  # the loop closes the socket when it comes around
        await asyncio.sleep(0)
        assert peer_uid(transport) is None


async def test_the_peer_of_a_tcp_connection_is_nobody() -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    async with accepted(listening, socket.create_connection(listening.getsockname())) as transport:
        assert peer_uid(transport) is None


async def test_no_connection_is_nobodys() -> None:
    assert peer_uid(None) is None
    assert peer_uid(asyncio.BaseTransport()) is None
