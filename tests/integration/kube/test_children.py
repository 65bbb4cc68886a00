"""The child writer on a real API server: whose object is it, races, deletions, echoes."""

import asyncio
from typing import Any

import pytest

from e2e.cluster.controlplane import ControlPlane
from support.kube import FAST, MANAGER, Kubernetes, client, kubernetes, sample, unique, until
from unjucks_api import names
from unjucks_api.reasons import Reason
from unjucks_operator.errors import InvalidSpec, OwnershipConflict, Waiting
from unjucks_operator.kube.api import Manifest, PatchType
from unjucks_operator.kube.child import Child, to_child
from unjucks_operator.kube.children import ChildWriter, Outcome
from unjucks_operator.kube.client import KubeClient
from unjucks_operator.kube.config import from_kubeconfig
from unjucks_operator.kube.resources import (
    CONFIG_MAP,
    DEPLOYMENT,
    NAMESPACE,
    NETWORK_POLICY,
    SECRET,
    SERVICE_ACCOUNT,
    Resource,
)
from unjucks_operator.kube.store import ChildStore

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

UID = "5d9a3b1e-0000-4000-8000-000000000001"
OTHER_UID = "5d9a3b1e-0000-4000-8000-000000000002"
KINDS = (NAMESPACE, CONFIG_MAP)


async def _home(system: Kubernetes) -> str:
    namespace = unique("children")
    await system.apply(sample(NAMESPACE, namespace, UID))
    return namespace


def _config_map(namespace: str, uid: str = UID, **data: str) -> Manifest:
    manifest = sample(CONFIG_MAP, namespace, uid)
    if data:
        manifest["data"] = data
    return manifest


def _blind(api: KubeClient, *known: Child) -> ChildWriter:
    """A writer whose informer is late: its store holds these children and hears nothing."""
    store = ChildStore(lambda child: None)
    for child in known:
        store.put(child)
    return ChildWriter(api, {CONFIG_MAP: store})


async def _recreate(system: Kubernetes, manifest: Manifest, by: Manifest, manager: str) -> Manifest:
    child = system.child(manifest)
    assert await system.writer.delete(child)
    made = await system.api.create(by, manager=manager)
    assert made is not None
    return made


async def test_a_strangers_object_is_never_touched(bare_plane: ControlPlane) -> None:
    async with kubernetes(bare_plane, KINDS) as system:
        manifest = _config_map(await _home(system))
        foreign = manifest | {"metadata": {"name": "sample", "namespace": manifest["metadata"]["namespace"]}}
        before = await system.api.create(foreign, manager="kubectl")
        with pytest.raises(OwnershipConflict) as caught:
            await system.apply(manifest)
        assert f"ConfigMap {manifest['metadata']['namespace']}/sample exists already" in caught.value.message
        assert "Delete or rename it" in caught.value.message
        assert await system.live(manifest) == before


async def test_another_tenants_object_is_never_touched(bare_plane: ControlPlane) -> None:
    async with kubernetes(bare_plane, KINDS) as system:
        manifest = _config_map(await _home(system))
        await system.apply(manifest)
        before = await system.live(manifest)
        theirs = _config_map(manifest["metadata"]["namespace"], OTHER_UID)
        with pytest.raises(OwnershipConflict, match="belongs to another tenant"):
            await ChildWriter(system.api, system.stores).apply(theirs, MANAGER)
        assert await system.live(manifest) == before


async def test_our_own_object_that_the_store_does_not_know_yet_is_applied(bare_plane: ControlPlane) -> None:
    async with kubernetes(bare_plane, KINDS) as system:
        manifest = _config_map(await _home(system))
        await system.apply(manifest)
        assert await _blind(system.api).apply(manifest, MANAGER) is Outcome.UNCHANGED
        changed = _config_map(manifest["metadata"]["namespace"], a="2", b="3")
        assert await _blind(system.api).apply(changed, MANAGER) is Outcome.APPLIED
        assert (await system.live(manifest))["data"] == {"a": "2", "b": "3"}


