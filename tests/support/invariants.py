"""What must hold of every create body that reaches the engine, said once more and independently of ``spec.py``.

``violations`` looks at nothing but the body. It is an allow-list all the way down: a key it does not know is a
violation, so that a field added to ``spec.py`` has to be judged here as well. Unit tests apply it to bodies built from
generated policies, red-team tests to the bodies a recording engine saw.
"""

import posixpath
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

MIN_NANO_CPUS = 10_000_000
"""A hundredth of a core; the engine takes 0 for no limit."""

_IMAGE_ID = re.compile(r"sha256:[0-9a-f]{64}")
_NON_ROOT = re.compile(r"[1-9][0-9]*:[1-9][0-9]*", re.ASCII)
_ENV = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=[^\0]*", re.ASCII | re.DOTALL)
_LOG_SIZE = re.compile(r"[1-9][0-9]*m", re.ASCII)

_FIXED = {
    "Healthcheck": {"Test": ["NONE"]},
    "StopSignal": "SIGTERM",
    "Tty": False,
    "OpenStdin": True,
    "AttachStdin": True,
    "AttachStdout": True,
    "AttachStderr": True,
}
_FREE = {"Image", "User", "Cmd", "Env", "Labels", "StdinOnce", "HostConfig"}

_HOST_FIXED = {
    "Init": True,
    "Privileged": False,
    "CapDrop": ["ALL"],
    "SecurityOpt": ["no-new-privileges:true"],
    "ReadonlyRootfs": True,
    "IpcMode": "private",
    "CgroupnsMode": "private",
    "PublishAllPorts": False,
    "RestartPolicy": {"Name": "no"},
    "AutoRemove": False,
}
_HOST_FREE = {
    "Mounts",
    "ShmSize",
    "Memory",
    "MemorySwap",
    "NanoCpus",
    "PidsLimit",
    "Ulimits",
    "NetworkMode",
    "Runtime",
    "LogConfig",
}

_MOUNT_OPTIONS = {
    "bind": ("BindOptions", {"Propagation": "rprivate", "NonRecursive": True}),
    "volume": ("VolumeOptions", {"NoCopy": True}),
}


class Source(NamedTuple):
    """A mount that a rule allows: ``type`` is bind or volume."""

    type: str
    source: str
    target: str
    read_only: bool


def violations(
    body: Mapping[str, object],
    *,
    network: str = "none",
    runtime: str = "runc",
    entrypoint: Sequence[str] | None = None,
    workdir: str | None = None,
    sources: Collection[Source] = (),
) -> list[str]:
    """Everything in a create body that must not be there, or is missing; empty for a body that may be sent.

    Args:
        body: of ``POST /containers/create``.
        network, runtime, entrypoint, workdir, sources: what a rule has of its own; all else holds for every rule.
    """
    own = {"Entrypoint": entrypoint, "WorkingDir": workdir}
    own = {key: value for key, value in own.items() if value is not None}
    host = body.get("HostConfig")
    if not isinstance(host, Mapping):
        return ["HostConfig is missing"]
    return [
        *_keys("body", body, {*_FIXED, *_FREE, *own}),
        *_fixed("body", body, {**_FIXED, **own}),
        *_process(body),
        *_keys("HostConfig", host, {*_HOST_FIXED, *_HOST_FREE}),
        *_fixed("HostConfig", host, {**_HOST_FIXED, "NetworkMode": network, "Runtime": runtime}),
        *_limits(host),
        *_mounts(host.get("Mounts"), sources),
        *_log(body, host),
    ]


def _keys(where: str, found: Mapping[str, object], known: set[str]) -> Iterator[str]:
    for key in found.keys() ^ known:
        yield f"{where}.{key} is {'not known' if key in found else 'missing'}"


def _fixed(where: str, found: Mapping[str, object], wanted: Mapping[str, object]) -> Iterator[str]:
    for key, value in wanted.items():
        if not _same(found.get(key), value):
            yield f"{where}.{key} is {found.get(key)!r}, not {value!r}"


def _process(body: Mapping[str, object]) -> Iterator[str]:
    if not _matches(_IMAGE_ID, body.get("Image")):
        yield f"Image is {body.get('Image')!r}, not an image id"
    if not _matches(_NON_ROOT, body.get("User")):
        yield f"User is {body.get('User')!r}, not a uid and gid that are both not root's"
    for key in ("Cmd", "Env"):
        values = body.get(key)
        if not isinstance(values, list) or not all(isinstance(value, str) and "\0" not in value for value in values):
            yield f"{key} is {values!r}, not a list of strings without NUL"
        elif key == "Env" and not all(_ENV.fullmatch(value) for value in values):
            yield f"Env is {values!r}, not a list of NAME=value"
        elif key == "Env" and len({value.partition("=")[0] for value in values}) < len(values):
            yield f"Env is {values!r}: a name is set twice"
    labels = body.get("Labels")
    if not isinstance(labels, Mapping) or not labels.get("io.doogie.sig"):
        yield f"Labels are {labels!r}: not signed"
    else:
        for key, value in labels.items():
            if value != "" and not key.startswith("io.doogie."):
                yield f"label {key} of the image is not blanked"


