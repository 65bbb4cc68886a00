"""Jobs on a real cluster: a pod for one job beside a bare pod, and what a neighbour who exhausts his limits does to a tenant.

    isolated:  p50 of a job in a pod of its own, from create to Complete, beside a bare pod of the same image that does nothing,
               from create to Succeeded; in turns, in the same namespace.
    neighbour: p95 of a tenant's small jobs at a steady rate, alone and while another tenant's renderer is kept busy by jobs that
               take all the time and memory they get; two rounds of each, in turns.

Needs what the end-to-end tests need (root and a container runtime, or Docker). Makes a cluster of its own and removes it.
Prints one line of JSON.
"""

import argparse
import asyncio
import json
import statistics
import sys
import time
from typing import Any

from e2e.cluster import images, packages, provider
from e2e.cluster.provider import AnyCluster
from e2e.install import install
from e2e.tenant_site import apply
from support import policies
from support.job_series import in_ms, p95, run_series
from support.jobs import job_manifest, registry_manifest
from support.tenants import tenant_manifest
from unjucks_operator.kube.api import KubeApi, Manifest
from unjucks_operator.kube.client import KubeClient
from unjucks_operator.kube.config import from_kubeconfig
from unjucks_operator.kube.resources import GENERATION_JOB, POD

CALM, LOUD = "calm", "loud"
BOMBS = {
    "_templates/bomb/time/action.yaml": "variables: {}\n",
    # Just below the budget of one file, many times: as long as anybody may keep a renderer busy.
    **{
        f"_templates/bomb/time/part{number:03}.txt.njk": (
            "{% for i in range(500) %}{% for j in range(1000) %}{% set x = i + j %}{% endfor %}{% endfor %}done\n"
        )
        for number in range(100)
    },
    "_templates/bomb/memory/action.yaml": "variables: {}\n",
    "_templates/bomb/memory/big.txt.njk": "{% set s = 'x' %}{% for i in range(40) %}{% set s = s + s %}{% endfor %}{{ s }}",
}


