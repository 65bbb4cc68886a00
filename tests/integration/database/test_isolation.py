"""Row security between tenants, tried with real SQL: through the operator's way in, and with a login given to a tenant role."""

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator

import asyncpg
import pytest

from support.database import ReadyDatabase, new_uid
from unjucks_api.tree import tree_digest
from unjucks_operator import errors
from unjucks_operator.database.artifacts import Artifacts
from unjucks_operator.database.ledger import Ledger
from unjucks_operator.database.pool import Database
from unjucks_operator.database.tenants import Tenants

pytestmark = pytest.mark.integration

TREE_A = {"a.txt": (b"belongs to a", 0o644)}
TREE_B = {"b.txt": (b"belongs to b", 0o644)}
TABLES = ("artifact", "catalog", "generation_run")


class Two:
    """Two tenants with rows, and a login that belongs to tenant A alone: the strongest position a tenant could get."""

    def __init__(self, ready: ReadyDatabase, database: Database) -> None:
        self.ready = ready
        self.database = database
        self.uid_a, self.uid_b = new_uid(), new_uid()
        self.job_b = new_uid()
        self.role_a = self.role_b = ""

    async def fill(self) -> None:
        tenants, artifacts, ledger = Tenants(self.database), Artifacts(self.database), Ledger(self.database)
        self.role_a = (await tenants.ensure(self.uid_a, "acme")).role
        self.role_b = (await tenants.ensure(self.uid_b, "acme2")).role
        await artifacts.put(self.role_a, tree_digest(TREE_A), TREE_A)
        await artifacts.put(self.role_b, tree_digest(TREE_B), TREE_B)
        await ledger.claim(self.role_a, new_uid(), "key-a", holder="test")
        await ledger.claim(self.role_b, self.job_b, "key-b", holder="test")
        for role, mark in ((self.role_a, "a"), (self.role_b, "b")):
            async with self.database.tenant_tx(role) as connection:
                await connection.execute(
                    "INSERT INTO unjucks.catalog (tenant_id, key, digest, content) "
                    "SELECT tenant_id, $1, $1, '\\x00' FROM unjucks_ops.tenant",
                    "sha256:" + mark * 64,
                )

    @contextlib.asynccontextmanager
    async def direct(self) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
        """A session that logged in as tenant A's role, as ``directAccess`` would allow one day."""
        async with self.ready.as_admin() as admin:
            await admin.execute(f"ALTER ROLE {self.role_a} LOGIN PASSWORD 'for-this-test'")
            await admin.execute(f"GRANT CONNECT ON DATABASE {self.ready.name} TO {self.role_a}")
        connection = await asyncpg.connect(self.ready.server.dsn(self.ready.name, self.role_a, "for-this-test"))
        try:
            yield connection
        finally:
            await connection.close()
            async with self.ready.as_admin() as admin:
                await admin.execute(f"REVOKE CONNECT ON DATABASE {self.ready.name} FROM {self.role_a}")


@pytest.fixture
async def two(unjucks_database: ReadyDatabase, database: Database) -> Two:
    found = Two(unjucks_database, database)
    await found.fill()
    return found


async def own_rows_only(connection: "asyncpg.Connection[asyncpg.Record]", owner: str) -> None:
    for table in TABLES:
        rows = await connection.fetch(f"SELECT tenant_id FROM unjucks.{table}")
        assert [str(row[0]) for row in rows] == [owner], table


async def test_every_table_with_tenants_is_protected_and_keyed_by_tenant(unjucks_database: ReadyDatabase) -> None:
    async with unjucks_database.as_admin() as admin:
        tables = await admin.fetch(
            "SELECT c.relname, c.relrowsecurity, c.relforcerowsecurity, "
            "  (SELECT count(*) FROM pg_policy p WHERE p.polrelid = c.oid) AS policies "
            "FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id' "
            "WHERE c.relnamespace IN ('unjucks'::regnamespace, 'unjucks_ops'::regnamespace) AND c.relkind IN ('r', 'p')"
        )
        policies = dict.fromkeys(TABLES, 4) | {"tenant": 4, "placement": 2, "credential": 1}
        assert {row["relname"]: row["policies"] for row in tables} == policies
        for row in tables:
            assert row["relrowsecurity"], row
            assert row["relforcerowsecurity"], row
        indexes = await admin.fetch(
            "SELECT i.indexrelid::regclass::text AS name, a.attname FROM pg_index i "
            "JOIN pg_class c ON c.oid = i.indrelid AND c.relnamespace = 'unjucks'::regnamespace "
            "JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0] "
            "WHERE EXISTS (SELECT FROM pg_attribute t WHERE t.attrelid = i.indrelid AND t.attname = 'tenant_id')"
        )
        assert indexes
        assert {row["attname"] for row in indexes} == {"tenant_id"}
        others = await admin.fetch(
            "SELECT relname FROM pg_class WHERE relnamespace = 'unjucks'::regnamespace AND relkind IN ('v', 'm', 'S', 'f')"
        )
        assert others == []  # a view would run with its owner's rights, a materialized view has no row security


