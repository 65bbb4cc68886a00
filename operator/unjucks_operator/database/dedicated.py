"""Databases of single tenants: made from a template, kept as they have to be, put away, dropped.

``CREATE DATABASE`` runs neither in a function nor in a transaction, so it is no step that happens or does not: each step here may
be cut off anywhere and repeated. The order makes every prefix safe: the record says *creating* first; the new database takes no
connection until PUBLIC has no right to it; it is filled before it counts as ready; and only the record decides that a tenant's
rows are there. Removing goes the other way: nobody may connect, sessions end, it gets another name, and much later it is dropped.
A database that is not ours is never taken over, and one that was ready and is gone is never made again empty.
The right to create databases is a role's (<prefix>_databases) that the operator becomes on connections of their own. Called by
``homes``.
"""

import asyncio
import hashlib
import logging
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import asyncpg

from unjucks_api.reasons import Reason
from unjucks_operator import errors
from unjucks_operator.database.failures import translate, unavailable
from unjucks_operator.database.identifiers import platform_role, quote_tenant_role
from unjucks_operator.database.migrate import apply_security, load_migrations, migrate, security_sql
from unjucks_operator.database.placement import DatabaseState, Home, Placement, Placements
from unjucks_operator.database.pool import Connection, Database
from unjucks_operator.database.routing import OwnDatabase, OwnDatabases

log = logging.getLogger(__name__)

MAKER_CONNECTIONS = 2
MAKER_TIMEOUT = 90.0
HALF_DROPPED = -2
"""What PostgreSQL writes as the connection limit of a database whose DROP was cut off: nothing but another DROP is possible."""
_MADE_BY_ANOTHER = (asyncpg.DuplicateDatabaseError, asyncpg.UniqueViolationError)
"""Somebody made the same database: before this statement, or while it ran (then the catalog's index says so)."""
_COPIED = ("unjucks_ops.role_of(text)", "unjucks_ops.security_lines(name)", "unjucks_ops.enter(text,uuid)")


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one tenant's own database. ``connections`` is of all sessions together, the operator's included."""

    connections: int = 16


@dataclass(frozen=True, slots=True)
class Facts:
    """A database as the server's catalog has it."""

    name: str
    owner: str
    marker: str | None
    allows: bool
    limit: int
    rights: frozenset[str]
    """``grantee=privileges`` without the owner's own."""


