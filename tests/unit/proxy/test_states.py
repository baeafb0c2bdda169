"""The states of a server's name: what may follow what, as the documentation says it."""

from itertools import product
from pathlib import Path

import pytest

from doogie_contract.models import ServerState
from doogie_proxy.states import TRANSITIONS, IllegalTransitionError, require_legal

DOCUMENT = (Path(__file__).parents[3] / "docs" / "protocol.md").read_text(encoding="utf-8")


def test_every_state_is_reached_and_left() -> None:
    assert {old for old, _ in TRANSITIONS} == {new for _, new in TRANSITIONS} == set(ServerState)


@pytest.mark.parametrize(("old", "new"), sorted(product(ServerState, ServerState)))
def test_what_the_table_does_not_have_is_refused(old: ServerState, new: ServerState) -> None:
    if (old, new) in TRANSITIONS:
        require_legal(old, new)
    else:
        with pytest.raises(IllegalTransitionError, match=f"{old} to {new}"):
            require_legal(old, new)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("absent", "created"),
        ("running", "created"),
        ("exited", "running"),
        ("stopping", "running"),
        ("running", "absent"),
    ],
)
def test_no_server_runs_unmade_comes_back_or_goes_without_an_end(old: str, new: str) -> None:
    with pytest.raises(IllegalTransitionError):
        require_legal(ServerState(old), ServerState(new))


def test_the_documentation_has_every_state() -> None:
    table = DOCUMENT.partition("\n| state |")[2].partition("\n\n")[0].splitlines()[2:]
    assert [row.split("|")[1].strip(" `") for row in table] == [state.value for state in ServerState]