async def test_policies_of_tenants_are_for_the_group_and_say_both_clauses(unjucks_database: ReadyDatabase) -> None:
    async with unjucks_database.as_admin() as admin:
        rows = await admin.fetch(
            "SELECT * FROM pg_policies WHERE schemaname = 'unjucks' AND policyname = 'tenant_rows'"
        )
    assert len(rows) == len(TABLES)
    for row in rows:
        assert row["roles"] == [f"{unjucks_database.prefix}_tenants"]
        assert row["qual"] == row["with_check"]
        assert "CURRENT_USER" in row["qual"]
        assert "SELECT" in row["qual"]
        assert "current_setting" not in row["qual"]


async def test_through_the_operator_each_tenant_sees_its_rows(two: Two) -> None:
    for role, owner in ((two.role_a, two.uid_a), (two.role_b, two.uid_b)):
        async with two.database.tenant_tx(role) as connection:
            await own_rows_only(connection, owner)
    assert await Artifacts(two.database).get(two.role_a, tree_digest(TREE_B)) is None
    assert await Ledger(two.database).lookup(two.role_a, two.job_b, "key-b") is None


async def test_equal_trees_of_two_tenants_are_two_rows(two: Two) -> None:
    artifacts = Artifacts(two.database)
    digest = tree_digest(TREE_A)
    await artifacts.put(two.role_b, digest, TREE_A)
    assert await artifacts.get(two.role_a, digest) == TREE_A
    async with two.ready.as_admin() as admin:
        assert await admin.fetchval("SELECT count(*) FROM unjucks.artifact WHERE digest = $1", digest) == 2


async def test_the_service_role_itself_has_no_table(two: Two) -> None:
    for table in TABLES:
        with pytest.raises(errors.NotPermitted):
            async with two.database.service_tx() as connection:
                await connection.fetch(f"SELECT * FROM unjucks.{table}")
    with pytest.raises(errors.NotPermitted):
        async with two.database.service_tx() as connection:
            await connection.fetch("SELECT * FROM unjucks_ops.tenant")


async def test_owner_of_the_tables_sees_no_rows(two: Two) -> None:
    async with two.database.service_tx("owner") as connection:
        for table in TABLES:
            assert await connection.fetchval(f"SELECT count(*) FROM unjucks.{table}") == 0


async def test_reaper_reaches_only_retired_tenants(two: Two) -> None:
    async with two.database.service_tx("reaper") as connection:
        for table in TABLES:
            assert await connection.fetchval(f"SELECT count(*) FROM unjucks.{table}") == 0
            assert await connection.execute(f"DELETE FROM unjucks.{table}") == "DELETE 0"
    await Tenants(two.database).retire(two.uid_b, "acme2")
    async with two.database.service_tx("reaper") as connection:
        assert await connection.fetch("SELECT DISTINCT tenant_id::text FROM unjucks.artifact") == [(two.uid_b,)]
    with pytest.raises(errors.NotPermitted):
        async with two.database.service_tx("reaper") as connection:
            await connection.execute("UPDATE unjucks.artifact SET size = 0")


@pytest.mark.isolation("T-rls-write")
async def test_direct_login_reads_and_changes_only_its_own_rows(two: Two) -> None:
    async with two.direct() as connection:
        await own_rows_only(connection, two.uid_a)
        for table in TABLES:
            assert (
                await connection.fetchval(
                    f"SELECT count(*) FROM unjucks.{table} WHERE tenant_id = $1", uuid.UUID(two.uid_b)
                )
                == 0
            )
            assert (
                await connection.execute(f"DELETE FROM unjucks.{table} WHERE tenant_id = $1", uuid.UUID(two.uid_b))
                == "DELETE 0"
            )
        assert await connection.execute("UPDATE unjucks.artifact SET size = 7") == "UPDATE 1"
        assert [str(row[0]) for row in await connection.fetch("SELECT tenant_id FROM unjucks_ops.tenant")] == [
            two.uid_a
        ]
    async with two.ready.as_admin() as admin:
        sizes = await admin.fetch("SELECT tenant_id::text AS t, size FROM unjucks.artifact")
        assert {row["t"]: row["size"] for row in sizes} == {two.uid_a: 7, two.uid_b: len(b"belongs to b")}


