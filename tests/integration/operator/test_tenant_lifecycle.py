"""A Tenant's life on a real API server: taken over, limited, read by its members, suspended, held back from deletion."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
import yaml

from support.drift import children, delete_child, edit_child, summary, telling
from support.jobs import job_manifest, registry_manifest, wait_job
from support.operator_process import OperatorProcess, Site
from support.tenants import MEMBERS, children_of, database_facts, tenant_manifest
from unjucks_api import names
from unjucks_operator.kube.resources import EVENT, GENERATION_JOB, NAMESPACE, NETWORK_POLICY, TENANT

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]
SETTINGS: dict[str, Any] = {
    "sweep": {"interval": 2, "usage": 1},
    "deletion": {"mass": {"most": 4, "share": 1, "window": 60, "settle": 3}},
    "regions": {"served": ["eu-1", "us-1"], "database": "eu-1"},
    "tiers": {"starter": {"quota": {"generationJobs": 2}}},
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def operator(site: Site) -> AsyncIterator[OperatorProcess]:
    async with site.operator(**SETTINGS) as running:
        yield running


async def tenant(site: Site, name: str) -> dict[str, Any]:
    body = await site.api.get(TENANT, name)
    assert body is not None
    return body


async def ready(site: Site, name: str, **spec: Any) -> dict[str, Any]:
    await site.apply(tenant_manifest(name, **spec))
    await site.wait_for(f"tenant/{name}", "condition=Ready", 60)
    return await tenant(site, name)


async def condition(site: Site, name: str, kind: str) -> dict[str, Any]:
    """A condition of the tenant; waits until it is there."""

    async def found() -> dict[str, Any] | None:
        status = (await tenant(site, name)).get("status") or {}
        return next((item for item in status.get("conditions") or () if item["type"] == kind), None)

    return await eventually(found)


async def eventually(check: Callable[[], Awaitable[Any]], seconds: float = 40) -> Any:
    async with asyncio.timeout(seconds):
        while True:
            if found := await check():
                return found
            await asyncio.sleep(0.1)


async def look_again(site: Site, name: str) -> None:
    """As an administrator who does not want to wait for the next look."""
    number = (await tenant(site, name))["metadata"]["resourceVersion"]
    await site.kubectl("annotate", "tenant", name, f"{names.ANNOTATION_REQUESTED_AT}={number}", "--overwrite")


async def says(site: Site, name: str, kind: str, text: str) -> None:
    async def told() -> bool:
        return text in (await condition(site, name, kind))["message"]

    await eventually(told)


# --- namespaces -----------------------------------------------------------------------------------------------------------------


async def test_a_namespace_is_taken_over_only_by_consent_and_empty(site: Site, operator: OperatorProcess) -> None:
    await site.kubectl("create", "namespace", "attic")
    await site.kubectl("create", "rolebinding", "old-friend", "--clusterrole=edit", "--user=mallory", "-n", "attic")
    await site.kubectl("label", "namespace", "attic", "pod-security.kubernetes.io/enforce=privileged", "team=theirs")
    listed = [{"name": "house"}, {"name": "attic", "adopt": True}]
    await site.apply(tenant_manifest("adopter", tier="professional", namespaces=listed))
    await says(
        site, "adopter", "Conflicted", f"kubectl annotate namespace attic {names.ANNOTATION_ADOPTION_CONSENT}=adopter"
    )
    assert (await condition(site, "adopter", "Ready"))["reason"] == "AdoptionRefused"
    # Its own namespace has its guards meanwhile, and the other one was not touched.
    assert await site.api.get(NETWORK_POLICY, names.POLICY_DENY, "house") is not None
    assert await site.api.get(NETWORK_POLICY, names.POLICY_DENY, "attic") is None

    await site.kubectl("annotate", "namespace", "attic", f"{names.ANNOTATION_ADOPTION_CONSENT}=adopter")
    await look_again(site, "adopter")
    await says(site, "adopter", "Conflicted", "RoleBinding old-friend")
    await site.kubectl("delete", "rolebinding", "old-friend", "-n", "attic")
    before = await site.api.get(NAMESPACE, "attic")
    await look_again(site, "adopter")
    await site.wait_for("tenant/adopter", "condition=Ready", 60)
    attic = await site.api.get(NAMESPACE, "attic")
    assert before is not None
    assert attic is not None
    assert attic["metadata"]["uid"] == before["metadata"]["uid"]
    assert attic["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert attic["metadata"]["labels"]["team"] == "theirs"
    rows = (await tenant(site, "adopter"))["status"]["namespaces"]
    assert [(row["name"], row["ready"], row.get("adopted")) for row in rows] == [
        ("house", True, None),
        ("attic", True, True),
    ]


async def test_a_smaller_tier_reports_it_and_still_repairs_what_exists(site: Site, operator: OperatorProcess) -> None:
    listed = [{"name": "down-1"}, {"name": "down-2"}]
    await ready(site, "down", tier="professional", namespaces=listed)
    await site.apply(tenant_manifest("down", tier="starter", namespaces=[*listed, {"name": "down-3"}]))
    await says(site, "down", "Stalled", "lists 3 namespaces; the tier starter has 1")
    for namespace in ("down-1", "down-2"):
        policy = await site.api.get(NETWORK_POLICY, names.POLICY_DENY, namespace)
        assert policy is not None
        await site.api.delete(NETWORK_POLICY, names.POLICY_DENY, namespace, uid=policy["metadata"]["uid"])
        await eventually(lambda namespace=namespace: site.api.get(NETWORK_POLICY, names.POLICY_DENY, namespace))
    assert await site.api.get(NAMESPACE, "down-3") is None
    assert (await condition(site, "down", "Ready"))["reason"] == "InvalidSpec"
    await site.apply(tenant_manifest("down", tier="professional", namespaces=[*listed, {"name": "down-3"}]))
    await site.wait_for("tenant/down", "condition=Ready", 60)


async def test_a_region_is_kept_or_refused_and_never_changes(site: Site, operator: OperatorProcess) -> None:
    await site.apply(tenant_manifest("far", region="us-1"))
    await says(site, "far", "Ready", "the platform's database is in eu-1")
    assert await site.api.get(NAMESPACE, "tenant-far") is None
    await ready(site, "near", region="eu-1")
    deployment = (await children_of(site, "near"))["Deployment", names.RENDERER]
    assert deployment["spec"]["template"]["spec"]["nodeSelector"] == {"topology.kubernetes.io/region": "eu-1"}
    refused = await site.kubectl(
        *("patch", "tenant", "near", "--type=merge", "-p", '{"spec":{"region":"us-1"}}'), check=False
    )
    assert "a tenant stays in its region" in refused


# --- members --------------------------------------------------------------------------------------------------------------------


async def test_members_read_their_own_tenant_and_its_events_and_nobody_elses(
    site: Site, operator: OperatorProcess
) -> None:
    await ready(site, "mine")
    await ready(site, "theirs", members={"owners": [{"kind": "User", "name": "zoe@theirs.example"}]})

    async def ask(user: str, *arguments: str, groups: tuple[str, ...] = ()) -> str:
        more = [part for group in groups for part in ("--as-group", group)]
        return await site.kubectl(*arguments, "--as", user, *more, check=False)

    for user, groups in (("ada@acme.example", ()), ("eve", ("engineers",)), ("grace@acme.example", ())):
        assert "mine" in await ask(user, "get", "tenant", "mine", groups=groups)
        assert "forbidden" in (await ask(user, "get", "tenant", "theirs", groups=groups)).lower()
        assert "forbidden" in (await ask(user, "get", "tenants", groups=groups)).lower()
        assert (
            "forbidden"
            in (await ask(user, "patch", "tenant", "mine", "-p", "{}", "--type=merge", groups=groups)).lower()
        )
    waited = await ask("ada@acme.example", "wait", "tenant/mine", "--for=condition=Ready", "--timeout=10s")
    assert "condition met" in waited

    async def told() -> bool:
        events = json.loads(
            await ask("grace@acme.example", "get", "events.events.k8s.io", "-n", "tenant-mine", "-o", "json")
        )
        return any(item["regarding"]["kind"] == "Tenant" and item["reason"] == "Reconciled" for item in events["items"])

    await eventually(told)
    everywhere, _ = await site.api.list_all(EVENT)
    assert not any(
        item["regarding"]["name"] == "mine" and item["metadata"]["namespace"] == "tenant-theirs" for item in everywhere
    )

    await site.apply(tenant_manifest("mine", members={"owners": MEMBERS["owners"]}))

    async def gone() -> bool:
        return "forbidden" in (await ask("grace@acme.example", "get", "tenant", "mine")).lower()

    await eventually(gone, 10)
    assert "no" in await ask(
        "grace@acme.example", "auth", "can-i", "get", "generationjobs.unjucks.io", "-n", "tenant-mine"
    )
    assert "mine" in await ask("ada@acme.example", "get", "tenant", "mine")


# --- limits ---------------------------------------------------------------------------------------------------------------------


async def test_the_number_of_jobs_is_limited_by_the_api_server(site: Site, operator: OperatorProcess) -> None:
    await ready(site, "full", suspend=True)
    for number in range(2):
        await site.apply(job_manifest("tenant-full", f"job-{number}", {"name": "bob"}))
    refused = await site.kubectl(
        *("apply", "-f", "-"), stdin=yaml.safe_dump(job_manifest("tenant-full", "job-2", {"name": "bob"})), check=False
    )
    assert "exceeded quota: unjucks-quota, requested: count/generationjobs.unjucks.io=1" in refused


async def test_jobs_beyond_a_limit_wait_and_say_so_and_usage_tells_what_runs(
    site: Site, operator: OperatorProcess
) -> None:
    await ready(site, "paced", tier="professional", quota={"jobs": {"concurrent": 1, "perHour": 2}})
    await site.apply(registry_manifest("tenant-paced"))
    await site.wait_for("templateregistry/templates", "condition=Ready", 60, "tenant-paced")
    await site.apply(job_manifest("tenant-paced", "slow", action="slow", timeout="120s"))

    async def reason(name: str) -> str:
        body = await site.api.get(GENERATION_JOB, name, "tenant-paced")
        conditions = ((body or {}).get("status") or {}).get("conditions") or ()
        return next((f"{item['reason']}: {item['message']}" for item in conditions if item["type"] == "Ready"), "")

    async def runs() -> bool:
        return (await reason("slow")).startswith("Running")

    await eventually(runs)
    await site.apply(job_manifest("tenant-paced", "second", {"name": "bob"}))

    async def waits() -> bool:
        return "Queued: the tenant runs as many jobs" in await reason("second")

    await eventually(waits)

    async def counted() -> bool:
        usage = (await tenant(site, "paced"))["status"]["usage"]
        return bool(
            usage.get("pods") == 1 and usage["cpu"] == "50m" and usage["memory"] == "96Mi" and usage["refreshedAt"]
        )

    await eventually(counted)
    await wait_job(site, "tenant-paced", "second", 120)
    await site.apply(job_manifest("tenant-paced", "third", {"name": "bob"}))

    async def paced() -> bool:
        return "Queued: the tenant started 2 runs within the last 60 minutes" in await reason("third")

    await eventually(paced)

    async def last_hour() -> bool:
        return bool((await tenant(site, "paced"))["status"]["usage"]["jobsLastHour"] == 2)

    await eventually(last_hour)
    # More room: the one that waits starts at once.
    await site.apply(tenant_manifest("paced", tier="professional", quota={"jobs": {"concurrent": 1, "perHour": 3}}))
    await wait_job(site, "tenant-paced", "third", 60)


async def test_the_table_fits_a_terminal(site: Site, operator: OperatorProcess) -> None:
    await ready(site, "a-quite-long-name", tier="professional", costCenter="CC-1042", team="core", environment="test")
    plain = await site.kubectl("get", "tenants")
    wide = await site.kubectl("get", "tenants", "-o", "wide")
    print(f"\n{plain}\n{wide}")
    assert max(map(len, plain.splitlines())) <= 120
    header = wide.splitlines()[0]
    assert header.index("MESSAGE") <= 180
    for column in (
        "TIER",
        "READY",
        "REASON",
        "NAMESPACES",
        "DATABASE",
        "RENDERERS",
        "JOBS",
        "AGE",
        "REGION",
        "CPU",
        "MEMORY",
    ):
        assert column in header
    for item in (await children_of(site, "a-quite-long-name")).values():
        labels = item["metadata"]["labels"]
        found = {key: labels.get(f"{names.LABEL_CUSTOM_PREFIX}{key}") for key in ("team", "environment", "cost-center")}
        assert found == {"team": "core", "environment": "test", "cost-center": "CC-1042"}, item["metadata"]["name"]


@pytest.mark.timeout(480)
async def test_every_child_and_every_field_of_it_is_repaired(site: Site, operator: OperatorProcess) -> None:
    await ready(site, "drift")
    found = await children(site, "drift")
    edits = await asyncio.gather(
        *(
            edit_child(
                site,
                resource,
                body["metadata"]["name"],
                body["metadata"].get("namespace"),
                take_away=False,
                wanted=telling,
            )
            for resource, body in found
        )
    )
    repairs = [repair for repaired in edits for repair in repaired]
    kinds = {repair.kind for repair in repairs if repair.seconds is not None}
    assert kinds == {resource.kind for resource, _ in found}
    present = await children(site, "drift")
    deleted = [await delete_child(site, resource, body) for resource, body in present if resource is not NAMESPACE]
    print("\n" + json.dumps({"drift": {"edited": summary(repairs), "deleted": summary(deleted)}}))
    await site.wait_for("tenant/drift", "condition=Ready", 30)


@asynccontextmanager
async def without_policies(site: Site) -> AsyncIterator[None]:
    """The chart's admission policies are not bound meanwhile."""
    kind = "validatingadmissionpolicybindings"
    before = yaml.safe_load(await site.kubectl("get", kind, "-o", "yaml"))
    bound = [item | {"metadata": {"name": item["metadata"]["name"]}} for item in before["items"]]
    await site.kubectl("delete", kind, "--all")

    async def gone() -> bool:
        answer = await site.kubectl("delete", "tenant", "guarded", "--dry-run=server", check=False)
        return "forbidden" not in answer.lower()

    try:
        await eventually(gone)
        yield
    finally:
        await site.apply(*bound)


