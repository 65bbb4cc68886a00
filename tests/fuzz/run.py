"""Differential fuzzing against the real Nunjucks.

    python tests/fuzz/run.py [--pairs N] [--seed S] [--seconds T] [--keep FILE] [--install]

Each pair is a random template with a context, rendered by both engines. A difference is shrunk and printed; the exit status is 1
if there is one that is not documented. The same seed makes the same pairs.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import re
import sys
import time
from typing import Any

ROOT = pathlib.Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "runtime"), str(ROOT / "tests"), str(pathlib.Path(__file__).parent)]

from compare import difference, ours  # noqa: E402
from grammar import Grammar  # noqa: E402

from support.nunjucks_oracle import Oracle, folder  # noqa: E402

_TOKEN = re.compile(r"\{%.*?%\}|\{\{.*?\}\}|\w+|\s+|.", re.DOTALL)
_SMALL = re.compile(r"\{[%{#]-?|-?[%}#]\}|\w+|\s+|.", re.DOTALL)


def differs(oracle: Oracle, cases: list[dict[str, Any]]) -> list[str | None]:
    """The difference for each case."""
    return [difference(case, ours(case), theirs) for case, theirs in zip(cases, oracle.render_all(cases), strict=True)]


def _variants(case: dict[str, Any]) -> list[dict[str, Any]]:
    """Smaller versions of a case, the boldest first."""
    found: list[dict[str, Any]] = []
    if "templates" in case:
        for name in case["templates"]:
            if name != case.get("entry"):
                found.append(
                    {**case, "templates": {key: value for key, value in case["templates"].items() if key != name}}
                )
            found += [
                {**case, "templates": {**case["templates"], name: text}} for text in _shorter(case["templates"][name])
            ]
    else:
        found += [{**case, "template": text} for text in _shorter(case["template"])]
    found += [{**case, "context": {k: v for k, v in case["context"].items() if k != key}} for key in case["context"]]
    found += [{**case, "options": {k: v for k, v in case["options"].items() if k != key}} for key in case["options"]]
    return found


def _shorter(source: str) -> list[str]:
    texts: list[str] = []
    for pattern in (_TOKEN, _SMALL):
        tokens = pattern.findall(source)
        size = max(1, len(tokens) // 2)
        while size:
            texts += ["".join(tokens[:start] + tokens[start + size :]) for start in range(0, len(tokens), size)]
            size //= 2
    return list(dict.fromkeys(text for text in texts if len(text) < len(source)))


def shrink(oracle: Oracle, case: dict[str, Any], rounds: int = 60) -> dict[str, Any]:
    """A small case that still differs in the same way."""
    kind = (differs(oracle, [case])[0] or "").split(":")[0]
    for _ in range(rounds):
        for start in range(0, len(variants := _variants(case)), 40):
            group = variants[start : start + 40]
            smaller = [
                item
                for item, why in zip(group, differs(oracle, group), strict=True)
                if why and why.split(":")[0] == kind
            ]
            if smaller:
                case = min(smaller, key=lambda item: len(json.dumps(item)))
                break
        else:
            return case
    return case


def main() -> int:
    """Runs the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0, help="stop after this time (0: never)")
    parser.add_argument("--keep", type=pathlib.Path, help="append shrunk differences to this file")
    parser.add_argument("--most", type=int, default=20, help="stop after this many differences")
    parser.add_argument("--install", action="store_true", help="fetch nunjucks with npm if it is missing")
    options = parser.parse_args()
    place = folder(options.install)
    if place is None:
        print("needs Node.js and nunjucks 3.2.4: set NUNJUCKS_DIR, or pass --install")
        return 2
    oracle = Oracle(place)
    started = time.monotonic()
    done = found = both = 0
    while done < options.pairs and found < options.most:
        if options.seconds and time.monotonic() - started > options.seconds:
            break
        cases = [
            Grammar(options.seed * 1_000_003 + done + index).case() for index in range(min(200, options.pairs - done))
        ]
        answers = oracle.render_all(cases)
        for case, theirs in zip(cases, answers, strict=True):
            both += "text" in theirs
            why = difference(case, ours(case), theirs)
            if why is None:
                continue
            found += 1
            small = shrink(oracle, case)
            answer = oracle.render_all([small])[0]
            line = {
                "why": difference(small, ours(small), answer) or why,
                "case": small,
                "theirs": answer,
                "ours": ours(small),
            }
            print(json.dumps(line)[:3000], flush=True)
            if options.keep:
                with options.keep.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
            if found >= options.most:
                break
        done += len(cases)
    oracle.close()
    print(
        f"{done} pairs (seed {options.seed}), {both} rendered by Nunjucks, {found} differences, {time.monotonic() - started:.0f} s"
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
