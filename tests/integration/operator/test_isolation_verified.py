"""IsolationVerified with a real operator: true after the start, false when the schema is sabotaged, true when it is mended."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from support.operator_process import OperatorProcess, Site
from support.tenants import tenant_manifest
from unjucks_api.conditions import ConditionType, find_condition
from unjucks_operator.kube.resources import TENANT

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]

# The ordinary sweep would mend it too; here the checks are to find it.
SETTINGS: dict[str, Any] = {"sweep": {"isolation": 2, "interval": 600}, "leader": {}}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def operator(site: Site) -> AsyncIterator[OperatorProcess]:
    async with site.operator(**SETTINGS) as running:
        yield running


async def status(site: Site, name: str) -> dict[str, Any]:
    body = await site.api.get(TENANT, name)
    assert body is not None
    found: dict[str, Any] = body.get("status") or {}
    return found


async def until(site: Site, name: str, state: str, seconds: float = 40) -> dict[str, Any]:
    """The status once IsolationVerified has this status."""
    async with asyncio.timeout(seconds):
        while True:
            found = await status(site, name)
            condition = find_condition(found, ConditionType.ISOLATION_VERIFIED) or {}
            if condition.get("status") == state:
                return found
            await asyncio.sleep(0.1)


@pytest.mark.isolation("T-db-canary", state="up")
async def test_a_sabotaged_schema_is_told_and_mended(site: Site, operator: OperatorProcess) -> None:
    await site.apply(tenant_manifest("watched"))
    await site.wait_for("tenant/watched", "condition=Ready")
    before = await until(site, "watched", "True")
    assert before["isolation"]["failed"] == 0
    assert before["isolation"]["checks"] > 90
    assert before["isolation"]["lastVerified"]
    admin = await asyncpg.connect(site.dsn)
    try:
        await admin.execute("CREATE POLICY leak ON unjucks.catalog USING (true)")
        told = await until(site, "watched", "False")
        ready = find_condition(told, ConditionType.READY) or {}
        assert (ready["status"], ready["reason"]) == ("False", "IsolationBroken")
        assert told["isolation"]["failed"] > 0
        assert any("leak on unjucks.catalog" in text for text in told["isolation"]["failures"])
        assert any("canary: read rows of unjucks.catalog" in text for text in told["isolation"]["failures"])
        assert told["isolation"]["lastVerified"] == before["isolation"]["lastVerified"]
        after = await until(site, "watched", "True")
        assert after["isolation"]["failed"] == 0
        assert await admin.fetchval("SELECT count(*) FROM pg_policy WHERE polname = 'leak'") == 0
    finally:
        await admin.close()
    await site.wait_for("tenant/watched", "condition=Ready")


async def test_rounds_write_nothing_and_a_restart_doubts_nothing(site: Site, operator: OperatorProcess) -> None:
    await site.apply(tenant_manifest("resting"))
    await site.wait_for("tenant/resting", "condition=Ready")
    await until(site, "resting", "True")
    at_rest = await quiet(site, "resting")
    await operator.stop()
    async with site.operator(**SETTINGS):
        await asyncio.sleep(3 * SETTINGS["sweep"]["isolation"])
        now = await status(site, "resting")
        assert now["isolation"] == at_rest["isolation"]
        assert verified(now) == verified(at_rest)


def verified(found: dict[str, Any]) -> Any:
    """The condition with the time of its last change."""
    return find_condition(found, ConditionType.ISOLATION_VERIFIED)


async def quiet(site: Site, name: str) -> dict[str, Any]:
    """The status once it was the same over three rounds of checks; fails when each round changes it."""
    before = await status(site, name)
    for _ in range(6):  # quota, usage and events settle after Ready, on a busy machine later
        await asyncio.sleep(3 * SETTINGS["sweep"]["isolation"])
        now = await status(site, name)
        if now == before:
            return now
        before = now
    raise AssertionError(f"the status never comes to rest: {before}")
