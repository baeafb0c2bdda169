"""Several processes that serve one listening socket: bound once, then forked, watched and replaced.

    supervisor ── fork ──► worker … worker     all accept on the same sockets
        │  SIGTERM, SIGINT: end all, each in good order      SIGHUP: handed on
        │  a worker that dies is replaced; one that cannot start ends all
        └─ a pipe: its end tells workers that the supervisor is gone, and they end

A worker is a process of one event loop; nothing is shared but the sockets, the database and the proxy.
"""

import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable

import structlog

EXIT_CANNOT_START = 3
"""A worker's exit code when another try would end in the same way."""
REPLACE_AFTER_S = 1.0
"""Between a worker's death and its replacement, so that what dies at once does not eat the machine."""

_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD}

log = structlog.get_logger(__name__)


def supervise(count: int, work: Callable[[int], int]) -> int:
    """Keep ``count`` processes that run ``work`` until told to end; the exit code.

    Must be called before there are threads or an event loop: it forks.

    Args:
        count: how many.
        work: what each does; it is given a descriptor that reads end-of-file when the supervisor is gone, and returns
            an exit code, 0 when it ended because it was told to.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    alive, hold = os.pipe()
    workers: set[int] = set()
    due: list[float] = [0.0] * count
    ending, code = False, 0
    while workers or not ending:
        now = time.monotonic()
        while not ending and due and due[0] <= now:
            due.pop(0)
            workers.add(_fork(work, alive, hold))
        wait_s = due[0] - now if due and not ending else 3600.0
        received = signal.sigtimedwait(_SIGNALS, max(0.0, wait_s))
        if received is None:
            continue
        if received.si_signo == signal.SIGCHLD:
            ended = _ended(workers)
            workers.difference_update(ended)  # all at once: a process that was waited for cannot be signalled any more
            for pid, status in ended.items():
                if status == EXIT_CANNOT_START:
                    ending, code = True, EXIT_CANNOT_START
                    _signal_all(workers, signal.SIGTERM)
                elif not ending:
                    log.error("worker_died", pid=pid, status=status)
                    due.append(time.monotonic() + REPLACE_AFTER_S)
        elif received.si_signo == signal.SIGHUP:
            _signal_all(workers, signal.SIGHUP)
        else:
            ending = True
            _signal_all(workers, signal.SIGTERM)
    return code


def _fork(work: Callable[[int], int], alive: int, hold: int) -> int:
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid != 0:
        log.info("worker_started", pid=pid)
        return pid
    code = 70  # EX_SOFTWARE of sysexits.h: a defect
    try:
        os.close(hold)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        code = work(alive)
    except BaseException:  # noqa: BLE001  # the parent's stack is below: nothing may be raised into it
        traceback.print_exc()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _ended(workers: set[int]) -> dict[int, int]:
    """Those that are dead, with their exit codes; minus the signal's number for those that were killed."""
    ended = {}
    for pid in workers:
        reaped, status = os.waitpid(pid, os.WNOHANG)
        if reaped:
            ended[pid] = os.waitstatus_to_exitcode(status)
    return ended


def _signal_all(workers: set[int], number: signal.Signals) -> None:
    for pid in workers:
        os.kill(pid, number)
