"""The ways out that the canary tries, as data: SQL that one tenant runs against another's rows. Pure; called by ``canary``.

``$a`` and ``$b`` stand for the two tenants' UIDs, ``$rb`` for B's role. Everything is undone afterwards.
"""

# ruff: noqa: E501, S608  SQL is written as SQL; statements are put together from constants of this module only

import uuid
from dataclasses import dataclass
from typing import Final

MARK_A: Final = "sha256:" + "a0" * 32
MARK_B: Final = "sha256:" + "b1" * 32
RUN_A: Final = uuid.UUID(int=0xA)
RUN_B: Final = uuid.UUID(int=0xB)
TABLES: Final = ("generation_run", "catalog", "artifact")  # in the order in which everybody locks them


@dataclass(frozen=True, slots=True)
class Attempt:
    """One way out. It succeeded when ``sql`` returns a row (``kind`` rows), changes one (changes), or is not refused (refused).

    ``$a`` and ``$b`` stand for the two UIDs, ``$rb`` for B's role.
    """

    name: str
    sql: str
    kind: str = "rows"


def _reads(table: str) -> tuple[Attempt, ...]:
    name = f"unjucks.{table}"
    other = "tenant_id = '$b'"
    return (
        Attempt(f"read rows of {name}", f"SELECT 1 FROM {name} WHERE {other} OR tenant_id <> '$a'"),
        Attempt(f"lock rows of {name}", f"SELECT 1 FROM {name} WHERE {other} FOR UPDATE"),
        Attempt(f"count the whole of {name}", f"SELECT 1 FROM {name} HAVING count(*) <> 1"),
        Attempt(f"delete rows of {name}", f"DELETE FROM {name} WHERE {other}", "changes"),
        Attempt(f"delete rows of {name} in a CTE", f"WITH d AS (DELETE FROM {name} WHERE {other} RETURNING 1) SELECT 1 FROM d"),
        Attempt(f"give own rows of {name} away", f"UPDATE {name} SET tenant_id = '$b'", "refused"),
        Attempt(f"take rows of {name}", f"UPDATE {name} SET tenant_id = '$a' WHERE {other}", "changes"),
        Attempt(f"empty {name}", f"TRUNCATE {name}", "refused"),
        Attempt(f"see rows of {name} by their place", f"SELECT 1 FROM {name} WHERE ctid <> '(0,0)' AND tenant_id <> '$a'"),
        Attempt(f"switch row security of {name} off", f"ALTER TABLE {name} DISABLE ROW LEVEL SECURITY", "refused"),
        Attempt(f"add a policy to {name}", f"CREATE POLICY canary ON {name} USING (true)", "refused"),
        Attempt(f"add a trigger to {name}", f"CREATE TRIGGER canary BEFORE INSERT ON {name} EXECUTE FUNCTION suppress_redundant_updates_trigger()", "refused"),
    )  # fmt: skip


