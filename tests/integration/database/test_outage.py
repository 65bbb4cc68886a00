"""The server stops, freezes, crashes, is full or refuses us: what callers are told, how we come back, and what is never said."""

import asyncio
import logging
import traceback
from collections.abc import AsyncIterator

import asyncpg
import pytest

from support.database import ReadyDatabase, new_uid, ready_database
from support.postgres import PostgresServer, free_port
from unjucks_api.reasons import Reason
from unjucks_operator import errors
from unjucks_operator.database.ledger import Ledger, RunState
from unjucks_operator.database.pool import Database, PoolSettings
from unjucks_operator.database.tenants import Tenants

pytestmark = pytest.mark.integration

DIGEST = "sha256:" + "1" * 64


class Clock:
    """A monotonic clock that only the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def unjucks_database(shared_database: ReadyDatabase) -> ReadyDatabase:
    return shared_database


@pytest.fixture
async def separate_database(postgres_server: PostgresServer) -> AsyncIterator[ReadyDatabase]:
    """For tests that change the service login."""
    async with ready_database(postgres_server) as ready:
        yield ready


async def refusal(database: Database) -> errors.OperatorError:
    with pytest.raises(errors.OperatorError) as caught:
        await database.ping()
    return caught.value


@pytest.mark.parametrize("immediate", [False, True])
async def test_stopped_and_back(unjucks_database: ReadyDatabase, immediate: bool) -> None:
    """Nothing that was acknowledged is lost, also when the server crashes, and the pool recovers by itself."""
    server, clock = unjucks_database.server, Clock()
    settings = PoolSettings(max_connections=3)
    async with Database(
        unjucks_database.dsn, prefix=unjucks_database.prefix, settings=settings, clock=clock, randomness=lambda: 1.0
    ) as database:
        uid, job = new_uid(), new_uid()
        role = (await Tenants(database).ensure(uid, "acme")).role
        ledger = Ledger(database)
        await ledger.claim(role, job, "k", holder="h")
        await ledger.record_rendered(role, job, "k", 1, DIGEST)
        async with unjucks_database.as_admin() as admin:
            await admin.execute("CHECKPOINT")  # synchronous_commit is off in tests
        await asyncio.to_thread(server.stop, immediate=immediate)
        try:
            for _ in range(3):
                error = await refusal(database)
                assert isinstance(error, errors.Unavailable)
                assert error.reason is Reason.DATABASE_UNAVAILABLE
                clock.now += 30
        finally:
            await asyncio.to_thread(server.start)
        run = await ledger.record_published(role, job, "k", 1, DIGEST, {"kind": "ConfigMap"})
        assert (run.state, run.publications) == (RunState.PUBLISHED, 1)
        assert (await Tenants(database).sweep())[uid].healthy


async def test_attempts_to_connect_back_off(unjucks_database: ReadyDatabase) -> None:
    """While the delay runs nobody knocks at the server's door, and callers learn how long to wait."""
    knocks = 0

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal knocks
        knocks += 1
        writer.transport.abort()

    listener = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    clock = Clock()
    settings = PoolSettings(backoff_initial=1.0, backoff_max=4.0)
    dsn = f"postgresql://user:secret@127.0.0.1:{port}/db?sslmode=disable"
    try:
        async with Database(dsn, settings=settings, clock=clock, randomness=lambda: 1.0) as database:
            waits = []
            for _ in range(5):
                first = await refusal(database)
                assert isinstance(first, errors.Unavailable)
                before = knocks
                second = await refusal(database)
                assert isinstance(second, errors.Unavailable)
                assert knocks == before
                waits.append(second.after)
                assert second.after is not None
                clock.now += second.after
            assert waits == [1.0, 2.0, 4.0, 4.0, 4.0]
            assert knocks == 5
    finally:
        listener.close()
        await listener.wait_closed()


async def test_frozen_server(unjucks_database: ReadyDatabase) -> None:
    """Connections stay open and nothing answers: the transaction's limit ends it on our side."""
    settings = PoolSettings(transaction_timeout=0.2, connect_timeout=0.5, acquire_timeout=1.0, backoff_initial=0.0)
    async with unjucks_database.open(settings=settings) as database:
        await database.ping()
        unjucks_database.server.pause()
        try:
            for _ in range(2):  # first on the open session, then on a new one
                error = await refusal(database)
                assert isinstance(error, errors.Unavailable)
                assert "did not answer in time" in error.message
        finally:
            unjucks_database.server.resume()
        await database.ping()


