"""What the apply rule rests on, tried for every kind of child on a real API server: signatures, no-op writes, taking back."""

from typing import Any

import pytest

from e2e.cluster.controlplane import ControlPlane
from support.kube import CHILD_KINDS, MANAGER, Kubernetes, kubernetes, sample, unique
from unjucks_api import names
from unjucks_operator.kube.api import Manifest, PatchType
from unjucks_operator.kube.child import Child
from unjucks_operator.kube.children import EXACT, ChildWriter, Outcome
from unjucks_operator.kube.resources import (
    CLUSTER_ROLE,
    CLUSTER_ROLE_BINDING,
    CONFIG_MAP,
    DEPLOYMENT,
    LIMIT_RANGE,
    NAMESPACE,
    NETWORK_POLICY,
    RESOURCE_QUOTA,
    ROLE_BINDING,
    SECRET,
    SERVICE_ACCOUNT,
    Resource,
)

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

UID = "5d9a3b1e-0000-4000-8000-000000000001"
Patch = list[dict[str, Any]]

every_kind = pytest.mark.parametrize("resource", CHILD_KINDS, ids=lambda resource: resource.kind)
both_ways = pytest.mark.parametrize("applied", [False, True], ids=["posted", "applied"])

# An edit of a field of ours that stays valid, and the removal of one.
EDITS: dict[Resource, Patch] = {
    NAMESPACE: [{"op": "replace", "path": "/metadata/labels/pod-security.kubernetes.io~1enforce", "value": "baseline"}],
    SERVICE_ACCOUNT: [{"op": "replace", "path": "/automountServiceAccountToken", "value": True}],
    RESOURCE_QUOTA: [{"op": "replace", "path": "/spec/hard/pods", "value": "1000"}],
    LIMIT_RANGE: [{"op": "replace", "path": "/spec/limits/0/max/cpu", "value": "64"}],
    NETWORK_POLICY: [{"op": "add", "path": "/spec/ingress", "value": [{}]}],
    ROLE_BINDING: [{"op": "replace", "path": "/subjects/0/name", "value": "mallory"}],
    SECRET: [{"op": "replace", "path": "/data/tls.key", "value": "ZXZpbA=="}],
    CONFIG_MAP: [{"op": "replace", "path": "/data/a", "value": "evil"}],
    DEPLOYMENT: [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "evil.example/x"}],
}
REMOVALS: dict[Resource, Patch] = {
    NAMESPACE: [{"op": "remove", "path": "/metadata/labels/pod-security.kubernetes.io~1enforce"}],
    SERVICE_ACCOUNT: [{"op": "remove", "path": "/automountServiceAccountToken"}],
    RESOURCE_QUOTA: [{"op": "remove", "path": "/spec/hard/pods"}],
    LIMIT_RANGE: [{"op": "replace", "path": "/spec/limits", "value": []}],
    NETWORK_POLICY: [{"op": "replace", "path": "/spec/policyTypes", "value": ["Egress"]}],
    ROLE_BINDING: [{"op": "remove", "path": "/subjects"}],
    SECRET: [{"op": "remove", "path": "/data/tls.key"}],
    CONFIG_MAP: [{"op": "remove", "path": "/data/a"}],
    DEPLOYMENT: [{"op": "remove", "path": "/spec/template/spec/containers/0/env"}],
}
STATUSES: dict[Resource, Manifest] = {
    NAMESPACE: {"status": {"conditions": [{"type": "NamespaceContentRemaining", "status": "False"}]}},
    RESOURCE_QUOTA: {"status": {"hard": {"pods": "10"}, "used": {"pods": "3"}}},
    DEPLOYMENT: {"status": {"replicas": 0, "conditions": [{"type": "Available", "status": "True"}]}},
}


async def _made(system: Kubernetes, resource: Resource, *, applied: bool) -> tuple[Manifest, Child]:
    """A child in a namespace of its own: as POST leaves it, or as server-side apply does."""
    namespace = unique("own")
    if resource is not NAMESPACE:
        await system.apply(sample(NAMESPACE, namespace, UID))
    manifest = sample(resource, namespace, UID)
    assert await system.apply(manifest) is Outcome.CREATED
    if applied:
        # A change of shape promotes; the second one makes it the plain sample again.
        changed = manifest | {"metadata": manifest["metadata"] | {"annotations": {f"{names.GROUP}/more": "1"}}}
        assert await system.apply(changed) is Outcome.APPLIED
        assert await system.apply(manifest) is Outcome.APPLIED
        assert system.child(manifest).posted_by == ()
    return manifest, system.child(manifest)


async def _stranger(system: Kubernetes, manifest: Manifest, body: Any, patch_type: PatchType, **options: Any) -> Child:
    place = manifest["metadata"]
    live = await system.api.patch(
        system.child(manifest).resource,
        place["name"],
        place.get("namespace"),
        body,
        patch_type=patch_type,
        manager="kubectl-edit",
        **options,
    )
    return await system.seen(live)


