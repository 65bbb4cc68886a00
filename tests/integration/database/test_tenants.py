"""Tenants in the database: ensure, retire, drop, the sweep; every kind of drift is found, and repaired or reported."""

import asyncio
import uuid
from collections import Counter

import asyncpg
import pytest

from support.database import ReadyDatabase, new_uid
from unjucks_api.names import database_role
from unjucks_api.tree import tree_digest
from unjucks_operator import errors
from unjucks_operator.database.artifacts import Artifacts
from unjucks_operator.database.ledger import Ledger
from unjucks_operator.database.pool import Database
from unjucks_operator.database.tenants import DatabaseState, Drift, Tenants, TenantState

pytestmark = pytest.mark.integration


@pytest.fixture
def unjucks_database(shared_database: ReadyDatabase) -> ReadyDatabase:
    """Each test looks at its own tenants only."""
    return shared_database


async def sweep_of(tenants: Tenants, *uids: str) -> dict[str, DatabaseState]:
    found = await tenants.sweep()
    return {uid: found[uid] for uid in uids}


async def test_ensure_makes_exactly_the_identity(unjucks_database: ReadyDatabase, database: Database) -> None:
    uid = new_uid()
    made = await Tenants(database).ensure(uid, "acme")
    assert made.role == database_role(uid)
    assert made.usable
    assert made.repaired == (Drift.ROLE_MISSING,)
    async with unjucks_database.as_admin() as admin:
        role = await admin.fetchrow("SELECT * FROM pg_roles WHERE rolname = $1", made.role)
        assert role is not None
        dangerous = ("rolsuper", "rolcreaterole", "rolcreatedb", "rolcanlogin", "rolreplication", "rolbypassrls")
        assert [name for name in dangerous if role[name]] == []
        groups = await admin.fetch(
            "SELECT roleid::regrole::text FROM pg_auth_members WHERE member = $1::text::regrole", made.role
        )
        members = await admin.fetch(
            "SELECT member::regrole::text FROM pg_auth_members WHERE roleid = $1::text::regrole", made.role
        )
        assert [row[0] for row in groups] == [f"{unjucks_database.prefix}_tenants"]
        assert [row[0] for row in members] == [f"{unjucks_database.prefix}_service"]
        comment = await admin.fetchval("SELECT shobj_description($1::text::regrole, 'pg_authid')", made.role)
        assert "acme" not in comment  # no customer's name in a catalog that every login of the server can read


async def test_ensure_again_changes_nothing(unjucks_database: ReadyDatabase, database: Database) -> None:
    uid = new_uid()
    tenants = Tenants(database)
    await tenants.ensure(uid, "acme")
    async with unjucks_database.as_admin() as admin:
        statement = (
            "SELECT xmin::text, ctid::text, xmax::text FROM unjucks_ops.tenant UNION ALL "
            "SELECT xmin::text, ctid::text, xmax::text FROM pg_authid"
        )
        before = await admin.fetch(statement)
        again = await tenants.ensure(uid, "acme")
        assert again.usable
        assert again.repaired == ()
        assert await admin.fetch(statement) == before


async def test_two_operators_ensure_the_same_tenants_at_once(unjucks_database: ReadyDatabase) -> None:
    uids = [new_uid() for _ in range(12)]
    async with unjucks_database.open() as one, unjucks_database.open() as two:
        results = await asyncio.gather(
            *(
                Tenants(database).ensure(uid, f"tenant-{number}")
                for number, uid in enumerate(uids)
                for database in (one, two)
            )
        )
        assert all(result.usable for result in results)
        assert Counter(result.role for result in results) == {database_role(uid): 2 for uid in uids}
        sweep = await sweep_of(Tenants(one), *uids)
    assert all(state.healthy for state in sweep.values())


