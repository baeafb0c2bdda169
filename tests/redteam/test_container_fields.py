"""A. Fields of container creation: none can be asked for, in whatever disguise; what is created is the rule's alone."""

# ruff: noqa: RUF001  # look-alikes are what is tested here

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.harness import TOOLBOX, ProxyUnderTest, docker, policy_document, proxy_under_test, toolbox_rule
from tests.support.invariants import violations

START = "/v1/servers/box/start"
GOOD = {"image": TOOLBOX, "args": ["sleep"], "env": {"GREETING": "hello"}}
RAW = json.dumps(GOOD)[1:-1]
SOCKET = "/var/run/docker.sock"

BIND = {"Type": "bind", "Source": "/", "Target": "/host"}
BIND_VOLUME = {"type": "none", "o": "bind", "device": "/"}

FIELDS: dict[int, list[tuple[str, Any]]] = {
    1: [("Privileged", True), ("privileged", True), ("Privileged", "true"), ("Privileged", None)],
    2: [
        ("Binds", ["/:/host"]),
        ("Binds", [f"{SOCKET}:{SOCKET}"]),
        ("Mounts", [BIND]),
        ("Mounts", [{**BIND, "Source": SOCKET}]),
        ("Volumes", {"/host": {}}),
    ],
    3: [
        ("Mounts", [{"Type": "volume", "Target": "/h", "VolumeOptions": {"DriverConfig": {"Options": BIND_VOLUME}}}]),
        ("VolumeOptions", {"DriverConfig": {"Name": "local", "Options": BIND_VOLUME}}),
        ("DriverOpts", BIND_VOLUME),
    ],
    4: [
        ("DriverOpts", {"type": "overlay", "o": "lowerdir=/,upperdir=/tmp/u,workdir=/tmp/w", "device": "overlay"}),
        ("DriverOpts", {"type": "ext4", "device": "/dev/sda1"}),
        ("DriverOpts", {"type": "nfs", "o": "addr=192.0.2.1", "device": ":/"}),
        ("VolumeDriver", "local"),
    ],
    5: [("VolumesFrom", ["other:rw"]), ("Binds", ["another-volume:/data"])],
    6: [
        ("Devices", [{"PathOnHost": "/dev/sda", "PathInContainer": "/dev/sda", "CgroupPermissions": "rwm"}]),
        ("DeviceRequests", [{"Driver": "nvidia", "Count": -1, "Capabilities": [["gpu"]]}]),
        ("DeviceCgroupRules", ["a *:* rwm"]),
    ],
    7: [("CapAdd", ["ALL"]), ("CapAdd", ["SYS_ADMIN"]), ("Capabilities", ["CAP_SYS_ADMIN"]), ("CapDrop", [])],
    8: [
        (key, value)
        for key in ("PidMode", "NetworkMode", "IpcMode", "UTSMode", "UsernsMode", "CgroupnsMode", "Cgroup")
        for value in ("host", "container:other")
    ],
    9: [
        ("SecurityOpt", ["seccomp=unconfined", "apparmor=unconfined"]),
        ("SecurityOpt", ["systempaths=unconfined"]),
        ("SecurityOpt", ["no-new-privileges:false"]),
        ("MaskedPaths", []),
        ("ReadonlyPaths", []),
    ],
    10: [
        ("Runtime", "other"),
        ("CgroupParent", "/"),
        ("Sysctls", {"kernel.core_pattern": "|/tmp/x"}),
        ("GroupAdd", ["0", "docker"]),
        ("OomScoreAdj", -1000),
        ("OomKillDisable", True),
    ],
    11: [
        ("Mounts", [{**BIND, "BindOptions": {"Propagation": "rshared"}}]),
        ("BindOptions", {"Propagation": "shared"}),
        ("Propagation", "rshared"),
    ],
    12: [
        ("PortBindings", {"80/tcp": [{"HostPort": "80"}]}),
        ("PublishAllPorts", True),
        ("ExposedPorts", {"80/tcp": {}}),
        ("ExtraHosts", ["registry:192.0.2.1"]),
        ("Dns", ["192.0.2.1"]),
        ("Links", ["other:other"]),
        ("MacAddress", "02:42:ac:11:00:02"),
        ("NetworkingConfig", {"EndpointsConfig": {"bridge": {}}}),
    ],
    13: [
        ("LogConfig", {"Type": "syslog", "Config": {"syslog-address": "tcp://192.0.2.1:514"}}),
        ("LogConfig", {"Type": "gelf", "Config": {"gelf-address": "udp://192.0.2.1:1"}}),
    ],
    14: [("RestartPolicy", {"Name": "always"}), ("RestartPolicy", {"Name": "on-failure", "MaximumRetryCount": 9})],
}

