"""The status of a Tenant, computed from its plan, what came of it, and what was observed. Pure; called by ``tenant.reconcile``.

``Ready`` is the AND of the sub-conditions at this generation, so ``kubectl wait --for=condition=Ready`` is the whole contract.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from unjucks_api.conditions import Condition, ConditionType, merge_conditions
from unjucks_api.reasons import Reason
from unjucks_api.v1alpha1.tenant import DatabaseMode
from unjucks_operator.errors import OperatorError, OwnershipConflict, Terminal
from unjucks_operator.planning import Outcome, Plan
from unjucks_operator.tenant.cache import cache_condition, cache_facts
from unjucks_operator.tenant.database import credentials_condition, database_conditions, database_facts, database_word
from unjucks_operator.tenant.desired import Scope
from unjucks_operator.tenant.facts import Observed, QuotaView
from unjucks_operator.tenant.isolation import (
    Evidence,
    isolation_condition,
    isolation_status,
    keep_known,
    network_evidence,
)
from unjucks_operator.tenant.namespaces import adopting, inspected
from unjucks_operator.tenant.network import isolated_condition, network_progress, rules_condition
from unjucks_operator.tenant.plan import renderer_bounds

PARTS = (
    ConditionType.NAMESPACES_READY,
    ConditionType.POD_SECURITY_ENFORCED,
    ConditionType.QUOTA_ENFORCED,
    ConditionType.NETWORK_ISOLATED,
    ConditionType.NETWORK_RULES_READY,
    ConditionType.ACCESS_READY,
    ConditionType.RENDERERS_READY,
    ConditionType.DATABASE_READY,
    ConditionType.CREDENTIALS_READY,
    ConditionType.CACHE_READY,
)
_TEXTS = {
    ConditionType.NAMESPACES_READY: "all namespaces exist",
    ConditionType.POD_SECURITY_ENFORCED: "only pods of the level restricted are admitted",
    ConditionType.QUOTA_ENFORCED: "quota and limits are in place",
    ConditionType.ACCESS_READY: "the members have their roles",
    ConditionType.RENDERERS_READY: "renderers are ready",
    ConditionType.DATABASE_READY: "role, mapping and grants are in place",
    ConditionType.CACHE_READY: "the user at Redis is in place",
}


_GUARDS = frozenset({"isolation", "network"})
"""Stages that set up what isolates a namespace."""


def compute_status(
    scope: Scope,
    previous: Mapping[str, Any],
    plan: Plan,
    outcome: Outcome,
    observed: Observed,
    *,
    now: datetime,
    problem: OperatorError | None = None,
) -> dict[str, Any]:
    """The whole status. Equal facts give equal bytes, so an unchanged state is never written.

    ``problem``: what is wrong with the spec although the rest of it is kept up.
    """
    tenant = scope.tenant
    parts = _part_conditions(scope, plan, outcome, observed)
    evidence = _evidence(scope, observed)
    verified = isolation_condition(previous, evidence)
    # Only a hole counts against Ready: before the first round there is nothing to say, and that must not hold anybody up.
    judged = [*parts, verified] if verified.status == "False" else parts
    conditions = [
        *parts,
        verified,
        _ready(judged, problem),
        *(_progress(outcome, problem) or network_progress(parts)),
        *database_conditions(observed.database),
    ]
    if tenant.spec.suspend:
        conditions.append(
            Condition(
                ConditionType.SUSPENDED,
                "True",
                Reason.SUSPENDED,
                "spec.suspend: no job starts; runs end, then no renderer runs",
            )
        )
    isolation = previous.get("isolation") or {}
    if not keep_known(previous, evidence):
        isolation = isolation_status(isolation, [item for item in evidence if item is not None])
    return tenant_facts(scope, observed, outcome) | {
        "observedGeneration": tenant.generation,
        **({"isolation": isolation} if isolation else {}),
        "conditions": merge_conditions(
            previous.get("conditions") or (), conditions, generation=tenant.generation, now=now
        ),
    }


def _part_conditions(scope: Scope, plan: Plan, outcome: Outcome, observed: Observed) -> list[Condition]:
    conditions: list[Condition] = []
    for stage in plan.stages:
        if stage.name not in outcome.errors:
            state, reason, text = "Unknown", Reason.BLOCKED, "an earlier step has to succeed first"
        else:
            error = outcome.errors[stage.name]
            if error is None:
                state, reason, text = "True", Reason.RECONCILED, ""
            else:
                state, reason, text = "False", _reason(error), _message(error)
        for kind in stage.proves:
            if state == "True" and kind is ConditionType.RENDERERS_READY:
                conditions.append(_renderers(scope, observed))
            elif state == "True" and kind is ConditionType.QUOTA_ENFORCED:
                conditions.append(_quota(scope, observed))
            elif state == "True" and kind is ConditionType.NETWORK_ISOLATED:
                conditions.append(isolated_condition(observed.network))
            elif state == "True" and kind is ConditionType.NETWORK_RULES_READY:
                conditions.append(rules_condition(scope, observed.network))
            elif state == "True" and kind is ConditionType.CACHE_READY:
                conditions.append(cache_condition(scope, observed.cache))
            elif state == "True" and kind is ConditionType.CREDENTIALS_READY:
                conditions.append(credentials_condition(scope))
            elif (
                state == "True"
                and kind is ConditionType.DATABASE_READY
                and scope.tenant.database_mode is DatabaseMode.NONE
            ):
                conditions.append(Condition(kind, "True", Reason.DATABASE_DISABLED, "spec.database.mode is None"))
            else:
                conditions.append(Condition(kind, state, reason, text or _TEXTS[kind]))
    return conditions


def _evidence(scope: Scope, observed: Observed) -> list[Evidence | None]:
    """From all who try to break the isolation: network policies, and the database of those who have one."""
    network = network_evidence(observed.network.enforcement)
    return [network] if scope.tenant.database_mode is DatabaseMode.NONE else [network, observed.isolation]


def _quota(scope: Scope, observed: Observed) -> Condition:
    """True once Kubernetes counts: before that it refuses every new object, so that nobody gets past it, but nobody can work."""
    kind = ConditionType.QUOTA_ENFORCED
    waiting = [name for name in scope.namespaces if not observed.quotas.get(name, QuotaView()).counted]
    if waiting:
        return Condition(
            kind,
            "False",
            Reason.QUOTA_PENDING,
            f"Kubernetes has not counted yet what is in namespace {waiting[0]}; until then it refuses new objects there",
        )
    return Condition(kind, "True", Reason.RECONCILED, _TEXTS[kind])


def _renderers(scope: Scope, observed: Observed) -> Condition:
    """True also while a pod starts on demand: that is how from-zero works. False when it should run and cannot."""
    view, kind = observed.renderer, ConditionType.RENDERERS_READY
    minimum, _ = renderer_bounds(scope)
    if view.stuck and view.ready == 0 and view.desired > 0:
        return Condition(kind, "False", Reason.RENDERER_UNAVAILABLE, f"no renderer pod becomes ready: {view.stuck}")
    if view.ready < minimum and not scope.tenant.spec.suspend:
        return Condition(
            kind, "False", Reason.RENDERER_STARTING, f"{view.ready} of at least {minimum} renderers are ready"
        )
    if view.desired == 0:
        return Condition(kind, "True", Reason.SCALED_TO_ZERO, "no work; a renderer starts on demand")
    if view.ready == 0:
        return Condition(kind, "True", Reason.RENDERER_STARTING, "a renderer is starting on demand")
    return Condition(kind, "True", Reason.RECONCILED, "renderers are ready")


def _ready(parts: list[Condition], problem: OperatorError | None) -> Condition:
    if problem is not None:
        return Condition(ConditionType.READY, "False", problem.reason, problem.message)
    for wanted in ("False", "Unknown"):
        for part in parts:
            if part.status == wanted:
                return Condition(ConditionType.READY, "False", part.reason, f"{part.type}: {part.message}")
    return Condition(ConditionType.READY, "True", Reason.RECONCILED, "everything is in place")


def _progress(outcome: Outcome, problem: OperatorError | None) -> list[Condition]:
    if problem is not None:
        return [Condition(ConditionType.STALLED, "True", problem.reason, problem.message)]
    stopped = outcome.stopped
    if stopped is None:
        return []
    conditions = []
    if isinstance(stopped, OwnershipConflict):
        conditions.append(Condition(ConditionType.CONFLICTED, "True", stopped.reason, stopped.message))
    if isinstance(stopped, Terminal):
        conditions.append(Condition(ConditionType.STALLED, "True", stopped.reason, stopped.message))
    else:
        conditions.append(Condition(ConditionType.RECONCILING, "True", _reason(stopped), _message(stopped)))
    return conditions


def tenant_facts(scope: Scope, observed: Observed, outcome: Outcome | None = None) -> dict[str, Any]:
    """Everything but conditions: what there is, for people and columns. ``outcome``: of the plan that sets it up."""
    rows: list[dict[str, Any]] = []
    done = {stage for stage, error in outcome.errors.items() if error is None} if outcome else set(_GUARDS)
    known = inspected(scope, observed)
    for name in scope.tenant.namespaces:
        view = observed.children.get(("Namespace", "", name))
        there = view is not None and not view.deleting
        row = {"name": name, "uid": view.uid if view else "", "ready": there and done >= _GUARDS}
        if name in known or (name in adopting(scope) and there and outcome is not None and "adoption" in done):
            row["adopted"] = True
        rows.append(row)
    ready = sum(row["ready"] is True for row in rows)
    renderer = observed.renderer
    facts: dict[str, Any] = {
        "namespaces": rows,
        "renderers": {"ready": renderer.ready, "desired": renderer.desired},
        "usage": {"jobsActive": observed.demand.active, **observed.usage},
        "summary": {
            "namespaces": f"{ready}/{len(rows)}",
            "renderers": f"{renderer.ready}/{renderer.desired}",
            "database": database_word(scope, observed.database),
            "jobs": observed.demand.active,
        },
        "database": database_facts(scope, observed.database_role, observed.database),
        "cache": cache_facts(scope, observed.children, observed.cache, observed.now),
    }
    return facts


def _reason(error: Exception) -> Reason:
    return error.reason if isinstance(error, OperatorError) else Reason.INTERNAL_ERROR


def _message(error: Exception) -> str:
    return error.message if isinstance(error, OperatorError) else "an unexpected error; see the operator's log"
