"""Which namespaces a Tenant gets: what is refused, what is taken over, what is kept up although something is wrong. Pure.

Whatever is wrong with a spec or with one namespace, the guards of the namespaces that exist are kept up: a mistake must not switch
off what isolates a tenant. Called by ``tenant.plan`` and ``tenant.reconcile``.
"""

from collections.abc import Iterable
from dataclasses import replace

from unjucks_api import names
from unjucks_api.reasons import Reason
from unjucks_api.v1alpha1.tenant import DatabaseMode
from unjucks_operator.candidates import Candidate, strangers_text
from unjucks_operator.errors import InvalidSpec, OperatorError
from unjucks_operator.planning import Action, Apply, Hold, Outcome, Refuse, RequireEmpty
from unjucks_operator.tenant.desired import Scope
from unjucks_operator.tenant.desired.namespace import build_namespace
from unjucks_operator.tenant.facts import Observed

DELETION_POLL = 2.0
"""Seconds between looks at a namespace or pod that is going away; the watch usually tells earlier."""


def check_spec(scope: Scope, observed: Observed) -> tuple[Scope, OperatorError | None]:
    """What only the platform's configuration can tell is wrong, and the scope without the namespaces that are therefore not made.

    Those that exist already stay in it.
    """
    problem = _problem(scope)
    if problem is None:
        return scope, None
    missing = {name for name in scope.namespaces if observed.children.get(("Namespace", "", name)) is None}
    return replace(scope, without=frozenset(missing)), problem


def _problem(scope: Scope) -> OperatorError | None:
    tenant, config = scope.tenant, scope.config
    tier = tenant.spec.tier.value
    if len(tenant.namespaces) > scope.tier.namespaces:
        return InvalidSpec(
            f"spec.namespaces lists {len(tenant.namespaces)} namespaces; the tier {tier} has {scope.tier.namespaces}. "
            "Remove some, or choose a larger tier. Those that exist are kept as they are; no other is made"
        )
    if config.platform_namespace in tenant.namespaces:
        return InvalidSpec(
            f"spec.namespaces lists {config.platform_namespace}, which is the platform's own; choose another name"
        )
    region = tenant.spec.region
    if region is not None and region not in config.regions.served:
        served = ", ".join(config.regions.served) or "none"
        return InvalidSpec(
            f"spec.region is {region}; regions that this platform serves: {served} (regions.served of its configuration)",
            reason=Reason.REGION_NOT_SERVED,
        )
    if region is not None and tenant.database_mode is not DatabaseMode.NONE and config.regions.database != region:
        return InvalidSpec(
            f"spec.region is {region}, but the platform's database is in {config.regions.database or 'no known region'} "
            "(regions.database of its configuration): the tenant's records would leave its region",
            reason=Reason.REGION_NOT_SERVED,
        )
    return None


def plan_namespaces(scope: Scope, observed: Observed) -> Iterable[Action]:
    """The namespaces themselves, with their Pod Security level."""
    for name in scope.namespaces:
        view = observed.children.get(("Namespace", "", name))
        candidate = observed.candidates.get(name)
        if (view is not None and view.deleting) or (view is None and candidate is not None and candidate.deleting):
            text = f"namespace {name} is being deleted; it is made anew once it is gone"
            yield Hold(text, DELETION_POLL, Reason.NAMESPACE_TERMINATING)
        elif view is None and candidate is not None:
            yield _plan_adoption(scope, name, candidate)
        else:
            yield Apply(build_namespace(scope, name), names.MANAGER_TENANT)


def plan_inspection(scope: Scope, observed: Observed) -> Iterable[Action]:
    """A second look into namespaces that may have been taken over, once guards stand and before anybody gets rights there."""
    for name in scope.namespaces:
        if name in adopting(scope) and name not in inspected(scope, observed):
            yield RequireEmpty(name, scope.tenant.uid)


def adopting(scope: Scope) -> frozenset[str]:
    """Namespaces that may be taken over."""
    return frozenset(item.name for item in scope.tenant.spec.namespaces or () if item.adopt)


def inspected(scope: Scope, observed: Observed) -> frozenset[str]:
    """Namespaces that status says were found empty, as the very objects that they are now (by UID)."""
    found = set()
    for row in scope.tenant.status.get("namespaces") or ():
        view = observed.children.get(("Namespace", "", str(row.get("name"))))
        if row.get("adopted") and view is not None and view.uid == row.get("uid"):
            found.add(str(row["name"]))
    return frozenset(found)


def stuck_namespaces(scope: Scope, observed: Observed, outcome: Outcome) -> frozenset[str]:
    """The namespaces that cannot be had now; the others must not wait for them."""
    stuck = {
        action.manifest["metadata"]["name"]
        for action, _ in outcome.failed
        if isinstance(action, Apply) and action.manifest["kind"] == "Namespace"
    } | {action.namespace for action, _ in outcome.failed if isinstance(action, RequireEmpty)}
    for name in scope.namespaces:
        view = observed.children.get(("Namespace", "", name))
        if view is None or view.deleting:
            stuck.add(name)
    return frozenset(stuck)


def _plan_adoption(scope: Scope, name: str, candidate: Candidate) -> Action:
    """Take it over when both sides agree and it is empty; otherwise say what is missing."""
    tenant, reason = scope.tenant.name, Reason.ADOPTION_REFUSED
    if candidate.labels.keys() & {names.LABEL_TENANT_UID, names.LABEL_MANAGED_BY}:
        # Also one that an earlier Tenant of this name left behind: its content is not this one's.
        return Refuse(
            f"namespace {name} cannot be taken over: it belongs to another Tenant, or carries its labels. Choose another name",
            Reason.OWNERSHIP_CONFLICT,
        )
    consent = candidate.annotations.get(names.ANNOTATION_ADOPTION_CONSENT)
    if consent is None:
        return Refuse(
            f"namespace {name} exists already, and nobody agreed that it is taken over. An administrator has to: "
            f"kubectl annotate namespace {name} {names.ANNOTATION_ADOPTION_CONSENT}={tenant}",
            reason,
        )
    if consent != tenant:
        return Refuse(
            f"namespace {name} may be taken over, but by another Tenant than {tenant}: see its annotation "
            f"{names.ANNOTATION_ADOPTION_CONSENT}",
            reason,
        )
    if candidate.strangers:
        return Refuse(strangers_text(name, candidate.strangers), reason)
    return Apply(build_namespace(scope, name), names.MANAGER_TENANT, adopt=candidate.uid)
