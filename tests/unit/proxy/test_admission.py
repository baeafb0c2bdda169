"""The decision, against an oracle that shares no code with it."""

import hashlib
import re

import pytest
from hypothesis import event, example, given
from hypothesis import strategies as st

from doogie_contract.models import StartRequest
from doogie_contract.problems import ProblemDetail
from doogie_proxy.admission import MAX_PATTERN_ARG_BYTES, Admitted, Denied, admit, plan_hash
from doogie_proxy.policy import Policy, Rule
from doogie_proxy.references import ImageRef
from tests.unit.proxy.strategies import MOUNT_ROOT, MOUNTS, SECRETS, admissions, policies, requests

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64


def policy_of(*rules: dict[str, object], order: list[str] | None = None) -> Policy:
    """A policy whose client ``chat`` may use ``rules``; a rule without an image has ``time``."""
    documents = [{"images": [f"time@{A}"], **rule} for rule in rules]
    names = order if order is not None else [str(rule["name"]) for rule in rules]
    return Policy.model_validate(
        {
            "version": 1,
            "clients": {"chat": {"token_sha256": ["0" * 64], "rules": names}},
            "mount_roots": [MOUNT_ROOT],
            "rules": documents,
        }
    )


def decide(rule: dict[str, object], **request: object) -> Admitted | Denied:
    """What a policy of this one rule says to this request."""
    wanted = StartRequest.model_validate({"image": "time", **request})
    return admit(policy_of({"name": "r", **rule}), "chat", wanted)


def faults(rule: dict[str, object], **request: object) -> list[str]:
    """Why this one rule does not admit this request; empty when it does."""
    decision = decide(rule, **request)
    if isinstance(decision, Admitted):
        return []
    assert {error.loc for error in decision.errors} == {"rules.r"}
    return [error.msg for error in decision.errors]


# ── which rule ───────────────────────────────────────────────────────────────────────────────────


def test_the_first_rule_that_admits_the_whole_request_decides() -> None:
    policy = policy_of(
        {"name": "args_only", "args": {"any": True}},
        {"name": "env_only", "env": {"allow": ["TZ"]}},
        {"name": "both", "args": {"any": True}, "env": {"allow": ["TZ"]}},
        {"name": "both_again", "args": {"any": True}, "env": {"allow": ["TZ"]}},
    )
    for request, rule in (
        (StartRequest(image="time"), "args_only"),
        (StartRequest(image="time", env={"TZ": "x"}), "env_only"),
        (StartRequest(image="time", args=["x"], env={"TZ": "x"}), "both"),
    ):
        decision = admit(policy, "chat", request)
        assert isinstance(decision, Admitted)
        assert decision.rule.name == rule


def test_rules_do_not_add_up() -> None:
    policy = policy_of({"name": "a", "args": {"any": True}}, {"name": "b", "env": {"allow": ["TZ"]}})
    decision = admit(policy, "chat", StartRequest(image="time", args=["x"], env={"TZ": "y"}))
    assert decision == Denied(
        [
            ProblemDetail(loc="rules.a", msg="environment variable TZ is not allowed (allowed: none)"),
            ProblemDetail(loc="rules.b", msg="takes no arguments"),
        ]
    )


def test_a_rule_that_the_client_does_not_have_admits_nothing() -> None:
    policy = policy_of({"name": "mine", "images": [f"other@{A}"]}, {"name": "theirs"}, order=["mine"])
    decision = admit(policy, "chat", StartRequest(image="time"))
    assert decision == Denied([ProblemDetail(loc="rules.mine", msg=f"image 'time' is not one of other@{A}")])


def test_a_client_without_rules_is_told_so() -> None:
    decision = admit(policy_of({"name": "r"}, order=[]), "chat", StartRequest(image="time"))
    assert decision == Denied([ProblemDetail(loc="rules", msg="client 'chat' has no rules: add some to the policy")])


def test_a_decision_cannot_be_changed_after_it_was_made() -> None:
    admitted, denied = decide({}), decide({}, args=["x"])
    assert isinstance(admitted, Admitted)
    assert isinstance(denied, Denied)
    with pytest.raises(AttributeError):
        admitted.args = ("x",)  # type: ignore[misc]  # the type checker knows it as well
    with pytest.raises(AttributeError):
        denied.errors = []  # type: ignore[misc]  # the type checker knows it as well