CONFIG = re.findall(
    r"\w+",
    "Hostname Domainname User AttachStdin AttachStdout AttachStderr ExposedPorts Tty OpenStdin StdinOnce "
    "Env Cmd Healthcheck ArgsEscaped Image Volumes WorkingDir Entrypoint NetworkDisabled MacAddress "
    "OnBuild Labels StopSignal StopTimeout Shell HostConfig NetworkingConfig Name Platform",
)
HOST_CONFIG = re.findall(
    r"\w+",
    "CpuShares Memory CgroupParent BlkioWeight BlkioWeightDevice BlkioDeviceReadBps BlkioDeviceWriteBps "
    "BlkioDeviceReadIOps BlkioDeviceWriteIOps CpuPeriod CpuQuota CpuRealtimePeriod CpuRealtimeRuntime "
    "CpusetCpus CpusetMems Devices DeviceCgroupRules DeviceRequests KernelMemory KernelMemoryTCP "
    "MemoryReservation MemorySwap MemorySwappiness NanoCpus OomKillDisable Init PidsLimit Ulimits "
    "CpuCount CpuPercent IOMaximumIOps IOMaximumBandwidth Binds ContainerIDFile LogConfig NetworkMode "
    "PortBindings RestartPolicy AutoRemove VolumeDriver VolumesFrom Mounts ConsoleSize Annotations CapAdd "
    "CapDrop CgroupnsMode Dns DnsOptions DnsSearch ExtraHosts GroupAdd IpcMode Cgroup Links OomScoreAdj "
    "PidMode Privileged PublishAllPorts ReadonlyRootfs SecurityOpt StorageOpt Tmpfs UTSMode UsernsMode "
    "ShmSize Sysctls Runtime Isolation MaskedPaths ReadonlyPaths",
)
"""Every field of the Engine API, version 1.41 and later (``POST /containers/create``)."""


def nested(key: str, value: object) -> list[dict[str, object]]:
    """Good requests with this field added, at each place where something that is not looked at might pass it on."""
    field = {key: value}
    return [
        {**GOOD, **field},
        {**field, **GOOD},
        {**GOOD, "HostConfig": field},
        {**GOOD, "hostConfig": field},
        {**GOOD, "host_config": field},
        {**GOOD, "env": {"GREETING": field}},
        {**GOOD, "env": field if not isinstance(value, str) else {"GREETING": [field]}},
        {**GOOD, "env": [f"{key}={value}"]},
        {**GOOD, "args": ["sleep", field]},
        {**GOOD, "args": {"0": "sleep", **field}},
        {**GOOD, "mounts": [field]},
        {**GOOD, "mounts": field},
        {**GOOD, "secrets": [field]},
        {**GOOD, "image": {"name": TOOLBOX, **field}},
    ]


async def refuses(proxy: ProxyUnderTest, body: object) -> None:
    answer = await proxy.call("POST", START, body)
    assert (answer.status, answer.problem) == (422, "invalid-request"), body


async def refuses_raw(proxy: ProxyUnderTest, data: bytes) -> None:
    answer = await proxy.call("POST", START, data=data)
    assert (answer.status, answer.problem) == (422, "invalid-request"), data[:100]


