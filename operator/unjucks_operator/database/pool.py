"""The connections to PostgreSQL: a bounded pool, and the two kinds of transaction that everything else uses.

    async with database.tenant_tx(role) as connection:    acts as one tenant; row security shows that tenant's rows only
    async with database.service_tx() as connection:       acts as the platform's service role: functions, no table rights

Each transaction sets its role and its limits with SET LOCAL, in the same message as BEGIN, so nothing of it survives in the
session: that is what makes the pool safe behind PgBouncer in transaction mode (which it notices, and then prepares nothing).
After a failed connect no other attempt is made until a growing, random delay is over; meanwhile every caller gets Unavailable at
once. A connection that timed out or was cut is thrown away, never reused. Must not: hold a transaction while waiting for
anything but the database. Called by the other modules of this package, and by ``__main__`` (open, close).
"""

import asyncio
import logging
import random
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import asyncpg

from unjucks_operator import errors
from unjucks_operator.database.failures import is_connection_loss, translate, unavailable
from unjucks_operator.database.identifiers import DEFAULT_PREFIX, check_prefix, platform_role, quote_tenant_role

log = logging.getLogger(__name__)

Connection = Any  # asyncpg's pool hands out proxies; its stubs describe them apart from plain connections

CLOSE_TIMEOUT = 5.0
PURPOSES = frozenset({"read", "write", "load", "look", "clear"})
_STATEMENTS = 100
_ROLLBACK_TIMEOUT = 2.0


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """Limits of the operator's use of the database. Times are in seconds."""

    max_connections: int = 8
    """The connection budget: never more sessions than this at once."""
    acquire_timeout: float = 10.0
    connect_timeout: float = 5.0
    transaction_timeout: float = 15.0
    """Of a whole transaction, kept by both sides: the server ends the statement, and we stop waiting 2 s later."""
    lock_timeout: float = 5.0
    idle_in_transaction_timeout: float = 15.0
    max_idle: float = 300.0
    """An unused connection is closed after this time."""
    statement_cache_size: int | None = None
    """Prepared statements kept in each session. None: 100, or 0 when a pooler (PgBouncer) is found between us and the server,
    where a prepared statement of another client could answer to our name."""
    backoff_initial: float = 0.2
    backoff_max: float = 10.0


