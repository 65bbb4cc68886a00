"""How long somebody's edit stands: every child of a tenant deleted, and each field that the operator holds changed and taken away.

A real API server with its controllers, a real operator, one edit at a time. Prints one line of JSON; the goal is a p95 of at most
two seconds. The floor is what one reading of the API server takes here, as each repair is seen by reading.
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
from support.drift import Repair, children, delete_child, edit_child, summary, telling
from support.operator_process import Site, platform
from support.tenants import tenant_manifest
from unjucks_operator.kube.resources import NAMESPACE


async def floor(site: Site) -> float:
    """Seconds of one read."""
    times = []
    for _ in range(50):
        started = time.monotonic()
        await site.api.get(NAMESPACE, "tenant-drift")
        times.append(time.monotonic() - started)
    return statistics.median(times)


async def bench(tenants: int) -> dict[str, Any]:
    """One tenant is edited while others exist beside it."""
    with tempfile.TemporaryDirectory() as folder, ControlPlane.start(Options()) as plane:
        async with platform(plane, Path(folder)) as site, site.operator():
            await site.apply(
                *(tenant_manifest(f"other-{number}") for number in range(tenants - 1)), tenant_manifest("drift")
            )
            await site.kubectl("wait", "tenant", "--all", "--for=condition=Ready", "--timeout=120s")
            lowest = await floor(site)
            edited: list[Repair] = []
            deleted: list[Repair] = []
            for resource, body in await children(site, "drift"):
                metadata = body["metadata"]
                edited += await edit_child(
                    site, resource, metadata["name"], metadata.get("namespace"), take_away=True, wanted=telling
                )
            for resource, body in await children(site, "drift"):
                if resource is not NAMESPACE:  # it takes its content along; how fast that goes is the cluster's affair
                    deleted.append(await delete_child(site, resource, body))
    return {
        "bench": "drift",
        "tenants": tenants,
        "edited": summary(edited),
        "deleted": summary(deleted),
        "floorSeconds": round(lowest, 4),
        "ratioToFloor": round(summary([*edited, *deleted])["p50Seconds"] / lowest, 1),
    }


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--tenants", type=int, default=20, help="how many there are (default: %(default)s)")
    options = parser.parse_args()
    print(json.dumps(asyncio.run(bench(options.tenants))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
