"""G. At run time: what a hostile server does to the host and to the proxy, measured on the host."""

import asyncio
import json
import os
import re
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest
from aiohttp import WSMsgType

from doogie_contract import channels
from doogie_contract.channels import SUBPROTOCOL_CHANNEL, SUBPROTOCOL_MCP, Channel, CloseCode
from tests.support.harness import (
    ENGINE_SOCKET,
    TOOLBOX,
    ProxyCalls,
    ProxyUnderTest,
    containers_of,
    docker,
    inspect,
    policy_document,
    proc,
    proxy_under_test,
    toolbox_rule,
)
from tests.support.served import served

MIB = 2**20
ROOM = 24 * MIB
"""What a proxy's memory may grow by beyond what its buffers hold: allocator, Python, a message on its way."""


async def says(proxy: ProxyCalls, name: str) -> Any:
    """The next line of JSON that a server prints."""
    async with proxy.stdio(name, SUBPROTOCOL_MCP) as ws:
        return json.loads((await ws.receive(timeout=60)).data)


async def echoes(proxy: ProxyCalls, name: str) -> None:
    """Fail unless a line comes back from an ``echo-lines``: the proxy serves, and this server is well."""
    async with proxy.stdio(name, SUBPROTOCOL_MCP) as ws:
        await ws.send_str("are you there?")
        assert (await ws.receive(timeout=60)).data == "are you there?"


def nothing() -> None:
    """To be looked after meanwhile."""


async def until(
    condition: Callable[[], bool], *, timeout_s: float = 60, meanwhile: Callable[[], None] = nothing
) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.02)
            meanwhile()


async def until_still(
    measure: Callable[[], int], *, timeout_s: float = 60, meanwhile: Callable[[], None] = nothing
) -> int:
    """What ``measure`` counts, once it has not changed for half a second."""
    async with asyncio.timeout(timeout_s):
        last, since = measure(), time.monotonic()
        while time.monotonic() - since < 0.5:
            await asyncio.sleep(0.05)
            meanwhile()
            if (now := measure()) != last:
                last, since = now, time.monotonic()
    return last


def pid_of(status: Mapping[str, Any]) -> int:
    """The server's first process, as the host numbers it."""
    return int(inspect(status["container_id"])["State"]["Pid"])


def written_by(pid: int) -> int:
    """Bytes that the server's program, the child of the init process ``pid``, has written so far."""
    [child] = proc(pid, f"task/{pid}/children").split()
    return int(re.findall(r"wchar: (\d+)", proc(int(child), "io"))[0])


def cgroup_of(pid: int, controller: str) -> Path:
    """A process's directory of this controller, with cgroup v1 and v2 alike."""
    for line in proc(pid, "cgroup").splitlines():
        number, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return Path(f"/sys/fs/cgroup/{controller}{path}")
        if number == "0" and Path("/sys/fs/cgroup/cgroup.controllers").exists():
            return Path(f"/sys/fs/cgroup{path}")
    raise AssertionError(f"no cgroup of {controller}")


def first(directory: Path, *names: str) -> Path:
    """The file that there is: v1 and v2 name them differently."""
    return next(directory / name for name in names if (directory / name).exists())


def counter(file: Path, name: str) -> int:
    """A line of a file like ``cpu.stat``."""
    return int(re.findall(rf"^{name} (\d+)", file.read_text(), re.MULTILINE)[0])


class Process(NamedTuple):
    """The proxy's own process."""

    pid: int

    def rss(self) -> int:
        return int(re.findall(r"VmRSS:\s+(\d+) kB", proc(self.pid, "status"))[0]) * 1024

    def peak_rss(self) -> int:
        return int(re.findall(r"VmHWM:\s+(\d+) kB", proc(self.pid, "status"))[0]) * 1024

    def stays_below(self, limit: int) -> None:
        """Fail at once when it does not: what grows without bound would take the machine's memory."""
        assert (grown := self.rss() - limit) < 0, f"{grown} bytes too much"

    def descriptors(self) -> int:
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))