async def test_two_operators_repair_the_same_tenants_at_once(unjucks_database: ReadyDatabase) -> None:
    """Without the row lock both would make the same role, or revoke the same membership, and one would fail."""
    async with unjucks_database.open() as one, unjucks_database.open() as two, unjucks_database.as_admin() as admin:
        uids = [new_uid() for _ in range(6)]
        for uid in uids:
            await Tenants(one).ensure(uid, "acme")
        for damage in (
            "DROP ROLE {role}",
            "ALTER ROLE {role} LOGIN CREATEDB; GRANT pg_monitor TO {role}; ALTER ROLE {role} SET work_mem = '1GB'",
            "REVOKE {prefix}_tenants FROM {role}; REVOKE {role} FROM {prefix}_service; COMMENT ON ROLE {role} IS NULL",
        ):
            for uid in uids:
                await admin.execute(damage.format(role=database_role(uid), prefix=unjucks_database.prefix))
            results = await asyncio.gather(
                *(Tenants(database).ensure(uid, "acme") for uid in uids for database in (one, two, one, two))
            )
            assert all(result.usable for result in results)
            assert sum(1 for result in results if result.repaired) == len(uids)
        assert all(state.healthy for state in (await sweep_of(Tenants(one), *uids)).values())


async def test_many_operators_ensure_one_tenant_at_once(unjucks_database: ReadyDatabase) -> None:
    """Callers that start together and not one after the other, so that they meet inside of the INSERT."""
    connections = [await asyncpg.connect(unjucks_database.dsn) for _ in range(8)]
    try:
        for _ in range(25):
            uid = new_uid()
            results = await asyncio.gather(
                *(each.fetchrow("SELECT * FROM unjucks_ops.ensure_tenant($1, 'acme')", uid) for each in connections)
            )
            assert [(row["role_name"], row["state"], row["remaining"]) for row in results if row] == [
                (database_role(uid), "active", [])
            ] * len(connections)
            assert sum(bool(row["repaired"]) for row in results if row) == 1
    finally:
        for each in connections:
            await each.close()


async def test_ensure_retire_and_drop_of_the_same_tenants_at_once(unjucks_database: ReadyDatabase) -> None:
    """Two operators that overlap for a moment. Whoever is first, the end is the same, and never active again."""
    async with unjucks_database.open() as one, unjucks_database.open() as two:
        uids = [new_uid() for _ in range(8)]
        await asyncio.gather(
            *(
                step
                for number, uid in enumerate(uids)
                for step in (
                    Tenants(one).ensure(uid, f"tenant-{number}"),
                    Tenants(two).retire(uid, f"tenant-{number}"),
                    Tenants(two).ensure(uid, f"tenant-{number}"),
                )
            )
        )
        states = await sweep_of(Tenants(one), *uids)
        assert {(state.state, state.healthy) for state in states.values()} == {(TenantState.TOMBSTONE, True)}
        await asyncio.gather(
            *(
                step
                for uid in uids
                for step in (
                    Tenants(one).drop(uid),
                    Tenants(two).drop(uid),
                    Tenants(one).retire(uid),
                    Tenants(two).sweep(),
                )
            )
        )
        states = await sweep_of(Tenants(one), *uids)
    assert {(state.state, state.healthy) for state in states.values()} == {(TenantState.DROPPED, True)}


@pytest.mark.isolation("T-sql-fuzz-names")
async def test_names_that_no_tenant_can_have_are_refused(database: Database) -> None:
    tenants = Tenants(database)
    before = await tenants.sweep()
    for name in ("", "Acme", "a b", "x" * 300, "a;b", "-a", "ünicode"):
        with pytest.raises(errors.InvalidSpec):
            await tenants.ensure(new_uid(), name)
    for uid in ("", "acme", "12345", "x" * 500):
        with pytest.raises(errors.InvalidSpec):
            await tenants.ensure(uid, "acme")
    assert await tenants.sweep() == before


@pytest.mark.isolation("T-role-hijack")
async def test_a_role_that_is_somebody_elses_is_never_taken_over(
    unjucks_database: ReadyDatabase, database: Database
) -> None:
    uid = new_uid()
    role = database_role(uid)
    async with unjucks_database.as_admin() as admin:
        await admin.execute(f"CREATE ROLE {role} LOGIN CREATEDB")
        try:
            with pytest.raises(errors.OwnershipConflict):
                await Tenants(database).ensure(uid, "acme")
            assert await admin.fetchval("SELECT rolcreatedb FROM pg_roles WHERE rolname = $1", role)
            assert await Tenants(database).state(uid) is None  # the step was undone as a whole
        finally:
            await admin.execute(f"DROP ROLE {role}")
        assert (await Tenants(database).ensure(uid, "acme")).usable


