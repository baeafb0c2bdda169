"""Start, stop, status, leases, adoption: every container is accounted for."""

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from aiohttp import WSServerHandshakeError
from structlog.testing import capture_logs

from doogie_contract.channels import CloseCode
from tests.support.harness import (
    OTHER_TOKEN,
    TOKEN,
    TOOLBOX,
    ProxyUnderTest,
    assert_nothing_left,
    containers_of,
    docker,
    inspect,
    policy_document,
    proxy_under_test,
    toolbox_rule,
)


async def test_twenty_parallel_starts_of_one_name_make_one_container(proxy: ProxyUnderTest) -> None:
    statuses = await asyncio.gather(*(proxy.start("box", "sleep") for _ in range(20)))
    assert len({status["container_id"] for status in statuses}) == 1
    assert len(containers_of(proxy.instance)) == 1
    assert len(proxy.recorder.creates()) == 1


async def test_start_stop_stop_start_needs_no_pause(proxy: ProxyUnderTest) -> None:
    first = await proxy.start("box", "sleep")
    assert (await proxy.stop("box"))["state"] == "absent"
    assert containers_of(proxy.instance) == []
    assert (await proxy.stop("box"))["state"] == "absent"
    second = await proxy.start("box", "sleep")
    assert second["container_id"] != first["container_id"]


async def test_first_start_answers_201_the_same_again_200_another_spec_409(proxy: ProxyUnderTest) -> None:
    await proxy.start("box", "sleep")
    request = {"image": TOOLBOX, "args": ["sleep"]}
    again = await proxy.call("POST", "/v1/servers/box/start", request)
    assert again.status == 200
    other = await proxy.call("POST", "/v1/servers/box/start", {**request, "env": {"GREETING": "hi"}})
    assert (other.status, other.problem) == (409, "spec-conflict")
    await proxy.stop("box")
    created = await proxy.call("POST", "/v1/servers/box/start", {**request, "env": {"GREETING": "hi"}})
    assert created.status == 201
    await proxy.stop("box")


async def test_start_without_waiting_answers_202_and_the_server_comes_up(proxy: ProxyUnderTest) -> None:
    answer = await proxy.call("POST", "/v1/servers/box/start?wait=none", {"image": TOOLBOX, "args": ["sleep"]})
    assert answer.status == 202
    await proxy.until("box", "running")
    await proxy.stop("box")


async def test_start_without_waiting_tells_at_once_what_can_be_known_at_once(proxy: ProxyUnderTest) -> None:
    await proxy.start("box", "sleep")
    again = await proxy.call("POST", "/v1/servers/box/start?wait=none", {"image": TOOLBOX, "args": ["sleep"]})
    assert again.status == 200
    other = await proxy.call("POST", "/v1/servers/box/start?wait=none", {"image": TOOLBOX, "args": ["cat"]})
    assert (other.status, other.problem) == (409, "spec-conflict")


async def test_start_without_waiting_that_is_refused_after_all_is_no_failure(engine: str, tmp_path: Path) -> None:
    async with proxy_under_test(tmp_path, policy_document(toolbox_rule(max_running=1))) as proxy:
        proxy.recorder.stall(before="/images/")  # so that both are under way
        path = "/v1/servers/{}/start?wait=none"
        with capture_logs() as logs:
            asked = asyncio.gather(
                *(proxy.call("POST", path.format(name), {"image": TOOLBOX, "args": ["sleep"]}) for name in ("a", "b"))
            )
            async with asyncio.timeout(20):
                while sum("/images/" in request.path for request in proxy.recorder.requests) < 2:
                    await asyncio.sleep(0.01)
                proxy.recorder.resume()
                assert [answer.status for answer in await asked] == [202, 202]
                while not [log for log in logs if log["event"] == "operation_refused"]:
                    await asyncio.sleep(0.01)
        (refused,) = [log for log in logs if log["event"].startswith("operation_")]
        assert (refused["log_level"], refused["operation"]) == ("info", "start")
        assert refused["error"].startswith("quota-exceeded: rule toolbox allows 1 servers")
        for name in ("a", "b"):
            await proxy.stop(name)


