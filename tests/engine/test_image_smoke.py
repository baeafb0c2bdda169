"""The image builder's smoke test: the walls are the proxy's, and every way in which a server fails is told."""

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from doogie_client.commands.package import Package
from doogie_images import smoke
from doogie_images.container import LABEL, created
from doogie_images.errors import DockerFailed, SmokeTestFailed
from doogie_images.request import Mount, Request
from doogie_images.rule import rule
from doogie_images.smoke import Answer, container_options, smoke_test
from doogie_proxy.policy import Resources
from tests.e2e.servers import SERVERS
from tests.support.harness import (
    ENGINE_SOCKET,
    TOOLBOX,
    Json,
    containers_of,
    docker,
    inspect,
    policy_document,
    proxy_under_test,
)

PACKAGE = Package.from_text("uvx:toolbox==1.0")
TIME = SERVERS[0].image


@pytest.fixture(autouse=True)
def on_this_engine(engine: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The builder's docker commands talk to the engine under test, and leave no container there."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{ENGINE_SOCKET}")
    before = containers()
    yield
    assert containers() == before


def containers() -> str:
    return docker("ps", "--all", "--quiet", "--filter", f"label={LABEL}")


def image_id(name: str) -> str:
    return docker("image", "ls", "--quiet", "--no-trunc", "--filter", f"reference={name}").split()[0]


async def test_the_container_of_the_test_has_the_walls_of_the_proxys(tmp_path: Path) -> None:
    asked = Request(
        package=PACKAGE,
        args=("sleep",),
        tmpfs={"/data": "8MiB"},
        mounts={"docs": Mount.parse(f"{tmp_path}:/docs"), "cache": Mount.parse("doogie-test-smoke:/cache:rw")},
        memory="128MiB",
    )
    docker("volume", "create", "doogie-test-smoke")
    try:
        async with created(*container_options(asked), image_id(TOOLBOX), *asked.args) as name:
            tested = inspect(name)
        made = rule(TOOLBOX, image_id(TOOLBOX), asked)
        document = {**policy_document(made), "mount_roots": [str(tmp_path)]}
        async with proxy_under_test(tmp_path, document) as proxy:
            await proxy.start("sleep", *asked.args, mounts=["docs", "cache"])
            (container,) = containers_of(proxy.instance)
            run = inspect(container)
            await proxy.stop("sleep")
    finally:
        docker("volume", "rm", "doogie-test-smoke")
    assert walls(tested) == walls(run)


def walls(container: Json) -> Json:
    """What a container may do and have, without what is of its own instance."""
    host = {name: value for name, value in container["HostConfig"].items() if value not in (None, [], {}, "", 0, False)}
    # Where output goes differs: the proxy keeps it for whoever comes later.
    del host["LogConfig"]
    for mount in host["Mounts"]:
        # docker's command line has a way to say NonRecursive only since 25, where the old one was taken away.
        mount.get("BindOptions", {}).pop("NonRecursive", None)
        mount.get("VolumeOptions", {}).pop("DriverConfig", None)
        if not mount.get("ReadOnly", True):
            del mount["ReadOnly"]
    host["Mounts"].sort(key=lambda mount: mount["Target"])
    host["Ulimits"].sort(key=lambda limit: limit["Name"])
    config = {
        name: container["Config"][name] for name in ("User", "Entrypoint", "Cmd", "OpenStdin", "Tty", "StopSignal")
    }
    return {**host, **config, "Healthcheck": container["Config"].get("Healthcheck")}


def test_the_limits_of_the_test_are_those_of_a_rule_that_says_nothing() -> None:
    limits = Resources()
    assert (limits.cpus, limits.pids, limits.nofile) == (smoke.CPUS, smoke.PIDS, smoke.NOFILE)
    assert smoke.TMP_BYTES == limits.tmp == limits.shm


async def smoke_tested(
    directory: Path, *args: str, image: str = TOOLBOX, timeout_s: float = 30, **fields: object
) -> Answer:
    request = Request.model_validate({"package": PACKAGE, "args": args, **fields})
    env: Mapping[str, str] = {name: f"value of {name}" for name in request.env}
    return await smoke_test(image_id(image), request, env, directory, timeout_s)


async def test_a_server_that_answers_says_who_it_is_and_what_it_can(tmp_path: Path) -> None:
    answer = await smoke_tested(tmp_path, image=TIME)
    assert answer.server == "mcp-time"
    assert answer.tools == ("get_current_time", "convert_time")
    assert answer.seconds > 0


@pytest.mark.parametrize(
    ("args", "fields", "why"),
    [
        (["exit", "3"], {}, "exited with code 3"),
        (["hog-memory"], {"memory": "32MiB"}, "more than 32MiB of memory: give it more with --memory"),
        (["flood-stderr"], {"timeout_s": 1}, "did not answer within 1 s: --timeout gives it longer"),
        (["ignore-term"], {"timeout_s": 1}, "did not answer within 1 s"),
    ],
)
async def test_a_server_that_fails_is_told_by_how_it_ended(
    args: list[str], fields: dict[str, object], why: str, tmp_path: Path
) -> None:
    with pytest.raises(SmokeTestFailed, match=why):
        await smoke_tested(tmp_path, *args, **fields)  # type: ignore[arg-type] # timeout_s is the only one with another type


async def test_what_a_server_wrote_to_stderr_is_shown_from_its_end(tmp_path: Path) -> None:
    with pytest.raises(SmokeTestFailed) as caught:
        await smoke_tested(tmp_path, "exit", "3")
    assert caught.value.detail == "exiting with code 3"


async def test_an_engine_that_does_not_make_the_container_says_why(tmp_path: Path) -> None:
    with pytest.raises(DockerFailed, match="docker create failed") as caught:
        await smoke_tested(tmp_path, "sleep", mounts={"docs": Mount(source=f"{tmp_path}/missing", target="/docs")})
    assert "missing" in caught.value.detail


async def test_variables_reach_the_server_and_no_command_line(tmp_path: Path) -> None:
    values = {"TOKEN": "s3cret # = 'x'", "HOME": "/data", "DOCKER_HOST": "unix:///nowhere", "KEY": "line 1\nline 2"}
    options, own = smoke._variables(values, tmp_path / "env")
    assert not any("s3cret" in option or "line 1" in option for option in options)
    async with created(*options, image_id(TOOLBOX), env=own) as name:
        env = dict(variable.split("=", 1) for variable in inspect(name)["Config"]["Env"])
    assert {name: env[name] for name in values} == values


async def test_a_test_that_is_cancelled_leaves_no_container(tmp_path: Path) -> None:
    before = containers()
    for delay_s in (0, 0.02, 0.1, 0.5):
        testing = asyncio.create_task(smoke_tested(tmp_path, "sleep"))
        await asyncio.wait([testing], timeout=delay_s)
        testing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await testing
        assert containers() == before