async def test_nobody_listens() -> None:
    dsn = f"postgresql://user:secret-word@127.0.0.1:{free_port()}/db"
    async with Database(dsn) as database:
        error = await refusal(database)
        assert isinstance(error, errors.Unavailable)
        assert "connection was lost or could not be made" in error.message


async def test_no_dsn_at_all() -> None:
    """An operator without a database starts, and says what is missing."""
    async with Database("") as database:
        error = await refusal(database)
        assert isinstance(error, errors.Unavailable)
        assert "UNJUCKS_DATABASE_DSN" in error.message


async def test_several_hosts_in_one_dsn(unjucks_database: ReadyDatabase) -> None:
    """The first one is down; the driver goes on to the next."""
    dsn = unjucks_database.dsn.replace("@127.0.0.1:", f"@127.0.0.1:{free_port()},127.0.0.1:")
    async with unjucks_database.open(dsn) as database:
        await database.ping()
        assert database.usage() == (1, 0, 8)


async def test_refused_credentials_and_missing_database(unjucks_database: ReadyDatabase) -> None:
    server = unjucks_database.server
    for dsn, text in (
        (server.dsn(unjucks_database.name, unjucks_database.login, "wrong"), "password; check the Secret"),
        (server.dsn(unjucks_database.name, "nobody_of_this_name", "wrong"), "password; check the Secret"),
        (server.dsn("no_such_database", unjucks_database.login, unjucks_database.password), "does not exist"),
    ):
        async with unjucks_database.open(dsn) as database:
            error = await refusal(database)
            assert isinstance(error, errors.Unavailable)
            assert text in error.message


async def test_no_connection_left(separate_database: ReadyDatabase) -> None:
    async with separate_database.as_admin() as admin:
        await admin.execute(f"ALTER ROLE {separate_database.login} CONNECTION LIMIT 1")
    settings = PoolSettings(backoff_initial=0.0)
    async with separate_database.open() as one, separate_database.open(settings=settings) as two:
        async with one.service_tx():
            error = await refusal(two)
            assert isinstance(error, errors.Unavailable)
            assert "no free connection" in error.message
        await one.close()
        for _ in range(100):  # the server notices the end of a session a moment later
            try:
                await two.ping()
                break
            except errors.Unavailable:
                await asyncio.sleep(0.02)
        else:
            pytest.fail("the pool did not come back")


async def test_the_budget_is_kept_and_its_end_is_named(unjucks_database: ReadyDatabase) -> None:
    settings = PoolSettings(max_connections=2, acquire_timeout=0.2)
    async with unjucks_database.open(settings=settings) as database:
        async with database.service_tx(), database.service_tx():
            error = await refusal(database)
            assert isinstance(error, errors.Unavailable)
            assert "all 2 connections of the operator are busy" in error.message
        await asyncio.gather(*(database.ping() for _ in range(20)))
        async with unjucks_database.as_admin() as admin:
            sessions = await admin.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE usename = $1", unjucks_database.login
            )
        assert sessions <= 2


async def test_a_slow_statement_a_held_lock_and_an_idle_transaction_end(unjucks_database: ReadyDatabase) -> None:
    settings = PoolSettings(lock_timeout=0.1, idle_in_transaction_timeout=0.1)
    async with unjucks_database.open(settings=settings) as database, unjucks_database.as_admin() as admin:
        with pytest.raises(errors.Unavailable, match="took too long"):
            async with database.service_tx(limit=0.1) as connection:
                await connection.execute("SELECT pg_sleep(5)")
        async with admin.transaction():
            await admin.execute("LOCK TABLE unjucks.schema_migration")
            with pytest.raises(errors.Unavailable, match="a lock was not free in time"):
                async with database.service_tx("owner") as connection:
                    await connection.execute("LOCK TABLE unjucks.schema_migration")

        async def dawdle() -> None:
            async with database.service_tx() as connection:
                await asyncio.sleep(0.5)
                await connection.execute("SELECT 1")

        with pytest.raises(errors.Unavailable):
            await dawdle()
        for _ in range(100):
            try:
                await database.ping()
                break
            except errors.Unavailable:  # the short delay after a lost session
                await asyncio.sleep(0.02)
        else:
            pytest.fail("the pool did not come back")


