"""Attacks on a running operator: on whom it takes for its own, on what it can be made to do for somebody, and on what it says."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from support.jobs import job_manifest, registry_manifest
from support.operator_process import OPERATOR_USER, OperatorProcess, Site
from support.tenants import children_of, tenant_manifest
from unjucks_api import names
from unjucks_operator.kube.resources import CONFIG_MAP, GENERATION_JOB, NAMESPACE, NETWORK_POLICY, TENANT

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def operator(site: Site) -> AsyncIterator[OperatorProcess]:
    async with site.operator(sweep={"interval": 1}, renderer={"idleAfter": 600}) as running:
        yield running


async def ready(site: Site, name: str, **spec: Any) -> dict[str, Any]:
    await site.apply(tenant_manifest(name, **spec))
    await site.wait_for(f"tenant/{name}", "condition=Ready", 60)
    return await tenant(site, name)


async def tenant(site: Site, name: str) -> dict[str, Any]:
    body = await site.api.get(TENANT, name)
    assert body is not None
    return body


def condition(body: dict[str, Any], type_: str = "Ready") -> dict[str, Any]:
    found: dict[str, Any] = next((it for it in body["status"]["conditions"] if it["type"] == type_), {})
    return found


async def eventually(check: Any, seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not await check():
            await asyncio.sleep(0.2)


@pytest.mark.isolation("T-hijack-planted", state="up")
async def test_planted_marks_make_nothing_a_tenants(site: Site, operator: OperatorProcess) -> None:
    body = await ready(site, "owner")
    uid = body["metadata"]["uid"]
    owner = {"apiVersion": names.API_VERSION, "kind": "Tenant", "name": "owner", "uid": uid}
    await site.kubectl("create", "namespace", "planted")
    await site.apply(
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": "planted",
                "labels": names.tenant_labels("owner", uid, names.COMPONENT_TENANT),
                "annotations": {names.ANNOTATION_ADOPTION_CONSENT: "owner"},
                "ownerReferences": [owner],
            },
        }
    )
    # It is looked at, by a reconcile of the whole Tenant and several sweeps.
    await site.kubectl("annotate", "tenant", "owner", f"{names.ANNOTATION_REQUESTED_AT}=now")
    await asyncio.sleep(4)
    for kind in ("rolebindings", "deployments", "serviceaccounts", "networkpolicies"):
        found = json.loads(await site.kubectl("get", kind, "-n", "planted", "-l", names.MANAGED_SELECTOR, "-o", "json"))
        rights = {item["metadata"]["name"] for item in found["items"]}
        # A namespace that looks like a retired one may be locked; nobody gets a right or a pod in it.
        assert kind == "networkpolicies" or rights == set(), kind
    assert [item["name"] for item in (await tenant(site, "owner"))["status"]["namespaces"]] == ["tenant-owner"]


@pytest.mark.isolation("T-adopt-requires-both-sides", state="up")
async def test_a_namespace_is_taken_over_only_when_both_sides_say_so(site: Site, operator: OperatorProcess) -> None:
    await site.kubectl("create", "namespace", "heritage")
    asked = tenant_manifest("adopter", namespaces=[{"name": "heritage", "adopt": True}])
    await site.apply(asked)
    await site.wait_for("tenant/adopter", "condition=Conflicted")
    # Consent for somebody else is none.
    await site.kubectl("annotate", "namespace", "heritage", f"{names.ANNOTATION_ADOPTION_CONSENT}=somebody")
    await asyncio.sleep(3)
    heritage = await site.api.get(NAMESPACE, "heritage")
    assert heritage is not None
    assert names.LABEL_TENANT not in heritage["metadata"]["labels"]
    assert await site.api.get(NETWORK_POLICY, names.POLICY_DENY, "heritage") is None
    # The control: with both it is taken over.
    await site.kubectl(
        "annotate", "--overwrite", "namespace", "heritage", f"{names.ANNOTATION_ADOPTION_CONSENT}=adopter"
    )
    await site.wait_for("tenant/adopter", "condition=Ready", 60)


@pytest.mark.isolation("T-loser-delete-keeps-winner", state="up")
async def test_the_loser_of_a_conflict_takes_nothing_along(site: Site, operator: OperatorProcess) -> None:
    await ready(site, "winner", namespaces=[{"name": "contested"}])
    before = {key: item["metadata"]["uid"] for key, item in (await children_of(site, "winner")).items()}
    await site.apply(tenant_manifest("loser", namespaces=[{"name": "contested"}], deletionPolicy="Delete"))
    await site.wait_for("tenant/loser", "condition=Conflicted")
    await site.kubectl("delete", "tenant", "loser", "--timeout=60s")
    await asyncio.sleep(2)
    after = {key: item["metadata"]["uid"] for key, item in (await children_of(site, "winner")).items()}
    assert after == before
    assert condition(await tenant(site, "winner"))["status"] == "True"


@pytest.mark.isolation("T-stuck-namespace", state="up")
async def test_a_namespace_that_cannot_go_is_named_and_holds_up_nobody(site: Site, operator: OperatorProcess) -> None:
    await ready(site, "stuck", deletionPolicy="Delete")
    hold = {"name": "hold", "namespace": "tenant-stuck", "finalizers": ["example.com/hold"]}
    await site.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": hold})
    await site.kubectl("delete", "tenant", "stuck", "--wait=false")

    async def named() -> bool:
        status = (await tenant(site, "stuck")).get("status", {})
        return "tenant-stuck" in json.dumps(
            [status.get("deletion", {}).get("blockedBy"), condition({"status": status})]
        )

    await eventually(named)
    await ready(site, "unhindered")
    patch = '{"metadata":{"finalizers":null}}'
    await site.kubectl("patch", "configmap", "hold", "-n", "tenant-stuck", "--type=merge", "-p", patch)
    await site.wait_for("tenant/stuck", "delete", 60)


@pytest.mark.isolation("T-render-clusterrole", "T-ref-other-ns", state="up")
async def test_what_templates_make_is_data_and_references_stay_at_home(site: Site, operator: OperatorProcess) -> None:
    role = (
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: rendered-by-a-tenant}\n"
        'rules: [{apiGroups: ["*"], resources: ["*"], verbs: ["*"]}]\n'
    )
    await ready(site, "author")
    await ready(site, "reader")
    files = {"_templates/greet/new/role.yaml.njk": role}
    await site.apply(registry_manifest("tenant-author", files=files), job_manifest("tenant-author", "made"))
    await site.wait_for("generationjob/made", "condition=Ready", 90, "tenant-author")
    output = await site.api.get(CONFIG_MAP, "made", "tenant-author")
    assert output is not None
    assert output["data"]["role.yaml"] == role
    assert "NotFound" in await site.kubectl("get", "clusterrole", "rendered-by-a-tenant", check=False)
    # A registry of that name exists next door, another does not exist at all: the same answer to both, and no run.
    await site.apply(
        job_manifest("tenant-reader", "next-door"), job_manifest("tenant-reader", "nowhere", registry="nothing")
    )
    answers = []
    for name in ("next-door", "nowhere"):

        async def told(name: str = name) -> bool:
            body = await site.api.get(GENERATION_JOB, name, "tenant-reader")
            return bool(body and body.get("status", {}).get("conditions") and condition(body))

        await eventually(told)
        body = await site.api.get(GENERATION_JOB, name, "tenant-reader")
        assert body is not None
        said = condition(body)
        assert said["status"] != "True"
        answers.append(
            (said["reason"], said["message"].replace("templates", "X").replace("nothing", "X").replace(name, "Y"))
        )
        assert await site.api.get(CONFIG_MAP, name, "tenant-reader") is None
    assert answers[0] == answers[1]


@pytest.mark.isolation("T-kopf-annotation-tamper", state="up")
async def test_forged_annotations_change_nothing(site: Site, operator: OperatorProcess) -> None:
    await ready(site, "tampered")
    before = set(await children_of(site, "tampered"))
    mark = await asyncio.to_thread(site.plane.audit_mark)
    for value in ("{", "null", json.dumps({"spec": {"deletionPolicy": "Delete"}}), "", "x" * 50_000):
        note = {"kopf.zalando.org/last-handled-configuration": value, f"{names.GROUP}/shape-tenant": value}
        patch = json.dumps({"metadata": {"annotations": note}})
        await site.kubectl("patch", "tenant", "tampered", "--type=merge", "-p", patch)
        await asyncio.sleep(0.5)
    await site.kubectl("annotate", "tenant", "tampered", f"{names.ANNOTATION_REQUESTED_AT}=again")
    await asyncio.sleep(3)
    writes = await asyncio.to_thread(site.plane.writes, mark, user=OPERATOR_USER)
    assert [str(write) for write in writes if write.verb.startswith("delete")] == []
    assert set(await children_of(site, "tampered")) == before
    assert condition(await tenant(site, "tampered"))["status"] == "True"
    assert operator.process.returncode is None


@pytest.mark.isolation("T-status-truth", state="up")
async def test_status_tells_of_nothing_that_is_not_there(site: Site, operator: OperatorProcess) -> None:
    two = [{"name": "truth-1"}, {"name": "truth-2"}]
    body = await ready(site, "truth", tier="professional", namespaces=two)
    assert [item["name"] for item in body["status"]["namespaces"]] == ["truth-1", "truth-2"]
    await site.apply(tenant_manifest("truth", tier="professional", namespaces=two[:1]))

    async def told() -> bool:
        status = (await tenant(site, "truth"))["status"]
        return [item["name"] for item in status["namespaces"]] == ["truth-1"]

    await eventually(told)
    # And what somebody deletes is not reported as there: it is gone from status, or made anew with another UID.
    old = await site.api.get(NAMESPACE, "truth-1")
    assert old is not None
    day = "2026-01-01"
    await site.kubectl("annotate", "namespace", "truth-1", f"{names.ANNOTATION_CONFIRM_DELETE}=truth-1@{day}")
    await site.kubectl("delete", "namespace", "truth-1", "--wait=true", "--timeout=60s")

    async def anew() -> bool:
        now = await site.api.get(NAMESPACE, "truth-1")
        listed = (await tenant(site, "truth"))["status"]["namespaces"]
        return now is not None and [it.get("uid") for it in listed] == [now["metadata"]["uid"]] != [
            old["metadata"]["uid"]
        ]

    await eventually(anew)


@pytest.mark.isolation("T-ready-never-lies", state="up")
async def test_ready_waits_for_what_it_promises(site: Site, operator: OperatorProcess) -> None:
    """The operator loses one right: whatever it cannot make is missing, and Ready says so until it is there."""
    role = json.loads(await site.kubectl("get", "clusterrole", "unjucks-operator", "-o", "json"))
    role["metadata"] = {"name": role["metadata"]["name"]}
    poorer = dict(role, rules=[rule for rule in role["rules"] if rule["resources"] != ["networkpolicies"]])
    assert len(poorer["rules"]) == len(role["rules"]) - 1
    await site.kubectl("replace", "-f", "-", stdin=json.dumps(poorer))
    try:
        await site.apply(tenant_manifest("honest"))

        async def said_so() -> bool:
            body = await tenant(site, "honest")
            return bool(body.get("status", {}).get("conditions")) and condition(body).get("status") == "False"

        await eventually(said_so)
        for _ in range(10):
            body = await tenant(site, "honest")
            assert condition(body)["status"] != "True"
            await asyncio.sleep(0.3)
        # Nothing that lets a pod in was made before its guard.
        made = await children_of(site, "honest")
        assert not {kind for kind, _ in made} & {"Deployment", "RoleBinding"}
    finally:
        await site.kubectl("replace", "-f", "-", stdin=json.dumps(role))
    # A right that is missing does not come back by waiting: whoever granted it says so.
    await site.kubectl("annotate", "tenant", "honest", f"{names.ANNOTATION_REQUESTED_AT}=again")
    await site.wait_for("tenant/honest", "condition=Ready", 90)


@pytest.mark.isolation("T-no-secret-shown", state="up")
async def test_no_credential_is_shown_anywhere(site: Site, operator: OperatorProcess) -> None:
    """Everything that the operator wrote or said in this module, except Secrets' data, is searched for what is secret."""
    await ready(site, "discreet")
    password = site.dsn.split("//")[1].split("@")[0].split(":")[-1]
    secrets = json.loads(await site.kubectl("get", "secrets", "-A", "-o", "json"))["items"]
    wanted = {password} if len(password) > 6 else set()
    wanted |= {
        value
        for item in secrets
        for key, value in (item.get("data") or {}).items()
        if not key.endswith(".crt") and len(value) > 20
    }
    assert len(wanted) > 3
    kinds = "namespaces,configmaps,tenants,generationjobs,templateregistries,events,deployments,pods,networkpolicies"
    shown = await site.kubectl("get", kinds, "-A", "-o", "json", "--show-managed-fields")
    notes = json.dumps([item["metadata"] for item in secrets])
    log = operator.log.read_text()
    for place, text in (("objects", shown), ("metadata of Secrets", notes), ("log", log)):
        assert [value[:4] for value in wanted if value in text] == [], place
    assert "-----BEGIN" not in log
    assert "PRIVATE KEY" not in shown


@pytest.mark.isolation("T-restart-no-delete", state="up")
async def test_an_operator_that_dies_while_it_starts_deletes_nothing(site: Site, operator: OperatorProcess) -> None:
    before = {name: set(await children_of(site, name)) for name in ("owner", "winner", "tampered")}
    mark = await asyncio.to_thread(site.plane.audit_mark)
    for number in range(8):
        victim = await site.start_operator()
        await asyncio.sleep(0.4 + 0.3 * number)
        victim.kill()
        await victim.process.wait()
    writes = await asyncio.to_thread(site.plane.writes, mark, user=OPERATOR_USER)
    assert [str(write) for write in writes if write.verb.startswith("delete")] == []
    assert {name: set(await children_of(site, name)) for name in before} == before
