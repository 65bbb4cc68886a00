"""Who has to look again when something changed: from events of stores and informers to keys in the queues.

    own object      spec, metadata or a foreign hand in its status            → its key
    child           changed by anybody but us                                  → its tenant
    renderer pod    ready, gone                                                → the pool, then the work that waits for it
    ConfigMap       a source of registries or jobs                             → those that name it
    registry        serves something else                                      → jobs that wait for it
    tenant          appeared, changed, went                                    → registries and jobs in its namespaces

Nothing is decided here and nothing is awaited; too many wake-ups only cost time. Made by ``app``.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from unjucks_api import names
from unjucks_api.conditions import ConditionType, find_condition
from unjucks_operator.engine.queue import Lane, WorkQueue
from unjucks_operator.engine.store import ObjectKey, ResourceStore
from unjucks_operator.job.dependencies import names_of
from unjucks_operator.kube.child import Child
from unjucks_operator.kube.resources import CONFIG_MAP, DEPLOYMENT, NAMESPACE, POD, RESOURCE_QUOTA, Resource
from unjucks_operator.kube.store import ChildStore
from unjucks_operator.renderers.courier import CourierPool
from unjucks_operator.renderers.demand import DemandBoard
from unjucks_operator.renderers.isolated import IsolatedRenderers
from unjucks_operator.renderers.pool import RendererPool
from unjucks_operator.tenant.observe import view_of_pods, view_of_quota

Manifest = Mapping[str, Any]
Queue = WorkQueue[ObjectKey]


class Index:
    """Keys of a store by whatever ``keys_of`` says of a body: namespaces, or names of referenced objects."""

    def __init__(self, store: ResourceStore, keys_of: Callable[[Manifest], Iterable[tuple[str, ...]]]) -> None:
        self._keys_of = keys_of
        self._found: dict[tuple[str, ...], set[ObjectKey]] = {}
        store.subscribe(self._update)

    def get(self, value: tuple[str, ...]) -> tuple[ObjectKey, ...]:
        """The keys filed under ``value``."""
        return tuple(self._found.get(value, ()))

    def _update(self, key: ObjectKey, before: Manifest | None, after: Manifest | None) -> None:
        old = set(self._keys_of(before)) if before is not None else set()
        new = set(self._keys_of(after)) if after is not None else set()
        for value in old - new:
            keys = self._found[value]
            keys.discard(key)
            if not keys:
                del self._found[value]
        for value in new - old:
            self._found.setdefault(value, set()).add(key)


def _namespace(body: Manifest) -> Iterable[tuple[str, ...]]:
    yield (body["metadata"].get("namespace") or "",)


def _config_maps_of_registry(body: Manifest) -> Iterable[tuple[str, ...]]:
    reference = (body.get("spec") or {}).get("configMapRef") or {}
    if reference.get("name"):
        yield body["metadata"]["namespace"], str(reference["name"])


def _references_of_job(body: Manifest) -> Iterable[tuple[str, ...]]:
    """What an unfinished job waits for: its registry, other jobs, and ConfigMaps with variables. A finished one: its registry,
    when a newer template means something to it."""
    namespace, spec = body["metadata"]["namespace"], body.get("spec") or {}
    over = is_over(body)
    if not over or (spec.get("trigger") or {}).get("onTemplateChange") != "Ignore":
        yield "registry", namespace, str((spec.get("registryRef") or {}).get("name"))
    if over:
        return
    for name in names_of(body):
        yield "job", namespace, name
    for source in spec.get("variablesFrom") or ():
        yield str(source.get("kind")), namespace, str(source.get("name"))


def is_over(body: Manifest) -> bool:
    """Whether a job's status says that it ended at its current generation. A hint only: the planner decides."""
    status = body.get("status") or {}
    ended = any(
        (find_condition(status, kind) or {}).get("status") == "True"
        for kind in (ConditionType.COMPLETE, ConditionType.FAILED)
    )
    return ended and status.get("observedGeneration") == body["metadata"].get("generation")


