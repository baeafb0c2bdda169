"""``/openapi.json``: OpenAPI 3.1, made from the operations and the wire models. Pure."""

from collections.abc import Iterable
from types import UnionType
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from doogie_contract.models import SERVER_NAME_PATTERN
from doogie_contract.problems import PROBLEM_CONTENT_TYPE, Problem, ProblemType
from doogie_proxy import __version__
from doogie_proxy.api import Operation

_REF = "#/components/schemas/{model}"

_ANYWHERE = (
    ProblemType.BAD_REQUEST,
    ProblemType.HOST_NOT_ALLOWED,
    ProblemType.METHOD_NOT_ALLOWED,
    ProblemType.HEADERS_TOO_LARGE,
    ProblemType.INTERNAL_ERROR,
)
"""What any request may meet, whatever it asks for."""


def document(operations: Iterable[Operation]) -> dict[str, Any]:
    """The OpenAPI document of these operations."""
    operations = list(operations)
    models: set[type[BaseModel]] = {Problem}
    for operation in operations:
        for answer in operation.answers.values():
            models |= set(_models(answer))
        models |= {operation.body} if operation.body else set()
    ordered = sorted(models, key=lambda model: model.__name__)
    _, schemas = models_json_schema([(model, "validation") for model in ordered], ref_template=_REF)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Doogie proxy",
            "version": __version__,
            "description": "Starts policy-approved MCP containers for clients that have no access to the engine.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "http://proxy", "description": "over the unix socket; the host name is ignored"}],
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "ticket": {"type": "apiKey", "in": "query", "name": "ticket"},
            },
        },
    }


def _operation(operation: Operation) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "query", "required": False, "schema": {"type": "string", "pattern": f"^{pattern}$"}}
        for name, pattern in operation.query.items()
        if name != "ticket"
    ]
    problems = [*operation.problems, ProblemType.INVALID_REQUEST]  # each refuses query parameters it does not know
    if "{name}" in operation.path:
        schema = {"type": "string", "pattern": SERVER_NAME_PATTERN}
        parameters.insert(0, {"name": "name", "in": "path", "required": True, "schema": schema})
    if operation.authenticated:
        problems += [ProblemType.UNAUTHENTICATED, ProblemType.SHUTTING_DOWN]
    rendered: dict[str, Any] = {
        "operationId": operation.handler.__name__,
        "summary": operation.summary,
        "parameters": parameters,
        "responses": _answers(operation) | _problems(problems) | {"default": _answer(_ANYWHERE)},
    }
    if not operation.authenticated:
        rendered["security"] = []
    elif "ticket" in operation.query:
        rendered["security"] = [{"bearer": []}, {"ticket": []}]
    if operation.body:
        rendered["requestBody"] = {
            "required": not operation.body_optional,
            "content": {"application/json": {"schema": _schema(operation.body)}},
        }
    return rendered


def _answers(operation: Operation) -> dict[str, Any]:
    answers: dict[str, Any] = {}
    for status, answer in operation.answers.items():
        if answer == "websocket":
            answers[str(status)] = {"description": "Switching Protocols"}
        elif isinstance(answer, str):
            answers[str(status)] = {"description": operation.summary, "content": {answer: {}}}
        else:
            models = _models(answer)
            schema = _schema(*models) if len(models) == 1 else {"anyOf": [_schema(model) for model in models]}
            description = " or ".join(model.__name__ for model in models)
            answers[str(status)] = {"description": description, "content": {"application/json": {"schema": schema}}}
    return answers


def _problems(problems: list[ProblemType]) -> dict[str, Any]:
    by_status: dict[int, list[ProblemType]] = {}
    for problem in dict.fromkeys(problems):
        by_status.setdefault(problem.status, []).append(problem)
    return {str(status): _answer(same) for status, same in sorted(by_status.items())}


def _answer(problems: Iterable[ProblemType]) -> dict[str, Any]:
    return {
        "description": "; ".join(f"{problem.slug}: {problem.title}" for problem in problems),
        "content": {PROBLEM_CONTENT_TYPE: {"schema": _schema(Problem)}},
    }


def _models(answer: type[BaseModel] | UnionType | str) -> tuple[type[BaseModel], ...]:
    if isinstance(answer, str):
        return ()
    return get_args(answer) if isinstance(answer, UnionType) else (answer,)


def _schema(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REF.format(model=model.__name__)}
