"""Times of a schedule: zones, missed runs, deadlines, nonsense."""

from datetime import UTC, datetime, timedelta

import pytest

from unjucks_api.v1alpha1.generation_job_run import Schedule
from unjucks_operator.errors import InvalidSpec
from unjucks_operator.job.schedule import due_time, next_time

NOON = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)


def at(cron: str, **more: str) -> Schedule:
    return Schedule.model_validate({"cron": cron, **more})


def test_the_next_time_is_in_the_zone_and_told_in_utc() -> None:
    assert next_time(at("0 3 * * *"), NOON) == datetime(2026, 6, 2, 3, tzinfo=UTC)
    assert next_time(at("0 3 * * *", timeZone="Europe/Berlin"), NOON) == datetime(2026, 6, 2, 1, tzinfo=UTC)
    assert next_time(at("*/5 * * * *"), NOON) == NOON + timedelta(minutes=5)


def test_many_missed_times_are_one_and_the_last() -> None:
    hourly = at("0 * * * *")
    assert due_time(hourly, NOON - timedelta(days=3), NOON + timedelta(minutes=10)) == NOON
    assert due_time(hourly, NOON, NOON + timedelta(minutes=10)) is None
    assert due_time(hourly, NOON - timedelta(minutes=1), NOON) == NOON


def test_a_run_that_was_missed_for_too_long_is_left_out() -> None:
    strict = at("0 * * * *", startingDeadline="5m")
    assert due_time(strict, NOON - timedelta(hours=2), NOON + timedelta(minutes=5)) == NOON
    assert due_time(strict, NOON - timedelta(hours=2), NOON + timedelta(minutes=6)) is None


def test_a_time_in_the_hour_that_comes_twice_is_neither_passed_over_nor_taken_twice() -> None:
    """In Berlin 02:00 to 03:00 comes twice on 25 October: from 00:00 UTC and from 01:00 UTC."""
    nightly, handled = at("30 2 * * *", timeZone="Europe/Berlin"), datetime(2026, 10, 24, 0, 30, tzinfo=UTC)
    first = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    assert next_time(nightly, handled) == first
    for minutes in (0, 10, 35, 70, 600):  # 35: the clock shows 02:05 for the second time
        assert due_time(nightly, handled, first + timedelta(minutes=minutes)) == first
        assert due_time(nightly, first, first + timedelta(minutes=minutes)) is None


def test_a_time_that_the_clock_leaves_out_is_made_up() -> None:
    """On 29 March the clock goes from 02:00 to 03:00."""
    nightly, handled = at("30 2 * * *", timeZone="Europe/Berlin"), datetime(2026, 3, 28, 1, 30, tzinfo=UTC)
    made_up = next_time(nightly, handled)
    assert made_up == datetime(2026, 3, 29, 1, 0, tzinfo=UTC)
    assert due_time(nightly, handled, made_up + timedelta(minutes=20)) == made_up
    assert due_time(nightly, made_up, made_up + timedelta(hours=5)) is None


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        (at("61 * * * *"), "is no schedule"),
        (at("0 0 30 2 *"), "is no schedule"),
        (at("a b c d e"), "is no schedule"),
        (at("0 3 * * *", timeZone="Mars/Olympus"), "no name of the time zone database"),
        (at("0 3 * * *", timeZone="/etc/passwd"), "no name of the time zone database"),
    ],
)
def test_nonsense_is_told(schedule: Schedule, words: str) -> None:
    with pytest.raises(InvalidSpec, match=words):
        next_time(schedule, NOON)