@pytest.fixture
async def untouched(refusing: ProxyUnderTest) -> ProxyUnderTest:
    """``refusing``, after a check that it is not for want of a good request that all is refused."""
    dry = await refusing.call("POST", START + "?dry_run=1", GOOD)
    assert dry.status == 200
    assert refusing.recorder.for_clients() == []
    return refusing


@pytest.mark.redteam(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14)
@pytest.mark.parametrize("number", FIELDS)
async def test_no_field_of_a_container_can_be_asked_for_at_any_place(untouched: ProxyUnderTest, number: int) -> None:
    for key, value in FIELDS[number]:
        for body in nested(key, value):
            await refuses(untouched, body)
    assert untouched.recorder.for_clients() == []


@pytest.mark.redteam(2, 3, 5, 11)
async def test_a_mount_is_named_and_never_spelled(untouched: ProxyUnderTest) -> None:
    for name in ("/", SOCKET, "/:/host", "../..", "docker.sock:ro", "type=bind,source=/,target=/h", "", "A", "a b"):
        await refuses(untouched, {**GOOD, "mounts": [name]})
    for name in ("docker.sock", "data", "bind", "host"):
        answer = await untouched.call("POST", START, {**GOOD, "mounts": [name]})
        assert (answer.status, answer.problem) == (403, "policy-denied")
    assert untouched.recorder.for_clients() == []


DISGUISES = (
    *("hostconfig", "HOSTCONFIG", "hostConfig", "host_config", "HostConfig ", " HostConfig", "HostConfig\\u0000"),
    *("privileged", "PRIVILEGED", "\\u0050rivileged", "\\u0070rivileged", "Pr\\u0069vileged", "Privileged\\t"),
    *("Ho\u017ftConfig", "hostconfig\u200b", "Ho\\u017ftConfig", "Bind\u017f", "\u017fecurityOpt"),  # long s
    *("Networ\u212aMode", "networ\\u212amode", "\u212aernelMemory"),  # Kelvin sign: its lower case is k
    *("Ｐｒｉｖｉｌｅｇｅｄ", "ＨｏｓｔＣｏｎｆｉｇ", "Ρrivileged", "Рrivileged"),  # full width; Greek; Cyrillic
    *("Image", "IMAGE", "ımage", "İmage", "ｉｍａｇｅ", "image ", "image\\u0000", "ARGS", "arg\u017f", "Env"),
    *("Mounts", "mount\u017f", "Secrets", "secret\\u017f", "\ufeffimage", "__class__", "__proto__", "$ref", ""),
)
"""As they are written in JSON."""


@pytest.mark.redteam(15)
async def test_no_disguise_of_a_key_is_taken_for_the_key(untouched: ProxyUnderTest) -> None:
    for key in DISGUISES:
        for value in ("true", '"host"', '{"Privileged": true}', '["/:/host"]', json.dumps(TOOLBOX)):
            for data in (f'{{{RAW}, "{key}": {value}}}', f'{{"{key}": {value}, {RAW}}}'):
                assert isinstance(json.loads(data), dict), "else it is refused for being no JSON"
                await refuses_raw(untouched, data.encode())
    assert untouched.recorder.for_clients() == []


@pytest.mark.redteam(15)
async def test_an_escaped_key_is_the_key_and_nothing_else(untouched: ProxyUnderTest) -> None:
    escaped = RAW.replace('"image"', '"\\u0069mage"').replace('"env"', '"e\\u006ev"')
    answer = await untouched.call("POST", START + "?dry_run=1", data=f"{{{escaped}}}".encode())
    assert (answer.status, answer.json["image"], answer.json["args"]) == (200, TOOLBOX, ["sleep"])


