"""What becomes of a job that has ended: another run (schedule, newer template, repair), or only its condition. Pure.

    run      at most one occasion, in this order: a time of spec.schedule, a newer template, an edited output
    tell     conditions TemplateOutdated and Drifted, status.drift; nothing is written while they stay the same
    look     when to look again

Called by ``job.reconcile`` with what ``job.looking`` saw.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from unjucks_api.conditions import Condition, ConditionType, find_condition, merge_conditions, timestamp
from unjucks_api.reasons import Reason
from unjucks_api.render_protocol import Action
from unjucks_api.v1alpha1.generation_job import GenerationJob
from unjucks_api.v1alpha1.generation_job_run import OnDrift, OnTemplateChange
from unjucks_operator.errors import InvalidSpec
from unjucks_operator.job.plan import Occasion
from unjucks_operator.job.schedule import due_time, next_time

MAX_PATHS_SHOWN = 10
IN_SYNC, DRIFTED, MISSING = "InSync", "Drifted", "Missing"


@dataclass(frozen=True, slots=True)
class Drift:
    """How the output is. ``version`` names the state that was seen, ``where`` the place as people write it."""

    state: str
    where: str
    version: str = ""
    paths: Sequence[str] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class Seen:
    """What was looked at. ``action``: the registry's current version of what ran, None when nobody asked or it is not there.

    ``drift``: None when it was not time to look.
    """

    action: Action | None = None
    drift: Drift | None = None


def plan_occasion(job: GenerationJob, seen: Seen, now: datetime) -> Occasion | None:
    """The next run of a finished job, if there is a reason for one."""
    due = _due(job, now)
    if due is not None:
        return Occasion(f"schedule/{timestamp(due)}", scheduled=due)
    newer = _newer(job, seen.action)
    if newer is not None and newer.digest != _told(job):
        if job.on_template_change is OnTemplateChange.RUN:
            return Occasion(f"template/{newer.digest}")
        if job.on_template_change is OnTemplateChange.DRY_RUN and is_complete(job):
            return Occasion(f"template/{newer.digest}", dry=True)
    detection = job.spec.drift_detection
    drift = seen.drift
    if drift is None or drift.state == IN_SYNC or drift.note or detection is None:
        return None
    return Occasion(f"repair/{drift.version}", repair=True) if detection.on_drift is OnDrift.REPAIR else None


def has_future(job: GenerationJob) -> bool:
    """Whether anything may follow the end of the job at all; most jobs that were told so cost nothing more."""
    return (
        job.spec.schedule is not None
        or job.spec.drift_detection is not None
        or job.on_template_change is not OnTemplateChange.IGNORE
    )


def is_complete(job: GenerationJob) -> bool:
    """Whether the job ended well, at whatever generation."""
    return (find_condition(job.status, ConditionType.COMPLETE) or {}).get("status") == "True"


def _due(job: GenerationJob, now: datetime) -> datetime | None:
    handled = _handled(job)
    if job.spec.schedule is None or handled is None:
        return None
    try:
        return due_time(job.spec.schedule, handled, now)
    except InvalidSpec:
        return None  # told when it was planned


def _handled(job: GenerationJob) -> datetime | None:
    told = job.status.get("lastScheduleTime") or job.status.get("startTime") or job.status.get("completionTime")
    return datetime.fromisoformat(str(told)).astimezone(UTC) if told else None


def seconds_to_schedule(job: GenerationJob, now: datetime) -> float | None:
    """Until the next time of the schedule; None without one."""
    if job.spec.schedule is None:
        return None
    try:
        return max((next_time(job.spec.schedule, now) - now).total_seconds(), 0.0) + 0.5
    except InvalidSpec:
        return None


def _told(job: GenerationJob) -> str:
    return str((job.status.get("template") or {}).get("newestDigest") or "")


def _newer(job: GenerationJob, action: Action | None) -> Action | None:
    """The registry's version of the action, when it is not the one that ran."""
    ran = (job.status.get("template") or {}).get("actionDigest")
    if action is None or not ran or ran == action.digest or job.on_template_change is OnTemplateChange.IGNORE:
        return None
    return action


def compute_after(job: GenerationJob, seen: Seen, *, now: datetime) -> dict[str, Any]:
    """The status of a finished job: as it is, with what is seen now."""
    status = dict(job.status)
    conditions: list[Condition] = []
    gone = {ConditionType.TEMPLATE_OUTDATED}
    if seen.action is not None or job.on_template_change is OnTemplateChange.IGNORE:
        template = {key: value for key, value in (status.get("template") or {}).items() if key != "newestDigest"}
        newer = _newer(job, seen.action)
        if newer is not None:
            template["newestDigest"] = newer.digest
            if newer.digest == _told(job):
                gone = set()
            elif is_complete(job):
                text = (
                    f"TemplateRegistry {job.spec.registry_ref.name} serves a newer {newer.generator}/{newer.action}; run again to "
                    "use it"
                )
                conditions.append(Condition(ConditionType.TEMPLATE_OUTDATED, "True", Reason.TEMPLATE_OUTDATED, text))
        if template:
            status["template"] = template
    else:
        gone = set()
    if seen.drift is not None and is_complete(job):
        gone |= {ConditionType.DRIFTED}
        status["drift"] = _drift(seen.drift, status.get("drift") or {}, now)
        more, replaced = _drift_conditions(job, seen.drift)
        conditions += more
        gone |= replaced
    status["conditions"] = _merged(job, conditions, gone, now)
    return status


def _drift(drift: Drift, before: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    told: dict[str, Any] = {
        "state": drift.state,
        "files": len(drift.paths),
        "paths": list(drift.paths[:MAX_PATHS_SHOWN]),
    }
    if not told["paths"]:
        del told["paths"]
    same = all(before.get(key) == told.get(key) for key in ("state", "files", "paths"))
    told["checkedAt"] = before["checkedAt"] if same and "checkedAt" in before else timestamp(now)
    return told


def _drift_conditions(job: GenerationJob, drift: Drift) -> tuple[list[Condition], set[ConditionType]]:
    """Ready does not say that all is well while the output is not what was written."""
    reason = Reason.DRIFT_DETECTED
    ready = find_condition(job.status, ConditionType.READY) or {}
    if drift.state == IN_SYNC:
        if ready.get("reason") != reason:
            return [], set()
        complete = find_condition(job.status, ConditionType.COMPLETE) or {}
        back = Condition(ConditionType.READY, "True", Reason(complete["reason"]), str(complete.get("message", "")))
        return [back], {ConditionType.READY, ConditionType.STALLED}
    if drift.note:
        text = drift.note
    elif drift.state == MISSING:
        text = f"{drift.where} is not there any more"
    else:
        shown = ", ".join(drift.paths[:3]) + (" …" if len(drift.paths) > 3 else "")
        text = f"{len(drift.paths)} file(s) of {drift.where} were changed since: {shown}"
    made = [
        Condition(ConditionType.DRIFTED, "True", reason, text),
        Condition(ConditionType.READY, "False", reason, text),
        Condition(ConditionType.STALLED, "True", reason, text),
    ]
    return made, {ConditionType.READY, ConditionType.STALLED}


def _merged(
    job: GenerationJob, conditions: list[Condition], gone: set[ConditionType], now: datetime
) -> list[Mapping[str, Any]]:
    previous = job.status.get("conditions") or ()
    kept = [item for item in previous if item.get("type") not in gone]
    made = merge_conditions(previous, conditions, generation=job.generation, now=now)
    return sorted([*kept, *made], key=lambda item: (item["type"] != ConditionType.READY, str(item["type"])))
