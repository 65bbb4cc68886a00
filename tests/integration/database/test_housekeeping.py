"""Housekeeping on a real server: a tree goes in the second round that finds nobody who names it; living jobs keep their rows."""

import random
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from support.builders import TENANT_UID, tenant_body
from support.database import ReadyDatabase, new_uid
from unjucks_api.reasons import Reason
from unjucks_api.tree import tree_digest
from unjucks_operator.config.tiers import Tiers
from unjucks_operator.database.artifacts import Artifacts
from unjucks_operator.database.catalogs import Catalogs
from unjucks_operator.database.ledger import Ledger
from unjucks_operator.database.pool import Database
from unjucks_operator.database.tenants import Tenants
from unjucks_operator.engine.clock import SystemClock
from unjucks_operator.engine.store import ResourceStore
from unjucks_operator.housekeeping import Housekeeper

pytestmark = pytest.mark.integration


@pytest.fixture
def unjucks_database(shared_database: ReadyDatabase) -> ReadyDatabase:
    """The test has a tenant of its own and changes no schema."""
    return shared_database


async def test_two_rounds(unjucks_database: ReadyDatabase, database: Database) -> None:
    role = (await Tenants(database).ensure(new_uid(), "acme")).role
    artifacts, catalogs, ledger = Artifacts(database), Catalogs(database), Ledger(database)
    served, unserved = ({name: (b"x", 0o644)} for name in ("served", "unserved"))
    for tree in (served, unserved):
        await artifacts.put(role, tree_digest(tree), tree)
        await catalogs.put(role, tree_digest(tree), tree_digest(tree), ())
    alive, gone = new_uid(), new_uid()
    for job in (alive, gone):
        await ledger.claim(role, job, "key", holder="me")
        await ledger.record_failed(role, job, "key", 1, Reason.TEMPLATE_ERROR, "no", final=True)
    async with unjucks_database.as_admin() as admin:
        for table, column in (("artifact", "used_at"), ("catalog", "used_at"), ("generation_run", "created_at")):
            await admin.execute(
                f"UPDATE unjucks.{table} SET {column} = {column} - interval '31 days' WHERE tenant_id = "
                "(SELECT tenant_id FROM unjucks_ops.tenant WHERE role_name = $1)",
                role,
            )
    tenants, registries, jobs = ResourceStore(), ResourceStore(), ResourceStore()
    tenants.put(tenant_body())
    registries.put(_object("r", "1", {"artifact": {"digest": tree_digest(served)}}))
    jobs.put(_object("j", alive, {}))
    keeper = Housekeeper(
        tenants=tenants,
        registries=registries,
        jobs=jobs,
        roles=lambda: {TENANT_UID: role},
        tiers=Tiers(),
        ledger=ledger,
        artifacts=artifacts,
        catalogs=catalogs,
        interval=timedelta(hours=1).total_seconds(),
        clock=SystemClock(),
        rng=random.Random(1),
    )
    await keeper.round()
    assert {info.digest for info in await artifacts.list(role)} == {tree_digest(served), tree_digest(unserved)}
    assert await ledger.lookup(role, gone, "key") is None
    assert await ledger.lookup(role, alive, "key") is not None
    await keeper.round()
    assert {info.digest for info in await artifacts.list(role)} == {tree_digest(served)}
    assert await catalogs.get(role, tree_digest(unserved)) is None
    assert await catalogs.get(role, tree_digest(served)) == ()


def _object(name: str, uid: str, status: Mapping[str, Any]) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "tenant-acme", "uid": uid, "resourceVersion": "1"}
    return {"metadata": metadata, "spec": {}, "status": dict(status)}
