"""Times of jobs: from the request that creates one to the moment its end is seen in a watch. Called by the benches of jobs."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from unjucks_operator.kube.api import KubeApi, Manifest
from unjucks_operator.kube.resources import GENERATION_JOB

Key = tuple[str, str]
"""Namespace and name."""


async def run_series(
    api: KubeApi, jobs: Sequence[Manifest], *, rate: float = 0.0, at_once: int = 40
) -> dict[Key, float]:
    """Create the jobs, ``rate`` a second (0: ``at_once`` requests at a time), and wait for all: seconds of each, in order.

    Raises RuntimeError with its status when one fails.
    """
    applied: dict[Key, float] = {}
    done: dict[Key, float] = {}
    wanted = {(job["metadata"]["namespace"], job["metadata"]["name"]) for job in jobs}
    _, version = await api.list_all(GENERATION_JOB)

    async def observe() -> None:
        async for event in api.watch(GENERATION_JOB, resource_version=version):
            metadata, status = event.object["metadata"], event.object.get("status") or {}
            key = (metadata["namespace"], metadata["name"])
            ends = {it["type"] for it in status.get("conditions") or () if it["status"] == "True"}
            if key not in wanted or not ends & {"Complete", "Failed"}:
                continue
            done.setdefault(key, time.monotonic())
            if "Failed" in ends:
                raise RuntimeError(f"a job failed: {status}")
            if len(done) == len(wanted):
                return

    watching = asyncio.create_task(observe())
    started = time.monotonic()
    room = asyncio.Semaphore(at_once)

    async def apply(position: int, job: Manifest) -> None:
        if rate:
            await asyncio.sleep(started + position / rate - time.monotonic())
        async with room:
            applied[job["metadata"]["namespace"], job["metadata"]["name"]] = time.monotonic()
            await api.create(job, manager="bench")

    await asyncio.gather(*(apply(position, job) for position, job in enumerate(jobs)))
    async with asyncio.timeout(1200):
        await watching
    return {key: done[key] - applied[key] for key in applied}


def p95(seconds: Sequence[float]) -> float:
    """The 95th percentile, by the nearest rank below."""
    ordered = sorted(seconds)
    return ordered[max(int(len(ordered) * 0.95) - 1, 0)]


def in_ms(seconds: float) -> float:
    """Milliseconds to a tenth."""
    return round(seconds * 1000, 1)


def by_namespace(times: dict[Key, float]) -> dict[str, list[float]]:
    """The same, for each namespace."""
    found: dict[str, list[float]] = {}
    for (namespace, _), seconds in times.items():
        found.setdefault(namespace, []).append(seconds)
    return found


def summary(times: dict[Key, float]) -> dict[str, Any]:
    """p50 and p95 in milliseconds."""
    ordered = sorted(times.values())
    return {"p50Ms": in_ms(ordered[len(ordered) // 2]), "p95Ms": in_ms(p95(ordered))}
