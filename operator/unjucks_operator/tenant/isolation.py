"""``status.isolation``: what was tried to prove the isolation, added up from all who try. Pure; called by ``tenant.status``.

Each of them gives an ``Evidence``: the probe of network policies, the canary of the database. The time in the status moves in steps
of six hours, so that hourly checks are no hourly write for each tenant; a changed result is told at once.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from unjucks_api.conditions import timestamp
from unjucks_operator.network.enforcement import Enforcement

STEP: Final = timedelta(hours=6)
_MOST_FAILURES: Final = 20


@dataclass(frozen=True, slots=True)
class Evidence:
    """One round of checks of one kind. ``at``: when; None when none has come to a result. ``failures``: the holes it found."""

    at: datetime | None
    checks: int
    failures: tuple[str, ...] = ()


def network_evidence(state: Enforcement) -> Evidence:
    """What the probe of network policies brought; the same for all tenants."""
    return Evidence(state.at, state.checks, state.failures)


def isolation_status(previous: Mapping[str, Any], evidence: Iterable[Evidence]) -> dict[str, Any]:
    """The new ``status.isolation`` after ``previous``; empty when nothing has been tried."""
    rounds = [item for item in evidence if item.at is not None and item.checks]
    if not rounds:
        return {}
    failures = [text for item in rounds for text in item.failures]
    status: dict[str, Any] = {"checks": sum(item.checks for item in rounds), "failed": len(failures)}
    if failures:
        status["failures"] = failures[:_MOST_FAILURES]
    last = previous.get("lastVerified")
    if not failures:
        # As old as the oldest of them: only then had everything passed.
        passed = min(item.at for item in rounds if item.at is not None)
        unchanged = (previous.get("checks"), previous.get("failed")) == (status["checks"], 0)
        if not unchanged or not last or passed - _time(last, passed - STEP) >= STEP:
            last = timestamp(passed)
    if last:
        status["lastVerified"] = last
    return status


def _time(text: str, otherwise: datetime) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return otherwise
    return found if found.tzinfo is not None else otherwise