@every_kind
@both_ways
async def test_after_a_restart_everything_is_sent_once_and_nothing_changes(
    bare_plane: ControlPlane, resource: Resource, applied: bool
) -> None:
    async with kubernetes(bare_plane, {NAMESPACE, resource}) as system:
        manifest, before = await _made(system, resource, applied=applied)
        restarted = ChildWriter(system.api, system.stores)
        assert not restarted.is_settled(manifest, MANAGER)
        assert await restarted.apply(manifest, MANAGER) is Outcome.UNCHANGED
        assert restarted.is_settled(manifest, MANAGER)
        assert await restarted.apply(manifest, MANAGER) is Outcome.SKIPPED
        live = await system.live(manifest)
        assert live["metadata"]["resourceVersion"] == str(before.resource_version)


@every_kind
@both_ways
@pytest.mark.parametrize("drift", [EDITS, REMOVALS], ids=["edited", "removed"])
async def test_drift_of_our_fields_shows_in_the_signature_and_is_taken_back(
    bare_plane: ControlPlane, resource: Resource, applied: bool, drift: dict[Resource, Patch]
) -> None:
    async with kubernetes(bare_plane, {NAMESPACE, resource}) as system:
        manifest, before = await _made(system, resource, applied=applied)
        wanted = await system.live(manifest)
        drifted = await _stranger(system, manifest, drift[resource], PatchType.JSON)
        assert drifted.signature != before.signature
        assert not system.writer.is_settled(manifest, MANAGER)
        assert await system.apply(manifest) in (Outcome.APPLIED, Outcome.REPLACED)
        repaired = await system.live(manifest)
        for part in (wanted, repaired):
            for key in ("resourceVersion", "managedFields", "generation"):
                part["metadata"].pop(key, None)
            part.pop("status", None)
        assert repaired == wanted
        assert await system.apply(manifest) is Outcome.SKIPPED


@every_kind
@both_ways
async def test_foreign_labels_do_not_disturb(bare_plane: ControlPlane, resource: Resource, applied: bool) -> None:
    async with kubernetes(bare_plane, {NAMESPACE, resource}) as system:
        manifest, before = await _made(system, resource, applied=applied)
        labels = {"metadata": {"labels": {"team": "x"}, "annotations": {"who.example/note": "y"}}}
        child = await _stranger(system, manifest, labels, PatchType.MERGE)
        assert child.resource_version > before.resource_version
        assert child.signature == before.signature
        assert system.writer.is_settled(manifest, MANAGER)
        assert child.labels["team"] == "x"
        assert "who.example/note" not in child.annotations


@pytest.mark.parametrize("resource", STATUSES, ids=lambda resource: resource.kind)
@both_ways
async def test_status_does_not_disturb(bare_plane: ControlPlane, resource: Resource, applied: bool) -> None:
    async with kubernetes(bare_plane, {NAMESPACE, resource}) as system:
        manifest, before = await _made(system, resource, applied=applied)
        child = await _stranger(system, manifest, STATUSES[resource], PatchType.MERGE, subresource="status")
        assert child.resource_version > before.resource_version
        assert child.signature == before.signature
        assert await system.apply(manifest) is Outcome.SKIPPED


ADDITIONS: dict[Resource, Manifest] = {
    RESOURCE_QUOTA: {"spec": {"scopes": ["BestEffort"], "hard": {"services": "1"}}},
    NETWORK_POLICY: {"spec": {"ingress": [{"from": [{"namespaceSelector": {}}]}]}},
    LIMIT_RANGE: {"spec": {"limits": [{"type": "Pod", "max": {"cpu": "64"}}]}},
    ROLE_BINDING: {"subjects": [{"kind": "User", "name": "mallory", "apiGroup": "rbac.authorization.k8s.io"}]},
    CLUSTER_ROLE: {"rules": [{"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get"]}]},
    CLUSTER_ROLE_BINDING: {"subjects": [{"kind": "User", "name": "mallory", "apiGroup": "rbac.authorization.k8s.io"}]},
    DEPLOYMENT: {"spec": {"template": {"spec": {"dnsPolicy": "Default", "hostNetwork": True}}}},
}

# The same name and our labels, but different where the server lets nobody change it.
STAND_INS: dict[Resource, Manifest] = {
    ROLE_BINDING: {
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
    },
    CLUSTER_ROLE_BINDING: {
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
    },
    SECRET: {"immutable": True, "data": {"tls.key": "ZXZpbA=="}},
}


