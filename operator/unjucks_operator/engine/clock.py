"""Time as a parameter: what the engine needs of a clock, and the real one.

Everything in the engine that waits, measures or times out takes a ``Clock``; tests pass one that they move by hand. Durations
are measured on the monotonic clock only; the wall clock is for text that people read and for time stamps in objects.
"""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol


class Timer(Protocol):
    """What ``Clock.call_later`` returns."""

    def cancel(self) -> None:
        """Do not call back any more; harmless when it has called back already."""


class Clock(Protocol):
    """The four things that depend on time."""

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back, not comparable between processes."""

    def wall(self) -> datetime:
        """The time of day in UTC; may jump."""

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        """Call ``callback`` in the loop's thread after ``delay`` seconds of the monotonic clock."""

    async def sleep(self, delay: float) -> None:
        """Return after ``delay`` seconds of the monotonic clock."""


class SystemClock:
    """The clock of this machine and of the running event loop."""

    def monotonic(self) -> float:
        """See ``Clock``."""
        return time.monotonic()

    def wall(self) -> datetime:
        """See ``Clock``."""
        return datetime.now(UTC)

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        """See ``Clock``."""
        return asyncio.get_running_loop().call_later(delay, callback)

    async def sleep(self, delay: float) -> None:
        """See ``Clock``."""
        await asyncio.sleep(delay)
