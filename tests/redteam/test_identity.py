"""D. Whose server is it, and who is asking."""

import asyncio
import re
import statistics
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import structlog

from tests.support.harness import (
    OTHER_TOKEN,
    TOKEN,
    TOOLBOX,
    ProxyUnderTest,
    docker,
    inspect,
    policy_document,
    proxy_under_test,
    toolbox_rule,
)

BODY = {"image": TOOLBOX, "args": ["sleep"]}
MISSING = "0123456789ab"
CALLS = [
    ("GET", "/v1/servers/{name}"),
    ("GET", "/v1/servers/{name}/logs"),
    ("GET", "/v1/servers/{name}/stdio"),
    ("GET", "/v1/servers/{name}/stdio?takeover=1"),
    ("POST", "/v1/servers/{name}/ticket"),
]


def container_ids(proxy: ProxyUnderTest) -> set[str]:
    """What the engine was told instead of an id, in every request about a container."""
    about = (re.match(r"/containers/([^/?]+)", request.path) for request in proxy.recorder.requests)
    return {match[1] for match in about if match} - {"json", "create"}


@pytest.fixture
async def bystander() -> AsyncIterator[str]:
    """A container that is none of the proxy's business."""
    container_id = docker("run", "--detach", "--network", "none", TOOLBOX, "sleep")
    yield container_id
    docker("rm", "--force", "--volumes", container_id)


@pytest.mark.redteam(41)
async def test_a_name_that_is_another_containers_id_names_nothing_but_itself(
    target: ProxyUnderTest, bystander: str
) -> None:
    for name in (bystander[:12], bystander[:63]):
        for method, path in CALLS:
            assert (await target.call(method, path.format(name=name))).problem == "not-found"
        assert (await target.stop(name))["state"] == "absent"
        await target.start(name, "sleep")
        await target.stop(name)
    assert inspect(bystander)["State"]["Running"] is True
    assert all(re.fullmatch("[0-9a-f]{64}", told) for told in container_ids(target))
    assert bystander not in container_ids(target)


@pytest.mark.redteam(42)
async def test_labels_that_were_copied_to_another_image_prove_nothing(engine: str, tmp_path: Path) -> None:
    document = policy_document(toolbox_rule())
    async with proxy_under_test(tmp_path, document, sweep_interval_s=0.05) as proxy:
        labels = inspect((await proxy.start("box", "sleep"))["container_id"])["Config"]["Labels"]
        copied = [part for key, value in labels.items() for part in ("--label", f"{key}={value}")]
        with structlog.testing.capture_logs() as logs:
            forged = docker("run", "--detach", "--network", "none", *copied, "doogie-test/hostile:1", "sleep")
            try:
                async with asyncio.timeout(20):
                    while "container_not_ours" not in [log["event"] for log in logs]:
                        await asyncio.sleep(0.01)
                await proxy.stop("box")
                assert (await proxy.call("GET", "/v1/servers/box")).problem == "not-found"
                assert inspect(forged)["State"]["Running"] is True
                assert [r for r in proxy.recorder.about_containers() if forged in r.path] == []
            finally:
                docker("rm", "--force", "--volumes", forged)


@pytest.mark.redteam(42)
async def test_labels_that_an_image_brings_along_are_the_proxys_own_in_the_end(engine: str, tmp_path: Path) -> None:
    image = "doogie-test/hostile:1"  # LABEL io.doogie.client="other" io.doogie.sig="forged"
    async with proxy_under_test(tmp_path, policy_document(toolbox_rule(images=[image]))) as proxy:
        status = await proxy.start("box", "sleep", image=image)
        assert inspect(status["container_id"])["Config"]["Labels"]["io.doogie.client"] == "chat"
        assert (await proxy.call("GET", "/v1/servers", token=OTHER_TOKEN)).json == {"servers": []}


