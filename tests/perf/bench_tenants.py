"""How fast tenants are set up: N at once, from apply to Ready, beside a floor from the same run.

The floor is the same child objects, written by a plain asynchronous client that knows nothing of operators: for each tenant the
namespace first, then everything else side by side. Both run against a control plane of their own (etcd, kube-apiserver,
kube-controller-manager; started and removed here), one after the other and in the order that is worse for us (the floor first,
on the emptier cluster). The database is a real PostgreSQL. Prints one line of JSON.
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

import aiohttp
import orjson

from e2e.cluster.controlplane import ControlPlane, Options
from support.operator_process import OPERATOR_USER, Site, platform
from support.tenants import tenant_manifest
from unjucks_api.v1alpha1.tenant import Tenant
from unjucks_operator.config import Config
from unjucks_operator.kube.resources import TENANT, resource_of
from unjucks_operator.planning import Apply, IssueCertificate
from unjucks_operator.tenant.desired import Scope
from unjucks_operator.tenant.plan import Observed, plan_tenant

SIDE_BY_SIDE = 20


def manifests_of(name: str) -> list[dict[str, Any]]:
    """The children of one tenant, as the operator would write them."""
    from datetime import UTC, datetime

    body = tenant_manifest(name)
    body["metadata"] |= {
        "uid": f"00000000-0000-4000-8000-{abs(hash(name)) % 10**12:012d}",
        "generation": 1,
        "resourceVersion": "1",
    }
    config = Config()
    scope = Scope(Tenant.parse(body), config.tiers["starter"], config)
    plan = plan_tenant(scope, Observed(children={}, now=datetime.now(UTC)))
    filler = {"tls.crt": "A" * 1200, "tls.key": "A" * 320, "ca.crt": "A" * 900}
    found = []
    for action in plan.actions:
        if isinstance(action, Apply):
            found.append(action.manifest)
        elif isinstance(action, IssueCertificate):
            found.append(action.manifest | {"data": filler})
    return found


async def floor(site: Site, count: int) -> dict[str, float]:
    """Write the children of ``count`` tenants directly."""
    import ssl

    pair = site.plane.admin_pair
    tls = ssl.create_default_context(cafile=str(site.plane.ca))
    tls.load_cert_chain(pair.certificate, pair.key)
    gate = asyncio.Semaphore(SIDE_BY_SIDE)
    work = [manifests_of(f"floor-{number}") for number in range(count)]
    connector = aiohttp.TCPConnector(limit=64, ssl=tls)
    async with aiohttp.ClientSession(site.plane.server, connector=connector) as session:

        async def post(manifest: dict[str, Any]) -> None:
            path = resource_of(manifest).path(manifest["metadata"].get("namespace"))
            body = orjson.dumps(manifest)
            async with session.post(path, data=body, headers={"Content-Type": "application/json"}) as answer:
                await answer.read()
                answer.raise_for_status()

        async def one(manifests: list[dict[str, Any]]) -> None:
            async with gate:
                await post(manifests[0])
                await asyncio.gather(*(post(manifest) for manifest in manifests[1:]))

        started = time.monotonic()
        await asyncio.gather(*(one(manifests) for manifests in work))
        seconds = time.monotonic() - started
    return {
        "seconds": round(seconds, 3),
        "tenantsPerSecond": round(count / seconds, 2),
        "writesPerTenant": len(work[0]),
    }


async def operator(site: Site, count: int, database: str) -> dict[str, Any]:
    """Apply ``count`` Tenants and wait until each says Ready. ``database``: shared, or dedicated for one of its own for each."""
    tiers = {"starter": {"dedicatedDatabase": "Default" if database == "dedicated" else "Never"}}
    async with site.operator(tiers=tiers) as process:
        await asyncio.sleep(1.0)
        mark = await asyncio.to_thread(site.plane.audit_mark)
        applied: dict[str, float] = {}
        ready: dict[str, float] = {}
        started = time.monotonic()
        _, version = await site.api.list_all(TENANT)

        async def observe() -> None:
            async for event in site.api.watch(TENANT, resource_version=version):
                if event.type not in ("ADDED", "MODIFIED"):
                    continue
                body = event.object
                conditions = (body.get("status") or {}).get("conditions") or ()
                if any(it["type"] == "Ready" and it["status"] == "True" for it in conditions):
                    ready.setdefault(body["metadata"]["name"], time.monotonic())
                    if len(ready) == count:
                        return

        watching = asyncio.create_task(observe())
        gate = asyncio.Semaphore(SIDE_BY_SIDE)

        async def apply(name: str) -> None:
            async with gate:
                applied[name] = time.monotonic()
                await site.api.create(tenant_manifest(name), manager="bench")

        await asyncio.gather(*(apply(f"bench-{number}") for number in range(count)))
        async with asyncio.timeout(600):
            while not watching.done():
                await asyncio.sleep(0.5)
                if sys.stderr.isatty():
                    print(f"\r{len(ready)}/{count} ready", end="", file=sys.stderr)
        watching.result()
        seconds = max(ready.values()) - started
        rss = _rss(process.process.pid)
        await asyncio.sleep(2.0)
        writes = await asyncio.to_thread(site.plane.writes, mark, user=OPERATOR_USER)
    waits = sorted(ready[name] - applied[name] for name in applied)
    ours = [write for write in writes if write.resource != "leases"]
    return {
        "seconds": round(seconds, 3),
        "tenantsPerSecond": round(count / seconds, 2),
        "p50Seconds": round(statistics.median(waits), 3),
        "p95Seconds": round(waits[int(len(waits) * 0.95) - 1], 3),
        "writesPerTenant": round(len(ours) / count, 2),
        "rssMiB": rss,
    }


def _rss(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return round(int(line.split()[1]) / 1024, 1)
    return 0.0


async def bench(count: int, database: str) -> dict[str, Any]:
    """Both, on one control plane."""
    with tempfile.TemporaryDirectory() as folder, ControlPlane.start(Options()) as plane:
        async with platform(plane, Path(folder)) as site:
            lowest = await floor(site, count)
            ours = await operator(site, count, database)
    ratio = round(ours["tenantsPerSecond"] / lowest["tenantsPerSecond"], 3)
    return {
        "bench": "tenants",
        "tenants": count,
        "database": database,
        "operator": ours,
        "floor": lowest,
        "ratioToFloor": ratio,
    }


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--tenants", type=int, default=100, help="how many (default: %(default)s)")
    parser.add_argument("--database", choices=("shared", "dedicated"), default="shared", help="where their records are")
    options = parser.parse_args()
    print(json.dumps(asyncio.run(bench(options.tenants, options.database))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
