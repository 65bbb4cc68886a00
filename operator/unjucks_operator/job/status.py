"""The status of a GenerationJob at each point of its life. Pure; called by ``job.reconcile``.

``Complete`` and ``Failed`` as batch Jobs have them, ``Ready`` and ``Stalled`` for kstatus, ``Validated``, ``Rendered`` and
``Published`` for people. ``phase`` is for people only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from unjucks_api.conditions import Condition, ConditionType, merge_conditions, timestamp
from unjucks_api.reasons import Reason
from unjucks_api.render_protocol import Action, Finding
from unjucks_api.v1alpha1.common import seconds_text
from unjucks_api.v1alpha1.generation_job import GenerationJob
from unjucks_api.v1alpha1.generation_job_run import Mode
from unjucks_operator.errors import OperatorError, Terminal, Waiting
from unjucks_operator.job.facts import DiffFigures, diff_facts, file_facts, finding_facts, found_condition, matrix_facts
from unjucks_operator.job.outputs.files import File, written_files
from unjucks_operator.job.outputs.target import target_of
from unjucks_operator.job.plan import Run
from unjucks_operator.job.schedule import next_time


class NextAttempt(Waiting):
    """A run failed for a cause that may heal; ``attempts`` were made of it, the next one follows after a pause."""

    def __init__(self, message: str, *, reason: Reason, after: float, attempts: int, run_key: str) -> None:
        super().__init__(message, reason=reason, after=after)
        self.attempts = attempts
        self.run_key = run_key


_DIFFERENT = ("created", "updated", "removed", "conflicted")


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a template an error is; ``limit`` names the budget that ran out."""

    file: str = ""
    line: int = 0
    column: int = 0
    limit: str = ""


@dataclass(slots=True)
class Progress:
    """What is known of a run so far; times are the operator's clock, durations in seconds."""

    started: datetime
    attempts: int = 1
    queue_seconds: float = 0.0
    resolve_seconds: float = 0.0
    render_seconds: float = 0.0
    publish_seconds: float = 0.0
    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0
    memory_bytes: int = 0
    engine_version: str = ""
    files: Sequence[File] = field(default_factory=tuple)
    manifest_digest: str = ""
    output_facts: Mapping[str, Any] = field(default_factory=dict)
    """What ``status.output`` tells beside kind, name and digest."""
    provenance: Mapping[str, str] = field(default_factory=dict)
    """What ``status.provenance`` tells."""
    findings: Sequence[Finding] = field(default_factory=tuple)
    findings_total: int = 0
    last: str = ""
    """Digest of what the templates gave."""
    diff: DiffFigures | None = None
    matrix: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    redacted: bool = False
    """Whether what was found was taken out."""


def compute_pending(
    job: GenerationJob, error: OperatorError, *, started: datetime | None, now: datetime
) -> dict[str, Any]:
    """The job waits: for a dependency, a renderer, its turn, the next attempt, or something outside that is down."""
    phase = (
        "Queued"
        if error.reason in (Reason.QUEUED, Reason.RENDERER_STARTING, Reason.RENDERER_UNAVAILABLE)
        else "Pending"
    )
    conditions = [
        Condition(ConditionType.READY, "False", error.reason, error.message),
        Condition(ConditionType.RECONCILING, "True", error.reason, error.message),
    ]
    status = _base(job, phase)
    if started is not None:
        status["startTime"] = timestamp(started)
    if isinstance(error, NextAttempt):
        status |= {"attempts": error.attempts, "runKey": error.run_key}
    return _finish(job, status, conditions, now)


def compute_running(job: GenerationJob, run: Run, progress: Progress, *, now: datetime) -> dict[str, Any]:
    """The job renders; written only for runs that take a while."""
    text = f"rendering {run.generator}/{run.action}"
    conditions = [
        Condition(ConditionType.READY, "False", Reason.RUNNING, text),
        Condition(ConditionType.RECONCILING, "True", Reason.RUNNING, text),
        Condition(ConditionType.VALIDATED, "True", Reason.SUCCEEDED, "the variables fit the template's schema"),
    ]
    status = _base(job, "Rendering") | _run_facts(job, run, progress)
    return _finish(job, status, conditions, now)


def compute_suspended(job: GenerationJob, message: str, *, now: datetime) -> dict[str, Any]:
    """The job may not start."""
    conditions = [
        Condition(ConditionType.READY, "False", Reason.SUSPENDED, message),
        Condition(ConditionType.SUSPENDED, "True", Reason.SUSPENDED, message),
    ]
    return _finish(job, _base(job, "Suspended"), conditions, now)


