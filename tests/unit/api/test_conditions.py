"""Conditions: what is merged, what disappears, and that nothing changes when nothing has changed."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unjucks_api.conditions import (
    ABNORMAL_WHEN_TRUE,
    MAX_MESSAGE,
    Condition,
    ConditionType,
    find_condition,
    is_ready,
    merge_conditions,
    paused_status,
    timestamp,
)
from unjucks_api.reasons import Reason
from unjucks_api.v1alpha1 import KINDS

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)
READY = ConditionType.READY

computed_conditions = st.lists(
    st.builds(
        Condition,
        type=st.sampled_from(ConditionType),
        status=st.sampled_from(["True", "False", "Unknown"]),
        reason=st.sampled_from(Reason),
        message=st.text(max_size=20),
    ),
    max_size=12,
)


def one(kind: ConditionType, status: str, reason: Reason = Reason.RECONCILED, message: str = "text") -> Condition:
    return Condition(kind, status, reason, message)


def merge(
    computed: list[Condition], previous: list[dict[str, Any]] | None = None, now: datetime = NOW
) -> list[dict[str, Any]]:
    return merge_conditions(previous or [], computed, generation=3, now=now)


def test_a_condition_has_everything_that_the_conventions_ask_for() -> None:
    assert merge([one(READY, "True")]) == [
        {
            "type": "Ready",
            "status": "True",
            "reason": "Reconciled",
            "message": "text",
            "observedGeneration": 3,
            "lastTransitionTime": "2026-03-01T12:00:00Z",
        }
    ]


def test_the_time_moves_only_when_the_status_flips() -> None:
    first = merge([one(READY, "False", Reason.PROGRESSING)])
    same = merge([one(READY, "False", Reason.DATABASE_UNAVAILABLE, "other words")], first, LATER)
    assert same[0]["lastTransitionTime"] == timestamp(NOW)
    assert (same[0]["reason"], same[0]["message"]) == ("DatabaseUnavailable", "other words")
    flipped = merge([one(READY, "True")], same, LATER)
    assert flipped[0]["lastTransitionTime"] == timestamp(LATER)


def test_abnormal_conditions_are_there_only_while_true() -> None:
    first = merge([one(READY, "False"), one(ConditionType.STALLED, "True"), one(ConditionType.RECONCILING, "False")])
    assert [item["type"] for item in first] == ["Ready", "Stalled"]
    second = merge([one(READY, "True"), one(ConditionType.STALLED, "False")], first, LATER)
    assert [item["type"] for item in second] == ["Ready"]


def test_normal_conditions_are_shown_whatever_their_status() -> None:
    merged = merge([one(ConditionType.DATABASE_READY, "Unknown"), one(ConditionType.ACCESS_READY, "False")])
    assert [(item["type"], item["status"]) for item in merged] == [
        ("AccessReady", "False"),
        ("DatabaseReady", "Unknown"),
    ]


def test_what_is_not_computed_any_more_disappears() -> None:
    first = merge([one(READY, "True"), one(ConditionType.DATABASE_READY, "True")])
    assert [item["type"] for item in merge([one(READY, "True")], first)] == ["Ready"]


@pytest.mark.parametrize(
    ("kind", "statuses", "expected"),
    [
        (READY, ("True", "False"), "False"),
        (READY, ("False", "True"), "False"),
        (READY, ("True", "Unknown"), "Unknown"),
        (READY, ("Unknown", "False"), "False"),
        (ConditionType.STALLED, ("True", "False"), "True"),
        (ConditionType.STALLED, ("False", "True"), "True"),
    ],
)
def test_of_two_of_one_type_the_worse_stands(kind: ConditionType, statuses: tuple[str, str], expected: str) -> None:
    (merged,) = merge([one(kind, status) for status in statuses])
    assert merged["status"] == expected


def test_long_messages_are_cut_so_that_the_status_can_be_stored() -> None:
    (merged,) = merge([one(READY, "False", message="x" * 5000)])
    assert len(merged["message"]) == MAX_MESSAGE
    assert merged["message"].endswith("x…")
    (whole,) = merge([one(READY, "False", message="x" * MAX_MESSAGE)])
    assert whole["message"] == "x" * MAX_MESSAGE


def test_a_damaged_earlier_status_does_no_harm() -> None:
    damaged: list[dict[str, Any]] = [{"type": "Ready", "status": "True"}, {"message": "no type"}, {}]
    (merged,) = merge([one(READY, "True")], damaged)
    assert merged["lastTransitionTime"] == timestamp(NOW)


@given(computed=computed_conditions)
def test_computing_the_same_again_changes_no_byte(computed: list[Condition]) -> None:
    first = merge(computed)
    assert merge(computed, first, LATER) == first
    assert merge(list(reversed(computed)), None)[: len(first)] != [None]
    assert [item["type"] for item in merge(list(reversed(computed)), first)] == [item["type"] for item in first]


@given(computed=computed_conditions)
def test_the_result_can_always_be_stored(computed: list[Condition]) -> None:
    merged = merge(computed)
    types = [item["type"] for item in merged]
    assert len(types) == len(set(types))
    assert types == sorted(types, key=lambda kind: (kind != "Ready", kind))
    assert not any(item["type"] in ABNORMAL_WHEN_TRUE and item["status"] != "True" for item in merged)
    for kind in KINDS:
        kind.definition.status.model_validate({"conditions": merged})


def test_times_are_in_utc_and_whole_seconds() -> None:
    berlin = datetime(2026, 3, 1, 13, 0, 0, 999999, tzinfo=timezone(timedelta(hours=1)))
    assert timestamp(berlin) == "2026-03-01T12:00:00Z"


def test_the_reference_to_every_type_fits_the_schema() -> None:
    assert all(len(kind) <= 64 for kind in ConditionType)
    assert all(len(reason) <= 64 for reason in Reason)


# --- Ready ---------------------------------------------------------------------------------------------------------------
def body(*, generation: int = 2, observed: int = 2, condition: int = 2, status: str = "True") -> dict[str, Any]:
    ready = {"type": "Ready", "status": status, "observedGeneration": condition}
    return {"metadata": {"generation": generation}, "status": {"observedGeneration": observed, "conditions": [ready]}}


def test_ready_counts_at_the_current_generation_only() -> None:
    assert is_ready(body())
    assert not is_ready(body(generation=3))
    assert not is_ready(body(generation=3, observed=3))
    assert not is_ready(body(generation=3, condition=3))
    assert not is_ready(body(status="False"))
    assert not is_ready(body(status="Unknown"))


@pytest.mark.parametrize(
    "broken", [{}, {"status": None}, {"status": {}}, {"status": {"conditions": None}}, {"metadata": None}]
)
def test_an_object_without_a_status_is_not_ready(broken: dict[str, Any]) -> None:
    assert not is_ready(broken)


def test_find() -> None:
    status = {"conditions": [{"type": "Ready"}, {"type": "Stalled", "status": "True"}]}
    assert find_condition(status, ConditionType.STALLED) == {"type": "Stalled", "status": "True"}
    assert find_condition(status, ConditionType.DELETING) is None
    assert find_condition({}, READY) is None


# --- Paused --------------------------------------------------------------------------------------------------------------
def test_a_pause_is_added_and_touches_nothing_else() -> None:
    before = {"observedGeneration": 2, "conditions": merge([one(READY, "True")]), "summary": {"jobs": 1}}
    paused = paused_status(before, now=LATER)
    assert [item["type"] for item in paused["conditions"]] == ["Ready", "Paused"]
    assert paused["conditions"][0] == before["conditions"][0]
    assert (paused["observedGeneration"], paused["summary"]) == (2, {"jobs": 1})
    assert paused_status(paused, now=LATER + timedelta(hours=1)) == paused


def test_a_pause_keeps_conditions_of_other_versions() -> None:
    strange = {"type": "FromTheFuture", "status": "True", "reason": "NewReason"}
    paused = paused_status({"conditions": [strange]}, now=NOW)
    assert strange in paused["conditions"]


def test_an_object_that_was_paused_from_the_start_is_not_ready() -> None:
    paused = paused_status({}, now=NOW)
    assert [(item["type"], item["status"]) for item in paused["conditions"]] == [("Ready", "False"), ("Paused", "True")]
    assert not is_ready({"metadata": {"generation": 1}, "status": paused})
