"""A process that moves a tenant's rows is killed by SIGKILL at every step, under load; another process takes up what it left."""

import asyncio
import signal
from pathlib import Path

import pytest

from support import mover_process
from support.database import ReadyDatabase
from support.moving import OTHER, ROWS, STEPS, Load, Place
from unjucks_operator.config import Config
from unjucks_operator.database.homes import Homes
from unjucks_operator.database.move import TABLES
from unjucks_operator.database.placement import Home

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]


async def _process(place: Place, target: Home, step: str, journal: Path) -> tuple[int | None, list[str]]:
    """One process: its exit code (negative: the signal) and the steps that it came to."""
    ready = place.ready
    journal.write_text("")
    where = (ready.dsn, ready.prefix, place.uid, "acme", target.value.capitalize(), step, str(journal))
    process = await asyncio.to_thread(mover_process.start, *where)
    try:
        await asyncio.to_thread(process.join, 120)
        return process.exitcode, journal.read_text().splitlines()
    finally:
        process.kill()


async def test_sigkill_at_every_step_and_a_new_process_resumes(shared_database: ReadyDatabase, tmp_path: Path) -> None:
    async with shared_database.open() as platform:
        homes = Homes(platform, Config())
        place = Place(shared_database, homes)
        await place.fill()
        load = Load(homes, place.role, pause=0.05)
        writers = [asyncio.create_task(load.write(seed)) for seed in range(2)]
        target = Home.DEDICATED
        for step in STEPS:
            code, came_to = await _process(place, target, step, tmp_path / "steps")
            assert code == -signal.SIGKILL, f"never came to {step}: {came_to}"
            assert came_to[-1] == step
            target = OTHER[target]
        code, _ = await _process(place, target, "nowhere", tmp_path / "steps")
        assert code == 0
        load.stop = True
        await asyncio.gather(*writers)
        placement = await place.placement()
        assert (placement.home, placement.move) == (target, None)
        await place.check(load, target)
        # What the last switch left at the source is what went over: count and hash of every table are in the record.
        rows = await place.rows(target)
        assert {table.name for table in TABLES} == set(placement.move_progress["sums"])
        for name, (count, _) in placement.move_progress["sums"].items():
            assert len(rows[name]) >= int(count) > 0 or name == "catalog"
        assert load.acknowledged > 100
        print(
            f"{load.acknowledged} acknowledged writes, {len(STEPS)} kills, longest wait of a write {load.longest:.2f} s"
        )
        async with shared_database.as_admin() as admin:
            query = "SELECT count(*) FROM unjucks.generation_run WHERE tenant_id = $1::text::uuid"
            assert await admin.fetchval(query, place.stranger) == ROWS
        await homes.close()
