"""ResourceQuota and LimitRange of a tenant's namespaces. Pure; called by ``tenant.plan``.

Kubernetes has no quota across namespaces, so the tenant's amount is divided between them: for every single entry, the sum is never
more than the amount. What does not divide evenly goes to the first ones: the home, where renderers run, is never the poorest.
"""

from decimal import Decimal

from unjucks_api import names
from unjucks_api.v1alpha1.common import quantity
from unjucks_operator.config.tiers import bounded_count
from unjucks_operator.tenant.desired import Manifest, Scope

_MEBI = 1024 * 1024
# Kinds that reach outside the namespace's isolation or belong to administrators: none of them, whatever the tier.
_FORBIDDEN = ("services.nodeports", "services.loadbalancers", "replicationcontrollers")


def build_quota(scope: Scope, namespace: str) -> Manifest:
    """Counts of objects, and cpu, memory and ephemeral storage, for one of the tenant's namespaces."""
    tier, asked = scope.tier, scope.tenant.spec.quota
    quota, most = tier.quota, tier.maximum

    def share(total: int) -> int:
        return _share(total, scope.sharing, namespace)

    cpu = f"{share(int(quantity(bounded(quota.cpu, asked.cpu, most.cpu)) * Decimal(1000)))}m"
    memory = f"{share(int(quantity(bounded(quota.memory, asked.memory, most.memory)) / _MEBI))}Mi"
    disk = bounded(quota.ephemeral_storage, asked.ephemeral_storage, most.ephemeral_storage)
    storage = f"{share(int(quantity(disk) / _MEBI))}Mi"
    hard = {
        "requests.cpu": cpu,
        "limits.cpu": cpu,
        "requests.memory": memory,
        "limits.memory": memory,
        "requests.ephemeral-storage": storage,
        "limits.ephemeral-storage": storage,
        "pods": str(share(bounded_count(quota.pods, asked.pods, most.pods))),
        "services": str(share(quota.services)),
        "secrets": str(share(quota.secrets)),
        "configmaps": str(share(quota.config_maps)),
        "persistentvolumeclaims": str(share(quota.persistent_volume_claims)),
        "count/generationjobs.unjucks.io": str(share(quota.generation_jobs)),
        "count/templateregistries.unjucks.io": str(share(quota.template_registries)),
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
                    "max": {
                        "cpu": limits.max_cpu,
                        "memory": limits.max_memory,
                        "ephemeral-storage": limits.max_ephemeral_storage,
                    },
                }
            ]
        },
    }


def bounded(given: str, asked: str | None, most: str | None) -> str:
    """What a Tenant gets that asks for a quantity: what the tier gives when it asks for none, and never more than the tier's
    maximum (which is what it gives, unless the configuration says more)."""
    ceiling = most if most is not None and quantity(most) > quantity(given) else given
    if asked is None:
        return given
    return asked if quantity(asked) < quantity(ceiling) else ceiling


def _share(total: int, sharing: tuple[str, ...], namespace: str) -> int:
    """The part of one namespace; all parts together are exactly the total."""
    whole, rest = divmod(total, len(sharing))
    return whole + (1 if sharing.index(namespace) < rest else 0)
