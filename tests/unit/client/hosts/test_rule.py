"""The suggested rule: what the proxy's own checker reads, admits exactly what was asked for, and holds no secret."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import JsonValue

from doogie_client.hosts.rule import (
    MAX_MATCHED_BYTES,
    MAX_PATTERN_CHARS,
    RuleRequest,
    flow,
    pattern,
    policy_line,
    to_yaml,
    unique_names,
)
from doogie_contract.models import MAX_ARGS, StartRequest
from doogie_proxy import admission, patterns
from doogie_proxy.admission import Admitted, Denied, admit
from doogie_proxy.policy_file import ConfigurationError
from tests.unit.client.hosts.documents import policy_with

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)


def admits(rule: RuleRequest, request: StartRequest) -> bool:
    return isinstance(admit(policy_with([rule]), "chat", request), Admitted)


@given(st.lists(texts, max_size=5))
def test_any_arguments_are_admitted_by_their_rule_and_others_are_not(args: list[str]) -> None:
    rule = RuleRequest("r", "a/b:1", args)
    request = StartRequest(image="a/b:1", args=args)
    assert admits(rule, request)
    assert not admits(rule, request.model_copy(update={"args": [*args, "x"]}))
    for index in range(len(args)):
        changed = [*args[:index], f"{args[index]}\0"[:-1] + "☂", *args[index + 1 :]]
        assert admits(rule, request.model_copy(update={"args": changed})) == (changed[index] in args)


@given(texts, texts, st.sampled_from(["<TOKEN>", "***", "<a.*b>"]))
def test_a_pattern_takes_anything_where_something_is_hidden(before: str, after: str, hidden: str) -> None:
    assume(hidden[0] not in before)  # what stands in is then found where it begins
    found = pattern(f"{before}{hidden}{after}", frozenset({hidden, "<other>"}))
    assert patterns.full_match(patterns.check_pattern(found), f"{before}s3cret ☂{after}")
    if hidden not in before + after:
        assert not patterns.full_match(found, before + after)


@given(st.dictionaries(texts, st.recursive(texts | st.booleans() | st.integers() | st.none(), st.lists, max_leaves=4)))
def test_a_line_of_a_policy_is_read_back_as_it_was(value: dict[str, object]) -> None:
    assert policy_line(flow({"key": value})) == {"key": value}  # type: ignore[dict-item]  # plain JSON by construction


@pytest.mark.parametrize("line", ["", "a: [", "x", "- 1", "a: !!python/object:x {}", "\0", "doogie-images build npx:x"])
def test_what_is_no_line_of_a_policy_is_empty(line: str) -> None:
    assert policy_line(line) == {}


def test_an_argument_that_no_pattern_can_hold_makes_the_rule_take_any() -> None:
    for args in (["x" * (MAX_MATCHED_BYTES + 1)], ["." * (MAX_PATTERN_CHARS // 2 + 1)]):
        rule = RuleRequest("r", "a/b:1", args)
        assert rule.fields()["args"] == {"any": True, "max": 1}
        assert admits(rule, StartRequest(image="a/b:1", args=args))
    many = [str(number) for number in range(MAX_ARGS)]
    assert admits(RuleRequest("r", "a/b:1", many), StartRequest(image="a/b:1", args=many))


def test_the_bounds_are_the_proxys() -> None:
    assert MAX_PATTERN_CHARS == patterns.MAX_PATTERN_CHARS
    assert MAX_MATCHED_BYTES == admission.MAX_PATTERN_ARG_BYTES


@pytest.mark.parametrize(
    ("image", "asked"),
    [
        ("a/b", "a/b"),
        ("a/b:1", "a/b:1"),
        ("localhost:5000/a/b", "localhost:5000/a/b"),
        (f"a/b@sha256:{'0' * 64}", f"a/b@sha256:{'0' * 64}"),
        (f"a/b:1@sha256:{'0' * 64}", "a/b"),
    ],
)
def test_an_image_is_listed_so_that_it_is_found(image: str, asked: str) -> None:
    rule = RuleRequest("r", image)
    assert admits(rule, StartRequest(image=asked))
    assert ("allow_tags" in rule.fields()) == ("@" not in image)


def test_lines_of_the_operator_are_merged_and_never_replace_what_the_server_needs() -> None:
    lines = [
        "resources: {memory: 512MiB}",
        "resources: {cpus: 2}",
        "mounts: {docs: {host: /srv/other, target: /other}}",
        "network: tools",
        "network: other",
        "name: another",
        "not a line: [",
    ]
    mounts = {"docs": {"host": "/srv/docs", "target": "/docs"}}
    rule = policy_with([RuleRequest("r", "a/b:1", mounts=mounts, lines=lines)]).rules[0]
    assert (rule.name, rule.network, rule.resources.memory, rule.resources.cpus) == ("r", "tools", 512 * 2**20, 2)
    assert rule.mounts["docs"].host == "/srv/docs"


def test_what_only_the_operator_knows_does_not_pass_unseen() -> None:
    for line in ("user: UID:GID", "resources: {memory: SIZE}", "tmpfs: {PATH: 64MiB}"):
        with pytest.raises(ConfigurationError):
            policy_with([RuleRequest("r", "a/b:1", lines=[line])])


def test_mounts_are_told_with_their_sources_and_roots() -> None:
    mounts: dict[str, dict[str, JsonValue]] = {
        "a": {"host": "/srv/mcp/a", "target": "/data/a"},
        "b": {"host": "/opt/b", "target": "/data/b", "read_only": False},
        "c": {"volume": "cache", "target": "/data/c", "read_only": False},
    }
    sources = {"a": "C:\\a\n# b: {host: /}", "b": "/opt/b", "c": "cache"}
    rule = RuleRequest("files", "a/b:1", mounts=mounts, sources=sources)
    assert to_yaml([rule]) == (
        "mount_roots: [/opt/b, /srv/mcp]\n"
        "rules: # add their names to the rules of your client as well\n"
        "  - name: files\n"
        '    images: ["a/b:1"]\n'
        "    allow_tags: true # better: the image's digest, repository@sha256:…\n"
        "    mounts: # read_only: false lets the server write there\n"
        '      a: {host: /srv/mcp/a, target: /data/a} # "C:\\\\a\\U0000000a# b: {host: /}"\n'
        "      b: {host: /opt/b, target: /data/b, read_only: false} # /opt/b\n"
        "      c: {volume: cache, target: /data/c, read_only: false} # cache\n"
    )
    assert list(policy_with([rule]).rules[0].mounts) == ["a", "b", "c"]


def test_a_name_that_is_there_twice_gets_a_number() -> None:
    rules = unique_names([RuleRequest(name, "a/b:1") for name in ("r", "r", "r-2", "r", "x" * 63, "x" * 63)])
    assert [rule.name for rule in rules] == ["r", "r-2", "r-2-2", "r-3", "x" * 63, f"{'x' * 58}-2"]
    assert len(policy_with(rules).rules) == 6


def test_secrets_are_files_that_the_operator_provides() -> None:
    rule = RuleRequest("r", "a/b:1", secrets={"github": "GITHUB_TOKEN"})
    assert admits(rule, StartRequest(image="a/b:1", secrets=["github"]))
    assert not admits(rule, StartRequest(image="a/b:1", env={"GITHUB_TOKEN": "x"}))
    assert isinstance(admit(policy_with([rule]), "chat", StartRequest(image="a/b:2")), Denied)
