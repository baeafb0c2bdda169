"""Whatever a document is: entries with places and reasons, or a ``DocumentError``; never another exception."""

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from doogie_client.hosts.document import read_document
from doogie_client.hosts.draft import Answers
from doogie_client.hosts.jsonc import DocumentError
from doogie_client.hosts.plan import Verdict, plan
from doogie_client.hosts.rule import to_yaml, unique_names
from tests.unit.client.hosts.documents import CATALOGUE

KEYS = (
    *("mcpServers", "servers", "mcp", "context_servers", "inputs", "packages", "remotes", "server", "name", "command"),
    *("args", "env", "environment", "type", "url", "serverUrl", "envFile", "cwd", "disabled", "enabled", "description"),
    *("doogie", "secrets", "mounts", "id", "default", "options", "password", "registryType", "identifier", "version"),
    *("transport", "runtimeArguments", "packageArguments", "environmentVariables", "value", "variables", "isRequired"),
    *("isSecret", "isRepeated", "choices", "format", "valueHint", "path", "x"),
)
WORDS = (
    *(
        "docker",
        "run",
        "npx",
        "uvx",
        "-y",
        "-i",
        "--rm",
        "-e",
        "-v",
        "--mount",
        "--env=A=${A}",
        "A=${A:-b}",
        "mcp/time",
    ),
    *(
        "type=bind,src=/Users/me,dst=/x",
        "/Users/me:/x",
        "C:\\x",
        "~",
        ".",
        "${workspaceFolder}/x",
        "${input:a}",
        "${A}",
    ),
    *(
        "<token>",
        "your-key",
        "***",
        "...",
        "@modelcontextprotocol/server-filesystem",
        "mcp-server-time",
        "stdio",
        "http",
    ),
    *("npm", "pypi", "oci", "named", "positional", "boolean", "true", "https://x.example/mcp", "doogie", "\0", "", "-"),
    *(
        "doogie/mcp-server-time:2026.10.19",
        "--network=host",
        "-m",
        "1g",
        "$(pwd)",
        "'",
        '"',
        "claude",
        "{a}",
        "a,b:c;d",
    ),
)
scalars = st.sampled_from(WORDS) | st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
documents = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=6) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=3), inner, max_size=5)
    ),
    max_leaves=30,
)
servers = st.fixed_dictionaries(
    {"command": st.sampled_from(WORDS) | documents},
    optional={
        "args": st.lists(st.sampled_from(WORDS) | st.text(), max_size=8) | documents,
        "env": st.dictionaries(st.sampled_from(["A", "B", "API_TOKEN"]), scalars, max_size=3) | documents,
        "envFile": scalars,
        "doogie": documents,
    },
)
hosts = st.builds(lambda inner: {"mcpServers": inner}, st.dictionaries(st.text(max_size=4), servers, max_size=3))
arguments = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(
        ("type", "name", "value", "valueHint", "default", "format", "variables"), scalars | documents
    ),
)
packages = st.fixed_dictionaries(
    {"registryType": st.sampled_from(["npm", "pypi", "oci"]), "identifier": st.sampled_from(WORDS) | documents},
    optional={key: st.lists(arguments, max_size=4) | documents for key in ("runtimeArguments", "packageArguments")},
)
registry = st.builds(lambda inner: {"name": "a/b", "packages": inner}, st.lists(packages, max_size=3))
answers = st.builds(
    Answers,
    values=st.dictionaries(
        st.sampled_from(["A", "a", "token", "API_TOKEN"]), st.sampled_from(WORDS) | st.lists(st.text())
    ),
    secrets=st.dictionaries(st.sampled_from(["A", "a", "API_TOKEN"]), st.just("github")),
)


def check(text: str | bytes, given_answers: Answers, granted: list[str] | None) -> None:
    try:
        found = read_document(text)
    except DocumentError:
        return
    made = [plan(entry, given_answers, CATALOGUE, granted=granted) for server in found for entry in server]
    for each in made:
        assert (each.verdict is Verdict.READY) == (not each.reasons)
        assert (each.request is not None) == (each.command is not None) == (each.verdict is Verdict.READY)
        assert all(reason.loc and reason.msg for reason in each.reasons if each.entry.loc)
        assert each.verdict is not Verdict.NEEDS_OPERATOR or any(reason.ask for reason in each.reasons)
    to_yaml(unique_names([each.rule for each in made if each.rule is not None]))


@given(documents | hosts | registry, answers, st.none() | st.just(["x"]))
@example({"mcpServers": {"": {"command": "docker", "args": ["run", "-v"]}}}, Answers(), None)
@example({"mcpServers": {"": {"command": "A=${A}", "args": ["B=${B}"]}}}, Answers(), None)
def test_any_json_is_read_or_refused(document: Any, given_answers: Answers, granted: list[str] | None) -> None:
    check(json.dumps(document), given_answers, granted)


@given(st.text() | st.lists(st.sampled_from(WORDS)).map(" ".join) | st.binary())
def test_any_text_is_read_or_refused(text: str | bytes) -> None:
    check(text, Answers(), None)


@given(hosts, st.data())
def test_a_document_that_is_cut_or_has_something_in_it_is_read_or_refused(document: Any, data: st.DataObject) -> None:
    text = json.dumps(document)
    at = data.draw(st.integers(0, len(text)))
    check(text[:at], Answers(), None)
    check(text[:at] + data.draw(st.text(max_size=3)) + text[at:], Answers(), None)
