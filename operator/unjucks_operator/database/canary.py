"""The live canary: two tenants of nobody, one of which tries to reach the other's rows, with real SQL, in the real shared database.

One transaction that is always rolled back: B's rows are put in as B, then A tries each way out, each in a savepoint of its own. So
nothing is left behind, and what an attempt should do by accident is undone. Before that A reads its own row of each table: without
that control, a database where nothing works would count as safe. The two have names that no Tenant can have (a dot), and UIDs made
from the installation's. Called by ``verify``.

What cannot be tried from here: our session belongs to the service, which may become every tenant. So whether A itself may become
somebody is asked of the catalog, and the tests try it with a login of A's.
"""

# ruff: noqa: S608  names in statements come from constants of this module, roles are quoted and checked, values are parameters

import uuid
from collections.abc import Sequence
from typing import Any, Final

import asyncpg

from unjucks_operator.database.escapes import ATTEMPTS, MARK_A, MARK_B, RUN_A, RUN_B, TABLES, Attempt
from unjucks_operator.database.identifiers import quote_tenant_role
from unjucks_operator.database.pool import Connection, Database
from unjucks_operator.database.tenants import Tenants
from unjucks_operator.errors import Bug

NAMES: Final = ("canary.a", "canary.b")
_PLANT: Final = (
    "INSERT INTO unjucks.generation_run (tenant_id, job_uid, run_key, holder) VALUES ($1, $2, 'canary', 'canary')",
    "INSERT INTO unjucks.catalog (tenant_id, key, digest, content) VALUES ($1, $2, $2, '\\x00')",
    "INSERT INTO unjucks.artifact (tenant_id, digest, content, size, files) VALUES ($1, $2, '\\x00', 0, 0)",
)
# An error that tells A something about B's row, although A sees none: a key that exists, a condition that met it.
_TELLING: Final = frozenset({"23505", "23503", "23P01", "22012"})
CHECKS: Final = len(ATTEMPTS) + 4
"""The attempts, a copy each way, one statement with changing roles, and the look whether B sees what it saw."""


class Undo(Exception):
    """Ends the transaction without leaving anything behind."""


async def run_canary(database: Database) -> list[str]:
    """Try everything; returns what got through, in words. Raises Bug when the control fails, and what the database raises."""
    tenants = Tenants(database)
    async with database.service_tx() as connection:
        installation = await connection.fetchval("SELECT id FROM unjucks_ops.installation")
    uids = [uuid.uuid5(installation, name) for name in NAMES]
    roles = [(await tenants.ensure(str(uid), name)).role for uid, name in zip(uids, NAMES, strict=True)]
    findings: list[str] = []
    try:
        async with database.tenant_tx(roles[1]) as connection:
            findings += await try_everything(connection, uids, roles)
            raise Undo
    except Undo:
        return findings


async def try_everything(connection: Connection, uids: Sequence[uuid.UUID], roles: Sequence[str]) -> list[str]:
    """The attempts themselves, in a transaction of the caller's that has to be rolled back afterwards."""
    findings: list[str] = []
    await connection.execute("SET LOCAL lock_timeout = '2s'")
    await _become(connection, roles[1])
    await _plant(connection, uids[1], RUN_B, MARK_B)
    before = await _fingerprint(connection, roles[1])
    await _become(connection, roles[0])
    await _plant(connection, uids[0], RUN_A, MARK_A)
    await _control(connection, uids)
    for attempt in ATTEMPTS:
        if text := await _try(connection, attempt, uids, roles):
            findings.append(f"{attempt.name}: {text}")
    findings += await _copy(connection, uids)
    findings += await _switch(connection, uids, roles)
    if await _fingerprint(connection, roles[1]) != before:
        findings.append("what the other tenant sees has changed")
    return findings


async def _plant(connection: Connection, uid: uuid.UUID, run: uuid.UUID, mark: str) -> None:
    for statement, value in zip(_PLANT, (run, mark, mark), strict=True):
        await connection.execute(statement, uid, value)


