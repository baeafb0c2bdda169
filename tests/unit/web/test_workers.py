"""Several processes on one socket: real ones, ended and killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PROGRAM = """
import os, select, signal, sys
from pathlib import Path
from doogie_client.web import workers

directory, behaviour = Path(sys.argv[1]), sys.argv[2]
workers.REPLACE_AFTER_S = 0.05

def work(alive):
    told, tell = os.pipe()
    signal.signal(signal.SIGTERM, lambda *_: os.write(tell, b"t"))
    signal.signal(signal.SIGHUP, lambda *_: (directory / f"{os.getpid()}.hup").touch())
    (directory / f"{os.getpid()}.started").touch()
    if behaviour == "cannot start" and len(list(directory.glob("*.started"))) == 3:
        return workers.EXIT_CANNOT_START
    if behaviour == "none can start":
        while len(list(directory.glob("*.started"))) < 3:
            pass
        return workers.EXIT_CANNOT_START
    if behaviour == "raises":
        raise RuntimeError("a defect")
    while True:
        ready, _, _ = select.select([told, alive], [], [])
        (directory / f"{os.getpid()}.{'told' if told in ready else 'alone'}").touch()
        return 0

sys.exit(workers.supervise(3, work))
"""


class Supervised:
    def __init__(self, directory: Path, process: "subprocess.Popen[bytes]") -> None:
        self.directory = directory
        self.process = process

    def workers(self) -> set[int]:
        """The supervisor's children that are alive."""
        found = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return {int(pid) for pid in found.split()}

    def marked(self, what: str) -> set[int]:
        return {int(path.stem) for path in self.directory.glob(f"*.{what}")}


def until(condition: Callable[[], object], timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError("it did not come about in time")
        time.sleep(0.01)


@contextmanager
def supervised(directory: Path, behaviour: str = "serves") -> Iterator[Supervised]:
    command = [sys.executable, "-c", PROGRAM, str(directory), behaviour]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            yield Supervised(directory, process)
        finally:
            process.terminate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_supervisor_ends_its_workers_in_good_order(tmp_path: Path, number: signal.Signals) -> None:
    with supervised(tmp_path) as running:
        until(lambda: len(running.marked("started")) == 3)
        running.process.send_signal(number)
        assert running.process.wait(20) == 0
        assert running.marked("told") == running.marked("started")


def test_a_worker_that_is_killed_is_replaced(tmp_path: Path) -> None:
    with supervised(tmp_path) as running:
        until(lambda: len(running.marked("started")) == 3)
        victim = min(running.marked("started"))
        os.kill(victim, signal.SIGKILL)
        until(lambda: len(running.marked("started")) == 4)
        assert victim not in running.workers()
        assert len(running.workers()) == 3
        running.process.terminate()
        assert running.process.wait(20) == 0
        assert running.marked("told") == running.marked("started") - {victim}


def test_a_hangup_reaches_every_worker(tmp_path: Path) -> None:
    with supervised(tmp_path) as running:
        until(lambda: len(running.marked("started")) == 3)
        running.process.send_signal(signal.SIGHUP)
        until(lambda: running.marked("hup") == running.marked("started"))
        assert running.process.poll() is None


@pytest.mark.parametrize("behaviour", ["cannot start", "none can start"])
def test_a_worker_that_cannot_start_ends_all(tmp_path: Path, behaviour: str) -> None:
    with supervised(tmp_path, behaviour) as running:
        assert running.process.wait(20) == 3
        assert running.marked("told") < running.marked("started")


def test_a_worker_that_dies_at_once_is_replaced_until_the_end(tmp_path: Path) -> None:
    with supervised(tmp_path, "raises") as running:
        until(lambda: len(running.marked("started")) > 6)
        running.process.terminate()
        out, _ = running.process.communicate(timeout=20)
        assert running.process.returncode == 0
        assert b"RuntimeError: a defect" in out
        assert b"worker_died" in out


def test_workers_end_when_their_supervisor_is_killed(tmp_path: Path) -> None:
    with supervised(tmp_path) as running:
        until(lambda: len(running.marked("started")) == 3)
        running.process.kill()
        running.process.wait(20)
        until(lambda: running.marked("alone") == running.marked("started"))
