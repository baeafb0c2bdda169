"""``docs/security.md`` names tests, labels of tests and parts of the proxy: all of them exist."""

import ast
import importlib
import re
from pathlib import Path

import pytest

import doogie_proxy

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
TESTS = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", DOCUMENT)))
CORE = DOCUMENT.partition("\n## From a request to the engine\n")[2].partition("\n## ")[0]
MODULES = {path.stem for path in Path(doogie_proxy.__file__).parent.glob("*.py")}
NAMES = sorted({name for name in re.findall(r"`([a-z_]+\.[A-Za-z_.]+)`", CORE) if name.partition(".")[0] in MODULES})


@pytest.mark.parametrize(("file", "test"), TESTS)
def test_a_test_that_is_named_exists(file: str, test: str) -> None:
    body = ast.parse((ROOT / file).read_text(encoding="utf-8")).body
    assert test in {node.name for node in body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("name", NAMES)
def test_a_part_of_the_proxy_that_is_named_exists(name: str) -> None:
    module, *path = name.split(".")
    found = importlib.import_module(f"doogie_proxy.{module}")
    for part in path:
        found = getattr(found, part)


def test_the_way_of_a_request_names_its_stations() -> None:
    assert {"http.guard", "admission.admit", "spec.create_body", "engine.Engine.create"} <= set(NAMES)


def test_every_label_of_a_test_is_explained_once_and_used() -> None:
    explained = re.findall(r"^\| (T\d+) \| `tests/", DOCUMENT, flags=re.MULTILINE)
    assert len(explained) == len(set(explained))
    assert set(re.findall(r"\bT\d+\b", re.sub(r"^\| T\d+ \| `tests/.*$", "", DOCUMENT, flags=re.MULTILINE))) == set(
        explained
    )


def test_every_link_within_the_repository_leads_somewhere() -> None:
    anchors = {
        re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^#+ (.+)$", DOCUMENT, flags=re.MULTILINE)
    }
    for target in re.findall(r"\]\(([^)]+)\)", DOCUMENT):
        path, _, anchor = target.partition("#")
        if path:
            assert (ROOT / "docs" / path).exists(), target
        else:
            assert anchor in anchors, target
