import errno
import socket

import aiohttp
import pytest
from pydantic import ValidationError

import doogie_client
from doogie_client import errors
from doogie_client.errors import (
    CLOSE_CLASSES,
    PROBLEM_CLASSES,
    DoogieError,
    ProblemResponse,
    ProtocolError,
    ProxyUnavailable,
    ServerExited,
    StdioClosed,
    foreign_errors,
    problem_response,
    stdio_closed,
)
from doogie_contract.channels import CloseCode
from doogie_contract.problems import Problem, ProblemDetail, ProblemType

PUBLIC = [
    "Admission",
    "BadRequest",
    "BodyTooLarge",
    "Channel",
    "ClientPolicy",
    "DoogieError",
    "EngineError",
    "EngineLost",
    "EngineTimeout",
    "EngineUnavailable",
    "ExitStatus",
    "Frame",
    "HalfCloseUnavailable",
    "HeadersTooLarge",
    "HostNotAllowed",
    "ImageUnavailable",
    "InternalError",
    "InvalidName",
    "InvalidRequest",
    "MessageRejected",
    "MessageTooLarge",
    "MethodNotAllowed",
    "NotFound",
    "PolicyDenied",
    "Problem",
    "ProblemDetail",
    "ProblemResponse",
    "ProblemType",
    "ProtocolError",
    "ProxyClient",
    "ProxyRestarting",
    "ProxyUnavailable",
    "PullLayer",
    "PullPhase",
    "PullStatus",
    "QuotaExceeded",
    "RequestTimeout",
    "Revoked",
    "ServerEvent",
    "ServerExit",
    "ServerExited",
    "ServerList",
    "ServerState",
    "ServerStatus",
    "ShuttingDown",
    "SpecConflict",
    "StartRequest",
    "StdioBusy",
    "StdioClosed",
    "StdioStream",
    "TakenOver",
    "Ticket",
    "Unauthenticated",
    "UnsupportedMediaType",
    "UpgradeRequired",
]


def made(type: str, status: int = 400) -> Problem:
    faults = [ProblemDetail(loc="body.image", msg="what would be right")]
    return Problem(type=type, title="Title", status=status, detail="Detail", request_id="r1", errors=faults)


def test_the_public_api_is_this() -> None:
    assert sorted(doogie_client.__all__) == PUBLIC
    assert all(hasattr(doogie_client, name) for name in PUBLIC)


def test_every_error_of_the_tree_is_public() -> None:
    tree = {
        value.__name__ for value in vars(errors).values() if isinstance(value, type) and issubclass(value, DoogieError)
    }
    assert tree <= set(doogie_client.__all__)


@pytest.mark.parametrize("type", ProblemType)
def test_each_problem_type_has_its_own_class(type: ProblemType) -> None:
    error = problem_response(made(type.urn, type.status))
    assert error.__class__ is PROBLEM_CLASSES[type]
    assert error.__class__ is not ProblemResponse
    assert error.problem_type is type
    assert list(PROBLEM_CLASSES.values()).count(error.__class__) == 1


def test_a_problem_type_of_a_newer_proxy_is_the_base_class() -> None:
    error = problem_response(made("urn:doogie:problem:from-the-future", 418))
    assert error.__class__ is ProblemResponse
    assert error.problem.status == 418


def test_a_problem_says_what_was_wrong_where_and_under_which_request() -> None:
    text = str(problem_response(made(ProblemType.POLICY_DENIED.urn)))
    assert text == "Title: Detail; body.image: what would be right (request r1)"


# 1006 stands for "no close frame came" and is never in one (RFC 6455 section 7.4.1).
@pytest.mark.parametrize("code", set(CloseCode) - {1006})
def test_each_close_code_is_mapped(code: CloseCode) -> None:
    assert code in CLOSE_CLASSES
    error = stdio_closed(code, "because")
    assert error.__class__ is CLOSE_CLASSES[code]
    assert "because" in str(error)


@pytest.mark.parametrize("code", [1001, 4999])
def test_an_unknown_close_code_is_the_base_class_and_named(code: int) -> None:
    error = stdio_closed(code, "")
    assert error.__class__ is StdioClosed
    assert str(code) in str(error)


@pytest.mark.parametrize(
    ("code", "signal", "text"),
    [
        (3, None, "the server exited with code 3: last words"),
        (137, "SIGKILL", "the server exited with code 137 (SIGKILL): last words"),
        (255, None, "the server exited with code 255: last words"),
        (None, None, "the server exited for an unknown reason: last words"),
    ],
)
def test_an_exit_tells_code_signal_and_last_words(code: int | None, signal: str | None, text: str) -> None:
    error = ServerExited(code, "", "last words\n")
    assert error.signal == signal
    assert str(error) == text


def test_what_the_proxy_says_about_an_exit_stands_for_our_own_words() -> None:
    assert str(ServerExited(137, "the server ended: oom, signal SIGKILL")) == "the server ended: oom, signal SIGKILL"


def connector_error(number: int) -> aiohttp.ClientConnectorError:
    key = aiohttp.client_reqrep.ConnectionKey("proxy", 80, False, True, None, None, None)
    return aiohttp.ClientConnectorError(key, OSError(number, "as the system says"))


@pytest.mark.parametrize(
    ("foreign", "ours", "text"),
    [
        (connector_error(errno.ENOENT), ProxyUnavailable, "no such socket"),
        (connector_error(errno.EACCES), ProxyUnavailable, "group"),
        (connector_error(errno.ECONNREFUSED), ProxyUnavailable, "nothing listens"),
        (connector_error(errno.EMFILE), ProxyUnavailable, "as the system says"),
        (TimeoutError(), ProxyUnavailable, "in time"),
        (aiohttp.ServerTimeoutError(), ProxyUnavailable, "in time"),
        (aiohttp.ServerDisconnectedError(), ProxyUnavailable, "lost"),
        (aiohttp.ClientOSError(errno.ECONNRESET, "reset"), ProxyUnavailable, "lost"),
        (aiohttp.ClientPayloadError("cut"), ProxyUnavailable, "lost"),
        (aiohttp.ClientConnectionResetError("closing"), ProxyUnavailable, "lost"),
        (ConnectionResetError(errno.ECONNRESET, "reset"), ProxyUnavailable, "lost"),
        (socket.gaierror("no such host"), ProxyUnavailable, "lost"),
        (aiohttp.InvalidURL("x"), ProtocolError, "not what a Doogie proxy says"),
        (aiohttp.http.WebSocketError(1002, "bad frame"), ProtocolError, "not what a Doogie proxy says"),
        (ValidationError.from_exception_data("ServerStatus", []), ProtocolError, "not what a Doogie proxy says"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_foreign_errors_are_mapped(foreign: Exception, ours: type[DoogieError], text: str) -> None:
    with pytest.raises(ours, match=text) as caught, foreign_errors("unix:///x"):
        raise foreign
    assert "unix:///x" in str(caught.value)
    assert caught.value.__cause__ is foreign


@pytest.mark.parametrize("error", [ProtocolError("x"), KeyError("x")])
def test_our_own_errors_and_faults_of_the_code_pass_unchanged(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, foreign_errors("unix:///x"):
        raise error
    assert caught.value is error
