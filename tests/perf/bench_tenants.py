"""How fast tenants are set up: N at once, from apply to Ready, beside a floor from the same run.

The floor is what nobody can do without, written by a plain asynchronous client that knows nothing of operators and decides nothing:
for each tenant the Tenant, its finalizer, the namespace, then all other children side by side, the status once and the two events
that tell of it; and in PostgreSQL a role with its row in one transaction, or a database too. As many writes as the operator makes,
each as its cheapest request. No watches, no certificates, no reading, no second look.

Both run against a control plane of their own (etcd, kube-apiserver, kube-controller-manager; started and removed here), one after
the other and in the order that is worse for us (the floor first, on the emptier cluster). The database is a real PostgreSQL.
Prints one line of JSON.
"""

import argparse
import asyncio
import json
import os
import ssl
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import orjson

from e2e.cluster.controlplane import ControlPlane, Options
from support.operator_process import OPERATOR_USER, Site, platform
from support.tenants import tenant_manifest
from unjucks_api.conditions import ConditionType
from unjucks_api.v1alpha1.tenant import Tenant
from unjucks_operator.config import Config
from unjucks_operator.kube.resources import EVENT, TENANT, resource_of
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


def status_of() -> dict[str, Any]:
    """A status of the size that the operator writes."""
    word = {
        "status": "True",
        "reason": "Reconciled",
        "message": "everything is as it has to be",
        "observedGeneration": 1,
    }
    kinds = [kind for kind in ConditionType if kind.value.endswith(("Ready", "Enforced", "Verified", "Isolated"))]
    stamp = {"lastTransitionTime": "2026-01-01T00:00:00Z"}
    return {"observedGeneration": 1, "conditions": [{"type": kind.value, **word, **stamp} for kind in kinds]}


def event_of(tenant: dict[str, Any], namespace: str) -> dict[str, Any]:
    """What tells people that a tenant is there."""
    regarding = {"kind": "Tenant", "apiVersion": TENANT.api_version, "name": tenant["metadata"]["name"]}
    if namespace != "default":
        regarding["namespace"] = namespace
    return {
        "apiVersion": EVENT.api_version,
        "kind": EVENT.kind,
        "metadata": {"name": f"{tenant['metadata']['name']}.{namespace[:8]}", "namespace": namespace},
        "type": "Normal",
        "reason": "Reconciled",
        "action": "Floor",
        "note": "ready",
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingController": "floor",
        "reportingInstance": "floor",
        "regarding": regarding | {"uid": tenant["metadata"]["uid"]},
    }


async def floor(site: Site, count: int, database: str) -> dict[str, float]:
    """Write what ``count`` tenants need directly."""
    pair = site.plane.admin_pair
    tls = ssl.create_default_context(cafile=str(site.plane.ca))
    tls.load_cert_chain(pair.certificate, pair.key)
    gate = asyncio.Semaphore(SIDE_BY_SIDE)
    work = [(tenant_manifest(f"floor-{number}"), manifests_of(f"floor-{number}")) for number in range(count)]
    connector = aiohttp.TCPConnector(limit=64, ssl=tls)
    writes = 0
    async with (
        aiohttp.ClientSession(site.plane.server, connector=connector) as session,
        asyncpg.create_pool(site.postgres.dsn(), min_size=4, max_size=8) as pool,
    ):
        await pool.execute("CREATE TABLE floor (name text PRIMARY KEY, role text NOT NULL)")

        async def send(method: str, path: str, body: Any, kind: str = "application/json") -> dict[str, Any]:
            nonlocal writes
            writes += 1
            async with session.request(method, path, data=orjson.dumps(body), headers={"Content-Type": kind}) as answer:
                content = await answer.read()
                answer.raise_for_status()
                return dict(orjson.loads(content))

        async def post(manifest: dict[str, Any]) -> dict[str, Any]:
            return await send("POST", resource_of(manifest).path(manifest["metadata"].get("namespace")), manifest)

        async def record(name: str) -> None:
            role = f'"{name}"'
            async with pool.acquire() as connection:
                async with connection.transaction():
                    await connection.execute(f"CREATE ROLE {role} NOLOGIN")
                    await connection.execute("INSERT INTO floor VALUES ($1, $2)", name, name)
                if database == "dedicated":
                    await connection.execute(f"CREATE DATABASE {role} TEMPLATE template0 STRATEGY wal_log")

        async def one(tenant: dict[str, Any], manifests: list[dict[str, Any]]) -> None:
            async with gate:
                made = await post(tenant)
                path = TENANT.path(None, made["metadata"]["name"])
                patch = {"metadata": {"finalizers": ["unjucks.io/tenant-cleanup"]}}
                made = await send("PATCH", path, patch, "application/merge-patch+json")
                await post(manifests[0])
                await asyncio.gather(record(made["metadata"]["name"]), *(post(manifest) for manifest in manifests[1:]))
                await send("PUT", f"{path}/status", made | {"status": status_of()})
                home = manifests[0]["metadata"]["name"]
                await asyncio.gather(post(event_of(made, "default")), post(event_of(made, home)))

        started = time.monotonic()
        await asyncio.gather(*(one(*item) for item in work))
        seconds, needed = time.monotonic() - started, writes
        for tenant, _ in work:  # out of the operator's way; not timed
            path = TENANT.path(None, tenant["metadata"]["name"])
            await send("PATCH", path, {"metadata": {"finalizers": None}}, "application/merge-patch+json")
            await send("DELETE", path, {})
    return {
        "seconds": round(seconds, 3),
        "tenantsPerSecond": round(count / seconds, 2),
        "writesPerTenant": round(needed / count, 2),
    }


async def operator(site: Site, count: int, database: str) -> dict[str, Any]:
    """Apply ``count`` Tenants and wait until each says Ready. ``database``: shared, or dedicated for one of its own for each."""
    tiers = {"starter": {"dedicatedDatabase": "Default" if database == "dedicated" else "Never"}}
    async with site.operator(tiers=tiers) as process:
        await asyncio.sleep(1.0)
        mark = await asyncio.to_thread(site.plane.audit_mark)
        cpu_before = _cpu_seconds(process.process.pid)
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
        cpu_after = _cpu_seconds(process.process.pid)
        rss = _rss(process.process.pid)
        await asyncio.sleep(2.0)
        writes = await asyncio.to_thread(site.plane.writes, mark, user=OPERATOR_USER)
    waits = sorted(ready[name] - applied[name] for name in applied)
    ours = [write for write in writes if write.resource != "leases"]
    kinds = Counter(
        f"{write.verb} {write.resource}{'/' * bool(write.subresource)}{write.subresource}" for write in ours
    )
    return {
        "seconds": round(seconds, 3),
        "tenantsPerSecond": round(count / seconds, 2),
        "p50Seconds": round(statistics.median(waits), 3),
        "p95Seconds": round(waits[int(len(waits) * 0.95) - 1], 3),
        "writesPerTenant": round(len(ours) / count + 1, 2),  # the Tenant itself is written by whoever applies it
        "writes": {kind: round(number / count, 2) for kind, number in kinds.most_common() if number * 20 > count},
        "cpuMsPerTenant": round((cpu_after - cpu_before) * 1000 / count, 1),
        "rssMiB": rss,
    }


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _rss(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return round(int(line.split()[1]) / 1024, 1)
    return 0.0


async def bench(count: int, database: str) -> dict[str, Any]:
    """Both, on one control plane."""
    with tempfile.TemporaryDirectory() as folder, ControlPlane.start(Options()) as plane:
        async with platform(plane, Path(folder)) as site:
            lowest = await floor(site, count, database)
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
