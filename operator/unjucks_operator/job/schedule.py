"""Times of ``spec.schedule``: the next one, and the one that is due. Pure. Called by ``job.afterwards`` and ``status``."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from unjucks_api.v1alpha1.common import duration_seconds
from unjucks_api.v1alpha1.generation_job_run import Schedule
from unjucks_operator.errors import InvalidSpec

_CHANGE = timedelta(hours=3)
"""How long after a change of clocks times are counted forwards."""


def next_time(schedule: Schedule, after: datetime) -> datetime:
    """The first time after ``after``, in UTC. Raises InvalidSpec for what is no schedule, or never comes."""
    return _find(schedule, after, reverse=False)


def due_time(schedule: Schedule, handled: datetime, now: datetime) -> datetime | None:
    """The last time that has come and was not acted upon: several missed ones are one. None when there is none, or it is too late.

    ``handled``: the time that was acted upon last, or when the job ran first.
    """
    latest = _latest(schedule, now + timedelta(seconds=1))
    if latest <= handled:
        return None
    deadline = schedule.starting_deadline
    if deadline is not None and now - latest > timedelta(seconds=duration_seconds(deadline)):
        return None
    return latest


def _latest(schedule: Schedule, until: datetime) -> datetime:
    """The last time before ``until``.

    Where clocks were changed a moment ago, counting backwards does not find all times that counting forwards does, by which jobs
    are woken: one in the hour that comes twice would be passed over.
    """
    zone, before = _zone(schedule), until - _CHANGE
    if until.astimezone(zone).utcoffset() == before.astimezone(zone).utcoffset():
        return _find(schedule, until, reverse=True)
    latest = _find(schedule, before, reverse=True)
    while (following := next_time(schedule, latest)) < until:
        latest = following
    return latest


def _find(schedule: Schedule, start: datetime, *, reverse: bool) -> datetime:
    zone = _zone(schedule)
    try:
        return next(CronSim(schedule.cron, start.astimezone(zone), reverse=reverse)).astimezone(UTC)
    except CronSimError as error:
        raise InvalidSpec(
            f"spec.schedule.cron {schedule.cron!r} is no schedule: {error}; write minute, hour, day, month and day of week"
        ) from None
    except StopIteration:
        raise InvalidSpec(f"spec.schedule.cron {schedule.cron!r} names a time that never comes") from None


def _zone(schedule: Schedule) -> ZoneInfo:
    name = schedule.time_zone or "UTC"
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidSpec(f"spec.schedule.timeZone {name!r} is no name of the time zone database") from None
