"""Runs the golden tests that a template set ships, when it is read: what fails is told as a warning. Pure but for a clock.

A set is served with failing tests too: they are its author's word, and the author sees them in the catalogue. Called by ``tasks``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from unjucks_api.render_protocol import Action as CatalogueAction
from unjucks_api.render_protocol import ShippedTests
from unjucks_runtime.generator.golden import Outcome, run_case
from unjucks_runtime.generator.model import Action, TemplateSet, problem
from unjucks_runtime.generator.options import Options

MAX_TESTS: Final = 200
MAX_SECONDS: Final = 10.0
"""All tests of a set together; those that find no time are counted as not run."""


@dataclass
class Budget:
    """What is left for tests of a set."""

    clock: Callable[[], float]
    ends: float
    tests: int = MAX_TESTS

    def take(self) -> bool:
        """Whether one more may run."""
        self.tests -= 1
        return self.tests >= 0 and self.clock() < self.ends


def catalogue_with_tests(
    template_set: TemplateSet, options: Options, clock: Callable[[], float]
) -> list[CatalogueAction]:
    """The catalogue, with what came of each action's tests."""
    budget = Budget(clock, clock() + MAX_SECONDS)
    return [_tested(template_set, action, options, budget) for action in template_set.actions]


def _tested(template_set: TemplateSet, action: Action, options: Options, budget: Budget) -> CatalogueAction:
    entry = action.catalogue()
    if not action.tests or not action.valid:
        return entry
    outcomes = [run_case(template_set, action, case, options) for case in action.tests if budget.take()]
    failed = [outcome for outcome in outcomes if not outcome.passed]
    told = ShippedTests(
        passed=len(outcomes) - len(failed), failed=len(failed), not_run=len(action.tests) - len(outcomes)
    )
    path = f"{action.folder}/action.yaml"
    problems = [problem(path, f"its test {it.case.name!r} fails: {_first(it)}", severity="warning") for it in failed]
    return entry.model_copy(update={"tests": told, "problems": [*entry.problems, *problems]})


def _first(outcome: Outcome) -> str:
    """The first failure in one line; a diff's lines stay with whoever runs the tests."""
    line = outcome.failures[0].splitlines()[0][:300]
    more = len(outcome.failures) - 1
    return f"{line} (and {more} more)" if more else line
