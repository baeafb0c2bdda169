"""What a caller is told of each failure behind the web app: the one place where typed errors become problems.

What only an operator can mend (the proxy does not take the chat side's token, the database's key is missing) is
told without its particulars, which are in the log under the same request id.
"""

from doogie_client.commands.errors import CommandRefused
from doogie_client.errors import DoogieError, ProblemResponse, ProtocolError, ProxyUnavailable, StdioClosed
from doogie_client.hosts.jsonc import DocumentError
from doogie_client.service import errors as service
from doogie_client.service import store
from doogie_client.service.records import ConfigStatus
from doogie_client.web.problems import ChatProblem, ChatProblemDetail, Kind, Refusal, invalid
from doogie_contract.problems import ProblemType

RELAYED = frozenset(
    {
        ProblemType.POLICY_DENIED,
        ProblemType.SPEC_CONFLICT,
        ProblemType.STDIO_BUSY,
        ProblemType.IMAGE_UNAVAILABLE,
        ProblemType.QUOTA_EXCEEDED,
        ProblemType.ENGINE_ERROR,
        ProblemType.ENGINE_UNAVAILABLE,
        ProblemType.ENGINE_TIMEOUT,
    }
)
"""Problems of the proxy that are the caller's business as well; the others are between the two of us."""

_OPERATOR = "the operator finds the reason in the log of this request_id"


def refusal_of(exc: DoogieError) -> Refusal:
    """What a caller is told of this failure."""
    match exc:
        case CommandRefused():
            faults = [ChatProblemDetail(loc=fault.loc, msg=fault.msg, ask=fault.ask) for fault in exc.faults]
            return Refusal(ChatProblem.COMMAND_REFUSED, str(exc), faults)
        case DocumentError():
            return invalid("body.document", str(exc))
        case store.StoreError():
            return _of_store(exc)
        case service.ServiceError():
            return _of_service(exc)
        case ProblemResponse():
            return _of_proxy(exc)
        case ProxyUnavailable():
            return Refusal(ChatProblem.PROXY_UNAVAILABLE, f"try again later; {_OPERATOR}")
        case StdioClosed():
            return Refusal(ChatProblem.CALL_INTERRUPTED, "the server, or the way to it, ended; its status says how")
        case ProtocolError():
            return Refusal(ChatProblem.PROXY_FAILED, _OPERATOR)
        case _:
            return Refusal(ChatProblem.INTERNAL_ERROR, f"please report it; {_OPERATOR}")


def for_the_log(exc: DoogieError) -> str:
    """What an operator needs to know of a failure; not what a server or a caller said, which may hold anything."""
    if isinstance(exc, service.StopFailed):
        exc = exc.cause
    if isinstance(exc, ProblemResponse):  # its faults may repeat what the caller sent
        return f"{type(exc).__name__}: {exc.problem.detail}"
    known = isinstance(exc, store.StoreError | ProxyUnavailable | ProtocolError)
    return f"{type(exc).__name__}: {exc}" if known else type(exc).__name__


def refusal_of_status(status: ConfigStatus, what: str) -> Refusal:
    """A start or stop that came to status ``error``; ``what`` was not done."""
    errors = [ChatProblemDetail(**fault.model_dump()) for fault in status.faults]
    return Refusal(_kind_of(status.problem), f"{what}: {status.error_message}", errors)


def not_found() -> Refusal:
    """No configuration of this id, or none that the caller may know of: one and the same answer."""
    return Refusal(ProblemType.NOT_FOUND, "there is no such configuration")


def _kind_of(slug: str | None) -> Kind:
    of_proxy = next((kind for kind in ProblemType if kind.slug == slug), None)
    if of_proxy is not None:
        return _as_ours(of_proxy)
    return next((kind for kind in ChatProblem if kind.slug == slug), ChatProblem.SERVER_FAILED)


def _of_store(exc: store.StoreError) -> Refusal:
    match exc:
        case store.ConfigNotFound():
            return not_found()
        case store.NameTaken():
            return Refusal(ChatProblem.NAME_TAKEN, "choose another name")
        case store.VersionConflict():
            return Refusal(ChatProblem.VERSION_MISMATCH, "read it again, and make your change anew")
        case store.MaskedValue():
            return invalid("body.env", str(exc))
        case _:
            return Refusal(ChatProblem.STORE_UNAVAILABLE, f"try again later; {_OPERATOR}")


def _of_service(exc: service.ServiceError) -> Refusal:
    match exc:
        case service.StopFailed():
            cause = refusal_of(exc.cause)
            detail = f"the server could not be stopped, so nothing was changed: {cause.detail}"
            return Refusal(cause.kind, detail, cause.errors, proxy_request_id=cause.proxy_request_id)
        case service.UnknownTool():
            return Refusal(ProblemType.NOT_FOUND, str(exc))
        case service.InvalidCall():
            return invalid("body", str(exc))
        case _:
            return Refusal(_OF_SERVICE.get(type(exc), ChatProblem.INTERNAL_ERROR), str(exc))


_OF_SERVICE: dict[type[service.ServiceError], Kind] = {
    service.ConfigDisabled: ChatProblem.CONFIG_DISABLED,
    service.ServerNotRunning: ChatProblem.SERVER_NOT_RUNNING,
    service.SessionUnavailable: ChatProblem.SESSION_UNAVAILABLE,
    service.CallRefused: ChatProblem.CALL_REFUSED,
    service.CallTimedOut: ChatProblem.CALL_TIMED_OUT,
    service.CallInterrupted: ChatProblem.CALL_INTERRUPTED,
}


def _of_proxy(exc: ProblemResponse) -> Refusal:
    problem, request_id = exc.problem, exc.problem.request_id
    if exc.problem_type is ProblemType.NOT_FOUND:
        return Refusal(ChatProblem.SERVER_NOT_RUNNING, problem.detail, proxy_request_id=request_id)
    kind = _as_ours(exc.problem_type)
    if kind is exc.problem_type:
        return Refusal(kind, problem.detail, problem.errors, proxy_request_id=request_id)
    return Refusal(kind, _OPERATOR, proxy_request_id=request_id)


def _as_ours(of_proxy: ProblemType | None) -> Kind:
    if of_proxy is ProblemType.SHUTTING_DOWN:
        return ChatProblem.PROXY_UNAVAILABLE
    return of_proxy if of_proxy in RELAYED else ChatProblem.PROXY_FAILED
