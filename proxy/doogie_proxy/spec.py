"""The container, constructed: the engine's create body, built here and nowhere else. Pure.

Source: Docker Engine API 1.41, ``POST /containers/create``. Nothing of it comes from a client but the strings in
``Cmd`` and ``Env`` that a rule admitted. Fields that are left out have the engine's own safe default; those written
with their default are written because an image or an engine setting could otherwise decide them.
"""

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from doogie_proxy.admission import Admitted
from doogie_proxy.policy import Stdio

IMAGE_LABELS_KEPT = "org.opencontainers.image."
MAX_IMAGE_LABELS_CHARS = 64 * 1024
"""Names and values together. The engine puts all labels on one line of each event; aiohttp reads 512 KiB of a line."""


class ImageRefusedError(Exception):
    """The image asks for something that no rule can make safe; says what and what would be right."""


@dataclass(frozen=True)
class ImageConfig:
    """What an image brings that a container would inherit (OCI image configuration)."""

    id: str
    entrypoint: tuple[str, ...]
    volumes: tuple[str, ...]
    labels: Mapping[str, str]


def create_body(admitted: Admitted, image: ImageConfig, identity_labels: Mapping[str, str]) -> dict[str, Any]:
    """The body of ``POST /containers/create`` for an admitted request.

    Raises:
        ImageRefusedError: the image has no ENTRYPOINT (arguments would be the program), a VOLUME that cannot be
            covered or too many labels.
    """
    if not image.entrypoint:
        raise ImageRefusedError("the image has no ENTRYPOINT, so arguments would choose the program: use one that has")
    if sum(len(key) + len(value) for key, value in image.labels.items()) > MAX_IMAGE_LABELS_CHARS:
        raise ImageRefusedError(f"the image's labels exceed {MAX_IMAGE_LABELS_CHARS} characters: use one with fewer")
    rule, resources = admitted.rule, admitted.rule.resources
    # Other software on the engine obeys labels (reverse proxies, updaters): an image must not reach it.
    blanked = {key: "" for key in image.labels if not key.startswith(IMAGE_LABELS_KEPT)}
    return {
        "Image": image.id,  # by id: a tag could have moved since it was inspected
        "User": rule.user,
        "Cmd": list(admitted.args),
        "Env": [f"{name}={value}" for name, value in sorted(admitted.env.items())],
        "Labels": {**blanked, **identity_labels},
        "Healthcheck": {"Test": ["NONE"]},
        "StopSignal": "SIGTERM",
        "Tty": False,
        "OpenStdin": True,
        # The end of the stdin attachment is EOF only with StdinOnce, and then also when the proxy dies.
        "StdinOnce": rule.stdio.replay == "none",
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "HostConfig": {
            "Init": True,
            "Privileged": False,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges:true"],
            "ReadonlyRootfs": True,
            "Mounts": [_tmpfs(path, resources.tmp) for path in ("/tmp", *_volumes(image))],  # noqa: S108  # inside it
            "ShmSize": resources.shm,
            "Memory": resources.memory,
            "MemorySwap": resources.memory,  # the sum of both: no swap
            "NanoCpus": round(resources.cpus * 1_000_000_000),
            "PidsLimit": resources.pids,
            "Ulimits": [
                {"Name": "nofile", "Soft": resources.nofile, "Hard": resources.nofile},
                {"Name": "core", "Soft": 0, "Hard": 0},
            ],
            "NetworkMode": rule.network,
            "IpcMode": "private",
            "CgroupnsMode": "private",
            "PublishAllPorts": False,
            "RestartPolicy": {"Name": "no"},
            "AutoRemove": False,
            "LogConfig": _log_config(rule.stdio),
        },
    }


def _volumes(image: ImageConfig) -> list[str]:
    """Where the image declares a VOLUME, but ``/tmp``. Left alone, the engine makes an unlimited one on its disk."""
    paths = set()
    for volume in sorted(image.volumes):
        path = posixpath.normpath(volume)
        if not path.startswith("/") or path.lstrip("/").split("/")[0] in ("", "proc", "sys", "dev"):
            raise ImageRefusedError(f"the image declares VOLUME {path!r}, which cannot be covered: use one without it")
        paths.add("/" + path.lstrip("/"))  # normpath leaves two leading slashes
    return sorted(paths - {"/tmp"})  # noqa: S108  # inside the container


def _tmpfs(path: str, size_bytes: int) -> dict[str, Any]:
    """A mount of type tmpfs; the engine adds noexec, nosuid and nodev to every one."""
    return {"Type": "tmpfs", "Target": path, "TmpfsOptions": {"SizeBytes": size_bytes, "Mode": 0o1777}}


def _log_config(stdio: Stdio) -> dict[str, Any]:
    if stdio.replay == "none":
        return {"Type": "none", "Config": {}}
    return {
        "Type": "local",
        "Config": {"max-size": f"{max(stdio.buffer // 2**20, 1)}m", "max-file": "2", "compress": "false"},
    }
