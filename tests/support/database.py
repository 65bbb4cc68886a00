"""A database that is ready for the operator, for one test: bootstrapped, migrated, with a service login of its own.

Each one has a role prefix of its own, because roles belong to the whole server that the tests share; everything is removed
afterwards, roles included. Used through the fixtures ``unjucks_database``, ``shared_database`` and ``database``.
"""

import asyncio
import contextlib
import secrets
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import asyncpg
import pytest

from support.postgres import PostgresServer
from unjucks_operator.database.bootstrap import bootstrap, prepare, scram_verifier
from unjucks_operator.database.pool import Database, PoolSettings


@dataclass(frozen=True)
class ReadyDatabase:
    """Where it is and who may come in. ``dsn`` is the operator's, ``admin_dsn`` the superuser's."""

    server: PostgresServer
    name: str
    prefix: str
    login: str
    password: str

    @property
    def dsn(self) -> str:
        """The service login's."""
        return self.server.dsn(self.name, self.login, self.password)

    @property
    def admin_dsn(self) -> str:
        """The superuser's."""
        return self.server.dsn(self.name)

    async def admin(self) -> "asyncpg.Connection[asyncpg.Record]":
        """A superuser's connection to this database."""
        return await asyncpg.connect(self.admin_dsn)

    @contextlib.asynccontextmanager
    async def as_admin(self) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
        """The same, closed at the end."""
        connection = await self.admin()
        try:
            yield connection
        finally:
            await connection.close()

    def open(self, dsn: str | None = None, settings: PoolSettings | None = None) -> Database:
        """The operator's view of it; use it as a context manager."""
        return Database(dsn or self.dsn, prefix=self.prefix, settings=settings)


def new_uid() -> str:
    """A UID as the API server makes them."""
    return str(uuid.uuid4())


async def _make_bare(server: PostgresServer) -> ReadyDatabase:
    if not server.running:  # an earlier test failed between stop and start
        await asyncio.to_thread(server.start)
    mark = secrets.token_hex(4)
    name = await server.create_database(f"t_{mark}")
    return ReadyDatabase(server, name, f"u{mark}", f"login_{mark}", secrets.token_urlsafe(12))


async def _set_up(ready: ReadyDatabase) -> None:
    async with ready.as_admin() as connection:
        verifier = scram_verifier(ready.password)
        await bootstrap(connection, prefix=ready.prefix, service_login=ready.login, password_verifier=verifier)
    async with ready.open() as opened:
        await prepare(opened)


@contextlib.asynccontextmanager
async def bare_database(server: PostgresServer) -> AsyncIterator[ReadyDatabase]:
    """An empty database with names for everything, but nothing set up yet; removes whatever a test made with them."""
    ready = await _make_bare(server)
    try:
        yield ready
    finally:
        await _remove(ready)


async def _remove(ready: ReadyDatabase) -> None:
    if not ready.server.running:  # a test failed between stop and start
        await asyncio.to_thread(ready.server.start)
    connection = await ready.admin()
    try:
        tenants = []
        if await connection.fetchval("SELECT to_regclass('unjucks_ops.tenant') IS NOT NULL"):
            tenants = [row[0] for row in await connection.fetch("SELECT role_name FROM unjucks_ops.tenant")]
    finally:
        await connection.close()
    await ready.server.drop_database(ready.name)
    connection = await ready.server.connect()
    try:
        tenants += [f"{role}_{slot}" for role in tenants for slot in "ab"]
        roles = await connection.fetch(
            "SELECT rolname FROM pg_roles WHERE rolname = ANY ($1) OR rolname LIKE $2 OR rolname LIKE '%' || $3 || '%'",
            tenants, ready.prefix + "\\_%", ready.login,
        )  # fmt: skip
        for row in await connection.fetch(
            "SELECT d.datname FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba WHERE r.rolname = $1",
            f"{ready.prefix}_databases",
        ):  # databases of tenants, and their templates
            await ready.server.drop_database(row[0])
        for row in roles:
            await connection.execute(f'DROP OWNED BY "{row[0]}"')  # rights on parameters and databases
        for row in roles:
            await connection.execute(f'DROP ROLE "{row[0]}"')
    finally:
        await connection.close()


@contextlib.asynccontextmanager
async def ready_database(server: PostgresServer) -> AsyncIterator[ReadyDatabase]:
    """Bootstrapped by the superuser, migrated by the service login."""
    async with bare_database(server) as ready:
        await _set_up(ready)
        yield ready


@contextlib.contextmanager
def lasting_database(server: PostgresServer) -> Iterator[ReadyDatabase]:
    """One that outlives the event loop of a test: for fixtures of a module or of the whole run."""
    ready = asyncio.run(_make_bare(server))
    try:
        asyncio.run(_set_up(ready))
        yield ready
    finally:
        asyncio.run(_remove(ready))


@pytest.fixture(scope="session")
def shared_database(postgres_server: PostgresServer) -> Iterator[ReadyDatabase]:
    """One for many tests that only add tenants of their own to it; making one takes longer than most tests."""
    with lasting_database(postgres_server) as ready:
        yield ready


@pytest.fixture
async def unjucks_database(postgres_server: PostgresServer) -> AsyncIterator[ReadyDatabase]:
    """A database that is ready for the operator, dropped after the test."""
    async with ready_database(postgres_server) as ready:
        yield ready


@pytest.fixture
async def database(unjucks_database: ReadyDatabase) -> AsyncIterator[Database]:
    """The operator's connections to it."""
    async with unjucks_database.open() as opened:
        yield opened
