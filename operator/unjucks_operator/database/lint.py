"""The schema linter: rules about the catalogs that keep tenants of the shared database apart, one query each.

It does not compare with how things were (the baseline in ``migrate`` does that): it knows what must never be, whoever made it. A row
that a query returns is a finding, in words. What extensions bring and everybody may use is not our matter, unless it is in our
schemas or reads our tables. Reads catalogs only, as the service role. Called by ``verify``.
"""

# ruff: noqa: E501, S608  SQL is written as SQL; statements are put together from constants of this module only

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from unjucks_operator.database.pool import Connection

MOST_FINDINGS: Final = 5
"""Of one rule; more say nothing new."""

# Roles that a tenant is, or is a member of; everybody is a member of PUBLIC (0).
_SIDE: Final = """
    side AS (SELECT r.oid FROM pg_roles r WHERE r.rolname IN ($1 || '_tenants', $1 || '_readers', $1 || '_guests')
                                             OR r.rolname ~ '^ut_[0-9a-f]{12}' UNION ALL SELECT 0)
"""
_OURS: Final = "('unjucks', 'unjucks_ops', 'unjucks_admin')"
_SYSTEM: Final = "n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') AND n.nspname NOT LIKE 'pg\\_temp%'"


@dataclass(frozen=True, slots=True)
class Rule:
    """``sql`` gets the prefix of the platform's roles as $1 and returns findings; ``filter`` may drop rows that are fine."""

    name: str
    sql: str
    filter: Callable[[Any], str | None] | None = None


async def lint(connection: Connection, prefix: str) -> list[str]:
    """All findings, each as ``rule: what``. Raises what the driver raises."""
    findings: list[str] = []
    for rule in RULES:
        rows = await connection.fetch(rule.sql, prefix)
        texts = [row[0] for row in rows] if rule.filter is None else list(filter(None, map(rule.filter, rows)))
        findings += [f"{rule.name}: {text}" for text in texts[:MOST_FINDINGS]]
    return findings


def plain(expression: str | None) -> str:
    """An expression as the server prints it, without what differs between versions: blanks, parentheses, quotes."""
    return re.sub(r"\s+", " ", re.sub(r'[()"]', "", expression or "")).strip()


_OWN: Final = (
    "SELECT t.tenant_id FROM unjucks_ops.tenant t WHERE t.role_name = CURRENT_USER AND t.state = 'active'::text"
)
_LOGINS: Final = (
    "SELECT t.tenant_id FROM unjucks_ops.tenant t WHERE t.role_name = leftCURRENT_USER::text, 15::name "
    "AND t.state = 'active'::text"
)
# What policies for the tenants' side may say: name → (command, group, condition).
_ROWS: Final = {
    "tenant_rows": ("*", "tenants", f"tenant_id = {_OWN}"),
    "login_rows": ("r", "readers", f"tenant_id = {_LOGINS}"),
}
_MAPPING: Final = {
    "own_row": ("r", "tenants", "role_name = CURRENT_USER AND state = 'active'::text"),
    "own_login": ("r", "readers", "role_name = leftCURRENT_USER::text, 15::name AND state = 'active'::text"),
}


def _policy(row: Any) -> str | None:
    """What is wrong with a policy that holds for the tenants' side; None when it is one of those that may be."""
    where = f"{row['policy']} on {row['place']}"
    known = (_MAPPING if row["place"] == "unjucks_ops.tenant" else _ROWS).get(row["policy"])
    if known is None:
        return f"{where} is not one of the policies that may hold for tenants (for {', '.join(row['roles'])})"
    command, group, condition = known
    if not row["permissive"] or row["command"] != command or row["roles"] != [f"{row['prefix']}_{group}"]:
        return f"{where} is for others or for another command than it must be ({', '.join(row['roles'])}, {row['command']})"
    if plain(row["condition"]) != condition:
        return f"{where} compares with something else than the tenant's own identity"
    if command == "*" and plain(row["written"]) != condition:
        return f"{where} does not hold new rows to the same condition"
    return None


