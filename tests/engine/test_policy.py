"""What a policy says, asked of the real engine and of the kernel."""

import asyncio
import json
import os
import re
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from doogie_contract.channels import CloseCode
from tests.support.harness import (
    ENGINE_SOCKET,
    OTHER_TOKEN,
    TOKEN,
    TOOLBOX,
    ProxyUnderTest,
    containers_of,
    docker,
    doogie_proxy_command,
    inspect,
    policy_document,
    proxy_under_test,
    toolbox_rule,
    write_yaml,
)
from tests.support.served import Served, served

START = "/v1/servers/box/start"


@pytest.fixture
def shared(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A directory of the host that containers may have; below no directory that only root may enter."""
    directory = Path("/srv") / f"doogie-test-{os.getpid()}-{request.node.name[-8:].strip('[]')}"
    directory.mkdir()
    (directory / "letter").write_text("from the host\n")
    directory.chmod(0o777)
    yield directory
    for path in sorted(directory.rglob("*"), reverse=True):
        path.unlink()
    directory.rmdir()


@pytest.fixture
def volume() -> Iterator[str]:
    """An empty volume of the engine's."""
    name = f"doogie-test-{os.getpid()}"
    docker("volume", "create", name)
    yield name
    docker("volume", "rm", name)


def with_(document: dict[str, Any], **fields: object) -> dict[str, Any]:
    """The policy with other top-level fields."""
    return {**document, **fields}


async def says(proxy: ProxyUnderTest, name: str) -> Any:
    """The one line of JSON that a server prints first."""
    async with proxy.stdio(name, "mcp") as ws:
        return json.loads((await ws.receive()).data)


# ── secrets ──────────────────────────────────────────────────────────────────────────────────────


async def test_a_secret_reaches_the_server_that_names_it_and_nobody_else(engine: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("planted-secret\n")
    rule = toolbox_rule(secrets={"github": {"file": str(tmp_path / "token"), "env": "GITHUB_TOKEN"}})
    async with proxy_under_test(tmp_path, policy_document(rule)) as proxy:
        status = await proxy.start("box", "print-env", secrets=["github"])
        assert (await says(proxy, "box"))["GITHUB_TOKEN"] == "planted-secret"
        await proxy.start("other", "print-env")
        assert "GITHUB_TOKEN" not in await says(proxy, "other")
        answer = await proxy.call("GET", "/v1/policy")
        assert answer.json["rules"][0]["secrets"] == ["github"]
        assert "planted-secret" not in answer.text + json.dumps(status)
        assert str(tmp_path) not in answer.text
        for container_id in containers_of(proxy.instance):
            assert "planted-secret" not in json.dumps(inspect(container_id)["Config"]["Labels"])


async def test_a_reload_gives_a_new_value_to_the_next_start(engine: str, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("old")
    document = policy_document(toolbox_rule(secrets={"t": {"file": str(file), "env": "T"}}))
    async with proxy_under_test(tmp_path, document) as proxy:
        file.write_text("new")
        await proxy.start("before", "print-env", secrets=["t"])
        proxy.reload(document)
        await proxy.start("after", "print-env", secrets=["t"])
        assert [(await says(proxy, name))["T"] for name in ("before", "after")] == ["old", "new"]


# ── mounts ───────────────────────────────────────────────────────────────────────────────────────


async def test_mounts_are_what_the_rule_says_they_are(engine: str, tmp_path: Path, shared: Path, volume: str) -> None:
    rule = toolbox_rule(
        tmpfs={"/home/app": "1MiB"},
        mounts={
            "read": {"host": str(shared), "target": "/read"},
            "write": {"host": str(shared), "target": "/write", "read_only": False},
            "cache": {"volume": volume, "target": "/cache", "read_only": False},
            "scratch": {"tmpfs": "2MiB", "target": "/scratch"},
            "unasked": {"host": str(shared), "target": "/unasked"},
        },
    )
    document = with_(policy_document(rule), mount_roots=["/srv"])
    async with proxy_under_test(tmp_path, document) as proxy:
        status = await proxy.start("box", "sleep", mounts=["read", "write", "cache", "scratch"])
        pid = inspect(status["container_id"])["State"]["Pid"]
        mounts = {line.split()[1]: line.split()[2:4] for line in Path(f"/proc/{pid}/mounts").read_text().splitlines()}
        assert mounts["/read"][1].startswith("ro")
        assert mounts["/write"][1].startswith("rw")
        assert mounts["/cache"][1].startswith("rw")
        assert "size=1024k" in mounts["/home/app"][1]
        assert "size=2048k" in mounts["/scratch"][1]
        assert {"noexec", "nosuid", "nodev"} <= set(mounts["/scratch"][1].split(","))
        assert "/unasked" not in mounts
        assert Path(f"/proc/{pid}/root/read/letter").read_text() == "from the host\n"


async def test_what_is_mounted_below_a_host_directory_stays_out(engine: str, tmp_path: Path, shared: Path) -> None:
    below = shared / "below"
    below.mkdir()
    mount = await asyncio.create_subprocess_exec("mount", "-t", "tmpfs", "tmpfs", str(below))
    assert await mount.wait() == 0
    try:
        (below / "inner").write_text("not for containers")
        rule = toolbox_rule(mounts={"read": {"host": str(shared), "target": "/read"}})
        async with proxy_under_test(tmp_path, with_(policy_document(rule), mount_roots=["/srv"])) as proxy:
            status = await proxy.start("box", "sleep", mounts=["read"])
            pid = inspect(status["container_id"])["State"]["Pid"]
            assert list(Path(f"/proc/{pid}/root/read/below").iterdir()) == []
            await proxy.stop("box")
    finally:
        umount = await asyncio.create_subprocess_exec("umount", str(below))
        assert await umount.wait() == 0
        below.rmdir()
        below.touch()  # for the fixture, which removes files


@pytest.mark.parametrize("source", [{"host": "/srv/doogie-test-not-there"}, {"volume": "doogie-test-not-there"}])
async def test_a_source_that_is_not_there_is_an_error_and_is_not_made(
    engine: str, tmp_path: Path, source: dict[str, str]
) -> None:
    rule = toolbox_rule(mounts={"m": {**source, "target": "/m"}})
    async with proxy_under_test(tmp_path, with_(policy_document(rule), mount_roots=["/srv"])) as proxy:
        answer = await proxy.call("POST", START, {"image": TOOLBOX, "mounts": ["m"], "args": ["sleep"]})
        assert (answer.status, answer.problem) == (502, "engine-error")
        assert "/srv" not in answer.text
        assert not Path("/srv/doogie-test-not-there").exists()
        assert "doogie-test-not-there" not in docker("volume", "ls", "--quiet")


# ── entrypoint, working directory, images ────────────────────────────────────────────────────────


async def test_a_rule_names_program_and_working_directory(engine: str, tmp_path: Path) -> None:
    image = "doogie-test/no-entrypoint:1"
    rule = toolbox_rule(images=[image], entrypoint=["python3", "-u", "/toolbox.py", "print-args"], workdir="/usr")
    async with proxy_under_test(tmp_path, policy_document(rule)) as proxy:
        status = await proxy.start("box", "--privileged", "sh", image=image)
        assert await says(proxy, "box") == ["--privileged", "sh"]
        pid = inspect(status["container_id"])["State"]["Pid"]
        assert Path(f"/proc/{pid}/cwd").readlink() == Path("/usr")


async def test_an_image_that_was_built_here_is_pinned_by_its_id(engine: str, tmp_path: Path) -> None:
    image_id = docker("image", "inspect", "--format", "{{.Id}}", TOOLBOX)
    rule = toolbox_rule(images=[f"doogie-test/toolbox@{image_id}"], allow_tags=False)
    async with proxy_under_test(tmp_path, policy_document(rule)) as proxy:
        status = await proxy.start("box", "sleep", image="doogie-test/toolbox")
        assert (status["image"], status["image_digest"]) == (f"doogie-test/toolbox@{image_id}", image_id)
        assert not status["outdated"]


async def test_a_pattern_does_not_let_an_image_id_pass_for_a_repositorys_digest(engine: str, tmp_path: Path) -> None:
    image_id = docker("image", "inspect", "--format", "{{.Id}}", "doogie-test/hostile:1")
    rule = toolbox_rule(
        images=[], image_patterns=["doogie-test/[a-z]+@sha256:[0-9a-f]{64}", "doogie-test/toolbox:[0-9]"]
    )
    async with proxy_under_test(tmp_path, policy_document(rule)) as proxy:
        answer = await proxy.call("POST", START, {"image": f"doogie-test/toolbox@{image_id}", "args": ["sleep"]})
        assert (answer.status, answer.problem) == (424, "image-unavailable")
        assert not (await proxy.start("box", "sleep"))["outdated"]


async def test_a_runtime_that_the_engine_lacks_is_an_engine_error_and_leaves_nothing(
    engine: str, tmp_path: Path
) -> None:
    async with proxy_under_test(tmp_path, policy_document(toolbox_rule(runtime="no-such-runtime"))) as proxy:
        answer = await proxy.call("POST", START, {"image": TOOLBOX, "args": ["sleep"]})
        assert (answer.status, answer.problem) == (502, "engine-error")


# ── quotas ───────────────────────────────────────────────────────────────────────────────────────


def limited(document: dict[str, Any], **quota: int) -> dict[str, Any]:
    """The policy in which client ``chat`` has these quotas."""
    chat = {**document["clients"]["chat"], **quota}
    return {**document, "clients": {**document["clients"], "chat": chat}}


async def test_no_more_servers_run_than_the_client_may_have_however_fast_it_asks(engine: str, tmp_path: Path) -> None:
    async with proxy_under_test(tmp_path, limited(policy_document(toolbox_rule()), max_running=2)) as proxy:
        names = [f"s{number}" for number in range(6)]
        body = {"image": TOOLBOX, "args": ["sleep"]}
        answers = await asyncio.gather(*(proxy.call("POST", f"/v1/servers/{name}/start", body) for name in names))
        proxy.started |= {(TOKEN, name) for name in names}
        assert sorted(answer.status for answer in answers) == [201, 201, 429, 429, 429, 429]
        refused = next(answer for answer in answers if answer.status == 429)
        assert refused.problem == "quota-exceeded"
        assert (
            refused.json["detail"] == "2 servers run, or hold output that nobody has read, of at most 2: stop one first"
        )
        assert len(containers_of(proxy.instance)) == 2
        running = [server["name"] for server in (await proxy.call("GET", "/v1/servers")).json["servers"]]
        assert (await proxy.call("POST", f"/v1/servers/{running[0]}/start", body)).status == 200, "it runs already"
        await proxy.start("theirs", "sleep", token=OTHER_TOKEN)
        await proxy.stop(running[0])
        await proxy.start("again", "sleep")


async def test_a_rule_has_a_quota_of_its_own(engine: str, tmp_path: Path) -> None:
    async with proxy_under_test(tmp_path, policy_document(toolbox_rule(max_running=1))) as proxy:
        await proxy.start("one", "sleep")
        answer = await proxy.call("POST", START, {"image": TOOLBOX, "args": ["sleep"]})
        assert (answer.status, answer.problem) == (429, "quota-exceeded")
        assert answer.json["detail"] == "rule toolbox allows 1 servers at once: stop one first"


async def test_starts_are_limited_in_a_minute_and_the_answer_says_for_how_long(engine: str, tmp_path: Path) -> None:
    document = limited(policy_document(toolbox_rule(), toolbox_rule(name="m", images=["never:1"])), starts_per_minute=2)
    async with proxy_under_test(tmp_path, document) as proxy:
        for _ in range(2):  # a start that fails counts as well
            assert (await proxy.call("POST", START, {"image": "never:1"})).problem == "image-unavailable"
        proxy.recorder.requests.clear()
        for query in ("", "?wait=none"):
            answer = await proxy.call("POST", START + query, {"image": TOOLBOX, "args": ["sleep"]})
            assert (answer.status, answer.problem) == (429, "quota-exceeded")
            assert 1 <= int(answer.headers["Retry-After"]) <= 60
        assert [request for request in proxy.recorder.requests if "/images/" in request.path] == []


# ── who is asking ────────────────────────────────────────────────────────────────────────────────


async def test_a_token_may_be_bound_to_the_user_who_may_use_it(engine: str, tmp_path: Path) -> None:
    document = policy_document(toolbox_rule())
    async with proxy_under_test(tmp_path, limited(document, peer_uid=os.getuid())) as proxy:
        assert (await proxy.call("GET", "/v1/servers")).status == 200
        tcp = await proxy.call_tcp("GET", "/v1/servers")
        assert (tcp.status, tcp.problem) == (401, "unauthenticated")
        proxy.reload(limited(document, peer_uid=os.getuid() + 1))
        assert (await proxy.call("GET", "/v1/servers")).problem == "unauthenticated"


# ── reload ───────────────────────────────────────────────────────────────────────────────────────


async def test_a_revoked_token_ends_what_it_opened_and_nothing_else(engine: str, tmp_path: Path) -> None:
    document = policy_document(toolbox_rule())
    async with proxy_under_test(tmp_path, document) as proxy:
        await proxy.start("box", "echo-lines")
        await proxy.start("theirs", "echo-lines", token=OTHER_TOKEN)
        ticket = (await proxy.call("POST", "/v1/servers/box/ticket")).json["ticket"]
        follow = asyncio.create_task(proxy.call("GET", "/v1/servers/box/logs?follow=1"))
        async with proxy.stdio("box") as mine, proxy.stdio("theirs", token=OTHER_TOKEN) as theirs:
            proxy.reload({**document, "clients": {"other": document["clients"]["other"]}})  # type: ignore[index]
            assert (await mine.receive()).data == CloseCode.REVOKED
            assert (await follow).status == 200
            assert (await proxy.call("GET", "/v1/servers")).problem == "unauthenticated"
            used = await proxy.call("GET", f"/v1/servers/box/stdio?ticket={ticket}", token=None)
            assert used.problem == "unauthenticated"
            await theirs.send_bytes(b"\0still here\n")
            assert (await theirs.receive()).data == b"\1still here\n"
        proxy.reload(document)


async def test_a_reload_changes_what_is_admitted_and_tells_what_is_outdated(engine: str, tmp_path: Path) -> None:
    async with proxy_under_test(tmp_path, policy_document(toolbox_rule())) as proxy:
        await proxy.start("box", "sleep")
        proxy.reload(policy_document(toolbox_rule(args={"patterns": ["cat"]}, resources={"pids": 32})))
        assert (await proxy.call("GET", "/v1/servers/box")).json["outdated"] is True
        answer = await proxy.call("POST", "/v1/servers/more/start", {"image": TOOLBOX, "args": ["sleep"]})
        assert answer.problem == "policy-denied"


async def test_signing_keys_are_replaced_without_stopping_anything(engine: str, tmp_path: Path) -> None:
    document = policy_document(toolbox_rule())
    old, new = "ab" * 32, "cd" * 32
    async with proxy_under_test(tmp_path, document, key=old, leave_running=True) as proxy:
        status = await proxy.start("box", "sleep")
    async with proxy_under_test(tmp_path, document, key=new, instance=proxy.instance, sweep_interval_s=0.05) as proxy:
        assert (await proxy.call("GET", "/v1/servers/box")).status == 404
        proxy.reload(document, key=old)
        assert (await proxy.until("box", "running"))["container_id"] == status["container_id"]
        await proxy.stop("box")


@pytest.fixture
async def process(engine: str, tmp_path: Path) -> AsyncIterator[Served]:
    """A proxy in a process of its own."""
    async with served(tmp_path, policy_document(toolbox_rule())) as proxy:
        yield proxy


async def test_sighup_reads_the_files_anew_all_or_nothing(process: Served) -> None:
    good = process.policy.read_text()
    process.policy.write_text(good + "surplus: 1\n")
    process.process.send_signal(signal.SIGHUP)
    refused = await process.event("reload_refused")
    assert refused["faults"] == [f"{process.policy}:{len(good.splitlines()) + 1}: surplus: unknown key"]
    process.policy.write_text(good)
    process.process.send_signal(signal.SIGHUP)
    assert (await process.event("reloaded"))["rules"] == 1


async def test_each_decision_is_one_line_of_the_audit_file(process: Served) -> None:
    body = {"image": "other:1", "env": {"A": "planted"}}
    for token in ("wrong", TOKEN):
        request_id = (await process.post("/v1/servers/box/start", body, token=token))["request_id"]
        line = await process.event("audit")
        assert line["request_id"] == request_id
        async with asyncio.timeout(10):
            while request_id not in process.audit.read_text():
                await asyncio.sleep(0.01)
    unknown, denied = map(json.loads, process.audit.read_text().splitlines())
    assert (unknown["outcome"], unknown["problem"], "client" in unknown) == ("refused", "unauthenticated", False)
    assert (denied["client"], denied["server"], denied["problem"]) == ("chat", "box", "policy-denied")
    assert (denied["image"], denied["env"]) == ("other:1", ["A"])
    assert denied["why"][0].startswith("rules.toolbox: image 'other:1' is not one of")
    assert "planted" not in process.audit.read_text()


# ── the audit log ────────────────────────────────────────────────────────────────────────────────


async def test_arguments_are_in_the_audit_log_as_the_rule_says(engine: str, tmp_path: Path) -> None:
    document = policy_document(toolbox_rule(args={"patterns": ["sleep", "s[0-9]"], "audit": "hashed"}))
    async with proxy_under_test(tmp_path, document) as proxy:
        with structlog.testing.capture_logs() as logs:
            await proxy.start("box", "sleep")
            await proxy.call("POST", "/v1/servers/more/start", {"image": TOOLBOX, "args": ["planted"]})
            await proxy.call("POST", START + "?dry_run=1", {"image": TOOLBOX, "args": ["sleep"]})
        started, denied, dry = (log for log in logs if log["event"] == "audit")
        assert (started["outcome"], started["rule"], started["created"]) == ("allowed", "toolbox", True)
        assert started["args"] == dry["args"]
        assert re.fullmatch("[0-9a-f]{64}", started["args"][0])
        assert (dry["outcome"], dry["dry_run"], "created" in dry) == ("allowed", True, False)
        assert denied["outcome"] == "refused"
        assert "planted" not in str(logs)


# ── doogie-proxy check --live ────────────────────────────────────────────────────────────────────


async def check_live(tmp_path: Path, document: dict[str, Any]) -> tuple[int, str]:
    policy = write_yaml(tmp_path / "policy.yaml", document)
    environment = {**os.environ, "DOOGIE_PROXY_ENGINE": f"unix://{ENGINE_SOCKET}"}
    process = await asyncio.create_subprocess_exec(
        *doogie_proxy_command(), "check", "--live", str(policy), env=environment,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await process.communicate()
    return process.returncode or 0, out.decode()


async def test_check_live_finds_all_that_is_missing(engine: str, tmp_path: Path, shared: Path, volume: str) -> None:
    good = toolbox_rule(
        mounts={"h": {"host": str(shared), "target": "/h"}, "v": {"volume": volume, "target": "/v"}},
    )
    code, out = await check_live(tmp_path, with_(policy_document(good), mount_roots=["/srv"]))
    assert (code, "all of it is there" in out) == (0, True), out
    bad = toolbox_rule(
        images=[TOOLBOX, "doogie-test/never-built:1"],
        runtime="no-such-runtime",
        network="no-such-network",
        secrets={"s": {"file": str(tmp_path / "none"), "env": "S"}},
        mounts={"h": {"host": "/srv/no-such", "target": "/h"}, "v": {"volume": "no-such-volume", "target": "/v"}},
    )
    code, out = await check_live(tmp_path, with_(policy_document(bad), mount_roots=["/srv"]))
    assert code == 1
    for fault in (
        "rules.toolbox.secrets.s:",
        "rules.toolbox.images: doogie-test/never-built:1 is not on the engine",
        "rules.toolbox.runtime: the engine has no no-such-runtime; it has",
        "rules.toolbox.network: there is no no-such-network",
        "rules.toolbox.mounts.v: there is no volume no-such-volume",
    ):
        assert fault in out, out
    bad = toolbox_rule(mounts={"h": {"host": "/srv/no-such", "target": "/h"}})
    code, out = await check_live(tmp_path, with_(policy_document(bad), mount_roots=["/srv"]))
    assert (code, "rules.toolbox.mounts.h: the engine refuses it: " in out, "/srv/no-such" in out) == (1, True, True)
    assert docker("ps", "--all", "--quiet", "--filter", "name=doogie-check") == ""


async def test_a_caller_that_goes_away_does_not_get_past_the_audit_log(engine: str, tmp_path: Path) -> None:
    async with proxy_under_test(tmp_path, policy_document(toolbox_rule())) as proxy:
        with structlog.testing.capture_logs() as logs:
            proxy.recorder.stall(before="/containers/create")
            start = asyncio.create_task(proxy.start("box", "sleep"))
            async with asyncio.timeout(20):
                while not proxy.recorder.creates():
                    await asyncio.sleep(0.01)
                start.cancel()
                while "audit" not in [log["event"] for log in logs]:
                    await asyncio.sleep(0.01)
            proxy.recorder.resume()
            await proxy.until("box", "running")
        [audit] = [log for log in logs if log["event"] == "audit" and log["action"] == "start"]
        assert (audit["outcome"], audit["rule"], audit["server"]) == ("abandoned", "toolbox", "box")
        await proxy.stop("box")


async def test_a_socket_that_another_proxy_listens_on_is_one_line_and_no_traceback(process: Served) -> None:
    environment = {
        "DOOGIE_PROXY_LISTEN": f"unix://{process.socket}",
        "DOOGIE_PROXY_POLICY": str(process.policy),
        "DOOGIE_PROXY_SIGNING_KEY_FILE": str(process.policy.parent / "signing.key"),
        "DOOGIE_PROXY_ENGINE": f"unix://{ENGINE_SOCKET}",
        "DOOGIE_PROXY_INSTANCE": "another",
        "DOOGIE_PROXY_STATE_DIR": str(process.policy.parent / "state"),
    }
    second = await asyncio.create_subprocess_exec(
        *doogie_proxy_command(), "serve", env={**os.environ, **environment}, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(30):
        _, told = await second.communicate()
    assert (second.returncode, told.decode()) == (1, f"doogie-proxy: another process listens on {process.socket}\n")


async def test_a_container_that_cannot_be_started_is_gone_when_the_answer_comes(engine: str, tmp_path: Path) -> None:
    rule = toolbox_rule(network="no-such-network")  # the engine looks for it at the start, not at the creation
    async with proxy_under_test(tmp_path, policy_document(rule), sweep_interval_s=3600) as proxy:
        answer = await proxy.call("POST", START, {"image": TOOLBOX, "args": ["sleep"]})
        assert (answer.status, answer.problem) == (502, "engine-error")
        assert len(proxy.recorder.creates()) == 1
        assert containers_of(proxy.instance) == []
