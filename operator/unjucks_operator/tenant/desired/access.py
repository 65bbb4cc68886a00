"""RoleBindings of the tenant's members to the ClusterRoles that the chart ships. Pure; called by ``tenant.plan``."""

from unjucks_api import names
from unjucks_api.v1alpha1.tenant import Member, MemberKind
from unjucks_operator.tenant.desired import Manifest, Scope

_RBAC = "rbac.authorization.k8s.io"


def build_bindings(scope: Scope, namespace: str) -> list[Manifest]:
    """One binding for each role that has members; a role without members has none (and an old one is pruned)."""
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
        for binding, role, subjects in roles
        if subjects
    ]


def _subject(member: Member) -> Manifest:
    if member.kind is MemberKind.SERVICE_ACCOUNT:
        return {"kind": member.kind.value, "name": member.name, "namespace": member.namespace}
    return {"apiGroup": _RBAC, "kind": member.kind.value, "name": member.name}