def compute_succeeded(
    job: GenerationJob, run: Run, progress: Progress, *, reason: Reason, now: datetime
) -> dict[str, Any]:
    """The job ended well. ``reason``: Succeeded, UpToDate (the output was there already) or DryRunComplete."""
    count = len(written_files(progress.files))
    target = None if job.spec.dry_run else target_of(job)
    where = str(target) if target else ""
    drifted = reason is Reason.DRIFT_DETECTED
    others = sum(file.action in _DIFFERENT for file in progress.files)
    text = {
        Reason.DRY_RUN_COMPLETE: f"{count} file(s) rendered; nothing was written (dryRun)",
        Reason.UP_TO_DATE: f"{where} holds these {count} file(s) already",
        Reason.DRIFT_DETECTED: f"{others} file(s) of {where} are not what the templates give now (mode: Check)",
    }.get(reason, f"{count} file(s) published to {where}")
    conditions = [
        Condition(ConditionType.READY, "False" if drifted else "True", reason, text),
        Condition(ConditionType.COMPLETE, "True", reason, text),
        Condition(ConditionType.VALIDATED, "True", Reason.SUCCEEDED, "the variables fit the template's schema"),
        Condition(ConditionType.RENDERED, "True", Reason.SUCCEEDED, f"{count} file(s)"),
    ]
    if drifted:
        conditions.append(Condition(ConditionType.STALLED, "True", reason, text))
    if progress.findings:
        conditions.append(found_condition(progress.findings, progress.findings_total, redacted=progress.redacted))
    if run.deprecation:
        deprecated = f"template {run.generator}/{run.action} is {run.deprecation}"
        conditions.append(Condition(ConditionType.TEMPLATE_DEPRECATED, "True", Reason.TEMPLATE_DEPRECATED, deprecated))
    if not job.spec.dry_run and job.mode is not Mode.CHECK:
        conditions.append(Condition(ConditionType.PUBLISHED, "True", reason, text))
    status = _base(job, "Drifted" if drifted else "Succeeded") | _run_facts(job, run, progress)
    status |= (
        file_facts(progress.files)
        | finding_facts(progress.findings, progress.findings_total)
        | diff_facts(progress.diff)
        | matrix_facts(progress.matrix)
        | schedule_facts(job, run.occasion.scheduled, now)
        | {
            "completionTime": timestamp(now),
            "lastHandledRequestedAt": job.requested_at,
            "usage": {
                "cpuSeconds": seconds_text(progress.cpu_seconds),
                "wallSeconds": seconds_text(progress.wall_seconds),
                "memoryBytes": progress.memory_bytes,
                "queueSeconds": seconds_text(progress.queue_seconds),
            },
            "timings": {
                "resolveSeconds": seconds_text(progress.resolve_seconds),
                "queueSeconds": seconds_text(progress.queue_seconds),
                "renderSeconds": seconds_text(progress.render_seconds),
                "publishSeconds": seconds_text(progress.publish_seconds),
                "totalSeconds": seconds_text((now - progress.started).total_seconds()),
            },
        }
    )
    status["summary"] |= {"template": f"{run.generator}/{run.action}", "output": where}
    if target:
        status["output"] = {"kind": target.kind, "name": target.name, "digest": progress.manifest_digest}
        status["output"] |= progress.output_facts
        if progress.provenance:
            status["provenance"] = dict(progress.provenance)
        if progress.last:
            status["output"]["last"] = progress.last
    return _finish(job, status, conditions, now)


def compute_previewed(job: GenerationJob, run: Run, progress: Progress, *, now: datetime) -> dict[str, Any]:
    """A finished job whose template is newer now, with the diff that another run would make. How it ended stays."""
    registry, name = job.spec.registry_ref.name, f"{run.generator}/{run.action}"
    where = f"; ConfigMap {progress.diff.name} has the diff" if progress.diff and progress.diff.name else ""
    text = f"TemplateRegistry {registry} serves a newer {name}; run again to use it{where}"
    return _outdated(job, run.action_digest, text, now) | diff_facts(progress.diff)


def compute_unpreviewed(job: GenerationJob, action: Action, error: OperatorError, *, now: datetime) -> dict[str, Any]:
    """A finished job whose template is newer now, and would fail with what the job says. How it ended stays."""
    registry, name = job.spec.registry_ref.name, f"{action.generator}/{action.action}"
    text = f"TemplateRegistry {registry} serves a newer {name}, but a run would fail: {error.reason}: {error.message}"
    return _outdated(job, action.digest, text, now)


