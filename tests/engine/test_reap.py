"""``doogie-proxy reap``: nothing of the instance is left, nothing else is touched, and never while a proxy runs."""

import asyncio
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from tests.support.harness import (
    ENGINE_SOCKET,
    OTHER_TOKEN,
    TOOLBOX,
    containers_of,
    docker,
    doogie_proxy_command,
    inspect,
    policy_document,
    proxy_under_test,
    toolbox_rule,
)
from tests.support.private_engine import PrivateEngine

DOCUMENT = policy_document(toolbox_rule(lifetime={"stop_grace_s": 1}))


@dataclass
class Reap:
    """Runs the command for one instance."""

    directory: Path
    instance: str
    engine_socket: str = ENGINE_SOCKET

    async def __call__(self, *arguments: str, **settings: str) -> tuple[int, str, str]:
        """Exit code, standard output, standard error."""
        key = self.directory / "signing.key"
        key.write_text("ab" * 32 + "\n")
        environment = {
            "INSTANCE": self.instance,
            "ENGINE": f"unix://{self.engine_socket}",
            "SIGNING_KEY_FILE": str(key),
            "STATE_DIR": str(self.directory / "state"),
            "LISTEN": f"unix://{self.directory}/none.sock",
            **settings,
        }
        process = await asyncio.create_subprocess_exec(
            *doogie_proxy_command(),
            "reap",
            *arguments,
            env={**os.environ, **{f"DOOGIE_PROXY_{name}": value for name, value in environment.items()}},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(60):
            out, err = await process.communicate()
        return process.returncode or 0, out.decode(), err.decode()


def create(*labels: str) -> str:
    """A container that no proxy made; it runs."""
    return docker("run", "--detach", "--network=none", *(f"--label={label}" for label in labels), TOOLBOX, "sleep")


@pytest.fixture
def bystanders(engine: str) -> Iterator[list[str]]:
    """Ids of containers that must not be touched; removed when the test is over."""
    ids: list[str] = []
    yield ids
    docker("rm", "--force", *ids)


async def test_reap_leaves_nothing_of_the_instance_and_touches_nothing_else(
    tmp_path: Path, bystanders: list[str]
) -> None:
    async with (
        proxy_under_test(tmp_path, DOCUMENT, leave_running=True) as proxy,
        proxy_under_test(tmp_path, DOCUMENT) as another,
    ):
        bystanders += [create(), create("io.doogie.instance=" + another.instance)]
        of_another = await another.start("box", "sleep")
        await proxy.start("box", "sleep")
        await proxy.start("box", "sleep", token=OTHER_TOKEN)
        await proxy.start("stubborn", "ignore-term")
        async with proxy.stdio("stubborn") as ws:  # it has installed its handler once it says so
            await ws.receive(timeout=20)
        await proxy.start("dead", "exit", "3")
        await proxy.until("dead", "exited")
        labels = [f"{key}={value}" for key, value in proxy.recorder.creates()[0].body["Labels"].items()]
        # What a crash between create and start leaves, and what only looks like ours.
        docker("create", *(f"--label={label}" for label in labels), TOOLBOX, "sleep")
        forged = create(*labels, "io.doogie.server=another")
        copied = create(f"io.doogie.instance={proxy.instance}")
        bystanders += [forged, copied]
        reap = Reap(tmp_path, proxy.instance)
        assert (await reap("--all"))[0] == 1  # a proxy runs
    # Both proxies have ended; the servers of one of them run on.
    before = {container_id: inspect(container_id)["State"] for container_id in bystanders}
    assert len(containers_of(proxy.instance)) == 7
    code, out, err = await reap()
    assert (code, len(out.splitlines()), out.splitlines()[-1]) == (3, 6, "5 found; --all ends them")
    assert "box of client other, rule toolbox" in out
    assert len(containers_of(proxy.instance)) == 7
    code, out, err = await reap("--all")
    assert (code, out.splitlines()[-1]) == (3, "5 ended")
    assert {line.split()[1] for line in err.splitlines()} == {forged, copied}
    assert set(containers_of(proxy.instance)) == {forged, copied}
    assert {container_id: inspect(container_id)["State"] for container_id in bystanders} == before
    assert of_another["container_id"] not in out
    docker("rm", "--force", forged, copied)
    for container_id in (forged, copied):
        bystanders.remove(container_id)
    assert await reap("--all") == (0, "0 ended\n", "")


async def test_reap_refuses_while_a_proxy_of_the_instance_runs(engine: str, tmp_path: Path) -> None:
    async with proxy_under_test(tmp_path, DOCUMENT) as proxy:
        await proxy.start("box", "sleep")
        reap = Reap(tmp_path, proxy.instance)
        code, _, err = await reap("--all")
        assert (code, f"another process has {tmp_path}/state/{proxy.instance}: end it" in err) == (1, True)
        (tmp_path / "file").touch()
        for state in (tmp_path / "elsewhere", tmp_path / "file"):  # neither tells
            for listen in (f"unix://{proxy.socket}", proxy.tcp_url.replace("http", "tcp")):
                code, _, err = await reap("--all", STATE_DIR=str(state), LISTEN=listen)
                assert (code, "a proxy listens on" in err) == (1, True)
        assert (await proxy.call("GET", "/v1/servers/box")).json["state"] == "running"


async def test_reap_works_without_a_directory_for_state(engine: str, tmp_path: Path) -> None:
    async with proxy_under_test(tmp_path, DOCUMENT, leave_running=True) as proxy:
        await proxy.start("box", "sleep")
    (tmp_path / "file").touch()
    code, out, err = await Reap(tmp_path, proxy.instance)("--all", STATE_DIR=str(tmp_path / "file"))
    assert (code, len(out.splitlines()), out.splitlines()[-1]) == (0, 2, "1 ended")
    assert "state_unavailable" in err
    assert containers_of(proxy.instance) == []


async def test_reap_with_another_key_lets_everything_be_and_says_so(engine: str, tmp_path: Path) -> None:
    async with proxy_under_test(tmp_path, DOCUMENT, leave_running=True) as proxy:
        status = await proxy.start("box", "sleep")
    other = tmp_path / "other.key"
    other.write_text("cd" * 32)
    reap = Reap(tmp_path, proxy.instance)
    code, out, err = await reap("--all", SIGNING_KEY_FILE=str(other))
    assert (code, out, err.count(status["container_id"])) == (3, "0 ended\n", 1)
    assert containers_of(proxy.instance) == [status["container_id"]]
    assert (await reap("--all"))[0] == 0


async def test_reap_of_an_engine_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    code, out, err = await Reap(tmp_path, "t" + uuid4().hex[:8], f"{tmp_path}/none.sock")("--all")
    assert (code, out, len(err.splitlines())) == (1, "", 1)
    assert err.startswith("doogie-proxy: engine")


async def test_reap_ends_everything_on_the_newest_engine_too(newest_engine: PrivateEngine, tmp_path: Path) -> None:
    on = str(newest_engine.socket)
    async with proxy_under_test(tmp_path, DOCUMENT, engine_socket=on, leave_running=True) as proxy:
        await asyncio.gather(*(proxy.start(f"box{index}", "sleep") for index in range(4)))
    code, out, _ = await Reap(tmp_path, proxy.instance, on)("--all")
    assert (code, out.splitlines()[-1]) == (0, "4 ended")
    assert containers_of(proxy.instance, on) == []
