"""Metrics: what is reported arrives under the names that the reference page lists."""

import random
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from support.clock import FakeClock
from unjucks_operator.engine.metrics import ENGINE, Metrics, reference
from unjucks_operator.engine.queue import Lane, Work, WorkQueue
from unjucks_operator.engine.runner import OUTCOMES, Result, Runner
from unjucks_operator.errors import Unavailable


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(version="1.0")


def value(metrics: Metrics, name: str, /, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


async def test_a_queue_and_its_runner_report(metrics: Metrics) -> None:
    clock = FakeClock()
    queue: WorkQueue[str] = WorkQueue(clock=clock, rng=random.Random(1), metrics=metrics.queue("things"))
    metrics.watch_queue("things", queue)

    async def reconcile(key: str) -> Result:
        if key == "bad":
            raise Unavailable("down")
        return Result()

    runner = Runner("Thing", queue, reconcile, clock=clock, metrics=metrics.runner("Thing"))
    queue.add("good")
    queue.add("good")
    queue.add("bad")
    await clock.advance(3)
    assert value(metrics, "workqueue_depth", name="things") == 2
    assert value(metrics, "workqueue_adds_total", name="things") == 2
    work = await queue.get()
    assert work is not None
    await clock.advance(2)
    assert value(metrics, "workqueue_longest_running_processor_seconds", name="things") == 2
    assert value(metrics, "workqueue_unfinished_work_seconds", name="things") == 2
    await runner.run(work)
    queue.done(work.key)
    other = await queue.get()
    assert other is not None
    await runner.run(other)
    queue.done(other.key)
    assert value(metrics, "workqueue_retries_total", name="things") == 1
    assert value(metrics, "workqueue_delayed", name="things") == 1
    assert value(metrics, "unjucks_reconcile_total", kind="Thing", result="success") == 1
    assert value(metrics, "unjucks_reconcile_total", kind="Thing", result="retry") == 1
    assert value(metrics, "unjucks_reconcile_duration_seconds_count", kind="Thing") == 2
    assert value(metrics, "workqueue_queue_duration_seconds_sum", name="things") == 3 + 5
    assert value(metrics, "workqueue_work_duration_seconds_sum", name="things") == 2


async def test_each_outcome_of_a_run_is_named_in_the_reference(metrics: Metrics) -> None:
    (spec,) = [spec for spec in ENGINE if spec.name == "unjucks_reconcile_total"]
    assert all(outcome in spec.text for outcome in OUTCOMES)
    queue: WorkQueue[str] = WorkQueue()

    async def reconcile(key: str) -> Result:
        raise ValueError

    runner = Runner("Thing", queue, reconcile, metrics=metrics.runner("Thing"))
    await runner.run(Work("k", Lane.SPEC, 0))
    assert value(metrics, "unjucks_reconcile_total", kind="Thing", result="bug") == 1


def test_values_are_read_when_they_are_asked_for(metrics: Metrics) -> None:
    ages, leading = {"tenants": 3.0}, [False]
    metrics.watch_ages(lambda: ages)
    metrics.watch_store("tenants", lambda: 7)
    metrics.watch_leader(lambda: leading[0])
    assert value(metrics, "unjucks_leader") == 0
    ages["tenants"], leading[0] = 9.0, True
    assert value(metrics, "unjucks_watch_last_event_age_seconds", resource="tenants") == 9
    assert value(metrics, "unjucks_store_objects", resource="tenants") == 7
    assert value(metrics, "unjucks_leader") == 1


def test_requests_are_counted_and_watches_are_not_timed(metrics: Metrics) -> None:
    metrics.observe_request("get", "tenants", "200", 0.1)
    metrics.observe_request("watch", "tenants", "200", 300)
    metrics.watch_restarted()
    metrics.repaired("tenants", "ghost")
    metrics.loop_lag(0.2)
    assert value(metrics, "unjucks_kube_requests_total", verb="watch", resource="tenants", code="200") == 1
    assert value(metrics, "unjucks_kube_request_duration_seconds_count", verb="get") == 1
    assert value(metrics, "unjucks_kube_request_duration_seconds_count", verb="watch") is None
    assert value(metrics, "unjucks_watch_restarts_total") == 1
    assert value(metrics, "unjucks_store_repairs_total", resource="tenants", what="ghost") == 1
    assert value(metrics, "unjucks_event_loop_lag_seconds_sum") == 0.2


def test_what_is_registered_is_exactly_what_the_table_says(metrics: Metrics) -> None:
    metrics.watch_queue("q", WorkQueue())
    found: dict[str, Any] = {}
    for family in metrics.registry.collect():
        name = family.name + ("_total" if family.type == "counter" else "")
        found[name] = (family.type, family.documentation)
    assert found == {spec.name: (spec.kind, spec.text) for spec in ENGINE}


def test_two_sets_live_in_two_registries_but_not_in_one() -> None:
    registry = CollectorRegistry()
    Metrics(registry)
    Metrics(CollectorRegistry())
    with pytest.raises(ValueError, match="Duplicated"):
        Metrics(registry)


def test_no_metric_has_a_label_for_one_object() -> None:
    forbidden = {"tenant", "namespace", "uid", "object", "job"}
    assert [spec.name for spec in ENGINE if forbidden & set(spec.labels)] == []


def test_names_follow_the_conventions() -> None:
    for spec in ENGINE:
        assert spec.text.endswith("."), spec.name
        assert (spec.kind == "counter") == spec.name.endswith("_total"), spec.name
        assert bool(spec.buckets) == (spec.kind == "histogram"), spec.name


def test_the_reference_lists_each_metric_once() -> None:
    page = reference([("Engine", ENGINE)])
    for spec in ENGINE:
        assert page.count(f"| `{spec.name}` |") == 1
