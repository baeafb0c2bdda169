"""What the engine tests run inside containers: ``toolbox.py SUBCOMMAND [N]``; see ``COMMANDS``."""

import json
import os
import signal
import sys
import threading
from collections.abc import Callable

CHUNK = 65536


def cat() -> None:
    """Copy stdin to stdout, byte for byte, until EOF."""
    while data := os.read(0, CHUNK):
        write_all(1, data)


def echo_lines() -> None:
    """Give each line back as it comes."""
    while line := sys.stdin.buffer.readline():
        write_all(1, line)


def to_stderr() -> None:
    """Copy stdin to stderr until EOF."""
    while data := os.read(0, CHUNK):
        write_all(2, data)


def tee(code: str) -> None:
    """Copy stdin to stdout and to stderr until EOF, then exit with a code."""
    while data := os.read(0, CHUNK):
        write_all(1, data)
        write_all(2, data)
    sys.exit(int(code))


def exit_with(code: str) -> None:
    """Say so on stderr and exit with a code."""
    write_all(2, f"exiting with code {code}\n".encode())
    sys.exit(int(code))


def ignore_term() -> None:
    """Ignore SIGTERM and EOF."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    write_all(1, b"ready\n")
    threading.Event().wait()


def flood() -> None:
    """Print without end."""
    while True:
        write_all(1, b"x" * 1023 + b"\n")


def flood_stderr() -> None:
    """Print to stderr without end."""
    while True:
        write_all(2, b"x" * 1023 + b"\n")


def idle() -> None:
    """Do nothing until SIGTERM, then exit 0."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    threading.Event().wait()


def print_env() -> None:
    """One line of JSON: the environment. Then idle."""
    write_all(1, json.dumps(dict(os.environ)).encode() + b"\n")
    idle()


def print_args() -> None:
    """One line of JSON: the arguments after the subcommand. Then idle."""
    write_all(1, json.dumps(sys.argv[2:]).encode() + b"\n")
    idle()


def big(count: str) -> None:
    """One line of ``count`` bytes, then idle."""
    write_all(1, b"x" * int(count) + b"\n")
    idle()


def big_then_echo(count: str) -> None:
    """One line of ``count`` bytes, then each line back as it comes."""
    write_all(1, b"x" * int(count) + b"\n")
    echo_lines()


def big_then_exit(count: str, code: str) -> None:
    """One line of ``count`` bytes, then exit as ``exit`` does."""
    write_all(1, b"x" * int(count) + b"\n")
    exit_with(code)


def count_to(count: str) -> None:
    """The numbers below ``count``, a line each, then idle."""
    for number in range(int(count)):
        write_all(1, b"%d\n" % number)
    idle()


def exit_after_line(code: str) -> None:
    """Wait for one line, then exit as ``exit`` does."""
    sys.stdin.buffer.readline()
    exit_with(code)


def not_utf8() -> None:
    """A good line, one that is not UTF-8, a good one again; then idle."""
    write_all(1, b"before\n\xff\xfe\nafter\n")
    idle()


def hog_memory() -> None:
    """Take memory until stopped."""
    hoard = []
    while True:
        hoard.append(bytearray(os.urandom(1024) * 1024))


def write_all(descriptor: int, data: bytes) -> None:
    """Write everything, however little the pipe takes at a time."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


COMMANDS: dict[str, Callable[..., None]] = {
    "cat": cat,
    "echo-lines": echo_lines,
    "stderr": to_stderr,
    "tee": tee,
    "exit": exit_with,
    "ignore-term": ignore_term,
    "flood": flood,
    "flood-stderr": flood_stderr,
    "sleep": idle,
    "print-env": print_env,
    "print-args": lambda *_: print_args(),
    "big": big,
    "big-then-echo": big_then_echo,
    "big-then-exit": big_then_exit,
    "count": count_to,
    "exit-after-line": exit_after_line,
    "not-utf8": not_utf8,
    "hog-memory": hog_memory,
}

if __name__ == "__main__":
    COMMANDS[sys.argv[1]](*sys.argv[2:])
