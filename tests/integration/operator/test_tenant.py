"""A Tenant on a real API server: set up, kept, repaired, changed, taken down."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from support.operator_process import OperatorProcess, Site
from support.tenants import MEMBERS, children_of, database_facts, expected_children, tenant_manifest
from unjucks_api import names
from unjucks_operator.kube.api import PatchType
from unjucks_operator.kube.resources import BY_KIND, NAMESPACE, TENANT

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def operator(site: Site) -> AsyncIterator[OperatorProcess]:
    async with site.operator(sweep={"interval": 1}, deletion={"databaseGrace": 0, "requireBackup": False}) as running:
        yield running


async def ready(site: Site, name: str, **spec: Any) -> dict[str, Any]:
    await site.apply(tenant_manifest(name, **spec))
    await site.wait_for(f"tenant/{name}", "condition=Ready")
    body = await site.api.get(TENANT, name)
    assert body is not None
    return body


async def eventually(what: str, check: Any, seconds: float = 15) -> None:
    async with asyncio.timeout(seconds):
        while True:
            if await check():
                return
            await asyncio.sleep(0.1)


async def test_everything_is_there_when_it_says_ready(site: Site, operator: OperatorProcess) -> None:
    body = await ready(site, "whole")
    assert set(await children_of(site, "whole")) == expected_children("whole")
    uid = body["metadata"]["uid"]
    assert await database_facts(site, uid) == {"rows": [(names.database_role(uid), "active")], "roles": 1}
    assert body["status"]["observedGeneration"] == body["metadata"]["generation"]
    assert body["status"]["database"]["role"] == names.database_role(uid)
    line = (await site.kubectl("get", "tenant", "whole", "--no-headers")).split()
    assert line[:7] == ["whole", "starter", "True", "Reconciled", "1/1", "shared", "0/0"]


async def test_nothing_of_kopf_is_left_on_any_object(site: Site, operator: OperatorProcess) -> None:
    await ready(site, "clean")
    body = await site.api.get(TENANT, "clean")
    objects = [body, *(await children_of(site, "clean")).values()]
    for item in objects:
        assert item is not None
        metadata = {key: value for key, value in item["metadata"].items() if key != "managedFields"}
        assert "kopf" not in str(metadata).lower()


async def test_members_get_exactly_their_roles(site: Site, operator: OperatorProcess) -> None:
    await ready(site, "members")

    async def may(user: str, group: str, verb: str, what: str) -> bool:
        groups = ["--as-group", group] if group else []
        answer = await site.kubectl(
            *("auth", "can-i", verb, what, "-n", "tenant-members", "--as", user, *groups), check=False
        )
        return answer.startswith("yes")

    assert await may("ada@acme.example", "", "create", "generationjobs.unjucks.io")
    assert await may("ada@acme.example", "", "get", "secrets")
    assert await may("someone", "engineers", "create", "generationjobs.unjucks.io")
    assert not await may("someone", "engineers", "get", "secrets")
    assert await may("grace@acme.example", "", "get", "generationjobs.unjucks.io")
    assert not await may("grace@acme.example", "", "create", "generationjobs.unjucks.io")
    for user, group in (("ada@acme.example", ""), ("someone", "engineers"), ("grace@acme.example", "")):
        assert not await may(user, group, "create", "pods")
        assert not await may(user, group, "patch", "networkpolicies.networking.k8s.io")
        assert not await may(user, group, "create", "rolebindings.rbac.authorization.k8s.io")
    assert not await may("stranger", "", "get", "generationjobs.unjucks.io")


@pytest.mark.isolation("T-remove-member", state="up")
async def test_a_member_who_is_taken_off_loses_the_role_at_once(site: Site, operator: OperatorProcess) -> None:
    await ready(site, "fired")
    await site.apply(tenant_manifest("fired", members={"owners": MEMBERS["owners"]}))

    async def only_owners() -> bool:
        return {name for kind, name in await children_of(site, "fired") if kind == "RoleBinding"} == {
            names.BINDING_OWNERS
        }

    await eventually("the other bindings are gone", only_owners)
    await site.wait_for("tenant/fired", "condition=Ready")


async def test_every_deleted_child_comes_back(site: Site, operator: OperatorProcess) -> None:
    await ready(site, "deleted")
    before = await children_of(site, "deleted")
    for (kind, name), item in before.items():
        if kind != "Namespace":
            assert await site.api.delete(BY_KIND[kind], name, "tenant-deleted", uid=item["metadata"]["uid"])

    async def all_back() -> bool:
        now = await children_of(site, "deleted")
        return set(now) == set(before) and all(
            now[key]["metadata"]["uid"] != item["metadata"]["uid"]
            for key, item in before.items()
            if key[0] != "Namespace"
        )

    await eventually("all children are back", all_back)
    await site.wait_for("tenant/deleted", "condition=Ready")


EDITS: list[tuple[str, str, dict[str, Any]]] = [
    ("Namespace", "tenant-edited", {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "privileged"}}}),
    ("NetworkPolicy", names.POLICY_DENY, {"spec": {"ingress": [{}], "egress": [{}]}}),
    ("NetworkPolicy", names.POLICY_DNS, {"spec": {"egress": [{}]}}),
    ("NetworkPolicy", names.POLICY_RENDERER, {"spec": {"ingress": [{}]}}),
    ("ResourceQuota", names.QUOTA, {"spec": {"hard": {"pods": "1000"}}}),
    ("LimitRange", names.LIMITS, {"spec": {"limits": [{"type": "Container", "max": {"cpu": "64"}}]}}),
    (
        "RoleBinding",
        names.BINDING_VIEWERS,
        {"subjects": [{"kind": "Group", "name": "everybody", "apiGroup": "rbac.authorization.k8s.io"}]},
    ),
    ("ServiceAccount", names.RENDERER, {"automountServiceAccountToken": True}),
    ("Deployment", names.RENDERER, {"spec": {"replicas": 5}}),
    ("Secret", names.RENDERER, {"data": {"tls.key": "AAAA"}}),
]


@pytest.mark.parametrize(("kind", "name", "patch"), EDITS, ids=[f"{kind}-{name}" for kind, name, _ in EDITS])
@pytest.mark.isolation("T-detach-repair", state="up")
async def test_every_edit_is_taken_back(
    site: Site, operator: OperatorProcess, kind: str, name: str, patch: dict[str, Any]
) -> None:
    if await site.api.get(TENANT, "edited") is None:
        await ready(site, "edited")
    resource, namespace = BY_KIND[kind], None if kind == "Namespace" else "tenant-edited"
    before = await site.api.get(resource, name, namespace)
    assert before is not None
    await site.api.patch(resource, name, namespace, patch, patch_type=PatchType.MERGE, manager="somebody")

    async def repaired() -> bool:
        now = await site.api.get(resource, name, namespace)
        assert now is not None
        if kind == "Secret":
            return now["data"]["tls.key"] != "AAAA"
        if kind == "Namespace":
            return bool(now["metadata"]["labels"] == before["metadata"]["labels"])
        fields = [key for key in before if key not in ("metadata", "status")]
        return all(now.get(key) == before.get(key) for key in fields) and set(now) == set(before)

    await eventually(f"{kind} {name} is repaired", repaired)


@pytest.mark.isolation("T-adopt-requires-both-sides", state="up")
async def test_what_belongs_to_somebody_else_is_never_taken(site: Site, operator: OperatorProcess) -> None:
    await site.kubectl("create", "namespace", "legacy")
    await site.apply(tenant_manifest("greedy", namespaces=[{"name": "legacy"}]))
    await site.wait_for("tenant/greedy", "condition=Conflicted")
    body = await site.api.get(TENANT, "greedy")
    assert body is not None
    message = next(item["message"] for item in body["status"]["conditions"] if item["type"] == "Ready")
    assert "Namespace legacy exists already and was not made by the operator" in message
    legacy = await site.api.get(NAMESPACE, "legacy")
    assert legacy is not None
    assert names.LABEL_TENANT_UID not in legacy["metadata"]["labels"]


async def test_a_tier_with_fewer_namespaces_refuses_more(site: Site, operator: OperatorProcess) -> None:
    await site.apply(tenant_manifest("wide", namespaces=[{"name": "wide-1"}, {"name": "wide-2"}]))
    await site.wait_for("tenant/wide", "condition=Stalled")
    body = await site.api.get(TENANT, "wide")
    assert body is not None
    ready_condition = next(item for item in body["status"]["conditions"] if item["type"] == "Ready")
    assert ready_condition["reason"] == "InvalidSpec"
    assert "lists 2 namespaces; the tier starter has 1" in ready_condition["message"]
    assert await site.api.get(NAMESPACE, "wide-1") is None


async def test_a_role_that_somebody_dropped_is_made_again(site: Site, operator: OperatorProcess) -> None:
    body = await ready(site, "dropped")
    role = names.database_role(body["metadata"]["uid"])
    connection = await asyncpg.connect(site.dsn)
    try:
        await connection.execute(f'DROP OWNED BY "{role}"; DROP ROLE "{role}"')

        async def back() -> bool:
            return bool(await connection.fetchval("SELECT count(*) FROM pg_roles WHERE rolname = $1", role))

        await eventually("the role is back", back)
    finally:
        await connection.close()


async def test_retain_locks_and_keeps(site: Site, operator: OperatorProcess) -> None:
    body = await ready(site, "kept")
    await site.kubectl("delete", "tenant", "kept", "--timeout=30s")
    left = set(await children_of(site, "kept"))
    assert ("Namespace", "tenant-kept") in left
    assert ("NetworkPolicy", names.POLICY_DENY) in left
    assert not {kind for kind, _ in left} & {"RoleBinding", "Deployment", "Secret", "ServiceAccount"}
    facts = await database_facts(site, body["metadata"]["uid"])
    assert [state for _, state in facts["rows"]] == ["tombstone"]


@pytest.mark.isolation("T-reincarnation", state="up")
async def test_a_recreated_tenant_of_the_same_name_gets_nothing_of_the_old_one(
    site: Site, operator: OperatorProcess
) -> None:
    await ready(site, "again")
    await site.kubectl("delete", "tenant", "again", "--timeout=30s")
    await site.apply(tenant_manifest("again"))
    await site.wait_for("tenant/again", "condition=Conflicted")
    left = await children_of(site, "again")
    assert not {kind for kind, _ in left} & {"RoleBinding", "Deployment"}


async def test_delete_removes_namespaces_and_asks_before_rows_go(site: Site, operator: OperatorProcess) -> None:
    body = await ready(site, "gone", deletionPolicy="Delete", database={"reclaimPolicy": "Delete"})
    uid = body["metadata"]["uid"]
    await site.kubectl("delete", "tenant", "gone", "--wait=false")
    await site.wait_for("tenant/gone", "condition=DeletionHeld")
    assert await site.api.get(NAMESPACE, "tenant-gone") is None
    held = await site.api.get(TENANT, "gone")
    assert held is not None
    day = held["metadata"]["deletionTimestamp"][:10]
    assert f"unjucks.io/confirm-delete=gone@{day}" in held["status"]["deletion"]["blockedBy"][0]
    assert (await database_facts(site, uid))["rows"][0][1] == "tombstone"
    await site.kubectl("annotate", "tenant", "gone", f"unjucks.io/confirm-delete=gone@{day}")
    await site.wait_for("tenant/gone", "delete")
    facts = await database_facts(site, uid)
    assert facts["roles"] == 0
    assert [state for _, state in facts["rows"]] == ["dropped"]
