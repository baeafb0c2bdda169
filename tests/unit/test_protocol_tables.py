"""docs/protocol.md is held against the code: its tables list what there is, all of it and nothing else."""

import re
from pathlib import Path

from doogie_contract.channels import Channel, CloseCode
from doogie_contract.problems import ProblemType
from doogie_proxy.api import OPERATIONS
from doogie_proxy.sessions import CODECS

DOCUMENT = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")


def rows(header: str) -> list[list[str]]:
    """The cells of the table whose first line starts with ``header``; backticks are dropped."""
    _, found, after = DOCUMENT.partition(f"\n| {header}")
    assert found, f"docs/protocol.md has no table that starts with {header!r}"
    lines = after.partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip().replace("`", "") for cell in line.strip("|").split("|")] for line in lines]


def test_the_table_of_calls_is_the_routers() -> None:
    assert [row[0] for row in rows("call |")] == [f"{operation.method} {operation.path}" for operation in OPERATIONS]


def test_every_status_that_a_call_answers_with_is_in_its_row() -> None:
    answers = {row[0]: {int(code) for code in re.findall(r"\b[1-5]\d\d\b", row[2])} for row in rows("call |")}
    assert answers == {f"{operation.method} {operation.path}": set(operation.answers) for operation in OPERATIONS}


def test_every_query_parameter_is_told() -> None:
    told = DOCUMENT.partition("\nQuery parameters: ")[2].partition("\n\n")[0]
    for operation in OPERATIONS:
        for parameter in operation.query:
            assert f"`{parameter}=" in told


def test_the_table_of_problems_is_the_enum() -> None:
    assert [tuple(row[:2]) for row in rows("type |")] == [
        (problem.slug, str(problem.status)) for problem in ProblemType
    ]


def test_the_table_of_close_codes_is_the_enum() -> None:
    assert [tuple(row[:2]) for row in rows("code |")] == [(str(int(code)), code.name) for code in CloseCode]


def test_the_table_of_channels_is_the_enum() -> None:
    assert [row[0] for row in rows("channel |")] == [f"{int(code)} {code.name.lower()}" for code in Channel]


def test_every_subprotocol_has_its_section() -> None:
    assert re.findall(r"^### `(.+)`$", DOCUMENT, re.MULTILINE) == list(CODECS)
