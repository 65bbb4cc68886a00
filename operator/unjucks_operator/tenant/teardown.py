"""What has to be done for a Tenant that is being deleted: rights first, then pods, then data, then the finalizer. Pure.

Called by ``tenant.reconcile``. Nothing here takes anything away unless it is sure that this is meant: a protected Tenant, and one
of very many that are being deleted at once, keep everything until somebody confirms (``plan_deletion``).
"""

from collections.abc import Iterable
from itertools import chain

from unjucks_api import names
from unjucks_api.v1alpha1.tenant import DatabaseMode, ReclaimPolicy
from unjucks_operator.planning import (
    Action,
    Delete,
    DropDatabase,
    Hold,
    Plan,
    RetireDatabase,
    SetFinalizers,
    Stage,
)
from unjucks_operator.tenant.desired import Scope
from unjucks_operator.tenant.facts import Observed
from unjucks_operator.tenant.plan import DELETION_POLL

_MEMBER_BINDINGS = (names.BINDING_OWNERS, names.BINDING_EDITORS, names.BINDING_VIEWERS)


def plan_teardown(scope: Scope, observed: Observed) -> Plan:
    """The stages of a deletion, safe to stop and resume anywhere: rights, then pods, then data, then the finalizer.

    ``Retain`` keeps the namespaces, locked (isolation stays, nobody has rights in them), and the database rows as a tombstone.
    ``Delete`` deletes the namespaces; database rows go only with ``database.reclaimPolicy: Delete`` and the confirmation
    annotation ``unjucks.io/confirm-delete: <name>@<date of deletion>``.
    """
    tenant = scope.tenant
    keep = tenant.spec.deletion_policy is ReclaimPolicy.RETAIN
    has_database = tenant.database_mode is not DatabaseMode.NONE
    rights = [*_existing(observed, "RoleBinding", set(_MEMBER_BINDINGS)), *_existing(observed, "Deployment", None)]
    pods = [key for key, view in observed.children.items() if key[0] == "Pod" and not view.deleting]
    remaining = sorted(key[2] for key in observed.children if key[0] == "Pod")
    stages = [
        Stage("rights", tuple(rights)),
        Stage(
            "pods",
            (
                *(Delete("Pod", key[1], key[2], observed.children[key].uid) for key in pods),
                *(
                    [Hold(f"waiting for {len(remaining)} renderer pod(s) to end: {remaining[0]}", DELETION_POLL)]
                    if remaining
                    else []
                ),
            ),
        ),
    ]
    if has_database:
        stages.append(Stage("database", (RetireDatabase(scope.tenant.uid, scope.tenant.name),)))
    if keep:
        leftovers = chain.from_iterable(
            _existing(observed, kind, {names.RENDERER}) for kind in ("Secret", "ServiceAccount")
        )
        stages.append(Stage("release", tuple(leftovers)))
    else:
        stages.append(Stage("namespaces", tuple(_plan_namespace_removal(scope, observed))))
        if has_database and tenant.reclaim_policy is ReclaimPolicy.DELETE:
            stages.append(Stage("data", (_plan_drop(scope),)))
    finalizers = tuple(item for item in scope.tenant.metadata.finalizers if item != names.FINALIZER_TENANT)
    if finalizers != scope.tenant.metadata.finalizers:
        stages.append(Stage("finalizer", (SetFinalizers(finalizers),)))
    return Plan(stages=tuple(stages))


def _plan_drop(scope: Scope) -> Action:
    deleted = (scope.tenant.metadata.deletion_timestamp or "")[:10]
    expected = f"{scope.tenant.name}@{deleted}"
    if scope.tenant.metadata.annotations.get(names.ANNOTATION_CONFIRM_DELETE) == expected:
        return DropDatabase(scope.tenant.uid)
    return Hold(
        f"the tenant's database rows are deleted only after confirmation: kubectl annotate tenant {scope.tenant.name} "
        f"{names.ANNOTATION_CONFIRM_DELETE}={expected} (or set spec.database.reclaimPolicy to Retain)",
        300.0,
    )


def _plan_namespace_removal(scope: Scope, observed: Observed) -> Iterable[Action]:
    """The listed namespaces go. One that was taken off the list before stays as it is: locked, with its content."""
    going = [key for key in observed.children if key[0] == "Namespace" and key[2] in scope.namespaces]
    for key in going:
        if not observed.children[key].deleting:
            yield Delete("Namespace", None, key[2], observed.children[key].uid)
    if going:
        yield Hold(f"waiting for namespace {going[0][2]} to be deleted", DELETION_POLL)


def _existing(observed: Observed, kind: str, wanted: set[str] | None) -> Iterable[Delete]:
    for key, view in observed.children.items():
        if key[0] == kind and not view.deleting and (wanted is None or key[2] in wanted):
            yield Delete(kind, key[1], key[2], view.uid)
