"""The work queue: which key is worked on next. Knows nothing of what a key means.

    add ──► ready (three lanes, round-robin between groups) ──► running ──► done
              ▲             │ add while running: dirty, one more run after done
    add_after / retry: delayed (heap) until due

Promises, each with a test:
- a key never runs twice at once; any number of adds before a run cause one run; an add during a run causes one more run;
- nothing is lost: after an add there is a later run that starts after it, unless the queue is shut down;
- lanes: deletion before spec before resync. An add to a higher lane promotes a waiting key. A lower lane is passed over
  ``patience`` times at most, so a flood in a high lane slows the low ones but cannot stop them;
- inside a lane the groups take turns: a group waits for at most one key of each group that was there before it;
- every operation is O(1), delayed ones O(log n), in the number of keys.

Must not: await anything but its own waiting, log, or know of objects, errors and clients. Called by the runner (``get``, ``done``,
``retry``, ``forget``) and by every source of events (``add``, ``add_after``). One event loop, no threads.
"""

import asyncio
import heapq
import random
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Generic, Protocol, TypeVar

from unjucks_operator.engine.clock import Clock, SystemClock, Timer

K = TypeVar("K", bound=Hashable)


class Lane(IntEnum):
    """How urgent a run is; the smaller number goes first."""

    DELETION = 0
    SPEC = 1
    RESYNC = 2


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays after failures: ``random(0, min(cap, base * 2^(failures-1)))`` seconds, so that failing keys do not march in step."""

    base: float = 0.2
    cap: float = 300.0

    def delay(self, failures: int, rng: random.Random) -> float:
        """Seconds to wait after the given number of failures in a row (1 is the first)."""
        exponent = min(failures - 1, 60)  # beyond this the cap decides anyway, and floats stay finite
        return rng.uniform(0.0, min(self.cap, self.base * 2.0**exponent))


class QueueMetrics(Protocol):
    """What the queue reports; implemented by ``metrics``."""

    def added(self) -> None:
        """A key was put among the ready ones (coalesced adds are not counted)."""

    def retried(self) -> None:
        """A failed key was given a backoff."""

    def waited(self, seconds: float) -> None:
        """A key was taken after this long among the ready ones."""

    def worked(self, seconds: float) -> None:
        """A run took this long."""


class NoMetrics:
    """Reports nothing."""

    def added(self) -> None:
        """See ``QueueMetrics``."""

    def retried(self) -> None:
        """See ``QueueMetrics``."""

    def waited(self, seconds: float) -> None:
        """See ``QueueMetrics``."""

    def worked(self, seconds: float) -> None:
        """See ``QueueMetrics``."""


@dataclass(frozen=True, slots=True)
class Work(Generic[K]):
    """A key that was taken to be worked on, the lane it came from and how many seconds it was ready before."""

    key: K
    lane: Lane
    waited: float


@dataclass(slots=True)
class _Ready:
    """A waiting key: its lane, its group at the time of the add, and since when it is ready."""

    lane: Lane
    group: Hashable
    since: float


@dataclass(slots=True)
class _Running:
    """A key that is being worked on; ``dirty`` is the lane of the most urgent add since the run began."""

    group: Hashable
    since: float
    dirty: Lane | None = None


class _Ring(Generic[K]):
    """The keys of one lane: groups in the order of their turns, keys of a group in order of arrival."""

    __slots__ = ("parked", "passed_over", "turns")

    def __init__(self) -> None:
        self.turns: OrderedDict[Hashable, OrderedDict[K, None]] = OrderedDict()
        self.parked: dict[Hashable, OrderedDict[K, None]] = {}
        """Groups at their concurrency limit: no turn until one of their runs ends."""
        self.passed_over = 0

    def put(self, key: K, group: Hashable) -> None:
        keys = self.turns.get(group) or self.parked.get(group)
        if keys is None:
            keys = self.turns[group] = OrderedDict()
        keys[key] = None

    def remove(self, key: K, group: Hashable) -> None:
        home = self.turns if group in self.turns else self.parked
        keys = home[group]
        del keys[key]
        if not keys:
            del home[group]

    def unpark(self, group: Hashable) -> None:
        if (keys := self.parked.pop(group, None)) is not None:
            self.turns[group] = keys

    def pop(self) -> K:
        """The first key of the group whose turn it is; the group goes to the end of the line."""
        group, keys = self.turns.popitem(last=False)
        key, _ = keys.popitem(last=False)
        if keys:
            self.turns[group] = keys
        return key


class WorkQueue(Generic[K]):
    """See the module's text.

    ``group_of`` gives the fairness group of a key (asked at each add). ``limit_of`` gives how many keys of a group may run at once,
    None for no limit; numbers below 1 count as 1, because a group that may never run would be lost work.
    """

    def __init__(
        self,
        *,
        group_of: Callable[[K], Hashable] = lambda _key: None,
        limit_of: Callable[[Hashable], int | None] = lambda _group: None,
        backoff: Backoff | None = None,
        patience: int = 16,
        clock: Clock | None = None,
        rng: random.Random | None = None,
        metrics: QueueMetrics | None = None,
    ) -> None:
        self._group_of = group_of
        self._limit_of = limit_of
        self._backoff = backoff or Backoff()
        self._patience = patience
        self._clock = clock or SystemClock()
        self._rng = rng or random.Random()  # noqa: S311  jitter, not a secret
        self._metrics = metrics or NoMetrics()
        self._rings: dict[Lane, _Ring[K]] = {lane: _Ring() for lane in Lane}
        self._ready: dict[K, _Ready] = {}
        self._running: dict[K, _Running] = {}
        self._group_running: dict[Hashable, int] = {}
        self._delayed: dict[K, tuple[float, Lane]] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._sequence = 0  # ties in the heap; keys need not be comparable
        self._timer: Timer | None = None
        self._timer_due = 0.0
        self._failures: dict[K, int] = {}
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._idlers: list[asyncio.Future[None]] = []
        self._closed = False

    # --- intake ---------------------------------------------------------------------------------------------------------

    def add(self, key: K, lane: Lane = Lane.SPEC) -> None:
        """The key needs a run that starts after this call. Ignored after ``shutdown``."""
        if self._closed:
            return
        if (running := self._running.get(key)) is not None:
            running.dirty = lane if running.dirty is None else min(running.dirty, lane)
            return
        if (ready := self._ready.get(key)) is not None:
            if lane < ready.lane:
                self._rings[ready.lane].remove(key, ready.group)
                ready.lane = lane
                self._rings[lane].put(key, ready.group)
            return
        group = self._group_of(key)
        self._ready[key] = _Ready(lane, group, self._clock.monotonic())
        self._rings[lane].put(key, group)
        self._metrics.added()
        self._wake_one()

    def add_after(self, key: K, delay: float, lane: Lane = Lane.RESYNC) -> None:
        """``add`` in ``delay`` seconds. Of two delayed adds of a key the earlier time and the higher lane win."""
        if self._closed:
            return
        if delay <= 0:
            self.add(key, lane)
            return
        due = self._clock.monotonic() + delay
        if (known := self._delayed.get(key)) is not None:
            lane = min(lane, known[1])
            if known[0] <= due:
                self._delayed[key] = (known[0], lane)
                return
        self._delayed[key] = (due, lane)
        self._sequence += 1
        heapq.heappush(self._heap, (due, self._sequence, key))
        if len(self._heap) > 64 and len(self._heap) > 4 * len(self._delayed):
            self._compact()
        self._arm()

    def retry(self, key: K, lane: Lane = Lane.SPEC, *, at_least: float = 0.0, cap: float | None = None) -> float:
        """One more failure: add again after the backoff, counted from ``at_least`` seconds on. Returns the delay in seconds."""
        failures = self._failures.get(key, 0) + 1
        self._failures[key] = failures
        delay = max(at_least, 0.0) + self._backoff.delay(failures, self._rng)
        if cap is not None:
            delay = min(delay, max(cap, at_least))
        self._metrics.retried()
        self.add_after(key, delay, lane)
        return delay

    def forget(self, key: K) -> None:
        """The key succeeded (or is gone): its next failure counts as the first."""
        self._failures.pop(key, None)

    def failures(self, key: K) -> int:
        """How often the key failed in a row."""
        return self._failures.get(key, 0)

    # --- work -----------------------------------------------------------------------------------------------------------

    async def get(self) -> Work[K] | None:
        """The next key, now running; None when the queue is shut down. Each key taken needs one ``done``."""
        while True:
            if self._closed:
                return None
            if (work := self._take()) is not None:
                return work
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self._wake_one()  # the call that woke us must not be lost
                raise
            finally:
                if not waiter.done() or waiter.cancelled():
                    self._discard_waiter(waiter)

    def done(self, key: K) -> None:
        """The run ended. Raises KeyError for a key that does not run: that is a bug of the caller."""
        running = self._running.pop(key)
        self._metrics.worked(self._clock.monotonic() - running.since)
        left = self._group_running[running.group] - 1
        if left:
            self._group_running[running.group] = left
        else:
            del self._group_running[running.group]
        for ring in self._rings.values():
            if running.group in ring.parked:
                ring.unpark(running.group)
                self._wake_one()
        if running.dirty is not None:
            self.add(key, running.dirty)
        self._tell_idlers()

    def shutdown(self) -> None:
        """Stop: every ``get`` returns None, adds are ignored, keys that run may still be reported as done."""
        self._closed = True
        self._delayed.clear()
        self._heap.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiters:
            self._wake_one()
        self._tell_idlers()

    # --- what others may see ----------------------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """True after ``shutdown``."""
        return self._closed

    def depth(self) -> int:
        """Keys that are ready and wait for a worker."""
        return len(self._ready)

    def depth_of(self, lane: Lane) -> int:
        """Keys that are ready in one lane. O(groups); for metrics."""
        ring = self._rings[lane]
        return sum(len(keys) for home in (ring.turns, ring.parked) for keys in home.values())

    def waiting(self) -> Iterator[tuple[K, float, bool]]:
        """The keys that are ready and wait, for how many seconds, and whether only because their group is at its limit."""
        now = self._clock.monotonic()
        for ring in self._rings.values():
            for home in (ring.turns, ring.parked):
                for keys in home.values():
                    for key in keys:
                        yield key, now - self._ready[key].since, home is ring.parked

    def delayed(self) -> int:
        """Keys that wait for their time."""
        return len(self._delayed)

    def running(self) -> int:
        """Keys that are being worked on."""
        return len(self._running)

    def running_seconds(self) -> Iterator[float]:
        """For each run under way: how long already."""
        now = self._clock.monotonic()
        return (now - run.since for run in self._running.values())

    async def idle(self) -> None:
        """Return when nothing is ready and nothing runs (delayed keys do not count), or at shutdown with nothing running."""
        while self._running or (self._ready and not self._closed):
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._idlers.append(waiter)
            await waiter

    # --- inside -----------------------------------------------------------------------------------------------------------

    def _take(self) -> Work[K] | None:
        lane = self._choose_lane()
        if lane is None:
            return None
        for other, ring in self._rings.items():
            if other == lane:
                ring.passed_over = 0
            elif other > lane:
                ring.passed_over = ring.passed_over + 1 if ring.turns else 0
        key = self._rings[lane].pop()
        ready = self._ready.pop(key)
        now = self._clock.monotonic()
        self._running[key] = _Running(ready.group, now)
        self._group_running[ready.group] = self._group_running.get(ready.group, 0) + 1
        self._metrics.waited(now - ready.since)
        return Work(key, lane, now - ready.since)

    def _choose_lane(self) -> Lane | None:
        """The lane whose turn it is; groups that are at their limit are parked on the way."""
        best: Lane | None = None
        for lane, ring in self._rings.items():
            while ring.turns:
                group = next(iter(ring.turns))
                limit = self._limit_of(group)
                if limit is None or self._group_running.get(group, 0) < max(limit, 1):
                    break
                ring.parked[group] = ring.turns.pop(group)
            if not ring.turns:
                continue
            if best is None or ring.passed_over >= self._patience:
                best = lane
        return best

    def _arm(self) -> None:
        """Have a timer that is due with the first of the delayed keys."""
        while self._heap and self._stale(self._heap[0]):
            heapq.heappop(self._heap)
        if not self._heap:
            return
        due = self._heap[0][0]
        if self._timer is not None:
            if self._timer_due <= due:
                return
            self._timer.cancel()
        self._timer_due = due
        self._timer = self._clock.call_later(max(0.0, due - self._clock.monotonic()), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        now = self._clock.monotonic()
        while self._heap and (self._heap[0][0] <= now or self._stale(self._heap[0])):
            entry = heapq.heappop(self._heap)
            if not self._stale(entry):
                _, lane = self._delayed.pop(entry[2])
                self.add(entry[2], lane)
        self._arm()

    def _stale(self, entry: tuple[float, int, K]) -> bool:
        """An entry of the heap that an earlier one of the same key has replaced."""
        known = self._delayed.get(entry[2])
        return known is None or known[0] != entry[0]

    def _compact(self) -> None:
        self._heap = [entry for entry in self._heap if not self._stale(entry)]
        heapq.heapify(self._heap)

    def _wake_one(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _discard_waiter(self, waiter: asyncio.Future[None]) -> None:
        try:
            self._waiters.remove(waiter)
        except ValueError:
            pass  # woken already

    def _tell_idlers(self) -> None:
        if self._running or (self._ready and not self._closed):
            return
        idlers, self._idlers = self._idlers, []
        for waiter in idlers:
            if not waiter.done():
                waiter.set_result(None)
