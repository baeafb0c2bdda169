"""E. Images: only what a rule pins is run, and nothing that an image says of itself changes what the rule fixed."""

import asyncio
import json
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.harness import (
    TOKEN,
    TOOLBOX,
    ProxyUnderTest,
    docker,
    inspect,
    policy_document,
    proc,
    process_status,
    proxy_under_test,
    toolbox_rule,
)
from tests.support.invariants import violations

START = "/v1/servers/box/start"
HOSTILE = "doogie-test/hostile:1"
MakeImage = Callable[..., str]


def id_of(image: str) -> str:
    return docker("image", "inspect", "--format", "{{.Id}}", image)


@pytest.fixture
def make_image() -> Iterator[MakeImage]:
    """``make_image(*changes, run=(program, *args))``: the toolbox's image, altered.

    ``changes`` are lines of a Dockerfile; the command runs in it first, as root.
    """
    made = []

    def make(*changes: str, run: tuple[str, ...] = ()) -> str:
        name = f"doogie-test/made:{os.getpid()}-{uuid.uuid4().hex[:8]}"
        container = f"doogie-test-making-{uuid.uuid4().hex[:8]}"
        program, *args = run or ("true",)
        lines = [
            *("USER 65532:65532", 'ENTRYPOINT ["/usr/bin/env", "python3", "-u", "/toolbox.py"]', "CMD []"),
            *changes,
        ]
        walls = ["--network", "none", "--user", "0", "--entrypoint", program]
        try:
            docker("run" if run else "create", "--name", container, *walls, TOOLBOX, *args)
            docker("commit", *(f"--change={line}" for line in lines), container, name)
            made.append(name)
        finally:
            docker("rm", "--force", container)
        return name

    yield make
    for name in made:
        docker("rmi", "--force", name)


async def says(proxy: ProxyUnderTest, name: str) -> Any:
    """The one line of JSON that a server prints first."""
    async with proxy.stdio(name, "mcp") as ws:
        return json.loads((await ws.receive(timeout=30)).data)


def mounts_of(pid: int) -> dict[str, tuple[str, set[str]]]:
    """Where, what kind, and with which options, as the kernel has it; what is mounted last counts."""
    lines = (line.split() for line in proc(pid, "mounts").splitlines())
    return {fields[1]: (fields[2], set(fields[3].split(","))) for fields in lines}


# ── which image ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.redteam(47)
async def test_no_image_runs_but_the_one_that_a_rule_pins(engine: str, tmp_path: Path) -> None:
    toolbox, hostile = id_of(TOOLBOX), id_of(HOSTILE)
    rule = toolbox_rule(images=[f"doogie-test/toolbox@{toolbox}", "registry.example:5000/mcp/tool@sha256:" + "a" * 64])
    async with proxy_under_test(tmp_path, policy_document(rule)) as proxy:
        for image in (
            *("debian", "python:3.13-slim", HOSTILE, "doogie-test/hostile", "toolbox", "library/toolbox:2"),
            *(TOOLBOX, "doogie-test/toolbox:latest", "docker.io/doogie-test/toolbox", "evil/doogie-test/toolbox"),
            *("localhost/doogie-test/toolbox", "doogie-test/toolbox-evil", "doogie-test/toolbo", "mcp/tool"),
            *(
                "registry.example/mcp/tool",
                "registry.example:5001/mcp/tool",
                f"registry.example:5000/mcp/tool@{toolbox}",
            ),
            *(f"doogie-test/toolbox@{hostile}", f"doogie-test/hostile@{toolbox}", f"doogie-test/toolbox:2@{toolbox}"),
            *(f"doogie-test/toolbox@sha256:{'0' * 64}", f"doogie-test/toolbox@{toolbox[:-1]}", "doogie-test/toolbox@"),
            *(
                toolbox,
                hostile,
                toolbox[7:],
                hostile[7:19],
                toolbox[7:71],
                f"@{toolbox}",
                f"doogie-test/toolbox@{hostile[7:]}",
            ),
            *(
                f"doogie-test/toolbox@{toolbox.upper()}",
                f"doogie-test/toolbox@SHA256{toolbox[6:]}",
                "doogie-test/Toolbox",
            ),
            *(
                f"doogie-test/toolbox@{toolbox}@{hostile}",
                f"doogie-test/toolbox@sha512:{'a' * 128}",
                "doogie-test/toolbox/",
            ),
            *(
                "doogie-test//toolbox",
                "./doogie-test/toolbox",
                "doogie-test/../doogie-test/toolbox",
                "-v/:/host",
                "a" * 512,
            ),
            *("doogie-test/toolbox?fromImage=x", "doogie-test/toolbox#", "doogie-test%2ftoolbox", "/images/x"),
        ):
            answer = await proxy.call("POST", START, {"image": image, "args": ["sleep"]})
            assert (answer.status, answer.problem) == (403, "policy-denied"), image
        for image in ("", " ", "doogie-test/toolbox ", "doogie-test/toolbox\n", "doogie-test/tööl", "a" * 513, "a\0b"):
            answer = await proxy.call("POST", START, {"image": image, "args": ["sleep"]})
            assert (answer.status, answer.problem) == (422, "invalid-request"), image
        assert proxy.recorder.for_clients() == []
        status = await proxy.start("box", "sleep", image="doogie-test/toolbox")
        assert inspect(status["container_id"])["Image"] == toolbox


