"""The wire models of the HTTP API, version 1.

Requests refuse unknown fields: what this version cannot do cannot be asked for. Responses are read leniently, so
that an older client keeps working with a newer proxy.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, field_validator

from doogie_contract.problems import Problem

SERVER_NAME_PATTERN = r"^[a-z0-9][a-z0-9_.-]{0,62}$"
"""What ``{name}`` in a path must match, as a whole."""

MAX_ARGS = 128
MAX_ARG_CHARS = 8192
MAX_ENV = 128
MAX_ENV_NAME_CHARS = 256
MAX_ENV_VALUE_CHARS = 32768
MAX_NAMED = 32

# A process argument or environment string is NUL-terminated (execve(2)), so NUL cannot be in one.
Argument = Annotated[str, StringConstraints(max_length=MAX_ARG_CHARS, pattern=r"^[^\x00]*$")]
EnvName = Annotated[str, StringConstraints(max_length=MAX_ENV_NAME_CHARS, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
EnvValue = Annotated[str, StringConstraints(max_length=MAX_ENV_VALUE_CHARS, pattern=r"^[^\x00]*$")]
ImageText = Annotated[str, StringConstraints(min_length=1, max_length=512, pattern=r"^[\x21-\x7e]+$")]
ResourceName = Annotated[str, StringConstraints(pattern=SERVER_NAME_PATTERN)]
"""A secret or mount of a rule."""
ServerName = Annotated[str, StringConstraints(pattern=SERVER_NAME_PATTERN)]

# What pydantic leaves out of the JSON Schema, so that /openapi.json allows no more than is accepted.
_UNIQUE: dict[str, JsonValue] = {"uniqueItems": True}
_NO_OTHER_NAMES: dict[str, JsonValue] = {
    "additionalProperties": False,
    "propertyNames": {"maxLength": MAX_ENV_NAME_CHARS},
}


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Response(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class StartRequest(_Request):
    """Body of ``POST /v1/servers/{name}/start``: what the client wants; the policy decides the rest."""

    image: ImageText = Field(description="repo, repo:tag or repo@digest; without tag or digest, the rule's pinned one")
    args: list[Argument] = Field(default_factory=list, max_length=MAX_ARGS, description="after the rule's prefix")
    env: dict[EnvName, EnvValue] = Field(default_factory=dict, max_length=MAX_ENV, json_schema_extra=_NO_OTHER_NAMES)
    secrets: list[ResourceName] = Field(
        default_factory=list, max_length=MAX_NAMED, description="of the rule, by name", json_schema_extra=_UNIQUE
    )
    mounts: list[ResourceName] = Field(
        default_factory=list, max_length=MAX_NAMED, description="of the rule, by name", json_schema_extra=_UNIQUE
    )

    @field_validator("secrets", "mounts")
    @classmethod
    def _named_once(cls, names: list[str]) -> list[str]:
        if len(set(names)) < len(names):
            raise ValueError("each name may be given once")
        return names


class StopRequest(_Request):
    """Optional body of ``POST /v1/servers/{name}/stop``."""

    grace_s: int | None = Field(default=None, ge=0, le=300, description="SIGTERM to SIGKILL; default: the rule's")


class ServerState(StrEnum):
    """The life of a server. ``absent``: nothing is there; it never was, has gone, or failed to start.

    ``pulling``: it has no container yet, because its image is looked for, or fetched from its registry.
    """

    ABSENT = "absent"
    PULLING = "pulling"
    CREATED = "created"
    RUNNING = "running"
    STOPPING = "stopping"
    EXITED = "exited"


class ExitReason(StrEnum):
    """Why a container ended: its own exit, the kernel's OOM killer, a stop call, a lease, or the engine."""

    EXITED = "exited"
    OOM = "oom"
    STOPPED = "stopped"
    LEASE_DETACHED = "lease_detached"
    LEASE_MAX_AGE = "lease_max_age"
    ENGINE = "engine"


class ServerExit(_Response):
    """How a container ended. ``signal`` is inferred from a code above 128, as a shell does."""

    reason: ExitReason
    code: int | None
    signal: str | None
    finished_at: datetime | None
    duration_s: float | None = Field(default=None, description="from its start to its end")
    stderr_tail: str = Field(description="the last stderr output, at most 4 KiB, decoded as UTF-8 with replacement")


