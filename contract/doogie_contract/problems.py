"""The problems the proxy answers with: RFC 9457 ``application/problem+json``.

``ProblemType`` is the one list of names; each carries the HTTP status and the title that go with it. A client
switches on ``Problem.type``, never on the text. The proxy raises ``ProblemError``; one middleware renders it.
"""

from enum import Enum

from pydantic import BaseModel, ConfigDict, Field

URN_PREFIX = "urn:doogie:problem:"
PROBLEM_CONTENT_TYPE = "application/problem+json"


class ProblemType(Enum):
    """Stable problem names with their HTTP status (RFC 9110) and title."""

    BAD_REQUEST = ("bad-request", 400, "The request is not well-formed HTTP")
    UNAUTHENTICATED = ("unauthenticated", 401, "A valid bearer token or ticket is needed")
    POLICY_DENIED = ("policy-denied", 403, "The policy does not allow this")
    HOST_NOT_ALLOWED = ("host-not-allowed", 403, "Host or Origin is not one this listener serves")
    NOT_FOUND = ("not-found", 404, "There is no such resource")
    METHOD_NOT_ALLOWED = ("method-not-allowed", 405, "The resource has no such method")
    REQUEST_TIMEOUT = ("request-timeout", 408, "The request did not arrive in time")
    SPEC_CONFLICT = ("spec-conflict", 409, "The server runs with another specification")
    STDIO_BUSY = ("stdio-busy", 409, "Another client is attached to the server's stdio")
    BODY_TOO_LARGE = ("body-too-large", 413, "The request body is too large")
    UNSUPPORTED_MEDIA_TYPE = ("unsupported-media-type", 415, "The body must be application/json")
    INVALID_REQUEST = ("invalid-request", 422, "The request is not valid")
    IMAGE_UNAVAILABLE = ("image-unavailable", 424, "The image is not on the engine")
    UPGRADE_REQUIRED = ("upgrade-required", 426, "This resource is a WebSocket")
    QUOTA_EXCEEDED = ("quota-exceeded", 429, "A quota is exhausted")
    HEADERS_TOO_LARGE = ("headers-too-large", 431, "The request's headers are too large")
    INTERNAL_ERROR = ("internal-error", 500, "The proxy has a defect")
    ENGINE_ERROR = ("engine-error", 502, "The engine refused or failed")
    ENGINE_UNAVAILABLE = ("engine-unavailable", 503, "The engine cannot be reached")
    SHUTTING_DOWN = ("shutting-down", 503, "The proxy is shutting down")
    ENGINE_TIMEOUT = ("engine-timeout", 504, "The engine did not answer in time")

    def __init__(self, slug: str, status: int, title: str) -> None:
        self.slug = slug
        self.status = status
        self.title = title

    @property
    def urn(self) -> str:
        """The value of ``Problem.type``."""
        return URN_PREFIX + self.slug

    @classmethod
    def from_urn(cls, urn: str) -> "ProblemType | None":
        """The member with this ``type``, or None for one this version does not know."""
        return next((member for member in cls if member.urn == urn), None)


class ProblemDetail(BaseModel):
    """One fault: ``loc`` says where (``body.args.0``, ``rules.time``), ``msg`` what and what would be right."""

    model_config = ConfigDict(frozen=True)

    loc: str
    msg: str


class Problem(BaseModel):
    """RFC 9457 section 3.1 members, with the extension members ``request_id`` and ``errors``."""

    model_config = ConfigDict(frozen=True)

    type: str
    title: str
    status: int
    detail: str
    request_id: str
    errors: list[ProblemDetail] = Field(default_factory=list)


class ProblemError(Exception):
    """Raised in the proxy for any refusal; ``detail`` and ``errors`` are shown to the client as they stand.

    ``retry_after_s`` says when it may be otherwise (header ``Retry-After``, RFC 9110 section 10.2.3).
    """

    def __init__(
        self,
        type: ProblemType,
        detail: str,
        errors: list[ProblemDetail] | None = None,
        *,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(f"{type.slug}: {detail}")
        self.retry_after_s = retry_after_s
        self.type = type
        self.detail = detail
        self.errors = errors or []

    def to_problem(self, request_id: str) -> Problem:
        """The wire form."""
        return Problem(
            type=self.type.urn,
            title=self.type.title,
            status=self.type.status,
            detail=self.detail,
            request_id=request_id,
            errors=self.errors,
        )
