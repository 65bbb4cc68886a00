"""The commands that look for something: lint, test, migrate. Exit code 1 when they find it."""

import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from rich.text import Text

from unjucks_runtime.cli.local import set_engine
from unjucks_runtime.cli.output import Exit, Failure, Out, excerpt
from unjucks_runtime.cli.sets import LocalSet
from unjucks_runtime.dlp.scan import problems_in
from unjucks_runtime.generator import File, Options, Status, read_tree
from unjucks_runtime.generator.golden import Outcome, run_case, updated_files
from unjucks_runtime.generator.migrate import CHANGE, scan
from unjucks_runtime.generator.write import write_files

SEARCH_SECONDS = 30.0


def lint(out: Out, loaded: LocalSet, *, strict: bool) -> None:
    """Reports every problem of a set."""
    contents = ((path, content) for path, (content, _) in loaded.files.items())
    sensitive = problems_in(contents, severity="warning", clock=time.monotonic, seconds=SEARCH_SECONDS)
    problems = [*loaded.templates.all_problems, *sensitive]
    errors = sum(item.severity == "error" for item in problems)
    bad = errors or (strict and problems)
    if out.machine:
        out.json(
            {
                "ok": not bad,
                "actions": len(loaded.templates.actions),
                "problems": [item.model_dump() for item in problems],
            }
        )
    else:
        for item in problems:
            style = "bold red" if item.severity == "error" else "bold yellow"
            place = ":".join(str(part) for part in (item.path, item.line, item.column) if part)
            out.console.print(Text.assemble((f"{item.severity}: ", style), (place, "bold"), f": {item.message}"))
            if item in sensitive:
                continue  # an excerpt would show what must not be seen, in a log for example
            for line in excerpt(loaded.files, item.path, item.line, item.column):
                out.line(line, "dim")
        out.line(
            f"{len(loaded.templates.actions)} actions, {errors} errors, {len(problems) - errors} warnings",
            "red" if bad else "green",
        )
    if bad:
        raise Failure(Exit.FOUND)


def test(out: Out, loaded: LocalSet, only: Sequence[str], *, update: bool) -> None:
    """Runs golden tests; with ``update`` rewrites the expectations of those that fail."""
    options = Options(engine=set_engine(loaded.templates, Options()))
    cases = [
        (action, case)
        for action in loaded.templates.actions
        for case in action.tests
        if not only or any(_wanted(word, action.full_name, case.name) for word in only)
    ]
    outcomes: list[Outcome] = []
    with out.progress("golden tests", len(cases)) as advance:
        for action, case in cases:
            outcomes.append(run_case(loaded.templates, action, case, options))
            advance()
    updated = [outcome.name for outcome in outcomes if update and not outcome.passed and _update(loaded, outcome)]
    failed = [outcome for outcome in outcomes if not outcome.passed and outcome.name not in updated]
    if out.machine:
        out.json(
            {
                "ok": not failed and bool(cases),
                "passed": sum(outcome.passed for outcome in outcomes),
                "failed": len(failed),
                "updated": updated,
                "cases": [{"name": o.name, "passed": o.passed, "failures": list(o.failures)} for o in outcomes],
            }
        )
    else:
        for outcome in outcomes:
            label = "updated" if outcome.name in updated else "passed" if outcome.passed else "FAILED"
            style = {"updated": "yellow", "passed": "green", "FAILED": "bold red"}[label]
            out.console.print(Text.assemble((f"{label:>8}  ", style), outcome.name))
            for failure in outcome.failures if label == "FAILED" else ():
                head, _, rest = failure.partition("\n")
                out.line(f"          {head}")
                if rest:
                    out.diff(rest)
        if not cases:
            out.note("there is no golden test: _templates/<generator>/<action>/_tests/<case>/variables.yaml", "yellow")
        out.line(f"{sum(o.passed for o in outcomes)} passed, {len(updated)} updated, {len(failed)} failed")
    if failed or not cases:
        raise Failure(Exit.FOUND)


def _wanted(word: str, action: str, case: str) -> bool:
    return action == word or action.startswith(word + "/") or word in f"{action}: {case}"


def _update(loaded: LocalSet, outcome: Outcome) -> bool:
    if not outcome.case.folder:
        return False  # written in action.yaml by hand: nothing to rewrite
    files, emptied = updated_files(outcome)
    folder = Path(loaded.folder) / emptied
    error = Path(loaded.folder) / outcome.case.folder / "error.txt"
    if folder.is_dir() and not folder.is_symlink():
        shutil.rmtree(folder)
    if not outcome.error and error.exists():
        os.unlink(error)
    write_files(
        [File(path, Status.UPDATED, content, mode, "") for path, (content, mode) in files.items()], loaded.folder
    )
    return True


def migrate(out: Out, folder: str) -> None:
    """Reports what in a tree needs a change."""
    files = read_tree(folder)
    found = scan(files)
    needed = [item for item in found if item.kind == CHANGE]
    if out.machine:
        out.json(
            {
                "ok": not needed,
                "findings": [
                    {
                        "path": item.path,
                        "line": item.line,
                        "column": item.column,
                        "kind": item.kind,
                        "rule": item.rule,
                        "message": item.message,
                    }
                    for item in found
                ],
            }
        )
    else:
        for item in found:
            place = ":".join(str(part) for part in (item.path, item.line, item.column) if part)
            style = {"change": "bold red", "check": "bold yellow"}.get(item.kind, "dim")
            out.console.print(Text.assemble((f"{item.kind:>6}  ", style), (place, "bold"), f": {item.message}"))
            for line in excerpt(files, item.path, item.line, item.column):
                out.line(line, "dim")
        paths = len({item.path for item in needed})
        out.line(f"{len(needed)} changes needed in {paths} files, {len(found) - len(needed)} to check", "bold")
    if needed:
        raise Failure(Exit.FOUND)
