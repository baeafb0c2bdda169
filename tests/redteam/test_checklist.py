"""The checklist itself: no attack is without a test, no test without its attack, and the document shows both."""

from pathlib import Path

from tests.redteam.checklist import ATTACKS, SECTIONS, defences, split, table

DOCUMENT = Path(__file__).parents[2] / "docs" / "security.md"


def test_every_attack_has_a_test() -> None:
    covered = {number for defence in defences() for number in defence.attacks}
    without = {number: attack for number, attack in ATTACKS.items() if number not in covered}
    assert without == {}


def test_no_test_names_an_attack_that_is_not_on_the_list() -> None:
    unknown = {f"{one.module}::{one.test}": set(one.attacks) - set(ATTACKS) for one in defences()}
    assert {test: numbers for test, numbers in unknown.items() if numbers} == {}


def test_sections_begin_at_attacks() -> None:
    assert set(SECTIONS) <= set(ATTACKS)


def test_the_document_shows_the_checklist_as_it_is() -> None:
    _, section, _ = split(DOCUMENT.read_text(encoding="utf-8"))
    assert section == table(), "write it anew: make redteam-table"
