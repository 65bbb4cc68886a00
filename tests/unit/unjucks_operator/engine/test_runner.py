"""What the reconcile loop makes of each outcome, with real tasks on a clock that is moved by hand."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

import pytest

from support.clock import FakeClock, settle
from unjucks_operator.engine import logs
from unjucks_operator.engine.queue import Lane, Work, WorkQueue
from unjucks_operator.engine.runner import IMMEDIATE_CONFLICTS, OUTCOMES, Result, Runner
from unjucks_operator.errors import (
    Bug,
    Conflict,
    InvalidSpec,
    NotPermitted,
    OwnershipConflict,
    Retryable,
    Throttled,
    Unavailable,
    Waiting,
)


class Outcomes:
    """Keeps what the runner reports."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def finished(self, outcome: str, seconds: float) -> None:
        assert outcome in OUTCOMES
        assert seconds >= 0
        self.seen.append(outcome)


class Bench:
    """A queue, a runner and a reconcile function that each test scripts."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.queue: WorkQueue[str] = WorkQueue(clock=self.clock, rng=random.Random(1))
        self.outcomes = Outcomes()
        self.calls: list[str] = []
        self.script: Callable[[str], Awaitable[Result]] = self.succeed
        self.runner = self.make()

    def make(self, **options: object) -> Runner[str]:
        return Runner(
            "Thing",
            self.queue,
            self.reconcile,
            clock=self.clock,
            metrics=self.outcomes,
            rng=random.Random(2),
            **options,  # type: ignore[arg-type]
        )

    async def succeed(self, key: str) -> Result:
        return Result()

    async def reconcile(self, key: str) -> Result:
        self.calls.append(key)
        return await self.script(key)

    async def once(self, error: BaseException | None = None, *, requeue_after: float | None = None) -> str:
        """Take one key and run it."""

        async def script(key: str) -> Result:
            if error is not None:
                raise error
            return Result(requeue_after)

        self.script = script
        self.queue.add("k", Lane.SPEC)
        work = await self.queue.get()
        assert work is not None
        outcome = await self.runner.run(work)
        self.queue.done(work.key)
        return outcome


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_success_resets_the_backoff_and_looks_again_when_asked(bench: Bench) -> None:
    bench.queue.retry("k")
    await bench.clock.advance(1)
    assert await bench.once(requeue_after=30) == "success"
    assert bench.queue.failures("k") == 0
    assert bench.queue.delayed() == 1
    await bench.clock.advance(30)
    assert bench.queue.depth_of(Lane.RESYNC) == 1


async def test_success_without_a_wish_leaves_nothing_behind(bench: Bench) -> None:
    assert await bench.once() == "success"
    assert bench.queue.depth() == bench.queue.delayed() == 0


async def test_a_conflict_runs_again_at_once_but_not_forever(bench: Bench) -> None:
    for _ in range(IMMEDIATE_CONFLICTS):
        assert await bench.once(Conflict("object has changed")) == "conflict"
        assert bench.queue.depth() == 1
        assert bench.queue.failures("k") == 0
    await bench.once(Conflict("object has changed"))
    assert bench.queue.depth() == 0
    assert bench.queue.delayed() == 1
    assert bench.queue.failures("k") == 1


async def test_another_outcome_ends_the_row_of_conflicts(bench: Bench) -> None:
    for _ in range(IMMEDIATE_CONFLICTS):
        await bench.once(Conflict("changed"))
    await bench.once()
    await bench.once(Conflict("changed"))
    assert bench.queue.depth() == 1


@pytest.mark.parametrize("error", [Unavailable("down"), Throttled("slow down"), Retryable("later")])
async def test_what_heals_by_itself_backs_off(bench: Bench, error: Retryable) -> None:
    assert await bench.once(error) == "retry"
    assert bench.queue.failures("k") == 1
    assert bench.queue.delayed() == 1


async def test_retry_after_is_honoured(bench: Bench) -> None:
    await bench.once(Throttled("slow down", after=20))
    await bench.clock.advance(19.9)
    assert bench.queue.depth() == 0
    await bench.clock.advance(0.4)
    assert bench.queue.depth() == 1


async def test_waiting_is_no_failure_and_no_warning(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        assert await bench.once(Waiting("the database is being made", after=7)) == "waiting"
    assert bench.queue.failures("k") == 0
    assert max(record.levelno for record in caplog.records) == logging.DEBUG
    await bench.clock.advance(7)
    assert bench.queue.depth() == 1


@pytest.mark.parametrize("error", [InvalidSpec("no"), NotPermitted("no"), OwnershipConflict("no")])
async def test_terminal_waits_for_an_event(bench: Bench, error: Exception) -> None:
    assert await bench.once(error) == "terminal"
    await bench.clock.advance(10_000)
    assert bench.queue.depth() == bench.queue.delayed() == 0


@pytest.mark.parametrize("error", [ValueError("boom"), Bug("boom"), TimeoutError("from somewhere inside")])
async def test_anything_else_is_a_bug_with_its_traceback(
    bench: Bench, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    assert await bench.once(error) == "bug"
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info is not None
    assert record.exc_info[1] is error
    assert bench.queue.delayed() == 1


async def test_a_bugs_backoff_is_capped(bench: Bench) -> None:
    for _ in range(40):
        bench.queue.retry("k")
    await bench.clock.advance(1000)
    await bench.once(ValueError("boom"))
    await bench.clock.advance(60)
    assert bench.queue.depth() == 1


async def test_a_foreign_cancellation_inside_a_run_is_a_bug_not_the_end_of_the_worker(bench: Bench) -> None:
    assert await bench.once(asyncio.CancelledError()) == "bug"


async def test_a_run_that_takes_too_long_is_cancelled_and_tried_again(bench: Bench) -> None:
    bench.runner = bench.make(timeout=0.0)
    cancelled = []

    async def hang(key: str) -> Result:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(key)
            raise
        raise AssertionError("never")

    bench.script = hang
    bench.queue.add("k")
    work = await bench.queue.get()
    assert work is not None
    assert await bench.runner.run(work) == "timeout"
    assert cancelled == ["k"]
    assert bench.queue.failures("k") == 1


async def test_workers_share_the_queue_and_never_run_a_key_twice_at_once(bench: Bench) -> None:
    running: set[str] = set()
    most = 0
    gate = asyncio.Event()

    async def script(key: str) -> Result:
        nonlocal most
        assert key not in running
        running.add(key)
        most = max(most, len(running))
        await gate.wait()
        running.discard(key)
        return Result()

    bench.script = script
    bench.runner = bench.make(workers=3)
    await bench.runner.start()
    for _ in range(2):
        for key in ("a", "b", "c", "d"):
            bench.queue.add(key)
        await settle()
    assert most == 3
    gate.set()
    await bench.queue.idle()
    assert sorted(bench.calls) == ["a", "a", "b", "b", "c", "c", "d"]  # d had not begun when it was added again
    await bench.runner.stop()


async def test_stop_drains_then_cancels(bench: Bench) -> None:
    ended: list[str] = []
    gate = asyncio.Event()

    async def script(key: str) -> Result:
        try:
            await (gate.wait() if key == "quick" else asyncio.Event().wait())
            ended.append(f"{key} done")
        except asyncio.CancelledError:
            ended.append(f"{key} cancelled")
            raise
        return Result()

    bench.script = script
    bench.runner = bench.make(workers=2)
    await bench.runner.start()
    for key in ("quick", "slow", "never begun"):
        bench.queue.add(key)
    await settle()
    gate.set()
    await bench.runner.stop(drain=0.05)
    assert ended == ["quick done", "slow cancelled"]
    assert bench.calls == ["quick", "slow"]
    assert bench.outcomes.seen == ["success", "cancelled"]


async def test_starting_twice_is_refused(bench: Bench) -> None:
    await bench.runner.start()
    with pytest.raises(RuntimeError, match="started twice"):
        await bench.runner.start()
    await bench.runner.stop()


async def test_records_inside_a_run_carry_kind_key_and_an_identifier(bench: Bench) -> None:
    seen: list[dict[str, str]] = []

    async def script(key: str) -> Result:
        seen.append(dict(logs.bound_fields()))
        return Result()

    bench.script = script
    bench.runner = bench.make(describe=lambda key: {"name": key})
    for _ in range(2):
        await bench.runner.run(Work("acme", Lane.SPEC, 0.0))
    assert [fields["kind"] for fields in seen] == ["Thing", "Thing"]
    assert [fields["name"] for fields in seen] == ["acme", "acme"]
    assert seen[0]["reconcile_id"] != seen[1]["reconcile_id"]
    assert logs.bound_fields() == {}
