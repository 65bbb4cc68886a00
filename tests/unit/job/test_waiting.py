"""Jobs that the queue holds back are told so: once, after a moment, and only those that want to run."""

from typing import Any

import pytest

from support.builders import job
from support.clock import FakeClock
from unjucks_operator.engine.queue import WorkQueue
from unjucks_operator.engine.store import ObjectKey, ResourceStore
from unjucks_operator.job.waiting import PLATFORM_FULL, TENANT_FULL, WaitingTeller


class Writer:
    """Takes what would be written; the real one is tested with a real API server."""

    def __init__(self) -> None:
        self.written: list[tuple[str, str, str]] = []

    async def write(self, _resource: object, _store: object, body: Any, status: Any, *, action: str) -> Any:
        assert action == "RunJob"
        ready = next(item for item in status["conditions"] if item["type"] == "Ready")
        self.written.append((body["metadata"]["name"], ready["reason"], ready["message"]))
        return body


class Bench:
    def __init__(self, limit: int | None = 1) -> None:
        self.clock = FakeClock()
        self.queue: WorkQueue[ObjectKey] = WorkQueue(
            group_of=lambda key: key[0], limit_of=lambda _group: limit, clock=self.clock
        )
        self.store, self.writer = ResourceStore(), Writer()
        self.teller = WaitingTeller(
            queue=self.queue,
            store=self.store,
            status=self.writer,  # type: ignore[arg-type]
            clock=self.clock,
            now=self.clock.wall,
        )

    def add(self, name: str, status: dict[str, Any] | None = None, **spec: Any) -> None:
        made = job(spec=spec, name=name)
        body = {"apiVersion": "unjucks.io/v1alpha1", "kind": "GenerationJob", "spec": made.spec.wire()}
        body |= {"status": status or {}}
        self.store.put(
            body | {"metadata": made.metadata.wire() | {"name": name, "resourceVersion": str(len(self.store) + 1)}}
        )
        self.queue.add(("tenant-acme", name))


@pytest.mark.parametrize(("limit", "text"), [(1, TENANT_FULL), (None, PLATFORM_FULL)])
async def test_a_job_that_waits_is_told_once_why(limit: int | None, text: str) -> None:
    bench = Bench(limit)
    for name in ("first", "second"):
        bench.add(name)
    assert await bench.queue.get() is not None
    if limit:
        assert not [key for key, _, full in bench.queue.waiting() if full]
        bench.queue._choose_lane()  # a worker looks for more to do
    assert await bench.teller.look() == 0  # not yet
    bench.clock.tick(3)
    assert await bench.teller.look() == 1
    assert bench.writer.written == [("second", "Queued", text)]
    assert await bench.teller.look() == 0


async def test_one_that_does_not_want_to_run_is_left_alone() -> None:
    bench = Bench()
    bench.add("off", suspend=True)
    bench.add("gone")
    bench.store.remove_key(("tenant-acme", "gone"), 99)
    bench.clock.tick(3)
    assert await bench.teller.look() == 0
    assert bench.writer.written == []


async def test_a_job_whose_last_try_broke_off_says_so_until_it_ended() -> None:
    bench = Bench()
    ready = {"type": "Ready", "status": "False", "reason": "InternalError", "message": "x", "observedGeneration": 1}
    bench.add("faulty", {"observedGeneration": 1, "conditions": [ready]})
    bench.clock.tick(3)
    assert await bench.teller.look() == 0
    assert bench.writer.written == []
