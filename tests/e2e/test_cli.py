"""The installed ``doogie`` command as a process, through a real proxy, with real servers."""

import json
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TypeVar

import pytest
from pydantic import BaseModel

from doogie_contract.models import Admission, ClientPolicy, ServerList, ServerState, ServerStatus
from tests.e2e.programs import Finished, run
from tests.e2e.servers import SERVERS, starter_rules
from tests.support.harness import TOKEN, TOOLBOX, ProxyUnderTest, policy_document, proxy_under_test, toolbox_rule

Model = TypeVar("Model", bound=BaseModel)

DOOGIE = Path(sys.executable).with_name("doogie")
TIME = SERVERS[0]


class Cli:
    """``await cli("ls")``: the command in an environment that holds where the proxy is, and nothing else."""

    def __init__(self, proxy: ProxyUnderTest, directory: Path) -> None:
        token_file = directory / "token"
        token_file.write_text(TOKEN + "\n")
        self.environment = {
            "DOOGIE_PROXY_URL": f"unix://{proxy.socket}",
            "DOOGIE_PROXY_TOKEN_FILE": str(token_file),
            "PYTHONWARNINGS": "error",
        }

    async def __call__(self, *args: str, stdin: bytes = b"") -> Finished:
        return await run(DOOGIE, *args, stdin=stdin, environment=self.environment)

    async def text(self, *args: str) -> str:
        """What a command that succeeds prints."""
        done = await self(*args)
        assert (done.code, done.stderr) == (0, "")
        return done.stdout.decode()

    async def refusal(self, *args: str, **environment: str) -> tuple[int, str]:
        """Exit code and message of a command that fails, request ids made equal."""
        done = await run(DOOGIE, *args, environment={**self.environment, **environment})
        assert done.stdout == b""
        return done.code, re.sub(r"(?<=request id: )[0-9a-f]{32}", "…", done.stderr)


@pytest.fixture
async def proxy(engine: str, tmp_path: Path) -> AsyncIterator[ProxyUnderTest]:
    """A proxy with the starter policy's rules, one whose servers see end-of-file, and one whose image is missing."""
    missing = {"name": "missing", "images": ["doogie-test/missing:1"], "allow_tags": True}
    document = policy_document(toolbox_rule(stdio={"replay": "none"}), missing, *starter_rules())
    async with proxy_under_test(tmp_path, document) as running:
        yield running
        for server in (await running.call("GET", "/v1/servers")).json["servers"]:
            await running.stop(server["name"])


@pytest.fixture
def cli(proxy: ProxyUnderTest, tmp_path: Path) -> Cli:
    return Cli(proxy, tmp_path)


async def test_a_server_from_start_to_stop(cli: Cli) -> None:
    assert await cli.text("start", "time", TIME.image) == "time running\n"
    header, row = (await cli.text("ls")).splitlines()
    assert header.split() == ["NAME", "STATE", "SINCE", "ATTACHED", "RULE", "IMAGE"]
    assert re.fullmatch(r"time +running +\d+s +no +time +doogie/mcp-server-time:[0-9.]+", row)
    tools = await cli.text("tools", "time")
    assert tools.splitlines()[1].split()[:2] == ["get_current_time", "timezone*"]
    answer = await cli.text("call", "time", "get_current_time", "--arg", "timezone=Asia/Tokyo")
    assert json.loads(answer)["timezone"] == "Asia/Tokyo"
    # A tool's own error is told by the exit code, and the server's log has it too.
    wrong = await cli("call", "time", "get_current_time", '{"timezone": "Nowhere"}')
    assert wrong.code == 4
    assert b"Invalid timezone" in wrong.stdout
    assert "Invalid timezone" in await cli.text("logs", "time")
    assert await cli.text("renew", "time") == "time running\n"
    assert await cli.text("stop", "time") == "time absent (stopped, SIGTERM)\n"
    assert (await cli.text("ls")).split() == header.split()
    assert await cli.text("stop", "time") == "time absent\n"


async def test_json_output_is_the_wires_own(cli: Cli) -> None:
    async def answer(model: type[Model], *args: str) -> Model:
        text = await cli.text(*args, "--json")
        parsed = model.model_validate_json(text)
        assert json.loads(text).keys() == model.model_fields.keys()
        return parsed

    start = ["start", "time", TIME.image]
    admission = await answer(Admission, *start, "--dry-run")
    assert admission.rule == "time"
    started = await answer(ServerStatus, *start)
    status = await answer(ServerStatus, "status", "time")
    renewed = await answer(ServerStatus, "renew", "time")
    assert renewed.expires_at is not None
    assert status.expires_at is not None
    assert renewed.expires_at > status.expires_at
    listed = await answer(ServerList, "ls")
    assert [s.container_id for s in listed.servers] == [status.container_id] == [started.container_id]
    await answer(ClientPolicy, "policy")
    tools = json.loads(await cli.text("tools", "time", "--json"))["tools"]
    assert tools[0]["inputSchema"]["properties"].keys() == {"timezone"}
    call = json.loads(await cli.text("call", "time", "get_current_time", "--arg", "timezone=UTC", "--json"))
    assert call["structuredContent"]["timezone"] == "UTC"
    assert call["isError"] is False
    stopped = await answer(ServerStatus, "stop", "time")
    assert stopped.state is ServerState.ABSENT


