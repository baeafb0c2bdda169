"""The JSON Schema that editors check policy files with: it agrees with the code where it can say so."""

import json
from importlib.resources import files
from typing import Any

import pytest
from hypothesis import given, settings
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it ships no types
from ruamel.yaml import YAML

from doogie_proxy.policy import Policy
from doogie_proxy.policy_file import parse
from doogie_proxy.provision import TOKEN_PLACEHOLDER
from tests.unit.proxy.strategies import policies

STARTER = (
    files("doogie_proxy")
    .joinpath("starter-policy.yaml")
    .read_text(encoding="utf-8")
    .replace(TOKEN_PLACEHOLDER, "a" * 64)
)

schema = Policy.model_json_schema()
validator = Draft202012Validator(schema)


def starter() -> dict[str, Any]:
    document: dict[str, Any] = YAML(typ="safe").load(STARTER)
    return document


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(schema)


def test_the_starter_policy_is_valid_by_code_and_by_schema() -> None:
    policy = parse(STARTER)
    assert [rule.name for rule in policy.rules_of("chat")] == ["time", "everything", "filesystem"]
    assert validator.is_valid(starter())


def test_the_starter_policy_says_nothing_but_the_codes_own_defaults() -> None:
    policy = parse(STARTER)
    assert policy.defaults == type(policy.defaults)()


@pytest.mark.parametrize(
    "where", [(), ("clients", "chat"), ("defaults",), ("defaults", "resources"), ("rules", 0), ("rules", 0, "args")]
)
def test_the_schema_refuses_an_unknown_key(where: tuple[str | int, ...]) -> None:
    document = starter()
    section: Any = document
    for part in where:
        section = section[part]
    section["privileged"] = True
    [error] = validator.iter_errors(document)
    assert "'privileged' was unexpected" in error.message


@pytest.mark.parametrize("size", ["8MB", "8 MiB", -1, 1.5, None])
def test_the_schema_refuses_what_is_no_size(size: object) -> None:
    document = starter()
    document["defaults"]["resources"]["tmp"] = size
    assert not validator.is_valid(document)


@settings(max_examples=25)  # jsonschema is slow
@given(policies)
def test_the_schema_accepts_every_policy_that_the_code_accepts(policy: Policy) -> None:
    document = json.loads(policy.model_dump_json())
    assert [error.message for error in validator.iter_errors(document)] == []
