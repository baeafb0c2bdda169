"""The life of a server on the machine's engine, on the newest one, and in gVisor there."""

import asyncio
import json
import os
from pathlib import Path
from typing import NamedTuple

import pytest

from doogie_contract import channels
from doogie_contract.channels import Channel
from tests.support.harness import (
    ENGINE_SOCKET,
    TOOLBOX,
    ProxyUnderTest,
    containers_of,
    inspect,
    policy_document,
    process_status,
    proxy_under_test,
    toolbox_rule,
)
from tests.support.invariants import violations
from tests.support.private_engine import SYSTEM, PrivateEngine, is_running, private_engine


class Place(NamedTuple):
    """Where servers run: on which engine, in which of its runtimes."""

    engine_socket: str
    runtime: str

    def rule(self, **fields: object) -> dict[str, object]:
        return toolbox_rule(runtime=self.runtime, **fields)


@pytest.fixture(params=["machine", "newest", "newest-runsc"])
def place(request: pytest.FixtureRequest, engine: str) -> Place:
    if request.param == "machine":
        return Place(ENGINE_SOCKET, "runc")
    newest = request.getfixturevalue("newest_engine")
    return Place(str(newest.socket), "runsc" if request.param == "newest-runsc" else "runc")


async def stdout_of(proxy: ProxyUnderTest, name: str, stdin: bytes = b"", *, count: int) -> bytes:
    """The first ``count`` bytes that the server prints, when it is sent ``stdin``."""
    output = bytearray()
    async with proxy.stdio(name) as ws, asyncio.timeout(60):
        for offset in range(0, len(stdin), 50_001):
            await ws.send_bytes(channels.encode(Channel.STDIN, stdin[offset : offset + 50_001]))
        while len(output) < count:
            frame = channels.decode((await ws.receive()).data)
            if frame.channel is Channel.STDOUT:
                output += frame.payload
    return bytes(output)


async def test_server_starts_answers_a_megabyte_byte_for_byte_and_stops(place: Place, tmp_path: Path) -> None:
    data = os.urandom(2**20)
    async with proxy_under_test(tmp_path, policy_document(place.rule()), engine_socket=place.engine_socket) as proxy:
        status = await proxy.start("echo", "cat")
        assert inspect(status["container_id"], place.engine_socket)["HostConfig"]["Runtime"] == place.runtime
        assert await stdout_of(proxy, "echo", data, count=len(data)) == data
        assert (await proxy.stop("echo"))["state"] == "absent"
        assert containers_of(proxy.instance, place.engine_socket) == []


async def test_exit_code_and_stderr_outlive_the_server(place: Place, tmp_path: Path) -> None:
    async with proxy_under_test(tmp_path, policy_document(place.rule()), engine_socket=place.engine_socket) as proxy:
        await proxy.start("box", "exit", "7")
        status = await proxy.until("box", "exited")
        assert (status["exit"]["code"], status["exit"]["stderr_tail"]) == (7, "exiting with code 7\n")
        assert (await proxy.call("GET", "/v1/servers/box/logs")).text == "exiting with code 7\n"


async def test_next_proxy_carries_on_with_the_same_container(place: Place, tmp_path: Path) -> None:
    document, on = policy_document(place.rule()), place.engine_socket
    async with proxy_under_test(tmp_path, document, engine_socket=on, leave_running=True) as first:
        running = await first.start("echo", "echo-lines")
        assert await stdout_of(first, "echo", b"one\n", count=4) == b"one\n"
    async with proxy_under_test(tmp_path, document, engine_socket=on, instance=first.instance) as second:
        status = (await second.call("GET", "/v1/servers/echo")).json
        assert (status["state"], status["container_id"]) == ("running", running["container_id"])
        assert await stdout_of(second, "echo", b"two\n", count=4) == b"two\n"
        await second.stop("echo")