async def test_start_without_waiting_during_a_stop_starts_anew_after_it(proxy: ProxyUnderTest) -> None:
    old = await proxy.start("stubborn", "ignore-term")
    async with proxy.stdio("stubborn") as ws:  # it has installed its handler once it says so
        await ws.receive(timeout=20)
    stop = asyncio.create_task(proxy.call("POST", "/v1/servers/stubborn/stop", {"grace_s": 1}))
    await proxy.until("stubborn", "stopping")
    request = {"image": TOOLBOX, "args": ["ignore-term"]}
    assert (await proxy.call("POST", "/v1/servers/stubborn/start?wait=none", request)).status == 202
    assert (await stop).json["state"] == "absent"
    async with asyncio.timeout(20):
        while (await proxy.call("GET", "/v1/servers/stubborn")).status != 200:
            await asyncio.sleep(0.02)
    assert (await proxy.until("stubborn", "running"))["container_id"] != old["container_id"]


async def test_start_after_a_stop_that_failed_starts_anew(engine: str, tmp_path: Path) -> None:
    async with proxy_under_test(
        tmp_path, policy_document(toolbox_rule()), sweep_interval_s=0.1, reconnect_s=0.1
    ) as proxy:
        old = await proxy.start("box", "sleep")
        proxy.recorder.stall(before="/stop")
        stop = asyncio.create_task(proxy.call("POST", "/v1/servers/box/stop"))
        async with asyncio.timeout(20):
            while not any("/stop" in request.path for request in proxy.recorder.requests):
                await asyncio.sleep(0.01)
            proxy.recorder.cut()
            proxy.recorder.resume()
            assert (await stop).problem == "engine-unavailable"
            while (await proxy.call("GET", "/readyz")).status != 200:
                await asyncio.sleep(0.01)
        assert (await proxy.start("box", "sleep"))["container_id"] != old["container_id"]


async def test_attaches_before_it_starts_so_that_no_byte_is_missed(proxy: ProxyUnderTest) -> None:
    container_id = (await proxy.start("box", "print-args"))["container_id"]
    paths = [request.path.replace(container_id, "ID") for request in proxy.recorder.about_containers()]
    assert paths == [
        f"/containers/create?name=doogie-{proxy.instance}-chat-box",
        "/containers/ID/attach?stdin=1&stream=1",
        "/containers/ID/attach?stdout=1&stream=1",
        "/containers/ID/attach?stderr=1&stream=1",
        "/containers/ID/start",
    ]


async def test_dry_run_tells_rule_and_limits_and_creates_nothing(proxy: ProxyUnderTest) -> None:
    answer = await proxy.call("POST", "/v1/servers/box/start?dry_run=1", {"image": "doogie-test/toolbox"})
    assert answer.status == 200
    assert answer.json["rule"] == "toolbox"
    assert answer.json["image"] == TOOLBOX
    assert answer.json["limits"]["memory_bytes"] == 256 * 2**20
    assert proxy.recorder.about_containers() == []


async def test_status_says_what_runs_and_the_list_is_the_callers_own(proxy: ProxyUnderTest) -> None:
    status = await proxy.start("box", "sleep")
    assert status["state"] == "running"
    assert status["rule"] == "toolbox"
    assert status["image"] == TOOLBOX
    assert status["container_id"] == containers_of(proxy.instance)[0]
    assert status["stdio"] == {"attached": False, "half_close": False}
    listed = await proxy.call("GET", "/v1/servers")
    assert [server["name"] for server in listed.json["servers"]] == ["box"]
    of_other = await proxy.call("GET", "/v1/servers", token=OTHER_TOKEN)
    assert of_other.json == {"servers": []}


async def test_another_clients_server_is_the_same_404_as_none(proxy: ProxyUnderTest) -> None:
    await proxy.start("box", "sleep")
    theirs = await proxy.call("GET", "/v1/servers/box", token=OTHER_TOKEN)
    none = await proxy.call("GET", "/v1/servers/nix", token=OTHER_TOKEN)
    assert theirs.status == none.status == 404
    assert {**theirs.json, "request_id": ""} == {
        **none.json,
        "request_id": "",
        "detail": none.json["detail"].replace("nix", "box"),
    }
    await proxy.start("box", "sleep", token=OTHER_TOKEN)  # the same name, another namespace
    assert len(containers_of(proxy.instance)) == 2


