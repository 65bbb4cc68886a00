"""The tenant's part of PostgreSQL through the whole operator: own databases, logins in Secrets, moving, drift, and the end."""

import asyncio
import base64
import secrets
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from support.operator_process import OperatorProcess, Site
from support.tenants import tenant_manifest
from unjucks_api import names
from unjucks_api.conditions import find_condition
from unjucks_operator.kube.resources import SECRET, TENANT

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def operator(site: Site) -> AsyncIterator[OperatorProcess]:
    deletion = {"databaseGrace": 0, "requireBackup": True}
    async with site.operator(sweep={"interval": 1}, deletion=deletion) as running:
        yield running


async def ready(site: Site, name: str, **spec: Any) -> dict[str, Any]:
    await site.apply(tenant_manifest(name, **spec))
    await site.wait_for(f"tenant/{name}", "condition=Ready")
    body = await site.api.get(TENANT, name)
    assert body is not None
    return body


async def eventually(what: str, check: Any, seconds: float = 20) -> Any:
    try:
        async with asyncio.timeout(seconds):
            while True:
                if (found := await check()) not in (None, False):
                    return found
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"not after {seconds} s: {what}") from None


async def secret_of(site: Site, name: str) -> dict[str, str] | None:
    secret = await site.api.get(SECRET, names.database_secret(name), f"tenant-{name}")
    if secret is None or secret["metadata"].get("deletionTimestamp"):
        return None
    return {key: base64.b64decode(value).decode() for key, value in (secret.get("data") or {}).items()}


async def admin(site: Site, database: str | None = None) -> "asyncpg.Connection[asyncpg.Record]":
    return await asyncpg.connect(site.dsn if database is None else site.postgres.dsn(database))


async def test_an_enterprise_tenant_begins_in_a_database_of_its_own(site: Site, operator: OperatorProcess) -> None:
    body = await ready(site, "own", tier="enterprise", renderers={"min": 0})
    role = names.database_role(body["metadata"]["uid"])
    database = body["status"]["database"]
    assert (database["mode"], database["name"], database["role"], database["state"]) == (
        "Dedicated",
        role,
        role,
        "Ready",
    )
    assert body["status"]["summary"]["database"] == "dedicated"
    condition = find_condition(body["status"], "CredentialsReady")  # type: ignore[arg-type]
    assert condition is not None
    assert condition["reason"] == "DirectAccessDisabled"
    connection = await admin(site, role)
    try:
        assert await connection.fetchval("SELECT role_name::text FROM unjucks_ops.tenant") == role
        assert await connection.fetchval("SELECT state FROM unjucks_ops.gate") == "open"
    finally:
        await connection.close()


async def test_drift_of_an_own_database_is_repaired_by_the_sweep(site: Site, operator: OperatorProcess) -> None:
    body = await ready(site, "drift", tier="enterprise", renderers={"min": 0}, database={"directAccess": True})
    role = names.database_role(body["metadata"]["uid"])
    connection = await admin(site)
    try:
        for statement in (
            f"GRANT CONNECT, TEMP ON DATABASE {role} TO PUBLIC",
            f"ALTER DATABASE {role} CONNECTION LIMIT 77",
            f"COMMENT ON DATABASE {role} IS NULL",
            f"ALTER ROLE {role}_a CONNECTION LIMIT 99 CREATEDB",
            f"GRANT pg_read_all_data TO {role}_a",
            f"ALTER ROLE {role}_a SET statement_timeout = 0",
            f"ALTER ROLE {role}_b LOGIN PASSWORD 'planted'",
        ):
            await connection.execute(statement)

            async def repaired() -> bool:
                row = await connection.fetchrow(
                    "SELECT d.datconnlimit = 16 AND NOT has_database_privilege(0::oid, d.oid, 'CONNECT') "
                    "AND shobj_description(d.oid, 'pg_database') IS NOT NULL "
                    "AND r.rolconnlimit = 5 AND NOT r.rolcreatedb AND NOT o.rolcanlogin "
                    "AND NOT pg_has_role(r.oid, 'pg_read_all_data', 'MEMBER') "
                    "AND 'statement_timeout=60000' = ANY (r.rolconfig) AS good "
                    "FROM pg_database d, pg_roles r, pg_roles o WHERE d.datname = $1 AND r.rolname = $1 || '_a' "
                    "AND o.rolname = $1 || '_b'",
                    role,
                )
                return bool(row and row["good"])

            await eventually(statement, repaired)
    finally:
        await connection.close()


async def test_a_login_lives_in_the_secret_and_is_rotated_when_that_is_touched(
    site: Site, operator: OperatorProcess
) -> None:
    body = await ready(site, "login", database={"directAccess": True, "mode": "Shared"})
    first = await secret_of(site, "login")
    assert first is not None
    assert body["status"]["database"]["secret"] == "tenant-login/login-database"
    assert body["status"]["database"]["rotatedAt"]
    assert first["password"] not in str(body)
    connection = await asyncpg.connect(first["uri"])
    assert await connection.fetchval("SELECT count(*) FROM unjucks.artifact") == 0
    await connection.close()
    await site.kubectl("delete", "secret", "login-database", "-n", "tenant-login")

    async def another() -> dict[str, str] | None:
        found = await secret_of(site, "login")
        return found if found and found["username"] != first["username"] else None

    second = await eventually("another login in the Secret", another)
    for login in (first, second):  # the overlap
        connection = await asyncpg.connect(login["uri"])
        await connection.close()
    await site.kubectl(
        "-n", "tenant-login", "patch", "secret", "login-database", "-p", '{"data": {"password": "bWluZQ=="}}'
    )

    async def third() -> dict[str, str] | None:
        found = await secret_of(site, "login")
        return found if found and found["password"] not in ("mine", second["password"]) else None

    last = await eventually("the edit is answered with another password", third)
    connection = await asyncpg.connect(last["uri"])
    await connection.close()
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(first["uri"])
    await site.apply(tenant_manifest("login", database={"directAccess": False, "mode": "Shared"}))

    async def refused() -> bool:
        try:
            await (await asyncpg.connect(last["uri"])).close()
        except (asyncpg.InvalidPasswordError, asyncpg.InvalidAuthorizationSpecificationError):
            return await secret_of(site, "login") is None
        return False

    await eventually("no login and no Secret any more", refused)
    log = operator.log.read_text()
    assert not any(login["password"] in log for login in (first, second, last))