RULES: Final = (
    Rule(
        "row security",
        f"""
        WITH {_SIDE}
        SELECT format('%I.%I has no %s row security', n.nspname, c.relname, CASE WHEN c.relrowsecurity THEN 'forced' ELSE 'enabled' END)
          FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE {_SYSTEM} AND c.relkind IN ('r', 'p', 'f') AND NOT (c.relrowsecurity AND c.relforcerowsecurity)
           AND (EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id' AND n.nspname IN {_OURS})
                OR EXISTS (SELECT FROM aclexplode(c.relacl) x JOIN side ON side.oid = x.grantee AND (x.grantee <> 0 OR n.nspname IN {_OURS}))
                OR EXISTS (SELECT FROM pg_attribute a, aclexplode(a.attacl) x JOIN side ON side.oid = x.grantee AND x.grantee <> 0
                            WHERE a.attrelid = c.oid))
        """,
    ),
    Rule(
        "policies",
        f"""
        WITH {_SIDE}
        SELECT format('%s.%s', n.nspname, c.relname) AS place, p.polname::text AS policy, p.polcmd::text AS command,
               p.polpermissive AS permissive, $1::text AS prefix,
               ARRAY(SELECT CASE r WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(r) END::text FROM unnest(p.polroles) r ORDER BY 1) AS roles,
               pg_get_expr(p.polqual, p.polrelid) AS condition, pg_get_expr(p.polwithcheck, p.polrelid) AS written
          FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname IN {_OURS} AND EXISTS (SELECT FROM unnest(p.polroles) r JOIN side ON side.oid = r)
         ORDER BY 1, 2
        """,
        _policy,
    ),
    Rule(
        "policies missing",
        """
        SELECT format('%I.%I has no policy that keeps a tenant to its rows', n.nspname, c.relname)
          FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
          JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id'
         WHERE n.nspname = 'unjucks' AND c.relkind IN ('r', 'p') AND $1::text IS NOT NULL
           AND NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND p.polname = 'tenant_rows')
        """,
    ),
    Rule(
        "owners",
        """
        SELECT format('%s.%s belongs to %s', n.nspname, c.relname, pg_get_userbyid(c.relowner))
          FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname IN ('unjucks', 'unjucks_ops') AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
           AND pg_get_userbyid(c.relowner) <> $1 || CASE n.nspname WHEN 'unjucks' THEN '_owner' ELSE '_provisioner' END
        UNION ALL
        SELECT format('role %s may log in, or has a right that goes around row security', r.rolname)
          FROM pg_roles r WHERE r.rolname IN ($1 || '_owner', $1 || '_provisioner', $1 || '_tenants', $1 || '_readers',
                                              $1 || '_guests', $1 || '_service', $1 || '_reaper')
           AND (r.rolcanlogin OR r.rolsuper OR r.rolbypassrls OR r.rolreplication)
        """,
    ),
    Rule(
        "rights of everybody",
        f"""
        SELECT format('%s on %s.%s for PUBLIC', x.privilege_type, n.nspname, c.relname)
          FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, aclexplode(c.relacl) x
         WHERE n.nspname IN {_OURS} AND x.grantee = 0 AND $1::text IS NOT NULL
        UNION ALL
        SELECT format('%s on column %s.%s.%s for PUBLIC', x.privilege_type, n.nspname, c.relname, a.attname)
          FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace, aclexplode(a.attacl) x
         WHERE n.nspname IN {_OURS} AND x.grantee = 0
        UNION ALL
        SELECT format('%s on schema %s for PUBLIC', x.privilege_type, n.nspname)
          FROM pg_namespace n, aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) x
         WHERE x.grantee = 0 AND (n.nspname IN {_OURS} OR (n.nspname = 'public' AND x.privilege_type = 'CREATE'))
        UNION ALL
        SELECT format('%s on database %s for PUBLIC', x.privilege_type, d.datname)
          FROM pg_database d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) x
         WHERE x.grantee = 0 AND d.datname = current_database()
        UNION ALL
        SELECT format('EXECUTE on function %s for PUBLIC', f.oid::regprocedure)
          FROM pg_proc f JOIN pg_namespace n ON n.oid = f.pronamespace, aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) x
         WHERE n.nspname IN {_OURS} AND x.grantee = 0
        """,
    ),
    Rule(
        "rights of tenants",
        f"""
        WITH {_SIDE}
        SELECT format('%s on %s.%s for %s', x.privilege_type, n.nspname, c.relname, pg_get_userbyid(x.grantee))
          FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, aclexplode(c.relacl) x JOIN side ON side.oid = x.grantee
         WHERE {_SYSTEM} AND x.grantee <> 0 AND c.relowner <> x.grantee
           AND (x.privilege_type NOT IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE') OR x.is_grantable
                OR pg_get_userbyid(x.grantee) NOT IN ($1 || '_tenants', $1 || '_readers')
                OR (pg_get_userbyid(x.grantee) = $1 || '_readers' AND x.privilege_type <> 'SELECT')
                OR NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id'))
        UNION ALL
        SELECT format('%s on schema %s for %s', x.privilege_type, n.nspname, pg_get_userbyid(x.grantee))
          FROM pg_namespace n, aclexplode(n.nspacl) x JOIN side ON side.oid = x.grantee
         WHERE {_SYSTEM} AND x.grantee <> 0 AND (x.privilege_type <> 'USAGE' OR x.is_grantable)
        UNION ALL
        SELECT format('EXECUTE on function %s for %s', f.oid::regprocedure, pg_get_userbyid(x.grantee))
          FROM pg_proc f JOIN pg_namespace n ON n.oid = f.pronamespace, aclexplode(f.proacl) x JOIN side ON side.oid = x.grantee
         WHERE {_SYSTEM} AND x.grantee <> 0 AND f.oid::regprocedure::text <> 'unjucks_ops.enter(text,uuid)'
        UNION ALL
        SELECT format('%s on database %s for %s', x.privilege_type, d.datname, pg_get_userbyid(x.grantee))
          FROM pg_database d, aclexplode(d.datacl) x JOIN side ON side.oid = x.grantee
         WHERE d.datname = current_database() AND x.grantee <> 0
           AND (x.privilege_type <> 'CONNECT' OR pg_get_userbyid(x.grantee) <> $1 || '_guests')
        UNION ALL
        SELECT format('rights on future objects of %s for %s', pg_get_userbyid(a.defaclrole),
                      CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(x.grantee) END)
          FROM pg_default_acl a LEFT JOIN pg_namespace n ON n.oid = a.defaclnamespace, aclexplode(a.defaclacl) x
          JOIN side ON side.oid = x.grantee
         WHERE n.nspname IN {_OURS} OR (x.grantee <> 0) OR pg_get_userbyid(a.defaclrole) IN ($1 || '_owner', $1 || '_provisioner')
        """,
    ),
    Rule(
        "views",
        f"""
        WITH {_SIDE}
        SELECT format('%s %s.%s can be read by %s and runs with its owner''s rights',
                      CASE c.relkind WHEN 'm' THEN 'materialized view' WHEN 'f' THEN 'foreign table' ELSE 'view' END,
                      n.nspname, c.relname, CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(x.grantee) END)
          FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, aclexplode(c.relacl) x JOIN side ON side.oid = x.grantee
         WHERE {_SYSTEM} AND $1::text IS NOT NULL AND (c.relkind IN ('m', 'f') OR (c.relkind = 'v'
               AND NOT coalesce(c.reloptions, '{{}}') && ARRAY['security_invoker=true', 'security_invoker=on', 'security_invoker=1']))
           AND (x.grantee <> 0 OR n.nspname IN {_OURS} OR EXISTS (
               SELECT FROM pg_rewrite w JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
                 JOIN pg_class t ON d.refclassid = 'pg_class'::regclass AND t.oid = d.refobjid
                 JOIN pg_namespace s ON s.oid = t.relnamespace WHERE w.ev_class = c.oid AND s.nspname IN {_OURS}))
        """,
    ),
    Rule(
        "partitions",
        f"""
        WITH {_SIDE}
        SELECT format('%s.%s is a part of a table, and rights on it go around the whole''s policies', n.nspname, c.relname)
          FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE {_SYSTEM} AND $1::text IS NOT NULL AND (c.relispartition OR EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid))
           AND EXISTS (SELECT FROM aclexplode(c.relacl) x JOIN side ON side.oid = x.grantee AND (x.grantee <> 0 OR n.nspname IN {_OURS}))
        """,
    ),
    Rule(
        "definer functions",
        f"""
        SELECT format('%s runs with its owner''s rights and does not fix where it looks for names', f.oid::regprocedure)
          FROM pg_proc f JOIN pg_namespace n ON n.oid = f.pronamespace
         WHERE {_SYSTEM} AND $1::text IS NOT NULL AND f.prosecdef
           AND NOT EXISTS (SELECT FROM unnest(f.proconfig) s WHERE s ~ '^search_path="?pg_catalog"?, *"?pg_temp"?$')
           AND n.nspname IN {_OURS}
        UNION ALL
        SELECT format('everybody may call %s, which runs with the rights of %s', f.oid::regprocedure, pg_get_userbyid(f.proowner))
          FROM pg_proc f JOIN pg_namespace n ON n.oid = f.pronamespace, aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) x
         WHERE {_SYSTEM} AND f.prosecdef AND x.grantee = 0
           AND (n.nspname IN {_OURS} OR pg_get_userbyid(f.proowner) IN ($1 || '_owner', $1 || '_provisioner'))
        """,
    ),
    Rule(
        "keys",
        """
        SELECT format('%s of %s.%s compares rows of different tenants', k.conname, n.nspname, c.relname)
          FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
          JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id'
         WHERE n.nspname = 'unjucks' AND $1::text IS NOT NULL AND k.contype IN ('f', 'u', 'p', 'x') AND a.attnum <> ALL (k.conkey)
        UNION ALL
        SELECT format('unique index %s of %s.%s compares rows of different tenants', x.relname, n.nspname, c.relname)
          FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
          JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id'
         WHERE n.nspname = 'unjucks' AND i.indisunique AND a.attnum <> ALL (i.indkey::int2[])
        """,
    ),
    Rule(
        "code on tables",
        f"""
        SELECT format('trigger %s on %s.%s', g.tgname, n.nspname, c.relname)
          FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname IN {_OURS} AND NOT g.tgisinternal AND $1::text IS NOT NULL
        UNION ALL
        SELECT format('rule %s on %s.%s', w.rulename, n.nspname, c.relname)
          FROM pg_rewrite w JOIN pg_class c ON c.oid = w.ev_class JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname IN {_OURS}
        """,
    ),
    Rule(
        "leakproof",
        f"""
        SELECT format('%s claims to tell nothing of its arguments, so it runs before policies', f.oid::regprocedure)
          FROM pg_proc f JOIN pg_namespace n ON n.oid = f.pronamespace
         WHERE {_SYSTEM} AND $1::text IS NOT NULL AND f.proleakproof
           AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = f.oid AND d.deptype = 'e')
        """,
    ),
)