TWICE = (
    *(f'{{{RAW}, "{key}": {json.dumps(GOOD[key])}}}' for key in GOOD),
    *(f'{{"{key}": {json.dumps(GOOD[key])}, {RAW}}}' for key in GOOD),
    f'{{{RAW}, "image": "debian"}}',
    f'{{"image": "debian", {RAW}}}',
    f'{{{RAW}, "\\u0069mage": "debian"}}',
    f'{{{RAW}, "mounts": [], "mounts": []}}',
    f'{{{RAW}, "secrets": [], "\\u0073ecrets": []}}',
    f'{{{RAW}, "Privileged": false, "Privileged": true}}',
    f'{{"image": "{TOOLBOX}", "env": {{"GREETING": "a", "GREETING": "b"}}}}',
    f'{{"image": "{TOOLBOX}", "env": {{"GREETING": "a", "GREETING": "a"}}}}',
    f'{{"image": "{TOOLBOX}", "env": {{"GREETING": "a", "GR\\u0045ETING": "b"}}}}',
    f'{{"image": "{TOOLBOX}", "env": {{"GREETING": {{"a": 1, "a": 2}}}}}}',
    f'{{"image": "{TOOLBOX}", "args": ["sleep", {{"a": 1, "a": 2}}]}}',
    f'{{"image": "{TOOLBOX}", "mounts": ["a", "a"]}}',
    f'{{"image": "{TOOLBOX}", "secrets": ["a", "a"]}}',
)


@pytest.mark.redteam(16)
async def test_nothing_is_said_twice_at_any_level(untouched: ProxyUnderTest) -> None:
    for data in TWICE:
        await refuses_raw(untouched, data.encode())
    assert untouched.recorder.for_clients() == []


@pytest.mark.redteam(17)
async def test_no_field_of_the_engines_api_is_one_of_ours(untouched: ProxyUnderTest) -> None:
    for key in {*CONFIG, *HOST_CONFIG}:
        for value in (True, "host", ["ALL"], {"a": "b"}, 1, None):
            answer = await untouched.call("POST", START, {**GOOD, key: value})
            assert (answer.status, answer.json["errors"]) == (422, [{"loc": f"body.{key}", "msg": "unknown field"}])
    assert untouched.recorder.for_clients() == []


