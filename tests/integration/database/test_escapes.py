"""Ways out, tried with the logins that tenants really get: of a tenant in the shared database, and of one with its own."""

import re
from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio

from support.database import ReadyDatabase, new_uid
from unjucks_api import names
from unjucks_api.tree import tree_digest
from unjucks_operator import errors
from unjucks_operator.config import Config
from unjucks_operator.database.artifacts import Artifacts
from unjucks_operator.database.homes import Homes, SecretData
from unjucks_operator.database.identifiers import quote_tenant_role
from unjucks_operator.database.routing import dsn_of

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]

DENIED = (asyncpg.InsufficientPrivilegeError, asyncpg.FeatureNotSupportedError, asyncpg.ReadOnlySQLTransactionError)


class Tenants:
    """Two tenants in the shared database, two with their own; each has a login."""

    def __init__(self, ready: ReadyDatabase, homes: Homes) -> None:
        self.ready, self.homes = ready, homes
        self.logins: dict[str, dict[str, str]] = {}
        self.uids: dict[str, str] = {}
        self.roles: dict[str, str] = {}

    async def add(self, name: str, home: str) -> None:
        uid = self.uids[name] = new_uid()
        state = await self.homes.ensure(uid, name, first=home)
        self.roles[name] = state.role
        await Artifacts(self.homes.router).put(state.role, tree_digest(tree(name)), tree(name))
        fresh = await self.homes.renew_login(uid, "", every=1e9, overlap=1.0)
        assert isinstance(fresh, SecretData)
        await self.homes.commit_login(uid, fresh.version, 1.0)
        self.logins[name] = dict(fresh.data)

    async def connect(self, name: str, database: str | None = None) -> "asyncpg.Connection[asyncpg.Record]":
        login = self.logins[name]
        return await asyncpg.connect(login["uri"] if database is None else dsn_of(login["uri"], database))


def tree(name: str) -> dict[str, tuple[bytes, int]]:
    return {"who.txt": (name.encode(), 0o644)}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tenants(shared_database: ReadyDatabase) -> AsyncIterator[Tenants]:
    async with shared_database.open() as platform:
        homes = Homes(platform, Config())
        made = Tenants(shared_database, homes)
        for name, home in (("sa", "Shared"), ("sb", "Shared"), ("da", "Dedicated"), ("db", "Dedicated")):
            await made.add(name, home)
        yield made
        await homes.close()


async def all_databases(ready: ReadyDatabase) -> list[str]:
    async with ready.as_admin() as admin:
        return [row[0] for row in await admin.fetch("SELECT datname::text FROM pg_database ORDER BY 1")]


@pytest.mark.isolation("T-db-connect-matrix")
async def test_each_login_reaches_exactly_its_own_database(tenants: Tenants) -> None:
    databases = await all_databases(tenants.ready)
    assert {"postgres", "template0", "template1", tenants.ready.name, tenants.roles["da"], tenants.roles["db"]} <= set(
        databases
    )
    got: dict[str, list[str]] = {}
    for name in tenants.logins:
        got[name] = []
        for database in databases:
            try:
                connection = await tenants.connect(name, database)
            except (asyncpg.PostgresError, OSError):
                continue
            await connection.close()
            got[name].append(database)
    shared = [tenants.ready.name]
    assert got == {"sa": shared, "sb": shared, "da": [tenants.roles["da"]], "db": [tenants.roles["db"]]}


@pytest.mark.isolation("T-cred-swap")
async def test_credentials_with_anothers_names(tenants: Tenants) -> None:
    for name, login in tenants.logins.items():
        for other, theirs in tenants.logins.items():
            if other == name:
                continue
            with pytest.raises(asyncpg.PostgresError):  # their user with my password
                await asyncpg.connect(tenants.ready.server.dsn(theirs["dbname"], theirs["username"], login["password"]))
            if theirs["dbname"] != login["dbname"]:
                with pytest.raises(asyncpg.PostgresError):  # my user and password, their database
                    await asyncpg.connect(
                        tenants.ready.server.dsn(theirs["dbname"], login["username"], login["password"])
                    )
        for user in (tenants.roles[name], tenants.ready.login, f"{tenants.ready.prefix}_service", "postgres"):
            with pytest.raises(asyncpg.PostgresError):
                await asyncpg.connect(tenants.ready.server.dsn(login["dbname"], user, login["password"]))


