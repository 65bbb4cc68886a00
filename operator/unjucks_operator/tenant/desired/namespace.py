"""The tenant's namespaces with their Pod Security level. Pure; called by ``tenant.plan``."""

from unjucks_api import names
from unjucks_operator.tenant.desired import Manifest, Scope

POD_SECURITY_LEVEL = "restricted"
POD_SECURITY_MODES = ("enforce", "audit", "warn")


def build_namespace(scope: Scope, name: str) -> Manifest:
    """A namespace in which only pods of the level ``restricted`` are admitted, by the API server alone (we may be down).

    The version of the standard is pinned by configuration, so that an upgrade of the cluster changes nothing unseen.
    """
    security = {}
    for mode in POD_SECURITY_MODES:
        security[f"pod-security.kubernetes.io/{mode}"] = POD_SECURITY_LEVEL
        security[f"pod-security.kubernetes.io/{mode}-version"] = scope.config.pod_security_version
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": scope.metadata(name, None, names.COMPONENT_TENANT, security),
    }
