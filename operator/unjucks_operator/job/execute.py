"""One run of a GenerationJob, from claim to publication. At-least-once execution, at most one publication.

    claim (ledger) → observe the output → render → record the intent → compare-and-set the output → record the publication

Where a run stopped before, it goes on: ``database.ledger`` says why nothing is published twice or lost. Called by
``job.reconcile``, which turns the result, or the error, into status.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from unjucks_api.conditions import ConditionType, find_condition
from unjucks_api.reasons import Reason
from unjucks_api.render_protocol import RenderResponse
from unjucks_api.v1alpha1.generation_job import GenerationJob
from unjucks_api.v1alpha1.generation_job_run import Mode
from unjucks_api.v1alpha1.tenant import Tenant
from unjucks_operator.database.ledger import Claim, Ledger, RunState
from unjucks_operator.errors import Conflict, Terminal
from unjucks_operator.job.diffs import Diffs
from unjucks_operator.job.existing import (
    Existing,
    Outcome,
    Policy,
    changed_paths,
    combined_diff,
    cut_lines,
    existing_of,
    outcome_of,
    policy_of,
    refuse_conflicts,
)
from unjucks_operator.job.facts import DiffFigures
from unjucks_operator.job.outputs.base import Found, Output, Published, Result
from unjucks_operator.job.outputs.files import LEAVES, written_files
from unjucks_operator.job.outputs.opening import Outputs
from unjucks_operator.job.outputs.target import refuse_misplaced
from unjucks_operator.job.plan import Run
from unjucks_operator.job.rendering import DIFF_BYTES, Rendering
from unjucks_operator.job.status import Progress
from unjucks_operator.storage import TemplateStorage


class RunFailed(Terminal):
    """The ledger says that this run has failed already, for good."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run happens: the tenant and its database role."""

    tenant: Tenant
    role: str


@dataclass(frozen=True, slots=True)
class _Work:
    """A claim, and the output as it was after it."""

    claim: Claim
    output: Output
    found: Found | None


@dataclass(frozen=True, slots=True)
class _Rendered:
    """What the renderers answered, and what they were told about existing files."""

    responses: Sequence[RenderResponse]
    existing: Existing
    policy: Policy


