"""What is known of a Tenant before planning: read from the informers' stores and the database's last answer, no request.

Called by ``tenant.reconcile``. Turns children into the few facts the planner needs.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from unjucks_api import names
from unjucks_operator.candidates import Candidate
from unjucks_operator.evidence import Evidence
from unjucks_operator.kube.adoption import look_at
from unjucks_operator.kube.api import KubeApi
from unjucks_operator.kube.child import Child
from unjucks_operator.kube.resources import CONFIG_MAP, DEPLOYMENT, NAMESPACE, RESOURCE_QUOTA, SECRET, Resource
from unjucks_operator.kube.store import ChildStore
from unjucks_operator.tenant.desired import Scope
from unjucks_operator.tenant.facts import (
    CacheView,
    ChildKey,
    ChildView,
    CourierView,
    DatabaseView,
    Demand,
    NetworkView,
    Observed,
    QuotaView,
    RendererView,
)


def observe_tenant(
    scope: Scope,
    stores: Mapping[Resource, ChildStore],
    *,
    database_role: str | None,
    database: DatabaseView | None = None,
    demand: tuple[int, datetime | None],
    certificate_serial: str,
    certificate_signature: str | None,
    planned_replicas: int | None,
    courier: CourierView,
    courier_signature: str | None,
    cache: CacheView,
    isolation: Evidence | None,
    network: NetworkView,
    candidates: Mapping[str, Candidate],
    usage: Mapping[str, object],
    now: datetime,
) -> Observed:
    """The facts. ``certificate_signature`` is that of the renderer's Secret after our last write, None when we did not write it."""
    uid = scope.tenant.uid
    children: dict[ChildKey, ChildView] = {}
    drifted: set[ChildKey] = set()
    # A label alone makes nothing ours: whoever may label a pod elsewhere could otherwise hold up this tenant's deletion.
    ours = {"", *scope.tenant.namespaces, *(child.name for child in stores[NAMESPACE].indexed(uid))}
    for resource, store in stores.items():
        if resource is CONFIG_MAP:
            continue  # outputs of jobs: not the tenant's to plan
        for child in store.indexed(uid):
            if child.namespace not in ours:
                continue
            key = (resource.kind, child.namespace, child.name)
            children[key] = ChildView(child.uid, child.deleting, child.annotations)
            if key == ("Secret", scope.home, names.RENDERER) and certificate_signature not in (None, child.signature):
                drifted.add(key)
    return Observed(
        children=children,
        now=now,
        renderer=_renderer(stores[DEPLOYMENT].get(scope.home, names.RENDERER), uid),
        demand=Demand(*demand),
        database_role=database_role,
        database=database,
        certificate_serial=certificate_serial,
        drifted_secrets=frozenset(drifted),
        planned_replicas=planned_replicas,
        courier=replace(
            courier,
            pods=_renderer(stores[DEPLOYMENT].get(scope.home, names.COURIER), uid),
            drifted=_changed(stores[SECRET].get(scope.home, names.COURIER), courier_signature),
        ),
        cache=cache,
        isolation=isolation,
        network=replace(network, strangers=_strangers(scope, stores[NAMESPACE])),
        candidates=candidates,
        usage=usage,
        quotas={
            child.namespace: view_of_quota(child)
            for child in stores[RESOURCE_QUOTA].indexed(uid)
            if child.name == names.QUOTA and child.namespace in ours
        },
    )


async def find_candidates(scope: Scope, stores: Mapping[Resource, ChildStore], api: KubeApi) -> dict[str, Candidate]:
    """Namespaces that may have to be taken over: listed with ``adopt`` and not the tenant's yet. Makes requests."""
    own = {child.name for child in stores[NAMESPACE].indexed(scope.tenant.uid)}
    wanted = [item.name for item in scope.tenant.spec.namespaces or () if item.adopt and item.name not in own]
    found = {name: await look_at(api, name) for name in wanted}
    # One that is the tenant's by its label, or as status knows it, only had labels changed: the child writer sees to it.
    known = {row.get("uid") for row in scope.tenant.status.get("namespaces") or () if row.get("adopted")}
    return {
        name: candidate
        for name, candidate in found.items()
        if candidate is not None
        and candidate.uid not in known
        and candidate.labels.get(names.LABEL_TENANT_UID) != scope.tenant.uid
    }


def view_of_quota(child: Child) -> QuotaView:
    """The quota's status as Kubernetes' controller keeps it."""
    if child.full is None:
        return QuotaView()
    hard: Mapping[str, str] = (child.full.get("spec") or {}).get("hard") or {}
    status: Mapping[str, Any] = child.full.get("status") or {}
    used: Mapping[str, str] = status.get("used") or {}
    return QuotaView(used, counted=(status.get("hard") or {}) == hard and hard.keys() <= used.keys())


def _strangers(scope: Scope, namespaces: ChildStore) -> frozenset[str]:
    """Namespaces that ``spec.network`` names and another tenant has."""
    rules = scope.tenant.spec.network
    named = {rule.namespace for rule in rules.ingress_from}
    named |= {rule.namespace for rule in rules.egress_to if rule.namespace is not None}
    found = {name: namespaces.get("", name) for name in named}
    return frozenset(
        name
        for name, child in found.items()
        if child is not None and child.labels.get(names.LABEL_TENANT_UID) not in (None, scope.tenant.uid)
    )


def _changed(child: Child | None, signature: str | None) -> bool:
    return child is not None and signature not in (None, child.signature)


def _renderer(child: Child | None, uid: str) -> RendererView:
    if child is None or child.labels.get(names.LABEL_TENANT_UID) != uid:
        return RendererView()
    return view_of_pods(child)


def view_of_pods(child: Child) -> RendererView:
    """What a Deployment says of its pods."""
    if child.full is None:
        return RendererView()
    status: Mapping[str, Any] = child.full.get("status") or {}
    stuck = _stuck(status.get("conditions") or ())
    return RendererView(
        desired=int(child.full["spec"].get("replicas", 0)), ready=int(status.get("readyReplicas", 0)), stuck=stuck
    )


def _stuck(conditions: Iterable[Mapping[str, Any]]) -> str:
    """Why the Deployment says that it does not get on; empty while it does."""
    for condition in conditions:
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            return str(condition.get("message") or condition.get("reason") or "pods cannot be created")
        if condition["type"] == "Progressing" and condition["status"] == "False":
            return str(condition.get("message") or condition.get("reason") or "the rollout does not progress")
    return ""
