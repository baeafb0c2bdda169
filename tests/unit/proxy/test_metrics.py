"""The metrics: named as Prometheus wants them, bounded in their labels, and as docs/operations.md lists them."""

import asyncio
import re
from collections.abc import Iterator
from typing import get_args

import pytest
from prometheus_client import Metric
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.parser import text_string_to_metric_families

from doogie_contract.channels import CloseCode
from doogie_contract.models import ExitReason
from doogie_contract.problems import ProblemType
from doogie_proxy.engine_failures import EngineTimeout
from doogie_proxy.metrics import Metrics, StartOutcome, StartPhase
from doogie_proxy.sessions import CODECS
from doogie_proxy.stdio import StdioHub
from tests.unit.proxy.test_operations_doc import table

LABELS = {"rule", "outcome", "phase", "state", "reason", "subprotocol", "code", "stream", "problem", "call", "failure"}
BASE_UNITS = ("_seconds", "_bytes")


@pytest.fixture
async def metrics() -> Metrics:
    """With everything counted once, under each value that it can have."""
    metrics = Metrics()
    for outcome in get_args(StartOutcome):
        metrics.start("toolbox", outcome)
    for phase in get_args(StartPhase):
        with metrics.phase(phase):
            pass
    for reason in ExitReason:
        metrics.exit("toolbox", reason)
    for subprotocol in CODECS:
        for code in CloseCode:
            metrics.session(subprotocol, code)
    for problem in ProblemType:
        metrics.problem(problem)
    metrics.engine_call("start", 0.3, None)
    metrics.engine_call("start", 30.0, EngineTimeout("planted"))
    return metrics


def families(metrics: Metrics) -> list[Metric]:
    return list(text_string_to_metric_families(metrics.exposition([], ready=True).decode()))


def ours(metrics: Metrics) -> Iterator[Metric]:
    return (family for family in families(metrics) if not family.name.startswith("process_"))


async def test_names_units_and_help_are_as_prometheus_wants_them(metrics: Metrics) -> None:
    for family in families(metrics):
        assert re.fullmatch(r"(doogie|process)_[a-z]+(_[a-z]+)*", family.name), family.name
        assert family.documentation.endswith("."), family.name
        if family.type == "histogram":
            assert family.name.endswith(BASE_UNITS), family.name
        assert not re.search(r"_(total|count|sum|bucket|info)$", family.name), family.name
        assert not re.search(r"(milli|micro|nano|minutes|hours|kilo|mega|percent|counter|gauge)", family.name)
        for sample in family.samples:
            if family.type == "counter":
                assert sample.name == f"{family.name}_total"
            assert sample.value >= 0


async def test_no_label_is_another_than_these_and_none_holds_an_engines_or_clients_words(metrics: Metrics) -> None:
    for family in ours(metrics):
        for sample in family.samples:
            assert set(sample.labels) <= LABELS | {"le"}, sample
            assert "planted" not in repr(sample)


async def test_the_number_of_series_is_bounded_by_the_rules_and_by_what_is_listed_here(metrics: Metrics) -> None:
    series = sum(len(family.samples) for family in families(metrics))
    print(f"\n{series} series with one rule")
    assert series < 170
    for rule in range(10):
        for outcome in get_args(StartOutcome):
            metrics.start(f"rule{rule}", outcome)
    for _ in range(100):
        metrics.problem(ProblemType.POLICY_DENIED)
        metrics.engine_call("start", 1.0, EngineTimeout("anything"))
    assert sum(len(family.samples) for family in families(metrics)) == series + 10 * len(get_args(StartOutcome))


async def test_the_table_of_metrics_is_the_metrics(metrics: Metrics) -> None:
    labels = {collector._name: collector._labelnames for collector in metrics._registry._collector_to_names
              if isinstance(collector, MetricWrapperBase)}  # fmt: skip
    expected = [
        [
            f"`{family.name}{'_total' if family.type == 'counter' else ''}`",
            family.type,
            ", ".join(f"`{name}`" for name in labels[family.name]),
            family.documentation,
        ]
        for family in ours(metrics)
    ]
    assert table("## Metrics") == expected


async def test_what_a_hub_has_carried_is_counted_once_however_often_it_is_looked_at() -> None:
    metrics = Metrics()
    hub = StdioHub(None, None, None, buffer_bytes=10, max_message_bytes=10, can_half_close=False)
    other = StdioHub(None, None, None, buffer_bytes=10, max_message_bytes=10, can_half_close=False)
    hub.stderr.append(b"12345")
    other.stderr.append(b"123")
    for _ in range(3):
        metrics.account(hub)
        metrics.account(other)
    hub.stderr.append(b"678")
    metrics.account(hub)
    del hub
    counted = {
        sample.labels["stream"]: sample.value
        for family in families(metrics)
        for sample in family.samples
        if sample.name == "doogie_stdio_bytes_total"
    }
    assert counted == {"stdin": 0, "stdout": 0, "stderr": 11}


async def test_the_event_loops_lag_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("doogie_proxy.metrics.LAG_INTERVAL_S", 0.001)
    async with Metrics() as metrics:
        async with asyncio.timeout(10):
            while not (counted := lag(metrics))["doogie_event_loop_lag_seconds_count"]:
                await asyncio.sleep(0.01)
    assert counted["doogie_event_loop_lag_seconds_sum"] >= 0


def lag(metrics: Metrics) -> dict[str, float]:
    return {
        sample.name: sample.value
        for family in families(metrics)
        if family.name == "doogie_event_loop_lag_seconds"
        for sample in family.samples
    }
