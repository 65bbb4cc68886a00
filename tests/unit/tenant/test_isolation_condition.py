"""IsolationVerified and status.isolation, computed from what those who check have found."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from unjucks_api.conditions import ConditionType, merge_conditions
from unjucks_api.reasons import Reason
from unjucks_operator.evidence import Evidence
from unjucks_operator.tenant.isolation import isolation_condition, isolation_status, keep_known

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
NETWORK = Evidence(NOW, 2)
DATABASE = Evidence(NOW, 93)
NEVER = Evidence(None, 0)
HOLE = Evidence(NOW, 93, ("rights of everybody: SELECT on unjucks.artifact for PUBLIC", "canary: read rows"))


def status_of(evidence: list[Evidence | None], previous: dict[str, Any] | None = None) -> dict[str, Any]:
    condition = isolation_condition(previous or {}, evidence)
    return {
        "conditions": merge_conditions([], [condition], generation=1, now=NOW),
        "isolation": isolation_status({}, [item for item in evidence if item is not None]),
    }


def test_all_rounds_passed() -> None:
    condition = isolation_condition({}, [NETWORK, DATABASE])
    assert (condition.status, condition.reason) == ("True", Reason.RECONCILED)
    assert "95" in condition.message
    assert isolation_condition({}, [NEVER, DATABASE]).status == "True", (
        "a probe that is off proves nothing and spoils nothing"
    )


@pytest.mark.parametrize("evidence", [[NETWORK, None], [NEVER, None], [NEVER]])
def test_before_the_first_round_it_is_unknown(evidence: list[Evidence | None]) -> None:
    condition = isolation_condition({}, evidence)
    assert (condition.status, condition.reason) == ("Unknown", Reason.ISOLATION_UNVERIFIED)


def test_a_hole_is_named_also_while_another_round_is_still_to_come() -> None:
    for evidence in ([NETWORK, HOLE], [HOLE, None]):
        condition = isolation_condition({}, evidence)
        assert (condition.status, condition.reason) == ("False", Reason.ISOLATION_BROKEN)
        assert "SELECT on unjucks.artifact for PUBLIC" in condition.message


@pytest.mark.parametrize("before", [[NETWORK, DATABASE], [NETWORK, HOLE]])
def test_after_a_restart_what_was_known_stays_until_the_first_round(before: list[Evidence | None]) -> None:
    previous = status_of(before)
    assert keep_known(previous, [NETWORK, None])
    again = isolation_condition(previous, [NETWORK, None])
    assert again == isolation_condition({}, before)
    assert not keep_known(previous, [NETWORK, DATABASE]), "a result counts more than a memory"
    assert not keep_known({}, [NETWORK, None]), "nothing was known"
    assert not keep_known(status_of([NEVER, None]), [NETWORK, None]), "unknown is not known"


def test_a_reason_of_another_version_is_not_repeated() -> None:
    previous = status_of([NETWORK, DATABASE])
    previous["conditions"][0]["reason"] = "SomethingNew"
    assert not keep_known(previous, [NETWORK, None])
    assert isolation_condition(previous, [NETWORK, None]).status == "Unknown"
    assert previous["conditions"][0]["type"] == ConditionType.ISOLATION_VERIFIED


def test_same_result_means_the_same_whenever_it_was() -> None:
    later = Evidence(NOW + timedelta(hours=1), 93)
    assert DATABASE.same_result(later)
    assert not DATABASE.same_result(HOLE)
    assert not DATABASE.same_result(None)
