"""What isolates a tenant is out of everybody's reach but the operator's: tried as members and as an administrator.

The API server stands alone: no operator, no webhook. ``admin`` has the ClusterRole cluster-admin, so RBAC refuses it nothing: what
is refused here is refused by the policies.
"""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from e2e.cluster.client import APPLY, MERGE, Answer, Client
from support import policies
from support.policies import Policed
from unjucks_api import names

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

SPACE = "tenant-acme"
JSON_PATCH = "application/json-patch+json"
PLACES = ("plain", "kube-system", "default", "unjucks-system", "tenant-acme2")
GROUPS = {
    "": "/api/v1",
    "networking": "/apis/networking.k8s.io/v1",
    "rbac": "/apis/rbac.authorization.k8s.io/v1",
    "apps": "/apis/apps/v1",
    "ours": "/apis/unjucks.io/v1alpha1",
}


def inside(group: str, plural: str, name: str = "", space: str = SPACE) -> str:
    path = f"{GROUPS[group]}/namespaces/{space}/{plural}"
    return f"{path}/{name}" if name else path


def refused(answer: Answer, text: str) -> None:
    """Refused by one of our policies, in words that name what was tried."""
    assert answer.status in (403, 422), answer.body
    assert "ValidatingAdmissionPolicy 'unjucks-" in answer.body["message"]
    assert text in answer.body["message"]


def uncount(policed: Policed, plural: str) -> None:
    """Take the kind out of the quota: nothing counts here, and what a quota names and nobody has counted yet is refused."""
    body = {"spec": {"hard": {f"count/{plural}.{names.GROUP}": None}}}
    policed.operator.request("PATCH", inside("", "resourcequotas", names.QUOTA), body, content_type=MERGE).require()


def forge(policed: Policed, space: str) -> dict[str, Any]:
    """A namespace's metadata that says: I am acme's."""
    owner = {
        "apiVersion": names.API_VERSION,
        "kind": "Tenant",
        "name": "acme",
        "uid": "5d9a3b1e-0000-4000-8000-00000000aaaa",
    }
    return {
        "label": {"labels": {names.LABEL_TENANT: "acme" if space != "tenant-acme" else "acme2"}},
        "uid": {"labels": {names.LABEL_TENANT_UID: "5d9a3b1e-0000-4000-8000-000000000000"}},
        "custom": {"labels": {f"{names.LABEL_CUSTOM_PREFIX}team": "x"}},
        "ownerref": {"ownerReferences": [owner]},
        "annotation": {"annotations": {f"{names.GROUP}/tenant": "acme"}},
    }  # fmt: skip


FORGERIES = ("label", "uid", "custom", "ownerref", "annotation")
TEXTS = {"ownerref": "metadata.ownerReferences", "annotation": "metadata.annotations"}


def requests(
    client: Client, path: str, metadata: dict[str, Any], current: dict[str, Any]
) -> Iterator[tuple[str, Answer]]:
    """The same change by every way that there is to change an object."""
    dry = "?dryRun=All"
    yield "merge", client.request("PATCH", path + dry, {"metadata": metadata}, content_type=MERGE)
    operations = []
    for key, value in metadata.items():
        if key not in current["metadata"]:
            operations.append({"op": "add", "path": f"/metadata/{key}", "value": value})
        elif isinstance(value, dict):
            operations += [
                {"op": "add", "path": f"/metadata/{key}/{name.replace('~', '~0').replace('/', '~1')}", "value": text}
                for name, text in value.items()
            ]
        else:
            operations.append({"op": "replace", "path": f"/metadata/{key}", "value": value})
    yield "json", client.request("PATCH", path + dry, operations, content_type=JSON_PATCH)
    applied = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": current["metadata"]["name"], **metadata}}
    if not path.endswith("/finalize"):
        yield "ssa", client.request("PATCH", f"{path}{dry}&fieldManager=x&force=true", applied, content_type=APPLY)
    merged = json.loads(json.dumps(current))
    for key, value in metadata.items():
        merged["metadata"][key] = {**merged["metadata"].get(key, {}), **value} if isinstance(value, dict) else value
    yield "put", client.request("PUT", path + dry, merged)


