"""What labels cannot hold because it changes: a small record for each container, in ``DOOGIE_PROXY_STATE_DIR``.

    put ──► memory, at once ──► writer, in a thread: temporary file → fsync → rename → fsync of the directory
    recall ◄── memory, or the file; an empty record where there is none, or none that can be trusted

    STATE_DIR/<instance>/lock             flock(2): held while a proxy of this instance runs
    STATE_DIR/<instance>/<container id>   SHA-256 of what follows, then one line of JSON

Losing any of it is safe: a detached clock starts anew. So a directory that cannot be used stops nobody: the log says
so, and records are held in memory alone. The event loop never waits for the disk; what changes while it is busy is
written together.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import structlog
from pydantic import AwareDatetime, BaseModel, ValidationError

from doogie_contract.models import ExitReason

MAX_RECORD_BYTES = 4096
DISK_TIMEOUT_S = 2.0
"""How long anybody waits for the disk. What is not written by then is written later, or with the next change."""
RETRY_S = 5.0
"""After records could not be written."""

_TEMPORARY = ".tmp"
_RECORD_FILE = re.compile(rf"([0-9a-f]{{64}})(?:{re.escape(_TEMPORARY)})?")

log = structlog.get_logger(__name__)


class StateLockedError(Exception):
    """Another process of this instance has the directory; says which directory, and what to do."""


@dataclass(frozen=True)
class Record:
    """What is remembered of a container."""

    detached_at: AwareDatetime | None = None
    """When the last client left, or its lease was renewed; None: not known, or somebody is attached."""
    ending: ExitReason | None = None
    """Why it is being ended; written before anything is done about it."""


class _File(BaseModel):
    version: Literal[1] = 1
    container_id: str
    record: Record


class State:
    """The records of one instance. ``async with State(...)``.

    Args:
        directory: of all instances; made if need be.
        instance: of this proxy.

    Raises:
        StateLockedError: on entering; another process has it.
    """

    def __init__(self, directory: Path, instance: str) -> None:
        self._directory = directory / instance
        self._records: dict[str, Record] = {}
        self._unsaved: set[str] = set()
        self._known: Collection[str] | None = None
        self._changed = asyncio.Event()
        self._tried = asyncio.Event()
        self._changes = self._changes_tried = 0
        self._failing = False
        self._lock: int | None = None
        self._writer: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        try:
            self._lock = await asyncio.to_thread(_lock, self._directory)
        except OSError as exc:
            log.warning("state_unavailable", directory=str(self._directory), error=str(exc))
        else:
            self._writer = asyncio.create_task(self._write(), name="state")
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._writer is not None:
            await self.saved()
            self._writer.cancel()
            await asyncio.wait([self._writer])
            if not self._writer.cancelled():
                self._writer.result()  # it ends by itself only through a defect
        if self._lock is not None:
            os.close(self._lock)

    def get(self, container_id: str) -> Record:
        """The record of a container that was put or recalled before; an empty one of any other."""
        return self._records.get(container_id, Record())

    async def recall(self, container_id: str) -> Record:
        """The record that an earlier process may have left; an empty one where none can be trusted."""
        if container_id not in self._records and self._lock is not None:
            try:
                async with asyncio.timeout(DISK_TIMEOUT_S):
                    self._records[container_id] = await asyncio.to_thread(_read, self._directory, container_id)
            except FileNotFoundError:
                pass
            except ValidationError as exc:  # its text would hold what is in the file
                log.warning("state_record_lost", container_id=container_id, error=type(exc).__name__)
            except (OSError, ValueError) as exc:  # TimeoutError is one
                log.warning("state_record_lost", container_id=container_id, error=repr(exc))
        return self.get(container_id)

    def put(self, container_id: str, record: Record) -> None:
        """Remember, and write soon; see ``saved``."""
        if record != self._records.get(container_id):
            self._records[container_id] = record
            self._note(container_id)

    def forget(self, container_id: str) -> None:
        """The container is gone."""
        self._records.pop(container_id, None)
        self._note(container_id)

    def forget_others(self, known: Collection[str]) -> None:
        """Remove what earlier processes left of containers that are not known; soon."""
        self._known = known
        self._note()

    async def saved(self) -> None:
        """Wait until the changes so far are on the disk, or could not be written, as the log says; never for long."""
        wanted = self._changes
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DISK_TIMEOUT_S):
                while self._writer is not None and self._changes_tried < wanted:
                    await self._tried.wait()

    def _note(self, *container_ids: str) -> None:
        self._changes += 1
        self._unsaved.update(container_ids)
        self._changed.set()

    async def _write(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RETRY_S if self._failing else None):
                    await self._changed.wait()
            self._changed.clear()
            changes, batch, known = self._changes, self._unsaved, self._known
            self._unsaved = set()
            records = {container_id: self._records.get(container_id) for container_id in batch}
            try:
                await asyncio.to_thread(_save, self._directory, records)
                if known is not None:
                    await asyncio.to_thread(_remove_others, self._directory, {*known, *self._records})
                    self._known = None
            except OSError as exc:
                self._unsaved |= batch
                if not self._failing:
                    log.warning("state_not_saved", directory=str(self._directory), error=str(exc))
                self._failing = True
            else:
                if self._failing:
                    log.info("state_saved", directory=str(self._directory))
                self._failing = False
            self._changes_tried = changes
            self._tried.set()
            self._tried.clear()


def _lock(directory: Path) -> int:
    """Make the directory, and keep others out as long as the descriptor is open."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise StateLockedError(
            f"another process has {directory}: end it, or give each proxy its own DOOGIE_PROXY_INSTANCE or "
            "DOOGIE_PROXY_STATE_DIR"
        ) from None
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _read(directory: Path, container_id: str) -> Record:
    with (directory / container_id).open("rb") as file:
        data = file.read(MAX_RECORD_BYTES + 1)
    checksum, _, content = data.partition(b"\n")
    if len(data) > MAX_RECORD_BYTES or checksum != _checksum(content):
        raise ValueError("the file is damaged")
    parsed = _File.model_validate_json(content)
    if parsed.container_id != container_id:
        raise ValueError("the file is another container's")
    return parsed.record


def _save(directory: Path, records: Mapping[str, Record | None]) -> None:
    """Write or remove files so that a crash at any moment leaves each one as it was or as it is to be.

    Raises:
        OSError: of the last one that failed; all were tried.
    """
    fault: OSError | None = None
    for container_id, record in records.items():
        try:
            _save_one(directory / container_id, record)
        except OSError as exc:
            fault = exc
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if fault is not None:
        raise fault


def _save_one(path: Path, record: Record | None) -> None:
    if record is None:
        path.unlink(missing_ok=True)
        return
    content = _File(container_id=path.name, record=record).model_dump_json().encode() + b"\n"
    temporary = path.with_name(path.name + _TEMPORARY)
    with temporary.open("wb") as file:
        file.write(_checksum(content) + b"\n" + content)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)


def _remove_others(directory: Path, known: Collection[str]) -> None:
    for entry in os.scandir(directory):
        match = _RECORD_FILE.fullmatch(entry.name)
        if match is not None and match[1] not in known:
            (directory / entry.name).unlink(missing_ok=True)


def _checksum(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()
