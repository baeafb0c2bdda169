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
from doogie_proxy.policy import Mount, Stdio, may_be_mounted_over

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
    workdir: str
    labels: Mapping[str, str]
    platform: str = ""
    """``os/architecture``."""


def create_body(
    admitted: Admitted, image: ImageConfig, identity_labels: Mapping[str, str], secrets: Mapping[str, str]
) -> dict[str, Any]:
    """The body of ``POST /containers/create`` for an admitted request.

    Args:
        admitted: by the policy.
        image: as the engine has it.
        identity_labels: signed.
        secrets: values of the secrets' files, by path; those of ``admitted.secrets`` are there.

    Raises:
        ImageRefusedError: the image has no ENTRYPOINT (arguments would be the program), a VOLUME that cannot be
            covered, a WORKDIR where a runtime may have left the host's open, or too many labels.
    """
    rule, resources = admitted.rule, admitted.rule.resources
    if not image.entrypoint and rule.entrypoint is None:
        raise ImageRefusedError(
            "the image has no ENTRYPOINT, so arguments would choose the program: have the rule name one"
        )
    workdir = _normal(image.workdir)
    if rule.workdir is None and workdir != "/" and not may_be_mounted_over(workdir):
        # A runtime may have left a directory of the host open there (CVE-2024-21626).
        raise ImageRefusedError(
            f"the image declares WORKDIR {workdir!r}: use one without it, or have the rule name one"
        )
    if sum(len(key) + len(value) for key, value in image.labels.items()) > MAX_IMAGE_LABELS_CHARS:
        raise ImageRefusedError(f"the image's labels exceed {MAX_IMAGE_LABELS_CHARS} characters: use one with fewer")
    # Other software on the engine obeys labels (reverse proxies, updaters): an image must not reach it.
    blanked = {key: "" for key in image.labels if not key.startswith(IMAGE_LABELS_KEPT)}
    env = {**admitted.env, **{secret.env: secrets[secret.file] for secret in admitted.secrets}}
    return {
        **({} if rule.entrypoint is None else {"Entrypoint": rule.entrypoint}),
        **({} if rule.workdir is None else {"WorkingDir": rule.workdir}),
        "Image": image.id,  # by id: a tag could have moved since it was inspected
        "User": rule.user,
        "Cmd": list(admitted.args),
        "Env": [f"{name}={value}" for name, value in sorted(env.items())],
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
            "Mounts": _mounts(admitted, image),
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
            "Runtime": rule.runtime,
            "IpcMode": "private",
            "CgroupnsMode": "private",
            "PublishAllPorts": False,
            "RestartPolicy": {"Name": "no"},
            "AutoRemove": False,
            "LogConfig": _log_config(rule.stdio),
        },
    }


def _mounts(admitted: Admitted, image: ImageConfig) -> list[dict[str, Any]]:
    """``/tmp``, the rule's tmpfs, the mounts that were asked for, and a tmpfs over each other VOLUME of the image."""
    rule = admitted.rule
    sizes = {"/tmp": rule.resources.tmp, **rule.tmpfs}  # noqa: S108  # inside the container
    asked = {mount.target: mount for mount in admitted.mounts}
    for volume in _volumes(image):
        if volume not in asked:
            sizes.setdefault(volume, rule.resources.tmp)
    return [*(_tmpfs(path, size) for path, size in sizes.items()), *map(_mount, asked.values())]


def _volumes(image: ImageConfig) -> list[str]:
    """Where the image declares a VOLUME. Left alone, the engine makes an unlimited one on its disk."""
    paths = set()
    for volume in image.volumes:
        path = _normal(volume)
        if not volume.startswith("/") or not may_be_mounted_over(path):
            raise ImageRefusedError(
                f"the image declares VOLUME {volume!r}, which cannot be covered: use one without it"
            )
        paths.add(path)
    return sorted(paths)


def _normal(path: str) -> str:
    """The path from the container's root, without anything that could be read in two ways."""
    return "/" + posixpath.normpath("/" + path).lstrip("/")  # normpath leaves two leading slashes


def _mount(mount: Mount) -> dict[str, Any]:
    """A directory of the host must be there already; what is mounted below it stays out, and no mount spreads."""
    if mount.tmpfs is not None:
        return _tmpfs(mount.target, mount.tmpfs)
    common = {"Target": mount.target, "ReadOnly": mount.read_only}
    if mount.volume is not None:
        return {**common, "Type": "volume", "Source": mount.volume, "VolumeOptions": {"NoCopy": True}}
    options = {"Propagation": "rprivate", "NonRecursive": True}
    return {**common, "Type": "bind", "Source": mount.host, "BindOptions": options}


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
