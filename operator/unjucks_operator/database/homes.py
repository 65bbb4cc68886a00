"""The tenants' whole part of PostgreSQL in one hand: identity, where the rows are, logins, moves, and putting all of it away.

Every call may be repeated, costs only reads when all is right, and moves one tenant one step towards what its spec asks for. The
parts: ``tenants`` (roles), ``dedicated`` (databases), ``move``, ``logins``. Called through ``sweep.DatabaseGate`` by what carries
out plans, and by the sweep. Decides nothing about when: the planner does.
"""

import asyncio
import logging
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

from unjucks_api import names
from unjucks_api.reasons import Reason
from unjucks_operator import errors
from unjucks_operator.config import Config
from unjucks_operator.database.dedicated import Dedicated, Limits, read_facts
from unjucks_operator.database.logins import LoginLimits, Logins, LoginState, NewLogin, login_of
from unjucks_operator.database.move import TABLES, Mover
from unjucks_operator.database.placement import (
    COLUMNS,
    DatabaseState,
    Home,
    Phase,
    Placement,
    Placements,
    placement_of,
    read_placements,
)
from unjucks_operator.database.pool import Database
from unjucks_operator.database.routing import OwnDatabases, Router
from unjucks_operator.database.tenants import DatabaseState as TenantRecord
from unjucks_operator.database.tenants import Drift, TenantDatabase, Tenants, TenantState, as_uuid

log = logging.getLogger(__name__)

MOVES_AT_ONCE = 2
LOOKED_INTO = 3
"""Own databases whose inside is compared in one sweep; all of them have their turn."""


@dataclass(frozen=True, slots=True)
class HomeState:
    """A tenant's part of PostgreSQL as one call left it. ``login`` is None without direct access."""

    identity: TenantDatabase
    home: Home
    database: str
    move_to: Home | None = None
    move_phase: Phase | None = None
    move_started_at: datetime | None = None
    login: LoginState | None = None

    @property
    def role(self) -> str:
        """The tenant's role."""
        return self.identity.role

    @property
    def usable(self) -> bool:
        """Whether anybody may act as the tenant."""
        return self.identity.usable


@dataclass(frozen=True, slots=True)
class SecretData:
    """What the Secret of a tenant's login holds. ``repr`` shows nothing of it."""

    version: str
    overlap: float
    """Seconds for which the password before works on."""
    data: Mapping[str, str] = field(repr=False)