class StdioStatus(_Response):
    """The state of a server's stdio."""

    attached: bool = Field(description="a client is attached now")
    half_close: bool = Field(default=False, description="the server can be sent EOF; then it ends with the proxy")


class PullPhase(StrEnum):
    """How far a layer of an image is. ``complete``: unpacked, or on the engine before."""

    WAITING = "waiting"
    DOWNLOADING = "downloading"
    DOWNLOADED = "downloaded"
    EXTRACTING = "extracting"
    COMPLETE = "complete"


class PullLayer(_Response):
    """One layer of an image that is being pulled; bytes as they come from the registry, where the engine tells them."""

    id: str
    phase: PullPhase
    current_bytes: int | None = None
    total_bytes: int | None = None


class PullStatus(_Response):
    """An image that is being pulled, layer by layer; none are known before its manifest is."""

    image: str
    layers: list[PullLayer] = Field(default_factory=list)


class ServerStatus(_Response):
    """One server of the caller."""

    name: str
    state: ServerState
    rule: str | None = None
    image: str | None = Field(default=None, description="the reference the rule resolved the request to")
    image_digest: str | None = Field(default=None, description="sha256 id of the image the container was made from")
    container_id: str | None = Field(default=None, description="64 hex digits")
    created_at: datetime | None = None
    started_at: datetime | None = None
    exit: ServerExit | None = None
    pull: PullStatus | None = Field(default=None, description="while its image is fetched from a registry")
    problem: Problem | None = Field(default=None, description="why the last start failed that nobody waited for")
    outdated: bool = Field(default=False, description="the policy would build it differently today")
    stdio: StdioStatus | None = None
    expires_at: datetime | None = Field(default=None, description="when the nearest lease ends")


class ServerList(_Response):
    """Answer of ``GET /v1/servers``, ordered by name."""

    servers: list[ServerStatus]


class ServerEvent(_Response):
    """``event: server`` of ``GET /v1/events``: something about this server has changed, and this is what it is now."""

    server: ServerStatus
    skipped: int = Field(default=0, description="changes before this one that were not told, as nobody read in time")


class Limits(_Response):
    """What a server started under a rule gets. Bytes, CPU cores, seconds."""

    memory_bytes: int
    cpus: float
    pids: int
    tmp_bytes: int
    shm_bytes: int
    nofile: int
    max_message_bytes: int
    buffer_bytes: int
    replay: str
    network: str
    user: str
    runtime: str = "runc"
    detached_ttl_s: int
    max_age_s: int
    stop_grace_s: int
    keep_exited_s: int


class Admission(_Response):
    """Answer of a dry run: the rule that admits the request and what it would get."""

    rule: str
    image: str
    args: list[str]
    limits: Limits


class Ticket(_Response):
    """Answer of ``POST /v1/servers/{name}/ticket``: one use, for this client and server, as ``?ticket=``."""

    ticket: str
    expires_at: datetime


class PolicyArgs(_Response):
    """What arguments a rule takes: ``prefix`` is put first by the proxy, each further one must match a pattern."""

    prefix: list[str]
    any: bool
    patterns: list[str]
    max: int


class PolicyRule(_Response):
    """A rule as its clients may see it; values fixed by the operator are named, not shown."""

    name: str
    images: list[str]
    args: PolicyArgs
    image_patterns: list[str] = Field(default_factory=list)
    env_allow: list[str]
    env_patterns: list[str] = Field(default_factory=list)
    env_fixed: list[str] = Field(description="names only")
    secrets: list[str] = Field(default_factory=list, description="names only")
    mounts: list[str] = Field(default_factory=list, description="names only")
    limits: Limits


class ClientPolicy(_Response):
    """Answer of ``GET /v1/policy``: what the caller may start, in the order rules are tried."""

    client: str
    max_running: int | None = None
    starts_per_minute: int | None = None
    rules: list[PolicyRule]


class Health(_Response):
    """Answer of ``/healthz`` and ``/readyz``. ``reasons`` says what keeps the proxy from being ready."""

    status: str
    reasons: list[str] = Field(default_factory=list)
