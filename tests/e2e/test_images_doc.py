"""The commands of docs/images.md, as they stand, in a checkout."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.builder import DOOGIE_IMAGES, ENVIRONMENT, ROOT, engine_as_it_was
from tests.e2e.published import REPOSITORIES

BLOCKS = [
    (script, int(code or 0))
    for code, script in re.findall(
        r"<!-- run(?:: exit (\d))? -->\n```sh\n(.*?)```", (ROOT / "docs" / "images.md").read_text(), flags=re.DOTALL
    )
]


@pytest.fixture(scope="module")
def checkout(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working directory that has what the commands take from a checkout."""
    directory = tmp_path_factory.mktemp("checkout")
    for name in ("contract", "chat_client", "deploy", "docs", ".env"):
        (directory / name).symlink_to(ROOT / name)
    with engine_as_it_was(*REPOSITORIES):
        yield directory


@pytest.mark.parametrize(("script", "code"), BLOCKS, ids=[script.split("\n")[0][:60] for script, _ in BLOCKS])
def test_commands_of_the_document_do_what_it_says(checkout: Path, script: str, code: int) -> None:
    path = os.pathsep.join([str(Path(DOOGIE_IMAGES).parent), ENVIRONMENT["PATH"]])
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=checkout,
        env={**ENVIRONMENT, "PATH": path, "HOME": str(checkout), "PYTHONWARNINGS": ""},  # pip has some of its own
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    if code:
        assert "the server does not run as it is started here" in done.stderr
        assert "/no/such/directory" in done.stderr
    if "update" in script:
        assert "doogie/npx/modelcontextprotocol/server-memory:" in done.stdout
        assert "up to date" in done.stderr
        assert "removed doogie/uvx/mcp-server-git:" in done.stderr
