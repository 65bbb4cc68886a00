"""A tenant with rows in a busy shared database, and writers that know what was acknowledged: for tests of moves."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

import asyncpg

from support.database import ReadyDatabase, new_uid
from unjucks_api.tree import tree_digest
from unjucks_operator import errors
from unjucks_operator.database.artifacts import Artifacts
from unjucks_operator.database.homes import Homes
from unjucks_operator.database.ledger import Ledger
from unjucks_operator.database.move import TABLES
from unjucks_operator.database.placement import Home, Placement

DIGEST = "sha256:" + "1" * 64
ROWS = 130
"""Each tenant begins with so many: more than one batch of the tests'."""
OTHER = {Home.SHARED: Home.DEDICATED, Home.DEDICATED: Home.SHARED}


STEPS = (
    "preparing: target exists", "preparing: target takes rows", "preparing: target is empty", "copying: artifact was read",
    "copying: batch of artifact", "copying: batch of catalog", "copying: generation_run was read",
    "copying: batch of generation_run",
    "copying: changes", "fencing: nobody writes", "fencing: changes are over", "fencing: deletions are over",
    "verifying: target is sealed", "verifying: both sides are equal", "switching: decided", "switching: target is open",
    "switching: source is closed",
)  # fmt: skip
"""Every place where a move can be cut off."""


@dataclass
class Load:
    """Writers that claim, publish and delete runs, and know what was acknowledged."""

    homes: Homes
    role: str
    rows: dict[str, str] = field(default_factory=dict)
    """Job UID -> state, of what was acknowledged and not changed since."""
    trees: set[str] = field(default_factory=set)
    acknowledged: int = 0
    longest: float = 0.0
    stop: bool = False
    pause: float = 0.004
    """Seconds between two writes of a writer."""

    async def write(self, seed: int) -> None:
        rng, ledger = random.Random(seed), Ledger(self.homes.router)
        artifacts = Artifacts(self.homes.router)
        loop = asyncio.get_running_loop()

        async def insist(work: Callable[[], Awaitable[object]]) -> None:
            began = loop.time()
            while True:
                try:
                    await work()
                    break
                except (errors.Waiting, errors.Retryable):
                    await asyncio.sleep(0.01)
            self.longest = max(self.longest, loop.time() - began)
            self.acknowledged += 1

        mine: list[str] = []
        while not self.stop:
            await asyncio.sleep(self.pause)
            choice = rng.random()
            if choice < 0.5 or not mine:
                job = new_uid()
                await insist(partial(ledger.claim, self.role, job, "k", holder="h"))
                mine.append(job)
                self.rows[job] = "claimed"
            elif choice < 0.75:
                job = rng.choice(mine)
                if self.rows[job] == "claimed":

                    async def render(job: str = job) -> None:
                        run = await ledger.lookup(self.role, job, "k")
                        assert run is not None, f"{job} was acknowledged and is gone"
                        await ledger.record_rendered(self.role, job, "k", run.attempt, DIGEST)

                    await insist(render)
                    self.rows[job] = "rendered"
            elif choice < 0.9:
                job = mine.pop(rng.randrange(len(mine)))

                async def delete(job: str = job) -> None:
                    async with self.homes.router.tenant_tx(self.role) as connection:
                        await connection.execute(
                            "DELETE FROM unjucks.generation_run WHERE job_uid = $1::text::uuid", job
                        )

                await insist(delete)
                del self.rows[job]
            else:
                tree = {"f": (rng.randbytes(2000), 0o644)}
                digest = tree_digest(tree)
                await insist(partial(artifacts.put, self.role, digest, tree))
                self.trees.add(digest)


class Place:
    """One tenant with rows in a busy shared database, and what a test needs to look behind the curtain."""

    def __init__(self, ready: ReadyDatabase, homes: Homes) -> None:
        self.ready, self.homes = ready, homes
        self.uid, self.stranger = new_uid(), new_uid()
        self.role = ""

    async def fill(self, count: int = ROWS) -> None:
        self.role = (await self.homes.ensure(self.uid, "acme")).role
        other = (await self.homes.ensure(self.stranger, "acme2")).role
        async with self.ready.as_admin() as admin:
            for uid in (self.uid, self.stranger):
                await admin.execute(
                    "INSERT INTO unjucks.generation_run (tenant_id, job_uid, run_key, holder, output) SELECT $1::text::uuid, "
                    "gen_random_uuid(), 'old' || i, 'h', '{\"b\": 1.50, \"a\": [null, \"ü\"]}' FROM generate_series(1, $2::int) i",
                    uid, count,
                )  # fmt: skip
        await Artifacts(self.homes.router).put(other, tree_digest({"x": (b"y", 0o644)}), {"x": (b"y", 0o644)})

    async def placement(self) -> Placement:
        return await self.homes.mover._placements.of(self.uid)

    async def connect(self, home: Home) -> "asyncpg.Connection[asyncpg.Record]":
        return await asyncpg.connect(self.ready.server.dsn(self.ready.name if home is Home.SHARED else self.role))

    async def rows(self, home: Home) -> dict[str, dict[str, str]]:
        """Per table: key -> the whole row as text; of this tenant only."""
        connection = await self.connect(home)
        try:
            found = {}
            for table in TABLES:
                rows = await connection.fetch(
                    f"SELECT {' || '.join(f'{key}::text' for key in table.key)} AS key, t::text AS row "
                    f"FROM unjucks.{table.name} t WHERE tenant_id = $1::text::uuid", self.uid,
                )  # fmt: skip
                found[table.name] = {row["key"]: row["row"] for row in rows}
            return found
        finally:
            await connection.close()

    async def foreign(self) -> int:
        """Rows of anybody else in the tenant's own database."""
        connection = await self.connect(Home.DEDICATED)
        try:
            counts = [
                await connection.fetchval(
                    f"SELECT count(*) FROM unjucks.{table.name} WHERE tenant_id <> $1::text::uuid", self.uid
                )
                for table in TABLES
            ]
            return sum(counts)
        finally:
            await connection.close()

    async def check(self, load: Load, home: Home) -> None:
        """Exactly what was acknowledged is there."""
        rows = await self.rows(home)
        states = {key.removesuffix("k"): row for key, row in rows["generation_run"].items() if key.endswith("k")}
        assert set(states) == set(load.rows)
        wrong = [job for job, state in load.rows.items() if f",{state}," not in states[job]]
        assert wrong == []
        assert load.trees <= set(rows["artifact"])
        assert await self.foreign() == 0
