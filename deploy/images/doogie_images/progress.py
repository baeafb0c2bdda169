"""What an operator sees while it works, on stderr: a line that moves on a terminal, lines for each step elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from doogie_client.cli.output import printable


@dataclass
class Step:
    """One step under way: what its programs say, and in the end what came of it."""

    say: Callable[[str], None]
    result: str = ""


class Progress:
    """Shows steps one after the other."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False)

    @contextmanager
    def step(self, what: str) -> Iterator[Step]:
        """Show that ``what`` is being done, then how long it took and what came of it; nothing more when it fails."""
        started = time.monotonic()
        if self._console.is_terminal:
            with self._console.status(_line(what)) as status:
                step = Step(lambda said: status.update(_line(f"{what}  {said}")))
                yield step
        else:
            self._write(f"{what} …")
            step = Step(lambda _said: None)
            yield step
        self._write(f"{what}: {step.result or 'done'} ({time.monotonic() - started:.1f} s)")

    def note(self, message: str) -> None:
        """A line that stays: something the operator should know."""
        self._write(message)

    def _write(self, message: str) -> None:
        line = printable(message).replace("\n", " ")
        if self._console.is_terminal:
            self._console.print(Text(line), soft_wrap=True)
        else:
            sys.stderr.write(line + "\n")
            sys.stderr.flush()


def _line(text: str) -> Text:
    """As much as fits on one line of the terminal."""
    return Text(printable(text).replace("\n", " "), no_wrap=True, overflow="ellipsis")