_RUN_KEYS: Final = "(tenant_id, job_uid, run_key, holder)"
ATTEMPTS: Final = (
    *(attempt for table in TABLES for attempt in _reads(table)),
    # --- writes into B, and errors that would tell of B
    Attempt("write a row for the other", f"INSERT INTO unjucks.generation_run {_RUN_KEYS} VALUES ('$b', gen_random_uuid(), 'x', 'x')", "refused"),
    Attempt("find a key of the other by its error", f"INSERT INTO unjucks.generation_run {_RUN_KEYS} VALUES ('$b', '{RUN_B}', 'canary', 'x')", "refused"),
    Attempt("find a key by ON CONFLICT", f"INSERT INTO unjucks.generation_run {_RUN_KEYS} VALUES ('$b', '{RUN_B}', 'canary', 'x') ON CONFLICT DO NOTHING", "refused"),
    Attempt("change a row by ON CONFLICT", f"INSERT INTO unjucks.generation_run {_RUN_KEYS} VALUES ('$b', '{RUN_B}', 'canary', 'x') "
            "ON CONFLICT (tenant_id, job_uid, run_key) DO UPDATE SET holder = 'x'", "refused"),
    Attempt("change a row by MERGE", "MERGE INTO unjucks.generation_run g USING (SELECT 1) s ON g.tenant_id = '$b' WHEN MATCHED THEN UPDATE SET holder = 'x'", "changes"),
    Attempt("make a reference to rows", "CREATE TEMP TABLE canary (t uuid, d text, FOREIGN KEY (t, d) REFERENCES unjucks.artifact)", "refused"),
    # --- conditions that would run before the policy, and statistics
    Attempt("a condition that fails on a hidden row", f"SELECT 1 FROM unjucks.artifact WHERE 1 / (CASE WHEN digest = '{MARK_B}' THEN 0 ELSE 1 END) = 0"),
    Attempt("a leaky operator before the policy", f"SELECT 1 FROM unjucks.artifact WHERE digest LIKE 'sha256:b1%' AND 1 / (CASE WHEN digest = '{MARK_B}' THEN 0 ELSE 1 END) = 0"),
    Attempt("statistics of values", "SELECT 1 FROM pg_stats WHERE schemaname = 'unjucks' AND tablename IN ('artifact', 'catalog', 'generation_run')"),
    Attempt("raw statistics", "SELECT stavalues1 FROM pg_statistic LIMIT 1", "refused"),
    Attempt("a join on hidden rows", "SELECT 1 FROM unjucks.artifact x JOIN unjucks.catalog c ON true WHERE '$b' IN (x.tenant_id, c.tenant_id)"),
    Attempt("a function of the table's row", "SELECT 1 FROM unjucks.artifact x WHERE (row_to_json(x) ->> 'tenant_id') <> '$a'"),
    Attempt("the table as XML", "SELECT 1 WHERE query_to_xml('SELECT tenant_id FROM unjucks.artifact', true, true, '')::text LIKE '%$b%'"),
    # --- settings that claim to be somebody
    Attempt("claim to be the other by a setting", "SELECT 1 FROM (SELECT set_config('app.tenant', '$b', true), set_config('unjucks.tenant', '$b', true), "
            "set_config('request.jwt.claims', '{\"sub\": \"$b\"}', true)) s, unjucks.artifact x WHERE x.tenant_id = '$b'"),
    Attempt("see it with row security off", "SET LOCAL row_security = off; SELECT 1 FROM unjucks.artifact", "refused"),
    Attempt("switch triggers and rules off", "SET LOCAL session_replication_role = replica", "refused"),
    Attempt("names from a schema of one's own", "SET LOCAL search_path = pg_temp, unjucks; CREATE TEMP TABLE tenant AS SELECT '$b'::uuid AS tenant_id", "refused"),
    # --- the mapping and the platform's own things
    Attempt("read the list of tenants", "SELECT 1 FROM unjucks_ops.tenant WHERE role_name <> current_user"),
    Attempt("read names of tenants", "SELECT name FROM unjucks_ops.tenant", "refused"),
    Attempt("change the list of tenants", "UPDATE unjucks_ops.tenant SET role_name = current_user WHERE tenant_id = '$b'", "refused"),
    Attempt("add to the list of tenants", "INSERT INTO unjucks_ops.tenant (tenant_id, name, role_name) VALUES (gen_random_uuid(), 'x', 'ut_000000000000')", "refused"),
    Attempt("read where tenants' rows are", "SELECT 1 FROM unjucks_ops.placement WHERE tenant_id <> '$a'"),
    Attempt("read the installation", "SELECT * FROM unjucks_ops.installation", "refused"),
    Attempt("read the migrations", "SELECT * FROM unjucks.schema_migration", "refused"),
    Attempt("change the baseline", "UPDATE unjucks.security_baseline SET lines = '{}'", "refused"),
    Attempt("make a tenant", "SELECT unjucks_ops.ensure_tenant(gen_random_uuid(), 'x')", "refused"),
    Attempt("retire the other", "SELECT unjucks_ops.retire_tenant('$b', 'x')", "refused"),
    Attempt("drop the other", "SELECT unjucks_ops.drop_tenant('$b')", "refused"),
    Attempt("report on tenants", "SELECT unjucks_ops.tenant_report(NULL)", "refused"),
    # --- places to put things, files, programs, other roles
    Attempt("make a table", "CREATE TABLE public.canary (x int)", "refused"),
    Attempt("make a view beside the tables", "CREATE VIEW unjucks.canary AS SELECT * FROM unjucks.artifact", "refused"),
    Attempt("make a function that shadows one", "CREATE FUNCTION public.uuid_eq(uuid, uuid) RETURNS bool LANGUAGE sql AS 'SELECT true'", "refused"),
    Attempt("make a schema", "CREATE SCHEMA canary", "refused"),
    Attempt("publish the tables", "CREATE PUBLICATION canary FOR TABLE unjucks.artifact", "refused"),
    Attempt("make an extension", "CREATE EXTENSION dblink", "refused"),
    Attempt("read a file of the server", "SELECT pg_read_file('PG_VERSION')", "refused"),
    Attempt("list files of the server", "SELECT pg_ls_dir('.')", "refused"),
    Attempt("make a role", "CREATE ROLE ut_000000000000", "refused"),
    Attempt("join the other", "GRANT $rb TO CURRENT_USER", "refused"),
    Attempt("see everything", "ALTER ROLE CURRENT_USER BYPASSRLS", "refused"),
    Attempt("be somebody else", "SELECT 1 FROM pg_roles r WHERE pg_has_role(current_user, r.oid, 'MEMBER') AND r.rolname <> current_user "
            "AND r.oid NOT IN (SELECT roleid FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid WHERE g.rolname LIKE '%\\_tenants' "
            "AND m.member = (SELECT oid FROM pg_roles WHERE rolname = current_user))"),
)  # fmt: skip
