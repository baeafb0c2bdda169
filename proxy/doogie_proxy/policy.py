"""The policy: who may start what, and what it gets. Pure; ``policy_file.py`` reads it from a file.

Everything is refused that is not understood: unknown keys, images that are not pinned, users that are root, networks
that are the host's, mounts outside of the operator's roots. What a later version will offer is unknown to this one,
never ignored.
"""

import posixpath
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
    model_validator,
)

from doogie_contract.models import EnvName, ResourceName
from doogie_proxy.patterns import MAX_PATTERN_CHARS, check_pattern, full_match
from doogie_proxy.references import ImageRef

MAX_LEASE_S = 10**9
"""Thirty years. Added to a date it must be a date."""

_SIZE = re.compile(r"([0-9]{1,12})(B|KiB|MiB|GiB)")
_UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_NEVER_MOUNTED = (
    *("/boot", "/dev", "/etc", "/proc", "/root", "/run", "/sys"),
    *("/var/lib/containerd", "/var/lib/docker", "/var/run"),
)
"""Whoever can read or write these owns the host. Neither they nor what holds or is in them can be mounted."""

DANGEROUS_ENV = re.compile(
    r"(?i:LD_.*|DYLD_.*|GLIBC_.*|GCONV_PATH|MALLOC_.*|HOSTALIASES|LOCPATH|NLSPATH|PATH|HOME|TMPDIR|XDG_.*"
    r"|BASH.*|ENV|IFS|PS4|PROMPT_COMMAND|SHELL.*|PYTHON.*|UV_.*|PIP_.*|NODE_.*|NPM_.*|ELECTRON_.*|DENO_.*|BUN_.*"
    r"|PERL.*|RUBY.*|GEM_.*|LUA_.*|PHP.*|R_(HOME|LIBS|PROFILE).*|ERL_.*|GO(DEBUG|FLAGS|PROXY)|DOTNET_.*|CORECLR_.*|COR_.*|.*JAVA_.*OPTIONS|CLASSPATH"
    r"|.*_PROXY|.*_CA_BUNDLE|SSL.*|OPENSSL_.*|CURL_.*|GIT_.*)"
)
"""Names that change what runs or whom it talks to. Only an exact name in ``env.allow`` admits one, never a pattern."""


def _parse_size(value: object) -> object:
    if isinstance(value, str):
        match = _SIZE.fullmatch(value)
        if match is None:
            raise ValueError(f"{value!r} is not a size: write bytes as a number, or 64KiB, 256MiB, 1GiB")
        return int(match[1]) * _UNITS[match[2]]
    return value


def _check_rule_image(value: str) -> str:
    ref = ImageRef.parse(value)
    if ref.tag is None and ref.digest is None:
        raise ValueError(f"{value!r} is not pinned: add @sha256:<digest>, or a tag and allow_tags: true")
    return value


def _check_network(value: str) -> str:
    if value in ("host", "bridge", "default"):
        raise ValueError(f"{value!r} is the engine's own network: use none, or one made with `docker network create`")
    return value


def _check_path(value: str) -> str:
    if not value.startswith("/") or value.startswith("//") or posixpath.normpath(value) != value or "\0" in value:
        raise ValueError(f"{value!r} is not an absolute path without . and .. and doubled or trailing slashes")
    return value


def _check_target(value: str) -> str:
    if not may_be_mounted_over(value):
        raise ValueError(f"{value!r} cannot be mounted over: use a directory of the container's own, such as /data")
    return value


def _check_host_path(value: str) -> str:
    for never in _NEVER_MOUNTED:
        if within(never, value) or within(value, never):
            raise ValueError(
                f"{value!r} holds or is in {never}, which gives the host away: use a directory made for it"
            )
    return value


def _parse_keep(value: object) -> object:
    if value is None:
        raise ValueError("write keep, or a value of your own")
    return None if value == "keep" else value


def _write_keep(value: object) -> object:
    return "keep" if value is None else value


def within(path: str, directory: str) -> bool:
    """Whether ``path`` is ``directory`` or below it; lexical, both normal."""
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def may_be_mounted_over(path: str) -> bool:
    """Whether a mount at this normal path of a container hides nothing that the engine puts there."""
    return path.split("/")[1] not in ("", "proc", "sys", "dev")


