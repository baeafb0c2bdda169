"""Policies and requests for hypothesis: valid by construction, close enough to each other to be admitted often."""

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import strategies as st

from doogie_contract.models import StartRequest
from doogie_proxy.admission import Admitted, admit
from doogie_proxy.policy import Policy
from doogie_proxy.spec import ImageConfig

REPOS = ["mcp/time", "mcp/files", "localhost:5000/mcp/time", "time"]
TAGS = ["1", "latest", "2026.10.19"]
DIGESTS = ["sha256:" + digit * 64 for digit in "ab"]
ENV_NAMES = ["TZ", "LANG", "TOKEN", "_A"]
ENV_PATTERNS = ["T.*", "[A-Z]+", "PATH|_A"]
SECRETS = {
    "github": {"file": "/run/secrets/github", "env": "GITHUB_TOKEN"},
    "db": {"file": "/run/secrets/db", "env": "DB"},
}
MOUNT_ROOT = "/srv/mcp"
MOUNTS: dict[str, dict[str, Any]] = {
    "docs": {"host": "/srv/mcp/docs", "target": "/data"},
    "work": {"host": "/srv/mcp/work", "target": "/work", "read_only": False},
    "cache": {"volume": "cache", "target": "/var/cache", "read_only": False},
    "scratch": {"tmpfs": "1MiB", "target": "/scratch"},
}
PATTERNS = ["", "a", "[a-z]+", "--tz=[A-Za-z_/]+", "--(?:x|y)=.*", "(?:ab)*c?", "[^-].*"]
"""Mean the same to Rust's engine and Python's, so that an oracle may use Python's."""

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
hex_digests = st.binary(min_size=32, max_size=32).map(bytes.hex)


@functools.cache
def _matching_one(pattern: str) -> st.SearchStrategy[str]:
    return st.from_regex(re.compile(pattern, re.ASCII), fullmatch=True).filter(lambda text: "\0" not in text)


def matching(patterns: Sequence[str]) -> st.SearchStrategy[str]:
    """Arguments that one of ``patterns`` matches as a whole."""
    return st.sampled_from(patterns).flatmap(_matching_one)


arguments = texts | matching(PATTERNS)

_optional_tags = st.sampled_from(["", *(f":{tag}" for tag in TAGS)])
_digest_images = st.builds("{}{}@{}".format, st.sampled_from(REPOS), _optional_tags, st.sampled_from(DIGESTS))
_tag_images = st.builds("{}:{}".format, st.sampled_from(REPOS), st.sampled_from(TAGS))
rule_images = _digest_images | _tag_images
"""References as a rule may list them; those with a tag alone need ``allow_tags``."""

asked_images = st.builds(
    "{}{}{}".format,
    st.sampled_from(REPOS),
    _optional_tags,
    st.sampled_from(["", *(f"@{digest}" for digest in DIGESTS)]),
)

_sizes = st.integers(2**12, 2**32)
_resources = st.fixed_dictionaries(
    {},
    optional={
        "memory": st.integers(6 * 2**20, 2**50),
        "cpus": st.floats(0.01, 1024) | st.integers(1, 1024),
        "pids": st.integers(1, 2**20),
        "tmp": _sizes,
        "shm": _sizes,
        "nofile": st.integers(16, 2**20),
    },
)
_stdio = st.builds(
    lambda max_message, more, replay: {"max_message": max_message, "buffer": max_message + more, "replay": replay},
    _sizes,
    st.integers(0, 2**40),
    st.sampled_from(["engine-log", "none"]),
)
_args = st.fixed_dictionaries(
    {},
    optional={
        "prefix": st.lists(texts, max_size=2),
        "max": st.integers(0, 4),
        "patterns": st.lists(st.sampled_from(PATTERNS), max_size=3),
        "any": st.booleans(),
    },
)
_env = st.builds(
    lambda allow, patterns, fixed: {"allow": sorted(allow - fixed.keys()), "patterns": patterns, "fixed": fixed},
    st.sets(st.sampled_from(ENV_NAMES)),
    st.lists(st.sampled_from(ENV_PATTERNS), max_size=1),
    st.dictionaries(st.sampled_from(ENV_NAMES), texts, max_size=2),
)
_ids = st.integers(1, 999_999_999)


def _some_of(known: Mapping[str, object]) -> st.SearchStrategy[dict[str, object]]:
    return st.sets(st.sampled_from(sorted(known))).map(lambda names: {name: known[name] for name in sorted(names)})


