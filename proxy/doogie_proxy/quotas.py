"""How many servers a client may have at once, and how often it may start one."""

import math
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from doogie_contract.problems import ProblemError, ProblemType
from doogie_proxy.admission import Admitted
from doogie_proxy.server import Key, Server

WINDOW_S = 60.0


class Quotas:
    """What clients have used up of what the policy gives them. In memory: a restart forgives, and counts anew."""

    def __init__(self) -> None:
        self._starting: dict[Key, str] = {}
        self._starts: dict[str, deque[float]] = {}

    def check(self, key: Key, admitted: Admitted, servers: Iterable[Server]) -> None:
        """Nothing, if one more start is within the quotas.

        Args:
            key: of the server that is to start.
            admitted: by the policy, whose limits count.
            servers: all there are.

        Raises:
            ProblemError: quota-exceeded; says which, and where it is a matter of waiting, how long.
        """
        taken = (server for server in servers if server.exit is None or len(server.hub.stdout))
        running = {server.key: server.identity.rule for server in taken} | self._starting
        rules = [rule for other, rule in running.items() if other.client == key.client and other != key]
        of_rule = admitted.rule.max_running
        if len(rules) >= admitted.client.max_running:
            raise _exceeded(
                f"{len(rules)} servers run, or hold output that nobody has read, of at most "
                f"{admitted.client.max_running}: stop one first"
            )
        if of_rule is not None and rules.count(admitted.rule.name) >= of_rule:
            raise _exceeded(f"rule {admitted.rule.name} allows {of_rule} servers at once: stop one first")
        starts, now = self._starts.setdefault(key.client, deque()), time.monotonic()
        while starts and starts[0] <= now - WINDOW_S:
            starts.popleft()
        if len(starts) >= admitted.client.starts_per_minute:
            wait_s = math.ceil(starts[0] + WINDOW_S - now)
            raise _exceeded(
                f"{admitted.client.starts_per_minute} starts a minute are allowed: try again in {wait_s} s", wait_s
            )

    @contextmanager
    def starting(self, key: Key, admitted: Admitted, servers: Iterable[Server]) -> Iterator[None]:
        """Count a start, failed ones too, and its server while it is not yet among ``servers``.

        Raises:
            ProblemError: see ``check``.
        """
        self.check(key, admitted, servers)
        self._starts[key.client].append(time.monotonic())
        self._starting[key] = admitted.rule.name
        try:
            yield
        finally:
            del self._starting[key]


def _exceeded(detail: str, retry_after_s: int | None = None) -> ProblemError:
    return ProblemError(ProblemType.QUOTA_EXCEEDED, detail, retry_after_s=retry_after_s)