async def test_a_role_without_its_row_is_named_and_taken_back(
    unjucks_database: ReadyDatabase, database: Database
) -> None:
    """The database was restored from a backup that is older than the tenant; roles live outside of it."""
    tenants = Tenants(database)
    uid, other = new_uid(), new_uid()
    role = (await tenants.ensure(uid, "acme")).role
    await tenants.ensure(other, "other")
    async with unjucks_database.as_admin() as admin:
        await admin.execute("DELETE FROM unjucks_ops.tenant WHERE tenant_id = $1", uuid.UUID(uid))
    assert await tenants.orphans() == {role: uid}
    assert (await tenants.ensure(uid, "acme")).usable
    assert await tenants.orphans() == {}


DRIFTS: dict[Drift, str] = {
    Drift.ROLE_MISSING: "DROP ROLE {role}",
    Drift.ROLE_CAN_LOGIN: "ALTER ROLE {role} LOGIN PASSWORD 'x'",
    Drift.DANGEROUS_ATTRIBUTE: "ALTER ROLE {role} CREATEROLE CREATEDB",
    Drift.NOT_INHERITING: "ALTER ROLE {role} NOINHERIT",
    Drift.MARKER_MISSING: "COMMENT ON ROLE {role} IS NULL",
    Drift.GROUP_MEMBERSHIP_MISSING: "REVOKE {prefix}_tenants FROM {role}",
    Drift.FOREIGN_MEMBERSHIP: "GRANT pg_read_all_data TO {role}",
    Drift.SERVICE_MEMBERSHIP_MISSING: "REVOKE {role} FROM {prefix}_service",
    Drift.FOREIGN_MEMBER: "GRANT {role} TO {prefix}_reaper",
    Drift.ROLE_SETTINGS: "ALTER ROLE {role} SET statement_timeout = 1; "
    "ALTER ROLE {role} IN DATABASE {database} SET search_path = public",
}


@pytest.mark.parametrize("drift", list(DRIFTS))
async def test_drift_of_a_role_is_found_and_repaired(
    unjucks_database: ReadyDatabase, database: Database, drift: Drift
) -> None:
    tenants = Tenants(database)
    uid, other = new_uid(), new_uid()
    role = (await tenants.ensure(uid, "acme")).role
    await tenants.ensure(other, "other")
    async with unjucks_database.as_admin() as admin:
        await admin.execute(
            DRIFTS[drift].format(role=role, prefix=unjucks_database.prefix, database=unjucks_database.name)
        )
        sweep = await tenants.sweep()
        assert sweep[uid].drift == (drift,)
        assert sweep[other].healthy
        repaired = await tenants.ensure(uid, "acme")
        assert repaired.repaired == (drift,)
        assert repaired.usable
        assert (await tenants.sweep())[uid].healthy
        async with database.tenant_tx(role) as connection:
            assert await connection.fetchval("SELECT count(*) FROM unjucks_ops.tenant") == 1


@pytest.mark.parametrize("attribute", ["BYPASSRLS", "REPLICATION"])
async def test_an_attribute_that_only_a_superuser_takes_away_locks_the_role_out(
    unjucks_database: ReadyDatabase, database: Database, attribute: str
) -> None:
    tenants = Tenants(database)
    uid = new_uid()
    role = (await tenants.ensure(uid, "acme")).role
    async with unjucks_database.as_admin() as admin:
        await admin.execute(f"ALTER ROLE {role} {attribute}")
        with pytest.raises(errors.NotPermitted, match="DangerousAttribute"):
            await tenants.ensure(uid, "acme")
        with pytest.raises(errors.Waiting):  # contained: the service cannot act as this role any more
            async with database.tenant_tx(role):
                pass
        await admin.execute(f"ALTER ROLE {role} NO{attribute}")
    assert (await tenants.ensure(uid, "acme")).usable
    async with database.tenant_tx(role) as connection:
        assert await connection.fetchval("SELECT current_user::text") == role


async def test_a_superuser_role_is_reported(unjucks_database: ReadyDatabase, database: Database) -> None:
    tenants = Tenants(database)
    uid = new_uid()
    role = (await tenants.ensure(uid, "acme")).role
    async with unjucks_database.as_admin() as admin:
        await admin.execute(f"ALTER ROLE {role} SUPERUSER")
        assert Drift.DANGEROUS_ATTRIBUTE in (await tenants.sweep())[uid].drift
        with pytest.raises(errors.NotPermitted, match="DangerousAttribute"):
            await tenants.ensure(uid, "acme")
        await admin.execute(f"ALTER ROLE {role} NOSUPERUSER")
    assert (await tenants.ensure(uid, "acme")).usable


