"""The assembly: makes every part of the operator and ties them together. The one module that knows all of them.

    API client ─ health ─ database ─ lease ─ own secrets ─ child informers ─ event source ─ workers ─ sweep ─ housekeeping

Parts start in this order and stop in the opposite one (``engine.process``). No decision about objects is made here. Called by
``__main__``.
"""

import asyncio
import logging
import random
import signal
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, cast

from unjucks_api import names
from unjucks_api.reasons import Reason
from unjucks_api.v1alpha1.common import InvalidObjectError
from unjucks_api.v1alpha1.generation_job import GenerationJob
from unjucks_api.v1alpha1.tenant import Execution as ExecutionMode
from unjucks_api.v1alpha1.tenant import Tenant
from unjucks_operator.admission import Admission
from unjucks_operator.apply import Effects
from unjucks_operator.cache.addresses import parse_addresses
from unjucks_operator.cache.server import Server as CacheServer
from unjucks_operator.cache.server import Settings as CacheSettings
from unjucks_operator.cache.users import CacheUsers
from unjucks_operator.cache.watch import CacheWatch
from unjucks_operator.config import Config
from unjucks_operator.database.artifacts import Artifacts
from unjucks_operator.database.bootstrap import prepare
from unjucks_operator.database.catalogs import Catalogs
from unjucks_operator.database.homes import Homes
from unjucks_operator.database.ledger import Ledger
from unjucks_operator.database.pool import Database, PoolSettings
from unjucks_operator.database.tenants import Tenants
from unjucks_operator.database.usage import DatabaseUsage
from unjucks_operator.database.verify import IsolationVerifier
from unjucks_operator.directory import TenantDirectory
from unjucks_operator.engine.clock import Clock, SystemClock
from unjucks_operator.engine.health import HealthServer, Heartbeat
from unjucks_operator.engine.informer import Informer
from unjucks_operator.engine.kopf_glue import KopfSource, WatchMetrics
from unjucks_operator.engine.lease import Elector, Timing, unique_identity
from unjucks_operator.engine.metrics import Metrics
from unjucks_operator.engine.process import Exit, Group, Piece, Process, StartError
from unjucks_operator.engine.queue import Backoff, Lane, WorkQueue
from unjucks_operator.engine.runner import Runner
from unjucks_operator.engine.store import ObjectKey, ResourceStore
from unjucks_operator.errors import OperatorError, Waiting
from unjucks_operator.faults import FaultTeller, compute_job_fault, compute_registry_fault, compute_tenant_fault
from unjucks_operator.housekeeping import Housekeeper
from unjucks_operator.job.diffs import Diffs
from unjucks_operator.job.execute import Execution
from unjucks_operator.job.outputs.opening import Outputs
from unjucks_operator.job.plan import Run
from unjucks_operator.job.reconcile import JobReconciler
from unjucks_operator.job.rendering import Rendering
from unjucks_operator.job.room import HourlyRoom
from unjucks_operator.job.waiting import WaitingTeller
from unjucks_operator.kube.api import KubeApi
from unjucks_operator.kube.child import Child
from unjucks_operator.kube.children import ChildWriter
from unjucks_operator.kube.client import KubeClient
from unjucks_operator.kube.config import load as load_kube_config
from unjucks_operator.kube.credentials import Credentials, Endpoint
from unjucks_operator.kube.events import EventRecorder
from unjucks_operator.kube.resources import (
    CLUSTER_ROLE,
    CLUSTER_ROLE_BINDING,
    CONFIG_MAP,
    DEPLOYMENT,
    GENERATION_JOB,
    LIMIT_RANGE,
    NAMESPACE,
    NETWORK_POLICY,
    POD,
    RESOURCE_QUOTA,
    ROLE_BINDING,
    SECRET,
    SERVICE_ACCOUNT,
    TEMPLATE_REGISTRY,
    TENANT,
    Resource,
)
from unjucks_operator.kube.transport import Limits as ClientLimits
from unjucks_operator.network.discovery import Discovery
from unjucks_operator.network.probe import NetworkProbe
from unjucks_operator.platform import Platform
from unjucks_operator.registry.fetch import Fetcher
from unjucks_operator.registry.reconcile import RegistryReconciler
from unjucks_operator.renderers.allow import allow_list
from unjucks_operator.renderers.client import RendererClient
from unjucks_operator.renderers.courier import CourierClient, CourierPool
from unjucks_operator.renderers.demand import DemandBoard
from unjucks_operator.renderers.isolated import IsolatedRenderers
from unjucks_operator.renderers.pool import RendererPool
from unjucks_operator.reporting import StatusWriter
from unjucks_operator.storage import TemplateStorage
from unjucks_operator.sweep import DatabaseGate, Sweeper
from unjucks_operator.tenant.breaker import DeletionBreaker
from unjucks_operator.tenant.desired import Scope
from unjucks_operator.tenant.desired.renderer import build_isolated_pod
from unjucks_operator.tenant.facts import NetworkView
from unjucks_operator.tenant.reconcile import TenantReconciler
from unjucks_operator.tenant.recount import QuotaRecounter
from unjucks_operator.tenant.usage import UsageBoard
from unjucks_operator.triggers import Triggers