async def test_memory_limit_ends_the_hungry(place: Place, tmp_path: Path) -> None:
    document = policy_document(place.rule(resources={"memory": "64MiB"}))
    async with proxy_under_test(tmp_path, document, engine_socket=place.engine_socket) as proxy:
        if place.runtime == "runsc":  # the kernel may end one of gVisor's helpers instead, which ends the server with 1
            await proxy.start("hungry", "hog-memory")
            assert (await proxy.until("hungry", "exited"))["exit"]["code"] in (1, 137)
        else:
            assert (await proxy.run_out_of_memory("hungry"))["reason"] == "oom"


async def test_process_is_unprivileged_as_it_sees_itself(place: Place, tmp_path: Path) -> None:
    rule = place.rule(entrypoint=["cat"])
    async with proxy_under_test(tmp_path, policy_document(rule), engine_socket=place.engine_socket) as proxy:
        lines = (await printed_by(proxy, "/proc/self/status")).splitlines()
        status = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
        assert (status["Uid"].split(), status["Gid"].split()) == (["65532"] * 4, ["65532"] * 4)
        assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd")} == {"0" * 16}
        interfaces = [
            line.split(":")[0].strip() for line in (await printed_by(proxy, "/proc/net/dev")).splitlines()[2:]
        ]
        assert interfaces == ["lo"]
        mounts = [line.split() for line in (await printed_by(proxy, "/proc/mounts")).splitlines()]
        options = {target: set(listed.split(",")) for _, target, _, listed, *_ in mounts}
        assert "ro" in options["/"]
        assert {"rw", "noexec"} <= options["/tmp"]


async def test_newest_engine_builds_the_same_walls(newest_engine: PrivateEngine, tmp_path: Path) -> None:
    on = str(newest_engine.socket)
    async with proxy_under_test(tmp_path, policy_document(toolbox_rule()), engine_socket=on) as proxy:
        container = inspect((await proxy.start("box", "sleep"))["container_id"], on)
        assert violations(proxy.recorder.creates()[0].body) == []
        status = process_status(container["State"]["Pid"])
        assert status["Uid"].split() == status["Gid"].split() == ["65532"] * 4
        assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
        host = container["HostConfig"]
        assert (host["ReadonlyRootfs"], host["NetworkMode"], host["CgroupnsMode"]) == (True, "none", "private")
        assert (host["Memory"], host["MemorySwap"], host["PidsLimit"]) == (256 * 2**20, 256 * 2**20, 64)
        assert host["CapDrop"] == ["ALL"]
        assert host["SecurityOpt"] == ["no-new-privileges:true"]
        assert [mount for mount in container["Mounts"] if mount["Type"] != "tmpfs"] == []


async def test_rule_with_runtime_runsc_gives_the_server_a_kernel_of_gvisors(
    newest_engine: PrivateEngine, tmp_path: Path
) -> None:
    document = policy_document(toolbox_rule(runtime="runsc", entrypoint=["dmesg"]))
    async with proxy_under_test(tmp_path, document, engine_socket=str(newest_engine.socket)) as proxy:
        assert "Starting gVisor" in await printed_by(proxy)


def test_private_engine_takes_everything_with_it_even_when_it_was_killed(engine: str) -> None:
    with private_engine(SYSTEM, images=[TOOLBOX], source=ENGINE_SOCKET, live_restore=True) as private:
        container = private.docker("run", "--detach", "--network", "none", TOOLBOX, "ignore-term")
        pid = json.loads(private.docker("inspect", container))[0]["State"]["Pid"]
        private.kill()
        private.start()
        assert json.loads(private.docker("inspect", container))[0]["State"]["Pid"] == pid
        private.kill()
        assert is_running(pid)
    assert not is_running(pid)
    assert not private.socket.parent.exists()
    assert str(private.socket.parent) not in Path("/proc/mounts").read_text()


async def printed_by(proxy: ProxyUnderTest, *args: str) -> str:
    """All that a server prints which ends by itself."""
    await proxy.start("printer", *args)
    output = bytearray()
    async with proxy.stdio("printer") as ws, asyncio.timeout(60):
        async for message in ws:
            frame = channels.decode(message.data)
            if frame.channel is Channel.STDOUT:
                output += frame.payload
    await proxy.stop("printer")
    return output.decode()