def _intent(body: Manifest) -> tuple[Any, ...]:
    """What users can change: everything but status and bookkeeping."""
    metadata = body["metadata"]
    return (
        metadata["uid"],
        metadata.get("generation"),
        metadata.get("deletionTimestamp"),
        metadata.get("annotations"),
        metadata.get("labels"),
        metadata.get("finalizers"),
    )


class Triggers:
    """All the wires. ``is_ours`` tells whether the store change under way is the answer of our own status write."""

    def __init__(
        self,
        *,
        tenants: ResourceStore,
        registries: ResourceStore,
        jobs: ResourceStore,
        tenant_queue: Queue,
        registry_queue: Queue,
        job_queue: Queue,
        pods: ChildStore,
        pool: RendererPool,
        isolated: IsolatedRenderers,
        demand: DemandBoard,
        couriers: CourierPool,
        courier_demand: DemandBoard,
        is_ours: Callable[[], bool],
    ) -> None:
        self._tenants = tenants
        self._tenant_queue = tenant_queue
        self._registry_queue = registry_queue
        self._job_queue = job_queue
        self._pods = pods
        self._pool = pool
        self._isolated = isolated
        self._demand = demand
        self._couriers = couriers
        self._courier_demand = courier_demand
        self._is_ours = is_ours
        self._registries_in = Index(registries, _namespace)
        self._jobs_in = Index(jobs, lambda body: () if is_over(body) else _namespace(body))
        self._registries_of = Index(registries, _config_maps_of_registry)
        self._jobs_of = Index(jobs, _references_of_job)
        tenants.subscribe(self._on_tenant)
        registries.subscribe(self._on_registry)
        jobs.subscribe(self._on_job)

    # --- our own kinds ------------------------------------------------------------------------------------------------------

    def _on_tenant(self, key: ObjectKey, before: Manifest | None, after: Manifest | None) -> None:
        self._own(self._tenant_queue, key, before, after)
        if before is None or after is None or _intent(before) != _intent(after) or _ready(before) != _ready(after):
            for body in (before, after):
                for namespace in _namespaces_of(body):
                    self._wake_namespace(namespace)
                if body is not None:
                    self._observe_pods(body["metadata"]["uid"])  # its pods may have been seen before it was

    def _on_registry(self, key: ObjectKey, before: Manifest | None, after: Manifest | None) -> None:
        self._own(self._registry_queue, key, before, after)
        if before is None or after is None or before.get("status") != after.get("status"):
            for job in self._jobs_of.get(("registry", *key)):
                self._job_queue.add(job)

    def _on_job(self, key: ObjectKey, before: Manifest | None, after: Manifest | None) -> None:
        self._own(self._job_queue, key, before, after)
        if before is None or after is None or _success(before) != _success(after):
            for job in self._jobs_of.get(("job", *key)):
                self._job_queue.add(job)

    def _own(self, queue: Queue, key: ObjectKey, before: Manifest | None, after: Manifest | None) -> None:
        if self._is_ours():
            return
        if after is None or after["metadata"].get("deletionTimestamp"):
            queue.add(key, Lane.DELETION)
        elif before is None:
            # At the start everything is new; what is at rest already goes behind what somebody waits for.
            status = after.get("status") or {}
            settled = status.get("observedGeneration") == after["metadata"].get("generation")
            queue.add(key, Lane.RESYNC if settled else Lane.SPEC)
        else:
            queue.add(key, Lane.SPEC if _intent(before) != _intent(after) else Lane.RESYNC)

    def _wake_namespace(self, namespace: str) -> None:
        for key in self._registries_in.get((namespace,)):
            self._registry_queue.add(key)
        for key in self._jobs_in.get((namespace,)):
            self._job_queue.add(key)

    # --- children --------------------------------------------------------------------------------------------------------------

    def on_child(self, resource: Resource, old: Child | None, new: Child | None) -> None:
        """A child changed and it was not our own write."""
        child = new or old
        if child is None:
            return
        if resource is CONFIG_MAP:
            self._on_config_map(child)
            return
        if old is not None and new is not None and resource in _FACTS and _tells_nothing(resource, old, new):
            return
        # Also whose it was before: somebody may have changed the very labels that say so.
        for name, uid in {_owner(item) for item in (old, new) if item is not None}:
            if uid is None:
                continue
            if resource is POD:
                self._on_pod(child, uid)
            self._wake_tenant(name, uid, pod=resource is POD)
        if resource is NAMESPACE and old is None:
            self._wake_namespace(child.name)

    def _wake_tenant(self, name: str, uid: str, *, pod: bool) -> None:
        body = self._tenants.get(("", name))
        if body is None or body["metadata"]["uid"] != uid:
            return
        if pod and not body["metadata"].get("deletionTimestamp"):
            return  # the Deployment's own status tells the tenant; a teardown waits for pods themselves
        self._tenant_queue.add(("", name), Lane.RESYNC)

    def _on_pod(self, child: Child, uid: str) -> None:
        self._isolated.notice(child.namespace, child.name)
        ready, couriers = self._pool.ready(uid), self._couriers.ready(uid)
        self._observe_pods(uid)
        if self._pool.ready(uid) > ready:
            self._wake(self._demand, uid)
        if self._couriers.ready(uid) > couriers:
            self._wake(self._courier_demand, uid)

    def _observe_pods(self, uid: str) -> None:
        """Tell the pool the tenant's pods. Labels alone do not make one: a pod in a stranger's namespace can carry any."""
        own = [pod.full for pod in self._pods.indexed(uid) if pod.full is not None and self._is_own(pod, uid)]
        self._pool.observe(uid, own)
        self._couriers.observe(uid, own)

    def _is_own(self, pod: Child, uid: str) -> bool:
        body = self._tenants.get(("", pod.labels.get(names.LABEL_TENANT, "")))
        return body is not None and body["metadata"]["uid"] == uid and pod.namespace in tuple(_namespaces_of(body))

    def _wake(self, demand: DemandBoard, uid: str) -> None:
        """Everything that waits for such a pod of this tenant looks again."""
        for kind, target in demand.keys(uid):
            (self._registry_queue if kind == "registry" else self._job_queue).add(target)

    def _on_config_map(self, child: Child) -> None:
        for key in self._registries_of.get((child.namespace, child.name)):
            self._registry_queue.add(key)
        for key in self._jobs_of.get(("ConfigMap", child.namespace, child.name)):
            self._job_queue.add(key)


