"""Which rules of ``spec.network`` are granted, what becomes of them in the plan, and what goes when they go."""

from datetime import UTC, datetime
from ipaddress import IPv4Network
from typing import Any

import pytest

from support.builders import tenant
from unjucks_api import names
from unjucks_operator.config import Config
from unjucks_operator.network.enforcement import OFF, judge
from unjucks_operator.network.ranges import cluster_ranges
from unjucks_operator.planning import Apply, Delete, Plan, manifest_key
from unjucks_operator.tenant.desired import Scope
from unjucks_operator.tenant.facts import ChildView, NetworkView, Observed
from unjucks_operator.tenant.network import (
    build_allowances,
    grant,
    isolated_condition,
    network_progress,
    rules_condition,
)
from unjucks_operator.tenant.plan import plan_tenant
from unjucks_operator.tenant.teardown import plan_teardown

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
CONFIG = Config(network={"ingress_namespaces": ["ingress-nginx"], "egress_namespaces": ["vault"]})  # type: ignore[arg-type]
VIEW = NetworkView(cluster_ranges([IPv4Network("10.244.0.0/16")]))
RULES = {
    "ingressFrom": [{"namespace": "ingress-nginx", "ports": [8080]}],
    "egressTo": [{"cidr": "198.51.100.0/24", "ports": [443]}],
}


def scope(network: dict[str, Any], **spec: Any) -> Scope:
    return Scope(tenant(spec={"network": network, **spec}), CONFIG.tiers["starter"], CONFIG)


def ingress(*namespaces: str, **rule: Any) -> dict[str, Any]:
    return {"ingressFrom": [{"namespace": it, "ports": [8080], **rule} for it in namespaces]}


def egress(*namespaces: str, **rule: Any) -> dict[str, Any]:
    return {"egressTo": [{"namespace": it, "ports": [8080], **rule} for it in namespaces]}


def applied(plan: Plan) -> dict[tuple[str, str, str], dict[str, Any]]:
    return {manifest_key(action.manifest): action.manifest for action in plan.actions if isinstance(action, Apply)}


@pytest.mark.parametrize(
    ("network", "granted"),
    [
        (ingress("tenant-acme"), True),
        (egress("tenant-acme"), True),
        (ingress("ingress-nginx"), True),
        (egress("vault"), True),
        (egress("ingress-nginx"), False),  # let in, not to be called
        (ingress("vault"), False),
        (ingress("tenant-birch"), False),
        (egress("tenant-birch"), False),
        (egress("kube-system"), False),
        (egress("unjucks-system"), False),
        (egress("default"), False),
    ],
)
def test_a_rule_may_name_own_namespaces_and_those_the_platform_allows(network: dict[str, Any], granted: bool) -> None:
    found = grant(scope(network), VIEW)
    assert len(found.ingress) + len(found.egress) == int(granted)
    condition = rules_condition(scope(network), VIEW)
    assert condition.status == str(granted)
    assert condition.reason == ("Reconciled" if granted else "NetworkRuleRefused")
    if not granted:
        kind = next(iter(network))
        assert condition.message.startswith(
            f"spec.network.{kind}[0]: namespace {network[kind][0]['namespace']} is neither"
        )


def test_an_allowed_name_that_another_tenant_took_is_not_allowed_any_more() -> None:
    view = NetworkView(VIEW.ranges, strangers=frozenset({"ingress-nginx"}))
    assert grant(scope(RULES), VIEW).refused == ()
    assert [item.path for item in grant(scope(RULES), view).refused] == ["spec.network.ingressFrom[0]"]


def test_a_refusal_tells_nothing_about_who_has_the_namespace() -> None:
    taken = NetworkView(VIEW.ranges, strangers=frozenset({"tenant-birch"}))
    network = egress("tenant-birch")
    assert rules_condition(scope(network), taken) == rules_condition(scope(network), VIEW)


def test_policies_say_what_the_rules_say_and_leave_renderers_out() -> None:
    plan = applied(plan_tenant(scope(RULES), Observed(children={}, now=NOW, network=VIEW)))
    policy = plan["NetworkPolicy", "tenant-acme", names.POLICY_INGRESS]["spec"]
    others = {"matchExpressions": [{"key": names.LABEL_COMPONENT, "operator": "NotIn", "values": ["renderer"]}]}
    assert policy == {
        "podSelector": others,
        "policyTypes": ["Ingress"],
        "ingress": [
            {
                "from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress-nginx"}}}],
                "ports": [{"port": 8080, "protocol": "TCP"}],
            }
        ],
    }
    policy = plan["NetworkPolicy", "tenant-acme", names.POLICY_EGRESS]["spec"]
    assert (policy["podSelector"], policy["policyTypes"]) == (others, ["Egress"])


def test_every_namespace_of_the_tenant_gets_them() -> None:
    two = {"namespaces": [{"name": "acme-a"}, {"name": "acme-b"}], "tier": "professional"}
    policies = list(build_allowances(scope(RULES, **two), VIEW))
    assert {(it["metadata"]["namespace"], it["metadata"]["name"]) for it in policies} == {
        (namespace, name) for namespace in ("acme-a", "acme-b") for name in (names.POLICY_INGRESS, names.POLICY_EGRESS)
    }