async def test_exit_is_told_with_code_and_last_stderr_and_logs_outlive_it(proxy: ProxyUnderTest) -> None:
    await proxy.start("box", "exit", "3")
    status = await proxy.until("box", "exited")
    assert status["exit"]["reason"] == "exited"
    assert status["exit"]["code"] == 3
    assert status["exit"]["signal"] is None
    logs = await proxy.call("GET", "/v1/servers/box/logs")
    assert logs.status == 200
    assert logs.text == status["exit"]["stderr_tail"] == "exiting with code 3\n"
    again = await proxy.start("box", "exit", "3")
    assert again["state"] in ("running", "exited")


async def test_server_that_ignores_sigterm_is_gone_after_its_grace(proxy: ProxyUnderTest) -> None:
    await proxy.start("stubborn", "ignore-term")
    async with proxy.stdio("stubborn") as ws:  # it has installed its handler once it says so
        await ws.receive(timeout=20)
    answer = await proxy.call("POST", "/v1/servers/stubborn/stop", {"grace_s": 1})
    assert answer.json["exit"]["signal"] == "SIGKILL"
    assert answer.json["exit"]["reason"] == "stopped"
    assert containers_of(proxy.instance) == []
    proxy.started.clear()


async def test_server_that_ignores_sigterm_is_gone_in_time_while_a_client_stalls_its_output(
    engine: str, tmp_path: Path
) -> None:
    ignores_and_floods = (
        "import signal, sys\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile 1: sys.stdout.write(9999 * 'x')"
    )
    rule = toolbox_rule(
        entrypoint=["/usr/bin/env", "python3", "-c", ignores_and_floods],
        stdio={"buffer": "64KiB", "max_message": "64KiB"},
    )
    async with proxy_under_test(tmp_path, policy_document(rule)) as proxy:
        for name in ("one", "two"):
            await proxy.start(name)
            async with proxy.stdio(name) as ws:
                await ws.receive(timeout=20)  # reads one message, then no more
                begun = time.monotonic()
                answer = await proxy.call("POST", f"/v1/servers/{name}/stop", {"grace_s": 1})
                assert 1 <= time.monotonic() - begun < 1 + 2
                assert answer.json["exit"]["signal"] == "SIGKILL"
            assert containers_of(proxy.instance) == []
            proxy.started.clear()


async def test_one_name_is_started_and_stopped_over_and_over_without_a_pause_or_an_error(
    engine: str, tmp_path: Path
) -> None:
    cycles = int(os.environ.get("DOOGIE_CYCLES", "20"))
    document: Any = policy_document(toolbox_rule())
    document["clients"]["chat"]["starts_per_minute"] = 10**6
    async with proxy_under_test(tmp_path, document) as proxy:
        begun, ids = time.monotonic(), set()
        for _ in range(cycles):
            answer = await proxy.call("POST", "/v1/servers/box/start", {"image": TOOLBOX, "args": ["sleep"]})
            assert answer.status == 201
            ids.add(answer.json["container_id"])
            assert (await proxy.stop("box"))["state"] == "absent"
    print(f"{cycles} cycles, {(time.monotonic() - begun) / cycles:.3f} s each")
    assert len(ids) == cycles


async def test_stop_answers_when_the_name_is_free_for_anybody(proxy: ProxyUnderTest) -> None:
    for _ in range(3):
        await proxy.start("box", "sleep")
        await asyncio.gather(*(proxy.stop("box") for _ in range(5)))
        name = f"doogie-{proxy.instance}-chat-box"
        docker("rm", docker("create", "--name", name, TOOLBOX))  # fails while anything has the name


