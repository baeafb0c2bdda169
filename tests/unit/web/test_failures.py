"""Every typed error of the client library, the service and the store becomes one problem, and tells no more."""

import inspect
from collections.abc import Iterator

import pytest

import doogie_client.errors
import doogie_client.service.errors
import doogie_client.service.store
from doogie_client.commands.errors import CommandRefused, Fault, FaultKind
from doogie_client.errors import (
    CLOSE_CLASSES,
    PROBLEM_CLASSES,
    DoogieError,
    ProblemResponse,
    ProtocolError,
    ProxyUnavailable,
    problem_response,
    stdio_closed,
)
from doogie_client.hosts.jsonc import DocumentError
from doogie_client.service.errors import (
    CallInterrupted,
    CallRefused,
    CallTimedOut,
    ConfigDisabled,
    InvalidCall,
    ServerNotRunning,
    SessionUnavailable,
    StopFailed,
    UnknownTool,
)
from doogie_client.service.records import ConfigStatus, Status, StatusFault
from doogie_client.service.store import (
    ConfigNotFound,
    LockLost,
    MaskedValue,
    NameTaken,
    SchemaTooNew,
    SecretsUnreadable,
    StoreMisconfigured,
    StoreUnavailable,
    VersionConflict,
)
from doogie_client.web.failures import RELAYED, for_the_log, refusal_of, refusal_of_status
from doogie_client.web.problems import ChatProblem, Kind
from doogie_contract.problems import Problem, ProblemDetail, ProblemType

INNER = "/secret/host/path"
"""What is the operator's alone to read."""


def of_proxy(kind: ProblemType, detail: str = "what the proxy says") -> ProblemResponse:
    return problem_response(
        Problem(
            type=kind.urn,
            title=kind.title,
            status=kind.status,
            detail=detail,
            request_id="of-the-proxy",
            errors=[ProblemDetail(loc="rules.time", msg="no")],
        )
    )


EXPECTED: list[tuple[DoogieError, Kind]] = [
    (CommandRefused([Fault(FaultKind.MALFORMED, "args.0", "no")]), ChatProblem.COMMAND_REFUSED),
    (DocumentError("servers.x", "no"), ProblemType.INVALID_REQUEST),
    (ConfigNotFound("x"), ProblemType.NOT_FOUND),
    (NameTaken("x"), ChatProblem.NAME_TAKEN),
    (VersionConflict("x"), ChatProblem.VERSION_MISMATCH),
    (MaskedValue("env.A: send the value"), ProblemType.INVALID_REQUEST),
    (StoreUnavailable(INNER), ChatProblem.STORE_UNAVAILABLE),
    (LockLost(INNER), ChatProblem.STORE_UNAVAILABLE),
    (StoreMisconfigured(INNER), ChatProblem.STORE_UNAVAILABLE),
    (SchemaTooNew(INNER), ChatProblem.STORE_UNAVAILABLE),
    (SecretsUnreadable(INNER), ChatProblem.STORE_UNAVAILABLE),
    (ConfigDisabled("x"), ChatProblem.CONFIG_DISABLED),
    (ServerNotRunning("x"), ChatProblem.SERVER_NOT_RUNNING),
    (SessionUnavailable("x"), ChatProblem.SESSION_UNAVAILABLE),
    (UnknownTool("x"), ProblemType.NOT_FOUND),
    (InvalidCall("x"), ProblemType.INVALID_REQUEST),
    (CallRefused(-32602, "x"), ChatProblem.CALL_REFUSED),
    (CallTimedOut("x"), ChatProblem.CALL_TIMED_OUT),
    (CallInterrupted("x"), ChatProblem.CALL_INTERRUPTED),
    (StopFailed("x", ProxyUnavailable(INNER)), ChatProblem.PROXY_UNAVAILABLE),
    (StopFailed("x", of_proxy(ProblemType.ENGINE_TIMEOUT)), ProblemType.ENGINE_TIMEOUT),
    (ProxyUnavailable(INNER), ChatProblem.PROXY_UNAVAILABLE),
    (ProtocolError(INNER), ChatProblem.PROXY_FAILED),
    (of_proxy(ProblemType.SHUTTING_DOWN, INNER), ChatProblem.PROXY_UNAVAILABLE),
    (of_proxy(ProblemType.NOT_FOUND), ChatProblem.SERVER_NOT_RUNNING),
    *((of_proxy(kind), kind) for kind in RELAYED),
    *(
        (of_proxy(kind, INNER), ChatProblem.PROXY_FAILED)
        for kind in ProblemType
        if kind not in RELAYED | {ProblemType.SHUTTING_DOWN, ProblemType.NOT_FOUND}
    ),
    *((stdio_closed(code, "gone"), ChatProblem.CALL_INTERRUPTED) for code in CLOSE_CLASSES),
]