@asynccontextmanager
async def own_process(
    directory: Path, document: Mapping[str, object], **settings: str
) -> AsyncIterator[tuple[ProxyCalls, Process]]:
    """A proxy in a process of its own, so that its memory is its own; what was started is stopped at the end."""
    async with (
        served(directory, document, **settings) as own,
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(own.socket), limit=0)) as http,
    ):
        proxy = ProxyCalls(own.instance, own.socket, http)
        try:
            yield proxy, Process(own.process.pid)
        finally:
            for token, name in list(proxy.started):
                await proxy.stop(name, token=token)


SMALL = {"max_message": "1MiB", "buffer": "1MiB"}


# ── the host's resources ─────────────────────────────────────────────────────────────────────────


@pytest.mark.redteam(54)
async def test_a_fork_bomb_ends_at_the_pids_limit_and_dies_as_a_whole(engine: str, tmp_path: Path) -> None:
    document = policy_document(toolbox_rule(resources={"pids": 24, "cpus": 0.2}))
    async with proxy_under_test(tmp_path, document) as proxy:
        await proxy.start("well", "echo-lines")
        pid = pid_of(await proxy.start("bomb", "fork-bomb"))
        pids = cgroup_of(pid, "pids")
        assert (pids / "pids.max").read_text() == "24\n"  # first: without a limit it would go off
        assert await says(proxy, "bomb") == {"refused": "EAGAIN"}
        assert counter(pids / "pids.events", "max") > 0
        bomb = [int(line) for line in (pids / "cgroup.procs").read_text().split()]
        assert 2 < len(bomb) <= 24
        assert int((pids / "pids.current").read_text()) <= 24
        await echoes(proxy, "well")
        await proxy.stop("bomb")
        assert not pids.exists(), "and with it all that was in it"
        await echoes(proxy, "well")


@pytest.mark.redteam(55)
async def test_memory_ends_at_its_limit_and_nothing_is_swapped(engine: str, tmp_path: Path) -> None:
    document = policy_document(toolbox_rule(resources={"memory": "32MiB"}))
    async with proxy_under_test(tmp_path, document) as proxy:
        await proxy.start("well", "echo-lines")
        pid = pid_of(await proxy.start("parent", "hog-in-child"))
        memory = cgroup_of(pid, "memory")
        assert int(first(memory, "memory.limit_in_bytes", "memory.max").read_text()) == 32 * MIB
        if (swap := memory / "memory.swap.max").exists():
            assert int(swap.read_text()) == 0
        if (both := memory / "memory.memsw.limit_in_bytes").exists():
            assert int(both.read_text()) == 32 * MIB
        assert await says(proxy, "parent") == {"signal": signal.SIGKILL}
        if (peak := memory / "memory.max_usage_in_bytes").exists():
            assert int(peak.read_text()) <= 32 * MIB
        assert (await proxy.call("GET", "/v1/servers/parent")).json["state"] == "running"
        stopped = await proxy.stop("parent")
        assert stopped["exit"]["reason"] == "stopped", "a child of it died, it did not"
        assert (await proxy.run_out_of_memory("hungry"))["reason"] == "oom"
        await echoes(proxy, "well")


@pytest.mark.redteam(56)
async def test_who_burns_cpu_is_throttled_and_ends_at_its_age(engine: str, tmp_path: Path) -> None:
    rule = toolbox_rule(resources={"cpus": 0.2}, lifetime={"max_age_s": 4, "stop_grace_s": 1, "keep_exited_s": 60})
    async with proxy_under_test(tmp_path, policy_document(rule), sweep_interval_s=0.1) as proxy:
        pid = pid_of(await proxy.start("burner", "burn"))
        cpu = cgroup_of(pid, "cpu")
        if (quota := cpu / "cpu.cfs_quota_us").exists():
            assert int(quota.read_text()) / int((cpu / "cpu.cfs_period_us").read_text()) == 0.2
        else:
            assert (cpu / "cpu.max").read_text().split() == ["20000", "100000"]
        await until(lambda: counter(cpu / "cpu.stat", "nr_throttled") > 3)
        begun, used = time.monotonic(), cpu_seconds(pid)
        await until(lambda: time.monotonic() - begun > 1)
        # Four processes that never rest would use up all of two cores; a slow clock can only lower what is counted.
        assert (cpu_seconds(pid) - used) / (time.monotonic() - begun) < 0.6
        ended = (await proxy.until("burner", "exited"))["exit"]
        assert ended["reason"] == "lease_max_age"
        assert not cpu.exists()


