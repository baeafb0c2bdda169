"""``doogie-images`` as an operator runs it, and what it must not leave behind."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from typer.testing import CliRunner, Result

from doogie_images.cli import app
from doogie_images.images import PACKAGE_LABEL
from tests.support.harness import ENGINE_SOCKET, docker

ROOT = Path(__file__).parents[2]
DOOGIE_IMAGES = str(Path(sys.executable).with_name("doogie-images"))
ENVIRONMENT = {**os.environ, "DOCKER_HOST": f"unix://{ENGINE_SOCKET}", "PYTHONWARNINGS": "error"}


def run_builder(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """The command as a process, run to its end in the checkout, whose ``.env`` says what is built from."""
    return subprocess.run(
        [DOOGIE_IMAGES, *arguments],
        cwd=ROOT,
        env={**ENVIRONMENT, **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def doogie_images(*arguments: str) -> Result:
    """The command in this process, which need not be started, in the checkout; with what it printed."""
    result = CliRunner().invoke(app, arguments, env={"DOCKER_HOST": ENVIRONMENT["DOCKER_HOST"]})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def succeeded(*arguments: str) -> str:
    """What the command printed, after a check that it did what it was asked for."""
    done = doogie_images(*arguments)
    if done.exit_code != 0:
        raise AssertionError(f"doogie-images {' '.join(arguments)} exited with {done.exit_code}:\n{done.stderr}")
    return done.stdout


def names() -> dict[str, str]:
    """Every name of an image that the builder made, to the image's id."""
    label = f"label={PACKAGE_LABEL}"
    listed = docker("image", "ls", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}", "--filter", label)
    return dict(line.split() for line in listed.splitlines() if not line.startswith("<none>"))


@contextmanager
def engine_as_it_was(*repositories: str) -> Iterator[None]:
    """After the block, names that begin like these are those of before, each for the image it was for.

    No others are touched: what else is built on this engine meanwhile, finished or not, is not the test's.
    """
    before = names()
    try:
        yield
    finally:
        for name, image in names().items():
            if before.get(name) == image or not name.startswith(repositories):
                continue
            docker("image", "rm", name)
            if name in before:
                docker("image", "tag", before[name], name)