Size = Annotated[
    int,
    BeforeValidator(_parse_size),
    Field(le=2**50),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": f"^{_SIZE.pattern}$"}]}),
]
TmpfsSize = Annotated[Size, Field(ge=2**12)]
# Container names are joined with "-", so neither an instance nor a client may hold one.
OwnerName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_]{0,31}$")]
RuleName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,62}$")]
Sha256Hex = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
PatternText = Annotated[str, Field(max_length=MAX_PATTERN_CHARS), AfterValidator(check_pattern)]
RuleImage = Annotated[str, Field(max_length=512), AfterValidator(_check_rule_image)]
# Numeric, because a name is looked up in the image's own passwd file, where it may be 0; both, because the group
# of a bare uid is 0.
NonRootUser = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,8}:[1-9][0-9]{0,8}$")]
EngineName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$")]
Network = Annotated[EngineName, AfterValidator(_check_network)]
# NUL ends a process argument (execve(2)).
Argument = Annotated[str, Field(max_length=8192, pattern=r"^[^\x00]*$")]
AbsolutePath = Annotated[str, Field(max_length=4096), AfterValidator(_check_path)]
Target = Annotated[AbsolutePath, AfterValidator(_check_target)]
HostPath = Annotated[AbsolutePath, AfterValidator(_check_host_path)]
# None stands for keep: the image's own.
Entrypoint = Annotated[
    Annotated[list[Argument], Field(min_length=1)] | None,
    BeforeValidator(_parse_keep),
    PlainSerializer(_write_keep),
    WithJsonSchema({"anyOf": [{"const": "keep"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}),
]
Workdir = Annotated[
    AbsolutePath | None,
    BeforeValidator(_parse_keep),
    PlainSerializer(_write_keep),
    WithJsonSchema({"anyOf": [{"const": "keep"}, {"type": "string", "pattern": "^/"}]}),
]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Args(_Section):
    """What arguments a request may bring. None, unless ``patterns`` or ``any`` allow them."""

    prefix: list[Argument] = Field(default=[], description="put before the request's arguments, always")
    max: int = Field(default=32, ge=0, le=128, description="the most arguments a request may bring")
    patterns: list[PatternText] = Field(default=[], description="each argument must match one of these as a whole")
    any: bool = Field(default=False, description="allow every argument")
    audit: Literal["shown", "hashed"] = Field(default="shown", description="in the audit log: as they are, or hashed")


class Env(_Section):
    """What environment a request may bring."""

    allow: list[EnvName] = Field(default=[], description="names a request may set, to any value")
    patterns: list[PatternText] = Field(
        default=[], description="the same for names that match as a whole, unless risky"
    )
    fixed: dict[EnvName, Argument] = Field(default={}, description="always set; a request cannot change them")

    def admits(self, name: str) -> bool:
        """Whether a request may set this variable."""
        if name in self.allow:
            return True
        return not DANGEROUS_ENV.fullmatch(name) and any(full_match(pattern, name) for pattern in self.patterns)


class Secret(_Section):
    """A value that the proxy puts into the environment; clients name it and never see it."""

    file: AbsolutePath = Field(description="where the proxy reads it, at its start and at each reload")
    env: EnvName = Field(description="the variable that holds it")


class Mount(_Section):
    """A directory that requests can name; exactly one of ``host``, ``volume``, ``tmpfs``."""

    target: Target = Field(description="where it is in the container")
    host: HostPath | None = Field(default=None, description="a directory of the host, under one of mount_roots")
    volume: EngineName | None = Field(default=None, description="an existing volume that the operator made")
    tmpfs: TmpfsSize | None = Field(default=None, description="size of an empty tmpfs")
    read_only: bool = Field(default=True, description="of a host directory or volume; a tmpfs is always writable")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if sum(source is not None for source in (self.host, self.volume, self.tmpfs)) != 1:
            raise ValueError("give exactly one of host, volume and tmpfs")
        if self.tmpfs is not None and "read_only" in self.model_fields_set:
            raise ValueError("a tmpfs is always writable: leave read_only out")
        return self


class Resources(_Section):
    """Hard limits of one container."""

    memory: Size = Field(default=256 * 2**20, ge=6 * 2**20, description="RAM; swap is off")
    # Below a hundredth the engine refuses, or rounds to 0, which is no limit.
    cpus: float = Field(default=0.5, ge=0.01, le=1024)
    pids: int = Field(default=64, ge=1, le=2**20)
    tmp: TmpfsSize = Field(default=16 * 2**20, description="size of /tmp and of each tmpfs over an image VOLUME")
    shm: TmpfsSize = Field(default=16 * 2**20, description="size of /dev/shm")
    nofile: int = Field(default=256, ge=16, le=2**20)


class Stdio(_Section):
    """Limits and kind of the stdio stream."""

    max_message: Size = Field(default=16 * 2**20, ge=2**10, description="one WebSocket message; for mcp, one line")
    buffer: Size = Field(default=16 * 2**20, description="stdout held for a client; ≥ max_message")
    replay: Literal["engine-log", "none"] = Field(
        default="engine-log",
        description="engine-log: the server survives the proxy. none: nothing touches disk, EOF works, ends with it",
    )

    @model_validator(mode="after")
    def _buffer_holds_a_message(self) -> Self:
        if self.buffer < self.max_message:
            raise ValueError(f"buffer ({self.buffer}) must be at least max_message ({self.max_message})")
        return self


class Lifetime(_Section):
    """When a server ends by itself, in seconds."""

    detached_ttl_s: int = Field(default=900, ge=1, le=MAX_LEASE_S, description="nobody attached for this long: stopped")
    max_age_s: int = Field(default=604800, ge=1, le=MAX_LEASE_S, description="from creation")
    stop_grace_s: int = Field(default=5, ge=0, le=300, description="from SIGTERM to SIGKILL")
    keep_exited_s: int = Field(
        default=300, ge=0, le=MAX_LEASE_S, description="status and logs outlive the server by this"
    )


class Defaults(_Section):
    """Any field of a rule but its name and images."""

    allow_tags: bool = Field(default=False, description="accept images pinned by tag alone; tags can be moved")
    pull: Literal["never", "missing"] = Field(
        default="never", description="missing: fetch an image that is not on the engine, without credentials"
    )
    args: Args = Args()
    env: Env = Env()
    entrypoint: Entrypoint = Field(default=None, description="keep (the image's), or the program and first arguments")
    workdir: Workdir = Field(default=None, description="keep (the image's), or an absolute path")
    tmpfs: dict[Target, TmpfsSize] = Field(default={}, description="always there, writable; path to size")
    secrets: dict[ResourceName, Secret] = Field(default={}, description="what requests can have injected, by name")
    mounts: dict[ResourceName, Mount] = Field(default={}, description="what requests can have mounted, by name")
    network: Network = Field(default="none", description="none, or an existing network the operator made")
    user: NonRootUser = Field(default="65532:65532", description="uid:gid, numeric, neither 0")
    runtime: EngineName = Field(default="runc", description="an OCI runtime that the engine has: runc, runsc …")
    resources: Resources = Resources()
    stdio: Stdio = Stdio()
    lifetime: Lifetime = Lifetime()
    max_running: int | None = Field(default=None, ge=1, description="servers of one client under this rule at once")


class Rule(Defaults):
    """What may be started, and what it gets."""

    name: RuleName
    images: list[RuleImage] = Field(default=[], description="repo@sha256:… (or repo:tag where allow_tags is true)")
    image_patterns: list[PatternText] = Field(
        default=[], description="the same for what requests spell, with a digest (or a tag, where allow_tags is true)"
    )

    @model_validator(mode="after")
    def _tags_need_consent(self) -> Self:
        if not self.images and not self.image_patterns:
            raise ValueError("a rule needs images or image_patterns")
        for image in self.images:
            if ImageRef.parse(image).digest is None and not self.allow_tags:
                raise ValueError(f"{image!r} has a tag but no digest: pin it, or set allow_tags: true")
        return self

    @model_validator(mode="after")
    def _nothing_is_given_twice(self) -> Self:
        targets = ["/tmp", *self.tmpfs, *(mount.target for mount in self.mounts.values())]  # noqa: S108  # inside it
        variables = [*self.env.allow, *self.env.fixed, *(secret.env for secret in self.secrets.values())]
        if twice := _twice(targets):
            raise ValueError(f"{twice}: mounted twice; one thing may be at each place, and at /tmp there is one always")
        if twice := _twice(variables):
            raise ValueError(f"{twice}: either allowed to the client, or fixed, or a secret's; each once")
        return self

    def resolve(self, asked: ImageRef) -> ImageRef | None:
        """The pinned image that a request for ``asked`` runs under this rule, or None."""
        if (listed := next((ref for ref in self.listed_images if ref.satisfies(asked)), None)) is not None:
            return listed
        pinned = asked.digest is not None or (asked.tag is not None and self.allow_tags)
        return asked if pinned and any(full_match(pattern, str(asked)) for pattern in self.image_patterns) else None

    @property
    def listed_images(self) -> list[ImageRef]:
        """``images``, parsed."""
        return [ImageRef.parse(image) for image in self.images]


class Client(_Section):
    """One holder of tokens, with its own servers. Rules are tried in this order."""

    token_sha256: list[Sha256Hex] = Field(min_length=1, description="doogie-proxy hash-token; several while rotating")
    rules: list[RuleName]
    metrics: bool = Field(default=False, description="may read /metrics, which show what all clients do")
    peer_uid: int | None = Field(default=None, ge=0, description="only a process of this uid, over a unix socket")
    max_running: int = Field(default=20, ge=1, description="servers at once")
    starts_per_minute: int = Field(default=60, ge=1, description="starts that make a container")


class Policy(_Section):
    """The whole file."""

    version: Literal[1]
    clients: dict[OwnerName, Client]
    mount_roots: list[HostPath] = Field(default=[], description="host directories that mounts may be in; default none")
    defaults: Defaults = Defaults()
    rules: list[Rule]

    @model_validator(mode="before")
    @classmethod
    def _apply_defaults(cls, data: object) -> object:
        if not isinstance(data, Mapping) or not isinstance(defaults := data.get("defaults"), Mapping):
            return data
        rules = data.get("rules")
        if not isinstance(rules, list):
            return data
        return {**data, "rules": [_with_defaults(defaults, r) if isinstance(r, Mapping) else r for r in rules]}

    @model_validator(mode="after")
    def _names_agree(self) -> Self:
        names = [rule.name for rule in self.rules]
        if twice := _twice(names):
            raise ValueError(f"rules: {twice} defined twice; a rule's name must be unique")
        hashes: dict[str, str] = {}
        for client_name, client in self.clients.items():
            if unknown := [name for name in client.rules if name not in names]:
                raise ValueError(f"clients.{client_name}.rules: no rule is named {', '.join(unknown)}")
            for digest in client.token_sha256:
                if hashes.setdefault(digest, client_name) != client_name:
                    raise ValueError(f"clients {hashes[digest]} and {client_name} share a token; each needs its own")
        return self

    @model_validator(mode="after")
    def _host_directories_stay_in_their_roots(self) -> Self:
        found = list(self._host_mounts())
        for where, host, _ in found:
            if not any(within(host, root) for root in self.mount_roots):
                raise ValueError(f"{where}: {host} is in none of mount_roots ({', '.join(self.mount_roots) or 'none'})")
        for where, host, read_only in found:
            for other_where, other, _ in found:
                # A link made in the one would lead the other anywhere on the host.
                if not read_only and other != host and within(other, host):
                    raise ValueError(f"{where}: {host} is writable and holds the source of {other_where} ({other})")
        return self

    def _host_mounts(self) -> Iterator[tuple[str, str, bool]]:
        for rule in self.rules:
            for name, mount in rule.mounts.items():
                if mount.host is not None:
                    yield f"rules.{rule.name}.mounts.{name}", mount.host, mount.read_only

    def rules_of(self, client: str) -> list[Rule]:
        """The rules of a client in the order they are tried."""
        by_name = {rule.name: rule for rule in self.rules}
        return [by_name[name] for name in self.clients[client].rules]


def _twice(values: list[str]) -> str:
    return ", ".join(sorted({value for value in values if values.count(value) > 1}))


def _with_defaults(defaults: Mapping[str, Any], rule: Mapping[str, Any]) -> dict[str, Any]:
    """A rule's own fields win; in the groups of plain limits they win one by one."""
    merged = {**defaults, **rule}
    for group in ("resources", "stdio", "lifetime"):
        if isinstance(defaults.get(group), Mapping) and isinstance(rule.get(group), Mapping):
            merged[group] = {**defaults[group], **rule[group]}
    return merged
