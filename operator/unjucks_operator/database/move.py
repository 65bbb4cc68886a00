"""Moving a tenant's rows between the shared database and its own, while it works. Every phase may be cut off and repeated.

    preparing   the target is there and holds none of this tenant's rows; its gate is *loading* for this move and no other
    copying     rows go over in batches, as the tenant's own role on both sides; then what changed meanwhile, until little is left
    fencing     the source's gate is *fenced*: whoever is writing is waited for, later writers are told to come again. The rest
    goes over
    verifying   the target's gate is *sealed* (a late copier of another operator can write nothing any more); every table has the
                same number of rows and the same sum of row hashes on both sides, else the rest goes over again
    switching   the record says that the rows are at the target: the one statement that decides. Then the gates open and close

Up to the switch it can be given up: the source's gate opens again, and the record forgets the move. Between fence and switch nobody
writes anywhere, and a gate opens only after the record has decided, so no acknowledged write can be at the wrong place. Rows are
read and written under row security as the tenant itself: another tenant's row can neither be read nor arrive. What was left at the
source is kept, closed, for a while (``clear``).
What changed since the last look is found by ``xmin``: rows made by a transaction that had not ended when the look began. A deleted
row is found by comparing keys. No trigger, no publication: those need a superuser, replication slots keep WAL for good when
forgotten. Called by ``homes``, one phase at a time.
"""

# ruff: noqa: S608  statements are put together from constants of this module only; every value is a parameter

import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from unjucks_operator import errors
from unjucks_operator.database.dedicated import Dedicated
from unjucks_operator.database.placement import Home, Phase, Placement, Placements
from unjucks_operator.database.pool import Connection, Database
from unjucks_operator.database.routing import OwnDatabases, Router

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Table:
    """A table with tenants' rows: its key without the tenant (names and types), all its columns, and the one that is large."""

    name: str
    typed_key: tuple[tuple[str, str], ...]
    columns: tuple[str, ...]
    large: str | None = None

    @property
    def key(self) -> tuple[str, ...]:
        """Names of the key's columns."""
        return tuple(name for name, _ in self.typed_key)


TABLES: Final = (
    Table("artifact", (("digest", "text"),), ("digest", "content", "size", "files", "created_at", "used_at"), "content"),
    Table("catalog", (("key", "text"),), ("key", "digest", "content", "used_at"), "content"),
    Table(
        "generation_run",
        (("job_uid", "uuid"), ("run_key", "text")),
        (
            "job_uid", "run_key", "attempt", "state", "holder", "manifest_digest", "output", "failure_reason", "failure_message",
            "failure_final", "publications", "created_at", "claimed_at", "rendered_at", "published_at", "failed_at",
        ),
    ),
)  # fmt: skip
"""A test compares this with the database's own catalog, so a migration cannot forget it."""

OWN: Final = "(SELECT t.tenant_id FROM unjucks_ops.tenant t WHERE t.role_name = current_user AND t.state = 'active')"
BATCH_ROWS: Final = 500
BATCH_BYTES: Final = 8 * 1024 * 1024
ROUNDS: Final = 8
"""Looks for what changed, before the fence at the latest."""
SMALL_REST: Final = 50
"""So few changed rows that the fence may come."""
STEP_TIMEOUT: Final = 90.0

Checkpoint = Callable[[str], Awaitable[None]]


async def _no_checkpoint(_: str) -> None:
    """Nothing; tests put a crash here."""


