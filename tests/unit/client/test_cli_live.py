"""``doogie start`` while an image is pulled, and ``doogie watch``: on a terminal, into a pipe, interrupted."""

import asyncio
import json
import os
import pty
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from tests.unit.client.fake_proxy import FakeProxy
from tests.unit.client.test_cli import DOOGIE, HOSTILE, RUNNING, Cli
from tests.unit.client.test_client_events import sse

MB = 1_000_000


def pulling(done: int, total: int | None = 40 * MB) -> dict[str, object]:
    layers = [
        {"id": "one", "phase": "downloading", "current_bytes": done, "total_bytes": total},
        {"id": "two", "phase": "waiting", "current_bytes": None, "total_bytes": None},
    ]
    status = {"name": "time", "state": "pulling", "image": f"mcp/time{HOSTILE}"}
    return {"server": {**status, "pull": {"image": "mcp/time", "layers": layers}}}


class Pulling:
    """A proxy that pulls the image of ``time``, as far as it is told, and starts it then."""

    def __init__(self, fake: FakeProxy) -> None:
        fake.handler = self.handle
        self.told: asyncio.Queue[dict[str, object]] = asyncio.Queue()
        self.done = asyncio.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.method == "POST":
            await self.done.wait()
            return web.json_response(RUNNING)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(sse("snapshot", {"servers": []}))
        while True:
            await response.write(sse("server", await self.told.get()))


@pytest.fixture
def cli(fake: FakeProxy, tmp_path: Path) -> Cli:
    return Cli(fake, tmp_path)


@pytest.fixture
def proxy(fake: FakeProxy) -> Pulling:
    return Pulling(fake)


class Terminal:
    """What a program writes to a terminal."""

    def __init__(self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader) -> None:
        self.process = process
        self._reader = reader
        self.text = ""

    async def until(self, *words: str) -> None:
        async with asyncio.timeout(30):
            while not all(word in self.text for word in words):
                data = await self._reader.read(65536)
                assert data, f"it ended with: {self.text}"
                self.text += data.decode(errors="replace")


@asynccontextmanager
async def on_terminal(cli: Cli, *args: str) -> AsyncIterator[Terminal]:
    main, terminal = pty.openpty()
    env = cli.env | {"TERM": "xterm", "COLUMNS": "120"}
    process = await asyncio.create_subprocess_exec(*DOOGIE, *args, env=env, stdout=terminal, stderr=terminal)
    os.close(terminal)
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(main, "rb", buffering=0)
    )
    try:
        yield Terminal(process, reader)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        transport.close()


async def test_start_into_a_pipe_writes_a_line_for_each_tenth_of_the_pull(proxy: Pulling, cli: Cli) -> None:
    process = await cli.start("start", "time", "mcp/time")
    for done in (0, MB, 2 * MB, 4 * MB, 5 * MB, 40 * MB):
        proxy.told.put_nowait(pulling(done))
    assert process.stderr is not None
    async with asyncio.timeout(30):
        lines = [(await process.stderr.readline()).decode() for _ in range(3)]
        proxy.done.set()
        out, rest = await process.communicate()
    assert [line.rpartition(": ")[2] for line in lines] == [
        f"{done} of 40.0 MB, 2 layers\n" for done in ("0.0", "4.0", "40.0")
    ]
    assert "\x1b" not in "".join(lines)
    assert (out, rest, process.returncode) == (b"time running\n", b"", 0)


async def test_start_on_a_terminal_shows_a_bar_and_takes_it_away(proxy: Pulling, cli: Cli) -> None:
    async with on_terminal(cli, "start", "time", "mcp/time") as terminal:
        proxy.told.put_nowait(pulling(10 * MB))
        await terminal.until("pulling mcp/time", "10.0/40.0 MB")
        assert "\x1b[2Jcleared" not in terminal.text
        proxy.done.set()
        await terminal.until("time running")
        assert terminal.text.rpartition("\x1b[2K")[2].startswith("time running")


