"""``status.isolation``: what was tried to prove the isolation, added up from all who try. Pure; called by ``tenant.status``.

Each of them gives an ``Evidence``: the probe of network policies, the canary of the database. The time in the status moves in steps
of six hours, so that hourly checks are no hourly write for each tenant; a changed result is told at once.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from unjucks_api.conditions import Condition, ConditionType, find_condition, timestamp
from unjucks_api.reasons import Reason
from unjucks_operator.evidence import Evidence
from unjucks_operator.network.enforcement import Enforcement

__all__ = ["STEP", "Evidence", "isolation_condition", "isolation_status", "keep_known", "network_evidence"]

STEP: Final = timedelta(hours=6)
_MOST_FAILURES: Final = 20
_MOST_SHOWN: Final = 3


def network_evidence(state: Enforcement) -> Evidence:
    """What the probe of network policies brought; the same for all tenants."""
    return Evidence(state.at, state.checks, state.failures)


def keep_known(previous: Mapping[str, Any], evidence: Iterable[Evidence | None]) -> bool:
    """Whether what status says stays as it is: some of those who check have not come to a result in this life of the operator,
    and none has found a hole. So a restart makes nobody doubt, and writes nothing."""
    rounds = list(evidence)
    known = find_condition(previous, ConditionType.ISOLATION_VERIFIED)
    return (
        None in rounds
        and not any(item.failures for item in rounds if item is not None)
        and known is not None
        and known.get("status") in ("True", "False")
        and known.get("reason") in set(Reason)
    )


def isolation_condition(previous: Mapping[str, Any], evidence: Iterable[Evidence | None]) -> Condition:
    """IsolationVerified. A None among ``evidence`` is a round that is still to come. Unknown does not keep Ready away: then nothing
    speaks against the isolation, and what it is made of has conditions of its own."""
    kind = ConditionType.ISOLATION_VERIFIED
    rounds = list(evidence)
    done = [item for item in rounds if item is not None and item.at is not None and item.checks]
    failures = [text for item in done for text in item.failures]
    checks = sum(item.checks for item in done)
    if failures:
        text = f"{len(failures)} of {checks} checks found a hole: {'; '.join(failures[:_MOST_SHOWN])}"
        return Condition(kind, "False", Reason.ISOLATION_BROKEN, text)
    if keep_known(previous, rounds):
        known = find_condition(previous, kind) or {}
        return Condition(kind, known["status"], Reason(known["reason"]), known.get("message", ""))
    if not done or None in rounds:
        return Condition(kind, "Unknown", Reason.ISOLATION_UNVERIFIED, "the first round of checks is still to come")
    return Condition(kind, "True", Reason.RECONCILED, f"{checks} attempts to get out failed, and no rule is broken")


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
