"""Usage in status: what is added up, and which changes are worth a write."""

import random
from datetime import UTC, datetime
from typing import Any

import pytest

from support.builders import TENANT_UID, tenant_body
from support.clock import FakeClock
from unjucks_api import names
from unjucks_operator.engine.queue import WorkQueue
from unjucks_operator.engine.store import ObjectKey, ResourceStore
from unjucks_operator.kube.child import to_child
from unjucks_operator.kube.resources import RESOURCE_QUOTA
from unjucks_operator.kube.store import ChildStore
from unjucks_operator.tenant.usage import SIZES_EVERY, Usage, UsageBoard, sum_quotas, worth_telling

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


def test_figures_are_summed_over_namespaces() -> None:
    total = sum_quotas(
        [
            {"requests.cpu": "150m", "requests.memory": "256Mi", "pods": "2"},
            {"requests.cpu": "1", "requests.memory": "1Gi", "pods": "1", "secrets": "9"},
            {"requests.cpu": "0", "requests.memory": "0"},
            {"requests.cpu": "what"},
        ]
    )
    assert total == Usage(millicores=1150, mebibytes=1280, pods=3)


@pytest.mark.parametrize(
    ("told", "now", "worth"),
    [
        (Usage(), Usage(), False),
        (Usage(pods=1), Usage(pods=2), True),
        (Usage(millicores=1000), Usage(millicores=1250), False),
        (Usage(millicores=1000), Usage(millicores=1251), True),
        (Usage(millicores=100), Usage(millicores=200), False),
        (Usage(), Usage(millicores=50), True),
        (Usage(jobs_last_hour=42), Usage(jobs_last_hour=37), False),
        (Usage(jobs_last_hour=1), Usage(), True),
        (Usage(), Usage(database_bytes=10), True),
        (Usage(), Usage(database_bytes=0), False),
        (Usage(database_bytes=10**6), Usage(database_bytes=10**6 + 10**5), False),
        (Usage(database_bytes=10**6), Usage(database_bytes=2 * 10**6), True),
        (Usage(database_bytes=10), Usage(), False),
    ],
)
def test_small_changes_are_not_told(told: Usage, now: Usage, worth: bool) -> None:
    assert worth_telling(told, now) is worth


def test_what_was_told_is_read_back_as_it_was() -> None:
    usage = Usage(1150, 1280, 3, 42, 4096)
    assert Usage.told(usage.facts()) == usage
    assert usage.facts()["cpu"] == "1150m"
    assert Usage.told({}) == Usage()


def quota(version: int, cpu: str, pods: str) -> dict[str, Any]:
    labels = {names.LABEL_TENANT_UID: TENANT_UID}
    metadata = {
        "name": names.QUOTA,
        "namespace": "tenant-acme",
        "uid": "q",
        "resourceVersion": str(version),
        "labels": labels,
    }
    return {"metadata": metadata, "spec": {"hard": {}}, "status": {"used": {"requests.cpu": cpu, "pods": pods}}}


class Bench:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.tenants, self.jobs = ResourceStore(), 0
        self.quotas = ChildStore(lambda child: child.labels.get(names.LABEL_TENANT_UID), full=True)
        self.queue: WorkQueue[ObjectKey] = WorkQueue(clock=self.clock)
        self.board = UsageBoard(
            tenants=self.tenants,
            quotas=self.quotas,
            tenant_queue=self.queue,
            last_hour=lambda _uid: self.jobs,
            database_bytes=self.size,
            interval=60,
            clock=self.clock,
            rng=random.Random(1),
            now=lambda: NOW,
        )
        self.tenants.put(tenant_body())

    async def size(self, _uid: str) -> int | None:
        return 4096

    def use(self, version: int, cpu: str, pods: str) -> None:
        self.quotas.put(to_child(RESOURCE_QUOTA, quota(version, cpu, pods), full=True))


async def test_a_tenant_at_rest_is_not_woken_and_a_busy_one_is_once() -> None:
    bench = Bench()
    bench.use(1, "0", "0")
    rounds = [await bench.board.refresh() for _ in range(2 * SIZES_EVERY)]
    assert [names for names in rounds if names] == [["acme"]]  # the database's size became known
    bench.use(2, "400m", "2")
    assert await bench.board.refresh() == ["acme"]
    assert await bench.board.refresh() == []
    assert bench.queue.depth() == 1
    facts = bench.board.of(TENANT_UID, {})
    assert facts == {
        "cpu": "400m",
        "memory": "0Mi",
        "pods": 2,
        "jobsLastHour": 0,
        "databaseBytes": 4096,
        "refreshedAt": "2026-01-01T12:00:00Z",
    }


async def test_after_a_restart_the_status_stays_as_it_was_until_something_changed() -> None:
    bench = Bench()
    told = {
        "cpu": "400m",
        "memory": "0Mi",
        "pods": 2,
        "jobsLastHour": 3,
        "databaseBytes": 4096,
        "refreshedAt": "2025-12-31T00:00:00Z",
    }
    bench.tenants.put(tenant_body(resourceVersion="2") | {"status": {"usage": told}})
    bench.use(1, "400m", "2")
    bench.jobs = 3
    assert bench.board.of(TENANT_UID, {"usage": told}) == told
    assert [await bench.board.refresh() for _ in range(SIZES_EVERY)] == [[]] * SIZES_EVERY
