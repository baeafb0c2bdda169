"""``RunDir``: the directory where the worker processes of one host meet. Theirs alone, and nothing in it is secret.

    <16 hex>.sock     a process's socket for its siblings
    <32 hex>          of a configuration: a link to the socket of the process that has its session
    <32 hex>.fresh    of a configuration: the container that was started for it and has had no session yet

Every process that lives holds a shared lock (flock(2)) on the directory, so the first one knows that it is the first,
and systemd-tmpfiles leaves it alone. Losing what is in it is safe: a container that is not known to be fresh is
restarted before a session begins in it. All calls are a system call or two on a local directory: they need no thread.
"""

import fcntl
import hashlib
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

MAX_SOCKET_PATH_BYTES = 107
"""unix(7): ``sun_path`` has 108, the NUL included."""

_LONGEST_NAME = 32


class RunDir:
    """The directory, held by this process. ``with RunDir(path) as run_dir``; it is made if it is not there.

    Attributes:
        first: no other process had it when this one came.
        socket: where this process listens for its siblings.

    Raises:
        ValueError: its path is too long for a socket in it.
        PermissionError: it is another user's, or others may enter it.
        OSError: it cannot be made or opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()
        longest = len(os.fsencode(self._path)) + 1 + _LONGEST_NAME
        if longest > MAX_SOCKET_PATH_BYTES:
            raise ValueError(f"run_dir {path} is {longest - MAX_SOCKET_PATH_BYTES} bytes too long for a socket in it")
        self.socket = self._path / f"{secrets.token_hex(8)}.sock"
        self.first = False
        self._directory: int | None = None

    def __enter__(self) -> Self:
        self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = self._path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
            raise PermissionError(f"run_dir {self._path} must be a directory of this user's alone (mode 0700)")
        self._directory = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(self._directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        else:
            self.first = True
            self._clear()
        fcntl.flock(self._directory, fcntl.LOCK_SH)  # never waits long: nobody keeps the other lock
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.socket.unlink(missing_ok=True)
        if self._directory is not None:
            os.close(self._directory)

    def _clear(self) -> None:
        """Remove what processes left that did not end by themselves. What is fresh stays so."""
        for path in self._path.iterdir():
            if path.suffix == ".sock" or path.is_symlink():
                path.unlink()

    # ── where a session is ───────────────────────────────────────────────────────────────────────

    def publish(self, config_id: str) -> None:
        """The session of this configuration is this process's, and its socket takes calls for it."""
        link = self._of(config_id)
        new = link.with_name(self.socket.stem)
        new.symlink_to(self.socket.name)
        new.replace(link)  # in one step: whoever looks finds the old one or the new one

    def withdraw(self, config_id: str) -> None:
        """It is not any more; another process's link stays."""
        with suppress(OSError):
            if self._of(config_id).readlink().name == self.socket.name:
                self._of(config_id).unlink()

    def owner(self, config_id: str) -> Path | None:
        """The socket of the other process that says it has the session; it may be dead."""
        try:
            owner = self._path / self._of(config_id).readlink().name
        except OSError:
            return None
        return owner if owner != self.socket else None

    # ── whether a container is fresh ─────────────────────────────────────────────────────────────

    def mark_fresh(self, config_id: str, container_id: str) -> None:
        """A container was started now, and no session has begun in it."""
        marker = self._of(config_id).with_suffix(".fresh")
        new = marker.with_suffix(f".{self.socket.stem}")
        new.write_text(container_id)
        new.replace(marker)

    def take_fresh(self, config_id: str, container_id: str) -> bool:
        """Whether this container is known to be fresh. From now on it is not."""
        marker = self._of(config_id).with_suffix(".fresh")
        try:
            found = marker.read_text()
        except FileNotFoundError:
            return False
        marker.unlink(missing_ok=True)
        return found == container_id

    def forget(self, config_id: str) -> None:
        """Nothing runs for this configuration."""
        self._of(config_id).with_suffix(".fresh").unlink(missing_ok=True)

    def _of(self, config_id: str) -> Path:
        return self._path / hashlib.sha256(config_id.encode()).hexdigest()[:_LONGEST_NAME]
