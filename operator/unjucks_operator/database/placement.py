"""The record of where each tenant's rows are: in the shared database or in one of its own, and how far a move or a removal is.

One line for each tenant that is not simply in the shared database. It is in the platform's database, and only it decides; every
change names the state that it expects, so of two operators one succeeds. Reads and writes as the service role. Called by the other
modules about tenants' databases; decides nothing.
"""

# ruff: noqa: S608  statements are put together from constants of this module only; every value is a parameter

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

import orjson

from unjucks_api import names
from unjucks_operator import errors
from unjucks_operator.database.pool import Connection, Database


class Home(StrEnum):
    """Where a tenant's rows are."""

    SHARED = "shared"
    DEDICATED = "dedicated"


class DatabaseState(StrEnum):
    """Life of a tenant's own database."""

    NONE = "none"
    CREATING = "creating"
    READY = "ready"
    RETIRING = "retiring"
    TOMBSTONE = "tombstone"
    """Renamed, and nobody can connect."""
    DROPPING = "dropping"
    DROPPED = "dropped"


class Phase(StrEnum):
    """How far a move is. Up to and with ``VERIFYING`` it can be given up."""

    PREPARING = "preparing"
    COPYING = "copying"
    FENCING = "fencing"
    VERIFYING = "verifying"
    SWITCHING = "switching"
    ROLLING_BACK = "rolling-back"


@dataclass(frozen=True, slots=True)
class Placement:
    """One line, or what no line means."""

    uid: str
    role: str
    home: Home = Home.SHARED
    database_state: DatabaseState = DatabaseState.NONE
    contents: str = ""
    """Which version of the schema the own database has (``Template.version``)."""
    move: uuid.UUID | None = None
    move_to: Home | None = None
    move_phase: Phase | None = None
    move_progress: Mapping[str, Any] = field(default_factory=dict)
    move_started_at: datetime | None = None
    moved_at: datetime | None = None
    clear_after: datetime | None = None
    """When what a move left at its source may go."""
    known: bool = False
    """Whether there is a line."""

    @property
    def database(self) -> str:
        """Name of the tenant's own database; it is the name of its role."""
        return self.role


COLUMNS = (
    "tenant_id", "role_name", "home", "database_state", "contents", "move", "move_to", "move_phase", "move_progress",
    "move_started_at", "moved_at", "clear_after",
)  # fmt: skip
_COLUMNS = ", ".join(COLUMNS)


async def read_placement(connection: Connection, uid: str) -> Placement:
    """The line of one tenant, in a transaction of the service."""
    row = await connection.fetchrow(
        f"SELECT {_COLUMNS} FROM unjucks_ops.placement WHERE tenant_id = $1",
        uuid.UUID(uid),
    )
    return Placement(uid, names.database_role(uid)) if row is None else placement_of(row)


async def read_placements(connection: Connection) -> dict[str, Placement]:
    """All lines, by UID."""
    rows = await connection.fetch(f"SELECT {_COLUMNS} FROM unjucks_ops.placement")
    return {str(row["tenant_id"]): placement_of(row) for row in rows}


class Placements:
    """The operator's hand on the record."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of(self, uid: str) -> Placement:
        """Where this tenant's rows are now."""
        async with self._database.service_tx() as connection:
            return await read_placement(connection, uid)

    async def all(self) -> dict[str, Placement]:
        """Everything that is not simply shared."""
        async with self._database.service_tx() as connection:
            return await read_placements(connection)

    async def change(self, before: Placement, **values: Any) -> Placement:
        """Change columns, if the line still is as ``before`` says. Raises Conflict when somebody else changed it.

        Of ``before`` only what decides is compared: home, state of the database, move and phase.
        """
        async with self._database.service_tx() as connection:
            return await change(connection, before, **values)


async def change(connection: Connection, before: Placement, **values: Any) -> Placement:
    """See ``Placements.change``; inside a transaction of the caller's."""
    identity = uuid.UUID(before.uid)
    if not before.known:
        await connection.execute(
            "INSERT INTO unjucks_ops.placement (tenant_id, role_name) VALUES ($1, $2) ON CONFLICT (tenant_id) DO NOTHING",
            identity, before.role,
        )  # fmt: skip
    settings = {
        name: orjson.dumps(value).decode() if name == "move_progress" else value for name, value in values.items()
    }
    casts = {"move_progress": "::text::jsonb"}
    assignments = ", ".join(f"{name} = ${number}{casts.get(name, '')}" for number, name in enumerate(settings, start=6))
    row = await connection.fetchrow(
        f"UPDATE unjucks_ops.placement SET {assignments}, changed_at = now() WHERE tenant_id = $1 AND home = $2 "
        "AND database_state = $3 AND move IS NOT DISTINCT FROM $4 AND move_phase IS NOT DISTINCT FROM $5 "
        f"RETURNING {_COLUMNS}",
        identity, before.home.value, before.database_state.value, before.move,
        before.move_phase.value if before.move_phase else None, *settings.values(),
    )  # fmt: skip
    if row is None:
        raise errors.Conflict("somebody else worked on this tenant's database at the same time")
    return placement_of(row)


def placement_of(row: Mapping[str, Any]) -> Placement:
    """The line as it came from the database."""
    return Placement(
        uid=str(row["tenant_id"]),
        role=row["role_name"],
        home=Home(row["home"]),
        database_state=DatabaseState(row["database_state"]),
        contents=row["contents"],
        move=row["move"],
        move_to=Home(row["move_to"]) if row["move_to"] else None,
        move_phase=Phase(row["move_phase"]) if row["move_phase"] else None,
        move_progress=orjson.loads(row["move_progress"]),
        move_started_at=row["move_started_at"],
        moved_at=row["moved_at"],
        clear_after=row["clear_after"],
        known=True,
    )
