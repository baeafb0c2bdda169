"""``/openapi.json``: valid, and complete."""

import json
from typing import Any

import pytest
from jsonschema_rs import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from doogie_client.web.openapi import document
from doogie_client.web.operation import PREFIX, Access, Operation
from doogie_client.web.operations import OPERATIONS

DOCUMENT = document(OPERATIONS)


def described(operation: Operation) -> dict[str, Any]:
    found: dict[str, Any] = DOCUMENT["paths"][operation.path][operation.method.lower()]
    return found


def schema(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}


def test_the_document_is_openapi_3_1() -> None:
    assert [error.message for error in OpenAPIV31SpecValidator(DOCUMENT).iter_errors()] == []


def test_the_document_survives_json() -> None:
    assert json.loads(json.dumps(DOCUMENT)) == DOCUMENT


def test_no_two_operations_share_an_id_or_a_place() -> None:
    ids = [described(operation)["operationId"] for operation in OPERATIONS]
    assert len(set(ids)) == len(OPERATIONS)
    assert len({(operation.method, operation.path) for operation in OPERATIONS}) == len(OPERATIONS)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.handler.__name__)
def test_an_operation_is_described(operation: Operation) -> None:
    found = described(operation)
    assert found["summary"] == operation.summary
    assert {str(status) for status in operation.answers} < found["responses"].keys()
    assert ("requestBody" in found) is (operation.body is not None)
    parameters = {(parameter["in"], parameter["name"]) for parameter in found["parameters"]}
    expected = {("query", name) for name in operation.query}
    expected |= {("path", "id")} if "{id}" in operation.path else set()
    expected |= {("header", "If-Match")} if operation.conditional else set()
    assert parameters == expected


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.handler.__name__)
def test_an_operation_says_which_problems_it_answers_with(operation: Operation) -> None:
    responses = described(operation)["responses"]
    for problem in operation.problems:
        assert f"{problem.slug}: {problem.title}" in responses[str(problem.status)]["description"]
        assert list(responses[str(problem.status)]["content"]) == ["application/problem+json"]
    assert ("401" in responses) is (operation.access is not Access.ANYONE)
    assert (described(operation).get("security") == []) is (operation.access is Access.ANYONE)


def test_what_is_for_anyone_is_outside_the_api() -> None:
    assert {operation.path for operation in OPERATIONS if operation.access is Access.ANYONE} == {
        "/healthz", "/readyz", "/openapi.json",
    }  # fmt: skip
    assert all(
        operation.path.startswith(f"{PREFIX}/") for operation in OPERATIONS if operation.access is not Access.ANYONE
    )


def test_what_changes_or_starts_something_is_for_admins() -> None:
    for_users = {operation.handler.__name__ for operation in OPERATIONS if operation.access is Access.USER}
    assert for_users == {
        "list_configs", "get_config", "get_status", "get_logs", "export_configs", "export_configs_short",
        "list_config_tools", "call_config_tool", "list_tools", "call_tool", "events",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value", "valid"),
    [
        ("ConfigCreate", {"name": "x", "args": []}, True),
        ("ConfigCreate", {"name": "x", "surplus": 1}, False),
        ("ConfigCreate", {"args": []}, False),
        ("ConfigUpdate", {}, True),
        ("ConfigUpdate", {"env": None}, True),
        ("ConfigUpdate", {"args": [1]}, False),
        ("ToolCall", {"name": "x", "arguments": {"a": [1, None]}}, True),
        ("ToolCall", {"name": ""}, False),
        ("ChatProblemDocument", {"type": "a", "title": "b", "status": 1, "detail": "c", "request_id": "d"}, True),
    ],
)
def test_the_schemas_allow_what_is_accepted(name: str, value: object, valid: bool) -> None:
    assert Draft202012Validator(schema(name)).is_valid(value) is valid
