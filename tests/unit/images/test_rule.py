import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from doogie_client.commands.package import Package
from doogie_contract.models import StartRequest
from doogie_images import request as requests
from doogie_images import rule as rules
from doogie_images.errors import NotWanted
from doogie_images.naming import rule_name
from doogie_images.request import Mount, Request
from doogie_images.rule import pattern, rule, to_yaml
from doogie_proxy.admission import MAX_PATTERN_ARG_BYTES, Admitted, admit
from doogie_proxy.patterns import MAX_PATTERN_CHARS, full_match
from doogie_proxy.policy import Policy, Resources
from doogie_proxy.policy_file import parse
from tests.support.harness import policy_document
from tests.unit.images.examples import ID

IMAGE = "doogie/npx/scope/server:1.2.3"
PACKAGE = Package.from_text("npx:@scope/server@1.2.3")
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
ARGUMENTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=60)


def policy_of(text: str) -> Policy:
    """The policy that an operator has who pastes this below ``rules:``."""
    clients = policy_document({"name": rule_name(PACKAGE)})["clients"]
    return parse(f"version: 1\nmount_roots: [/srv]\nclients: {json.dumps(clients)}\nrules:\n{text}")


def admits(policy: Policy, **asked: object) -> bool:
    return isinstance(admit(policy, "chat", StartRequest.model_validate({"image": IMAGE, **asked})), Admitted)


@settings(max_examples=40)
@given(st.lists(ARGUMENTS, max_size=6), ARGUMENTS)
def test_a_rule_admits_the_arguments_of_the_command_and_no_others(args: list[str], other: str) -> None:
    policy = policy_of(to_yaml(rule(IMAGE, ID, Request(package=PACKAGE, args=tuple(args)))))
    assert admits(policy, args=args)
    assert admits(policy, args=[other]) == (other in args)
    assert not admits(policy, args=[*args, "one more"])


@given(ARGUMENTS, ARGUMENTS)
def test_a_pattern_matches_its_argument_alone(argument: str, other: str) -> None:
    assert full_match(pattern(argument), argument)
    assert full_match(pattern(argument), other) == (argument == other)


def test_a_rule_pins_the_image_by_its_id() -> None:
    policy = policy_of(to_yaml(rule(IMAGE, ID, Request(package=PACKAGE))))
    admitted = admit(policy, "chat", StartRequest(image=IMAGE))
    assert isinstance(admitted, Admitted)
    assert admitted.references == (f"{IMAGE.rpartition(':')[0]}@{ID}", ID)
    assert not admits(policy, image=IMAGE.replace("1.2.3", "1.2.4"))
    assert not admits(policy, image=f"{IMAGE}@sha256:{'0' * 64}")


def test_a_rule_allows_the_variables_of_the_command_and_no_others() -> None:
    policy = policy_of(to_yaml(rule(IMAGE, ID, Request(package=PACKAGE, env=("TOKEN",)))))
    assert admits(policy, env={"TOKEN": "any value"})
    assert not admits(policy, env={"OTHER": "x"})
    assert not admits(policy_of(to_yaml(rule(IMAGE, ID, Request(package=PACKAGE)))), env={"TOKEN": "x"})


def test_a_rule_has_what_the_server_was_tested_with_and_nothing_else() -> None:
    asked = Request(
        package=PACKAGE,
        tmpfs={"/data": "32MiB"},
        mounts={"docs": Mount.parse("/srv/docs:/docs"), "cache": Mount.parse("tool-cache:/cache:rw")},
        memory="512MiB",
        network="tools",
    )
    (made,) = policy_of(to_yaml(rule(IMAGE, ID, asked))).rules
    assert made.tmpfs == {"/data": 32 * 2**20}
    assert (made.mounts["docs"].host, made.mounts["docs"].target, made.mounts["docs"].read_only) == (
        "/srv/docs",
        "/docs",
        True,
    )
    assert (made.mounts["cache"].volume, made.mounts["cache"].read_only) == ("tool-cache", False)
    assert (made.resources.memory, made.network) == (512 * 2**20, "tools")
    (plain,) = policy_of(to_yaml(rule(IMAGE, ID, Request(package=PACKAGE)))).rules
    assert plain.model_fields_set == {"name", "images"}


def test_an_argument_that_no_pattern_can_admit_is_refused_with_the_way_out() -> None:
    for argument in ("x" * 513, "." * 300, "🦆" * 257):
        with pytest.raises(NotWanted, match=r"args\.prefix"):
            rule(IMAGE, ID, Request(package=PACKAGE, args=(argument,)))
    assert admits(policy_of(to_yaml(rule(IMAGE, ID, Request(package=PACKAGE, args=("x" * 512,))))), args=["x" * 512])


def test_limits_of_the_policy_are_those_known_here() -> None:
    assert (rules.MAX_PATTERN_CHARS, rules.MAX_PATTERN_ARG_BYTES) == (MAX_PATTERN_CHARS, MAX_PATTERN_ARG_BYTES)
    assert requests.size_bytes(Request(package=PACKAGE).memory) == Resources().memory


@settings(max_examples=50)
@given(st.lists(TEXTS) | st.dictionaries(TEXTS, TEXTS | st.booleans() | st.integers(0, 9), max_size=4))
def test_what_is_printed_is_read_again_as_it_was(value: rules.RuleField) -> None:
    fields: dict[str, rules.RuleField] = {"name": "x", "value": value}
    assert YAML(typ="safe").load(io.StringIO(f"rules:\n{to_yaml(fields)}")) == {"rules": [fields]}