async def test_server_whose_output_is_stalled_can_be_stopped(engine: str, tmp_path: Path) -> None:
    rule = toolbox_rule(stdio={"buffer": "64KiB", "max_message": "64KiB"})
    async with proxy_under_test(tmp_path, policy_document(rule)) as proxy:
        await proxy.start("flood", "flood")
        async with proxy.stdio("flood") as ws:
            await ws.receive(timeout=20)  # reads one message, then no more
            async with asyncio.timeout(20):
                await proxy.stop("flood")


async def test_proxy_ends_while_output_is_stalled_and_leaves_the_server_running(engine: str, tmp_path: Path) -> None:
    document = policy_document(toolbox_rule(stdio={"buffer": "64KiB", "max_message": "64KiB"}))
    async with asyncio.timeout(20):
        async with proxy_under_test(tmp_path, document, leave_running=True) as first:
            await first.start("flood", "flood")
            await asyncio.sleep(1)  # nobody reads: every buffer on the way is full, which nothing tells from here
    async with proxy_under_test(tmp_path, document, instance=first.instance) as second:
        assert (await second.call("GET", "/v1/servers/flood")).json["state"] == "running"
        await second.stop("flood")


async def test_dead_server_whose_output_nobody_read_is_let_go_of(engine: str, tmp_path: Path) -> None:
    rule = toolbox_rule(stdio={"buffer": "64KiB", "max_message": "64KiB"}, lifetime={"keep_exited_s": 0})
    async with proxy_under_test(tmp_path, policy_document(rule), sweep_interval_s=0.1) as proxy:
        await proxy.call("POST", "/v1/servers/box/start", {"image": TOOLBOX, "args": ["big-then-exit", "400000", "0"]})
        async with asyncio.timeout(20):
            while (await proxy.call("GET", "/v1/servers/box")).status == 200:
                await asyncio.sleep(0.02)
            while any(task.get_name().startswith("stdio") for task in asyncio.all_tasks()):
                await asyncio.sleep(0.02)


async def test_failed_start_leaves_nothing_and_shows_none_of_the_engines_words(engine: str, tmp_path: Path) -> None:
    rule = toolbox_rule(network="doogie-test-no-such-network")
    async with proxy_under_test(tmp_path, policy_document(rule)) as proxy:
        answer = await proxy.call("POST", "/v1/servers/box/start", {"image": TOOLBOX, "args": ["sleep"]})
        assert (answer.status, answer.problem) == (502, "engine-error")
        assert "doogie-test-no-such-network" not in answer.text
        assert containers_of(proxy.instance) == []
        assert (await proxy.call("GET", "/v1/servers/box")).status == 404


async def test_start_that_is_being_undone_is_none_to_whoever_asks_meanwhile(engine: str, tmp_path: Path) -> None:
    rule = toolbox_rule(network="doogie-test-no-such-network")
    async with proxy_under_test(tmp_path, policy_document(rule), sweep_interval_s=3600) as proxy:
        proxy.recorder.stall(before="force=")
        start = asyncio.create_task(proxy.call("POST", "/v1/servers/box/start", {"image": TOOLBOX, "args": ["sleep"]}))
        async with asyncio.timeout(20):
            while not [request for request in proxy.recorder.requests if request.method == "DELETE"]:
                await asyncio.sleep(0.01)
        assert (await proxy.call("GET", "/v1/servers/box")).status == 404
        assert (await proxy.call("GET", "/v1/servers")).json == {"servers": []}
        proxy.recorder.resume()
        assert (await start).problem == "engine-error"


async def test_client_that_hangs_up_during_start_leaves_a_server_it_can_find(proxy: ProxyUnderTest) -> None:
    start = asyncio.create_task(proxy.start("box", "sleep"))
    async with asyncio.timeout(20):
        while not proxy.recorder.creates():
            await asyncio.sleep(0.001)
    start.cancel()
    await asyncio.wait([start])
    await proxy.until("box", "running")
    await proxy.stop("box")


