"""What has to be done for a Tenant that shall exist: ``plan_tenant``. Pure. (``tenant.teardown`` plans its deletion.)

Called by ``tenant.reconcile`` for every trigger: the object, a child, a dependency, the sweep. Never awaits, reads no clock.
The order of stages is the security argument: Pod Security labels, default-deny, quota and limits exist before anything that
could let a pod in (members' rights, the renderers).
"""

import math
from datetime import timedelta
from itertools import chain

from unjucks_api import names
from unjucks_api.conditions import ConditionType
from unjucks_operator.planning import (
    Action,
    Apply,
    Delete,
    IssueCertificate,
    Plan,
    SetFinalizers,
    Stage,
    manifest_key,
)
from unjucks_operator.tenant.cache import plan_cache
from unjucks_operator.tenant.courier import plan_courier
from unjucks_operator.tenant.database import plan_database
from unjucks_operator.tenant.desired import Scope
from unjucks_operator.tenant.desired.access import build_bindings, build_reader
from unjucks_operator.tenant.desired.network import build_deny, build_dns, build_renderer_ingress
from unjucks_operator.tenant.desired.quota import build_limits, build_quota
from unjucks_operator.tenant.desired.renderer import (
    build_certificate_secret,
    build_deployment,
    build_service_account,
)
from unjucks_operator.tenant.expiry import seconds_left
from unjucks_operator.tenant.facts import ChildKey, ChildView, Demand, Observed, RendererView
from unjucks_operator.tenant.namespaces import plan_inspection, plan_namespaces
from unjucks_operator.tenant.network import build_allowances

__all__ = ["ChildKey", "ChildView", "Demand", "Observed", "RendererView", "plan_replicas", "plan_tenant"]

# Children that may vanish from the plan and are then deleted. Namespaces are not among them: see plan_release.
_PRUNED_KINDS = frozenset({"RoleBinding", "NetworkPolicy"})
_WITHOUT_HOME = frozenset({"finalizer", "namespaces", "isolation", "network", "adoption", "role", "access"})
_RENDERER_KINDS = frozenset({"Deployment", "Secret", "ServiceAccount"})
_POD_OWNERS = frozenset({names.RENDERER, names.COURIER})
_OPENINGS = frozenset({names.POLICY_INGRESS, names.POLICY_EGRESS, names.POLICY_COURIER})


def plan_tenant(scope: Scope, observed: Observed) -> Plan:
    """The stages that bring a living Tenant to its spec. Every child is in the plan; what is settled costs no request."""
    if names.FINALIZER_TENANT not in scope.tenant.metadata.finalizers:
        finalizer: tuple[Action, ...] = (SetFinalizers((*scope.tenant.metadata.finalizers, names.FINALIZER_TENANT)),)
    else:
        finalizer = ()
    namespaces = scope.namespaces
    replicas = plan_replicas(scope, observed)
    certificate = _plan_certificate(scope, observed)
    database = plan_database(scope, observed.children, observed.database_role, observed.database, observed.now)
    cache = plan_cache(scope, observed.children, observed.cache, observed.now)
    courier = plan_courier(scope, observed)
    manager = names.MANAGER_TENANT
    inspection = tuple(plan_inspection(scope, observed))
    reader = build_reader(scope)
    stages = (
        Stage("finalizer", finalizer),
        Stage(
            "namespaces",
            tuple(plan_namespaces(scope, observed)),
            (ConditionType.NAMESPACES_READY, ConditionType.POD_SECURITY_ENFORCED),
        ),
        Stage(
            "isolation",
            tuple(
                Apply(manifest, manager)
                for name in namespaces
                for manifest in (build_deny(scope, name), build_quota(scope, name), build_limits(scope, name))
            ),
            (ConditionType.QUOTA_ENFORCED,),
        ),
        Stage(
            "network",
            tuple(
                Apply(manifest, manager)
                for manifest in (
                    *(build_dns(scope, name) for name in namespaces),
                    build_renderer_ingress(scope),
                    *build_allowances(scope, observed.network),
                )
            ),
            (ConditionType.NETWORK_ISOLATED, ConditionType.NETWORK_RULES_READY),
        ),
        Stage("adoption", inspection, (ConditionType.NAMESPACES_READY,) if inspection else ()),
        # Nobody can bind a role that is not there: made side by side, the binding would lose the race and be tried again.
        Stage("role", tuple(Apply(role, manager) for role in reader[:1]), (ConditionType.ACCESS_READY,)),
        Stage(
            "access",
            tuple(
                Apply(manifest, manager)
                for manifest in (*chain.from_iterable(build_bindings(scope, name) for name in namespaces), *reader[1:])
            ),
            (ConditionType.ACCESS_READY,),
        ),
        Stage(
            "renderers",
            (
                Apply(build_service_account(scope), names.MANAGER_RENDERER),
                *([certificate] if certificate else []),
                Apply(build_deployment(scope, replicas), names.MANAGER_RENDERER),
            ),
            (ConditionType.RENDERERS_READY,),
        ),
        *courier.stages,
        # The tenant's two outsides depend on nothing after them: one that is down holds up neither the other nor anything else.
        *database.stages,
        cache.stage,
    )
    looks = (
        _next_look(scope, observed, replicas, certificate),
        cache.look_again,
        database.look_again,
        courier.look_again,
    )
    return Plan(
        stages=_within(scope, _with_pruning(scope, observed, stages)),
        requeue_after=min((look for look in looks if look is not None), default=None),
    )


