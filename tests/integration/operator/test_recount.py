"""Tenants that are applied right after the chart: Kubernetes does not know our kinds yet when it counts their quotas first."""

import asyncio
from pathlib import Path

import pytest

from e2e.cluster.controlplane import ControlPlane
from support.operator_process import platform
from support.tenants import tenant_manifest
from unjucks_api import names
from unjucks_operator.kube.resources import RESOURCE_QUOTA

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]


async def test_a_quota_that_was_counted_without_our_kinds_is_counted_again(
    fresh_control_plane: ControlPlane, tmp_path: Path
) -> None:
    async with platform(fresh_control_plane, tmp_path, kinds_are_known=False) as site, site.operator():
        await site.apply(tenant_manifest("early"))
        # Without our help it takes up to five minutes.
        await site.wait_for("tenant/early", "condition=Ready", 150)
        quota = await site.api.get(RESOURCE_QUOTA, names.QUOTA, "tenant-early")
        assert quota is not None
        assert quota["status"]["hard"] == quota["spec"]["hard"]
        assert quota["status"]["used"]["count/generationjobs.unjucks.io"] == "0"
        await asyncio.sleep(12)
        after = await site.api.get(RESOURCE_QUOTA, names.QUOTA, "tenant-early")
        assert after is not None
        assert (
            after["metadata"]["resourceVersion"] == quota["metadata"]["resourceVersion"]
        )  # it is left alone from then on
        managers = {entry["manager"] for entry in after["metadata"]["managedFields"]}
        assert names.RECOUNT_HAND not in managers
