"""The create body: what it is, to the letter, and what holds of every one."""

import copy
import functools
import json
import operator
from collections.abc import Iterator
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doogie_contract.models import StartRequest
from doogie_proxy.admission import Admitted, admit
from doogie_proxy.policy import Policy
from doogie_proxy.spec import MAX_IMAGE_LABELS_CHARS, ImageConfig, ImageRefusedError, create_body
from tests.support.invariants import Source, violations
from tests.unit.proxy.strategies import MOUNT_ROOT, MOUNTS, SECRETS, admissions, images

IMAGE_ID = "sha256:" + "d" * 64
LABELS = {"io.doogie.client": "chat", "io.doogie.sig": "e" * 64}


def image(
    *,
    entrypoint: tuple[str, ...] = ("server",),
    volumes: tuple[str, ...] = (),
    workdir: str = "/",
    labels: dict[str, str] | None = None,
) -> ImageConfig:
    return ImageConfig(id=IMAGE_ID, entrypoint=entrypoint, volumes=volumes, workdir=workdir, labels=labels or {})


def admitted(rule: dict[str, Any] | None = None, **request: Any) -> Admitted:
    document = {"name": "r", "images": ["time:1"], "allow_tags": True, **(rule or {})}
    policy = Policy.model_validate(
        {
            "version": 1,
            "clients": {"chat": {"token_sha256": ["0" * 64], "rules": ["r"]}},
            "mount_roots": [MOUNT_ROOT],
            "rules": [document],
        }
    )
    decision = admit(policy, "chat", StartRequest.model_validate({"image": "time", **request}))
    assert isinstance(decision, Admitted)
    return decision


def body_of(admitted: Admitted, image: ImageConfig) -> dict[str, Any]:
    return create_body(
        admitted, image, LABELS, {secret["file"]: f"value of {name}" for name, secret in SECRETS.items()}
    )


def targets(*volumes: str) -> list[str]:
    """Where the tmpfs mounts of a container are whose image declares these volumes."""
    body = body_of(admitted(), image(volumes=volumes))
    return [mount["Target"] for mount in body["HostConfig"]["Mounts"]]


def test_the_whole_body_to_the_letter() -> None:
    rule = {
        "args": {"prefix": ["/tmp"], "patterns": ["--tz=[A-Z]+"]},
        "env": {"allow": ["TZ"], "fixed": {"LANG": "C.UTF-8"}},
        "network": "tools",
        "user": "1234:5678",
        "resources": {"memory": "64MiB", "cpus": 0.25, "pids": 9, "tmp": "1MiB", "shm": "2MiB", "nofile": 99},
        "stdio": {"max_message": "1MiB", "buffer": "4MiB"},
    }
    config = image(
        volumes=("/data",),
        labels={"traefik.enable": "true", "org.opencontainers.image.title": "t", "io.doogie.client": "baked"},
    )
    assert body_of(admitted(rule, args=["--tz=UTC"], env={"TZ": "a=b"}), config) == {
        "Image": IMAGE_ID,
        "User": "1234:5678",
        "Cmd": ["/tmp", "--tz=UTC"],
        "Env": ["LANG=C.UTF-8", "TZ=a=b"],
        "Labels": {"traefik.enable": "", "io.doogie.client": "chat", "io.doogie.sig": "e" * 64},
        "Healthcheck": {"Test": ["NONE"]},
        "StopSignal": "SIGTERM",
        "Tty": False,
        "OpenStdin": True,
        "StdinOnce": False,
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "HostConfig": {
            "Init": True,
            "Privileged": False,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges:true"],
            "ReadonlyRootfs": True,
            "Mounts": [
                {"Type": "tmpfs", "Target": "/tmp", "TmpfsOptions": {"SizeBytes": 2**20, "Mode": 0o1777}},
                {"Type": "tmpfs", "Target": "/data", "TmpfsOptions": {"SizeBytes": 2**20, "Mode": 0o1777}},
            ],
            "ShmSize": 2**21,
            "Memory": 2**26,
            "MemorySwap": 2**26,
            "NanoCpus": 250_000_000,
            "PidsLimit": 9,
            "Ulimits": [{"Name": "nofile", "Soft": 99, "Hard": 99}, {"Name": "core", "Soft": 0, "Hard": 0}],
            "NetworkMode": "tools",
            "Runtime": "runc",
            "IpcMode": "private",
            "CgroupnsMode": "private",
            "PublishAllPorts": False,
            "RestartPolicy": {"Name": "no"},
            "AutoRemove": False,
            "LogConfig": {"Type": "local", "Config": {"max-size": "4m", "max-file": "2", "compress": "false"}},
        },
    }


