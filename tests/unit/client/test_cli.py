"""The `doogie` command as a process, against the fake proxy."""

import asyncio
import json
import os
import pty
import signal
import sys
from pathlib import Path

import pytest
from aiohttp import web

from doogie_client.cli.output import age, printable
from doogie_contract.channels import Channel, CloseCode, encode
from doogie_contract.problems import PROBLEM_CONTENT_TYPE, ProblemType
from tests.unit.client.fake_proxy import TOKEN, FakeProxy, join_process, problem
from tests.unit.client.test_client_mcp import LEGACY_SERVER, LIMITS

# A shell has what it runs in the background ignore Ctrl-C, and children inherit that.
DOOGIE = ("env", "--default-signal=INT", sys.executable, "-m", "doogie_client.cli")
HOSTILE = "\x1b[2Jcleared\x07\u202e"
RUNNING = {
    "name": "time",
    "state": "running",
    "rule": "time",
    "image": "mcp/time",
    "started_at": "2026-11-01T00:00:00Z",
    "stdio": {"attached": True, "half_close": False},
}


class Cli:
    def __init__(self, fake: FakeProxy, directory: Path) -> None:
        token_file = directory / "token"
        token_file.write_text(TOKEN + "\n")
        path = os.environ.get("PATH", "")
        self.env = {"DOOGIE_PROXY_URL": fake.url, "DOOGIE_PROXY_TOKEN_FILE": str(token_file), "PATH": path}

    async def start(self, *args: str, stdin: int | None = asyncio.subprocess.PIPE) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(*DOOGIE, *args, env=self.env, stdin=stdin, stdout=pipe, stderr=pipe)

    async def run(self, *args: str, stdin: bytes = b"") -> tuple[int | None, str, str]:
        process = await self.start(*args)
        async with asyncio.timeout(30):
            out, err = await process.communicate(stdin)
        assert TOKEN not in f"{out!r}{err!r}"
        return process.returncode, out.decode(), err.decode()

    async def on_terminal(self, *args: str) -> str:
        main, terminal = pty.openpty()
        try:
            process = await asyncio.create_subprocess_exec(
                *DOOGIE, *args, env=self.env | {"TERM": "xterm", "COLUMNS": "80"}, stdout=terminal, stderr=terminal
            )
            async with asyncio.timeout(30):
                await process.wait()
            return os.read(main, 65536).decode()
        finally:
            os.close(main)
            os.close(terminal)


@pytest.fixture
def cli(fake: FakeProxy, tmp_path: Path) -> Cli:
    return Cli(fake, tmp_path)


def serve_stdio(fake: FakeProxy, *argv: str, replay: str = "engine-log") -> None:
    """A server named ``x`` under a rule with this ``replay``, whose stdio is this process."""
    rule = {
        "name": "r", "images": [], "args": {"prefix": [], "any": True, "patterns": [], "max": 1},
        "env_allow": [], "env_fixed": [], "limits": {**LIMITS, "replay": replay},
    }  # fmt: skip

    async def handler(request: web.Request) -> web.StreamResponse:
        match request.path:
            case "/v1/policy":
                return web.json_response({"client": "chat", "rules": [rule]})
            case "/v1/servers/x":
                return web.json_response({"name": "x", "state": "running", "rule": "r"})
        socket = web.WebSocketResponse(protocols=["v5.channel.k8s.io"], timeout=0.2)
        await socket.prepare(request)
        await join_process(socket, *argv)
        return socket

    fake.handler = handler


# --- what is shown ----------------------------------------------------------------------------------------------------


async def test_ls_into_a_pipe_is_plain_aligned_text(fake: FakeProxy, cli: Cli) -> None:
    fake.answer_json({"servers": [RUNNING, {"name": "a-very-long-name", "state": "exited"}]})
    code, out, err = await cli.run("ls")
    header, first, second = out.splitlines()
    assert (code, err) == (0, "")
    assert header.split() == ["NAME", "STATE", "SINCE", "ATTACHED", "RULE", "IMAGE"]
    assert first.split()[:2] == ["time", "running"]
    assert second.index("exited") == first.index("running") == header.index("STATE")


