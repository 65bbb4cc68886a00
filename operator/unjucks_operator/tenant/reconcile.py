"""Brings one Tenant to its spec: observe → plan → apply → status. Called by the runner, for every trigger.

Errors of single steps are written into status first and raised afterwards, so that the queue decides about another try.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from unjucks_api import approvals, names
from unjucks_api.conditions import Condition, ConditionType, merge_conditions, paused_status
from unjucks_api.reasons import Reason
from unjucks_api.v1alpha1.common import InvalidObjectError
from unjucks_api.v1alpha1.tenant import Tenant
from unjucks_operator.apply import Effects
from unjucks_operator.candidates import Candidate
from unjucks_operator.config import Config
from unjucks_operator.database.usage import DatabaseUsage, Size
from unjucks_operator.engine.runner import Result
from unjucks_operator.engine.store import ObjectKey, ResourceStore
from unjucks_operator.errors import Conflict, InvalidSpec, OperatorError, OwnershipConflict, Retryable
from unjucks_operator.evidence import Evidence
from unjucks_operator.kube.api import KubeApi
from unjucks_operator.kube.resources import NAMESPACE, SECRET, TENANT, Resource
from unjucks_operator.kube.store import ChildStore
from unjucks_operator.planning import Apply, Manifest, Outcome, Plan, manifest_key
from unjucks_operator.renderers.demand import DemandBoard
from unjucks_operator.reporting import StatusWriter
from unjucks_operator.tenant.breaker import DeletionBreaker
from unjucks_operator.tenant.cache import CacheMemory
from unjucks_operator.tenant.courier import STAGE as COURIER_STAGE
from unjucks_operator.tenant.database import DatabaseMemory, check_database
from unjucks_operator.tenant.deletion_status import compute_deleting_status
from unjucks_operator.tenant.desired import Scope
from unjucks_operator.tenant.facts import CourierView, Demand, NetworkView, Observed
from unjucks_operator.tenant.namespaces import check_spec, stuck_namespaces
from unjucks_operator.tenant.observe import find_candidates, observe_tenant
from unjucks_operator.tenant.plan import plan_tenant
from unjucks_operator.tenant.status import compute_status
from unjucks_operator.tenant.teardown import plan_deletion

ACTION = "ReconcileTenant"
CONFLICT_LOOK = 30.0
"""Seconds between looks at somebody else's object that stands where one of the tenant's has to be."""


class TenantReconciler:
    """The reconcile function of Tenants, with what it needs. Remembers nothing that cannot be lost."""

    def __init__(
        self,
        *,
        api: KubeApi,
        store: ResourceStore,
        stores: Mapping[Resource, ChildStore],
        effects: Effects,
        status: StatusWriter,
        demand: DemandBoard,
        courier_demand: DemandBoard,
        breaker: DeletionBreaker,
        records: DatabaseUsage,
        usage: Callable[[str, Mapping[str, Any]], Mapping[str, object]],
        config: Config,
        authority_serial: Callable[[], str],
        cache_available: bool,
        isolation: Callable[[], Evidence | None],
        approved: Callable[[Manifest, str, str], bool] = lambda *_: True,
        network: Callable[[], NetworkView],
        now: Callable[[], datetime],
    ) -> None:
        self._api = api
        self._store = store
        self._stores = stores
        self._effects = effects
        self._status = status
        self._demand = demand
        self._courier_demand = courier_demand
        self._breaker = breaker
        self._records = records
        self._usage = usage
        self._config = config
        self._authority_serial = authority_serial
        self._approved = approved
        self._network = network
        self._now = now
        self.database_roles: dict[str, str] = {}
        """Tenants' UIDs whose database part is known to be right, with their roles; the sweep removes what drifted."""
        self.cache = CacheMemory(cache_available)
        self._isolation = isolation
        self.databases = DatabaseMemory()
        self._certificates: dict[str, str] = {}
        self._replicas: dict[str, int] = {}
        self._courier_certificates: dict[str, str] = {}
        self._courier_replicas: dict[str, int] = {}

    async def __call__(self, key: ObjectKey) -> Result:
        """One run."""
        body = self._store.get(key)
        if body is None:
            return Result()
        try:
            tenant = Tenant.parse(body)
        except InvalidObjectError as error:
            await self._status.write(TENANT, self._store, body, self._unreadable(body, error.message), action=ACTION)
            raise InvalidSpec(error.message) from None
        tenant = self._without_unapproved(tenant, body)
        scope = Scope(tenant, self._config.tiers[tenant.spec.tier.value], self._config)
        if tenant.deleting:
            return await self._tear_down(scope, body)
        if tenant.paused:
            status = paused_status(body.get("status") or {}, now=self._now())
            await self._status.write(TENANT, self._store, body, status, action=ACTION)
            return Result()
        return await self._build_up(scope, body)

    def _without_unapproved(self, tenant: Tenant, body: Manifest) -> Tenant:
        """The Tenant as if a confirmation that needs an approval and has none were not there."""
        value = tenant.metadata.annotations.get(names.ANNOTATION_CONFIRM_DELETE)
        if value is None or self._approved(body, approvals.CONFIRM_DELETE, value):
            return tenant
        kept = {k: v for k, v in tenant.metadata.annotations.items() if k != names.ANNOTATION_CONFIRM_DELETE}
        return tenant.model_copy(update={"metadata": tenant.metadata.model_copy(update={"annotations": kept})})

    async def _build_up(self, scope: Scope, body: Manifest) -> Result:
        candidates = await find_candidates(scope, self._stores, self._api)
        before = self._observe(scope, candidates)
        scope, problem = check_spec(scope, before)
        if problem is None and (refused := check_database(scope)) is not None:
            problem = InvalidSpec(refused, reason=Reason.DATABASE_NOT_OFFERED)
        if problem is not None and not scope.namespaces:
            return await self._refuse(body, problem)
        plan = plan_tenant(scope, before)
        outcome = await self._effects.carry_out(plan, TENANT, body, self._written)
        self._remember(scope, plan.actions, outcome)
        rest = await self._keep_up(scope, outcome, body)
        observed = self._observe(scope)
        body = self._newest(body)
        status = compute_status(
            scope,
            body.get("status") or {},
            plan,
            outcome,
            observed,
            problem=problem,
            now=self._now(),
        )
        await self._status.write(TENANT, self._store, body, status, action=ACTION)
        if isinstance(rest.stopped, Retryable):
            raise rest.stopped
        if isinstance(outcome.stopped, OwnershipConflict):
            # What is in the way may carry no label of ours, so no event tells when it goes.
            return Result(requeue_after=CONFLICT_LOOK)
        if outcome.stopped is not None:
            raise outcome.stopped
        return Result(requeue_after=plan.requeue_after)

    async def _keep_up(self, scope: Scope, outcome: Outcome, body: Manifest) -> Outcome:
        """Where some namespaces cannot be had, the guards and rights in the others are kept up all the same."""
        stuck = stuck_namespaces(scope, self._observe(scope), outcome)
        if outcome.stopped is None or not stuck or stuck >= set(scope.namespaces):
            return Outcome()
        rest = replace(scope, stuck=stuck)
        plan = plan_tenant(rest, self._observe(rest))
        stages = tuple(
            stage for stage in plan.stages if stage.name != "finalizer"
        )  # it is set, or nothing else was done
        done = await self._effects.carry_out(Plan(stages), TENANT, body, self._written)
        self._remember(rest, plan.actions, done)
        return done

    async def _tear_down(self, scope: Scope, body: Manifest) -> Result:
        if names.FINALIZER_TENANT not in scope.tenant.metadata.finalizers:
            return Result()
        plan = plan_deletion(scope, self._observe(scope), self._breaker.verdict(body))
        if (body.get("status") or {}).get("deletion") is None:
            # Told before it is done: the last step lets the object go.
            pending = compute_deleting_status(
                scope,
                body.get("status") or {},
                Outcome(),
                self._observe(scope),
                now=self._now(),
                database=await self._database_size(scope),
            )
            body = await self._status.write(TENANT, self._store, body, pending, action="DeleteTenant")
        outcome = await self._effects.carry_out(plan, TENANT, body, self._written)
        if outcome.stopped is None:
            self._forget(scope.tenant.uid)
            return Result()
        body = self._newest(body)
        observed = self._observe(scope)
        status = compute_deleting_status(
            scope,
            body.get("status") or {},
            outcome,
            observed,
            now=self._now(),
            blockers=await self._blockers(scope, observed),
        )
        await self._status.write(TENANT, self._store, body, status, action="DeleteTenant")
        raise outcome.stopped

    async def _database_size(self, scope: Scope) -> Size | None:
        """How much the deletion is about. None when nobody knows: a deletion does not wait for a figure."""
        role = self.database_roles.get(scope.tenant.uid)
        if role is None:
            return None
        try:
            return await self._records.size(role)
        except OperatorError:
            return None

    async def _blockers(self, scope: Scope, observed: Observed) -> list[str]:
        """What Kubernetes says about namespaces that are going away and cannot: which kinds are left, whose finalizers."""
        found: list[str] = []
        for name in scope.namespaces:
            view = observed.children.get(("Namespace", "", name))
            if view is None or not view.deleting:
                continue
            body = await self._api.get(NAMESPACE, name)
            for condition in ((body or {}).get("status") or {}).get("conditions") or ():
                if condition.get("status") == "True" and condition.get("message"):
                    found.append(f"namespace {name}: {condition['message']}")
        return found

    async def _refuse(self, body: Manifest, problem: OperatorError) -> Result:
        status = self._unreadable(body, problem.message, problem.reason)
        await self._status.write(TENANT, self._store, body, status, action=ACTION)
        raise problem

    def _unreadable(self, body: Manifest, message: str, reason: Reason = Reason.INVALID_SPEC) -> dict[str, object]:
        previous = body.get("status") or {}
        generation = int(body["metadata"].get("generation", 0))
        conditions = [
            Condition(ConditionType.READY, "False", reason, message),
            Condition(ConditionType.STALLED, "True", reason, message),
        ]
        merged = merge_conditions(previous.get("conditions") or (), conditions, generation=generation, now=self._now())
        return {**previous, "observedGeneration": generation, "conditions": merged}

    def _observe(self, scope: Scope, candidates: Mapping[str, Candidate] | None = None) -> Observed:
        uid = scope.tenant.uid
        return observe_tenant(
            scope,
            self._stores,
            database_role=self.database_roles.get(uid),
            database=self.databases.view(uid, uid in self.database_roles, self._login_signature(scope)),
            demand=self._demand.of(uid),
            certificate_serial=self._authority_serial(),
            certificate_signature=self._certificates.get(uid),
            planned_replicas=self._replicas.get(uid),
            courier=CourierView(demand=Demand(*self._courier_demand.of(uid)), planned=self._courier_replicas.get(uid)),
            courier_signature=self._courier_certificates.get(uid),
            cache=self.cache.view(uid, self._cache_signature(scope)),
            isolation=self._isolation(),
            network=self._network(),
            candidates=candidates or {},
            usage=self._usage(uid, scope.tenant.status),
            now=self._now(),
        )

    def _cache_signature(self, scope: Scope) -> str | None:
        child = self._stores[SECRET].get(scope.home, names.cache_secret(scope.tenant.name))
        return child.signature if child is not None else None

    def _login_signature(self, scope: Scope) -> str | None:
        child = self._stores[SECRET].get(scope.home, names.database_secret(scope.tenant.name))
        return child.signature if child is not None else None

    def _remember(self, scope: Scope, actions: tuple[object, ...], outcome: Outcome) -> None:
        uid = scope.tenant.uid
        self.cache.remember(uid, outcome, self._cache_signature(scope))
        self.databases.remember(uid, outcome, self._login_signature(scope))
        for stage, name, known in (
            ("renderers", names.RENDERER, self._replicas),
            (COURIER_STAGE, names.COURIER, self._courier_replicas),
        ):
            if outcome.errors.get(stage, True) is None:
                for action in actions:
                    if isinstance(action, Apply) and manifest_key(action.manifest) == ("Deployment", scope.home, name):
                        known[uid] = action.manifest["spec"]["replicas"]
        if (database := outcome.results.get("database")) is not None and database.usable:
            self.database_roles[uid] = database.role
        # As our write left it: the store may know of somebody's edit already, which is to be taken back.
        if (signature := outcome.results.get("certificate")) is not None:
            self._certificates[uid] = signature
        if (signature := outcome.results.get("courier certificate")) is not None:
            self._courier_certificates[uid] = signature

    def _forget(self, uid: str) -> None:
        self.database_roles.pop(uid, None)
        self._certificates.pop(uid, None)
        self._replicas.pop(uid, None)
        self._courier_certificates.pop(uid, None)
        self._courier_replicas.pop(uid, None)
        self.cache.forget(uid)
        self.databases.forget(uid)
        self._demand.forget(uid)
        self._courier_demand.forget(uid)

    def _written(self, body: Manifest) -> None:
        self._store.put(body)

    def _newest(self, body: Manifest) -> Manifest:
        """The body as our own writes left it. Raises Conflict when the spec changed meanwhile: what was done is about another."""
        metadata = body["metadata"]
        newest = self._store.get((metadata.get("namespace") or "", metadata["name"]))
        if newest is None or newest["metadata"]["uid"] != metadata["uid"]:
            raise Conflict(f"Tenant {metadata['name']} went away meanwhile")
        if newest["metadata"].get("generation") != metadata.get("generation"):
            raise Conflict(f"Tenant {metadata['name']} was changed meanwhile")
        return newest
