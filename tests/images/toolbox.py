"""What the engine tests run inside containers: ``toolbox.py SUBCOMMAND [N]``; see ``COMMANDS``."""

import errno
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable

CHUNK = 65536

# Where nothing stops it, an attack stops itself: a test that fails must not take the machine with it.
FORKS = 9
"""2 ** 9 processes."""
MOST_BYTES = 2**30
MOST_FILES = 200_000


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
    hoard = [bytearray(os.urandom(1024) * 1024) for _ in range(MOST_BYTES // 2**20)]
    say({"taken": len(hoard)})
    idle()


def hog_in_child() -> None:
    """Have a child take memory until it dies; one line of JSON: what it died of. Then idle."""
    if (child := os.fork()) == 0:
        hog_memory()
    say({"signal": os.WTERMSIG(os.waitpid(child, 0)[1])})
    idle()


def fork_bomb() -> None:
    """Every process forks, and so do its children; each says so the first time that it cannot, and tries again."""
    told = False
    for _ in range(FORKS):
        while True:
            try:
                os.fork()
                break
            except OSError as exc:
                if not told:
                    say({"refused": errno.errorcode[exc.errno or 0]})
                told = True
                time.sleep(0.05)
    idle()


def burn() -> None:
    """Keep four processes busy for ever."""
    os.fork()
    os.fork()
    while True:
        pass


def fill(*paths: str) -> None:
    """Write to each file until it fails; one line of JSON: by path, how much was written, and the error. Then idle."""
    outcomes = {}
    for path in paths:
        written = 0
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
            while written < MOST_BYTES:
                written += os.write(descriptor, bytes(CHUNK))
            outcomes[path] = [written, ""]
        except OSError as exc:
            outcomes[path] = [written, errno.errorcode[exc.errno or 0]]
    say(outcomes)
    idle()


def fill_with_files(directory: str) -> None:
    """Make empty files until it fails; one line of JSON: how many, and the error. Then idle."""
    made = 0
    try:
        while made < MOST_FILES:
            os.close(os.open(f"{directory}/{made}", os.O_WRONLY | os.O_CREAT))
            made += 1
        say({"made": made, "error": ""})
    except OSError as exc:
        say({"made": made, "error": errno.errorcode[exc.errno or 0]})
    idle()


def reach(*targets: str) -> None:
    """Connect to each ``address:port``, ``/path`` or ``@abstract``; one line of JSON: what came of it. Then idle."""
    outcomes = {}
    for target in targets:
        host, _, port = target.rpartition(":")
        try:
            if target[0] in "/@":
                with socket.socket(socket.AF_UNIX) as one:
                    one.connect(target if target[0] == "/" else "\0" + target[1:])
            else:
                socket.create_connection((host, int(port)), timeout=3).close()
            outcomes[target] = "connected"
        except TimeoutError:
            outcomes[target] = "timeout"
        except OSError as exc:
            outcomes[target] = errno.errorcode.get(exc.errno or 0, str(exc))
    say({"interfaces": [name for _, name in socket.if_nameindex()], "outcomes": outcomes})
    idle()


def endless_line() -> None:
    """Print without end, and without a newline."""
    while True:
        write_all(1, b"x" * 1024)


def long_line_then_echo(count: str) -> None:
    """One line of ``count`` bytes, made little by little; then each line back as it comes."""
    for _ in range(int(count) // CHUNK):
        write_all(1, b"x" * CHUNK)
    write_all(1, b"\n")
    echo_lines()


def hex_then_echo(digits: str) -> None:
    """These bytes, then each line back as it comes."""
    write_all(1, bytes.fromhex(digits))
    echo_lines()


def say(value: object) -> None:
    """One line of JSON."""
    write_all(1, json.dumps(value).encode() + b"\n")


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
    "hog-in-child": hog_in_child,
    "fork-bomb": fork_bomb,
    "burn": burn,
    "fill": fill,
    "fill-with-files": fill_with_files,
    "reach": reach,
    "endless-line": endless_line,
    "long-line-then-echo": long_line_then_echo,
    "hex-then-echo": hex_then_echo,
}

if __name__ == "__main__":
    COMMANDS[sys.argv[1]](*sys.argv[2:])
