"""The status of a Tenant that is being deleted: what happens to each part, how far it is, what it waits for. Pure.

Called by ``tenant.reconcile``, before the first step (people must be able to read what will happen) and after each run.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from unjucks_api import names
from unjucks_api.conditions import Condition, ConditionType, merge_conditions
from unjucks_api.reasons import Reason
from unjucks_api.v1alpha1.tenant import DatabaseMode, ReclaimPolicy
from unjucks_operator.database.usage import Size
from unjucks_operator.errors import OperatorError
from unjucks_operator.planning import Outcome
from unjucks_operator.tenant.desired import Scope
from unjucks_operator.tenant.facts import Observed
from unjucks_operator.tenant.status import tenant_facts

HELD = frozenset({Reason.DELETION_HELD, Reason.PROTECTED, Reason.MASS_DELETION})
"""Reasons of waits that only somebody's confirmation ends."""
MAX_BLOCKERS = 20


def compute_deleting_status(
    scope: Scope,
    previous: Mapping[str, Any],
    outcome: Outcome,
    observed: Observed,
    *,
    now: datetime,
    database: Size | None = None,
    blockers: Sequence[str] = (),
) -> dict[str, Any]:
    """The status. ``database``: its size when it was asked for; later what status already says is kept. ``blockers``: what
    Kubernetes says of namespaces that do not go away."""
    stopped = outcome.errors.get("held") or outcome.stopped
    message = stopped.message if isinstance(stopped, OperatorError) else (str(stopped) if stopped else "finishing")
    held = isinstance(stopped, OperatorError) and stopped.reason in HELD
    reason = stopped.reason if held and isinstance(stopped, OperatorError) else Reason.DELETING
    conditions = [
        Condition(ConditionType.READY, "False", reason, message),
        Condition(ConditionType.DELETING, "True", reason, message),
        Condition(ConditionType.DELETION_HELD if held else ConditionType.RECONCILING, "True", reason, message),
    ]
    blocked = [message, *blockers] if stopped else []
    return tenant_facts(scope, observed) | {
        "observedGeneration": scope.tenant.generation,
        "deletion": {
            "plan": _rows(scope, previous, observed, database),
            "blockedBy": [item[:1024] for item in blocked[:MAX_BLOCKERS]],
        },
        "conditions": merge_conditions(
            previous.get("conditions") or (), conditions, generation=scope.tenant.generation, now=now
        ),
    }


def _rows(scope: Scope, previous: Mapping[str, Any], observed: Observed, database: Size | None) -> list[dict[str, Any]]:
    keep = scope.tenant.spec.deletion_policy is ReclaimPolicy.RETAIN
    known = {(row.get("what"), row.get("name")): row for row in (previous.get("deletion") or {}).get("plan") or ()}
    rows: list[dict[str, Any]] = []
    for name in scope.namespaces:
        row = {"what": "namespace", "name": name, "action": "Retain" if keep else "Delete"}
        rows.append(row | _kept_sizes(known.get(("namespace", name))) | _objects(observed, name))
    if scope.tenant.database_mode is not DatabaseMode.NONE:
        role = names.database_role(scope.tenant.uid)
        drop = scope.tenant.reclaim_policy is ReclaimPolicy.DELETE
        row = {"what": "database", "name": role, "action": "Drop" if drop else "Tombstone"}
        sizes = {"objects": database.rows, "bytes": database.bytes} if database else {}
        rows.append(row | _kept_sizes(known.get(("database", role))) | sizes)
    if observed.cache.available:
        rows.append({"what": "cache", "name": names.cache_user(scope.tenant.uid), "action": "Delete"})
    return rows


def _kept_sizes(row: Mapping[str, Any] | None) -> dict[str, Any]:
    return {key: row[key] for key in ("objects", "bytes") if row and key in row}


def _objects(observed: Observed, namespace: str) -> dict[str, int]:
    """How many objects the namespace's quota counts. Told as long as they are there; a namespace that empties keeps the number."""
    quota = observed.quotas.get(namespace)
    if quota is None or observed.children.get(("Namespace", "", namespace)) is None:
        return {}
    view = observed.children["Namespace", "", namespace]
    return {} if view.deleting else {"objects": quota.objects}
