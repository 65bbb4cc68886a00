"""The work queue against a model: hypothesis tries sequences of adds, runs, failures and waits, and looks for a lost key.

The model is the promise itself: each add gives its key a debt that only a run which starts afterwards pays.
"""

import asyncio
import random
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from support.clock import FakeClock
from unjucks_operator.engine.queue import Lane, Work, WorkQueue

GROUPS = 3
KEYS = st.tuples(st.integers(0, GROUPS - 1), st.integers(0, 3))
LANES = st.sampled_from(list(Lane))
PATIENCE = 3
Key = tuple[int, int]


class QueueMachine(RuleBasedStateMachine):
    """``running`` and ``debts`` are what must hold; ``passed`` counts turns that a waiting key had to let others go first."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = FakeClock()
        self.limits: dict[int, int | None] = {0: None, 1: 1, 2: 2}
        self.queue: WorkQueue[Key] = WorkQueue(
            group_of=lambda key: key[0],
            limit_of=lambda group: self.limits[int(str(group))],
            patience=PATIENCE,
            clock=self.clock,
            rng=random.Random(0),
        )
        self.running: set[Key] = set()
        self.debts: set[Key] = set()
        """Keys that must be taken again before everything may be quiet."""
        self.due: dict[Key, float] = {}
        """Delayed adds: when at the latest each key must be ready."""
        self.passed: dict[Key, int] = {}
        self.lanes: dict[Key, Lane] = {}

    def take(self) -> Work[Key] | None:
        """``get`` without waiting: None when there is nothing that may run now."""

        async def once() -> Work[Key] | None:
            getter = asyncio.ensure_future(self.queue.get())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            if getter.done():
                return getter.result()
            getter.cancel()
            await asyncio.gather(getter, return_exceptions=True)
            return None

        return self.loop.run_until_complete(once())

    def owe(self, key: Key, lane: Lane) -> None:
        self.debts.add(key)
        if key not in self.running:
            self.lanes[key] = min(lane, self.lanes.get(key, lane))
            self.passed.setdefault(key, 0)

    @rule(key=KEYS, lane=LANES)
    def add(self, key: Key, lane: Lane) -> None:
        self.queue.add(key, lane)
        self.owe(key, lane)

    @rule(key=KEYS, delay=st.floats(0.1, 20), lane=LANES)
    def add_after(self, key: Key, delay: float, lane: Lane) -> None:
        self.queue.add_after(key, delay, lane)
        due = self.clock.monotonic() + delay
        self.due[key] = min(due, self.due.get(key, due))

    @rule(seconds=st.floats(0, 15))
    def wait(self, seconds: float) -> None:
        self.clock.tick(seconds)
        for key, due in list(self.due.items()):
            if due <= self.clock.monotonic():
                del self.due[key]
                self.owe(key, Lane.RESYNC)

    @rule()
    def start(self) -> None:
        work = self.take()
        if work is None:
            self.nothing_may_run()
            return
        key = work.key
        assert key not in self.running, "the same key runs twice at once"
        assert key in self.debts, "a key runs that nobody asked for"
        limit = self.limits[key[0]]
        assert limit is None or sum(other[0] == key[0] for other in self.running) < limit
        self.running.add(key)
        self.debts.discard(key)
        self.lanes.pop(key, None)
        self.passed.pop(key, None)
        for other in self.passed:
            self.passed[other] += 1

    @precondition(lambda self: self.running)
    @rule(data=st.data(), outcome=st.sampled_from(["ok", "retry", "again"]))
    def finish(self, data: Any, outcome: str) -> None:
        key = data.draw(st.sampled_from(sorted(self.running)))
        if outcome == "ok":
            self.queue.forget(key)
        elif outcome == "again":
            self.queue.add(key, Lane.RESYNC)
            self.debts.add(key)
        else:
            due = self.clock.monotonic() + self.queue.retry(key, Lane.SPEC)
            self.due[key] = min(due, self.due.get(key, due))
        self.queue.done(key)
        self.running.discard(key)
        if key in self.debts:
            self.passed[key] = 0

    def nothing_may_run(self) -> None:
        """A worker found nothing: every key that is owed a run is running, or its group is at its limit."""
        for key in self.debts - self.running:
            limit = self.limits[key[0]]
            assert limit is not None, f"{key} is owed a run and nothing holds it back"
            assert sum(other[0] == key[0] for other in self.running) >= limit, f"{key} was forgotten"

    @invariant()
    def counts_agree(self) -> None:
        assert self.queue.running() == len(self.running)
        assert self.queue.depth() == len(self.debts - self.running)
        assert self.queue.delayed() == len(self.due)
        assert sum(self.queue.depth_of(lane) for lane in Lane) == self.queue.depth()

    @invariant()
    def nobody_starves(self) -> None:
        """A bound that holds whatever comes in: lanes pass a key over ``PATIENCE`` times for each of its turns in the lane.

        Keys of groups that are at their limit do not wait for a turn but for their own group.
        """
        most = (PATIENCE + 2) * len(Lane) * GROUPS * 4
        for key, passed in self.passed.items():
            if self.limits[key[0]] is None:
                assert passed <= most, f"{key} was passed over {passed} times"

    def teardown(self) -> None:
        """Let everything run out: each debt is paid, and then there is silence."""
        for key in list(self.running):
            self.queue.done(key)
            self.running.discard(key)
        self.clock.tick(400)
        self.debts |= set(self.due)
        while (work := self.take()) is not None:
            assert work.key in self.debts
            self.debts.discard(work.key)
            self.queue.done(work.key)
        assert self.debts == set(), "these adds were lost"
        assert self.clock.pending() == 0
        self.loop.close()


TestQueueModel = QueueMachine.TestCase
TestQueueModel.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)


async def test_a_group_waits_for_at_most_one_key_of_each_other_group() -> None:
    """The fairness bound of one lane, for a group that comes last to many busy ones."""
    queue: WorkQueue[tuple[str, int]] = WorkQueue(group_of=lambda key: key[0])
    rng = random.Random(5)
    busy = [f"busy-{number}" for number in range(20)]
    for _ in range(50):
        queue.add((rng.choice(busy), rng.randrange(1000)))
    groups_before = {group for group in busy if any(queue._rings[Lane.SPEC].turns.get(group, ()))}
    queue.add(("late", 0))
    taken = []
    while True:
        for group in busy:  # they never stop
            queue.add((group, rng.randrange(1000)))
        work = await queue.get()
        assert work is not None
        queue.done(work.key)
        if work.key[0] == "late":
            break
        taken.append(work.key[0])
    assert len(taken) == len(set(taken)), "a group had a second turn first"
    assert set(taken) <= groups_before