@pytest.mark.isolation("T-db-connect-matrix")
@pytest.mark.parametrize("name", ["sa", "da"])
async def test_a_login_sees_its_own_rows_and_cannot_write_them(tenants: Tenants, name: str) -> None:
    connection = await tenants.connect(name)
    try:
        assert await connection.fetch("SELECT DISTINCT tenant_id::text FROM unjucks.artifact") == [
            (tenants.uids[name],)
        ]
        assert [row[0] for row in await connection.fetch("SELECT role_name::text FROM unjucks_ops.tenant")] == [
            tenants.roles[name]
        ]
        await connection.execute("SET default_transaction_read_only = off")
        for table in ("artifact", "catalog", "generation_run"):
            for statement in (f"DELETE FROM unjucks.{table}", f"UPDATE unjucks.{table} SET tenant_id = tenant_id",
                              f"TRUNCATE unjucks.{table}", f"SELECT * FROM unjucks.{table} FOR UPDATE",
                              f"SELECT 1; LOCK TABLE unjucks.{table} IN ROW EXCLUSIVE MODE"):  # fmt: skip
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute(statement)
    finally:
        await connection.close()


ATTEMPTS = {
    "T-reset-role": (
        "SET ROLE {role}", "SET ROLE {other}", "SET ROLE {prefix}_tenants", "SET ROLE {prefix}_service", "SET ROLE {prefix}_owner",
        "SET ROLE {prefix}_databases", "SET ROLE {prefix}_provisioner", "SET SESSION AUTHORIZATION {other}_a",
        "SET SESSION AUTHORIZATION {login}", "SELECT set_config('role', '{other}', false)", "GRANT {other} TO CURRENT_USER",
        "GRANT {prefix}_guests TO {other}_a",
    ),
    "T-event-trigger": (
        "CREATE EVENT TRIGGER t ON ddl_command_end EXECUTE FUNCTION pg_catalog.suppress_redundant_updates_trigger()",
        "CREATE TRIGGER t BEFORE INSERT ON unjucks.artifact EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        "CREATE RULE r AS ON SELECT TO unjucks.catalog DO INSTEAD SELECT 1",
        "ALTER ROLE {role} SET session_preload_libraries = 'x'",
    ),
    "T-shadow-operator": (
        "CREATE SCHEMA mine", "CREATE FUNCTION public.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE OPERATOR public.= (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = uuid_eq)",
        "CREATE FUNCTION unjucks.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE FUNCTION unjucks_ops.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE FUNCTION pg_temp.now() RETURNS timestamptz LANGUAGE sql AS 'SELECT null::timestamptz'",
        "CREATE TEMP TABLE tenant (x int)",
        "CREATE VIEW public.v AS SELECT 1", "ALTER ROLE {other}_a SET search_path = mine",
    ),
    "T-db-hijack": (
        "CREATE DATABASE mine", "ALTER DATABASE {database} OWNER TO CURRENT_USER", "ALTER DATABASE {database} CONNECTION LIMIT -1",
        "ALTER DATABASE {database} RENAME TO mine", "ALTER DATABASE {database} ALLOW_CONNECTIONS false", "DROP DATABASE {other}",
        "GRANT CONNECT ON DATABASE {database} TO PUBLIC", "COMMENT ON DATABASE {database} IS 'x'",
        "ALTER DATABASE {database} SET search_path = mine", "UPDATE unjucks_ops.gate SET state = 'open'",
        "UPDATE unjucks_ops.tenant SET role_name = 'ut_000000000000'", "SELECT unjucks_ops.enter('write')",
        "SELECT * FROM unjucks_ops.gate", "SELECT * FROM unjucks_ops.placement", "SELECT * FROM unjucks_ops.credential",
    ),
    "T-role-hijack": (
        "CREATE ROLE ut_000000000000_a", "ALTER ROLE {other}_a PASSWORD 'x'", "ALTER ROLE CURRENT_USER CREATEROLE",
        "ALTER ROLE CURRENT_USER CONNECTION LIMIT -1", "ALTER ROLE CURRENT_USER VALID UNTIL 'infinity'", "DROP ROLE {other}_a",
        "ALTER ROLE {me} RENAME TO x", "SELECT rolpassword FROM pg_authid",
        "SELECT unjucks_admin.login_has('{other}_a', 'x')",
        "SELECT unjucks_ops.login_begin(gen_random_uuid(), 'x', gen_random_uuid(), true, 1, '{{}}', 0)",
    ),
    "T-rls-write": (
        "COPY unjucks.generation_run FROM STDIN", "COPY (SELECT 1) TO PROGRAM 'true'", "COPY (SELECT 1) TO '/tmp/x'",
        "SELECT pg_read_file('PG_VERSION')", "SELECT pg_ls_dir('.')", "CREATE EXTENSION dblink", "CREATE EXTENSION postgres_fdw",
        "CREATE SERVER s FOREIGN DATA WRAPPER postgres_fdw", "CREATE PUBLICATION p FOR ALL TABLES",
        "SELECT pg_create_logical_replication_slot('s', 'pgoutput')", "SELECT lo_import('/etc/passwd')",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{login}' LIMIT 1",
        "ALTER SYSTEM SET work_mem = '1GB'",
        "SET session_replication_role = replica", "SET temp_file_limit = -1", "REFERENCES",
    ),
}  # fmt: skip


