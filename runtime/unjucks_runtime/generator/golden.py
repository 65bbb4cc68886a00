"""Golden tests of template sets: a folder ``_tests/<case>`` beside an action's templates.

    _templates/api/crud/_tests/plain/variables.yaml     the variables
    _templates/api/crud/_tests/plain/base/…             files that exist before (optional)
    _templates/api/crud/_tests/plain/expected/…         every file of the outcome, byte for byte
    _templates/api/crud/_tests/plain/error.txt          instead: the reason of the expected failure, then words of its message

Each case is also run a second time on its own outcome, which must change nothing. Pure: ``updated_files`` only says what to
write. Called by the command line, by registries at ingest, and by the project's own tests.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from unjucks_runtime.generator.errors import GenerationError
from unjucks_runtime.generator.generate import generate
from unjucks_runtime.generator.load import decode
from unjucks_runtime.generator.model import Action, TemplateSet, TestCase, Tree
from unjucks_runtime.generator.options import Options
from unjucks_runtime.generator.result import Result, Status, unified


@dataclass(frozen=True)
class Outcome:
    """What became of one case: ``failures`` is empty when it passed. ``tree`` is the real outcome, ``error`` the real failure."""

    action: str
    case: TestCase
    failures: tuple[str, ...]
    tree: Tree
    error: str = ""

    @property
    def name(self) -> str:
        """``generator/action: case``."""
        return f"{self.action}: {self.case.name}"

    @property
    def passed(self) -> bool:
        """Whether everything was as expected."""
        return not self.failures


def run_case(template_set: TemplateSet, action: Action, case: TestCase, options: Options | None = None) -> Outcome:
    """Runs one case."""
    options = options or Options()
    try:
        result = _generate(template_set, action, case.variables, case.base, options)
    except GenerationError as error:
        told = f"{error.reason.value}\n{error.message}"
        return Outcome(action.full_name, case, tuple(_error_failures(case, error)), {}, told)
    tree = {file.path: (file.content, file.mode) for file in result.files if file.status is not Status.SKIPPED}
    failures = []
    if case.expected_error:
        failures.append(f"expected the failure {case.expected_error.splitlines()[0]!r}, but it succeeded")
    else:
        failures += _differences(case.expected, tree)
    failures += [f"{file.path}: {file.why}" for file in result.conflicts]
    failures += _second_run(template_set, action, case, result, options)
    return Outcome(action.full_name, case, tuple(failures), tree)


def _generate(
    template_set: TemplateSet, action: Action, variables: Mapping[str, Any], base: Tree, options: Options
) -> Result:
    return generate(template_set, action.generator, action.action, variables, base=base, options=options)


def _error_failures(case: TestCase, error: GenerationError) -> list[str]:
    if not case.expected_error:
        return [f"{error.reason.value}: {error}"]
    reason, *words = [line.strip() for line in case.expected_error.splitlines() if line.strip()]
    failures = []
    if error.reason.value != reason:
        failures.append(f"expected the failure {reason}, got {error.reason.value}: {error}")
    failures += [
        f"the failure's message lacks {word!r}: {error.message}" for word in words if word not in error.message
    ]
    return failures


def _differences(expected: Tree, real: Tree) -> list[str]:
    failures = [f"{path}: is missing" for path in sorted(expected.keys() - real.keys())]
    failures += [f"{path}: was not expected" for path in sorted(real.keys() - expected.keys())]
    for path in sorted(expected.keys() & real.keys()):
        want, got = expected[path], real[path]
        if want[0] != got[0]:
            left, right = decode(want[0]), decode(got[0])
            if left is None or right is None:
                failures.append(f"{path}: has other bytes")
            else:
                failures.append(f"{path}: differs\n" + unified(left, right, f"expected/{path}", f"generated/{path}"))
        if bool(want[1] & 0o100) != bool(got[1] & 0o100):
            failures.append(f"{path}: has the mode {got[1]:04o}, expected {want[1]:04o}")
    return failures


def _second_run(
    template_set: TemplateSet, action: Action, case: TestCase, first: Result, options: Options
) -> list[str]:
    after = {**case.base, **{file.path: (file.content, file.mode) for file in first.changes}}
    try:
        second = _generate(template_set, action, case.variables, after, replace(options, previous={}))
    except GenerationError as error:
        return [f"the second run fails: {error}"]
    changed = [file for file in second.files if file.status not in (Status.UNCHANGED, Status.SKIPPED)]
    return [f"the second run is no no-op: {file.path} is {file.status.value}" for file in changed]


def updated_files(outcome: Outcome) -> tuple[dict[str, tuple[bytes, int]], str]:
    """(files to write, folder to empty first) that make a case's expectation what came out; paths are those of the set."""
    folder = outcome.case.folder
    if outcome.error:
        return {f"{folder}/error.txt": (outcome.error.splitlines()[0].encode() + b"\n", 0o644)}, f"{folder}/expected"
    return {f"{folder}/expected/{path}": item for path, item in outcome.tree.items()}, f"{folder}/expected"