@pytest.mark.isolation("T-hijack-label", "T-hijack-ownerref", "T-hijack-annotation")
@pytest.mark.isolation("T-hijack-jsonpatch", "T-hijack-mergepatch", "T-hijack-ssa", "T-hijack-subresource")
@pytest.mark.parametrize("forgery", FORGERIES)
@pytest.mark.parametrize("subresource", ["", "/status", "/finalize"], ids=["main", "status", "finalize"])
@pytest.mark.parametrize("place", PLACES)
def test_no_namespace_is_hijacked(policed: Policed, place: str, subresource: str, forgery: str) -> None:
    path = f"/api/v1/namespaces/{place}{subresource}"
    current = policed.admin.get(f"/api/v1/namespaces/{place}").require()
    metadata = forge(policed, place)[forgery]
    tried = 0
    for how, answer in requests(policed.admin, path, metadata, current):
        if answer.status == 405:  # the API server knows no patch of namespaces/finalize
            assert subresource == "/finalize"
            continue
        tried += 1
        refused(answer, TEXTS.get(forgery, "metadata.labels"))
        assert how
    assert tried >= (1 if subresource == "/finalize" else 4)
    # The members may not even ask.
    if forgery == "label":
        for client in policed.members.values():
            assert all(answer.status in (403, 405) for _, answer in requests(client, path, metadata, current))
    # The control: a change that is none of our business passes, by the same way.
    if not subresource and forgery == "label":
        harmless = {"labels": {"example.com/team": "x"}, "annotations": {"example.com/note": "y"}}
        assert all(answer.ok for _, answer in requests(policed.admin, path, harmless, current))


@pytest.mark.isolation("T-hijack-label", "T-hijack-ownerref", "T-hijack-annotation")
@pytest.mark.parametrize("forgery", FORGERIES)
def test_no_namespace_is_made_as_a_tenants(policed: Policed, forgery: str) -> None:
    def body(metadata: dict[str, Any]) -> dict[str, Any]:
        return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "forged", **metadata}}

    refused(
        policed.post("/api/v1/namespaces", body(forge(policed, "x")[forgery])), TEXTS.get(forgery, "metadata.labels")
    )
    assert policed.post("/api/v1/namespaces", body({})).ok
    assert policed.post("/api/v1/namespaces", body(forge(policed, "x")[forgery]), who=policed.operator).ok


@pytest.mark.isolation("T-detach")
@pytest.mark.parametrize("subresource", ["", "/status", "/finalize"], ids=["main", "status", "finalize"])
def test_a_tenants_namespace_keeps_its_labels(policed: Policed, subresource: str) -> None:
    path = f"/api/v1/namespaces/{SPACE}"
    current = policed.admin.get(path).require()
    enforce = "pod-security.kubernetes.io/enforce"
    for key in (names.LABEL_TENANT, names.LABEL_TENANT_UID, enforce, f"{enforce}-version", names.LABEL_MANAGED_BY):
        without = json.loads(json.dumps(current))
        del without["metadata"]["labels"][key]
        refused(policed.admin.request("PUT", f"{path}{subresource}?dryRun=All", without), key)
        if subresource != "/finalize":
            patch = {"metadata": {"labels": {key: None}}}
            answer = policed.admin.request("PATCH", f"{path}{subresource}?dryRun=All", patch, content_type=MERGE)
            refused(answer, key)
    weaker = {"metadata": {"labels": {enforce: "privileged"}}}
    if subresource != "/finalize":
        refused(policed.admin.request("PATCH", f"{path}{subresource}?dryRun=All", weaker, content_type=MERGE), enforce)
    # Throughout, a privileged pod is refused; and the way out exists, for those who are named.
    pod = policies.compliant_pod(SPACE, "privileged")
    pod["spec"]["containers"][0]["securityContext"]["privileged"] = True
    assert policed.post(f"{path}/pods", pod).status in (403, 422)
    assert policed.exempt.request("PATCH", f"{path}?dryRun=All", weaker, content_type=MERGE).ok
    assert policed.operator.request("PATCH", f"{path}?dryRun=All", weaker, content_type=MERGE).ok


def test_a_namespaces_end_is_its_controllers(policed: Policed) -> None:
    path = f"/api/v1/namespaces/{SPACE}"
    body = policed.admin.get(path).require()
    body["spec"]["finalizers"] = []
    refused(policed.admin.request("PUT", f"{path}/finalize?dryRun=All", body), "spec.finalizers")
    plain = policed.admin.get("/api/v1/namespaces/plain").require()
    assert policed.admin.request("PUT", "/api/v1/namespaces/plain/finalize?dryRun=All", plain).ok


