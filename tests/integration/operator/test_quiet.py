"""An operator at rest writes nothing but its Lease, nor does applying the same again. Counted in the API server's audit log."""

import asyncio

import pytest

from e2e.cluster.audit import Write
from support.operator_process import OPERATOR_USER, Site
from support.tenants import tenant_manifest

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(400)]

TENANTS = 20
IDLE_SECONDS = 120


async def writes_since(site: Site, mark: int) -> list[Write]:
    found = await asyncio.to_thread(site.plane.writes, mark, user=OPERATOR_USER)
    return [write for write in found if write.resource != "leases"]


async def test_twenty_tenants_at_rest_and_applied_again(site: Site) -> None:
    manifests = [tenant_manifest(f"quiet-{number}") for number in range(TENANTS)]
    async with site.operator(sweep={"interval": 5}):
        await site.apply(*manifests)
        await site.kubectl("wait", "tenant", "--all", "--for=condition=Ready", "--timeout=60s")
        await asyncio.sleep(6)  # events are posted in the background, quota status settles
        mark = await asyncio.to_thread(site.plane.audit_mark)
        await asyncio.sleep(IDLE_SECONDS)
        at_rest = await writes_since(site, mark)
        assert at_rest == [], f"{len(at_rest)} writes in {IDLE_SECONDS} s: {[str(write) for write in at_rest[:10]]}"

        mark = await asyncio.to_thread(site.plane.audit_mark)
        await site.apply(*manifests)
        await asyncio.sleep(5)
        again = await writes_since(site, mark)
        assert again == [], f"applying the same again made writes: {[str(write) for write in again[:10]]}"

        # An annotation of somebody else's is no reason to write either.
        mark = await asyncio.to_thread(site.plane.audit_mark)
        await site.kubectl("annotate", "tenant", "quiet-1", "example.com/note=hello")
        await asyncio.sleep(3)
        assert await writes_since(site, mark) == []
    # A new operator applies everything once and changes nothing: no object gets a new version.
    versions = await _versions(site)
    async with site.operator():
        await asyncio.sleep(10)
    assert await _versions(site) == versions


async def _versions(site: Site) -> str:
    kinds = "namespace,resourcequota,limitrange,networkpolicy,serviceaccount,rolebinding,deployment,secret,tenant"
    return await site.kubectl(
        *("get", kinds, "-A", "-l", "!kubernetes.io/bootstrapping"),
        *("-o", 'jsonpath={range .items[*]}{.kind}/{.metadata.name}={.metadata.resourceVersion}{"\\n"}{end}'),
    )
