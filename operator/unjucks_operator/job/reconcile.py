"""Brings one GenerationJob to its end: observe → plan → run → status. Called by the runner, one run of a job at a time.

What is decided is in ``job.plan``, what a run does in ``job.execute``; here is what happens around it: waiting, progress,
cancelling, giving up, time to live.
"""

import asyncio
import hashlib
import hmac
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

from unjucks_api.conditions import paused_status, unreadable_status
from unjucks_api.reasons import Reason
from unjucks_api.render_protocol import Action
from unjucks_api.v1alpha1.common import InvalidObjectError
from unjucks_api.v1alpha1.generation_job import GenerationJob
from unjucks_api.v1alpha1.template_registry import TemplateRegistry
from unjucks_api.v1alpha1.tenant import DatabaseMode, Tenant
from unjucks_operator.artifact import artifact_digest, catalog_key
from unjucks_operator.config import Config
from unjucks_operator.directory import TenantDirectory
from unjucks_operator.engine.runner import Result
from unjucks_operator.engine.store import ObjectKey, ResourceStore
from unjucks_operator.errors import Conflict, InvalidSpec, OperatorError, Retryable, Terminal, Waiting
from unjucks_operator.job.execute import Execution
from unjucks_operator.job.execute import Place as RunPlace
from unjucks_operator.job.observe import read_sources
from unjucks_operator.job.plan import (
    Done,
    JobObserved,
    Pause,
    Run,
    Stop,
    delete_at,
    has_ended,
    is_finished,
    plan_at_rest,
    plan_job,
)
from unjucks_operator.job.room import HourlyRoom
from unjucks_operator.job.status import (
    Place,
    Progress,
    compute_failed,
    compute_pending,
    compute_running,
    compute_succeeded,
    compute_suspended,
)
from unjucks_operator.kube.api import KubeApi, Manifest
from unjucks_operator.kube.resources import GENERATION_JOB
from unjucks_operator.renderers.client import RenderFailure
from unjucks_operator.renderers.demand import DemandBoard
from unjucks_operator.reporting import StatusWriter
from unjucks_operator.storage import TemplateStorage

ACTION = "RunJob"
WAITS_FOR_USER = frozenset(
    {
        Reason.TENANT_NOT_FOUND,
        Reason.REGISTRY_NOT_FOUND,
        Reason.REGISTRY_NOT_READY,
        Reason.VARIABLES_REF_NOT_FOUND,
    }
)
"""Waits that may last for days: a job keeps no renderer for itself meanwhile."""
QUIET_SECONDS = 1.0
"""A run that ends within this time writes its status once, at the end."""


def _told(job: GenerationJob, error: RenderFailure) -> Terminal:
    """The failure in the words of the job: its own timeout is no limit of the platform's."""
    if error.limit != "time":
        return error
    return Terminal(
        f"the run did not end within {job.timeout_seconds} s (spec.timeout): {error.message}",
        reason=Reason.DEADLINE_EXCEEDED,
    )