async def test_changing_the_mode_moves_the_tenant_and_its_login(site: Site, operator: OperatorProcess) -> None:
    database = {"directAccess": True, "mode": "Shared"}
    body = await ready(site, "mover", tier="professional", renderers={"min": 0}, database=database)
    uid, role = body["metadata"]["uid"], names.database_role(body["metadata"]["uid"])
    connection = await admin(site)
    await connection.execute(
        "INSERT INTO unjucks.generation_run (tenant_id, job_uid, run_key, holder) "
        "SELECT $1::text::uuid, gen_random_uuid(), 'k' || i, 'h' FROM generate_series(1, 1200) i", uid,
    )  # fmt: skip
    before = await secret_of(site, "mover")
    assert before is not None
    for mode, name in (("Dedicated", role), ("Shared", connection.get_settings() and site.dsn.rpartition("/")[2])):
        manifest = tenant_manifest(
            "mover", tier="professional", renderers={"min": 0}, database=database | {"mode": mode}
        )
        await site.apply(manifest)

        async def moved(mode: str = mode, name: str = name) -> dict[str, str] | None:
            current = await site.api.get(TENANT, "mover")
            assert current is not None
            state = current["status"]["database"]
            found = await secret_of(site, "mover")
            done = state.get("mode") == mode and "migration" not in state and state.get("name") == name
            return found if done and found and found["dbname"] == name else None

        login = await eventually(f"moved to {mode}", moved, 30)
        await site.wait_for("tenant/mover", "condition=Ready")
        reader = await asyncpg.connect(login["uri"])
        assert await reader.fetchval("SELECT count(*) FROM unjucks.generation_run") == 1200
        await reader.close()
        with pytest.raises((asyncpg.InvalidPasswordError, asyncpg.InvalidAuthorizationSpecificationError)):
            await asyncpg.connect(before["uri"])
        before = login
    await connection.close()


async def test_a_mode_that_the_tier_does_not_have_is_refused(site: Site, operator: OperatorProcess) -> None:
    await site.apply(tenant_manifest("refused", database={"mode": "Dedicated"}))

    async def told() -> bool:
        body = await site.api.get(TENANT, "refused")
        condition = find_condition((body or {}).get("status") or {}, "Ready")  # type: ignore[arg-type]
        return condition is not None and condition["reason"] == "DatabaseNotOffered"

    await eventually("Ready says DatabaseNotOffered", told)


async def test_a_deleted_tenants_database_is_put_away_and_dropped_only_with_backup_and_confirmation(
    site: Site, operator: OperatorProcess
) -> None:
    policy = {"deletionPolicy": "Delete", "database": {"mode": "Dedicated", "reclaimPolicy": "Delete"}}
    body = await ready(site, "ended", tier="enterprise", renderers={"min": 0}, **policy)
    role = names.database_role(body["metadata"]["uid"])
    mark = secrets.token_hex(4)
    connection = await admin(site, role)
    await connection.execute(f"COMMENT ON SCHEMA unjucks IS '{mark}'")
    await connection.close()
    connection = await admin(site)
    there = "SELECT datname::text FROM pg_database WHERE datname LIKE $1 || '%'"
    try:
        await site.kubectl("delete", "tenant", "ended", "--wait=false")

        async def put_away() -> bool:
            return await connection.fetchval(there, role) == f"{role}_gone"

        await eventually("the database has its other name", put_away)
        with pytest.raises(asyncpg.ObjectNotInPrerequisiteStateError):
            await admin(site, f"{role}_gone")  # not even the superuser

        async def held(word: str) -> bool:
            current = await site.api.get(TENANT, "ended")
            return current is not None and word in str(current["status"]["deletion"]["blockedBy"])

        await eventually("it asks for the confirmation", lambda: held("confirm-delete"))
        current = await site.api.get(TENANT, "ended")
        assert current is not None
        row = next(row for row in current["status"]["deletion"]["plan"] if row["what"] == "database")
        assert row["bytes"] > 1_000_000
        day = current["metadata"]["deletionTimestamp"][:10]
        await site.kubectl("annotate", "tenant", "ended", f"unjucks.io/confirm-delete=ended@{day}")
        await eventually("it asks for a backup", lambda: held("backup-confirmed"))
        assert await connection.fetchval(there, role) == f"{role}_gone"
        now = await connection.fetchval("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')")
        await site.kubectl("annotate", "tenant", "ended", f"unjucks.io/backup-confirmed={now}")

        async def dropped() -> bool:
            return await connection.fetchval(there, role) is None and await site.api.get(TENANT, "ended") is None

        await eventually("database and Tenant are gone", dropped)
        assert await connection.fetchval("SELECT count(*) FROM pg_roles WHERE rolname LIKE $1 || '%'", role) == 0
    finally:
        await connection.close()
