"""A real PostgreSQL of a test's own: a cluster in a directory, with its own server, which may be stopped and killed.

    with PostgresCluster() as cluster, cluster.database() as url:
        …

It listens on a unix socket and on a loopback port, writes through to disk as in production (fsync), and trusts
everybody who reaches it. PostgreSQL refuses to run as root, so as root it runs as another user.
"""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self

MINIMUM = 14
SUPERUSER = "doogie"
START_TIMEOUT_S = 60


def programs() -> Path:
    """The directory with initdb and postgres of the newest version: Debian keeps them all out of the path."""
    in_path = shutil.which("initdb")
    found = [*Path("/usr/lib/postgresql").glob("*/bin/initdb"), *([Path(in_path).resolve()] if in_path else [])]
    version, initdb = max(((_version(path), path) for path in found), default=(0, Path()))
    if version < MINIMUM:
        raise RuntimeError(f"PostgreSQL {MINIMUM} or newer is missing: make test has it installed")
    return initdb.parent


def _version(program: Path) -> int:
    said = subprocess.run([program, "--version"], check=True, capture_output=True, text=True).stdout
    return int(said.split()[2].partition(".")[0])


class PostgresCluster:
    """A cluster. ``start`` returns when it answers."""

    def __init__(self) -> None:
        self._programs = programs()
        self.directory = Path(tempfile.mkdtemp(prefix="doogie-postgres-"))
        self._owner = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        self._numbers = count()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]

    def __enter__(self) -> Self:
        if self._owner is not None:
            os.chown(self.directory, self._owner.pw_uid, self._owner.pw_gid)
        self._run("initdb", "--auth=trust", f"--username={SUPERUSER}", "--encoding=UTF8", "--no-locale", "--no-sync")
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self.directory)

    def url(self, database: str, *, over: str = "socket") -> str:
        """The address of a database, over the ``socket`` or over ``tcp``."""
        if over == "tcp":
            return f"postgresql://{SUPERUSER}@127.0.0.1:{self.port}/{database}"
        return f"postgresql://{SUPERUSER}@/{database}?host={self.directory}&port={self.port}"

    @contextmanager
    def database(self, *, over: str = "socket") -> Iterator[str]:
        """The URL of an empty database, which is dropped at the end, whoever is connected."""
        name = f"test{next(self._numbers)}"
        self.sql(f"CREATE DATABASE {name}")
        try:
            yield self.url(name, over=over)
        finally:
            self.sql(f"DROP DATABASE {name} WITH (FORCE)")

    @contextmanager
    def schema(self) -> Iterator[str]:
        """The URL of an empty schema, which is as good as a database in most ways, and much cheaper."""
        name = f"test{next(self._numbers)}"
        self.sql(f"CREATE SCHEMA {name}")
        try:
            yield f"{self.url('postgres')}&search_path={name}"
        finally:
            self.sql(f"DROP SCHEMA {name} CASCADE")

    def sql(self, statement: str, database: str = "postgres") -> str:
        """Run a statement as superuser; what psql prints, without decoration."""
        address = ["--host", str(self.directory), "--port", str(self.port), "--username", SUPERUSER]
        quiet = "SET client_min_messages = warning"
        return self._command("psql", *address, "--no-psqlrc", "--quiet", "-Atc", quiet, "-c", statement, database)

    def start(self) -> None:
        """Start the server."""
        options = f"-k {self.directory} -p {self.port} -c listen_addresses=127.0.0.1 -c log_statement=all"
        self._run("pg_ctl", "start", "--wait", f"--timeout={START_TIMEOUT_S}", "-l", str(self.log), "-o", options)

    def stop(self, mode: str = "fast") -> None:
        """Stop it: ``fast`` ends all connections; ``immediate`` is a crash."""
        self._run("pg_ctl", "stop", "--wait", "--mode", mode)

    @property
    def log(self) -> Path:
        """What the server has said, every statement among it."""
        return self.directory / "log"

    def _run(self, program: str, *args: str) -> None:
        self._command(program, "-D", str(self.directory / "data"), *args)

    def _command(self, program: str, *args: str) -> str:
        # Its output goes to a file: the server that pg_ctl starts would hold a pipe open.
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.run(
                [str(self._programs / program), *args],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                user=None if self._owner is None else self._owner.pw_uid,
                group=None if self._owner is None else self._owner.pw_gid,
                extra_groups=None if self._owner is None else [],
                cwd=self.directory,
                check=False,
            )
            output.seek(0)
            said = output.read()
        if done.returncode:
            raise RuntimeError(f"{program} failed: {said}")
        return said.strip()
