"""Databases of single tenants on a real server: made, cut off anywhere, kept as they have to be, put away, dropped."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import asyncpg
import pytest

from support.database import ReadyDatabase, new_uid
from support.pgproxy import postgres_proxy
from support.postgres import PostgresServer
from unjucks_api import names
from unjucks_api.tree import tree_digest
from unjucks_operator import errors
from unjucks_operator.config import Config
from unjucks_operator.config.databases import DedicatedDatabases
from unjucks_operator.config.process import Database as DatabaseSettings
from unjucks_operator.database.artifacts import Artifacts
from unjucks_operator.database.dedicated import tombstone_name
from unjucks_operator.database.homes import Homes
from unjucks_operator.database.ledger import Ledger
from unjucks_operator.database.placement import DatabaseState, Home
from unjucks_operator.database.tenants import Drift

pytestmark = pytest.mark.integration

TREE = {"a.txt": (b"own", 0o644)}


@pytest.fixture
async def homes(shared_database: ReadyDatabase) -> AsyncIterator[Homes]:
    async with shared_database.open() as platform:
        made = Homes(platform, Config())
        yield made
        await made.close()


async def facts(ready: ReadyDatabase, name: str) -> "asyncpg.Record | None":
    async with ready.as_admin() as admin:
        return await admin.fetchrow(
            "SELECT datconnlimit, datallowconn, pg_get_userbyid(datdba)::text AS owner, "
            "has_database_privilege(0::oid, oid, 'CONNECT') AS open FROM pg_database WHERE datname = $1",
            name,
        )


async def test_a_new_tenant_works_in_its_own_database_from_the_start(
    shared_database: ReadyDatabase, homes: Homes
) -> None:
    uid = new_uid()
    state = await homes.ensure(uid, "acme", first="Dedicated")
    assert (state.home, state.database, state.usable) == (Home.DEDICATED, names.database_role(uid), True)
    artifacts, ledger = Artifacts(homes.router), Ledger(homes.router)
    digest = tree_digest(TREE)
    await artifacts.put(state.role, digest, TREE)
    await ledger.claim(state.role, new_uid(), "k", holder="h")
    assert await artifacts.get(state.role, digest) == TREE
    async with shared_database.as_admin() as admin:
        assert await admin.fetchval("SELECT count(*) FROM unjucks.artifact WHERE tenant_id = $1::text::uuid", uid) == 0
    own = await asyncpg.connect(shared_database.server.dsn(state.database))
    try:
        assert await own.fetchval("SELECT count(*) FROM unjucks.artifact WHERE tenant_id = $1::text::uuid", uid) == 1
        # One tenant, and row security all the same: a second line of defence.
        with pytest.raises(asyncpg.UniqueViolationError):
            await own.execute("INSERT INTO unjucks_ops.tenant VALUES (gen_random_uuid(), 'ut_000000000000')")
    finally:
        await own.close()
    row = await facts(shared_database, state.database)
    assert row is not None
    assert (row["owner"], row["open"], row["datallowconn"]) == (f"{shared_database.prefix}_databases", False, True)
    again = await homes.ensure(uid, "acme")  # nothing said: it stays
    assert again.home is Home.DEDICATED
    assert (await homes.sweep())[uid].healthy


async def test_the_operators_login_has_no_right_to_make_roles_or_databases(shared_database: ReadyDatabase) -> None:
    async with shared_database.as_admin() as admin:
        row = await admin.fetchrow(
            "SELECT rolsuper, rolcreaterole, rolcreatedb, rolbypassrls, rolreplication FROM pg_roles WHERE rolname = $1",
            shared_database.login,
        )
    assert row is not None
    assert not any(row)
    connection = await asyncpg.connect(shared_database.dsn)
    try:
        for statement in ("CREATE DATABASE ut_000000000000", "CREATE ROLE ut_000000000000"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
        # Databases: only as the role that owns them, on purpose; and nothing else comes with it.
        await connection.execute(f"SET ROLE {shared_database.prefix}_databases")
        for statement in (
            "CREATE ROLE ut_000000000000",
            "SELECT * FROM unjucks.artifact",
            "ALTER DATABASE postgres CONNECTION LIMIT 0",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
    finally:
        await connection.close()


@pytest.mark.timeout(120)
async def test_making_one_can_be_cut_off_at_every_request(shared_database: ReadyDatabase) -> None:
    """Every request to the server, cut before it arrives: never a database that lets others in, and the next try finishes it."""
    server = shared_database.server
    async with shared_database.open() as platform:
        warm = Homes(platform, Config())
        await warm.dedicated.template()
        await warm.close()
    async with postgres_proxy("127.0.0.1", server.port) as proxy:
        step = 0
        finished = False
        while not finished:
            step += 5
            uid = new_uid()
            async with shared_database.open(proxy.dsn(shared_database.dsn)) as platform:
                homes = Homes(platform, Config())
                await homes.dedicated.template()
                proxy.arm(step, "after" if step % 2 else "before")
                try:
                    await homes.ensure(uid, "acme", first="Dedicated")
                    finished = not proxy.fired
                except errors.Retryable:
                    pass
                proxy.disarm()
                await homes.close()
            row = await facts(shared_database, names.database_role(uid))
            assert row is None or not (row["open"] and row["datallowconn"]), f"step {step} left an open database"
            async with shared_database.open() as platform:
                homes = Homes(platform, Config())
                state = await homes.ensure(uid, "acme", first="Dedicated")
                assert state.home is Home.DEDICATED
                await Artifacts(homes.router).put(state.role, tree_digest(TREE), TREE)
                assert (await homes.sweep())[uid].healthy
                await homes.retire(uid, "acme")
                await homes.drop(uid)
                await homes.close()
        assert step > 12


async def test_two_operators_that_make_the_same_one(shared_database: ReadyDatabase, homes: Homes) -> None:
    uid = new_uid()
    async with shared_database.open() as platform:
        other = Homes(platform, Config())
        for _ in range(6):
            done = await asyncio.gather(
                homes.ensure(uid, "acme", first="Dedicated"),
                other.ensure(uid, "acme", first="Dedicated"),
                return_exceptions=True,
            )
            assert all(not isinstance(it, BaseException) or isinstance(it, errors.Retryable) for it in done), done
        await other.close()
    assert (await homes.ensure(uid, "acme")).home is Home.DEDICATED
    assert (await homes.sweep())[uid].healthy


@pytest.mark.isolation("T-db-hijack")
async def test_somebody_elses_database_of_that_name_is_never_taken(
    shared_database: ReadyDatabase, homes: Homes
) -> None:
    uid = new_uid()
    name = names.database_role(uid)
    await shared_database.server.create_database(name)
    try:
        with pytest.raises(errors.OwnershipConflict, match="was not made for this Tenant"):
            await homes.ensure(uid, "acme", first="Dedicated")
        async with shared_database.as_admin() as admin:
            assert (
                await admin.fetchval(
                    "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = $1", name
                )
                is None
            )
        with pytest.raises(errors.OwnershipConflict):
            await homes.retire(uid, "acme")
        assert await facts(shared_database, name) is not None
    finally:
        await shared_database.server.drop_database(name)


@pytest.mark.isolation("T-db-hijack")
async def test_a_database_with_another_tenants_mark_is_never_taken(
    shared_database: ReadyDatabase, homes: Homes
) -> None:
    victim, thief = new_uid(), new_uid()
    state = await homes.ensure(victim, "acme", first="Dedicated")
    async with shared_database.as_admin() as admin:
        await homes.own.forget(state.database)
        await admin.execute(f"ALTER DATABASE {state.database} RENAME TO {names.database_role(thief)}")
    with pytest.raises(errors.OwnershipConflict):
        await homes.ensure(thief, "acme2", first="Dedicated")
    with pytest.raises(errors.Terminal, match="not made again empty"):
        await homes.ensure(victim, "acme")
    assert Drift.DATABASE_MISSING in (await homes.sweep())[victim].drift
    async with shared_database.as_admin() as admin:
        await admin.execute(f"ALTER DATABASE {names.database_role(thief)} RENAME TO {state.database}")
    assert (await homes.ensure(victim, "acme")).home is Home.DEDICATED


async def test_a_half_dropped_database_is_recognised(shared_database: ReadyDatabase, homes: Homes) -> None:
    """What DROP DATABASE leaves when it is cut off: connection limit -2, and nothing but another DROP works."""
    uid = new_uid()
    state = await homes.ensure(uid, "acme", first="Dedicated")
    await homes.own.forget(state.database)
    async with shared_database.as_admin() as admin:
        await admin.execute("UPDATE pg_database SET datconnlimit = -2 WHERE datname = $1", state.database)
    with pytest.raises(errors.Terminal, match="dropped half"):
        await homes.ensure(uid, "acme")
    assert Drift.DATABASE_HALF_DROPPED in (await homes.sweep())[uid].drift
    await homes.retire(uid, "acme")
    await homes.drop(uid)
    assert await facts(shared_database, state.database) is None
    # In the middle of our own drop: the next try ends it.
    second = new_uid()
    state = await homes.ensure(second, "acme", first="Dedicated")
    await homes.retire(second, "acme")
    async with shared_database.as_admin() as admin:
        await admin.execute(
            "UPDATE pg_database SET datconnlimit = -2 WHERE datname = $1", tombstone_name(state.database)
        )
        await admin.execute(
            "UPDATE unjucks_ops.placement SET database_state = 'dropping' WHERE role_name = $1", state.role
        )
    await homes.drop(second)
    assert await facts(shared_database, tombstone_name(state.database)) is None


async def test_putting_away_and_dropping(shared_database: ReadyDatabase, homes: Homes) -> None:
    uid = new_uid()
    state = await homes.ensure(uid, "acme", first="Dedicated")
    await Artifacts(homes.router).put(state.role, tree_digest(TREE), TREE)
    with pytest.raises(errors.Bug):
        await homes.dedicated.drop(await homes.mover._placements.of(uid))
    await homes.retire(uid, "acme")
    with pytest.raises(errors.OperatorError):
        await Artifacts(homes.router).get(state.role, tree_digest(TREE))
    row = await facts(shared_database, tombstone_name(state.database))
    assert row is not None
    assert not row["datallowconn"]
    await homes.retire(uid, "acme")  # again: nothing
    # An administrator can look at what is kept.
    async with shared_database.as_admin() as admin:
        await admin.execute(f"ALTER DATABASE {tombstone_name(state.database)} ALLOW_CONNECTIONS true")
    kept = await asyncpg.connect(shared_database.server.dsn(tombstone_name(state.database)))
    assert await kept.fetchval("SELECT count(*) FROM unjucks.artifact") == 1
    with pytest.raises(errors.Waiting, match="somebody is connected"):
        await homes.drop(uid)
    await kept.close()
    for _ in range(50):
        with contextlib.suppress(errors.Waiting):
            await homes.drop(uid)
            break
        await asyncio.sleep(0.1)
    assert await facts(shared_database, tombstone_name(state.database)) is None
    placement = await homes.mover._placements.of(uid)
    assert placement.database_state is DatabaseState.DROPPED
    late = await homes.ensure(uid, "acme", wanted="Dedicated")  # a UID never comes back
    assert not late.usable


async def test_drift_is_found_by_the_sweep_and_repaired_by_ensure(shared_database: ReadyDatabase, homes: Homes) -> None:
    uid = new_uid()
    state = await homes.ensure(uid, "acme", first="Dedicated")
    name, stranger = state.database, f"x_{shared_database.login}"
    async with shared_database.as_admin() as admin:
        await admin.execute(f"CREATE ROLE {stranger}")
        for statement, code in (
            (f"GRANT CONNECT ON DATABASE {name} TO PUBLIC", Drift.DATABASE_RIGHTS),
            (f"GRANT CREATE ON DATABASE {name} TO {stranger}", Drift.DATABASE_RIGHTS),
            (f"REVOKE CONNECT ON DATABASE {name} FROM {shared_database.prefix}_service", Drift.DATABASE_RIGHTS),
            (f"ALTER DATABASE {name} CONNECTION LIMIT 3", Drift.DATABASE_CONNECTION_LIMIT),
            (f"ALTER DATABASE {name} ALLOW_CONNECTIONS false", Drift.DATABASE_CLOSED),
            (f"COMMENT ON DATABASE {name} IS NULL", Drift.DATABASE_MARKER_MISSING),
        ):
            await admin.execute(statement)
            assert (await homes.sweep())[uid].drift == (code,), statement
            await homes.ensure(uid, "acme")
            assert (await homes.sweep())[uid].healthy, statement
        await admin.execute(f"ALTER DATABASE {name} OWNER TO {stranger}")
        with pytest.raises(errors.OwnershipConflict):
            await homes.ensure(uid, "acme")
        await admin.execute(f"ALTER DATABASE {name} OWNER TO {shared_database.prefix}_databases")
        await homes.ensure(uid, "acme")
        assert (await homes.sweep())[uid].healthy
    own = await asyncpg.connect(shared_database.server.dsn(name))
    try:
        await own.execute("ALTER TABLE unjucks.artifact DISABLE ROW LEVEL SECURITY")
        for _ in range(40):  # a few of all tenants' databases are looked into in each sweep
            if Drift.OWN_SCHEMA in (await homes.sweep())[uid].drift:
                break
        assert await own.fetchval("SELECT relrowsecurity FROM pg_class WHERE oid = 'unjucks.artifact'::regclass")
    finally:
        await own.close()


async def test_without_the_right_to_make_databases(shared_database: ReadyDatabase, homes: Homes) -> None:
    async with shared_database.as_admin() as admin:
        await admin.execute(f"ALTER ROLE {shared_database.prefix}_databases NOCREATEDB")
        try:
            assert (await homes.ensure(new_uid(), "acme", first="Dedicated")).home is Home.SHARED
            with pytest.raises(errors.NotPermitted, match="choose Shared"):
                await homes.ensure(new_uid(), "acme", wanted="Dedicated")
        finally:
            await admin.execute(f"ALTER ROLE {shared_database.prefix}_databases CREATEDB")


async def test_a_tenant_with_rows_is_not_given_an_empty_database(shared_database: ReadyDatabase, homes: Homes) -> None:
    uid = new_uid()
    async with shared_database.open() as before_the_upgrade:
        role = (await homes.tenants.ensure(uid, "acme")).role
        await Artifacts(before_the_upgrade).put(role, tree_digest(TREE), TREE)
    async with shared_database.as_admin() as admin:
        await admin.execute("DELETE FROM unjucks_ops.gate WHERE role_name = $1", role)
    assert (await homes.ensure(uid, "acme", first="Dedicated")).home is Home.SHARED
    assert await Artifacts(homes.router).get(role, tree_digest(TREE)) == TREE
    await Artifacts(homes.router).put(role, tree_digest(TREE), TREE)


async def test_connections_to_own_databases_stay_within_their_budget(shared_database: ReadyDatabase) -> None:
    config = Config(database=DatabaseSettings(dedicated=DedicatedDatabases(pool_max=4, pool_each=2)))
    async with shared_database.open() as platform:
        homes = Homes(platform, config)
        states = [await homes.ensure(new_uid(), f"t{number}", first="Dedicated") for number in range(5)]
        ledger = Ledger(homes.router)
        most = 0

        async def work(role: str) -> None:
            for _ in range(6):
                await ledger.claim(role, new_uid(), "k", holder="h")

        async def watch(admin: "asyncpg.Connection[asyncpg.Record]") -> None:
            nonlocal most
            while True:
                most = max(
                    most,
                    await admin.fetchval(
                        "SELECT count(*) FROM pg_stat_activity WHERE datname = ANY ($1)", [it.database for it in states]
                    ),
                )
                await asyncio.sleep(0.005)

        async with shared_database.as_admin() as admin:
            watching = asyncio.create_task(watch(admin))
            await asyncio.gather(*(work(state.role) for state in states for _ in range(3)))
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        assert 0 < most <= 4 + 2  # one that is closing may still be seen
        assert homes.own.usage()[1] <= 4
        await homes.close()


async def test_databases_that_let_everybody_in_are_named(
    shared_database: ReadyDatabase, homes: Homes, postgres_server: PostgresServer
) -> None:
    name = await postgres_server.create_database()
    try:
        found = await homes.logins.open_databases()
        assert name in found
        assert not {"postgres", "template1", shared_database.name} & set(found)
    finally:
        await postgres_server.drop_database(name)