@pytest.mark.redteam(47)
async def test_a_digest_that_the_engine_lacks_runs_nothing_of_the_same_repository(engine: str, tmp_path: Path) -> None:
    rule = toolbox_rule(images=[f"doogie-test/toolbox@sha256:{'0' * 64}", f"{TOOLBOX}@sha256:{'1' * 64}"])
    async with proxy_under_test(tmp_path, policy_document(rule)) as proxy:
        for image in ("doogie-test/toolbox", TOOLBOX, f"doogie-test/toolbox@sha256:{'0' * 64}"):
            answer = await proxy.call("POST", START, {"image": image, "args": ["sleep"]})
            assert (answer.status, answer.problem) == (424, "image-unavailable")
        assert proxy.recorder.about_containers() == []
        assert all((" " not in request.path and "@sha256:" in request.path) or "/sha256:" in request.path
                   for request in proxy.recorder.for_clients())  # fmt: skip


@pytest.mark.redteam(47)
async def test_a_tag_that_is_moved_between_look_and_create_changes_nothing(
    engine: str, tmp_path: Path, make_image: MakeImage
) -> None:
    image = make_image("LABEL first=1")
    looked_at, other = id_of(image), id_of(HOSTILE)
    async with proxy_under_test(tmp_path, policy_document(toolbox_rule(images=[image]))) as proxy:
        proxy.recorder.stall(before="/containers/create")
        starting = asyncio.create_task(proxy.start("box", "sleep", image=image))
        async with asyncio.timeout(30):
            while not proxy.recorder.creates():
                await asyncio.sleep(0.01)
        docker("tag", HOSTILE, image)
        assert id_of(image) == other, "else nothing was moved"
        proxy.recorder.resume()
        status = await starting
        [create] = proxy.recorder.creates()
        assert create.body["Image"] == status["image_digest"] == inspect(status["container_id"])["Image"] == looked_at
        await proxy.stop("box")
    docker("rmi", looked_at)


# ── volumes ──────────────────────────────────────────────────────────────────────────────────────


UNCOVERABLE = [
    *("/", "//", "/.", "/data/..", "/../..", "/proc", "//proc", "/tmp/../proc/self", "/sys/fs/cgroup"),
    *("/dev", "/dev/shm", "/./dev", "data", "../data"),
]


@pytest.mark.redteam(48)
async def test_a_volume_that_cannot_be_covered_is_refused(engine: str, tmp_path: Path, make_image: MakeImage) -> None:
    made = {make_image(f"VOLUME {json.dumps([volume])}"): volume for volume in UNCOVERABLE}
    async with proxy_under_test(tmp_path, policy_document(toolbox_rule(images=list(made)))) as proxy:
        for image, volume in made.items():
            answer = await proxy.call("POST", START, {"image": image, "args": ["sleep"]})
            assert (answer.status, answer.problem) == (403, "policy-denied"), volume
            assert f"VOLUME {volume!r}" in answer.json["detail"]
        assert proxy.recorder.about_containers() == []