async def test_nobody_attached_for_detached_ttl_ends_the_server(engine: str, tmp_path: Path) -> None:
    rule = toolbox_rule(lifetime={"detached_ttl_s": 1, "keep_exited_s": 3600})
    async with proxy_under_test(tmp_path, policy_document(rule), sweep_interval_s=0.1) as proxy:
        await proxy.start("idle", "sleep")
        status = await proxy.until("idle", "exited")
        assert status["exit"]["reason"] == "lease_detached"
        await proxy.stop("idle")


async def test_attached_server_outlives_detached_ttl_but_not_its_max_age(engine: str, tmp_path: Path) -> None:
    rule = toolbox_rule(lifetime={"detached_ttl_s": 1, "max_age_s": 4, "keep_exited_s": 3600})
    async with proxy_under_test(tmp_path, policy_document(rule), sweep_interval_s=0.1) as proxy:
        await proxy.start("busy", "sleep")
        async with proxy.stdio("busy") as ws:
            status = await proxy.until("busy", "exited")
            assert status["exit"]["reason"] == "lease_max_age"
            await ws.receive(timeout=5)
        await proxy.stop("busy")


async def test_lease_whose_stop_failed_is_ended_by_a_later_sweep(engine: str, tmp_path: Path) -> None:
    rule = toolbox_rule(lifetime={"detached_ttl_s": 1, "keep_exited_s": 3600, "stop_grace_s": 0})
    async with proxy_under_test(tmp_path, policy_document(rule), sweep_interval_s=0.1, reconnect_s=0.1) as proxy:
        await proxy.start("idle", "sleep")
        proxy.recorder.stall(before="/stop")
        async with asyncio.timeout(20):
            while not any("/stop" in request.path for request in proxy.recorder.requests):
                await asyncio.sleep(0.01)
        proxy.recorder.cut()
        proxy.recorder.resume()
        assert (await proxy.until("idle", "exited"))["exit"]["reason"] == "lease_detached"
        async with asyncio.timeout(20):
            while (await proxy.call("GET", "/readyz")).status != 200:
                await asyncio.sleep(0.01)


async def test_dead_container_is_removed_once_kept_long_enough(engine: str, tmp_path: Path) -> None:
    rule = toolbox_rule(lifetime={"keep_exited_s": 0})
    async with proxy_under_test(tmp_path, policy_document(rule), sweep_interval_s=0.1) as proxy:
        await proxy.start("box", "exit", "0")
        async with asyncio.timeout(20):
            while await asyncio.to_thread(containers_of, proxy.instance):
                await asyncio.sleep(0.02)
        assert (await proxy.call("GET", "/v1/servers/box")).status == 404


async def test_next_proxy_adopts_what_runs_and_what_has_exited(engine: str, tmp_path: Path) -> None:
    document = policy_document(toolbox_rule())
    async with proxy_under_test(tmp_path, document, leave_running=True) as first:
        running = await first.start("alive", "echo-lines")
        await first.start("dead", "exit", "3")
        await first.until("dead", "exited")
    async with proxy_under_test(tmp_path, document, instance=first.instance) as second:
        status = (await second.call("GET", "/v1/servers/alive")).json
        assert (status["state"], status["container_id"]) == ("running", running["container_id"])
        async with second.stdio("alive") as ws:
            await ws.send_bytes(b"\x00still there?\n")
            assert (await ws.receive(timeout=20)).data == b"\x01still there?\n"
        dead = (await second.call("GET", "/v1/servers/dead")).json
        assert (dead["state"], dead["exit"]["code"]) == ("exited", 3)
        assert dead["exit"]["stderr_tail"] == "exiting with code 3\n"
        same = await second.call("POST", "/v1/servers/alive/start", {"image": TOOLBOX, "args": ["echo-lines"]})
        assert same.status == 200
        await second.stop("alive")
        await second.stop("dead")


