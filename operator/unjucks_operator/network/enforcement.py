"""Whether the network plugin enforces NetworkPolicies, as far as the operator has tried. Pure.

Called by ``probe``, which tries it, and by the status of tenants, which tells it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

CHECKS: Final = {
    "ingress": "a packet arrived at a pod whose policy lets nothing in",
    "egress": "a packet left a pod whose policy lets nothing out",
}
"""The two things that a probe tries, and what it means when one of them gets through."""


class Verdict(StrEnum):
    """What is known."""

    OFF = "Off"
    """Probing is switched off."""

    UNKNOWN = "Unknown"
    """No probe could be made, or the last one is too long ago."""

    ENFORCED = "Enforced"
    """What is allowed got through, and nothing else did."""

    NOT_ENFORCED = "NotEnforced"
    """Something got through that a policy forbids."""


@dataclass(frozen=True, slots=True)
class Enforcement:
    """The state that all tenants share. ``at``: when a probe last came to a result; ``why``: what hinders the probes since."""

    verdict: Verdict = Verdict.UNKNOWN
    failures: tuple[str, ...] = ()
    at: datetime | None = None
    why: str = "no probe has been made yet"

    @property
    def checks(self) -> int:
        """How many things were tried."""
        return len(CHECKS) if self.verdict in (Verdict.ENFORCED, Verdict.NOT_ENFORCED) else 0

    def same_for_tenants(self, other: "Enforcement") -> bool:
        """Whether a tenant would be told the same."""
        return (self.verdict, self.failures, self.checks) == (other.verdict, other.failures, other.checks) and (
            self.verdict is not Verdict.UNKNOWN or self.why == other.why
        )


NEVER_TRIED: Final = Enforcement()
OFF: Final = Enforcement(Verdict.OFF, why="probing is switched off")


def judge(report: Mapping[str, Any], now: datetime) -> Enforcement:
    """What the client's report means: ``{"allowed": bool, "ingress": bool, "egress": bool}``, true when it got through.

    Without the allowed connection the others prove nothing: the network may simply not work.
    """
    if not all(isinstance(report.get(key), bool) for key in ("allowed", *CHECKS)):
        return Enforcement(Verdict.UNKNOWN, why="the probe's pod gave no readable report")
    if not report["allowed"]:
        return Enforcement(
            Verdict.UNKNOWN,
            why="the connection that the probe's policies allow did not work either, so the others prove nothing",
        )
    failures = tuple(text for key, text in CHECKS.items() if report[key])
    return Enforcement(Verdict.NOT_ENFORCED if failures else Verdict.ENFORCED, failures, now, "")


def after(previous: Enforcement, latest: Enforcement, now: datetime, patience: timedelta) -> Enforcement:
    """The state after a probe: one that came to no result does not wipe out an older one, until that is older than ``patience``."""
    if latest.verdict is not Verdict.UNKNOWN:
        return latest
    if previous.at is not None and previous.verdict is not Verdict.UNKNOWN and now - previous.at < patience:
        return Enforcement(previous.verdict, previous.failures, previous.at, latest.why)
    return latest


def dump(state: Enforcement) -> dict[str, str]:
    """As it is kept between two lives of the operator; text only."""
    return {
        "verdict": state.verdict.value,
        "failures": "\n".join(state.failures),
        "at": state.at.isoformat(timespec="seconds") if state.at else "",
    }


def load(data: Mapping[str, str], now: datetime, patience: timedelta) -> Enforcement:
    """What ``dump`` wrote; unknown when it is unreadable, too old, or from the future."""
    try:
        verdict, at = Verdict(data.get("verdict", "")), datetime.fromisoformat(data.get("at", ""))
        fresh = timedelta(0) - timedelta(minutes=5) < now - at < patience
    except (ValueError, TypeError):
        return Enforcement()
    if not fresh or verdict not in (Verdict.ENFORCED, Verdict.NOT_ENFORCED):
        return Enforcement()
    failures = tuple(line for line in data.get("failures", "").splitlines() if line in CHECKS.values())
    if (verdict is Verdict.NOT_ENFORCED) != bool(failures):
        return Enforcement()
    return Enforcement(verdict, failures, at, "")
