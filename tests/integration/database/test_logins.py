"""Tenants' own logins on a real server: rotation with real clients under load, limits, drift, budget, and PgBouncer between."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import asyncpg
import pytest

from support.database import ReadyDatabase, new_uid
from support.pgbouncer import pgbouncer
from support.postgres import PostgresServer
from unjucks_api.reasons import Reason
from unjucks_api.tree import tree_digest
from unjucks_operator import errors
from unjucks_operator.config import Config
from unjucks_operator.database.artifacts import Artifacts
from unjucks_operator.database.bootstrap import scram_verifier
from unjucks_operator.database.homes import Homes, SecretData
from unjucks_operator.database.logins import LoginLimits, Logins

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

TREE = {"a.txt": (b"rotates", 0o644)}
REFUSED = (asyncpg.InvalidPasswordError, asyncpg.InvalidAuthorizationSpecificationError)


class Secret:
    """The Kubernetes Secret of one tenant, as its consumers see it: they read it again when they connect."""

    def __init__(self, homes: Homes, uid: str) -> None:
        self.homes, self.uid = homes, uid
        self.version = ""
        self.data: dict[str, str] = {}
        self.past: list[dict[str, str]] = []

    async def renew(self, *, every: float = 1e9, overlap: float = 0.4) -> None:
        """What the operator does with a planned ``RenewLogin``."""
        answer = await self.homes.renew_login(self.uid, self.version, every=every, overlap=overlap)
        if isinstance(answer, SecretData):
            if self.data:
                self.past.append(self.data)
            self.version, self.data = answer.version, dict(answer.data)
            await self.homes.commit_login(self.uid, answer.version, answer.overlap)


@pytest.fixture
async def homes(shared_database: ReadyDatabase) -> AsyncIterator[Homes]:
    async with shared_database.open() as platform:
        made = Homes(platform, Config())
        yield made
        await made.close()


async def tenant(homes: Homes, home: str) -> Secret:
    uid = new_uid()
    state = await homes.ensure(uid, "acme", first=home)
    await Artifacts(homes.router).put(state.role, tree_digest(TREE), TREE)
    secret = Secret(homes, uid)
    await secret.renew()
    return secret


async def sees_own_rows(uri: str, uid: str) -> None:
    connection = await asyncpg.connect(uri)
    try:
        assert await connection.fetchval("SELECT array_agg(tenant_id::text) FROM unjucks.artifact") == [uid]
    finally:
        await connection.close()


async def client(secret: Secret, stop: asyncio.Event, counts: dict[str, int], uri: object = None) -> None:
    """A program of the tenant's: short sessions of a few transactions, the Secret read anew for each session."""
    while not stop.is_set():
        login = dict(secret.data)
        target = uri(login) if callable(uri) else login["uri"]
        try:
            connection = await asyncpg.connect(target, statement_cache_size=0)
            try:
                for _ in range(4):
                    async with connection.transaction():
                        rows = await connection.fetch("SELECT tenant_id::text FROM unjucks.artifact")
                        assert [row[0] for row in rows] == [secret.uid]
                    counts["done"] += 1
                    await asyncio.sleep(0.005)
            finally:
                await connection.close()
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            counts["failed"] += 1
            counts[f"{type(error).__name__}: {error}"] = 1


@pytest.mark.isolation("T-rotate-under-load", state="up")
@pytest.mark.parametrize("home", ["Shared", "Dedicated"])
async def test_rotation_under_load_fails_no_transaction_and_ends_the_old_password(homes: Homes, home: str) -> None:
    secret = await tenant(homes, home)
    counts = {"done": 0, "failed": 0}
    stop = asyncio.Event()
    clients = [asyncio.create_task(client(secret, stop, counts)) for _ in range(4)]
    for _ in range(4):
        await asyncio.sleep(0.4)
        secret_before = dict(secret.data)
        await secret.renew(every=0.0)
        assert secret.data["username"] != secret_before["username"]
        await sees_own_rows(secret_before["uri"], secret.uid)  # the overlap
        await asyncio.sleep(0.7)
        await secret.renew()  # what the operator does when the overlap is over
        with pytest.raises(REFUSED):
            await asyncpg.connect(secret_before["uri"])
    stop.set()
    await asyncio.gather(*clients)
    assert counts.pop("failed") == 0, counts
    assert counts["done"] > 50
    for old in secret.past:
        with pytest.raises(REFUSED):
            await asyncpg.connect(old["uri"])
    assert (await homes.sweep())[secret.uid].healthy


@pytest.mark.isolation("T-rotate-under-load", state="up")
async def test_sessions_of_the_old_password_end_with_it(homes: Homes) -> None:
    secret = await tenant(homes, "Shared")
    old = await asyncpg.connect(secret.data["uri"])
    assert await old.fetchval("SELECT 1") == 1
    await secret.renew(every=0.0, overlap=0.0)
    await secret.renew()
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)):
        await old.fetchval("SELECT 1")


