"""One run under watch: progress, cancelling, and what follows a failure that may heal. Called by ``job.reconcile``.

Which failures are tried again is decided here alone: those of a renderer, a courier or an output. A template error is the same the
next time; an API server or a database that is down stops everybody, costs no attempt and fails no job.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from unjucks_api.reasons import Reason
from unjucks_api.v1alpha1.common import duration_seconds
from unjucks_api.v1alpha1.generation_job import GenerationJob
from unjucks_operator.engine.store import ObjectKey, ResourceStore
from unjucks_operator.errors import Conflict, OperatorError, Retryable, Terminal
from unjucks_operator.job.execute import Execution, Place
from unjucks_operator.job.plan import Run
from unjucks_operator.job.status import NextAttempt, Progress
from unjucks_operator.kube.api import Manifest

QUIET_SECONDS = 1.0
"""A run that ends within this time writes its status once, at the end."""
UNCOUNTED = frozenset(
    {
        Reason.API_SERVER_UNAVAILABLE,
        Reason.DATABASE_UNAVAILABLE,
        Reason.RENDERER_UNAVAILABLE,
        Reason.THROTTLED,
        Reason.CONFLICT,
        Reason.PROGRESSING,
    }
)
"""Retryable, and no fault that a job could have a part in: tried again without end."""
DEFAULT_PAUSE, DEFAULT_FACTOR, DEFAULT_CAP = 5, 2, 60
TellRunning = Callable[[Manifest], Awaitable[Manifest]]
"""Writes that the run is under way; the newest body."""


def pause_after(job: GenerationJob, attempts: int) -> float:
    """Seconds from the end of attempt number ``attempts`` to the next."""
    asked = job.spec.retry.backoff
    first = duration_seconds(asked.duration) if asked.duration else DEFAULT_PAUSE
    cap = duration_seconds(asked.cap) if asked.cap else max(DEFAULT_CAP, first)
    return float(min(first * (asked.factor or DEFAULT_FACTOR) ** (attempts - 1), cap))


class Running:
    """One for the process. ``retries``: attempts after the first one where the job does not say."""

    def __init__(self, *, store: ResourceStore, execution: Execution, retries: int) -> None:
        self._store = store
        self._execution = execution
        self._retries = retries
        self._failed: dict[ObjectKey, tuple[str, int]] = {}
        """How often a run (its key; of a schedule all runs) failed for a cause that may heal."""
        self._changed: dict[ObjectKey, asyncio.Event] = {}
        store.subscribe(self._notice)

    def forget(self, key: ObjectKey) -> None:
        """The run has ended, or the job is gone."""
        self._failed.pop(key, None)

    async def run(
        self,
        key: ObjectKey,
        job: GenerationJob,
        body: Manifest,
        run: Run,
        place: Place,
        progress: Progress,
        tell: TellRunning,
    ) -> tuple[Reason, Manifest]:
        """How it ended, and the newest body. Raises what ``Execution.run`` raises; NextAttempt instead of what is tried again."""
        try:
            return await self._watched(key, job, body, run, place, progress, tell)
        except Retryable as error:
            if error.reason in UNCOUNTED:
                raise
            attempts = self._count(key, job, run)
            limit = self._retries if job.spec.retry.limit is None else job.spec.retry.limit
            if attempts <= limit:
                raise NextAttempt(
                    f"attempt {attempts} of {limit + 1}: {error.message}",
                    reason=error.reason,
                    after=max(pause_after(job, attempts), error.after or 0.0),
                    attempts=attempts,
                    run_key=run.key,
                ) from error
            raise Terminal(
                f"given up after {attempts} attempts: {error.message}", reason=Reason.RETRY_LIMIT_REACHED
            ) from error

    def _count(self, key: ObjectKey, job: GenerationJob, run: Run) -> int:
        """This attempt's number. Status has it too: a restart of the operator does not begin at one."""
        # A schedule goes on to its next time meanwhile: without this a run that always fails would never be told.
        run_key = f"{job.uid}/{job.generation}/schedule" if run.occasion.scheduled else run.key
        known, before = self._failed.get(key, ("", 0))
        if known != run_key:
            told = job.status.get("runKey") == run.key
            before = int(job.status.get("attempts") or 0) if told and job.status.get("phase") == "Pending" else 0
        self._failed[key] = (run_key, before + 1)
        return before + 1

    async def _watched(
        self,
        key: ObjectKey,
        job: GenerationJob,
        body: Manifest,
        run: Run,
        place: Place,
        progress: Progress,
        tell: TellRunning,
    ) -> tuple[Reason, Manifest]:
        """Run, tell when it takes long, and stop when the job is cancelled or deleted meanwhile."""
        rendering = asyncio.Event()

        async def on_started() -> None:
            rendering.set()

        task = asyncio.create_task(self._execution.run(job, run, place, progress, on_started))
        changed = self._changed.setdefault(key, asyncio.Event())
        told = False
        try:
            while True:
                changed.clear()
                self._stop_if_unwanted(key, job)
                watcher = asyncio.create_task(changed.wait())
                await asyncio.wait(
                    {task, watcher},
                    timeout=None if told else QUIET_SECONDS,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                watcher.cancel()
                if task.done():
                    return task.result(), body
                if not told and not changed.is_set() and rendering.is_set():
                    told = True
                    with suppress(OperatorError):  # progress is a courtesy; the end is told in any case
                        body = await tell(body)
        finally:
            self._changed.pop(key, None)
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    def _stop_if_unwanted(self, key: ObjectKey, job: GenerationJob) -> None:
        body = self._store.get(key)
        if body is None or body["metadata"]["uid"] != job.uid or body["metadata"].get("deletionTimestamp"):
            raise Conflict(f"job {job.name} was deleted while it ran")
        if (body.get("spec") or {}).get("cancel") and not job.spec.cancel:
            raise Conflict(f"job {job.name} was cancelled while it ran")  # the next run tells it

    def _notice(self, key: ObjectKey, _before: Manifest | None, _after: Manifest | None) -> None:
        event = self._changed.get(key)
        if event is not None:
            event.set()