async def test_read_only_server(separate_database: ReadyDatabase) -> None:
    """A standby, or a server whose disk is almost full: what heals by itself must not become a user's error."""
    async with separate_database.as_admin() as admin:
        await admin.execute(f"ALTER ROLE {separate_database.login} SET default_transaction_read_only = on")
    async with separate_database.open() as database:
        await database.ping()
        with pytest.raises(errors.Unavailable, match="read-only"):
            await Tenants(database).ensure(new_uid(), "acme")


async def test_after_close_and_before_open(unjucks_database: ReadyDatabase) -> None:
    database = unjucks_database.open()
    assert isinstance(await refusal(database), errors.Unavailable)
    await database.open()
    await database.open()
    await database.ping()
    await database.close()
    await database.close()
    assert isinstance(await refusal(database), errors.Unavailable)


async def test_close_does_not_wait_for_ever(unjucks_database: ReadyDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    database = unjucks_database.open()
    await database.open()
    started = asyncio.Event()

    async def long() -> None:
        async with database.service_tx() as connection:
            started.set()
            await connection.execute("SELECT pg_sleep(60)")

    task = asyncio.create_task(long())
    await started.wait()
    monkeypatch.setattr("unjucks_operator.database.pool.CLOSE_TIMEOUT", 0.2)
    await database.close()
    with pytest.raises(errors.Unavailable):
        await task


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://user:top-secret@127.0.0.1:notaport/db",
        "mysql://user:top-secret@127.0.0.1/db",
        "top-secret",
        "postgresql://user:top-secret@127.0.0.1/db?sslmode=whatever",
    ],
)
async def test_a_dsn_that_makes_no_sense_is_refused_without_repeating_it(dsn: str) -> None:
    database = Database(dsn)

    async def use() -> None:
        async with database:
            await database.ping()

    with pytest.raises(errors.InvalidSpec, match="the database DSN cannot be used") as caught:
        await use()
    assert "top-secret" not in "".join(traceback.format_exception(caught.value))
    assert "top-secret" not in repr(database)


async def test_no_error_log_or_traceback_holds_the_password(
    unjucks_database: ReadyDatabase, postgres_server: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    texts = []
    for dsn in (
        postgres_server.dsn(unjucks_database.name, unjucks_database.login, "not-the-password"),
        f"postgresql://user:not-the-password@127.0.0.1:{free_port()}/db",
    ):
        async with Database(dsn, prefix=unjucks_database.prefix) as database:
            try:
                await database.ping()
            except errors.Unavailable as error:
                texts += [str(error), *traceback.format_exception(error)]
    async with unjucks_database.open() as database:
        for statement in ("SELECT 1/0", "SELECT * FROM no_such_table", "SELECT pg_sleep(3)"):
            try:
                async with database.service_tx(limit=0.1) as connection:
                    await connection.execute(statement)
            except errors.OperatorError as error:
                texts += [str(error), *traceback.format_exception(error)]
    assert len(texts) > 5
    whole = "\n".join([*texts, caplog.text])
    assert "not-the-password" not in whole
    assert unjucks_database.password not in whole


async def test_stopped_while_many_wait(unjucks_database: ReadyDatabase) -> None:
    """Every caller gets an answer, and no task, session or warning is left over."""
    settings = PoolSettings(max_connections=4, backoff_initial=0.0, backoff_max=0.0)
    async with unjucks_database.open(settings=settings) as database:

        async def work() -> str:
            try:
                async with database.service_tx() as connection:
                    await connection.execute("SELECT pg_sleep(0.3)")
                return "done"
            except errors.Unavailable:
                return "unavailable"

        tasks = [asyncio.create_task(work()) for _ in range(30)]
        await asyncio.sleep(0.1)
        await asyncio.to_thread(unjucks_database.server.stop)
        try:
            results = await asyncio.gather(*tasks)
        finally:
            await asyncio.to_thread(unjucks_database.server.start)
        assert "unavailable" in results
        await database.ping()
    connection = await asyncpg.connect(unjucks_database.admin_dsn)
    try:
        left = await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE usename = $1", unjucks_database.login
        )
        assert left in (0, 1)  # a session that was closed a moment ago may still be listed
    finally:
        await connection.close()
