"""Docker's options as lines of a policy's rule that give the same: what an operator can be asked for. Pure.

Each function takes an option's value and gives one line of YAML. The operator reads it before it counts: what only they
can know stands there in capitals.
"""

import json
import posixpath
import re
from collections.abc import Callable, Mapping

_SIZE = re.compile(r"(?P<number>\d{1,12})(?P<unit>[bkmg]?)(?:i?b)?", re.ASCII | re.IGNORECASE)
_UNITS = {"": 1, "b": 1, "k": 2**10, "m": 2**20, "g": 2**30}
_CPUS = re.compile(r"\d{1,3}(?:\.\d{1,3})?", re.ASCII)
_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_./-]*", re.ASCII)
_NOT_STRINGS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})
_ENGINE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}", re.ASCII)
_USER = re.compile(r"[1-9]\d{0,8}:[1-9]\d{0,8}", re.ASCII)
_DRIVE = re.compile(r"[A-Za-z]:[\\/]", re.ASCII)
_NOT_IN_NAMES = re.compile(r"[^a-z0-9_.-]+", re.ASCII)
_NEVER_MOUNTED = ("/boot", "/dev", "/etc", "/proc", "/root", "/run", "/sys", "/var/lib/docker", "/var/run")
_ENGINE_NETWORKS = frozenset({"bridge", "default", "host"})
_MOUNT_ROOT = "/srv/mcp"


def resource(name: str, amount: Callable[[str], str]) -> Callable[[str], str]:
    """``resources: {memory: 512MiB}`` and its like."""
    return lambda value: f"resources: {{{name}: {amount(value)}}}"


def network(value: str) -> str:
    """``network: NAME``, from ``NAME`` or ``name=NAME,alias=…``."""
    name = dict(_fields(value)).get("name", value)
    return f"network: {_yaml(name) if _ENGINE_NAME.fullmatch(name) and name not in _ENGINE_NETWORKS else 'NETWORK'}"


def user(value: str) -> str:
    """``user: "1000:1000"``; a name, a uid alone or root cannot be had."""
    return f"user: {json.dumps(value) if _USER.fullmatch(value) else 'UID:GID'}"


def workdir(value: str) -> str:
    """``workdir: /app``."""
    return f"workdir: {_yaml(_path(value) or 'PATH')}"


def entrypoint(value: str) -> str:
    """``entrypoint: [node]``: one program, as the option has it."""
    return f"entrypoint: [{_yaml(value) if value else 'PROGRAM'}]"


def runtime(value: str) -> str:
    """``runtime: runsc``."""
    return f"runtime: {_yaml(value) if _ENGINE_NAME.fullmatch(value) else 'RUNTIME'}"


def tmpfs(value: str) -> str:
    """``tmpfs: {/work: 64MiB}``, from ``/work:size=64m,…``; of the one at ``/tmp``, only the size."""
    target, _, options = value.partition(":")
    amount = size(dict(_fields(options)).get("size", "64m"))
    if _path(target) == "/tmp":  # noqa: S108 - of a container, where it is its own
        return f"resources: {{tmp: {amount}}}"
    return f"tmpfs: {{{_yaml(_target(target) or 'PATH')}: {amount}}}"


def volume(value: str) -> str:
    """``mounts: {data: {host: /srv/data, target: /data}}``, from ``[SOURCE:]TARGET[:OPTIONS]``."""
    drive = 2 if _DRIVE.match(value) else 0
    source, _, rest = value[drive:].partition(":")
    if not rest:
        return tmpfs(value)
    target, _, options = rest.partition(":")
    return _mount(value[:drive] + source, target, read_only="ro" in options.split(","))


def mount(value: str) -> str:
    """The same from ``type=bind,source=SOURCE,target=TARGET,readonly``."""
    given = dict(_fields(value))
    target = _first(given, "target", "dst", "destination")
    if given.get("type") == "tmpfs":
        return tmpfs(f"{target}:size={given.get('tmpfs-size', '64m')}")
    read_only = _first(given, "readonly", "ro")
    return _mount(_first(given, "source", "src"), target, read_only=read_only in {"1", "true"})


def is_engine_socket(value: str) -> bool:
    """Whether a volume or mount is, by its name, the socket of an engine."""
    return re.search(r"(?:docker|podman|containerd|dockerd|crio)\.sock", value) is not None


def stop_grace(value: str) -> str:
    """``lifetime: {stop_grace_s: 30}``."""
    return f"lifetime: {{stop_grace_s: {count(value)}}}"


def pinned(_value: str) -> str:
    """The image by digest: a platform is no part of a reference, the image of one platform has a digest of its own."""
    return 'images: ["REPOSITORY@sha256:DIGEST"]'


def size(value: str) -> str:
    """Docker's ``512m`` as the policy's ``512MiB``; both count in powers of two."""
    match = _SIZE.fullmatch(value)
    if match is None:
        return "SIZE"
    amount = int(match["number"]) * _UNITS[match["unit"].lower()]
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if amount and amount % factor == 0:
            return f"{amount // factor}{unit}"
    return str(amount)


def cpus(value: str) -> str:
    """A number of cores."""
    return value if _CPUS.fullmatch(value) else "CORES"


def count(value: str) -> str:
    """A whole number above 0."""
    return value if re.fullmatch(r"[1-9]\d{0,6}", value, re.ASCII) else "NUMBER"


def _mount(source: str, target: str, *, read_only: bool) -> str:
    name = _mount_name(target, source)
    if "/" not in source and _ENGINE_NAME.fullmatch(source):
        what = f"volume: {_yaml(source)}"
    else:
        path = _path(source)
        away = path is None or any(_within(path, never) or _within(never, path) for never in _NEVER_MOUNTED)
        what = f"host: {_yaml(f'{_MOUNT_ROOT}/{name}' if path is None or away else path)}"
    writable = "" if read_only else ", read_only: false"
    return f"mounts: {{{_yaml(name)}: {{{what}, target: {_yaml(_target(target) or f'/mnt/{name}')}{writable}}}}}"


def _mount_name(target: str, source: str) -> str:
    for path in (target, source):
        last = re.split(r"[\\/]", path.rstrip("\\/"))[-1].lower()
        name = _NOT_IN_NAMES.sub("-", last).strip("_.-")[:63].rstrip("_.-")
        if name:
            return name
    return "data"


def _path(text: str) -> str | None:
    """An absolute path in the form that a policy takes, or None."""
    if not text.startswith("/") or "\0" in text or ".." in text.split("/"):
        return None
    return "/" + posixpath.normpath(text).lstrip("/")


def _target(text: str) -> str | None:
    """A path of a container that can be mounted over, or None."""
    path = _path(text)
    return None if path in {None, "/tmp"} or path.split("/")[1] in {"", "proc", "sys", "dev"} else path  # noqa: S108 - as above


def _within(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def _fields(value: str) -> list[tuple[str, str]]:
    """``a=1,b`` as pairs; a name without a value has ``true``."""
    return [(name, text if equals else "true") for name, equals, text in (f.partition("=") for f in value.split(","))]


def _first(given: Mapping[str, str], *names: str) -> str:
    return next((given[name] for name in names if name in given), "")


def _yaml(text: str) -> str:
    """A scalar in flow context: plain where it can be nothing else, or quoted as in JSON, which YAML reads alike."""
    return text if _PLAIN.fullmatch(text) and text.lower() not in _NOT_STRINGS else json.dumps(text)
