"""Whose namespace is it? The one answer to which Tenant an object in a namespace belongs to. Reads stores, no requests.

Membership is the Tenant's own spec *and* the UID that we wrote on the namespace when we made it. A label that somebody else can
write never decides alone: the namespace must be listed by the Tenant that the label names, under its present UID.
"""

from collections.abc import Mapping

from unjucks_api import names
from unjucks_api.reasons import Reason
from unjucks_api.v1alpha1.common import InvalidObjectError
from unjucks_api.v1alpha1.tenant import Tenant
from unjucks_operator.engine.store import ResourceStore
from unjucks_operator.errors import Waiting
from unjucks_operator.kube.store import ChildStore

RETRY = 10.0
"""Seconds until an object without a usable Tenant is looked at again; events tell earlier."""


class TenantDirectory:
    """Finds Tenants by namespace."""

    def __init__(self, tenants: ResourceStore, namespaces: ChildStore) -> None:
        self._tenants = tenants
        self._namespaces = namespaces

    def owner_of(self, namespace: str) -> Tenant | None:
        """The Tenant that the namespace belongs to, or None."""
        child = self._namespaces.get("", namespace)
        if child is None:
            return None
        return self._named(child.labels, namespace)

    def require(self, namespace: str) -> Tenant:
        """The Tenant, when work may be done for it. Raises Waiting (TenantNotFound) otherwise."""
        tenant = self.owner_of(namespace)
        if tenant is None:
            raise Waiting(
                f"namespace {namespace} belongs to no Tenant (yet); a Tenant has to list it in spec.namespaces",
                reason=Reason.TENANT_NOT_FOUND,
                after=RETRY,
            )
        if tenant.deleting:
            raise Waiting(f"Tenant {tenant.name} is being deleted", reason=Reason.TENANT_NOT_FOUND, after=RETRY)
        return tenant

    def by_uid(self, uid: str) -> Tenant | None:
        """The Tenant with that UID, or None."""
        for body in self._tenants:
            if body["metadata"]["uid"] == uid:
                return _parsed(body)
        return None

    def _named(self, labels: Mapping[str, str], namespace: str) -> Tenant | None:
        body = self._tenants.get(("", labels.get(names.LABEL_TENANT, "")))
        if body is None or body["metadata"]["uid"] != labels.get(names.LABEL_TENANT_UID):
            return None
        tenant = _parsed(body)
        return tenant if tenant is not None and namespace in tenant.namespaces else None


def _parsed(body: dict[str, object]) -> Tenant | None:
    try:
        return Tenant.parse(body)
    except InvalidObjectError:
        return None
