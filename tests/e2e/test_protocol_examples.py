"""The examples of docs/protocol.md, run as they stand: in the tools image, and in Python."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.programs import run
from tests.support.harness import ENGINE_SOCKET, TOKEN, ProxyUnderTest

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")


def examples(marker: str) -> list[str]:
    """The code blocks that a marker stands before."""
    return re.findall(rf"^<!-- {marker} -->\n```\w+\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="session")
def tools_image() -> str:
    """The image of compose.yaml's service ``tools``, up to date."""
    command = ["docker", "--host", f"unix://{ENGINE_SOCKET}", "compose", "build", "--quiet", "tools"]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    if built.returncode != 0:
        pytest.fail(f"{' '.join(command)} exited with {built.returncode}:\n{built.stderr}", pytrace=False)
    return "doogie-tools"


async def test_shell_examples_lead_a_server_from_start_to_stop(
    mcp_proxy: ProxyUnderTest, tools_image: str, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text(TOKEN)
    written = examples("run in tools")
    assert len(written) == 4
    done = await run(
        *("docker", "--host", f"unix://{ENGINE_SOCKET}", "run", "--rm", "--network", "none"),
        *("--user", f"{os.getuid()}:{os.getgid()}", "--volume", f"{tmp_path}:/run/doogie:ro"),
        *("--env", f"DOOGIE_PROXY_URL=unix:///run/doogie/{mcp_proxy.socket.name}"),
        *("--env", "DOOGIE_PROXY_TOKEN_FILE=/run/doogie/token", tools_image),
        "set -eu\n" + "\necho\n".join(written),
    )
    assert (done.code, done.stderr) == (0, "")
    # The answers follow one another, on lines or not; the log is empty.
    answers = []
    text = done.stdout.decode().strip()
    while text:
        answer, end = json.JSONDecoder().raw_decode(text)
        answers.append(answer)
        text = text[end:].lstrip()
    policy, admission, started, status, initialized, pong, stopped = answers
    assert [rule["name"] for rule in policy["rules"]] == ["time", "everything", "filesystem"]
    assert admission["rule"] == "time"
    assert started["state"] == status["state"] == "running"
    assert initialized["result"]["serverInfo"]["name"] == "mcp-time"
    assert pong == {"jsonrpc": "2.0", "id": 2, "result": {}}
    assert stopped["state"] == "absent"


async def test_python_example_pings_a_server(mcp_proxy: ProxyUnderTest, tmp_path: Path) -> None:
    token_file = tmp_path / "token"
    token_file.write_text(TOKEN)
    (example,) = examples("run in python")
    environment = {
        "DOOGIE_PROXY_URL": f"unix://{mcp_proxy.socket}",
        "DOOGIE_PROXY_TOKEN_FILE": str(token_file),
        "PYTHONWARNINGS": "error",
    }
    done = await run(sys.executable, "-c", example, environment=environment)
    assert (done.code, done.stderr) == (0, "")
    answer, _, state = done.stdout.decode().splitlines()  # the answer ends with a newline of its own
    assert json.loads(answer) == {"jsonrpc": "2.0", "id": 1, "result": {}}
    assert state == "absent"