_log = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT)
WHOLE = frozenset({DEPLOYMENT, POD, RESOURCE_QUOTA})
"""Children of which more than the metadata is needed: readiness, addresses, usage."""
CHILDREN = (
    NAMESPACE,
    SERVICE_ACCOUNT,
    RESOURCE_QUOTA,
    LIMIT_RANGE,
    SECRET,
    CONFIG_MAP,
    NETWORK_POLICY,
    ROLE_BINDING,
    CLUSTER_ROLE,
    CLUSTER_ROLE_BINDING,
    DEPLOYMENT,
    POD,
)
_NOT_READY_SECONDS = 5.0
_POD_START_SECONDS = 120
_STOP_EVENTS_SECONDS = 2.0
_DEMAND_SECONDS = 5.0
"""How late a tenant may notice that a little more or less is going on; the first work after none is noticed at once."""


def build(config: Config, *, version: str, clock: Clock | None = None) -> Process:
    """The whole operator, ready to ``run``. Raises InvalidSpec when there are no credentials for an API server."""
    clock = clock or SystemClock()
    endpoint, credentials = load_kube_config(
        clock, kubeconfig=config.kubernetes.kubeconfig or None, context=config.kubernetes.context or None
    )
    return App(config, endpoint, credentials, clock, version).process