def test_without_replay_nothing_is_logged_and_the_end_of_stdin_is_eof() -> None:
    body = body_of(admitted({"stdio": {"replay": "none"}}), image())
    assert body["StdinOnce"] is True
    assert body["HostConfig"]["LogConfig"] == {"Type": "none", "Config": {}}


@pytest.mark.parametrize(("cpus", "nano"), [(0.01, 10**7), (1, 10**9), (1024, 1024 * 10**9), (0.3, 3 * 10**8)])
def test_cpus_are_exact_to_the_billionth(cpus: float, nano: int) -> None:
    assert body_of(admitted({"resources": {"cpus": cpus}}), image())["HostConfig"]["NanoCpus"] == nano


def test_what_an_image_brings_cannot_be_changed_after_it_was_judged() -> None:
    with pytest.raises(AttributeError):
        image().volumes = ("/",)  # type: ignore[misc]  # the type checker knows it as well


def test_the_smallest_log_is_a_mebibyte() -> None:
    body = body_of(admitted({"stdio": {"max_message": "1KiB", "buffer": "1KiB"}}), image())
    assert body["HostConfig"]["LogConfig"]["Config"]["max-size"] == "1m"


def test_the_least_cpu_is_still_a_limit() -> None:
    assert body_of(admitted({"resources": {"cpus": 0.01}}), image())["HostConfig"]["NanoCpus"] == 10_000_000


def test_without_arguments_cmd_is_empty_and_the_engine_takes_the_images_own() -> None:
    assert body_of(admitted(), image())["Cmd"] == []


def test_an_image_without_entrypoint_is_refused_unless_the_rule_names_the_program() -> None:
    with pytest.raises(ImageRefusedError, match="no ENTRYPOINT, so arguments would choose the program"):
        body_of(admitted(), image(entrypoint=()))
    body = body_of(admitted({"entrypoint": ["/server", "--stdio"]}), image(entrypoint=()))
    assert body["Entrypoint"] == ["/server", "--stdio"]


def test_what_a_rule_keeps_of_the_image_is_not_in_the_body() -> None:
    assert body_of(admitted(), image()).keys() & {"Entrypoint", "WorkingDir"} == set()
    rule = {"entrypoint": "keep", "workdir": "keep"}
    assert body_of(admitted(rule), image()) == body_of(admitted(), image())


def test_a_rule_decides_working_directory_and_runtime() -> None:
    body = body_of(admitted({"workdir": "/data", "runtime": "runsc"}), image())
    assert (body["WorkingDir"], body["HostConfig"]["Runtime"]) == ("/data", "runsc")


@pytest.mark.parametrize("workdir", ["/proc/self/fd/8", "/proc", "/sys/fs", "/dev", "//proc/1", "/x/../proc", "proc"])
def test_an_images_working_directory_is_none_that_the_engine_or_the_host_puts_there(workdir: str) -> None:
    with pytest.raises(ImageRefusedError, match="declares WORKDIR"):
        body_of(admitted(), image(workdir=workdir))
    assert body_of(admitted({"workdir": "/data"}), image(workdir=workdir))["WorkingDir"] == "/data"


@pytest.mark.parametrize("workdir", ["", "/", "/app", "/process", "/developer", "app"])
def test_any_other_working_directory_is_the_images_own(workdir: str) -> None:
    assert "WorkingDir" not in body_of(admitted(), image(workdir=workdir))


