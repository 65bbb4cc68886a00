"""Errors of the generator: one class, a reason from the project's closed list, and the place in the template set.

Raised by every module of this package; the renderer server turns them into ``ErrorResponse``, the command line into a message
with a source excerpt and an exit code. A message never holds the value of a sensitive variable.
"""

from collections.abc import Sequence

from unjucks_api.reasons import Reason
from unjucks_api.variable_messages import ProblemKind, VariableProblem
from unjucks_runtime.failures import GenerationError as GenerationError
from unjucks_runtime.failures import Place as Place


class VariablesError(GenerationError):
    """The variables do not hold the action's schema; ``problems`` has all of them."""

    def __init__(self, problems: Sequence[VariableProblem]) -> None:
        self.problems = tuple(problems)
        only_missing = all(problem.kind is ProblemKind.MISSING for problem in problems)
        reason = Reason.VARIABLES_MISSING if only_missing else Reason.VARIABLES_INVALID
        super().__init__(reason, "; ".join(str(problem) for problem in problems))


class ParseError(Exception):
    """A side file or frontmatter that cannot be read; collected as a problem of the set, not raised to callers."""

    def __init__(self, message: str, line: int = 0, column: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.column = column
