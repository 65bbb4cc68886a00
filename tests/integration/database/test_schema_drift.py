"""The protection of the shared tables: every change is seen on every tenant, and put back or kept visible."""

from collections.abc import Iterator

import pytest

from support.database import ReadyDatabase, lasting_database, new_uid
from support.postgres import PostgresServer
from unjucks_operator import errors
from unjucks_operator.database.pool import Database
from unjucks_operator.database.tenants import Drift, Tenants

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def damaged(postgres_server: PostgresServer) -> Iterator[ReadyDatabase]:
    """A database of this module's own: each test damages it, and ends with everything in order."""
    with lasting_database(postgres_server) as ready:
        yield ready


@pytest.fixture
def unjucks_database(damaged: ReadyDatabase) -> ReadyDatabase:
    return damaged


SCHEMA_DRIFTS = {
    "row security off": "ALTER TABLE unjucks.artifact DISABLE ROW LEVEL SECURITY",
    "not forced": "ALTER TABLE unjucks.generation_run NO FORCE ROW LEVEL SECURITY",
    "policy dropped": "DROP POLICY tenant_rows ON unjucks.catalog",
    "policy widened": "ALTER POLICY tenant_rows ON unjucks.artifact USING (true)",
    "policy added": "CREATE POLICY open ON unjucks.artifact USING (true)",
    "policy for everybody": "ALTER POLICY tenant_rows ON unjucks.artifact TO PUBLIC",
    "right given to PUBLIC": "GRANT SELECT ON unjucks.artifact TO PUBLIC",
    "right given to a column": "GRANT SELECT (digest) ON unjucks.artifact TO {prefix}_service",
    "right taken": "REVOKE INSERT ON unjucks.generation_run FROM {prefix}_tenants",
    "right to truncate": "GRANT TRUNCATE ON unjucks.generation_run TO {prefix}_tenants",
    "schema opened": "GRANT CREATE ON SCHEMA unjucks TO {prefix}_tenants",
    "trigger": "CREATE TRIGGER t BEFORE UPDATE ON unjucks.artifact FOR EACH ROW "
    "EXECUTE FUNCTION suppress_redundant_updates_trigger()",
}


@pytest.mark.parametrize("what", list(SCHEMA_DRIFTS))
async def test_drift_of_the_shared_tables_shows_on_every_tenant_and_is_repaired(
    unjucks_database: ReadyDatabase, database: Database, what: str
) -> None:
    tenants = Tenants(database)
    one, two, gone = new_uid(), new_uid(), new_uid()
    for uid in (one, two, gone):
        await tenants.ensure(uid, "acme")
    await tenants.retire(gone)
    async with unjucks_database.as_admin() as admin:
        await admin.execute(SCHEMA_DRIFTS[what].format(prefix=unjucks_database.prefix))
        sweep = await tenants.sweep()
        assert [sweep[uid].drift for uid in (one, two, gone)] == [(Drift.SCHEMA,), (Drift.SCHEMA,), ()]
        assert tenants.schema_drift
        assert (await tenants.ensure(one, "acme")).usable
        assert tenants.schema_drift == ()
        assert all(state.healthy for state in (await tenants.sweep()).values())


@pytest.mark.parametrize(
    ("cause", "cure"),
    [
        ("CREATE TABLE unjucks.extra (x int)", "DROP TABLE unjucks.extra"),
        ("CREATE VIEW unjucks.leak AS SELECT * FROM unjucks.artifact", "DROP VIEW unjucks.leak"),
        ("ALTER TABLE unjucks.catalog OWNER TO {role}", "ALTER TABLE unjucks.catalog OWNER TO {prefix}_owner"),
    ],
)
async def test_drift_of_the_shared_tables_that_cannot_be_repaired_stays_visible(
    unjucks_database: ReadyDatabase, database: Database, cause: str, cure: str
) -> None:
    tenants = Tenants(database)
    uid = new_uid()
    role = (await tenants.ensure(uid, "acme")).role
    names = {"role": role, "prefix": unjucks_database.prefix}
    async with unjucks_database.as_admin() as admin:
        await admin.execute(cause.format(**names))
        for _ in range(2):
            assert Drift.SCHEMA in (await tenants.sweep())[uid].drift
            with pytest.raises(errors.NotPermitted):
                await tenants.ensure(uid, "acme")
        await admin.execute(cure.format(**names))
    assert (await tenants.sweep())[uid].healthy
    assert (await tenants.ensure(uid, "acme")).usable
