"""The records in ``STATE_DIR``: what is put is there after any crash, and nothing that is wrong there does harm."""

import asyncio
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from doogie_contract.models import ExitReason
from doogie_proxy import state as module
from doogie_proxy.state import Record, State, StateLockedError

A, B, C = "a" * 64, "b" * 64, "c" * 64
NOW = datetime(2026, 11, 24, 12, 0, 0, 123456, tzinfo=UTC)
RECORD = Record(detached_at=NOW, ending=ExitReason.STOPPED)


@contextmanager
def no_room() -> Iterator[None]:
    """No file of this process can grow: as on a full disk, every write fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def recalled(directory: Path, container_id: str = A) -> tuple[Record, list[Any]]:
    """What a new process knows of a container, and what it logs."""
    with capture_logs() as logs:
        async with State(directory, "default") as state:
            return await state.recall(container_id), logs


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def events(logs: list[Any]) -> list[str]:
    return [log["event"] for log in logs]


async def test_what_was_put_is_known_to_the_next_process_and_nobody_else_can_read_it(tmp_path: Path) -> None:
    async with State(tmp_path, "default") as state:
        state.put(A, RECORD)
        state.put(B, Record(detached_at=NOW))
        state.put(B, Record())
    assert await recalled(tmp_path) == (RECORD, [])
    assert await recalled(tmp_path, B) == (Record(), [])
    assert await recalled(tmp_path, C) == (Record(), [])
    assert (tmp_path / "default").stat().st_mode & 0o777 == 0o700


async def test_what_was_saved_is_on_the_disk_at_once(tmp_path: Path) -> None:
    async with State(tmp_path, "default") as state:
        state.put(A, RECORD)
        await state.saved()
        assert module._read(tmp_path / "default", A) == RECORD
        state.put(A, Record())
        await state.saved()
        assert module._read(tmp_path / "default", A) == Record()
        state.forget(A)
        await state.saved()
        assert names(tmp_path / "default") == ["lock"]
        assert state.get(A) == await state.recall(A) == Record()


async def test_what_changes_while_the_disk_is_busy_is_written_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = []

    def save(directory: Path, records: dict[str, Record | None]) -> None:
        batches.append(set(records))
        really_save(directory, records)

    really_save = module._save
    monkeypatch.setattr(module, "_save", save)
    async with State(tmp_path, "default") as state:
        state.put(A, RECORD)
        await asyncio.sleep(0)  # the writer begins
        for index in range(100):
            state.put(f"{index:064x}", Record(detached_at=NOW + timedelta(seconds=index)))
        state.put(f"{99:064x}", Record(detached_at=NOW + timedelta(seconds=99)))  # no change
        await state.saved()
        assert len(batches) <= 3
        assert len(set().union(*batches)) == sum(map(len, batches)) == 101


async def test_a_second_process_of_the_instance_is_told_who_has_the_directory_and_what_to_do(tmp_path: Path) -> None:
    async with State(tmp_path, "default") as first, State(tmp_path, "other") as of_another_instance:
        with pytest.raises(StateLockedError, match=rf"another process has {tmp_path}/default: end it, or give each"):
            await State(tmp_path, "default").__aenter__()
        first.put(A, RECORD)
        of_another_instance.put(A, Record())
    assert (await recalled(tmp_path))[0] == RECORD


WRITER = """
import asyncio, sys
from datetime import UTC, datetime
from pathlib import Path
from doogie_proxy.state import Record, State

async def main():
    async with State(Path(sys.argv[1]), "default") as state:
        while True:
            for index in range(20):
                state.put(f"{index:064x}", Record(detached_at=datetime.now(UTC)))
            await state.saved()
            print("saved", flush=True)