@pytest.mark.parametrize(
    ("drift", "cause", "cure"),
    [
        (Drift.DIRECT_GRANTS, "GRANT USAGE ON SCHEMA public TO {role}", "REVOKE USAGE ON SCHEMA public FROM {role}"),
        (Drift.OWNS_OBJECTS, "CREATE SCHEMA mine AUTHORIZATION {role}", "DROP SCHEMA mine"),
    ],
)
async def test_what_could_be_destroyed_by_a_repair_is_reported_only(
    unjucks_database: ReadyDatabase, database: Database, drift: Drift, cause: str, cure: str
) -> None:
    tenants = Tenants(database)
    uid = new_uid()
    role = (await tenants.ensure(uid, "acme")).role
    async with unjucks_database.as_admin() as admin:
        await admin.execute(cause.format(role=role))
        assert (await tenants.sweep())[uid].drift == (drift,)
        with pytest.raises(errors.NotPermitted, match=drift.value):
            await tenants.ensure(uid, "acme")
        await admin.execute(cure.format(role=role))
    assert (await tenants.ensure(uid, "acme")).usable


async def fill(database: Database, role: str, trees: int = 3) -> None:
    artifacts, ledger = Artifacts(database), Ledger(database)
    for number in range(trees):
        tree = {"file": (str(number).encode(), 0o644)}
        await artifacts.put(role, tree_digest(tree), tree)
    await ledger.claim(role, new_uid(), "key", holder="test")


async def count_rows(ready: ReadyDatabase) -> dict[str, int]:
    async with ready.as_admin() as admin:
        rows = await admin.fetch(
            "SELECT tenant_id::text, count(*) FROM (SELECT tenant_id FROM unjucks.artifact UNION ALL "
            "SELECT tenant_id FROM unjucks.catalog UNION ALL SELECT tenant_id FROM unjucks.generation_run) t GROUP BY 1"
        )
    return {row[0]: row[1] for row in rows}


async def test_retire_keeps_the_rows_and_ends_the_identity(unjucks_database: ReadyDatabase, database: Database) -> None:
    tenants = Tenants(database)
    uid = new_uid()
    role = (await tenants.ensure(uid, "acme")).role
    await fill(database, role)
    for _ in range(2):
        retired = await tenants.retire(uid, "acme")
        assert (retired.role, retired.state, retired.remaining) == (role, TenantState.TOMBSTONE, ())
    with pytest.raises(errors.Waiting):
        await Artifacts(database).list(role)
    assert (await count_rows(unjucks_database))[uid] == 4
    late = await tenants.ensure(uid, "acme")  # an operator that does not know yet
    assert late.state is TenantState.TOMBSTONE
    assert not late.usable
    with pytest.raises(errors.Waiting):
        await Artifacts(database).list(role)


async def test_a_late_ensure_cannot_bring_back_a_uid_that_was_retired_unseen(database: Database) -> None:
    tenants = Tenants(database)
    uid = new_uid()
    await tenants.retire(uid)
    assert (await tenants.ensure(uid, "acme")).state is TenantState.TOMBSTONE
    state = await tenants.state(uid)
    assert state is not None
    assert state.healthy
    assert await tenants.drop(uid) == 0
    assert (await tenants.ensure(uid, "acme")).state is TenantState.DROPPED


async def test_drop_removes_rows_and_role_of_that_tenant_only(
    unjucks_database: ReadyDatabase, database: Database
) -> None:
    tenants = Tenants(database)
    uid, other = new_uid(), new_uid()
    role, other_role = (await tenants.ensure(uid, "acme")).role, (await tenants.ensure(other, "other")).role
    await fill(database, role, trees=5)
    await fill(database, other_role)
    with pytest.raises(errors.Bug, match="retired before"):
        await tenants.drop(uid)
    with pytest.raises(errors.Bug, match="retired before"):
        await tenants.drop(new_uid())
    await tenants.retire(uid)
    assert await tenants.drop(uid) == 6
    assert await tenants.drop(uid) == 0
    left = await count_rows(unjucks_database)
    assert (left.get(uid), left[other]) == (None, 4)
    async with unjucks_database.as_admin() as admin:
        assert not await admin.fetchval("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", role)
    sweep = await tenants.sweep()
    assert (sweep[uid].state, sweep[uid].drift) == (TenantState.DROPPED, ())
    assert sweep[other].healthy


