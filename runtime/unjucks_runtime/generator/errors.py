"""Errors of the generator: one class, a reason from the project's closed list, and the place in the template set.

Raised by every module of this package; the renderer server turns them into ``ErrorResponse``, the command line into a message
with a source excerpt and an exit code. A message never holds the value of a sensitive variable.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from unjucks_api.reasons import Reason
from unjucks_api.variable_messages import ProblemKind, VariableProblem


@dataclass(frozen=True)
class Place:
    """Where something stands: a path of the template set, line and column from 1; 0 when it has none."""

    path: str = ""
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        parts = [self.path, *(str(number) for number in (self.line, self.column) if number)]
        return ":".join(parts)


class GenerationError(Exception):
    """A generation that cannot be done. ``limit`` names the exceeded budget when the reason is LimitExceeded."""

    def __init__(self, reason: Reason, message: str, place: Place | None = None, *, limit: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.place = place or Place()
        self.limit = limit

    def conceal(self, hide: Callable[[str], str]) -> None:
        """Passes the message through ``hide``, which takes secrets out."""
        self.message = hide(self.message)
        self.args = (self.message,)

    def __str__(self) -> str:
        return f"{self.place}: {self.message}" if self.place.path else self.message


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
