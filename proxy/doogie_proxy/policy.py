"""The policy file: who may start what, and what it gets. Pure; the file is read once by ``load``.

Everything is refused that is not understood: unknown or duplicate keys, images that are not pinned, users that are
root, networks that are the host's. What a later version will offer is unknown to this one, never ignored.
"""

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import SchemaError, SchemaValidator, core_schema
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedBase, CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from doogie_contract.models import EnvName

MAX_PATTERN_CHARS = 512
MAX_PATTERN_ARG_BYTES = 1024
"""An argument that a pattern must match is at most this long."""
MAX_LEASE_S = 10**9
"""Thirty years. Added to a date it must be a date."""

_SIZE = re.compile(r"([0-9]{1,12})(B|KiB|MiB|GiB)")
_UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_IMAGE = re.compile(
    r"(?P<repo>(?:[a-z0-9][a-z0-9.-]*(?::[0-9]{1,5})?/)?[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
    r"(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    r"(?:@(?P<digest>sha256:[0-9a-f]{64}))?",
    re.ASCII,
)


class PolicyError(Exception):
    """The policy file cannot be used; each line says where (``file:line``), what, and what would be right."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


class ImageRef(NamedTuple):
    """``repo[:tag][@digest]`` in its parts (the distribution project's reference grammar, sha256 only)."""

    repo: str
    tag: str | None
    digest: str | None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Split a reference.

        Raises:
            ValueError: not a reference.
        """
        match = _IMAGE.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is not an image reference: use repo, repo:tag or repo@sha256:<64 hex digits>")
        return cls(match["repo"], match["tag"], match["digest"])

    def __str__(self) -> str:
        """What the engine is asked for: a digest says more than a tag, so the tag gives way to it."""
        return f"{self.repo}@{self.digest}" if self.digest else f"{self.repo}:{self.tag}" if self.tag else self.repo

    def satisfies(self, asked: Self) -> bool:
        """Whether a client that asked for ``asked`` gets what it named by getting this one."""
        return self.repo == asked.repo and asked.tag in (None, self.tag) and asked.digest in (None, self.digest)


def _parse_size(value: object) -> object:
    if isinstance(value, str):
        match = _SIZE.fullmatch(value)
        if match is None:
            raise ValueError(f"{value!r} is not a size: write bytes as a number, or 64KiB, 256MiB, 1GiB")
        return int(match[1]) * _UNITS[match[2]]
    return value


@functools.lru_cache(maxsize=4096)
def _compile(pattern: str) -> SchemaValidator:
    """A validator that accepts strings which ``pattern`` matches as a whole, in time linear in the string.

    The Rust engine of pydantic-core searches, so the pattern is wrapped; it is compiled alone first, so that an
    unbalanced one cannot break out of the wrapping.
    """
    for text in (pattern, rf"\A(?:{pattern})\z"):
        compiled = SchemaValidator(core_schema.str_schema(strict=True, pattern=text, regex_engine="rust-regex"))
    return compiled


def full_match(pattern: str, text: str) -> bool:
    """Whether ``pattern`` (Rust regex syntax) matches all of ``text``; linear in ``text``."""
    return _compile(pattern).isinstance_python(text)


def _check_pattern(value: str) -> str:
    try:
        _compile(value)
    except SchemaError as exc:
        raise ValueError(f"{value!r} is not a pattern this engine can match in linear time: {exc}") from None
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


Size = Annotated[
    int,
    BeforeValidator(_parse_size),
    Field(strict=True, ge=0, le=2**50),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": f"^{_SIZE.pattern}$"}]}),
]
# Container names are joined with "-", so neither an instance nor a client may hold one.
OwnerName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_]{0,31}$")]
RuleName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,62}$")]
Sha256Hex = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
PatternText = Annotated[str, Field(max_length=MAX_PATTERN_CHARS), AfterValidator(_check_pattern)]
RuleImage = Annotated[str, Field(max_length=512), AfterValidator(_check_rule_image)]
# Numeric, because a name is looked up in the image's own passwd file, where it may be 0; both, because the group
# of a bare uid is 0.
NonRootUser = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,8}:[1-9][0-9]{0,8}$")]
Network = Annotated[str, Field(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$"), AfterValidator(_check_network)]
# NUL ends a process argument (execve(2)).
Argument = Annotated[str, Field(max_length=8192, pattern=r"^[^\x00]*$")]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Args(_Section):
    """What arguments a request may bring. None, unless ``patterns`` or ``any`` allow them."""

    prefix: list[Argument] = Field(default=[], description="put before the request's arguments, always")
    max: int = Field(default=32, ge=0, le=128, description="the most arguments a request may bring")
    patterns: list[PatternText] = Field(default=[], description="each argument must match one of these as a whole")
    any: bool = Field(default=False, description="allow every argument")


class Env(_Section):
    """What environment a request may bring, by exact name."""

    allow: list[EnvName] = Field(default=[], description="names a request may set, to any value")
    fixed: dict[EnvName, Argument] = Field(default={}, description="always set; a request cannot change them")

    @model_validator(mode="after")
    def _allow_and_fixed_are_disjoint(self) -> Self:
        if both := sorted(set(self.allow) & set(self.fixed)):
            raise ValueError(f"{', '.join(both)}: either allowed to the client or fixed, not both")
        return self


class Resources(_Section):
    """Hard limits of one container."""

    memory: Size = Field(default=256 * 2**20, ge=6 * 2**20, description="RAM; swap is off")
    # Below a hundredth the engine refuses, or rounds to 0, which is no limit.
    cpus: float = Field(default=0.5, ge=0.01, le=1024, allow_inf_nan=False)
    pids: int = Field(default=64, ge=1, le=2**20)
    tmp: Size = Field(default=16 * 2**20, ge=2**12, description="size of /tmp and of each tmpfs over an image VOLUME")
    shm: Size = Field(default=16 * 2**20, ge=2**12, description="size of /dev/shm")
    nofile: int = Field(default=256, ge=16, le=2**20)


class Stdio(_Section):
    """Limits and kind of the stdio stream."""

    max_message: Size = Field(default=16 * 2**20, ge=2**10, description="one WebSocket message; for mcp, one line")
    buffer: Size = Field(default=16 * 2**20, ge=2**10, description="stdout held for a client; ≥ max_message")
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
    """Any field of a rule but ``name`` and ``images``."""

    allow_tags: bool = Field(default=False, description="accept images pinned by tag alone; tags can be moved")
    args: Args = Args()
    env: Env = Env()
    network: Network = Field(default="none", description="none, or an existing network the operator made")
    user: NonRootUser = Field(default="65532:65532", description="uid:gid, numeric, neither 0")
    resources: Resources = Resources()
    stdio: Stdio = Stdio()
    lifetime: Lifetime = Lifetime()


class Rule(Defaults):
    """What may be started, and what it gets."""

    name: RuleName
    images: list[RuleImage] = Field(min_length=1, description="repo@sha256:… (or repo:tag where allow_tags is true)")

    @model_validator(mode="after")
    def _tags_need_consent(self) -> Self:
        for image in self.images:
            if ImageRef.parse(image).digest is None and not self.allow_tags:
                raise ValueError(f"{image!r} has a tag but no digest: pin it, or set allow_tags: true")
        return self

    def resolve(self, asked: ImageRef) -> ImageRef | None:
        """The pinned image that a request for ``asked`` runs under this rule, or None."""
        return next((ref for ref in map(ImageRef.parse, self.images) if ref.satisfies(asked)), None)


class Client(_Section):
    """One holder of tokens, with its own servers. Rules are tried in this order."""

    token_sha256: list[Sha256Hex] = Field(min_length=1, description="doogie-proxy hash-token; several while rotating")
    rules: list[RuleName]


class Policy(_Section):
    """The whole file."""

    version: Literal[1]
    clients: dict[OwnerName, Client]
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
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"rules: {', '.join(twice)} defined twice; a rule's name must be unique")
        hashes: dict[str, str] = {}
        for client_name, client in self.clients.items():
            if unknown := [name for name in client.rules if name not in names]:
                raise ValueError(f"clients.{client_name}.rules: no rule is named {', '.join(unknown)}")
            for digest in client.token_sha256:
                if hashes.setdefault(digest, client_name) != client_name:
                    raise ValueError(f"clients {hashes[digest]} and {client_name} share a token; each needs its own")
        return self

    def rules_of(self, client: str) -> list[Rule]:
        """The rules of a client in the order they are tried."""
        by_name = {rule.name: rule for rule in self.rules}
        return [by_name[name] for name in self.clients[client].rules]


def _with_defaults(defaults: Mapping[str, Any], rule: Mapping[str, Any]) -> dict[str, Any]:
    """A rule's own fields win; in the groups of plain limits they win one by one."""
    merged = {**defaults, **rule}
    for group in ("resources", "stdio", "lifetime"):
        if isinstance(defaults.get(group), Mapping) and isinstance(rule.get(group), Mapping):
            merged[group] = {**defaults[group], **rule[group]}
    return merged


def load(path: Path) -> Policy:
    """Read and check a policy file.

    Raises:
        PolicyError: unreadable, not YAML, or not a policy.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise PolicyError([f"{path}: cannot be read: {exc}"]) from exc
    return parse(text, str(path))


def parse(text: str, source: str = "policy") -> Policy:
    """Check the text of a policy file; ``source`` names it in errors.

    Raises:
        PolicyError: not YAML, or not a policy.
    """
    try:
        document = YAML(typ="rt").load(text)
    except MarkedYAMLError as exc:
        line = exc.problem_mark.line + 1 if exc.problem_mark else 1
        raise PolicyError([f"{source}:{line}: {exc.problem or exc.context}"]) from exc
    except (YAMLError, ValueError) as exc:
        raise PolicyError([f"{source}: not YAML: {exc}"]) from exc
    if not isinstance(document, CommentedMap):
        raise PolicyError([f"{source}:1: a policy is a mapping that begins with version: 1"])
    try:
        return Policy.model_validate(_plain(document))
    except ValidationError as exc:
        errors = exc.errors(include_url=False, include_context=False, include_input=False)
        raise PolicyError(
            [f"{source}:{_line(document, e['loc'])}: {_describe(e['loc'], e['msg'])}" for e in errors]
        ) from exc


def _plain(node: Any) -> Any:
    """The document without ruamel's position-keeping types."""
    match node:
        case CommentedMap():
            return {str(key) if isinstance(key, str) else key: _plain(value) for key, value in node.items()}
        case CommentedSeq():
            return [_plain(value) for value in node]
        case bool():
            return bool(node)
        case str():
            return str(node)
        case float():
            return float(node)
        case int():
            return int(node)
        case _:
            return node


def _describe(loc: tuple[int | str, ...], message: str) -> str:
    message = message.removeprefix("Value error, ")
    if message == "Extra inputs are not permitted":
        message = "unknown key"
    where = ".".join(str(part) for part in loc if part != "[key]")
    return f"{where}: {message}" if where else message


def _line(document: CommentedMap, loc: tuple[int | str, ...]) -> int:
    """The line of the innermost part of ``loc`` that the file spells; for an inherited field, the default's."""
    line, depth = _descend(document, loc)
    if loc[:1] == ("rules",) and len(loc) > 2 and depth < len(loc):
        inherited, inherited_depth = _descend(document, ("defaults", *loc[2:]))
        if inherited_depth + 1 > depth:
            return inherited
    return line


def _descend(document: CommentedMap, loc: tuple[int | str, ...]) -> tuple[int, int]:
    node: Any = document
    line = 0
    for depth, part in enumerate(loc):
        if not isinstance(node, CommentedBase):
            return line + 1, depth
        try:
            line = (node.lc.key(part) if isinstance(node, CommentedMap) else node.lc.item(part))[0]
            node = node[part]  # type: ignore[index]  # the two classes that derive from CommentedBase can be indexed
        except (KeyError, IndexError, TypeError):
            return line + 1, depth
    return line + 1, len(loc)