@pytest.mark.parametrize("posted", [True, False])
async def test_an_object_that_a_stranger_put_in_place_of_ours_is_not_merged_into(
    bare_plane: ControlPlane, posted: bool
) -> None:
    async with kubernetes(bare_plane, KINDS) as system:
        manifest = _config_map(await _home(system))
        await system.apply(manifest)
        if not posted:
            manifest["data"]["c"] = "3"
            await system.apply(manifest)
        late = _blind(system.api, system.child(manifest))
        foreign = {"apiVersion": "v1", "kind": "ConfigMap", "data": {"z": "theirs"}}
        foreign["metadata"] = {"name": "sample", "namespace": manifest["metadata"]["namespace"]}
        made = await _recreate(system, manifest, foreign, "kubectl")
        with pytest.raises(OwnershipConflict):
            await late.apply(manifest, MANAGER)
        assert await system.live(manifest) == made


@pytest.mark.parametrize("posted", [True, False])
async def test_an_object_deleted_behind_our_back_is_made_again(bare_plane: ControlPlane, posted: bool) -> None:
    async with kubernetes(bare_plane, KINDS) as system:
        manifest = _config_map(await _home(system))
        await system.apply(manifest)
        if not posted:
            manifest["data"]["c"] = "3"
            await system.apply(manifest)
        stale = system.child(manifest)
        late = _blind(system.api, stale)
        assert await system.writer.delete(stale)
        assert await late.apply(manifest, MANAGER) is Outcome.CREATED
        assert (await system.live(manifest))["metadata"]["uid"] != stale.uid
        assert await late.apply(manifest, MANAGER) is Outcome.SKIPPED


async def test_an_object_that_another_process_of_ours_made_again_is_applied(bare_plane: ControlPlane) -> None:
    async with kubernetes(bare_plane, KINDS) as system:
        manifest = _config_map(await _home(system))
        await system.apply(manifest)
        late = _blind(system.api, system.child(manifest))
        made = await _recreate(system, manifest, _config_map(manifest["metadata"]["namespace"], old="1"), MANAGER)
        assert await late.apply(manifest, MANAGER) is Outcome.APPLIED
        live = await system.live(manifest)
        assert live["metadata"]["uid"] == made["metadata"]["uid"]
        assert live["data"]["a"] == "1"


async def test_an_object_on_its_way_out_is_waited_for(bare_plane: ControlPlane) -> None:
    async with kubernetes(bare_plane, KINDS) as system:
        namespace = await _home(system)
        manifest = _config_map(namespace)
        manifest["metadata"]["finalizers"] = ["who.example/hold"]
        await system.apply(manifest)
        held = system.child(manifest)
        assert await system.writer.delete(held)
        await until(lambda: system.child(manifest).deleting, "the deletion in the store")
        assert not system.writer.is_settled(manifest, MANAGER)
        with pytest.raises(Waiting, match="is being deleted"):
            await system.apply(manifest)
        assert (CONFIG_MAP, True) in [(resource, new.deleting) for resource, _, new in system.events if new]

        live = await system.live(manifest)
        await system.api.set_finalizers(
            CONFIG_MAP, "sample", namespace, [], resource_version=live["metadata"]["resourceVersion"]
        )
        await until(lambda: not len(system.stores[CONFIG_MAP].in_namespace(namespace)), "the deletion")
        assert system.events[-1][2] is None
        assert await system.apply(manifest) is Outcome.CREATED


async def test_a_terminating_namespace_has_its_own_reason(bare_plane: ControlPlane) -> None:
    async with kubernetes(bare_plane, KINDS) as system:
        namespace = await _home(system)
        place = sample(NAMESPACE, namespace, UID)
        await system.writer.delete(system.child(place))  # no controller here, so it stays in this state
        await until(lambda: system.child(place).deleting, "the deletion in the store")
        with pytest.raises(Waiting) as caught:
            await system.apply(place)
        assert caught.value.reason is Reason.NAMESPACE_TERMINATING
        with pytest.raises(Waiting) as caught:
            await system.apply(_config_map(namespace))
        assert caught.value.reason is Reason.NAMESPACE_TERMINATING


async def test_delete_takes_exactly_the_object_it_was_given(bare_plane: ControlPlane) -> None:
    async with kubernetes(bare_plane, KINDS) as system:
        manifest = _config_map(await _home(system))
        await system.apply(manifest)
        first = system.child(manifest)
        assert await system.writer.delete(first)
        assert not await system.writer.delete(first)
        await until(lambda: not system.stores[CONFIG_MAP].in_namespace(first.namespace), "the deletion")
        await system.apply(manifest)
        assert not await system.writer.delete(first)
        assert (await system.live(manifest))["metadata"]["uid"] != first.uid


