"""``docs/chat-api.md`` against the code: calls, differences, problems, settings, log events."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import doogie_client.web
from doogie_client.web.operation import Access
from doogie_client.web.operations import OPERATIONS
from doogie_client.web.problems import ChatProblem
from doogie_client.web.settings import PREFIX, WebSettings
from tests.web.old_api import DIFFERENCES

ROOT = Path(__file__).parents[3]
DOCUMENT = (ROOT / "docs" / "chat-api.md").read_text(encoding="utf-8")
SOURCES = {path.name: path.read_text(encoding="utf-8") for path in Path(doogie_client.web.__file__).parent.glob("*.py")}

LEVELS = {"debug": "debug", "info": "info", "warning": "warning", "error": "error", "exception": "error"}
WHO = {Access.ANYONE: "anyone", Access.USER: "users", Access.ADMIN: "admins"}


def table(heading: str) -> list[list[str]]:
    """The rows of the first table below a heading, without its head."""
    lines = iter(DOCUMENT.partition(f"\n{heading}\n")[2].splitlines())
    rows = []
    for line in lines:
        if line.startswith("|"):
            rows.append([cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip("|"))])
        elif rows:
            break
    return rows[2:]


def default_of(name: str) -> str:
    field = WebSettings.model_fields[name]
    if name == "run_dir":
        return "of the user and the database, in `/tmp`"
    return f"`{field.default:g}`" if isinstance(field.default, float) else f"`{field.default}`"


def test_the_table_of_calls_is_the_api() -> None:
    expected = [[f"`{one.method} {one.path}`", WHO[one.access], one.summary] for one in OPERATIONS]
    assert table("## Calls") == expected


def test_the_table_of_differences_is_the_one_that_tests_show() -> None:
    assert table("## The old API") == [[one.call, one.old, one.new, one.why] for one in DIFFERENCES]


def test_the_table_of_problems_is_the_chat_sides() -> None:
    assert table("## Errors") == [[f"`{one.slug}`", str(one.status), one.title] for one in ChatProblem]


def test_the_table_of_settings_is_the_settings() -> None:
    expected = [
        [f"`{PREFIX}{name.upper()}`", default_of(name), field.description]
        for name, field in WebSettings.model_fields.items()
    ]
    assert table("## Settings") == expected


def logged() -> Iterator[tuple[str, str]]:
    """Every event of the web app's loggers with its level; ``note`` of the guard is either."""
    for source in SOURCES.values():
        for node in ast.walk(ast.parse(source)):
            match node:
                case ast.Call(func=ast.Attribute(ast.Name("log"), attr=method), args=[ast.Constant(str(event)), *_]):
                    if method in LEVELS:
                        yield event, LEVELS[method]
                case ast.Call(func=ast.Name("note"), args=[ast.Constant(str(event)), *_]):
                    yield from ((event, "info"), (event, "debug"))


def test_the_table_of_events_is_what_the_code_logs() -> None:
    documented = [(event.strip("`"), level) for event, level, _ in table("## The log")]
    assert len(documented) == len(set(documented))
    assert set(documented) == set(logged())