@pytest.mark.redteam(48)
async def test_each_other_volume_is_a_capped_tmpfs_and_none_is_on_the_engines_disk(
    engine: str, tmp_path: Path, make_image: MakeImage
) -> None:
    volumes = ["/data", "/data/", "/a//b", "/c/../d", "//e", "/etc", "/usr/share/doc", "/tmp", "/ö ä", "/run", "/x:ro"]
    image = make_image(f"VOLUME {json.dumps(volumes, ensure_ascii=False)}")
    before = set(docker("volume", "ls", "--quiet").split())
    rule = toolbox_rule(images=[image], resources={"tmp": "1MiB"})
    async with proxy_under_test(tmp_path, policy_document(rule)) as proxy:
        container = inspect((await proxy.start("box", "fill", "/data/full", image=image))["container_id"])
        assert await says(proxy, "box") == {"/data/full": [2**20, "ENOSPC"]}
        [create] = proxy.recorder.creates()
        assert violations(create.body) == []
        mounts = mounts_of(container["State"]["Pid"])
        for target in ("/data", "/a/b", "/d", "/e", "/etc", "/usr/share/doc", "/tmp", "/ö\\040ä", "/run", "/x:ro"):
            kind, options = mounts[target]
            assert kind == "tmpfs"
            assert {"noexec", "nosuid", "nodev", "size=1024k"} <= options, target
        assert {mount["Type"] for mount in container["Mounts"]} == {"tmpfs"}
        # Others on this engine may make volumes meanwhile; none of them is this container's.
        new = set(docker("volume", "ls", "--quiet").split()) - before
        assert not [
            name for name in new if docker("ps", "-aq", "--no-trunc", "--filter", f"volume={name}") == container["Id"]
        ]
        await proxy.stop("box")


@pytest.mark.redteam(48)
@pytest.mark.parametrize("link", ["/proc", "/dev", "/", "../../../proc/self", "/sys"])
async def test_a_volume_behind_a_link_covers_nothing_with_more_than_a_capped_tmpfs(
    engine: str, tmp_path: Path, make_image: MakeImage, link: str
) -> None:
    image = make_image('VOLUME ["/data"]', run=("ln", "-s", link, "/data"))
    async with proxy_under_test(tmp_path, policy_document(toolbox_rule(images=[image]))) as proxy:
        answer = await proxy.call("POST", START, {"image": image, "args": ["sleep"]})
        if answer.status != 201:  # the runtime sees through it; that nothing is left is checked after each test
            assert (answer.status, answer.problem) == (502, "engine-error")
            return
        proxy.started.add((TOKEN, "box"))
        assert link == "/sys", "a container needs the others"
        mounts = mounts_of(inspect(answer.json["container_id"])["State"]["Pid"])
        assert mounts["/sys"][0] == "tmpfs"
        assert {"noexec", "nosuid", "nodev", "size=16384k"} <= mounts["/sys"][1]
        assert mounts["/proc"][0] == "proc"
        assert "ro" in mounts["/proc/sys"][1]


# ── what an image says of itself ─────────────────────────────────────────────────────────────────


OBEYED = {
    "traefik.enable": "true",
    "traefik.http.routers.x.rule": "Host(`chat.example`)",
    "caddy": "chat.example",
    "com.centurylinklabs.watchtower.enable": "true",
    "com.centurylinklabs.watchtower.lifecycle.pre-update": "/evil",
    "ofelia.enabled": "true",
    "ofelia.job-local.x.command": "/evil",
    "autoheal": "true",
    "diun.enable": "true",
    "docker-volume-backup.exec-label": "x",
    "com.docker.compose.project": "doogie",
    "com.docker.compose.service": "proxy",
    "com.docker.compose.oneoff": "False",
    "com.docker.stack.namespace": "x",
    "com.docker.swarm.service.name": "x",
    "io.kubernetes.pod.namespace": "kube-system",
    "org.opencontainers.images.evil": "true",
    "org.opencontainers.image": "true",
    "IO.DOOGIE.sig": "forged",
    "io.doogie.sig": "forged",
    "io.doogie.instance": "default",
    "io.doogie.client": "other",
    "io.doogie.lifetime": "{}",
    "io.doogie.more": "true",
}


