"""What is legal in a policy and unwise: each warning, and where there is none."""

from typing import Any

import pytest

from doogie_proxy.policy import Policy
from doogie_proxy.policy_advice import warnings

DIGEST = "@sha256:" + "a" * 64


def advice(**fields: Any) -> list[str]:
    """The warnings of a policy whose one rule is this and otherwise wise."""
    rule = {"name": "r", "images": [f"mcp/time{DIGEST}"], **fields}
    policy = {"version": 1, "clients": {}, "mount_roots": ["/srv/mcp"], "rules": [rule]}
    return list(warnings(Policy.model_validate(policy)))


def test_a_wise_policy_is_warned_of_nothing() -> None:
    assert advice() == []
    assert (
        advice(
            allow_tags=True,
            args={"patterns": ["--tz=[A-Z]+", "-.*x", "[a-z/]*"], "prefix": ["serve"]},
            env={"allow": ["TZ"], "patterns": [".*"], "fixed": {"PATH": "/bin"}},
            mounts={
                "docs": {"host": "/srv/mcp/docs", "target": "/docs"},
                "cache": {"volume": "cache", "target": "/cache", "read_only": False},
                "scratch": {"tmpfs": "1MiB", "target": "/scratch"},
            },
            secrets={"token": {"file": "/run/secrets/token", "env": "TOKEN"}},
        )
        == []
    )
    assert advice(image_patterns=[f"mcp/.*{DIGEST}"]) == []


def test_each_rule_is_warned_of_by_its_name_and_in_order() -> None:
    rules = [{"name": name, "images": ["time:1"], "allow_tags": True} for name in ("b", "a")]
    policy = Policy.model_validate({"version": 1, "clients": {}, "rules": rules})
    assert [line.split(":")[0] for line in warnings(policy)] == ["rules.b.images", "rules.a.images"]


def test_every_warning_of_a_rule_is_told() -> None:
    found = advice(
        images=["mcp/time:1"],
        allow_tags=True,
        args={"any": True},
        env={"allow": ["PATH"]},
        mounts={"work": {"host": "/srv/mcp/work", "target": "/work", "read_only": False}},
        network="tools",
    )
    assert [line.split(":")[0] for line in found] == [
        "rules.r.images",
        "rules.r.args",
        "rules.r.env.allow",
        "rules.r.mounts.work",
        "rules.r.network",
    ]


def test_a_tag_without_a_digest_is_warned_of() -> None:
    images = ["mcp/a:1", f"mcp/b{DIGEST}", f"mcp/c:1{DIGEST}", "mcp/d:1"]
    found = advice(images=images, allow_tags=True)
    assert [line.split(" ")[1] for line in found] == ["mcp/a:1", "mcp/d:1"]
    assert found[0] == "rules.r.images: mcp/a:1 is a tag without a digest: whoever can move the tag decides what runs"


def test_patterns_of_images_that_are_pulled_are_warned_of() -> None:
    assert advice(pull="missing") == []
    assert advice(image_patterns=["mcp/.*"], pull="missing") == [
        "rules.r.image_patterns: with pull: missing, clients choose what the engine downloads, as far as they match"
    ]


def test_patterns_of_images_with_tags_are_warned_of() -> None:
    assert advice(image_patterns=["mcp/.*"], allow_tags=True) == [
        "rules.r.image_patterns: with allow_tags, whoever can tag an image on the engine decides what runs"
    ]


@pytest.mark.parametrize("args", [{"any": True}, {"patterns": [".*"]}, {"patterns": ["a", "-.*|.+"]}])
def test_arguments_of_any_kind_are_warned_of(args: dict[str, object]) -> None:
    assert advice(args=args) == [
        "rules.r.args: any argument is allowed: none may make the program run others, or read what it should not"
    ]


@pytest.mark.parametrize(
    "program",
    [
        *("alpine", "ash", "bash", "bun", "busybox", "dash", "debian", "deno", "env", "fedora", "golang", "java"),
        *("julia", "lua", "node", "npx", "perl", "php", "pwsh", "python", "python3", "python3.13", "ruby", "rust"),
        *("sh", "ubuntu", "uv", "uvx", "zsh"),
    ],
)
def test_any_argument_of_an_interpreter_is_warned_of_as_such(program: str) -> None:
    said = f"rules.r.args: any argument of {program} is allowed: the client can run any program in the container"
    assert advice(images=[f"docker.io/library/{program}{DIGEST}"], args={"any": True}) == [said]
    assert advice(entrypoint=[f"/usr/bin/{program}"], args={"any": True}) == [said]
    assert advice(entrypoint=["/opt/serve", program], args={"any": True}) == [said]


def test_an_interpreter_that_the_entrypoint_hides_or_that_only_sounds_like_one_is_none() -> None:
    for fields in (
        {"images": [f"python{DIGEST}"], "entrypoint": ["/opt/serve"]},
        {"images": [f"python/time{DIGEST}", f"my-node{DIGEST}", f"shell{DIGEST}"]},
        {"entrypoint": ["/usr/bin/python3-config"]},
    ):
        assert "none may make the program run others" in advice(args={"any": True}, **fields)[0]


def test_several_interpreters_are_told_once_each_in_order() -> None:
    images = [f"node{DIGEST}", f"mcp/time{DIGEST}", f"bash{DIGEST}", f"mirror/node{DIGEST}"]
    [warning] = advice(images=images, args={"any": True})
    assert warning.startswith("rules.r.args: any argument of bash, node is allowed")


def test_an_interpreter_whose_arguments_are_bounded_is_not_warned_of() -> None:
    assert advice(images=[f"python{DIGEST}"], args={"patterns": ["--tz=[A-Z]+"]}) == []


def test_a_variable_that_changes_what_runs_is_warned_of_where_the_client_sets_it() -> None:
    assert advice(env={"allow": ["TZ", "HTTPS_PROXY", "LD_PRELOAD"]}) == [
        f"rules.r.env.allow: {name} changes what runs or whom it talks to: fix its value if you can"
        for name in ("HTTPS_PROXY", "LD_PRELOAD")
    ]


def test_a_writable_directory_of_the_host_is_warned_of() -> None:
    mounts = {"work": {"host": "/srv/mcp/work", "target": "/work", "read_only": False}}
    assert advice(mounts=mounts) == [
        "rules.r.mounts.work: /srv/mcp/work is writable: what a hostile container leaves there, the host may trust"
    ]


def test_a_network_is_warned_of() -> None:
    assert advice(network="tools") == [
        "rules.r.network: over tools the container may reach others and be a way out for what it was told"
    ]
