"""Images that are pulled: one pull for all who wait, told of as it goes, and never anything but what the rule says."""

import asyncio
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

from structlog.testing import capture_logs

from doogie_proxy.server import Key
from tests.support.harness import (
    ProxyUnderTest,
    containers_of,
    docker,
    inspect,
    policy_document,
    proxy_under_test,
)
from tests.support.private_engine import PrivateEngine
from tests.support.registry import Published, Registry, registry, relay

MIB = 2**20


def pulling_rule(image: str, **fields: object) -> dict[str, object]:
    """A rule that has one image pulled and lets it run any program."""
    return {"name": "pulled", "images": [image], "pull": "missing", "args": {"any": True}} | fields


def request(image: Published, *args: str) -> dict[str, object]:
    return {"image": image.repo, "args": list(args or ("cat",))}


def pulls(proxy: ProxyUnderTest) -> list[str]:
    """What the engine was asked to pull."""
    return [one.path for one in proxy.recorder.requests if one.path.startswith("/images/create")]


def is_on_engine(reference: str) -> bool:
    try:
        docker("image", "inspect", reference)
    except subprocess.CalledProcessError:
        return False
    return True


async def until_pulling(proxy: ProxyUnderTest, name: str, *, layers: int) -> dict[str, object]:
    """The status of a server while its image is pulled, once so many of its layers are known."""
    async with asyncio.timeout(20):
        while True:
            status = await proxy.until(name, "pulling")
            if status["pull"] is not None and len(status["pull"]["layers"]) == layers:
                return dict(status)
            await asyncio.sleep(0.02)


async def test_image_that_is_missing_is_pulled_by_its_digest_and_seen_to_be(
    own_registry: Registry, tmp_path: Path
) -> None:
    async with relay(own_registry) as between:
        image = await own_registry.publish("tools/box", "1", sizes=[MIB, 2 * MIB], via=between.address)
        async with proxy_under_test(tmp_path, policy_document(pulling_rule(image.pinned))) as proxy:
            between.allow(2 * MIB)
            start = asyncio.create_task(proxy.call("POST", "/v1/servers/box/start", request(image)))
            status = await until_pulling(proxy, "box", layers=3)
            assert (status["rule"], status["image"], status["container_id"]) == ("pulled", image.pinned, None)
            assert status["pull"]["image"] == image.by_digest  # type: ignore[index]  # JSON
            listed = (await proxy.call("GET", "/v1/servers")).json["servers"]
            assert [(server["name"], server["state"]) for server in listed] == [("box", "pulling")]
            assert (await proxy.call("GET", "/v1/servers/box/logs")).status == 404
            between.allow(float("inf"))
            answer = await start
            assert (answer.status, answer.json["state"], answer.json["pull"]) == (201, "running", None)
            assert answer.json["image_digest"] == inspect(answer.json["container_id"])["Image"]
            assert pulls(proxy) == [f"/images/create?fromImage={image.by_digest}"]
            again = await proxy.call("POST", "/v1/servers/box/start", request(image))
            assert again.status == 200
            await proxy.stop("box")
            await proxy.call("POST", "/v1/servers/box/start", request(image))
            assert len(pulls(proxy)) == 1, "it is there now"
            await proxy.stop("box")


async def test_twenty_starts_wait_for_one_pull(own_registry: Registry, tmp_path: Path) -> None:
    async with relay(own_registry) as between:
        image = await own_registry.publish("tools/box", "1", via=between.address)
        async with proxy_under_test(tmp_path, policy_document(pulling_rule(image.pinned))) as proxy:
            between.allow(MIB)
            starts = asyncio.gather(
                *(proxy.call("POST", f"/v1/servers/s{number}/start", request(image)) for number in range(20))
            )
            await until_pulling(proxy, "s19", layers=2)
            between.allow(float("inf"))
            assert Counter(answer.status for answer in await starts) == {201: 20}
            assert len(pulls(proxy)) == 1
            assert len({line for line in between.requests if "/blobs/" in line}) == 3
            assert len([line for line in between.requests if "/blobs/" in line]) == 3
            await asyncio.gather(*(proxy.stop(f"s{number}") for number in range(20)))


