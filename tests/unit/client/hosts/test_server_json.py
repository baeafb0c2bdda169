"""The registry's server.json: the command line of each package, and what is asked for."""

import json
from typing import Any

import pytest

from doogie_client.hosts.document import read_document
from doogie_client.hosts.entry import ReasonKind
from doogie_client.hosts.plan import Plan, Verdict
from doogie_contract.models import StartRequest
from tests.unit.client.hosts.documents import FILESYSTEM, planned


def server(**package: object) -> str:
    return json.dumps(
        {"name": "com.example/x", "packages": [{"registryType": "oci", "identifier": "example/x:1", **package}]}
    )


def filesystem(**package: object) -> str:
    """A server whose package the catalogue has."""
    name = "@modelcontextprotocol/server-filesystem"
    return server(registryType="npm", identifier=name, version="2026.8.31", **package)


def words(made: Plan) -> list[str]:
    assert made.shown is not None
    return [made.shown.command, *made.shown.args]


@pytest.mark.parametrize(
    ("package", "expected"),
    [
        ({"registryType": "npm", "identifier": "@a/b", "version": "1.0.0"}, ["npx", "-y", "@a/b@1.0.0"]),
        ({"registryType": "npm", "identifier": "b"}, ["npx", "-y", "b"]),
        ({"registryType": "pypi", "identifier": "b", "version": "1.0"}, ["uvx", "b==1.0"]),
        ({"registry_type": "pypi", "registryType": None, "identifier": "b"}, None),
        ({"identifier": "docker.io/a/b:2"}, ["docker", "run", "-i", "--rm", "a/b:2"]),
        ({"identifier": "ghcr.io/a/b", "version": "2"}, ["docker", "run", "-i", "--rm", "ghcr.io/a/b:2"]),
        ({"identifier": "h:5000/a/b", "version": "2"}, ["docker", "run", "-i", "--rm", "h:5000/a/b:2"]),
        ({"identifier": "a/b:1", "version": "2"}, ["docker", "run", "-i", "--rm", "a/b:1"]),
    ],
)
def test_a_package_is_the_command_that_runs_it(package: dict[str, object], expected: list[str] | None) -> None:
    made = planned(server(**package))
    if expected is None:
        assert made.verdict is Verdict.REFUSED
    else:
        assert words(made) == expected


@pytest.mark.parametrize(
    ("argument", "values", "expected"),
    [
        ({"type": "positional", "value": "a b"}, {}, ["a b"]),
        ({"type": "positional", "valueHint": "dir"}, {}, []),
        ({"type": "positional", "valueHint": "dir", "default": "x"}, {}, ["x"]),
        ({"type": "positional", "valueHint": "dir", "isRequired": True}, {}, ["<dir>"]),
        ({"type": "positional", "valueHint": "dir", "isRepeated": True}, {"dir": ["x", "y"]}, ["x", "y"]),
        ({"type": "positional", "isRequired": True}, {"argument-1": "x"}, ["x"]),
        ({"type": "named", "name": "--port"}, {}, ["--port"]),
        ({"type": "named", "name": "--port", "value": "1"}, {}, ["--port", "1"]),
        ({"type": "named", "name": "--port", "description": "the port"}, {}, []),
        ({"type": "named", "name": "--port", "description": "the port"}, {"port": "1"}, ["--port", "1"]),
        (
            {"type": "named", "name": "--p", "default": "1", "isRepeated": True},
            {"p": ["1", "2"]},
            ["--p", "1", "--p", "2"],
        ),
        ({"type": "named", "name": "--verbose", "value": "true", "format": "boolean"}, {}, ["--verbose"]),
        ({"type": "named", "name": "--verbose", "value": "false", "format": "boolean"}, {}, []),
        ({"type": "named", "name": "--verbose", "format": "boolean"}, {}, []),
        ({"type": "named", "name": "--verbose", "format": "boolean"}, {"verbose": "true"}, ["--verbose"]),
        (
            {
                "type": "named",
                "name": "--u",
                "value": "{a}:{b}:{c}",
                "variables": {"a": {"default": "1"}, "b": {"value": "2"}},
            },
            {},
            ["--u", "1:2:{c}"],
        ),
        (
            {"type": "named", "name": "--u", "value": "{a}", "variables": {"a": {"isRequired": True}}},
            {},
            ["--u", "<a>"],
        ),
        ({"type": "named", "name": "--u", "value": "{a}", "variables": {"a": {}}}, {}, []),
    ],
)
def test_an_argument_is_the_words_that_it_stands_for(
    argument: dict[str, object], values: dict[str, str | list[str]], expected: list[str]
) -> None:
    made = planned(server(packageArguments=[argument]), values=values)
    assert words(made) == ["docker", "run", "-i", "--rm", "example/x:1", *expected]


