"""Scores the engine against a folder (or file) of cases.

    python tests/conformance/run.py [CASES] [--list] [--all] [--json] [--at-least PERCENT]
    python tests/conformance/run.py [CASES] --regenerate [--check] [--install]

Prints passed/total by area. Cases with a tag that says "need not be reproduced" are left out unless ``--all`` is given.
``--regenerate`` asks the real Nunjucks again (Node.js needed) and rewrites the expectations; with ``--check`` it only reports
cases whose expectation differs. Exit status 1 if a case fails (or differs).
"""

from __future__ import annotations

import argparse
import io
import json
import pathlib
import re
import sys
from collections.abc import Iterator
from typing import Any

ROOT = pathlib.Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "runtime"), str(ROOT / "tests")]

CASES = pathlib.Path(__file__).parent / "cases"
#: Results that no other program has to reproduce.
FREE = frozenset(("engine-internal", "unsafe", "js-artifact", "engine-precision", "locale"))


def cases(place: pathlib.Path = CASES) -> Iterator[tuple[str, dict[str, Any]]]:
    """(area, case) for all cases of a folder or file."""
    for file in sorted(place.glob("*.json")) if place.is_dir() else [place]:
        for case in json.loads(file.read_text(encoding="utf-8")):
            yield file.stem, case


def required(case: dict[str, Any]) -> bool:
    """Whether the result has to be reproduced."""
    return not FREE & set(case.get("tags", []))


def failure(case: dict[str, Any]) -> str | None:
    """Why the engine fails a case, or None."""
    from unjucks_engine.conformance import render

    context = json.loads(json.dumps(case.get("context", {})))
    try:
        got = render(
            case.get("template"), case.get("templates") or {}, case.get("entry"), context, dict(case.get("options", {}))
        )
    except Exception as error:  # any error is an error result; which one is compared below
        if not case.get("error"):
            return f"failed: {error}"
        if case.get("compare_message") and _last(str(error)) != _last(case["message"]):
            return f"other message: want {_last(case['message'])!r}, got {_last(str(error))!r}"
        return None
    if case.get("error"):
        return f"did not fail but printed {got!r}"
    if got.encode("utf-16-le", "surrogatepass") != case["expected"].encode("utf-16-le", "surrogatepass"):
        return f"want {case['expected']!r}, got {got!r}"
    return None


def _last(message: str) -> str:
    return message.split("\n")[-1].strip()


def score(place: pathlib.Path, everything: bool = False) -> tuple[dict[str, list[int]], list[str]]:
    """([passed, total] by area, the failures)."""
    table: dict[str, list[int]] = {}
    failures: list[str] = []
    for area, case in cases(place):
        if not everything and not required(case):
            continue
        row = table.setdefault(area, [0, 0])
        row[1] += 1
        why = failure(case)
        if why is None:
            row[0] += 1
        else:
            failures.append(f"{area}: {case['name']}: {why}")
    return table, failures


_ENGINE_ERROR = re.compile(
    r"\b(SyntaxError|TypeError|RangeError|ReferenceError|InternalError|URIError|Cannot read propert|is not a function|"
    r"is not iterable)"
)
_ARTIFACT = re.compile(
    r"SyntaxError: (missing|Illegal break|Unexpected token|Invalid left-hand)|ReferenceError: |Maximum call stack|"
    r"charAt is not a function|"
    r"Cannot read properties of (null|undefined) \(reading '(typename|children|charAt|split|value|lastIndexOf)'\)"
)
_INTERNAL_TEXT = re.compile(r"\bfunction\s*\w*\s*\(|\[native code\]")


def _expectation(case: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    """The case with what Nunjucks answered."""
    result = {
        key: value
        for key, value in case.items()
        if key not in ("expected", "error", "message", "compare_message", "tags")
    }
    tags = set(case.get("tags", [])) - {"engine-internal", "js-artifact"}
    if "text" in answer:
        result["expected"] = answer["text"]
        if _INTERNAL_TEXT.search(answer["text"]):
            tags.add("engine-internal")
    else:
        message = answer["error"]
        own = re.search(r"Unable to call `|which is not a function|resolved to undefined", message)
        artifact = bool(_ARTIFACT.search(message))
        if artifact:
            tags.add("js-artifact")
        comparable = not artifact and bool(own or not _ENGINE_ERROR.search(message))
        result |= {"error": True, "message": message, "compare_message": comparable}
    if tags:
        result["tags"] = sorted(tags)
    return result


def regenerate(place: pathlib.Path, check: bool, install: bool) -> int:
    """Rewrites the expectations with the real Nunjucks; returns the number of cases that changed."""
    from support.nunjucks_oracle import Oracle, folder

    found = folder(install)
    if found is None:
        raise SystemExit("needs Node.js and nunjucks 3.2.4: set NUNJUCKS_DIR, or pass --install")
    oracle = Oracle(found)
    changed = 0
    for file in sorted(place.glob("*.json")) if place.is_dir() else [place]:
        before = json.loads(file.read_text(encoding="utf-8"))
        own = [case for case in before if not case.get("external")]
        answers = iter(oracle.render_all(own))
        after = [case if case.get("external") else _expectation(case, next(answers)) for case in before]
        for old, new in zip(before, after, strict=True):
            if _comparable(old) != _comparable(new):
                changed += 1
                print(f"{file.name}: {old['name']}")
        if not check and after != before:
            lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in after)
            file.write_bytes(f"[\n{lines}\n]\n".encode("utf-8", "surrogatepass"))
    oracle.close()
    return changed


def _comparable(case: dict[str, Any]) -> Any:
    """What must not change: the text, or that it fails and with which last line."""
    if "expected" in case:
        return case["expected"]
    return [case["error"], _last(case["message"]) if case.get("compare_message") else ""]


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="?", type=pathlib.Path, default=CASES)
    parser.add_argument("--list", action="store_true", help="print each failing case")
    parser.add_argument("--all", action="store_true", help="also the cases nobody has to reproduce")
    parser.add_argument("--json", action="store_true", help="print the table as JSON")
    parser.add_argument("--at-least", type=float, default=100.0, help="the percentage that is enough")
    parser.add_argument("--regenerate", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--install", action="store_true", help="fetch nunjucks with npm if it is missing")
    options = parser.parse_args()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # messages can hold halves of characters
    if options.regenerate:
        changed = regenerate(options.cases, options.check, options.install)
        print(f"{changed} cases {'differ' if options.check else 'changed'}")
        return 1 if options.check and changed else 0
    table, failures = score(options.cases, options.all)
    passed, total = (sum(column) for column in zip(*table.values(), strict=True)) if table else (0, 0)
    if options.json:
        print(json.dumps({"areas": table, "passed": passed, "total": total}))
    else:
        for area, (good, count) in table.items():
            print(f"{area:22} {good:5}/{count:<5} {100 * good / count:6.1f} %")
        print(f"{'all':22} {passed:5}/{total:<5} {100 * passed / max(1, total):6.1f} %")
    if options.list:
        print("\n".join(failures))
    return 0 if total and 100 * passed / total >= options.at_least else 1


if __name__ == "__main__":
    sys.exit(main())
