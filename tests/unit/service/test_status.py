"""The old front end's three words, and what goes with them."""

from datetime import UTC, datetime

import pytest

from doogie_client.commands import CommandRefused, Fault, FaultKind
from doogie_client.errors import PolicyDenied, ProtocolError, ProxyUnavailable
from doogie_client.service.records import ConfigRecord, ServerConfig, Status, StatusFault
from doogie_client.service.status import failed, redacted, seen
from doogie_contract.models import ExitReason, ServerExit, ServerState, ServerStatus
from doogie_contract.problems import Problem, ProblemDetail

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECRET = "sk-0123456789"


def record(status: Status = Status.STOPPED, message: str | None = None) -> ConfigRecord:
    return ConfigRecord(
        id="1",
        name="Test",
        server_name="test",
        user_id="admin",
        config=ServerConfig(env={"TOKEN": SECRET}),
        status=status,
        error_message=message,
        created_at=NOW,
        updated_at=NOW,
    )


def server(state: ServerState, exit_: ServerExit | None = None) -> ServerStatus:
    return ServerStatus(name="test", state=state, container_id="c" * 64, exit=exit_)


def ended(reason: ExitReason, code: int | None = 0, stderr: str = "", signal: str | None = None) -> ServerStatus:
    end = ServerExit(reason=reason, code=code, signal=signal, finished_at=NOW, stderr_tail=stderr)
    return server(ServerState.EXITED, end)


@pytest.mark.parametrize(
    ("state", "status"),
    [
        (ServerState.CREATED, Status.STOPPED),
        (ServerState.RUNNING, Status.RUNNING),
        (ServerState.STOPPING, Status.STOPPED),
    ],
)
def test_each_state_has_its_old_word(state: ServerState, status: Status) -> None:
    told = seen(record(), server(state))
    assert (told.status, told.state, told.container_id, told.error_message) == (status, state, "c" * 64, None)


@pytest.mark.parametrize(
    ("end", "status", "message"),
    [
        (ended(ExitReason.STOPPED, 143), Status.STOPPED, None),
        (ended(ExitReason.EXITED, 0, "bye"), Status.STOPPED, "it exited with code 0: bye"),
        (ended(ExitReason.EXITED, 1, f"bad token {SECRET}\n"), Status.ERROR, "it exited with code 1: bad token ***"),
        (ended(ExitReason.EXITED, 137, signal="SIGKILL"), Status.ERROR, "it exited with code 137 (SIGKILL)"),
        (ended(ExitReason.EXITED, None), Status.ERROR, "it exited for an unknown reason"),
        (ended(ExitReason.OOM, 137), Status.ERROR, "it ran out of memory"),
        (ended(ExitReason.ENGINE, None), Status.ERROR, "it was removed behind the proxy's back"),
        (ended(ExitReason.LEASE_DETACHED, 143), Status.STOPPED, "nobody had used it for as long as the policy allows"),
        (ended(ExitReason.LEASE_MAX_AGE, 143), Status.STOPPED, "it reached the age that the policy allows"),
    ],
)
def test_how_a_server_ended_decides(end: ServerStatus, status: Status, message: str | None) -> None:
    told = seen(record(), end)
    assert (told.status, told.error_message, told.container_id) == (status, message, "c" * 64)
    assert told.problem == ("server-exited" if status is Status.ERROR else None)


def test_of_a_server_that_is_gone_the_last_error_is_told_and_nothing_else() -> None:
    absent = ServerStatus(name="test", state=ServerState.ABSENT)
    for before in (record(), record(Status.RUNNING), record(Status.STOPPED, "something")):
        told = seen(before, absent)
        assert (told.status, told.error_message, told.container_id) == (Status.STOPPED, None, None)
    told = seen(record(Status.ERROR, "it exited with code 1"), absent)
    assert (told.status, told.error_message) == (Status.ERROR, "it exited with code 1")


def test_an_error_is_told_to_people_and_to_programs() -> None:
    problem = Problem(
        type="urn:doogie:problem:policy-denied",
        title="The policy does not allow this",
        status=403,
        detail="see errors",
        request_id="r",
        errors=[ProblemDetail(loc="rules.time", msg=f"not {SECRET}")],
    )
    told = failed(record(), PolicyDenied(problem))
    assert (told.status, told.state, told.problem) == (Status.ERROR, None, "policy-denied")
    assert told.faults == [StatusFault(loc="rules.time", msg="not ***")]
    assert told.error_message == "The policy does not allow this: see errors; rules.time: not *** (request r)"
    fault = Fault(FaultKind.UNMAPPED, "args.0", "no image", "doogie-images build npx:x")
    told = failed(record(), CommandRefused([fault]))
    assert (told.problem, told.error_message) == ("command-refused", "args.0: no image")
    assert told.faults == [StatusFault(loc="args.0", msg="no image", ask="doogie-images build npx:x")]
    assert failed(record(), ProxyUnavailable("away")).problem == "proxy-unavailable"
    assert failed(record(), ProtocolError("what")).problem == "protocol-error"


def test_values_that_may_be_secret_are_masked_and_words_of_any_text_are_not() -> None:
    env = {"A": "12345678", "B": "12345678-longer", "C": "true", "D": ""}
    assert redacted("12345678-longer 12345678 true", env) == "*** *** true"