async def test_json_output_is_the_wire_model(fake: FakeProxy, cli: Cli) -> None:
    fake.answer_json({"servers": [RUNNING]})
    code, out, _ = await cli.run("ls", "--json")
    (server,) = json.loads(out)["servers"]
    assert code == 0
    assert RUNNING.items() <= server.items()


async def test_a_terminal_gets_colour_and_never_a_servers_control_characters(fake: FakeProxy, cli: Cli) -> None:
    exited = {"reason": "exited", "code": 1, "signal": None, "finished_at": None, "stderr_tail": HOSTILE}
    fake.answer_json({**RUNNING, "state": "exited", "exit": exited})
    shown = await cli.on_terminal("status", "time")
    assert "\\x1b[2Jcleared\\x07\\x202e" in shown
    assert HOSTILE not in shown
    fake.answer_json({"servers": [{**RUNNING, "image": HOSTILE}]})
    shown = await cli.on_terminal("ls")
    assert "\x1b[32mrunning" in shown
    assert "\x1b[2J" not in shown


async def test_logs_are_raw_into_a_pipe_and_printable_on_a_terminal(fake: FakeProxy, cli: Cli) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(text=HOSTILE + "\r\nnext\n")

    fake.handler = handler
    for options in ((), ("-f",)):
        assert (await cli.run("logs", *options, "time"))[1] == HOSTILE + "\r\nnext\n"
        assert await cli.on_terminal("logs", *options, "time") == "\\x1b[2Jcleared\\x07\\x202e\r\nnext\r\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ü 漢 🙂\tx\n", "plain ü 漢 🙂\tx\n"),
        ("a\r\nb", "a\nb"),
        ("over\rwrite", "over\\x0dwrite"),
        ("\x1b]0;t\x07\x9b1m\x7f\x00", "\\x1b]0;t\\x07\\x9b1m\\x7f\\x00"),
        ("\u2066x\u2028", "\\x2066x\\x2028"),
    ],
)
def test_printable_leaves_text_alone_and_shows_the_rest(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("seconds", "text"), [(-3, "0s"), (59.9, "59s"), (60, "1m"), (3600, "1h"), (47 * 3600, "47h"), (172800, "2d")]
)
def test_ages_have_one_unit(seconds: float, text: str) -> None:
    assert age(seconds) == text


# --- what is asked ----------------------------------------------------------------------------------------------------


async def test_start_sends_image_arguments_and_environment(fake: FakeProxy, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "env").write_text("A=file\nB=2\n")
    fake.answer_json(RUNNING, 201)
    code, out, _ = await cli.run(
        "start",
        "time",
        "mcp/time",
        "-e",
        "A=1",
        "--env-file",
        str(tmp_path / "env"),
        "--secret",
        "github",
        "--mount",
        "docs",
        "--",
        "--local-timezone=UTC",
        "-e",
    )
    assert (code, out) == (0, "time running\n")
    assert json.loads(fake.bodies[0]) == {
        "image": "mcp/time",
        "args": ["--local-timezone=UTC", "-e"],
        "env": {"A": "1", "B": "2"},
        "secrets": ["github"],
        "mounts": ["docs"],
    }


async def test_stop_tells_how_it_ended(fake: FakeProxy, cli: Cli) -> None:
    how = {"reason": "stopped", "code": 143, "signal": "SIGTERM", "finished_at": None, "stderr_tail": ""}
    fake.answer_json({"name": "time", "state": "absent", "exit": how})
    assert (await cli.run("stop", "time", "--grace", "3"))[:2] == (0, "time absent (stopped, SIGTERM)\n")
    assert fake.bodies == [b'{"grace_s":3}']


async def test_dry_run_shows_rule_and_limits(fake: FakeProxy, cli: Cli) -> None:
    fake.answer_json({"rule": "time", "image": "mcp/time@sha256:0", "args": ["--x"], "limits": LIMITS})
    code, out, _ = await cli.run("start", "time", "mcp/time", "--dry-run")
    assert code == 0
    assert ["rule", "time"] in [line.split() for line in out.splitlines()]
    assert fake.requests[0].query == {"dry_run": "1"}


# --- what goes wrong --------------------------------------------------------------------------------------------------


