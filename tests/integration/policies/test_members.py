"""Members of a tenant: everything that the API server would let them do, compared with what it lets a stranger do."""

import concurrent.futures
import json

import pytest

from support import policies
from support.members import assert_member
from support.policies import Policed
from unjucks_api import names

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]
OTHERS = ("tenant-acme2", "kube-system", "default", "unjucks-system", "plain")


@pytest.mark.isolation("MTB-PL1-CC-CPI-1", "MTB-PL1-CC-TI-1", "MTB-PL1-CC-TI-2", "MTB-PL2-CC-TI-1", "T-own-roles")
@pytest.mark.parametrize("role", ["owner", "editor", "viewer"])
def test_members_have_rights_in_their_own_namespace_only(policed: Policed, role: str) -> None:
    own = assert_member(policed.plane, f"{role}@acme.example", ("acme",), OTHERS)
    # The control: they do have rights, the listing works.
    assert ("unjucks.io", "generationjobs", "get", ()) in own
    assert (("unjucks.io", "generationjobs", "create", ()) in own) == (role != "viewer")
    # And none of them lets a member make pods, in any way that Kubernetes has.
    makers = (
        "pods",
        "deployments",
        "jobs",
        "cronjobs",
        "replicasets",
        "statefulsets",
        "daemonsets",
        "replicationcontrollers",
    )
    assert {right for right in own if right[1] in makers and right[2] == "create"} == set()


@pytest.mark.isolation("MTB-PL1-CC-TI-2")
def test_requests_into_another_tenant_are_refused(policed: Policed) -> None:
    """Real requests, subresources too; the names exist, so that "not found" would be an answer and is none here."""
    owner = policed.members["owner"]
    for space, allowed in (("tenant-acme", True), ("tenant-acme2", False)):
        base = f"/api/v1/namespaces/{space}"
        assert owner.get(f"{base}/configmaps/kube-root-ca.crt").ok is allowed
        assert owner.get(f"{base}/secrets").ok is allowed
        jobs = f"/apis/unjucks.io/v1alpha1/namespaces/{space}/generationjobs"
        assert owner.get(jobs).ok is allowed
        note = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "note"}}
        assert policed.post(f"{base}/configmaps", note, who=owner).ok is allowed
    base = "/api/v1/namespaces/tenant-acme2"
    for method, path in (
        ("POST", f"{base}/serviceaccounts/default/token"),
        ("GET", f"{base}/pods/x/log"),
        ("POST", f"{base}/pods/x/exec"),
        ("POST", f"{base}/pods/x/portforward"),
        ("GET", f"{base}/pods/x/proxy/"),
        ("GET", f"{base}/services/x/proxy/"),
        ("PUT", f"{base}/finalize"),
        ("PATCH", f"/apis/apps/v1{base.removeprefix('/api/v1')}/deployments/x/scale"),
    ):
        assert owner.request(method, path, {} if method != "GET" else None).status == 403, path


@pytest.mark.isolation("T-sa-samename")
def test_an_account_of_the_same_name_elsewhere_is_somebody_else(policed: Policed) -> None:
    objects = policies.tenant_objects("acme")
    subject = {"kind": "ServiceAccount", "name": "ci", "namespace": "tenant-acme"}
    binding = next(item for item in objects if item["metadata"]["name"] == names.BINDING_OWNERS)
    policed.plane.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(binding | {"subjects": [subject]}))
    try:
        for space, allowed in (("tenant-acme", True), ("tenant-acme2", False), ("plain", False)):
            client = policed.plane.client_for(f"system:serviceaccount:{space}:ci", ["system:serviceaccounts"])
            assert client.get("/api/v1/namespaces/tenant-acme/secrets").ok is allowed, space
    finally:
        policed.plane.kubectl(*("apply", "--server-side", "--force-conflicts", "-f", "-"), stdin=json.dumps(binding))


@pytest.mark.isolation("MTB-PL1-CC-FNS-1", "MTB-PL1-CC-FNS-2")
def test_every_namespace_of_a_tenant_has_all_quotas(policed: Policed) -> None:
    hard = policed.admin.get(f"/api/v1/namespaces/tenant-acme/resourcequotas/{names.QUOTA}").require()["spec"]["hard"]
    for what in ("cpu", "memory", "ephemeral-storage"):
        assert f"requests.{what}" in hard
        assert f"limits.{what}" in hard
    counted = {"pods", "services", "replicationcontrollers", "resourcequotas", "secrets", "configmaps"}
    counted |= {"persistentvolumeclaims", "services.nodeports", "services.loadbalancers"}
    assert counted <= hard.keys()
    assert hard["services.nodeports"] == hard["services.loadbalancers"] == "0"


@pytest.mark.isolation("T-quota-burst")
def test_a_burst_never_gets_past_the_quota(policed: Policed) -> None:
    """Many pods at the same moment. Quotas of single namespaces are exact, and their sum is the tenant's: no race can widen it."""
    space = "tenant-burst"
    for item in policies.tenant_objects("burst"):
        policed.plane.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(item))
    path = f"/api/v1/namespaces/{space}"
    policed.plane.admin.wait(f"{path}/serviceaccounts/default", lambda it: it.ok, timeout=20, what="default account")
    quota = f"{path}/resourcequotas/{names.QUOTA}"
    policed.plane.admin.wait(
        quota, lambda it: "pods" in it.body.get("status", {}).get("used", {}), timeout=20, what="used"
    )
    limit = int(policed.admin.get(quota).require()["spec"]["hard"]["pods"])
    assert 0 < limit < 100
    wanted = [policies.compliant_pod(space, f"burst-{number}") for number in range(limit + 30)]
    for pod in wanted:
        # Small ones: the number of pods is what is fought for.
        for container in (*pod["spec"]["containers"], *pod["spec"]["initContainers"]):
            container["resources"] = {"limits": {"cpu": "10m", "memory": "16Mi", "ephemeral-storage": "1Mi"}}
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda pod: policed.post(f"{path}/pods", pod, dry=False), wanted))
    made = [answer for answer in answers if answer.ok]
    refused = [answer for answer in answers if not answer.ok]
    assert len(made) == limit
    assert len(policed.admin.get(f"{path}/pods").require()["items"]) == limit
    # Under contention the server may give up on one with a conflict; it never lets it in.
    assert all(answer.status in (403, 409, 500) for answer in refused), {answer.status for answer in refused}
    assert any("exceeded quota: unjucks-quota" in str(answer.body) for answer in refused)


@pytest.mark.isolation("T-reserved-subjects")
def test_members_of_the_system_are_refused(policed: Policed) -> None:
    def body(**member: str) -> dict[str, object]:
        spec = {"tier": "starter", "members": {"owners": [member]}}
        return {"apiVersion": names.API_VERSION, "kind": "Tenant", "metadata": {"name": "reserved"}, "spec": spec}

    path = "/apis/unjucks.io/v1alpha1/tenants"
    assert policed.post(path, body(kind="Group", name="engineers")).ok
    for member in (
        {"kind": "Group", "name": "system:masters"},
        {"kind": "Group", "name": "system:authenticated"},
        {"kind": "Group", "name": "system:serviceaccounts"},
        {"kind": "User", "name": "system:kube-controller-manager"},
        {"kind": "User", "name": "system:serviceaccount:unjucks-system:unjucks-operator"},
        {"kind": "ServiceAccount", "name": "system:x", "namespace": "plain"},
    ):
        for who in (policed.admin, policed.exempt):
            answer = policed.post(path, body(**member), who=who)
            assert answer.status == 422, member
            assert "spec.members.owners[0].name" in answer.body["message"]
