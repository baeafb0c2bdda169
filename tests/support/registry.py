"""A real image registry on this machine's loopback, and small images that only it has.

    async with registry(tmp_path) as own:
        image = await own.publish("tools/box", "1", layers=[b"…"])
        image.pinned                     # 127.0.0.1:PORT/tools/box:1@sha256:…

Engines take registries on 127.0.0.0/8 without TLS. ``relay`` is a way there that can be slow, stall or break. Programs
come from ``deploy/bootstrap`` (``make test`` has it done).
"""

import asyncio
import gzip
import hashlib
import io
import json
import os
import socket
import tarfile
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

PROGRAMS = Path(__file__).parents[2] / ".cache" / "engines" / "registry"
USER, PASSWORD = "puller", "pull-me"
_HTPASSWD = "puller:$2y$05$abcdefghijklmnopqrstuuBp.n58v886n7kD7.z9i0nzqxtQ8I2P.\n"
_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
_CONFIG = "application/vnd.docker.container.image.v1+json"
_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


@dataclass(frozen=True)
class Published:
    """An image as the registry has it."""

    repo: str
    """With the registry's address."""
    tag: str
    digest: str
    size: int
    platform: str

    @property
    def tagged(self) -> str:
        return f"{self.repo}:{self.tag}"

    @property
    def by_digest(self) -> str:
        return f"{self.repo}@{self.digest}"

    @property
    def pinned(self) -> str:
        return f"{self.repo}:{self.tag}@{self.digest}"


@dataclass
class Registry:
    """A registry that runs. ``address`` is where engines find it."""

    address: str
    _http: aiohttp.ClientSession
    published: list[Published] = field(default_factory=list)

    async def publish(
        self, repo: str, tag: str, *, sizes: Sequence[int] = (1000,), platform: str = "linux/amd64", via: str = ""
    ) -> Published:
        """Put an image there that no engine has: busybox as the program, then a layer of noise for each size.

        ``via`` is the address that engines are to use instead, of a :func:`relay`.
        """
        os_name, architecture = platform.split("/")
        tars = [_tar("bin/busybox", (PROGRAMS / "busybox").read_bytes() + uuid.uuid4().bytes)]
        tars += [_tar(f"noise/{number}", os.urandom(size)) for number, size in enumerate(sizes)]
        config = {
            "architecture": architecture,
            "os": os_name,
            "config": {"Entrypoint": ["/bin/busybox"]},
            "rootfs": {"type": "layers", "diff_ids": [_digest(content) for content in tars]},
            "history": [{"created_by": "a test"} for _ in tars],
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": await self._blob(repo, json.dumps(config).encode(), _CONFIG),
            "layers": [await self._blob(repo, gzip.compress(content, 1), _LAYER) for content in tars],
        }
        return await self._manifest(repo, tag, manifest, platform, via)

    async def publish_index(self, image: Published, tag: str) -> Published:
        """Put an index there that lists this image alone."""
        os_name, architecture = image.platform.split("/")
        entry = {"mediaType": _MANIFEST, "digest": image.digest, "size": image.size}
        entry |= {"platform": {"architecture": architecture, "os": os_name}}
        index = {"schemaVersion": 2, "mediaType": _INDEX, "manifests": [entry]}
        return await self._manifest(image.repo.partition("/")[2], tag, index, image.platform, "")

    async def _manifest(self, repo: str, tag: str, manifest: Mapping[str, Any], platform: str, via: str) -> Published:
        content = json.dumps(manifest).encode()
        headers = {"Content-Type": manifest["mediaType"]}
        async with self._http.put(f"/v2/{repo}/manifests/{tag}", data=content, headers=headers) as answer:
            digest = answer.headers["Docker-Content-Digest"]
        published = Published(f"{via or self.address}/{repo}", tag, digest, len(content), platform)
        self.published.append(published)
        return published

    async def _blob(self, repo: str, content: bytes, media_type: str) -> dict[str, object]:
        digest = _digest(content)
        async with self._http.post(f"/v2/{repo}/blobs/uploads/") as answer:
            location = answer.headers["Location"].partition(self.address)[2]
        headers = {"Content-Type": "application/octet-stream"}
        async with self._http.put(f"{location}&digest={digest}", data=io.BytesIO(content), headers=headers):
            return {"mediaType": media_type, "digest": digest, "size": len(content)}


