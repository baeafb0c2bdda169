"""The engine adapter: the only module that knows aiodocker, and the only one that touches the Docker socket.

aiodocker carries the ordinary calls, ``attachment.py`` the attach streams. Every call has its own timeout, and ends in
a value or in one of ``engine_failures.py``.
"""

import asyncio
import json
import re
import time
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

import aiodocker
import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from doogie_proxy.attachment import Attachment, AttachRefusedError
from doogie_proxy.engine_failures import (
    EngineConflict,
    EngineError,
    EngineFailure,
    EngineRefused,
    EngineTimeout,
    EngineUnavailable,
    EngineVersion,
    NoSuchImage,
    NotFound,
)
from doogie_proxy.spec import ImageConfig

OLDEST_API = (1, 41)
"""Docker 20.10."""
NEWEST_API = (1, 51)
"""Docker 28.5, the newest that the tests run on. Later engines speak it too, and mean the same by it."""
PING_TIMEOUT_S = 5.0
"""How long an engine that is well may take to say so."""

_ID_CHARS = frozenset("0123456789abcdef")


@dataclass(frozen=True)
class Container:
    """What the engine says of a container (``GET /containers/{id}/json``)."""

    id: str
    image_id: str
    labels: Mapping[str, str]
    status: Literal["created", "running", "paused", "restarting", "removing", "exited", "dead"]
    exit_code: int
    oom_killed: bool
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @property
    def alive(self) -> bool:
        """Whether its process exists."""
        return self.status in ("running", "paused", "restarting")


class EngineEvent(NamedTuple):
    """The container's process ended, or the kernel killed one of its processes for want of memory."""

    container_id: str
    action: Literal["die", "oom"]


Observer = Callable[[str, float, EngineFailure | None], None]


