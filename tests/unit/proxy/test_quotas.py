"""How many servers a client may have at once, and how often it may start one."""

import time
from collections import deque
from datetime import UTC, datetime

import pytest

from doogie_contract.models import ExitReason, ServerExit, StartRequest
from doogie_contract.problems import ProblemError, ProblemType
from doogie_proxy.admission import Admitted, admit
from doogie_proxy.engine import Container
from doogie_proxy.identity import Identity
from doogie_proxy.policy import Lifetime, Policy, Stdio
from doogie_proxy.quotas import Quotas, Requests
from doogie_proxy.server import Key, Server
from doogie_proxy.stdio import StdioHub


def admitted(*, of_client: int = 20, of_rule: int | None = None, per_minute: int = 60) -> Admitted:
    policy = Policy.model_validate(
        {
            "version": 1,
            "clients": {
                "chat": {
                    "token_sha256": ["0" * 64],
                    "rules": ["r"],
                    "max_running": of_client,
                    "starts_per_minute": per_minute,
                }
            },
            "rules": [{"name": "r", "images": ["time:1"], "allow_tags": True, "max_running": of_rule}],
        }
    )
    decision = admit(policy, "chat", StartRequest(image="time"))
    assert isinstance(decision, Admitted)
    return decision


def server(name: str, *, client: str = "chat", rule: str = "r", dead: bool = False) -> Server:
    identity = Identity(
        instance="i",
        client=client,
        server=name,
        rule=rule,
        image="time:1",
        spec="",
        plan="",
        lifetime=Lifetime(),
        stdio=Stdio(),
    )
    container = Container(
        id=name,
        image_id="",
        labels={},
        status="exited" if dead else "running",
        exit_code=0,
        oom_killed=False,
        created_at=datetime.now(UTC),
        started_at=None,
        finished_at=None,
    )
    hub = StdioHub(None, None, None, buffer_bytes=1, max_message_bytes=1, can_half_close=False)
    end = ServerExit(reason=ExitReason.EXITED, code=0, signal=None, finished_at=None, stderr_tail="")
    return Server(identity, container, hub, exit=end if dead else None)


def refusal(quotas: Quotas, name: str, decision: Admitted, *servers: Server) -> ProblemError:
    with pytest.raises(ProblemError) as caught:
        quotas.check(Key("chat", name), decision, servers)
    assert caught.value.type is ProblemType.QUOTA_EXCEEDED
    return caught.value


async def test_a_client_may_have_as_many_servers_as_it_may_have_and_no_more() -> None:
    decision = admitted(of_client=2)
    Quotas().check(Key("chat", "c"), decision, [server("a")])
    problem = refusal(Quotas(), "c", decision, server("a"), server("b"))
    assert problem.detail == "2 servers run, or hold output that nobody has read, of at most 2: stop one first"
    assert problem.retry_after_s is None


async def test_a_clients_servers_count_under_whatever_rule_they_run() -> None:
    assert "2 servers run" in refusal(Quotas(), "c", admitted(of_client=2), server("a"), server("b", rule="x")).detail


async def test_servers_of_others_and_dead_ones_do_not_count() -> None:
    others = [server("a", client="alpha"), server("b", client="zeta"), server("d", dead=True)]
    Quotas().check(Key("chat", "c"), admitted(of_client=1, of_rule=1), others)


async def test_a_dead_server_counts_while_its_output_is_unread() -> None:
    dead = server("d", dead=True)
    dead.hub.stdout.append(b"x")
    assert (
        "1 servers run, or hold output that nobody has read"
        in refusal(Quotas(), "c", admitted(of_client=1), dead).detail
    )
    dead.hub.stdout.consume(1)
    Quotas().check(Key("chat", "c"), admitted(of_client=1), [dead])


async def test_a_server_that_is_replaced_does_not_count_itself() -> None:
    Quotas().check(Key("chat", "a"), admitted(of_client=1, of_rule=1), [server("a")])