async def _no_reset(_: Connection) -> None:
    """Nothing to reset when a connection comes back: all we ever set was local to its transaction."""


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What one look at the server and the login tells."""

    pooler: bool
    is_service: bool
    notice_loss: str


class TenantTransactions(Protocol):
    """Transactions as a tenant, wherever its rows are: one database (``Database``), or the right one of many (``Router``)."""

    def tenant_tx(
        self, role: str, *, limit: float | None = None, purpose: str = "write", move: uuid.UUID | None = None
    ) -> AbstractAsyncContextManager[Connection]:
        """See ``Database.tenant_tx``."""


class Database:
    """The operator's way to PostgreSQL. ``open`` never fails because the server is down; the first use does."""

    def __init__(
        self,
        dsn: str,
        *,
        prefix: str = DEFAULT_PREFIX,
        settings: PoolSettings | None = None,
        clock: Callable[[], float] = time.monotonic,
        randomness: Callable[[], float] = random.random,
        application_name: str = "unjucks-operator",
    ) -> None:
        self._dsn = dsn
        self.prefix = check_prefix(prefix)
        self.settings = settings or PoolSettings()
        self._clock = clock
        self._randomness = randomness
        self._application_name = application_name
        self._opened = False
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._making = asyncio.Lock()
        self._service = platform_role(prefix, "service")
        self._is_service = False
        self._notice_loss = ""
        self._failures = 0
        self._not_before = 0.0
        self._last_failure: errors.OperatorError | None = None
        self._facts: ServerFacts | None = None

    @property
    def dsn(self) -> str:
        """Where and as whom; a secret."""
        return self._dsn

    async def server_facts(self) -> "ServerFacts":
        """What was found out about the server and the login at the first connection. Raises Unavailable without one."""
        if self._facts is None:
            await self.ping()
        if self._facts is None:
            raise unavailable("it was closed meanwhile")
        return self._facts

    def __repr__(self) -> str:
        return f"<Database prefix={self.prefix!r}>"

    async def open(self) -> None:
        """Gets ready; makes no connection yet. Raises InvalidSpec when the DSN can be seen to be none."""
        if self._dsn and not self._dsn.startswith(("postgresql://", "postgres://")):
            raise errors.InvalidSpec(_BAD_DSN)
        self._opened = True

    async def close(self) -> None:
        """Ends all connections; running transactions get ``CLOSE_TIMEOUT`` seconds, then they are cut."""
        self._opened = False
        pool, self._pool = self._pool, None
        if pool is None:
            return
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await pool.close()
        except (TimeoutError, OSError, asyncpg.InterfaceError):
            pool.terminate()

    def usage(self) -> tuple[int, int, int]:
        """Sessions open, sessions in use, and the budget; for metrics."""
        if self._pool is None:
            return 0, 0, self.settings.max_connections
        size = self._pool.get_size()
        return size, size - self._pool.get_idle_size(), self.settings.max_connections

    async def __aenter__(self) -> "Database":
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @asynccontextmanager
    async def tenant_tx(
        self, role: str, *, limit: float | None = None, purpose: str = "write", move: uuid.UUID | None = None
    ) -> AsyncIterator[Connection]:
        """A transaction as the tenant's role; committed when the block ends without an error.

        ``limit``: seconds for the whole transaction, instead of the settings'. ``purpose``: one of ``PURPOSES``; the tenant's gate
        decides whether that may be done here now, and holds moves back until the transaction has ended (databases.sql).
        Raises Waiting(TenantNotReady) when the role does not exist or was retired, Elsewhere when its rows are in another database,
        Waiting(Migrating) when they may only be read for a moment, Unavailable when the database cannot be used.
        """
        if purpose not in PURPOSES:
            raise ValueError(f"{purpose!r} is no purpose of a tenant's transaction")
        gate = f"; SELECT unjucks_ops.enter('{purpose}', {f'{chr(39)}{move}{chr(39)}' if move else 'NULL'})"
        async with self._transaction(quote_tenant_role(role), limit, as_tenant=True, gate=gate) as connection:
            yield connection

    @asynccontextmanager
    async def service_tx(self, kind: str = "service", *, limit: float | None = None) -> AsyncIterator[Connection]:
        """A transaction as one of the platform's roles: ``service``, ``owner`` (migrations) or ``reaper`` (deletions)."""
        async with self._transaction(platform_role(self.prefix, kind), limit, as_tenant=False) as connection:
            yield connection

    @asynccontextmanager
    async def login_session(self) -> AsyncIterator[Connection]:
        """A connection as the login itself, outside of a transaction: for the set-up at start, nothing else."""
        connection = await self._acquire()
        broken = True
        try:
            yield connection
            broken = False
        except Exception as error:
            broken = True  # set-up is rare; a session that failed in it is not worth looking at
            self._note(error)
            raise translate(error) from error
        finally:
            await self._release(connection, broken)

    async def ping(self) -> None:
        """Raises what a caller would get now; returns when the database answers. For readiness."""
        async with self.service_tx() as connection:
            await connection.fetchval("SELECT 1")

    # ------------------------------------------------------------------------------------------------------------------
    @asynccontextmanager
    async def _transaction(
        self, quoted_role: str, limit: float | None, *, as_tenant: bool, gate: str = ""
    ) -> AsyncIterator[Connection]:
        seconds = self.settings.transaction_timeout if limit is None else limit
        connection = await self._acquire()
        broken = True
        try:
            # The client's own limit is for a server that does not answer at all (frozen, or behind a cut network).
            async with asyncio.timeout(seconds + 2.0):
                await connection.execute(self._begin(quoted_role, seconds) + gate)
                yield connection
                await connection.execute("COMMIT")
            broken = False
        except BaseException as error:
            broken = not await self._rolled_back(connection, error)
            if not isinstance(error, Exception):
                raise
            self._note(error)
            if isinstance(error, _FROM_THE_DRIVER):
                raise translate(error, as_tenant=as_tenant) from error
            raise
        finally:
            await self._release(connection, broken)

    def _begin(self, quoted_role: str, seconds: float) -> str:
        # One message, so one round trip: nothing can come between BEGIN and the role.
        settings = self.settings
        role = "" if self._is_service and quoted_role == self._service else f"SET LOCAL ROLE {quoted_role}; "
        return (
            f"BEGIN; {role}{self._notice_loss}SET LOCAL search_path = pg_catalog, pg_temp; SET LOCAL jit = off; "
            f"SET LOCAL statement_timeout = {_ms(seconds)}; SET LOCAL lock_timeout = {_ms(settings.lock_timeout)}; "
            f"SET LOCAL idle_in_transaction_session_timeout = {_ms(settings.idle_in_transaction_timeout)}"
        )

    async def _rolled_back(self, connection: Connection, error: BaseException) -> bool:
        """Whether the session is clean and can be used again; one that was lost is not worth trying."""
        if is_connection_loss(error):
            return False
        try:
            # After a cancellation the driver first asks the server to stop the statement, and waits for it here.
            await connection.execute("ROLLBACK", timeout=_ROLLBACK_TIMEOUT)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            return False
        # The request to stop may still arrive, and would then stop the next statement of this session.
        return not isinstance(error, asyncio.CancelledError)

    async def _acquire(self) -> Connection:
        self._check_usable()
        try:
            pool = self._pool or await self._make_pool()
            connection = await pool.acquire(timeout=self.settings.acquire_timeout)
        except TimeoutError as error:
            _, busy, budget = self.usage()
            if busy >= budget:
                raise unavailable(f"all {busy} connections of the operator are busy") from error
            self._note(error)
            raise translate(error) from error
        except ValueError:  # the driver parses the DSN now, and its text may quote it; so the chain is cut
            raise errors.InvalidSpec(_BAD_DSN) from None
        except _FROM_THE_DRIVER as error:
            self._note(error)
            # The driver's message names host and user; the log gets the type, the chain is cut.
            log.warning("cannot connect to the database: %s", type(error).__name__)
            raise translate(error) from None
        self._failures = 0
        self._last_failure = None
        return connection

    def _check_usable(self) -> None:
        if not self._opened:
            raise unavailable("the operator has not opened it, or is shutting down")
        if not self._dsn:
            raise unavailable("no address is configured; set UNJUCKS_DATABASE_DSN")
        wait = self._not_before - self._clock()
        if wait > 0 and self._last_failure is not None:
            raise errors.Unavailable(self._last_failure.message, reason=self._last_failure.reason, after=wait)

    async def _make_pool(self) -> "asyncpg.Pool[asyncpg.Record]":
        async with self._making:
            if self._pool is not None:
                return self._pool
            self._check_usable()  # somebody may have failed, or closed, while we waited for our turn
            pooler, self._is_service = await self._look()
            self._facts = ServerFacts(pooler, self._is_service, self._notice_loss)
            cache = self.settings.statement_cache_size
            if cache is None:
                cache = 0 if pooler else _STATEMENTS
            pool = await asyncpg.create_pool(
                self._dsn,
                min_size=0,
                max_size=self.settings.max_connections,
                max_inactive_connection_lifetime=self.settings.max_idle,
                timeout=self.settings.connect_timeout,
                statement_cache_size=cache,
                server_settings={"application_name": self._application_name},
                reset=_no_reset,
            )
            self._pool = pool
            return pool

    async def _look(self) -> tuple[bool, bool]:
        """Two questions, once, on a connection of their own: is there a pooler, and is our login nothing but a service login?

        A pooler shows in that the process that greeted us is another one than the process that runs our statements. An ordinary
        login has the service role's rights anyway, so that becoming the service would only cost: after every change of any role
        the server computes anew whom a session may become, over all tenants.
        """
        async with asyncio.timeout(self.settings.connect_timeout):
            connection = await asyncpg.connect(
                self._dsn, statement_cache_size=0, server_settings={"application_name": self._application_name}
            )
            try:
                async with connection.transaction():
                    row = await connection.fetchrow(_LOOK, f"{self.prefix}_service")
                self._notice_loss = await _accepted(connection, _NOTICE_LOSS)
                return bool(row is None or row["process"] != connection.get_server_pid()), bool(row and row["service"])
            finally:
                connection.terminate()

    async def _release(self, connection: Connection, broken: bool) -> None:
        if broken or self._pool is None:
            _throw_away(connection)
        if self._pool is not None:
            try:
                await self._pool.release(connection, timeout=2.0)
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                _throw_away(connection)

    def _note(self, error: BaseException) -> None:
        """After a lost or refused connection: nobody tries again before a random part of a growing delay is over."""
        if not is_connection_loss(error):
            return
        self._failures += 1
        ceiling = min(self.settings.backoff_max, self.settings.backoff_initial * 2 ** min(self._failures - 1, 16))
        self._not_before = self._clock() + ceiling * (0.5 + 0.5 * self._randomness())
        self._last_failure = translate(error)


