"""Tells jobs that wait for a place that they do: status Queued. The queue itself holds them back and knows nothing of objects.

Writes once for each job that waits longer than a moment, some at a time; a job that gets its turn quickly costs nothing. Decides
nothing. Made by ``app``.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

from unjucks_api.conditions import has_fault
from unjucks_api.reasons import Reason
from unjucks_api.v1alpha1.common import InvalidObjectError
from unjucks_api.v1alpha1.generation_job import GenerationJob
from unjucks_operator.engine.clock import Clock
from unjucks_operator.engine.queue import WorkQueue
from unjucks_operator.engine.rounds import Rounds
from unjucks_operator.engine.store import ObjectKey, ResourceStore
from unjucks_operator.errors import OperatorError, Waiting
from unjucks_operator.job.plan import is_finished, plan_at_rest
from unjucks_operator.job.status import compute_pending
from unjucks_operator.kube.resources import GENERATION_JOB
from unjucks_operator.reporting import StatusWriter

_log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
PATIENCE_SECONDS = 2.0
AT_ONCE = 50
"""Most jobs that are told in one look."""
TENANT_FULL = (
    "the tenant runs as many jobs as its tier and spec.quota.jobs.concurrent allow; this one starts when it is its turn"
)
PLATFORM_FULL = "all places of the platform are taken; this job starts when it is its turn"


class WaitingTeller(Rounds):
    """One task; see the module's text."""

    def __init__(
        self,
        *,
        queue: WorkQueue[ObjectKey],
        store: ResourceStore,
        status: StatusWriter,
        clock: Clock,
        now: Callable[[], datetime],
    ) -> None:
        self._queue = queue
        self._store = store
        self._status = status
        self._now = now
        self._told: set[ObjectKey] = set()
        super().__init__(
            self.look,
            name="waiting jobs",
            pause=lambda: LOOK_SECONDS,
            failed="jobs that wait could not be told",
            clock=clock,
        )

    async def look(self) -> int:
        """Tell those that wait and do not know it yet; how many that were."""
        waiting = {key: full for key, seconds, full in self._queue.waiting() if seconds >= PATIENCE_SECONDS}
        self._told &= waiting.keys()
        told = 0
        for key, full in waiting.items():
            if key in self._told:
                continue
            if told >= AT_ONCE:
                break
            self._told.add(key)
            told += await self._tell(key, TENANT_FULL if full else PLATFORM_FULL)
        return told

    async def _tell(self, key: ObjectKey, text: str) -> bool:
        body = self._store.get(key)
        if body is None or body["metadata"].get("deletionTimestamp"):
            return False
        try:
            job = GenerationJob.parse(body)
        except InvalidObjectError:
            return False
        if job.paused or is_finished(job) or plan_at_rest(job) is not None:
            return False  # it wants no place, only a look
        if has_fault(job.status):
            return False  # told already that its last try broke off; the two would take turns without end
        status = compute_pending(job, Waiting(text, reason=Reason.QUEUED), started=None, now=self._now())
        with suppress(OperatorError):  # somebody else wrote at the same moment; the job's own run tells how it is
            await self._status.write(GENERATION_JOB, self._store, body, status, action="RunJob")
        return True