def test_the_order_and_repetition_of_rules_changes_nothing() -> None:
    rules = [
        {"namespace": "vault", "ports": [8200, 443]},
        {"cidr": "198.51.100.0/24", "ports": [53], "protocol": "UDP"},
        {"namespace": "vault", "ports": [443, 8200]},
    ]
    one = list(build_allowances(scope({"egressTo": rules}), VIEW))
    other = list(build_allowances(scope({"egressTo": rules[::-1][:2]}), VIEW))
    assert one == other
    assert len(one[0]["spec"]["egress"]) == 2


def test_nothing_is_open_before_the_default_deny_and_nobody_gets_rights_before_the_rules_stand() -> None:
    plan = plan_tenant(
        scope(RULES, members={"owners": [{"kind": "User", "name": "ada"}]}),
        Observed(children={("Namespace", "", "tenant-acme"): ChildView("u")}, now=NOW, network=VIEW),
    )
    place = {
        manifest_key(action.manifest)[::2]: number
        for number, stage in enumerate(plan.stages)
        for action in stage.actions
        if isinstance(action, Apply)
    }
    deny = place["NetworkPolicy", names.POLICY_DENY]
    for name in (names.POLICY_INGRESS, names.POLICY_EGRESS, names.POLICY_DNS):
        assert deny < place["NetworkPolicy", name] < place["Deployment", names.RENDERER]
        assert place["NetworkPolicy", name] < place["RoleBinding", names.BINDING_OWNERS]


def deleted(plan: Plan) -> set[tuple[str, str | None, str]]:
    return {(it.kind, it.namespace, it.name) for it in plan.actions if isinstance(it, Delete)}


def policies_in(namespace: str) -> dict[tuple[str, str, str], ChildView]:
    known = (names.POLICY_DENY, names.POLICY_DNS, names.POLICY_RENDERER, names.POLICY_INGRESS, names.POLICY_EGRESS)
    children = {("NetworkPolicy", namespace, name): ChildView(f"uid-{name}") for name in known}
    return children | {("Namespace", "", namespace): ChildView("uid-namespace")}


def test_a_rule_that_is_taken_out_takes_its_policy_along() -> None:
    observed = Observed(children=policies_in("tenant-acme"), now=NOW, network=VIEW)
    assert deleted(plan_tenant(scope(RULES), observed)) == set()
    only_ingress = {"ingressFrom": RULES["ingressFrom"]}
    egress_policy = ("NetworkPolicy", "tenant-acme", names.POLICY_EGRESS)
    assert deleted(plan_tenant(scope(only_ingress), observed)) == {egress_policy}
    # One that is refused now is as good as gone.
    unknown = Observed(children=policies_in("tenant-acme"), now=NOW)
    assert deleted(plan_tenant(scope(RULES), unknown)) == {egress_policy}


def test_what_was_open_closes_in_a_namespace_that_is_listed_no_more_and_at_the_end() -> None:
    both = {("NetworkPolicy", "left", name) for name in (names.POLICY_INGRESS, names.POLICY_EGRESS)}
    observed = Observed(children=policies_in("left") | policies_in("tenant-acme"), now=NOW, network=VIEW)
    assert deleted(plan_tenant(scope(RULES), observed)) == both
    finalizers = {"finalizers": [names.FINALIZER_TENANT], "deletionTimestamp": "2026-01-01T12:00:00Z"}
    ending = Scope(tenant(spec={"network": RULES}, **finalizers), CONFIG.tiers["starter"], CONFIG)
    plan = plan_teardown(ending, Observed(children=policies_in("tenant-acme"), now=NOW, network=VIEW))
    gone = {it for it in deleted(plan) if it[0] == "NetworkPolicy"}
    assert gone == {("NetworkPolicy", "tenant-acme", name) for name in (names.POLICY_INGRESS, names.POLICY_EGRESS)}


def test_the_condition_names_the_first_three_and_counts_the_rest() -> None:
    network = egress(*(f"other-{number}" for number in range(5)))
    message = rules_condition(scope(network), VIEW).message
    assert message.count("spec.network.egressTo[") == 3
    assert "and 2 more" in message
    assert message.endswith("What is refused stays closed")


def test_whoever_waits_is_told_whether_waiting_helps() -> None:
    refused = [rules_condition(scope(egress("tenant-birch")), VIEW)]
    (stalled,) = network_progress(refused)
    assert (stalled.type, stalled.status, stalled.reason) == ("Stalled", "True", "NetworkRuleRefused")
    (pending,) = network_progress([isolated_condition(NetworkView())])
    assert (pending.type, pending.status, pending.reason) == ("Reconciling", "True", "PolicyUnverified")
    open_ = judge({"allowed": True, "ingress": True, "egress": False}, NOW)
    (failed,) = network_progress([isolated_condition(NetworkView(enforcement=open_))])
    assert (failed.type, failed.reason) == ("Stalled", "PolicyNotEnforced")
    assert (
        network_progress([rules_condition(scope(RULES), VIEW), isolated_condition(NetworkView(enforcement=OFF))]) == []
    )


def test_dns_is_one_namespace_and_one_set_of_pods_at_one_port() -> None:
    plan = applied(plan_tenant(scope({}), Observed(children={}, now=NOW)))
    (rule,) = plan["NetworkPolicy", "tenant-acme", names.POLICY_DNS]["spec"]["egress"]
    assert rule == {
        "to": [
            {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
                "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
            }
        ],
        "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}],
    }
