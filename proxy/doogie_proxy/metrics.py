"""What Prometheus can ask for (``GET /metrics``). The table in docs/operations.md mirrors it.

What happens is counted where it happens; what is so at the moment is looked at when somebody asks. Labels have few
values, none of which a client can choose: rules of the policy, reasons, problems, close codes, calls of ours.
"""

import asyncio
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import Literal, Self
from weakref import WeakKeyDictionary

from prometheus_client import (
    CONTENT_TYPE_PLAIN_0_0_4,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from doogie_contract.channels import CloseCode
from doogie_contract.models import ExitReason, ServerState
from doogie_contract.problems import ProblemType
from doogie_proxy.engine_failures import EngineFailure
from doogie_proxy.stdio import StdioHub, Traffic

# The time when each series began would be as many series again.
disable_created_metrics()  # type: ignore[no-untyped-call]  # prometheus_client's

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
LAG_INTERVAL_S = 0.5
ENGINE_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
LAG_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)
"""Seconds."""

StartOutcome = Literal["created", "found", "denied", "refused", "failed"]
"""``denied``: by the policy, so under no rule. ``refused``: quota, another request, image. ``failed``: the engine."""
StartPhase = Literal["pull", "create", "attach", "start"]


class Metrics:
    """All metrics of one proxy. ``async with Metrics()``: until its end it measures the event loop."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self._accounted: WeakKeyDictionary[StdioHub, Traffic] = WeakKeyDictionary()
        counter, gauge = partial(Counter, registry=registry), partial(Gauge, registry=registry)
        seconds = partial(Histogram, registry=registry)
        self._starts = counter("doogie_starts", "Starts that were asked for, by rule and outcome.", ["rule", "outcome"])
        self._start_phases = seconds(
            "doogie_start_phase_seconds",
            "Duration of the phases of a start: pull, create, attach, start.",
            ["phase"],
            buckets=ENGINE_BUCKETS,
        )
        self._servers = gauge("doogie_servers", "Servers, by rule and state.", ["rule", "state"])
        self._exits = counter(
            "doogie_server_exits",
            "Servers that ended, by rule and reason; ends of leases begin with lease.",
            ["rule", "reason"],
        )
        self._attached = gauge("doogie_stdio_attached", "Servers that a client is attached to.")
        self._sessions = counter(
            "doogie_stdio_sessions", "WebSocket sessions that ended, by close code.", ["subprotocol", "code"]
        )
        self._stdio_bytes = counter("doogie_stdio_bytes", "Bytes to (stdin) and from servers, by stream.", ["stream"])
        self._backpressure = counter(
            "doogie_stdio_backpressure_seconds",
            "How long clients waited for servers to read (stdin), and servers for clients (stdout).",
            ["stream"],
        )
        self._problems = counter(
            "doogie_problems", "Requests that were refused or failed, by problem type.", ["problem"]
        )
        self._engine_calls = seconds(
            "doogie_engine_call_seconds", "Duration of calls of the engine.", ["call"], buckets=ENGINE_BUCKETS
        )
        self._engine_failures = counter(
            "doogie_engine_failures", "Calls of the engine that failed, by call and failure.", ["call", "failure"]
        )
        self._ready = gauge("doogie_ready", "1 while servers can be started, else 0.")
        self._tasks = gauge("doogie_event_loop_tasks", "Tasks of the event loop.")
        self._lag = seconds(
            "doogie_event_loop_lag_seconds",
            "How late the event loop came back, asked twice a second.",
            buckets=LAG_BUCKETS,
        )
        ProcessCollector(registry=registry)

    async def __aenter__(self) -> Self:
        self._measuring = asyncio.create_task(self._measure_lag(), name="event loop lag")
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._measuring.cancel()
        await asyncio.wait([self._measuring])

    def start(self, rule: str, outcome: StartOutcome) -> None:
        """A start has come to something."""
        self._starts.labels(rule, outcome).inc()

    def start_failed(self, rule: str, exc: Exception) -> None:
        """A start has come to nothing, for this reason."""
        self.start(rule, "failed" if isinstance(exc, EngineFailure) else "refused")

    @contextmanager
    def phase(self, phase: StartPhase) -> Iterator[None]:
        """A phase of a start, which may fail, as long as the block lasts."""
        with self._start_phases.labels(phase).time():
            yield

    def exit(self, rule: str, reason: ExitReason) -> None:
        """A server has ended."""
        self._exits.labels(rule, reason.value).inc()

    def session(self, subprotocol: str, code: CloseCode) -> None:
        """A session has ended; the subprotocol is one that is known."""
        self._sessions.labels(subprotocol, str(int(code))).inc()

    def problem(self, problem: ProblemType) -> None:
        """A request was answered with a problem."""
        self._problems.labels(problem.slug).inc()

    def engine_call(self, call: str, seconds: float, failure: EngineFailure | None) -> None:
        """A call of the engine is over (``engine.Observer``)."""
        self._engine_calls.labels(call).observe(seconds)
        if failure is not None:
            self._engine_failures.labels(call, type(failure).__name__).inc()

    def account(self, hub: StdioHub) -> None:
        """Add what a hub has carried since it was last accounted for."""
        now, before = hub.traffic(), self._accounted.get(hub, Traffic())
        self._accounted[hub] = now
        for counter, stream, more in (
            (self._stdio_bytes, "stdin", now.stdin_bytes - before.stdin_bytes),
            (self._stdio_bytes, "stdout", now.stdout_bytes - before.stdout_bytes),
            (self._stdio_bytes, "stderr", now.stderr_bytes - before.stderr_bytes),
            (self._backpressure, "stdin", now.stdin_wait_s - before.stdin_wait_s),
            (self._backpressure, "stdout", now.stdout_wait_s - before.stdout_wait_s),
        ):
            counter.labels(stream).inc(more)

    def exposition(self, servers: Iterable[tuple[str, ServerState, StdioHub | None]], *, ready: bool) -> bytes:
        """All of it in Prometheus' text format, version 0.0.4; ``servers`` are the rule, state and stdio of each."""
        self._servers.clear()
        self._attached.set(0)
        for rule, state, hub in servers:
            self._servers.labels(rule, state.value).inc()
            if hub is not None:
                self.account(hub)
                self._attached.inc(hub.attached)
        self._ready.set(ready)
        self._tasks.set(len(asyncio.all_tasks()))
        return generate_latest(self._registry)

    async def _measure_lag(self) -> None:
        while True:
            begun = time.monotonic()
            await asyncio.sleep(LAG_INTERVAL_S)
            self._lag.observe(max(0.0, time.monotonic() - begun - LAG_INTERVAL_S))
