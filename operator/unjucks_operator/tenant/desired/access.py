"""Who has which rights in a tenant's namespaces, and who reads the Tenant itself. Pure; called by ``tenant.plan``."""

from collections.abc import Iterable

from unjucks_api import names
from unjucks_api.v1alpha1.tenant import Member, MemberKind
from unjucks_operator.tenant.desired import Manifest, Scope

_RBAC = "rbac.authorization.k8s.io"


def build_bindings(scope: Scope, namespace: str) -> list[Manifest]:
    """RoleBindings to the ClusterRoles that the chart ships: one for each role that has members; an old one is pruned."""
    members = scope.tenant.spec.members
    roles = (
        (names.BINDING_OWNERS, names.CLUSTER_ROLE_OWNER, members.owners),
        (names.BINDING_EDITORS, names.CLUSTER_ROLE_EDITOR, members.editors),
        (names.BINDING_VIEWERS, names.CLUSTER_ROLE_VIEWER, members.viewers),
    )
    return [
        {
            "apiVersion": f"{_RBAC}/v1",
            "kind": "RoleBinding",
            "metadata": scope.metadata(binding, namespace, names.COMPONENT_TENANT),
            "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": role},
            "subjects": [_subject(member) for member in subjects],
        }
        for binding, role, listed in roles
        if (subjects := _allowed(scope, listed))
    ]


def build_reader(scope: Scope) -> list[Manifest]:
    """A ClusterRole that allows to read this one Tenant, bound to all of its members. Nothing when there are none.

    Tenants are cluster-scoped, so there is no narrower way. ``list`` and ``watch`` with a resource name are for
    ``kubectl get -w`` and ``kubectl wait``, which ask for one name; a list of all Tenants stays forbidden.
    """
    members = scope.tenant.spec.members
    listed = (*members.owners, *members.editors, *members.viewers)
    everybody = [member for place, member in enumerate(listed) if member not in listed[:place]]
    subjects = [_subject(member) for member in _allowed(scope, everybody)]
    if not subjects:
        return []
    name = names.READER_PREFIX + scope.tenant.name
    metadata = scope.metadata(name, None, names.COMPONENT_TENANT)
    rule = {
        "apiGroups": [names.GROUP],
        "resources": ["tenants"],
        "resourceNames": [scope.tenant.name],
        "verbs": ["get", "list", "watch"],
    }
    role = {"apiGroup": _RBAC, "kind": "ClusterRole", "name": name}
    return [
        {"apiVersion": f"{_RBAC}/v1", "kind": "ClusterRole", "metadata": metadata, "rules": [rule]},
        {
            "apiVersion": f"{_RBAC}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": metadata,
            "roleRef": role,
            "subjects": subjects,
        },
    ]


def _allowed(scope: Scope, members: Iterable[Member]) -> list[Member]:
    """Without service accounts of the platform's own namespace, whatever that is called; the schema knows its usual name only."""
    return [member for member in members if member.namespace != scope.config.platform_namespace]


def _subject(member: Member) -> Manifest:
    if member.kind is MemberKind.SERVICE_ACCOUNT:
        return {"kind": member.kind.value, "name": member.name, "namespace": member.namespace}
    return {"apiGroup": _RBAC, "kind": member.kind.value, "name": member.name}
