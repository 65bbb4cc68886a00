"""What is known of a Tenant before planning: read from the informers' stores and the database's last answer, no request.

Called by ``tenant.reconcile``. Turns children into the few facts the planner needs.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from unjucks_api import names
from unjucks_operator.kube.child import Child
from unjucks_operator.kube.resources import CONFIG_MAP, DEPLOYMENT, NAMESPACE, Resource
from unjucks_operator.kube.store import ChildStore
from unjucks_operator.tenant.desired import Scope
from unjucks_operator.tenant.facts import ChildKey, ChildView, Demand, Observed, RendererView


def observe_tenant(
    scope: Scope,
    stores: Mapping[Resource, ChildStore],
    *,
    database_role: str | None,
    demand: tuple[int, datetime | None],
    certificate_serial: str,
    certificate_signature: str | None,
    planned_replicas: int | None,
    now: datetime,
) -> Observed:
    """The facts. ``certificate_signature`` is that of the renderer's Secret after our last write, None when we did not write it."""
    uid = scope.tenant.uid
    children: dict[ChildKey, ChildView] = {}
    drifted: set[ChildKey] = set()
    # A label alone makes nothing ours: whoever may label a pod elsewhere could otherwise hold up this tenant's deletion.
    ours = {"", *scope.namespaces, *(child.name for child in stores[NAMESPACE].indexed(uid))}
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
        certificate_serial=certificate_serial,
        drifted_secrets=frozenset(drifted),
        planned_replicas=planned_replicas,
    )


def _renderer(child: Child | None, uid: str) -> RendererView:
    if child is None or child.full is None or child.labels.get(names.LABEL_TENANT_UID) != uid:
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