class Dedicated:
    """Makes and keeps tenants' own databases."""

    def __init__(
        self, platform: Database, own: OwnDatabases, *, direct_dsn: str = "", limits: Limits | None = None
    ) -> None:
        self._platform = platform
        self._own = own
        self._direct_dsn = direct_dsn
        self._limits = limits or Limits()
        self._placements = Placements(platform)
        self._maker: asyncpg.Pool[asyncpg.Record] | None = None
        self._making = asyncio.Lock()
        self._template: tuple[str, str] | None = None
        self._templating = asyncio.Lock()

    @property
    def limits(self) -> Limits:
        """What each database gets."""
        return self._limits

    async def close(self) -> None:
        """Ends the connections."""
        maker, self._maker = self._maker, None
        if maker is not None:
            maker.terminate()

    # --- making -----------------------------------------------------------------------------------------------------------------
    async def ensure(self, placement: Placement, logins: Sequence[str] = ()) -> Placement:
        """The tenant's own database exists, is ours, is closed to everybody else, has its tables. Returns the record as it is then.

        ``logins`` are the tenant's logins that may connect. Raises Terminal(DatabaseLost) when a database that held rows is gone.
        """
        if placement.database_state in (DatabaseState.NONE, DatabaseState.DROPPED):
            placement = await self._placements.change(placement, database_state=DatabaseState.CREATING.value)
        if placement.database_state not in (DatabaseState.CREATING, DatabaseState.READY):
            raise errors.NotPermitted(
                f"the tenant's own database was put away ({placement.database_state}); only an administrator brings it back"
            )
        facts = await self.facts(placement.database)
        if facts is not None and facts.limit == HALF_DROPPED and placement.database_state is DatabaseState.CREATING:
            await self._ddl(f"DROP DATABASE {quote_tenant_role(placement.database)}")
            facts = None
        if facts is None:
            if placement.database_state is DatabaseState.READY:
                raise _lost(placement, "is not on the server any more")
            await self._create(placement)
            facts = await self.facts(placement.database)
            if facts is None:
                raise unavailable("a database that was just made is gone again")
        if facts.limit == HALF_DROPPED:
            raise _lost(placement, "was dropped half by somebody")
        self._require_ours(placement, facts)
        if self.drift(placement, facts, logins):
            await self._settle(placement, logins)
        _, version = await self.template()
        if placement.database_state is DatabaseState.CREATING or placement.contents != version:
            await self._fill(placement)
            if placement.home is Home.DEDICATED and placement.move is None:  # a tenant that begins here
                await self.gate(placement, Home.DEDICATED, "open", expect=("away",), move=None)
            placement = await self._placements.change(
                placement, database_state=DatabaseState.READY.value, contents=version
            )
        return placement

    def drift(self, placement: Placement, facts: Facts | None, logins: Sequence[str] = ()) -> tuple[str, ...]:
        """What of a database that should be there is not as it has to be. Pure."""
        if facts is None:
            return ("DatabaseMissing",)
        found = []
        if facts.limit == HALF_DROPPED:
            found.append("DatabaseHalfDropped")
        elif facts.limit != self._limits.connections:
            found.append("DatabaseConnectionLimit")
        if facts.owner != self._role("databases"):
            found.append("DatabaseOwner")
        if facts.marker != self._marker(placement.uid):
            found.append("DatabaseMarkerMissing")
        if not facts.allows:
            found.append("DatabaseClosed")
        if facts.rights != self._rights(logins):
            found.append("DatabaseRights")
        return tuple(found)

    def _rights(self, logins: Sequence[str]) -> frozenset[str]:
        return frozenset({f"{self._role('service')}=CONNECT", *(f"{login}=CONNECT" for login in logins)})

    def _role(self, kind: str) -> str:
        return platform_role(self._platform.prefix, kind).strip('"')

    def _marker(self, uid: str) -> str:
        return f"unjucks:{self._platform.prefix}:{uid}"

    def _require_ours(self, placement: Placement, facts: Facts) -> None:
        # Only the operator makes databases as this owner. One of them without a mark is one whose making was cut off.
        if facts.owner != self._role("databases") or facts.marker not in (self._marker(placement.uid), None):
            raise errors.OwnershipConflict(
                f"a database {facts.name} exists and was not made for this Tenant (owner {facts.owner}); it is left as it is"
            )

    async def _create(self, placement: Placement) -> None:
        template, _ = await self.template()
        try:
            await self._ddl(
                f'CREATE DATABASE {quote_tenant_role(placement.database)} TEMPLATE "{template}" STRATEGY wal_log '
                "ALLOW_CONNECTIONS false"
            )
        except _MADE_BY_ANOTHER:
            pass  # another operator was faster; what is there is looked at next
        except asyncpg.InvalidCatalogNameError:
            self._template = None  # the template was removed; it is made again at the next try
            raise unavailable("the template of tenants' databases is gone; it is made again") from None

    async def _settle(self, placement: Placement, logins: Sequence[str]) -> None:
        """Mark, rights, limits; in one transaction, and connections are allowed only in it."""
        name = quote_tenant_role(placement.database)
        async with self._making_session() as connection:
            rows = await connection.fetch(
                "SELECT DISTINCT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END AS who "
                "FROM pg_database d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a "
                "WHERE d.datname = $1 AND a.grantee <> d.datdba", placement.database,
            )  # fmt: skip
            statements = [f"REVOKE ALL ON DATABASE {name} FROM {row['who']}" for row in rows]
            who = ", ".join([platform_role(self._platform.prefix, "service"), *(f'"{login}"' for login in logins)])
            statements += [
                f"GRANT CONNECT ON DATABASE {name} TO {who}",
                f"COMMENT ON DATABASE {name} IS '{self._marker(str(uuid.UUID(placement.uid)))}'",
                f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true CONNECTION LIMIT {int(self._limits.connections)}",
            ]
            async with connection.transaction():
                for statement in statements:
                    await connection.execute(statement)

    async def _fill(self, placement: Placement) -> None:
        """Tables of this version, and the one line that says whose database it is."""
        async with self._own.using(placement.database) as database:
            if placement.contents:  # older tables; a new one has those of the template
                await self._install(database, placement.database)
            async with database.service_tx() as connection:
                await connection.execute(
                    "INSERT INTO unjucks_ops.tenant (tenant_id, role_name) VALUES ($1, $2) ON CONFLICT DO NOTHING",
                    uuid.UUID(placement.uid), placement.role,
                )  # fmt: skip
                await connection.execute(
                    "INSERT INTO unjucks_ops.gate (role_name) VALUES ($1) ON CONFLICT DO NOTHING", placement.role
                )
                whose = await connection.fetchval("SELECT role_name::text FROM unjucks_ops.tenant")
            if whose != placement.role:
                raise errors.OwnershipConflict(f"the database {placement.database} belongs to another tenant inside")

    # --- the template -----------------------------------------------------------------------------------------------------------
    async def template(self) -> tuple[str, str]:
        """Name and version of the template with the tables of this operator; made when there is none."""
        async with self._templating:
            if self._template is None:
                async with self._platform.service_tx() as connection:
                    bodies = [
                        await connection.fetchval(
                            "SELECT md5(prosrc) FROM pg_proc WHERE oid = $1::text::regprocedure", name
                        )
                        for name in _COPIED
                    ]
                texts = [item.checksum for item in load_migrations()] + [security_sql(), *_own_sql(), *bodies]
                version = hashlib.sha256("\n".join(texts).encode()).hexdigest()[:12]
                name = f"{self._platform.prefix}_template_{version}"
                # One operator at a time: what one finishes closes the template to everybody, also to another in the midst of it.
                # The lock is that of the migrations: a table's, which only the owner can take.
                async with self._platform.service_tx("owner", limit=MAKER_TIMEOUT) as lock:
                    await lock.execute("LOCK TABLE unjucks.schema_migration IN SHARE ROW EXCLUSIVE MODE")
                    await self._ensure_template(name)
                self._template = (name, version)
            return self._template

    async def _ensure_template(self, name: str) -> None:
        facts = await self.facts(name)
        ready = f"unjucks:{self._platform.prefix}:template"
        if facts is not None and facts.limit == HALF_DROPPED:
            await self._ddl(f'DROP DATABASE "{name}"')
            facts = None
        if facts is None:
            try:
                await self._ddl(f'CREATE DATABASE "{name}" TEMPLATE template0 STRATEGY wal_log ALLOW_CONNECTIONS false')
            except _MADE_BY_ANOTHER:
                pass
        elif facts.owner != self._role("databases"):
            raise errors.OwnershipConflict(
                f"a database {name} exists and was not made by the operator; it is left as it is"
            )
        elif facts.marker == ready and not facts.allows:
            return
        service, owner = (platform_role(self._platform.prefix, kind) for kind in ("service", "owner"))
        for statement in (
            f'REVOKE ALL ON DATABASE "{name}" FROM PUBLIC',
            f'GRANT CONNECT ON DATABASE "{name}" TO {service}',
            f'ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS true',
        ):
            await self._ddl(statement)
        database = OwnDatabase(self._platform, name, connections=1)
        async with database:
            await self._install(database, name)
        await self._ddl(f'REVOKE CREATE ON DATABASE "{name}" FROM {owner}')
        await self._ddl(f"COMMENT ON DATABASE \"{name}\" IS '{ready}'")
        await self._ddl(f'ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS false')
        async with (
            self._platform.service_tx() as connection
        ):  # ours, or another operator's that made the same; both are done
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND usename = session_user",
                name,
            )

    async def _install(self, database: Database, name: str) -> None:
        """Functions, tables, rights: everything that a tenant's own database has in common with the shared one."""
        owner = platform_role(self._platform.prefix, "owner")
        async with self._platform.service_tx() as connection:
            functions = [
                await connection.fetchval("SELECT pg_get_functiondef($1::text::regprocedure)", item) for item in _COPIED
            ]
        tables, rights = _own_sql()
        await self._ddl(f'GRANT CREATE ON DATABASE "{name}" TO {owner}')
        async with database.service_tx("owner", limit=MAKER_TIMEOUT) as connection:
            await connection.execute(tables)
            await connection.execute(
                "INSERT INTO unjucks_ops.installation (prefix) VALUES ($1) ON CONFLICT DO NOTHING",
                self._platform.prefix,
            )
            for function in functions:
                await connection.execute(function)
            await connection.execute(rights)
        await self._ddl(f'REVOKE CREATE ON DATABASE "{name}" FROM {owner}')
        await migrate(database)

    # --- taking away ------------------------------------------------------------------------------------------------------------
    async def retire(self, placement: Placement) -> Placement:
        """Nobody can connect any more, and the database gets another name. Its content stays. Repeatable."""
        if placement.database_state in (
            DatabaseState.NONE,
            DatabaseState.TOMBSTONE,
            DatabaseState.DROPPING,
            DatabaseState.DROPPED,
        ):
            return placement
        if placement.database_state is not DatabaseState.RETIRING:
            placement = await self._placements.change(placement, database_state=DatabaseState.RETIRING.value)
        await self._own.forget(placement.database)
        facts = await self.facts(placement.database)
        if facts is not None and facts.limit != HALF_DROPPED:
            self._require_ours_to_remove(placement, facts)
            name = quote_tenant_role(placement.database)
            await self._ddl(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false")
            await self._end_sessions(placement.database)
            try:
                await self._ddl(f'ALTER DATABASE {name} RENAME TO "{tombstone_name(placement.database)}"')
            except asyncpg.ObjectInUseError:
                raise errors.Waiting(
                    f"somebody is connected to the database {placement.database}; it is put away when that session ends",
                    after=2.0,
                ) from None
        return await self._placements.change(placement, database_state=DatabaseState.TOMBSTONE.value)

    async def drop(self, placement: Placement) -> Placement:
        """The put-away database goes for good. Repeatable, also when the server was stopped in the middle of it."""
        if placement.database_state in (DatabaseState.NONE, DatabaseState.DROPPED):
            return placement
        if placement.database_state not in (DatabaseState.TOMBSTONE, DatabaseState.DROPPING):
            raise errors.Bug("a database has to be put away before it is dropped")
        if placement.database_state is not DatabaseState.DROPPING:
            placement = await self._placements.change(placement, database_state=DatabaseState.DROPPING.value)
        for name in (tombstone_name(placement.database), placement.database):
            facts = await self.facts(name)
            if facts is None:
                continue
            self._require_ours_to_remove(placement, facts)
            await self._end_sessions(name)
            try:
                await self._ddl(f'DROP DATABASE IF EXISTS "{name}"')
            except asyncpg.ObjectInUseError:
                raise errors.Waiting(f"somebody is connected to the database {name}", after=2.0) from None
        return await self._placements.change(placement, database_state=DatabaseState.DROPPED.value)

    def _require_ours_to_remove(self, placement: Placement, facts: Facts) -> None:
        if facts.owner != self._role("databases") or facts.marker not in (self._marker(placement.uid), None):
            raise errors.OwnershipConflict(
                f"the database {facts.name} was not made for this Tenant; it is left as it is"
            )

    async def _end_sessions(self, name: str) -> None:
        async with self._platform.service_tx() as connection:
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND usename = session_user",
                name,
            )

    # --- looking ----------------------------------------------------------------------------------------------------------------
    async def facts(self, name: str) -> Facts | None:
        """One database of the server, or None."""
        async with self._platform.service_tx() as connection:
            return (await read_facts(connection, [name])).get(name)

    async def size(self, placement: Placement) -> int:
        """Bytes on the server's disk; 0 when it is not there."""
        async with self._platform.service_tx() as connection:
            return int(
                await connection.fetchval(
                    "SELECT coalesce(sum(pg_database_size(oid)), 0) FROM pg_database WHERE datname = ANY ($1::name[]) "
                    "AND has_database_privilege(oid, 'CONNECT')",
                    [placement.database, tombstone_name(placement.database)],
                )
            )

    async def gate(
        self, placement: Placement, home: Home, state: str, *, expect: Sequence[str], move: uuid.UUID | None
    ) -> bool:
        """Set the tenant's gate in one of its two databases, when it is in one of the states ``expect`` (or already as wanted)."""
        if home is Home.SHARED:
            async with self._platform.service_tx() as connection:
                return await set_gate(connection, placement.role, state, expect=expect, move=move)
        async with self._own.using(placement.database) as database, database.service_tx() as connection:
            return await set_gate(connection, placement.role, state, expect=expect, move=move)

    async def check_inside(self, placement: Placement) -> tuple[str, ...]:
        """Put tables' protection in one tenant's own database back when it differs; returns what was different."""
        from unjucks_operator.database.migrate import security_drift

        async with self._own.using(placement.database) as database:
            async with database.service_tx() as connection:
                drift = await security_drift(connection)
            if drift:
                await apply_security(database, record=False)
            return tuple(drift)

    # --- the role that owns databases ---------------------------------------------------------------------------------------------
    async def _ddl(self, statement: str) -> None:
        async with self._making_session() as connection:
            await connection.execute(statement)

    @asynccontextmanager
    async def _making_session(self) -> AsyncIterator[Connection]:
        try:
            pool = self._maker or await self._make_pool()
            async with pool.acquire(timeout=MAKER_TIMEOUT) as connection:
                yield connection
        except (*_MADE_BY_ANOTHER, asyncpg.InvalidCatalogNameError, asyncpg.ObjectInUseError):
            raise
        except asyncpg.InsufficientPrivilegeError as error:
            raise errors.NotPermitted(
                "the operator may not make databases here: an administrator runs `unjucks-operator db bootstrap` as a superuser "
                f"or with CREATEDB ({error.args[0]})"
            ) from None
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
            raise translate(error) from error

    async def _make_pool(self) -> "asyncpg.Pool[asyncpg.Record]":
        async with self._making:
            if self._maker is None:
                if not self._direct_dsn and (await self._platform.server_facts()).pooler:
                    raise errors.NotPermitted(
                        "the database is reached through a pooler, and databases cannot be made through one: give the operator the "
                        "server's own address too (UNJUCKS_DATABASE_DIRECT_DSN)"
                    )
                self._maker = await asyncpg.create_pool(
                    self._direct_dsn or self._platform.dsn,
                    min_size=0,
                    max_size=MAKER_CONNECTIONS,
                    max_inactive_connection_lifetime=30.0,
                    timeout=self._platform.settings.connect_timeout,
                    command_timeout=MAKER_TIMEOUT,
                    statement_cache_size=0,
                    server_settings={
                        "application_name": "unjucks-operator (databases)",
                        "role": self._role("databases"),
                        "search_path": "pg_catalog, pg_temp",
                    },
                    reset=_no_reset,
                )
            return self._maker