@pytest.mark.isolation("T-adopt-consent")
def test_consent_is_given_by_who_may_make_tenants(policed: Policed) -> None:
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "namespace-editor"},
        "rules": [{"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get", "patch", "create"]}],
    }
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "namespace-editor"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "namespace-editor"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "namespace-editor"}],
    }
    for item in (role, binding):
        policed.plane.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(item))
    editor = policed.plane.client_for("namespace-editor")
    path = "/api/v1/namespaces/plain?dryRun=All"
    for annotation in (names.ANNOTATION_ADOPTION_CONSENT, names.ANNOTATION_CONFIRM_DELETE):
        change = {"metadata": {"annotations": {annotation: "acme"}}}
        refused(editor.request("PATCH", path, change, content_type=MERGE), annotation)
        assert policed.admin.request("PATCH", path, change, content_type=MERGE).ok
    assert editor.request("PATCH", path, {"metadata": {"annotations": {"a": "b"}}}, content_type=MERGE).ok


BOUNDARIES = [
    ("", "resourcequotas", names.QUOTA, {"spec": {"hard": {"pods": "999"}}}),
    ("", "limitranges", names.LIMITS, {"spec": {"limits": []}}),
    ("networking", "networkpolicies", names.POLICY_DENY, {"spec": {"ingress": [{}]}}),
    ("networking", "networkpolicies", names.POLICY_DNS, {"spec": {"egress": [{}]}}),
    ("rbac", "rolebindings", names.BINDING_OWNERS, {"subjects": []}),
]


@pytest.mark.isolation("MTB-PL1-BC-CPI-2", "MTB-PL1-CC-TI-1")
@pytest.mark.parametrize(("group", "plural", "name", "patch"), BOUNDARIES, ids=[row[2] for row in BOUNDARIES])
def test_what_isolates_a_tenant_is_the_operators(
    policed: Policed, group: str, plural: str, name: str, patch: dict[str, Any]
) -> None:
    path = inside(group, plural, name)
    current = policed.admin.get(path).require()
    marks = {"metadata": {"annotations": {"example.com/x": "y"}}}
    for client in (policed.admin, *policed.members.values()):
        member = client is not policed.admin
        for change in (patch, marks):
            answers = [client.request("PATCH", f"{path}?dryRun=All", change, content_type=MERGE)]
            applied = {"apiVersion": current["apiVersion"], "kind": current["kind"], **change}
            applied["metadata"] = {"name": name, **change.get("metadata", {})}
            ssa = f"{path}?dryRun=All&fieldManager=x&force=true"
            answers.append(client.request("PATCH", ssa, applied, content_type=APPLY))
            answers.append(client.request("PUT", f"{path}?dryRun=All", current | patch))
            for answer in answers:
                assert answer.status == 403 if member else "ValidatingAdmissionPolicy" in answer.body["message"], (
                    answer.body
                )
        answer = client.request("DELETE", f"{path}?dryRun=All")
        assert answer.status == 403
        if not member:
            refused(answer, name)
        everything = client.request("DELETE", f"{inside(group, plural)}?dryRun=All")
        assert everything.status == 403, everything.body
    # The controls: the operator may, and so may those who are exempt.
    for client in (policed.operator, policed.exempt):
        assert client.request("PATCH", f"{path}?dryRun=All", marks, content_type=MERGE).ok


@pytest.mark.isolation("T-net-policy-write", "MTB-PL1-CC-TI-1")
def test_nothing_is_added_beside_it(policed: Policed) -> None:
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "open"},
        "spec": {"podSelector": {}, "ingress": [{}], "egress": [{}]},
    }
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "mine"}, "spec": {"hard": {"pods": "1"}}}
    limits = {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "mine"}, "spec": {"limits": []}}
    for group, plural, body in (
        ("networking", "networkpolicies", policy),
        ("", "resourcequotas", quota),
        ("", "limitranges", limits),
    ):
        refused(policed.post(inside(group, plural), body), plural)
        assert all(policed.post(inside(group, plural), body, who=it).status == 403 for it in policed.members.values())
        assert policed.post(inside(group, plural, space="plain"), body).ok
        allowed = policed.post(inside(group, plural), body, who=policed.operator)
        # The one place for a quota is taken already, by the operator's own.
        assert allowed.ok or "exceeded quota: unjucks-quota, requested: resourcequotas=1" in allowed.body["message"]


