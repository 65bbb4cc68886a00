"""What ``spec.network`` comes to: which rules are granted, which are refused and why, and what status says of it. Pure.

A rule may name the tenant's own namespaces and those that the platform allows, and addresses outside of the cluster. What is
refused is left out of the policies, so it stays closed, and is named in the condition NetworkRulesReady. Called by ``tenant.plan``
and ``tenant.status``.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_network

from unjucks_api.conditions import Condition, ConditionType
from unjucks_api.reasons import Reason
from unjucks_api.v1alpha1.tenant_network import EgressRule, IpNetwork
from unjucks_operator.network.enforcement import Verdict
from unjucks_operator.network.ranges import carve
from unjucks_operator.tenant.desired import Manifest, Scope
from unjucks_operator.tenant.desired.network import build_egress, build_ingress, cidr_peer, namespace_peer, rule_ports
from unjucks_operator.tenant.facts import NetworkView

_MOST_SHOWN = 3
_NEEDS_SOMEBODY = frozenset({Reason.POLICY_NOT_ENFORCED, Reason.NETWORK_RULE_REFUSED, Reason.CLUSTER_RANGES_UNKNOWN})


@dataclass(frozen=True, slots=True)
class Refusal:
    """A rule that is not applied."""

    path: str
    reason: Reason
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


@dataclass(frozen=True, slots=True)
class Granted:
    """The rules in the words of NetworkPolicies, and those that were refused."""

    ingress: tuple[Manifest, ...]
    egress: tuple[Manifest, ...]
    refused: tuple[Refusal, ...]


def grant(scope: Scope, view: NetworkView) -> Granted:
    """Decide about each rule of the spec."""
    network = scope.tenant.spec.network
    refused: list[Refusal] = []
    ingress: list[Manifest] = []
    egress: list[Manifest] = []
    for number, caller in enumerate(network.ingress_from):
        path = f"spec.network.ingressFrom[{number}]"
        allowed = scope.config.network.ingress_namespaces
        if refusal := _refuse_namespace(scope, view, path, caller.namespace, allowed):
            refused.append(refusal)
        else:
            ports = rule_ports(caller.ports, caller.protocol)
            ingress.append({"from": [namespace_peer(caller.namespace)], "ports": ports})
    for number, destination in enumerate(network.egress_to):
        path = f"spec.network.egressTo[{number}]"
        found = _destination(scope, view, path, destination)
        if isinstance(found, Refusal):
            refused.append(found)
        else:
            egress.append({"to": [found], "ports": rule_ports(destination.ports, destination.protocol)})
    return Granted(tuple(ingress), tuple(egress), tuple(refused))


def build_allowances(scope: Scope, view: NetworkView) -> Iterator[Manifest]:
    """The policies of the granted rules, for each namespace of the tenant; none where there is nothing to grant."""
    granted = grant(scope, view)
    for namespace in scope.namespaces:
        if granted.ingress:
            yield build_ingress(scope, namespace, granted.ingress)
        if granted.egress:
            yield build_egress(scope, namespace, granted.egress)


def rules_condition(scope: Scope, view: NetworkView) -> Condition:
    """NetworkRulesReady, once the policies are written."""
    kind, network = ConditionType.NETWORK_RULES_READY, scope.tenant.spec.network
    refused = grant(scope, view).refused
    if not refused:
        rules = len(network.ingress_from) + len(network.egress_to)
        text = f"all {rules} rules are applied" if rules else "no rules: only questions to the cluster's DNS go out"
        return Condition(kind, "True", Reason.RECONCILED, text)
    shown = "; ".join(str(item) for item in refused[:_MOST_SHOWN])
    more = f"; and {len(refused) - _MOST_SHOWN} more" if len(refused) > _MOST_SHOWN else ""
    return Condition(kind, "False", refused[0].reason, f"{shown}{more}. What is refused stays closed")


def isolated_condition(view: NetworkView) -> Condition:
    """NetworkIsolated, once the policies are written: they count only where somebody enforces them."""
    kind, state = ConditionType.NETWORK_ISOLATED, view.enforcement
    match state.verdict:
        case Verdict.ENFORCED:
            text = "default-deny both ways, and a probe's forbidden packets did not get through"
            return Condition(kind, "True", Reason.RECONCILED, text)
        case Verdict.OFF:
            text = "default-deny both ways; whether the network plugin enforces it is not tried (network.probe.enabled: false)"
            return Condition(kind, "True", Reason.RECONCILED, text)
        case Verdict.NOT_ENFORCED:
            text = f"the cluster's network plugin does not enforce NetworkPolicies: {'; '.join(state.failures)}"
            return Condition(kind, "False", Reason.POLICY_NOT_ENFORCED, text)
        case Verdict.UNKNOWN:
            text = f"the policies exist; whether the network plugin enforces them is not known: {state.why}"
            return Condition(kind, "Unknown", Reason.POLICY_UNVERIFIED, text)


def network_progress(parts: Iterable[Condition]) -> list[Condition]:
    """What the two conditions mean for whoever waits: nothing more will happen by itself, or it may yet."""
    for part in parts:
        if part.status == "False" and part.reason in _NEEDS_SOMEBODY:
            return [Condition(ConditionType.STALLED, "True", part.reason, part.message)]
        if part.status == "Unknown" and part.reason is Reason.POLICY_UNVERIFIED:
            return [Condition(ConditionType.RECONCILING, "True", part.reason, part.message)]
    return []


def _refuse_namespace(
    scope: Scope, view: NetworkView, path: str, namespace: str, allowed: tuple[str, ...]
) -> Refusal | None:
    if namespace in scope.namespaces:
        return None
    # Asked first: an allowed name that has become another tenant's namespace is not what the platform meant.
    if namespace in allowed and namespace not in view.strangers:
        return None
    # The same words whether it exists, belongs to somebody, or neither: a rule must not be a way to find out.
    text = (
        f"namespace {namespace} is neither this tenant's nor one that the platform allows here; remove the rule, or ask the "
        "platform's administrators for it"
    )
    return Refusal(path, Reason.NETWORK_RULE_REFUSED, text)


def _destination(scope: Scope, view: NetworkView, path: str, rule: EgressRule) -> Manifest | Refusal:
    if rule.namespace is not None:
        refusal = _refuse_namespace(scope, view, path, rule.namespace, scope.config.network.egress_namespaces)
        return refusal or namespace_peer(rule.namespace)
    destination: IpNetwork = ip_network(rule.cidr or "")
    if view.ranges.missing:
        text = f"no address range can be opened: {view.ranges.missing}"
        return Refusal(path, Reason.CLUSTER_RANGES_UNKNOWN, text)
    closed = carve(destination, view.ranges.closed)
    if not isinstance(closed, tuple):
        text = f"{destination} lies in {closed}, which is the cluster's own or never open to tenants; name addresses outside of it"
        return Refusal(path, Reason.NETWORK_RULE_REFUSED, text)
    return cidr_peer(destination, closed)