async def test_pull_goes_on_when_one_who_waits_leaves_and_ends_when_nobody_is_left(
    own_registry: Registry, tmp_path: Path
) -> None:
    async with relay(own_registry) as between:
        image = await own_registry.publish("tools/box", "1", via=between.address)
        async with proxy_under_test(tmp_path, policy_document(pulling_rule(image.pinned))) as proxy:
            between.allow(MIB)
            one, other = (
                asyncio.create_task(proxy.call("POST", f"/v1/servers/{name}/start", request(image)))
                for name in ("one", "other")
            )
            for name in ("one", "other"):
                await until_pulling(proxy, name, layers=2)
            assert (await proxy.stop("one"))["state"] == "absent"
            answer = await one
            assert (answer.status, answer.problem) == (424, "image-unavailable")
            assert answer.json["detail"] == "a stop came before the image was there"
            assert (await proxy.call("GET", "/v1/servers/one")).status == 404
            assert (await proxy.call("GET", "/v1/servers/other")).json["state"] == "pulling"
            assert between.waiting == 1
            await proxy.stop("other")
            assert (await other).problem == "image-unavailable"
            between.allow(float("inf"))
            async with asyncio.timeout(20):
                while between.waiting:  # a cancelled pull of the engine may hang in a read that nothing ends
                    await asyncio.sleep(0.02)
            assert not is_on_engine(image.by_digest)
            anew = await proxy.call("POST", "/v1/servers/one/start", request(image))
            assert anew.status == 201
            assert len(pulls(proxy)) == 2
            await proxy.stop("one")


async def test_stop_that_comes_before_the_pull_has_begun_keeps_it_from_beginning(
    own_registry: Registry, tmp_path: Path
) -> None:
    async with relay(own_registry) as between:
        image = await own_registry.publish("tools/box", "1", via=between.address)
        async with proxy_under_test(tmp_path, policy_document(pulling_rule(image.pinned))) as proxy:
            between.allow(0)
            proxy.recorder.stall(before="/images/")
            start = asyncio.create_task(proxy.call("POST", "/v1/servers/box/start", request(image)))
            async with asyncio.timeout(20):
                while not [one for one in proxy.recorder.requests if "/images/" in one.path]:
                    await asyncio.sleep(0.01)
                stop = asyncio.create_task(proxy.stop("box"))
                while proxy.api._servers.view(Key("chat", "box")).start.under_way:  # type: ignore[union-attr]  # begun
                    await asyncio.sleep(0.01)
                proxy.recorder.resume()
                assert (await stop)["state"] == "absent"
                assert (await start).problem == "image-unavailable"


async def test_start_during_a_pull_joins_it_when_it_is_the_same_and_conflicts_when_not(
    own_registry: Registry, tmp_path: Path
) -> None:
    async with relay(own_registry) as between:
        image = await own_registry.publish("tools/box", "1", via=between.address)
        async with proxy_under_test(tmp_path, policy_document(pulling_rule(image.pinned))) as proxy:
            between.allow(MIB)
            none = "/v1/servers/box/start?wait=none"
            first = await proxy.call("POST", none, request(image))
            assert (first.status, first.json["state"]) == (202, "pulling")
            await until_pulling(proxy, "box", layers=2)
            same = asyncio.create_task(proxy.call("POST", "/v1/servers/box/start", request(image)))
            assert (await proxy.call("POST", none, request(image))).status == 202
            other = await proxy.call("POST", "/v1/servers/box/start", request(image, "sleep", "9"))
            assert (other.status, other.problem) == (409, "spec-conflict")
            between.allow(float("inf"))
            assert ((await same).status, (await same).json["state"]) == (200, "running")
            await proxy.stop("box")
            assert len(proxy.recorder.creates()) == 1


async def test_tag_that_has_moved_does_not_matter_where_there_is_a_digest(
    own_registry: Registry, tmp_path: Path
) -> None:
    pinned = await own_registry.publish("tools/box", "1")
    moved = await own_registry.publish("tools/box", "1")
    assert moved.digest != pinned.digest
    rule, by_tag = pulling_rule(pinned.pinned), pulling_rule(pinned.tagged, name="by-tag", allow_tags=True)
    async with proxy_under_test(tmp_path, policy_document(rule, by_tag)) as proxy:
        await proxy.call("POST", "/v1/servers/box/start", request(pinned))
        container = inspect((await proxy.until("box", "running"))["container_id"])
        repo_digests = docker("image", "inspect", "--format", "{{.RepoDigests}}", container["Image"])
        assert repo_digests == f"[{pinned.by_digest}]"
        tagged = await proxy.call("POST", "/v1/servers/tagged/start", {"image": pinned.tagged, "args": ["cat"]})
        assert tagged.json["rule"] == "pulled", "the first rule admits the tag, and runs what it pins"
        for name in ("box", "tagged"):
            await proxy.stop(name)
    async with proxy_under_test(tmp_path, policy_document(by_tag)) as proxy:
        answer = await proxy.call("POST", "/v1/servers/box/start", request(pinned))
        repo_digests = docker("image", "inspect", "--format", "{{.RepoDigests}}", answer.json["image_digest"])
        assert repo_digests == f"[{moved.by_digest}]"
        await proxy.stop("box")


