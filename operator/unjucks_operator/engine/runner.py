"""The reconcile loop: N workers take keys from a queue and call ``reconcile(key)``; the outcome decides what comes next.

    returns Result(requeue_after)   success: the backoff is reset, another look after ``requeue_after`` seconds when given
    Conflict                        another run at once (five times in a row, then backoff); debug
    Throttled, Unavailable, other Retryable
                                    backoff, not before ``after`` when the other side said so; info
    Waiting                         another look after ``after`` seconds; the backoff is reset; debug, never a warning
    Terminal                        no further run until an event adds the key; info
    time-out                        like Retryable; warning
    anything else                   a bug: traceback in the log, counted, backoff of at most ``bug_cap`` seconds

Must not: know objects, write status, or hold state between runs other than the queue's. Called by the process shell, one runner for
each kind. ``reconcile`` reports errors to the user itself (status); what it lets escape is only for the queue.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from unjucks_operator.engine import logs
from unjucks_operator.engine.clock import Clock, SystemClock
from unjucks_operator.engine.queue import Work, WorkQueue
from unjucks_operator.errors import Conflict, OperatorError, Retryable, Terminal, Waiting

K = TypeVar("K", bound=Hashable)
K_contra = TypeVar("K_contra", bound=Hashable, contravariant=True)

IMMEDIATE_CONFLICTS = 5
"""Conflicts in a row that are answered with a run at once; a longer row means that two writers fight."""


@dataclass(frozen=True, slots=True)
class Result:
    """A run that ended well. ``requeue_after``: seconds until the next look even when nothing changes, None for none."""

    requeue_after: float | None = None


class Reconcile(Protocol[K_contra]):
    """Brings the world of one key nearer to what it should be. May be cancelled at any await."""

    def __call__(self, key: K_contra, /) -> Awaitable[Result]:
        """One run."""


class RunnerMetrics(Protocol):
    """What the loop reports; implemented by ``metrics``."""

    def finished(self, outcome: str, seconds: float) -> None:
        """A run ended: one of the names in ``OUTCOMES``, and how long it took."""


OUTCOMES = ("success", "waiting", "conflict", "retry", "timeout", "terminal", "bug", "cancelled")


class NoMetrics:
    """Reports nothing."""

    def finished(self, outcome: str, seconds: float) -> None:
        """See ``RunnerMetrics``."""


class Runner(Generic[K]):
    """A pool of workers for one queue.

    ``name`` is the kind, for logs and metrics. ``timeout`` is in seconds for each run. ``describe`` turns a key into log fields.
    """

    def __init__(
        self,
        name: str,
        queue: WorkQueue[K],
        reconcile: Reconcile[K] | Callable[[K], Awaitable[Result]],
        *,
        workers: int = 8,
        timeout: float = 120.0,
        bug_cap: float = 60.0,
        describe: Callable[[K], dict[str, str]] = lambda key: {"key": str(key)},
        clock: Clock | None = None,
        rng: random.Random | None = None,
        metrics: RunnerMetrics | None = None,
    ) -> None:
        self.name = name
        self.queue = queue
        self._reconcile = reconcile
        self._workers = workers
        self._timeout = timeout
        self._bug_cap = bug_cap
        self._describe = describe
        self._clock = clock or SystemClock()
        self._rng = rng or random.Random()  # noqa: S311  identifiers for logs
        self._metrics = metrics or NoMetrics()
        self._tasks: list[asyncio.Task[None]] = []
        self._conflicts: dict[K, int] = {}
        self._log = logging.getLogger(f"{__name__}.{name.lower()}")

    async def start(self) -> None:
        """Start the workers. They end with ``stop`` or when the queue is shut down."""
        if self._tasks:
            raise RuntimeError(f"the runner of {self.name} was started twice")
        self._tasks = [
            asyncio.create_task(self._work(), name=f"{self.name} worker {number}") for number in range(self._workers)
        ]

    async def stop(self, drain: float = 0.0) -> None:
        """Take no more keys, give the runs under way ``drain`` seconds, cancel what is left, and wait for that."""
        self.queue.shutdown()
        if not self._tasks:
            return
        if drain > 0:
            await asyncio.wait(self._tasks, timeout=drain)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    async def _work(self) -> None:
        while (work := await self.queue.get()) is not None:
            try:
                await self.run(work)
            finally:
                self.queue.done(work.key)

    async def run(self, work: Work[K]) -> str:
        """One run of a key that was taken from the queue; everything but ``done``. Returns the outcome's name.

        Raises only CancelledError, when this task is cancelled.
        """
        started = self._clock.monotonic()
        outcome = "cancelled"
        with logs.bound(kind=self.name, **self._describe(work.key), reconcile_id=f"{self._rng.getrandbits(48):012x}"):
            try:
                outcome = await self._guarded(work)
            finally:
                seconds = self._clock.monotonic() - started
                self._metrics.finished(outcome, seconds)
                self._log.debug("reconciled", extra={"outcome": outcome, "duration_ms": round(seconds * 1000, 1)})
        if outcome != "conflict":
            self._conflicts.pop(work.key, None)
        return outcome

    async def _guarded(self, work: Work[K]) -> str:
        key = work.key
        try:
            async with asyncio.timeout(self._timeout) as limit:
                result = await self._reconcile(key)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return self._bug(work, error)  # something that the run awaited was cancelled by somebody else
        except TimeoutError as error:
            if not limit.expired():
                return self._bug(work, error)  # a time-out that an outside let escape without mapping it
            delay = self.queue.retry(key, work.lane)
            self._log.warning(
                "the run took longer than %.0f s and was cancelled; again in %.1f s", self._timeout, delay
            )
            return "timeout"
        except Exception as error:
            return self._on_error(work, error)
        self.queue.forget(key)
        if result.requeue_after is not None:
            self.queue.add_after(key, result.requeue_after)
        return "success"

    def _on_error(self, work: Work[K], error: Exception) -> str:
        key = work.key
        match error:
            case Conflict():
                self._conflicts[key] = self._conflicts.get(key, 0) + 1
                if self._conflicts[key] <= IMMEDIATE_CONFLICTS:
                    self._log.debug("somebody wrote in between, again at once: %s", error)
                    self.queue.add(key, work.lane)
                else:
                    delay = self.queue.retry(key, work.lane)
                    self._log.info("conflicts without end, again in %.1f s: %s", delay, error, extra=_reason(error))
                return "conflict"
            case Retryable(after=after):
                delay = self.queue.retry(key, work.lane, at_least=after or 0.0)
                self._log.info("will be tried again in %.1f s: %s", delay, error, extra=_reason(error))
                return "retry"
            case Waiting(after=after):
                self.queue.forget(key)
                self.queue.add_after(key, after)
                self._log.debug("waits: %s", error, extra=_reason(error))
                return "waiting"
            case Terminal():
                self.queue.forget(key)
                self._log.info("cannot go on until somebody changes something: %s", error, extra=_reason(error))
                return "terminal"
            case _:
                return self._bug(work, error)

    def _bug(self, work: Work[K], error: BaseException) -> str:
        delay = self.queue.retry(work.key, work.lane, cap=self._bug_cap)
        self._log.error("unexpected error, again in %.1f s: %s", delay, type(error).__name__, exc_info=error)
        return "bug"


def _reason(error: OperatorError) -> dict[str, str]:
    return {"reason": str(error.reason)}
