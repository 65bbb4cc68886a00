"""The metrics of this process, in one table. No label names a user, a tenant or an object. Made by ``server``."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
TABLE: Final = (
    (
        "unjucks_webhooks_requests_total",
        "counter",
        "webhook, result",
        "Answers by webhook (validate, approve, verify) and result: allowed, denied, invalid, error.",
    ),
    ("unjucks_webhooks_request_duration_seconds", "histogram", "webhook", "How long answers took."),
    (
        "unjucks_webhooks_approvals_total",
        "counter",
        "verdict",
        "Codes by verdict: accepted, recovery, wrong, used, locked, malformed, unknown, error; missing: a destructive change "
        "without one.",
    ),
    (
        "unjucks_webhooks_certificate_not_after_seconds",
        "gauge",
        "",
        "When the serving certificate ends, in seconds since 1970.",
    ),
    ("unjucks_build_info", "gauge", "version", "Always 1; the label says what runs."),
)
"""(name, kind, labels, meaning)."""


class Metrics:
    """The instruments, in a registry of their own."""

    def __init__(self, version: str) -> None:
        self.registry = CollectorRegistry()
        text = {name: (meaning, [it.strip() for it in labels.split(",") if it]) for name, _, labels, meaning in TABLE}

        def of(name: str) -> tuple[str, str, list[str]]:
            return name, *text[name]

        self.requests = Counter(*of("unjucks_webhooks_requests_total"), registry=self.registry)
        self.seconds = Histogram(
            *of("unjucks_webhooks_request_duration_seconds"), registry=self.registry, buckets=SECONDS
        )
        self.approvals = Counter(*of("unjucks_webhooks_approvals_total"), registry=self.registry)
        self.not_after = Gauge(*of("unjucks_webhooks_certificate_not_after_seconds"), registry=self.registry)
        Gauge(*of("unjucks_build_info"), registry=self.registry).labels(version).set(1)
