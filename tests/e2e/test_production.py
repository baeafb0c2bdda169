"""The production variant of the stack: what Compose makes of the two files, and a server that really runs in it."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.harness import ENGINE_SOCKET, docker, inspect

ROOT = Path(__file__).parents[2]
PROJECT = "doogie-production-test"
INSTANCE = "productiontest"


def environment(directory: Path) -> dict[str, str]:
    """What an operator sets; the images are the ones that compose.yaml builds here."""
    return {
        **os.environ,
        "COMPOSE_PROJECT_NAME": PROJECT,
        "COMPOSE_FILE": "compose.yaml:deploy/compose.production.yaml",
        "DOOGIE_PROXY_INSTANCE": INSTANCE,
        "DOOGIE_PROXY_IMAGE": "doogie-proxy:latest",
        "DOOGIE_CHAT_IMAGE": "doogie-chat:latest",
        "DOOGIE_ENGINE_GID": str(Path(ENGINE_SOCKET).stat().st_gid),
        "DOOGIE_CONFIG_DIR": str(directory / "etc"),
        "DOOGIE_SECRETS_DIR": str(directory / "secrets"),
        "DOOGIE_AUDIT_DIR": str(directory / "audit"),
    }


class Stack:
    """``docker compose`` with the two files."""

    def __init__(self, directory: Path) -> None:
        self.environment = environment(directory)

    def run(self, *arguments: str, **changed: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["docker", "compose", *arguments],
            check=False,
            cwd=ROOT,
            env={**self.environment, **changed},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def __call__(self, *arguments: str, **changed: str) -> str:
        done = self.run(*arguments, **changed)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def wait_until_ready(self) -> None:
        """Ask more often than the health check of the stack does."""
        deadline = time.monotonic() + 60
        while (asked := self.run("exec", "-T", "proxy", "doogie-proxy-entrypoint", "health")).returncode != 0:
            assert time.monotonic() < deadline, asked.stdout + asked.stderr
            time.sleep(0.2)


@pytest.fixture
def stack(engine: str, tmp_path: Path) -> Iterator[Stack]:
    """The proxy, up, with directories of this test."""
    for name in ("etc", "secrets", "audit"):
        (tmp_path / name).mkdir()
    (tmp_path / "audit").chmod(0o777)  # the operator gives it to uid 10000, a test need not be root
    stack = Stack(tmp_path)
    try:
        stack("build", "--quiet", "init", "chat", COMPOSE_FILE="compose.yaml")
        stack("up", "--detach", "--no-build", "proxy")
        stack.wait_until_ready()
        yield stack
    finally:
        if left := docker("ps", "-aq", "--filter", f"label=io.doogie.instance={INSTANCE}").split():
            docker("rm", "--force", "--volumes", *left)
        stack("down", "--volumes", "--remove-orphans")


def configuration(directory: Path) -> Any:
    return json.loads(Stack(directory)("config", "--format", "json"))


def test_production_builds_nothing_and_asks_for_what_it_cannot_know(tmp_path: Path) -> None:
    services = configuration(tmp_path)["services"]
    assert set(services) == {"init", "proxy", "chat"}
    assert not any("build" in service for service in services.values())
    for name in ("DOOGIE_PROXY_IMAGE", "DOOGIE_CHAT_IMAGE", "DOOGIE_ENGINE_GID"):
        with pytest.raises(AssertionError, match=name):
            Stack(tmp_path)("config", "--quiet", **{name: ""})


def test_production_keeps_every_wall_of_the_plain_stack_and_adds_some(tmp_path: Path) -> None:
    services = configuration(tmp_path)["services"]
    for service in services.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["network_mode"] == "none"
        assert service["security_opt"] == ["no-new-privileges:true"]
    proxy = services["proxy"]
    assert proxy["user"] == "10000:10000"
    assert "cap_add" not in proxy
    assert {mount["target"]: mount.get("read_only", False) for mount in proxy["volumes"]} == {
        "/var/run/docker.sock": True,
        "/etc/doogie": True,
        "/run/secrets": True,
        "/run/doogie": False,
        "/var/lib/doogie": False,
        "/var/log/doogie": False,
    }


def test_production_runs_a_server_without_root_at_any_time(stack: Stack, tmp_path: Path) -> None:
    start = ("doogie", "start", "--json", "time", "doogie/mcp-server-time")
    started = json.loads(stack("run", "--rm", "--no-deps", "-T", "chat", *start))
    assert started["state"] == "running"
    proxy = inspect(stack("ps", "--quiet", "proxy").strip())
    assert (proxy["Config"]["User"], proxy["HostConfig"]["CapAdd"]) == ("10000:10000", None)
    process = Path(f"/proc/{proxy['State']['Pid']}")
    assert "\nCapBnd:\t0000000000000000\n" in (process / "status").read_text()
    core = next(line for line in (process / "limits").read_text().splitlines() if line.startswith("Max core file size"))
    assert core.split()[4:6] == ["0", "0"]
    lines = [json.loads(line) for line in (tmp_path / "audit" / "audit.jsonl").read_text().splitlines()]
    assert [(line["action"], line["outcome"], line["peer_uid"]) for line in lines] == [("start", "allowed", 10001)]