def test_quotas_are_still_counted(policed: Policed) -> None:
    path = inside("", "resourcequotas", names.QUOTA)
    policed.plane.admin.wait(
        path, lambda it: "pods" in it.body.get("status", {}).get("used", {}), timeout=20, what="used"
    )
    service = policies.compliant_service(SPACE, "counted")
    before = int(policed.admin.get(path).require()["status"]["used"]["services"])
    policed.post(inside("", "services"), service, dry=False).require()
    policed.plane.admin.wait(
        path, lambda it: int(it.body["status"]["used"]["services"]) == before + 1, timeout=20, what="one service more"
    )
    forged = {"status": {"used": {"pods": "0"}}}
    refused(policed.admin.request("PATCH", f"{path}/status?dryRun=All", forged, content_type=MERGE), names.QUOTA)
    policed.admin.request("DELETE", inside("", "services", "counted")).require()
    # The quota controller counts it back.
    policed.plane.admin.wait(
        path, lambda it: int(it.body["status"]["used"]["services"]) == before, timeout=60, what="one service fewer"
    )


def test_a_tenants_namespace_can_go_completely(policed: Policed) -> None:
    plane = policed.plane
    for item in policies.tenant_objects("leaving"):
        plane.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(item))
    policed.operator.request("DELETE", "/api/v1/namespaces/tenant-leaving").require()
    plane.admin.wait("/api/v1/namespaces/tenant-leaving", lambda it: it.status == 404, timeout=40, what="gone")


@pytest.mark.isolation("T-precreated-child")
def test_nobody_makes_the_operators_children(policed: Policed) -> None:
    owner = policed.members["owner"]
    labels = names.tenant_labels("acme", "5d9a3b1e-0000-4000-8000-00000000aaaa", names.COMPONENT_RENDERER)
    for kind, plural in (("Secret", "secrets"), ("ConfigMap", "configmaps")):
        plain: dict[str, Any] = {"apiVersion": "v1", "kind": kind, "metadata": {"name": "mine"}}
        assert policed.post(inside("", plural), plain, who=owner).ok
        plants: tuple[tuple[dict[str, Any], str], ...] = (
            ({"labels": labels}, "metadata.labels"),
            ({"labels": {names.LABEL_MANAGED_BY: names.MANAGED_BY}}, names.LABEL_MANAGED_BY),
            ({"labels": {names.LABEL_TENANT: "acme"}}, names.LABEL_TENANT),
            ({"labels": {names.LABEL_JOB: "x"}}, names.LABEL_JOB),
            ({"annotations": {names.ANNOTATION_MANIFEST_DIGEST: "x"}}, names.ANNOTATION_MANIFEST_DIGEST),
        )
        for metadata, text in plants:
            body = plain | {"metadata": {"name": "mine", **metadata}}
            for who in (owner, policed.admin):
                refused(policed.post(inside("", plural), body, who=who), text)
    for group, plural, body in (
        ("", "secrets", {"kind": "Secret", "apiVersion": "v1"}),
        ("", "serviceaccounts", {"kind": "ServiceAccount", "apiVersion": "v1"}),
        ("rbac", "roles", {"kind": "Role", "apiVersion": "rbac.authorization.k8s.io/v1", "rules": []}),
    ):
        refused(policed.post(inside(group, plural), body | {"metadata": {"name": "unjucks-renderer"}}), "metadata.name")
        assert policed.post(inside(group, plural), body | {"metadata": {"name": "my-unjucks"}}).ok
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "mine"},
        "spec": {
            "selector": {"matchLabels": {"app": "x"}},
            "template": {"metadata": {"labels": {"app": "x"}}, "spec": policies.compliant_pod(SPACE)["spec"]},
        },
    }
    assert policed.post(inside("apps", "deployments"), deployment).ok
    deployment["spec"]["template"]["metadata"]["labels"] |= labels  # type: ignore[index]
    refused(policed.post(inside("apps", "deployments"), deployment), "spec.template.metadata.labels")
    cron = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": "mine"},
        "spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": deployment["spec"]["template"]}}},  # type: ignore[index]
    }
    cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]["restartPolicy"] = "Never"  # type: ignore[index]
    refused(policed.post(f"/apis/batch/v1/namespaces/{SPACE}/cronjobs", cron), "spec.template.metadata.labels")
    pod = policies.compliant_pod(SPACE, "posing")
    pod["metadata"]["labels"] = labels
    refused(policed.post(inside("", "pods"), pod), "metadata.labels")


