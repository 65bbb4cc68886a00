"""What the database part costs: one JSON line. ``python tests/perf/bench_database.py --tenants 1000 [--concurrency 8]``.

Starts a PostgreSQL of its own (fsync off, so the disk is not what is measured). Figures are of this machine at this moment; the
ratios are what travels.
"""

import argparse
import asyncio
import json
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "operator")]

from support.database import new_uid, ready_database  # noqa: E402
from support.postgres import PostgresServer  # noqa: E402
from unjucks_api.names import database_role  # noqa: E402
from unjucks_api.tree import tree_digest  # noqa: E402
from unjucks_operator.database.artifacts import Artifacts  # noqa: E402
from unjucks_operator.database.ledger import Ledger  # noqa: E402
from unjucks_operator.database.pool import Database, PoolSettings  # noqa: E402
from unjucks_operator.database.tenants import Tenants  # noqa: E402

DIGEST = "sha256:" + "1" * 64


async def spread(work: list[Callable[[], Awaitable[Any]]], concurrency: int) -> dict[str, float]:
    """Runs all of ``work``, ``concurrency`` at a time: rate per second, and p50/p95 of one in milliseconds."""
    times: list[float] = []
    queue = iter(work)

    async def worker() -> None:
        for each in queue:
            start = time.perf_counter()
            await each()
            times.append(time.perf_counter() - start)

    start = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(concurrency)))
    wall = time.perf_counter() - start
    times.sort()
    return {
        "per_second": round(len(times) / wall, 1),
        "p50_ms": round(1000 * statistics.median(times), 2),
        "p95_ms": round(1000 * times[max(0, int(len(times) * 0.95) - 1)], 2),
    }


async def run_job(ledger: Ledger, role: str) -> None:
    job = new_uid()
    claim = await ledger.claim(role, job, "k", holder="bench")
    await ledger.record_rendered(role, job, "k", claim.attempt, DIGEST)
    await ledger.record_published(role, job, "k", claim.attempt, DIGEST, {"kind": "ConfigMap", "name": "x"})


async def timed(work: Awaitable[Any]) -> float:
    start = time.perf_counter()
    await work
    return round(1000 * (time.perf_counter() - start), 2)


async def measure(database: Database, tenants: int, concurrency: int) -> dict[str, Any]:
    uids = [new_uid() for _ in range(tenants)]
    hands, ledger, artifacts = Tenants(database), Ledger(database), Artifacts(database)
    found: dict[str, Any] = {}
    floor = [lambda: database.ping() for _ in range(min(tenants, 500))]
    found["empty_transaction"] = await spread(floor, concurrency)
    found["ensure_new"] = await spread([lambda uid=uid: hands.ensure(uid, "tenant") for uid in uids], concurrency)  # type: ignore[misc]
    found["ensure_again"] = await spread([lambda uid=uid: hands.ensure(uid, "tenant") for uid in uids], concurrency)  # type: ignore[misc]
    found["sweep_ms"] = [await timed(hands.sweep()) for _ in range(3)]
    roles = [database_role(uid) for uid in uids]
    random.Random(1).shuffle(roles)
    some = roles[:300]
    found["run_of_a_job"] = await spread([lambda role=role: run_job(ledger, role) for role in some], concurrency)  # type: ignore[misc]
    # What every session pays once after any role of the server has changed: it computes anew whom it may become.
    await hands.ensure(new_uid(), "tenant")
    found["lookup_after_role_change_ms"] = await timed(ledger.lookup(roles[0], new_uid(), "k"))
    found["lookup_ms"] = await timed(ledger.lookup(roles[1], new_uid(), "k"))
    tree = {f"templates/{n}.njk": (os.urandom(512) + b"{{ name }}\n" * 90, 0o644) for n in range(200)}
    digest = tree_digest(tree)
    found["tree"] = {"files": len(tree), "bytes": sum(len(content) for content, _ in tree.values())}
    found["put_tree_ms"] = await timed(artifacts.put(roles[0], digest, tree))
    found["get_tree_ms"] = await timed(artifacts.get(roles[0], digest))
    return found


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tenants", type=int, default=1000)
    parser.add_argument("--concurrency", type=int, default=8)
    options = parser.parse_args()
    started = time.perf_counter()
    with PostgresServer() as server:
        start_ms = round(1000 * (time.perf_counter() - started))
        settings = PoolSettings(max_connections=options.concurrency)
        async with ready_database(server) as ready, ready.open(settings=settings) as database:
            result = await measure(database, options.tenants, options.concurrency)
    print(
        json.dumps(
            {
                "bench": "database", "tenants": options.tenants, "concurrency": options.concurrency, "server_start_ms": start_ms,
                **result, "load": round(os.getloadavg()[0], 1), "cpus": os.cpu_count(), "python": platform.python_version(),
            }
        )
    )  # fmt: skip


if __name__ == "__main__":
    asyncio.run(main())
