"""The first commands of docs/integration.md, as they stand: the example in a container, in the whole stack."""

import json
import os
import socket
import subprocess
from collections.abc import Iterator

import pytest

from tests.integration.application import ROOT
from tests.integration.page import block
from tests.support.harness import docker, inspect

INSTANCE = "exampletest"
FILES = "compose.yaml:docs/examples/fastapi/compose.yaml"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture
def environment(engine: str) -> Iterator[dict[str, str]]:
    """Of a project of the test's own, which is removed at the end."""
    chosen = {
        **os.environ,
        "COMPOSE_PROJECT_NAME": "doogie-example-test",
        "DOOGIE_PROXY_INSTANCE": INSTANCE,
        "CHATBOT_PORT": str(free_port()),
    }
    try:
        yield chosen
    finally:
        subprocess.run(["docker", "compose", "stop", "proxy"], check=True, cwd=ROOT, env=chosen, capture_output=True)
        if servers := docker("ps", "-aq", "--filter", f"label=io.doogie.instance={INSTANCE}").split():
            docker("rm", "--force", "--volumes", *servers)
        down = ["docker", "compose", "down", "--volumes", "--remove-orphans"]
        subprocess.run(down, check=True, cwd=ROOT, env={**chosen, "COMPOSE_FILE": FILES}, capture_output=True)


def test_the_example_runs_in_the_place_of_the_chat_side(environment: dict[str, str]) -> None:
    script = block("compose up", "sh").replace(":8000", f":{environment['CHATBOT_PORT']}")
    command = ["bash", "-euo", "pipefail", "-c", script]
    done = subprocess.run(
        command, check=False, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    started, messages = (json.loads(line) for line in done.stdout.replace("}[", "}\n[").splitlines()[-2:])
    assert started["status"] == "running"
    (answer,) = [json.loads(message["content"])["result"] for message in messages if message["role"] == "tool"]
    assert json.loads(answer)["timezone"] == "UTC"
    project = f"label=com.docker.compose.project={environment['COMPOSE_PROJECT_NAME']}"
    (chat,) = docker("ps", "-q", "--filter", project, "--filter", "label=com.docker.compose.service=chat").split()
    assert "docker.sock" not in json.dumps(inspect(chat))
