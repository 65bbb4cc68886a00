"""Many tenants at once: 1,000 jobs of 50 tenants, first evenly, then with one greedy tenant that comes first with most of them.

    evenly: every tenant has the same number of jobs, created in turns. ``worstToMedian``: the p95 of the tenant that waits
            longest to that of the median tenant.
    greedy: one tenant creates half of all jobs before anybody else. ``othersToAlone``: the median p95 of the others, to what
            it is when the same jobs of the others run alone; ``worstToMedian`` is about the others.

Everything is real but the kubelet (see ``support.standin_kubelet``). Prints one line of JSON.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from e2e.cluster.controlplane import ControlPlane, Options
from support.job_series import by_namespace, in_ms, p95, run_series, summary
from support.jobs import job_manifest, registry_manifest
from support.operator_process import Site, platform
from support.tenants import tenant_manifest


def jobs_of(tenant: int, series: str, count: int) -> list[dict[str, Any]]:
    """Small jobs of one tenant."""
    return [job_manifest(f"tenant-t{tenant}", f"{series}-{number}", {"name": "bob"}) for number in range(count)]


def in_turns(lists: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """One of each list, then the next of each."""
    return [item for row in zip(*lists, strict=True) for item in row]


def spread(times: dict[tuple[str, str], float]) -> dict[str, float]:
    """How alike the tenants' p95 are."""
    values = sorted(p95(seconds) for seconds in by_namespace(times).values())
    middle = statistics.median(values)
    return {
        "medianP95Ms": in_ms(middle),
        "worstP95Ms": in_ms(values[-1]),
        "worstToMedian": round(values[-1] / middle, 2),
    }


async def prepare(site: Site, tenants: int) -> None:
    """Tenants with a warm renderer each, and a registry."""
    started = time.monotonic()
    for first in range(0, tenants, 5):
        numbers = range(first, min(first + 5, tenants))
        renderers = {"min": 1, "max": 1}
        await site.apply(*(tenant_manifest(f"t{it}", tier="professional", renderers=renderers) for it in numbers))
        for it in numbers:
            await site.wait_for(f"tenant/t{it}", "condition=Ready", 120)
        await site.apply(*(registry_manifest(f"tenant-t{it}") for it in numbers))
        for it in numbers:
            await site.wait_for("templateregistry/templates", "condition=Ready", 120, f"tenant-t{it}")
        print(f"{first + len(numbers)} of {tenants} tenants, {time.monotonic() - started:.0f} s", file=sys.stderr)
    await run_series(site.api, in_turns([jobs_of(it, "warm", 1) for it in range(tenants)]))


async def bench(tenants: int, count: int) -> dict[str, Any]:
    """The whole measurement."""
    each = count // tenants
    with tempfile.TemporaryDirectory() as folder, ControlPlane.start(Options(audit="")) as plane:
        async with platform(plane, Path(folder)) as site, site.operator(renderer={"idleAfter": 3600}):
            await prepare(site, tenants)
            started = time.monotonic()
            even = await run_series(site.api, in_turns([jobs_of(it, "even", each) for it in range(tenants)]))
            wall = time.monotonic() - started
            print(f"evenly: {wall:.1f} s", file=sys.stderr)
            few = max(count // 2 // (tenants - 1), 1)
            alone = await run_series(site.api, in_turns([jobs_of(it, "alone", few) for it in range(1, tenants)]))
            greedy = jobs_of(0, "greedy", count // 2)
            others = in_turns([jobs_of(it, "other", few) for it in range(1, tenants)])
            began = time.monotonic()
            both = await run_series(site.api, greedy + others)
            print(f"greedy: {time.monotonic() - began:.1f} s", file=sys.stderr)
    beside = {key: seconds for key, seconds in both.items() if key[0] != "tenant-t0"}
    first = {key: seconds for key, seconds in both.items() if key[0] == "tenant-t0"}
    return {
        "bench": "fairness",
        "tenants": tenants,
        "jobs": len(even),
        "jobsPerSecond": round(len(even) / wall, 2),
        "evenly": summary(even) | spread(even),
        "greedy": summary(first) | {"jobs": len(first)},
        "others": summary(beside) | spread(beside) | {"jobs": len(beside)},
        "othersToAlone": round(spread(beside)["medianP95Ms"] / spread(alone)["medianP95Ms"], 2),
    }


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--tenants", type=int, default=50, help="how many (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=1000, help="of all tenants together (default: %(default)s)")
    options = parser.parse_args()
    if options.tenants < 2 or options.jobs < 2 * options.tenants:
        parser.error("at least two tenants, and two jobs for each")
    print(json.dumps(asyncio.run(bench(options.tenants, options.jobs))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
