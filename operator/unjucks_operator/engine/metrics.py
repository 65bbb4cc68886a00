"""Metrics: one table of what exists, and the objects that the engine reports to. Names are those of client-go where there are any.

No metric has a label per object: their number would grow with the cluster. The registry is a parameter, so two
processes' worth of metrics can live in one test. ``docs/reference/metrics.md`` is made from the tables (``reference``).

Must not: read the cluster. Made by ``__main__``; called through small protocols by queues, runners, client and watches.
"""

import platform
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

SECONDS_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SECONDS_SLOW = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


@dataclass(frozen=True, slots=True)
class Spec:
    """One metric: its name, kind, meaning and labels. ``buckets`` is for histograms only."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    text: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


ENGINE = (
    Spec("workqueue_depth", "gauge", "Keys that are ready and wait for a worker.", ("name",)),
    Spec("workqueue_delayed", "gauge", "Keys that wait for their time: backoffs and later looks.", ("name",)),
    Spec("workqueue_adds_total", "counter", "Keys that became ready; adds of a ready key are not counted.", ("name",)),
    Spec(
        "workqueue_queue_duration_seconds",
        "histogram",
        "How long keys were ready before a worker took them.",
        ("name",),
        SECONDS_SLOW,
    ),
    Spec("workqueue_work_duration_seconds", "histogram", "How long workers kept keys.", ("name",), SECONDS_SLOW),
    Spec("workqueue_retries_total", "counter", "Backoffs given to failed keys.", ("name",)),
    Spec(
        "workqueue_unfinished_work_seconds",
        "gauge",
        "Time that all runs under way have taken so far, together.",
        ("name",),
    ),
    Spec(
        "workqueue_longest_running_processor_seconds",
        "gauge",
        "Time that the longest run under way has taken.",
        ("name",),
    ),
    Spec(
        "unjucks_reconcile_total",
        "counter",
        "Runs of the reconcile loop by how they ended: success, waiting, conflict, retry, timeout, terminal, bug, cancelled.",
        ("kind", "result"),
    ),
    Spec("unjucks_reconcile_duration_seconds", "histogram", "How long runs took.", ("kind",), SECONDS_SLOW),
    Spec(
        "unjucks_kube_requests_total",
        "counter",
        'Requests to the API server by verb, resource and HTTP code ("error": no answer).',
        ("verb", "resource", "code"),
    ),
    Spec(
        "unjucks_kube_request_duration_seconds",
        "histogram",
        "How long they took, watches excepted.",
        ("verb",),
        SECONDS_FAST,
    ),
    Spec(
        "unjucks_watch_last_event_age_seconds",
        "gauge",
        "Time since a watch last heard anything, bookmarks included.",
        ("resource",),
    ),
    Spec("unjucks_watch_restarts_total", "counter", "Times that the event source was started again after a failure."),
    Spec(
        "unjucks_store_repairs_total",
        "counter",
        "Differences between our memory and the API server's list, found and repaired: ghost, missing, stale.",
        ("resource", "what"),
    ),
    Spec("unjucks_store_objects", "gauge", "Objects held in memory.", ("resource",)),
    Spec("unjucks_leader", "gauge", "1 while this process holds the lease, else 0."),
    Spec(
        "unjucks_event_loop_lag_seconds",
        "histogram",
        "How late the event loop is, measured each second.",
        (),
        SECONDS_FAST,
    ),
    Spec("unjucks_start_time_seconds", "gauge", "When this process started, in seconds since 1970."),
    Spec("unjucks_build_info", "gauge", "Always 1; the labels say what runs.", ("version", "python")),
)


class _Queue(Protocol):
    """What the scrape-time metrics of a queue need; a ``WorkQueue``."""

    def depth(self) -> int: ...

    def delayed(self) -> int: ...

    def running_seconds(self) -> Iterator[float]: ...


class Instruments:
    """The instruments of a table, by name, in one registry."""

    def __init__(self, registry: CollectorRegistry, specs: Iterable[Spec]) -> None:
        self.registry = registry
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        self._histograms: dict[str, Histogram] = {}
        for spec in specs:
            match spec.kind:
                case "counter":
                    self._counters[spec.name] = Counter(spec.name, spec.text, spec.labels, registry=registry)
                case "gauge":
                    self._gauges[spec.name] = Gauge(spec.name, spec.text, spec.labels, registry=registry)
                case "histogram":
                    self._histograms[spec.name] = Histogram(
                        spec.name, spec.text, spec.labels, registry=registry, buckets=spec.buckets
                    )

    def counter(self, name: str) -> Counter:
        """The counter of that name; KeyError when the table has none."""
        return self._counters[name]

    def gauge(self, name: str) -> Gauge:
        """The gauge of that name; KeyError when the table has none."""
        return self._gauges[name]

    def histogram(self, name: str) -> Histogram:
        """The histogram of that name; KeyError when the table has none."""
        return self._histograms[name]


class Metrics(Instruments):
    """The engine's instruments. ``version`` is the operator's."""

    def __init__(self, registry: CollectorRegistry | None = None, *, version: str = "") -> None:
        super().__init__(registry or CollectorRegistry(), (spec for spec in ENGINE if spec.name not in _AT_SCRAPE))
        self._at_scrape = _AtScrape()
        self.registry.register(self._at_scrape)
        self.gauge("unjucks_start_time_seconds").set(time.time())
        self.gauge("unjucks_build_info").labels(version, platform.python_version()).set(1)
        self.loop_lag = self.histogram("unjucks_event_loop_lag_seconds").observe
        """Called with seconds."""

    def queue(self, name: str) -> "QueueReport":
        """What a ``WorkQueue`` reports to. Call ``watch_queue`` once the queue exists."""
        return QueueReport(self, name)

    def runner(self, kind: str) -> "RunnerReport":
        """What a ``Runner`` reports to."""
        return RunnerReport(self, kind)

    def watch_queue(self, name: str, queue: _Queue) -> None:
        """Read depth and running time of this queue at each scrape."""
        self._at_scrape.queues[name] = queue

    def watch_ages(self, ages: Callable[[], dict[str, float]]) -> None:
        """Read at each scrape how long ago each watch heard anything, by resource."""
        self._at_scrape.ages.append(ages)

    def watch_store(self, resource: str, size: Callable[[], int]) -> None:
        """Read at each scrape how many objects a store holds."""
        self._at_scrape.stores[resource] = size

    def watch_leader(self, leading: Callable[[], bool]) -> None:
        """Read at each scrape whether we lead."""
        self._at_scrape.leading = leading

    def observe_request(self, verb: str, plural: str, code: str, seconds: float) -> None:
        """A request to the API server ended; fits ``kube.client``'s observer."""
        self.counter("unjucks_kube_requests_total").labels(verb, plural, code).inc()
        if verb != "watch":
            self.histogram("unjucks_kube_request_duration_seconds").labels(verb).observe(seconds)

    def watch_restarted(self) -> None:
        """The event source was started again."""
        self.counter("unjucks_watch_restarts_total").inc()

    def repaired(self, plural: str, what: str) -> None:
        """A store differed from the server: ``what`` is ghost, missing or stale."""
        self.counter("unjucks_store_repairs_total").labels(plural, what).inc()


