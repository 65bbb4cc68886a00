"""Brings one TemplateRegistry up to date with its source: observe → plan → ingest → status. Called by the runner.

The source is normalised and parsed by a renderer of the registry's own tenant; the operator stores what came back after checking
its digest again. On any failure the artifact that was served stays served.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime

from unjucks_api.conditions import paused_status, unreadable_status
from unjucks_api.reasons import Reason
from unjucks_api.render_protocol import Limits
from unjucks_api.v1alpha1.common import InvalidObjectError
from unjucks_api.v1alpha1.template_registry import TemplateRegistry
from unjucks_api.v1alpha1.tenant import DatabaseMode, Tenant
from unjucks_operator.artifact import artifact_digest, catalog_key, refuse_classification
from unjucks_operator.config import Config
from unjucks_operator.directory import TenantDirectory
from unjucks_operator.engine.runner import Result
from unjucks_operator.engine.store import ObjectKey, ResourceStore
from unjucks_operator.errors import InvalidSpec, NotPermitted, OperatorError, Terminal, Waiting
from unjucks_operator.kube.api import KubeApi, Manifest
from unjucks_operator.kube.resources import TEMPLATE_REGISTRY
from unjucks_operator.kube.store import ChildStore
from unjucks_operator.registry.observe import read_source, source_version
from unjucks_operator.registry.plan import Ingest, Keep, fingerprint, judge, plan_registry
from unjucks_operator.registry.status import compute_failed, compute_ingested, compute_kept
from unjucks_operator.renderers.demand import DemandBoard
from unjucks_operator.renderers.pool import RendererPool
from unjucks_operator.reporting import StatusWriter
from unjucks_operator.storage import TemplateStorage, to_tree

ACTION = "IngestTemplates"


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
        status: StatusWriter,
        config: Config,
        now: Callable[[], datetime],
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
        self._now = now
        self._wanting: dict[ObjectKey, str] = {}

    async def __call__(self, key: ObjectKey) -> Result:
        """One run."""
        body = self._store.get(key)
        if body is None or body["metadata"].get("deletionTimestamp"):
            self._release(key)
            return Result()
        try:
            registry = TemplateRegistry.parse(body)
        except InvalidObjectError as error:
            await self._write(body, unreadable_status(body, error.message, now=self._now()))
            raise InvalidSpec(error.message) from None
        version = self._fingerprint(registry)
        try:
            await self._reconcile(key, registry, body)
        except OperatorError as error:
            await self._report(key, registry, body, error, version)
            raise
        self._release(key)
        return Result()

    async def _reconcile(self, key: ObjectKey, registry: TemplateRegistry, body: Manifest) -> None:
        if registry.paused:
            await self._write(body, paused_status(registry.status, now=self._now()))
            return
        if registry.spec.suspend:
            await self._write(body, compute_kept(registry, suspended=True, now=self._now()))
            return
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
        match plan_registry(registry, version, policy, artifact_stored=await self._is_stored(role, registry)):
            case Keep():
                if registry.status.get("observedGeneration") != registry.generation:
                    await self._write(body, compute_kept(registry, suspended=False, now=self._now()))
            case Ingest(wanted):
                await self._ingest(key, registry, body, tenant, role, version, wanted)

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
    ) -> None:
        jobs = self._config.jobs
        limits = Limits(
            wall_seconds=jobs.wall_seconds,
            cpu_seconds=jobs.cpu_seconds,
            memory_bytes=jobs.memory_bytes,
            source_bytes=jobs.source_bytes,
            files=jobs.files,
        )
        on_finding = tenant.spec.data_policy.on_finding_in(registry.classification)
        request = await read_source(self._api, registry, version, limits, on_finding)
        self._wanting[key] = tenant.uid
        self._demand.want(tenant.uid, ("registry", key))
        # Without a ready pod there is nothing to wait for here: the pod's event brings this key back.
        patience = self._config.renderer.busy_wait if self._pool.ready(tenant.uid) else 0.0
        async with self._pool.lease(tenant.uid, wait_seconds=patience) as renderer:
            analysis = await renderer.analyze(request)
        verdict = judge(registry, analysis)
        if verdict.serve:
            tree = await asyncio.to_thread(to_tree, analysis.files)
            await self._storage.save(
                role, analysis.digest, tree, catalog_key(registry, analysis.digest), analysis.actions
            )
        await self._write(body, compute_ingested(registry, analysis, verdict, wanted, now=self._now()))

    def _fingerprint(self, registry: TemplateRegistry) -> str | None:
        """What is going to be read now; None when the source, or the tenant, is not there."""
        try:
            policy = self._directory.require(registry.namespace).spec.data_policy
            return fingerprint(registry, source_version(registry, self._config_maps), policy)
        except Waiting:
            return None

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
                and version == status.get("sourceVersion")
                and status.get("observedGeneration") == registry.generation
            ):
                return  # what was read, good or bad, is still what the source holds: an outage of ours makes it no less true
            version = None
        await self._write(body, compute_failed(registry, error, version=version, now=self._now()))

    async def _write(self, body: Manifest, status: dict[str, object]) -> None:
        await self._status.write(TEMPLATE_REGISTRY, self._store, body, status, action=ACTION)

    def _release(self, key: ObjectKey) -> None:
        uid = self._wanting.pop(key, None)
        if uid is not None:
            self._demand.release(uid, ("registry", key), self._now())
