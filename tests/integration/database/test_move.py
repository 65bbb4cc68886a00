"""Moving a tenant's rows between the shared database and its own, while it works: crashes at every step, and nothing lost."""

import asyncio
import random
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from support.database import ReadyDatabase, new_uid
from support.moving import OTHER, ROWS, STEPS, Load, Place
from support.pgproxy import postgres_proxy
from unjucks_operator import errors
from unjucks_operator.config import Config
from unjucks_operator.database.homes import Homes
from unjucks_operator.database.ledger import Ledger
from unjucks_operator.database.move import TABLES, Mover
from unjucks_operator.database.placement import Home, Phase, Placement
from unjucks_operator.database.pool import PoolSettings

pytestmark = [pytest.mark.integration, pytest.mark.timeout(150)]


class Crash(BaseException):
    """The process ends here."""


@pytest.fixture
async def place(shared_database: ReadyDatabase, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    monkeypatch.setattr("unjucks_operator.database.move.BATCH_ROWS", 50)
    async with shared_database.open() as platform:
        homes = Homes(platform, Config())
        made = Place(shared_database, homes)
        await made.fill()
        yield made
        await homes.close()


async def finish(mover: Mover, placement: Placement) -> Placement:
    while placement.move is not None:
        try:
            placement = await mover.advance(placement)
        except errors.Retryable:
            placement = await mover._placements.of(placement.uid)
    return placement


async def test_the_list_of_tables_is_the_catalogs(shared_database: ReadyDatabase) -> None:
    async with shared_database.as_admin() as admin:
        rows = await admin.fetch(
            "SELECT c.relname, array_agg(a.attname::text ORDER BY a.attnum) FILTER (WHERE a.attname <> 'tenant_id') AS columns, "
            "  (SELECT array_agg(k.attname::text || ' ' || format_type(k.atttypid, k.atttypmod) "
            "                   ORDER BY array_position(i.indkey, k.attnum)) "
            "     FROM pg_index i JOIN pg_attribute k ON k.attrelid = c.oid AND k.attnum = ANY (i.indkey) "
            "    WHERE i.indrelid = c.oid AND i.indisprimary AND k.attname <> 'tenant_id') AS key "
            "FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped "
            "WHERE c.relnamespace = 'unjucks'::regnamespace AND c.relkind = 'r' "
            "AND EXISTS (SELECT FROM pg_attribute t WHERE t.attrelid = c.oid AND t.attname = 'tenant_id') GROUP BY c.oid, c.relname"
        )
    assert {row["relname"]: (row["columns"], row["key"]) for row in rows} == {
        table.name: (list(table.columns), [f"{name} {kind}" for name, kind in table.typed_key]) for table in TABLES
    }


async def test_killed_at_every_step_and_resumed_under_load(place: Place) -> None:
    """To and fro, a crash at another step each time; another operator (another instance, nothing remembered) goes on."""
    load = Load(place.homes, place.role)
    writers = [asyncio.create_task(load.write(seed)) for seed in range(3)]
    seen: set[str] = set()
    async with place.ready.open() as platform:
        other = Homes(platform, Config())
        target = Home.DEDICATED
        for step in (*STEPS, "nowhere"):

            async def crash(where: str, step: str = step) -> None:
                seen.add(where)
                if where == step:
                    raise Crash

            place.homes.mover._checkpoint = crash
            placement = await place.homes.mover.start(await place.placement(), target)
            try:
                placement = await finish(place.homes.mover, placement)
                assert step == "nowhere", f"never came to {step}"
            except Crash:
                placement = await finish(other.mover, await place.placement())
            assert placement.home is target
            target = OTHER[target]
        load.stop = True
        await asyncio.gather(*writers)
        await other.close()
    assert set(STEPS) <= seen
    await place.check(load, placement.home)
    assert load.acknowledged > 300
    print(
        f"{load.acknowledged} acknowledged writes, {len(STEPS)} crashes, longest wait of a write {load.longest:.2f} s"
    )
    async with place.ready.as_admin() as admin:
        assert await admin.fetchval(
            "SELECT count(*) FROM unjucks.generation_run WHERE tenant_id = $1::text::uuid", place.stranger
        ) == ROWS  # fmt: skip


async def test_both_sides_are_equal_and_the_source_is_kept_closed(place: Place) -> None:
    before = await place.rows(Home.SHARED)
    placement = await finish(place.homes.mover, await place.homes.mover.start(await place.placement(), Home.DEDICATED))
    assert await place.rows(Home.DEDICATED) == before == await place.rows(Home.SHARED)
    assert placement.move_progress["sums"]["generation_run"][0] == str(ROWS)
    assert placement.clear_after is not None
    # Whoever still thinks that they are in the shared database is told, in both directions.
    for purpose in ("read", "write", "load"):
        with pytest.raises(errors.Waiting, match="another database"):
            async with place.homes._platform.tenant_tx(place.role, purpose=purpose, move=uuid.uuid4()):
                pytest.fail("it was let in")
    place.homes.router.learn(place.role, None)  # an old idea
    await Ledger(place.homes.router).claim(place.role, new_uid(), "after", holder="h")
    assert len((await place.rows(Home.DEDICATED))["generation_run"]) == ROWS + 1
    assert len((await place.rows(Home.SHARED))["generation_run"]) == ROWS
    # What was left goes when its time is over.
    async with place.ready.as_admin() as admin:
        await admin.execute("UPDATE unjucks_ops.placement SET clear_after = now() WHERE role_name = $1", place.role)
    assert not (await place.homes.sweep())[place.uid].healthy
    await place.homes.ensure(place.uid, "acme")
    assert (await place.homes.sweep())[place.uid].healthy
    assert sum(map(len, (await place.rows(Home.SHARED)).values())) == 0
    assert len((await place.rows(Home.DEDICATED))["generation_run"]) == ROWS + 1


async def test_taken_back_at_every_step_before_the_decision(place: Place) -> None:
    load = Load(place.homes, place.role)
    writers = [asyncio.create_task(load.write(seed)) for seed in range(2)]
    mover = place.homes.mover
    for step in STEPS[: STEPS.index("switching: decided") : 2]:  # a crash at each of them: the test above

        async def crash(where: str, step: str = step) -> None:
            if where == step:
                raise Crash

        mover._checkpoint = crash
        placement = await mover.start(await place.placement(), Home.DEDICATED)
        with pytest.raises(Crash):
            await finish(mover, placement)
        for stop in ("rollback: noted", "rollback: target closed", "rollback: source open", ""):

            async def crash_again(where: str, stop: str = stop) -> None:
                if where == stop:
                    raise Crash

            mover._checkpoint = crash_again
            try:
                state = await place.homes.move(place.uid, "acme", "Shared")
            except Crash:
                continue
        assert (state.home, state.move_phase) == (Home.SHARED, None)
    load.stop = True
    await asyncio.gather(*writers)
    await place.check(load, Home.SHARED)
    assert (await place.homes.ensure(place.uid, "acme")).home is Home.SHARED


async def test_a_decided_move_is_not_taken_back_halfway(place: Place) -> None:
    async def crash(where: str) -> None:
        if where == "switching: decided":
            raise Crash

    mover = place.homes.mover
    mover._checkpoint = crash
    with pytest.raises(Crash):
        await finish(mover, await mover.start(await place.placement(), Home.DEDICATED))
    placement = await place.placement()
    assert (placement.home, placement.move_phase) == (Home.DEDICATED, Phase.SWITCHING)
    ended = await mover.give_up(placement)
    assert (ended.home, ended.move) == (Home.DEDICATED, None)
    await Ledger(place.homes.router).claim(place.role, new_uid(), "k", holder="h")


async def test_a_copier_that_wakes_up_late_writes_nothing(place: Place) -> None:
    """Two operators: one reads a batch and stalls; the other one finishes; the batch must not go over what was written since."""
    woken, stalled = asyncio.Event(), asyncio.Event()

    async def stall(where: str) -> None:
        if where == "copying: generation_run was read":
            stalled.set()
            await woken.wait()

    slow = Mover(place.homes._platform, place.homes.own, place.homes.dedicated, place.homes.router, checkpoint=stall)
    placement = await place.homes.mover.start(await place.placement(), Home.DEDICATED)
    late = asyncio.create_task(finish(slow, placement))
    await stalled.wait()
    placement = await finish(place.homes.mover, await place.placement())
    assert placement.home is Home.DEDICATED
    async with place.homes.router.tenant_tx(place.role) as connection:
        await connection.execute("UPDATE unjucks.generation_run SET holder = 'newer'")
    woken.set()
    with pytest.raises(errors.OperatorError):
        await late
    rows = (await place.rows(Home.DEDICATED))["generation_run"]
    assert len(rows) == ROWS
    assert all(",newer," in row for row in rows.values())


async def test_a_difference_between_the_sides_is_noticed_and_mended(place: Place) -> None:
    damaged = False

    async def damage(where: str) -> None:
        nonlocal damaged
        if where == "fencing: deletions are over" and not damaged:
            damaged = True
            connection = await place.connect(Home.DEDICATED)
            await connection.execute("UPDATE unjucks.generation_run SET holder = 'x' WHERE run_key IN ('old1', 'old7')")
            await connection.execute("DELETE FROM unjucks.generation_run WHERE run_key = 'old2'")
            await connection.close()

    place.homes.mover._checkpoint = damage
    placement = await finish(place.homes.mover, await place.homes.mover.start(await place.placement(), Home.DEDICATED))
    assert damaged
    assert placement.home is Home.DEDICATED
    assert await place.rows(Home.DEDICATED) == await place.rows(Home.SHARED)


async def test_the_connection_is_cut_at_requests_of_a_move(place: Place) -> None:
    """Lost requests and lost answers, the commit's too; a new operator goes on each time."""
    server = place.ready.server
    quick = PoolSettings(backoff_initial=0.01, backoff_max=0.05)
    rng = random.Random(5)
    cuts = 0
    async with postgres_proxy("127.0.0.1", server.port) as proxy:
        for target in (Home.DEDICATED, Home.SHARED):
            async with place.ready.open(proxy.dsn(place.ready.dsn), quick) as platform:
                homes = Homes(platform, Config())
                placement = await homes.mover.start(await place.placement(), target)
                left = 10
                while placement.move is not None:
                    if left > 0:
                        proxy.arm(rng.randint(1, 40), rng.choice(("before", "after")))
                    try:
                        placement = await homes.mover.advance(placement)
                    except errors.Retryable:
                        cuts, left = cuts + 1, left - 1
                        placement = await place.placement()
                    proxy.disarm()
                await homes.close()
            assert placement.home is target
            assert await place.foreign() == 0
            assert len((await place.rows(target))["generation_run"]) == ROWS
    assert cuts > 5


async def test_a_fence_waits_for_whoever_is_writing(place: Place) -> None:
    mover = place.homes.mover
    placement = await mover.start(await place.placement(), Home.DEDICATED)
    while placement.move_phase is not Phase.FENCING:
        placement = await mover.advance(placement)
    job = new_uid()
    async with place.homes.router.tenant_tx(place.role) as connection:
        await connection.execute(
            "INSERT INTO unjucks.generation_run (tenant_id, job_uid, run_key, holder) "
            "SELECT tenant_id, $1::text::uuid, 'slow', 'h' FROM unjucks_ops.tenant", job,
        )  # fmt: skip
        fencing = asyncio.create_task(mover.advance(placement))
        await asyncio.sleep(0.3)
        assert not fencing.done()
    placement = await finish(mover, await fencing)
    assert any(key.startswith(job) for key in (await place.rows(Home.DEDICATED))["generation_run"])
    assert timedelta(0) < placement.clear_after - placement.moved_at  # type: ignore[operator]