async def test_a_rule_may_have_fewer_servers_than_its_client() -> None:
    decision = admitted(of_rule=2)
    Quotas().check(Key("chat", "c"), decision, [server("a"), server("b", rule="q"), server("d", rule="s")])
    problem = refusal(Quotas(), "c", decision, server("a"), server("b"))
    assert problem.detail == "rule r allows 2 servers at once: stop one first"
    assert problem.retry_after_s is None


async def test_a_server_counts_while_it_is_being_started_and_no_longer() -> None:
    quotas, decision = Quotas(), admitted(of_client=1)
    with quotas.starting(Key("chat", "a"), decision, []):
        assert "1 servers run, or" in refusal(quotas, "b", decision).detail
        assert "rule r allows 1" in refusal(quotas, "b", admitted(of_rule=1)).detail
        quotas.check(Key("other", "b"), decision, [])
    quotas.check(Key("chat", "b"), decision, [])


async def test_a_start_that_fails_no_longer_counts_as_a_server_and_still_as_a_start() -> None:
    quotas, decision = Quotas(), admitted(of_client=1, per_minute=1)
    with pytest.raises(ZeroDivisionError), quotas.starting(Key("chat", "a"), decision, []):
        raise ZeroDivisionError
    quotas.check(Key("chat", "b"), admitted(of_client=1), [])
    assert "1 starts a minute are allowed" in refusal(quotas, "b", decision).detail


async def test_a_client_that_starts_too_often_is_told_how_long_to_wait() -> None:
    quotas, decision = Quotas(), admitted(per_minute=2)
    for name in ("a", "b"):
        with quotas.starting(Key("chat", name), decision, []):
            pass
    problem = refusal(quotas, "c", decision)
    assert problem.detail == "2 starts a minute are allowed: try again in 60 s"
    assert problem.retry_after_s == 60
    quotas.check(Key("other", "c"), decision, [])


async def test_a_check_that_refuses_counts_no_start() -> None:
    quotas, decision = Quotas(), admitted(of_client=1, per_minute=1)
    with pytest.raises(ProblemError), quotas.starting(Key("chat", "b"), decision, [server("a")]):
        pass
    quotas.check(Key("chat", "b"), decision, [])
    assert quotas._starting == {}


async def test_starts_are_forgotten_after_a_minute() -> None:
    quotas, decision, now = Quotas(), admitted(per_minute=2), time.monotonic()
    quotas._starts["chat"] = deque([now - 90, now - 60, now - 50, now - 0.5])
    problem = refusal(quotas, "a", decision)
    assert problem.retry_after_s == 10
    assert list(quotas._starts["chat"]) == [now - 50, now - 0.5]
    quotas._starts["chat"] = deque([now - 61, now - 60, now - 50])
    quotas.check(Key("chat", "a"), decision, [])


# ── requests under way ───────────────────────────────────────────────────────────────────────────


def admits(requests: Requests, client: str) -> bool:
    """Whether one more request of the client would be let in."""
    try:
        with requests.counted(client):
            return True
    except ProblemError:
        return False


def test_a_client_has_so_many_requests_under_way_and_no_more_and_others_have_theirs() -> None:
    requests = Requests(2)
    with requests.counted("chat"):
        assert admits(requests, "chat")
        with requests.counted("chat"):
            with pytest.raises(ProblemError) as caught, requests.counted("chat"):
                pass
            assert caught.value.type is ProblemType.QUOTA_EXCEEDED
            assert caught.value.detail == "2 requests and streams are under way: wait for some to end"
            assert admits(requests, "other")
        assert admits(requests, "chat")


def test_a_request_that_ends_in_an_error_counts_no_longer() -> None:
    requests = Requests(2)
    for _ in range(3):
        with pytest.raises(KeyError), requests.counted("chat"):
            raise KeyError
    with requests.counted("chat"):
        assert admits(requests, "chat")
        with requests.counted("chat"):
            assert not admits(requests, "chat")
