"""What one small render costs over the wire: mutual TLS, HTTP, a fresh confined child. Prints one line of JSON.

    python tests/perf/bench_renderer.py [--rounds 300]

Times are milliseconds on loopback. The floor is starting and reaping the smallest program there is (fork + exec of ``true``): less
than a new process cannot be had. ``cold``: the template set is parsed in the child; ``kept``: it is kept compiled.
``paced``: with a pause between calls, so that the next spare child is ready; ``backToBack``: without; ``perSecond``: two callers.
"""

import argparse
import asyncio
import base64
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.renderer import RendererProcess, running_renderer
from unjucks_api.render_protocol import AnalyzeRequest, RenderRequest, SourceFile
from unjucks_operator.renderers.ca import Authority, new_authority

TREE = {
    "_templates/api/new/action.yaml": b"variables:\n  name: {type: string, required: true}\n",
    "_templates/api/new/main.py.njk": (
        b"---\nto: src/{{ name }}.py\n---\n{% for i in [1, 2, 3] %}{{ name | pascalCase }}{{ i }}\n{% endfor %}"
    ),
    "_templates/api/new/test.py.njk": b"---\nto: tests/test_{{ name }}.py\n---\nfrom src import {{ name }}\n",
}
TRUE = "/bin/true"
WARM_UP = 10
PAUSE = 0.03


def summary(samples: list[float]) -> dict[str, float]:
    """p50, p95 and mean in milliseconds."""
    ordered = sorted(samples)
    return {
        "p50": round(ordered[len(ordered) // 2] * 1e3, 2),
        "p95": round(ordered[int(len(ordered) * 0.95)] * 1e3, 2),
        "mean": round(statistics.fmean(ordered) * 1e3, 2),
    }


def floor(rounds: int) -> list[float]:
    """fork + exec + wait of ``true``."""
    samples = []
    for _ in range(rounds):
        begin = time.perf_counter()
        os.waitpid(os.posix_spawn(TRUE, [TRUE], {}), 0)
        samples.append(time.perf_counter() - begin)
    return samples


async def sampled(rounds: int, call: Callable[[], Awaitable[object]], pause: float) -> list[float]:
    """Times of ``rounds`` calls, one after the other with a pause between them, after a few that do not count."""
    for _ in range(WARM_UP):
        await call()
    samples = []
    for _ in range(rounds):
        begin = time.perf_counter()
        await call()
        samples.append(time.perf_counter() - begin)
        await asyncio.sleep(pause)
    return samples


async def measure(renderer: RendererProcess, authority: Authority, rounds: int) -> dict[str, Any]:
    """Latency, CPU of the child, and throughput."""
    client = renderer.client(authority)
    try:
        files = [SourceFile(path=path, content=base64.b64encode(content).decode()) for path, content in TREE.items()]
        analysis = await client.analyze(AnalyzeRequest(files=files))
        request = RenderRequest(
            task="bench",
            digest=analysis.digest,
            files=analysis.files,
            generator="api",
            action="new",
            variables={"name": "orders"},
        )
        cpu: list[float] = []

        async def call() -> None:
            cpu.append((await client.render(request)).cpu_seconds)

        paced = summary(await sampled(rounds, call, PAUSE))
        tight = summary(await sampled(rounds, call, 0))
        begin = time.perf_counter()
        await asyncio.gather(*(_several(call, rounds // 2) for _ in range(2)))
        rate = (rounds // 2) * 2 / (time.perf_counter() - begin)
        return {
            "paced": paced,
            "backToBack": tight,
            "childCpu": round(statistics.fmean(cpu) * 1e3, 2),
            "perSecond": round(rate, 1),
        }
    finally:
        await client.close()


async def _several(call: Callable[[], Awaitable[object]], count: int) -> None:
    for _ in range(count):
        await call()


async def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=300)
    rounds = parser.parse_args().rounds
    authority = new_authority(datetime.now(UTC))
    results: dict[str, dict[str, Any]] = {}
    for name, warm in (("cold", "0"), ("kept", "4")):
        with tempfile.TemporaryDirectory() as folder:
            begin = time.perf_counter()
            async with running_renderer(
                "bench", authority, Path(folder), arguments=["--max-tasks", "4", "--warm-trees", warm]
            ) as renderer:
                start = time.perf_counter() - begin
                results[name] = await measure(renderer, authority, rounds)
    base = summary(floor(rounds))
    print(
        json.dumps(
            {
                "bench": "renderer",
                "rounds": rounds,
                "cpus": os.cpu_count(),
                "load": round(os.getloadavg()[0], 1),
                "startSeconds": round(start, 2),
                "forkExecFloor": base,
                **results,
                "ratioToFloor": {name: round(item["paced"]["p50"] / base["p50"], 1) for name, item in results.items()},
            }
        )
    )


if __name__ == "__main__":
    asyncio.run(main())