def test_of_snake_case_every_field_is_known() -> None:
    old = {
        "registry_type": "npm",
        "identifier": "@modelcontextprotocol/server-filesystem",
        "version": "2026.8.31",
        "registry_base_url": "https://registry.npmjs.org",
        "package_arguments": [{"type": "positional", "value_hint": "dir", "is_required": True, "is_repeated": True}],
        "environment_variables": [{"name": "A", "is_required": True, "is_secret": True}],
    }
    made = planned(json.dumps({"name": "x", "packages": [old]}))
    assert [
        (needed.input.id, needed.missing, needed.input.secret, needed.input.repeated) for needed in made.inputs
    ] == [
        ("dir", True, False, True),
        ("A", True, True, False),
    ]


def test_an_environment_variable_is_asked_for_as_it_is_described() -> None:
    variables = [
        {"name": "API_URL", "description": "Where", "isRequired": True, "format": "string"},
        {"name": "API_AUTH", "isSecret": True},
        {"name": "MODE", "default": "a", "choices": ["a", "b"]},
        {"name": "FIXED", "value": "Bearer {t}", "variables": {"t": {"isSecret": True, "isRequired": True}}},
        {"name": "FLAG", "format": "boolean"},
    ]
    text = server(environmentVariables=variables)
    inputs = {needed.input.id: needed for needed in planned(text).inputs}
    assert [name for name, needed in inputs.items() if needed.missing] == ["API_URL", "t"]
    assert [name for name, needed in inputs.items() if needed.input.secret] == ["API_AUTH", "t"]
    assert inputs["API_URL"].input.description == "Where"
    assert inputs["FLAG"].input.choices == ("true", "false")
    made = planned(text, values={"API_URL": "u", "t": "s3cret"})
    assert made.request == StartRequest(
        image="example/x:1", env={"API_URL": "u", "MODE": "a", "FIXED": "Bearer s3cret"}
    )


def test_what_the_options_of_docker_set_is_part_of_the_environment() -> None:
    arguments = [
        {"type": "positional", "value": "run"},
        {"type": "named", "name": "-i", "value": "true", "format": "boolean"},
        {"type": "named", "name": "--rm"},
        {"type": "named", "name": "-e", "value": "A={a}", "variables": {"a": {"isSecret": True, "isRequired": True}}},
        {"type": "named", "name": "--env", "value": "B={b}", "variables": {"b": {}}},
        {"type": "named", "name": "-e", "value": "C=c"},
        {"type": "positional", "value": "example/x"},
    ]
    made = planned(server(runtimeArguments=arguments), values={"a": "s3cret"})
    assert made.request == StartRequest(image="example/x:1", env={"A": "s3cret", "C": "c"})
    assert words(made) == ["docker", "run", "-i", "--rm", "example/x:1"]
    twice = server(runtimeArguments=arguments, environmentVariables=[{"name": "C", "value": "d"}])
    assert ReasonKind.MALFORMED in {reason.kind for reason in planned(twice).reasons}


