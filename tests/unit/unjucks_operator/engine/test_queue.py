"""The work queue's promises, one claim per test, on a clock that is moved by hand."""

import asyncio
import random

import pytest

from support.clock import FakeClock, settle
from unjucks_operator.engine.queue import Backoff, Lane, WorkQueue


class Counts:
    """Keeps what the queue reports."""

    def __init__(self) -> None:
        self.adds = 0
        self.retries = 0
        self.waits: list[float] = []
        self.works: list[float] = []

    def added(self) -> None:
        self.adds += 1

    def retried(self) -> None:
        self.retries += 1

    def waited(self, seconds: float) -> None:
        self.waits.append(seconds)

    def worked(self, seconds: float) -> None:
        self.works.append(seconds)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def queue(clock: FakeClock) -> WorkQueue[str]:
    """Keys look like "tenant/name"; the tenant is the group."""
    return WorkQueue(group_of=lambda key: key.split("/")[0], clock=clock, rng=random.Random(1))


async def take(queue: WorkQueue[str]) -> str:
    work = await asyncio.wait_for(queue.get(), 1)
    assert work is not None
    return work.key


async def test_adds_before_a_run_are_one_run(queue: WorkQueue[str]) -> None:
    for _ in range(5):
        queue.add("a/1")
    assert queue.depth() == 1
    assert await take(queue) == "a/1"
    queue.done("a/1")
    assert queue.depth() == 0


async def test_an_add_during_a_run_causes_exactly_one_more(queue: WorkQueue[str]) -> None:
    queue.add("a/1")
    await take(queue)
    queue.add("a/1")
    queue.add("a/1")
    assert queue.depth() == 0, "it must not be ready while it runs"
    queue.done("a/1")
    assert queue.depth() == 1
    await take(queue)
    queue.done("a/1")
    assert queue.depth() == 0


async def test_lanes_go_in_order_and_an_add_promotes(queue: WorkQueue[str]) -> None:
    queue.add("a/resync", Lane.RESYNC)
    queue.add("a/spec", Lane.SPEC)
    queue.add("a/late", Lane.RESYNC)
    queue.add("a/gone", Lane.DELETION)
    queue.add("a/late", Lane.DELETION)
    queue.add("a/gone", Lane.RESYNC)  # never demotes
    assert [await take(queue) for _ in range(4)] == ["a/gone", "a/late", "a/spec", "a/resync"]


async def test_the_rerun_keeps_the_most_urgent_lane(queue: WorkQueue[str]) -> None:
    queue.add("a/1")
    await take(queue)
    queue.add("a/1", Lane.DELETION)
    queue.add("a/1", Lane.RESYNC)
    queue.done("a/1")
    assert queue.depth_of(Lane.DELETION) == 1


async def test_groups_take_turns(queue: WorkQueue[str]) -> None:
    for number in range(4):
        queue.add(f"noisy/{number}")
    queue.add("quiet/1")
    queue.add("other/1")
    assert [await take(queue) for _ in range(6)] == ["noisy/0", "quiet/1", "other/1", "noisy/1", "noisy/2", "noisy/3"]


async def test_a_flood_of_deletions_does_not_stop_the_lower_lanes(clock: FakeClock) -> None:
    queue: WorkQueue[str] = WorkQueue(patience=4, clock=clock)
    queue.add("spec", Lane.SPEC)
    queue.add("resync", Lane.RESYNC)
    for number in range(40):
        queue.add(f"delete-{number}", Lane.DELETION)
    order = [await take(queue) for _ in range(42)]
    assert order.index("resync") <= 5
    assert order.index("spec") <= 6
    assert order[0] == "delete-0"


async def test_a_groups_limit_parks_it_and_lets_others_pass(clock: FakeClock) -> None:
    queue: WorkQueue[str] = WorkQueue(
        group_of=lambda key: key[0], limit_of=lambda group: 1 if group == "a" else None, clock=clock
    )
    for key in ("a1", "a2", "b1", "b2"):
        queue.add(key)
    assert [await take(queue) for _ in range(3)] == ["a1", "b1", "b2"]
    waiting = asyncio.create_task(take(queue))
    await settle()
    assert not waiting.done()
    queue.done("a1")
    assert await waiting == "a2"


async def test_a_promotion_reaches_a_parked_key(clock: FakeClock) -> None:
    queue: WorkQueue[str] = WorkQueue(group_of=lambda key: key[0], limit_of=lambda _: 1, clock=clock)
    queue.add("a1")
    await take(queue)
    queue.add("a2")
    queue.add("a3")
    queue.add("b1")
    await take(queue)  # parks a's group on the way
    queue.add("a3", Lane.DELETION)
    queue.done("a1")
    assert await take(queue) == "a3"
    queue.done("a3")
    assert await take(queue) == "a2"


async def test_a_limit_below_one_counts_as_one(clock: FakeClock) -> None:
    queue: WorkQueue[str] = WorkQueue(limit_of=lambda _: 0, clock=clock)
    queue.add("k")
    assert await take(queue) == "k"


async def test_of_two_delayed_adds_the_earlier_wins(queue: WorkQueue[str], clock: FakeClock) -> None:
    queue.add_after("a/1", 10)
    queue.add_after("a/1", 3)
    queue.add_after("a/1", 7)
    assert queue.delayed() == 1
    await clock.advance(2.9)
    assert queue.depth() == 0
    await clock.advance(0.1)
    assert await take(queue) == "a/1"
    queue.done("a/1")
    await clock.advance(100)
    assert queue.depth() == 0, "the later times were coalesced away"