@pytest.mark.parametrize(("exc", "kind"), EXPECTED, ids=lambda value: getattr(value, "slug", type(value).__name__))
def test_an_error_becomes_its_problem(exc: DoogieError, kind: Kind) -> None:
    refusal = refusal_of(exc)
    assert refusal.kind is kind
    assert refusal.detail != ""
    assert INNER not in refusal.document("id").decode()


def raised() -> Iterator[type[DoogieError]]:
    """Every class that is raised, leaves of the trees and what is raised itself."""
    for module in (doogie_client.errors, doogie_client.service.errors, doogie_client.service.store):
        for _, cls in inspect.getmembers(module, inspect.isclass):
            if issubclass(cls, DoogieError) and not cls.__subclasses__():
                yield cls


def test_no_error_is_forgotten() -> None:
    never_here = {"InvalidName"}  # names at the proxy are the store's own
    assert {cls.__name__ for cls in raised()} - {type(exc).__name__ for exc, _ in EXPECTED} == never_here
    assert set(PROBLEM_CLASSES.values()) <= {type(exc) for exc, _ in EXPECTED}


def test_two_problems_with_one_name_are_one_problem() -> None:
    """A name of the chat side's own that the proxy has too would mean something else there: but for these two."""
    same = {kind.slug for kind in ChatProblem} & {kind.slug for kind in ProblemType}
    assert same == {"internal-error", "shutting-down"}
    for slug in same:
        assert len({kind.status for kind in (*ChatProblem, *ProblemType) if kind.slug == slug}) == 1


@pytest.mark.parametrize(
    "exc",
    [
        CallRefused(-32000, "what the server says"),
        CallInterrupted("its last words"),
        InvalidCall("what the caller sent"),
        CommandRefused([Fault(FaultKind.UNKNOWN, "args.0", "a word of the command")]),
    ],
)
def test_what_servers_and_callers_say_is_not_for_the_log(exc: DoogieError) -> None:
    assert for_the_log(exc) == type(exc).__name__


@pytest.mark.parametrize(
    "exc", [StoreUnavailable(INNER), ProxyUnavailable(INNER), StopFailed("x", ProxyUnavailable(INNER))]
)
def test_what_an_operator_must_mend_is_for_the_log(exc: DoogieError) -> None:
    assert INNER in for_the_log(exc)


def test_a_refused_command_tells_each_fault_and_whom_to_ask() -> None:
    faults = [
        Fault(FaultKind.POLICY, "args.1", "--privileged is the policy's", "ask for a rule"),
        Fault(FaultKind.UNKNOWN, "args.2", "--frob is not known"),
    ]
    refusal = refusal_of(CommandRefused(faults))
    assert [error.model_dump(exclude_none=True) for error in refusal.errors] == [
        {"loc": "args.1", "msg": "--privileged is the policy's", "ask": "ask for a rule"},
        {"loc": "args.2", "msg": "--frob is not known"},
    ]
    assert refusal.detail == "args.1: --privileged is the policy's; args.2: --frob is not known"


def test_a_denial_of_the_proxy_is_told_rule_by_rule_with_its_request_id() -> None:
    refusal = refusal_of(of_proxy(ProblemType.POLICY_DENIED))
    assert [(error.loc, error.msg) for error in refusal.errors] == [("rules.time", "no")]
    assert refusal.proxy_request_id == "of-the-proxy"


@pytest.mark.parametrize(
    ("problem", "kind"),
    [
        ("policy-denied", ProblemType.POLICY_DENIED),
        ("image-unavailable", ProblemType.IMAGE_UNAVAILABLE),
        ("quota-exceeded", ProblemType.QUOTA_EXCEEDED),
        ("engine-timeout", ProblemType.ENGINE_TIMEOUT),
        ("unauthenticated", ChatProblem.PROXY_FAILED),
        ("shutting-down", ChatProblem.PROXY_UNAVAILABLE),
        ("command-refused", ChatProblem.COMMAND_REFUSED),
        ("proxy-unavailable", ChatProblem.PROXY_UNAVAILABLE),
        ("server-exited", ChatProblem.SERVER_FAILED),
        (None, ChatProblem.SERVER_FAILED),
    ],
)
def test_a_start_that_failed_becomes_the_problem_that_its_status_names(problem: str | None, kind: Kind) -> None:
    faults = [StatusFault(loc="rules.time", msg="no", ask="a line of the policy")]
    status = ConfigStatus(
        id="1", name="x", enabled=True, status=Status.ERROR, error_message="why", problem=problem, faults=faults
    )
    refusal = refusal_of_status(status, "the server was not started")
    assert refusal.kind is kind
    assert refusal.detail == "the server was not started: why"
    assert [error.model_dump() for error in refusal.errors] == [fault.model_dump() for fault in faults]


def test_members_without_a_value_are_left_out_of_a_problem() -> None:
    assert set(Problem.model_validate_json(refusal_of(NameTaken("x")).document("id")).model_fields_set) == {
        "type", "title", "status", "detail", "request_id",
    }  # fmt: skip