class Mover:
    """Moves. ``keep``: how long what was left at the source is kept. ``checkpoint`` is told where it is (tests crash there)."""

    def __init__(
        self,
        platform: Database,
        own: OwnDatabases,
        dedicated: Dedicated,
        router: Router,
        *,
        keep: timedelta = timedelta(days=7),
        checkpoint: Checkpoint = _no_checkpoint,
    ) -> None:
        self._platform = platform
        self._own = own
        self._dedicated = dedicated
        self._router = router
        self._keep = keep
        self._checkpoint = checkpoint
        self._placements = Placements(platform)
        self._column_types: dict[str, Mapping[str, str]] = {}

    async def start(self, placement: Placement, target: Home) -> Placement:
        """Note the wish; nothing else happens yet."""
        if placement.move is not None or placement.home is target:
            return placement
        return await self._placements.change(
            placement, move=uuid.uuid4(), move_to=target.value, move_phase=Phase.PREPARING.value, move_progress={},
            move_started_at=await self._now(),
        )  # fmt: skip

    async def advance(self, placement: Placement) -> Placement:
        """One phase. The record that comes back says what is next; without a move in it, it is done."""
        match placement.move_phase:
            case Phase.PREPARING:
                return await self._prepare(placement)
            case Phase.COPYING:
                return await self._copy(placement)
            case Phase.FENCING:
                return await self._fence(placement)
            case Phase.VERIFYING:
                return await self._verify(placement)
            case Phase.SWITCHING:
                return await self._switch(placement)
            case Phase.ROLLING_BACK:
                return await self.give_up(placement)
            case None:
                return placement

    async def give_up(self, placement: Placement) -> Placement:
        """Back to how it was; only before the switch. Repeatable."""
        if placement.move is None:
            return placement
        if placement.move_phase is Phase.SWITCHING:
            return await self._switch(placement)  # decided: it can only be ended, and moved back afterwards
        if placement.move_phase is not Phase.ROLLING_BACK:
            placement = await self._placements.change(placement, move_phase=Phase.ROLLING_BACK.value)
        await self._checkpoint("rollback: noted")
        source, target = _ends(placement)
        await self._set(
            placement, target, "away", expect=("loading", "sealed", "away"), move=None, missing_is_fine=True
        )
        await self._checkpoint("rollback: target closed")
        await self._set(placement, source, "open", expect=("open", "fenced"), move=None)
        await self._checkpoint("rollback: source open")
        # What was copied already is of no use; it goes like the source of a move that succeeded.
        return await self._forget(placement, clear_after=(await self._now()) + self._keep)

    # --- phases -----------------------------------------------------------------------------------------------------------------
    async def _prepare(self, placement: Placement) -> Placement:
        source, target = _ends(placement)
        if target is Home.DEDICATED:
            placement = await self._dedicated.ensure(placement)
        await self._checkpoint("preparing: target exists")
        await self._set(placement, target, "loading", expect=("away", "loading", "sealed"), move=placement.move)
        await self._checkpoint("preparing: target takes rows")
        for table in TABLES:  # of an earlier move, or one that was given up
            while True:
                async with self._rows(placement, target, "load") as connection:
                    tag: str = await connection.execute(
                        f"DELETE FROM unjucks.{table.name} WHERE ctid IN "
                        f"(SELECT ctid FROM unjucks.{table.name} WHERE tenant_id = {OWN} LIMIT {BATCH_ROWS})"
                    )
                if tag == "DELETE 0":
                    break
        await self._checkpoint("preparing: target is empty")
        horizon = await self._horizon(placement, source)
        return await self._placements.change(
            placement, move_phase=Phase.COPYING.value,
            move_progress={"since": None, "horizon": horizon, "table": 0, "after": None, "rows": 0},
        )  # fmt: skip

    async def _copy(self, placement: Placement) -> Placement:
        progress = dict(placement.move_progress)
        while progress["table"] < len(TABLES):
            table = TABLES[progress["table"]]
            copied, after = await self._batch(placement, table, since=None, after=progress["after"])
            progress["rows"] += copied
            if after is None:
                progress |= {"table": progress["table"] + 1, "after": None}
            else:
                progress["after"] = after
            placement = await self._placements.change(placement, move_progress=progress)
            await self._checkpoint(f"copying: batch of {table.name}")
        for _ in range(ROUNDS):
            rest, horizon = await self._changed(placement, progress["horizon"])
            progress |= {"horizon": horizon, "rows": progress["rows"] + rest}
            placement = await self._placements.change(placement, move_progress=progress)
            await self._checkpoint("copying: changes")
            if rest <= SMALL_REST:
                break
        return await self._placements.change(placement, move_phase=Phase.FENCING.value)

    async def _fence(self, placement: Placement) -> Placement:
        source, _ = _ends(placement)
        await self._set(placement, source, "fenced", expect=("open", "fenced"), move=placement.move)
        await self._checkpoint("fencing: nobody writes")
        await self._changed(placement, placement.move_progress["horizon"])
        await self._checkpoint("fencing: changes are over")
        await self._remove_deleted(placement)
        await self._checkpoint("fencing: deletions are over")
        return await self._placements.change(placement, move_phase=Phase.VERIFYING.value)

    async def _verify(self, placement: Placement) -> Placement:
        source, target = _ends(placement)
        await self._set(placement, target, "sealed", expect=("loading", "sealed"), move=placement.move)
        await self._checkpoint("verifying: target is sealed")
        here, there = await self._sums(placement, source), await self._sums(placement, target)
        if here != there:
            log.warning("moving %s: the two sides differ, the rest is copied again", placement.role)
            await self._set(placement, target, "loading", expect=("sealed", "loading"), move=placement.move)
            # Everything, not only what looks changed: a difference means that something was not seen.
            horizon = await self._horizon(placement, source)
            return await self._placements.change(
                placement, move_phase=Phase.COPYING.value,
                move_progress={**placement.move_progress, "horizon": horizon, "table": 0, "after": None},
            )  # fmt: skip
        await self._checkpoint("verifying: both sides are equal")
        progress = {
            **placement.move_progress,
            "sums": {name: [str(count), str(total)] for name, (count, total) in here.items()},
        }
        placement = await self._placements.change(
            placement, move_phase=Phase.SWITCHING.value, move_progress=progress, home=target.value, moved_at=await self._now(),
            clear_after=(await self._now()) + self._keep,
        )  # fmt: skip
        await self._checkpoint("switching: decided")
        return placement

    async def _switch(self, placement: Placement) -> Placement:
        # The record has changed sides already: its home is the target.
        target = placement.home
        source = Home.SHARED if target is Home.DEDICATED else Home.DEDICATED
        await self._set(placement, target, "open", expect=("sealed", "open"), move=None)
        await self._checkpoint("switching: target is open")
        await self._set(placement, source, "away", expect=("fenced", "away"), move=None)
        await self._checkpoint("switching: source is closed")
        self._router.forget(placement.role)
        return await self._forget(placement)

    async def clear(self, placement: Placement) -> int:
        """Delete what a move left in the shared database; returns the rows. The gate must say that they are not in use."""
        removed = 0
        for table in TABLES:
            while True:
                async with self._platform.tenant_tx(placement.role, purpose="clear", limit=STEP_TIMEOUT) as connection:
                    tag: str = await connection.execute(
                        f"DELETE FROM unjucks.{table.name} WHERE ctid IN "
                        f"(SELECT ctid FROM unjucks.{table.name} WHERE tenant_id = {OWN} LIMIT {BATCH_ROWS})"
                    )
                count = int(tag.rpartition(" ")[2])
                removed += count
                if count < BATCH_ROWS:
                    break
        await self._placements.change(placement, clear_after=None)
        return removed

    # --- rows -------------------------------------------------------------------------------------------------------------------
    async def _batch(
        self, placement: Placement, table: Table, *, since: str | None, after: list[str] | None
    ) -> tuple[int, list[str] | None]:
        """Copy rows that follow the key ``after``, at most a batch; the last key, or None when there were no more."""
        source, target = _ends(placement)
        keys = ", ".join(table.key)
        # The key as it is in the index; parameters are texts, so that they can be noted in the record.
        last = ", ".join(f"($1::text[])[{number}]::{kind}" for number, (_, kind) in enumerate(table.typed_key, start=1))
        lists = ", ".join(f"${number}::{kind}[]" for number, (_, kind) in enumerate(table.typed_key, start=1))
        async with self._rows(placement, source, "read") as connection:
            # Sizes first: one batch must fit into memory, whatever is in it.
            size = f"octet_length({table.large})" if table.large else "pg_column_size(r)"
            listed = await connection.fetch(
                f"SELECT {keys}, {size} AS bytes FROM unjucks.{table.name} r WHERE tenant_id = {OWN} "
                f"{f'AND ({keys}) > ({last})' if after else ''} AND ($2::text IS NULL OR age(r.xmin) <= age($2::text::xid)) "
                f"AND ($1::text[] IS NULL OR true) ORDER BY {keys} LIMIT {BATCH_ROWS}",
                after, since,
            )  # fmt: skip
            total = 0
            chosen: list[tuple[Any, ...]] = []
            for row in listed:
                total += row["bytes"]
                if chosen and total > BATCH_BYTES:
                    break
                chosen.append(tuple(row)[: len(table.key)])
            if not chosen:
                return 0, None
            rows = await connection.fetch(
                f"SELECT {', '.join(table.columns)} FROM unjucks.{table.name} r WHERE tenant_id = {OWN} "
                f"AND ({keys}) IN (SELECT * FROM unnest({lists}) u)",
                *([key[number] for key in chosen] for number in range(len(table.key))),
            )  # fmt: skip
        await self._checkpoint(f"copying: {table.name} was read")
        async with self._rows(placement, target, "load") as connection:
            await connection.execute(
                _upsert(table, await self._types(connection, table)), *map(list, zip(*rows, strict=True))
            )
        more = len(chosen) < len(listed) or len(listed) == BATCH_ROWS
        return len(rows), [str(part) for part in chosen[-1]] if more else None

    async def _changed(self, placement: Placement, horizon: str) -> tuple[int, str]:
        """Copy what was made or changed since ``horizon``; how many rows, and the next horizon."""
        source, _ = _ends(placement)
        following = await self._horizon(placement, source)
        total = 0
        for table in TABLES:
            after: list[str] | None = None
            while True:
                copied, after = await self._batch(placement, table, since=horizon, after=after)
                total += copied
                if after is None:
                    break
        return total, following

    async def _remove_deleted(self, placement: Placement) -> None:
        """Delete at the target what is not at the source any more. Under the fence."""
        source, target = _ends(placement)
        for table in TABLES:
            keys = ", ".join(f"{key}::text" for key in table.key)
            statement = f"SELECT {keys} FROM unjucks.{table.name} WHERE tenant_id = {OWN}"
            async with self._rows(placement, source, "read") as connection:
                here = {tuple(row) for row in await connection.fetch(statement)}
            async with self._rows(placement, target, "load") as connection:
                extra = [tuple(row) for row in await connection.fetch(statement) if tuple(row) not in here]
                if extra:
                    await connection.executemany(
                        f"DELETE FROM unjucks.{table.name} WHERE tenant_id = {OWN} AND ({keys}) = ({_values(len(table.key))})",
                        extra,
                    )

    async def _sums(self, placement: Placement, home: Home) -> dict[str, tuple[int, int]]:
        """For each table the number of rows and the sum of the rows' 64-bit hashes."""
        found = {}
        async with self._rows(placement, home, "look") as connection:
            for table in TABLES:
                row = await connection.fetchrow(
                    f"SELECT count(*) AS rows, coalesce(sum(hash_record_extended(ROW({', '.join(table.columns)}), 0)::numeric), 0) "
                    "AS total "
                    f"FROM unjucks.{table.name} WHERE tenant_id = {OWN}"
                )
                found[table.name] = (int(row["rows"]), int(row["total"]))
        return found

    async def _horizon(self, placement: Placement, home: Home) -> str:
        """Every transaction that has ended by now is older than this; every other one is not."""
        async with self._database(placement, home) as database, database.service_tx() as connection:
            # The low 32 bits: what is in the rows. Comparing goes by age(), which knows the circle.
            return str(
                await connection.fetchval(
                    "SELECT (pg_snapshot_xmin(pg_current_snapshot())::text::numeric % 4294967296)::bigint::text"
                )
            )

    async def _types(self, connection: Connection, table: Table) -> Mapping[str, str]:
        if table.name not in self._column_types:
            rows = await connection.fetch(
                "SELECT attname::text AS name, format_type(atttypid, atttypmod) AS type FROM pg_attribute "
                "WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped", f"unjucks.{table.name}",
            )  # fmt: skip
            self._column_types[table.name] = {row["name"]: row["type"] for row in rows}
        return self._column_types[table.name]

    # --- small things -------------------------------------------------------------------------------------------------------------
    @asynccontextmanager
    async def _rows(self, placement: Placement, home: Home, purpose: str) -> AsyncIterator[Connection]:
        async with (
            self._database(placement, home) as database,
            database.tenant_tx(placement.role, limit=STEP_TIMEOUT, purpose=purpose, move=placement.move) as connection,
        ):
            # Dates and numbers go over as they are; the driver's text forms must not depend on anybody's settings.
            await connection.execute("SET LOCAL TimeZone = 'UTC'")
            yield connection

    @asynccontextmanager
    async def _database(self, placement: Placement, home: Home) -> AsyncIterator[Database]:
        if home is Home.SHARED:
            yield self._platform
            return
        async with self._own.using(placement.database) as database:
            yield database

    async def _set(
        self,
        placement: Placement,
        home: Home,
        state: str,
        *,
        expect: tuple[str, ...],
        move: uuid.UUID | None,
        missing_is_fine: bool = False,
    ) -> None:
        """Move one gate on, while nobody else can change the record of this move."""
        async with self._platform.service_tx(limit=STEP_TIMEOUT) as connection:
            same = await connection.fetchval(
                "SELECT true FROM unjucks_ops.placement WHERE tenant_id = $1 AND move = $2 AND move_phase = $3 FOR UPDATE",
                uuid.UUID(placement.uid), placement.move, placement.move_phase.value if placement.move_phase else "",
            )  # fmt: skip
            if not same:
                raise errors.Conflict("somebody else went on with this move")
            try:
                done = await self._dedicated.gate(placement, home, state, expect=expect, move=move)
            except errors.Unavailable:
                if (
                    missing_is_fine
                    and home is Home.DEDICATED
                    and await self._dedicated.facts(placement.database) is None
                ):
                    return
                raise
        if not done:
            raise errors.Conflict(
                f"the gate of {placement.role} is not in the state that this step of its move begins with"
            )

    async def _forget(self, placement: Placement, **values: Any) -> Placement:
        return await self._placements.change(placement, move=None, move_to=None, move_phase=None, **values)

    async def _now(self) -> Any:
        async with self._platform.service_tx() as connection:
            return await connection.fetchval("SELECT now()")


def _ends(placement: Placement) -> tuple[Home, Home]:
    assert placement.move_to is not None
    return placement.home, placement.move_to


def _values(count: int) -> str:
    return ", ".join(f"${number}" for number in range(1, count + 1))


def _upsert(table: Table, types: Mapping[str, str]) -> str:
    """All rows of a batch in one statement: an array for each column. jsonb goes as text, which is what the driver gave."""
    arrays = ", ".join(
        f"${number}::{'text' if types[name] == 'jsonb' else types[name]}[]"
        for number, name in enumerate(table.columns, start=1)
    )
    values = ", ".join(f"u.{name}::{types[name]}" for name in table.columns)
    rest = ", ".join(f"{name} = excluded.{name}" for name in table.columns if name not in table.key)
    columns = ", ".join(table.columns)
    return (
        f"INSERT INTO unjucks.{table.name} (tenant_id, {columns}) SELECT {OWN}, {values} FROM unnest({arrays}) AS u({columns}) "
        f"ON CONFLICT (tenant_id, {', '.join(table.key)}) DO UPDATE SET {rest}"
    )
