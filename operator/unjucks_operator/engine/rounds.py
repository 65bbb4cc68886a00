"""One thing done again and again, with a pause before each time: an endless task that no error ends. No domain word in it.

Called by everything that looks at the world by itself; a class of rounds gives ``Rounds`` its function and is started and stopped
as one piece of the process.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from unjucks_operator.engine.clock import Clock

_log = logging.getLogger(__name__)


class Rounds:
    """``round`` is awaited after each ``pause()`` seconds; ``failed`` is logged, with the trace, when it raises."""

    def __init__(
        self,
        round_: Callable[[], Awaitable[object]],
        *,
        name: str,
        pause: Callable[[], float],
        failed: str,
        clock: Clock,
    ) -> None:
        self._round_once = round_
        self._task_name = name
        self._pause = pause
        self._failed = failed
        self._rounds_clock = clock
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin; the first round comes after one pause."""
        self._task = asyncio.create_task(self._rounds(), name=self._task_name)

    async def stop(self) -> None:
        """End the task."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _rounds(self) -> None:
        while True:
            await self._rounds_clock.sleep(self._pause())
            try:
                await self._round_once()
            except Exception:
                # Nobody waits for this task: an error that ended it would end its work without a word.
                _log.exception(self._failed)
