"""ResourceQuota and LimitRange of a tenant's namespaces. Pure; called by ``tenant.plan``.

Kubernetes has no quota across namespaces, so the tenant's amount is divided evenly: the sum can never exceed it.
"""

from decimal import Decimal

from unjucks_api import names
from unjucks_api.v1alpha1.common import quantity
from unjucks_operator.tenant.desired import Manifest, Scope

_MEBI = 1024 * 1024
# Kinds that reach outside the namespace's isolation or belong to administrators: none of them, whatever the tier.
_FORBIDDEN = ("services.nodeports", "services.loadbalancers")


def build_quota(scope: Scope, namespace: str) -> Manifest:
    """All nine object counts, plus cpu, memory and ephemeral storage, for one of the tenant's namespaces."""
    share = len(scope.namespaces)
    tier, asked = scope.tier.quota, scope.tenant.spec.quota
    cpu = _millicores(_lower(tier.cpu, asked.cpu), share)
    memory = _mebibytes(_lower(tier.memory, asked.memory), share)
    storage = _mebibytes(tier.ephemeral_storage, share)
    hard = {
        "requests.cpu": cpu,
        "limits.cpu": cpu,
        "requests.memory": memory,
        "limits.memory": memory,
        "requests.ephemeral-storage": storage,
        "limits.ephemeral-storage": storage,
        "pods": str(max(tier.pods // share, 1)),
        "services": str(tier.services // share),
        "secrets": str(max(tier.secrets // share, 5)),
        "configmaps": str(max(tier.config_maps // share, 5)),
        "persistentvolumeclaims": str(tier.persistent_volume_claims // share),
        "replicationcontrollers": "0",
        "resourcequotas": "1",
    } | dict.fromkeys(_FORBIDDEN, "0")
    return {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": scope.metadata(names.QUOTA, namespace, names.COMPONENT_TENANT),
        "spec": {"hard": dict(sorted(hard.items()))},
    }


def build_limits(scope: Scope, namespace: str) -> Manifest:
    """Defaults for containers that name no resources (a quota would refuse them), and a ceiling for each container."""
    limits = scope.tier.limits
    return {
        "apiVersion": "v1",
        "kind": "LimitRange",
        "metadata": scope.metadata(names.LIMITS, namespace, names.COMPONENT_TENANT),
        "spec": {
            "limits": [
                {
                    "type": "Container",
                    "default": {
                        "cpu": limits.default_cpu,
                        "memory": limits.default_memory,
                        "ephemeral-storage": limits.default_ephemeral_storage,
                    },
                    "defaultRequest": {
                        "cpu": limits.default_request_cpu,
                        "memory": limits.default_request_memory,
                        "ephemeral-storage": limits.default_request_ephemeral_storage,
                    },
                    "max": {"cpu": limits.max_cpu, "memory": limits.max_memory},
                }
            ]
        },
    }


def _lower(tier: str, asked: str | None) -> str:
    """The smaller of two quantities: a Tenant may go below its tier freely, never above."""
    return asked if asked and quantity(asked) < quantity(tier) else tier


def _millicores(text: str, share: int) -> str:
    return f"{int(quantity(text) * Decimal(1000) / share)}m"


def _mebibytes(text: str, share: int) -> str:
    return f"{int(quantity(text) / _MEBI / share)}Mi"