class Execution:
    """Runs jobs. ``holder`` names this incarnation of the operator in the ledger."""

    def __init__(
        self,
        *,
        outputs: Outputs,
        ledger: Ledger,
        storage: TemplateStorage,
        rendering: Rendering,
        diffs: Diffs,
        holder: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._outputs = outputs
        self._ledger = ledger
        self._storage = storage
        self._rendering = rendering
        self._diffs = diffs
        self._holder = holder
        self._clock = clock

    async def run(
        self, job: GenerationJob, run: Run, place: Place, progress: Progress, on_started: Callable[[], Awaitable[None]]
    ) -> Reason:
        """Run it. Fills ``progress``; returns Succeeded, UpToDate, DryRunComplete or DriftDetected; raises what stopped it.

        ``on_started`` is awaited when a renderer has taken the run.
        """
        if job.spec.dry_run or run.occasion.dry or job.mode is Mode.CHECK:
            return await self._compare(job, run, place, progress, on_started)
        output = self._outputs.open(job, place.tenant, run)
        if await self._is_up_to_date(job, run, output, progress):
            return Reason.UP_TO_DATE
        rendered: _Rendered | None = None
        work = await self._resume(job, run, place, output)
        if work is None or not self._is_done(work, run):
            rendered, work = await self._render_claimed(job, run, place, progress, on_started, work, output)
        progress.attempts = work.claim.attempt
        if rendered is None:
            return await self._finish_published(job, run, place, work, progress)
        started = self._clock()
        try:
            outcome = outcome_of(rendered.responses, rendered.existing, rendered.policy)
            progress.files = outcome.shown
            progress.matrix = _matrix_told(run, rendered.responses)
            refuse_conflicts(outcome.conflicts)
            refuse_misplaced(output.target, written_files(outcome.files))
            progress.last = await self._storage.keep(place.role, outcome.last)
            result = Result(
                run.key,
                run.generator,
                run.action,
                run.tree,
                progress.engine_version,
                outcome.files,
                progress.last,
                int(work.claim.run.created_at.timestamp()),
            )
            prepared = output.prepare(result)
            progress.manifest_digest = prepared.digest
            attempt = work.claim.attempt
            await self._ledger.record_rendered(place.role, job.uid, run.key, attempt, progress.manifest_digest)
            published = await output.publish(prepared, work.found)
            before = work.found.provenance if work.found is not None else {}
            progress.provenance = prepared.provenance if published.written else before
        except Terminal as error:
            await self._give_up(job, run, place, work.claim, error)
            raise
        await self._record_published(job, run, place, work.claim, output, progress, published)
        progress.publish_seconds = self._clock() - started
        return Reason.SUCCEEDED if published.written else Reason.UP_TO_DATE

    async def _compare(
        self, job: GenerationJob, run: Run, place: Place, progress: Progress, on_started: Callable[[], Awaitable[None]]
    ) -> Reason:
        """Render beside what is there and keep the difference. Nothing is claimed, and nothing but the diff is written."""
        output = self._outputs.open(job, place.tenant, run) if job.spec.output is not None else None
        found = await output.observe() if output is not None else None
        policy = self._policy(job, run, output)
        existing = await self._existing(place, found, policy)
        async with self._rendering.lease(job, run, place.role, progress) as leased:
            await on_started()
            responses = await self._rendering.render(job, run, leased, existing, policy, progress, diff=True)
        outcome = outcome_of(responses, existing, policy)
        progress.files = outcome.shown
        progress.diff = await self._keep_diff(job, run, place, responses, outcome, existing)
        if found is not None:
            progress.output_facts, progress.manifest_digest, progress.last = (
                found.facts,
                found.manifest_digest,
                found.last,
            )
        if job.mode is not Mode.CHECK:
            return Reason.DRY_RUN_COMPLETE
        return Reason.DRIFT_DETECTED if outcome.changes else Reason.UP_TO_DATE

    async def _keep_diff(
        self,
        job: GenerationJob,
        run: Run,
        place: Place,
        responses: Sequence[RenderResponse],
        outcome: Outcome,
        existing: Existing,
    ) -> DiffFigures:
        removed = [file for file in outcome.shown if file.action == "removed"] if run.items else []
        text = combined_diff([it.diff.text for it in responses], removed, existing)
        kept = cut_lines(text, DIFF_BYTES)
        lines = sum(existing.files[file.path].content.count(b"\n") for file in removed)
        size = (
            sum(it.diff.bytes for it in responses)
            + len(text.encode())
            - sum(len(it.diff.text.encode()) for it in responses)
        )
        return DiffFigures(
            added=sum(it.diff.added for it in responses),
            removed=sum(it.diff.removed for it in responses) + lines,
            size=size,
            truncated=len(kept.encode()) < size,
            name=await self._diffs.store(job, place.tenant, kept),
        )

    def _policy(self, job: GenerationJob, run: Run, output: Output | None) -> Policy:
        policy = policy_of(job, output.target if output is not None else None)
        # A repair is asked for: what somebody edited is written as it was.
        return replace(policy, update=False, on_conflict="overwrite") if run.occasion.repair else policy

    async def _existing(self, place: Place, found: Found | None, policy: Policy) -> Existing:
        last = await self._storage.files(place.role, found.last) if found is not None and found.last else None
        return existing_of(found, last, policy)

    async def _is_up_to_date(self, job: GenerationJob, run: Run, output: Output, progress: Progress) -> bool:
        """Whether an earlier run of equal inputs ended well, nobody asked for another, and its output is as it left it."""
        status = job.status
        known = (status.get("output") or {}).get("digest")
        complete = (find_condition(status, ConditionType.COMPLETE) or {}).get("status") == "True"
        asked = run.occasion.name or (status.get("lastHandledRequestedAt") or "") != job.requested_at
        if asked or not complete or not known or status.get("inputsDigest") != run.inputs_digest:
            return False
        found = await output.observe()
        if found is None or not found.holds(known) or changed_paths(found):
            return False
        progress.manifest_digest, progress.last = found.manifest_digest, found.last
        progress.files, progress.engine_version, progress.output_facts = found.files, found.engine, found.facts
        progress.provenance = found.provenance
        return True

    async def _resume(self, job: GenerationJob, run: Run, place: Place, output: Output) -> _Work | None:
        """Take over a run that an earlier attempt has brought further than its claim; None when there is none.

        A run that nobody has rendered is claimed only once a renderer is there: waiting for one is no attempt.
        """
        known = await self._ledger.lookup(place.role, job.uid, run.key)
        if known is None or known.state is RunState.CLAIMED:
            return None
        return await self._claimed(job, run, place, output)

    async def _claimed(self, job: GenerationJob, run: Run, place: Place, output: Output) -> _Work:
        """Claim, then look at the output: in this order (``database.ledger``)."""
        claim = await self._claim(job, run, place)
        try:
            found = await output.observe()
            if not claim.granted and not (found and found.holds(claim.run.manifest_digest)):
                # Published, and gone or changed before anybody was told: saying "done" would be a lie. Made again.
                claim = await self._ledger.claim(
                    place.role, job.uid, run.key, holder=self._holder, reopen=claim.run.attempt
                )
                found = await output.observe()
            return _Work(claim, output, found)
        except Terminal as error:
            if claim.granted:
                await self._give_up(job, run, place, claim, error)
            raise

    def _is_done(self, work: _Work, run: Run) -> bool:
        return not work.claim.granted or self._published_before(work.claim, run, work.found)

    async def _render_claimed(
        self,
        job: GenerationJob,
        run: Run,
        place: Place,
        progress: Progress,
        on_started: Callable[[], Awaitable[None]],
        work: _Work | None,
        output: Output,
    ) -> tuple["_Rendered | None", _Work]:
        """Render under a claim; None when somebody else turns out to have published meanwhile."""
        async with self._rendering.lease(job, run, place.role, progress) as leased:
            if work is None:
                work = await self._claimed(job, run, place, output)
                if self._is_done(work, run):
                    return None, work
            progress.attempts = work.claim.attempt
            await on_started()
            try:
                policy = self._policy(job, run, output)
                existing = await self._existing(place, work.found, policy)
                responses = await self._rendering.render(job, run, leased, existing, policy, progress)
                return _Rendered(responses, existing, policy), work
            except Terminal as error:
                await self._give_up(job, run, place, work.claim, error)
                raise

    async def _give_up(self, job: GenerationJob, run: Run, place: Place, claim: Claim, error: Terminal) -> None:
        await self._ledger.record_failed(
            place.role, job.uid, run.key, claim.attempt, error.reason, error.message, final=True
        )

    async def _claim(self, job: GenerationJob, run: Run, place: Place) -> Claim:
        claim = await self._ledger.claim(place.role, job.uid, run.key, holder=self._holder)
        if claim.granted or claim.run.state is not RunState.FAILED:
            return claim
        if claim.run.failure_final:
            raise RunFailed(
                claim.run.failure_message or "the run failed before",
                reason=Reason(claim.run.failure_reason or "InternalError"),
            )
        return await self._ledger.claim(place.role, job.uid, run.key, holder=self._holder, reopen=claim.run.attempt)

    @staticmethod
    def _published_before(claim: Claim, run: Run, found: Found | None) -> bool:
        """Whether an earlier attempt published and died before it could say so."""
        if claim.run.state is not RunState.RENDERED or found is None:
            return False
        return found.run_key == run.key and found.holds(claim.run.manifest_digest)

    async def _finish_published(
        self, job: GenerationJob, run: Run, place: Place, work: _Work, progress: Progress
    ) -> Reason:
        claim, found = work.claim, work.found
        if found is None or not found.holds(claim.run.manifest_digest):
            raise Conflict(f"the output of job {job.name} changed while it was looked at")
        progress.manifest_digest, progress.last = found.manifest_digest, found.last
        progress.files, progress.engine_version = found.files, found.engine
        progress.provenance = found.provenance
        progress.output_facts = {**((claim.run.output or {}).get("facts") or {}), **found.facts}
        if claim.granted:
            published = await work.output.complete(found)
            await self._record_published(job, run, place, claim, work.output, progress, published)
        return Reason.SUCCEEDED

    async def _record_published(
        self,
        job: GenerationJob,
        run: Run,
        place: Place,
        claim: Claim,
        output: Output,
        progress: Progress,
        published: Published,
    ) -> None:
        progress.output_facts = published.facts
        target, digest = output.target, progress.manifest_digest
        told: dict[str, Any] = {
            "kind": target.kind,
            "namespace": job.namespace,
            "name": target.name,
            "uid": published.uid,
        }
        if published.facts:
            told["facts"] = dict(published.facts)
        await self._ledger.record_published(place.role, job.uid, run.key, claim.attempt, digest, told)


def _matrix_told(run: Run, responses: Sequence[RenderResponse]) -> list[dict[str, Any]]:
    """What each run of a matrix made."""
    told = []
    for item, response in zip(run.items, responses, strict=False):
        made = [file for file in response.files if file.action not in LEAVES]
        told.append(
            {"item": item.label, "path": item.below, "files": len(made), "bytes": sum(file.size for file in made)}
        )
    return told
