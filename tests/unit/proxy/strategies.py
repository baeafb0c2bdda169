"""Policies and requests for hypothesis: valid by construction, close enough to each other to be admitted often."""

import re
from collections.abc import Mapping
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
PATTERNS = ["", "a", "[a-z]+", "--tz=[A-Za-z_/]+", "--(?:x|y)=.*", "(?:ab)*c?", "[^-].*"]
"""Mean the same to Rust's engine and Python's, so that an oracle may use Python's."""

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)


def matching(patterns: list[str]) -> st.SearchStrategy[str]:
    """Arguments that one of ``patterns`` matches as a whole."""
    return st.sampled_from(patterns).flatmap(
        lambda pattern: st.from_regex(re.compile(pattern, re.ASCII), fullmatch=True).filter(
            lambda text: "\0" not in text
        )
    )


arguments = texts | matching(PATTERNS)
hex_digests = st.binary(min_size=32, max_size=32).map(bytes.hex)


def rule_images(*, tags: bool) -> st.SearchStrategy[str]:
    """References as a rule may list them: with a digest, or, with ``tags``, with a tag alone."""
    tag = st.sampled_from(["", *(f":{tag}" for tag in TAGS)])
    pinned = st.builds("{}{}@{}".format, st.sampled_from(REPOS), tag, st.sampled_from(DIGESTS))
    if not tags:
        return pinned
    return pinned | st.builds("{}:{}".format, st.sampled_from(REPOS), st.sampled_from(TAGS))


asked_images = st.builds(
    "{}{}{}".format,
    st.sampled_from(REPOS),
    st.sampled_from(["", *(f":{tag}" for tag in TAGS)]),
    st.sampled_from(["", *(f"@{digest}" for digest in DIGESTS)]),
)


@st.composite
def rules(draw: st.DrawFn, name: str) -> dict[str, Any]:
    """One rule as a document; what it leaves out has its default."""
    allow_tags = draw(st.booleans())
    allowed = draw(st.sets(st.sampled_from(ENV_NAMES)))
    fixed = draw(st.dictionaries(st.sampled_from(ENV_NAMES), texts, max_size=2))
    sizes = st.integers(2**12, 2**32)
    max_message = draw(sizes)
    optional: Mapping[str, st.SearchStrategy[object]] = {
        "network": st.sampled_from(["none", "tools", "mcp_net"]),
        "user": st.builds("{}:{}".format, st.integers(1, 999_999_999), st.integers(1, 999_999_999)),
        "resources": st.fixed_dictionaries(
            {},
            optional={
                "memory": st.integers(6 * 2**20, 2**50),
                "cpus": st.floats(0.01, 1024) | st.integers(1, 1024),
                "pids": st.integers(1, 2**20),
                "tmp": sizes,
                "shm": sizes,
                "nofile": st.integers(16, 2**20),
            },
        ),
        "stdio": st.fixed_dictionaries(
            {"max_message": st.just(max_message), "buffer": st.integers(max_message, 2**40)},
            optional={"replay": st.sampled_from(["engine-log", "none"])},
        ),
        "lifetime": st.fixed_dictionaries({}, optional={"stop_grace_s": st.integers(0, 300)}),
    }
    return draw(
        st.fixed_dictionaries(
            {
                "name": st.just(name),
                "images": st.lists(rule_images(tags=allow_tags), min_size=1, max_size=3),
                "allow_tags": st.just(allow_tags),
                "args": st.fixed_dictionaries(
                    {},
                    optional={
                        "prefix": st.lists(texts, max_size=2),
                        "max": st.integers(0, 4),
                        "patterns": st.lists(st.sampled_from(PATTERNS), max_size=3),
                        "any": st.booleans(),
                    },
                ),
                "env": st.just({"allow": sorted(allowed - fixed.keys()), "fixed": fixed}),
            },
            optional=optional,
        )
    )


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """A policy of up to three rules, all of which client ``chat`` may use, in any order."""
    names = ["a", "b", "c"][: draw(st.integers(1, 3))]
    order = draw(st.permutations(names))
    return Policy.model_validate(
        {
            "version": 1,
            "clients": {"chat": {"token_sha256": ["0" * 64], "rules": order}},
            "rules": [draw(rules(name)) for name in names],
        }
    )


requests = st.builds(
    StartRequest,
    image=asked_images,
    args=st.lists(arguments, max_size=4),
    env=st.dictionaries(st.sampled_from([*ENV_NAMES, "PATH", "LD_PRELOAD"]), texts, max_size=2),
)


@st.composite
def admissions(draw: st.DrawFn) -> Admitted:
    """An admitted request: the arguments and the environment follow the rule that is to admit it."""
    policy = draw(policies())
    rule = policy.rules_of("chat")[0]
    asked = draw(st.sampled_from(rule.images).map(lambda image: image.partition("@")[0]) | st.sampled_from(rule.images))
    args: list[str] = []
    if rule.args.any:
        args = draw(st.lists(texts, max_size=rule.args.max))
    elif rule.args.patterns:
        args = draw(st.lists(matching(rule.args.patterns), max_size=rule.args.max))
    env = draw(st.dictionaries(st.sampled_from(rule.env.allow), texts)) if rule.env.allow else {}
    decision = admit(policy, "chat", StartRequest(image=asked, args=args, env=env))
    assert isinstance(decision, Admitted), decision
    return decision


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
    labels=st.dictionaries(
        texts
        | st.sampled_from(["traefik.enable", "io.doogie.sig", "io.doogie.client", "org.opencontainers.image.title"]),
        texts,
        max_size=4,
    ),
)
