"""What the result of a probe means, how long it counts, and what the tenants are told."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from unjucks_api.conditions import ConditionType
from unjucks_operator.network.enforcement import (
    CHECKS,
    NEVER_TRIED,
    OFF,
    Enforcement,
    Verdict,
    after,
    dump,
    judge,
    load,
)
from unjucks_operator.tenant.facts import NetworkView
from unjucks_operator.tenant.isolation import Evidence, isolation_status, network_evidence
from unjucks_operator.tenant.network import isolated_condition

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
ENFORCED = judge({"allowed": True, "ingress": False, "egress": False}, NOW)


@pytest.mark.parametrize(
    ("report", "verdict", "failures"),
    [
        ({"allowed": True, "ingress": False, "egress": False, "window": 0.1}, "Enforced", []),
        ({"allowed": True, "ingress": True, "egress": False}, "NotEnforced", ["ingress"]),
        ({"allowed": True, "ingress": False, "egress": True}, "NotEnforced", ["egress"]),
        ({"allowed": True, "ingress": True, "egress": True}, "NotEnforced", ["ingress", "egress"]),
        ({"allowed": False, "ingress": False, "egress": False}, "Unknown", []),
        ({"allowed": True, "ingress": False}, "Unknown", []),
        ({"allowed": True, "ingress": "no", "egress": False}, "Unknown", []),
        ({}, "Unknown", []),
    ],
)
def test_a_report_proves_only_what_it_says(report: dict[str, Any], verdict: str, failures: list[str]) -> None:
    state = judge(report, NOW)
    assert state.verdict == verdict
    assert state.failures == tuple(CHECKS[name] for name in failures)
    assert state.at == (NOW if verdict != "Unknown" else None)


@pytest.mark.parametrize(
    ("state", "status", "reason"),
    [
        (ENFORCED, "True", "Reconciled"),
        (judge({"allowed": True, "ingress": True, "egress": False}, NOW), "False", "PolicyNotEnforced"),
        (NEVER_TRIED, "Unknown", "PolicyUnverified"),
        (Enforcement(why="pods are refused"), "Unknown", "PolicyUnverified"),
        (OFF, "True", "Reconciled"),
    ],
)
def test_the_condition_tells_what_is_known(state: Enforcement, status: str, reason: str) -> None:
    condition = isolated_condition(NetworkView(enforcement=state))
    assert (condition.type, condition.status, condition.reason) == (ConditionType.NETWORK_ISOLATED, status, reason)
    if state is OFF:
        assert "not tried" in condition.message
    for text in state.failures:
        assert text in condition.message


def test_a_probe_without_a_result_leaves_the_last_one_standing_for_a_while() -> None:
    broken = Enforcement(why="no node has room")
    kept = after(ENFORCED, broken, NOW + HOUR, 3 * HOUR)
    assert (kept.verdict, kept.at, kept.why) == (Verdict.ENFORCED, NOW, "no node has room")
    assert kept.same_for_tenants(ENFORCED)  # nobody is told, nothing is written
    assert after(kept, broken, NOW + 3 * HOUR, 3 * HOUR) == broken
    assert not broken.same_for_tenants(kept)
    # A new result wins at once, whichever it is.
    worse = judge({"allowed": True, "ingress": True, "egress": False}, NOW + HOUR)
    assert after(ENFORCED, worse, NOW + HOUR, 3 * HOUR) == worse
    assert not worse.same_for_tenants(ENFORCED)


@pytest.mark.parametrize("state", [ENFORCED, judge({"allowed": True, "ingress": True, "egress": True}, NOW)])
def test_the_last_result_outlives_the_operator(state: Enforcement) -> None:
    assert load(dump(state), NOW + HOUR, 3 * HOUR) == state
    assert load(dump(state), NOW + 3 * HOUR, 3 * HOUR) == NEVER_TRIED
    assert load(dump(state), NOW - HOUR, 3 * HOUR) == NEVER_TRIED  # from the future


@pytest.mark.parametrize(
    "change",
    [
        {"verdict": "Fine"},
        {"verdict": "Off"},
        {"verdict": "NotEnforced"},
        {"failures": "somebody wrote this"},
        {"at": ""},
        {"at": "yesterday"},
        {"at": "2026-01-01T12:00:00"},
    ],
)
def test_what_somebody_wrote_into_the_result_counts_as_no_result(change: dict[str, str]) -> None:
    state = load(dump(ENFORCED) | change, NOW + HOUR, 3 * HOUR)
    assert state == NEVER_TRIED or (change == {"failures": "somebody wrote this"} and state == ENFORCED)


def test_the_status_moves_in_steps_and_tells_a_change_at_once() -> None:
    first = isolation_status({}, [network_evidence(ENFORCED)])
    assert first == {"checks": 2, "failed": 0, "lastVerified": "2026-01-01T12:00:00Z"}
    for hours in (1, 5):
        later = judge({"allowed": True, "ingress": False, "egress": False}, NOW + hours * HOUR)
        assert isolation_status(first, [network_evidence(later)]) == first
    day = judge({"allowed": True, "ingress": False, "egress": False}, NOW + 6 * HOUR)
    assert isolation_status(first, [network_evidence(day)])["lastVerified"] == "2026-01-01T18:00:00Z"
    open_ = judge({"allowed": True, "ingress": True, "egress": False}, NOW + HOUR)
    assert isolation_status(first, [network_evidence(open_)]) == {
        "checks": 2,
        "failed": 1,
        "failures": [CHECKS["ingress"]],
        "lastVerified": "2026-01-01T12:00:00Z",
    }
    assert isolation_status(first, [network_evidence(NEVER_TRIED)]) == {}


def test_several_kinds_of_evidence_are_added_and_the_oldest_gives_the_time() -> None:
    canary = Evidence(NOW - HOUR, 12)
    found = isolation_status({}, [network_evidence(ENFORCED), canary])
    assert found == {"checks": 14, "failed": 0, "lastVerified": "2026-01-01T11:00:00Z"}
    # One that has not come to a result yet neither counts nor holds up the others.
    assert isolation_status({}, [canary, Evidence(None, 0)])["checks"] == 12
    many = Evidence(NOW, 40, tuple(f"hole {number}" for number in range(30)))
    crowded = isolation_status({}, [many])
    assert crowded["failed"] == 30
    assert len(crowded["failures"]) == 20


@pytest.mark.parametrize("last", ["", "nonsense", "2026-01-01T12:00:00", 7])
def test_a_damaged_time_in_the_status_is_replaced(last: Any) -> None:
    found = isolation_status({"checks": 2, "failed": 0, "lastVerified": last}, [network_evidence(ENFORCED)])
    assert found["lastVerified"] == "2026-01-01T12:00:00Z"
