"""kill -9 after each write of "create Tenant": always the same end, nothing twice, nothing left over.

A proxy between operator and API server counts the operator's writes and kills it after the n-th one was done and before it
hears of it. Then another operator takes over, through the Lease, as in real life.
"""

import pytest

from support.operator_process import Site
from support.tenants import children_of, database_facts, essence, expected_children, tenant_manifest
from unjucks_api import names
from unjucks_operator.kube.resources import EVENT, TENANT

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(600)]


async def state_of(site: Site, name: str) -> dict[tuple[str, str], str]:
    body = await site.api.get(TENANT, name)
    assert body is not None
    uid = body["metadata"]["uid"]
    assert body["metadata"]["finalizers"] == [names.FINALIZER_TENANT]
    assert await database_facts(site, uid) == {"rows": [(names.database_role(uid), "active")], "roles": 1}
    return {
        (kind, child.replace(name, "NAME")): essence(item, name, uid)
        for (kind, child), item in (await children_of(site, name)).items()
    }


async def test_a_kill_after_any_write_ends_in_the_same_state(site: Site) -> None:
    async with site.proxy() as proxy:
        kubeconfig = site.kubeconfig_through(proxy)
        async with site.operator(kubeconfig=kubeconfig):
            proxy.writes = 0
            await site.apply(tenant_manifest("reference"))
            await site.wait_for("tenant/reference", "condition=Ready")
        wanted = await state_of(site, "reference")
        total = proxy.writes
        assert total >= len(expected_children("x")) + 2  # the children, the finalizer and the status
        for number in range(1, total + 1):
            name = f"kill-{number}"
            victim = await site.start_operator(kubeconfig=kubeconfig)
            await victim.ready()
            proxy.writes = 0
            proxy.after_write = lambda count, _seen, victim=victim, number=number: (  # type: ignore[misc]
                victim.kill() if count >= number else None
            )
            await site.apply(tenant_manifest(name))
            killed = await victim.process.wait()
            assert killed == -9, f"write {number} was never made: {victim.log.read_text()[-2000:]}"
            proxy.after_write = None
            async with site.operator(kubeconfig=kubeconfig):
                await site.wait_for(f"tenant/{name}", "condition=Ready")
            assert await state_of(site, name) == wanted, f"killed after write {number}"
        events, _ = await site.api.list_all(EVENT)
        ready = [item for item in events if item["reason"] == "Reconciled" and item["regarding"]["name"] == "kill-1"]
        assert len(ready) <= 1
        print(f"\nkilled after each of {total} writes; the same {len(wanted)} objects each time")