def cpu_seconds(pid: int) -> float:
    """What the server's processes have used of the CPU."""
    if (usage := cgroup_of(pid, "cpuacct") / "cpuacct.usage").exists():
        return int(usage.read_text()) / 1e9
    return counter(cgroup_of(pid, "cpu") / "cpu.stat", "usage_usec") / 1e6


@pytest.mark.redteam(57)
async def test_no_place_takes_more_than_its_size_and_none_is_on_the_engines_disk(engine: str, tmp_path: Path) -> None:
    rule = toolbox_rule(tmpfs={"/home/app": "3MiB"}, resources={"tmp": "2MiB", "shm": "1MiB"})
    closed = [
        f"{directory}/filled"
        for directory in ("", "/root", "/etc", "/var/tmp", "/usr", "/dev", "/run", "/proc", "/sys")
    ]
    async with proxy_under_test(tmp_path, policy_document(rule)) as proxy:
        status = await proxy.start("filler", "fill", "/tmp/filled", "/dev/shm/filled", "/home/app/filled", *closed)
        said = await says(proxy, "filler")
        assert said["/tmp/filled"] == [2 * MIB, "ENOSPC"]
        assert said["/dev/shm/filled"] == [MIB, "ENOSPC"]
        assert said["/home/app/filled"] == [3 * MIB, "ENOSPC"]
        for path in closed:
            assert said[path][0] == 0
            assert said[path][1] in ("EROFS", "EACCES", "ENOENT"), path
        assert "/fill" not in docker("diff", status["container_id"])


@pytest.mark.redteam(57)
@pytest.mark.parametrize("attack", [("fill", "/tmp/filled"), ("fill-with-files", "/tmp")])
async def test_what_fills_a_tmpfs_that_is_larger_than_its_memory_ends_itself(
    engine: str, tmp_path: Path, attack: tuple[str, ...]
) -> None:
    rule = toolbox_rule(resources={"memory": "24MiB", "tmp": "1GiB"})
    async with proxy_under_test(tmp_path, policy_document(rule)) as proxy:
        await proxy.start("well", "echo-lines")
        assert (await proxy.run_out_of_memory("filler", *attack))["reason"] == "oom"
        await echoes(proxy, "well")


# ── floods ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.redteam(58)
@pytest.mark.parametrize("subprotocol", [SUBPROTOCOL_CHANNEL, SUBPROTOCOL_MCP])
async def test_a_flood_for_a_client_that_does_not_read_waits_and_can_be_stopped(
    engine: str, tmp_path: Path, subprotocol: str
) -> None:
    document = policy_document(toolbox_rule(stdio=SMALL, resources={"cpus": 1}))
    async with own_process(tmp_path, document, sweep_interval_s="60") as (proxy, process):
        await proxy.start("well", "echo-lines")
        before = process.rss()
        pid = pid_of(await proxy.start("box", "flood"))
        async with proxy.stdio("box", subprotocol):  # and never reads
            written = await until_still(
                lambda: written_by(pid), meanwhile=lambda: process.stays_below(before + MIB + ROOM)
            )
            print(f"{subprotocol}: {written} bytes, then none; the proxy grew by {process.peak_rss() - before}")
            assert process.peak_rss() - before < MIB + ROOM
            await echoes(proxy, "well")
            async with asyncio.timeout(30):
                stopped = await proxy.stop("box")
            assert stopped["exit"]["reason"] == "stopped"
        await echoes(proxy, "well")