FOREIGN_WRITES = {
    "insert a row for B": "INSERT INTO unjucks.generation_run (tenant_id, job_uid, run_key, holder) "
    "VALUES ('{b}', gen_random_uuid(), 'k', 'h')",
    "insert B's existing key (no oracle by a unique error)": "INSERT INTO unjucks.generation_run "
    "(tenant_id, job_uid, run_key, holder) VALUES ('{b}', '{job_b}', 'key-b', 'h')",
    "the same with ON CONFLICT DO NOTHING": "INSERT INTO unjucks.generation_run (tenant_id, job_uid, run_key, holder) "
    "VALUES ('{b}', '{job_b}', 'key-b', 'h') ON CONFLICT DO NOTHING",
    "the same with ON CONFLICT DO UPDATE": "INSERT INTO unjucks.generation_run (tenant_id, job_uid, run_key, holder) "
    "VALUES ('{b}', '{job_b}', 'key-b', 'h') ON CONFLICT (tenant_id, job_uid, run_key) DO UPDATE SET holder = 'mine'",
    "give an own row to B": "UPDATE unjucks.generation_run SET tenant_id = '{b}'",
    "merge into B's row": "MERGE INTO unjucks.generation_run g USING (SELECT 1) s ON g.tenant_id = '{b}' "
    "WHEN NOT MATCHED THEN INSERT (tenant_id, job_uid, run_key, holder) VALUES ('{b}', '{job_b}', 'key-b', 'h')",
    "copy in": "COPY unjucks.generation_run (tenant_id, job_uid, run_key, holder) FROM STDIN",
    "truncate": "TRUNCATE unjucks.generation_run",
    "write the mapping": "UPDATE unjucks_ops.tenant SET role_name = current_user WHERE tenant_id = '{b}'",
    "insert a mapping": "INSERT INTO unjucks_ops.tenant (tenant_id, name, role_name) "
    "VALUES (gen_random_uuid(), 'x', 'ut_000000000000')",
    "read names of the mapping": "SELECT name FROM unjucks_ops.tenant",
    "read the installation": "SELECT * FROM unjucks_ops.installation",
    "read migrations": "SELECT * FROM unjucks.schema_migration",
    "change the baseline": "UPDATE unjucks.security_baseline SET lines = '{{}}'",
    "call ensure": "SELECT unjucks_ops.ensure_tenant(gen_random_uuid(), 'x')",
    "call retire on B": "SELECT unjucks_ops.retire_tenant('{b}', 'x')",
    "call drop on B": "SELECT unjucks_ops.drop_tenant('{b}')",
    "call restore": "SELECT unjucks_ops.restore_tenant('{b}')",
    "call the report": "SELECT unjucks_ops.tenant_report(NULL)",
    "call a helper": "SELECT unjucks_ops.mend_role('{role_b}', 'x')",
    "disable row security": "ALTER TABLE unjucks.artifact DISABLE ROW LEVEL SECURITY",
    "drop the policy": "DROP POLICY tenant_rows ON unjucks.artifact",
    "add a policy": "CREATE POLICY mine ON unjucks.artifact USING (true)",
    "add a trigger": "CREATE TRIGGER t BEFORE INSERT ON unjucks.artifact EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "make a view in schema unjucks": "CREATE VIEW unjucks.v AS SELECT * FROM unjucks.artifact",
    "make a table in schema public": "CREATE TABLE public.t (x int)",
    "make a function in schema public": "CREATE FUNCTION public.uuid_eq(uuid, uuid) RETURNS bool LANGUAGE sql AS 'SELECT true'",
    "make a function in schema unjucks_ops": "CREATE FUNCTION unjucks_ops.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "make a schema": "CREATE SCHEMA mine",
    "make a temporary table": "CREATE TEMP TABLE artifact (x int)",
    "make a temporary operator": "CREATE FUNCTION pg_temp.leak(text) RETURNS bool LANGUAGE sql COST 0.0001 AS 'SELECT true'",
    "make a large object": "SELECT lo_from_bytea(0, 'x')",
    "open a large object": "SELECT lo_open(1, 262144)",
    "become the service": "SET ROLE {prefix}_service",
    "become the owner": "SET ROLE {prefix}_owner",
    "become the provisioner": "SET ROLE {prefix}_provisioner",
    "become the reaper": "SET ROLE {prefix}_reaper",
    "become B": "SET ROLE {role_b}",
    "become B by the setting": "SELECT set_config('role', '{role_b}', false)",
    "become B as the session's user": "SET SESSION AUTHORIZATION {role_b}",
    "become the login": "SET SESSION AUTHORIZATION {login}",
    "join B": "GRANT {role_b} TO {role_a}",
    "join the owner": "GRANT {prefix}_owner TO {role_a}",
    "make itself superuser": "ALTER ROLE {role_a} SUPERUSER",
    "make itself see everything": "ALTER ROLE {role_a} BYPASSRLS",
    "make a role": "CREATE ROLE ut_000000000000",
    "change B's password": "ALTER ROLE {role_b} PASSWORD 'x'",
    "read a file of the server": "SELECT pg_read_file('/etc/passwd')",
    "run a program": "COPY (SELECT 1) TO PROGRAM 'cat'",
    "end another session": "SELECT pg_terminate_backend((SELECT min(pid) FROM pg_stat_activity WHERE usename = '{login}'))",
    "replicate": "SELECT pg_create_logical_replication_slot('s', 'pgoutput')",
    "read the statistics of values": "SELECT stavalues1 FROM pg_statistic",
    "publish": "CREATE PUBLICATION p FOR TABLE unjucks.artifact",
    "grant on": "GRANT SELECT ON unjucks.artifact TO PUBLIC",
    "make an extension": "CREATE EXTENSION dblink",
}  # fmt: skip