class Homes:
    """The operator's hand on all of it."""

    def __init__(self, platform: Database, config: Config) -> None:
        settings = config.database
        self._platform = platform
        self._settings = settings
        self.tenants = Tenants(platform)
        self.own = OwnDatabases(platform, budget=settings.dedicated.pool_max, each=settings.dedicated.pool_each)
        self.router = Router(platform, self.own)
        self.dedicated = Dedicated(
            platform,
            self.own,
            direct_dsn=settings.direct_dsn.get_secret_value() if settings.direct_dsn else "",
            limits=Limits(settings.dedicated.connections),
        )
        self.mover = Mover(
            platform, self.own, self.dedicated, self.router, keep=timedelta(seconds=settings.dedicated.keep_after_move)
        )
        self.logins = Logins(
            platform,
            limits=LoginLimits(
                connections=settings.direct.connections,
                statement_timeout=int(settings.direct.statement_timeout * 1000),
                idle_in_transaction=int(min(settings.direct.statement_timeout, settings.direct.idle_timeout) * 1000),
                idle_session=int(settings.direct.idle_timeout * 1000),
                temp_kilobytes=settings.direct.temp_bytes // 1024,
            ),
            others=settings.pool_max + self.own.budget,
        )
        self._placements = Placements(platform)
        self._moving = asyncio.Semaphore(MOVES_AT_ONCE)
        self._may_make: bool | None = None
        self._next_inside = 0

    async def close(self) -> None:
        """Ends connections to tenants' own databases."""
        await self.own.close()
        await self.dedicated.close()

    # --- a living tenant --------------------------------------------------------------------------------------------------------
    async def ensure(self, uid: str, name: str, *, wanted: str = "", first: str = "Shared") -> HomeState:
        """Role, rows' home and their protection are right. ``wanted``: Shared or Dedicated when the spec says so, else empty;
        ``first``: what a tenant without rows gets then. Never moves rows: ``move`` does.

        Raises NotPermitted(DatabaseNotOffered) when a database of its own is wanted and cannot be had, Terminal(DatabaseLost) when
        one that held rows is gone, and what ``Tenants.ensure`` raises.
        """
        identity, found = await self.tenants.ensure_and_look(uid, name, _LOOK, *_asked(uid))
        if not identity.usable:
            return HomeState(identity, Home.SHARED, "")
        placement, gate, login = _found(uid, found)
        target = Home((wanted or first).lower())
        if target is Home.DEDICATED and placement.home is Home.SHARED and placement.move is None:
            if not await self._may_have_own(wanted):
                target = Home.SHARED
            elif wanted or gate in (None, "away"):
                placement, gate = await self._first_home(placement, gate)
        if placement.home is Home.SHARED and placement.move is None and gate in ("away", "fenced", "loading", "sealed"):
            await self.dedicated.gate(placement, Home.SHARED, "open", expect=(gate,), move=None)
        if placement.home is Home.DEDICATED:
            placement = await self.dedicated.ensure(placement, _connecting(login, placement))
        if placement.clear_after is not None:
            placement = await self._clear_leftovers(placement)
        if login is not None and (login.drift or login.due):
            await self.logins.mend(uid, shared=login.shared)
            login = await self.logins.state(uid)
        self.router.learn(placement.role, placement.database if placement.home is Home.DEDICATED else None)
        return self._state(identity, placement, login)

    async def move(self, uid: str, name: str, target: str) -> HomeState:
        """One phase of bringing the rows to ``target`` (Shared or Dedicated; empty: where they are, so that a move that is not
        decided yet is taken back). Nothing happens when they are there. The state tells whether there is more to do."""
        async with self._moving:
            placement, _, login = await self._look(uid)
            wanted = Home(target.lower()) if target else placement.home
            if placement.move is None and wanted is not placement.home:
                if wanted is Home.DEDICATED:
                    await self._may_have_own(target)
                placement = await self.mover.start(placement, wanted)
                log.info("the rows of tenant %s begin to move to %s", name, wanted)
            elif (
                placement.move is not None
                and wanted is not placement.move_to
                and placement.move_phase is not Phase.SWITCHING
            ):
                placement = await self.mover.give_up(placement)
                log.info("the move of tenant %s was taken back", name)
            elif placement.move is not None:
                placement = await self.mover.advance(placement)
                if placement.move is None:
                    log.info("the rows of tenant %s are in their %s home now", name, placement.home)
        return self._state(TenantDatabase(placement.role, TenantState.ACTIVE), placement, login)

    async def renew_login(self, uid: str, there: str, *, every: float, overlap: float) -> "SecretData | LoginState":
        """The login is right and the Secret (which carries the version ``there``) holds it; or what to write into the Secret.

        After writing, the caller says so with ``commit_login``.
        """
        placement, _, login = await self._look(uid)
        shared = placement.home is Home.SHARED
        if login is not None and there and login.shared is shared:
            if there == login.pending_version:  # it was written, and then this process was stopped
                login = await self.commit_login(uid, there, overlap)
            if login is not None and there == login.version and not await self._is_due(login, every):
                await self.logins.mend(uid, shared=shared)
                return await self.logins.state(uid) or login
        fresh = await self.logins.begin(uid, shared=shared)
        if placement.home is Home.DEDICATED:
            await self.dedicated.ensure(placement, [f"{placement.role}_a", f"{placement.role}_b"])
        # One that may connect somewhere else by now shall not read what was left there.
        return self._secret(placement, fresh, overlap if login is None or login.shared is shared else 0.0)

    async def _is_due(self, login: LoginState, every: float) -> bool:
        async with self._platform.service_tx() as connection:
            now = await connection.fetchval("SELECT now()")
        return login.rotated_at is None or bool(login.rotated_at + timedelta(seconds=every) <= now)

    async def commit_login(self, uid: str, version: str, overlap: float) -> LoginState | None:
        """The Secret carries this version: it is the tenant's login; the one before ends after ``overlap`` seconds."""
        await self.logins.commit(uid, version, timedelta(seconds=overlap))
        placement, _, _ = await self._look(uid)
        await self.logins.mend(uid, shared=placement.home is Home.SHARED)
        return await self.logins.state(uid)

    async def drop_login(self, uid: str) -> None:
        """No direct access any more. The logins end first; then nothing depends on their roles, and these go too."""
        if not await self.logins.drop(uid):
            placement, _, _ = await self._look(uid)
            if placement.home is Home.DEDICATED:
                await self.dedicated.ensure(placement)
            await self.logins.drop(uid)

    # --- the end of a tenant ------------------------------------------------------------------------------------------------------
    async def retire(self, uid: str, name: str) -> TenantDatabase:
        """Nobody acts as the tenant or logs in for it any more; its own database is put away under another name.

        All of it stays.
        """
        await self.logins.drop(uid)
        identity = await self.tenants.retire(uid, name)
        placement = await self._placements.of(uid)
        self.router.forget(placement.role)
        await self.dedicated.retire(placement)
        return identity

    async def drop(self, uid: str) -> int:
        """Rows, own database and role go for good; the tenant was retired before."""
        placement = await self._placements.of(uid)
        await self.dedicated.drop(await self.dedicated.retire(placement))
        await self.logins.drop(uid)
        return await self.tenants.drop(uid)

    # --- all tenants ------------------------------------------------------------------------------------------------
    async def sweep(self, *, inside: bool = True) -> dict[str, TenantRecord]:
        """Every tenant with all that is wrong about it: role, own database, logins.

        A few queries, whatever the number of tenants.
        """
        async with self._platform.service_tx() as connection:
            placements = await read_placements(connection)
            facts = await read_facts(connection, None)
            now = await connection.fetchval("SELECT now()")
        logins = await self.logins.report()
        found: dict[str, list[Drift]] = {}
        for uid, placement in placements.items():
            if placement.home is Home.DEDICATED and placement.database_state in (
                DatabaseState.CREATING,
                DatabaseState.READY,
            ):
                wrong = self.dedicated.drift(
                    placement, facts.get(placement.database), _connecting(logins.get(uid), placement)
                )
                found.setdefault(uid, []).extend(Drift(code) for code in wrong)
            if placement.clear_after is not None and placement.clear_after <= now:
                found.setdefault(uid, []).append(Drift.LEFTOVERS)
        for uid, login in logins.items():
            if login.drift or login.due:
                found.setdefault(uid, []).append(Drift.LOGINS)
        for uid in await self._look_inside(placements) if inside else ():
            found.setdefault(uid, []).append(Drift.OWN_SCHEMA)
        # Last: whoever compares with it must not take a tenant that was made meanwhile for one that is gone.
        states = await self.tenants.sweep()
        for uid, codes in found.items():
            if (state := states.get(uid)) is not None and state.state is TenantState.ACTIVE:
                states[uid] = replace(state, drift=(*state.drift, *codes))
        return states

    @property
    def schema_drift(self) -> tuple[str, ...]:
        """See ``Tenants.schema_drift``."""
        return self.tenants.schema_drift

    async def _look_inside(self, placements: Mapping[str, Placement]) -> list[str]:
        """The next few own databases: whether their tables' protection is as it has to be. What is not is put back at once."""
        ready = sorted(
            uid
            for uid, it in placements.items()
            if it.home is Home.DEDICATED and it.database_state is DatabaseState.READY
        )
        wrong = []
        for _ in range(min(LOOKED_INTO, len(ready))):
            uid = ready[self._next_inside % len(ready)]
            self._next_inside += 1
            try:
                lines = await self.dedicated.check_inside(placements[uid])
            except errors.OperatorError as error:
                log.warning("the database %s could not be looked into: %s", placements[uid].database, error.message)
                continue
            if lines:
                log.warning("the tables' protection in %s was changed: %s", placements[uid].database, lines[0][:300])
                wrong.append(uid)
        return wrong

    # --- small things -----------------------------------------------------------------------------------------------
    async def _look(self, uid: str) -> tuple[Placement, str | None, LoginState | None]:
        """Placement, gate in the shared database, login; in one query, because every tenant asks this once after a start."""
        async with self._platform.service_tx() as connection:
            return _found(uid, await connection.fetchrow(_LOOK, *_asked(uid)))

    async def _may_have_own(self, wanted: str) -> bool:
        """Whether this platform can give a database of one's own. Raises when one is asked for by name and it cannot."""
        why = "the platform gives no databases to single tenants (database.dedicated.enabled)"
        if self._settings.dedicated.enabled:
            if self._may_make is None:
                async with self._platform.service_tx() as connection:
                    self._may_make = bool(
                        await connection.fetchval(
                            "SELECT rolcreatedb FROM pg_roles WHERE rolname = unjucks_ops.role_of('databases')"
                        )
                    )
                pooler = (await self._platform.server_facts()).pooler
                self._may_make = self._may_make and (not pooler or self._settings.direct_dsn is not None)
            if self._may_make:
                return True
            self._may_make = None  # an administrator may give the right at any time
            why = "the operator may not make databases on this server (`unjucks-operator db bootstrap` gives the right)"
        if wanted:
            raise errors.NotPermitted(
                f"spec.database.mode is Dedicated, but {why}; choose Shared", reason=Reason.DATABASE_NOT_OFFERED
            )
        return False

    async def _first_home(self, placement: Placement, gate: str | None) -> tuple[Placement, str | None]:
        """A tenant that has no rows yet begins in a database of its own.

        One that has some is left where it is: ``move`` is for that.
        """
        async with self._platform.service_tx() as connection:
            await connection.execute(
                "INSERT INTO unjucks_ops.gate (role_name, state) VALUES ($1, 'away') ON CONFLICT DO NOTHING",
                placement.role,
            )
            gate = await connection.fetchval("SELECT state FROM unjucks_ops.gate WHERE role_name = $1", placement.role)
        if gate != "away":
            return placement, gate
        async with self._platform.tenant_tx(placement.role, purpose="clear") as connection:
            parts = " UNION ALL ".join(f"(SELECT 1 FROM unjucks.{table.name} LIMIT 1)" for table in TABLES)  # noqa: S608  constants
            used = bool(await connection.fetch(parts))
        if used:
            return placement, gate  # what follows opens the gate again
        return (
            await self._placements.change(
                placement, home=Home.DEDICATED.value, database_state=DatabaseState.CREATING.value
            ),
            gate,
        )

    async def _clear_leftovers(self, placement: Placement) -> Placement:
        async with self._platform.service_tx() as connection:
            due = await connection.fetchval("SELECT $1::timestamptz <= now()", placement.clear_after)
        if not due or placement.move is not None:
            return placement
        if placement.home is Home.DEDICATED:
            await self.mover.clear(placement)
        else:
            placement = await self.dedicated.drop(await self.dedicated.retire(placement))
            placement = await self._placements.change(placement, clear_after=None)
        return replace(placement, clear_after=None)

    def _state(self, identity: TenantDatabase, placement: Placement, login: LoginState | None) -> HomeState:
        shared = urlsplit(self._platform.dsn).path.lstrip("/")
        return HomeState(
            identity,
            placement.home,
            placement.database if placement.home is Home.DEDICATED else shared,
            placement.move_to,
            placement.move_phase,
            placement.move_started_at,
            login,
        )

    def _secret(self, placement: Placement, fresh: NewLogin, overlap: float) -> SecretData:
        address = urlsplit(
            self._settings.direct_dsn.get_secret_value() if self._settings.direct_dsn else self._platform.dsn
        )
        host = self._settings.direct.host or address.hostname or "localhost"
        port = self._settings.direct.port or address.port or 5432
        database = placement.database if placement.home is Home.DEDICATED else address.path.lstrip("/")
        modes = parse_qs(address.query).get("sslmode", [])  # the rest is about files of the operator's
        query = f"?sslmode={modes[0]}" if modes else ""
        return SecretData(
            fresh.version,
            overlap,
            {
                "username": fresh.login,
                "password": fresh.password,
                "host": host,
                "port": str(port),
                "dbname": database,
                "uri": f"postgresql://{fresh.login}:{fresh.password}@{host}:{port}/{database}{query}",
            },
        )