@pytest.mark.redteam(58)
async def test_a_flood_that_nobody_is_attached_to_waits_as_well(engine: str, tmp_path: Path) -> None:
    document = policy_document(toolbox_rule(stdio=SMALL, resources={"cpus": 1}))
    async with own_process(tmp_path, document) as (proxy, process):
        before = process.rss()
        pids = [
            pid_of(await proxy.start(f"s{number}", kind)) for number, kind in enumerate(["flood", "endless-line"] * 2)
        ]
        most = before + 4 * MIB + ROOM
        for pid in pids:
            await until_still(partial(written_by, pid), meanwhile=lambda: process.stays_below(most))
        print(f"four floods: the proxy grew by {process.peak_rss() - before}")
        assert process.peak_rss() - before < 4 * MIB + ROOM


@pytest.mark.redteam(58)
async def test_death_behind_a_stalled_stream_is_seen_and_what_was_said_before_is_delivered(
    engine: str, tmp_path: Path
) -> None:
    document = policy_document(toolbox_rule(stdio=SMALL, resources={"cpus": 1}))
    async with own_process(tmp_path, document, sweep_interval_s="0.2") as (proxy, _):
        pid = pid_of(await proxy.start("box", "flood"))
        async with proxy.stdio("box") as ws:
            await until_still(lambda: written_by(pid))
            os.kill(pid, signal.SIGKILL)
            ended = (await proxy.until("box", "exited", timeout_s=60))["exit"]
            assert (ended["reason"], ended["code"], ended["signal"]) == ("exited", 137, "SIGKILL")
            received = 0
            async for message in ws:
                received += len(message.data)
            assert ws.close_code == CloseCode.EXITED_NON_ZERO
            assert received > MIB


@pytest.mark.redteam(58, 64)
async def test_a_line_that_never_ends_ends_the_session_and_not_the_proxy(engine: str, tmp_path: Path) -> None:
    document = policy_document(toolbox_rule(stdio=SMALL, resources={"cpus": 1}))
    async with own_process(tmp_path, document) as (proxy, process):
        await proxy.start("well", "echo-lines")
        before = process.rss()
        pid = pid_of(await proxy.start("box", "endless-line"))
        async with proxy.stdio("box", SUBPROTOCOL_MCP) as ws:
            assert (await ws.receive(timeout=60)).type is WSMsgType.CLOSE
            assert ws.close_code == CloseCode.MESSAGE_TOO_BIG
        async with proxy.stdio("box", SUBPROTOCOL_MCP):  # which waits for the line's end, and keeps none of it
            await until(lambda: written_by(pid) > 16 * MIB, meanwhile=lambda: process.stays_below(before + MIB + ROOM))
        print(f"an endless line: {written_by(pid)} bytes; the proxy grew by {process.peak_rss() - before}")
        assert process.peak_rss() - before < MIB + ROOM
        await echoes(proxy, "well")


@pytest.mark.redteam(58)
async def test_a_flood_of_stderr_neither_waits_nor_grows(engine: str, tmp_path: Path) -> None:
    document = policy_document(toolbox_rule(stdio=SMALL, resources={"cpus": 1}))
    async with own_process(tmp_path, document) as (proxy, process):
        await proxy.start("well", "echo-lines")
        before = process.rss()
        pid = pid_of(await proxy.start("box", "flood-stderr"))
        async with proxy.stdio("box"):  # and never reads
            await until(lambda: written_by(pid) > 16 * MIB, meanwhile=lambda: process.stays_below(before + MIB + ROOM))
            print(f"stderr: {written_by(pid)} bytes; the proxy grew by {process.peak_rss() - before}")
            assert process.peak_rss() - before < MIB + ROOM
            logs = await proxy.call("GET", "/v1/servers/box/logs?tail=99999")
            assert len(logs.text) <= 256 * 1024
            await echoes(proxy, "well")
            async with asyncio.timeout(30):
                stopped = await proxy.stop("box")
        assert len(stopped["exit"]["stderr_tail"]) <= 4096


