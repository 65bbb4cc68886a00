"""The rights that the chart hands out: enumerated, sorted, and none that could be turned into others."""

from typing import Any

import pytest

from support import chart
from unjucks_api import names

MANIFESTS = ("ClusterRole", "Role")
TENANT_ROLES = {names.CLUSTER_ROLE_OWNER, names.CLUSTER_ROLE_EDITOR, names.CLUSTER_ROLE_VIEWER}
WRITE = {"create", "delete", "deletecollection", "patch", "update"}


@pytest.fixture(scope="module")
def rules() -> list[tuple[str, dict[str, Any]]]:
    """(role, rule) of every role of the chart."""
    roles = [item for item in chart.render({}) if item["kind"] in MANIFESTS]
    return [(f"{role['kind']}/{role['metadata']['name']}", rule) for role in roles for rule in role["rules"]]


def rules_of(rules: list[tuple[str, dict[str, Any]]], role: str) -> list[dict[str, Any]]:
    return [rule for name, rule in rules if name == role]


def verbs_on(rules: list[dict[str, Any]], resource: str) -> set[str]:
    return {verb for rule in rules if resource in rule["resources"] for verb in rule["verbs"]}


def test_no_wildcard_anywhere(rules: list[tuple[str, dict[str, Any]]]) -> None:
    for role, rule in rules:
        for part in ("apiGroups", "resources", "verbs"):
            assert not any("*" in item for item in rule[part]), role
        assert "nonResourceURLs" not in rule, role


def test_verbs_are_sorted_and_known(rules: list[tuple[str, dict[str, Any]]]) -> None:
    for role, rule in rules:
        assert rule["verbs"] == sorted(set(rule["verbs"])), role
        assert set(rule["verbs"]) <= WRITE | {"bind", "get", "list", "watch"}, role


def test_nobody_may_become_somebody_else(rules: list[tuple[str, dict[str, Any]]]) -> None:
    for role, rule in rules:
        assert not {"escalate", "impersonate", "approve", "sign", "proxy", "*"} & set(rule["verbs"]), role
        assert not {"serviceaccounts/token", "users", "groups", "pods/exec", "pods/attach", "pods/portforward"} & set(
            rule["resources"]
        ), role


def test_bind_is_for_the_three_roles_of_members_only(rules: list[tuple[str, dict[str, Any]]]) -> None:
    binding = [(role, rule) for role, rule in rules if "bind" in rule["verbs"]]
    assert [role for role, _ in binding] == ["ClusterRole/unjucks-operator"]
    assert set(binding[0][1]["resourceNames"]) == TENANT_ROLES
    assert binding[0][1]["resources"] == ["clusterroles"]
    assert binding[0][1]["verbs"] == ["bind"]


def test_the_operator_writes_no_spec_of_its_own_kinds_and_no_cluster_wide_object(
    rules: list[tuple[str, dict[str, Any]]],
) -> None:
    operator = rules_of(rules, "ClusterRole/unjucks-operator")
    for resource in ("tenants", "templateregistries", "generationjobs"):
        assert not verbs_on(operator, resource) & {"create", "update"}, resource
        assert verbs_on(operator, f"{resource}/status") == {"update"}, resource
    # Only Tenants carry a finalizer of ours.
    assert verbs_on(operator, "templateregistries") & WRITE == set()
    assert verbs_on(operator, "generationjobs") & WRITE == {"delete"}
    assert not verbs_on(operator, "customresourcedefinitions") & WRITE
    # One role and binding for each Tenant, so that members may read it; the policy unjucks-reader-roles allows no other.
    for resource in ("clusterroles", "clusterrolebindings"):
        assert verbs_on(operator, resource) - {"bind"} == {"create", "delete", "get", "list", "patch", "watch"}
    # Their addresses are among the ranges that no tenant may open.
    assert verbs_on(operator, "nodes") == verbs_on(operator, "servicecidrs") == {"list"}
    for resource in ("validatingwebhookconfigurations", "roles", "persistentvolumes"):
        assert verbs_on(operator, resource) == set(), resource


