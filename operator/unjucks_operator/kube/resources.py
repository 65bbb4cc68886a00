"""The kinds of objects that the operator touches, and nothing more: one table from kind to URL, scope and watch style.

Pure data. Called by the client, the informer and the planner's action types (through ``Resource``'s name only).
"""

from dataclasses import dataclass

from unjucks_api import names


@dataclass(frozen=True, slots=True, eq=False)
class Resource:
    """A kind as the API server serves it. ``plural`` is the path segment; ``group`` is empty for the core group.

    Compared by identity: there is one for each kind, in this module, and it is the key of many look-ups.
    """

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """``apiVersion`` as written in manifests."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """The request path. Raises ValueError when a namespaced object is named without its namespace."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        if self.namespaced and namespace:
            root += f"/namespaces/{namespace}"
        elif self.namespaced and name:
            raise ValueError(f"{self.kind} {name}: a namespace is needed")
        parts = [root, self.plural, name, subresource]
        return "/".join(part for part in parts if part)


NAMESPACE = Resource("", "v1", "Namespace", "namespaces", namespaced=False)
SERVICE_ACCOUNT = Resource("", "v1", "ServiceAccount", "serviceaccounts")
RESOURCE_QUOTA = Resource("", "v1", "ResourceQuota", "resourcequotas")
LIMIT_RANGE = Resource("", "v1", "LimitRange", "limitranges")
SECRET = Resource("", "v1", "Secret", "secrets")
CONFIG_MAP = Resource("", "v1", "ConfigMap", "configmaps")
POD = Resource("", "v1", "Pod", "pods")
NETWORK_POLICY = Resource("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies")
ROLE_BINDING = Resource("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings")
CLUSTER_ROLE = Resource("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles", namespaced=False)
CLUSTER_ROLE_BINDING = Resource(
    "rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "clusterrolebindings", namespaced=False
)
DEPLOYMENT = Resource("apps", "v1", "Deployment", "deployments")
LEASE = Resource("coordination.k8s.io", "v1", "Lease", "leases")
EVENT = Resource("events.k8s.io", "v1", "Event", "events")
VALIDATING_WEBHOOKS = Resource(
    "admissionregistration.k8s.io",
    "v1",
    "ValidatingWebhookConfiguration",
    "validatingwebhookconfigurations",
    namespaced=False,
)
MUTATING_WEBHOOKS = Resource(
    "admissionregistration.k8s.io",
    "v1",
    "MutatingWebhookConfiguration",
    "mutatingwebhookconfigurations",
    namespaced=False,
)
CRD = Resource("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False)
NODE = Resource("", "v1", "Node", "nodes", namespaced=False)
SERVICE_CIDR = Resource("networking.k8s.io", "v1", "ServiceCIDR", "servicecidrs", namespaced=False)
ENDPOINT_SLICE = Resource("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices")
TENANT = Resource(names.GROUP, names.VERSION, "Tenant", "tenants", namespaced=False)
TEMPLATE_REGISTRY = Resource(names.GROUP, names.VERSION, "TemplateRegistry", "templateregistries")
GENERATION_JOB = Resource(names.GROUP, names.VERSION, "GenerationJob", "generationjobs")

_FLUX_GROUP = "source.toolkit.fluxcd.io"
FLUX = {
    kind: tuple(Resource(_FLUX_GROUP, version, kind, plural) for version in versions)
    for kind, plural, versions in (
        ("GitRepository", "gitrepositories", ("v1",)),
        ("OCIRepository", "ocirepositories", ("v1", "v1beta2")),
        ("Bucket", "buckets", ("v1", "v1beta2")),
        ("ExternalArtifact", "externalartifacts", ("v1",)),
    )
}
"""Kinds of Flux whose artifacts registries may refer to, in the versions in which they may be served; newest first."""

BY_KIND = {
    resource.kind: resource
    for resource in (
        NAMESPACE,
        SERVICE_ACCOUNT,
        RESOURCE_QUOTA,
        LIMIT_RANGE,
        SECRET,
        CONFIG_MAP,
        POD,
        NETWORK_POLICY,
        ROLE_BINDING,
        CLUSTER_ROLE,
        CLUSTER_ROLE_BINDING,
        DEPLOYMENT,
        LEASE,
        EVENT,
        VALIDATING_WEBHOOKS,
        MUTATING_WEBHOOKS,
        CRD,
        TENANT,
        TEMPLATE_REGISTRY,
        GENERATION_JOB,
    )
}


def resource_of(manifest: dict[str, object]) -> Resource:
    """The table's entry for a manifest; KeyError for a kind that the operator does not handle."""
    return BY_KIND[str(manifest["kind"])]