class Engine:
    """A Docker Engine behind a unix socket. ``async with Engine(...)``.

    Args:
        socket_path: of the engine's API.
        timeout_s: for each call; a stop gets its grace on top.
        observe: told of each call when it is over: its name, how many seconds it took, how it failed.
    """

    def __init__(self, socket_path: str, *, timeout_s: float, observe: Observer = lambda *_: None) -> None:
        self._socket_path = socket_path
        self._timeout_s = timeout_s
        self._observe = observe
        self._docker: aiodocker.Docker

    async def __aenter__(self) -> Self:
        # No connection limit: each running server holds streams, and a pool that is full of them deadlocks.
        self._connector = aiohttp.UnixConnector(self._socket_path, limit=0)
        self._docker = aiodocker.Docker("unix://engine", connector=self._connector)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._docker.close()
        await self._connector.close()

    async def shortcomings(self) -> list[str]:
        """What this engine cannot enforce of what every container is promised; empty when all is well.

        Engines without the right cgroup controllers (rootless ones, often) ignore limits silently; ``GET /info``
        tells.

        Raises:
            EngineVersion: it speaks no API that this proxy speaks.
        """
        async with self._call("version"):
            await self._negotiate()  # it may be another engine than before
        async with self._call("info"):
            info = await self._docker.system.info()
        missing = []
        for key, what in (("MemoryLimit", "memory"), ("PidsLimit", "pids"), ("CpuCfsQuota", "CPU")):
            if not info.get(key):
                missing.append(f"the engine cannot enforce {what} limits ({key} is false in /info)")
        if not any(str(option).startswith("name=seccomp") for option in info.get("SecurityOptions") or []):
            missing.append("the engine has no seccomp (SecurityOptions in /info)")
        return missing

    async def ping(self) -> None:
        """Nothing, if the engine answers at all, whatever its containers do."""
        url = f"{self._docker.docker_host}/_ping"
        async with (
            self._call("ping", timeout_s=min(PING_TIMEOUT_S, self._timeout_s)),
            self._docker.session.get(url, raise_for_status=True),
        ):
            pass

    async def runtimes(self) -> list[str]:
        """The OCI runtimes that the engine has, by name."""
        async with self._call("info"):
            info = await self._docker.system.info()
        return sorted(info.get("Runtimes") or {})

    async def networks(self) -> list[str]:
        """The names of its networks."""
        async with self._call("networks"):
            return [str(network["Name"]) for network in await self._docker.networks.list()]

    async def inspect_image(self, references: Sequence[str]) -> ImageConfig:
        """What the image is, by the first of these tags, repository digests or ids that the engine has.

        Raises:
            NoSuchImage: it has none.
        """
        for reference in references:
            with suppress(NotFound):
                async with self._call("inspect_image"):
                    image = await self._docker.images.inspect(reference)
                break
        else:
            raise NoSuchImage(references[0])
        config = image.get("Config") or {}
        return ImageConfig(
            id=str(image["Id"]),
            entrypoint=tuple(config.get("Entrypoint") or ()),
            volumes=tuple(config.get("Volumes") or ()),
            workdir=str(config.get("WorkingDir") or "/"),
            labels=dict(config.get("Labels") or {}),
            platform=f"{image.get('Os')}/{image.get('Architecture')}",
        )

    async def pull(
        self,
        reference: str,
        tell: Callable[[Mapping[str, Any]], None],
        *,
        timeout_s: float,
        login: Mapping[str, str] | None = None,
    ) -> None:
        """Have the engine fetch an image; look then whether it is there. The engine gives up when the caller does.

        By hand, because aiodocker's ``pull`` leaves the connection open when it is cancelled.

        Args:
            reference: with a tag or a digest.
            tell: is given each message of the progress stream.
            timeout_s: for all of it.
            login: for the registry (``AuthConfig`` of the Engine API); of an operator, never of a client.

        Raises:
            EngineError: its text alone says why.
        """
        params, headers = {"fromImage": reference}, {}
        if login is not None:
            headers["X-Registry-Auth"] = urlsafe_b64encode(json.dumps(dict(login)).encode()).decode()
        async with self._call("pull", timeout_s=timeout_s):
            url = f"{self._docker.docker_host}/{self._docker.api_version}/images/create"
            async with self._docker.session.post(url, params=params, headers=headers) as answer:
                async for line in answer.content:
                    message = json.loads(line)
                    if answer.status >= 400 or "error" in message:
                        raise EngineError(f"engine answered {answer.status}: {message.get('error', message)}")
                    tell(message)

    async def platform(self) -> str:
        """What it runs on, as images name it: ``linux/amd64``."""
        async with self._call("version"):
            version = await self._docker.version()
        return f"{version['Os']}/{version['Arch']}"

    async def require_volume(self, name: str) -> None:
        """Nothing, if the volume is there: a container that names one that is not would make it, without a limit.

        Raises:
            NotFound: it is not.
        """
        async with self._call("inspect_volume"):
            await self._docker.volumes.get(name)  # type: ignore[no-untyped-call]  # aiodocker's

    async def create(self, name: str, body: dict[str, Any]) -> str:
        """Create a container and return its id.

        Raises:
            EngineConflict: the name is taken.
        """
        async with self._call("create"):
            container = await self._docker.containers.create(body, name=name)
        return container.id

    async def start(self, container_id: str) -> None:
        """Start a created container."""
        async with self._call("start"):
            await self._container(container_id).start()

    async def stop(self, container_id: str, *, grace_s: int) -> None:
        """SIGTERM, and SIGKILL after ``grace_s``; returns when the process is gone, at once if it was."""
        async with self._call("stop", timeout_s=self._timeout_s + grace_s):
            await self._container(container_id).stop(t=grace_s, timeout=None)

    async def remove(self, container_id: str) -> None:
        """Remove the container, killing it if need be; returns when its name is free. Already gone is success."""
        try:
            async with self._call("remove"):
                await self._container(container_id).delete(force=True, v=True)
        except NotFound:
            return
        except EngineConflict:  # another removal of it is under way: wait for that one
            try:
                async with self._call("wait"):
                    await self._container(container_id).wait(condition="removed", timeout=None)
            except NotFound:
                return

    async def inspect(self, container_id: str, *, timeout_s: float | None = None) -> Container:
        """What the engine says of one container now.

        Raises:
            NotFound: it is gone.
        """
        async with self._call("inspect", timeout_s=timeout_s):
            raw = await self._container(container_id).show()
        state = raw["State"]
        return Container(
            id=str(raw["Id"]),
            image_id=str(raw["Image"]),
            labels=dict(raw["Config"].get("Labels") or {}),
            status=state["Status"],
            exit_code=int(state["ExitCode"]),
            oom_killed=bool(state["OOMKilled"]),
            created_at=_timestamp(raw["Created"]) or datetime.fromtimestamp(0).astimezone(),
            started_at=_timestamp(state["StartedAt"]),
            finished_at=_timestamp(state["FinishedAt"]),
        )

    async def list_states(self, label: str) -> dict[str, str]:
        """The ids of all containers, dead ones too, that carry ``label`` (``key=value``), with their states."""
        async with self._call("list"):
            containers = await self._docker.containers.list(all=1, filters=json.dumps({"label": [label]}))
        return {container.id: str(container["State"]) for container in containers}

    async def find(self, name: str) -> str | None:
        """The id of the container with exactly this name."""
        async with self._call("list"):
            containers = await self._docker.containers.list(
                all=1, filters=json.dumps({"name": [f"^/{re.escape(name)}$"]})
            )
        return next((container.id for container in containers), None)

    async def events(self, label: str, *, since: float) -> AsyncIterator[EngineEvent]:
        """The ``die`` and ``oom`` events of containers with ``label``, from ``since`` (Unix time) to the stream's end.

        Raises:
            EngineUnavailable: the stream could not be opened, or broke.
        """
        subscriber = self._docker.events.subscribe(create_task=False)  # type: ignore[no-untyped-call]  # aiodocker's
        filters = json.dumps({"type": ["container"], "event": ["die", "oom"], "label": [label]})
        stream = asyncio.create_task(
            self._docker.events.run(since=str(int(since)), filters=filters), name="engine events"
        )
        try:
            while (event := await subscriber.get()) is not None:
                yield EngineEvent(str(event["Actor"]["ID"]), event["Action"])
            with _failures():
                await stream
        finally:
            stream.cancel()
            await asyncio.wait([stream])
            self._docker.events.json_stream = None

    async def attach(
        self,
        container_id: str,
        stream: Literal["stdin", "stdout", "stderr"],
        *,
        logs: bool = False,
        follow: bool = True,
    ) -> Attachment:
        """Open one stream of a container.

        Args:
            container_id: 64 hex digits.
            stream: which one; each has its own connection.
            logs: begin with what the engine's log holds of it.
            follow: go on with what comes; False ends after the log.

        Raises:
            NotFound: it is gone.
        """
        query = f"{stream}=1&stream={int(follow)}" + ("&logs=1" if logs else "")
        async with self._call("attach"):
            target = f"/{self._docker.api_version}/containers/{_checked(container_id)}/attach?{query}"
            return await Attachment.open(self._socket_path, target)

    def _container(self, container_id: str) -> aiodocker.containers.DockerContainer:
        return self._docker.containers.container(_checked(container_id))

    @asynccontextmanager
    async def _call(self, name: str, *, timeout_s: float | None = None) -> AsyncIterator[None]:
        """Bound one call in time, map every failure of it, and tell of it."""
        begun, failure = time.monotonic(), None
        try:
            with _failures():
                async with asyncio.timeout(self._timeout_s if timeout_s is None else timeout_s):
                    if self._docker.api_version == "auto":
                        await self._negotiate()
                    yield
        except EngineFailure as exc:
            failure = exc
            raise
        finally:
            self._observe(name, time.monotonic() - begun, failure)

    async def _negotiate(self) -> None:
        """Agree with the engine on the newest version of its API that both speak (``GET /version``)."""
        url = f"{self._docker.docker_host}/version"  # not aiodocker's: that names a version already
        async with self._docker.session.get(url, raise_for_status=True) as response:
            told = await response.json()
        newest, oldest = _api(told["ApiVersion"]), _api(told.get("MinAPIVersion") or told["ApiVersion"])
        spoken = min(newest, NEWEST_API)
        if spoken < OLDEST_API:
            raise EngineVersion(f"API {_text(newest)} is older than {_text(OLDEST_API)} (Docker 20.10)")
        if spoken < oldest:
            raise EngineVersion(f"API {_text(oldest)} and newer is all that the engine speaks, not {_text(NEWEST_API)}")
        self._docker.api_version = f"v{_text(spoken)}"