async def test_drop_in_batches(
    unjucks_database: ReadyDatabase, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unjucks_operator.database.tenants.REAPER_BATCH", 2)
    tenants = Tenants(database)
    uid = new_uid()
    await fill(database, (await tenants.ensure(uid, "acme")).role, trees=5)
    await tenants.retire(uid)
    assert await tenants.drop(uid) == 6
    assert uid not in await count_rows(unjucks_database)


async def test_drop_waits_for_a_writer_that_began_before_the_retirement(
    unjucks_database: ReadyDatabase, database: Database
) -> None:
    """Its row would otherwise stay behind for good, invisible to everybody."""
    tenants = Tenants(database)
    uid = new_uid()
    role = (await tenants.ensure(uid, "acme")).role
    async with database.tenant_tx(role) as writer:
        await writer.execute(
            "INSERT INTO unjucks.generation_run (tenant_id, job_uid, run_key, holder) VALUES ($1, $1, 'late', 'h')",
            uuid.UUID(uid),
        )
        await tenants.retire(uid)
        dropping = asyncio.create_task(tenants.drop(uid))
        async with unjucks_database.as_admin() as admin:
            while not await admin.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"):
                assert not dropping.done()
                await asyncio.sleep(0.02)
    assert await dropping == 1
    assert uid not in await count_rows(unjucks_database)


async def test_a_role_with_foreign_rights_is_not_dropped_silently(
    unjucks_database: ReadyDatabase, database: Database
) -> None:
    tenants = Tenants(database)
    uid = new_uid()
    role = (await tenants.ensure(uid, "acme")).role
    async with unjucks_database.as_admin() as admin:
        await admin.execute(f"GRANT USAGE ON SCHEMA public TO {role}")
        await tenants.retire(uid)
        with pytest.raises(errors.NotPermitted, match="DROP OWNED"):
            await tenants.drop(uid)
        await admin.execute(f"DROP OWNED BY {role}")
    await tenants.drop(uid)
    state = await tenants.state(uid)
    assert state is not None
    assert state.state is TenantState.DROPPED


async def test_drift_of_retired_tenants(unjucks_database: ReadyDatabase, database: Database) -> None:
    tenants = Tenants(database)
    usable, remains = new_uid(), new_uid()
    role = (await tenants.ensure(usable, "acme")).role
    await tenants.ensure(remains, "other")
    for uid in (usable, remains):
        await tenants.retire(uid)
    await tenants.drop(remains)
    async with unjucks_database.as_admin() as admin:
        await admin.execute(f"GRANT {role} TO {unjucks_database.prefix}_service; ALTER ROLE {role} LOGIN")
        await admin.execute(f"CREATE ROLE {database_role(remains)}")
        try:
            sweep = await tenants.sweep()
            assert sweep[usable].drift == (Drift.ROLE_CAN_LOGIN, Drift.TOMBSTONE_USABLE)
            assert sweep[remains].drift == (Drift.ROLE_REMAINS,)
            await tenants.retire(usable)
            assert (await tenants.sweep())[usable].healthy
        finally:
            await admin.execute(f"DROP ROLE {database_role(remains)}")


async def test_restore_is_an_administrators_act(unjucks_database: ReadyDatabase, database: Database) -> None:
    tenants = Tenants(database)
    uid = new_uid()
    role = (await tenants.ensure(uid, "acme")).role
    await fill(database, role)
    await tenants.retire(uid)
    with pytest.raises(errors.NotPermitted):
        async with database.service_tx() as connection:
            await connection.execute("SELECT unjucks_ops.restore_tenant($1)", uuid.UUID(uid))
    async with unjucks_database.as_admin() as admin:
        await admin.execute("SELECT unjucks_ops.restore_tenant($1)", uuid.UUID(uid))
        with pytest.raises(asyncpg.PostgresError, match="no retired tenant"):
            await admin.execute("SELECT unjucks_ops.restore_tenant($1)", uuid.UUID(new_uid()))
    assert (await tenants.ensure(uid, "acme")).usable
    assert len(await Artifacts(database).list(role)) == 3