def test_a_path_that_is_given_for_an_argument_becomes_a_mount() -> None:
    argument = {"type": "positional", "valueHint": "dir", "format": "filepath", "isRequired": True, "isRepeated": True}
    text = filesystem(packageArguments=[argument])
    made = planned(text, values={"dir": ["/Users/me/a", "/Users/me/b"]}, granted=["a", "b"])
    assert made.request == StartRequest(image=FILESYSTEM, args=["/data/a", "/data/b"], mounts=["a", "b"])


@pytest.mark.parametrize(
    ("package", "loc", "kind"),
    [
        ({"registryType": "nuget"}, "registryType", ReasonKind.UNSUPPORTED),
        ({"registryType": "mcpb"}, "registryType", ReasonKind.UNSUPPORTED),
        ({"transport": {"type": "streamable-http", "url": "http://x"}}, "transport", ReasonKind.UNSUPPORTED),
        (
            {"registryType": "npm", "identifier": "x", "registryBaseUrl": "https://npm.example"},
            "registryBaseUrl",
            ReasonKind.UNSUPPORTED,
        ),
        ({"identifier": None}, "identifier", ReasonKind.MALFORMED),
        ({"identifier": 1}, "identifier", ReasonKind.MALFORMED),
        ({"packageArguments": {}}, "packageArguments", ReasonKind.MALFORMED),
        ({"packageArguments": [1]}, "packageArguments.0", ReasonKind.MALFORMED),
        ({"packageArguments": [{"type": "named"}]}, "packageArguments.0", ReasonKind.MALFORMED),
        ({"environmentVariables": [{}]}, "environmentVariables.0", ReasonKind.MALFORMED),
        ({"environmentVariables": [{"name": "A"}, {"name": "A"}]}, "environmentVariables.1", ReasonKind.MALFORMED),
    ],
)
def test_what_cannot_be_started_is_refused_with_its_place(
    package: dict[str, object], loc: str, kind: ReasonKind
) -> None:
    made = planned(server(**package))
    assert made.verdict is Verdict.REFUSED
    assert (f"packages.0.{loc}", kind) in [(reason.loc, reason.kind) for reason in made.reasons]


@pytest.mark.parametrize("junk", [1, "x", [], {}, None, True, [[]], {"a": 1}])
@pytest.mark.parametrize("place", ["package", "argument", "variable", "input"])
def test_junk_anywhere_is_a_reason_or_an_error_with_a_place(junk: Any, place: str) -> None:
    for key in (
        *("registryType", "identifier", "version", "transport", "runtimeArguments", "packageArguments", "type"),
        *("environmentVariables", "name", "value", "variables", "default", "choices", "isSecret", "description"),
    ):
        package: dict[str, Any] = {"registryType": "oci", "identifier": "x/y:1"}
        if place == "package":
            package[key] = junk
        elif place == "argument":
            package["packageArguments"] = [{"type": "named", "name": "--x", "value": "{v}", key: junk}]
        elif place == "variable":
            package["environmentVariables"] = [{"name": "X", key: junk}]
        else:
            value = {"type": "named", "name": "--x", "value": "{v}", "variables": {"v": {key: junk}}}
            package["packageArguments"] = [value]
        made = planned(json.dumps({"name": "x", "packages": [package]}))
        assert all(reason.loc.startswith(("packages.0", "server.json")) for reason in made.reasons)


def test_a_server_that_is_both_has_its_packages_read_only() -> None:
    remotes = [{"type": "sse", "url": "https://x.example/sse"}]
    document = {"name": "a/x", "packages": [{"registryType": "oci", "identifier": "x/y:1"}], "remotes": remotes}
    assert [len(server) for server in read_document(json.dumps(document))] == [1]
    [reason] = planned(json.dumps({"name": "a/x", "remotes": remotes})).reasons
    assert (reason.kind, reason.loc) == (ReasonKind.REMOTE, "remotes.0")