async def test_a_label_that_was_taken_off_comes_back(bare_plane: ControlPlane) -> None:
    async with kubernetes(bare_plane, KINDS) as system:
        manifest = _config_map(await _home(system))
        await system.apply(manifest)
        uid = system.child(manifest).uid
        namespace = manifest["metadata"]["namespace"]
        strip = {"metadata": {"labels": {names.LABEL_MANAGED_BY: None, names.LABEL_TENANT_UID: None}}}
        await system.api.patch(
            CONFIG_MAP, "sample", namespace, strip, patch_type=PatchType.MERGE, manager="kubectl-edit"
        )
        await until(lambda: not system.stores[CONFIG_MAP].in_namespace(namespace), "it left our selector")
        assert system.events[-1][1:] == (system.events[-1][1], None)
        assert await system.apply(manifest) is Outcome.APPLIED
        live = await system.live(manifest)
        assert live["metadata"]["uid"] == uid
        assert live["metadata"]["labels"] == manifest["metadata"]["labels"]


async def test_a_namespace_is_adopted_only_with_the_uid_that_was_agreed(bare_plane: ControlPlane) -> None:
    async with kubernetes(bare_plane, KINDS) as system:
        name = unique("legacy")
        bare: Manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"old": "1"}}}
        made = await system.api.create(bare, manager="kubectl")
        assert made is not None
        wanted = sample(NAMESPACE, name, UID)
        for adopt in (None, OTHER_UID):
            with pytest.raises(OwnershipConflict):
                await system.apply(wanted, adopt=adopt)
        assert await system.live(wanted) == made
        assert await system.apply(wanted, adopt=made["metadata"]["uid"]) is Outcome.APPLIED
        labels = (await system.live(wanted))["metadata"]["labels"]
        assert labels["old"] == "1"
        assert labels.items() >= wanted["metadata"]["labels"].items()
        assert await system.apply(wanted) is Outcome.SKIPPED

        with pytest.raises(OwnershipConflict, match="another tenant"):
            await ChildWriter(system.api, system.stores).apply(
                sample(NAMESPACE, name, OTHER_UID), MANAGER, adopt=made["metadata"]["uid"]
            )


class _LateAnswers(KubeClient):
    """The real client, but answers to writes arrive only after the informer has seen the write (and ``meanwhile`` ran)."""

    system: Kubernetes

    async def create(self, manifest: Manifest, **options: Any) -> Manifest | None:
        return await self._late(await super().create(manifest, **options))

    async def apply(self, manifest: Manifest, **options: Any) -> Manifest:
        answer = await self._late(await super().apply(manifest, **options))
        assert answer is not None
        return answer

    async def patch(self, resource: Resource, name: str, namespace: str | None, body: Any, **options: Any) -> Manifest:
        answer = await self._late(await super().patch(resource, name, namespace, body, **options))
        assert answer is not None
        return answer

    async def _late(self, answer: Manifest | None) -> Manifest | None:
        if answer is not None and answer["metadata"]["name"] == "sample":
            place = answer["metadata"]
            store = self.system.stores[CONFIG_MAP]

            def seen() -> bool:
                child = store.get(place["namespace"], place["name"])
                return child is not None and child.resource_version >= int(place["resourceVersion"])

            await until(seen, "the event before the answer")
            await self.meanwhile(answer)
        return answer

    async def meanwhile(self, answer: Manifest) -> None:
        """Overridden where something else happens in between."""


def _versions(events: list[tuple[Resource, Child | None, Child | None]], manifest: Manifest) -> list[int]:
    """The versions of that ConfigMap of which these events told."""
    key = manifest["metadata"]["namespace"], manifest["metadata"]["name"]
    return [new.resource_version for resource, _, new in events if resource is CONFIG_MAP and new and new.key == key]


def _late_client(plane: ControlPlane, kind: type[_LateAnswers] = _LateAnswers) -> _LateAnswers:
    return kind(*from_kubeconfig(plane.kubeconfig), limits=FAST)


