"""The problems that the web app answers with: RFC 9457 ``application/problem+json``, as the proxy's are.

Names that mean the same on both sides are ``doogie_contract.problems.ProblemType``'s; ``ChatProblem`` has those that
only the chat side knows. A handler raises ``Refusal``; the guard renders it.
"""

from collections.abc import Iterable
from enum import Enum

from pydantic import Field

from doogie_contract.problems import URN_PREFIX, Problem, ProblemDetail, ProblemType


class ChatProblem(Enum):
    """Problems of the chat side alone, with their HTTP status (RFC 9110) and title."""

    CONFIG_DISABLED = ("config-disabled", 400, "The configuration is disabled")
    FORBIDDEN = ("forbidden", 403, "The caller may not do this")
    NAME_TAKEN = ("name-taken", 409, "Another configuration has this name")
    SERVER_NOT_RUNNING = ("server-not-running", 409, "The server does not run")
    VERSION_MISMATCH = ("version-mismatch", 412, "The configuration was changed meanwhile")
    COMMAND_REFUSED = ("command-refused", 422, "The command cannot be run as it is")
    CALL_REFUSED = ("call-refused", 422, "The server answered the call with an error")
    INTERNAL_ERROR = ("internal-error", 500, "The web app has a defect")
    SERVER_FAILED = ("server-failed", 500, "The server did not start, or did not stop")
    CALL_INTERRUPTED = ("call-interrupted", 502, "The server ended before it answered")
    SESSION_UNAVAILABLE = ("session-unavailable", 502, "The server does not speak MCP, or someone else is attached")
    PROXY_FAILED = ("proxy-failed", 502, "The proxy does not do what the chat side asks of it")
    PROXY_UNAVAILABLE = ("proxy-unavailable", 503, "The proxy cannot be reached")
    SHUTTING_DOWN = ("shutting-down", 503, "The web app is shutting down")
    STORE_UNAVAILABLE = ("store-unavailable", 503, "The database cannot be used")
    CALL_TIMED_OUT = ("call-timed-out", 504, "The server did not answer in time")

    def __init__(self, slug: str, status: int, title: str) -> None:
        self.slug = slug
        self.status = status
        self.title = title

    @property
    def urn(self) -> str:
        """The value of ``Problem.type``."""
        return URN_PREFIX + self.slug


Kind = ProblemType | ChatProblem


class ChatProblemDetail(ProblemDetail):
    """One fault; ``ask`` is what the operator of the proxy can do about it: a line of the policy, or a command."""

    ask: str | None = None


class ChatProblemDocument(Problem):
    """The body of every error. ``proxy_request_id`` finds the same failure in the log of the proxy."""

    errors: list[ChatProblemDetail] = Field(default_factory=list)  # type: ignore[assignment]  # narrower, and read only
    proxy_request_id: str | None = None


class Refusal(Exception):  # noqa: N818 - it says what happened, without "Error"
    """Raised for whatever is not done; all of it is shown to the caller as it stands.

    Args:
        kind: which problem.
        detail: what was wrong, and what would be right.
        errors: each fault with its place.
        proxy_request_id: of the proxy's own answer, where it is its problem.
        retry_after_s: when it may be otherwise (header ``Retry-After``, RFC 9110 section 10.2.3).
    """

    def __init__(
        self,
        kind: Kind,
        detail: str,
        errors: Iterable[ProblemDetail] = (),
        *,
        proxy_request_id: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(f"{kind.slug}: {detail}")
        self.kind = kind
        self.detail = detail
        self.errors = [ChatProblemDetail(**error.model_dump()) for error in errors]
        self.proxy_request_id = proxy_request_id
        self.retry_after_s = retry_after_s

    def document(self, request_id: str) -> bytes:
        """The wire form. Members without a value are left out: the old front end shows an empty ``errors`` as text."""
        problem = ChatProblemDocument(
            type=self.kind.urn,
            title=self.kind.title,
            status=self.kind.status,
            detail=self.detail,
            request_id=request_id,
            errors=self.errors,
            proxy_request_id=self.proxy_request_id,
        )
        return problem.model_dump_json(exclude_defaults=True).encode()


def invalid(loc: str, msg: str) -> Refusal:
    """An invalid-request about one place."""
    return Refusal(ProblemType.INVALID_REQUEST, f"{loc}: {msg}", [ProblemDetail(loc=loc, msg=msg)])
