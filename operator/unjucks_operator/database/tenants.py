"""Tenants in the database: who exists, and whether each one's role is exactly as it has to be.

Every step is one function call in one transaction, under the tenant's row lock, and may be repeated at any time: a crash
leaves either nothing or the whole step. The functions run with the provisioner's rights, so the operator's login can make and
repair tenant roles and nothing else (bootstrap.sql). A tenant is its UID: a Tenant that is deleted and made again under the same
name is somebody else. A UID that was retired never becomes active again from here.
Called by the tenant controller (ensure, retire, drop) and by the sweep.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from unjucks_operator import errors
from unjucks_operator.database.migrate import apply_security, security_drift
from unjucks_operator.database.pool import Connection, Database

if TYPE_CHECKING:
    import asyncpg

REAPER_BATCH = 200


class TenantState(StrEnum):
    """Life of a tenant in the database."""

    ACTIVE = "active"
    TOMBSTONE = "tombstone"
    """Retired: the rows are kept, nobody can act as the tenant."""
    DROPPED = "dropped"
    """Rows and role are gone; the UID stays known for good."""


class Drift(StrEnum):
    """What can be wrong. ``ensure`` repairs all of it except what is listed in ``NEEDS_ADMINISTRATOR``."""

    ROLE_MISSING = "RoleMissing"
    ROLE_CAN_LOGIN = "RoleCanLogin"
    DANGEROUS_ATTRIBUTE = "DangerousAttribute"
    NOT_INHERITING = "NotInheriting"
    MARKER_MISSING = "MarkerMissing"
    GROUP_MEMBERSHIP_MISSING = "GroupMembershipMissing"
    FOREIGN_MEMBERSHIP = "ForeignMembership"
    SERVICE_MEMBERSHIP_MISSING = "ServiceMembershipMissing"
    FOREIGN_MEMBER = "ForeignMember"
    ROLE_SETTINGS = "RoleSettings"
    OWNS_OBJECTS = "OwnsObjects"
    DIRECT_GRANTS = "DirectGrants"
    TOMBSTONE_USABLE = "TombstoneUsable"
    ROLE_REMAINS = "RoleRemains"
    DATABASE_MISSING = "DatabaseMissing"
    DATABASE_HALF_DROPPED = "DatabaseHalfDropped"
    DATABASE_OWNER = "DatabaseOwner"
    DATABASE_MARKER_MISSING = "DatabaseMarkerMissing"
    DATABASE_CLOSED = "DatabaseClosed"
    DATABASE_CONNECTION_LIMIT = "DatabaseConnectionLimit"
    DATABASE_RIGHTS = "DatabaseRights"
    OWN_SCHEMA = "OwnSchemaChanged"
    LOGINS = "LoginsChanged"
    LEFTOVERS = "LeftoversDue"
    """What a move left behind may go now; not a fault."""
    SCHEMA = "SchemaChanged"
    """Row security, policies or rights of the shared tables differ: every tenant is affected."""


NEEDS_ADMINISTRATOR = frozenset({Drift.OWNS_OBJECTS, Drift.DIRECT_GRANTS})
"""Never repaired from here: it could destroy something. SUPERUSER, BYPASSRLS and REPLICATION need an administrator too."""


@dataclass(frozen=True, slots=True)
class TenantDatabase:
    """A tenant's identity as one call left it."""

    role: str
    state: TenantState
    repaired: tuple[Drift, ...] = ()
    remaining: tuple[Drift, ...] = ()

    @property
    def usable(self) -> bool:
        """Active, and nothing is wrong any more."""
        return self.state is TenantState.ACTIVE and not self.remaining


@dataclass(frozen=True, slots=True)
class DatabaseState:
    """A tenant as the sweep saw it."""

    uid: str
    name: str
    role: str
    state: TenantState
    drift: tuple[Drift, ...] = ()

    @property
    def healthy(self) -> bool:
        """Exactly as it has to be in its state."""
        return not self.drift


