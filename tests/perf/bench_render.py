"""How fast this engine renders, against plain Jinja2 and Node's nunjucks, in alternating runs.

    python tests/perf/bench_render.py [--runs N] [--only WORKLOAD] [--out FILE] [--install] [--no-cold]

Prints JSON. For each workload, median seconds per render and the ratio to nunjucks' (above 1 we are faster), once of the medians
(``times_nunjucks``), once of the shortest samples (``least_times_nunjucks``: what is left when others use the machine too) and once
as the median of the ratios of neighbouring samples (``paired_times_nunjucks``):
``warm`` (compiled templates), ``first`` (a new environment: parse, compile and render, in a running process), ``cold`` (a new
process: start, load the engine, parse, compile and render). The outputs of the engines are compared first.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

ROOT = pathlib.Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "runtime"), str(ROOT / "tests"), str(pathlib.Path(__file__).parent)]

from render_workloads import workloads  # noqa: E402

_SCRIPT = pathlib.Path(__file__).with_suffix(".mjs")
_UNIT = {False: "seconds", True: "cpu"}
#: Renders per measurement, so that each takes some tens of milliseconds.
_ROUNDS = {"component": 100, "table": 10, "inheritance": 200, "scaffold": 10}


def ours(load: dict[str, Any]) -> Any:
    """A new environment of this engine."""
    from unjucks_engine import Environment

    return Environment(
        load["templates"], autoescape=False, trim_blocks=True, lstrip_blocks=True, filters_profile="nunjucks"
    )


def ours_render(env: Any, load: dict[str, Any]) -> str:
    """All files of the workload."""
    return "".join([env.render(file, load["data"]) for file in load["files"]])


def jinja(load: dict[str, Any]) -> Any:
    """A new environment of Jinja2."""
    import jinja2

    return jinja2.Environment(
        loader=jinja2.DictLoader(load["templates"]), trim_blocks=True, lstrip_blocks=True
    )  # autoescape off


def jinja_render(env: Any, load: dict[str, Any]) -> str:
    """All files of the workload."""
    return "".join([env.get_template(file).render(load["data"]) for file in load["files"]])


class Node:
    """The nunjucks process."""

    def __init__(self, place: pathlib.Path, data: str) -> None:
        self.place, self.data = place, data
        self.process = subprocess.Popen(
            ["node", str(_SCRIPT), data],
            cwd=place,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )

    def ask(self, **request: Any) -> dict[str, Any]:
        """One request."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def cold(self, workload: str) -> float:
        """Seconds of a new process."""
        start = _children()
        subprocess.run(
            ["node", str(_SCRIPT), self.data, workload], cwd=self.place, check=True, stdout=subprocess.DEVNULL
        )
        return _children() - start

    def close(self) -> None:
        """Ends the process."""
        self.process.kill()
        self.process.wait()


#: Whether CPU time is measured instead of wall-clock time (for machines that others use too).
CPU = False

_COLD = {
    "ours": "import bench_render as b, json, sys; l = json.load(open(sys.argv[1]))[sys.argv[2]]; b.ours_render(b.ours(l), l)",
    "jinja2": "import bench_render as b, json, sys; l = json.load(open(sys.argv[1]))[sys.argv[2]]; b.jinja_render(b.jinja(l), l)",
}


def cold(engine: str, data: str, workload: str) -> float:
    """Seconds of a new Python process."""
    path = os.pathsep.join([str(ROOT / "runtime"), str(pathlib.Path(__file__).parent)])
    start = _children()
    subprocess.run(
        [sys.executable, "-c", _COLD[engine], data, workload], check=True, env={**os.environ, "PYTHONPATH": path}
    )
    return _children() - start


def _clock() -> float:
    return time.process_time() if CPU else time.perf_counter()


def _children() -> float:
    if not CPU:
        return time.perf_counter()
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def timed(work: Callable[[], Any], rounds: int) -> float:
    """Seconds per round."""
    start = _clock()
    for _ in range(rounds):
        work()
    return (_clock() - start) / rounds