def _rules(images: st.SearchStrategy[str], *, allow_tags: bool) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {
            "images": st.lists(images, min_size=1, max_size=3),
            "allow_tags": st.just(allow_tags),
            "args": _args,
            "env": _env,
        },
        optional={
            "entrypoint": st.just("keep") | st.lists(texts, min_size=1, max_size=2),
            "workdir": st.sampled_from(["keep", "/", "/data", "/proc"]),
            "tmpfs": st.dictionaries(st.sampled_from(["/home/app", "/var/tmp"]), _sizes, max_size=2),
            "secrets": _some_of(SECRETS),
            "mounts": _some_of(MOUNTS),
            "runtime": st.sampled_from(["runc", "runsc"]),
            "network": st.sampled_from(["none", "tools", "mcp_net"]),
            "user": st.builds("{}:{}".format, _ids, _ids),
            "resources": _resources,
            "stdio": _stdio,
            "lifetime": st.fixed_dictionaries({}, optional={"stop_grace_s": st.integers(0, 300)}),
        },
    )


rules = _rules(rule_images, allow_tags=True) | _rules(_digest_images, allow_tags=False)
"""Rules as documents, without their name; what they leave out has its default."""


def _policy(documents: list[dict[str, Any]], order: Sequence[str]) -> Policy:
    names = [name for name in order if ord(name) - ord("a") < len(documents)]
    return Policy.model_validate(
        {
            "version": 1,
            "clients": {"chat": {"token_sha256": ["0" * 64], "rules": names}},
            "mount_roots": [MOUNT_ROOT],
            "rules": [{"name": name, **document} for name, document in zip("abc", documents, strict=False)],
        }
    )


policies = st.builds(_policy, st.lists(rules, min_size=1, max_size=3), st.permutations("abc"))
"""Policies of up to three rules, all of which client ``chat`` may use, in any order."""

requests = st.builds(
    StartRequest,
    image=asked_images,
    args=st.lists(arguments, max_size=4),
    env=st.dictionaries(st.sampled_from([*ENV_NAMES, "PATH", "LD_PRELOAD", "DB"]), texts, max_size=2),
    secrets=st.lists(st.sampled_from([*SECRETS, "none"]), max_size=2, unique=True),
    mounts=st.lists(st.sampled_from([*MOUNTS, "none"]), max_size=2, unique=True),
)


@st.composite
def _admissions(draw: st.DrawFn) -> Admitted:
    """An admitted request: the arguments and the environment follow the rule that is to admit it."""
    policy = draw(policies)
    rule = policy.rules_of("chat")[0]
    asked = draw(st.sampled_from(rule.images).map(lambda image: image.partition("@")[0]) | st.sampled_from(rule.images))
    args: list[str] = []
    if rule.args.any:
        args = draw(st.lists(texts, max_size=rule.args.max))
    elif rule.args.patterns:
        args = draw(st.lists(matching(rule.args.patterns), max_size=rule.args.max))
    env = draw(st.dictionaries(st.sampled_from(rule.env.allow), texts)) if rule.env.allow else {}
    secrets = sorted(draw(st.sets(st.sampled_from(sorted(rule.secrets))))) if rule.secrets else []
    mounts = sorted(draw(st.sets(st.sampled_from(sorted(rule.mounts))))) if rule.mounts else []
    decision = admit(policy, "chat", StartRequest(image=asked, args=args, env=env, secrets=secrets, mounts=mounts))
    assert isinstance(decision, Admitted), decision
    return decision


admissions = _admissions()

_path_parts = st.sampled_from(["data", "var", "tmp", "proc", "sys", "dev", "..", ".", "", "etc", "shm", "a:b", "ä"])
volumes = st.builds(
    lambda lead, parts: lead + "/".join(parts),
    st.sampled_from(["/", "//", "///", ""]),
    st.lists(_path_parts, max_size=4),
)
images = st.builds(
    ImageConfig,
    id=hex_digests.map("sha256:{}".format),
    entrypoint=st.lists(texts, min_size=1, max_size=2).map(tuple),
    volumes=st.lists(volumes, max_size=4).map(tuple),
    workdir=st.sampled_from(["", "/", "/app", "/proc/self/fd/8", "dev"]) | volumes,
    labels=st.dictionaries(
        texts
        | st.sampled_from(["traefik.enable", "io.doogie.sig", "io.doogie.more", "org.opencontainers.image.title"]),
        texts,
        max_size=4,
    ),
)