def plan_replicas(scope: Scope, observed: Observed) -> int:
    """How many warm renderers there shall be: none without work, one for each few active jobs, within the tier's bounds.

    After the last piece of work the pods stay for ``renderer.idle_after`` seconds, so that a burst finds them warm.
    """
    spec, demand = scope.tenant.spec, observed.demand
    minimum, maximum = renderer_bounds(scope)
    # Not what the Deployment says now: that may be somebody else's edit, which is to be taken back.
    current = observed.renderer.desired if observed.planned_replicas is None else observed.planned_replicas
    if spec.suspend:
        return min(current, maximum) if demand.active else 0  # runs under way end; a suspended job wants no renderer
    if demand.active:
        wanted = max(1, math.ceil(demand.active / scope.config.renderer.jobs_per_replica))
    elif demand.last_active and observed.now < demand.last_active + timedelta(seconds=scope.config.renderer.idle_after):
        wanted = current
    else:
        wanted = 0
    # A single job more or less must not make pods come and go: shrink only when idle.
    if demand.active and current > wanted:
        wanted = current
    return min(max(wanted, minimum), maximum)


def renderer_bounds(scope: Scope) -> tuple[int, int]:
    """The fewest and the most renderers: what the Tenant asks for, within what its tier allows."""
    asked, tier = scope.tenant.spec.renderers, scope.tier
    most = max(tier.renderers.max, tier.maximum.renderers or 0)
    minimum = min(asked.min if asked.min is not None else tier.renderers.min, most)
    return minimum, max(min(asked.max if asked.max is not None else tier.renderers.max, most), minimum)


def _plan_certificate(scope: Scope, observed: Observed) -> Action | None:
    """A new certificate when there is none, it ends soon, another authority made it, or somebody changed the Secret."""
    manifest = build_certificate_secret(scope)
    key = manifest_key(manifest)
    view = observed.children.get(key)
    if view is not None and key not in observed.drifted_secrets:
        until = view.annotations.get(names.ANNOTATION_CERT_NOT_AFTER, "")
        same_authority = view.annotations.get(names.ANNOTATION_CERT_SERIAL) == observed.certificate_serial
        if same_authority and seconds_left(until, observed.now) > scope.config.renderer.certificate_renew_before:
            return None
    return IssueCertificate(manifest, names.renderer_identity(scope.tenant.uid), names.MANAGER_RENDERER)


def _with_pruning(scope: Scope, observed: Observed, stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
    """Add the deletion of children that the spec no longer asks for to the stage ``access``, before anything else there.

    In a namespace that the spec no longer lists, members, renderers and what was open in its network go at once; the namespace
    itself, its isolation and its content stay until an administrator removes them: taking a line out of a list must never destroy
    data.
    """
    wanted: set[ChildKey] = set()
    for stage in stages:
        for action in stage.actions:
            if isinstance(action, Apply):
                wanted.add(manifest_key(action.manifest))
    listed = set(scope.tenant.namespaces)
    prune: list[Action] = []
    for key, view in observed.children.items():
        kind, namespace, name = key
        if view.deleting or key in wanted or namespace in scope.without | scope.stuck:
            continue
        if namespace in listed:
            # Also the renderers of a namespace that was the home before: nothing lets the operator reach them there any more.
            unwanted = kind in _PRUNED_KINDS or (
                kind in _RENDERER_KINDS and name in _POD_OWNERS and namespace != scope.home
            )
        else:
            unwanted = (
                kind in ("RoleBinding", "ClusterRoleBinding", "ClusterRole")
                or (kind in _RENDERER_KINDS and name in _POD_OWNERS)
                or (kind == "NetworkPolicy" and name in _OPENINGS)
            )
        if unwanted:
            prune.append(Delete(kind, namespace, name, view.uid))
    if not prune:
        return stages
    return tuple(
        Stage(stage.name, (*prune, *stage.actions), stage.proves) if stage.name == "access" else stage
        for stage in stages
    )


def _within(scope: Scope, stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
    """Without what concerns namespaces that the tenant does not have. Where its home is missing: guards and rights only."""
    kept = set(scope.namespaces)
    if kept == set(scope.tenant.namespaces):
        return stages
    return tuple(
        Stage(
            stage.name, tuple(it for it in stage.actions if _concerns(it, kept)), stage.proves, blocking=stage.blocking
        )
        for stage in stages
        if scope.home in kept or stage.name in _WITHOUT_HOME
    )


def _concerns(action: Action, kept: set[str]) -> bool:
    if not isinstance(action, Apply):
        return True
    kind, namespace, name = manifest_key(action.manifest)
    return (name if kind == "Namespace" else namespace) in {*kept, ""}


def _next_look(scope: Scope, observed: Observed, replicas: int, certificate: Action | None) -> float | None:
    """Seconds until time alone changes the plan: idle renderers are due to go, or a certificate is due for renewal."""
    waits: list[float] = []
    demand = observed.demand
    if replicas and not demand.active and demand.last_active:
        idle = demand.last_active + timedelta(seconds=scope.config.renderer.idle_after) - observed.now
        if idle.total_seconds() > 0:  # afterwards only the minimum is left, and time changes nothing about that
            waits.append(idle.total_seconds() + 1.0)
    view = observed.children.get(("Secret", scope.home, names.RENDERER))
    if certificate is None and view is not None:
        left = seconds_left(view.annotations.get(names.ANNOTATION_CERT_NOT_AFTER, ""), observed.now)
        waits.append(max(left - scope.config.renderer.certificate_renew_before, 0.0) + 1.0)
    return min(waits, default=None)