async def test_events_of_our_own_writes_wake_nobody_even_when_they_overtake_the_answer(
    bare_plane: ControlPlane,
) -> None:
    late = _late_client(bare_plane)
    async with kubernetes(bare_plane, KINDS, api=late) as system:
        late.system = system
        manifest = _config_map(await _home(system))
        assert await system.apply(manifest) is Outcome.CREATED
        manifest["data"]["a"] = "2"
        assert await system.apply(manifest) is Outcome.APPLIED  # a patch
        manifest["data"]["c"] = "3"
        assert await system.apply(manifest) is Outcome.APPLIED  # a promotion and an apply
        manifest["data"]["d"] = "4"
        assert await system.apply(manifest) is Outcome.APPLIED  # an apply
        # At least: created, promoted, applied twice (the patch changed nothing that is kept, apart from the version).
        assert len(_versions(system.raw_events, manifest)) >= 4
        assert _versions(system.events, manifest) == []

        place = manifest["metadata"]
        edit = {"data": {"a": "evil"}}
        live = await system.api.patch(
            CONFIG_MAP, "sample", place["namespace"], edit, patch_type=PatchType.MERGE, manager="kubectl-edit"
        )
        await system.seen(live)
        assert _versions(system.events, manifest) == [int(live["metadata"]["resourceVersion"])]


async def test_somebody_elses_write_during_ours_is_told_afterwards(bare_plane: ControlPlane) -> None:
    class Meddled(_LateAnswers):
        edits: list[int]

        async def meanwhile(self, answer: Manifest) -> None:
            if not self.edits:
                self.edits.append(0)
                place = answer["metadata"]
                edit = {"data": {"a": "evil"}}
                async with client(bare_plane) as other:
                    live = await other.patch(
                        CONFIG_MAP,
                        "sample",
                        place["namespace"],
                        edit,
                        patch_type=PatchType.MERGE,
                        manager="kubectl-edit",
                    )
                self.edits[0] = int(live["metadata"]["resourceVersion"])
                await self.system.seen(live)
                # Still on its way for everybody who listens: the write that it disturbs is not over.
                assert _versions(self.system.events, live) == []

    late = Meddled(*from_kubeconfig(bare_plane.kubeconfig), limits=FAST)
    late.edits = []
    async with kubernetes(bare_plane, KINDS, api=late) as system:
        late.system = system
        manifest = _config_map(await _home(system))
        assert await system.apply(manifest) is Outcome.CREATED
        assert _versions(system.events, manifest) == late.edits
        assert not system.writer.is_settled(manifest, MANAGER)
        assert await system.apply(manifest) is Outcome.APPLIED
        assert (await system.live(manifest))["data"]["a"] == "1"


async def test_a_promotion_that_collides_with_another_write_starts_again(bare_plane: ControlPlane) -> None:
    class Colliding(KubeClient):
        collisions = 0

        async def get(self, resource: Resource, name: str, *arguments: Any, **options: Any) -> Manifest | None:
            found = await super().get(resource, name, *arguments, **options)
            if name == "sample" and self.collisions == 0:
                self.collisions = 1
                assert found is not None
                place = found["metadata"]
                label = {"metadata": {"labels": {"team": "x"}}}
                await super().patch(
                    resource,
                    name,
                    place["namespace"],
                    label,
                    patch_type=PatchType.MERGE,
                    manager="kubectl-label",
                )
            return found

    api = Colliding(*from_kubeconfig(bare_plane.kubeconfig), limits=FAST)
    async with kubernetes(bare_plane, KINDS, api=api) as system:
        manifest = _config_map(await _home(system))
        await system.apply(manifest)
        del manifest["data"]["b"]
        assert await system.apply(manifest) is Outcome.APPLIED
        assert api.collisions == 1
        live = await system.live(manifest)
        assert live["data"] == {"a": "1"}
        assert live["metadata"]["labels"]["team"] == "x"