@pytest.mark.redteam(49)
async def test_no_label_of_an_image_says_anything_to_whoever_obeys_labels(
    engine: str, tmp_path: Path, make_image: MakeImage
) -> None:
    kept = {"org.opencontainers.image.title": "t", "org.opencontainers.image.source": "https://example.org"}
    pairs = " ".join(f'"{key}"="{value}"' for key, value in {**OBEYED, **kept}.items())
    image = make_image(f"LABEL {pairs}")
    async with proxy_under_test(tmp_path, policy_document(toolbox_rule(images=[image]))) as proxy:
        labels = inspect((await proxy.start("box", "sleep", image=image))["container_id"])["Config"]["Labels"]
        told = {key: value for key, value in labels.items() if value and not key.startswith("io.doogie.")}
        assert told == {**told, **kept}
        assert all(key.startswith("org.opencontainers.image.") for key in told)
        ours = ["instance", "client", "server", "rule", "image", "spec", "plan", "lifetime", "stdio", "sig"]
        assert {key for key, value in labels.items() if value} - told.keys() == {f"io.doogie.{name}" for name in ours}
        assert labels["io.doogie.client"] == "chat"
        [create] = proxy.recorder.creates()
        assert violations(create.body) == []


@pytest.mark.redteam(49)
async def test_thousands_of_labels_silence_no_event_and_more_are_refused(
    engine: str, tmp_path: Path, make_image: MakeImage
) -> None:
    lines = ["LABEL " + " ".join(f"l{line}.{word:04}=01234567890123456789" for word in range(450)) for line in range(6)]
    many, more = make_image(*lines[:5]), make_image(*lines)
    rule = toolbox_rule(images=[many, more])
    async with proxy_under_test(tmp_path, policy_document(rule), sweep_interval_s=300) as proxy:
        answer = await proxy.call("POST", START, {"image": more, "args": ["sleep"]})
        assert (answer.status, answer.problem, "labels" in answer.json["detail"]) == (403, "policy-denied", True)
        assert proxy.recorder.creates() == []
        for name in ("first", "second"):
            await proxy.start(name, "exit-after-line", "3", image=many)
            async with proxy.stdio(name, "mcp") as ws:
                await ws.send_str("go")
            assert (await proxy.until(name, "exited"))["exit"]["code"] == 3


@pytest.mark.redteam(49)
async def test_a_rule_wins_over_all_that_an_image_sets(engine: str, tmp_path: Path, make_image: MakeImage) -> None:
    image = make_image(
        "USER root",
        "WORKDIR /proc/1",
        'ENTRYPOINT ["/evil"]',
        'CMD ["--evil"]',
        'HEALTHCHECK --interval=1s CMD ["/usr/bin/env", "touch", "/tmp/checked"]',
        "EXPOSE 80 443/tcp 53/udp",
        "ONBUILD RUN exit 1",
        "ENV PATH=/evil LD_PRELOAD=/evil.so HTTP_PROXY=http://192.0.2.1:1 LANG=evil GREETING=evil PYTHONSTARTUP=/evil",
    )
    fixed = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "LD_PRELOAD": "", "HTTP_PROXY": ""}
    rule = toolbox_rule(
        images=[image],
        entrypoint=["/usr/bin/env", "python3", "-u", "/toolbox.py", "print-env"],
        workdir="/usr",
        env={"allow": ["GREETING"], "fixed": fixed},
    )
    async with proxy_under_test(tmp_path, policy_document(rule)) as proxy:
        status = await proxy.start("box", image=image, env={"GREETING": "hello"})
        environment = await says(proxy, "box")
        assert {**environment, **fixed, "GREETING": "hello"} == environment
        container = inspect(status["container_id"])
        assert container["Path"] == "/usr/bin/env"
        assert container["Args"] == ["python3", "-u", "/toolbox.py", "print-env"], "and no CMD of the image's"
        assert container["Config"]["Healthcheck"]["Test"] == ["NONE"]
        assert "Health" not in container["State"]
        assert container["NetworkSettings"]["Ports"] == {}
        assert container["HostConfig"]["PortBindings"] in (None, {})
        pid = container["State"]["Pid"]
        assert Path(f"/proc/{pid}/cwd").readlink() == Path("/usr")
        assert "docker-init" in proc(pid, "cmdline")
        assert not Path(f"/proc/{pid}/root/tmp/checked").exists()
        walled_in(pid)
        [create] = proxy.recorder.creates()
        own = {"entrypoint": rule["entrypoint"], "workdir": "/usr"}
        assert violations(create.body, **own) == []  # type: ignore[arg-type]  # both are what they should be
        status = await proxy.stop("box")
        assert (status["exit"]["code"], status["exit"]["signal"]) == (0, None), "SIGTERM came, whatever STOPSIGNAL"


