"""Brings one TemplateRegistry up to date with its source: observe → plan → ingest → status. Called by the runner.

The source is normalised and parsed by a renderer of the registry's own tenant; the operator stores what came back after checking
its digest again. On any failure the artifact that was served stays served.
"""

import asyncio
import random
from collections import OrderedDict
from collections.abc import Callable

from unjucks_api.conditions import ConditionType, find_condition, paused_status, resumed_status, unreadable_status
from unjucks_api.courier_protocol import COURIER_FAILURES, FetchResponse
from unjucks_api.reasons import Reason
from unjucks_api.render_protocol import AnalyzeRequest, AnalyzeResponse, Limits, SourceFile
from unjucks_api.v1alpha1.common import InvalidObjectError
from unjucks_api.v1alpha1.template_registry import TemplateRegistry
from unjucks_api.v1alpha1.tenant import DatabaseMode, Tenant
from unjucks_operator.artifact import artifact_digest, catalog_key, engine_options, refuse_classification
from unjucks_operator.config import Config
from unjucks_operator.directory import TenantDirectory
from unjucks_operator.engine.clock import Clock
from unjucks_operator.engine.runner import Result
from unjucks_operator.engine.store import ObjectKey, ResourceStore
from unjucks_operator.errors import InvalidSpec, NotPermitted, OperatorError, Retryable, Terminal, Waiting
from unjucks_operator.kube.api import KubeApi, Manifest
from unjucks_operator.kube.resources import TEMPLATE_REGISTRY
from unjucks_operator.kube.store import ChildStore
from unjucks_operator.registry.fetch import Fetcher
from unjucks_operator.registry.history import Entry
from unjucks_operator.registry.observe import read_source, source_version
from unjucks_operator.registry.plan import Ingest, Keep, Serve, fingerprint, judge, plan_registry
from unjucks_operator.registry.remote import needed_secrets
from unjucks_operator.registry.schedule import Schedule
from unjucks_operator.registry.status import (
    compute_failed,
    compute_ingested,
    compute_kept,
    compute_pinned,
    compute_unchanged,
    compute_unfetched,
)
from unjucks_operator.renderers.demand import DemandBoard
from unjucks_operator.renderers.pool import RendererPool
from unjucks_operator.reporting import StatusWriter
from unjucks_operator.storage import TemplateStorage, to_tree

ACTION = "IngestTemplates"
_MOST_KEPT = 8


