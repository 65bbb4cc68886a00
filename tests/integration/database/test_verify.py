"""The checks of the isolation in the shared database: nothing found where nothing is wrong, each sabotage named, and mended."""

import asyncio
import random
import uuid
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from support.clock import FakeClock
from support.database import ReadyDatabase, lasting_database, new_uid
from support.postgres import PostgresServer
from unjucks_api.tree import tree_digest
from unjucks_operator.database import canary
from unjucks_operator.database.artifacts import Artifacts
from unjucks_operator.database.canary import CHECKS, run_canary, try_everything
from unjucks_operator.database.escapes import ATTEMPTS, TABLES
from unjucks_operator.database.lint import RULES, lint
from unjucks_operator.database.pool import Database
from unjucks_operator.database.tenants import Tenants
from unjucks_operator.database.verify import IsolationVerifier
from unjucks_operator.errors import Bug

pytestmark = pytest.mark.integration

TREE = {"a.txt": (b"x", 0o644)}


@pytest.fixture
async def admin(unjucks_database: ReadyDatabase) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    async with unjucks_database.as_admin() as connection:
        yield connection


async def linted(database: Database) -> list[str]:
    async with database.service_tx() as connection:
        return await lint(connection, database.prefix)


async def test_nothing_is_found_and_nothing_is_left(
    database: Database, admin: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    tenants = Tenants(database)
    role = (await tenants.ensure(new_uid(), "acme")).role
    await Artifacts(database).put(role, tree_digest(TREE), TREE)
    assert await linted(database) == []
    assert await run_canary(database) == []
    counts = [await admin.fetchval(f"SELECT count(*) FROM unjucks.{table}") for table in TABLES]
    assert counts == [0, 0, 1], "only the real tenant's row is there"
    assert await admin.fetchval("SELECT count(*) FROM unjucks_ops.tenant WHERE name LIKE 'canary.%'") == 2
    assert await run_canary(database) == []
    assert await admin.fetchval("SELECT count(*) FROM unjucks_ops.tenant") == 3, "the two are made once"
    states = await tenants.sweep()
    assert all(state.healthy for state in states.values())


async def test_every_attempt_is_refused_for_want_of_a_right_or_finds_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attempt that fails for its form proves nothing: each error's code is looked at here."""
    seen: dict[str, str] = {}
    original = canary._try

    async def watched(connection: object, attempt: object, uids: object, roles: object) -> str | None:
        class Spy:
            def __getattr__(self, name: str) -> object:
                return getattr(connection, name)

            async def execute(self, sql: str) -> str:
                return await self._noted(connection.execute(sql), sql)  # type: ignore[attr-defined]

            async def fetch(self, sql: str) -> object:
                return await self._noted(connection.fetch(sql), sql)  # type: ignore[attr-defined]

            async def _noted(self, work: object, sql: str) -> str:
                try:
                    return await work  # type: ignore[misc, no-any-return]
                except asyncpg.PostgresError as error:
                    seen[attempt.name] = error.sqlstate or ""  # type: ignore[attr-defined]
                    raise

        return await original(Spy(), attempt, uids, roles)  # type: ignore[arg-type]

    monkeypatch.setattr(canary, "_try", watched)
    assert await run_canary(database) == []
    refused = {attempt.name for attempt in ATTEMPTS if attempt.kind == "refused"}
    assert refused <= set(seen)
    assert {name: state for name, state in seen.items() if state not in ("42501", "0A000")} == {}
    assert len({attempt.name for attempt in ATTEMPTS}) == len(ATTEMPTS) > 70


SABOTAGE = {
    "ALTER TABLE unjucks.artifact NO FORCE ROW LEVEL SECURITY": "row security: unjucks.artifact has no forced",
    "ALTER TABLE unjucks.artifact DISABLE ROW LEVEL SECURITY": "canary: read rows of unjucks.artifact",
    "CREATE POLICY leak ON unjucks.catalog USING (true)": "policies: leak on unjucks.catalog",
    "CREATE POLICY leak ON unjucks.catalog FOR SELECT TO {p}_tenants USING (true)": "canary: read rows of unjucks.catalog",
    "ALTER POLICY tenant_rows ON unjucks.catalog WITH CHECK (true)": "policies: tenant_rows on unjucks.catalog does not hold",
    "ALTER POLICY tenant_rows ON unjucks.catalog USING (tenant_id::text = current_setting('app.tenant', true))":
        "policies: tenant_rows on unjucks.catalog compares",
    "ALTER POLICY tenant_rows ON unjucks.catalog TO PUBLIC": "policies: tenant_rows on unjucks.catalog is for others",
    "DROP POLICY tenant_rows ON unjucks.catalog; CREATE POLICY tenant_row ON unjucks.catalog USING (false)":
        "policies missing: unjucks.catalog",
    "GRANT SELECT ON unjucks.artifact TO PUBLIC": "rights of everybody: SELECT on unjucks.artifact",
    "GRANT SELECT (content) ON unjucks.artifact TO PUBLIC": "rights of everybody: SELECT on column unjucks.artifact.content",
    "GRANT CONNECT ON DATABASE {d} TO PUBLIC": "rights of everybody: CONNECT on database",
    "GRANT CREATE ON SCHEMA unjucks TO PUBLIC": "rights of everybody: CREATE on schema unjucks",
    "GRANT TRUNCATE ON unjucks.artifact TO {p}_tenants": "canary: empty unjucks.artifact",
    "GRANT REFERENCES ON unjucks.artifact TO {p}_tenants": "rights of tenants: REFERENCES on unjucks.artifact",
    "GRANT INSERT ON unjucks.artifact TO {p}_readers": "rights of tenants: INSERT on unjucks.artifact",
    "GRANT SELECT ON unjucks_ops.installation TO {p}_tenants": "rights of tenants: SELECT on unjucks_ops.installation",
    "GRANT EXECUTE ON FUNCTION unjucks_ops.drop_tenant(uuid) TO {p}_tenants": "rights of tenants: EXECUTE on function",
    "ALTER DEFAULT PRIVILEGES FOR ROLE {p}_owner GRANT SELECT ON TABLES TO {p}_tenants": "rights of tenants: rights on future",
    "CREATE VIEW public.leak AS SELECT * FROM unjucks.artifact; GRANT SELECT ON public.leak TO PUBLIC": "views: view public.leak",
    "CREATE MATERIALIZED VIEW public.leak AS SELECT 1 AS tenant_id; GRANT SELECT ON public.leak TO {p}_tenants":
        "views: materialized view public.leak",
    "CREATE TABLE public.part (LIKE unjucks.artifact); "
    "CREATE TABLE public.whole (LIKE unjucks.artifact) PARTITION BY LIST (tenant_id); "
    "ALTER TABLE public.whole ATTACH PARTITION public.part DEFAULT; GRANT SELECT ON public.part TO {p}_tenants":
        "partitions: public.part",
    "CREATE FUNCTION unjucks_ops.f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'": "definer functions: unjucks_ops.f()",
    "CREATE UNIQUE INDEX leak ON unjucks.artifact (digest)": "keys: unique index leak of unjucks.artifact",
    "ALTER TABLE unjucks.artifact ADD CONSTRAINT leak UNIQUE (digest)": "keys: leak of unjucks.artifact",
    "CREATE TRIGGER leak BEFORE INSERT ON unjucks.artifact EXECUTE FUNCTION suppress_redundant_updates_trigger()":
        "code on tables: trigger leak",
    "CREATE FUNCTION public.quiet(text) RETURNS bool LANGUAGE sql LEAKPROOF AS 'SELECT true'": "leakproof: public.quiet(text)",
    "ALTER ROLE {p}_owner BYPASSRLS": "owners: role {p}_owner",
    "ALTER TABLE unjucks.catalog OWNER TO postgres": "owners: unjucks.catalog belongs to postgres",
    "CREATE TABLE unjucks.extra (tenant_id uuid); GRANT SELECT ON unjucks.extra TO {p}_tenants": "row security: unjucks.extra",
    "GRANT {p}_owner TO {p}_tenants": "canary: be somebody else",
}  # fmt: skip


@pytest.fixture(scope="module")
def sabotaged(postgres_server: PostgresServer) -> Iterator[tuple[ReadyDatabase, list[uuid.UUID], list[str]]]:
    """A database with the two canaries. What is done to it is rolled back, so all of these tests share it."""

    async def make(ready: ReadyDatabase) -> tuple[list[uuid.UUID], list[str]]:
        uids = [uuid.uuid4(), uuid.uuid4()]
        async with ready.open() as opened:
            return uids, [(await Tenants(opened).ensure(str(uid), "canary")).role for uid in uids]

    with lasting_database(postgres_server) as ready:
        yield ready, *asyncio.run(make(ready))


@pytest.mark.isolation("T-db-canary")
@pytest.mark.parametrize("statement", SABOTAGE)
async def test_a_sabotage_is_named(sabotaged: tuple[ReadyDatabase, list[uuid.UUID], list[str]], statement: str) -> None:
    ready, uids, roles = sabotaged
    values = {"p": ready.prefix, "d": ready.name}
    async with ready.as_admin() as admin:
        transaction = admin.transaction()
        await transaction.start()
        await admin.execute(statement.format(**values))
        await admin.execute(f"SET LOCAL search_path = pg_catalog, pg_temp; SET LOCAL ROLE {ready.prefix}_service")
        found = await lint(admin, ready.prefix)
        try:
            found += [f"canary: {text}" for text in await try_everything(admin, uids, roles)]
        except (Bug, asyncpg.PostgresError):
            assert found, "what hinders the canary is found by the linter"
        await transaction.rollback()
    wanted = SABOTAGE[statement].format(**values)
    assert [text for text in found if text.startswith(wanted)], found


async def test_what_extensions_bring_is_not_our_matter(
    database: Database, admin: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    await admin.execute(
        "CREATE TABLE public.spatial (x int); GRANT SELECT ON public.spatial TO PUBLIC;"
        "CREATE VIEW public.counted AS SELECT 1 AS x; GRANT SELECT ON public.counted TO PUBLIC;"
        "CREATE FUNCTION public.helper() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'"
    )
    assert await linted(database) == []


async def test_without_its_own_rows_the_canary_proves_nothing(
    database: Database, admin: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    await admin.execute("CREATE POLICY nothing ON unjucks.artifact AS RESTRICTIVE FOR SELECT USING (false)")
    with pytest.raises(Bug, match="prove nothing"):
        await run_canary(database)


class Watched:
    """A verifier whose calls are counted."""

    def __init__(self, database: Database) -> None:
        self.changes = 0
        self.clock = FakeClock()
        self.verifier = IsolationVerifier(
            database, Tenants(database), is_ready=lambda: True, on_change=self.changed,
            interval=900.0, clock=self.clock, rng=random.Random(1),
        )  # fmt: skip

    def changed(self) -> None:
        self.changes += 1


@pytest.mark.isolation("T-db-canary")
async def test_a_hole_is_told_once_mended_and_told_again(
    database: Database, admin: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    watched = Watched(database)
    verifier = watched.verifier
    await verifier._once()
    assert verifier.evidence is not None
    assert (verifier.evidence.failures, verifier.evidence.checks) == ((), len(RULES) + CHECKS)
    await verifier._once()
    assert watched.changes == 1, "the same result wakes nobody"
    await admin.execute("ALTER TABLE unjucks.artifact NO FORCE ROW LEVEL SECURITY")
    await admin.execute("CREATE POLICY leak ON unjucks.catalog USING (true)")
    await admin.execute("GRANT SELECT ON unjucks.generation_run TO PUBLIC")
    latest = await verifier._once()
    assert latest is not None
    assert watched.changes == 2
    assert any("unjucks.artifact has no forced row security" in text for text in latest.failures)
    assert any("leak on unjucks.catalog" in text for text in latest.failures)
    assert any("SELECT on unjucks.generation_run for PUBLIC" in text for text in latest.failures)
    assert all(len(text) <= 256 for text in latest.failures), "they fit into status"
    assert await linted(database) == [], "it was mended after it was told"
    await verifier._once()
    assert watched.changes == 3
    assert verifier.evidence.failures == ()
    await watched.clock.advance(6 * 3600)
    await verifier._once()
    assert watched.changes == 4, "the time is told again after six hours"


async def test_what_hinders_the_canary_is_told_and_mended(
    database: Database, admin: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    await admin.execute("DROP POLICY tenant_rows ON unjucks.catalog")
    verifier = Watched(database).verifier
    latest = await verifier._once()
    assert latest is not None
    assert "policies missing: unjucks.catalog has no policy that keeps a tenant to its rows" in latest.failures
    assert any(text.startswith("canary: it could not run") for text in latest.failures)
    latest = await verifier._once()
    assert latest is not None
    assert latest.failures == ()


async def test_what_cannot_be_mended_stays_told(
    database: Database, admin: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    watched = Watched(database)
    await admin.execute(
        "CREATE VIEW public.leak AS SELECT * FROM unjucks.artifact; GRANT SELECT ON public.leak TO PUBLIC"
    )
    for _ in range(2):
        latest = await watched.verifier._once()
        assert latest is not None
        assert any("public.leak" in text for text in latest.failures)
    assert watched.changes == 1


async def test_without_the_database_nothing_is_claimed(unjucks_database: ReadyDatabase) -> None:
    async with unjucks_database.open(dsn="postgresql://nobody:x@127.0.0.1:1/none") as nowhere:
        watched = Watched(nowhere)
        assert await watched.verifier._once() is None
        assert watched.verifier.evidence is None
        assert watched.changes == 0
