"""Starts by the hundred: the policy's quotas hold, and the engine hears of no more than they let through."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.support.harness import (
    TOKEN,
    TOOLBOX,
    ProxyUnderTest,
    containers_of,
    policy_document,
    proxy_under_test,
    toolbox_rule,
)


def limited(**quota: int) -> dict[str, Any]:
    document: dict[str, Any] = policy_document(toolbox_rule(), toolbox_rule(name="never", images=["never-built:1"]))
    document["clients"]["chat"] |= quota
    return document


@pytest.mark.redteam(50)
async def test_a_storm_for_an_image_that_is_not_there_pulls_nothing_and_is_cut_short(
    engine: str, tmp_path: Path
) -> None:
    async with proxy_under_test(tmp_path, limited(starts_per_minute=10)) as proxy:
        body = {"image": "never-built:1", "args": []}
        answers = await asyncio.gather(
            *(proxy.call("POST", f"/v1/servers/s{number}/start", body) for number in range(200))
        )
        assert Counter(answer.problem for answer in answers) == {"image-unavailable": 10, "quota-exceeded": 190}
        assert proxy.recorder.about_containers() == []
        asked = [request.path for request in proxy.recorder.requests if request.path.startswith("/images/")]
        assert asked == ["/images/never-built:1/json"] * 10


@pytest.mark.redteam(50)
async def test_a_storm_for_an_image_that_cannot_be_pulled_is_cut_short_and_asks_for_nothing_else(
    engine: str, tmp_path: Path
) -> None:
    image = "127.0.0.1:1/never/built:1"  # nobody listens there
    document: dict[str, Any] = policy_document(toolbox_rule(images=[image], pull="missing"))
    document["clients"]["chat"] |= {"starts_per_minute": 10, "max_running": 5}
    async with proxy_under_test(tmp_path, document) as proxy:
        proxy.recorder.stall(before="/images/create")
        body = {"image": image, "args": []}
        storm = asyncio.gather(*(proxy.call("POST", f"/v1/servers/s{number}/start", body) for number in range(200)))
        async with asyncio.timeout(20):
            while not proxy.recorder.about_containers() or len(await pulling(proxy)) < 5:
                await asyncio.sleep(0.01)
        proxy.recorder.resume()
        assert Counter(answer.problem for answer in await storm) == {"image-unavailable": 5, "quota-exceeded": 195}
        asked = [request.path for request in proxy.recorder.about_containers()]
        assert asked == [f"/images/create?fromImage={image}"], "one pull, however many wait for it"


async def pulling(proxy: ProxyUnderTest) -> list[str]:
    """The servers whose image is on its way."""
    servers = (await proxy.call("GET", "/v1/servers")).json["servers"]
    return [server["name"] for server in servers if server["pull"] is not None]


@pytest.mark.redteam(59)
async def test_a_storm_of_starts_ends_at_the_quotas_and_the_proxy_serves_on(engine: str, tmp_path: Path) -> None:
    async with proxy_under_test(tmp_path, limited(max_running=4, starts_per_minute=8)) as proxy:
        body = {"image": TOOLBOX, "args": ["sleep"]}
        names = [f"s{number}" for number in range(200)]
        storm = asyncio.gather(*(proxy.call("POST", f"/v1/servers/{name}/start", body) for name in names))
        for _ in range(20):
            assert (await proxy.call("GET", "/v1/servers")).status == 200
        answers = await storm
        proxy.started |= {(TOKEN, name) for name, answer in zip(names, answers, strict=True) if answer.status == 201}
        assert Counter(answer.status for answer in answers) == {201: 4, 429: 196}
        assert len(containers_of(proxy.instance)) == 4
        assert len(proxy.recorder.creates()) == 4