# --- deletion -------------------------------------------------------------------------------------------------------------------


async def test_a_protected_tenant_keeps_everything_until_it_is_unprotected(
    site: Site, operator: OperatorProcess
) -> None:
    await ready(site, "guarded", protected=True)
    before = await children_of(site, "guarded")
    assert "spec.protected" in await site.kubectl("delete", "tenant", "guarded", "--wait=false", check=False)
    async with without_policies(site):  # as for somebody who is exempt from them, or a CRD that is deleted
        await site.kubectl("delete", "tenant", "guarded", "--wait=false")
    assert (await condition(site, "guarded", "DeletionHeld"))["reason"] == "Protected"
    deny = before["NetworkPolicy", names.POLICY_DENY]
    await site.api.delete(NETWORK_POLICY, names.POLICY_DENY, "tenant-guarded", uid=deny["metadata"]["uid"])
    await eventually(lambda: site.api.get(NETWORK_POLICY, names.POLICY_DENY, "tenant-guarded"))
    assert set(await children_of(site, "guarded")) == set(before)
    plan = (await tenant(site, "guarded"))["status"]["deletion"]["plan"]
    assert [(row["what"], row["action"]) for row in plan] == [("namespace", "Retain"), ("database", "Tombstone")]
    assert plan[1]["objects"] == plan[1]["bytes"] == 0
    await site.kubectl("patch", "tenant", "guarded", "--type=merge", "-p", '{"spec":{"protected":false}}')
    await site.wait_for("tenant/guarded", "delete", 60)


