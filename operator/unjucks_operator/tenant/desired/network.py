"""NetworkPolicies of a tenant's namespaces. Pure; called by ``tenant.plan`` and ``tenant.network``.

Default-deny comes first, in a stage of its own: no pod may exist before it. The others only add what is needed. What is built
here depends on nothing but the arguments; equal rules in another order give the same policy.
"""

import json
from collections.abc import Iterable

from unjucks_api import names
from unjucks_api.v1alpha1.tenant_network import IpNetwork, Protocol
from unjucks_operator.tenant.desired import Manifest, Scope

_DNS_PORTS = [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]
_ALL_BUT_RENDERERS: Manifest = {
    "matchExpressions": [{"key": names.LABEL_COMPONENT, "operator": "NotIn", "values": [names.COMPONENT_RENDERER]}]
}
_NAMESPACE_NAME = "kubernetes.io/metadata.name"
"""The label that the API server itself keeps equal to the name; any other could be put on a namespace by somebody."""


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
            "namespaceSelector": {"matchLabels": {_NAMESPACE_NAME: dns.namespace}},
            "podSelector": {"matchLabels": dict(dns.pod_labels)},
        }
    ]
    peers += [{"ipBlock": {"cidr": address}} for address in dns.addresses]
    return _policy(
        scope,
        namespace,
        names.POLICY_DNS,
        {
            "podSelector": _ALL_BUT_RENDERERS,
            "policyTypes": ["Egress"],
            "egress": [{"to": peers, "ports": _DNS_PORTS}],
        },
    )


def build_renderer_ingress(scope: Scope) -> Manifest:
    """The operator's pods may call this tenant's renderers; nobody else may, and the renderers may call nobody."""
    spec = _called_by_operator(scope, names.COMPONENT_RENDERER, names.RENDERER_PORT)
    return _policy(scope, scope.home, names.POLICY_RENDERER, spec | {"policyTypes": ["Ingress"]})


def build_courier(scope: Scope, egress: Iterable[Manifest]) -> Manifest:
    """The operator's pods may call this tenant's courier, and the courier what the platform allows it. It checks names itself."""
    spec = _called_by_operator(scope, names.COMPONENT_COURIER, names.COURIER_PORT)
    spec |= {"policyTypes": ["Ingress", "Egress"], "egress": _in_order(egress)}
    return _policy(scope, scope.home, names.POLICY_COURIER, spec)


def _called_by_operator(scope: Scope, component: str, port: int) -> Manifest:
    operator = {names.LABEL_NAME: names.PART_OF, names.LABEL_COMPONENT: names.COMPONENT_OPERATOR}
    return {
        "podSelector": {"matchLabels": {names.LABEL_COMPONENT: component, names.LABEL_TENANT_UID: scope.tenant.uid}},
        "ingress": [
            {
                "from": [
                    namespace_peer(scope.config.platform_namespace) | {"podSelector": {"matchLabels": operator}},
                ],
                "ports": [{"port": port, "protocol": "TCP"}],
            }
        ],
    }


def build_ingress(scope: Scope, namespace: str, rules: Iterable[Manifest]) -> Manifest:
    """The callers that ``spec.network.ingressFrom`` names and the platform grants. Renderers are not among the called."""
    spec = {"podSelector": _ALL_BUT_RENDERERS, "policyTypes": ["Ingress"], "ingress": _in_order(rules)}
    return _policy(scope, namespace, names.POLICY_INGRESS, spec)


def build_egress(scope: Scope, namespace: str, rules: Iterable[Manifest]) -> Manifest:
    """The destinations that ``spec.network.egressTo`` names and the platform grants. Renderers call nobody."""
    spec = {"podSelector": _ALL_BUT_RENDERERS, "policyTypes": ["Egress"], "egress": _in_order(rules)}
    return _policy(scope, namespace, names.POLICY_EGRESS, spec)


def namespace_peer(namespace: str) -> Manifest:
    """All pods of the namespace of that name."""
    return {"namespaceSelector": {"matchLabels": {_NAMESPACE_NAME: namespace}}}


def cidr_peer(destination: IpNetwork, closed: Iterable[IpNetwork]) -> Manifest:
    """The addresses of ``destination`` without those in ``closed``, all of which have to lie strictly inside."""
    block: Manifest = {"cidr": str(destination)}
    if excepted := [str(item) for item in closed]:
        block["except"] = excepted
    return {"ipBlock": block}


def rule_ports(ports: Iterable[int], protocol: Protocol | None) -> list[Manifest]:
    """The ports of a rule; TCP unless it says otherwise."""
    return [{"port": port, "protocol": (protocol or Protocol.TCP).value} for port in sorted(set(ports))]


def _in_order(rules: Iterable[Manifest]) -> list[Manifest]:
    unique = {json.dumps(rule, sort_keys=True): rule for rule in rules}
    return [unique[key] for key in sorted(unique)]


def _policy(scope: Scope, namespace: str, name: str, spec: Manifest) -> Manifest:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": scope.metadata(name, namespace, names.COMPONENT_TENANT),
        "spec": spec,
    }