def _connecting(login: LoginState | None, placement: Placement) -> list[str]:
    """The logins that may connect to the tenant's own database."""
    if login is None or login.shared or (login.slot is None and login.pending_version is None):
        return []
    return [f"{placement.role}_a", f"{placement.role}_b"]


_LOOK = f"""
    SELECT me.uid AS tenant_id, me.role AS role_name, p.tenant_id IS NOT NULL AS placed, g.state AS gate,
           {", ".join(f"p.{name}" for name in COLUMNS[2:])},
           l.slot, l.version, l.pending_version, l.shared, l.rotated_at, l.retire_at, l.due, l.drift
      FROM (SELECT $1::uuid AS uid, $2::name AS role) me
      LEFT JOIN unjucks_ops.placement p ON p.tenant_id = me.uid
      LEFT JOIN unjucks_ops.gate g ON g.role_name = me.role
      LEFT JOIN unjucks_ops.login_report($1::uuid) l ON true
"""  # noqa: S608  names of columns only


def _asked(uid: str) -> tuple[uuid.UUID, str]:
    """What ``_LOOK`` wants to know."""
    return as_uuid(uid), names.database_role(uid)


def _found(uid: str, row: Any) -> tuple[Placement, str | None, LoginState | None]:
    """What ``_LOOK`` answered: placement, gate in the shared database, login."""
    placement = placement_of(row) if row["placed"] else Placement(uid, names.database_role(uid))
    login = login_of(row) if row["slot"] or row["pending_version"] else None
    return placement, row["gate"], login