def test_secrets_that_are_named_are_in_the_environment_and_no_others() -> None:
    rule = {"secrets": SECRETS, "env": {"allow": ["TZ"]}}
    body = body_of(admitted(rule, secrets=["github"], env={"TZ": "UTC"}), image())
    assert body["Env"] == ["GITHUB_TOKEN=value of github", "TZ=UTC"]


def test_mounts_that_are_named_are_there_to_the_letter_and_no_others() -> None:
    body = body_of(admitted({"mounts": MOUNTS}, mounts=["work", "cache", "scratch"]), image())
    assert body["HostConfig"]["Mounts"][1:] == [
        {
            "Type": "bind",
            "Source": "/srv/mcp/work",
            "Target": "/work",
            "ReadOnly": False,
            "BindOptions": {"Propagation": "rprivate", "NonRecursive": True},
        },
        {
            "Type": "volume",
            "Source": "cache",
            "Target": "/var/cache",
            "ReadOnly": False,
            "VolumeOptions": {"NoCopy": True},
        },
        {"Type": "tmpfs", "Target": "/scratch", "TmpfsOptions": {"SizeBytes": 2**20, "Mode": 0o1777}},
    ]
    assert (
        body_of(admitted({"mounts": MOUNTS}, mounts=["docs"]), image())["HostConfig"]["Mounts"][1]["ReadOnly"] is True
    )


def test_tmpfs_of_the_rule_are_always_there_and_sized() -> None:
    mounts = body_of(admitted({"tmpfs": {"/home/app": "32MiB"}}), image(volumes=("/home/app",)))["HostConfig"]["Mounts"]
    assert mounts[1:] == [
        {"Type": "tmpfs", "Target": "/home/app", "TmpfsOptions": {"SizeBytes": 2**25, "Mode": 0o1777}}
    ]


def test_a_volume_gives_way_to_a_mount_at_its_place() -> None:
    mounts = body_of(admitted({"mounts": MOUNTS}, mounts=["docs"]), image(volumes=("/data/",)))["HostConfig"]["Mounts"]
    assert [(mount["Type"], mount["Target"]) for mount in mounts] == [("tmpfs", "/tmp"), ("bind", "/data")]


# ── VOLUME ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("volumes", "covered"),
    [
        ((), ["/tmp"]),
        (("/data",), ["/tmp", "/data"]),
        (("/b", "/a", "/a/b"), ["/tmp", "/a", "/a/b", "/b"]),
        (("/tmp",), ["/tmp"]),
        (("/tmp/", "//tmp", "/tmp/.", "/x/../tmp"), ["/tmp"]),
        (("/tmp/cache",), ["/tmp", "/tmp/cache"]),
        (("/data", "/data/", "//data", "///data"), ["/tmp", "/data"]),
        (("/procs", "/system", "/devices"), ["/tmp", "/devices", "/procs", "/system"]),
        (("/X", "//X/Y"), ["/tmp", "/X", "/X/Y"]),
        (("/var/run/docker.sock",), ["/tmp", "/var/run/docker.sock"]),
        (("/a:/b:rw",), ["/tmp", "/a:/b:rw"]),
    ],
)
def test_each_volume_is_covered_once_by_a_sized_tmpfs(volumes: tuple[str, ...], covered: list[str]) -> None:
    assert targets(*volumes) == covered


@pytest.mark.parametrize(
    "volume",
    [
        *("/", "//", "/.", "/..", "/a/..", "", ".", "data", "../data", "./data"),
        *("/proc", "/proc/sys", "//proc", "/sys/fs", "/dev", "/dev/shm", "/x/../dev", "/proc/../sys"),
    ],
)
def test_a_volume_that_cannot_be_covered_is_refused(volume: str) -> None:
    with pytest.raises(ImageRefusedError, match="which cannot be covered: use one without it"):
        targets("/data", volume)


# ── labels ───────────────────────────────────────────────────────────────────────────────────────