async def test_stopped_between_any_two_steps_of_a_rotation(homes: Homes) -> None:
    secret = await tenant(homes, "Dedicated")
    # Before the Secret was written: the password is lost, the tenant notices nothing, another one is made.
    lost = await homes.renew_login(secret.uid, secret.version, every=0.0, overlap=1.0)
    assert isinstance(lost, SecretData)
    assert lost.data["password"] not in repr(lost)
    await sees_own_rows(secret.data["uri"], secret.uid)
    await secret.renew(every=0.0, overlap=5.0)
    await sees_own_rows(secret.data["uri"], secret.uid)
    with pytest.raises(REFUSED):
        await asyncpg.connect(lost.data["uri"])
    # After the Secret was written and before that was noted: the version in the Secret tells.
    written = await homes.renew_login(secret.uid, secret.version, every=0.0, overlap=1.0)
    assert isinstance(written, SecretData)
    state = await homes.renew_login(secret.uid, written.version, every=1e9, overlap=1.0)
    assert not isinstance(state, SecretData)
    assert (state.version, state.pending_version) == (written.version, None)
    await sees_own_rows(written.data["uri"], secret.uid)


async def test_the_server_never_sees_a_password(homes: Homes, postgres_server: PostgresServer) -> None:
    async with contextlib.AsyncExitStack() as stack:
        admin = await postgres_server.connect()
        stack.push_async_callback(admin.close)
        await admin.execute("ALTER SYSTEM SET log_statement = 'all'")
        await admin.execute("SELECT pg_reload_conf()")
        try:
            secret = await tenant(homes, "Shared")
            await secret.renew(every=0.0)
        finally:
            await admin.execute("ALTER SYSTEM RESET log_statement")
            await admin.execute("SELECT pg_reload_conf()")
        assert "login_begin" in postgres_server.log()
        assert not any(item["password"] in postgres_server.log() for item in (secret.data, *secret.past))
        stored = await admin.fetchval("SELECT rolpassword FROM pg_authid WHERE rolname = $1", secret.data["username"])
        assert stored.startswith("SCRAM-SHA-256$4096:")


async def test_limits_of_a_login(homes: Homes) -> None:
    secret = await tenant(homes, "Dedicated")
    open_ones = [await asyncpg.connect(secret.data["uri"]) for _ in range(5)]
    with pytest.raises(asyncpg.TooManyConnectionsError):
        await asyncpg.connect(secret.data["uri"])
    for connection in open_ones[1:]:
        await connection.close()
    session = open_ones[0]
    assert await session.fetchval("SHOW statement_timeout") == "1min"
    assert await session.fetchval("SHOW default_transaction_read_only") == "on"
    assert await session.fetchval("SHOW temp_file_limit") == "256MB"
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await session.execute("SET temp_file_limit = -1")
    await session.execute("SET statement_timeout = 0; SET work_mem = '64kB'")
    with pytest.raises(asyncpg.ConfigurationLimitExceededError):
        await session.fetch(
            "SELECT count(*) FROM (SELECT repeat('x', 1000) || i FROM generate_series(1, 400000) i ORDER BY 1) s"
        )
    await session.close()


async def test_a_password_of_the_tenants_own_is_put_back(homes: Homes) -> None:
    secret = await tenant(homes, "Shared")
    session = await asyncpg.connect(secret.data["uri"])
    await session.execute("SET default_transaction_read_only = off")
    await session.execute(f"ALTER ROLE {secret.data['username']} PASSWORD 'mine'")
    assert not (await homes.sweep())[secret.uid].healthy
    await homes.ensure(secret.uid, "acme")
    assert (await homes.sweep())[secret.uid].healthy
    await sees_own_rows(secret.data["uri"], secret.uid)
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)):  # and whoever came in meanwhile is out
        await session.fetchval("SELECT 1")


async def test_logins_fit_the_server_or_wait(shared_database: ReadyDatabase, homes: Homes) -> None:
    logins = Logins(homes._platform, limits=LoginLimits(connections=60), others=20)
    first, second = new_uid(), new_uid()
    for uid in (first, second):
        await homes.ensure(uid, "acme")
    async with shared_database.as_admin() as admin:
        taken = await admin.fetchval("SELECT coalesce(sum(connections), 0) FROM unjucks_ops.credential")
        room = int(0.8 * int(await admin.fetchval("SHOW max_connections"))) - 20 - taken
    fits = Logins(homes._platform, limits=LoginLimits(connections=room - 2), others=20)
    await fits.begin(first, shared=True)
    with pytest.raises(errors.Waiting, match="connections are promised") as caught:
        await logins.begin(second, shared=True)
    assert caught.value.reason is Reason.CONNECTION_BUDGET
    await fits.drop(first)
    assert await logins.state(second) is None


