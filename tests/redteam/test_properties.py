"""Whatever a client sends: what reaches the engine is what the rule says, and nothing else.

The first test asks the code alone, many times; the second a running proxy, and looks at what its engine was asked.
"""

import asyncio
import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from doogie_contract.models import StartRequest
from doogie_contract.problems import ProblemType
from doogie_proxy.admission import Admitted, admit
from doogie_proxy.http import parse_json
from doogie_proxy.policy import Policy
from doogie_proxy.spec import ImageConfig, ImageRefusedError, create_body
from tests.support.harness import TOOLBOX, policy_document, proxy_under_test, toolbox_rule
from tests.support.invariants import Source, violations
from tests.unit.proxy.strategies import MOUNTS, SECRETS, images, policies, requests

LABELS = {"io.doogie.client": "chat", "io.doogie.sig": "e" * 64}
SECRET_VALUES = {secret["file"]: f"value of {name}" for name, secret in SECRETS.items()}
SOURCES = [
    Source("bind" if "host" in mount else "volume", mount.get("host") or mount["volume"], mount["target"],
           mount.get("read_only", True))
    for mount in MOUNTS.values() if "tmpfs" not in mount
]  # fmt: skip
KEYS = [
    *("image", "args", "env", "secrets", "mounts", "Image", "ENV", "Privileged", "privileged", "HostConfig", "Binds"),
    *("Mounts", "Cmd", "Entrypoint", "User", "Labels", "NetworkMode", "\u017fecrets", "", "io.doogie.sig", "Runtime"),
]

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12)
keys = st.sampled_from(KEYS) | st.text(max_size=8)
any_json = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4))


def places(value: object) -> list[tuple[Any, Any]]:
    """Each (container, key or index) in a JSON value."""
    found: list[tuple[Any, Any]] = []
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            found += [(value, key), *places(value[key])]
    return found


endings = st.sampled_from(["\n--privileged", "\0", " ", "@sha256:" + "0" * 64])


@st.composite
def mutated(draw: st.DrawFn, good: st.SearchStrategy[dict[str, Any]]) -> object:
    """A good request in which a few things are something else, are elsewhere, or are new."""
    document = copy.deepcopy(draw(good))
    for _ in range(draw(st.integers(0, 3))):
        what = draw(st.sampled_from(["replace", "add", "rename", "wrap", "text"]))
        found = places(document)
        container, key = draw(st.sampled_from(found)) if found else (document, None)
        if what == "replace" and key is not None:
            container[key] = draw(any_json)
        elif what == "add" and isinstance(container, dict):
            container[draw(keys)] = draw(any_json)
        elif what == "add" and isinstance(container, list):
            container.append(draw(any_json))
        elif what == "rename" and isinstance(container, dict) and key is not None:
            container[draw(keys | st.sampled_from([str(key).upper(), f" {key}", f"{key}\0"]))] = container.pop(key)
        elif what == "wrap" and key is not None:
            container[key] = [container[key]]
        elif key is not None and isinstance(container[key], str):
            container[key] = container[key] + draw(
                st.sampled_from(["\n--privileged", "\0", " ", "@sha256:" + "0" * 64])
            )
    return document


def sent(document: object, tail: str) -> bytes:
    """As bytes; lone surrogates and all."""
    return (json.dumps(document) + tail).encode()


tails = st.sampled_from(["", "", "", "", "\n", " {}", '{"Privileged": true}', "\0"])
good_requests = requests.map(lambda request: request.model_dump(mode="json"))
bodies = st.builds(sent, mutated(good_requests) | good_requests | any_json, tails)


def check_against_request(body: Mapping[str, Any], admitted: Admitted, request: StartRequest) -> None:
    """Of the request, its arguments and its environment are in the body, as they are and where they belong."""
    rule = admitted.rule
    assert body["Cmd"] == [*rule.args.prefix, *request.args]
    names = {*request.env, *rule.env.fixed, *(rule.secrets[name].env for name in request.secrets)}
    assert {text.partition("=")[0] for text in body["Env"]} == names
    for name, value in request.env.items():
        assert f"{name}={value}" in body["Env"]
    assert body["Image"].startswith("sha256:")
    assert body["Labels"].keys() >= LABELS.keys()