@pytest.mark.isolation("T-rls-write", "T-reset-role", "T-shadow-operator", "T-role-hijack")
async def test_direct_login_cannot_do_what_only_others_may(two: Two) -> None:
    """Each attempt is refused by the server, and afterwards nothing of tenant B has changed."""
    values = {
        "a": two.uid_a, "b": two.uid_b, "job_b": two.job_b, "role_a": two.role_a, "role_b": two.role_b,
        "prefix": two.ready.prefix, "login": two.ready.login,
    }  # fmt: skip
    succeeded, unexpected = [], {}
    async with two.ready.as_admin() as admin, two.direct() as connection:
        before = await snapshot(admin)
        for what, template in FOREIGN_WRITES.items():
            try:
                if what == "copy in":
                    await connection.copy_to_table(
                        "generation_run", schema_name="unjucks", columns=["tenant_id", "job_uid", "run_key", "holder"],
                        source=_one_line(f"{two.uid_b}\t{new_uid()}\tk\th\n".encode()),
                    )  # fmt: skip
                else:
                    await connection.execute(template.format(**values))
                succeeded.append(what)
            except asyncpg.PostgresError as error:
                # insufficient privilege, or: not supported with row security (COPY), must be superuser, no such thing
                if error.sqlstate not in {"42501", "0A000"}:
                    unexpected[what] = f"{error.sqlstate} {error}"
        assert succeeded == ["grant on"]  # which does nothing but warn; the rights are part of what is compared here
        assert unexpected == {}
        assert await snapshot(admin) == before


async def _one_line(line: bytes) -> AsyncIterator[bytes]:
    yield line


async def snapshot(admin: "asyncpg.Connection[asyncpg.Record]") -> dict[str, list[str]]:
    """All rows of all tables of ours, and all roles, as text."""
    found = {}
    for table in (
        *(f"unjucks.{name}" for name in TABLES),
        "unjucks.security_baseline",
        "unjucks_ops.tenant",
        "pg_roles",
    ):
        rows = await admin.fetch(f"SELECT t::text FROM {table} t ORDER BY 1")
        found[table] = [row[0] for row in rows]
    rows = await admin.fetch(
        "SELECT n.nspname, l FROM pg_namespace n, unjucks_ops.security_lines(n.nspname) l ORDER BY 1, 2"
    )
    found["security"] = [f"{row[0]}: {row[1]}" for row in rows]
    return found