def _outdated(job: GenerationJob, newest: str, text: str, now: datetime) -> dict[str, Any]:
    told = [Condition(ConditionType.TEMPLATE_OUTDATED, "True", Reason.TEMPLATE_OUTDATED, text)]
    previous = job.status.get("conditions") or ()
    kept = [item for item in previous if item.get("type") != ConditionType.TEMPLATE_OUTDATED]
    made = merge_conditions(previous, told, generation=job.generation, now=now)
    template = {**(job.status.get("template") or {}), "newestDigest": newest}
    conditions = sorted([*kept, *made], key=lambda item: (item["type"] != ConditionType.READY, str(item["type"])))
    return {**job.status, "template": template, "conditions": conditions}


def compute_failed(
    job: GenerationJob,
    reason: Reason,
    message: str,
    *,
    place: Place = Place(),
    run: Run | None = None,
    progress: Progress | None = None,
    now: datetime,
) -> dict[str, Any]:
    """The job ended badly, for good: only a change by the user (or another request) makes a new run."""
    cancelled = reason is Reason.CANCELLED
    conditions = [
        Condition(ConditionType.READY, "False", reason, message),
        Condition(ConditionType.FAILED, "True", reason, message),
        Condition(ConditionType.STALLED, "True", reason, message),
    ]
    if reason in (Reason.VARIABLES_INVALID, Reason.VARIABLES_MISSING):
        conditions.append(Condition(ConditionType.VALIDATED, "False", reason, message))
    elif run is not None:
        conditions.append(
            Condition(ConditionType.VALIDATED, "True", Reason.SUCCEEDED, "the variables fit the template's schema")
        )
    status = _base(job, "Cancelled" if cancelled else "Failed")
    if run is not None and progress is not None:
        status |= _run_facts(job, run, progress)
    error: dict[str, Any] = {"reason": reason.value, "message": message[:1024]}
    if place.file:
        error |= {"file": place.file[:1024], "line": place.line, "column": place.column}
    if place.limit:
        error["limit"] = place.limit
    status |= {"completionTime": timestamp(now), "lastHandledRequestedAt": job.requested_at, "lastError": error}
    status |= schedule_facts(job, run.occasion.scheduled if run is not None else None, now)
    if progress is not None and progress.files:
        status["files"] = file_facts(progress.files)["files"]
    # What users rely on is still where it was; an update, or a look for drift, has to find it.
    for kept in ("output", "template"):
        if kept in job.status:
            status.setdefault(kept, job.status[kept])
    status.setdefault("startTime", timestamp(now))
    return _finish(job, status, conditions, now)


def _base(job: GenerationJob, phase: str) -> dict[str, Any]:
    template = job.spec.template
    status: dict[str, Any] = {"phase": phase, "summary": {"template": f"{template.generator}/{template.action}"}}
    for kept in ("output", "lastScheduleTime"):
        if kept in job.status:
            status[kept] = job.status[kept]
    for kept in ("lastHandledRequestedAt", "startTime"):
        if kept in job.status and job.status.get("observedGeneration") == job.generation:
            status[kept] = job.status[kept]
    return status


def schedule_facts(job: GenerationJob, acted_on: datetime | None, now: datetime) -> dict[str, Any]:
    """``lastScheduleTime`` and ``nextRunTime``; nothing for a job without a schedule, or with one that cannot be."""
    if job.spec.schedule is None:
        return {}
    known = job.status.get("lastScheduleTime")
    facts = {"lastScheduleTime": timestamp(acted_on)} if acted_on else {"lastScheduleTime": known} if known else {}
    try:
        return facts | {"nextRunTime": timestamp(next_time(job.spec.schedule, now))}
    except Terminal:
        return facts


def _run_facts(job: GenerationJob, run: Run, progress: Progress) -> dict[str, Any]:
    return {
        "startTime": timestamp(progress.started),
        "attempts": progress.attempts,
        "template": {
            "registry": job.spec.registry_ref.name,
            "digest": run.tree,
            "generator": run.generator,
            "action": run.action,
            "actionDigest": run.action_digest,
            "engineVersion": progress.engine_version,
        },
        "inputsDigest": run.inputs_digest,
        "runKey": run.key,
    }


def _finish(job: GenerationJob, status: dict[str, Any], conditions: list[Condition], now: datetime) -> dict[str, Any]:
    merged = merge_conditions(job.status.get("conditions") or (), conditions, generation=job.generation, now=now)
    return {**status, "observedGeneration": job.generation, "conditions": merged}
