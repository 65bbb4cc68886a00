"""What has to be done for a Tenant that is being deleted: rights first, then pods, then data, then the finalizer. Pure.

Called by ``tenant.reconcile``. Nothing here takes anything away unless it is sure that this is meant: a protected Tenant, and one
of very many that are being deleted at once, keep everything until somebody confirms (``plan_deletion``).
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import chain

from unjucks_api import names
from unjucks_api.conditions import ConditionType, find_condition, timestamp
from unjucks_api.reasons import Reason
from unjucks_api.v1alpha1.tenant import DatabaseMode, ReclaimPolicy
from unjucks_operator.planning import (
    Action,
    Apply,
    Delete,
    DropDatabase,
    Hold,
    Plan,
    RetireDatabase,
    SetFinalizers,
    Stage,
    manifest_key,
)
from unjucks_operator.tenant.breaker import Verdict
from unjucks_operator.tenant.cache import plan_cache_removal
from unjucks_operator.tenant.desired import Scope
from unjucks_operator.tenant.facts import Observed
from unjucks_operator.tenant.namespaces import DELETION_POLL
from unjucks_operator.tenant.plan import plan_tenant

_MEMBER_BINDINGS = (names.BINDING_OWNERS, names.BINDING_EDITORS, names.BINDING_VIEWERS)


CONFIRMATION_LOOK = 300.0
"""Seconds between looks at a deletion that waits for a confirmation; the annotation itself brings it back at once."""
_GUARDS = frozenset({"isolation", "network"})


def plan_deletion(scope: Scope, observed: Observed, verdict: Verdict) -> Plan:
    """The teardown; or, while the deletion is held, what keeps the Tenant's guards in place and gives nothing new.

    A confirmation (``unjucks.io/confirm-delete: <name>@<date of deletion>``) ends every hold.
    """
    hold = plan_hold(scope, observed.now, verdict)
    if hold is None:
        return plan_teardown(scope, observed)
    # A repair that fails must not hide that the deletion is held.
    stages = [Stage(it.name, _kept(it, observed), blocking=False) for it in plan_tenant(scope, observed).stages]
    return Plan(stages=(*stages, Stage("held", (hold,))))


def plan_hold(scope: Scope, now: datetime, verdict: Verdict) -> Hold | None:
    """Why the deletion has to wait for somebody, or for a moment; None when it may go on."""
    tenant, mass = scope.tenant, scope.config.deletion.mass
    if is_confirmed(scope):
        return None
    if tenant.spec.protected:
        return Hold(
            f"the Tenant is protected (spec.protected) but was deleted; it keeps everything. {_how_to_confirm(scope)}; "
            "or set spec.protected to false",
            CONFIRMATION_LOOK,
            Reason.PROTECTED,
        )
    age = (now - _deleted_at(scope, now)).total_seconds()
    if verdict.tripped or _was_held(scope):
        left = mass.release_after - age
        if mass.release_after and left <= 0:
            return None
        return Hold(
            f"{verdict.deleted} of {verdict.total} Tenants were deleted within {mass.window:.0f} s of each other, more than the "
            f"{verdict.allowed} that are allowed at once: taken for an accident, so this one keeps everything. "
            + (f"It goes on by itself in {mass.release_after:.0f} s after its deletion; " if mass.release_after else "")
            + _how_to_confirm(scope),
            min(left + 1.0, CONFIRMATION_LOOK) if mass.release_after else CONFIRMATION_LOOK,
            Reason.MASS_DELETION,
        )
    if verdict.crowded and age < mass.settle:
        text = "waiting a moment to see whether very many Tenants are being deleted at once"
        return Hold(text, mass.settle - age, Reason.DELETING)
    return None


def is_confirmed(scope: Scope) -> bool:
    """Whether somebody confirmed this very deletion."""
    return scope.tenant.metadata.annotations.get(names.ANNOTATION_CONFIRM_DELETE) == _confirmation(scope)


def _confirmation(scope: Scope) -> str:
    return f"{scope.tenant.name}@{(scope.tenant.metadata.deletion_timestamp or '')[:10]}"


def _how_to_confirm(scope: Scope) -> str:
    return f"To delete it as status.deletion.plan says: {_command(scope)}"


def _command(scope: Scope) -> str:
    command = f"kubectl annotate tenant {scope.tenant.name} {names.ANNOTATION_CONFIRM_DELETE}={_confirmation(scope)}"
    # One that was set without an approval counts for nothing, and setting it again would change nothing.
    approval = f" {names.ANNOTATION_APPROVAL}=<your code> (remove an older confirmation first)"
    return command + approval if scope.config.webhooks.enabled else command


def _deleted_at(scope: Scope, default: datetime) -> datetime:
    try:
        return datetime.fromisoformat(scope.tenant.metadata.deletion_timestamp or "")
    except ValueError:
        return default


def _was_held(scope: Scope) -> bool:
    """Whether it was held as one of many before; those that were confirmed since do not make it less of an accident."""
    condition = find_condition(scope.tenant.status, ConditionType.DELETION_HELD)
    return condition is not None and condition.get("reason") == Reason.MASS_DELETION


def _kept(stage: Stage, observed: Observed) -> tuple[Action, ...]:
    """Of a living Tenant's stage, what repairs what is still there. What is gone stays gone, except a guard of a namespace."""
    kept: list[Action] = []
    for action in stage.actions:
        if not isinstance(action, Apply):
            continue
        kind, namespace, name = manifest_key(action.manifest)
        home = ("Namespace", "", namespace) if stage.name in _GUARDS else (kind, namespace, name)
        view = observed.children.get(home)
        if view is not None and not view.deleting:
            kept.append(action)
    return tuple(kept)


