"""Runs the isolation matrix and prints it: every attack of the catalogue, by the tests that try it, with our processes up and down.

    python -m isolation [--only ID ...] [--without-cluster] [--output json] [PYTEST ARGUMENTS]

Exit codes: 0 no escape · 1 at least one attack succeeded or could not be tried · 2 wrong usage.

Tests are chosen by their marker (tests/support/isolation.py). On the real cluster they run twice: everything up, then operator and
webhooks scaled to nothing. A test in which neither takes part (SQL, the API server alone) counts for both columns. Called by
``make isolation``.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from isolation.catalogue import ATTACKS, BOTH, BY_ID, Attack

ROOT: Final = Path(__file__).resolve().parents[2]
HELD: Final = "held"
ESCAPED: Final = "ESCAPED"
UNTRIED: Final = "untried"
BROKEN: Final = "broken"  # the test could not be carried out: set-up failed or it was skipped
NOT_ASKED: Final = "-"
TOLD: Final = 3
"""So many failures of an attack are printed for people."""
_ORDER: Final = (HELD, BROKEN, ESCAPED)


@dataclass(frozen=True)
class Line:
    """One attack, what came out in each state, and the tests behind it."""

    attack: Attack
    results: Mapping[str, str]
    tests: Mapping[str, Sequence[str]]
    why: Sequence[str]


def matrix(report: Mapping[str, Mapping[str, Any]], chosen: Sequence[str] = ()) -> list[Line]:
    """The catalogue's lines with the outcomes of ``report``: the worst test decides. Pure."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    why: dict[str, list[str]] = {}
    for test, entry in report.items():
        outcome = {"passed": HELD, "failed": ESCAPED}.get(entry["outcome"], BROKEN)
        for name, states in entry["claims"]:
            for state in states:
                found.setdefault((name, state), {})[test] = outcome
            if outcome != HELD:
                why.setdefault(name, []).append(f"{test}: {entry['outcome']}: {_reason(entry['why'])}")
    lines = []
    for attack in ATTACKS:
        if chosen and attack.id not in chosen:
            continue
        results, tests = {}, {}
        for state in BOTH:
            outcomes = found.get((attack.id, state), {})
            tests[state] = sorted(outcomes)
            if attack.why_not:
                results[state] = NOT_ASKED
            elif outcomes:
                results[state] = max(outcomes.values(), key=_ORDER.index)
            else:
                results[state] = UNTRIED if state in attack.states else NOT_ASKED
        lines.append(Line(attack, results, tests, why.get(attack.id, [])))
    return lines


def _reason(why: str) -> str:
    """The line that says it: pytest marks an assertion's and an exception's with an E."""
    lines = [line.strip() for line in why.strip().splitlines() if line.strip()]
    telling = [line.removeprefix("E").strip() for line in lines if line.startswith("E ")]
    return (telling or lines[-1:] or ["no reason given"])[0][:300]


def summary(lines: Sequence[Line]) -> dict[str, int]:
    """How many of what, over both columns."""
    results = [result for line in lines for result in line.results.values()]
    return {
        "attacks": len(lines),
        "held": results.count(HELD),
        "escapes": results.count(ESCAPED),
        "untried": results.count(UNTRIED),
        "broken": results.count(BROKEN),
        "notApplicable": sum(bool(line.attack.why_not) for line in lines),
    }


def table(lines: Sequence[Line]) -> str:
    """For people."""
    width = max((len(line.attack.id) for line in lines), default=2)
    kinds = max((len(line.attack.kind) for line in lines), default=5)
    rows = [f"{'id':<{width}}  {'class':<{kinds}}  {'up':<8} {'down':<8} tests  what is tried"]
    for line in lines:
        tests = len({test for found in line.tests.values() for test in found})
        head = (
            f"{line.attack.id:<{width}}  {line.attack.kind:<{kinds}}  {line.results['up']:<8} {line.results['down']:<8}"
        )
        rows.append(f"{head} {tests:>5}  {line.attack.what}")
        if line.attack.why_not:
            rows.append(f"{'':<{width}}  {'':<{kinds}}  does not apply: {line.attack.why_not}")
    counts = summary(lines)
    rows.append("")
    for line in lines:
        rows += [f"{line.attack.id}: {text}" for text in line.why[:TOLD]]
        if len(line.why) > TOLD:
            rows.append(f"{line.attack.id}: and {len(line.why) - TOLD} more; --output json has them all")
    rows.append(
        f"{counts['attacks']} attacks: {counts['held']} held, {counts['escapes']} escapes, {counts['broken']} broken, "
        f"{counts['untried']} untried, {counts['notApplicable']} not applicable"
    )
    return "\n".join(rows)


def as_json(lines: Sequence[Line]) -> str:
    """For programs."""
    rows = [
        {
            "id": line.attack.id,
            "what": line.attack.what,
            "class": line.attack.kind,
            **line.results,
            "tests": {state: list(tests) for state, tests in line.tests.items()},
            "notApplicable": line.attack.why_not,
            "failures": list(line.why),
        }
        for line in lines
    ]
    return json.dumps({"summary": summary(lines), "attacks": rows}, indent=2)


def run(arguments: Sequence[str], *, with_cluster: bool, quiet: bool) -> dict[str, Any]:
    """Run the marked tests with pytest; their report."""
    with tempfile.TemporaryDirectory(prefix="unjucks-isolation-") as folder:
        path = Path(folder) / "report.json"
        marked = "isolation" if with_cluster else "isolation and not e2e"
        command = [sys.executable, "-m", "pytest", str(ROOT / "tests"), "-m", marked, "-q", "-p", "no:cacheprovider"]
        command += ["--isolation-report", str(path), *arguments]
        # Progress goes to stderr: stdout holds the matrix only.
        subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL if quiet else sys.stderr, check=False)
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        return report


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m isolation",
        description="Try every attack on the isolation of tenants and print what came out.",
        epilog="Exit codes: 0 no escape, everything tried · 1 an attack succeeded, or could not be tried · 2 wrong usage.",
    )
    parser.add_argument("--only", metavar="ID", nargs="+", default=[], help="print these lines only")
    parser.add_argument(
        "--without-cluster", action="store_true", help="leave out what needs the real cluster (minutes)"
    )
    parser.add_argument("--output", choices=("table", "json"), default="table", help="default: %(default)s")
    parser.add_argument("--report", metavar="FILE", help="print from a report that was written before; run nothing")
    parser.add_argument("--save", metavar="FILE", help="keep the report for --report")
    parser.add_argument("--quiet", action="store_true", help="do not show pytest's progress on stderr")
    options, rest = parser.parse_known_args(arguments)
    unknown = [name for name in options.only if name not in BY_ID]
    if unknown:
        parser.error(f"no such attack: {', '.join(unknown)}; tests/isolation/catalogue.py has them all")
    if options.report:
        report = json.loads(Path(options.report).read_text(encoding="utf-8"))
    else:
        report = run(rest, with_cluster=not options.without_cluster, quiet=options.quiet)
    if options.save:
        Path(options.save).write_text(json.dumps(report, indent=1), encoding="utf-8")
    lines = matrix(report, options.only)
    print(as_json(lines) if options.output == "json" else table(lines))
    counts = summary(lines)
    return 1 if counts["escapes"] + counts["untried"] + counts["broken"] else 0


if __name__ == "__main__":
    sys.exit(main())
