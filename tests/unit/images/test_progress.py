import io

import pytest
from rich.console import Console

from doogie_images.progress import Progress


def test_a_pipe_gets_a_line_when_a_step_begins_and_one_when_it_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress()
    with progress.step("resolving x") as step:
        step.say("a line of a program's log")
        step.result = "x 1.0"
    progress.note("by the way")
    printed = capsys.readouterr()
    begun, done, note = printed.err.splitlines()
    assert (begun, note, printed.out) == ("resolving x …", "by the way", "")
    assert done.startswith("resolving x: x 1.0 (0.")


def test_a_step_that_fails_says_no_more(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError), Progress().step("resolving x"):
        raise RuntimeError
    assert capsys.readouterr().err == "resolving x …\n"


def test_a_terminal_shows_what_is_going_on_on_one_line_and_obeys_no_program() -> None:
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=60, highlight=False)
    with Progress(console).step("resolving x") as step:
        step.say("\x1b]0;title\x07 harmless [red]text[/red] " + "long " * 40)
        console.file.flush()
        step.result = "x 1.0\x1b[31m"
    text = shown.getvalue()
    assert "\x1b]0;" not in text
    assert "\x1b[31m" not in text
    assert "resolving x: x 1.0\\x1b[31m (0." in text
