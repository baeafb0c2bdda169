"""docs/commands.md is held against the code: its tables, its examples, its catalogue."""

import re
from pathlib import Path

import pytest

from doogie_client.commands import Catalogue, FaultKind
from tests.unit.client.commands.documented import TABLES, rows
from tests.unit.client.commands.reading import SHIPPED, faults

DOCUMENT = (Path(__file__).parents[4] / "docs" / "commands.md").read_text(encoding="utf-8")


def test_every_table_of_options_has_its_section() -> None:
    assert re.findall(r"^### (.+)$", DOCUMENT, re.MULTILINE) == list(TABLES)


@pytest.mark.parametrize("heading", TABLES)
def test_the_table_of_options_is_the_codes(heading: str) -> None:
    section = DOCUMENT.partition(f"\n### {heading}\n\n")[2].partition("\n\n")[0]
    assert section.splitlines()[2:] == rows(TABLES[heading])


def test_every_kind_of_fault_is_told() -> None:
    table = DOCUMENT.partition("| `kind` | who mends it |\n")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == [str(kind) for kind in FaultKind]


@pytest.mark.parametrize(("line", "shown"), re.findall(r"<!-- faults: (.+) -->\n```\n((?:.+\n)+)```", DOCUMENT))
def test_an_answer_that_is_shown_is_the_one_that_is_given(line: str, shown: str) -> None:
    given = ""
    for fault in faults(line):
        given += f"{fault.kind}  {fault.msg}\n{' ' * (len(fault.kind) + 2)}{fault.ask}\n"
    assert given == shown


def test_the_catalogue_that_is_shown_is_one() -> None:
    (text,) = re.findall(r"<!-- valid catalogue -->\n```yaml\n(.*?)```", DOCUMENT, re.DOTALL)
    assert [entry.image for entry in Catalogue.parse(text).entries] == [
        "registry.example/server:1.2.3",
        "registry.example/toolbox:2.0.0",
    ]


def test_the_example_in_python_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    exec(compile(code, "docs/commands.md", "exec"), {})
    assert SHIPPED.entries[0].image in capsys.readouterr().out