async def test_what_blocks_a_deletion_is_named(site: Site, operator: OperatorProcess) -> None:
    await ready(site, "stuck", deletionPolicy="Delete")
    held = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "namespace": "tenant-stuck"}}
    held["metadata"]["finalizers"] = ["example.com/never"]  # type: ignore[index]
    await site.apply(held)
    await site.kubectl("delete", "tenant", "stuck", "--wait=false")

    async def named() -> bool:
        blocked = ((await tenant(site, "stuck")).get("status") or {}).get("deletion", {}).get("blockedBy") or []
        return any("namespace tenant-stuck" in item and "example.com/never" in item for item in blocked)

    await eventually(named)
    await ready(site, "unharmed")  # others go on
    patch = '{"metadata":{"finalizers":null}}'
    await site.kubectl("patch", "configmap", "x", "-n", "tenant-stuck", "--type=merge", "-p", patch)
    await site.wait_for("tenant/stuck", "delete", 60)


async def test_reincarnation(site: Site, operator: OperatorProcess) -> None:
    """A Tenant of the same name is somebody else: no namespace, no right, no row, no key of the old one."""
    old = await ready(site, "phoenix")
    await site.kubectl("delete", "tenant", "phoenix", "--timeout=60s")
    for again in ({}, {"namespaces": [{"name": "tenant-phoenix", "adopt": True}]}):
        await site.kubectl(
            "annotate", "namespace", "tenant-phoenix", f"{names.ANNOTATION_ADOPTION_CONSENT}=phoenix", "--overwrite"
        )
        await site.apply(tenant_manifest("phoenix", **again))
        assert (await condition(site, "phoenix", "Conflicted"))["reason"] == "OwnershipConflict"
    new = await ready(site, "phoenix", namespaces=[{"name": "ashes"}])
    assert new["metadata"]["uid"] != old["metadata"]["uid"]
    assert new["status"]["database"]["role"] != old["status"]["database"]["role"]
    facts = await database_facts(site, old["metadata"]["uid"])
    assert [state for _, state in facts["rows"]] == ["tombstone"]
    locked = await site.api.get(NAMESPACE, "tenant-phoenix")
    assert locked is not None
    assert locked["metadata"]["labels"][names.LABEL_TENANT_UID] == old["metadata"]["uid"]
    question = ("auth", "can-i", "get", "configmaps", "-n", "tenant-phoenix", "--as", "ada@acme.example")
    answer = await site.kubectl(*question, check=False)
    assert answer.startswith("no")


async def test_very_many_deletions_at_once_are_held_until_confirmed(site: Site, operator: OperatorProcess) -> None:
    victims = [f"prune-{number}" for number in range(6)]
    await site.apply(*(tenant_manifest(name) for name in victims))
    for name in victims:
        await site.wait_for(f"tenant/{name}", "condition=Ready", 60)
    await site.kubectl("delete", "tenant", *victims, "--wait=false")
    for name in victims:
        assert (await condition(site, name, "DeletionHeld"))["reason"] == "MassDeletion"
        assert ("RoleBinding", names.BINDING_OWNERS) in await children_of(site, name)
    day = (await tenant(site, victims[0]))["metadata"]["deletionTimestamp"][:10]
    await site.kubectl("annotate", "tenant", victims[0], f"{names.ANNOTATION_CONFIRM_DELETE}={victims[0]}@{day}")
    await site.wait_for(f"tenant/{victims[0]}", "delete", 60)
    assert (await condition(site, victims[1], "DeletionHeld"))["reason"] == "MassDeletion"