async def read_facts(connection: Connection, names: Sequence[str] | None) -> dict[str, Facts]:
    """Databases of the server by name; None: all whose name can be a tenant's."""
    rows = await connection.fetch(
        r"""
        SELECT d.datname::text AS name, pg_get_userbyid(d.datdba)::text AS owner, shobj_description(d.oid, 'pg_database') AS marker,
               d.datallowconn AS allows, d.datconnlimit AS limit,
               ARRAY(SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(a.grantee)::text END || '='
                            || string_agg(a.privilege_type || CASE WHEN a.is_grantable THEN '*' ELSE '' END, ','
                                          ORDER BY a.privilege_type)
                       FROM aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a WHERE a.grantee <> d.datdba
                      GROUP BY a.grantee) AS rights
          FROM pg_database d
         WHERE CASE WHEN $1::name[] IS NULL THEN d.datname ~ '^ut_[0-9a-f]{12}(_gone)?$' ELSE d.datname = ANY ($1) END
        """,
        names,
    )
    return {
        row["name"]: Facts(
            row["name"], row["owner"], row["marker"], row["allows"], row["limit"], frozenset(row["rights"])
        )
        for row in rows
    }


async def set_gate(
    connection: Connection, role: str, state: str, *, expect: Sequence[str], move: uuid.UUID | None
) -> bool:
    """One line of ``unjucks_ops.gate``; False when it is in another state than expected. Waits for those who hold it."""
    await connection.execute("INSERT INTO unjucks_ops.gate (role_name) VALUES ($1) ON CONFLICT DO NOTHING", role)
    tag: Any = await connection.execute(
        "UPDATE unjucks_ops.gate SET state = $2, move = $4, changed_at = now() WHERE role_name = $1 "
        "AND (state = ANY ($3::text[]) OR state = $2 AND move IS NOT DISTINCT FROM $4)",
        role, state, list(expect), move,
    )  # fmt: skip
    return bool(tag == "UPDATE 1")


def tombstone_name(database: str) -> str:
    """What a database is called once it is put away."""
    return quote_tenant_role(database).strip('"') + "_gone"


def _own_sql() -> tuple[str, str]:
    folder = files(__package__)
    return (
        folder.joinpath("tenant_database.sql").read_text(encoding="utf-8"),
        folder.joinpath("tenant_database_rights.sql").read_text(encoding="utf-8"),
    )


def _lost(placement: Placement, what: str) -> errors.Terminal:
    return errors.Terminal(
        f"the tenant's own database {placement.database} {what}. It is not made again empty: an administrator restores it "
        "from a backup (docs: database, restore)",
        reason=Reason.DATABASE_LOST,
    )


async def _no_reset(_: object) -> None:
    """Every session of this pool only ever is the one role."""
