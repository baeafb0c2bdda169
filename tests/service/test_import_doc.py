"""docs/import.md: what it shows is what happens."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from doogie_client.service.sql import SqlConfigStore
from doogie_proxy.policy_file import parse
from tests.service.imports import document, imported

on_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)

TEXT = (Path(__file__).parents[2] / "docs" / "import.md").read_text()
BLOCKS = re.findall(r"<!-- ([a-z ]+) -->\n```[a-z]+\n(.*?)```\n", TEXT, re.DOTALL)


def blocks(kind: str) -> list[str]:
    return [text for found, text in BLOCKS if found == kind]


def test_every_example_is_tried() -> None:
    tried = {"document", "report", "import", "for the operator", "python", "desktop"}
    assert {kind for kind, _ in BLOCKS} == tried
    assert TEXT.count("\n```\n") == len(BLOCKS)


@on_sqlite
async def test_the_reports_are_as_shown(store: SqlConfigStore) -> None:
    [text] = blocks("document")
    options: list[dict[str, Any]] = [{}, *map(json.loads, blocks("import"))]
    for given, shown in zip(options, blocks("report"), strict=True):
        report = await imported(store, text, **given)
        servers = YAML(typ="safe").load(shown)
        assert [server["name"] for server in servers] == [server.name for server in report.servers]
        for expected, server in zip(servers, report.servers, strict=True):
            assert expected["outcome"] == server.outcome.value
            assert expected.get("missing", []) == [known.id for known in server.inputs if known.missing]
            if "args" in expected:
                assert server.command is not None
                assert (expected["args"], expected["mounts"]) == (server.command.args, server.command.mounts)
    [handed_over] = blocks("for the operator")
    assert report.for_operator == handed_over
    built = handed_over.replace("[IMAGE]", '["a/b:1"]\n    allow_tags: true')
    assert [rule.name for rule in parse(f"version: 1\nclients: {{}}\n{built}").rules] == ["files", "brave"]


@on_sqlite
async def test_the_python_runs(store: SqlConfigStore, capsys: pytest.CaptureFixture[str]) -> None:
    [code] = blocks("python")
    body = "".join(f"    {line}\n" for line in code.splitlines())
    found: dict[str, Any] = {}
    exec(f"async def example(store, text):\n{body}    return desktop, backup\n", found)  # of this repository
    desktop, backup = await found["example"](store, document(time={"command": "uvx", "args": ["mcp-server-time"]}))
    assert capsys.readouterr().out.endswith("time created []\n")  # behind what is logged
    assert [desktop] == [json.loads(shown) for shown in blocks("desktop")]
    assert backup["mcpServers"]["time"]["args"] == ["mcp-server-time"]
