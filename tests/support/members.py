"""What a user may do, as the API server itself sums it up, and what that must never contain. Used by tests of members' rights."""

import json
from typing import Any, Final

from e2e.cluster.api import ApiAccess

WRITE: Final = {"create", "delete", "deletecollection", "patch", "update"}
NEVER_VERBS: Final = {"*", "approve", "bind", "escalate", "impersonate", "proxy", "sign", "use"}
NEVER_WRITTEN: Final = (
    *("bindings", "daemonsets", "deployments", "endpoints", "endpointslices", "cronjobs", "jobs", "limitranges"),
    *("namespaces", "networkpolicies", "persistentvolumes", "pods", "replicasets", "resourcequotas", "rolebindings"),
    *("roles", "serviceaccounts", "services", "statefulsets"),
)
NEVER_AT_ALL: Final = (
    *("nodes", "nodes/proxy", "pods/attach", "pods/ephemeralcontainers", "pods/exec", "pods/portforward", "pods/proxy"),
    *("serviceaccounts/token", "services/proxy", "certificatesigningrequests", "tokenreviews"),
    *("mutatingwebhookconfigurations", "validatingwebhookconfigurations", "validatingadmissionpolicies"),
    *("validatingadmissionpolicybindings", "clusterroles", "clusterrolebindings", "customresourcedefinitions"),
)

Right = tuple[str, str, str, tuple[str, ...]]
"""(API group, resource, verb, names of the only objects; none: all of them)."""


def rights(plane: ApiAccess, user: str, namespace: str, groups: tuple[str, ...] = ()) -> set[Right]:
    """Everything that the user may do in the namespace and to what belongs to none. The server's list, not a question for each."""
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": namespace},
    }
    who = ["--as", user, *(f"--as-group={group}" for group in (*groups, "system:authenticated"))]
    done = plane.kubectl("create", "--validate=false", "-f", "-", "-o", "json", *who, stdin=json.dumps(review))
    status: dict[str, Any] = json.loads(done.stdout)["status"]
    assert not status["incomplete"], status
    return {
        (group, resource, verb, tuple(rule.get("resourceNames") or ()))
        for rule in status["resourceRules"]
        for group in rule.get("apiGroups") or ("",)
        for resource in rule.get("resources") or ()
        for verb in rule["verbs"]
    }


def cluster_wide(plane: ApiAccess) -> set[tuple[str, str]]:
    """(API group, resource) of everything that lives in no namespace, subresources included, as the server tells."""
    paths = {"": "/api/v1"}
    for group in plane.admin.get("/apis").require()["groups"]:
        paths[group["name"]] = f"/apis/{group['preferredVersion']['groupVersion']}"
    return {
        (group, item["name"])
        for group, path in paths.items()
        for item in plane.admin.get(path).require()["resources"]
        if not item["namespaced"]
    }


def assert_member(plane: ApiAccess, user: str, tenants: tuple[str, ...], others: tuple[str, ...]) -> set[Right]:
    """A member of these tenants has nothing that undoes isolation, in ``others`` what a stranger has; rights in the first."""
    stranger = rights(plane, "a-stranger", "default")
    for namespace in others:
        foreign = rights(plane, user, namespace) - stranger
        # Reading the own Tenants is the one right that is bound to no namespace.
        assert {right for right in foreign if not set(right[3]) or set(right[3]) - set(tenants)} == set(), (
            user,
            namespace,
        )
        assert {right[:3] for right in foreign} <= {
            ("unjucks.io", "tenants", verb) for verb in ("get", "list", "watch")
        }
    own = rights(plane, user, f"tenant-{tenants[0]}") - stranger
    wide = cluster_wide(plane) - {("unjucks.io", "tenants")}
    for group, resource, verb, _ in own:
        assert verb not in NEVER_VERBS, (user, resource, verb)
        assert "*" not in (group, resource), (user, group, resource)
        assert (group, resource) not in wide, (user, resource, verb)
        assert resource not in NEVER_AT_ALL, (user, resource, verb)
        assert not (resource.split("/")[0] in NEVER_WRITTEN and verb in WRITE), (user, resource, verb)
        assert not (resource.endswith("/status") and verb in WRITE), (user, resource, verb)
    return own