BROKEN = {
    "trailing bytes": f"{{{RAW}}}x".encode(),
    "a second document": f'{{{RAW}}}{{"Privileged": true}}'.encode(),
    "a second document on a line of its own": f'{{{RAW}}}\n{{"Privileged": true}}\n'.encode(),
    "a trailing comma": f"{{{RAW},}}".encode(),
    "a trailing NUL": f"{{{RAW}}}\0".encode(),
    "a leading NUL": f"\0{{{RAW}}}".encode(),
    "a comment": f"{{{RAW}}} // Privileged".encode(),
    "single quotes": b"{'image': 'x'}",
    "no value": f'{{{RAW}, "mounts":}}'.encode(),
    "unfinished": f"{{{RAW}".encode(),
    "nothing": b"",
    "blank": b" \n",
    "a byte order mark": b"\xef\xbb\xbf" + f"{{{RAW}}}".encode(),
    "a byte order mark inside": f"{{\ufeff{RAW}}}".encode(),
    "UTF-16": f"{{{RAW}}}".encode("utf-16"),
    "UTF-16 without a mark": f"{{{RAW}}}".encode("utf-16-le"),
    "UTF-32": f"{{{RAW}}}".encode("utf-32-be"),
    "no UTF-8": f'{{{RAW}, "mounts": ["'.encode() + b'\xff"]}',
    "an overlong slash": f'{{{RAW}, "mounts": ["'.encode() + b'\xc0\xaf"]}',
    "an encoded surrogate": f'{{{RAW}, "mounts": ["'.encode() + b'\xed\xa0\x80"]}',
    "a raw newline in a string": b'{"image": "a\nb"}',
    "a raw NUL in a string": b'{"image": "a\0b"}',
    "a lone surrogate as a key": rb'{"image": "x", "\ud800": 1}',
    "a lone surrogate as an image": rb'{"image": "\ud800"}',
    "a lone surrogate as an argument": rb'{"image": "x", "args": ["\udfff"]}',
    "a lone surrogate as a variable": rb'{"image": "x", "env": {"\ud800": "a"}}',
    "a lone surrogate as a value": rb'{"image": "x", "env": {"GREETING": "\ud800"}}',
    "lone surrogates as keys, twice": rb'{"\ud800": 1, "\ud800": 2}',
    "no object": b"[]",
    "null": b"null",
    "a string": json.dumps(json.dumps(GOOD)).encode(),
    "a list of requests": json.dumps([GOOD]).encode(),
    "deep lists": b"[" * 120_000,
    "deep objects": b'{"a":' * 40_000,
    "deep lists, closed": b'{"image": "x", "args": ' + b"[" * 9 + b"]" * 9 + b"}",
    "very deep lists, closed": b'{"image": "x", "args": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep objects, closed": b'{"image": "x", "env": ' + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"}",
}
NUMBERS = (
    *("NaN", "Infinity", "-Infinity", "-NaN", "1e999", "-1e999", "1e-999", "-0", "-0.0", "0", "1", "1.0", "1E400"),
    *("9" * 400, "9" * 4300, "9" * 4301, "9" * 200_000, "-" + "9" * 5000, "0." + "1" * 5000, "1e" + "9" * 5000),
    *("0x10", "01", "+1", ".5", "1.", "1e", "--1", "true", "null"),
)


@pytest.mark.redteam(18)
async def test_what_is_not_strictly_one_json_object_is_no_request(untouched: ProxyUnderTest) -> None:
    for name, data in BROKEN.items():
        answer = await untouched.call("POST", START, data=data)
        assert (answer.status, answer.problem) == (422, "invalid-request"), name
    assert untouched.recorder.for_clients() == []


@pytest.mark.redteam(18)
async def test_no_number_is_taken_for_anything(untouched: ProxyUnderTest) -> None:
    for number in NUMBERS:
        for place in ('"image": %s', '"args": [%s]', '"args": %s', '"env": {"GREETING": %s}', '"mounts": [%s]'):
            rest = "" if "image" in place else f', "image": "{TOOLBOX}"'
            await refuses_raw(untouched, f"{{{place % number}{rest}}}".encode())
        await refuses_raw(untouched, f'{{{RAW}, "Memory": {number}}}'.encode())
        if number not in ("0", "-0", "1", "null"):  # these are good: a number of seconds, or none
            stop = await untouched.call("POST", "/v1/servers/box/stop", data=f'{{"grace_s": {number}}}'.encode())
            assert (stop.status, stop.problem) == (422, "invalid-request"), number[:20]
    assert untouched.recorder.for_clients() == []


OTHER_TYPES = [
    *({"Content-Type": text} for text in ("", "text/plain", "text/json", "application/jsonx", "application")),
    *({"Content-Type": f"application/json; charset={name}"} for name in ("utf-16", "latin-1", "utf-7", "utf8")),
    {"Content-Type": "application/json; charset=utf-8; charset=utf-16"},
    {"Content-Type": "application/json; boundary=x"},
    {"Content-Type": "application/json, text/plain"},
    {"Content-Type": "application/vnd.docker.raw-stream"},
    {"Content-Type": "application/problem+json"},
    {"Content-Type": "application/x-www-form-urlencoded"},
    {"Content-Type": "multipart/form-data; boundary=x"},
    *({"Content-Encoding": name} for name in ("gzip", "deflate", "br", "zstd", "identity", "x", "")),
]


@pytest.mark.redteam(19)
async def test_a_body_is_json_in_utf_8_and_says_so(untouched: ProxyUnderTest) -> None:
    for headers in OTHER_TYPES:
        for path in (START, "/v1/servers/box/stop"):
            alone = {**headers, "Connection": "close"}  # the parser cuts off what it cannot decode
            answer = await untouched.call("POST", path, data=json.dumps(GOOD).encode(), headers=alone)
            expected = [(415, "unsupported-media-type"), (400, "bad-request")]
            assert (answer.status, answer.problem) in expected, headers
    assert untouched.recorder.for_clients() == []


@pytest.mark.redteam(1, 2, 6, 7, 8, 9, 10, 11, 12, 13, 14)
async def test_what_the_engine_is_asked_for_a_good_request_is_golden(engine: str, tmp_path: Path) -> None:
    """All of it: which requests, in which order, and the whole body."""
    rule = toolbox_rule(
        args={"prefix": ["sleep"], "patterns": ["--tz=[A-Za-z/]+"]},
        env={"allow": ["GREETING"], "fixed": {"LANG": "C.UTF-8"}},
        tmpfs={"/home/app": "1MiB"},
        user="1234:5678",
        resources={"memory": "64MiB", "cpus": 0.25, "pids": 9, "tmp": "2MiB", "shm": "3MiB", "nofile": 99},
        stdio={"max_message": "1MiB", "buffer": "4MiB"},
        lifetime={"detached_ttl_s": 60, "max_age_s": 600, "stop_grace_s": 2, "keep_exited_s": 30},
    )
    [image] = json.loads(docker("image", "inspect", TOOLBOX))
    of_image = [key for key in image["Config"]["Labels"] or {} if not key.startswith("org.opencontainers.image.")]
    async with proxy_under_test(tmp_path, policy_document(rule)) as proxy:
        status = await proxy.start("box", "--tz=Europe/Oslo", env={"GREETING": "a=b; $(id)"})
        made, asked = status["container_id"], proxy.recorder.for_clients()
    assert [f"{request.method} {request.path}" for request in asked[:6]] == [
        f"GET /images/{TOOLBOX}/json",
        f"POST /containers/create?name=doogie-{proxy.instance}-chat-box",
        f"POST /containers/{made}/attach?stdin=1&stream=1",
        f"POST /containers/{made}/attach?stdout=1&stream=1",
        f"POST /containers/{made}/attach?stderr=1&stream=1",
        f"GET /containers/{made}/json",
    ]
    assert f"POST /containers/{made}/start" in [f"{request.method} {request.path}" for request in asked]
    [create] = proxy.recorder.creates()
    labels = create.body["Labels"]
    for name in ("sig", "spec", "plan"):
        assert re.fullmatch("[0-9a-f]{64}", labels[f"io.doogie.{name}"])
    assert create.body == {
        "Image": image["Id"],
        "User": "1234:5678",
        "Cmd": ["sleep", "--tz=Europe/Oslo"],
        "Env": ["GREETING=a=b; $(id)", "LANG=C.UTF-8"],
        "Labels": {
            **dict.fromkeys(of_image, ""),
            "io.doogie.instance": proxy.instance,
            "io.doogie.client": "chat",
            "io.doogie.server": "box",
            "io.doogie.rule": "toolbox",
            "io.doogie.image": TOOLBOX,
            "io.doogie.lifetime": '{"detached_ttl_s":60,"max_age_s":600,"stop_grace_s":2,"keep_exited_s":30}',
            "io.doogie.stdio": '{"max_message":1048576,"buffer":4194304,"replay":"engine-log"}',
            "io.doogie.spec": labels["io.doogie.spec"],
            "io.doogie.plan": labels["io.doogie.plan"],
            "io.doogie.sig": labels["io.doogie.sig"],
        },
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
                {"Type": "tmpfs", "Target": "/tmp", "TmpfsOptions": {"SizeBytes": 2097152, "Mode": 1023}},
                {"Type": "tmpfs", "Target": "/home/app", "TmpfsOptions": {"SizeBytes": 1048576, "Mode": 1023}},
            ],
            "ShmSize": 3145728,
            "Memory": 67108864,
            "MemorySwap": 67108864,
            "NanoCpus": 250000000,
            "PidsLimit": 9,
            "Ulimits": [{"Name": "nofile", "Soft": 99, "Hard": 99}, {"Name": "core", "Soft": 0, "Hard": 0}],
            "NetworkMode": "none",
            "Runtime": "runc",
            "IpcMode": "private",
            "CgroupnsMode": "private",
            "PublishAllPorts": False,
            "RestartPolicy": {"Name": "no"},
            "AutoRemove": False,
            "LogConfig": {"Type": "local", "Config": {"max-size": "4m", "max-file": "2", "compress": "false"}},
        },
    }
    assert violations(create.body) == []
