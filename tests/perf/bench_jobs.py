"""How fast jobs are: N small jobs at a steady rate on one warm renderer, from apply to Complete, then as fast as they go.

Everything is real but the kubelet (see ``support.standin_kubelet``): API server, PostgreSQL, operator process, renderer process,
mutual TLS. The floor of the same run is what a client needs to create an object and see it, through the same API server. Prints
one line of JSON.
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
from support.job_series import run_series, summary
from support.jobs import job_manifest, registry_manifest, wait_job
from support.operator_process import Site, platform
from support.tenants import tenant_manifest
from unjucks_operator.kube.resources import CONFIG_MAP

NS = "tenant-bench"


async def series(site: Site, names: list[str], rate: float) -> dict[str, Any]:
    """Create the jobs, ``rate`` a second (0: at once), and wait for all to be Complete."""
    started = time.monotonic()
    times = await run_series(site.api, [job_manifest(NS, name, {"name": "bob"}) for name in names], rate=rate)
    return summary(times) | {"jobsPerSecond": round(len(names) / (time.monotonic() - started), 2)}


async def floor(site: Site, count: int) -> float:
    """p50 in milliseconds of create → seen in a watch, for a ConfigMap."""
    _, version = await site.api.list_all(CONFIG_MAP, namespace=NS)
    seen: dict[str, float] = {}

    async def observe() -> None:
        async for event in site.api.watch(CONFIG_MAP, resource_version=version):
            seen.setdefault(event.object["metadata"]["name"], time.monotonic())
            if sum(name.startswith("floor-") for name in seen) == count:
                return

    watching = asyncio.create_task(observe())
    applied = {}
    for number in range(count):
        name = f"floor-{number}"
        applied[name] = time.monotonic()
        manifest = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": NS},
            "data": {"a": "b"},
        }
        await site.api.create(manifest, manager="bench")
        await asyncio.sleep(0.02)
    await asyncio.wait_for(watching, 60)
    return round(statistics.median(seen[name] - applied[name] for name in applied) * 1000, 2)


async def bench(count: int, rate: float) -> dict[str, Any]:
    """The whole measurement."""
    with tempfile.TemporaryDirectory() as folder, ControlPlane.start(Options(audit="")) as plane:
        async with platform(plane, Path(folder)) as site, site.operator(renderer={"idleAfter": 900}):
            await site.apply(tenant_manifest("bench", tier="professional", renderers={"min": 1, "max": 1}))
            await site.wait_for("tenant/bench", "condition=Ready", 120)
            await site.apply(registry_manifest(NS))
            await site.wait_for("templateregistry/templates", "condition=Ready", 120, NS)
            for number in range(3):
                await site.apply(job_manifest(NS, f"warm-{number}", {"name": "bob"}))
                await wait_job(site, NS, f"warm-{number}", 120)
            lowest = await floor(site, 50)
            steady = await series(site, [f"steady-{number}" for number in range(count)], rate)
            burst = await series(site, [f"burst-{number}" for number in range(min(count, 150))], 0)
    return {
        "bench": "jobs",
        "jobs": count,
        "rate": rate,
        "steady": steady,
        "burstJobsPerSecond": burst["jobsPerSecond"],
        "floorP50Ms": lowest,
        "p50ToFloor": round(steady["p50Ms"] / lowest, 1),
    }


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--jobs", type=int, default=200, help="how many (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=5.0, help="jobs a second (default: %(default)s)")
    options = parser.parse_args()
    print(json.dumps(asyncio.run(bench(options.jobs, options.rate))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
