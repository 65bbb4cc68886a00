"""How fast whole tenants are written, against a bare HTTP client on the same server in the same run.

    python tests/perf/bench_kube_client.py [--tenants 200] [--parallel 20] [--rounds 3]

Starts etcd + kube-apiserver on loopback. Each tenant is a namespace and six children. Ways, in turn, several rounds each:

- ``bare``: plain aiohttp POSTs of ready-made bytes, answers not parsed. The floor; everything else is a ratio to it.
- ``writer``: the child writer as the operator uses it, with synced informers of all the kinds that keep up with the events.
- ``restart``: a new child writer meets what exists (one request for each child, nothing changes).
- ``settled``: the same once more (no request; objects per second of pure checking).

Prints one line of JSON. Needs no cluster and leaves nothing behind.
"""

import argparse
import asyncio
import json
import random
import resource
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import orjson
from yarl import URL

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from e2e.cluster.controlplane import ControlPlane, Options
from support.kube import FAST, MANAGER, Kubernetes, client, kubernetes, sample
from unjucks_operator.kube.api import Manifest
from unjucks_operator.kube.children import ChildWriter
from unjucks_operator.kube.config import from_kubeconfig
from unjucks_operator.kube.resources import (
    LIMIT_RANGE,
    NAMESPACE,
    NETWORK_POLICY,
    RESOURCE_QUOTA,
    ROLE_BINDING,
    SERVICE_ACCOUNT,
    resource_of,
)

KINDS = (NAMESPACE, RESOURCE_QUOTA, LIMIT_RANGE, NETWORK_POLICY, SERVICE_ACCOUNT, ROLE_BINDING)


def tenant(name: str) -> list[Manifest]:
    """A tenant's namespace and its children (two network policies)."""
    uid = f"uid-{name}"
    children = [sample(kind, name, uid) for kind in KINDS]
    return [*children, sample(NETWORK_POLICY, name, uid, "second")]


async def each(count: int, parallel: int, work: Callable[[int], Awaitable[None]]) -> float:
    """Run ``work(0..count-1)``, so many at once; seconds."""
    numbers = iter(range(count))

    async def worker() -> None:
        for number in numbers:
            await work(number)

    started = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(parallel)))
    return time.perf_counter() - started


async def bare(plane: ControlPlane, prefix: str, count: int, parallel: int) -> float:
    """The floor."""
    endpoint, _ = from_kubeconfig(plane.kubeconfig)
    prepared = [
        [
            (URL(endpoint.server + resource_of(body).path(body["metadata"].get("namespace"))), orjson.dumps(body))
            for body in tenant(f"{prefix}-{number}")
        ]
        for number in range(count)
    ]
    connector = aiohttp.TCPConnector(limit=128, ssl=endpoint.tls or False)
    async with aiohttp.ClientSession(connector=connector, headers={"Content-Type": "application/json"}) as session:

        async def one(number: int) -> None:
            for url, data in prepared[number]:
                async with session.post(url, data=data) as response:
                    await response.read()
                    assert response.status == 201, await response.text()

        return await each(count, parallel, one)


async def main(tenants: int, parallel: int, rounds: int) -> dict[str, object]:
    """All measurements; the medians of the rounds."""
    seconds: dict[str, list[float]] = {"bare": [], "writer": [], "restart": [], "settled": []}
    cpu: dict[str, list[float]] = {name: [] for name in seconds}
    with ControlPlane.start(Options(controllers=False, audit="")) as plane:

        async def timed(name: str, run: Awaitable[float]) -> None:
            before = resource.getrusage(resource.RUSAGE_SELF)
            seconds[name].append(await run)
            after = resource.getrusage(resource.RUSAGE_SELF)
            cpu[name].append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)

        await bare(plane, "warm", 10, parallel)
        for number in range(rounds):
            await timed("bare", bare(plane, f"bare-{number}", tenants, parallel))
            async with kubernetes(plane, KINDS, api=client(plane, limits=FAST)) as system:
                await timed("writer", _write(system, system.writer, f"made-{number}", tenants, parallel))
                restarted = ChildWriter(system.api, system.stores)
                await timed("restart", _write(system, restarted, f"made-{number}", tenants, parallel))
                await timed("settled", _write(system, restarted, f"made-{number}", tenants, parallel))
                outcomes = {str(outcome): count for outcome, count in (system.writer.counts + restarted.counts).items()}
    rate = {name: tenants / statistics.median(values) for name, values in seconds.items()}
    writes = len(KINDS) + 1
    return {
        "benchmark": "kube_client",
        "tenants": tenants,
        "writes_per_tenant": writes,
        "parallel": parallel,
        "rounds": rounds,
        "tenants_per_second": {name: round(value, 1) for name, value in rate.items()},
        "ratio_to_bare": {name: round(rate[name] / rate["bare"], 2) for name in rate},
        "client_cpu_ms_per_write": {
            name: round(1000 * statistics.median(values) / tenants / writes, 3) for name, values in cpu.items()
        },
        "outcomes_of_last_round": outcomes,
    }


async def _write(system: Kubernetes, writer: ChildWriter, prefix: str, count: int, parallel: int) -> float:
    async def one(number: int) -> None:
        namespace, *children = tenant(f"{prefix}-{number}")
        await writer.apply(namespace, MANAGER)
        for child in children:
            await writer.apply(child, MANAGER)

    return await each(count, parallel, one)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tenants", type=int, default=200)
    parser.add_argument("--parallel", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    random.seed(1)
    print(json.dumps(asyncio.run(main(options.tenants, options.parallel, options.rounds))))
