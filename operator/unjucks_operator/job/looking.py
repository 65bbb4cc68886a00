"""Looks after jobs that have ended: at their template, and now and then at their output. Called by ``job.reconcile``.

When a job's output was looked at last is remembered here only: after a restart every job is looked at within one interval, spread
evenly. Nothing is written.
"""

import zlib
from collections.abc import Awaitable, Callable

from unjucks_api.reasons import Reason
from unjucks_api.render_protocol import Action
from unjucks_api.v1alpha1.common import duration_seconds
from unjucks_api.v1alpha1.generation_job import GenerationJob
from unjucks_api.v1alpha1.generation_job_run import OnTemplateChange
from unjucks_api.v1alpha1.tenant import Tenant
from unjucks_operator.engine.store import ObjectKey
from unjucks_operator.errors import Terminal
from unjucks_operator.job.afterwards import DRIFTED, IN_SYNC, MISSING, Drift, Seen, is_complete
from unjucks_operator.job.existing import changed_paths
from unjucks_operator.job.outputs.opening import Outputs

DEFAULT_INTERVAL = 1800
ReadActions = Callable[[GenerationJob], Awaitable[tuple[str, tuple[Action, ...] | None]]]
"""job → digest of the tree that its registry serves, and that tree's actions."""


class Looking:
    """One for the process."""

    def __init__(
        self,
        *,
        outputs: Outputs,
        tree: Callable[[GenerationJob], str],
        actions: ReadActions,
        clock: Callable[[], float],
    ) -> None:
        """``tree``: digest of what the job's registry serves now, at no cost."""
        self._outputs = outputs
        self._tree = tree
        self._actions = actions
        self._clock = clock
        self._due: dict[ObjectKey, tuple[str, float]] = {}
        """Job UID, and when its output is looked at next."""

    def forget(self, key: ObjectKey) -> None:
        """The job is gone, or runs again."""
        self._due.pop(key, None)

    def ended(self, key: ObjectKey, job: GenerationJob) -> None:
        """A run has just ended: its output is as it should be."""
        interval = _interval(job)
        if interval is not None:
            self._due[key] = (job.uid, self._clock() + interval)

    def seconds_to_look(self, key: ObjectKey, job: GenerationJob) -> float | None:
        """Until the output is looked at next; None when nobody asked for it, or there is nothing to look at."""
        interval = _interval(job)
        if interval is None or not is_complete(job):
            return None
        known = self._due.get(key)
        if known is None or known[0] != job.uid:
            known = self._due[key] = (job.uid, self._clock() + zlib.crc32(job.uid.encode()) % interval)
        return max(known[1] - self._clock(), 0.0)

    async def look(self, key: ObjectKey, job: GenerationJob, tenant: Tenant) -> Seen:
        """What there is to see now."""
        left = self.seconds_to_look(key, job)
        drift = None
        if left is not None and left <= 0:
            drift = await self._drift(job, tenant)
            self.ended(key, job)
        return Seen(await self._action(job), drift)

    async def _action(self, job: GenerationJob) -> Action | None:
        if job.on_template_change is OnTemplateChange.IGNORE:
            return None
        ran = job.status.get("template") or {}
        if ran.get("digest") == self._tree(job) and "newestDigest" not in ran:
            return None  # the very tree that ran: a change of the registry's status wakes every job of it
        tree, actions = await self._actions(job)
        wanted = (job.spec.template.generator, job.spec.template.action)
        if not tree or (job.spec.template.digest and job.spec.template.digest != tree):
            return None
        return next((it for it in actions or () if (it.generator, it.action) == wanted and it.valid), None)

    async def _drift(self, job: GenerationJob, tenant: Tenant) -> Drift:
        output = self._outputs.open(job, tenant)
        where = str(output.target)
        try:
            found = await output.observe()
        except Terminal as error:
            # The run that ended well did not fail because of it: told until a look finds the output as it should be.
            note = (
                error.message if error.reason is Reason.NOT_OWNED else f"{where} cannot be looked at: {error.message}"
            )
            return Drift(DRIFTED, where, "not-seen", note=note)
        known = (job.status.get("output") or {}).get("digest")
        if found is None or not (found.manifest_digest or found.files):
            # A repair that was followed by another deletion is another repair.
            return Drift(MISSING, where, f"missing/{job.status.get('completionTime')}")
        if found.holds(known) and not (paths := changed_paths(found)):
            return Drift(IN_SYNC, where)
        if not found.holds(known):
            paths = changed_paths(found) or sorted(found.manifest)
        return Drift(DRIFTED, where, found.version, paths)


def _interval(job: GenerationJob) -> int | None:
    detection = job.spec.drift_detection
    if detection is None:
        return None
    return DEFAULT_INTERVAL if detection.interval is None else duration_seconds(detection.interval)
