"""Tokens and tickets."""

import hashlib
import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from doogie_proxy.auth import MAX_TICKETS_PER_CLIENT, Tickets, client_of_token, hash_token, new_token
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


# ── tokens ───────────────────────────────────────────────────────────────────────────────────────


def test_the_hash_of_a_token_is_plain_sha256() -> None:
    assert hash_token("a token") == hashlib.sha256(b"a token").hexdigest()


def test_a_new_token_has_256_random_bits_and_fits_into_a_header() -> None:
    tokens = {new_token() for _ in range(100)}
    assert len(tokens) == 100
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{43}", token) for token in tokens)


@pytest.mark.parametrize(("token", "client"), [("old", "chat"), ("new", "chat"), ("others", "other")])
def test_a_token_is_its_clients(token: str, client: str) -> None:
    assert client_of_token(POLICY, token) == client


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_another_token_is_nobodys(token: str) -> None:
    assume(token not in {"old", "new", "others"})
    assert client_of_token(POLICY, token) is None


@pytest.mark.parametrize("token", ["", "OLD", "old ", "ol", hash_token("old")])
def test_a_token_that_is_nearly_right_is_nobodys(token: str) -> None:
    assert client_of_token(POLICY, token) is None


def test_a_policy_without_clients_knows_no_token() -> None:
    assert client_of_token(Policy.model_validate({"version": 1, "clients": {}, "rules": []}), "old") is None


# ── tickets ──────────────────────────────────────────────────────────────────────────────────────


def test_a_ticket_is_worth_its_client_once() -> None:
    tickets = Tickets(ttl_s=60)
    ticket = tickets.issue("chat", "time").ticket
    assert tickets.redeem(ticket, "time") == "chat"
    assert tickets.redeem(ticket, "time") is None


def test_a_ticket_for_another_server_is_worthless_and_used_up() -> None:
    tickets = Tickets(ttl_s=60)
    ticket = tickets.issue("chat", "time").ticket
    assert tickets.redeem(ticket, "files") is None
    assert tickets.redeem(ticket, "time") is None


def test_a_ticket_ends() -> None:
    tickets = Tickets(ttl_s=0)
    assert tickets.redeem(tickets.issue("chat", "time").ticket, "time") is None


def test_a_ticket_says_when_it_ends() -> None:
    tickets = Tickets(ttl_s=60)
    first, second = tickets.issue("chat", "time"), tickets.issue("chat", "time")
    assert first.expires_at.utcoffset() is not None
    assert 0 <= (second.expires_at - first.expires_at).total_seconds() < 10


def test_a_ticket_cannot_be_guessed_and_fits_into_a_query() -> None:
    tickets = Tickets(ttl_s=60)
    issued = {tickets.issue("chat", "time").ticket for _ in range(50)}
    assert len(issued) == 50
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{43}", ticket) for ticket in issued)
    assert tickets.redeem("", "time") is None
    assert tickets.redeem("A" * 43, "time") is None


def test_a_clients_oldest_ticket_gives_way_and_nobody_elses() -> None:
    tickets = Tickets(ttl_s=60)
    others = tickets.issue("other", "time").ticket
    issued = [tickets.issue("chat", "time").ticket for _ in range(MAX_TICKETS_PER_CLIENT + 2)]
    redeemed = [tickets.redeem(ticket, "time") for ticket in issued]
    assert redeemed == [None, None, *["chat"] * MAX_TICKETS_PER_CLIENT]
    assert tickets.redeem(others, "time") == "other"


def test_tickets_that_ended_are_not_kept() -> None:
    tickets = Tickets(ttl_s=0)
    for _ in range(MAX_TICKETS_PER_CLIENT * 2):
        tickets.issue("chat", "time")
    assert len(tickets._grants) == 1