async def test_container_that_cannot_be_adopted_keeps_none_of_the_others_from_it(engine: str, tmp_path: Path) -> None:
    document = policy_document(toolbox_rule())
    async with proxy_under_test(tmp_path, document, leave_running=True) as first:
        paused = await first.start("paused", "sleep")
        await first.start("other", "sleep")
    docker("pause", paused["container_id"])  # the engine refuses to attach to it
    async with proxy_under_test(tmp_path, document, instance=first.instance, sweep_interval_s=0.1) as second:
        assert (await second.until("other", "running"))["stdio"]["attached"] is False
        assert (await second.call("GET", "/v1/servers/paused")).status == 404
        docker("unpause", paused["container_id"])
        async with asyncio.timeout(20):
            while (await second.call("GET", "/v1/servers/paused")).status != 200:
                await asyncio.sleep(0.02)
        await second.stop("paused")
        await second.stop("other")


async def test_attachments_that_broke_are_made_anew_though_the_engine_was_never_seen_to_be_away(
    engine: str, tmp_path: Path
) -> None:
    async with proxy_under_test(
        tmp_path, policy_document(toolbox_rule()), sweep_interval_s=0.1, reconnect_s=0.1
    ) as proxy:
        await proxy.start("echo", "echo-lines")
        async with proxy.stdio("echo") as ws:
            proxy.recorder.cut()  # as a restart behind socket activation does: whoever asks gets an answer, only later
            async with asyncio.timeout(20):
                assert (await ws.receive()).data == CloseCode.ENGINE_LOST
        async with asyncio.timeout(20):
            while len([request for request in proxy.recorder.requests if "/attach?stderr" in request.path]) < 2:
                await asyncio.sleep(0.01)
            while (await proxy.call("GET", "/readyz")).status != 200:
                await asyncio.sleep(0.01)
        async with proxy.stdio("echo") as ws:
            await ws.send_bytes(b"\x00hello\n")
            assert (await ws.receive(timeout=20)).data == b"\x01hello\n"


async def test_attach_while_the_attachments_are_lost_is_refused_as_its_stdin_would_vanish(
    engine: str, tmp_path: Path
) -> None:
    async with proxy_under_test(
        tmp_path, policy_document(toolbox_rule()), sweep_interval_s=3600, reconnect_s=3600
    ) as proxy:
        await proxy.start("echo", "echo-lines")
        async with proxy.stdio("echo") as ws:
            proxy.recorder.cut()
            assert (await ws.receive(timeout=20)).data == CloseCode.ENGINE_LOST
        with pytest.raises(WSServerHandshakeError) as refused:
            await proxy.stdio("echo")
        assert refused.value.status == 503
        docker("rm", "-f", *containers_of(proxy.instance))  # this proxy will not ask the engine again
        proxy.started.clear()


async def test_server_without_replay_ends_with_the_proxy_and_leaves_nothing(engine: str, tmp_path: Path) -> None:
    document = policy_document(toolbox_rule(stdio={"replay": "none"}))
    async with proxy_under_test(tmp_path, document, leave_running=True) as proxy:
        await proxy.start("box", "cat")
    assert_nothing_left(proxy.instance)


async def test_proxy_that_ends_does_not_sit_out_the_grace_of_a_server_that_ends_on_eof(
    engine: str, tmp_path: Path
) -> None:
    document = policy_document(toolbox_rule(stdio={"replay": "none"}, lifetime={"stop_grace_s": 60}))
    async with asyncio.timeout(20), proxy_under_test(tmp_path, document, leave_running=True) as proxy:
        await proxy.start("box", "cat")


async def test_container_that_was_created_but_never_started_is_removed_at_start_up(engine: str, tmp_path: Path) -> None:
    document = policy_document(toolbox_rule())
    async with proxy_under_test(tmp_path, document) as first:
        await first.start("box", "sleep")
        body = first.recorder.creates()[0].body
        await first.stop("box")
    docker_labels = [f"--label={key}={value}" for key, value in body["Labels"].items()]
    docker("create", *docker_labels, body["Image"], "sleep")  # a crash between create and start
    assert len(containers_of(first.instance)) == 1
    async with proxy_under_test(tmp_path, document, instance=first.instance) as second:
        assert (await second.call("GET", "/v1/servers")).json == {"servers": []}