def test_a_decision_shows_no_value_of_the_environment() -> None:
    decision = decide({"env": {"allow": ["TZ"], "fixed": {"A": "planted"}}}, env={"TZ": "planted"})
    assert isinstance(decision, Admitted)
    assert "planted" not in repr(decision).replace(repr(decision.rule), "")


# ── image ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("asked", ["time", f"time@{A}"])
def test_an_image_without_a_tag_runs_the_pinned_one(asked: str) -> None:
    decision = decide({}, image=asked)
    assert isinstance(decision, Admitted)
    assert str(decision.image) == f"time@{A}"


@pytest.mark.parametrize("asked", [f"time@{B}", f"other@{A}", "time:latest", f"time:latest@{A}", "docker.io/time"])
def test_another_image_is_denied_with_those_that_would_be_right(asked: str) -> None:
    assert faults({}, image=asked) == [f"image {asked!r} is not one of time@{A}"]


def test_a_tag_that_the_rule_pins_by_digest_runs_the_digest() -> None:
    decision = decide({"images": [f"time:1@{A}"]}, image="time:1")
    assert isinstance(decision, Admitted)
    assert str(decision.image) == f"time:1@{A}"
    assert decision.references[0] == f"time@{A}"


def test_a_listed_digest_may_be_the_id_of_an_image_that_was_built_here() -> None:
    decision = decide({"images": [f"time:1@{A}"]})
    assert isinstance(decision, Admitted)
    assert decision.references == (f"time@{A}", A)


def test_a_pattern_admits_what_is_pinned_and_never_another_images_id() -> None:
    rule: dict[str, object] = {"images": [f"time@{A}"], "image_patterns": ["tools/[a-z]+(:1)?@sha256:[0-9a-f]{64}"]}
    decision = decide(rule, image=f"tools/grep:1@{B}")
    assert isinstance(decision, Admitted)
    assert decision.references == (f"tools/grep@{B}",)
    for asked in ("tools/grep", "tools/grep:1", f"tools/a/b@{B}", f"tools/grep:2@{B}", f"other@{B}"):
        assert faults(rule, image=asked) == [
            f"image {asked!r} is not one of time@{A}, what matches 'tools/[a-z]+(:1)?@sha256:[0-9a-f]{{64}}'"
        ]


def test_a_pattern_admits_a_tag_only_where_tags_are_allowed() -> None:
    for allow_tags in (True, False):
        rule: dict[str, object] = {"images": [], "image_patterns": ["time(:[0-9.]+)?"], "allow_tags": allow_tags}
        assert bool(faults(rule, image="time:1.2")) is not allow_tags
        assert faults(rule, image="time")


@pytest.mark.parametrize("asked", ["Time", "../time", "time:", f"time@{A[:-1]}", "--privileged", "-v"])
def test_what_is_no_image_reference_is_denied_as_such(asked: str) -> None:
    decision = decide({}, image=asked)
    assert isinstance(decision, Denied)
    [error] = decision.errors
    assert error.loc == "image"
    assert error.msg.startswith(f"{asked!r} is not an image reference")


# ── arguments ────────────────────────────────────────────────────────────────────────────────────


def test_arguments_are_denied_by_default() -> None:
    assert faults({}, args=["x"]) == ["takes no arguments"]


def test_the_prefix_comes_first_and_needs_no_pattern() -> None:
    decision = decide({"args": {"prefix": ["serve", "--"], "patterns": ["[a-z]"], "max": 2}}, args=["a", "b"])
    assert isinstance(decision, Admitted)
    assert decision.args == ("serve", "--", "a", "b")


def test_a_prefix_alone_allows_no_further_argument() -> None:
    assert faults({"args": {"prefix": ["serve"]}}, args=["serve"]) == ["takes no arguments"]


def test_each_argument_must_match_some_pattern_as_a_whole() -> None:
    rule: dict[str, object] = {"args": {"patterns": ["--tz=[A-Z]+", "-v"]}}
    assert faults(rule, args=["-v", "--tz=UTC", "-v"]) == []
    assert faults(rule, args=["-v", "-vv", "x--tz=UTC", "--tz=UTC\n"]) == [
        f"argument {index} ({arg!r}) matches none of '--tz=[A-Z]+', '-v'"
        for index, arg in ((1, "-vv"), (2, "x--tz=UTC"), (3, "--tz=UTC\n"))
    ]


