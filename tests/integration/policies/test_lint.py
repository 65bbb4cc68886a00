"""The policies themselves: types are right, every resource exists, every one is bound, fails closed and needs no parameters."""

import re
from typing import Any

import pytest

from support import policies
from support.policies import Policed
from unjucks_api import names
from unjucks_api.v1alpha1 import KINDS

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]
BASE = "/apis/admissionregistration.k8s.io/v1"


@pytest.fixture(scope="module")
def live(policed: Policed) -> list[dict[str, Any]]:
    """The policies as the API server holds them, when it has looked at their types."""

    def looked_at(answer: Any) -> bool:
        items = answer.body.get("items", [])
        return bool(items) and all("typeChecking" in item.get("status", {}) for item in items)

    answer = policed.plane.admin.wait(
        f"{BASE}/validatingadmissionpolicies", looked_at, timeout=30, what="types checked"
    )
    return list(answer.body["items"])


def test_their_types_are_right(live: list[dict[str, Any]]) -> None:
    assert {item["metadata"]["name"] for item in live} == {
        item["metadata"]["name"] for item in policies.manifests() if item["kind"] == policies.KINDS[0]
    }
    warnings = {item["metadata"]["name"]: item["status"]["typeChecking"].get("expressionWarnings") for item in live}
    assert {name: found for name, found in warnings.items() if found} == {}


@pytest.mark.isolation("T-rule-resources")
def test_every_resource_exists(policed: Policed, live: list[dict[str, Any]]) -> None:
    """A rule on a resource that nobody serves never matches: "namespace/finalize" once left a door open elsewhere."""
    known: dict[tuple[str, str], set[str]] = {}
    for policy in live:
        for rule in policy["spec"]["matchConstraints"]["resourceRules"]:
            for group in rule["apiGroups"]:
                for version in rule["apiVersions"]:
                    if (group, version) not in known:
                        path = f"/apis/{group}/{version}" if group else f"/api/{version}"
                        served = policed.admin.get(path).require()["resources"]
                        known[group, version] = {item["name"] for item in served}
                    for resource in rule["resources"]:
                        served_names = known[group, version]
                        if resource.endswith("/*"):
                            assert any(name.startswith(resource[:-1]) for name in served_names), resource
                        else:
                            assert resource in served_names, resource
            for group in rule["apiGroups"]:
                groups = policed.admin.get("/apis").require()["groups"]
                served_versions = {
                    version["version"] for item in groups if item["name"] == group for version in item["versions"]
                }
                assert policy["spec"]["matchConstraints"]["matchPolicy"] == "Equivalent" or served_versions <= set(
                    rule["apiVersions"]
                )


def test_the_lint_would_notice(policed: Policed) -> None:
    served = {item["name"] for item in policed.admin.get("/api/v1").require()["resources"]}
    assert "namespaces/finalize" in served
    assert "namespace/finalize" not in served


@pytest.mark.isolation("T-vap-no-params")
def test_they_fail_closed(policed: Policed, live: list[dict[str, Any]]) -> None:
    bindings = policed.admin.get(f"{BASE}/validatingadmissionpolicybindings").require()["items"]
    bound = {item["spec"]["policyName"]: item["spec"] for item in bindings}
    for policy in live:
        name, spec = policy["metadata"]["name"], policy["spec"]
        assert spec["failurePolicy"] == "Fail", name
        assert "paramKind" not in spec, name
        assert bound[name] == {"policyName": name, "validationActions": ["Deny"]}, name
        for rule in spec["matchConstraints"]["resourceRules"]:
            assert rule.get("scope", "*") == "*"
            assert "*" not in [*rule["apiGroups"], *rule["apiVersions"], *rule["resources"], *rule["operations"]]
            assert "CONNECT" not in rule["operations"]
        # Rules on what lives in namespaces never look into the system's or the platform's, however they are labelled.
        selector = spec["matchConstraints"].get("namespaceSelector") or {}
        cluster_wide = {"namespaces", "customresourcedefinitions", "tenants", "clusterroles", "clusterrolebindings"}
        ours = all(rule["apiGroups"] == [names.GROUP] for rule in spec["matchConstraints"]["resourceRules"])
        first = {resource for rule in spec["matchConstraints"]["resourceRules"] for resource in rule["resources"]}
        if not first & cluster_wide and not ours:
            present, outside = selector["matchExpressions"]
            assert present == {"key": names.LABEL_TENANT, "operator": "Exists"}
            assert outside["operator"] == "NotIn"
            assert {"kube-system", names.PLATFORM_NAMESPACE} <= set(outside["values"])
        for validation in spec["validations"]:
            assert validation["message"]


def test_names_in_them_are_those_of_the_code(live: list[dict[str, Any]]) -> None:
    by_name = {item["metadata"]["name"]: item["spec"] for item in live}
    allowed = re.findall(r'"(unjucks\.io/[a-z-]+)"', str(by_name["unjucks-kinds"]))
    assert sorted(allowed) == sorted(names.USER_ANNOTATIONS)
    rule = by_name["unjucks-protected-kinds"]["matchConstraints"]["resourceRules"][0]
    assert set(rule["resourceNames"]) == {f"{kind.definition.plural}.{names.GROUP}" for kind in KINDS}
    kinds = {
        name.split("/")[0] for name in by_name["unjucks-kinds"]["matchConstraints"]["resourceRules"][0]["resources"]
    }
    assert kinds == {kind.definition.plural for kind in KINDS}
    guard = str(by_name["unjucks-namespaces"])
    for word in (names.LABEL_TENANT, names.LABEL_CUSTOM_PREFIX, names.ANNOTATION_ADOPTION_CONSENT):
        assert word in guard
    children = str(by_name["unjucks-tenant-children"])
    for word in (names.LABEL_MANAGED_BY, names.MANAGED_BY, names.COMPONENT_OUTPUT):
        assert f'"{word}"' in children
