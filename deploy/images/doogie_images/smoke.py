"""The smoke test: the server, started as the proxy starts it, answers initialize and tools/list.

The same walls: no network, a read-only root file system, no capability, not root, the limits of a rule's defaults. What
is run here is the first code of the package that runs at all, unless ``allow_scripts`` let some run before.
"""

import asyncio
import csv
import io
import logging
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from pydantic import BaseModel, Field

from doogie_images.container import created
from doogie_images.docker import docker
from doogie_images.errors import SmokeTestFailed
from doogie_images.request import TMP, Request, size_bytes

USER = "65532:65532"
CPUS = 0.5
PIDS = 64
NOFILE = 256
TMP_BYTES = SHM_BYTES = 16 * 2**20
"""What a rule gives that does not say otherwise: ``Resources`` of the proxy's policy; a test holds the two together."""

_MAX_FILE_VALUE_CHARS = 8192
"""Docker reads lines of 64 KiB."""
_STDERR_LINES = 20
_KILLED = 128 + signal.SIGKILL
"""By nobody but the kernel, as long as the test has not ended."""


@dataclass(frozen=True)
class Answer:
    """What the server said, and how long it took from the start of the container."""

    server: str
    tools: tuple[str, ...]
    seconds: float


def container_options(request: Request) -> list[str]:
    """Options of ``docker run`` that make the container what the proxy would make it, in the order of its own code."""
    memory = str(size_bytes(request.memory))
    mounts = [_tmpfs(TMP, TMP_BYTES)]
    mounts += [_tmpfs(path, size_bytes(size)) for path, size in request.tmpfs.items()]
    for mount in request.mounts.values():
        fields = [f"type={'volume' if mount.is_volume else 'bind'}", f"source={mount.source}", f"target={mount.target}"]
        fields += ["volume-nocopy=true"] if mount.is_volume else ["bind-propagation=rprivate"]
        mounts.append(_csv([*fields, *(["readonly"] if mount.read_only else [])]))
    return [
        *("--user", USER, "--no-healthcheck", "--stop-signal", "SIGTERM", "--interactive", "--init"),
        *("--cap-drop", "ALL", "--security-opt", "no-new-privileges:true", "--read-only"),
        *(word for mount in mounts for word in ("--mount", mount)),
        *("--shm-size", str(SHM_BYTES), "--memory", memory, "--memory-swap", memory, "--cpus", str(CPUS)),
        *("--pids-limit", str(PIDS), "--ulimit", f"nofile={NOFILE}:{NOFILE}", "--ulimit", "core=0:0"),
        *("--network", "none", "--runtime", "runc", "--ipc", "private", "--cgroupns", "private"),
        "--log-driver=none",
    ]


async def smoke_test(image: str, request: Request, env: Mapping[str, str], directory: Path, timeout_s: float) -> Answer:
    """Start a container, talk to the server in it, and remove it.

    Args:
        image: its id.
        request: arguments, mounts and limits.
        env: values of the variables that the request names.
        directory: where only this user reads, for the values and for what the server writes to stderr.
        timeout_s: for all of it.

    Raises:
        SmokeTestFailed: it did not answer; with how it ended and what it wrote to stderr.
        DockerFailed: the engine did not create it.
    """
    stderr = directory / "stderr"
    # The SDK logs a traceback for each line that is not MCP; whether the server answers is what counts here.
    logging.getLogger("mcp").setLevel(logging.CRITICAL)
    variables, own_env = _variables(env, directory / "env")
    async with created(*container_options(request), *variables, image, *request.args, env=own_env) as name:
        start = StdioServerParameters(
            command="docker", args=["start", "--attach", "--interactive", name], env=dict(os.environ)
        )
        started = time.monotonic()
        try:
            with stderr.open("w", encoding="utf-8", errors="replace") as errlog:
                async with asyncio.timeout(timeout_s), Client(stdio_client(start, errlog=errlog)) as client:
                    tools = await _tools(client)
                    seconds = time.monotonic() - started
                    server = client.server_info.name if client.server_info else ""
                    return Answer(server, tools, seconds)
        except TimeoutError as exc:
            why = f"the server did not answer within {timeout_s:g} s: --timeout gives it longer"
            raise SmokeTestFailed(why, _tail(stderr)) from exc
        except Exception as exc:
            why = f"{await _how_it_ended(name, request)} ({_reason(exc)})"
            raise SmokeTestFailed(f"the server does not run as it is started here: {why}", _tail(stderr)) from exc


def _variables(env: Mapping[str, str], file: Path) -> tuple[list[str], dict[str, str]]:
    """Options that give the container its variables, and what docker's own environment needs for that.

    Values are on no command line, where every user of this machine would see them. Docker's own environment takes only
    what its file cannot hold: a variable of the server may be called HOME or DOCKER_HOST.
    """
    plain = {name: value for name, value in env.items() if value.isprintable() and len(value) <= _MAX_FILE_VALUE_CHARS}
    file.write_text("".join(f"{name}={value}\n" for name, value in plain.items()), encoding="utf-8")
    others = {name: value for name, value in env.items() if name not in plain}
    return ["--env-file", str(file), *(word for name in others for word in ("--env", name))], others


async def _tools(client: Client) -> tuple[str, ...]:
    if client.server_capabilities.tools is None:
        return ()
    page = await client.list_tools()
    names = [tool.name for tool in page.tools]
    while page.next_cursor is not None:
        page = await client.list_tools(cursor=page.next_cursor)
        names += [tool.name for tool in page.tools]
    return tuple(names)


class _State(BaseModel):
    """``State`` of a container (Engine API, ``GET /containers/{id}/json``)."""

    status: str = Field(alias="Status")
    exit_code: int = Field(alias="ExitCode")
    oom_killed: bool = Field(alias="OOMKilled")


async def _how_it_ended(name: str, request: Request) -> str:
    state = _State.model_validate_json(await docker("inspect", "--format", "{{json .State}}", name))
    if state.status == "running":
        return "it answers otherwise than an MCP server"
    if state.oom_killed or state.exit_code == _KILLED:  # an engine with cgroup v1 does not always hear why
        return f"it needs more than {request.memory} of memory: give it more with --memory"
    return f"it exited with code {state.exit_code}"


def _reason(exc: BaseException) -> str:
    while isinstance(exc, BaseExceptionGroup):
        exc = exc.exceptions[0]
    return str(exc) or type(exc).__name__


def _tail(path: Path) -> str:
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-_STDERR_LINES:])


def _tmpfs(path: str, size: int) -> str:
    return _csv(["type=tmpfs", f"target={path}", f"tmpfs-size={size}", "tmpfs-mode=1777"])


def _csv(fields: list[str]) -> str:
    """Docker reads ``--mount`` as one line of CSV (RFC 4180)."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(fields)
    return line.getvalue()
