"""Migrations: plain SQL files, each applied once, in order, in a transaction of its own, as the role that owns the tables.

Two operators at once are safe: whoever holds the lock on the record of migrations applies the next one, the other then sees it
as applied. That lock is a table lock, not an advisory one: any role may take advisory locks, only the owner may lock this table.
An applied file whose text changed, a gap, or a database that is newer than this operator stops everything with a clear error.
After the files, ``security.sql`` puts row security, policies and rights into the state that the code wants, and what it left is
recorded as the baseline that the sweep compares with. Called by ``bootstrap.prepare`` and ``Tenants.repair_schema``.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from unjucks_operator import errors
from unjucks_operator.database.pool import Connection, Database

_FILE = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")
MIGRATION_TIMEOUT: Final = 300.0


class MigrationError(errors.Terminal):
    """The schema of the database and this operator do not fit together; only a change of one of them helps."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file."""

    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """Of the text; line endings and blanks at their ends do not count."""
        text = "\n".join(line.rstrip() for line in self.sql.strip().splitlines())
        return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class MigrationReport:
    """What one run did. ``version`` is the schema's version afterwards."""

    version: int
    applied: tuple[int, ...] = ()
    security_applied: bool = False


def load_migrations() -> tuple[Migration, ...]:
    """The files of this package in order; their numbers must run from 1 without a gap."""
    found = []
    for entry in files(__package__).joinpath("migrations").iterdir():
        if match := _FILE.fullmatch(entry.name):
            found.append(Migration(int(match[1]), match[2], entry.read_text(encoding="utf-8")))
    return check_order(found)


def check_order(migrations: Sequence[Migration]) -> tuple[Migration, ...]:
    """``migrations`` sorted by version; raises MigrationError when two share a version or one is missing."""
    ordered = tuple(sorted(migrations, key=lambda item: item.version))
    versions = [item.version for item in ordered]
    if versions != list(range(1, len(versions) + 1)):
        raise MigrationError(f"the migrations of this operator are not numbered from 1 without gaps: {versions}")
    return ordered


def pending(migrations: Sequence[Migration], applied: Mapping[int, str]) -> tuple[Migration, ...]:
    """What is left to apply. ``applied`` maps version to checksum. Raises MigrationError when the two histories differ."""
    known = {item.version: item for item in migrations}
    newest = max(known, default=0)
    if newer := sorted(version for version in applied if version > newest):
        raise MigrationError(
            f"the database has schema version {newer[-1]}, this operator knows {newest}: it was used by a newer operator. "
            "Run that one, or restore the database from before the upgrade"
        )
    for version, checksum in sorted(applied.items()):
        if known[version].checksum != checksum:
            raise MigrationError(
                f"migration {version:04d}_{known[version].name} was changed after it had been applied to this database; "
                "put the file back as it was and write a new migration"
            )
    if sorted(applied) != list(range(1, len(applied) + 1)):
        raise MigrationError(f"the database's record of migrations has gaps: {sorted(applied)}")
    return tuple(item for item in migrations if item.version not in applied)


async def migrate(database: Database, migrations: Sequence[Migration] | None = None) -> MigrationReport:
    """Applies what is missing, then the security part when it is new or differs. Idempotent.

    Without the right to act as the owner it only checks: nothing missing is fine, otherwise NotPermitted says who has to run it.
    """
    known = load_migrations() if migrations is None else check_order(migrations)
    if not await _may_migrate(database):
        return await _check_only(database, known)
    done: list[int] = []
    while True:
        async with database.service_tx("owner", limit=MIGRATION_TIMEOUT) as connection:
            left = pending(known, await _locked_record(connection))
            if not left:
                break
            step = left[0]
            await connection.execute(step.sql)
            await connection.execute(
                "INSERT INTO unjucks.schema_migration (version, name, checksum) VALUES ($1, $2, $3)",
                step.version, step.name, step.checksum,
            )  # fmt: skip
            done.append(step.version)
    security = await apply_security(database, record=True, force=bool(done))
    return MigrationReport(len(known), tuple(done), security)


async def _locked_record(connection: Connection) -> dict[int, str]:
    await connection.execute("LOCK TABLE unjucks.schema_migration IN SHARE ROW EXCLUSIVE MODE")
    rows = await connection.fetch("SELECT version, checksum FROM unjucks.schema_migration")
    return {row["version"]: row["checksum"] for row in rows}


async def _may_migrate(database: Database) -> bool:
    async with database.service_tx() as connection:
        return bool(
            await connection.fetchval(
                "SELECT pg_has_role(session_user, unjucks_ops.role_of('owner'), 'MEMBER') FROM unjucks_ops.installation"
            )
        )


async def _check_only(database: Database, known: Sequence[Migration]) -> MigrationReport:
    async with database.service_tx() as connection:
        rows = await connection.fetch("SELECT version, checksum FROM unjucks.schema_migration")
    if left := pending(known, {row["version"]: row["checksum"] for row in rows}):
        raise errors.NotPermitted(
            f"the database lacks {len(left)} migrations and the operator's login may not apply them; "
            "an administrator has to run `unjucks-operator db migrate`"
        )
    return MigrationReport(len(known))


def security_sql() -> str:
    """The text that sets row security, policies and rights."""
    return files(__package__).joinpath("security.sql").read_text(encoding="utf-8")


async def security_drift(connection: Connection) -> list[str]:
    """How schema ``unjucks`` differs from the baseline: a line for each thing that is too much or missing; empty is good."""
    rows = await connection.fetch(SECURITY_DRIFT)
    return [row[0] for row in rows]


SECURITY_DRIFT: Final = """
    WITH now_is AS MATERIALIZED (SELECT unjucks_ops.security_lines('unjucks') AS line),
         wanted AS MATERIALIZED (SELECT unnest(lines) AS line FROM unjucks.security_baseline)
    (SELECT 'unexpected: ' || line FROM now_is EXCEPT ALL SELECT 'unexpected: ' || line FROM wanted)
    UNION ALL
    (SELECT 'missing: ' || line FROM wanted EXCEPT ALL SELECT 'missing: ' || line FROM now_is)
"""


async def apply_security(database: Database, *, record: bool, force: bool = False) -> bool:
    """Runs ``security.sql`` when it must; returns whether it did.

    ``record`` True (at start): the result becomes the baseline, when the files or the server's version are new. False (repair):
    the baseline stays, so that what cannot be repaired is still reported afterwards.
    """
    sql = security_sql()
    checksum = "sha256:" + hashlib.sha256(sql.encode()).hexdigest()
    async with database.service_tx("owner", limit=MIGRATION_TIMEOUT) as connection:
        await connection.execute("LOCK TABLE unjucks.schema_migration IN SHARE ROW EXCLUSIVE MODE")
        version = await connection.fetchval("SELECT current_setting('server_version_num')::int / 10000")
        row = await connection.fetchrow("SELECT checksum, server_version FROM unjucks.security_baseline")
        new = force or row is None or row["checksum"] != checksum or row["server_version"] != version
        if not new and not await security_drift(connection):
            return False
        await connection.execute(sql)
        if record and new:
            await connection.execute(
                "INSERT INTO unjucks.security_baseline (checksum, server_version, lines) "
                "VALUES ($1, $2, ARRAY(SELECT unjucks_ops.security_lines('unjucks'))) ON CONFLICT (singleton) "
                "DO UPDATE SET checksum = excluded.checksum, server_version = excluded.server_version, lines = excluded.lines",
                checksum, version,
            )  # fmt: skip
        return True