@pytest.mark.isolation("T-rls-guc", "T-reset-role")
async def test_tricks_with_settings_and_roles_show_nothing_of_others(two: Two) -> None:
    """What a tenant's SQL may do, but which must not widen what it sees."""
    async with two.direct() as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("SET row_security = off; SELECT * FROM unjucks.artifact")
        await connection.execute("RESET row_security")
        for trick in (
            "RESET ROLE",
            "RESET SESSION AUTHORIZATION",
            f"SET ROLE {two.role_a}",
            "SET search_path = pg_temp, public, unjucks, pg_catalog",
            "SET session_replication_role = replica",
            "SET enable_indexscan = off; SET enable_bitmapscan = off",
            "SET plan_cache_mode = force_generic_plan",
            f"SELECT set_config('unjucks.prefix', '{two.ready.prefix}', false)",
            f"SELECT set_config('app.tenant', '{two.uid_b}', false)",
        ):
            with contextlib.suppress(asyncpg.InsufficientPrivilegeError):
                await connection.execute(trick)
            await own_rows_only(connection, two.uid_a)
            await connection.execute("RESET ALL")
        # The group that holds all grants may be taken on, but has no row in the mapping.
        await connection.execute(f"SET ROLE {two.ready.prefix}_tenants")
        for table in TABLES:
            assert await connection.fetchval(f"SELECT count(*) FROM unjucks.{table}") == 0
        await connection.execute("RESET ROLE")
        copied = bytearray()

        async def collect(data: bytes) -> None:
            copied.extend(data)

        await connection.copy_from_query("SELECT tenant_id FROM unjucks.generation_run", output=collect)
        assert copied.decode().split() == [two.uid_a]
        copied.clear()
        await connection.copy_from_table("generation_run", schema_name="unjucks", columns=["tenant_id"], output=collect)
        assert copied.decode().split() == [two.uid_a]


@pytest.mark.isolation("T-rls-leaky-operator")
async def test_conditions_that_raise_never_run_on_rows_of_others(two: Two) -> None:
    """A leaky function or operator in the condition must come after the policy: B's row would make the division fail."""
    async with two.direct() as connection:
        digest_b = tree_digest(TREE_B)
        await connection.execute("ANALYZE unjucks.artifact")
        for condition in (
            "1 / (CASE WHEN digest = $1 THEN 0 ELSE 1 END) = 1",
            "digest::text LIKE substr($1, 1, 12) || '%' AND 1 / (CASE WHEN digest = $1 THEN 0 ELSE 1 END) = 1",
        ):
            rows = await connection.fetch(f"SELECT tenant_id::text FROM unjucks.artifact WHERE {condition}", digest_b)
            assert [row[0] for row in rows if row[0] != two.uid_a] == []
        noticed: list[str] = []
        connection.add_log_listener(lambda _, message: noticed.append(message.message))
        await connection.execute(
            "DO $$ DECLARE r record; BEGIN FOR r IN SELECT * FROM unjucks.artifact WHERE pg_sleep(0) IS NOT NULL "
            "LOOP RAISE WARNING '%', r.tenant_id; END LOOP; END $$"
        )
        await connection.execute("SELECT 1")
        assert noticed == [two.uid_a]
        assert (
            await connection.fetch(
                "SELECT attname FROM pg_stats WHERE schemaname = 'unjucks' AND tablename = 'artifact'"
            )
            == []
        )


@pytest.mark.isolation("T-rls-prepared-role-switch")
async def test_a_prepared_statement_follows_the_role_of_the_moment(two: Two) -> None:
    """One session of the service, one prepared statement, both roles: the plan must not keep the first one's rows."""
    connection = await asyncpg.connect(two.ready.dsn)
    try:
        statement = await connection.prepare("SELECT tenant_id::text FROM unjucks.artifact")
        await connection.execute("SET plan_cache_mode = force_generic_plan")
        for _ in range(7):  # more than the five runs after which a generic plan may be kept
            for role, owner in ((two.role_a, two.uid_a), (two.role_b, two.uid_b)):
                async with connection.transaction():
                    await connection.execute(f"SET LOCAL ROLE {role}")
                    assert [row[0] for row in await statement.fetch()] == [owner]
    finally:
        await connection.close()