async def test_a_foreign_role_of_a_logins_name_is_never_taken(shared_database: ReadyDatabase, homes: Homes) -> None:
    uid = new_uid()
    role = (await homes.ensure(uid, "acme")).role
    async with shared_database.as_admin() as admin:
        await admin.execute(f"CREATE ROLE {role}_a LOGIN SUPERUSER PASSWORD 'x'")
        try:
            with pytest.raises(errors.OwnershipConflict):
                await homes.renew_login(uid, "", every=1e9, overlap=1.0)
            assert await admin.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = $1", f"{role}_a")
        finally:
            await admin.execute(f"DROP ROLE {role}_a")


async def test_only_verifiers_and_known_settings_are_taken(shared_database: ReadyDatabase, homes: Homes) -> None:
    """The service itself (a stolen operator login) cannot use the functions for anything else."""
    uid = new_uid()
    await homes.ensure(uid, "acme")
    call = "SELECT unjucks_ops.login_begin($1, $2, gen_random_uuid(), true, 5, $3::text::jsonb, 0)"
    good = scram_verifier("p")
    connection = await asyncpg.connect(shared_database.dsn)
    try:
        for verifier, settings in (
            ("plain", "{}"),
            (good + "' SUPERUSER PASSWORD '", "{}"),
            (good, '{"session_preload_libraries": "x"}'),
            (good, '{"role": "postgres"}'),
        ):
            with pytest.raises(asyncpg.PostgresError) as caught:
                await connection.execute(call, uid, verifier, settings)
            assert caught.value.sqlstate == "UJ001"
        with pytest.raises(asyncpg.PostgresError):
            await connection.execute(call, new_uid(), good, "{}")
        for helper in ("login_write($1, 'a', true)", "login_settings('{}', true)"):
            with pytest.raises(asyncpg.PostgresError):
                await connection.execute(f"SELECT unjucks_ops.{helper}", *([uid] if "$1" in helper else []))
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.fetch("SELECT * FROM unjucks_ops.credential")
    finally:
        await connection.close()


async def test_rotation_under_load_through_pgbouncer_in_transaction_mode(
    shared_database: ReadyDatabase, homes: Homes, postgres_server: PostgresServer
) -> None:
    """auth_query, as the documentation has it: a rotation needs no reload of the pooler, and an ended login is refused by it."""
    secret = await tenant(homes, "Shared")
    async with shared_database.as_admin() as admin:
        await admin.execute(
            f"CREATE ROLE pool_{shared_database.login} LOGIN PASSWORD 'pool'; CREATE SCHEMA pgbouncer; "
            "CREATE FUNCTION pgbouncer.lookup(name) RETURNS TABLE (usename name, passwd text) LANGUAGE sql "
            "SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$ SELECT rolname, rolpassword FROM pg_authid "
            "WHERE rolname = $1 AND rolcanlogin AND NOT rolsuper AND NOT rolbypassrls AND NOT rolreplication "
            "AND (rolvaliduntil IS NULL OR rolvaliduntil > now()) $$; REVOKE ALL ON FUNCTION pgbouncer.lookup(name) FROM PUBLIC; "
            f"GRANT USAGE ON SCHEMA pgbouncer TO pool_{shared_database.login}; "
            f"GRANT EXECUTE ON FUNCTION pgbouncer.lookup(name) TO pool_{shared_database.login}; "
            f"GRANT CONNECT ON DATABASE {shared_database.name} TO pool_{shared_database.login}"
        )
    extra = f"auth_user = pool_{shared_database.login}\nauth_query = SELECT usename, passwd FROM pgbouncer.lookup($1)\n"
    with pgbouncer(postgres_server.port, {f"pool_{shared_database.login}": "pool"}, pool_size=2, extra=extra) as pooler:

        def through(login: dict[str, str]) -> str:
            return login["uri"].replace(f":{postgres_server.port}/", f":{pooler.port}/")

        counts = {"done": 0, "failed": 0}
        stop = asyncio.Event()
        clients = [asyncio.create_task(client(secret, stop, counts, through)) for _ in range(4)]
        for _ in range(3):
            await asyncio.sleep(0.5)
            before = dict(secret.data)
            await secret.renew(every=0.0, overlap=1.0)
            await sees_own_rows(through(before), secret.uid)
            await asyncio.sleep(1.4)
            await secret.renew()
            with pytest.raises((*REFUSED, asyncpg.PostgresError, OSError)):
                await asyncpg.connect(through(before))
        stop.set()
        await asyncio.gather(*clients)
        assert counts.pop("failed") == 0, (counts, pooler.log()[-2000:])
        assert counts["done"] > 40
