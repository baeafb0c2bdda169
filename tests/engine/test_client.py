"""The client library against a real proxy on the real engine."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from pathlib import Path

import pytest

from doogie_client import (
    Channel,
    HalfCloseUnavailable,
    NotFound,
    PolicyDenied,
    ProxyClient,
    ProxyRestarting,
    ProxyUnavailable,
    ServerExited,
    ServerState,
    SpecConflict,
    StartRequest,
    StdioBusy,
    StdioStream,
    TakenOver,
    Unauthenticated,
)
from tests.e2e.servers import starter_rules
from tests.support.harness import (
    TOKEN,
    TOOLBOX,
    ProxyUnderTest,
    docker,
    policy_document,
    proxy_under_test,
    toolbox_rule,
)

TIME = StartRequest(image="doogie/mcp-server-time")


def toolbox(*args: str) -> StartRequest:
    """Runs under the rule whose servers survive the proxy and cannot see end-of-file."""
    return StartRequest(image=TOOLBOX, args=list(args))


def toolbox_eof(*args: str) -> StartRequest:
    """Runs under the rule ``eof``: it alone admits the variable."""
    return StartRequest(image=TOOLBOX, args=list(args), env={"SEES_EOF": "1"})


@pytest.fixture
async def proxy(engine: str, tmp_path: Path) -> AsyncIterator[ProxyUnderTest]:
    eof = toolbox_rule(name="eof", stdio={"replay": "none"}, env={"allow": ["SEES_EOF"]})
    async with proxy_under_test(tmp_path, policy_document(toolbox_rule(), eof)) as running:
        yield running


@pytest.fixture
async def client(proxy: ProxyUnderTest) -> AsyncIterator[ProxyClient]:
    """Stops at the end what a test left running."""
    async with ProxyClient(f"unix://{proxy.socket}", TOKEN) as client:
        yield client
        for server in await client.list():
            await client.stop(server.name)


async def read_all(stream: StdioStream) -> bytes:
    parts = []
    while chunk := await stream.read():
        parts.append(chunk)
    return b"".join(parts)


# --- servers ----------------------------------------------------------------------------------------------------------


async def test_a_server_from_start_to_stop(client: ProxyClient) -> None:
    started = await client.start("box", toolbox("sleep"))
    assert (started.state, started.rule) == (ServerState.RUNNING, "toolbox")
    assert (await client.start("box", toolbox("sleep"))).container_id == started.container_id
    assert [server.name for server in await client.list()] == ["box"]
    with pytest.raises(SpecConflict):
        await client.start("box", toolbox("cat"))
    restarted = await client.restart("box", toolbox("cat"))
    assert restarted.container_id != started.container_id
    assert (await client.status("box")).container_id == restarted.container_id
    assert (await client.stop("box")).state is ServerState.ABSENT
    assert (await client.stop("box")).state is ServerState.ABSENT
    with pytest.raises(NotFound):
        await client.status("box")


async def test_start_without_waiting_runs_soon_after(client: ProxyClient, proxy: ProxyUnderTest) -> None:
    await client.start("box", toolbox("sleep"), wait=False)
    await proxy.until("box", "running")


async def test_a_dry_run_asks_the_engine_for_nothing(client: ProxyClient, proxy: ProxyUnderTest) -> None:
    admission = await client.admit("box", toolbox("cat"))
    assert (admission.rule, admission.limits.replay) == ("toolbox", "engine-log")
    assert (await client.admit("box", toolbox_eof("cat"))).limits.replay == "none"
    with pytest.raises(PolicyDenied) as caught:
        await client.admit("box", StartRequest(image="debian"))
    assert [fault.loc for fault in caught.value.problem.errors] == ["rules.toolbox", "rules.eof"]
    assert proxy.recorder.creates() == []


async def test_a_denied_restart_leaves_the_server_running(client: ProxyClient) -> None:
    started = await client.start("box", toolbox("sleep"))
    with pytest.raises(PolicyDenied):
        await client.restart("box", StartRequest(image="debian"))
    assert (await client.status("box")).container_id == started.container_id


async def test_policy_and_ticket(client: ProxyClient) -> None:
    assert [rule.name for rule in (await client.policy()).rules] == ["toolbox", "eof"]
    await client.start("box", toolbox("sleep"))
    assert (await client.ticket("box")).ticket


async def test_a_wrong_token_is_its_own_error(proxy: ProxyUnderTest) -> None:
    async with ProxyClient(proxy.tcp_url.replace("tcp:", "http:"), "wrong") as client:
        with pytest.raises(Unauthenticated):
            await client.list()


async def test_logs_follow_stderr_to_the_servers_end(client: ProxyClient) -> None:
    await client.start("box", toolbox_eof("tee", "3"))
    async with client.stdio("box") as stream:
        await stream.write(b"first\nsecond\n")
        await stream.read()
        async with aclosing(client.follow_logs("box", tail=10)) as pieces:
            text = await anext(pieces)
            await stream.close_stdin()
            text += "".join([piece async for piece in pieces])
    assert text == "first\nsecond\n"
    assert await client.logs("box", tail=1) == "second\n"


# --- stdio ------------------------------------------------------------------------------------------------------------


async def test_random_bytes_come_back_equal_and_half_close_is_seen(client: ProxyClient) -> None:
    data = os.urandom(20_000_003)
    await client.start("box", toolbox_eof("cat"))
    async with client.stdio("box") as stream:

        async def feed() -> None:
            await stream.write(data)
            await stream.close_stdin()

        feeding = asyncio.create_task(feed())
        assert await read_all(stream) == data
        await feeding
        assert stream.exit is not None
        assert stream.exit.code == 0
        with pytest.raises(ServerExited):
            await stream.write(b"x")


async def test_half_close_is_refused_where_it_is_not_available(client: ProxyClient) -> None:
    await client.start("box", toolbox("cat"))
    async with client.stdio("box") as stream:
        await stream.write(b"echo")
        assert await stream.read() == b"echo"
        await stream.close_stdin()
        with pytest.raises(HalfCloseUnavailable, match="replay: none"):
            await stream.read()
    assert (await client.status("box")).state is ServerState.RUNNING


async def test_stderr_is_apart_and_in_the_exits_error(client: ProxyClient) -> None:
    await client.start("box", toolbox_eof("tee", "3"))
    async with client.stdio("box") as stream:
        await stream.write(b"both")
        await stream.close_stdin()
        seen: dict[Channel, bytes] = {}
        while (frame := await stream.receive()) is not None:
            seen[frame.channel] = seen.get(frame.channel, b"") + frame.payload
        assert seen == {Channel.STDOUT: b"both", Channel.STDERR: b"both"}
        assert isinstance(stream.end, ServerExited)
        assert (stream.end.code, stream.end.stderr_tail) == (3, "both")


async def test_attaching_to_a_server_that_has_ended_tells_how(client: ProxyClient, proxy: ProxyUnderTest) -> None:
    await client.start("box", toolbox("exit", "5"))
    await proxy.until("box", "exited")
    async with client.stdio("box") as stream:
        assert await stream.read() == b""
        assert isinstance(stream.end, ServerExited)
        assert (stream.end.code, stream.end.stderr_tail) == (5, "exiting with code 5\n")


async def test_a_killed_server_ends_the_stream_with_its_signal(client: ProxyClient) -> None:
    status = await client.start("box", toolbox("cat"))
    assert status.container_id is not None
    async with client.stdio("box") as stream:
        await asyncio.to_thread(docker, "kill", status.container_id)
        assert await stream.read() == b""
        assert isinstance(stream.end, ServerExited)
        assert stream.end.signal == "SIGKILL"


async def test_the_next_attach_goes_on_where_the_last_one_stopped(client: ProxyClient) -> None:
    await client.start("box", toolbox("echo-lines"))
    for number in range(5):
        async with client.stdio("box") as stream:
            await stream.write(b"%d\n" % number)
            assert await stream.read() == b"%d\n" % number


async def test_what_came_before_the_first_attach_is_not_lost(client: ProxyClient, proxy: ProxyUnderTest) -> None:
    await client.start("box", toolbox("count", "1000"))
    async with client.stdio("box") as stream, aclosing(stream.lines()) as lines:
        assert [await anext(lines) for _ in range(1000)] == [b"%d" % number for number in range(1000)]


async def test_a_takeover_is_told_to_whom_it_throws_out(client: ProxyClient) -> None:
    await client.start("box", toolbox("cat"))
    async with client.stdio("box") as first:
        with pytest.raises(StdioBusy):
            async with client.stdio("box"):
                pass
        async with client.stdio("box", takeover=True) as second:
            with pytest.raises(TakenOver):
                await first.read()
            with pytest.raises(TakenOver):
                await first.write(b"x")
            await second.write(b"mine")
            assert await second.read() == b"mine"


async def test_a_line_of_20_mb_comes_whole(client: ProxyClient) -> None:
    await client.start("box", toolbox("big", "20000000"))
    async with client.stdio("box") as stream, aclosing(stream.lines()) as lines:
        assert await anext(lines) == b"x" * 20_000_000


async def test_cancelled_reads_lose_nothing(client: ProxyClient) -> None:
    await client.start("box", toolbox("count", "20000"))
    expected = b"".join(b"%d\n" % number for number in range(20000))
    received = b""
    async with client.stdio("box") as stream:
        while len(received) < len(expected):
            try:
                async with asyncio.timeout(0.0005):
                    received += await stream.read()
            except TimeoutError:
                continue
    assert received == expected


async def test_a_proxy_that_ends_says_that_it_comes_back(engine: str, tmp_path: Path) -> None:
    document = policy_document(toolbox_rule())
    async with AsyncExitStack() as stack:
        async with proxy_under_test(tmp_path, document, leave_running=True) as first:
            client = await stack.enter_async_context(ProxyClient(f"unix://{first.socket}", TOKEN))
            await client.start("box", toolbox("echo-lines"))
            stream = await stack.enter_async_context(client.stdio("box"))
            reading = asyncio.create_task(stream.read())
            await asyncio.sleep(0)
        with pytest.raises(ProxyRestarting):
            await reading
        with pytest.raises(ProxyUnavailable):
            await client.status("box")
    async with (
        proxy_under_test(tmp_path, document, instance=first.instance) as second,
        ProxyClient(f"unix://{second.socket}", TOKEN) as client,
    ):
        async with client.stdio("box") as stream:
            await stream.write(b"still there\n")
            assert await stream.read() == b"still there\n"
        await client.stop("box")


async def test_a_write_that_is_cancelled_cancels_neither_the_next_one_nor_the_detach(
    client: ProxyClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("doogie_client.stdio.DETACH_TIMEOUT_S", 0.2)
    await client.start("box", toolbox("sleep"))  # which reads nothing
    async with client.stdio("box") as stream:
        for _ in range(2):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await stream.write(bytes(16 * 2**20))


async def test_stop_waits_for_a_server_that_ignores_end_of_file_and_sigterm(engine: str, tmp_path: Path) -> None:
    rule = toolbox_rule(stdio={"replay": "none"})
    async with (
        proxy_under_test(tmp_path, policy_document(rule)) as proxy,
        ProxyClient(f"unix://{proxy.socket}", TOKEN, timeout_s=1.5) as client,
    ):
        await client.start("box", toolbox("ignore-term"))
        async with client.stdio("box") as stream:
            assert await stream.read() == b"ready\n"
        assert (await client.stop("box", grace_s=2)).state is ServerState.ABSENT


# --- MCP sessions -----------------------------------------------------------------------------------------------------


@pytest.fixture
async def mcp_client(engine: str, tmp_path: Path) -> AsyncIterator[ProxyClient]:
    """Fails when a session leaves a container behind."""
    async with (
        proxy_under_test(tmp_path, policy_document(*starter_rules())) as proxy,
        ProxyClient(f"unix://{proxy.socket}", TOKEN) as client,
    ):
        yield client


async def test_a_session_of_its_own_leaves_nothing_behind(mcp_client: ProxyClient) -> None:
    async with mcp_client.mcp_session("time", request=TIME) as session:
        assert "get_current_time" in [tool.name for tool in (await session.list_tools()).tools]
    assert await mcp_client.list() == []


async def test_a_cancelled_session_leaves_nothing_behind(mcp_client: ProxyClient) -> None:
    async def hang() -> None:
        async with mcp_client.mcp_session("time", request=TIME):
            running.set()
            await asyncio.Event().wait()

    running = asyncio.Event()
    task = asyncio.create_task(hang())
    await running.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await mcp_client.list() == []


async def test_a_killed_server_fails_the_call_at_once_with_the_typed_error(mcp_client: ProxyClient) -> None:
    with pytest.raises(ServerExited) as caught:  # noqa: PT012 - the error leaves the block as a whole
        async with mcp_client.mcp_session("time", request=TIME) as session:
            container_id = (await mcp_client.status("time")).container_id
            assert container_id is not None
            await asyncio.to_thread(docker, "kill", container_id)
            async with asyncio.timeout(5):
                await session.call_tool("get_current_time", {"timezone": "UTC"})
    assert caught.value.signal == "SIGKILL"


async def test_a_program_that_is_no_server_is_the_typed_error(client: ProxyClient) -> None:
    with pytest.raises(ServerExited, match="exiting with code 5") as caught:
        async with client.mcp_session("box", request=toolbox("exit", "5")):
            pass
    assert caught.value.code == 5
    assert await client.list() == []
