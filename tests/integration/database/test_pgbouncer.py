"""Everything through a real PgBouncer in transaction mode, with fewer server sessions than callers: roles must never leak."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator

import pytest

from support.database import ReadyDatabase, bare_database, new_uid
from support.pgbouncer import PgBouncer, pgbouncer
from support.postgres import SUPERUSER, PostgresServer
from support.publisher import Output, publish_once
from unjucks_api.tree import tree_digest
from unjucks_operator import errors
from unjucks_operator.database.artifacts import Artifacts
from unjucks_operator.database.bootstrap import prepare
from unjucks_operator.database.ledger import Ledger
from unjucks_operator.database.pool import Database, PoolSettings
from unjucks_operator.database.tenants import Tenants

pytestmark = pytest.mark.integration

DIGEST = "sha256:" + "1" * 64
THROUGH = PoolSettings(max_connections=12)  # that there is a pooler is for the pool to find out


@pytest.fixture
def pooler(shared_database: ReadyDatabase) -> Iterator[PgBouncer]:
    users = {shared_database.login: shared_database.password}
    with pgbouncer(shared_database.server.port, users, pool_size=2) as running:
        yield running


@pytest.fixture
async def pooled(shared_database: ReadyDatabase, pooler: PgBouncer) -> AsyncIterator[Database]:
    async with shared_database.open(pooler.dsn(shared_database.name, shared_database.login), THROUGH) as database:
        yield database


async def test_a_whole_life_through_the_pooler(pooled: Database) -> None:
    assert (await prepare(pooled)).migrations.applied == ()
    tenants, artifacts, ledger = Tenants(pooled), Artifacts(pooled), Ledger(pooled)
    uid, job = new_uid(), new_uid()
    role = (await tenants.ensure(uid, "acme")).role
    tree = {"a": (b"b" * 100_000, 0o644)}
    await artifacts.put(role, tree_digest(tree), tree)
    assert await artifacts.get(role, tree_digest(tree)) == tree

    async def step(_: str) -> None:
        return

    output = Output()
    run = await publish_once(ledger, role, job, "k", output, holder="h", digest=DIGEST, step=step)
    assert run.publications == 1
    assert (await tenants.sweep())[uid].healthy
    await tenants.retire(uid)
    assert await tenants.drop(uid) == 2


async def test_roles_do_not_leak_between_transactions_of_shared_sessions(
    shared_database: ReadyDatabase, pooled: Database
) -> None:
    """12 client connections on 2 server sessions, 6 tenants, transactions that fail, stall and are cancelled."""
    tenants, ledger = Tenants(pooled), Ledger(pooled)
    uids = [new_uid() for _ in range(6)]
    roles = {uid: (await tenants.ensure(uid, "acme")).role for uid in uids}
    for uid in uids:
        await ledger.claim(roles[uid], new_uid(), "k", holder="h")
    backends: set[int] = set()
    seen = 0
    rng = random.Random(7)

    async def look(uid: str, what: int) -> None:
        nonlocal seen
        async with pooled.tenant_tx(roles[uid]) as connection:
            backends.add(await connection.fetchval("SELECT pg_backend_pid()"))
            rows = await connection.fetch("SELECT tenant_id::text FROM unjucks.generation_run")
            assert [row[0] for row in rows] == [uid]
            assert await connection.fetchval("SELECT current_user::text") == roles[uid]
            seen += 1
            if what == 0:
                await connection.execute("SELECT 1/0")
            elif what == 1:
                await connection.execute("SELECT pg_sleep(30)")

    async def as_login() -> None:
        async with pooled.login_session() as connection, connection.transaction():
            row = await connection.fetchrow(
                "SELECT current_user::text, current_setting('statement_timeout'), current_setting('search_path')"
            )
        assert tuple(row) == (shared_database.login, "0", '"$user", public')

    async def one() -> None:
        choice = rng.randrange(12)
        if choice == 11:
            await as_login()
        elif choice == 1:
            task = asyncio.create_task(look(rng.choice(uids), 1))
            await asyncio.sleep(0.05)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        else:
            try:
                await look(rng.choice(uids), choice)
            except errors.Bug:
                assert choice == 0

    for _ in range(8):
        await asyncio.gather(*(one() for _ in range(24)))
    assert seen > 120
    # Sessions of cancelled transactions are closed, never given to somebody else with their state; none is left running.
    async with shared_database.as_admin() as admin:
        for _ in range(400):
            alive = await admin.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE usename = $1 AND datname = $2",
                shared_database.login,
                shared_database.name,
            )
            if alive <= 2:
                break
            await asyncio.sleep(0.05)
    assert alive <= 2
    assert len(backends) >= 2


async def test_prepared_statements_are_for_direct_connections(shared_database: ReadyDatabase, pooled: Database) -> None:
    """A named statement of one client could be run by another one that has the same name for something else."""
    async with shared_database.open() as direct:
        for database, expected in ((direct, True), (pooled, False)):
            async with database.service_tx() as connection:
                await connection.fetchval("SELECT 'a statement to be kept'")
                kept = await connection.fetch(
                    "SELECT name FROM pg_prepared_statements WHERE name LIKE '\\_\\_asyncpg%'"
                )
            assert bool(kept) is expected


async def test_server_restart_behind_the_pooler(shared_database: ReadyDatabase, pooled: Database) -> None:
    uid, job = new_uid(), new_uid()
    role = (await Tenants(pooled).ensure(uid, "acme")).role
    await Ledger(pooled).claim(role, job, "k", holder="h")
    async with shared_database.as_admin() as admin:
        await admin.execute("CHECKPOINT")
    shared_database.server.restart()
    for _ in range(200):
        try:
            run = await Ledger(pooled).lookup(role, job, "k")
            break
        except errors.Unavailable:
            await asyncio.sleep(0.05)
    else:
        pytest.fail("did not come back")
    assert run is not None
    assert run.attempt == 1


async def test_pooler_gone(shared_database: ReadyDatabase) -> None:
    users = {shared_database.login: shared_database.password}
    with pgbouncer(shared_database.server.port, users) as running:
        dsn = running.dsn(shared_database.name, shared_database.login)
        async with shared_database.open(dsn, THROUGH) as database:
            await database.ping()
            running.stop()
            for _ in range(2):
                with pytest.raises(errors.Unavailable):
                    await database.ping()


async def test_first_start_through_the_pooler(postgres_server: PostgresServer) -> None:
    """Bootstrap and migrations need no session state either."""
    async with bare_database(postgres_server) as ready:
        with pgbouncer(postgres_server.port, {SUPERUSER: postgres_server.password}, pool_size=1) as running:
            async with ready.open(running.dsn(ready.name, SUPERUSER), THROUGH) as database:
                first = await prepare(database)
                assert first.bootstrapped
                assert first.migrations.applied
                assert (await Tenants(database).ensure(new_uid(), "acme")).usable
