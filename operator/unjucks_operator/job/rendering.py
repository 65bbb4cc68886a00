"""Has a run rendered: the request, a renderer, and for a matrix several at a time. Called by ``job.execute``.

Must not: claim, publish, or decide what becomes of existing files (``job.existing`` does).
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from unjucks_api.reasons import Reason
from unjucks_api.render_protocol import MAX_DIFF_BYTES, Limits, OnFinding, RenderRequest, RenderResponse
from unjucks_api.v1alpha1.generation_job import GenerationJob
from unjucks_api.v1alpha1.generation_job_run import DEFAULT_PARALLELISM
from unjucks_operator.config import Config
from unjucks_operator.errors import Terminal, Waiting
from unjucks_operator.job.existing import Existing, Policy, request_of
from unjucks_operator.job.matrix import Item
from unjucks_operator.job.outputs.target import target_of
from unjucks_operator.job.plan import Run
from unjucks_operator.job.status import Progress
from unjucks_operator.renderers.client import RendererClient, RenderFailure
from unjucks_operator.storage import TemplateStorage

LeaseRenderer = Callable[[GenerationJob, Run], AbstractAsyncContextManager[RendererClient]]
"""(job, run) → a renderer of the job's tenant, warm or fresh."""
DIFF_BYTES = min(MAX_DIFF_BYTES, 900 * 1024)
"""Most of a diff that is kept: a ConfigMap ends at 1 MiB."""


@dataclass(frozen=True, slots=True)
class Leased:
    """A renderer for a run, and what it is going to be asked."""

    renderer: RendererClient
    request: RenderRequest


class Rendering:
    """One for the process."""

    def __init__(
        self,
        *,
        storage: TemplateStorage,
        lease: LeaseRenderer,
        config: Config,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._storage = storage
        self._lease = lease
        self._config = config
        self._clock = clock

    @asynccontextmanager
    async def lease(self, job: GenerationJob, run: Run, role: str, progress: Progress) -> AsyncIterator[Leased]:
        """A renderer for the run."""
        files = await self._storage.files(role, run.tree)
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
            policy=run.policy,
            shared_schema=run.shared_schema,
            limits=Limits(
                wall_seconds=self._wall_seconds(job),
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
            yield Leased(renderer, request)

    def _wall_seconds(self, job: GenerationJob) -> float:
        return min(job.timeout_seconds, self._config.jobs.max_wall_seconds)

    async def render(
        self,
        job: GenerationJob,
        run: Run,
        leased: Leased,
        existing: Existing,
        policy: Policy,
        progress: Progress,
        *,
        diff: bool = False,
    ) -> list[RenderResponse]:
        """The answers: one, or for a matrix one for each of its runs in their order. Fills ``progress`` with what they cost."""
        more = request_of(existing, policy, prune=policy.prune and not run.items)
        request = leased.request.model_copy(update=more | {"diff_bytes": DIFF_BYTES if diff else 0})
        started = self._clock()
        if run.items:
            responses = await self._matrix(job, run, leased.renderer, request)
        else:
            responses = [await leased.renderer.render(request)]
        progress.render_seconds = self._clock() - started
        self._account(responses, progress)
        progress.redacted = request.on_finding is OnFinding.REDACT
        return responses

    @staticmethod
    def _account(responses: Sequence[RenderResponse], progress: Progress) -> None:
        progress.cpu_seconds = sum(it.cpu_seconds for it in responses)
        progress.wall_seconds = sum(it.wall_seconds for it in responses)
        progress.memory_bytes = max(it.max_rss_bytes for it in responses)
        progress.engine_version = responses[0].engine_version
        progress.findings = tuple(finding for it in responses for finding in it.findings)
        progress.findings_total = sum(it.findings_total for it in responses)

    async def _matrix(
        self, job: GenerationJob, run: Run, first: RendererClient, request: RenderRequest
    ) -> list[RenderResponse]:
        """All runs. The renderer that is there does them one after the other; others that are free help."""
        todo = deque(enumerate(run.items))
        answers: dict[int, RenderResponse] = {}
        sizes = _Sizes(request.limits)

        async def work(renderer: RendererClient) -> None:
            while todo:
                index, item = todo.popleft()
                answers[index] = sizes.add(await self._one(renderer, request, item))

        async def help_out() -> None:
            try:
                async with self._lease(job, run) as renderer:
                    await work(renderer)
            except Waiting:
                return  # no other renderer is free

        asked = job.spec.matrix.parallelism if job.spec.matrix else None
        helpers = min(asked or DEFAULT_PARALLELISM, len(run.items)) - 1
        seconds = self._wall_seconds(job)
        try:
            async with asyncio.timeout(seconds) as limit:
                await _all([work(first), *(help_out() for _ in range(helpers))])
        except TimeoutError:
            if not limit.expired():
                raise
            raise Terminal(
                f"{len(answers)} of the {len(run.items)} runs of spec.matrix ended within {seconds:.0f} s (spec.timeout)",
                reason=Reason.DEADLINE_EXCEEDED,
            ) from None
        if len(answers) < len(run.items):
            raise Waiting("a renderer went away while it was asked", reason=Reason.RENDERER_UNAVAILABLE, after=1.0)
        return [answers[index] for index in range(len(run.items))]

    @staticmethod
    async def _one(renderer: RendererClient, request: RenderRequest, item: Item) -> RenderResponse:
        try:
            return await renderer.render(
                request.model_copy(update={"variables": dict(item.values), "below": item.below})
            )
        except RenderFailure as error:
            error.message = f"{item.label}: {error.message}"
            raise


class _Sizes:
    """Counts what the runs of a matrix make together: the operator holds all of it."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._files = self._bytes = 0

    def add(self, response: RenderResponse) -> RenderResponse:
        self._files += len(response.files)
        self._bytes += sum(file.size for file in response.files)
        if self._files > self._limits.files or self._bytes > self._limits.output_bytes:
            raise Terminal(
                f"the runs of spec.matrix make more than {self._limits.files} files or {self._limits.output_bytes} bytes together",
                reason=Reason.OUTPUT_TOO_LARGE,
            )
        return response


async def _all(works: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Until all have ended or one has failed; none goes on afterwards."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        if (error := task.exception()) is not None:
            raise error