async def test_a_problem_is_one_message_with_each_fault_the_request_id_and_a_hint(fake: FakeProxy, cli: Cli) -> None:
    fake.answer_problem(ProblemType.POLICY_DENIED)
    code, out, err = await cli.run("start", "time", "alpine")
    assert (code, out) == (1, "")
    assert err.splitlines() == [
        "doogie: policy-denied: The policy does not allow this",
        "  the detail",
        "  rules.time: the image is not one of the rule's",
        "  request id: req-1",
        "  hint: `doogie policy` shows what you may start",
    ]


async def test_a_proxy_that_is_not_there_is_exit_code_3(cli: Cli, tmp_path: Path) -> None:
    code, _, err = await cli.run("--url", f"unix://{tmp_path}/absent.sock", "ls")
    assert code == 3
    assert "there is no such socket: does the proxy run" in err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--url", "tcp://x", "ls"), "is not the URL of a proxy"),
        (("--token-file", "/nonexistent", "ls"), "No such file"),
        (("status", "Bad/Name"), "is not a server name"),
        (("start", "x", "bad image"), "image: "),
        (("start", "x", "i", "-e", "1=2"), "-e: expected NAME=VALUE"),
        (("start", "x", "i", "--env-file", "/nonexistent"), "No such file"),
        (("stop", "x", "--grace", "301"), "--grace"),
        (("nonsense",), "nonsense"),
    ],
)
async def test_wrong_usage_is_exit_code_2_and_sends_nothing(
    fake: FakeProxy, cli: Cli, args: tuple[str, ...], message: str
) -> None:
    code, out, err = await cli.run(*args)
    assert (code, out) == (2, "")
    assert message in err
    assert fake.requests == []


async def test_a_value_of_the_environment_is_not_repeated_in_an_error(cli: Cli) -> None:
    code, _, err = await cli.run("start", "x", "i", "-e", f"A=hush{'x' * 40000}")
    assert code == 2
    assert "env.A: " in err
    assert "hush" not in err


async def test_without_a_token_it_says_where_to_put_one(cli: Cli) -> None:
    del cli.env["DOOGIE_PROXY_TOKEN_FILE"]
    code, _, err = await cli.run("ls")
    assert code == 2
    assert "set DOOGIE_PROXY_TOKEN_FILE" in err


# --- stdio ------------------------------------------------------------------------------------------------------------


async def test_stdio_joins_byte_for_byte_and_hands_on_end_of_file(fake: FakeProxy, cli: Cli) -> None:
    serve_stdio(fake, "cat", replay="none")
    data = os.urandom(3_000_000)
    process = await cli.start("stdio", "x")
    out, err = await process.communicate(data)
    assert (process.returncode, err) == (0, b"")
    assert out == data


async def test_stdio_takes_a_file_as_stdin(fake: FakeProxy, cli: Cli, tmp_path: Path) -> None:
    serve_stdio(fake, "cat", replay="none")
    (tmp_path / "in").write_bytes(b"from a file")
    with (tmp_path / "in").open("rb") as file:
        process = await cli.start("stdio", "x", stdin=file.fileno())
    assert (await process.communicate())[0] == b"from a file"


async def test_stdio_exits_with_the_servers_code_and_passes_stderr_on(fake: FakeProxy, cli: Cli) -> None:
    serve_stdio(fake, "sh", "-c", "echo out; echo err >&2; exit 42")
    process = await cli.start("stdio", "x")  # own stdin stays open: the server's end is enough
    assert process.stdout is not None
    assert process.stderr is not None
    assert (await process.stdout.read(), await process.stderr.read()) == (b"out\n", b"err\n")
    assert await process.wait() == 42


async def test_after_end_of_file_a_server_that_cannot_see_it_may_still_answer(fake: FakeProxy, cli: Cli) -> None:
    serve_stdio(fake, "sh", "-c", "read line; sleep 0.5; echo got $line; sleep 60")
    code, out, err = await cli.run("stdio", "x", "--linger", "1.5", stdin=b"question\n")
    assert (code, out, err) == (0, "got question\n", "")