def test_too_many_arguments_are_denied_even_where_any_is_allowed() -> None:
    assert faults({"args": {"any": True, "max": 2}}, args=["a"] * 3) == ["takes at most 2 arguments, not 3"]
    assert faults({"args": {"any": True, "max": 2}}, args=["a"] * 2) == []


def test_any_allows_every_argument_whatever_the_patterns_say() -> None:
    assert faults({"args": {"any": True, "patterns": ["a"]}}, args=["b", "", "--privileged", "x" * 8192]) == []


@pytest.mark.parametrize("character", ["a", "ä", "\U0001f600"])
def test_patterns_apply_to_arguments_of_at_most_a_kibibyte(character: str) -> None:
    rule: dict[str, object] = {"args": {"patterns": ["(?s).*"]}}
    size = len(character.encode())
    longest = character * (MAX_PATTERN_ARG_BYTES // size)
    assert faults(rule, args=[longest]) == []
    [fault] = faults(rule, args=[longest + character])
    assert f"argument 0 ({len(longest.encode()) + size} bytes, more than the 1024 that patterns apply to)" in fault


def test_a_long_argument_is_shortened_in_the_explanation() -> None:
    [fault] = faults({"args": {"patterns": ["a"]}}, args=["b" * 1000])
    assert fault == f"argument 0 ({'b' * 61 + '…'!r}) matches none of 'a'"
    assert faults({"args": {"patterns": ["a"]}}, args=["b" * 64]) == [f"argument 0 ({'b' * 64!r}) matches none of 'a'"]
    assert faults({"args": {"patterns": ["a"]}}, args=["b" * 65]) == [fault]
    assert faults({"args": {"patterns": ["a"]}}, args=["b" * MAX_PATTERN_ARG_BYTES]) == [fault]


# ── environment ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["LD_PRELOAD", "PATH", "NODE_OPTIONS", "PYTHONPATH", "HTTPS_PROXY", "tz", "TZ_"])
def test_a_variable_that_is_not_named_is_denied(name: str) -> None:
    rule: dict[str, object] = {"env": {"allow": ["TZ", "LANG"]}}
    assert faults(rule, env={name: ""}) == [f"environment variable {name} is not allowed (allowed: TZ, LANG)"]


def test_a_fixed_variable_cannot_be_set_not_even_to_its_value() -> None:
    assert faults({"env": {"fixed": {"LANG": "C"}}}, env={"LANG": "C"}) == [
        "environment variable LANG is set by the rule"
    ]


def test_a_variable_that_holds_a_secret_cannot_be_set() -> None:
    rule: dict[str, object] = {"secrets": SECRETS, "env": {"patterns": [".*"]}}
    assert faults(rule, env={"GITHUB_TOKEN": "x", "OTHER": "x"}) == [
        "environment variable GITHUB_TOKEN is set by the rule"
    ]


def test_a_pattern_of_names_admits_no_name_that_changes_what_runs() -> None:
    rule: dict[str, object] = {"env": {"allow": ["NODE_OPTIONS"], "patterns": ["APP_.*|[A-Za-z_]+"]}}
    assert faults(rule, env={"APP_KEY": "", "lang": "", "NODE_OPTIONS": ""}) == []
    for name in ("LD_PRELOAD", "ld_library_path", "PYTHONPATH", "PATH", "https_proxy", "HTTP_PROXY", "BASH_ENV", "IFS"):
        assert faults(rule, env={name: ""}) == [
            f"environment variable {name} is not allowed (allowed: NODE_OPTIONS, what matches 'APP_.*|[A-Za-z_]+')"
        ]


# ── secrets and mounts ───────────────────────────────────────────────────────────────────────────


def test_secrets_and_mounts_of_the_rule_are_admitted_by_name() -> None:
    decision = decide({"secrets": SECRETS, "mounts": MOUNTS}, secrets=["db"], mounts=["docs"])
    assert isinstance(decision, Admitted)
    assert [secret.env for secret in decision.secrets] == ["DB"]
    assert [mount.target for mount in decision.mounts] == ["/data"]


def test_others_are_denied_with_those_that_would_be_right() -> None:
    assert faults({"secrets": SECRETS}, secrets=["db", "x"], mounts=["docs"]) == [
        "has no secret 'x' (it has: github, db)",
        "has no mount 'docs' (it has: none)",
    ]


def test_an_argument_that_is_to_be_hashed_in_the_log_is_in_no_explanation() -> None:
    rule: dict[str, object] = {"args": {"patterns": ["a"], "audit": "hashed"}}
    assert faults(rule, args=["planted"]) == ["argument 0 matches none of 'a'"]


def test_fixed_variables_are_added_to_the_requests_own() -> None:
    decision = decide({"env": {"allow": ["TZ"], "fixed": {"LANG": "C"}}}, env={"TZ": "UTC"})
    assert isinstance(decision, Admitted)
    assert decision.env == {"TZ": "UTC", "LANG": "C"}


def test_an_explanation_holds_every_fault_of_a_rule_and_no_value() -> None:
    rule: dict[str, object] = {"args": {"patterns": ["a"], "max": 1}, "env": {"fixed": {"B": "operators-secret"}}}
    assert faults(rule, args=["a", "c"], env={"A": "clients-secret", "B": "clients-secret"}) == [
        "takes at most 1 arguments, not 2",
        "argument 1 ('c') matches none of 'a'",
        "environment variable A is not allowed (allowed: none)",
        "environment variable B is set by the rule",
    ]


# ── the oracle ───────────────────────────────────────────────────────────────────────────────────


def parts(reference: str) -> tuple[str, str, str]:
    """Repository, tag and digest, the latter two empty where there is none."""
    name, _, digest = reference.partition("@")
    last = name.rpartition("/")[2]
    tag = last.partition(":")[2]
    return name.removesuffix(f":{tag}") if tag else name, tag, digest


def should_admit(rule: Rule, request: StartRequest) -> bool:
    """What docs and DESIGN promise of a rule, in other words than the code's."""
    repo, tag, digest = parts(request.image)
    image_fits = any(
        own_repo == repo and tag in ("", own_tag) and digest in ("", own_digest)
        for own_repo, own_tag, own_digest in map(parts, rule.images)
    )
    args_fit = len(request.args) <= rule.args.max and all(
        rule.args.any or (len(arg.encode()) <= 1024 and any(re.fullmatch(p, arg, re.ASCII) for p in rule.args.patterns))
        for arg in request.args
    )
    env_fits = all(
        name not in {*rule.env.fixed, *(secret.env for secret in rule.secrets.values())}
        and (
            name in rule.env.allow
            or (name not in ("PATH", "LD_PRELOAD") and any(re.fullmatch(p, name, re.ASCII) for p in rule.env.patterns))
        )
        for name in request.env
    )
    named = set(request.secrets) <= set(rule.secrets) and set(request.mounts) <= set(rule.mounts)
    return image_fits and (args_fit or not request.args) and env_fits and named


@given(policy=policies, request=requests)
@example(policy=policy_of({"name": "r", "args": {"max": 0}}), request=StartRequest(image="time"))
def test_the_decision_is_that_of_the_oracle(policy: Policy, request: StartRequest) -> None:
    decision = admit(policy, "chat", request)
    rules = policy.rules_of("chat")
    admitting = [rule for rule in rules if should_admit(rule, request)]
    event("admitted" if admitting else "denied")
    if admitting:
        assert isinstance(decision, Admitted)
        assert decision.rule == admitting[0]
    else:
        assert isinstance(decision, Denied)
        explained = [error.loc for error in decision.errors]
        assert list(dict.fromkeys(explained)) == [f"rules.{rule.name}" for rule in rules]


@given(admissions)
def test_what_is_admitted_satisfies_its_rule(admitted: Admitted) -> None:
    rule = admitted.rule
    assert str(admitted.image) in [str(ImageRef.parse(image)) for image in rule.images]
    assert admitted.image.digest or rule.allow_tags
    prefix = len(rule.args.prefix)
    assert list(admitted.args[:prefix]) == rule.args.prefix
    assert len(admitted.args) - prefix <= rule.args.max
    assert admitted.env.items() >= rule.env.fixed.items()
    assert set(admitted.env) <= {*rule.env.fixed, *rule.env.allow}


def test_an_image_that_is_listed_by_its_tag_is_asked_for_by_its_tag() -> None:
    decision = decide({"images": ["time:1"], "allow_tags": True})
    assert isinstance(decision, Admitted)
    assert decision.references == ("time:1",)


# ── the plan ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "change",
    [
        {"network": "tools"},
        {"entrypoint": ["x"]},
        {"workdir": "/"},
        {"tmpfs": {"/x": "1MiB"}},
        {"secrets": SECRETS},
        {"mounts": MOUNTS},
        {"runtime": "runsc"},
        {"user": "7:7"},
        {"resources": {"pids": 7}},
        {"stdio": {"replay": "none"}},
        {"lifetime": {"stop_grace_s": 7}},
        {"args": {"prefix": ["serve"]}},
        {"env": {"fixed": {"LANG": "C"}}},
        {"images": [f"time@{B}"]},
    ],
)
def test_the_plan_changes_with_what_the_policy_contributes(change: dict[str, object]) -> None:
    before, after = decide({}), decide(change)
    assert isinstance(before, Admitted)
    assert isinstance(after, Admitted)
    assert before.plan != after.plan