def _owner(child: Child) -> tuple[str, str | None]:
    """Name and UID of the Tenant that its labels name."""
    return child.labels.get(names.LABEL_TENANT, ""), child.labels.get(names.LABEL_TENANT_UID)


_FACTS: Mapping[Resource, Callable[[Child], object]] = {
    # Usage is read on a timer, never on events.
    RESOURCE_QUOTA: lambda child: view_of_quota(child).counted,
    DEPLOYMENT: view_of_pods,
}
"""Of kinds whose status changes all the time: the part that somebody acts on."""


def _tells_nothing(resource: Resource, old: Child, new: Child) -> bool:
    """Whether an event tells no more than figures of a status that nobody acts on."""
    facts = _FACTS[resource]
    return (old.uid, old.signature, old.deleting, old.labels, old.annotations, facts(old)) == (
        *(new.uid, new.signature, new.deleting, new.labels, new.annotations, facts(new)),
    )


def _ready(body: Manifest) -> object:
    condition = find_condition(body.get("status") or {}, ConditionType.READY)
    return condition and condition.get("status")


def _success(body: Manifest) -> object:
    """What other jobs wait for: Ready, and of which generation."""
    return _ready(body), (body.get("status") or {}).get("observedGeneration"), body["metadata"].get("generation")


def _namespaces_of(body: Manifest | None) -> Iterable[str]:
    if body is None:
        return ()
    listed = (body.get("spec") or {}).get("namespaces")
    if not listed:
        return (names.default_namespace(body["metadata"]["name"]),)
    return tuple(str(item.get("name")) for item in listed if isinstance(item, dict))