@pytest.mark.redteam(60)
async def test_a_server_that_ignores_sigterm_is_killed_when_its_grace_is_over(engine: str, tmp_path: Path) -> None:
    for replay in ("engine-log", "none"):
        document = policy_document(toolbox_rule(stdio={"replay": replay}, lifetime={"stop_grace_s": 1}))
        async with proxy_under_test(tmp_path, document) as proxy:
            pid = pid_of(await proxy.start("box", "ignore-term"))
            async with proxy.stdio("box") as ws:
                await ws.receive(timeout=30)  # it says when it is ready to ignore
                begun = time.monotonic()
                async with asyncio.timeout(30):
                    stopped = await proxy.stop("box")
                print(f"{replay}: gone after {time.monotonic() - begun:.2f} s")
            assert (stopped["exit"]["reason"], stopped["exit"]["signal"]) == ("stopped", "SIGKILL")
            assert not Path(f"/proc/{pid}").exists()
            assert containers_of(proxy.instance) == []


# ── reaching out ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.redteam(61)
async def test_a_server_reaches_nothing_that_the_host_reaches(proxy: ProxyUnderTest, tmp_path: Path) -> None:
    # ``sibling``, the host's ports and sockets: all that a container with a network, or without walls, would reach.
    sibling = docker("run", "--detach", "--network", "bridge", "--entrypoint", "python3", TOOLBOX,
                     "-m", "http.server", "8000", "--directory", "/tmp")  # fmt: skip
    gateway, address = docker(
        "inspect", "--format", "{{with .NetworkSettings.Networks.bridge}}{{.Gateway}} {{.IPAddress}}{{end}}", sibling
    ).split()
    abstract = f"doogie-test-{os.getpid()}"
    listeners = [socket.create_server((host, 0)) for host in (gateway, "0.0.0.0")]
    ports = [listener.getsockname()[1] for listener in listeners]
    listeners.append(socket.socket(socket.AF_UNIX))
    listeners[-1].bind(f"\0{abstract}")
    listeners[-1].listen()
    try:
        there = [
            *(f"{gateway}:{ports[0]}", f"{gateway}:{ports[1]}", f"127.0.0.1:{ports[1]}", f"{address}:8000"),
            *(proxy.tcp_url.removeprefix("http://"), str(proxy.socket), ENGINE_SOCKET, f"@{abstract}"),
        ]
        for target in there:  # else it is no feat that a container does not reach it
            await until(lambda target=target: is_reached(target))  # type: ignore[misc]
        beyond = ["169.254.169.254:80", "192.0.2.1:53", "/run/doogie/proxy.sock", "/run/docker.sock"]
        status = await proxy.start("box", "reach", *there, *beyond)
        said = await says(proxy, "box")
        assert said["interfaces"] == ["lo"]
        assert set(said["outcomes"]) == {*there, *beyond}
        assert set(said["outcomes"].values()) <= {"ENETUNREACH", "ECONNREFUSED", "ENOENT"}
        assert proc(pid_of(status), "net/route").splitlines()[1:] == []
        [create] = proxy.recorder.creates()
        assert create.body["HostConfig"]["NetworkMode"] == "none"
    finally:
        docker("rm", "--force", sibling)
        for listener in listeners:
            listener.close()


def is_reached(target: str) -> bool:
    """Whether the host can connect to it."""
    host, _, port = target.rpartition(":")
    try:
        if target[0] in "/@":
            with socket.socket(socket.AF_UNIX) as one:
                one.connect(target if target[0] == "/" else "\0" + target[1:])
        else:
            socket.create_connection((host, int(port)), timeout=3).close()
    except OSError:
        return False
    return True


# ── what comes in, and what cannot be read ───────────────────────────────────────────────────────