def walled_in(pid: int) -> None:
    """Each process of the container is nobody, can do nothing and become nobody else."""
    for process in children(pid):
        status = process_status(process)
        assert status["Uid"].split() == status["Gid"].split() == ["65532"] * 4
        assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
        assert {line.split(":")[0].strip() for line in proc(process, "net/dev").splitlines()[2:]} == {"lo"}


def children(pid: int) -> list[int]:
    """The process, and its children that there are now."""
    return [pid, *map(int, proc(pid, f"task/{pid}/children").split())]


@pytest.mark.redteam(49)
async def test_setuid_programs_and_device_nodes_of_an_image_are_plain_files(
    engine: str, tmp_path: Path, make_image: MakeImage
) -> None:
    # Block device 7:200 is a loop device that hardly any host has: nothing is hurt if it can be opened.
    python = "$(readlink -f $(command -v python3))"
    prepare = f"cp {python} /setuid-python && chmod 6755 /setuid-python && mknod -m 666 /device b 7 200"
    image = make_image(
        'ENTRYPOINT ["/setuid-python", "-u", "/toolbox.py"]',
        run=("sh", "-c", prepare),
    )
    async with proxy_under_test(tmp_path, policy_document(toolbox_rule(images=[image]))) as proxy:
        status = await proxy.start("box", "fill", "/device", image=image)
        assert await says(proxy, "box") == {"/device": [0, "EPERM"]}
        pid = inspect(status["container_id"])["State"]["Pid"]
        assert len(children(pid)) == 2
        assert "/setuid-python" in proc(children(pid)[1], "cmdline")
        walled_in(pid)


@pytest.mark.redteam(49)
async def test_an_image_without_a_shell_runs_as_any_other(engine: str, tmp_path: Path, make_image: MakeImage) -> None:
    image = make_image(run=("rm", "-f", "/bin/sh", "/bin/bash", "/bin/dash", "/etc/passwd", "/etc/group"))
    async with proxy_under_test(tmp_path, policy_document(toolbox_rule(images=[image]))) as proxy:
        status = await proxy.start("box", "print-args", "$(id)", "; id", image=image)
        assert await says(proxy, "box") == ["$(id)", "; id"]
        walled_in(inspect(status["container_id"])["State"]["Pid"])


@pytest.mark.redteam(49)
@pytest.mark.parametrize("workdir", ["/proc/self/fd/7", "/proc/self/fd/8", "/sys", "/dev/fd"])
async def test_a_working_directory_that_the_runtime_may_have_left_open_is_refused(
    engine: str, tmp_path: Path, make_image: MakeImage, workdir: str
) -> None:
    """Such as a file descriptor of the host's (CVE-2024-21626)."""
    image = make_image(f"WORKDIR {workdir}")
    async with proxy_under_test(tmp_path, policy_document(toolbox_rule(images=[image]))) as proxy:
        answer = await proxy.call("POST", START, {"image": image, "args": ["sleep"]})
        assert (answer.status, answer.problem) == (403, "policy-denied")
        assert f"WORKDIR '{workdir}'" in answer.json["detail"]
        assert proxy.recorder.about_containers() == []


@pytest.mark.redteam(49)
async def test_a_working_directory_that_is_a_link_leads_nowhere_on_the_host(
    engine: str, tmp_path: Path, make_image: MakeImage
) -> None:
    image = make_image("WORKDIR /data", run=("ln", "-s", "/proc/self/fd/8", "/data"))
    async with proxy_under_test(tmp_path, policy_document(toolbox_rule(images=[image]))) as proxy:
        answer = await proxy.call("POST", START, {"image": image, "args": ["sleep"]})
        if answer.status != 201:
            assert (answer.status, answer.problem) == (502, "engine-error")
            return
        proxy.started.add((TOKEN, "box"))
        pid = inspect(answer.json["container_id"])["State"]["Pid"]
        for process in children(pid):
            assert Path(f"/proc/{process}/cwd").stat().st_dev in {
                Path(f"/proc/{process}/root{path}").stat().st_dev for path in ("/", "/proc", "/tmp", "/dev", "/sys")
            }
