"""The administrator's step: by whom, how often, with what result; and what the operator's own login may not do afterwards."""

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from support.database import ReadyDatabase, bare_database, new_uid
from support.postgres import PostgresServer
from unjucks_operator import errors
from unjucks_operator.database.bootstrap import bootstrap, bootstrap_sql, prepare, scram_verifier
from unjucks_operator.database.migrate import apply_security, security_sql
from unjucks_operator.database.tenants import Tenants

pytestmark = pytest.mark.integration


TRIGGER = (
    "CREATE TRIGGER t BEFORE UPDATE ON unjucks_ops.tenant FOR EACH ROW "
    "EXECUTE FUNCTION suppress_redundant_updates_trigger()"
)


@pytest.fixture
async def bare(postgres_server: PostgresServer) -> AsyncIterator[ReadyDatabase]:
    async with bare_database(postgres_server) as found:
        yield found


async def roles(ready: ReadyDatabase) -> list[str]:
    async with ready.as_admin() as admin:
        rows = await admin.fetch("SELECT rolname FROM pg_roles WHERE rolname LIKE $1 ORDER BY 1", ready.prefix + "\\_%")
    return [row[0] for row in rows]


async def everything(ready: ReadyDatabase) -> list[str]:
    """Roles, memberships, rights, functions: whatever a second bootstrap must leave as it is."""
    async with ready.as_admin() as admin:
        rows = await admin.fetch(
            "SELECT r::text FROM pg_roles r UNION ALL "
            "SELECT roleid::regrole::text || '>' || member::regrole::text || admin_option::text FROM pg_auth_members UNION ALL "
            "SELECT datacl::text FROM pg_database WHERE datname = current_database() UNION ALL "
            "SELECT l FROM unjucks_ops.security_lines('unjucks_ops') l UNION ALL "
            "SELECT l FROM unjucks_ops.security_lines('unjucks') l UNION ALL "
            "SELECT concat(id, prefix, version) FROM unjucks_ops.installation ORDER BY 1"
        )
    return [row[0] for row in rows if row[0]]