def measure(name: str, load: dict[str, Any], node: Node, data: str, runs: int, with_cold: bool) -> dict[str, Any]:
    """All figures of one workload."""
    env, other = ours(load), jinja(load)
    expected = node.ask(workload=name, mode="text")["text"]
    same = ours_render(env, load) == expected
    rounds = _ROUNDS[name]
    node.ask(workload=name, mode="warm", rounds=rounds * 10)  # let the JIT settle
    seconds: dict[str, dict[str, list[float]]] = {
        mode: {"ours": [], "jinja2": [], "nunjucks": []} for mode in ("warm", "first", "cold")
    }
    few = max(1, rounds // 10)
    for _ in range(runs):
        seconds["warm"]["ours"].append(timed(lambda: ours_render(env, load), rounds))
        seconds["warm"]["jinja2"].append(timed(lambda: jinja_render(other, load), rounds))
        seconds["warm"]["nunjucks"].append(node.ask(workload=name, mode="warm", rounds=rounds)[_UNIT[CPU]] / rounds)
        seconds["first"]["ours"].append(timed(lambda: ours_render(ours(load), load), few))
        seconds["first"]["jinja2"].append(timed(lambda: jinja_render(jinja(load), load), few))
        seconds["first"]["nunjucks"].append(node.ask(workload=name, mode="first", rounds=few)[_UNIT[CPU]] / few)
    for _ in range(runs if with_cold else 0):
        seconds["cold"]["ours"].append(cold("ours", data, name))
        seconds["cold"]["jinja2"].append(cold("jinja2", data, name))
        seconds["cold"]["nunjucks"].append(node.cold(name))
    result: dict[str, Any] = {"same_output_as_nunjucks": same, "characters": len(expected)}
    for mode, engines in seconds.items():
        if not engines["ours"]:
            continue
        medians = {engine: statistics.median(values) for engine, values in engines.items()}
        least = {engine: min(values) for engine, values in engines.items()}
        pairs = [other / own for other, own in zip(engines["nunjucks"], engines["ours"], strict=True)]
        result[mode] = {
            "milliseconds": {engine: round(value * 1000, 4) for engine, value in medians.items()},
            "least_milliseconds": {engine: round(value * 1000, 4) for engine, value in least.items()},
            "times_nunjucks": round(medians["nunjucks"] / medians["ours"], 2),
            "least_times_nunjucks": round(least["nunjucks"] / least["ours"], 2),
            "paired_times_nunjucks": round(statistics.median(pairs), 2),
            "times_jinja2": round(medians["jinja2"] / medians["ours"], 2),
        }
    return result


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=12)
    parser.add_argument("--only", choices=sorted(_ROUNDS))
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--install", action="store_true", help="fetch nunjucks with npm if it is missing")
    parser.add_argument("--no-cold", action="store_true")
    parser.add_argument("--cpu", action="store_true", help="CPU time instead of wall-clock time")
    options = parser.parse_args()
    global CPU
    CPU = options.cpu
    from support.nunjucks_oracle import VERSION, folder

    place = folder(options.install)
    if place is None:
        print("needs Node.js and nunjucks 3.2.4: set NUNJUCKS_DIR, or pass --install")
        return 2
    with tempfile.TemporaryDirectory() as scratch:
        data = pathlib.Path(scratch) / "workloads.json"
        loads = {name: load for name, load in workloads().items() if options.only in (None, name)}
        data.write_text(json.dumps(loads), encoding="utf-8")
        node = Node(place, str(data))
        version = subprocess.run(["node", "--version"], check=True, capture_output=True, text=True).stdout.strip()
        result: dict[str, Any] = {"python": platform.python_version(), "node": version, "nunjucks": VERSION, "runs": options.runs,
                                  "clock": "cpu" if CPU else "wall"}  # fmt: skip
        for name, load in loads.items():
            result[name] = measure(name, load, node, str(data), options.runs, not options.no_cold)
        node.close()
    text = json.dumps(result, indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
