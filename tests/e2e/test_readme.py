"""The README's commands, as they stand, and what the engine says of the stack that they bring up."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.harness import docker, inspect, process_status

ROOT = Path(__file__).parents[2]
PROJECT = "doogie-readme-test"
INSTANCE = "readmetest"
ENVIRONMENT = {**os.environ, "COMPOSE_PROJECT_NAME": PROJECT, "DOOGIE_PROXY_INSTANCE": INSTANCE}


class Block(NamedTuple):
    """A fenced block that a comment marks as runnable, with the exit code that the comment expects."""

    script: str
    exit_code: int


def blocks() -> list[Block]:
    text = (ROOT / "README.md").read_text()
    found = re.findall(r"<!-- run(?:: exit (\d))? -->\n```sh\n(.*?)```", text, flags=re.DOTALL)
    return [Block(script, int(code or 0)) for code, script in found]


BLOCKS = blocks()


def run(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        check=False,
        cwd=ROOT,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
    )


def leftovers() -> list[str]:
    """Everything on the engine that belongs to the stack or to its proxy."""
    project, instance = f"label=com.docker.compose.project={PROJECT}", f"label=io.doogie.instance={INSTANCE}"
    found = docker("ps", "-aq", "--filter", project).split() + docker("ps", "-aq", "--filter", instance).split()
    found += docker("volume", "ls", "-q", "--filter", project).split()
    return found + docker("network", "ls", "-q", "--filter", project).split()


@pytest.fixture(scope="module")
def demo() -> Iterator[str]:
    """The output of the first block, ``make demo``; the last block, ``make down``, ends it."""
    assert BLOCKS[0].script == "make demo\n"
    assert BLOCKS[-1].script == "make down\n"
    try:
        brought_up = run(BLOCKS[0].script)
        assert brought_up.returncode == 0, brought_up.stdout + brought_up.stderr
        yield brought_up.stdout
    finally:
        taken_down = run(BLOCKS[-1].script)
    assert taken_down.returncode == 0, taken_down.stdout + taken_down.stderr
    assert leftovers() == []


def container(service: str) -> str:
    return docker(
        "ps",
        "-aq",
        "--filter",
        f"label=com.docker.compose.project={PROJECT}",
        "--filter",
        f"label=com.docker.compose.service={service}",
    )


def test_demo_prints_the_answer_of_a_real_mcp_server(demo: str) -> None:
    answer = re.search(r"^\{\n.*?^\}", demo, flags=re.DOTALL | re.MULTILINE)
    assert answer is not None, demo
    assert json.loads(answer[0])["timezone"] == "UTC"
    assert re.findall(r"^  (\w+) +(created|needs_operator)", demo, flags=re.MULTILINE) == [
        ("time", "created"),
        ("everything", "created"),
        ("memory", "needs_operator"),
    ]


@pytest.mark.parametrize("block", BLOCKS[1:-1], ids=[block.script.split("\n")[0][:60] for block in BLOCKS[1:-1]])
def test_commands_of_the_readme_do_what_it_says(demo: str, block: Block) -> None:
    done = run(block.script)
    assert done.returncode == block.exit_code, done.stdout + done.stderr
    if block.exit_code:
        assert "policy-denied" in done.stderr
        assert "rules.time" in done.stderr
    if "websocat" in block.script:
        assert '"serverInfo":{"name":"mcp-time"' in done.stdout
    if "get-sum" in block.script:
        assert "42" in done.stdout
    if "/configs'" in block.script:
        configs, end = json.JSONDecoder().raw_decode(done.stdout)
        assert [config["name"] for config in configs] == ["everything", "time"]
        tools = json.loads(done.stdout[end:])["tools"]
        assert "time__get_current_time" in {tool["function"]["name"] for tool in tools}
    if "/v1/servers'" in block.script:
        assert '"name":"clock","state":"running"' in done.stdout


def test_proxy_runs_without_network_root_or_any_capability(demo: str) -> None:
    proxy = inspect(container("proxy"))
    host = proxy["HostConfig"]
    assert host["NetworkMode"] == "none"
    assert host["ReadonlyRootfs"] is True
    assert host["CapDrop"] == ["ALL"]
    assert host["Privileged"] is False
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert proxy["State"]["Health"]["Status"] == "healthy"
    status = process_status(proxy["State"]["Pid"])
    assert status["Uid"].split() == ["10000"] * 4
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    socket_gid = str(Path(os.environ.get("DOOGIE_ENGINE_SOCKET", "/var/run/docker.sock")).stat().st_gid)
    assert set(status["Groups"].split()) == {socket_gid, "10002"}
    interfaces = Path(f"/proc/{proxy['State']['Pid']}/net/dev").read_text().splitlines()[2:]
    assert [line.split(":")[0].strip() for line in interfaces] == ["lo"]


def test_chat_side_has_no_engine_socket_no_docker_command_and_no_privilege(demo: str) -> None:
    chat = inspect(container("chat"))
    assert {mount["Destination"]: mount["RW"] for mount in chat["Mounts"]} == {
        "/run/doogie": False,
        "/run/doogie-token": False,
        "/run/postgresql": False,
        "/run/doogie-chat": True,
        "/var/lib/doogie-chat": True,
    }
    assert chat["HostConfig"]["ReadonlyRootfs"] is True
    status = process_status(chat["State"]["Pid"])
    assert "0" not in status["Uid"].split()
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"
    probe = run(
        "docker compose exec -T chat sh -c '! command -v docker && ! find / -xdev -name docker.sock | grep . "
        "&& ! touch /run/doogie/x && ! rm -f /run/doogie/proxy.sock && ! cat /etc/doogie/policy.yaml'"
    )
    assert probe.returncode == 0, probe.stdout + probe.stderr


def test_tools_container_and_init_are_hardened_too(demo: str) -> None:
    for service in ("init", "chat"):
        host = inspect(container(service))["HostConfig"]
        assert host["NetworkMode"] == "none"
        assert host["ReadonlyRootfs"] is True
        assert host["CapDrop"] == ["ALL"]


def test_server_that_the_demo_started_is_hardened(demo: str) -> None:
    ids = docker("ps", "-q", "--filter", f"label=io.doogie.instance={INSTANCE}").split()
    assert ids
    for container_id in ids:
        server = inspect(container_id)
        assert server["HostConfig"]["NetworkMode"] == "none"
        status = process_status(server["State"]["Pid"])
        assert status["Uid"].split() == ["65532"] * 4
        assert status["CapEff"] == "0" * 16


def test_second_init_keeps_token_key_and_policy(demo: str) -> None:
    again = run("docker compose run --rm -T init")
    assert again.returncode == 0, again.stdout + again.stderr
    assert again.stdout.count(" kept") == 3


def test_demo_stores_its_configurations_in_postgresql_where_that_is_asked_for(demo: str) -> None:
    again = run("make demo DATABASE=postgresql")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "time        created" in again.stdout, "it was there already: the file of SQLite was used again"
    count = run(
        "docker compose exec -T postgresql psql -h /run/postgresql doogie -Atc 'select count(*) from doogie_configs'"
    )
    assert count.stdout == "2\n", count.stdout + count.stderr
    assert inspect(container("postgresql"))["HostConfig"]["NetworkMode"] == "none"