async def refusal(tmp_path: Path, image: Published, reference: str, **settings: Any) -> str:
    """What a start is told whose image is not to be had; twice, as the engine may have got part of it."""
    rule = pulling_rule(reference, allow_tags=True)
    async with proxy_under_test(tmp_path, policy_document(rule), **settings) as proxy:
        details = set()
        for _ in range(2):
            answer = await proxy.call("POST", "/v1/servers/box/start", request(image))
            assert (answer.status, answer.problem) == (424, "image-unavailable")
            details.add(answer.json["detail"])
        assert (await proxy.call("GET", "/v1/servers/box")).status == 404
        assert containers_of(proxy.instance) == []
        (detail,) = details
        return str(detail).replace(reference, "IMAGE").replace(image.by_digest, "IMAGE")


async def test_image_that_its_registry_does_not_have_is_told_as_that(own_registry: Registry, tmp_path: Path) -> None:
    image = await own_registry.publish("tools/box", "1")
    for reference in (f"{image.repo}:2", f"{image.repo}@sha256:{'0' * 64}"):
        detail = await refusal(tmp_path, image, reference)
        assert detail == "the image IMAGE could not be pulled: its registry does not have it"


async def test_image_of_another_platform_is_told_as_that_and_never_started(
    own_registry: Registry, tmp_path: Path
) -> None:
    alone = await own_registry.publish("tools/box", "1", platform="linux/s390x")
    indexed = await own_registry.publish_index(alone, "index")
    here = docker("version", "--format", "{{.Server.Os}}/{{.Server.Arch}}")
    said = f"the image IMAGE could not be pulled: its registry has it for linux/s390x, and this engine runs {here}"
    assert await refusal(tmp_path, alone, alone.pinned) == said
    said = "the image IMAGE could not be pulled: its registry has none for this engine's platform"
    assert await refusal(tmp_path, indexed, indexed.pinned) == said


async def test_image_that_needs_a_password_is_refused_and_runs_once_the_operator_has_pulled_it(
    own_registry: Registry, tmp_path: Path
) -> None:
    async with registry(tmp_path / "registry", password=True) as private:
        image = await private.publish("private/box", "1")
        detail = await refusal(tmp_path, image, image.pinned)
        assert detail == (
            "the image IMAGE could not be pulled: its registry has none that anybody may pull: "
            "have the operator pull it"
        )


async def test_registry_that_is_not_there_is_told_as_that(own_registry: Registry, tmp_path: Path) -> None:
    async with relay(own_registry) as between:
        image = await own_registry.publish("tools/box", "1", via=between.address)
    detail = await refusal(tmp_path, image, image.pinned)
    assert detail.endswith("its registry cannot be reached, or failed: try again later, or have the operator look")


async def test_registry_that_stalls_is_given_up_in_time(own_registry: Registry, tmp_path: Path) -> None:
    async with relay(own_registry) as between:
        image = await own_registry.publish("tools/box", "1", via=between.address)
        between.allow(MIB)
        begun = time.monotonic()
        detail = await refusal(tmp_path, image, image.pinned, pull_timeout_s=1)
        assert detail == "the image IMAGE could not be pulled: that took longer than 1 s"
        assert time.monotonic() - begun < 10


async def test_registry_that_dies_in_the_middle_and_stays_away_is_given_up_in_time(
    own_registry: Registry, tmp_path: Path
) -> None:
    async with relay(own_registry) as between:
        image = await own_registry.publish("tools/box", "1", via=between.address)
        document = policy_document(pulling_rule(image.pinned))
        async with proxy_under_test(tmp_path, document, pull_timeout_s=2) as proxy:
            between.allow(MIB)
            start = asyncio.create_task(proxy.call("POST", "/v1/servers/box/start", request(image)))
            await until_pulling(proxy, "box", layers=2)
            between.refuse()
            assert (await start).problem == "image-unavailable"
            assert containers_of(proxy.instance) == []
            assert not is_on_engine(image.by_digest)


async def test_failure_that_nobody_waited_for_is_found_until_the_next_start_or_stop(
    own_registry: Registry, tmp_path: Path
) -> None:
    image = await own_registry.publish("tools/box", "1")
    document = policy_document(pulling_rule(f"{image.repo}:2", allow_tags=True))
    async with proxy_under_test(tmp_path, document) as proxy:
        with capture_logs() as logs:
            answer = await proxy.call("POST", "/v1/servers/box/start?wait=none", request(image))
            assert answer.status == 202
            found = await proxy.until("box", "absent")
        assert found["problem"]["type"] == "urn:doogie:problem:image-unavailable"
        assert found["problem"]["request_id"] == answer.headers["X-Request-Id"]
        assert found["problem"]["detail"].endswith("its registry does not have it")
        assert (found["rule"], found["container_id"]) == ("pulled", None)
        assert {log["log_level"] for log in logs if log["event"] in ("pull_failed", "operation_failed")} == {"warning"}
        listed = (await proxy.call("GET", "/v1/servers")).json["servers"]
        assert [server["problem"]["status"] for server in listed] == [424]
        assert (await proxy.stop("box"))["state"] == "absent"
        assert (await proxy.call("GET", "/v1/servers/box")).status == 404
        assert (await proxy.call("GET", "/v1/servers")).json == {"servers": []}