@pytest.mark.parametrize(
    "resource", sorted(EXACT, key=lambda resource: resource.kind), ids=lambda resource: resource.kind
)
@both_ways
async def test_what_somebody_adds_to_an_exact_kind_goes_again(
    bare_plane: ControlPlane, resource: Resource, applied: bool
) -> None:
    async with kubernetes(bare_plane, {NAMESPACE, resource}) as system:
        namespace = unique("exact")
        await system.apply(sample(NAMESPACE, namespace, UID))
        manifest = sample(resource, namespace, UID)
        if resource is NETWORK_POLICY:  # nothing of ours where the addition goes, so only an added field shows
            manifest["spec"] = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
        if resource is RESOURCE_QUOTA:
            manifest["spec"] = {"hard": {"pods": "10"}}
        await system.apply(manifest)
        if applied:
            manifest["metadata"]["annotations"] = {f"{names.GROUP}/more": "1"}
            await system.apply(manifest)
        wanted = await system.live(manifest)
        addition = {"spec": {"hard": {"services": "1"}}} if resource is RESOURCE_QUOTA else ADDITIONS[resource]
        added = await _stranger(system, manifest, addition, PatchType.MERGE)
        assert not system.writer.is_settled(manifest, MANAGER)
        assert await system.apply(manifest) in (Outcome.APPLIED, Outcome.REPLACED)
        repaired = await system.live(manifest)
        for section in wanted.keys() - {"metadata", "status"}:
            assert repaired[section] == wanted[section]
        assert int(repaired["metadata"]["resourceVersion"]) > added.resource_version
        assert await system.apply(manifest) is Outcome.SKIPPED
        # The same addition by the same stranger once more is seen again.
        await _stranger(system, manifest, addition, PatchType.MERGE)
        assert await system.apply(manifest) in (Outcome.APPLIED, Outcome.REPLACED)


async def test_containers_and_volumes_that_somebody_adds_to_a_deployment_go_again(bare_plane: ControlPlane) -> None:
    async with kubernetes(bare_plane, {NAMESPACE, DEPLOYMENT}) as system:
        manifest, _ = await _made(system, DEPLOYMENT, applied=False)
        wanted = await system.live(manifest)
        pod = "/spec/template/spec"
        intruders = [
            {"op": "add", "path": f"{pod}/containers/0", "value": {"name": "evil", "image": "evil.example/x"}},
            {
                "op": "add",
                "path": f"{pod}/initContainers",
                "value": [{"name": "evil-first", "image": "evil.example/x"}],
            },
            {"op": "add", "path": f"{pod}/volumes", "value": [{"name": "evil", "hostPath": {"path": "/"}}]},
            {"op": "add", "path": f"{pod}/containers/1/env/-", "value": {"name": "B", "value": "2"}},
            {"op": "replace", "path": f"{pod}/terminationGracePeriodSeconds", "value": 3600},
            {"op": "add", "path": f"{pod}/containers/1/command", "value": ["sh"]},
        ]
        await _stranger(system, manifest, intruders, PatchType.JSON)
        assert await system.apply(manifest) is Outcome.REPLACED
        assert (await system.live(manifest))["spec"] == wanted["spec"]
        assert await system.apply(manifest) is Outcome.SKIPPED


@pytest.mark.parametrize("resource", STAND_INS, ids=lambda resource: resource.kind)
async def test_a_stand_in_that_nobody_can_change_is_deleted_and_made_again(
    bare_plane: ControlPlane, resource: Resource
) -> None:
    async with kubernetes(bare_plane, {NAMESPACE, resource}) as system:
        manifest, _ = await _made(system, resource, applied=False)
        wanted = await system.live(manifest)
        assert await system.writer.delete(system.child(manifest))
        made = await system.api.create(manifest | STAND_INS[resource], manager="kubectl")
        assert made is not None
        await system.seen(made)
        assert await system.apply(manifest) is Outcome.REPLACED
        live = await system.live(manifest)
        for section in wanted.keys() - {"metadata"}:
            assert live[section] == wanted[section]
        assert "immutable" not in live
        assert await system.apply(manifest) is Outcome.SKIPPED


@every_kind
async def test_what_a_plan_drops_is_removed(bare_plane: ControlPlane, resource: Resource) -> None:
    async with kubernetes(bare_plane, {NAMESPACE, resource}) as system:
        manifest, _ = await _made(system, resource, applied=False)
        manifest["metadata"]["labels"]["extra"] = "1"
        assert await system.apply(manifest) is Outcome.APPLIED
        assert (await system.live(manifest))["metadata"]["labels"]["extra"] == "1"
        del manifest["metadata"]["labels"]["extra"]
        assert await system.apply(manifest) is Outcome.APPLIED
        live = await system.live(manifest)
        assert "extra" not in live["metadata"]["labels"]
        assert system.child(manifest).posted_by == ()
        assert await system.apply(manifest) is Outcome.SKIPPED