@pytest.mark.isolation(*ATTEMPTS)
@pytest.mark.parametrize("name", ["sa", "da"])
async def test_nothing_that_only_others_may(tenants: Tenants, name: str) -> None:
    values = {
        "me": tenants.logins[name]["username"],
        "role": tenants.roles[name], "other": tenants.roles["sb" if name == "sa" else "db"], "prefix": tenants.ready.prefix,
        "login": tenants.ready.login, "database": tenants.logins[name]["dbname"],
    }  # fmt: skip
    succeeded, unexpected = [], {}
    keeper = await tenants.ready.admin()
    connection = await tenants.connect(name)
    try:
        # Something of the operator's to be ended, in the case that this works.
        async with tenants.homes.router.tenant_tx(tenants.roles[name]):
            await connection.execute("SET default_transaction_read_only = off")
            before = await keeper.fetch("SELECT r::text FROM pg_roles r ORDER BY 1")
            for attempts in ATTEMPTS.values():
                for attempt in attempts:
                    try:
                        await connection.execute(attempt.format(**values))
                        succeeded.append(attempt)
                    except DENIED:
                        pass
                    except asyncpg.PostgresError as error:
                        unexpected[attempt] = f"{error.sqlstate} {error}"
        assert await keeper.fetch("SELECT r::text FROM pg_roles r ORDER BY 1") == before
    finally:
        await connection.close()
        await keeper.close()
    # What does nothing but warn, what has no such thing, and a syntax error that stands for itself.
    harmless = re.compile(r"GRANT CONNECT ON DATABASE")
    assert [it for it in succeeded if not harmless.match(it)] == []
    kinds = {"3D000", "3F000", "42883", "42704", "42601", "0LP01", "42710", "0A000", "42P01", "42809"}
    assert {it: why for it, why in unexpected.items() if why[:5] not in kinds} == {}
    assert (await tenants.homes.sweep())[tenants.uids[name]].healthy


@pytest.mark.isolation("T-rls-guc")
@pytest.mark.parametrize("name", ["sa", "da"])
async def test_settings_and_roles_show_nothing_of_others(tenants: Tenants, name: str) -> None:
    connection = await tenants.connect(name)
    try:
        for trick in (
            "RESET ROLE", "RESET SESSION AUTHORIZATION", "SET ROLE NONE", "RESET ALL",
            "SET search_path = pg_temp, unjucks, pg_catalog",
            f"SET ROLE {tenants.ready.prefix}_readers", f"SELECT set_config('app.tenant', '{tenants.uids['sb']}', false)",
        ):  # fmt: skip
            try:
                await connection.execute(trick)
            except asyncpg.InsufficientPrivilegeError:
                pass
            rows = [row[0] for row in await connection.fetch("SELECT DISTINCT tenant_id::text FROM unjucks.artifact")]
            assert set(rows) <= {tenants.uids[name]}, trick
            await connection.execute("RESET ROLE")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("SET row_security = off; SELECT * FROM unjucks.artifact")
    finally:
        await connection.close()