@pytest.mark.redteam(43)
async def test_what_is_done_is_done_to_the_container_that_was_made_and_not_to_its_successor(
    engine: str, tmp_path: Path
) -> None:
    async with proxy_under_test(tmp_path, policy_document(toolbox_rule())) as proxy:
        first = await proxy.start("box", "sleep")
        docker("rm", "--force", "--volumes", first["container_id"])
        name = f"doogie-{proxy.instance}-chat-box"
        successor = docker("run", "--detach", "--network", "none", "--name", name, TOOLBOX, "sleep")
        try:
            await proxy.stop("box")
            answer = await proxy.call("POST", "/v1/servers/box/start", BODY)
            assert (answer.status, answer.problem) == (502, "engine-error")
            assert inspect(successor)["State"]["Running"] is True
        finally:
            docker("rm", "--force", "--volumes", successor)
        second = await proxy.start("box", "sleep")
        assert second["container_id"] != first["container_id"]


@pytest.mark.redteam(44)
async def test_another_clients_server_is_none(target: ProxyUnderTest) -> None:
    started = await target.start("box", "sleep")
    for method, path in CALLS:
        theirs = await target.call(method, path.format(name="box"), token=OTHER_TOKEN)
        nobodys = await target.call(method, path.format(name=MISSING), token=OTHER_TOKEN)
        assert (theirs.status, nobodys.status) == (404, 404)
        told = [{**answer.json, "request_id": ""} for answer in (theirs, nobodys)]
        assert str(told[0]).replace("box", MISSING) == str(told[1])
        assert theirs.headers.keys() == nobodys.headers.keys()
    assert (await target.stop("box", token=OTHER_TOKEN))["state"] == "absent"
    assert (await target.call("GET", "/v1/servers/box")).json["container_id"] == started["container_id"]
    mine = await target.start("box", "sleep", token=OTHER_TOKEN)
    assert mine["container_id"] != started["container_id"]


@pytest.mark.redteam(44)
async def test_another_clients_server_takes_as_long_as_none(target: ProxyUnderTest) -> None:
    await target.start("box", "sleep")
    target.recorder.requests.clear()
    took: dict[str, list[float]] = {"box": [], MISSING: []}
    for _ in range(150):
        for name, samples in took.items():
            begun = time.perf_counter()
            await target.call("GET", f"/v1/servers/{name}", token=OTHER_TOKEN)
            samples.append(time.perf_counter() - begun)
    ratio = statistics.median(took["box"]) / statistics.median(took[MISSING])
    print(f"another's / nobody's: {ratio:.3f}")
    assert 0.5 < ratio < 2
    assert [r for r in target.recorder.requests if "/json" in r.path and "?" not in r.path] == [], "none is asked about"


@pytest.mark.redteam(45)
async def test_names_are_plain_and_none_collides_with_another(target: ProxyUnderTest) -> None:
    for name in ("..", ".", "-v", "--rm", "a/b", "a%2fb", "A", "a b", "a:b", "a@b", "é", "a\\b", "a" * 64):
        answer = await target.call("POST", f"/v1/servers/{name}/start", BODY)
        assert answer.status in (400, 404, 422), name
    assert target.recorder.about_containers() == []
    names = ["a", "a-b", "a.b", "a_b", "a--b"]
    made = {(await target.start(name, "sleep"))["container_id"] for name in names}
    made |= {(await target.start(name, "sleep", token=OTHER_TOKEN))["container_id"] for name in names}
    assert len(made) == 2 * len(names)
    containers = [docker("inspect", "--format", "{{.Name}}", container_id) for container_id in made]
    assert len(set(containers)) == len(made)


@pytest.mark.redteam(46)
async def test_nothing_that_a_client_can_guess_opens_anothers_stream(target: ProxyUnderTest) -> None:
    started = await target.start("box", "sleep")
    await target.start("own", "sleep", token=OTHER_TOKEN)
    async with target.stdio("box"):
        for query in ("", "?takeover=1", f"?ticket={started['container_id']}"):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await target.stdio("box", query=query, token=OTHER_TOKEN)
            assert refused.value.status == 404
        ticket = (await target.call("POST", "/v1/servers/own/ticket", token=OTHER_TOKEN)).json["ticket"]
        used = await target.call("GET", f"/v1/servers/box/stdio?takeover=1&ticket={ticket}", token=None)
        assert (used.status, used.problem) == (401, "unauthenticated")
        assert (await target.call("GET", "/v1/servers/box", token=TOKEN)).json["stdio"]["attached"] is True