class QueueReport:
    """Implements ``queue.QueueMetrics``."""

    def __init__(self, metrics: Metrics, name: str) -> None:
        self._adds = metrics.counter("workqueue_adds_total").labels(name)
        self._retries = metrics.counter("workqueue_retries_total").labels(name)
        self._waits = metrics.histogram("workqueue_queue_duration_seconds").labels(name)
        self._works = metrics.histogram("workqueue_work_duration_seconds").labels(name)

    def added(self) -> None:
        """See ``QueueMetrics``."""
        self._adds.inc()

    def retried(self) -> None:
        """See ``QueueMetrics``."""
        self._retries.inc()

    def waited(self, seconds: float) -> None:
        """See ``QueueMetrics``."""
        self._waits.observe(seconds)

    def worked(self, seconds: float) -> None:
        """See ``QueueMetrics``."""
        self._works.observe(seconds)


class RunnerReport:
    """Implements ``runner.RunnerMetrics``."""

    def __init__(self, metrics: Metrics, kind: str) -> None:
        self._kind = kind
        self._total = metrics.counter("unjucks_reconcile_total")
        self._seconds = metrics.histogram("unjucks_reconcile_duration_seconds").labels(kind)

    def finished(self, outcome: str, seconds: float) -> None:
        """See ``RunnerMetrics``."""
        self._total.labels(self._kind, outcome).inc()
        self._seconds.observe(seconds)