@pytest.mark.isolation("T-rls-leaky-operator")
async def test_what_a_login_sees_of_the_server_names_nobody(tenants: Tenants) -> None:
    async with tenants.homes.router.tenant_tx(tenants.roles["sb"]) as busy:
        await busy.execute("SELECT 'a word of somebody else'")
        for name in ("sa", "da"):
            connection = await tenants.connect(name)
            try:
                seen = await connection.fetch(
                    "SELECT usename::text, query FROM pg_stat_activity WHERE usename IS NOT NULL"
                )
                foreign = [row["query"] for row in seen if row["usename"] != tenants.logins[name]["username"]]
                assert foreign
                assert set(foreign) == {"<insufficient privilege>"}
                text = str(
                    await connection.fetch(
                        "SELECT rolname, shobj_description(oid, 'pg_authid') FROM pg_roles "
                        "UNION ALL SELECT datname, NULL FROM pg_database"
                    )
                )
                assert "acme" not in text
                assert (
                    await connection.fetch(
                        "SELECT 1 FROM pg_stats WHERE schemaname = 'unjucks' AND tablename = 'artifact'"
                    )
                    == []
                )
            finally:
                await connection.close()


async def test_large_objects_are_refused_or_stay_in_ones_own_database(tenants: Tenants) -> None:
    shared = await tenants.connect("sa")
    own = await tenants.connect("da")
    try:
        for connection in (shared, own):
            await connection.execute("SET default_transaction_read_only = off")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await shared.fetchval("SELECT lo_from_bytea(0, 'x')")
        number = await own.fetchval("SELECT lo_from_bytea(0, 'x')")
        for other in ("sa", "db"):
            connection = await tenants.connect(other)
            with pytest.raises(asyncpg.PostgresError):
                await connection.fetchval("SELECT lo_get($1)", number)
            await connection.close()
        assert (await tenants.homes.sweep())[tenants.uids["da"]].drift  # noticed
        await own.execute(f"SELECT lo_unlink({number})")
    finally:
        await shared.close()
        await own.close()


@pytest.mark.isolation("T-sql-fuzz-names")
async def test_names_never_become_sql(tenants: Tenants) -> None:
    for name in (
        "ut_" + "a" * 11,
        "ut_0123456789ab; DROP",
        'ut_0123456789"b',
        "ut_0123456789ab\x00",
        "UT_0123456789AB",
        "ut_0123456789ab\n",
        "é",
        "",
    ):
        with pytest.raises(ValueError, match="not the role of a tenant"):
            quote_tenant_role(name)
        with pytest.raises((ValueError, errors.OperatorError)):
            async with tenants.homes.router.tenant_tx(name):
                pytest.fail("it was let in")
    for uid in (
        "",
        "x",
        "'; DROP TABLE unjucks.artifact; --",
        "\x00",
        "5d9a3b1e-0000-4000-8000-00000000aaaa' OR true --",
    ):
        for call in (
            tenants.homes.ensure(uid, "acme", first="Dedicated"), tenants.homes.move(uid, "acme", "Dedicated"),
            tenants.homes.renew_login(uid, "", every=1.0, overlap=1.0), tenants.homes.drop_login(uid),
            tenants.homes.retire(uid, "acme"), tenants.homes.drop(uid),
        ):  # fmt: skip
            with pytest.raises((ValueError, errors.InvalidSpec)):
                await call
    for name in ("Acme", "a'b", 'a"b', "a\x00b", "a;b", "a" * 300, "-a", "", "ä"):
        with pytest.raises((errors.InvalidSpec, errors.Bug)):
            await tenants.homes.ensure(new_uid(), name, first="Dedicated")
    assert names.database_role(new_uid()) != names.database_role(new_uid())