async def test_a_later_delayed_add_can_still_raise_the_lane(queue: WorkQueue[str], clock: FakeClock) -> None:
    queue.add_after("a/1", 1, Lane.RESYNC)
    queue.add_after("a/1", 5, Lane.DELETION)
    await clock.advance(1)
    assert queue.depth_of(Lane.DELETION) == 1


async def test_a_delayed_add_that_falls_into_a_run_causes_another(queue: WorkQueue[str], clock: FakeClock) -> None:
    queue.add("a/1")
    await take(queue)
    queue.add_after("a/1", 1)
    await clock.advance(2)
    assert queue.depth() == 0
    queue.done("a/1")
    assert queue.depth() == 1


async def test_a_delayed_add_does_not_hide_one_for_now(queue: WorkQueue[str], clock: FakeClock) -> None:
    queue.add_after("a/1", 60)
    queue.add("a/1")
    assert await take(queue) == "a/1"
    queue.done("a/1")
    await clock.advance(60)
    assert queue.depth() == 1, "what was asked for later still comes"


async def test_the_heap_does_not_grow_with_replaced_entries(queue: WorkQueue[str]) -> None:
    for number in range(10_000):
        queue.add_after("a/1", 100_000 - number)
    assert queue.delayed() == 1
    assert len(queue._heap) <= 65


@pytest.mark.parametrize("failures", [1, 2, 5, 11, 12, 500])
def test_backoff_is_full_jitter_between_zero_and_the_doubling_ceiling(failures: int) -> None:
    backoff = Backoff(base=0.2, cap=300)
    rng = random.Random(7)
    ceiling = min(300.0, 0.2 * 2.0 ** min(failures - 1, 40))
    delays = [backoff.delay(failures, rng) for _ in range(2000)]
    assert 0 <= min(delays) < ceiling * 0.02
    assert ceiling * 0.98 < max(delays) <= ceiling
    assert ceiling * 0.46 < sum(delays) / len(delays) < ceiling * 0.54


async def test_failures_count_up_and_are_forgotten(queue: WorkQueue[str], clock: FakeClock) -> None:
    for expected in (1, 2, 3):
        queue.retry("a/1")
        assert queue.failures("a/1") == expected
        await clock.advance(300)
        await take(queue)
        queue.done("a/1")
    queue.forget("a/1")
    assert queue.failures("a/1") == 0


async def test_retry_waits_at_least_what_the_other_side_said(queue: WorkQueue[str]) -> None:
    assert 30 <= queue.retry("a/1", at_least=30) <= 30.2


async def test_retry_obeys_its_cap(clock: FakeClock) -> None:
    queue: WorkQueue[str] = WorkQueue(clock=clock, rng=random.Random(3))
    delays = [queue.retry("k", cap=5) for _ in range(50)]
    assert max(delays) == 5


async def test_each_waiting_worker_gets_a_key(queue: WorkQueue[str]) -> None:
    workers = [asyncio.create_task(take(queue)) for _ in range(3)]
    await settle()
    for number in range(3):
        queue.add(f"a/{number}")
    assert sorted(await asyncio.gather(*workers)) == ["a/0", "a/1", "a/2"]


async def test_a_cancelled_worker_passes_its_wake_up_on(queue: WorkQueue[str]) -> None:
    first, second = asyncio.create_task(queue.get()), asyncio.create_task(take(queue))
    await settle()
    queue.add("a/1")  # wakes the first …
    first.cancel()  # … which is cancelled before it can run
    assert await second == "a/1"
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_shutdown_ends_every_get_and_ignores_adds(queue: WorkQueue[str], clock: FakeClock) -> None:
    waiting = [asyncio.create_task(queue.get()) for _ in range(2)]
    queue.add_after("a/2", 5)
    await settle()
    queue.shutdown()
    assert await asyncio.gather(*waiting) == [None, None]
    queue.add("a/1")
    queue.add_after("a/1", 1)
    assert await queue.get() is None
    assert queue.depth() == queue.delayed() == clock.pending() == 0


async def test_idle_waits_for_ready_and_running(queue: WorkQueue[str]) -> None:
    queue.add("a/1")
    idle = asyncio.create_task(queue.idle())
    await settle()
    assert not idle.done()
    await take(queue)
    queue.add("a/1")
    queue.done("a/1")
    await settle()
    assert not idle.done(), "one more run is due"
    await take(queue)
    queue.done("a/1")
    await idle


async def test_done_for_a_key_that_does_not_run_is_an_error(queue: WorkQueue[str]) -> None:
    with pytest.raises(KeyError):
        queue.done("a/1")


async def test_metrics_are_reported(clock: FakeClock) -> None:
    counts = Counts()
    queue: WorkQueue[str] = WorkQueue(clock=clock, metrics=counts)
    queue.add("k")
    queue.add("k")
    await clock.advance(2)
    await take(queue)
    await clock.advance(3)
    assert list(queue.running_seconds()) == [3]
    queue.retry("k")
    queue.done("k")
    assert (counts.adds, counts.retries, counts.waits, counts.works) == (1, 1, [2], [3])
