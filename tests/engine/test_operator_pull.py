"""``doogie-proxy pull``: the operator fetches what a rule runs, with the operator's own login."""

import asyncio
import base64
import json
import os
from pathlib import Path
from typing import Any

from tests.engine.test_pull import is_on_engine, pulling_rule, request
from tests.support.harness import ENGINE_SOCKET, doogie_proxy_command, policy_document, proxy_under_test, write_yaml
from tests.support.registry import PASSWORD, USER, Published, Registry, registry


async def pull(directory: Path, rule: dict[str, object], *args: str) -> tuple[int | None, str, str]:
    """Run the command on a policy of this rule; the login is in the directory."""
    environment = {
        "DOOGIE_PROXY_ENGINE": f"unix://{ENGINE_SOCKET}",
        "DOOGIE_PROXY_POLICY": str(write_yaml(directory / "policy.yaml", policy_document(rule))),
    }
    process = await asyncio.create_subprocess_exec(
        *doogie_proxy_command(),
        "pull",
        "pulled",
        f"--docker-config={directory}/config.json",
        *args,
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert PASSWORD not in f"{out!r}{err!r}"
    return process.returncode, out.decode(), err.decode()


def login(directory: Path, image: Published, password: str = PASSWORD, **others: object) -> None:
    auth = base64.b64encode(f"{USER}:{password}".encode()).decode()
    kept: dict[str, Any] = {"auths": {image.repo.partition("/")[0]: {"auth": auth}}, **others}
    (directory / "config.json").write_text(json.dumps(kept))


async def test_pull_with_a_login_fetches_what_the_proxy_may_not_and_prints_it_pinned(
    own_registry: Registry, tmp_path: Path
) -> None:
    async with registry(tmp_path / "registry", password=True) as private:
        image = await private.publish("private/box", "1")
        own_registry.published.append(image)
        login(tmp_path, image)
        code, out, err = await pull(tmp_path, pulling_rule(image.pinned))
        assert (code, out, err) == (0, f'images: ["{image.pinned}"]\n', f"pulling {image.by_digest}\n")
        async with proxy_under_test(tmp_path, policy_document(pulling_rule(image.pinned))) as proxy:
            assert (await proxy.call("POST", "/v1/servers/box/start", request(image))).status == 201
            await proxy.stop("box")


async def test_pin_prints_what_the_tag_means_now(own_registry: Registry, tmp_path: Path) -> None:
    old = await own_registry.publish("tools/box", "1")
    new = await own_registry.publish("tools/box", "1")
    for reference in (old.pinned, old.tagged):
        code, out, err = await pull(tmp_path, pulling_rule(reference, allow_tags=True), "--pin")
        assert (code, out, err) == (0, f'images: ["{new.pinned}"]\n', f"pulling {new.tagged}\n")
    code, out, _ = await pull(tmp_path, pulling_rule(old.by_digest), "--pin")
    assert (code, out) == (0, f'images: ["{old.by_digest}"]\n')


async def test_login_that_does_not_do_is_told_with_the_engines_words(own_registry: Registry, tmp_path: Path) -> None:
    async with registry(tmp_path / "registry", password=True) as private:
        image = await private.publish("private/box", "1")
        own_registry.published.append(image)
        code, out, err = await pull(tmp_path, pulling_rule(image.pinned))
        assert (code, out) == (1, "")
        assert "no basic auth credentials" in err
        login(tmp_path, image, "wrong")
        code, out, err = await pull(tmp_path, pulling_rule(image.pinned))
        assert (code, out) == (1, "")
        assert "unauthorized" in err
        assert not is_on_engine(image.by_digest)


async def test_image_that_is_not_there_is_told(own_registry: Registry, tmp_path: Path) -> None:
    image = await own_registry.publish("tools/box", "1")
    code, _, err = await pull(tmp_path, pulling_rule(f"{image.repo}:2", allow_tags=True))
    assert code == 1
    assert "manifest unknown" in err