class _AtScrape(Collector):
    """Values that others hold and that are read when Prometheus asks."""

    def __init__(self) -> None:
        self.queues: dict[str, _Queue] = {}
        self.ages: list[Callable[[], dict[str, float]]] = []
        self.stores: dict[str, Callable[[], int]] = {}
        self.leading: Callable[[], bool] | None = None

    def collect(self) -> Iterator[Metric]:
        """See ``Collector``."""
        depth, delayed = _family("workqueue_depth"), _family("workqueue_delayed")
        unfinished = _family("workqueue_unfinished_work_seconds")
        longest = _family("workqueue_longest_running_processor_seconds")
        for name, queue in self.queues.items():
            running = list(queue.running_seconds())
            depth.add_metric([name], queue.depth())
            delayed.add_metric([name], queue.delayed())
            unfinished.add_metric([name], sum(running))
            longest.add_metric([name], max(running, default=0.0))
        ages, stores, leader = (
            _family("unjucks_watch_last_event_age_seconds"),
            _family("unjucks_store_objects"),
            _family("unjucks_leader"),
        )
        for read in self.ages:
            for resource, age in read().items():
                ages.add_metric([resource], age)
        for resource, size in self.stores.items():
            stores.add_metric([resource], size())
        leader.add_metric([], float(self.leading is not None and self.leading()))
        yield from (depth, delayed, unfinished, longest, ages, stores, leader)

    def describe(self) -> Iterator[Metric]:
        """See ``Collector``; lets the registry refuse a second metric of one of these names."""
        return (_family(name) for name in _AT_SCRAPE)


_BY_NAME = {spec.name: spec for spec in ENGINE}
_AT_SCRAPE = (
    "workqueue_depth",
    "workqueue_delayed",
    "workqueue_unfinished_work_seconds",
    "workqueue_longest_running_processor_seconds",
    "unjucks_watch_last_event_age_seconds",
    "unjucks_store_objects",
    "unjucks_leader",
)


def _family(name: str) -> GaugeMetricFamily:
    spec = _BY_NAME[name]
    return GaugeMetricFamily(spec.name, spec.text, labels=spec.labels)


def reference(tables: Iterable[tuple[str, Iterable[Spec]]]) -> str:
    """The page ``docs/reference/metrics.md``: one table for each title."""
    lines = [
        "# Metrics",
        "",
        "Served as Prometheus text on `/metrics` of the health port (8080). All durations are in seconds. No metric has a",
        "label for a single object, so their number does not grow with the cluster. This page is generated from the code.",
    ]
    for title, specs in tables:
        lines += ["", f"## {title}", "", "| name | type | labels | meaning |", "| --- | --- | --- | --- |"]
        for spec in specs:
            labels = ", ".join(f"`{label}`" for label in spec.labels) or "–"
            lines.append(f"| `{spec.name}` | {spec.kind} | {labels} | {spec.text} |")
    return "\n".join(lines) + "\n"