asyncio.run(main())
"""


def test_a_kill_at_any_moment_leaves_whole_records_and_the_lock_free(tmp_path: Path) -> None:
    for round_ in range(5):
        with subprocess.Popen([sys.executable, "-c", WRITER, tmp_path], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"saved\n"
            time.sleep(0.02 * round_)  # some moment or other
            process.send_signal(signal.SIGKILL)
        for index in range(20):
            record, logs = asyncio.run(recalled(tmp_path, f"{index:064x}"))
            assert logs == []
            assert record.detached_at is not None


@given(st.binary(max_size=300) | st.just(b"x" * 1_000_000))
def test_whatever_is_in_a_file_it_is_at_worst_no_record(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as directory:  # one for each example, which fixtures do not give
        (Path(directory) / "default").mkdir()
        (Path(directory) / "default" / A).write_bytes(content)
        record, logs = asyncio.run(recalled(Path(directory)))
    assert record == Record()
    assert events(logs) == ["state_record_lost"]


@pytest.mark.parametrize(
    "content",
    [
        b'{"version":2,"container_id":"%b","record":{}}\n' % A.encode(),
        b'{"version":1,"container_id":"%b","record":{}}\n' % B.encode(),
        b'{"version":1,"container_id":"%b","record":{"ending":"planted"}}\n' % A.encode(),
        b'{"version":1,"container_id":"%b","record":{"detached_at":"2026-11-24T12:00:00"}}\n' % A.encode(),
    ],
    ids=["another version", "another container", "an unknown reason", "a time without a zone"],
)
async def test_a_whole_file_that_says_what_it_cannot_is_no_record(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "default").mkdir()
    (tmp_path / "default" / A).write_bytes(module._checksum(content) + b"\n" + content)
    record, logs = await recalled(tmp_path)
    assert record == Record()
    assert events(logs) == ["state_record_lost"]
    assert "planted" not in repr(logs)


async def test_a_record_of_a_later_minor_version_is_read_as_far_as_it_is_known(tmp_path: Path) -> None:
    content = b'{"version":1,"container_id":"%b","record":{"ending":"stopped","later":1},"later":1}\n' % A.encode()
    (tmp_path / "default").mkdir()
    (tmp_path / "default" / A).write_bytes(module._checksum(content) + b"\n" + content)
    assert await recalled(tmp_path) == (Record(ending=ExitReason.STOPPED), [])


async def test_a_directory_that_cannot_be_made_leaves_everything_in_memory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with capture_logs() as logs:
        async with State(tmp_path / "file", "default") as state:
            state.put(A, RECORD)
            await state.saved()
            assert state.get(A) == await state.recall(A) == RECORD
            state.forget_others([])
    assert events(logs) == ["state_unavailable"]
    assert "Not a directory" in logs[0]["error"]


async def test_a_full_disk_is_said_once_and_everything_is_written_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.01)
    with capture_logs() as logs:
        async with State(tmp_path, "default") as state:
            with no_room():
                state.put(A, RECORD)
                await state.saved()
                state.put(B, Record(detached_at=NOW))
                await state.saved()
            assert events(logs) == ["state_not_saved"]
            async with asyncio.timeout(10):
                while "state_saved" not in events(logs):
                    await asyncio.sleep(0.01)
    assert events(logs) == ["state_not_saved", "state_saved"]
    assert (await recalled(tmp_path))[0] == RECORD
    assert (await recalled(tmp_path, B))[0] == Record(detached_at=NOW)


async def test_what_stands_in_the_place_of_one_record_keeps_no_other_from_being_written(tmp_path: Path) -> None:
    (tmp_path / "default" / A / "something").mkdir(parents=True)
    with capture_logs() as logs:
        async with State(tmp_path, "default") as state:
            state.put(A, RECORD)
            state.put(B, RECORD)
    assert events(logs) == ["state_not_saved"]
    assert (await recalled(tmp_path, B))[0] == RECORD
    assert (tmp_path / "default" / A / "something").is_dir()


async def test_what_earlier_processes_left_is_removed_and_what_is_not_ours_is_let_be(tmp_path: Path) -> None:
    async with State(tmp_path, "default") as state:
        for container_id in (A, B):
            state.put(container_id, RECORD)
    foreign = [tmp_path / "default" / name for name in ("notes.txt", A[:12], A + ".bak")]
    for path in (*foreign, tmp_path / "default" / (C + ".tmp")):
        path.touch()
    async with State(tmp_path, "default") as state:
        state.put(C, RECORD)
        state.forget_others([A])
    assert names(tmp_path / "default") == sorted(["lock", A, C, *(path.name for path in foreign)])


async def test_a_disk_that_hangs_holds_up_nobody_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hung = threading.Event()
    monkeypatch.setattr(module, "DISK_TIMEOUT_S", 0.05)
    for function in ("_save", "_read"):
        monkeypatch.setattr(module, function, lambda *_: hung.wait())
    try:
        async with asyncio.timeout(10):
            with capture_logs() as logs:
                async with State(tmp_path, "default") as state:
                    state.put(A, RECORD)
                    await state.saved()
                    assert await state.recall(B) == Record()
        assert events(logs) == ["state_record_lost"]
    finally:
        hung.set()