@pytest.mark.redteam(62)
@pytest.mark.parametrize("subprotocol", [SUBPROTOCOL_CHANNEL, SUBPROTOCOL_MCP])
async def test_a_flood_for_a_server_that_does_not_read_waits_at_the_client(
    engine: str, tmp_path: Path, subprotocol: str
) -> None:
    document = policy_document(toolbox_rule(stdio=SMALL))
    async with own_process(tmp_path, document) as (proxy, process):
        await proxy.start("well", "echo-lines")
        await proxy.start("deaf", "sleep")
        before, sent = process.rss(), 0

        async def send_for_ever(ws: aiohttp.ClientWebSocketResponse[Any]) -> None:
            nonlocal sent
            while True:
                if subprotocol == SUBPROTOCOL_MCP:
                    await ws.send_str("x" * (MIB // 2))
                else:
                    await ws.send_bytes(channels.encode(Channel.STDIN, bytes(MIB // 2)))
                sent += MIB // 2

        for query in ("", "?takeover=1"):
            async with proxy.stdio("deaf", subprotocol, query=query) as ws:
                flood = asyncio.create_task(send_for_ever(ws))
                await until_still(lambda: sent, meanwhile=lambda: process.stays_below(before + 4 * MIB + ROOM))
                flood.cancel()
                await asyncio.wait([flood])
                ws._response.close()  # who cannot send cannot say good-bye either
            print(f"{subprotocol}: {sent} bytes were sent, then none; the proxy grew by {process.peak_rss() - before}")
            assert 0 < sent < 32 * MIB
            assert process.peak_rss() - before < 4 * MIB + ROOM
            await echoes(proxy, "well")
        async with asyncio.timeout(30):
            assert (await proxy.stop("deaf"))["exit"]["code"] == 0


NOT_UTF_8 = [
    *(b"\xff\xfe\n", b"\xe2\x82\n", b"\xc3\n\xa9\n", b"\xed\xa0\x80\n", b"\xc0\xaf\n", b"\xf4\x90\x80\x80\n"),
    bytes(range(1, 10)) + bytes(range(128, 256)) + b"\n",
]


@pytest.mark.redteam(64)
async def test_what_is_not_utf_8_ends_an_mcp_session_and_the_next_one_is_well(proxy: ProxyUnderTest) -> None:
    await proxy.start("well", "echo-lines")
    await proxy.start("box", "hex-then-echo", b"".join(NOT_UTF_8).hex())
    for _ in range(b"".join(NOT_UTF_8).count(b"\n")):
        async with proxy.stdio("box", SUBPROTOCOL_MCP) as ws:
            assert (await ws.receive(timeout=30)).type is WSMsgType.CLOSE
            assert ws.close_code == CloseCode.INVALID_DATA
        await echoes(proxy, "well")
    await echoes(proxy, "box")


@pytest.mark.redteam(64)
async def test_garbage_is_passed_on_to_the_byte_and_text_as_it_is(proxy: ProxyUnderTest) -> None:
    """What is in a line is the client's business: only what cannot be a text frame ends a session."""
    lines = [b"a\0b", b'{"jsonrpc": ', b"[" * 3000, b"a\r", b"", "\u2028\ufeff\U0001f600".encode()]
    await proxy.start("lines", "hex-then-echo", b"".join(line + b"\n" for line in lines).hex())
    async with proxy.stdio("lines", SUBPROTOCOL_MCP) as ws:
        for line in lines:
            assert (await ws.receive(timeout=30)).data.encode() == line
    every = bytes(range(256)) * 4
    await proxy.start("every", "hex-then-echo", every.hex())
    async with proxy.stdio("every") as ws:
        received = b""
        while len(received) < len(every):
            received += (await ws.receive(timeout=30)).data[1:]
    assert received == every


@pytest.mark.redteam(64)
async def test_a_line_of_100_mb_ends_sessions_until_it_is_over_and_is_not_kept(engine: str, tmp_path: Path) -> None:
    document = policy_document(toolbox_rule(stdio=SMALL, resources={"cpus": 2}))
    async with own_process(tmp_path, document) as (proxy, process):
        await proxy.start("well", "echo-lines")
        before = process.rss()
        await proxy.start("box", "long-line-then-echo", str(100 * MIB))
        codes = []
        async with asyncio.timeout(60):
            while True:
                async with proxy.stdio("box", SUBPROTOCOL_MCP) as ws:
                    await ws.send_str("are you there?")
                    if (message := await ws.receive()).type is WSMsgType.TEXT:
                        break
                    codes.append(ws.close_code)
        assert message.data == "are you there?"
        assert codes
        assert set(codes) == {CloseCode.MESSAGE_TOO_BIG}
        print(f"a line of 100 MiB: {len(codes)} sessions ended; the proxy grew by {process.peak_rss() - before}")
        assert process.peak_rss() - before < MIB + ROOM
        await echoes(proxy, "well")


# ── sessions by the thousand ─────────────────────────────────────────────────────────────────────


@pytest.mark.redteam(65)
async def test_thousands_of_sessions_leave_nothing_behind_in_the_proxy(engine: str, tmp_path: Path) -> None:
    async with own_process(tmp_path, policy_document(toolbox_rule()), sweep_interval_s="60") as (proxy, process):
        await proxy.start("box", "echo-lines")

        async def attach(times: int) -> None:
            for number in range(times):
                ws = await proxy.stdio("box", (SUBPROTOCOL_CHANNEL, SUBPROTOCOL_MCP)[number % 2], query="?takeover=1")
                if number % 3:
                    await ws.close()
                else:
                    ws._response.close()  # without a word

        await attach(200)  # what grows once, has grown
        memory, descriptors = process.rss(), process.descriptors()
        await attach(2000)
        await until(lambda: process.descriptors() <= descriptors)
        print(f"2,000 sessions: memory grew by {process.rss() - memory}, descriptors are {process.descriptors()}")
        assert process.rss() - memory < 4 * MIB
        await echoes(proxy, "box")


@pytest.mark.redteam(65)
async def test_a_session_leaves_no_task_behind(proxy: ProxyUnderTest) -> None:
    await proxy.start("box", "echo-lines")
    await echoes(proxy, "box")
    before = len(asyncio.all_tasks())
    for number in range(100):
        ws = await proxy.stdio("box", (SUBPROTOCOL_CHANNEL, SUBPROTOCOL_MCP)[number % 2], query="?takeover=1")
        await (ws.close() if number % 2 else asyncio.sleep(0))
        ws._response.close()
    await proxy.until_detached("box")
    assert len(asyncio.all_tasks()) < before + 20, "some are of connections that wait for a next request"


# ── an engine in trouble ─────────────────────────────────────────────────────────────────────────


@pytest.mark.redteam(63)
async def test_an_engine_that_hangs_is_a_timeout_and_holds_up_nothing_that_does_not_need_it(
    engine: str, tmp_path: Path
) -> None:
    document = policy_document(toolbox_rule(lifetime={"stop_grace_s": 0}))
    async with proxy_under_test(tmp_path, document, engine_timeout_s=1, reconnect_s=0.05) as proxy:
        await proxy.start("box", "echo-lines")
        async with proxy.stdio("box", SUBPROTOCOL_MCP) as ws:
            proxy.recorder.stall()
            starting = proxy.call("POST", "/v1/servers/new/start", {"image": TOOLBOX, "args": ["sleep"]})
            stopping = proxy.call("POST", "/v1/servers/box/stop")
            hanging = asyncio.gather(starting, stopping)
            for path in ("/healthz", "/v1/servers", "/v1/servers/box", "/v1/servers/box/logs", "/v1/policy"):
                assert (await proxy.call("GET", path)).status == 200
            dry = await proxy.call("POST", "/v1/servers/n/start?dry_run=1", {"image": TOOLBOX, "args": ["sleep"]})
            assert dry.status == 200
            assert not hanging.done(), "else it is not while it hangs that all of this was answered"
            async with asyncio.timeout(30):
                answers = await hanging
            assert [(answer.status, answer.problem) for answer in answers] == [(504, "engine-timeout")] * 2
            proxy.recorder.resume()
            async with asyncio.timeout(30):
                while (await proxy.call("POST", "/v1/servers/box/stop")).status != 200:
                    await asyncio.sleep(0.05)
            while not ws.closed:
                await ws.receive(timeout=30)
        proxy.started.clear()
        async with asyncio.timeout(30):
            while containers_of(proxy.instance):
                await asyncio.sleep(0.05)
        await proxy.start("box", "echo-lines")
        await echoes(proxy, "box")


@pytest.mark.redteam(63)
@pytest.mark.parametrize("before", ["/containers/create", "/attach?stdin", "/attach?stderr", "/start"])
async def test_a_start_that_the_engine_breaks_off_anywhere_leaves_nothing(
    engine: str, tmp_path: Path, before: str
) -> None:
    document = policy_document(toolbox_rule())
    async with proxy_under_test(tmp_path, document, reconnect_s=0.05, sweep_interval_s=0.1) as proxy:
        proxy.recorder.stall(before=before)
        starting = asyncio.create_task(
            proxy.call("POST", "/v1/servers/box/start", {"image": TOOLBOX, "args": ["echo-lines"]})
        )
        await until(lambda: any(before in request.path for request in proxy.recorder.for_clients()))
        proxy.recorder.cut()
        proxy.recorder.resume()
        answer = await starting
        assert answer.status in (502, 503)
        assert answer.problem in ("engine-unavailable", "engine-error")
        async with asyncio.timeout(30):
            while (await proxy.call("GET", "/readyz")).status != 200 or containers_of(proxy.instance):
                await asyncio.sleep(0.05)
        await proxy.start("box", "echo-lines")
        await echoes(proxy, "box")


@pytest.mark.redteam(63)
@pytest.mark.parametrize("after", ["/containers/create", "/start"])
async def test_a_container_whose_making_was_never_confirmed_is_found_again(
    engine: str, tmp_path: Path, after: str
) -> None:
    document = policy_document(toolbox_rule())
    async with proxy_under_test(tmp_path, document, reconnect_s=0.05, sweep_interval_s=0.1) as proxy:
        proxy.recorder.stall(after=after)
        starting = asyncio.create_task(
            proxy.call("POST", "/v1/servers/box/start", {"image": TOOLBOX, "args": ["echo-lines"]})
        )
        wanted = "created" if "create" in after else "running"
        async with asyncio.timeout(30):
            while wanted not in docker("ps", "-a", "--format", "{{.State}}", "--filter", f"name={proxy.instance}"):
                await asyncio.sleep(0.05)
        proxy.recorder.cut()
        proxy.recorder.resume()
        answer = await starting
        assert (answer.status, answer.problem) == (503, "engine-unavailable")
        async with asyncio.timeout(30):
            while (await proxy.call("GET", "/readyz")).status != 200:
                await asyncio.sleep(0.02)
        await proxy.start("box", "echo-lines")
        assert len(containers_of(proxy.instance)) == 1
        await echoes(proxy, "box")


@pytest.mark.redteam(63)
async def test_servers_outlive_an_engine_that_was_away_and_their_clients_come_back(engine: str, tmp_path: Path) -> None:
    document = policy_document(toolbox_rule())
    async with proxy_under_test(tmp_path, document, reconnect_s=0.05, sweep_interval_s=0.1) as proxy:
        made = (await proxy.start("box", "echo-lines"))["container_id"]
        async with proxy.stdio("box", SUBPROTOCOL_MCP) as ws:
            await proxy.recorder.__aexit__(None, None, None)  # connections break, and new ones are refused
            assert (await ws.receive(timeout=30)).type is WSMsgType.CLOSE
            assert ws.close_code == CloseCode.ENGINE_LOST
        for path in ("/v1/servers/new/start", "/v1/servers/box/stop"):
            answer = await proxy.call("POST", path, {"image": TOOLBOX} if "start" in path else None)
            assert (answer.status, answer.problem) == (503, "engine-unavailable")
        assert (await proxy.call("GET", "/v1/servers/box")).json["state"] == "running"
        await proxy.recorder.__aenter__()
        async with asyncio.timeout(30):
            while True:
                with suppress(TimeoutError, TypeError, aiohttp.WSServerHandshakeError):
                    async with asyncio.timeout(1), proxy.stdio("box", SUBPROTOCOL_MCP, query="?takeover=1") as ws:
                        await ws.send_str("are you there?")
                        if (await ws.receive()).data == "are you there?":
                            break
        assert (await proxy.call("GET", "/v1/servers/box")).json["container_id"] == made
        async with asyncio.timeout(30):
            while (await proxy.call("GET", "/readyz")).status != 200:
                await asyncio.sleep(0.02)