async def test_two_concerns_share_an_object_without_fighting(bare_plane: ControlPlane) -> None:
    async with kubernetes(bare_plane, KINDS) as system:
        namespace = await _home(system)
        manifest = _config_map(namespace, a="1")
        other = manifest | {"data": {"b": "2"}}
        await system.apply(manifest)
        assert await system.apply(other, names.MANAGER_RENDERER) is Outcome.APPLIED
        for _ in range(2):  # each looks once more because the other's entry is new, then both are at rest
            await system.apply(manifest)
            await system.apply(other, names.MANAGER_RENDERER)
        assert await system.apply(manifest) is Outcome.SKIPPED
        assert await system.apply(other, names.MANAGER_RENDERER) is Outcome.SKIPPED
        assert (await system.live(manifest))["data"] == {"a": "1", "b": "2"}


async def test_a_deployment_is_kept_whole_but_for_who_wrote_it(bare_plane: ControlPlane) -> None:
    async with kubernetes(bare_plane, (NAMESPACE, DEPLOYMENT)) as system:
        manifest = sample(DEPLOYMENT, await _home(system), UID)
        await system.apply(manifest)
        kept = system.child(manifest).full
        assert kept is not None
        assert kept["spec"] == (await system.live(manifest))["spec"]
        assert "managedFields" not in kept["metadata"]


async def test_one_request_for_each_write_that_needs_one(bare_plane: ControlPlane) -> None:
    calls: list[str] = []
    api = client(bare_plane, observe=lambda verb, plural, code, seconds: calls.append(f"{verb} {plural} {code}"))
    async with kubernetes(bare_plane, (NAMESPACE, CONFIG_MAP, NETWORK_POLICY, SERVICE_ACCOUNT), api=api) as system:
        namespace = await _home(system)
        calls.clear()
        manifests = [sample(kind, namespace, UID) for kind in (CONFIG_MAP, SERVICE_ACCOUNT)]
        for manifest in manifests:
            await system.apply(manifest)
        for manifest in manifests:
            await system.apply(manifest)
        manifests[0]["data"]["a"] = "2"
        await system.apply(manifests[0])
        assert calls == ["create configmaps 201", "create serviceaccounts 201", "patch configmaps 200"]
        assert system.writer.counts == {Outcome.CREATED: 3, Outcome.SKIPPED: 2, Outcome.APPLIED: 1}

        # Defaults of the server look like additions once; afterwards they are known.
        calls.clear()
        for name in ("first", "second", "third"):
            await system.apply(sample(NETWORK_POLICY, namespace, UID, name))
        assert calls == [
            "create networkpolicies 201",
            "patch networkpolicies 200",
            "create networkpolicies 201",
            "create networkpolicies 201",
        ]


async def test_secret_data_is_never_kept_nor_quoted(bare_plane: ControlPlane) -> None:
    async with kubernetes(bare_plane, (NAMESPACE, SECRET)) as system:
        namespace = await _home(system)
        manifest = sample(SECRET, namespace, UID)
        await system.apply(manifest)
        child = system.child(manifest)
        assert child.full is None
        assert "czNjcmV0" not in repr(child)
        live = await system.live(manifest)
        assert "czNjcmV0" not in str(live["metadata"])
        broken = sample(SECRET, namespace, UID, "broken")
        broken["data"]["tls.key"] = "hunter2-is-no-base64!"
        with pytest.raises(InvalidSpec) as caught:
            await system.apply(broken)
        assert "hunter2" not in caught.value.message
        assert f"Secret {namespace}/broken" in caught.value.message


async def test_writes_to_different_objects_run_at_the_same_time(bare_plane: ControlPlane) -> None:
    async with kubernetes(bare_plane, KINDS) as system:
        namespace = await _home(system)
        manifests = [sample(CONFIG_MAP, namespace, UID, f"many-{number}") for number in range(50)]
        outcomes = await asyncio.gather(*(system.apply(manifest) for manifest in manifests))
        assert set(outcomes) == {Outcome.CREATED}
        assert len(system.stores[CONFIG_MAP].in_namespace(namespace)) == 50
        assert len(system.stores[CONFIG_MAP].indexed(UID)) >= 50
        assert set(await asyncio.gather(*(system.apply(manifest) for manifest in manifests))) == {Outcome.SKIPPED}
        live, _ = await system.api.list_all(CONFIG_MAP, namespace=namespace)
        children = {to_child(CONFIG_MAP, found).signature for found in live}
        assert children == {system.child(manifest).signature for manifest in manifests}
