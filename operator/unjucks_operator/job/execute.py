"""One run of a GenerationJob, from claim to publication. At-least-once execution, at most one publication.

    claim (ledger) → observe the output → render → record the intent → compare-and-set the output → record the publication

Where a run stopped before, it goes on: ``database.ledger`` says why nothing is published twice or lost. Called by
``job.reconcile``, which turns the result, or the error, into status.
"""

import base64
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from unjucks_api.reasons import Reason
from unjucks_api.render_protocol import Limits, OnFinding, RenderRequest, RenderResponse
from unjucks_api.v1alpha1.generation_job import GenerationJob
from unjucks_api.v1alpha1.tenant import Tenant
from unjucks_operator.config import Config
from unjucks_operator.database.ledger import Claim, Ledger, RunState
from unjucks_operator.errors import Conflict, Terminal, Waiting
from unjucks_operator.job.outputs.base import Found, Output, Published, Result
from unjucks_operator.job.outputs.files import File, written_files
from unjucks_operator.job.outputs.opening import Outputs
from unjucks_operator.job.outputs.target import refuse_misplaced, target_of
from unjucks_operator.job.plan import Run
from unjucks_operator.job.status import Progress
from unjucks_operator.renderers.client import RendererClient
from unjucks_operator.storage import TemplateStorage

LeaseRenderer = Callable[[GenerationJob, Run], AbstractAsyncContextManager[RendererClient]]
"""(job, run) → a renderer of the job's tenant, warm or fresh."""


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


class Execution:
    """Runs jobs. ``holder`` names this incarnation of the operator in the ledger."""

    def __init__(
        self,
        *,
        outputs: Outputs,
        ledger: Ledger,
        storage: TemplateStorage,
        lease: LeaseRenderer,
        config: Config,
        holder: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._outputs = outputs
        self._ledger = ledger
        self._storage = storage
        self._lease = lease
        self._config = config
        self._holder = holder
        self._clock = clock

    async def run(
        self, job: GenerationJob, run: Run, place: Place, progress: Progress, on_started: Callable[[], Awaitable[None]]
    ) -> Reason:
        """Run it. Fills ``progress``; returns Succeeded, UpToDate or DryRunComplete; raises what stopped it.

        ``on_started`` is awaited when a renderer has taken the run.
        """
        if job.spec.dry_run:
            async with self._renderer(job, run, place, progress) as (renderer, request):
                await on_started()
                dry = await self._render(renderer, request, progress)
            progress.files = to_files(dry, None)
            return Reason.DRY_RUN_COMPLETE
        output = self._outputs.open(job, place.tenant)
        response: RenderResponse | None = None
        work = await self._resume(job, run, place, output)
        if work is None or not self._is_done(work, run):
            response, work = await self._render_claimed(job, run, place, progress, on_started, work, output)
        progress.attempts = work.claim.attempt
        if response is None:
            return await self._finish_published(job, run, place, work, progress)
        started = self._clock()
        try:
            progress.files = to_files(response, work.found)
            refuse_misplaced(output.target, written_files(progress.files))
            result = Result(run.key, run.generator, run.action, run.tree, response.engine_version, progress.files)
            prepared = output.prepare(result)
            progress.manifest_digest = prepared.digest
            attempt = work.claim.attempt
            await self._ledger.record_rendered(place.role, job.uid, run.key, attempt, progress.manifest_digest)
            published = await output.publish(prepared, work.found)
        except Terminal as error:
            await self._give_up(job, run, place, work.claim, error)
            raise
        await self._record_published(job, run, place, work.claim, output, progress, published)
        progress.publish_seconds = self._clock() - started
        return Reason.SUCCEEDED if published.written else Reason.UP_TO_DATE

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
    ) -> tuple[RenderResponse | None, _Work]:
        """Render under a claim; None when somebody else turns out to have published meanwhile."""
        async with self._renderer(job, run, place, progress) as (renderer, request):
            if work is None:
                work = await self._claimed(job, run, place, output)
                if self._is_done(work, run):
                    return None, work
            progress.attempts = work.claim.attempt
            await on_started()
            try:
                return await self._render(renderer, request, progress), work
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
        progress.manifest_digest = found.manifest_digest
        progress.files, progress.engine_version = found.files, found.engine
        progress.output_facts = found.facts
        if claim.granted:
            published = Published(found.uid, written=True, facts=found.facts)
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
        told = {"kind": target.kind, "namespace": job.namespace, "name": target.name, "uid": published.uid}
        await self._ledger.record_published(place.role, job.uid, run.key, claim.attempt, digest, told)

    @asynccontextmanager
    async def _renderer(
        self, job: GenerationJob, run: Run, place: Place, progress: Progress
    ) -> AsyncIterator[tuple[RendererClient, RenderRequest]]:
        """A renderer for the run, and what it is asked."""
        files = await self._storage.files(place.role, run.tree)
        if files is None:
            raise Waiting(
                f"the templates {run.tree[:19]} are not stored any more; the registry is read again",
                reason=Reason.REGISTRY_NOT_READY,
                after=2.0,
            )
        budgets, target = self._config.jobs, target_of(job)
        request = RenderRequest(
            task=run.key,
            digest=run.tree,
            files=files,
            generator=run.generator,
            action=run.action,
            variables=run.variables,
            sensitive=list(run.sensitive),
            on_finding=run.on_finding,
            secrets_have_a_place=target is not None and target.takes_secrets,
            engine=run.engine,
            shared_schema=run.shared_schema,
            limits=Limits(
                wall_seconds=min(job.timeout_seconds, budgets.max_wall_seconds),
                cpu_seconds=budgets.cpu_seconds,
                memory_bytes=budgets.memory_bytes,
                output_bytes=budgets.output_bytes,
                files=budgets.files,
                source_bytes=budgets.source_bytes,
            ),
        )
        queued = self._clock()
        async with self._lease(job, run) as renderer:
            progress.queue_seconds += self._clock() - queued
            yield renderer, request

    async def _render(self, renderer: RendererClient, request: RenderRequest, progress: Progress) -> RenderResponse:
        started = self._clock()
        response = await renderer.render(request)
        progress.render_seconds = self._clock() - started
        progress.cpu_seconds = response.cpu_seconds
        progress.wall_seconds = response.wall_seconds
        progress.memory_bytes = response.max_rss_bytes
        progress.engine_version = response.engine_version
        progress.findings, progress.findings_total = tuple(response.findings), response.findings_total
        progress.redacted = request.on_finding is OnFinding.REDACT
        return response


def to_files(response: RenderResponse, found: Found | None) -> list[File]:
    """The response's files, with what each one means for the output that is there: created, updated or unchanged. Pure."""
    before = {file.path: file.sha256 for file in found.files} if found is not None else {}
    files = []
    for item in response.files:
        if item.action in ("skipped", "removed"):
            files.append(File(item.path, b"", item.mode, "", "skipped", item.template, item.sensitive))
            continue
        content = base64.b64decode(item.content, validate=True)
        digest = item.sha256.removeprefix("sha256:")
        known = before.get(item.path)
        action = "created" if known is None else "unchanged" if known == digest else "updated"
        files.append(File(item.path, content, item.mode, digest, action, item.template, item.sensitive))
    return sorted(files, key=lambda file: file.path)
