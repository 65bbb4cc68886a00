"""kill -9 after each write of "create Tenant": always the same end, nothing twice, nothing left over.

A proxy between operator and API server counts the operator's writes about this tenant and kills it after the n-th one was done
and before it hears of it. Then another operator takes over.
"""

import itertools
from collections import Counter

import pytest

from support.killing import END_SECONDS, killing
from support.operator_process import Site
from support.tenants import children_of, database_facts, essence, expected_children, tenant_manifest
from unjucks_api import names
from unjucks_operator.kube.resources import EVENT, TENANT

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(1200)]


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
    async with killing(site) as operators:
        await operators.running()
        await site.apply(tenant_manifest("reference"))
        await site.wait_for("tenant/reference", "condition=Ready", END_SECONDS)
        wanted = await state_of(site, "reference")
        assert set(wanted) >= expected_children("NAME")
        for number in itertools.count(1):
            name = f"kill-{number}"
            killed = await operators.strike(
                number,
                name,
                lambda name=name: site.apply(tenant_manifest(name)),  # type: ignore[misc]
                lambda name=name: site.wait_for(f"tenant/{name}", "condition=Ready", END_SECONDS),  # type: ignore[misc]
            )
            after = f"killed after write {number} of:\n" + "\n".join(operators.writes)
            assert await state_of(site, name) == wanted, after
            if not killed:
                break
        # The children, the finalizer and the status: a run with fewer writes was none.
        assert number > len(expected_children("x")) + 2, after
    events, _ = await site.api.list_all(EVENT)
    # Each is told once to administrators, and once to the tenant in its own namespace.
    told = Counter(
        (item["metadata"]["namespace"], item["regarding"]["name"]) for item in events if item["reason"] == "Reconciled"
    )
    assert {name: count for name, count in told.items() if count > 1} == {}, "told twice that a tenant is ready"
    print(f"\nkilled after each of {number - 1} writes; the same {len(wanted)} objects each time")