_FROM_THE_DRIVER = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)


_LOOK = """
    SELECT pg_backend_pid() AS process,
           NOT (r.rolsuper OR r.rolcreaterole OR r.rolcreatedb OR r.rolbypassrls OR r.rolreplication) AND r.rolinherit
           AND EXISTS (SELECT FROM pg_auth_members m WHERE m.member = r.oid AND m.roleid = to_regrole($1)) AS service
      FROM pg_roles r WHERE r.rolname = current_user
"""
# A statement that runs or waits for a lock ends soon after we are gone, not only at its time limit. Not on every platform.
_NOTICE_LOSS = "SET LOCAL client_connection_check_interval = 2000; "
_BAD_DSN = (
    "the database DSN cannot be used; it has the form "
    "postgresql://user:password@host:5432/database?sslmode=verify-full&sslrootcert=/path/ca.crt"
)


async def _accepted(connection: Connection, setting: str) -> str:
    """``setting`` when the server takes it, else nothing."""
    try:
        async with connection.transaction():
            await connection.execute(setting)
    except asyncpg.PostgresError:
        return ""
    return setting


def _throw_away(connection: Connection) -> None:
    try:
        connection.terminate()
    except asyncpg.InterfaceError:
        pass  # the pool noticed before us that it is gone, and took the handle back


def _ms(seconds: float) -> int:
    return max(1, int(seconds * 1000))
