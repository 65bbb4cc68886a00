"""Which pods count as a tenant's renderers: those in its own namespaces, whatever labels others wear."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from support.tenants import tenant_manifest
from unjucks_api import names
from unjucks_operator.engine.queue import WorkQueue
from unjucks_operator.engine.store import ObjectKey, ResourceStore
from unjucks_operator.kube.child import Child, to_child
from unjucks_operator.kube.resources import POD
from unjucks_operator.kube.store import ChildStore
from unjucks_operator.renderers.ca import new_authority
from unjucks_operator.renderers.certificates import client_context
from unjucks_operator.renderers.courier import CourierPool
from unjucks_operator.renderers.demand import DemandBoard
from unjucks_operator.renderers.isolated import IsolatedRenderers
from unjucks_operator.renderers.pool import RendererPool
from unjucks_operator.triggers import Triggers

UID = "11111111-0000-4000-8000-000000000001"
NOW = datetime.now(UTC)


def pod(namespace: str, name: str, version: int) -> Child:
    labels = names.tenant_labels("acme", UID, names.COMPONENT_RENDERER)
    metadata = {"name": name, "namespace": namespace, "uid": f"uid-{name}", "labels": labels}
    status = {"phase": "Running", "podIP": "127.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]}
    manifest: dict[str, Any] = {"metadata": metadata | {"resourceVersion": str(version)}, "status": status}
    return to_child(POD, manifest, full=True)


def test_a_job_hears_of_the_success_that_it_waits_for_also_after_an_earlier_one() -> None:
    """A quick run writes status once: Ready was true before and is true afterwards, of another generation."""
    context = client_context(new_authority(NOW).issue_client(NOW))
    pods = ChildStore(lambda child: child.labels.get(names.LABEL_TENANT_UID), full=True)
    jobs = ResourceStore()
    other: WorkQueue[ObjectKey] = WorkQueue()
    woken: list[ObjectKey] = []
    Triggers(
        tenants=ResourceStore(),
        registries=ResourceStore(),
        jobs=jobs,
        tenant_queue=other,
        registry_queue=other,
        job_queue=SimpleNamespace(add=lambda key, *_: woken.append(key)),  # type: ignore[arg-type]  # only listens
        pods=pods,
        pool=RendererPool(context, capacity=1),
        isolated=IsolatedRenderers(None, pods, lambda: context),  # type: ignore[arg-type]  # it asks no API server here
        demand=DemandBoard(lambda _uid, _urgent: None, NOW),
        couriers=CourierPool(context, capacity=1),
        courier_demand=DemandBoard(lambda _uid, _urgent: None, NOW),
        is_ours=lambda: True,
    )

    def body(name: str, version: int, observed: int, **spec: Any) -> dict[str, Any]:
        conditions = [{"type": "Ready", "status": "True"}] if observed else []
        metadata = {"name": name, "namespace": "n", "uid": name, "generation": 2, "resourceVersion": str(version)}
        return {
            "metadata": metadata,
            "spec": spec,
            "status": {"observedGeneration": observed, "conditions": conditions},
        }

    jobs.put(body("base", 1, 1))
    jobs.put(body("late", 2, 0, dependsOn=[{"name": "base"}]))
    woken.clear()
    jobs.put(body("base", 3, 2))
    assert ("n", "late") in woken


def test_a_pod_in_a_strangers_namespace_is_no_renderer_whatever_its_labels() -> None:
    context = client_context(new_authority(NOW).issue_client(NOW))
    pods = ChildStore(lambda child: child.labels.get(names.LABEL_TENANT_UID), full=True)
    pool = RendererPool(context, capacity=1)
    tenants = ResourceStore()
    queue: WorkQueue[ObjectKey] = WorkQueue()
    triggers = Triggers(
        tenants=tenants,
        registries=ResourceStore(),
        jobs=ResourceStore(),
        tenant_queue=queue,
        registry_queue=queue,
        job_queue=queue,
        pods=pods,
        pool=pool,
        isolated=IsolatedRenderers(None, pods, lambda: context),  # type: ignore[arg-type]  # it asks no API server here
        demand=DemandBoard(lambda _uid, _urgent: None, NOW),
        couriers=CourierPool(context, capacity=1),
        courier_demand=DemandBoard(lambda _uid, _urgent: None, NOW),
        is_ours=lambda: False,
    )
    for child in (pod("tenant-acme", "true", 1), pod("elsewhere", "forged", 2)):
        pods.put(child)
        triggers.on_child(POD, None, child)
    assert pool.ready(UID) == 0  # the Tenant itself was not seen yet
    tenant = tenant_manifest("acme")
    tenant["metadata"] |= {"uid": UID, "resourceVersion": "3", "generation": 1}
    tenants.put(tenant)
    assert pool.ready(UID) == 1
    late = pod("elsewhere", "late", 4)
    pods.put(late)
    triggers.on_child(POD, None, late)
    assert pool.ready(UID) == 1