@contextmanager
def _failures() -> Iterator[None]:
    """The one place where foreign errors become ours."""
    try:
        yield
    except (aiodocker.DockerError, AttachRefusedError) as exc:
        if _is_refused(exc.__context__):
            raise EngineRefused(f"engine connection: {exc.message}") from exc
        kinds = {404: NotFound, 409: EngineConflict, 900: EngineUnavailable}
        raise kinds.get(exc.status, EngineError)(f"engine answered {exc.status}: {exc.message}") from exc
    except TimeoutError as exc:
        raise EngineTimeout("the engine did not answer in time") from exc
    except (aiohttp.ClientError, OSError, asyncio.IncompleteReadError) as exc:
        if _is_refused(exc):
            raise EngineRefused(f"engine connection: {exc!r}") from exc
        raise EngineUnavailable(f"engine connection: {exc!r}") from exc
    except (HttpProcessingError, ValueError) as exc:
        raise EngineError(f"not an answer: {exc!r}") from exc


def _is_refused(exc: BaseException | None) -> bool:
    cause = exc.os_error if isinstance(exc, aiohttp.ClientConnectorError) else exc
    return isinstance(cause, ConnectionRefusedError)


def _api(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _text(api: tuple[int, ...]) -> str:
    return ".".join(map(str, api))


def _checked(container_id: str) -> str:
    """Only whole ids go to the engine: it would take a name or a prefix for another container's."""
    if len(container_id) != 64 or not _ID_CHARS.issuperset(container_id):
        raise EngineError(f"not a container id: {container_id!r}")
    return container_id


def _timestamp(text: str) -> datetime | None:
    """An engine timestamp (RFC 3339, up to nanoseconds); year 1 is the engine's "never"."""
    return None if text.startswith("0001-") else datetime.fromisoformat(text)