class Tenants:
    """The operator's hand on tenants in PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.schema_drift: tuple[str, ...] = ()
        """What the last sweep found wrong with the shared tables, in words; for logs and the platform's own condition."""

    async def ensure(self, uid: str, name: str) -> TenantDatabase:
        """Makes the tenant's role exist and be right; repairs what drifted. Returns its state; a retired tenant stays retired.

        Raises OwnershipConflict when a role of that name is somebody else's, NotPermitted when something is left that only an
        administrator can take away (the message says what), Unavailable when the database cannot be used.
        """
        return (await self.ensure_and_look(uid, name, ""))[0]

    async def ensure_and_look(
        self, uid: str, name: str, question: str, *arguments: object
    ) -> tuple[TenantDatabase, "asyncpg.Record | None"]:
        """The same, and the answer to a question in the same transaction: every tenant asks it once after a start."""
        if self.schema_drift:
            await self.repair_schema()
        async with self._database.service_tx() as connection:
            row = await connection.fetchrow(
                "SELECT role_name, state, repaired, remaining FROM unjucks_ops.ensure_tenant($1, $2)",
                as_uuid(uid),
                name,
            )
            answer = await connection.fetchrow(question, *arguments) if question else None
        result = TenantDatabase(
            row["role_name"], TenantState(row["state"]), _drift(row["repaired"]), _drift(row["remaining"])
        )
        if result.state is TenantState.ACTIVE and result.remaining:
            raise errors.NotPermitted(
                f"the database role {result.role} is not safe to use: {', '.join(result.remaining)}. "
                "The operator may not change that; an administrator has to (docs: database, drift)"
            )
        return result, answer

    async def retire(self, uid: str, name: str = "") -> TenantDatabase:
        """Nobody can act as the tenant from now on; its rows stay. Also for a UID that never got a role: it never will.

        ``name`` is only remembered when the UID was never seen.
        """
        async with self._database.service_tx() as connection:
            row = await connection.fetchrow(
                "SELECT role_name, state, remaining FROM unjucks_ops.retire_tenant($1, $2)", as_uuid(uid), name
            )
        return TenantDatabase(row["role_name"], TenantState(row["state"]), (), _drift(row["remaining"]))

    async def drop(self, uid: str) -> int:
        """Deletes the rows and the role of a retired tenant; returns how many rows went. Refused for an active one.

        Rows go in small transactions, by the reaper, which row security confines to retired tenants; the role goes last.
        """
        identity = as_uuid(uid)
        state = await self.state(uid)
        if state is None or state.state is TenantState.ACTIVE:
            raise errors.Bug("a tenant has to be retired before it is dropped")
        removed = 0
        for statement in _REAP:
            while True:
                async with self._database.service_tx("reaper") as connection:
                    count = _rows(await connection.execute(statement, identity, REAPER_BATCH))
                removed += count
                if count < REAPER_BATCH:
                    break
        async with self._database.service_tx("reaper") as connection:
            # A statement that began before the retirement may have written after our last look. This lock waits for it (a
            # writer has its table lock before its snapshot), and keeps other writers waiting for a moment only. Also other drops:
            # with SHARE two of them would both get the lock, and then each wait for the other before it deletes.
            await connection.execute(f"LOCK TABLE {', '.join(_TABLES)} IN SHARE ROW EXCLUSIVE MODE")
            for statement in _REAP:
                removed += _rows(await connection.execute(statement, identity, None))
        async with self._database.service_tx() as connection:
            await connection.fetchval("SELECT unjucks_ops.drop_tenant($1)", identity)
        return removed

    async def state(self, uid: str) -> DatabaseState | None:
        """One tenant as it is now; None when its UID was never seen."""
        async with self._database.service_tx() as connection:
            rows = await _report(connection, as_uuid(uid))
        return rows[0] if rows else None

    async def sweep(self) -> dict[str, DatabaseState]:
        """Every tenant ever seen, by UID, with its drift: two set-based queries, whatever the number of tenants.

        A difference in the shared tables' protection shows as ``Drift.SCHEMA`` on every active tenant: it concerns them all.
        """
        async with self._database.service_tx() as connection:
            states = await _report(connection, None)
            self.schema_drift = tuple(await security_drift(connection))
        if self.schema_drift:
            states = [
                DatabaseState(item.uid, item.name, item.role, item.state, (*item.drift, Drift.SCHEMA))
                if item.state is TenantState.ACTIVE
                else item
                for item in states
            ]
        return {item.uid: item for item in states}

    async def orphans(self) -> dict[str, str]:
        """Roles and logins that carry our mark but no tenant's row, as role -> UID: the database was restored from before.

        Nothing is done about them: ``ensure`` of that UID takes its role back; an administrator may drop the others.
        """
        async with self._database.service_tx() as connection:
            rows = await connection.fetch(_ORPHANS, f"unjucks:{self._database.prefix}:")
        return {row["role"]: row["uid"] for row in rows}

    async def repair_schema(self) -> tuple[str, ...]:
        """Puts row security, policies and rights of the shared tables back; returns (and remembers) what is still different."""
        await apply_security(self._database, record=False)
        async with self._database.service_tx() as connection:
            self.schema_drift = tuple(await security_drift(connection))
        if self.schema_drift:
            raise errors.NotPermitted(
                "the protection of the shared tables differs from what the operator set and it cannot put it back: "
                f"{self.schema_drift[0][:300]}; an administrator has to look (docs: database, drift)"
            )
        return self.schema_drift


_ORPHANS = r"""
    SELECT r.rolname::text AS role, split_part(substr(d.description, length($1::text) + 1), ':', 1) AS uid
      FROM pg_roles r JOIN pg_shdescription d ON d.objoid = r.oid AND d.classoid = 'pg_authid'::regclass
     WHERE r.rolname LIKE 'ut\_%' AND starts_with(d.description, $1)
       AND regexp_replace(r.rolname, '_[ab]$', '') NOT IN (SELECT t.role_name FROM unjucks_ops.tenant_report(NULL) t)
     ORDER BY 1
"""
_TABLES = ("unjucks.generation_run", "unjucks.catalog", "unjucks.artifact")
_REAP = tuple(
    f"DELETE FROM {table} WHERE ctid IN (SELECT ctid FROM {table} WHERE tenant_id = $1 LIMIT $2)"  # noqa: S608  names are fixed
    for table in _TABLES
)


async def _report(connection: Connection, uid: uuid.UUID | None) -> list[DatabaseState]:
    rows = await connection.fetch(
        "SELECT tenant_id, name, role_name, state, drift FROM unjucks_ops.tenant_report($1)", uid
    )
    return [
        DatabaseState(
            str(row["tenant_id"]), row["name"], row["role_name"], TenantState(row["state"]), _drift(row["drift"])
        )
        for row in rows
    ]


def _drift(codes: Sequence[str] | None) -> tuple[Drift, ...]:
    return tuple(sorted(Drift(code) for code in codes or ()))


def _rows(tag: str) -> int:
    return int(tag.rpartition(" ")[2])


def as_uuid(uid: str) -> uuid.UUID:
    """The UID of a Kubernetes object; InvalidSpec when it is none."""
    try:
        return uuid.UUID(uid)
    except ValueError:
        raise errors.InvalidSpec(f"{uid[:80]!r} is not the UID of a Kubernetes object") from None