def _limits(host: Mapping[str, object]) -> Iterator[str]:
    for key, least in (("Memory", 1), ("ShmSize", 1), ("PidsLimit", 1), ("NanoCpus", MIN_NANO_CPUS)):
        if not _is_int(host.get(key), least=least):
            yield f"HostConfig.{key} is {host.get(key)!r}: no limit"
    if not _same(host.get("MemorySwap"), host.get("Memory")):
        yield f"HostConfig.MemorySwap is {host.get('MemorySwap')!r}, not Memory: swap is on"
    ulimits = host.get("Ulimits")
    if not isinstance(ulimits, list) or len(ulimits) != 2:
        yield f"HostConfig.Ulimits are {ulimits!r}, not those of nofile and core"
        return
    nofile, core = ulimits
    if not (
        isinstance(nofile, Mapping)
        and nofile.keys() == {"Name", "Soft", "Hard"}
        and nofile["Name"] == "nofile"
        and _is_int(nofile["Hard"], least=1)
        and _same(nofile["Soft"], nofile["Hard"])
    ):
        yield f"HostConfig.Ulimits has {nofile!r}, not a limit of nofile"
    if core != {"Name": "core", "Soft": 0, "Hard": 0}:
        yield f"HostConfig.Ulimits has {core!r}: a crash dumps core"


def _mounts(mounts: object, sources: Collection[Source]) -> Iterator[str]:
    if not isinstance(mounts, list) or not all(isinstance(mount, Mapping) for mount in mounts):
        yield f"HostConfig.Mounts are {mounts!r}, not a list of mounts"
        return
    targets = [mount.get("Target") for mount in mounts]
    if "/tmp" not in targets:
        yield "HostConfig.Mounts has nothing at /tmp"
    if len(set(targets)) < len(targets):
        yield f"HostConfig.Mounts has two at one place: {targets!r}"
    for mount in mounts:
        target, options = mount.get("Target"), mount.get("TmpfsOptions")
        if not isinstance(target, str) or not _may_be_covered(target):
            yield f"HostConfig.Mounts has one at {target!r}"
        elif mount.get("Type") in _MOUNT_OPTIONS:
            yield from _source(mount, sources)
        elif mount.keys() != {"Type", "Target", "TmpfsOptions"} or mount["Type"] != "tmpfs":
            yield f"HostConfig.Mounts has {mount!r}, not a plain tmpfs"
        elif (
            not isinstance(options, Mapping)
            or options.keys() != {"SizeBytes", "Mode"}
            or not _is_int(options["SizeBytes"], least=1)
            or not _same(options["Mode"], 0o1777)
        ):
            yield f"HostConfig.Mounts has {options!r} at {target}: not a sized tmpfs of mode 1777"


def _source(mount: Mapping[str, object], sources: Collection[Source]) -> Iterator[str]:
    key, options = _MOUNT_OPTIONS[str(mount["Type"])]
    if mount.keys() != {"Type", "Source", "Target", "ReadOnly", key} or mount[key] != options:
        yield f"HostConfig.Mounts has {mount!r}, which may do more than show what is there"
    elif (mount["Type"], mount["Source"], mount["Target"], mount["ReadOnly"]) not in sources:
        yield f"HostConfig.Mounts has {mount!r}, which the rule does not allow"


def _may_be_covered(target: str) -> bool:
    if not target.startswith("/") or target.startswith("//") or posixpath.normpath(target) != target:
        return False
    return target.split("/")[1] not in ("", "proc", "sys", "dev")


def _log(body: Mapping[str, object], host: Mapping[str, object]) -> Iterator[str]:
    """No log without a size; and EOF exists exactly where no log lets the server outlive the proxy."""
    log = host.get("LogConfig")
    if log == {"Type": "none", "Config": {}}:
        if body.get("StdinOnce") is not True:
            yield "StdinOnce is not true where there is no log"
        return
    if body.get("StdinOnce") is not False:
        yield "StdinOnce is not false where there is a log"
    if not isinstance(log, Mapping) or log.keys() != {"Type", "Config"} or log["Type"] != "local":
        yield f"HostConfig.LogConfig is {log!r}, neither none nor local"
        return
    config = log["Config"]
    if (
        not isinstance(config, Mapping)
        or config.keys() != {"max-size", "max-file", "compress"}
        or not _matches(_LOG_SIZE, config["max-size"])
        or config["max-file"] != "2"
        or config["compress"] != "false"
    ):
        yield f"HostConfig.LogConfig.Config is {config!r}, not a bounded log"


def _matches(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_int(value: object, *, least: int) -> bool:
    """An int the engine can hold, and no bool: Python takes ``True`` for 1, the engine does not."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < 2**63


def _same(found: object, wanted: object) -> bool:
    return type(found) is type(wanted) and found == wanted