async def test_stdio_detaches_on_sigterm(fake: FakeProxy, cli: Cli) -> None:
    codes: list[int | None] = []
    attached = asyncio.Event()
    serve_stdio(fake, "cat")
    inner = fake.handler

    async def handler(request: web.Request) -> web.StreamResponse:
        if not request.path.endswith("/stdio"):
            return await inner(request)
        socket = web.WebSocketResponse(protocols=["v5.channel.k8s.io"])
        await socket.prepare(request)
        await socket.send_bytes(encode(Channel.STDOUT, b"hello"))
        attached.set()
        await socket.receive()
        codes.append(socket.close_code)
        return socket

    fake.handler = handler
    process = await cli.start("stdio", "x")
    await attached.wait()
    assert process.stdout is not None
    assert await process.stdout.read(5) == b"hello"
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(10):
        await process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    assert codes == [CloseCode.NORMAL]


async def test_stdio_whose_reader_is_gone_ends_quietly(fake: FakeProxy, cli: Cli) -> None:
    serve_stdio(fake, "yes")
    process = await cli.start("stdio", "x")
    assert process.stdout is not None
    assert process.stderr is not None
    await process.stdout.read(2)
    process.stdout._transport.close()  # type: ignore[attr-defined] # a StreamReader has no close of its own
    async with asyncio.timeout(20):
        assert await process.stderr.read() == b""
        assert await process.wait() == 128 + signal.SIGPIPE


async def test_stdio_taken_over_is_a_failure_with_its_reason(fake: FakeProxy, cli: Cli) -> None:
    serve_stdio(fake, "cat")
    inner = fake.handler

    async def handler(request: web.Request) -> web.StreamResponse:
        if not request.path.endswith("/stdio"):
            return await inner(request)
        socket = web.WebSocketResponse(protocols=["v5.channel.k8s.io"])
        await socket.prepare(request)
        await socket.close(code=CloseCode.TAKEN_OVER, message=b"by another")
        return socket

    fake.handler = handler
    code, _, err = await cli.run("stdio", "x")
    assert code == 1
    assert "another attach took the stream over" in err


# --- tools ------------------------------------------------------------------------------------------------------------


async def test_tools_lists_and_call_answers(fake: FakeProxy, cli: Cli) -> None:
    fake.answer_process(*LEGACY_SERVER)
    tools, *calls, as_json = await asyncio.gather(
        cli.run("tools", "x"),
        cli.run("call", "x", "echo", "-a", "text=hi"),
        cli.run("call", "x", "echo", '{"text": "hi"}'),
        cli.run("call", "x", "echo", "-", stdin=b'{"text": "hi"}'),
        cli.run("call", "x", "echo", "-a", "text=hi", "--json"),
    )
    assert [line.split()[0] for line in tools[1].splitlines()] == ["TOOL", "echo", "junk", "exit", "hang"]
    assert [result[:2] for result in calls] == [(0, "hi\n")] * 3
    assert json.loads(as_json[1])["content"] == [{"type": "text", "text": "hi"}]


async def test_a_tool_of_a_dying_server_tells_code_and_stderr(fake: FakeProxy, cli: Cli) -> None:
    fake.answer_process(*LEGACY_SERVER)
    code, out, err = await cli.run("call", "x", "exit")
    assert (code, out) == (1, "")
    assert "told by the fake proxy: Traceback: boom" in err


async def test_an_error_answer_of_the_server_is_exit_code_4(fake: FakeProxy, cli: Cli) -> None:
    fake.answer_process(*LEGACY_SERVER)
    code, _, err = await cli.run("call", "x", "hang", "--timeout", "0.2")
    assert code == 4
    assert "timed out" in err


async def test_arguments_that_do_not_fit_are_wrong_usage(fake: FakeProxy, cli: Cli) -> None:
    fake.answer_process(*LEGACY_SERVER)
    code, _, err = await cli.run("call", "x", "echo", "[1]")
    assert code == 2
    assert "one JSON object" in err


async def test_a_problem_stays_a_problem_below_tools(fake: FakeProxy, cli: Cli) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.json_response(problem(ProblemType.STDIO_BUSY), status=409, content_type=PROBLEM_CONTENT_TYPE)

    fake.handler = handler
    code, _, err = await cli.run("tools", "x")
    assert code == 1
    assert "hint: --takeover takes the stream" in err