@asynccontextmanager
async def registry(
    directory: Path, *, password: bool = False, port: int = 0, beside: Sequence[str] = ()
) -> AsyncIterator[Registry]:
    """Run a registry until the block ends.

    Args:
        directory: holds its images; registries that share it have the same ones.
        password: nobody pulls without ``USER`` and ``PASSWORD``.
        port: 0 for a free one.
        beside: a command that runs the command which follows it, in another network; nothing can be published there.
    """
    if not PROGRAMS.exists():
        raise RuntimeError(f"{PROGRAMS} is missing: make test has it fetched")
    address = f"127.0.0.1:{port or _free_port()}"
    (directory / "htpasswd").write_text(_HTPASSWD)
    configuration = {
        "version": "0.1",
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(directory / "images")}},
        "http": {"addr": address},
        **({"auth": {"htpasswd": {"realm": "tests", "path": str(directory / "htpasswd")}}} if password else {}),
    }
    file = directory / f"registry-{uuid.uuid4().hex[:6]}.yml"
    file.write_text(json.dumps(configuration))  # JSON is YAML
    process = await asyncio.create_subprocess_exec(
        *beside, str(PROGRAMS / "docker-registry"), "serve", str(file), stderr=asyncio.subprocess.DEVNULL
    )
    try:
        headers = {"Authorization": aiohttp.encode_basic_auth(USER, PASSWORD)} if password else {}
        async with aiohttp.ClientSession(f"http://{address}", headers=headers, raise_for_status=True) as http:
            if not beside:
                await _answers(http)
            yield Registry(address, http)
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def _answers(http: aiohttp.ClientSession) -> None:
    async with asyncio.timeout(30):
        while True:
            with suppress(aiohttp.ClientConnectorError):
                async with http.get("/v2/"):
                    return
            await asyncio.sleep(0.02)


class Relay:
    """A way to a registry that lets through what it is told to; :func:`relay` makes one."""

    def __init__(self, registry_port: int) -> None:
        self._registry_port = registry_port
        self._server: asyncio.Server
        self._rate: float | None = None
        self._left: float = float("inf")
        self._more = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.requests: list[str] = []
        """The first line of each."""
        self.waiting = 0
        """How many answers an engine waits for that are not let through."""

    def allow(self, count: float) -> None:
        """Let so many more bytes of the registry through, then none."""
        self._left = count
        self._more.set()
        self._more.clear()

    def limit(self, bytes_per_s: float) -> None:
        """Be slow, on each connection."""
        self._rate = bytes_per_s

    def refuse(self) -> None:
        """Be gone: break all connections, and take no more."""
        self._server.close()
        self.allow(float("inf"))
        for writer in self._writers:
            writer.transport.abort()

    @property
    def address(self) -> str:
        """Where engines find it."""
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a connection is always handled in a task")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        there, there_writer = await asyncio.open_connection("127.0.0.1", self._registry_port)
        pair = {writer, there_writer}
        self._writers |= pair
        try:
            async with asyncio.TaskGroup() as group:
                forth = group.create_task(self._forth(reader, there_writer))
                back = group.create_task(self._back(there, writer))
                await asyncio.wait({forth, back}, return_when=asyncio.FIRST_COMPLETED)
                forth.cancel()
                back.cancel()
        except* OSError:
            pass  # either side went away: so does the other
        finally:
            self._writers -= pair
            for one in pair:
                one.close()

    async def close(self) -> None:
        self.refuse()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _forth(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            self.requests += [line for line in data.decode("latin-1").splitlines() if line.endswith(" HTTP/1.1")]
            writer.write(data)
            await writer.drain()

    async def _back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(16384):
            self.waiting += 1
            try:
                while self._left < len(data):
                    await self._more.wait()
            finally:
                self.waiting -= 1
            self._left -= len(data)
            if self._rate is not None:
                await asyncio.sleep(len(data) / self._rate)
            writer.write(data)
            await writer.drain()


@asynccontextmanager
async def relay(to: Registry) -> AsyncIterator[Relay]:
    """A way to a registry for engines that are given its address."""
    between = Relay(int(to.address.rpartition(":")[2]))
    await between.open()
    try:
        yield between
    finally:
        await between.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _tar(path: str, content: bytes) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        entry = tarfile.TarInfo(path)
        entry.size, entry.mode = len(content), 0o755
        archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()