def test_the_platform_role_is_for_its_lease_and_its_authority(rules: list[tuple[str, dict[str, Any]]]) -> None:
    platform = rules_of(rules, "Role/unjucks-operator")
    assert verbs_on(platform, "leases") == {"create", "get", "update"}
    secrets = [rule for rule in platform if "secrets" in rule["resources"]]
    assert [(rule["resourceNames"], rule["verbs"]) for rule in secrets] == [([names.CA_SECRET], ["update"])]


@pytest.mark.parametrize("role", sorted(TENANT_ROLES))
def test_members_cannot_touch_what_isolates_them(rules: list[tuple[str, dict[str, Any]]], role: str) -> None:
    member = rules_of(rules, f"ClusterRole/{role}")
    for resource in (
        *("namespaces", "resourcequotas", "limitranges", "networkpolicies", "roles", "rolebindings"),
        *("pods", "deployments", "serviceaccounts", "tenants", "generationjobs/status", "templateregistries/status"),
    ):
        assert not verbs_on(member, resource) & WRITE, resource


def test_what_members_may_do_grows_with_their_role(rules: list[tuple[str, dict[str, Any]]]) -> None:
    viewer, editor, owner = (
        rules_of(rules, f"ClusterRole/{role}")
        for role in (names.CLUSTER_ROLE_VIEWER, names.CLUSTER_ROLE_EDITOR, names.CLUSTER_ROLE_OWNER)
    )
    for resource in ("generationjobs", "templateregistries", "configmaps", "pods", "events", "deployments"):
        assert verbs_on(viewer, resource) <= verbs_on(editor, resource) <= verbs_on(owner, resource), resource
    assert not verbs_on(viewer, "generationjobs") & WRITE
    assert verbs_on(editor, "generationjobs") >= {"create", "delete", "patch", "update"}
    # Secrets hold the values that jobs render: only owners see them.
    assert verbs_on(viewer, "secrets") == verbs_on(editor, "secrets") == set()
    assert verbs_on(owner, "secrets") >= {"get", "create"}


def test_bindings_name_the_operator_and_nobody_else() -> None:
    manifests = chart.render({})
    for kind in ("ClusterRoleBinding", "RoleBinding"):
        bindings = chart.of_kind(manifests, kind)
        assert bindings
        for binding in bindings:
            assert binding["roleRef"]["name"] in ("unjucks-operator", "unjucks-operator-endpoints")
            assert binding["subjects"] == [
                {"kind": "ServiceAccount", "name": "unjucks-operator", "namespace": chart.NAMESPACE}
            ]


def test_only_the_operators_pod_gets_a_token() -> None:
    manifests = chart.render({})
    mounted = {pod["metadata"]["name"]: pod["spec"]["automountServiceAccountToken"] for pod in chart.pods(manifests)}
    assert mounted == {"unjucks-operator": True, "unjucks-postgres": False}
    (account,) = chart.of_kind(manifests, "ServiceAccount")
    assert account["automountServiceAccountToken"] is False


def test_the_webhooks_may_read_and_write_one_secret_and_post_events() -> None:
    manifests = chart.render(chart.VALUES["webhooks"])
    rights: dict[str, list[object]] = {}
    for kind in ("RoleBinding", "ClusterRoleBinding"):
        for binding in chart.of_kind(manifests, kind):
            for subject in binding["subjects"]:
                role = chart.named(manifests, binding["roleRef"]["kind"], binding["roleRef"]["name"])
                rights.setdefault(subject["name"], []).extend(
                    (rule["resources"], rule.get("resourceNames"), rule["verbs"]) for rule in role["rules"]
                )
    assert rights[names.WEBHOOKS] == [
        (["secrets"], [names.APPROVALS_SECRET], ["get", "update"]),
        (["events"], None, ["create"]),
    ]
    more = [
        rule
        for item in (*chart.of_kind(manifests, "ClusterRole"), *chart.of_kind(manifests, "Role"))
        if item["metadata"]["name"] == "unjucks-operator-webhooks"
        for rule in item["rules"]
    ]
    assert [(rule["resources"], rule["resourceNames"], rule["verbs"]) for rule in more] == [
        (["mutatingwebhookconfigurations", "validatingwebhookconfigurations"], [names.WEBHOOKS], ["get", "patch"]),
        (["secrets"], [names.WEBHOOKS_TLS_SECRET], ["update"]),
    ]
