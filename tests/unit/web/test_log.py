"""What a failure leaves in the log."""

import subprocess
import sys

import pytest

FAILING = """
import sys
import structlog
from doogie_client.web import log

def fail(token):
    1 / 0

log.configure("info", sys.argv[1])
try:
    fail("planted-" + "secret")
except ZeroDivisionError:
    structlog.get_logger("test").exception("internal_error")
"""


@pytest.mark.parametrize("format_", ["json", "console"])
def test_a_traceback_says_where_and_shows_no_values(format_: str) -> None:
    done = subprocess.run([sys.executable, "-c", FAILING, format_], check=True, capture_output=True, text=True)
    assert "ZeroDivisionError: division by zero" in done.stdout
    assert "planted-secret" not in done.stdout


NASTY = """
import sys
import structlog
from doogie_client.web import log

log.configure("info", sys.argv[1])
for text in ("a\\r\\nb", "\\x1b[31m", "\\u2028", "\\u202ex", "\\x85", "a b\\x1b[2J"):
    structlog.get_logger("test").info("event", text=text, texts=[text], **{"key": {text: text}})
"""


@pytest.mark.parametrize("format_", ["json", "console"])
def test_whatever_is_logged_stays_on_its_line_and_does_nothing_to_a_terminal(format_: str) -> None:
    done = subprocess.run([sys.executable, "-c", NASTY, format_], check=True, capture_output=True, text=True)
    lines = done.stdout.removesuffix("\n").split("\n")
    assert len(lines) == 6
    assert all(line.isprintable() for line in lines)