@pytest.mark.redteam(1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18)
@settings(max_examples=200)
@given(policy=policies, data=bodies, image=images)
def test_no_body_makes_the_code_build_anything_but_what_the_rule_says(
    policy: Policy, data: bytes, image: ImageConfig
) -> None:
    try:
        request = StartRequest.model_validate(parse_json(data), strict=True)
        admitted = admit(policy, "chat", request)
        if not isinstance(admitted, Admitted):
            return
        body = create_body(admitted, image, LABELS, SECRET_VALUES)
    except (ValidationError, ValueError, ImageRefusedError):
        return
    own = {"network": admitted.rule.network, "runtime": admitted.rule.runtime}
    body = json.loads(json.dumps(body))
    assert violations(
        body, **own, entrypoint=admitted.rule.entrypoint, workdir=admitted.rule.workdir, sources=SOURCES
    ) == []  # fmt: skip
    check_against_request(body, admitted, request)


LIVE = [
    {"image": TOOLBOX, "args": ["sleep"]},
    {"image": "doogie-test/toolbox", "args": ["--tz=Europe/Oslo", "sleep"], "env": {"GREETING": "hello"}},
    {"image": TOOLBOX, "args": [], "env": {"GREETING": ""}, "secrets": [], "mounts": ["scratch"]},
]
NO_SUCH_RUNTIME = "no-such-runtime"


@pytest.mark.redteam(1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18)
@pytest.mark.timeout(120)
async def test_no_body_makes_a_proxy_ask_its_engine_for_anything_but_what_the_rule_says(
    engine: str, tmp_path: Path
) -> None:
    """The rule's runtime does not exist: the engine refuses each container, so that asking costs nothing."""
    rule = toolbox_rule(
        args={"prefix": ["print-args"], "patterns": ["--tz=[A-Za-z/]+", "sleep"]},
        mounts={"scratch": {"tmpfs": "1MiB", "target": "/scratch"}},
        runtime=NO_SUCH_RUNTIME,
    )
    document = policy_document(rule)
    document["clients"]["chat"]["starts_per_minute"] = 1000  # type: ignore[index]  # it is a dict of dicts
    loop, refused, asked = asyncio.get_running_loop(), 0, 0
    async with proxy_under_test(tmp_path, document) as proxy:

        async def send(data: bytes) -> None:
            nonlocal refused, asked
            proxy.recorder.requests.clear()
            answer = await proxy.call("POST", "/v1/servers/box/start", data=data)
            creates = proxy.recorder.creates()
            if not creates:
                assert answer.problem in {problem.slug for problem in ProblemType if problem.status in (403, 422, 424)}
                assert proxy.recorder.about_containers() == []
                refused += 1
                return
            assert (answer.status, answer.problem) == (502, "engine-error")
            request = StartRequest.model_validate_json(data)
            for create in creates:
                assert violations(create.body, runtime=NO_SUCH_RUNTIME) == []
                assert create.body["Cmd"] == ["print-args", *request.args]
                assert create.body["Env"] == [f"{name}={value}" for name, value in sorted(request.env.items())]
            assert len(proxy.recorder.about_containers()) == len(creates) == 1
            asked += 1

        @settings(max_examples=80, database=None, deadline=None, suppress_health_check=list(HealthCheck))
        @given(data=st.builds(sent, mutated(st.sampled_from(LIVE)) | st.sampled_from(LIVE) | any_json, tails))
        def whatever_is_sent(data: bytes) -> None:
            asyncio.run_coroutine_threadsafe(send(data), loop).result(timeout=30)

        await asyncio.to_thread(whatever_is_sent)
    print(f"{refused} bodies were refused, {asked} reached the engine as they should")
    assert refused > 10
    assert asked > 5
