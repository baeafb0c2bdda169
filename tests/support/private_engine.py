"""Docker engines of a test's own, beside the machine's: another build, other runtimes, free to be stopped or killed.

    with private_engine(NEWEST) as engine:
        engine.docker("run", "--rm", TOOLBOX, "exit", "0")

The engine shares the kernel with the machine's engine and nothing else. It lives in a mount and a network namespace of
its own, so that it sees no other containerd (dockerd takes one that listens in ``/run/containerd``), leaves no mount
behind and touches no bridge and no firewall rule of the machine. Its socket is a file and can be reached as usual.

It needs root, and what ``deploy/bootstrap`` puts into ``.cache/engines`` (``make test`` has it done). As a command it
runs another one with a private engine for the machine's (``make test-newest``):

    python -m tests.support.private_engine newest make test
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ENGINES = Path(__file__).parents[2] / ".cache" / "engines"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Build:
    """The programs of an engine: those in ``directory``, and the machine's for what is not there (runc, iptables)."""

    name: str
    directory: Path | None


SYSTEM = Build("system", None)
NEWEST = Build("newest", ENGINES / "newest")
BUILDS = {build.name: build for build in (SYSTEM, NEWEST)}
RUNSC = ENGINES / "gvisor" / "runsc"


class PrivateEngine:
    """An engine under a directory of its own; :func:`private_engine` makes one, starts and removes it."""

    def __init__(self, build: Build, directory: Path, *, for_builds: bool, settings: dict[str, Any]) -> None:
        self.socket = directory / "docker.sock"
        self._directory = directory
        self._log = directory / "dockerd.log"
        self._bridge = directory.name[-15:] if for_builds else ""  # as long as an interface's name can be
        if for_builds:
            settings |= {"bridge": self._bridge, "iptables": False, "ip6tables": False, "ip-forward": False}
        self._settings = settings
        own = [str(build.directory)] if build.directory else []
        self._path = os.pathsep.join([*own, os.environ["PATH"], "/usr/sbin", "/sbin"])  # not on every user's path
        self._namespaces: subprocess.Popen[bytes] | None = None
        self._dockerd: subprocess.Popen[bytes] | None = None

    def prepare(self) -> None:
        """Make what it lives in; once, before the first :meth:`start`."""
        data = self._directory / "data"
        data.mkdir()
        # A configuration of its own, because the machine's, if there is one, is not meant for this engine.
        (self._directory / "daemon.json").write_text(json.dumps(self._settings))
        script = "mkdir -p /run/containerd && mount -t tmpfs tmpfs /run/containerd"  # without the machine's containerd
        if self._bridge:
            subprocess.run(["ip", "link", "add", self._bridge, "type", "bridge"], check=True)
        else:
            script += f" && mount -t tmpfs tmpfs '{data}'"  # thousands of small files are slow to remove from a disk
        network = [] if self._bridge else ["--net"]
        # The process that holds the namespaces until its stdin ends.
        self._namespaces = subprocess.Popen(
            ["unshare", "--mount", *network, "sh", "-euc", f"{script} && echo ready && exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        if self._namespaces.stdout is None or self._namespaces.stdout.readline() != b"ready\n":
            raise RuntimeError(f"no namespaces for a private engine: unshare exited with {self._namespaces.wait()}")

    def docker(self, *args: str, timeout_s: float = 60) -> str:
        """Run the Docker CLI against this engine and return its output."""
        command = ["docker", "--host", f"unix://{self.socket}", *args]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=timeout_s).stdout.strip()

    def in_its_network(self) -> list[str]:
        """The beginning of a command whose rest is run in this engine's network, which has nothing but a loopback."""
        if self._namespaces is None:
            raise RuntimeError("not prepared")
        enter = ["nsenter", f"--target={self._namespaces.pid}", "--net"]
        subprocess.run([*enter, "ip", "link", "set", "lo", "up"], check=True)
        return enter

    def copy_image(self, image: str, source: str) -> None:
        """Copy an image from the engine whose socket is ``source``."""
        save = subprocess.Popen(["docker", "--host", f"unix://{source}", "save", image], stdout=subprocess.PIPE)
        with save:
            load = ["docker", "--host", f"unix://{self.socket}", "load", "--quiet"]
            subprocess.run(load, stdin=save.stdout, stdout=subprocess.DEVNULL, check=True, timeout=300)
        if save.returncode:
            raise RuntimeError(f"docker save {image} failed")

    def start(self) -> None:
        """Start dockerd and return when it answers."""
        if self._namespaces is None:
            raise RuntimeError("not prepared")
        command = ["nsenter", f"--target={self._namespaces.pid}", "--mount", "--net"]
        # Whatever becomes of the tests, the engine ends with them.
        command += ["setpriv", "--pdeathsig=TERM", "dockerd", f"--host=unix://{self.socket}"]
        command += [f"--config-file={self._directory}/daemon.json", f"--pidfile={self._directory}/dockerd.pid"]
        command += [f"--data-root={self._directory}/data", f"--exec-root={self._directory}/exec"]
        with self._log.open("ab") as log:
            self._dockerd = subprocess.Popen(
                command,
                env={**os.environ, "PATH": self._path},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the tests, which then end it
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            if self._dockerd.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the private engine did not start:\n" + self._log.read_text()[-2000:])
            time.sleep(0.05)

    def stop(self) -> None:
        """End dockerd in good order: containers are stopped, unless the engine's settings say ``live-restore``."""
        self._end(signal.SIGTERM)

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """As long as the block lasts, dockerd accepts connections and does nothing (SIGSTOP)."""
        if self._dockerd is None:
            raise RuntimeError("not started")
        self._dockerd.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._dockerd.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill dockerd, and with it its containerd; containers go on as after a crash."""
        self._end(signal.SIGKILL)
        # The kernel ends containerd with dockerd, but not at once; a dockerd started meanwhile would wait for it.
        pid_file = self._directory / "exec" / "containerd" / "containerd.pid"
        if pid_file.exists():
            deadline = time.monotonic() + STOP_TIMEOUT_S
            while is_running(int(pid_file.read_text())) and time.monotonic() < deadline:
                time.sleep(0.01)
            pid_file.unlink()

    def remove(self) -> None:
        """Kill the engine and all that runs in it, however it is doing, and remove its files."""
        self.kill()
        if self._namespaces is not None:
            self._kill_all(self._namespaces.pid)
            data = Path(f"/proc/{self._namespaces.pid}/root{self._directory}/data")
            for container in data.glob("containers/*"):  # nobody was left to remove its control groups
                _remove_control_groups(container.name)
            self._namespaces.communicate(timeout=STOP_TIMEOUT_S)
        if self._bridge:
            subprocess.run(["ip", "link", "delete", self._bridge], check=False)  # it may not have come so far
        shutil.rmtree(self._directory)

    def _answers(self) -> bool:
        command = ["docker", "--host", f"unix://{self.socket}", "version"]
        return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0

    def _end(self, how: signal.Signals) -> None:
        if self._dockerd is None:
            return
        self._dockerd.send_signal(how)
        try:
            self._dockerd.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._dockerd.kill()
            self._dockerd.wait()
        self._dockerd = None

    def _kill_all(self, holder: int) -> None:
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while left := _processes_of(holder):
            if time.monotonic() > deadline:
                raise RuntimeError(f"processes of the private engine do not end: {left}")
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)


def _remove_control_groups(container_id: str) -> None:
    root = Path("/sys/fs/cgroup")  # of version 2, or a directory with those of version 1, some under several names
    for group in (root / "docker" / container_id, *root.glob(f"*/docker/{container_id}")):
        with suppress(FileNotFoundError):
            group.rmdir()


def is_running(pid: int) -> bool:
    """Whether there is such a process that has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _processes_of(holder: int) -> set[int]:
    """The other processes in the holder's mount namespace, and their descendants: those in containers."""
    parents: dict[int, int] = {}
    namespaces: dict[int, Path] = {}
    for directory in Path("/proc").glob("[0-9]*"):
        pid = int(directory.name)
        try:
            state, parent = (directory / "stat").read_text().rpartition(")")[2].split()[:2]
            namespaces[pid] = (directory / "ns" / "mnt").readlink()
        except OSError:
            continue  # it ended meanwhile
        if state != "Z":
            parents[pid] = int(parent)
    found = {pid for pid in parents if namespaces[pid] == namespaces.get(holder)}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {holder}


@contextmanager
def private_engine(
    build: Build, *, images: Sequence[str] = (), source: str = "", for_builds: bool = False, **settings: Any
) -> Iterator[PrivateEngine]:
    """Start an engine and remove it, with all that runs in it, at the end.

    Args:
        build: whose programs to run: ``SYSTEM`` or ``NEWEST``.
        images: names of images to copy into it from the engine whose socket is ``source``.
        for_builds: leave it in the machine's network, for ``docker build --network host`` (it gets a bridge of its own
            that leads nowhere, and sets no firewall rules), and keep its images on disk instead of in memory.
        settings: further keys of ``daemon.json``, ``_`` for ``-``.
    """
    if os.geteuid() != 0:
        raise RuntimeError("a private engine needs root: run the tests as root, or leave these out")
    if build.directory and not build.directory.exists():
        raise RuntimeError(f"{build.directory} is missing: make test has it fetched")
    daemon = {name.replace("_", "-"): value for name, value in settings.items()}
    if RUNSC.exists():
        daemon["runtimes"] = {"runsc": {"path": str(RUNSC), "runtimeArgs": ["--network=none"]}}
    directory = Path(tempfile.mkdtemp(prefix="doogie-engine-"))
    engine = PrivateEngine(build, directory, for_builds=for_builds, settings=daemon)
    try:
        engine.prepare()
        engine.start()
        for image in images:
            engine.copy_image(image, source)
        yield engine
    finally:
        engine.remove()


def main() -> int:
    """Run a command with a private engine for the machine's."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.private_engine")
    parser.add_argument("build", choices=sorted(BUILDS))
    parser.add_argument("command", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    with private_engine(BUILDS[given.build], for_builds=True) as engine:
        environment = {"DOCKER_HOST": f"unix://{engine.socket}", "DOOGIE_ENGINE_SOCKET": str(engine.socket)}
        return subprocess.run(given.command, env={**os.environ, **environment}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
