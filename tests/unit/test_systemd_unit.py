"""The systemd unit: systemd understands every line of it, and finds next to nothing that it leaves open."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from doogie_proxy.settings import PREFIX, Settings

UNIT = Path(__file__).parents[2] / "deploy" / "systemd" / "doogie-proxy.service"
EXPOSURE_AT_MOST = 0.5
"""Of 10. What is left: the host's root directory, groups, unix sockets, and that it sees the uids of its clients."""


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with this environment's proxy as its program, because systemd looks whether that is there."""
    program = Path(sys.executable).with_name("doogie-proxy")
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("/opt/doogie/bin/doogie-proxy", str(program)))
    return copy


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", "--no-pager", *arguments],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
        text=True,
        timeout=60,
    )


def test_systemd_understands_every_line_of_the_unit(unit: Path) -> None:
    done = analyze("verify", "--recursive-errors=no", str(unit))
    assert (done.returncode, done.stdout) == (0, "")


def test_systemd_finds_next_to_nothing_that_the_unit_leaves_open(unit: Path) -> None:
    done = analyze("security", "--offline=true", f"--threshold={EXPOSURE_AT_MOST * 10:g}", str(unit))
    assert done.returncode == 0, done.stdout


def test_the_units_settings_are_settings_of_the_proxy() -> None:
    given = re.findall(rf"{PREFIX}([A-Z_]+)=", UNIT.read_text())
    assert set(given) == {"LISTEN", "POLICY", "SIGNING_KEY_FILE"}
    assert {name.lower() for name in given} <= set(Settings.model_fields)