def plan_teardown(scope: Scope, observed: Observed) -> Plan:
    """The stages of a deletion, safe to stop and resume anywhere: rights, then pods, then data, then the finalizer.

    ``Retain`` keeps the namespaces, locked (isolation stays, nobody has rights in them), and the database rows as a tombstone.
    ``Delete`` deletes the namespaces; the database goes only with ``database.reclaimPolicy: Delete``, the confirmation
    annotation ``unjucks.io/confirm-delete: <name>@<date of deletion>``, a backup, and after a time of grace.
    """
    tenant = scope.tenant
    keep = tenant.spec.deletion_policy is ReclaimPolicy.RETAIN
    has_database = tenant.database_mode is not DatabaseMode.NONE
    rights = [
        *_existing(observed, "RoleBinding", set(_MEMBER_BINDINGS)),
        *_existing(observed, "ClusterRoleBinding", None),
        *_existing(observed, "ClusterRole", None),
        *_existing(observed, "Deployment", None),
        *_existing(observed, "NetworkPolicy", {names.POLICY_INGRESS, names.POLICY_EGRESS}),
        *_existing(observed, "Secret", {names.database_secret(tenant.name)}),
    ]
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
    cache_access, cache_keys = plan_cache_removal(scope, observed.children, observed.cache)
    stages.append(cache_access)
    if has_database:
        stages.append(Stage("database", (RetireDatabase(scope.tenant.uid, scope.tenant.name),)))
    if keep:
        leftovers = chain.from_iterable(
            _existing(observed, kind, {names.RENDERER, names.COURIER}) for kind in ("Secret", "ServiceAccount")
        )
        stages.append(Stage("release", tuple(leftovers)))
    else:
        stages.append(Stage("namespaces", tuple(_plan_namespace_removal(scope, observed))))
        if has_database and tenant.reclaim_policy is ReclaimPolicy.DELETE:
            stages.append(Stage("data", (_plan_drop(scope, observed.now),)))
    stages.append(cache_keys)
    finalizers = tuple(item for item in scope.tenant.metadata.finalizers if item != names.FINALIZER_TENANT)
    if finalizers != scope.tenant.metadata.finalizers:
        stages.append(Stage("finalizer", (SetFinalizers(finalizers),)))
    return Plan(stages=tuple(stages))


def _plan_drop(scope: Scope, now: datetime) -> Action:
    """Two keys (the policies in the spec, and the confirmation), a backup that was made after the deletion, and a time of grace.

    The database is put away already. Taking the confirmation back, or setting reclaimPolicy to Retain, keeps it.
    """
    settings, keep = scope.config.deletion, "or set spec.database.reclaimPolicy to Retain"
    if not is_confirmed(scope):
        return Hold(
            f"the tenant's database is dropped only after confirmation: {_command(scope)} ({keep})",
            CONFIRMATION_LOOK,
            Reason.DELETION_HELD,
        )
    deleted = _deleted_at(scope, now)
    if settings.require_backup and not _is_backed_up(scope, deleted, now):
        return Hold(
            "the tenant's database is dropped only after a backup of it that was made since the deletion, and nobody has said so: "
            f"kubectl annotate tenant {scope.tenant.name} {names.ANNOTATION_BACKUP_CONFIRMED}=<when it was made, as "
            f"{timestamp(now)}> ({keep})",
            CONFIRMATION_LOOK,
            Reason.DELETION_HELD,
        )
    left = settings.database_grace - (now - deleted).total_seconds()
    if left > 0:
        until = timestamp(deleted + timedelta(seconds=settings.database_grace))
        return Hold(
            f"the tenant's database is put away and will be dropped at {until}; until then, taking back the confirmation keeps it "
            f"({keep})",
            min(left + 1.0, CONFIRMATION_LOOK),
            Reason.DELETION_HELD,
        )
    return DropDatabase(scope.tenant.uid)


def _is_backed_up(scope: Scope, deleted: datetime, now: datetime) -> bool:
    """Whether somebody said that a backup was made after nobody could write any more, and not in the future."""
    try:
        at = datetime.fromisoformat(scope.tenant.metadata.annotations.get(names.ANNOTATION_BACKUP_CONFIRMED, ""))
        return deleted <= at <= now
    except (ValueError, TypeError):  # no time, or one without a zone
        return False


def _plan_namespace_removal(scope: Scope, observed: Observed) -> Iterable[Action]:
    """The listed namespaces go. One that was taken off the list before stays as it is: locked, with its content."""
    going = sorted(key[2] for key in observed.children if key[0] == "Namespace" and key[2] in scope.namespaces)
    for name in going:
        view = observed.children["Namespace", "", name]
        if not view.deleting:
            yield Delete("Namespace", None, name, view.uid)
    if going:
        more = f" and {len(going) - 3} more" if len(going) > 3 else ""
        text = f"waiting for {', '.join(going[:3])}{more} to be deleted"
        yield Hold(f"namespaces: {text}", DELETION_POLL, Reason.NAMESPACE_TERMINATING)


def _existing(observed: Observed, kind: str, wanted: set[str] | None) -> Iterable[Delete]:
    for key, view in observed.children.items():
        if key[0] == kind and not view.deleting and (wanted is None or key[2] in wanted):
            yield Delete(kind, key[1], key[2], view.uid)
