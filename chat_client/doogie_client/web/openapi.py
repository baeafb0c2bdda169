"""``/openapi.json``: OpenAPI 3.1, made from the operations and their types. Pure."""

from collections.abc import Iterable
from importlib.metadata import version
from typing import Any, Literal

from pydantic import TypeAdapter

from doogie_client.web.operation import Access, Operation
from doogie_client.web.problems import ChatProblem, ChatProblemDocument, Kind
from doogie_contract.problems import PROBLEM_CONTENT_TYPE, ProblemType

ID_PATTERN = "[A-Za-z0-9._-]{1,64}"
"""What ``{id}`` in a path must match, as a whole; but for ``json`` and ``dry-run``, which are paths of their own."""

_REF = "#/components/schemas/{model}"
_ANYWHERE: tuple[Kind, ...] = (
    ProblemType.BAD_REQUEST,
    ProblemType.HOST_NOT_ALLOWED,
    ProblemType.METHOD_NOT_ALLOWED,
    ChatProblem.INTERNAL_ERROR,
)
"""What any request may meet, whatever it asks for."""
_OF_A_BODY: tuple[Kind, ...] = (
    ProblemType.REQUEST_TIMEOUT,
    ProblemType.BODY_TOO_LARGE,
    ProblemType.UNSUPPORTED_MEDIA_TYPE,
)
_IF_MATCH = {
    "name": "If-Match",
    "in": "header",
    "required": False,
    "description": "the ETag of the version that is meant",
    "schema": {"type": "string", "pattern": r'^("[0-9]{1,18}"|\*)$'},
}

_Key = tuple[str, Literal["validation", "serialization"]]


def document(operations: Iterable[Operation]) -> dict[str, Any]:
    """The OpenAPI document of these operations."""
    operations = list(operations)
    schemas, definitions = _schemas(operations)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Doogie chat side",
            "version": version("doogie-client"),
            "description": "Stored MCP servers, started from their commands through the proxy, and their tools.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "schemas": definitions,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _schemas(operations: list[Operation]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The schema of each type that is taken or answered, by its ``repr``; and the definitions that they refer to."""
    inputs: list[tuple[str, Literal["validation", "serialization"], TypeAdapter[Any]]] = [
        (_key(ChatProblemDocument), "serialization", TypeAdapter(ChatProblemDocument))
    ]
    for operation in operations:
        if operation.body is not None:
            inputs.append((_key(operation.body), "validation", TypeAdapter(operation.body)))
        inputs.extend(
            (_key(answer), "serialization", TypeAdapter(answer))
            for answer in operation.answers.values()
            if answer is not None and not isinstance(answer, str)
        )
    by_key, definitions = TypeAdapter.json_schemas(inputs, ref_template=_REF)
    return {key: schema for (key, _), schema in by_key.items()}, definitions.get("$defs", {})


def _key(type_: Any) -> str:
    return repr(type_)


def _operation(operation: Operation, schemas: dict[str, Any]) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "query", "required": False, "schema": {"type": "string", "pattern": f"^({pattern})$"}}
        for name, pattern in operation.query.items()
    ]
    problems: list[Kind] = [
        *operation.problems,
        ProblemType.INVALID_REQUEST,
    ]  # each refuses what query it does not know
    if "{id}" in operation.path:
        schema = {"type": "string", "pattern": f"^{ID_PATTERN}$"}
        parameters.insert(0, {"name": "id", "in": "path", "required": True, "schema": schema})
        problems.append(ProblemType.NOT_FOUND)
    if operation.conditional:
        parameters.append(_IF_MATCH)
        problems.append(ChatProblem.VERSION_MISMATCH)
    if operation.body is not None:
        problems += _OF_A_BODY
    if operation.access is not Access.ANYONE:
        problems += [ProblemType.UNAUTHENTICATED, ProblemType.QUOTA_EXCEEDED, ChatProblem.STORE_UNAVAILABLE]
    if operation.access is Access.ADMIN:
        problems.append(ChatProblem.FORBIDDEN)
    rendered: dict[str, Any] = {
        "operationId": operation.handler.__name__,
        "summary": operation.summary,
        "parameters": parameters,
        "responses": _answers(operation, schemas)
        | _problems(problems, schemas)
        | {"default": _problem_answer(_ANYWHERE, schemas)},
    }
    if operation.access is Access.ANYONE:
        rendered["security"] = []
    if operation.body is not None:
        content = {"application/json": {"schema": schemas[_key(operation.body)]}}
        rendered["requestBody"] = {"required": True, "content": content}
    return rendered


def _answers(operation: Operation, schemas: dict[str, Any]) -> dict[str, Any]:
    answers: dict[str, Any] = {}
    for status, answer in operation.answers.items():
        described: dict[str, Any] = {"description": operation.summary}
        if isinstance(answer, str):
            described["content"] = {answer: {}}
        elif answer is not None:
            described["content"] = {"application/json": {"schema": schemas[_key(answer)]}}
        answers[str(status)] = described
    return answers


def _problems(problems: list[Kind], schemas: dict[str, Any]) -> dict[str, Any]:
    by_status: dict[int, list[Kind]] = {}
    for problem in dict.fromkeys(problems):
        by_status.setdefault(problem.status, []).append(problem)
    return {str(status): _problem_answer(same, schemas) for status, same in sorted(by_status.items())}


def _problem_answer(problems: Iterable[Kind], schemas: dict[str, Any]) -> dict[str, Any]:
    return {
        "description": "; ".join(f"{problem.slug}: {problem.title}" for problem in problems),
        "content": {PROBLEM_CONTENT_TYPE: {"schema": schemas[_key(ChatProblemDocument)]}},
    }
