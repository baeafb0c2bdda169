"""The audit log: one line per decision. Who asked for what, which rule, what came of it, why, under which request id.

It is part of the log on stdout, as events named ``audit``, and with ``DOOGIE_PROXY_AUDIT_FILE`` a file of its own. It
holds names of secrets and environment variables, never values; arguments as the rule says, shown or hashed.
"""

import logging
import logging.handlers
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from typing import Any, Literal

import structlog

from doogie_contract.models import StartRequest
from doogie_contract.problems import ProblemError
from doogie_proxy.identity import Keyring
from doogie_proxy.log import AUDIT_LOGGER, formatter
from doogie_proxy.policy import Rule
from doogie_proxy.policy_file import ConfigurationError

Outcome = Literal["allowed", "refused", "failed", "abandoned"]
"""``abandoned``: the caller went away before it was answered. A start that was admitted by then is carried out."""

log = structlog.get_logger(AUDIT_LOGGER)


class Decision:
    """What is known of one request so far; written once, when it is decided."""

    def __init__(self, action: str) -> None:
        self._facts: dict[str, Any] = {"action": action}
        self._written = False

    def note(self, **facts: object) -> None:
        """Add what has become known."""
        self._facts.update(facts)

    def note_request(self, request: StartRequest, rules: Sequence[Rule], keyring: Keyring) -> None:
        """Add what a start asks for. One rule that has arguments hashed is enough, until it is known which decides."""
        shown = all(rule.args.audit == "shown" for rule in rules)
        self.note(
            image=request.image,
            args=request.args if shown else [keyring.sign("audit", arg) for arg in request.args],
            args_hashed=not shown,
            env=sorted(request.env),
            secrets=request.secrets,
            mounts=request.mounts,
        )

    def write(self, outcome: Outcome, refusal: Exception | None = None) -> None:
        """The line; a second call does nothing."""
        if self._written:
            return
        self._written = True
        if isinstance(refusal, ProblemError):
            why = [f"{error.loc}: {error.msg}" for error in refusal.errors] or [refusal.detail]
            self.note(problem=refusal.type.slug, why=why)
        elif refusal is not None:
            self.note(why=[str(refusal)])
        log.info("audit", outcome=outcome, **self._facts)


@contextmanager
def audit_file(path: Path | None) -> Iterator[None]:
    """Copy the audit log to a file, from a thread of its own; one that is rotated away is opened anew.

    Raises:
        ConfigurationError: it cannot be opened.
    """
    if path is None:
        yield
        return
    try:
        file = logging.handlers.WatchedFileHandler(path, encoding="utf-8")
    except OSError as exc:
        raise ConfigurationError([f"audit file: {exc}"]) from exc
    queue: Queue[Any] = Queue()
    to_queue = logging.handlers.QueueHandler(queue)
    to_queue.setFormatter(formatter("json"))
    listener = logging.handlers.QueueListener(queue, file)
    logging.getLogger(AUDIT_LOGGER).addHandler(to_queue)
    listener.start()
    try:
        yield
    finally:
        logging.getLogger(AUDIT_LOGGER).removeHandler(to_queue)
        listener.stop()
        file.close()