async def test_stdio_carries_random_bytes_unchanged_and_ends_with_the_server(cli: Cli) -> None:
    data = os.urandom(3_000_017)
    await cli.text("start", "box", TOOLBOX, "cat")
    assert await cli("stdio", "box", stdin=data) == Finished(0, data, "")


async def test_stdio_keeps_stderr_apart_and_exits_with_the_servers_code(cli: Cli) -> None:
    await cli.text("start", "box", TOOLBOX, "tee", "3")
    assert await cli("stdio", "box", stdin=b"both\n") == Finished(3, b"both\n", "both\n")
    assert await cli.text("logs", "box") == "both\n"
    status = json.loads(await cli.text("status", "box", "--json"))
    assert (status["state"], status["exit"]["code"], status["exit"]["stderr_tail"]) == ("exited", 3, "both\n")


async def test_wrong_token_is_refused_with_code_1(cli: Cli, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("not-a-token")
    code, message = await cli.refusal("ls", DOOGIE_PROXY_TOKEN_FILE=str(wrong))
    assert code == 1
    assert message == (
        "doogie: unauthenticated: A valid bearer token or ticket is needed\n"
        "  send Authorization: Bearer <token> with a token of the policy\n"
        "  request id: …\n"
        "  hint: is the token this proxy's? See --token-file\n"
    )


async def test_unlisted_image_is_refused_rule_by_rule_with_code_1(cli: Cli, proxy: ProxyUnderTest) -> None:
    code, message = await cli.refusal("start", "box", "debian")
    assert code == 1
    assert message == (
        "doogie: policy-denied: The policy does not allow this\n"
        "  no rule admits the request: see errors, rule by rule\n"
        f"  rules.toolbox: image 'debian' is not one of {TOOLBOX}\n"
        "  rules.missing: image 'debian' is not one of doogie-test/missing:1\n"
        "  rules.time: image 'debian' is not one of doogie/mcp-server-time:2026.10.19\n"
        "  rules.everything: image 'debian' is not one of doogie/mcp-server-everything:2026.8.31\n"
        "  rules.filesystem: image 'debian' is not one of doogie/mcp-server-filesystem:2026.8.31\n"
        "  request id: …\n"
        "  hint: `doogie policy` shows what you may start\n"
    )
    assert proxy.recorder.about_containers() == []


async def test_argument_that_no_pattern_matches_is_refused_with_the_pattern(cli: Cli) -> None:
    code, message = await cli.refusal("start", "time", TIME.image, "--", "--evil")
    assert code == 1
    assert "  rules.time: argument 0 ('--evil') matches none of '--local-timezone=[A-Za-z0-9_+/-]+'\n" in message


async def test_missing_image_is_told_with_code_1(cli: Cli, proxy: ProxyUnderTest) -> None:
    code, message = await cli.refusal("start", "box", "doogie-test/missing")
    assert code == 1
    assert message.startswith("doogie: image-unavailable: The image is not on the engine\n")
    assert proxy.recorder.about_containers() == []


async def test_another_request_for_a_running_name_is_a_conflict_with_code_1(cli: Cli) -> None:
    await cli.text("start", "box", TOOLBOX, "cat")
    assert await cli.text("start", "box", TOOLBOX, "cat") == "box running\n"
    code, message = await cli.refusal("start", "box", TOOLBOX, "echo-lines")
    assert code == 1
    assert message == (
        "doogie: spec-conflict: The server runs with another specification\n"
        "  box runs with another image, arguments or environment: stop it first\n"
        "  request id: …\n"
        "  hint: `doogie restart` replaces what runs\n"
    )


async def test_unknown_server_is_not_found_with_code_1(cli: Cli) -> None:
    code, message = await cli.refusal("status", "nobody")
    assert code == 1
    assert message == (
        "doogie: not-found: There is no such resource\n  there is no server nobody: start it first\n  request id: …\n"
    )


async def test_bad_name_is_a_usage_error_that_never_leaves_the_command(cli: Cli) -> None:
    code, message = await cli.refusal("start", "Box/..", TOOLBOX, DOOGIE_PROXY_URL="unix:///nowhere.sock")
    assert code == 2
    assert message == (
        "doogie: 'Box/..' is not a server name: lower-case letters, digits and _.-, 1 to 63 characters, "
        "the first one a letter or digit\n"
    )


async def test_what_the_wire_has_no_field_for_is_a_usage_error(cli: Cli) -> None:
    code, message = await cli.refusal("start", "box", TOOLBOX, "--privileged")
    assert code == 2
    assert "No such option: --privileged" in message


async def test_proxy_that_is_down_is_told_with_code_3(cli: Cli, tmp_path: Path) -> None:
    code, message = await cli.refusal("ls", DOOGIE_PROXY_URL=f"unix://{tmp_path}/down.sock")
    assert code == 3
    assert message == (
        f"doogie: cannot connect to the proxy at unix://{tmp_path}/down.sock: "
        "there is no such socket: does the proxy run, and is its directory mounted here?\n"
    )
    code, message = await cli.refusal("ls", DOOGIE_PROXY_URL="http://127.0.0.1:1")
    assert code == 3
    assert "nothing listens there: does the proxy run?" in message