async def _become(connection: Connection, role: str) -> None:
    await connection.execute(f"SET LOCAL ROLE {quote_tenant_role(role)}")


async def _control(connection: Connection, uids: Sequence[uuid.UUID]) -> None:
    """A works with its own rows; else the refusals below prove nothing."""
    for table in TABLES:
        if await connection.fetchval(f"SELECT count(*) FROM unjucks.{table} WHERE tenant_id = $1", uids[0]) != 1:
            raise Bug(f"the canary does not see its own row of unjucks.{table}, so its checks prove nothing")


async def _fingerprint(connection: Connection, role: str) -> list[Any]:
    await connection.execute("SAVEPOINT look")
    await _become(connection, role)
    rows = [
        await connection.fetchval(f"SELECT md5(string_agg(t::text, '|')) FROM unjucks.{table} t") for table in TABLES
    ]
    await connection.execute("ROLLBACK TO SAVEPOINT look")
    return rows


async def _try(connection: Connection, attempt: Attempt, uids: Sequence[uuid.UUID], roles: Sequence[str]) -> str | None:
    """What came of it, when it got through."""
    sql = (
        attempt.sql.replace("$rb", quote_tenant_role(roles[1])).replace("$a", str(uids[0])).replace("$b", str(uids[1]))
    )
    await connection.execute("SAVEPOINT attempt")
    try:
        if attempt.kind == "rows":
            rows = await connection.fetch(sql)
            return f"{len(rows)} row(s) came back" if rows else None
        tag = await connection.execute(sql)
        if attempt.kind == "changes":
            return None if tag.endswith(" 0") else f"it was done ({tag})"
        return f"it was not refused ({tag})"
    except asyncpg.PostgresError as error:
        state = error.sqlstate or ""
        return f"the error tells of hidden rows ({state})" if state in _TELLING else None
    finally:
        await connection.execute("ROLLBACK TO SAVEPOINT attempt")


async def _copy(connection: Connection, uids: Sequence[uuid.UUID]) -> list[str]:
    findings = []
    copied = bytearray()

    async def collect(data: bytes) -> None:
        copied.extend(data)

    await connection.execute("SAVEPOINT copying")
    try:
        await connection.copy_from_query("SELECT tenant_id FROM unjucks.artifact", output=collect)
        await connection.copy_from_table("artifact", schema_name="unjucks", columns=["tenant_id"], output=collect)
    except asyncpg.PostgresError:
        await connection.execute("ROLLBACK TO SAVEPOINT copying")
    if str(uids[1]) in copied.decode():
        findings.append("copy rows out: a row of the other came")
    await connection.execute("SAVEPOINT copying")
    try:
        await connection.copy_to_table(
            "generation_run", schema_name="unjucks", columns=["tenant_id", "job_uid", "run_key", "holder"],
            source=_lines(f"{uids[1]}\t{uuid.uuid4()}\tx\tx\n".encode()),
        )  # fmt: skip
        findings.append("copy rows in: it was not refused")
    except asyncpg.PostgresError:
        pass
    finally:
        await connection.execute("ROLLBACK TO SAVEPOINT copying")
    return findings


async def _switch(connection: Connection, uids: Sequence[uuid.UUID], roles: Sequence[str]) -> list[str]:
    """One statement of one session, prepared where the pool prepares, by both in turn: its plan must not keep the first's rows."""
    seen_by_wrong = False
    await connection.execute("SAVEPOINT switching; SET LOCAL plan_cache_mode = force_generic_plan")
    for turn in range(6):
        await _become(connection, roles[turn % 2])
        rows = await connection.fetch("SELECT tenant_id FROM unjucks.artifact AS switching")
        seen_by_wrong |= any(row["tenant_id"] != uids[turn % 2] for row in rows)
    await connection.execute("ROLLBACK TO SAVEPOINT switching")
    return ["a statement that another role ran before: it showed that role's rows"] if seen_by_wrong else []


async def _lines(line: bytes) -> Any:
    yield line
