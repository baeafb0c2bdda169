"""``/openapi.json``: valid, and complete."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema_rs import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from pydantic import ValidationError

from doogie_contract.models import StartRequest
from doogie_contract.problems import ProblemType
from doogie_proxy.api import OPERATIONS, Api, Operation
from doogie_proxy.configuration import Configuration
from doogie_proxy.engine import Engine
from doogie_proxy.identity import Keyring
from doogie_proxy.metrics import Metrics
from doogie_proxy.openapi import document
from doogie_proxy.policy import Policy
from doogie_proxy.servers import Servers
from doogie_proxy.settings import Settings
from doogie_proxy.state import State

DOCUMENT = document(OPERATIONS)


def described(operation: Operation) -> dict[str, Any]:
    found: dict[str, Any] = DOCUMENT["paths"][operation.path][operation.method.lower()]
    return found


def test_the_document_is_openapi_3_1() -> None:
    assert [error.message for error in OpenAPIV31SpecValidator(DOCUMENT).iter_errors()] == []


def test_the_document_survives_json() -> None:
    assert json.loads(json.dumps(DOCUMENT)) == DOCUMENT


def test_every_route_is_in_the_document_and_nothing_else() -> None:
    policy = Policy.model_validate({"version": 1, "clients": {}, "rules": []})
    engine = Engine("/nonexistent", timeout_s=1)
    keyring = Keyring([b"k" * 32])
    metrics = Metrics()
    state = State(Path("/nonexistent"), "default")
    servers = Servers(
        engine,
        keyring,
        state,
        metrics,
        instance="default",
        sweep_interval_s=1,
        reconnect_s=1,
        stale_after_s=1,
        on_stale_socket=lambda: None,
        pull_timeout_s=1,
    )
    routes = Api(
        Settings.model_construct(ticket_ttl_s=30), Configuration(policy, {}, keyring), servers, metrics
    ).routes()
    paths = {(method.upper(), path) for path, item in DOCUMENT["paths"].items() for method in item}
    assert {(route.method, route.path) for route in routes} == paths


def test_no_two_operations_share_an_id() -> None:
    ids = [described(operation)["operationId"] for operation in OPERATIONS]
    assert len(set(ids)) == len(OPERATIONS)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.handler.__name__)
def test_an_operation_is_described(operation: Operation) -> None:
    found = described(operation)
    assert found["summary"] == operation.summary
    assert {str(status) for status in operation.answers} < found["responses"].keys()
    assert ("requestBody" in found) is (operation.body is not None)
    parameters = {(parameter["in"], parameter["name"]) for parameter in found["parameters"]}
    expected = {("query", name) for name in operation.query if name != "ticket"}
    assert parameters == (expected | {("path", "name")} if "{name}" in operation.path else expected)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.handler.__name__)
def test_an_operation_says_which_problems_it_answers_with(operation: Operation) -> None:
    responses = described(operation)["responses"]
    for problem in operation.problems:
        assert f"{problem.slug}: {problem.title}" in responses[str(problem.status)]["description"]
        assert list(responses[str(problem.status)]["content"]) == ["application/problem+json"]


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.handler.__name__)
def test_only_what_needs_no_token_says_so(operation: Operation) -> None:
    open_to_all = operation.path in ("/healthz", "/readyz", "/openapi.json")
    assert operation.authenticated is not open_to_all
    assert (described(operation).get("security") == []) is open_to_all
    assert ("401" in described(operation)["responses"]) is operation.authenticated


def test_only_the_websocket_takes_a_ticket() -> None:
    taking = [op.path for op in OPERATIONS if {"ticket": []} in described(op).get("security", [])]
    assert taking == ["/v1/servers/{name}/stdio"]


@pytest.mark.parametrize("problem", ProblemType, ids=lambda problem: problem.slug)
def test_every_problem_is_in_the_document(problem: ProblemType) -> None:
    descriptions = [
        response["description"]
        for item in DOCUMENT["paths"].values()
        for operation in item.values()
        for response in operation["responses"].values()
    ]
    assert any(f"{problem.slug}: {problem.title}" in description for description in descriptions)


def test_unknown_fields_of_requests_are_refused_by_the_schemas_too() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    assert schemas["StartRequest"]["additionalProperties"] is False
    assert schemas["StopRequest"]["additionalProperties"] is False
    assert "additionalProperties" not in schemas["ServerStatus"]


def test_a_start_answers_200_with_a_status_or_with_the_admission_of_a_dry_run() -> None:
    start = DOCUMENT["paths"]["/v1/servers/{name}/start"]["post"]["responses"]
    schemas = [start[status]["content"]["application/json"]["schema"] for status in ("200", "201", "202")]
    status, admission = ({"$ref": f"#/components/schemas/{name}"} for name in ("ServerStatus", "Admission"))
    assert schemas == [{"anyOf": [status, admission]}, status, status]


START = StartRequest.model_json_schema()


@pytest.mark.parametrize(
    "more",
    [
        {"env": {"A=B": "c"}},
        {"env": {"": "c"}},
        {"env": {"A" * 257: "c"}},
        {"secrets": ["a", "a"]},
        {"mounts": ["a", "a"]},
    ],
)
def test_the_schema_of_a_start_refuses_what_is_refused(more: dict[str, Any]) -> None:
    body = {"image": "a", **more}
    assert not Draft202012Validator(START).is_valid(body)
    with pytest.raises(ValidationError):
        StartRequest.model_validate(body)


def test_the_schema_of_a_start_allows_what_is_allowed() -> None:
    body = {"image": "a", "env": {"A" * 256: "c", "_": ""}, "secrets": ["a", "b"], "mounts": ["a"]}
    assert Draft202012Validator(START).is_valid(body)
    StartRequest.model_validate(body)
