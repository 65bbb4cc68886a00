"""What a round of checks of the isolation brought: plain data between those who check and the status of tenants. Pure."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Evidence:
    """One round of checks of one kind. ``at``: when; None when none has come to a result. ``failures``: the holes it found."""

    at: datetime | None
    checks: int
    failures: tuple[str, ...] = ()

    def same_result(self, other: "Evidence | None") -> bool:
        """Whether both found the same, whenever that was."""
        return other is not None and (self.checks, self.failures) == (other.checks, other.failures)