def test_labels_of_the_image_are_blanked_for_other_software_on_the_engine() -> None:
    labels = {
        "traefik.http.routers.x.rule": "Host(`x`)",
        "com.centurylinklabs.watchtower.lifecycle.pre-update": "sh",
        "org.opencontainers.image.source": "kept by being left out",
        "org.opencontainers.imagery": "x",
        "ORG.OPENCONTAINERS.IMAGE.TITLE": "x",
    }
    assert body_of(admitted(), image(labels=labels))["Labels"] == {
        "traefik.http.routers.x.rule": "",
        "com.centurylinklabs.watchtower.lifecycle.pre-update": "",
        "org.opencontainers.imagery": "",
        "ORG.OPENCONTAINERS.IMAGE.TITLE": "",
        **LABELS,
    }


def test_a_label_baked_into_the_image_does_not_replace_ours() -> None:
    labels = body_of(admitted(), image(labels=dict.fromkeys(LABELS, "baked")))["Labels"]
    assert labels == LABELS


def test_an_image_with_more_labels_than_an_event_can_carry_is_refused() -> None:
    most = {"a": "x" * (MAX_IMAGE_LABELS_CHARS - 1)}
    assert body_of(admitted(), image(labels=most))
    with pytest.raises(ImageRefusedError, match="labels exceed 65536 characters"):
        body_of(admitted(), image(labels={**most, "b": ""}))


# ── every body ───────────────────────────────────────────────────────────────────────────────────


@given(admitted=admissions, image=images)
def test_whatever_is_admitted_and_whatever_the_image_says_the_container_is_hardened(
    admitted: Admitted, image: ImageConfig
) -> None:
    try:
        body = body_of(admitted, image)
    except ImageRefusedError:
        return
    rule = admitted.rule
    assert (
        violations(
            body,
            network=rule.network,
            runtime=rule.runtime,
            entrypoint=rule.entrypoint,
            workdir=rule.workdir,
            sources={
                Source(
                    "bind" if mount.host else "volume", str(mount.host or mount.volume), mount.target, mount.read_only
                )
                for mount in rule.mounts.values()
                if mount.tmpfs is None
            },
        )
        == []
    )
    assert json.loads(json.dumps(body)) == body
    assert body["Image"] == image.id


@given(admitted=admissions, image=images, other=images)
def test_an_image_decides_nothing_but_what_is_covered_and_blanked(
    admitted: Admitted, image: ImageConfig, other: ImageConfig
) -> None:
    try:
        bodies = [body_of(admitted, config) for config in (image, other)]
    except ImageRefusedError:
        return
    for body in bodies:
        del body["Image"], body["Labels"], body["HostConfig"]["Mounts"]
    assert bodies[0] == bodies[1]


# ── the invariants themselves ────────────────────────────────────────────────────────────────────

REMOVED = object()

RICHEST_RULE = {
    "entrypoint": ["serve", "stdio"],
    "workdir": "/data",
    "args": {"prefix": ["--stdio"]},
    "env": {"fixed": {"LANG": "C"}},
    "secrets": SECRETS,
    "mounts": MOUNTS,
    "tmpfs": {"/home/app": "1MiB"},
}


def richest_body(**stdio: object) -> dict[str, Any]:
    """A body that has everything that one can have."""
    decision = admitted({**RICHEST_RULE, "stdio": stdio}, mounts=list(MOUNTS), secrets=list(SECRETS))
    return body_of(decision, image(volumes=("/var/lib/app",), labels={"traefik.enable": "true"}))


def richest_violations(body: dict[str, Any]) -> list[str]:
    sources = {
        Source(
            "bind" if "host" in mount else "volume",
            mount.get("host") or mount["volume"],
            mount["target"],
            mount.get("read_only", True),
        )
        for mount in MOUNTS.values()
        if "tmpfs" not in mount
    }
    return violations(body, entrypoint=["serve", "stdio"], workdir="/data", sources=sources)