@pytest.mark.isolation("MTB-PL1-BC-CPI-2")
def test_the_operators_objects_stay_as_they_are_and_outputs_are_the_tenants(policed: Policed) -> None:
    owner, merge = policed.members["owner"], MERGE
    labels = names.tenant_labels("acme", "5d9a3b1e-0000-4000-8000-00000000aaaa", names.COMPONENT_RENDERER)
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": names.RENDERER, "labels": labels}}
    policed.post(inside("", "secrets"), secret, who=policed.operator, dry=False)
    policed.exempt.apply(inside("", "secrets", names.RENDERER), secret).require()
    path = inside("", "secrets", names.RENDERER) + "?dryRun=All"
    assert policed.operator.request("PATCH", path, {"data": {"tls.key": "AAAA"}}, content_type=merge).ok
    for who in (owner, policed.admin):
        refused(who.request("PATCH", path, {"data": {"tls.key": "AAAA"}}, content_type=merge), names.RENDERER)
        refused(who.request("DELETE", path), names.RENDERER)
    output = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "made", "labels": labels | {names.LABEL_COMPONENT: names.COMPONENT_OUTPUT}},
    }
    policed.exempt.apply(inside("", "configmaps", "made"), output).require()
    path = inside("", "configmaps", "made") + "?dryRun=All"
    editor = policed.members["editor"]
    assert editor.request("PATCH", path, {"data": {"a": "b"}}, content_type=merge).ok
    assert editor.request("DELETE", path).ok
    for patch in (
        {"labels": {names.LABEL_TENANT: "acme2"}},
        {"labels": {names.LABEL_COMPONENT: names.COMPONENT_RENDERER}},
        {"labels": {names.LABEL_MANAGED_BY: None}},
        {"annotations": {names.ANNOTATION_MANIFEST_DIGEST: "x"}},
    ):
        refused(editor.request("PATCH", path, {"metadata": patch}, content_type=merge), "metadata.")


@pytest.mark.isolation("T-secret-type")
def test_no_secret_of_a_tenant_asks_for_a_token(policed: Policed) -> None:
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "token", "annotations": {"kubernetes.io/service-account.name": "default"}},
        "type": "kubernetes.io/service-account-token",
    }
    for who in (policed.members["owner"], policed.admin):
        refused(policed.post(inside("", "secrets"), secret, who=who), "service-account-token")
    assert policed.post(inside("", "secrets"), secret | {"type": "Opaque"}, who=policed.members["owner"]).ok
    assert policed.post(inside("", "secrets", space="plain"), secret).ok


KINDS = [
    (
        "generationjobs",
        {
            "registryRef": {"name": "r"},
            "template": {"generator": "a", "action": "b"},
            "output": {"configMap": {"name": "o"}},
        },
    ),
    ("templateregistries", {"inline": {"files": {"_templates/a/b/c.txt.njk": "x"}}}),
]  # fmt: skip


