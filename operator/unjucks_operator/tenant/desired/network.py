"""NetworkPolicies of a tenant's namespaces. Pure; called by ``tenant.plan``.

Default-deny comes first, in a stage of its own: no pod may exist before it. The others only add what is needed.
"""

from unjucks_api import names
from unjucks_operator.tenant.desired import Manifest, Scope

_DNS_PORTS = [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]


def build_deny(scope: Scope, namespace: str) -> Manifest:
    """Nothing comes in, nothing goes out."""
    return _policy(scope, namespace, names.POLICY_DENY, {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})


def build_dns(scope: Scope, namespace: str) -> Manifest:
    """Name look-ups at the cluster's DNS and nowhere else.

    A DNS that runs as pods is chosen by namespace and label; one that runs on the nodes' own network cannot be chosen by
    a selector, so the platform may name its addresses in ``dns.addresses``.
    The renderers are left out: they have no network at all.
    """
    dns = scope.config.dns
    peers: list[Manifest] = [
        {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": dns.namespace}},
            "podSelector": {"matchLabels": dict(dns.pod_labels)},
        }
    ]
    peers += [{"ipBlock": {"cidr": address}} for address in dns.addresses]
    return _policy(
        scope,
        namespace,
        names.POLICY_DNS,
        {
            "podSelector": {
                "matchExpressions": [
                    {"key": names.LABEL_COMPONENT, "operator": "NotIn", "values": [names.COMPONENT_RENDERER]}
                ]
            },
            "policyTypes": ["Egress"],
            "egress": [{"to": peers, "ports": _DNS_PORTS}],
        },
    )


def build_renderer_ingress(scope: Scope) -> Manifest:
    """The operator's pods may call this tenant's renderers; nobody else may, and the renderers may call nobody."""
    return _policy(
        scope,
        scope.home,
        names.POLICY_RENDERER,
        {
            "podSelector": {
                "matchLabels": {
                    names.LABEL_COMPONENT: names.COMPONENT_RENDERER,
                    names.LABEL_TENANT_UID: scope.tenant.uid,
                }
            },
            "policyTypes": ["Ingress"],
            "ingress": [
                {
                    "from": [
                        {
                            "namespaceSelector": {
                                "matchLabels": {"kubernetes.io/metadata.name": scope.config.platform_namespace}
                            },
                            "podSelector": {
                                "matchLabels": {
                                    names.LABEL_NAME: names.PART_OF,
                                    names.LABEL_COMPONENT: names.COMPONENT_OPERATOR,
                                }
                            },
                        }
                    ],
                    "ports": [{"port": names.RENDERER_PORT, "protocol": "TCP"}],
                }
            ],
        },
    )


def _policy(scope: Scope, namespace: str, name: str, spec: Manifest) -> Manifest:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": scope.metadata(name, namespace, names.COMPONENT_TENANT),
        "spec": spec,
    }
