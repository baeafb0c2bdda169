"""Run a command under the system call rules of a systemd unit, on a machine where no systemd runs.

``python -m tests.support.under_unit UNIT COMMAND…``. It sets what systemd would (systemd.exec(5)): NoNewPrivileges,
SystemCallFilter, SystemCallErrorNumber=EPERM, MemoryDenyWriteExecute, RestrictAddressFamilies. What systemd does with
namespaces and mounts is not done here; a refused address family is EPERM here and EAFNOSUPPORT there.
"""

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

PR_SET_NO_NEW_PRIVS = 38
SCMP_ACT_ALLOW = 0x7FFF0000
SCMP_ACT_EPERM = 0x00050000 | 1
SCMP_CMP_NE, SCMP_CMP_MASKED_EQ = 1, 7
PROT_WRITE, PROT_EXEC, SHM_EXEC, AF_UNIX = 2, 4, 0o100000, 1


class Comparison(ctypes.Structure):
    """``struct scmp_arg_cmp`` of seccomp.h."""

    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    )


seccomp = ctypes.CDLL("libseccomp.so.2")
seccomp.seccomp_init.argtypes = [ctypes.c_uint32]
seccomp.seccomp_init.restype = ctypes.c_void_p
seccomp.seccomp_load.argtypes = [ctypes.c_void_p]
seccomp.seccomp_rule_add_array.argtypes = [
    ctypes.c_void_p,
    ctypes.c_uint32,
    ctypes.c_int,
    ctypes.c_uint,
    ctypes.c_void_p,
]


def directives(unit: Path) -> dict[str, list[str]]:
    """Every value of every key, in order."""
    found: dict[str, list[str]] = {}
    for line in unit.read_text(encoding="utf-8").splitlines():
        key, separator, value = line.partition("=")
        if separator and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


def system_calls(name: str) -> Iterator[str]:
    """The system calls of a set (``@system-service``), or the one of this name."""
    if not name.startswith("@"):
        yield name
        return
    listing = subprocess.run(["systemd-analyze", "syscall-filter", name], check=True, capture_output=True, text=True)
    for line in listing.stdout.splitlines()[1:]:
        if (member := line.strip()) and not member.startswith("#"):
            yield from system_calls(member)


def allowed(filters: list[str]) -> set[str]:
    """What several SystemCallFilter= lines allow, the first of which is an allow-list."""
    calls = {*system_calls("@default"), "execve"}
    for value in filters:
        named = {call for name in value.removeprefix("~").split() for call in system_calls(name)}
        calls = calls - named if value.startswith("~") else calls | named
    return calls


def load(default: int, action: int, rules: list[tuple[str, list[Comparison]]]) -> None:
    """Put a filter in force, for this process and what it runs."""
    context = seccomp.seccomp_init(default)
    for name, comparisons in rules:
        number = seccomp.seccomp_syscall_resolve_name(name.encode())
        array = (Comparison * len(comparisons))(*comparisons)
        # Negative: another architecture's.
        if number >= 0 and seccomp.seccomp_rule_add_array(context, action, number, len(comparisons), array):
            raise OSError(f"no rule can be made for {name}")
    if seccomp.seccomp_load(context):
        raise OSError("the filter cannot be loaded")


def enter(unit: Path) -> None:
    """Give up what the unit takes away."""
    said = directives(unit)
    expected = {"NoNewPrivileges": "yes", "MemoryDenyWriteExecute": "yes", "RestrictAddressFamilies": "AF_UNIX"}
    for key, value in {**expected, "SystemCallErrorNumber": "EPERM"}.items():
        if said.get(key) != [value]:
            raise ValueError(f"{key}={said.get(key)} is not what this module knows how to do")
    calls = allowed(said["SystemCallFilter"])
    if ctypes.CDLL(None).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError("no-new-privileges cannot be set")
    writable_code = PROT_WRITE | PROT_EXEC
    refused = [
        ("mmap", [Comparison(2, SCMP_CMP_MASKED_EQ, writable_code, writable_code)]),
        ("mprotect", [Comparison(2, SCMP_CMP_MASKED_EQ, PROT_EXEC, PROT_EXEC)]),
        ("pkey_mprotect", [Comparison(2, SCMP_CMP_MASKED_EQ, PROT_EXEC, PROT_EXEC)]),
        ("shmat", [Comparison(2, SCMP_CMP_MASKED_EQ, SHM_EXEC, SHM_EXEC)]),
        ("socket", [Comparison(0, SCMP_CMP_NE, AF_UNIX, 0)]),
    ]
    load(SCMP_ACT_ALLOW, SCMP_ACT_EPERM, refused)
    load(SCMP_ACT_EPERM, SCMP_ACT_ALLOW, [(call, []) for call in sorted(calls)])


if __name__ == "__main__":
    enter(Path(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])