@pytest.mark.parametrize(
    "change",
    [
        {"args": {"any": True}},
        {"args": {"patterns": ["a"], "max": 3, "audit": "hashed"}},
        {"env": {"allow": ["TZ"], "patterns": ["A.*"]}},
        {"max_running": 1},
        {"image_patterns": ["a"]},
        {"allow_tags": True},
        {"images": [f"time@{A}", f"other@{B}"]},
        {"resources": {"pids": 64}},
    ],
)
def test_the_plan_does_not_change_with_what_only_admits(change: dict[str, object]) -> None:
    before, after = decide({}), decide(change)
    assert isinstance(before, Admitted)
    assert isinstance(after, Admitted)
    assert before.plan == after.plan


def test_the_plan_does_not_change_with_the_name_of_the_rule() -> None:
    plans = {plan_hash(Rule(name=name, images=[f"time@{A}"]), ImageRef.parse(f"time@{A}")) for name in ("a", "b")}
    assert len(plans) == 1


def test_the_plan_is_of_this_and_nothing_else() -> None:
    """Else an upgrade would call every running server outdated; a new field of rules does, and is to be added here."""
    rule = Rule.model_validate(
        {
            "name": "r",
            "images": [f"time@{A}"],
            "args": {"prefix": ["serve"], "any": True},
            "env": {"allow": ["TZ"], "fixed": {"LANG": "ü"}},
            "mounts": {"docs": MOUNTS["docs"]},
            "secrets": {"db": SECRETS["db"]},
            "max_running": 3,
        }
    )
    text = (
        '{"entrypoint":"keep","fixed":{"LANG":"\\u00fc"},"image":"time@' + A + '",'
        '"lifetime":{"detached_ttl_s":900,"keep_exited_s":300,"max_age_s":604800,"stop_grace_s":5},'
        '"mounts":{"docs":{"host":"/srv/mcp/docs","read_only":true,"target":"/data","tmpfs":null,"volume":null}},'
        '"network":"none","prefix":["serve"],'
        '"resources":{"cpus":0.5,"memory":268435456,"nofile":256,"pids":64,"shm":16777216,"tmp":16777216},'
        '"runtime":"runc","secrets":{"db":{"env":"DB","file":"/run/secrets/db"}},'
        '"stdio":{"buffer":16777216,"max_message":16777216,"replay":"engine-log"},'
        '"tmpfs":{},"user":"65532:65532","workdir":"keep"}'
    )
    assert plan_hash(rule, ImageRef.parse(f"time@{A}")) == hashlib.sha256(text.encode()).hexdigest()


@given(st.dictionaries(st.sampled_from("ABCD"), st.text("xy", max_size=2)))
def test_the_plan_does_not_depend_on_the_order_of_the_file(fixed: dict[str, str]) -> None:
    def plan(env: dict[str, str]) -> str:
        rule = Rule.model_validate({"name": "r", "images": [f"time@{A}"], "env": {"fixed": env}})
        return plan_hash(rule, ImageRef.parse(f"time@{A}"))

    assert plan(fixed) == plan(dict(reversed(fixed.items())))