def bare_pod(name: str, image: str) -> Manifest:
    """A pod that a tenant's policies admit, and that ends at once."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": f"tenant-{CALM}"},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "main",
                    "image": image,
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["python3", "-c", ""],
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                }
            ],
        },
    }


async def pod_seconds(api: KubeApi, name: str, image: str) -> float:
    """From create to Succeeded."""
    _, version = await api.list_all(POD, namespace=f"tenant-{CALM}")
    started = time.monotonic()
    created = await api.create(bare_pod(name, image), manager="bench")
    assert created is not None
    async with asyncio.timeout(120):
        async for event in api.watch(POD, resource_version=version, namespace=f"tenant-{CALM}"):
            if event.object["metadata"]["name"] == name:
                phase = (event.object.get("status") or {}).get("phase")
                if phase in ("Succeeded", "Failed"):
                    seconds = time.monotonic() - started
                    break
    assert phase == "Succeeded", phase
    await api.delete(POD, name, f"tenant-{CALM}", uid=created["metadata"]["uid"])
    return seconds


async def isolated(api: KubeApi, image: str, count: int) -> dict[str, Any]:
    """Both, in turns."""
    pods, jobs = [], []
    for number in range(count):
        pods.append(await pod_seconds(api, f"floor-{number}", image))
        job = job_manifest(f"tenant-{CALM}", f"isolated-{number}", {"name": "bob"}, execution="Isolated")
        jobs += (await run_series(api, [job])).values()
    floor, ours = statistics.median(pods), statistics.median(jobs)
    return {"runs": count, "p50Ms": in_ms(ours), "floorP50Ms": in_ms(floor), "toFloor": round(ours / floor, 2)}


async def keep_exploding(api: KubeApi, stop: asyncio.Event, ended: list[str], turn: int) -> None:
    """Bombs, one after the other, three at a time, until told to stop. How each ended goes into ``ended``."""

    async def one(number: int) -> None:
        action = "memory" if number % 4 == 3 else "time"
        name = f"bomb-{turn}-{number}"
        body = job_manifest(f"tenant-{LOUD}", name, {}, action=action, registry="bombs", timeout="30s")
        body["spec"]["template"]["generator"] = "bomb"
        await api.create(body, manager="bench")
        while not stop.is_set():
            await asyncio.sleep(0.5)
            found = await api.get(GENERATION_JOB, name, f"tenant-{LOUD}") or {}
            conditions = {it["type"]: it for it in (found.get("status") or {}).get("conditions") or ()}
            for end in ("Complete", "Failed"):
                if conditions.get(end, {}).get("status") == "True":
                    ended.append(conditions[end]["reason"])
                    return

    async def line(first: int) -> None:
        for number in range(first, 10_000, 3):
            if stop.is_set():
                return
            await one(number)

    await asyncio.gather(*(line(first) for first in range(3)))


async def neighbour(api: KubeApi, count: int, rate: float) -> dict[str, Any]:
    """Alone and beside bombs, in turns."""
    alone: list[float] = []
    beside: list[float] = []
    ended: list[str] = []
    for turn in range(2):
        jobs = [job_manifest(f"tenant-{CALM}", f"alone-{turn}-{it}", {"name": "bob"}) for it in range(count)]
        alone += (await run_series(api, jobs, rate=rate)).values()
        stop = asyncio.Event()
        bombs = asyncio.create_task(keep_exploding(api, stop, ended, turn))
        await asyncio.sleep(3)
        jobs = [job_manifest(f"tenant-{CALM}", f"beside-{turn}-{it}", {"name": "bob"}) for it in range(count)]
        beside += (await run_series(api, jobs, rate=rate)).values()
        stop.set()
        await bombs
        await asyncio.sleep(3)
    return {
        "jobs": count * 2,
        "rate": rate,
        "bombsEnded": {reason: ended.count(reason) for reason in sorted(set(ended))},
        "aloneP95Ms": in_ms(p95(alone)),
        "besideP95Ms": in_ms(p95(beside)),
        "besideToAlone": round(p95(beside) / p95(alone), 2),
    }


def prepare(cluster: AnyCluster) -> str:
    """The operator and two tenants; the renderer's image."""
    install(cluster, {"policies": {"pods": {"images": [policies.IMAGE]}}})
    renderers = {"min": 1, "max": 1}
    apply(cluster, *(tenant_manifest(name, tier="professional", renderers=renderers) for name in (CALM, LOUD)))
    for name in (CALM, LOUD):
        cluster.kubectl("wait", "--for=condition=Ready", f"tenant/{name}", "--timeout=180s")
    apply(cluster, registry_manifest(f"tenant-{CALM}"), registry_manifest(f"tenant-{LOUD}", "bombs", BOMBS))
    for name, registry in ((CALM, "templates"), (LOUD, "bombs")):
        where = ("-n", f"tenant-{name}", "--timeout=120s")
        cluster.kubectl("wait", "--for=condition=Ready", f"templateregistry/{registry}", *where)
    return images.load(cluster, ("renderer",), docker=False)["renderer"].reference


async def bench(cluster: AnyCluster, runs: int, count: int, rate: float) -> dict[str, Any]:
    """The whole measurement."""
    image = await asyncio.to_thread(prepare, cluster)
    endpoint, credentials = from_kubeconfig(cluster.kubeconfig)
    async with KubeClient(endpoint, credentials) as api:
        warm = [job_manifest(f"tenant-{CALM}", f"warm-{number}", {"name": "bob"}) for number in range(5)]
        await run_series(api, warm)
        return {
            "bench": "cluster-jobs",
            "isolated": await isolated(api, image, runs),
            "neighbour": await neighbour(api, count, rate),
        }


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--runs", type=int, default=9, help="isolated jobs, and bare pods (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=60, help="of the calm tenant in each round (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=3.0, help="of these, a second (default: %(default)s)")
    parser.add_argument("--name", default="bench", help="name of the cluster (default: %(default)s)")
    options = parser.parse_args()
    packages.extend_path()
    cluster = provider.up(options.name)
    try:
        print(json.dumps(asyncio.run(bench(cluster, options.runs, options.jobs, options.rate))))
    except BaseException:
        for what in (("get", "unjucks", "-A", "-o", "wide"), ("get", "pods", "-A", "-o", "wide")):
            print(cluster.kubectl(*what, check=False).stdout, file=sys.stderr)
        raise
    finally:
        provider.down(options.name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