class App:
    """Holds the parts; see the module's text."""

    def __init__(
        self, config: Config, endpoint: Endpoint, credentials: Credentials, clock: Clock, version: str
    ) -> None:
        self.config = config
        self.clock = clock
        self.process = Process()
        self.metrics = Metrics(version=version)
        self.rng = random.Random()  # noqa: S311  jitter, not secrets
        self.identity = unique_identity(config.leader.identity)
        self.api: KubeApi = self._client(endpoint, credentials, version)
        self.events = EventRecorder(self.api, clock, instance=self.identity, runbooks=config.runbook_base_url)
        self.status = StatusWriter(self.api, self.events)
        self.platform = Platform(
            self.api,
            config.platform_namespace,
            clock.wall,
            signing_secret=config.provenance.signing_secret,
        )
        self.admission = Admission(
            self.api,
            config.platform_namespace,
            enabled=config.webhooks.enabled,
            authority=self.platform.authority,
            serial=self.platform.authority_serial,
            now=clock.wall,
        )
        self._make_database()
        self._make_cache()
        self._make_stores()
        self._make_queues()
        self._make_network(endpoint.server)
        self._make_isolation_checks()
        self._make_reconcilers()
        self._make_source(endpoint, credentials)
        self._make_lease()
        self._make_health()
        self._assemble()

    # --- parts ----------------------------------------------------------------------------------------------------------------

    def _client(self, endpoint: Endpoint, credentials: Credentials, version: str) -> KubeClient:
        settings = self.config.kubernetes
        return KubeClient(
            endpoint,
            credentials,
            limits=ClientLimits(
                qps=settings.requests_per_second,
                burst=settings.burst,
                connections=settings.connections,
                request=settings.request_timeout,
            ),
            clock=self.clock,
            rng=self.rng,
            observe=self.metrics.observe_request,
            user_agent=f"unjucks-operator/{version}",
        )

    def _make_database(self) -> None:
        settings = self.config.database
        dsn = settings.dsn.get_secret_value() if settings.dsn else ""
        self.database = Database(
            dsn,
            settings=PoolSettings(
                max_connections=settings.pool_max,
                connect_timeout=settings.connect_timeout,
                transaction_timeout=settings.statement_timeout,
            ),
        )
        self.homes = Homes(self.database, self.config)
        self.gate = DatabaseGate(self.homes)
        self.ledger = Ledger(self.homes.router)
        self.artifacts, self.catalogs = Artifacts(self.homes.router), Catalogs(self.homes.router)
        self.storage = TemplateStorage(self.artifacts, self.catalogs)

    def _make_cache(self) -> None:
        settings = self.config.cache
        limits = CacheSettings(connect_timeout=settings.connect_timeout, command_timeout=settings.command_timeout)
        addresses = parse_addresses(settings.urls.get_secret_value() if settings.urls else "")
        self.cache_users = CacheUsers([CacheServer(address, limits) for address in addresses])

    def _make_stores(self) -> None:
        self.tenants, self.registries, self.jobs = ResourceStore(), ResourceStore(), ResourceStore()
        self._deliver: Callable[[Resource, Child | None, Child | None], None] = lambda *_: None
        stores: dict[Resource, Any] = {}
        self.writer = ChildWriter(self.api, stores)
        on_event = self.writer.wrap(lambda resource, old, new: self._deliver(resource, old, new))
        self.informers = {
            resource: Informer(
                self.api,
                resource,
                index=lambda child: child.labels.get(names.LABEL_TENANT_UID),
                on_event=on_event,
                clock=self.clock,
                rng=self.rng,
                # ConfigMaps are also sources, made by users: metadata of all of them is watched.
                selector=None if resource is CONFIG_MAP else names.MANAGED_SELECTOR,
                metadata_only=resource not in WHOLE,
            )
            for resource in CHILDREN
        }
        stores.update({resource: informer.store for resource, informer in self.informers.items()})
        self.stores = stores
        self.directory = TenantDirectory(self.tenants, stores[NAMESPACE])

    def _make_queues(self) -> None:
        backoff = Backoff(base=self.config.workers.backoff_base, cap=self.config.workers.backoff_cap)

        def queue(name: str, **options: Any) -> WorkQueue[ObjectKey]:
            made: WorkQueue[ObjectKey] = WorkQueue(
                backoff=backoff, clock=self.clock, rng=self.rng, metrics=self.metrics.queue(name), **options
            )
            self.metrics.watch_queue(name, made)
            return made

        # The fairness group of a namespaced object is its namespace's tenant; without one, the namespace itself.
        self.tenant_queue = queue("tenant")
        self.registry_queue = queue(
            "registry", group_of=self._group, limit_of=lambda _: self.config.courier.fetches_per_tenant
        )
        self.job_queue = queue("job", group_of=self._group, limit_of=self._job_limit)

    def _make_isolation_checks(self) -> None:
        self.isolation_checks = IsolationVerifier(
            self.database,
            Tenants(self.database),
            is_ready=lambda: self.gate.is_open,
            on_change=self._wake_tenants,
            interval=self.config.sweep.isolation,
            clock=self.clock,
            rng=self.rng,
        )

    def _make_network(self, server: str) -> None:
        config, clock = self.config, self.clock
        self.discovery = Discovery(self.api, config, server, clock=clock, on_change=self._wake_tenants)
        self.network_probe = NetworkProbe(
            self.api, self.stores[POD], config, clock=clock, rng=self.rng, on_change=self._wake_tenants
        )

    def _on_child(self, resource: Resource, old: Child | None, new: Child | None) -> None:
        self.triggers.on_child(resource, old, new)
        self.network_probe.notice(resource, new)

    def _wake_tenants(self) -> None:
        for key in self.tenants.keys():  # noqa: SIM118  a method of the store, not of a dict
            self.tenant_queue.add(key, Lane.RESYNC)

    def _group(self, key: ObjectKey) -> str:
        tenant = self.directory.owner_of(key[0])
        return tenant.name if tenant is not None else f"namespace/{key[0]}"

    def _job_limit(self, group: Any) -> int | None:
        body = self.tenants.get(("", str(group)))
        if body is None:
            return 1
        try:
            tenant = Tenant.parse(body)
        except InvalidObjectError:
            return 1
        asked = tenant.spec.quota.jobs.concurrent if tenant.spec.quota.jobs else None
        return self.config.tiers[tenant.spec.tier.value].jobs_at_once(asked)

    def _make_reconcilers(self) -> None:
        config, now = self.config, self.clock.wall
        self.demand = DemandBoard(self._on_demand, now())
        # Until our certificate is loaded this context trusts nobody, so nothing can be called.
        self.pool = RendererPool(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), capacity=config.renderer.jobs_per_replica)
        self.courier_demand = DemandBoard(self._on_demand, now())
        self.couriers = CourierPool(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), capacity=config.courier.tasks)
        self.isolated = IsolatedRenderers(self.api, self.stores[POD], lambda: self.platform.context)
        self.effects = Effects(
            api=self.api, children=self.writer, tenants=self.gate, cache=self.cache_users, issue=self.platform.issue
        )
        self.database_usage = DatabaseUsage(self.homes.router)
        self.room = HourlyRoom(self.database_usage.starts, now)
        self.tenants.subscribe(lambda _key, before, after: self._on_tenant_gone(before) if after is None else None)
        self.usage = UsageBoard(
            tenants=self.tenants,
            quotas=self.stores[RESOURCE_QUOTA],
            tenant_queue=self.tenant_queue,
            last_hour=self.room.last_hour,
            database_bytes=self._database_bytes,
            interval=config.sweep.usage,
            clock=self.clock,
            rng=self.rng,
            now=now,
        )
        self.tenant = TenantReconciler(
            api=self.api,
            store=self.tenants,
            stores=self.stores,
            effects=self.effects,
            status=self.status,
            demand=self.demand,
            courier_demand=self.courier_demand,
            breaker=DeletionBreaker(self.tenants, config.deletion.mass, now),
            records=self.database_usage,
            config=config,
            authority_serial=self.platform.authority_serial,
            approved=self.admission.approved,
            usage=self.usage.of,
            cache_available=self.cache_users.available,
            isolation=lambda: self.isolation_checks.evidence,
            network=lambda: NetworkView(self.discovery.ranges, self.network_probe.state),
            now=now,
        )
        self.registry = RegistryReconciler(
            api=self.api,
            store=self.registries,
            config_maps=self.stores[CONFIG_MAP],
            directory=self.directory,
            role_of=self._role_of,
            storage=self.storage,
            pool=self.pool,
            demand=self.demand,
            fetcher=Fetcher(self.api, self.couriers, config, lambda: self.discovery.ranges),
            courier_demand=self.courier_demand,
            status=self.status,
            config=config,
            clock=self.clock,
            rng=self.rng,
        )
        self.outputs = Outputs(
            self.api,
            lease=self._lease_courier,
            allow=lambda tenant: allow_list(tenant, self.discovery.ranges, config),
            config=config,
            signer=self.platform.signer,
        )
        self.job = JobReconciler(
            api=self.api,
            store=self.jobs,
            registries=self.registries,
            directory=self.directory,
            role_of=self._role_of,
            storage=self.storage,
            execution=Execution(
                outputs=self.outputs,
                ledger=self.ledger,
                storage=self.storage,
                rendering=Rendering(storage=self.storage, lease=self._lease_renderer, config=config),
                diffs=Diffs(self.api),
                holder=self.identity,
            ),
            outputs=self.outputs,
            isolated=lambda job, tenant: self._execution_mode(job, tenant) is ExecutionMode.ISOLATED,
            room=self.room,
            demand=self.demand,
            courier_demand=self.courier_demand,
            status=self.status,
            config=config,
            inputs_secret=self.platform.inputs_key,
            now=now,
        )
        self.triggers = Triggers(
            tenants=self.tenants,
            registries=self.registries,
            jobs=self.jobs,
            tenant_queue=self.tenant_queue,
            registry_queue=self.registry_queue,
            job_queue=self.job_queue,
            pods=self.stores[POD],
            pool=self.pool,
            isolated=self.isolated,
            demand=self.demand,
            couriers=self.couriers,
            courier_demand=self.courier_demand,
            is_ours=lambda: self.status.storing,
        )
        self._deliver = self._on_child

    def _on_tenant_gone(self, body: dict[str, Any] | None) -> None:
        if body is not None:
            self.room.forget(body["metadata"]["uid"])

    async def _database_bytes(self, uid: str) -> int | None:
        role = self.tenant.database_roles.get(uid)
        return (await self.database_usage.size(role)).bytes if role is not None else None

    def _role_of(self, tenant: Tenant) -> str:
        """The tenant's database role. Raises Waiting until its database part is in place."""
        role = self.tenant.database_roles.get(tenant.uid)
        if role is None:
            raise Waiting(
                f"the database of Tenant {tenant.name} is not ready",
                reason=Reason.TENANT_NOT_READY,
                after=_NOT_READY_SECONDS,
            )
        return role

    @asynccontextmanager
    async def _lease_courier(self, tenant: Tenant, job: GenerationJob) -> AsyncIterator[CourierClient]:
        """A courier for one request of a job. It is wanted until the job lets go of it, so waiting for it makes it start."""
        self.courier_demand.want(tenant.uid, ("job", (job.namespace, job.name)))
        patience = self.config.courier.busy_wait if self.couriers.ready(tenant.uid) else 0.0
        async with self.couriers.lease(tenant.uid, wait_seconds=patience) as courier:
            yield courier

    def _execution_mode(self, job: GenerationJob, tenant: Tenant) -> ExecutionMode:
        tier = self.config.tiers[tenant.spec.tier.value]
        return job.spec.execution or tenant.spec.renderers.execution or ExecutionMode(tier.execution)

    @asynccontextmanager
    async def _lease_renderer(self, job: GenerationJob, run: Run) -> AsyncIterator[RendererClient]:
        tenant = self.directory.require(job.namespace)
        tier = self.config.tiers[tenant.spec.tier.value]
        if self._execution_mode(job, tenant) is ExecutionMode.POOLED:
            # Without a ready pod there is nothing to wait for here: the pod's event brings the job back.
            patience = self.config.renderer.busy_wait if self.pool.ready(tenant.uid) else 0.0
            async with self.pool.lease(tenant.uid, wait_seconds=patience, digest=run.tree) as renderer:
                yield renderer
            return
        manifest = build_isolated_pod(
            Scope(tenant, tier, self.config),
            job.namespace,
            job.name,
            job.uid,
            name=f"{names.RENDERER}-{run.key[:10]}-{self.rng.getrandbits(24):06x}",
            deadline_seconds=job.timeout_seconds + _POD_START_SECONDS,
        )
        async with self.isolated.lease(manifest, tenant.uid) as renderer:
            yield renderer

    def _on_demand(self, uid: str, urgent: bool) -> None:
        tenant = self.directory.by_uid(uid)
        if tenant is None:
            return
        if urgent:
            self.tenant_queue.add(("", tenant.name))
        else:
            self.tenant_queue.add_after(("", tenant.name), _DEMAND_SECONDS, Lane.RESYNC)

    def _make_source(self, endpoint: Endpoint, credentials: Credentials) -> None:
        self.source = KopfSource(
            self.api,
            endpoint,
            credentials,
            [(TENANT, self.tenants), (TEMPLATE_REGISTRY, self.registries), (GENERATION_JOB, self.jobs)],
            prefix=names.GROUP,
            audit_period=self.config.sweep.ghost_check,
            silence=self.config.health.watch_silence,
            metrics=cast(WatchMetrics, self.metrics),  # it has the same methods
            reclaim_signals=lambda: self.process.catch_signals(SIGNALS),
            clock=self.clock,
            rng=self.rng,
        )
        self.metrics.watch_ages(self.source.ages)
        self.metrics.watch_ages(lambda: {it.plural: informer.age() for it, informer in self.informers.items()})
        for resource, store in (
            (TENANT, self.tenants),
            (TEMPLATE_REGISTRY, self.registries),
            (GENERATION_JOB, self.jobs),
        ):
            self.metrics.watch_store(resource.plural, store.__len__)

    def _make_lease(self) -> None:
        leader = self.config.leader
        self.elector = Elector(
            self.api,
            namespace=self.config.platform_namespace,
            name=names.LEASE,
            identity=self.identity,
            manager=names.MANAGER_PLATFORM,
            on_lost=lambda why: self.process.fail(f"the lease is lost: {why}", Exit.LOST_LEASE),
            timing=Timing(leader.lease_duration, leader.renew_deadline, leader.retry_period),
            clock=self.clock,
            rng=self.rng,
        )
        self.metrics.watch_leader(lambda: self.elector.leading or not leader.enabled)

    def _make_health(self) -> None:
        health = self.config.health
        self.heartbeat = Heartbeat(
            silence=health.heartbeat, skew=health.clock_skew, clock=self.clock, lag=self.metrics.loop_lag
        )
        self.health = HealthServer(self.metrics.registry, host=health.host, port=health.port)
        self.health.live = {
            "loop": self.heartbeat.check_loop,
            "clock": self.heartbeat.check_clock,
            "lease": self.elector.check,
            "watches": self.source.check_fresh,
            "informers": self._check_informers,
        }
        self.health.ready = {"started": lambda: None if self._serving() else "starting"}

    def _serving(self) -> bool:
        """A standby is ready too: it has nothing to do until it leads."""
        waiting = self.config.leader.enabled and bool(self.elector.holder) and not self.elector.leading
        return self.process.started or waiting

    def _check_informers(self) -> str | None:
        silence = self.config.health.watch_silence
        silent = [
            resource.plural
            for resource, informer in self.informers.items()
            if informer.synced.is_set() and informer.age() > silence
        ]
        return f"watches are silent: {', '.join(silent)}" if silent else None

    # --- order ------------------------------------------------------------------------------------------------------------------

    def _assemble(self) -> None:
        config, add = self.config, self.process.add
        client = self.api
        assert isinstance(client, KubeClient)
        self._background: list[asyncio.Task[None]] = []
        add("API client", Piece(end=client.close))
        add("heartbeat", self.heartbeat)
        add("health", self.health)
        add("database", Piece(self.database.open, self._close_database))
        add("cache", Piece(end=self.cache_users.close))
        add("events", Piece(self._start_events, self._stop_events))
        if config.leader.enabled:
            add("lease", Piece(self.elector.acquire, self.elector.release))
        add("own secrets", Piece(self._load_platform, self.pool.close))
        add("couriers", Piece(end=self.couriers.close))
        add("informers", Piece(self._start_informers, self._stop_background))
        add("network ranges", self.discovery)
        add("network probe", self.network_probe)
        add("event source", self.source)
        workers, group = config.workers, Group()
        tenant, registry, job = self._telling_faults()
        for name, queue, reconcile, count, timeout in (
            ("Tenant", self.tenant_queue, tenant, workers.tenants, workers.reconcile_timeout),
            ("TemplateRegistry", self.registry_queue, registry, workers.registries, workers.reconcile_timeout),
            (
                "GenerationJob",
                self.job_queue,
                job,
                workers.jobs,
                config.jobs.max_wall_seconds + workers.job_timeout_margin,
            ),
        ):
            runner: Runner[ObjectKey] = Runner(
                name,
                queue,
                reconcile,
                workers=count,
                timeout=timeout,
                describe=_describe,
                clock=self.clock,
                rng=self.rng,
                metrics=self.metrics.runner(name),
            )
            group.add(Piece(runner.start, self._stopper(runner)))
        add("workers", group)
        add("sweep", self._sweeper())
        add("quota recount", QuotaRecounter(self.api, self.stores[RESOURCE_QUOTA], clock=self.clock))
        add("usage", self.usage)
        add("waiting jobs", self._waiting_teller())
        add("cache watch", self._cache_watch())
        add("isolation checks", self.isolation_checks)
        add("housekeeping", self._housekeeper())

    def _telling_faults(self) -> tuple[FaultTeller, FaultTeller, FaultTeller]:
        """The three reconcile functions, with a word to the user about errors that nobody expected."""
        status, now = self.status, self.clock.wall
        return (
            FaultTeller(self.tenant, compute_tenant_fault, resource=TENANT, store=self.tenants, status=status, now=now),
            FaultTeller(
                self.registry,
                compute_registry_fault,
                resource=TEMPLATE_REGISTRY,
                store=self.registries,
                status=status,
                now=now,
                forget=self.registry.look_again,
            ),
            FaultTeller(self.job, compute_job_fault, resource=GENERATION_JOB, store=self.jobs, status=status, now=now),
        )

    async def _close_database(self) -> None:
        await self.homes.close()
        await self.database.close()

    def _sweeper(self) -> Sweeper:
        return Sweeper(
            prepare=lambda: prepare(self.database),
            gate=self.gate,
            records=self.homes,
            tenants=self.tenants,
            known_roles=self.tenant.database_roles,
            tenant_queue=self.tenant_queue,
            others=[(self.registries, self.registry_queue), (self.jobs, self.job_queue)],
            refresh_platform=self._refresh_platform,
            interval=self.config.sweep.interval,
            resync=self.config.sweep.resync,
            clock=self.clock,
            rng=self.rng,
        )

    def _housekeeper(self) -> Housekeeper:
        return Housekeeper(
            tenants=self.tenants,
            registries=self.registries,
            jobs=self.jobs,
            roles=lambda: self.tenant.database_roles,
            tiers=self.config.tiers,
            ledger=self.ledger,
            artifacts=self.artifacts,
            catalogs=self.catalogs,
            interval=self.config.sweep.housekeeping,
            clock=self.clock,
            rng=self.rng,
        )

    def _cache_watch(self) -> CacheWatch:
        return CacheWatch(
            self.cache_users.servers,
            self.tenant.cache.known,
            wake=self._wake_for_cache,
            wake_all=self._wake_all_for_cache,
            interval=self.config.cache.interval,
            clock=self.clock,
            rng=self.rng,
        )

    def _wake_for_cache(self, uid: str) -> None:
        self.tenant.cache.known.pop(uid, None)
        if (tenant := self.directory.by_uid(uid)) is not None:
            self.tenant_queue.add(("", tenant.name), Lane.SPEC)

    def _wake_all_for_cache(self) -> None:
        self.tenant.cache.known.clear()
        for key in self.tenants.keys():  # noqa: SIM118  a method of the store, not of a dict
            self.tenant_queue.add(key, Lane.RESYNC)

    def _waiting_teller(self) -> WaitingTeller:
        return WaitingTeller(
            queue=self.job_queue, store=self.jobs, status=self.status, clock=self.clock, now=self.clock.wall
        )

    def _stopper(self, runner: Runner[ObjectKey]) -> Callable[[], Coroutine[Any, Any, None]]:
        return lambda: runner.stop(self._drain())

    def _drain(self) -> float:
        """After a lost lease somebody else works already: no time for runs under way."""
        return 0.0 if self.process.urgent else self.config.workers.shutdown_grace

    async def _load_platform(self) -> None:
        try:
            await self.platform.load()
        except OperatorError as error:
            raise StartError(error.message) from error
        self.pool.use(self.platform.context)
        self.couriers.use(self.platform.context)
        await self.admission.ensure()

    async def _refresh_platform(self) -> None:
        refreshed = await self.platform.refresh()
        await self.admission.ensure()
        if refreshed:
            self.pool.use(self.platform.context)
            self.couriers.use(self.platform.context)
            self._wake_tenants()

    async def _start_informers(self) -> None:
        for resource, informer in self.informers.items():
            self._watch_over(informer.run(), f"informer of {resource.plural}")
        for informer in self.informers.values():
            await informer.synced.wait()

    def _watch_over(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._background.append(task)

        def ended(done: asyncio.Task[None]) -> None:
            if not done.cancelled() and done.exception() is not None:
                _log.error("%s ended", name, exc_info=done.exception())
                self.process.fail(f"{name} ended unexpectedly")

        task.add_done_callback(ended)

    async def _stop_background(self) -> None:
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)

    async def _start_events(self) -> None:
        self._events_task = asyncio.create_task(self.events.run(), name="event recorder")

    async def _stop_events(self) -> None:
        self._events_task.cancel()
        await asyncio.gather(self._events_task, return_exceptions=True)
        try:
            async with asyncio.timeout(_STOP_EVENTS_SECONDS):
                await self.events.flush()
        except TimeoutError:
            _log.info("some events were not sent")


def _describe(key: ObjectKey) -> dict[str, str]:
    return {"namespace": key[0], "name": key[1]} if key[0] else {"name": key[1]}