async def test_the_operators_login_after_a_bootstrap(unjucks_database: ReadyDatabase) -> None:
    async with unjucks_database.as_admin() as admin:
        login = await admin.fetchrow("SELECT * FROM pg_roles WHERE rolname = $1", unjucks_database.login)
        assert login is not None
        powers = ("rolsuper", "rolcreaterole", "rolcreatedb", "rolreplication", "rolbypassrls")
        assert [name for name in powers if login[name]] == []
        with_createrole = await admin.fetch(
            "SELECT rolname FROM pg_roles WHERE rolcreaterole AND rolname LIKE $1", unjucks_database.prefix + "\\_%"
        )
        assert [row[0] for row in with_createrole] == [f"{unjucks_database.prefix}_provisioner"]
        assert not await admin.fetchval(
            "SELECT pg_has_role($1, $2, 'MEMBER')", unjucks_database.login, f"{unjucks_database.prefix}_provisioner"
        )
        assert not await admin.fetchval(
            "SELECT has_database_privilege('public', current_database(), 'CONNECT') "
            "OR has_database_privilege('public', current_database(), 'TEMP')"
        )
    connection = await asyncpg.connect(unjucks_database.dsn)
    try:
        for attempt in (
            "CREATE ROLE x",
            "CREATE ROLE ut_000000000000",
            "ALTER ROLE {prefix}_service CREATEROLE",
            "GRANT pg_execute_server_program TO {login}",
            "GRANT pg_read_server_files TO {login}",
            "GRANT {prefix}_provisioner TO {login}",
            "SET ROLE {prefix}_provisioner",
            "SET ROLE postgres",
            "CREATE DATABASE x",
            "CREATE SCHEMA x",
            "CREATE FUNCTION unjucks_ops.x() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "CREATE OR REPLACE FUNCTION unjucks_ops.tenant_role(p_uid uuid) RETURNS name LANGUAGE sql AS 'SELECT NULL::name'",
            "ALTER FUNCTION unjucks_ops.ensure_tenant(uuid, text) SET search_path = public",
            TRIGGER,
            "UPDATE unjucks_ops.installation SET prefix = 'pg'",
            "UPDATE unjucks_ops.tenant SET role_name = 'ut_000000000000'",
            "SELECT unjucks_ops.mend_role('postgres', 'x')",
            "SELECT unjucks_ops.revoke_service('ut_000000000000')",
            "SELECT unjucks_ops.restore_tenant(gen_random_uuid())",
            "COPY (SELECT 1) TO PROGRAM 'cat'",
        ):  # fmt: skip
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(attempt.format(prefix=unjucks_database.prefix, login=unjucks_database.login))
        # Also not by way of the owner of the tables, whom the login may become in order to migrate.
        await connection.execute(f"SET ROLE {unjucks_database.prefix}_owner")
        for attempt in (
            TRIGGER,
            "CREATE POLICY p ON unjucks_ops.tenant USING (true)",
            "CREATE FUNCTION unjucks_ops.x() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "SELECT * FROM unjucks_ops.tenant",
            "CREATE ROLE x",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(attempt)
    finally:
        await connection.close()


async def test_no_privileged_function_touches_an_object_of_the_weaker_owner(unjucks_database: ReadyDatabase) -> None:
    """On PostgreSQL 15 CREATEROLE is as good as superuser: a trigger on such an object would run with it."""
    async with unjucks_database.as_admin() as admin:
        functions = await admin.fetch(
            "SELECT proname, prosrc, prosecdef, proconfig FROM pg_proc WHERE pronamespace = 'unjucks_ops'::regnamespace"
        )
        assert {row["proname"] for row in functions if row["prosecdef"]} == {
            "installation_drift", "tenant_report", "ensure_tenant", "mend_role", "revoke_service", "retire_tenant",
            "drop_tenant", "restore_tenant", "enter", "end_sessions",
            "login_report", "login_begin", "login_commit", "login_mend", "login_drop",
        }  # fmt: skip
        for row in functions:
            assert "unjucks." not in row["prosrc"].replace("unjucks_ops.", ""), row["proname"]
            assert "search_path=pg_catalog, pg_temp" in row["proconfig"], row["proname"]
        public = await admin.fetch(
            "SELECT p.proname FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a "
            "WHERE p.pronamespace = 'unjucks_ops'::regnamespace AND a.grantee = 0"
        )
        assert public == []


async def test_again_changes_nothing_and_keeps_tenants(unjucks_database: ReadyDatabase) -> None:
    uid = new_uid()
    async with unjucks_database.open() as database:
        await Tenants(database).ensure(uid, "acme")
        before = await everything(unjucks_database)
        async with unjucks_database.as_admin() as admin:
            await bootstrap(admin, prefix=unjucks_database.prefix, service_login=unjucks_database.login)
        assert await everything(unjucks_database) == before
        assert (await Tenants(database).sweep())[uid].healthy


async def test_two_administrators_at_once(bare: ReadyDatabase) -> None:
    connections = [await bare.admin() for _ in range(3)]
    try:
        await asyncio.gather(*(bootstrap(each, prefix=bare.prefix) for each in connections))
    finally:
        for each in connections:
            await each.close()
    async with bare.open(bare.admin_dsn) as database:
        assert (await prepare(database)).drift == ()


async def test_one_privileged_dsn_is_enough(bare: ReadyDatabase) -> None:
    async with bare.open(bare.admin_dsn) as one, bare.open(bare.admin_dsn) as two:
        prepared = await asyncio.gather(prepare(one), prepare(two))
        assert any(each.bootstrapped for each in prepared)
        assert {each.installation for each in prepared} == {prepared[0].installation}
        again = await prepare(one)
        assert not again.bootstrapped
        assert again.migrations.applied == ()
        tenants = Tenants(one)
        uid = new_uid()
        role = (await tenants.ensure(uid, "acme")).role
        assert (await tenants.sweep())[uid].healthy
        async with one.tenant_tx(role) as connection:
            assert await connection.fetchval("SELECT current_user::text") == role
            # Even with a superuser's DSN the operator works without a superuser's rights.
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute("SELECT * FROM pg_authid")


async def waits_for_a_lock(ready: ReadyDatabase, task: asyncio.Task[None]) -> None:
    """Return once a session of this database waits for a lock; fails when ``task`` ends without having waited."""
    async with ready.as_admin() as admin:
        while not await admin.fetchval(
            "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')"
        ):
            assert not task.done(), f"nothing kept it waiting: {task}"
            await asyncio.sleep(0.01)


async def test_a_bootstrap_waits_for_an_operator_that_sets_row_security(unjucks_database: ReadyDatabase) -> None:
    """Both need the record of migrations and the table of tenants: taken in two orders that would be a deadlock."""
    async with unjucks_database.open() as database, unjucks_database.as_admin() as admin:
        async with database.service_tx("owner") as migrating:
            await migrating.execute("LOCK TABLE unjucks.schema_migration IN SHARE ROW EXCLUSIVE MODE")
            again = asyncio.create_task(bootstrap(admin, prefix=unjucks_database.prefix))
            await waits_for_a_lock(unjucks_database, again)
            await migrating.execute(security_sql())
            assert not again.done()
        await again
        assert (await prepare(database)).drift == ()


async def test_a_bootstrap_beside_tenants_at_work(unjucks_database: ReadyDatabase) -> None:
    """An upgrade: the administrator's step runs while operators make, retire and drop tenants; nobody fails."""

    async def lives(tenants: Tenants) -> None:
        for _ in range(4):
            uid = new_uid()
            assert (await tenants.ensure(uid, "acme")).usable
            await tenants.retire(uid)
            await tenants.drop(uid)

    async def upgrades() -> None:
        for _ in range(4):
            async with unjucks_database.as_admin() as admin:
                await bootstrap(admin, prefix=unjucks_database.prefix)
            await apply_security(database, record=True, force=True)

    async with unjucks_database.open() as database:
        tenants = Tenants(database)
        await asyncio.gather(upgrades(), upgrades(), *(lives(tenants) for _ in range(3)))
        assert await tenants.orphans() == {}
        assert all(state.healthy for state in (await tenants.sweep()).values())
        assert (await prepare(database)).drift == ()


async def test_owner_of_the_database_with_createrole_is_enough(bare: ReadyDatabase) -> None:
    """A managed server: there is no superuser for its customers."""
    owner = f"{bare.login}_admin"
    async with bare.as_admin() as admin:
        await admin.execute(f"CREATE ROLE {owner} LOGIN CREATEROLE PASSWORD 'x'")
        await admin.execute(f"ALTER DATABASE {bare.name} OWNER TO {owner}")
    connection = await asyncpg.connect(bare.server.dsn(bare.name, owner, "x"))
    try:
        for _ in range(2):
            await bootstrap(
                connection,
                prefix=bare.prefix,
                service_login=bare.login,
                password_verifier=scram_verifier(bare.password),
            )
        # What was lent for the transaction is given back.
        assert await connection.fetch("SELECT 1 FROM pg_auth_members WHERE member = current_user::regrole") == []
    finally:
        await connection.close()
    async with bare.open() as database:
        await prepare(database)
        assert (await Tenants(database).ensure(new_uid(), "acme")).usable


async def test_without_the_administrators_step_the_error_says_so(bare: ReadyDatabase) -> None:
    async with bare.as_admin() as admin:
        await admin.execute(f"CREATE ROLE {bare.login} LOGIN PASSWORD '{bare.password}'")
    async with bare.open() as database:
        with pytest.raises(errors.NotPermitted, match="unjucks-operator db bootstrap"):
            await prepare(database)
    connection = await asyncpg.connect(bare.dsn)
    try:
        with pytest.raises(errors.NotPermitted, match="superuser, or as the owner of the database with CREATEROLE"):
            await bootstrap(connection, prefix=bare.prefix)
    finally:
        await connection.close()
    assert await roles(bare) == []


async def test_roles_of_others_are_not_taken(bare: ReadyDatabase) -> None:
    async with bare.as_admin() as admin:
        await admin.execute(f"CREATE ROLE {bare.prefix}_owner CREATEDB")
        with pytest.raises(errors.NotPermitted, match="was not made for Unjucks Operator"):
            await bootstrap(admin, prefix=bare.prefix)
        assert await admin.fetchval("SELECT rolcreatedb FROM pg_roles WHERE rolname = $1", f"{bare.prefix}_owner")
    assert await roles(bare) == [f"{bare.prefix}_owner"]


async def test_another_prefix_in_the_same_database_is_refused(unjucks_database: ReadyDatabase) -> None:
    async with unjucks_database.as_admin() as admin:
        with pytest.raises(errors.NotPermitted, match="another prefix"):
            await bootstrap(admin, prefix=unjucks_database.prefix + "_2")
        with pytest.raises(ValueError, match="no role prefix"):
            await bootstrap(admin, prefix="pg_x")


async def test_a_login_with_powers_is_refused(bare: ReadyDatabase) -> None:
    async with bare.as_admin() as admin:
        await admin.execute(f"CREATE ROLE {bare.login} LOGIN CREATEROLE")
        with pytest.raises(errors.NotPermitted, match="rights of an administrator"):
            await bootstrap(admin, prefix=bare.prefix, service_login=bare.login)
        with pytest.raises(ValueError, match="no usable login"):
            await bootstrap(admin, prefix=bare.prefix, service_login='x"; DROP')
        with pytest.raises(ValueError, match="not a SCRAM-SHA-256 verifier"):
            await bootstrap(admin, prefix=bare.prefix, service_login="x", password_verifier="plain'; DROP ROLE x")


async def test_password_is_changed_by_a_verifier_and_never_sent(unjucks_database: ReadyDatabase) -> None:
    async with unjucks_database.as_admin() as admin:
        await admin.execute("SET log_statement = 'all'; SET log_min_messages = 'log'")
        await bootstrap(
            admin,
            prefix=unjucks_database.prefix,
            service_login=unjucks_database.login,
            password_verifier=scram_verifier("a new password"),
        )
    assert "SCRAM-SHA-256$4096:" in unjucks_database.server.log()  # so the statements are in the log
    assert "a new password" not in unjucks_database.server.log()
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(unjucks_database.dsn)
    connection = await asyncpg.connect(
        unjucks_database.server.dsn(unjucks_database.name, unjucks_database.login, "a new password")
    )
    await connection.close()


async def test_a_changed_function_is_noticed_and_repaired_by_an_administrator(unjucks_database: ReadyDatabase) -> None:
    async with unjucks_database.as_admin() as admin, unjucks_database.open() as database:
        assert (await prepare(database)).drift == ()
        await admin.execute("ALTER FUNCTION unjucks_ops.ensure_tenant(uuid, text) RESET search_path")
        await admin.execute("GRANT EXECUTE ON FUNCTION unjucks_ops.drop_tenant(uuid) TO PUBLIC")
        drift = (await prepare(database)).drift
        assert any("ensure_tenant" in line for line in drift)
        assert any("drop_tenant" in line for line in drift)
        async with unjucks_database.open(unjucks_database.admin_dsn) as privileged:
            assert (await prepare(privileged)).bootstrapped
        assert (await prepare(database)).drift == ()


async def test_the_file_runs_with_psql(bare: ReadyDatabase, tmp_path: Path) -> None:
    """What the documentation tells administrators of external servers to do."""
    psql = shutil.which("psql")
    assert psql, "psql is not installed. As root, run: apt-get install -y postgresql-client"
    file = tmp_path / "bootstrap.sql"
    file.write_text(bootstrap_sql())
    for _ in range(2):
        done = await asyncio.to_thread(
            subprocess.run,
            [psql, "-X", "-q", "-1", "-v", "ON_ERROR_STOP=1", "-f", str(file), bare.admin_dsn],
            capture_output=True, text=True, timeout=60, check=False,
            env={"PGOPTIONS": f"-c unjucks.prefix={bare.prefix}", "PATH": "/usr/bin:/bin"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "ERROR" not in done.stderr
    async with bare.as_admin() as admin:
        await admin.execute(f"CREATE ROLE {bare.login} LOGIN PASSWORD '{bare.password}'")
        await admin.execute(f"GRANT {bare.prefix}_service TO {bare.login}")
    async with bare.open() as database:
        assert (await prepare(database)).migrations.applied
        assert (await Tenants(database).ensure(new_uid(), "acme")).usable