def places(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The place of every entry and element, at any depth."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


def is_free(body: dict[str, Any], place: tuple[str | int, ...]) -> bool:
    """Whether what is here may be another, or not be: then it is the rule's or the client's, and no hardening."""
    if place[0] in ("Cmd", "Env", "Labels"):
        return len(place) > 1 and place != ("Labels", "io.doogie.sig")
    if place[:2] != ("HostConfig", "Mounts") or len(place) == 2:
        return False
    mount = body["HostConfig"]["Mounts"][place[2]]
    return mount["Target"] != "/tmp" and (len(place) == 3 or (mount["Type"] == "tmpfs" and place[3] == "Target"))


def weaker(value: object) -> list[object]:
    """Other values of the same type, and those that engines take for no limit."""
    match value:
        case bool():
            return [not value, None]
        case int():
            return [0 if value else -1, -1, None]
        case str():
            return [value + "x", "", None]
        case list():
            return [[], [*value, "x"], None]
        case _:
            return [{}, None] if value else [None]


@pytest.mark.parametrize("replay", ["engine-log", "none"])
def test_whatever_single_thing_is_taken_out_of_a_body_the_invariants_miss_it(replay: str) -> None:
    body = richest_body(replay=replay)
    assert richest_violations(body) == []
    fixed = [place for place in places(body) if not is_free(body, place)]
    assert len(fixed) > 90
    for *parents, last in fixed:
        changed = copy.deepcopy(body)
        section = functools.reduce(operator.getitem, parents, cast("Any", changed))
        del section[last]
        assert richest_violations(changed), f"without {parents} {last}"


@pytest.mark.parametrize("replay", ["engine-log", "none"])
def test_whatever_single_thing_is_weakened_in_a_body_the_invariants_tell(replay: str) -> None:
    body = richest_body(replay=replay)
    for *parents, last in places(body):
        value = functools.reduce(operator.getitem, [*parents, last], cast("Any", body))
        for other in [] if is_free(body, (*parents, last)) or [*parents, last] in NOT_JUDGED else weaker(value):
            changed = copy.deepcopy(body)
            functools.reduce(operator.getitem, parents, cast("Any", changed))[last] = other
            assert richest_violations(changed), f"{parents} {last} is {other!r}"


NOT_JUDGED = [["Cmd"], ["Env"], ["Labels", "io.doogie.sig"]]
"""What the client or the key decides: any list will do, and any signature but none."""


def changed(path: str, value: object) -> dict[str, Any]:
    body = copy.deepcopy(body_of(admitted(), image()))
    *parents, last = path.split(".")
    section: Any = body
    for part in parents:
        section = section[int(part)] if isinstance(section, list) else section[part]
    if value is REMOVED:
        del section[last]
    elif isinstance(section, list):
        section[int(last)] = value
    else:
        section[last] = value
    return body


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("Image", "time:1"),
        ("Image", "sha256:" + "d" * 12),
        ("User", "0:0"),
        ("User", "1:0"),
        ("User", "root"),
        ("User", ""),
        ("User", REMOVED),
        ("Cmd", "sh -c x"),
        ("Cmd", None),
        ("Env", ["A"]),
        ("Env", ["A=x", "A=y"]),
        ("Env", ["A=x\0"]),
        ("Labels", {}),
        ("Labels.watchtower", "true"),
        ("Labels", {"io.doogie.sig": ""}),
        ("Healthcheck", {"Test": ["CMD", "x"]}),
        ("StopSignal", "SIGKILL"),
        ("Tty", True),
        ("OpenStdin", False),
        ("StdinOnce", True),
        ("Entrypoint", ["sh"]),
        ("WorkingDir", "/"),
        ("ExposedPorts", {"80/tcp": {}}),
        ("Volumes", {"/": {}}),
        ("NetworkingConfig", {}),
        ("privileged", True),
        ("HostConfig", REMOVED),
        ("HostConfig.Privileged", True),
        ("HostConfig.Privileged", 0),
        ("HostConfig.Privileged", REMOVED),
        ("HostConfig.Init", 1),
        ("HostConfig.CapDrop", []),
        ("HostConfig.CapDrop", ["NET_ADMIN"]),
        ("HostConfig.CapAdd", ["SYS_ADMIN"]),
        ("HostConfig.SecurityOpt", []),
        ("HostConfig.SecurityOpt", ["no-new-privileges:true", "seccomp=unconfined"]),
        ("HostConfig.ReadonlyRootfs", False),
        ("HostConfig.Binds", ["/:/host"]),
        ("HostConfig.binds", ["/:/host"]),
        ("HostConfig.Mounts", []),
        ("HostConfig.Mounts", None),
        ("HostConfig.Mounts.0.Type", "bind"),
        ("HostConfig.Mounts.0.Source", "/"),
        ("HostConfig.Mounts.0.BindOptions", {}),
        ("HostConfig.Mounts.0.Target", "/"),
        ("HostConfig.Mounts.0.Target", "/proc"),
        ("HostConfig.Mounts.0.Target", "/data"),
        ("HostConfig.Mounts.0.TmpfsOptions", REMOVED),
        ("HostConfig.Mounts.0.TmpfsOptions.SizeBytes", 0),
        ("HostConfig.Mounts.0.TmpfsOptions.Mode", 0o4777),
        ("HostConfig.Mounts.0.TmpfsOptions.Options", [["exec"]]),
        ("HostConfig.VolumesFrom", ["other"]),
        ("HostConfig.Devices", []),
        ("HostConfig.DeviceRequests", [{"Count": -1}]),
        ("HostConfig.ShmSize", 0),
        ("HostConfig.Memory", 0),
        ("HostConfig.Memory", True),
        ("HostConfig.Memory", 2**63),
        ("HostConfig.MemorySwap", -1),
        ("HostConfig.MemorySwap", 0),
        ("HostConfig.NanoCpus", 0),
        ("HostConfig.PidsLimit", 0),
        ("HostConfig.PidsLimit", -1),
        ("HostConfig.PidsLimit", None),
        ("HostConfig.OomKillDisable", True),
        ("HostConfig.OomScoreAdj", -1000),
        ("HostConfig.Ulimits", []),
        ("HostConfig.Ulimits.0.Hard", -1),
        ("HostConfig.Ulimits.1.Hard", -1),
        ("HostConfig.NetworkMode", "host"),
        ("HostConfig.NetworkMode", "tools"),
        ("HostConfig.NetworkMode", "container:x"),
        ("HostConfig.NetworkMode", REMOVED),
        ("HostConfig.PidMode", "host"),
        ("HostConfig.IpcMode", "host"),
        ("HostConfig.UTSMode", "host"),
        ("HostConfig.UsernsMode", "host"),
        ("HostConfig.CgroupnsMode", "host"),
        ("HostConfig.CgroupParent", "/"),
        ("HostConfig.Runtime", "x"),
        ("HostConfig.Runtime", REMOVED),
        ("HostConfig.Mounts", [{"Type": "bind", "Source": "/", "Target": "/tmp", "ReadOnly": True}]),
        (
            "HostConfig.Mounts.0",
            {"Type": "volume", "Source": "x", "Target": "/tmp", "ReadOnly": True, "VolumeOptions": {"NoCopy": True}},
        ),
        ("HostConfig.Sysctls", {}),
        ("HostConfig.MaskedPaths", []),
        ("HostConfig.ReadonlyPaths", []),
        ("HostConfig.PublishAllPorts", True),
        ("HostConfig.PortBindings", {"80/tcp": [{"HostPort": "80"}]}),
        ("HostConfig.ExtraHosts", ["a:1.2.3.4"]),
        ("HostConfig.Dns", ["1.2.3.4"]),
        ("HostConfig.RestartPolicy", {"Name": "always"}),
        ("HostConfig.AutoRemove", True),
        ("HostConfig.LogConfig", {"Type": "syslog", "Config": {"syslog-address": "tcp://x:1"}}),
        ("HostConfig.LogConfig", {"Type": "local", "Config": {}}),
        ("HostConfig.LogConfig", {"Type": "none", "Config": {}}),
        ("HostConfig.LogConfig.Config.max-size", "-1"),
    ],
)
def test_the_invariants_tell_a_body_that_was_tampered_with(path: str, value: object) -> None:
    assert violations(changed(path, value))


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=4))
def test_the_invariants_tell_any_unknown_key_whatever_its_value(value: object) -> None:
    assert violations(changed("HostConfig.Extra", value)) == ["HostConfig.Extra is not known"]
