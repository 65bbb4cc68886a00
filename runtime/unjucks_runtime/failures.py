"""The failure of a task over a tree of files: a reason from the project's closed list, and the place. Pure.

Apart from the generator, so that a courier, which unpacks archives too, does not load what runs templates. Called by all parts.
"""

from collections.abc import Callable
from dataclasses import dataclass

from unjucks_api.reasons import Reason


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
