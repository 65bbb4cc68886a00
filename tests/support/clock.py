"""A clock that tests move by hand; implements ``unjucks_operator.engine.clock.Clock``.

``await clock.advance(10)`` fires what is due in those ten seconds in the right order and lets the event loop come to rest after
each. No real time passes, so nothing in these tests depends on the speed of the machine.
"""

import asyncio
import heapq
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

_SETTLE_ROUNDS = 25  # awaits in a row that a woken task may need before it waits for the clock again


class FakeTimer:
    """See ``Clock.call_later``."""

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        """Forget the callback."""
        self.cancelled = True


class FakeClock:
    """Starts at 0 s monotonic and at a fixed time of day; ``skew`` sets the time of day off (for a machine that is wrong)."""

    def __init__(self, *, skew: float = 0.0) -> None:
        self._now = 0.0
        self._wall = datetime(2030, 1, 1, tzinfo=UTC) + timedelta(seconds=skew)
        self._timers: list[tuple[float, int, FakeTimer]] = []
        self._sequence = 0

    def monotonic(self) -> float:
        """See ``Clock``."""
        return self._now

    def wall(self) -> datetime:
        """See ``Clock``."""
        return self._wall + timedelta(seconds=self._now)

    def jump_wall(self, seconds: float) -> None:
        """Somebody sets the time of day; the monotonic clock does not notice."""
        self._wall += timedelta(seconds=seconds)

    def call_later(self, delay: float, callback: Callable[[], None]) -> FakeTimer:
        """See ``Clock``."""
        timer = FakeTimer(callback)
        self._sequence += 1
        heapq.heappush(self._timers, (self._now + max(0.0, delay), self._sequence, timer))
        return timer

    async def sleep(self, delay: float) -> None:
        """See ``Clock``."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def wake() -> None:
            if not done.done():
                done.set_result(None)

        timer = self.call_later(delay, wake)
        try:
            await done
        finally:
            timer.cancel()

    def pending(self) -> int:
        """Timers that have not fired and were not cancelled."""
        return sum(not timer.cancelled for _, _, timer in self._timers)

    def tick(self, seconds: float) -> None:
        """``advance`` without an event loop: fires the timers only."""
        until = self._now + seconds
        while self._timers and self._timers[0][0] <= until:
            self._fire_next()
        self._now = until

    async def advance(self, seconds: float) -> None:
        """Let this much time pass."""
        until = self._now + seconds
        await settle()
        while self._timers and self._timers[0][0] <= until:
            self._fire_next()
            await settle()
        self._now = until
        await settle()

    def _fire_next(self) -> None:
        due, _, timer = heapq.heappop(self._timers)
        self._now = max(self._now, due)
        if not timer.cancelled:
            timer.callback()


async def settle() -> None:
    """Let every task that can run do so."""
    for _ in range(_SETTLE_ROUNDS):
        await asyncio.sleep(0)
