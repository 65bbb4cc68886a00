"""The connection is cut before and after every single request of every operation; doing it again always ends in the same state."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import asyncpg
import pytest

from support.database import ReadyDatabase, bare_database, new_uid
from support.pgproxy import PostgresProxy, postgres_proxy
from support.postgres import PostgresServer
from support.publisher import Output, publish_once
from unjucks_api.names import database_role
from unjucks_api.reasons import Reason
from unjucks_api.tree import tree_digest
from unjucks_operator import errors
from unjucks_operator.database.artifacts import Artifacts
from unjucks_operator.database.bootstrap import prepare
from unjucks_operator.database.ledger import Ledger, StaleAttempt
from unjucks_operator.database.pool import Database, PoolSettings
from unjucks_operator.database.tenants import Tenants

pytestmark = pytest.mark.integration

DIGEST = "sha256:" + "1" * 64
TREE = {"x": (b"y", 0o644)}
QUICK = PoolSettings(max_connections=2, backoff_initial=0.0, backoff_max=0.0)


@pytest.fixture
def unjucks_database(shared_database: ReadyDatabase) -> ReadyDatabase:
    return shared_database


@pytest.fixture
async def proxy(postgres_server: PostgresServer) -> AsyncIterator[PostgresProxy]:
    async with postgres_proxy("127.0.0.1", postgres_server.port) as running:
        yield running


class World:
    """One tenant, seen through the proxy by the operator that is cut, and directly by the one that comes after it."""

    def __init__(self, ready: ReadyDatabase, direct: Database, admin: "asyncpg.Connection[asyncpg.Record]") -> None:
        self.ready, self.direct, self.admin = ready, direct, admin
        self.uid, self.job = new_uid(), new_uid()
        self.role = database_role(self.uid)
        self.output = Output()

    async def state(self) -> dict[str, object]:
        """Everything that matters of this tenant, without times."""
        admin, identity = self.admin, uuid.UUID(self.uid)
        runs = await admin.fetch(
            "SELECT run_key, state, manifest_digest, output, failure_reason, publications FROM unjucks.generation_run "
            "WHERE tenant_id = $1",
            identity,
        )
        memberships = await admin.fetch(
            "SELECT a.roleid::regrole::text, a.member::regrole::text FROM pg_auth_members a "
            "JOIN pg_roles r ON r.oid IN (a.roleid, a.member) WHERE r.rolname = $1",
            self.role,
        )
        return {
            "tenant": await admin.fetch("SELECT name, state FROM unjucks_ops.tenant WHERE tenant_id = $1", identity),
            "drift": await admin.fetchval("SELECT drift FROM unjucks_ops.tenant_report($1)", identity),
            "role": await admin.fetch(
                "SELECT rolcanlogin, rolcreaterole, rolinherit FROM pg_roles WHERE rolname = $1", self.role
            ),
            "memberships": sorted(tuple(name.replace(self.role, "ROLE") for name in row) for row in memberships),
            "runs": runs,
            "artifacts": await admin.fetch(
                "SELECT digest, size, content FROM unjucks.artifact WHERE tenant_id = $1", identity
            ),
            "writes": dict(self.output.writes),
        }


async def ensured(world: World) -> None:
    await Tenants(world.direct).ensure(world.uid, "acme")


async def drifted(world: World) -> None:
    await ensured(world)
    async with world.ready.as_admin() as admin:
        await admin.execute(
            f"ALTER ROLE {world.role} CREATEROLE NOINHERIT; REVOKE {world.role} FROM {world.ready.prefix}_service; "
            f"GRANT pg_monitor TO {world.role}"
        )


async def with_rows(world: World) -> None:
    await ensured(world)
    await Artifacts(world.direct).put(world.role, tree_digest(TREE), TREE)
    await Ledger(world.direct).claim(world.role, world.job, "k", holder="before")


async def retired(world: World) -> None:
    await with_rows(world)
    await Tenants(world.direct).retire(world.uid)


async def nothing(_: World) -> None:
    return


async def publish(world: World, database: Database) -> None:
    async def step(_: str) -> None:
        return

    await publish_once(Ledger(database), world.role, world.job, "k", world.output, holder="h", digest=DIGEST, step=step)


async def fail(world: World, database: Database) -> None:
    ledger = Ledger(database)
    claim = await ledger.claim(world.role, world.job, "k", holder="h")
    if claim.granted:
        await ledger.record_failed(world.role, world.job, "k", claim.attempt, Reason.TEMPLATE_ERROR, "x", final=True)


async def drop(world: World, database: Database) -> None:
    await Tenants(database).drop(world.uid)


Setup = Callable[[World], Awaitable[None]]
Act = Callable[[World, Database], Awaitable[object]]

OPERATIONS: dict[str, tuple[Setup, Act]] = {
    "ensure a new tenant": (nothing, lambda world, database: Tenants(database).ensure(world.uid, "acme")),
    "ensure a drifted tenant": (drifted, lambda world, database: Tenants(database).ensure(world.uid, "acme")),
    "retire": (with_rows, lambda world, database: Tenants(database).retire(world.uid, "acme")),
    "retire a tenant never seen": (nothing, lambda world, database: Tenants(database).retire(world.uid, "acme")),
    "drop": (retired, drop),
    "put a tree": (ensured, lambda world, database: Artifacts(database).put(world.role, tree_digest(TREE), TREE)),
    "claim, render, publish": (ensured, publish),
    "take over, render, publish": (with_rows, publish),
    "claim, fail": (ensured, fail),
}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", list(OPERATIONS))
async def test_cut_at_every_request(unjucks_database: ReadyDatabase, proxy: PostgresProxy, name: str) -> None:
    setup, act = OPERATIONS[name]
    reasons: set[Reason] = set()

    async def run(direct: Database, admin: Any, request: int, mode: str) -> tuple[dict[str, object], int, bool]:
        world = World(unjucks_database, direct, admin)
        await setup(world)
        async with unjucks_database.open(proxy.dsn(unjucks_database.dsn), QUICK) as cut:
            await cut.ping()  # connecting is not part of what is counted
            proxy.arm(request, mode) if request else proxy.disarm()
            try:
                await act(world, cut)
            except errors.Unavailable as error:
                reasons.add(error.reason)
            count, fired = proxy.requests, proxy.fired
        if request:
            # The operator that starts after the crash; it knows nothing but the database and the output.
            await act(world, direct)
        return await world.state(), count, fired

    async with unjucks_database.open(settings=QUICK) as direct, unjucks_database.as_admin() as admin:
        reference, requests, _ = await run(direct, admin, 0, "")
        assert requests >= 3, proxy.statements  # BEGIN, the statement, COMMIT
        for request in range(1, requests + 1):
            for mode in ("before", "after"):
                state, _, fired = await run(direct, admin, request, mode)
                assert fired, (request, mode)
                assert state == reference, (request, mode)
    assert reasons == {Reason.DATABASE_UNAVAILABLE}


@pytest.mark.timeout(120)
async def test_cut_at_requests_of_the_first_start(postgres_server: PostgresServer, proxy: PostgresProxy) -> None:
    """Bootstrap and migrations with one privileged DSN."""

    async def lines(ready: ReadyDatabase) -> list[str]:
        async with ready.as_admin() as admin:
            rows = await admin.fetch(
                "SELECT l FROM unjucks_ops.security_lines('unjucks_ops') l UNION ALL "
                "SELECT l FROM unjucks_ops.security_lines('unjucks') l UNION ALL "
                "SELECT concat(version, name, checksum) FROM unjucks.schema_migration ORDER BY 1"
            )
        return [row[0].replace(ready.prefix, "PREFIX") for row in rows]

    async def run(bare: ReadyDatabase, request: int, mode: str) -> tuple[list[str], int]:
        ready = replace(bare, prefix=f"{bare.prefix}_{request}{mode}")
        async with ready.open(proxy.dsn(ready.admin_dsn), QUICK) as cut:
            proxy.arm(request, mode) if request else proxy.disarm()
            try:
                await prepare(cut)
            except errors.Unavailable:
                pass
            count = proxy.requests
        async with ready.open(ready.admin_dsn) as direct:
            assert (await prepare(direct)).drift == ()
        found = await lines(ready)
        async with ready.as_admin() as admin:  # as if it were another database; making one takes ten times as long
            await admin.execute("DROP SCHEMA unjucks, unjucks_ops CASCADE")
        return found, count

    async with bare_database(postgres_server) as bare:
        reference, requests = await run(bare, 0, "")
        for request in range(1, requests + 1, 2):
            assert (await run(bare, request, "after"))[0] == reference, request


@pytest.mark.parametrize("how", ["terminate", "cut"])
async def test_backend_killed_in_the_middle_of_ensure(
    unjucks_database: ReadyDatabase, proxy: PostgresProxy, how: str
) -> None:
    """The statement hangs on a lock half-way, the session dies, and nothing of the step remains."""
    patient = replace(QUICK, lock_timeout=300.0, transaction_timeout=300.0)  # so that no time limit ends it
    async with (
        unjucks_database.open(proxy.dsn(unjucks_database.dsn), patient) as cut,
        unjucks_database.open(settings=QUICK) as direct,
        unjucks_database.as_admin() as admin,
        unjucks_database.as_admin() as watcher,
    ):
        uid = new_uid()
        blocker = admin.transaction()
        await blocker.start()
        await admin.execute("LOCK TABLE pg_catalog.pg_auth_members IN SHARE MODE")  # CREATE ROLE passes, GRANT waits
        task = asyncio.create_task(Tenants(cut).ensure(uid, "acme"))
        waiting = "SELECT pid FROM pg_locks WHERE NOT granted AND relation = 'pg_auth_members'::regclass"
        while not (pid := await watcher.fetchval(waiting)):
            assert not task.done()
            await asyncio.sleep(0.02)
        if how == "terminate":
            await watcher.execute("SELECT pg_terminate_backend($1)", pid)
        else:
            proxy.cut_all()
        with pytest.raises(errors.Unavailable):
            await task
        if how == "cut":
            # The server finds out by itself although its backend waits for a lock, long before the statement's time is over.
            while await watcher.fetchval("SELECT count(*) FROM pg_stat_activity WHERE pid = $1", pid):
                await asyncio.sleep(0.05)
        second = asyncio.create_task(Tenants(direct).ensure(uid, "acme"))
        await asyncio.sleep(0.05)
        await blocker.rollback()
        assert (await second).usable
        assert (await Tenants(direct).sweep())[uid].healthy
        while await watcher.fetchval("SELECT count(*) FROM pg_stat_activity WHERE pid = $1", pid):
            await asyncio.sleep(0.02)
        assert (await Tenants(direct).sweep())[uid].healthy


async def test_a_zombie_of_an_older_attempt_changes_nothing(
    unjucks_database: ReadyDatabase, proxy: PostgresProxy
) -> None:
    """Its UPDATE waits for the row in the server while the new attempt takes over; then it runs, and finds the fence."""
    async with (
        unjucks_database.open(proxy.dsn(unjucks_database.dsn), QUICK) as cut,
        unjucks_database.open(settings=QUICK) as direct,
        unjucks_database.as_admin() as admin,
        unjucks_database.as_admin() as watcher,
    ):
        uid, job = new_uid(), new_uid()
        role = (await Tenants(direct).ensure(uid, "acme")).role
        await Ledger(cut).claim(role, job, "k", holder="old")
        blocker = admin.transaction()
        await blocker.start()
        await admin.execute(
            "UPDATE unjucks.generation_run SET attempt = 2, holder = 'new' WHERE job_uid = $1", uuid.UUID(job)
        )
        task = asyncio.create_task(Ledger(cut).record_rendered(role, job, "k", 1, DIGEST))
        while not await watcher.fetchval(
            "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"
        ):
            assert not task.done()
            await asyncio.sleep(0.02)
        await blocker.commit()
        with pytest.raises(StaleAttempt, match="overtaken by attempt 2 of new"):
            await task
        run = await Ledger(direct).lookup(role, job, "k")
        assert run is not None
        assert (run.attempt, run.state.value, run.manifest_digest) == (2, "claimed", None)


async def test_an_idle_session_that_the_server_ended_is_replaced(unjucks_database: ReadyDatabase) -> None:
    async with unjucks_database.open(settings=QUICK) as database, unjucks_database.as_admin() as admin:
        await database.ping()
        ended = await admin.fetchval(
            "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE usename = $1",
            unjucks_database.login,
        )
        assert ended == 1
        for _ in range(100):
            try:
                await database.ping()
                break
            except errors.Unavailable:  # only when the pool has not heard of it yet
                await asyncio.sleep(0.01)
        else:
            pytest.fail("the pool kept a dead session")


async def test_commit_that_is_lost_is_reported_not_hidden(
    unjucks_database: ReadyDatabase, proxy: PostgresProxy
) -> None:
    """After the cut at COMMIT's answer the caller gets Unavailable although the row is there: it has to ask again."""
    async with (
        unjucks_database.open(proxy.dsn(unjucks_database.dsn), QUICK) as cut,
        unjucks_database.open(settings=QUICK) as direct,
    ):
        uid, job = new_uid(), new_uid()
        role = (await Tenants(direct).ensure(uid, "acme")).role
        await Ledger(cut).claim(role, new_uid(), "warm", holder="h")
        proxy.disarm()
        await Ledger(cut).claim(role, new_uid(), "count", holder="h")
        proxy.arm(proxy.requests, "after")
        with pytest.raises(errors.Unavailable):
            await Ledger(cut).claim(role, job, "k", holder="h")
        assert proxy.statements[-1] == "COMMIT"
        assert await Ledger(direct).lookup(role, job, "k") is not None