async def test_start_whose_client_hung_up_tells_its_failure_to_whoever_asks(
    own_registry: Registry, tmp_path: Path
) -> None:
    async with relay(own_registry) as between:
        image = await own_registry.publish("tools/box", "1", via=between.address)
        document = policy_document(pulling_rule(image.pinned))
        async with proxy_under_test(tmp_path, document, pull_timeout_s=2) as proxy:
            between.allow(MIB)
            start = asyncio.create_task(proxy.call("POST", "/v1/servers/box/start", request(image)))
            await until_pulling(proxy, "box", layers=2)
            start.cancel()
            await asyncio.wait([start])
            assert (await proxy.until("box", "absent"))["problem"]["status"] == 424


async def test_start_that_fails_leaves_the_end_of_its_predecessor_to_be_seen(
    own_registry: Registry, tmp_path: Path
) -> None:
    image = await own_registry.publish("tools/box", "1")
    missing = pulling_rule(f"{image.repo}:2", name="missing", allow_tags=True)
    async with proxy_under_test(tmp_path, policy_document(pulling_rule(image.pinned), missing)) as proxy:
        dead = (await proxy.call("POST", "/v1/servers/box/start", request(image, "false"))).json
        await proxy.until("box", "exited")
        body = {"image": f"{image.repo}:2", "args": ["cat"]}
        assert (await proxy.call("POST", "/v1/servers/box/start", body)).status == 424
        status = await proxy.until("box", "exited")
        assert (status["container_id"], status["exit"]["code"]) == (dead["container_id"], 1)
        assert status["problem"] is None
        await proxy.stop("box")


async def test_start_that_waits_for_its_image_counts_for_the_quotas(own_registry: Registry, tmp_path: Path) -> None:
    async with relay(own_registry) as between:
        image = await own_registry.publish("tools/box", "1", via=between.address)
        document = policy_document(pulling_rule(image.pinned, max_running=1))
        async with proxy_under_test(tmp_path, document) as proxy:
            between.allow(MIB)
            await proxy.call("POST", "/v1/servers/one/start?wait=none", request(image))
            await until_pulling(proxy, "one", layers=2)
            for query in ("", "?wait=none"):
                other = await proxy.call("POST", f"/v1/servers/other/start{query}", request(image))
                assert (other.status, other.problem) == (429, "quota-exceeded")
            await proxy.stop("one")


async def test_proxy_that_ends_gives_up_its_pulls_at_once(own_registry: Registry, tmp_path: Path) -> None:
    async with relay(own_registry) as between:
        image = await own_registry.publish("tools/box", "1", via=between.address)
        between.allow(MIB)
        async with proxy_under_test(tmp_path, policy_document(pulling_rule(image.pinned))) as proxy:
            start = asyncio.create_task(proxy.call("POST", "/v1/servers/box/start", request(image)))
            await until_pulling(proxy, "box", layers=2)
            begun = time.monotonic()
        assert time.monotonic() - begun < 5
        await asyncio.wait([start])


async def test_newest_engine_pulls_too(newest_engine: PrivateEngine, own_registry: Registry, tmp_path: Path) -> None:
    image = await own_registry.publish("tools/box", "1", sizes=[MIB])
    absent = await own_registry.publish("tools/other", "1", platform="linux/s390x")
    index = await own_registry.publish_index(absent, "index")
    port = int(own_registry.address.rpartition(":")[2])
    rules = [
        pulling_rule(image.pinned),
        pulling_rule(f"{image.repo}@sha256:{'0' * 64}", name="missing"),
        pulling_rule(index.pinned, name="platform"),
    ]
    on = str(newest_engine.socket)
    async with (
        registry(tmp_path / "registry", port=port, beside=newest_engine.in_its_network()),
        proxy_under_test(tmp_path, policy_document(*rules), engine_socket=on) as proxy,
    ):
        answer = await proxy.call("POST", "/v1/servers/box/start", request(image))
        assert answer.status == 201
        assert (await proxy.until("box", "running"))["image"] == image.pinned
        await proxy.stop("box")
        missing = await proxy.call("POST", "/v1/servers/box/start", {"image": f"{image.repo}@sha256:{'0' * 64}"})
        assert missing.json["detail"].endswith("its registry does not have it")
        platform = await proxy.call("POST", "/v1/servers/box/start", request(index))
        assert platform.json["detail"].endswith("its registry has none for this engine's platform")
