"""Migrations on a real server: once, in order, whole or not at all, by whoever comes first; histories that differ are errors."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from support.database import ReadyDatabase, bare_database
from support.postgres import PostgresServer
from unjucks_operator import errors
from unjucks_operator.database.bootstrap import bootstrap, prepare, scram_verifier
from unjucks_operator.database.migrate import Migration, MigrationError, load_migrations, migrate

pytestmark = pytest.mark.integration

MORE = Migration(len(load_migrations()) + 1, "more", "CREATE TABLE unjucks.more (x int)")


@pytest.fixture
async def fresh(postgres_server: PostgresServer) -> AsyncIterator[ReadyDatabase]:
    """Bootstrapped, not migrated."""
    async with bare_database(postgres_server) as ready:
        async with ready.as_admin() as admin:
            await bootstrap(
                admin, prefix=ready.prefix, service_login=ready.login, password_verifier=scram_verifier(ready.password)
            )
        yield ready


async def record(ready: ReadyDatabase) -> list[int]:
    async with ready.as_admin() as admin:
        rows = await admin.fetch("SELECT version FROM unjucks.schema_migration ORDER BY 1")
    return [row[0] for row in rows]


async def test_once_and_recorded(fresh: ReadyDatabase) -> None:
    versions = [item.version for item in load_migrations()]
    async with fresh.open() as database:
        first = await migrate(database)
        second = await migrate(database)
    assert (first.version, list(first.applied), first.security_applied) == (len(versions), versions, True)
    assert (second.version, second.applied, second.security_applied) == (len(versions), (), False)
    assert await record(fresh) == versions
    async with fresh.as_admin() as admin:
        owners = await admin.fetch(
            "SELECT DISTINCT relowner::regrole::text FROM pg_class WHERE relnamespace = 'unjucks'::regnamespace"
        )
        assert [row[0] for row in owners] == [f"{fresh.prefix}_owner"]
        assert await admin.fetchval("SELECT DISTINCT applied_by FROM unjucks.schema_migration") == fresh.login


async def test_several_operators_at_once(fresh: ReadyDatabase) -> None:
    known = load_migrations()
    async with fresh.open() as one, fresh.open() as two, fresh.open() as three:
        reports = await asyncio.gather(*(migrate(database) for database in (one, two, three)))
    applied = sorted(version for report in reports for version in report.applied)
    assert applied == [item.version for item in known]  # each exactly once, by one of them
    assert await record(fresh) == applied


async def test_a_failing_migration_leaves_nothing(fresh: ReadyDatabase) -> None:
    broken = Migration(MORE.version, "broken", "CREATE TABLE unjucks.half (x int); SELECT * FROM unjucks.no_such_table")
    async with fresh.open() as database:
        with pytest.raises(errors.OperatorError):
            await migrate(database, (*load_migrations(), broken))
        assert await record(fresh) == [item.version for item in load_migrations()]
        async with fresh.as_admin() as admin:
            assert await admin.fetchval("SELECT to_regclass('unjucks.half') IS NULL")
        assert (await migrate(database, (*load_migrations(), MORE))).applied == (MORE.version,)


async def test_a_changed_file_is_an_error(unjucks_database: ReadyDatabase) -> None:
    known = load_migrations()
    first = known[0]
    changed = Migration(first.version, first.name, first.sql + "\n-- one more word")
    only_blanks = Migration(first.version, first.name, first.sql.replace("\n", "  \r\n"))
    async with unjucks_database.open() as database:
        with pytest.raises(MigrationError, match=f"{first.version:04d}_{first.name} was changed"):
            await migrate(database, (changed, *known[1:]))
        assert (await migrate(database, (only_blanks, *known[1:]))).applied == ()


async def test_a_newer_database_is_an_error(unjucks_database: ReadyDatabase) -> None:
    async with unjucks_database.open() as database:
        await migrate(database, (*load_migrations(), MORE))
        with pytest.raises(
            MigrationError, match=f"schema version {MORE.version}, this operator knows {MORE.version - 1}"
        ):
            await migrate(database)
        with pytest.raises(MigrationError):
            await prepare(database)


async def test_a_gap_in_the_record_is_an_error(unjucks_database: ReadyDatabase) -> None:
    async with unjucks_database.as_admin() as admin:
        await admin.execute("DELETE FROM unjucks.schema_migration WHERE version = 1")
    async with unjucks_database.open() as database:
        with pytest.raises(MigrationError, match="gaps"):
            await migrate(database)


async def test_a_tenant_cannot_hold_up_migrations(fresh: ReadyDatabase) -> None:
    """Any role may take any advisory lock; the record of migrations can be locked by its owner only."""
    async with fresh.as_admin() as admin:
        await admin.execute(f"CREATE ROLE {fresh.login}_t LOGIN PASSWORD 'x' IN ROLE {fresh.prefix}_tenants")
        await admin.execute(f"GRANT CONNECT ON DATABASE {fresh.name} TO {fresh.login}_t")
    connection = await asyncpg.connect(fresh.server.dsn(fresh.name, f"{fresh.login}_t", "x"))
    try:
        await connection.execute("SELECT pg_advisory_lock(k) FROM generate_series(1, 100) k")
        for mode in ("ACCESS SHARE", "ACCESS EXCLUSIVE"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                async with connection.transaction():
                    await connection.execute(f"LOCK TABLE unjucks.schema_migration IN {mode} MODE")
        async with fresh.open() as database:
            assert (await migrate(database)).applied
    finally:
        await connection.close()
        async with fresh.as_admin() as admin:
            await admin.execute(f"REVOKE CONNECT ON DATABASE {fresh.name} FROM {fresh.login}_t")


async def test_a_login_that_may_not_migrate_checks(postgres_server: PostgresServer) -> None:
    async with bare_database(postgres_server) as ready:
        async with ready.as_admin() as admin:
            await bootstrap(
                admin, prefix=ready.prefix, service_login=ready.login,
                password_verifier=scram_verifier(ready.password), service_migrates=False,
            )  # fmt: skip
        async with ready.open() as database, ready.open(ready.admin_dsn) as privileged:
            with pytest.raises(errors.NotPermitted, match="unjucks-operator db migrate"):
                await prepare(database)
            assert (await migrate(privileged)).applied
            assert (await prepare(database)).migrations.version == len(load_migrations())
            with pytest.raises(errors.NotPermitted):
                async with database.service_tx("owner"):
                    pass
