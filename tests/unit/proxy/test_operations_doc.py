"""``docs/operations.md`` against the code: settings, log events, reasons of readiness."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import doogie_proxy
from doogie_proxy.settings import PREFIX, Settings

ROOT = Path(__file__).parents[3]
DOCUMENT = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
SOURCES = {path.name: path.read_text(encoding="utf-8") for path in Path(doogie_proxy.__file__).parent.glob("*.py")}

LEVELS = {"debug": "debug", "info": "info", "warning": "warning", "error": "error", "exception": "error"}


def table(heading: str) -> list[list[str]]:
    """The rows of the first table below a heading, without its head."""
    lines = iter(DOCUMENT.partition(f"\n{heading}\n")[2].splitlines())
    rows = []
    for line in lines:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
        elif rows:
            break
    return rows[2:]


def default_of(name: str) -> str:
    default = Settings.model_fields[name].default
    return f"{default:g}" if isinstance(default, float) else str(default)


def calls() -> Iterator[tuple[ast.Call, str]]:
    """Every call of a logger, ``log.info(…)``, with its level; one whose level depends comes with each level."""
    for source in SOURCES.values():
        levels: dict[str, set[str]] = {}
        for node in ast.walk(ast.parse(source)):
            match node:
                case ast.Assign(
                    targets=[ast.Name(name)],
                    value=ast.IfExp(
                        body=ast.Attribute(ast.Name("log"), attr=one), orelse=ast.Attribute(ast.Name("log"), attr=other)
                    ),
                ):
                    levels[name] = {LEVELS[one], LEVELS[other]}
                case ast.Call(func=ast.Attribute(ast.Name("log"), attr=method)) if method in LEVELS:
                    yield node, LEVELS[method]
                case ast.Call(func=ast.Name(name)) if name in levels:
                    yield from ((node, level) for level in levels[name])


def test_the_table_of_settings_is_the_settings() -> None:
    expected = [
        [f"`{PREFIX}{name.upper()}`", f"`{default_of(name)}`", field.description]
        for name, field in Settings.model_fields.items()
    ]
    assert table("## Settings") == expected


def test_the_table_of_events_is_what_the_code_logs() -> None:
    documented = [(event.strip("`"), level) for event, level, _ in table("## The log")]
    assert len(documented) == len(set(documented))
    assert set(documented) == {(ast.literal_eval(call.args[0]), level) for call, level in calls()}


@pytest.mark.parametrize("reason", [row[0].strip("`") for row in table("## Readiness")])
def test_a_reason_of_readiness_is_one_that_the_code_gives(reason: str) -> None:
    code = "\n".join(SOURCES.values())
    code = code.replace("{_text(OLDEST_API)}", "1.41").replace("{_text(NEWEST_API)}", "1.51")
    for part in reason.split("…"):
        assert part in code