async def test_start_without_progress_to_be_had_starts_all_the_same(fake: FakeProxy, cli: Cli) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        if request.method == "GET":
            asked.set()
            return web.Response(status=404, text="a proxy from before events")
        await asked.wait()
        return web.json_response(RUNNING)

    asked = asyncio.Event()
    fake.handler = handler
    assert await cli.run("start", "time", "mcp/time") == (0, "time running\n", "")


async def test_start_that_is_interrupted_says_that_it_may_go_on(proxy: Pulling, cli: Cli) -> None:
    process = await cli.start("start", "time", "mcp/time")
    proxy.told.put_nowait(pulling(0))
    assert process.stderr is not None
    async with asyncio.timeout(30):
        await process.stderr.readline()
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()
    assert (out, process.returncode) == (b"", 130)
    assert err == b"doogie: left alone, the start may go on; `doogie stop time` ends it\n"


def life() -> bytes:
    """A server from its start to its end, and one that was there before."""
    other = {"name": "other", "state": "running"}
    exited = {"reason": "exited", "code": 3, "signal": None, "finished_at": None, "stderr_tail": HOSTILE}
    denied = {"type": "x", "title": "x", "status": 424, "detail": "no such image", "request_id": "r"}
    statuses: list[dict[str, object]] = [
        {"name": "time", "state": "pulling"},
        {"name": "time", "state": "running"},
        {"name": "time", "state": "running", "stdio": {"attached": True}},
        {"name": "time", "state": "exited", "exit": exited},
        {"name": "time", "state": "absent"},
        {"name": "failed", "state": "absent", "problem": denied},
    ]
    return sse("snapshot", {"servers": [other]}) + b"".join(sse("server", {"server": one}) for one in statuses)


def serve_life(fake: FakeProxy) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(life())
        await asyncio.Event().wait()
        return response

    fake.handler = handler


async def test_watch_into_a_pipe_writes_a_line_for_each_change_until_it_is_interrupted(
    fake: FakeProxy, cli: Cli
) -> None:
    serve_life(fake)
    process = await cli.start("watch")
    assert process.stdout is not None
    async with asyncio.timeout(30):
        lines = [(await process.stdout.readline()).decode() for _ in range(7)]
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()
    assert [line.split("  ", 1)[1] for line in lines] == [
        "other  running\n",
        "time  pulling\n",
        "time  running\n",
        "time  running  attached\n",
        "time  exited  exited, code 3\n",
        "time  absent\n",
        "failed  absent  no such image\n",
    ]
    assert (out, err, process.returncode) == (b"", b"", 130)


async def test_watch_as_json_is_one_event_a_line(fake: FakeProxy, cli: Cli) -> None:
    serve_life(fake)
    process = await cli.start("watch", "--json")
    assert process.stdout is not None
    async with asyncio.timeout(30):
        lines = [json.loads(await process.stdout.readline()) for _ in range(7)]
        process.send_signal(signal.SIGTERM)
        await process.communicate()
    assert [server["name"] for server in lines[0]["servers"]] == ["other"]
    assert [line["server"]["state"] for line in lines[1:]] == [
        "pulling", "running", "running", "exited", "absent", "absent"
    ]  # fmt: skip
    assert process.returncode == 143


async def test_watch_on_a_terminal_is_a_table_without_what_is_gone(fake: FakeProxy, cli: Cli) -> None:
    serve_life(fake)
    async with on_terminal(cli, "watch") as terminal:
        await terminal.until("NAME", "NEWS", "other", "failed", "no such image")
        shown = terminal.text.rpartition("NAME")[2]
        assert "time" not in shown
        terminal.process.send_signal(signal.SIGINT)
        async with asyncio.timeout(30):
            assert await terminal.process.wait() == 130
        assert "Traceback" not in terminal.text


async def test_watch_whose_reader_goes_away_ends_quietly(fake: FakeProxy, cli: Cli) -> None:

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        while True:  # it finds out when it writes to nobody
            await response.write(life())
            await asyncio.sleep(0.05)

    fake.handler = handler
    process = await asyncio.create_subprocess_shell(
        " ".join([*DOOGIE, "watch"]) + " | head --lines=2",
        env=cli.env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(30):
        out, err = await process.communicate()
    assert (len(out.splitlines()), err) == (2, b"")