@pytest.mark.isolation("T-status-tamper")
@pytest.mark.parametrize(("plural", "spec"), KINDS, ids=[row[0] for row in KINDS])
def test_status_finalizers_and_our_annotations_are_the_operators(policed: Policed, plural: str, spec: Any) -> None:
    owner, admin = policed.members["owner"], policed.admin
    kind = {"generationjobs": "GenerationJob", "templateregistries": "TemplateRegistry"}[plural]
    body = {"apiVersion": names.API_VERSION, "kind": kind, "metadata": {"name": "mine"}, "spec": spec}
    uncount(policed, plural)
    for _ in range(200):  # the API server's memory of the quota is a moment behind
        made = policed.post(inside("ours", plural), body, who=owner, dry=False)
        if "status unknown for quota" not in made.body.get("message", ""):
            break
        time.sleep(0.1)
    made.require()
    path = inside("ours", plural, "mine")
    forged = {"status": {"observedGeneration": 1}}
    assert owner.request("PATCH", f"{path}/status", forged, content_type=MERGE).status == 403
    refused(admin.request("PATCH", f"{path}/status?dryRun=All", forged, content_type=MERGE), "status:")
    assert policed.operator.request("PUT", f"{path}/status?dryRun=All", admin.get(path).require()).ok
    for who in (owner, admin):
        for metadata, text in (
            ({"finalizers": ["example.com/hold"]}, "metadata.finalizers"),
            ({"finalizers": [names.FINALIZER_TENANT]}, "metadata.finalizers"),
            ({"annotations": {f"{names.GROUP}/last-handled": "{}"}}, "last-handled"),
            ({"annotations": {names.ANNOTATION_MANIFEST_DIGEST: "x"}}, names.ANNOTATION_MANIFEST_DIGEST),
        ):
            patch = {"metadata": metadata}
            refused(who.request("PATCH", f"{path}?dryRun=All", patch, content_type=MERGE), text)
            refused(
                policed.post(inside("ours", plural), body | {"metadata": {"name": "two", **metadata}}, who=who), text
            )
        for name in set(names.USER_ANNOTATIONS) - {names.ANNOTATION_APPROVAL}:  # a code is never stored
            patch = {"metadata": {"annotations": {name: "x", "example.com/note": "y"}}}
            assert who.request("PATCH", f"{path}?dryRun=All", patch, content_type=MERGE).ok


@pytest.mark.isolation("T-status-tamper")
def test_a_tenants_finalizer_comes_off_by_the_operator_only(policed: Policed) -> None:
    path = f"{GROUPS['ours']}/tenants"
    body = {
        "apiVersion": names.API_VERSION,
        "kind": "Tenant",
        "metadata": {"name": "held"},
        "spec": {"tier": "starter"},
    }
    policed.post(path, body, dry=False).require()
    held = {"metadata": {"finalizers": [names.FINALIZER_TENANT]}}
    refused(policed.admin.request("PATCH", f"{path}/held?dryRun=All", held, content_type=MERGE), "metadata.finalizers")
    policed.exempt.request("PATCH", f"{path}/held", held, content_type=MERGE).require()
    off = {"metadata": {"finalizers": None}}
    refused(policed.admin.request("PATCH", f"{path}/held?dryRun=All", off, content_type=MERGE), "metadata.finalizers")
    assert policed.operator.request("PATCH", f"{path}/held?dryRun=All", off, content_type=MERGE).ok
    forged = {"status": {"observedGeneration": 1}}
    refused(policed.admin.request("PATCH", f"{path}/held/status?dryRun=All", forged, content_type=MERGE), "status:")
    other = {"metadata": {"finalizers": [names.FINALIZER_TENANT, "example.com/theirs"]}}
    assert policed.admin.request("PATCH", f"{path}/held?dryRun=All", other, content_type=MERGE).ok
    policed.exempt.request("PATCH", f"{path}/held", off, content_type=MERGE).require()
    policed.admin.request("DELETE", f"{path}/held").require()


def test_the_operator_makes_and_removes_no_other_cluster_wide_roles(policed: Policed) -> None:
    """Whoever takes the operator over can neither make a role nor take the cluster's own ones away."""
    roles = f"{GROUPS['rbac']}/clusterroles"
    rule = {"apiGroups": ["unjucks.io"], "resources": ["tenants"], "verbs": ["get", "list", "watch"]}

    def role(name: str, **changes: Any) -> dict[str, Any]:
        rules = [{**rule, "resourceNames": ["acme"], **changes}]
        return {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": name},
            "rules": rules,
        }

    mine = role("unjucks-read-tenant-acme")
    policed.post(roles, mine, who=policed.operator, dry=False).require()
    refused(policed.post(roles, role("mine"), who=policed.operator), "metadata.name")
    refused(policed.post(roles, role("unjucks-read-tenant-x"), who=policed.operator), "rules")
    for name in ("view", "unjucks-tenant-viewer", "cluster-admin"):
        refused(policed.operator.request("DELETE", f"{roles}/{name}?dryRun=All"), "metadata.name")
    policed.operator.request("DELETE", f"{roles}/unjucks-read-tenant-acme").require()