class JobReconciler:
    """The reconcile function of GenerationJobs, with what it needs. Remembers nothing that cannot be lost."""

    def __init__(
        self,
        *,
        api: KubeApi,
        store: ResourceStore,
        registries: ResourceStore,
        directory: TenantDirectory,
        role_of: Callable[[Tenant], str],
        storage: TemplateStorage,
        execution: Execution,
        room: HourlyRoom,
        demand: DemandBoard,
        status: StatusWriter,
        config: Config,
        inputs_secret: Callable[[], bytes],
        now: Callable[[], datetime],
    ) -> None:
        self._api = api
        self._store = store
        self._registries = registries
        self._directory = directory
        self._role_of = role_of
        self._storage = storage
        self._execution = execution
        self._room = room
        self._demand = demand
        self._status = status
        self._config = config
        self._inputs_secret = inputs_secret
        self._now = now
        self._wanting: dict[ObjectKey, str] = {}
        self._lost: dict[ObjectKey, tuple[str, int]] = {}
        """How often a run (its key) lost its renderer."""
        self._changed: dict[ObjectKey, asyncio.Event] = {}
        store.subscribe(self._notice)

    async def __call__(self, key: ObjectKey) -> Result:
        """One run."""
        body = self._store.get(key)
        if body is None or body["metadata"].get("deletionTimestamp"):
            self._release(key)
            self._lost.pop(key, None)
            return Result()
        try:
            job = GenerationJob.parse(body)
        except InvalidObjectError as error:
            # What ended well did not fail because a newer schema is stricter.
            if not has_ended(body.get("status") or {}):
                await self._write(body, unreadable_status(body, error.message, now=self._now()))
            raise InvalidSpec(error.message) from None
        if job.paused:
            self._release(key)
            await self._write(body, paused_status(job.status, now=self._now()))
            return Result()
        try:
            return await self._reconcile(key, job, body)
        except Conflict:
            raise  # the object or its output changed meanwhile: nothing to tell, try again at once
        except (Waiting, Retryable) as error:
            if error.reason in WAITS_FOR_USER:
                self._release(key)
            # The run may have told its progress, so the body it began with is not the newest.
            await self._write(self._newest(key, body), compute_pending(job, error, started=None, now=self._now()))
            raise
        except Terminal as error:
            return await self._finish(key, body, compute_failed(job, error.reason, error.message, now=self._now()))

    async def _reconcile(self, key: ObjectKey, job: GenerationJob, body: Manifest) -> Result:
        if is_finished(job):
            self._release(key)
            return await self._expire(job)
        at_rest = plan_at_rest(job)
        if at_rest is not None:
            return await self._rest(key, job, body, at_rest)
        started, clock = self._now(), asyncio.get_running_loop().time
        begun = clock()
        tenant = self._directory.require(job.namespace)
        if tenant.database_mode is DatabaseMode.NONE:
            raise Terminal(
                f"Tenant {tenant.name} has no database (spec.database.mode is None), so no job can be recorded",
                reason=Reason.TENANT_NOT_READY,
            )
        role = self._role_of(tenant)
        registry, actions = await self._observe_registry(job, role)
        observed = JobObserved(
            tenant_suspended=tenant.spec.suspend,
            data_policy=tenant.spec.data_policy,
            registry=registry,
            actions=actions,
            sources=await read_sources(self._api, job),
            inputs_key=hmac.new(self._inputs_secret(), tenant.uid.encode(), hashlib.sha256).digest(),
        )
        # In a thread: reading large variables takes seconds at worst, and everybody else's work must go on meanwhile.
        decision = await asyncio.to_thread(plan_job, job, observed)
        progress = Progress(started=started, resolve_seconds=clock() - begun)
        match decision:
            case Done():
                return await self._expire(job)
            case Stop() | Pause():
                return await self._rest(key, job, body, decision)
            case Run() as run:
                await self._room.enter(tenant.uid, role, key, run.key, self._hourly(tenant))
                self._wanting[key] = tenant.uid
                self._demand.want(tenant.uid, ("job", key))
                return await self._run(key, job, body, run, RunPlace(tenant, role), progress)

    def _hourly(self, tenant: Tenant) -> int:
        asked = tenant.spec.quota.jobs.per_hour if tenant.spec.quota.jobs else None
        return self._config.tiers[tenant.spec.tier.value].runs_hourly(asked)

    async def _rest(self, key: ObjectKey, job: GenerationJob, body: Manifest, decision: Stop | Pause) -> Result:
        if isinstance(decision, Stop):
            status = compute_failed(job, decision.reason, decision.message, now=self._now())
            return await self._finish(key, body, status)
        self._release(key)
        await self._write(body, compute_suspended(job, decision.message, now=self._now()))
        return Result()

    async def _run(
        self, key: ObjectKey, job: GenerationJob, body: Manifest, run: Run, place: RunPlace, progress: Progress
    ) -> Result:
        place_in_template, reason = Place(), Reason.SUCCEEDED
        try:
            reason, body = await self._watched(key, job, body, run, place, progress)
            status = compute_succeeded(job, run, progress, reason=reason, now=self._now())
        except RenderFailure as error:
            place_in_template = Place(error.path, error.line, error.column, error.limit)
            status = self._failed(job, run, progress, _told(job, error), place_in_template)
        except Terminal as error:
            status = self._failed(job, run, progress, error, place_in_template)
        except Retryable as error:
            if error.reason is not Reason.RENDERER_LOST:
                raise
            known, before = self._lost.get(key, ("", 0))
            lost = before + 1 if known == run.key else 1
            self._lost[key] = (run.key, lost)
            if lost <= self._config.jobs.retries:
                raise
            given_up = Terminal(f"given up after {lost} attempts: {error.message}", reason=Reason.RETRY_LIMIT_REACHED)
            status = self._failed(job, run, progress, given_up, place_in_template)
        self._lost.pop(key, None)
        return await self._finish(key, self._newest(key, body), status)

    async def _finish(self, key: ObjectKey, body: Manifest, status: dict[str, object]) -> Result:
        """Tell the end. The time to live counts from here."""
        written = await self._write(body, status)
        self._release(key)
        return await self._expire(GenerationJob.parse(written))

    def _failed(
        self, job: GenerationJob, run: Run, progress: Progress, error: Terminal, place: Place
    ) -> dict[str, object]:
        return compute_failed(
            job, error.reason, error.message, place=place, run=run, progress=progress, now=self._now()
        )

    async def _watched(
        self, key: ObjectKey, job: GenerationJob, body: Manifest, run: Run, place: RunPlace, progress: Progress
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
                        body = await self._write(body, compute_running(job, run, progress, now=self._now()))
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

    async def _observe_registry(
        self, job: GenerationJob, role: str
    ) -> tuple[TemplateRegistry | None, tuple[Action, ...] | None]:
        body = self._registries.get((job.namespace, job.spec.registry_ref.name))
        if body is None:
            return None, None
        try:
            registry = TemplateRegistry.parse(body)
        except InvalidObjectError as error:
            raise Waiting(error.message, reason=Reason.REGISTRY_NOT_READY) from None
        digest = artifact_digest(registry)
        return registry, await self._storage.actions(role, catalog_key(registry, digest)) if digest else None

    async def _expire(self, job: GenerationJob) -> Result:
        """Delete the job when its time to live is over; otherwise look again then."""
        end = delete_at(job)
        if end is None:
            return Result()
        left = (end - self._now()).total_seconds()
        if left > 0:
            return Result(requeue_after=left + 1.0)
        await self._api.delete(GENERATION_JOB, job.name, job.namespace, uid=job.uid)
        return Result()

    async def _write(self, body: Manifest, status: dict[str, object]) -> Manifest:
        return await self._status.write(GENERATION_JOB, self._store, body, status, action=ACTION)

    def _newest(self, key: ObjectKey, body: Manifest) -> Manifest:
        """The body for the final status. A spec that changed meanwhile makes a new run; this one is told at its generation."""
        newest = self._store.get(key)
        return newest if newest is not None and newest["metadata"]["uid"] == body["metadata"]["uid"] else body

    def _notice(self, key: ObjectKey, _before: Manifest | None, _after: Manifest | None) -> None:
        event = self._changed.get(key)
        if event is not None:
            event.set()

    def _release(self, key: ObjectKey) -> None:
        self._room.leave(key)
        uid = self._wanting.pop(key, None)
        if uid is not None:
            self._demand.release(uid, ("job", key), self._now())