async def test_leftover_with_a_taken_name_is_told_from_servers_with_names_like_it(engine: str, tmp_path: Path) -> None:
    async with proxy_under_test(tmp_path, policy_document(toolbox_rule()), sweep_interval_s=3600) as proxy:
        await proxy.start("a.b", "sleep")
        created = proxy.recorder.creates()[0]
        await proxy.stop("a.b")
        # What a create whose answer was lost leaves behind; made first, so that the engine lists it last.
        labels = [f"--label={key}={value}" for key, value in created.body["Labels"].items()]
        docker("create", *labels, "--name", f"doogie-{proxy.instance}-chat-a.b", created.body["Image"], "sleep")
        await proxy.start("a-b", "sleep")
        await proxy.start("a.b", "sleep")
        assert len(containers_of(proxy.instance)) == 2


async def test_leftover_that_goes_away_by_itself_fails_no_start(engine: str, tmp_path: Path) -> None:
    async with proxy_under_test(tmp_path, policy_document(toolbox_rule()), sweep_interval_s=3600) as proxy:
        await proxy.start("box", "sleep")
        created = proxy.recorder.creates()[0]
        await proxy.stop("box")
        labels = [f"--label={key}={value}" for key, value in created.body["Labels"].items()]
        name = f"doogie-{proxy.instance}-chat-box"
        leftover = docker("create", *labels, "--name", name, created.body["Image"], "sleep")
        proxy.recorder.stall(before=f"/containers/{leftover}/json")
        start = asyncio.create_task(proxy.start("box", "sleep"))
        async with asyncio.timeout(20):
            while not any(leftover in request.path for request in proxy.recorder.requests):
                await asyncio.sleep(0.01)
        docker("rm", leftover)
        proxy.recorder.resume()
        assert (await start)["state"] == "running"


async def test_container_with_copied_or_forged_labels_is_reported_and_never_touched(
    engine: str, tmp_path: Path
) -> None:
    document = policy_document(toolbox_rule())
    async with proxy_under_test(tmp_path, document) as first:
        await first.start("box", "sleep")
        labels = first.recorder.creates()[0].body["Labels"]
        await first.stop("box")
    forged = [f"--label={key}={value}" for key, value in {**labels, "io.doogie.client": "other"}.items()]
    container_id = docker("create", *forged, TOOLBOX, "sleep")
    try:
        async with proxy_under_test(
            tmp_path, document, instance=first.instance, leave_running=True, sweep_interval_s=0.1
        ) as second:
            for token in (TOKEN, OTHER_TOKEN):
                listed = await second.call("GET", "/v1/servers", token=token)
                assert listed.json == {"servers": []}
            paths = [request.path for request in second.recorder.about_containers()]
            assert paths == [], "the engine was asked to change nothing"
    finally:
        docker("rm", "-f", container_id)


async def test_changed_policy_marks_what_runs_as_outdated(engine: str, tmp_path: Path) -> None:
    document = policy_document(toolbox_rule())
    async with proxy_under_test(tmp_path, document, leave_running=True) as first:
        assert (await first.start("box", "sleep"))["outdated"] is False
    changed = policy_document(toolbox_rule(resources={"pids": 32}))
    async with proxy_under_test(tmp_path, changed, instance=first.instance) as second:
        assert (await second.call("GET", "/v1/servers/box")).json["outdated"] is True
        await second.stop("box")


async def test_container_removed_behind_the_proxys_back_is_told_as_ended_by_the_engine(
    engine: str, tmp_path: Path
) -> None:
    async with proxy_under_test(tmp_path, policy_document(toolbox_rule()), sweep_interval_s=0.1) as proxy:
        status = await proxy.start("box", "sleep")
        docker("rm", "-f", status["container_id"])
        assert (await proxy.until("box", "exited"))["exit"]["reason"] in ("engine", "exited")
        await proxy.start("box", "sleep")


async def test_secret_values_are_on_no_label_and_only_the_request_is_in_env(proxy: ProxyUnderTest) -> None:
    status = await proxy.start("box", "print-env", env={"GREETING": "planted-secret"})
    container = inspect(status["container_id"])
    assert "planted-secret" not in json.dumps(container["Config"]["Labels"])
    assert "GREETING=planted-secret" in container["Config"]["Env"]
