"""The fuzzer, briefly; ``make fuzz`` is the long form."""

from pathlib import Path

import pytest

from tests.redteam.fuzz import fuzz
from tests.redteam.fuzz_requests import CATEGORIES, shot


@pytest.mark.redteam(1, 15, 16, 17, 18, 19, 30, 31, 32, 33, 34, 35, 38, 39, 40, 51)
async def test_whatever_it_is_sent_it_answers_with_a_problem_and_nothing_is_left(engine: str, tmp_path: Path) -> None:
    tally = await fuzz(tmp_path, seed="ci", warm_up=500, count=1_500)
    print(tally.table())
    assert tally.faults == []
    assert tally.sent.total() == 2_000
    assert tally.answers["start"]["201"] > 0, "no start has succeeded"
    assert tally.answers["websocket"]["101"] > 0, "no WebSocket was opened"
    assert set(tally.answers["auth"]) == {"400", "401"}, "400 is for two Authorization headers"


def test_a_seed_and_a_number_make_the_same_request_again() -> None:
    made = [shot("seed", number) for number in range(500)]
    assert made == [shot("seed", number) for number in range(500)]
    assert made != [shot("other", number) for number in range(500)]
    assert {one.category for one in made} == set(CATEGORIES)