class RegistryReconciler:
    """The reconcile function of TemplateRegistries, with what it needs."""

    def __init__(
        self,
        *,
        api: KubeApi,
        store: ResourceStore,
        config_maps: ChildStore,
        directory: TenantDirectory,
        role_of: Callable[[Tenant], str],
        storage: TemplateStorage,
        pool: RendererPool,
        demand: DemandBoard,
        fetcher: Fetcher,
        courier_demand: DemandBoard,
        status: StatusWriter,
        config: Config,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._api = api
        self._store = store
        self._config_maps = config_maps
        self._directory = directory
        self._role_of = role_of
        self._storage = storage
        self._pool = pool
        self._demand = demand
        self._status = status
        self._config = config
        self._now = clock.wall
        self._wanting: dict[ObjectKey, str] = {}
        self._wanting_courier: dict[ObjectKey, str] = {}
        self._fetcher = fetcher
        self._courier_demand = courier_demand
        self._schedule = Schedule(clock, rng, least=config.courier.minimum_interval)
        self._verified: dict[ObjectKey, tuple[str, str]] = {}
        """Which fingerprint, with which Secrets, a source was last verified with: another one is verified anew."""
        self._fetched: OrderedDict[ObjectKey, tuple[str, FetchResponse]] = OrderedDict()
        """What was fetched while no renderer was ready: taken up once, by the run after that."""

    async def __call__(self, key: ObjectKey) -> Result:
        """One run."""
        body = self._store.get(key)
        if body is None or body["metadata"].get("deletionTimestamp"):
            self._forget(key)
            return Result()
        try:
            registry = TemplateRegistry.parse(body)
        except InvalidObjectError as error:
            status = unreadable_status(body, error.message, now=self._now())
            status.pop("sourceVersion", None)  # once the spec is as it was, the source is read again to tell of itself
            await self._write(body, status)
            raise InvalidSpec(error.message) from None
        if not registry.paused and find_condition(registry.status, ConditionType.PAUSED):
            body = await self._write(body, resumed_status(registry.status))
            registry = TemplateRegistry.parse(body)
        version = self._fingerprint(registry)
        try:
            again = await self._reconcile(key, registry, body)
        except OperatorError as error:
            if registry.spec.remote and _is_the_sources(error):
                return await self._report_unfetched(key, registry, body, error)
            await self._report(key, registry, body, error, version)
            raise
        self._release(key)
        return Result(again)

    async def _reconcile(self, key: ObjectKey, registry: TemplateRegistry, body: Manifest) -> float | None:
        """Seconds until the next look when nothing else happens."""
        if registry.paused:
            await self._write(body, paused_status(registry.status, now=self._now()))
            return None
        if registry.spec.suspend:
            await self._write(body, compute_kept(registry, suspended=True, now=self._now()))
            return None
        tenant = self._directory.require(registry.namespace)
        if tenant.database_mode is DatabaseMode.NONE:
            raise Terminal(
                f"Tenant {tenant.name} has no database (spec.database.mode is None), so nothing can be stored",
                reason=Reason.TENANT_NOT_READY,
            )
        policy = tenant.spec.data_policy
        refuse_classification(registry, policy)
        version = source_version(registry, self._config_maps)
        role = self._role_of(tenant)
        stored = await self._is_stored(role, registry)
        remote = registry.spec.remote and not registry.spec.pin
        settled = stored and registry.status.get("sourceVersion") == fingerprint(registry, version, policy)
        wait = self._schedule.due(key, registry, settled=settled) if remote else 0.0
        if wait > 0 and (stored or not artifact_digest(registry)):
            return wait
        match plan_registry(registry, version, policy, artifact_stored=stored, due=remote):
            case Keep():
                if registry.status.get("observedGeneration") != registry.generation:
                    await self._write(body, compute_kept(registry, suspended=False, now=self._now()))
            case Serve(wanted, entry):
                await self._serve(key, registry, body, tenant, role, wanted, entry)
            case Ingest(wanted, fresh):
                fetched = await self._fetch(key, registry, tenant, wanted, fresh=fresh) if remote else None
                if fetched is not None and fetched.unchanged:
                    await self._write(body, compute_unchanged(registry, now=self._now()))
                else:
                    await self._ingest(key, registry, body, tenant, role, version, wanted, fetched)
                if remote:
                    self._fetched.pop(key, None)
                    return self._schedule.succeeded(key, registry)
        return None

    async def _fetch(
        self, key: ObjectKey, registry: TemplateRegistry, tenant: Tenant, wanted: str, *, fresh: bool
    ) -> FetchResponse:
        """What the source holds now, by the tenant's courier."""
        kept = self._fetched.get(key)
        if kept is not None and kept[0] == wanted:
            return kept[1]
        material = await self._fetcher.material(registry)
        known = "" if fresh else str(registry.status.get("observedRevision") or "")
        if needed_secrets(registry.spec).signers and self._verified.get(key) != (wanted, material.version):
            known = ""  # the keys may be others than those it was verified with
        self._courier_demand.want(tenant.uid, ("registry", key))
        self._wanting_courier[key] = tenant.uid
        fetched = await self._fetcher.fetch(registry, tenant, material, known)
        self._release_courier(key)
        self._verified[key] = (wanted, material.version)
        if not fetched.unchanged:
            self._fetched[key] = (wanted, fetched)
            while len(self._fetched) > _MOST_KEPT:
                self._fetched.popitem(last=False)
        return fetched

    async def _serve(
        self,
        key: ObjectKey,
        registry: TemplateRegistry,
        body: Manifest,
        tenant: Tenant,
        role: str,
        wanted: str,
        entry: Entry,
    ) -> None:
        """Make a version of the history the served one. It is read again only when it was never read with these options."""
        digest = str(entry["digest"])
        files = await self._storage.files(role, digest)
        if files is None:
            raise Terminal(
                f"the version {registry.spec.pin} of status.history is not stored any more",
                reason=Reason.REVISION_NOT_FOUND,
            )
        actions = await self._storage.actions(role, catalog_key(registry, digest))
        if actions is None:
            request = self._limited(registry, tenant, files)
            analysis = await self._analyze(key, tenant, request)
            tree = await asyncio.to_thread(to_tree, analysis.files)
            await self._storage.save(role, digest, tree, catalog_key(registry, digest), analysis.actions)
            actions = tuple(analysis.actions)
        size = sum(len(item.content) * 3 // 4 - item.content[-2:].count("=") for item in files)
        await self._write(body, compute_pinned(registry, entry, actions, size, wanted, now=self._now()))

    async def _is_stored(self, role: str, registry: TemplateRegistry) -> bool:
        digest = artifact_digest(registry)
        return bool(digest) and await self._storage.actions(role, catalog_key(registry, digest)) is not None

    async def _ingest(
        self,
        key: ObjectKey,
        registry: TemplateRegistry,
        body: Manifest,
        tenant: Tenant,
        role: str,
        version: str,
        wanted: str,
        fetched: FetchResponse | None = None,
    ) -> None:
        limits = self._limits()
        on_finding = tenant.spec.data_policy.on_finding_in(registry.classification)
        files = fetched.files if fetched is not None else None
        request = await read_source(self._api, registry, version, limits, on_finding, files)
        analysis = await self._analyze(key, tenant, request)
        verdict = judge(registry, analysis)
        if verdict.serve:
            tree = await asyncio.to_thread(to_tree, analysis.files)
            await self._storage.save(
                role, analysis.digest, tree, catalog_key(registry, analysis.digest), analysis.actions
            )
        await self._write(body, compute_ingested(registry, analysis, verdict, wanted, fetched=fetched, now=self._now()))

    def _limits(self) -> Limits:
        jobs = self._config.jobs
        return Limits(
            wall_seconds=jobs.wall_seconds,
            cpu_seconds=jobs.cpu_seconds,
            memory_bytes=jobs.memory_bytes,
            source_bytes=jobs.source_bytes,
            files=jobs.files,
        )

    def _limited(self, registry: TemplateRegistry, tenant: Tenant, files: list[SourceFile]) -> AnalyzeRequest:
        """The request for a tree that is stored: it is below its folder already."""
        return AnalyzeRequest(
            files=files,
            engine=engine_options(registry),
            shared_schema=registry.spec.variables.schema_,
            limits=self._limits(),
            on_finding=tenant.spec.data_policy.on_finding_in(registry.classification),
        )

    async def _analyze(self, key: ObjectKey, tenant: Tenant, request: AnalyzeRequest) -> AnalyzeResponse:
        self._wanting[key] = tenant.uid
        self._demand.want(tenant.uid, ("registry", key))
        # Without a ready pod there is nothing to wait for here: the pod's event brings this key back.
        patience = self._config.renderer.busy_wait if self._pool.ready(tenant.uid) else 0.0
        async with self._pool.lease(tenant.uid, wait_seconds=patience) as renderer:
            return await renderer.analyze(request)

    def _fingerprint(self, registry: TemplateRegistry) -> str | None:
        """What is going to be read now; None when the source, or the tenant, is not there."""
        try:
            policy = self._directory.require(registry.namespace).spec.data_policy
            return fingerprint(registry, source_version(registry, self._config_maps), policy)
        except Waiting:
            return None

    async def _report_unfetched(
        self, key: ObjectKey, registry: TemplateRegistry, body: Manifest, error: OperatorError
    ) -> Result:
        """The source's own fault: it is told, and the source is looked at again, in time."""
        self._release(key)
        self._fetched.pop(key, None)
        again = self._schedule.failed(key, registry, transient=not isinstance(error, Terminal))
        await self._write(body, compute_unfetched(registry, error, now=self._now()))
        return Result(again)

    async def _report(
        self, key: ObjectKey, registry: TemplateRegistry, body: Manifest, error: OperatorError, version: str | None
    ) -> None:
        """Tell the user. What will not heal is remembered with its version, so that it is not tried again for nothing.

        ``version`` is from before the run: when the source changed meanwhile, what failed is not what it holds now.
        """
        if isinstance(error, Terminal):
            self._release(key)
            if isinstance(error, NotPermitted) or error.reason is Reason.TENANT_NOT_READY:
                version = None  # not the source's fault: the same source is read again once that has changed
        else:
            if error.reason is Reason.SOURCE_NOT_FOUND or error.reason is Reason.TENANT_NOT_FOUND:
                self._release(key)  # nobody knows how long: the tenant's renderers may go meanwhile
            status = registry.status
            if (
                version is not None
                and error.reason is not Reason.DEPENDENCY_NOT_READY
                and version == status.get("sourceVersion")
                and status.get("observedGeneration") == registry.generation
            ):
                return  # what was read, good or bad, is still what the source holds: an outage of ours makes it no less true
            version = None
        await self._write(body, compute_failed(registry, error, version=version, now=self._now()))

    async def _write(self, body: Manifest, status: dict[str, object]) -> Manifest:
        return await self._status.write(TEMPLATE_REGISTRY, self._store, body, status, action=ACTION)

    def _forget(self, key: ObjectKey) -> None:
        self._release(key)
        self._schedule.forget(key)
        self._verified.pop(key, None)
        self._fetched.pop(key, None)

    def look_again(self, key: ObjectKey) -> None:
        """The next run looks at the source, whenever it would have been time: the one before broke off."""
        self._schedule.forget(key)
        self._fetched.pop(key, None)

    def _release_courier(self, key: ObjectKey) -> None:
        uid = self._wanting_courier.pop(key, None)
        if uid is not None:
            self._courier_demand.release(uid, ("registry", key), self._now())

    def _release(self, key: ObjectKey) -> None:
        self._release_courier(key)
        uid = self._wanting.pop(key, None)
        if uid is not None:
            self._demand.release(uid, ("registry", key), self._now())


def _is_the_sources(error: OperatorError) -> bool:
    """Whether the source, or what was written about it, is at fault, and not a part of the platform."""
    if isinstance(error, NotPermitted | Waiting) or error.reason is Reason.TENANT_NOT_READY:
        return False
    return isinstance(error, Terminal) or (isinstance(error, Retryable) and error.reason in COURIER_FAILURES)