@pytest.mark.isolation("T-reset-role")
async def test_nothing_of_a_transaction_survives_in_the_session(two: Two) -> None:
    """The one connection of this pool serves A, fails as A, is cancelled as A, and then shows the service nothing of A."""
    settings = type(two.database.settings)(max_connections=1)
    async with two.ready.open(settings=settings) as database:
        async with database.tenant_tx(two.role_a) as connection:
            await own_rows_only(connection, two.uid_a)
            first = await connection.fetchval("SELECT pg_backend_pid()")
        with pytest.raises(errors.Bug):
            async with database.tenant_tx(two.role_a) as connection:
                await connection.execute("SELECT 1/0")
        with pytest.raises(RuntimeError, match="of the caller"):
            async with database.tenant_tx(two.role_a):
                raise RuntimeError("of the caller")
        async with database.login_session() as connection:
            assert await connection.fetchval("SELECT current_user") == two.ready.login
            assert await connection.fetchval("SHOW statement_timeout") == "0"
            assert await connection.fetchval("SELECT pg_backend_pid()") == first
        started = asyncio.Event()

        async def long() -> None:
            async with database.tenant_tx(two.role_a) as connection:
                started.set()
                await connection.execute("SELECT pg_sleep(20)")

        task = asyncio.create_task(long())
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with database.tenant_tx(two.role_b) as connection:
            await own_rows_only(connection, two.uid_b)
            assert (
                await connection.fetchval("SELECT pg_backend_pid()") != first
            )  # the cancelled session was thrown away


@pytest.mark.isolation("T-sql-fuzz-names")
async def test_role_names_from_elsewhere_never_reach_the_server(two: Two) -> None:
    for name in (
        two.ready.login,
        "postgres",
        f"{two.role_a}; SELECT 1",
        'ut_"',
        "UT_000000000000",
        f"{two.role_a}\n",
        "",
    ):
        with pytest.raises(ValueError, match="not the role of a tenant"):
            async with two.database.tenant_tx(name):
                pass


async def test_a_tenant_of_the_same_name_made_again_is_somebody_else(two: Two) -> None:
    tenants, artifacts = Tenants(two.database), Artifacts(two.database)
    await tenants.retire(two.uid_a, "acme")
    again = await tenants.ensure(new_uid(), "acme")
    assert again.role != two.role_a
    assert await artifacts.list(again.role) == ()
    assert await artifacts.get(again.role, tree_digest(TREE_A)) is None
    with pytest.raises(errors.Waiting):
        await artifacts.list(two.role_a)


async def test_a_session_of_a_retired_tenant_goes_blind_at_once(two: Two) -> None:
    async with two.direct() as connection:
        await own_rows_only(connection, two.uid_a)
        await Tenants(two.database).retire(two.uid_a, "acme")
        for table in TABLES:
            assert await connection.fetchval(f"SELECT count(*) FROM unjucks.{table}") == 0
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(
                "INSERT INTO unjucks.generation_run (tenant_id, job_uid, run_key, holder) VALUES ($1, $1, 'k', 'h')",
                uuid.UUID(two.uid_a),
            )


async def test_plans_keep_using_the_key_under_row_security(two: Two) -> None:
    """The policy is an InitPlan and a condition of the primary key's index, not a filter of every row."""
    async with two.ready.as_admin() as admin:
        await admin.execute(
            "INSERT INTO unjucks.generation_run (tenant_id, job_uid, run_key, holder) "
            "SELECT t, gen_random_uuid(), 'k', 'h' FROM generate_series(1, 300), (SELECT tenant_id AS t FROM unjucks_ops.tenant "
            "UNION ALL SELECT gen_random_uuid() FROM generate_series(1, 8)) many"
        )
        await admin.execute("ANALYZE unjucks.generation_run")
    async with two.database.tenant_tx(two.role_a) as connection:
        plan = json.loads(
            await connection.fetchval(
                "EXPLAIN (FORMAT JSON, VERBOSE) SELECT * FROM unjucks.generation_run WHERE job_uid = $1 AND run_key = 'k'",
                uuid.UUID(two.job_b),
            )
        )[0]["Plan"]
    nodes = list(_nodes(plan))
    assert any(node.get("Parent Relationship") == "InitPlan" for node in nodes)
    used = [node for node in nodes if node.get("Index Name") == "generation_run_pkey"]
    assert used, str(plan)
    assert all(part in used[0]["Index Cond"] for part in ("tenant_id", "job_uid", "run_key"))


def _nodes(plan: dict[str, object]) -> list[dict[str, object]]:
    children = plan.get("Plans", [])
    assert isinstance(children, list)
    return [plan, *(node for child in children for node in _nodes(child))]
