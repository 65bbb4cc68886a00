"""Brings one GenerationJob to its end: observe → plan → run → status. Called by the runner, one run of a job at a time.

What is decided is in ``job.plan``, what a run does in ``job.execute``; here is what happens around it: waiting, progress,
cancelling, giving up, time to live.
"""

import asyncio
import hashlib
import hmac
import logging
import time
from collections.abc import Callable
from datetime import datetime

from unjucks_api.conditions import (
    ConditionType,
    find_condition,
    has_fault,
    paused_status,
    recovered_status,
    resumed_status,
    unreadable_status,
)
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
from unjucks_operator.errors import Conflict, InvalidSpec, Retryable, Terminal, Waiting
from unjucks_operator.job.afterwards import Seen, compute_after, has_future, plan_occasion, seconds_to_schedule
from unjucks_operator.job.dependencies import follow
from unjucks_operator.job.execute import Execution
from unjucks_operator.job.execute import Place as RunPlace
from unjucks_operator.job.looking import Looking
from unjucks_operator.job.observe import read_sources
from unjucks_operator.job.outputs.opening import Outputs
from unjucks_operator.job.plan import (
    Done,
    JobObserved,
    Occasion,
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
from unjucks_operator.job.running import Running
from unjucks_operator.job.status import (
    Place,
    Progress,
    compute_failed,
    compute_pending,
    compute_previewed,
    compute_running,
    compute_succeeded,
    compute_suspended,
    compute_unpreviewed,
    schedule_facts,
)
from unjucks_operator.kube.api import KubeApi, Manifest
from unjucks_operator.kube.resources import GENERATION_JOB
from unjucks_operator.renderers.client import RenderFailure
from unjucks_operator.renderers.demand import DemandBoard
from unjucks_operator.reporting import StatusWriter
from unjucks_operator.storage import TemplateStorage

_log = logging.getLogger(__name__)

ACTION = "RunJob"
WAITS_FOR_USER = frozenset(
    {
        Reason.TENANT_NOT_FOUND,
        Reason.REGISTRY_NOT_FOUND,
        Reason.REGISTRY_NOT_READY,
        Reason.VARIABLES_REF_NOT_FOUND,
        Reason.DEPENDENCY_NOT_READY,
    }
)
"""Waits that may last for days: a job keeps no renderer for itself meanwhile."""
RETRY_LOOK = 30.0
"""Seconds until an ended job is looked after again when something that is needed for it is down."""


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
        outputs: Outputs,
        isolated: Callable[[GenerationJob, Tenant], bool],
        room: HourlyRoom,
        demand: DemandBoard,
        courier_demand: DemandBoard,
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
        self._isolated = isolated
        self._running = Running(store=store, execution=execution, retries=config.jobs.retries)
        self._looking = Looking(outputs=outputs, tree=self._tree_served, actions=self._served, clock=time.monotonic)
        self._room = room
        self._demand = demand
        self._courier_demand = courier_demand
        self._status = status
        self._config = config
        self._inputs_secret = inputs_secret
        self._now = now
        self._wanting: dict[ObjectKey, str] = {}

    async def __call__(self, key: ObjectKey) -> Result:
        """One run."""
        body = self._store.get(key)
        if body is None or body["metadata"].get("deletionTimestamp"):
            self._release(key)
            self._running.forget(key)
            self._looking.forget(key)
            return Result()
        try:
            job = GenerationJob.parse(body)
        except InvalidObjectError as error:
            # What ended well did not fail because a newer schema is stricter; a change by the user is told.
            status = body.get("status") or {}
            if not has_ended(status) or status.get("observedGeneration") != body["metadata"].get("generation"):
                await self._write(body, unreadable_status(body, error.message, now=self._now()))
            raise InvalidSpec(error.message) from None
        if job.paused:
            self._release(key)
            await self._write(body, paused_status(job.status, now=self._now()))
            return Result()
        if find_condition(job.status, ConditionType.PAUSED):
            body = await self._write(body, resumed_status(job.status))
            job = GenerationJob.parse(body)
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
            return await self._afterwards(key, job, body)
        at_rest = plan_at_rest(job)
        if at_rest is not None:
            return await self._rest(key, job, body, at_rest)
        return await self._start(key, job, body, self._tenant(job), None)

    def _tenant(self, job: GenerationJob) -> Tenant:
        tenant = self._directory.require(job.namespace)
        if tenant.database_mode is DatabaseMode.NONE:
            raise Terminal(
                f"Tenant {tenant.name} has no database (spec.database.mode is None), so no job can be recorded",
                reason=Reason.TENANT_NOT_READY,
            )
        return tenant

    async def _start(
        self, key: ObjectKey, job: GenerationJob, body: Manifest, tenant: Tenant, occasion: Occasion | None
    ) -> Result:
        started, clock = self._now(), asyncio.get_running_loop().time
        begun = clock()
        role = self._role_of(tenant)
        registry, actions = await self._observe_registry(job, role)
        wanted = [it.name for it in job.spec.depends_on]
        observed = JobObserved(
            tenant_suspended=tenant.spec.suspend,
            data_policy=tenant.spec.data_policy,
            registry=registry,
            actions=actions,
            sources=await read_sources(self._api, job),
            inputs_key=hmac.new(self._inputs_secret(), tenant.uid.encode(), hashlib.sha256).digest(),
            dependencies=follow(wanted, lambda name: self._store.get((job.namespace, name))) if wanted else {},
        )
        # In a thread: reading large variables takes seconds at worst, and everybody else's work must go on meanwhile.
        decision = await asyncio.to_thread(plan_job, job, observed, occasion, self._now())
        progress = Progress(started=started, resolve_seconds=clock() - begun)
        match decision:
            case Done():
                return await self._expire(job) or Result()
            case Stop() | Pause():
                return await self._rest(key, job, body, decision)
            case Run() as run:
                await self._room.enter(tenant.uid, role, key, run.key, self._hourly(tenant))
                self._wanting[key] = tenant.uid
                if not self._isolated(job, tenant):
                    self._demand.want(tenant.uid, ("job", key))
                return await self._run(key, job, body, run, RunPlace(tenant, role), progress)

    async def _afterwards(self, key: ObjectKey, job: GenerationJob, body: Manifest) -> Result:
        """A job that has ended: another run, or only its condition, and when to look again.

        How it ended stays told until another run has ended; what is down meanwhile changes nothing about it.
        """
        expiry = await self._expire(job)
        told = recovered_status(job.status, generation=job.generation, now=self._now())
        if expiry is None or job.spec.cancel or not has_future(job):
            self._release(key)
            if expiry is not None and has_fault(job.status):
                await self._write(body, told)
            return expiry or Result()
        try:
            tenant = self._tenant(job)
            seen = await self._looking.look(key, job, tenant)
            job = job.model_copy(update={"status": told})
            occasion = None if tenant.spec.suspend else plan_occasion(job, seen, self._now())
            if occasion is not None:
                return await self._again(key, job, body, tenant, seen, occasion)
            self._release(key)
            self._courier_demand.release(tenant.uid, ("job", key), self._now())
            await self._write(body, compute_after(job, seen, now=self._now()))
        except Conflict:
            raise
        except (Waiting, Retryable) as error:
            if error.reason in WAITS_FOR_USER:
                self._release(key)
            _log.debug("an ended job is looked after later: %s", error.message)
            return Result(requeue_after=max(error.after or 0.0, RETRY_LOOK))
        return Result(requeue_after=self._next_look(key, job, expiry))

    async def _again(
        self, key: ObjectKey, job: GenerationJob, body: Manifest, tenant: Tenant, seen: Seen, occasion: Occasion
    ) -> Result:
        try:
            return await self._start(key, job, body, tenant, occasion)
        except Terminal as error:
            if occasion.dry and seen.action is not None:
                self._running.forget(key)
                status = compute_unpreviewed(job, seen.action, error, now=self._now())
                return await self._finish(key, self._newest(key, body), status)
            status = compute_failed(job, error.reason, error.message, now=self._now())
            if seen.action is not None:
                # Not tried again with the same templates.
                status["template"] = {**(job.status.get("template") or {}), "newestDigest": seen.action.digest}
            status |= schedule_facts(job, occasion.scheduled, self._now())
            return await self._finish(key, body, status)

    def _next_look(self, key: ObjectKey, job: GenerationJob, expiry: Result) -> float | None:
        times = (expiry.requeue_after, seconds_to_schedule(job, self._now()), self._looking.seconds_to_look(key, job))
        known = [seconds for seconds in times if seconds is not None]
        return min(known) + 0.1 if known else None

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
        place_in_template = Place()

        async def tell(current: Manifest) -> Manifest:
            if run.occasion.name or has_fault(job.status):
                return current  # it is told how the run before ended, or that the last try broke off
            return await self._write(current, compute_running(job, run, progress, now=self._now()))

        try:
            reason, body = await self._running.run(key, job, body, run, place, progress, tell)
            if run.occasion.dry:
                status = compute_previewed(job, run, progress, now=self._now())
            else:
                status = compute_succeeded(job, run, progress, reason=reason, now=self._now())
        except RenderFailure as error:
            if run.occasion.dry:
                raise
            place_in_template = Place(error.path, error.line, error.column, error.limit)
            status = self._failed(job, run, progress, _told(job, error), place_in_template)
        except Terminal as error:
            if run.occasion.dry:
                raise  # a look at what would be is no failure of what is
            status = self._failed(job, run, progress, error, place_in_template)
        self._running.forget(key)
        return await self._finish(key, self._newest(key, body), status)

    async def _finish(self, key: ObjectKey, body: Manifest, status: dict[str, object]) -> Result:
        """Tell the end. The time to live counts from here."""
        written = await self._write(body, status)
        self._release(key)
        job = GenerationJob.parse(written)
        self._looking.ended(key, job)
        expiry = await self._expire(job)
        return Result() if expiry is None else Result(requeue_after=self._next_look(key, job, expiry))

    def _failed(
        self, job: GenerationJob, run: Run, progress: Progress, error: Terminal, place: Place
    ) -> dict[str, object]:
        return compute_failed(
            job, error.reason, error.message, place=place, run=run, progress=progress, now=self._now()
        )

    def _tree_served(self, job: GenerationJob) -> str:
        body = self._registries.get((job.namespace, job.spec.registry_ref.name)) or {}
        return str(((body.get("status") or {}).get("artifact") or {}).get("digest") or "")

    async def _served(self, job: GenerationJob) -> tuple[str, tuple[Action, ...] | None]:
        """What the job's registry serves now."""
        registry, actions = await self._observe_registry(job, self._role_of(self._tenant(job)))
        return ("", None) if registry is None else (artifact_digest(registry), actions)

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

    async def _expire(self, job: GenerationJob) -> Result | None:
        """Delete the job when its time to live is over (None); otherwise look again then. One that is to run once more lives."""
        end = delete_at(job) if is_finished(job) else None
        if end is None:
            return Result()
        left = (end - self._now()).total_seconds()
        if left > 0:
            return Result(requeue_after=left + 1.0)
        await self._api.delete(GENERATION_JOB, job.name, job.namespace, uid=job.uid)
        return None

    async def _write(self, body: Manifest, status: dict[str, object]) -> Manifest:
        return await self._status.write(GENERATION_JOB, self._store, body, status, action=ACTION)

    def _newest(self, key: ObjectKey, body: Manifest) -> Manifest:
        """The body for the final status. A spec that changed meanwhile makes a new run; this one is told at its generation."""
        newest = self._store.get(key)
        return newest if newest is not None and newest["metadata"]["uid"] == body["metadata"]["uid"] else body

    def _release(self, key: ObjectKey) -> None:
        self._room.leave(key)
        uid = self._wanting.pop(key, None)
        if uid is not None:
            self._demand.release(uid, ("job", key), self._now())
            self._courier_demand.release(uid, ("job", key), self._now())
