"""What the Tenant planner really writes, on a control plane with its controllers: one write each, and then rest."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from e2e.cluster.controlplane import ControlPlane
from support.builders import tenant
from support.kube import CHILD_KINDS, Kubernetes, client, kubernetes, unique, until
from unjucks_api import names
from unjucks_operator.config import Config
from unjucks_operator.kube.api import Manifest
from unjucks_operator.kube.children import ChildWriter, Outcome
from unjucks_operator.kube.resources import CLUSTER_ROLE, CLUSTER_ROLE_BINDING, DEPLOYMENT, RESOURCE_QUOTA
from unjucks_operator.planning import Apply, IssueCertificate
from unjucks_operator.tenant.desired import Scope
from unjucks_operator.tenant.plan import Observed, plan_tenant

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

CONFIG = Config()

KINDS = (*CHILD_KINDS, CLUSTER_ROLE, CLUSTER_ROLE_BINDING)


def _planned(name: str, tier: str, **spec: Any) -> list[tuple[Manifest, str]]:
    body = {"tier": tier, "members": {"owners": [{"kind": "User", "name": "ada"}]}} | spec
    scope = Scope(tenant(name, spec=body, uid=f"uid-of-{name}"), CONFIG.tiers[tier], CONFIG)
    plan = plan_tenant(scope, Observed(children={}, now=datetime(2030, 1, 1, tzinfo=UTC)))
    wanted: list[tuple[Manifest, str]] = []
    for stage in plan.stages:
        for action in stage.actions:
            if isinstance(action, Apply):
                wanted.append((action.manifest, action.manager))
            elif isinstance(action, IssueCertificate):
                data = {"tls.crt": "YQ==", "tls.key": "Yg==", "ca.crt": "Yw=="}
                wanted.append((action.manifest | {"data": data}, names.MANAGER_RENDERER))
    assert {manifest["kind"] for manifest, _ in wanted} >= {"Namespace", "NetworkPolicy", "ResourceQuota", "Deployment"}
    return wanted


async def _write(writer: ChildWriter, wanted: list[tuple[Manifest, str]]) -> set[Outcome]:
    return {await writer.apply(manifest, manager) for manifest, manager in wanted}


async def _controllers_are_done(system: Kubernetes, wanted: list[tuple[Manifest, str]]) -> None:
    """The quota is counted and the Deployment is observed, as far as it goes without nodes."""
    for manifest, _ in wanted:
        if manifest["kind"] not in (RESOURCE_QUOTA.kind, DEPLOYMENT.kind):
            continue
        for _ in range(400):
            live = await system.live(manifest)
            if live.get("status", {}).keys() & {"used", "observedGeneration"}:
                break
            await asyncio.sleep(0.05)
        else:
            raise TimeoutError(f"no controller looked at {manifest['kind']}")
        await system.seen(live)


async def test_a_planned_tenant_takes_one_request_for_each_child_and_then_none(control_plane: ControlPlane) -> None:
    calls: list[str] = []
    api = client(control_plane, observe=lambda verb, plural, code, seconds: calls.append(f"{verb} {plural}"))
    async with kubernetes(control_plane, KINDS, api=api) as system:
        first, second = unique("planned"), unique("planned")
        wanted = _planned(first, "professional")
        await _write(system.writer, wanted)  # learns the server's defaults, if the manifests leave any open
        calls.clear()
        wanted = _planned(second, "professional")
        assert await _write(system.writer, wanted) == {Outcome.CREATED}
        assert len([call for call in calls if call.split()[0] not in ("watch", "list")]) == len(wanted)

        await _controllers_are_done(system, wanted)
        calls.clear()
        assert all(system.writer.is_settled(manifest, manager) for manifest, manager in wanted)
        assert await _write(system.writer, wanted) == {Outcome.SKIPPED}
        assert [call for call in calls if call.split()[0] not in ("watch", "list")] == []

        # A new process: one look at each child, and not one of them changes.
        before = {child.key: child.signature for store in system.stores.values() for child in store}
        restarted = ChildWriter(system.api, system.stores)
        assert await _write(restarted, wanted) <= {
            Outcome.UNCHANGED,
            Outcome.APPLIED,
        }  # APPLIED: status moved meanwhile
        assert {child.key: child.signature for store in system.stores.values() for child in store} == before
        assert await _write(restarted, wanted) == {Outcome.SKIPPED}


async def test_a_change_of_tier_changes_what_differs_and_comes_to_rest(control_plane: ControlPlane) -> None:
    async with kubernetes(control_plane, KINDS) as system:
        name = unique("planned")
        await _write(system.writer, _planned(name, "starter"))
        wanted = _planned(name, "starter", quota={"cpu": "500m"}, labels={"team": "platform"})
        outcomes = await _write(system.writer, wanted)
        assert Outcome.CREATED not in outcomes
        assert await _write(system.writer, wanted) == {Outcome.SKIPPED}
        # The label goes from every child again, and the quota is the tier's.
        wanted = _planned(name, "starter")
        await _write(system.writer, wanted)
        assert await _write(system.writer, wanted) == {Outcome.SKIPPED}
        for manifest, _ in wanted:
            live = await system.live(manifest)
            assert f"{names.LABEL_CUSTOM_PREFIX}team" not in live["metadata"]["labels"]
        await until(lambda: all(system.writer.is_settled(one, manager) for one, manager in wanted), "rest")
