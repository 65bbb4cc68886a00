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
from unjucks_api.render_protocol import Finding
from unjucks_api.v1alpha1.common import seconds_text
from unjucks_api.v1alpha1.generation_job import GenerationJob
from unjucks_api.v1alpha1.generation_job_status import MAX_FILES_SHOWN, MAX_FINDINGS_SHOWN
from unjucks_operator.errors import OperatorError
from unjucks_operator.job.outputs.files import File
from unjucks_operator.job.outputs.target import target_of
from unjucks_operator.job.plan import Run


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
    findings: Sequence[Finding] = field(default_factory=tuple)
    findings_total: int = 0
    redacted: bool = False
    """Whether what was found was taken out."""


def compute_pending(
    job: GenerationJob, error: OperatorError, *, started: datetime | None, now: datetime
) -> dict[str, Any]:
    """The job waits: for a dependency, a renderer, its turn, or something outside that is down."""
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
    count = len([file for file in progress.files if file.action != "skipped"])
    target = None if job.spec.dry_run else target_of(job)
    where = str(target) if target else ""
    text = {
        Reason.DRY_RUN_COMPLETE: f"{count} file(s) rendered; nothing was written (dryRun)",
        Reason.UP_TO_DATE: f"{where} holds these {count} file(s) already",
    }.get(reason, f"{count} file(s) published to {where}")
    conditions = [
        Condition(ConditionType.READY, "True", reason, text),
        Condition(ConditionType.COMPLETE, "True", reason, text),
        Condition(ConditionType.VALIDATED, "True", Reason.SUCCEEDED, "the variables fit the template's schema"),
        Condition(ConditionType.RENDERED, "True", Reason.SUCCEEDED, f"{count} file(s)"),
    ]
    if progress.findings:
        conditions.append(_found(progress))
    if not job.spec.dry_run:
        conditions.append(Condition(ConditionType.PUBLISHED, "True", reason, text))
    status = _base(job, "Succeeded") | _run_facts(job, run, progress)
    status |= (
        _file_facts(progress.files)
        | _finding_facts(progress)
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
    return _finish(job, status, conditions, now)


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
    status.setdefault("startTime", timestamp(now))
    return _finish(job, status, conditions, now)


def _base(job: GenerationJob, phase: str) -> dict[str, Any]:
    template = job.spec.template
    status: dict[str, Any] = {"phase": phase, "summary": {"template": f"{template.generator}/{template.action}"}}
    for kept in ("lastHandledRequestedAt", "startTime"):
        if kept in job.status and job.status.get("observedGeneration") == job.generation:
            status[kept] = job.status[kept]
    return status


def _run_facts(job: GenerationJob, run: Run, progress: Progress) -> dict[str, Any]:
    return {
        "startTime": timestamp(progress.started),
        "attempts": progress.attempts,
        "template": {
            "registry": job.spec.registry_ref.name,
            "digest": run.tree,
            "generator": run.generator,
            "action": run.action,
            "engineVersion": progress.engine_version,
        },
        "inputsDigest": run.inputs_digest,
        "runKey": run.key,
    }


def _file_facts(files: Sequence[File]) -> dict[str, Any]:
    counts = {
        name: sum(file.action == name for file in files) for name in ("created", "updated", "unchanged", "skipped")
    }
    written = [file for file in files if file.action != "skipped"]
    facts: dict[str, Any] = {
        "summary": {"files": len(written), **counts, "bytes": sum(len(file.content) for file in written)},
        "files": [
            {
                "path": file.path,
                "action": file.action,
                "mode": f"{file.mode:04o}",
                "size": len(file.content),
                **(
                    {"digest": f"sha256:{file.sha256.removeprefix('sha256:')}"}
                    if file.action != "skipped" and not file.sensitive
                    else {}
                ),
                **({"sensitive": True} if file.sensitive else {}),
            }
            for file in files[:MAX_FILES_SHOWN]
        ],
    }
    if len(files) > MAX_FILES_SHOWN:
        facts["filesTruncated"] = True
    return facts


def _found(progress: Progress) -> Condition:
    first = progress.findings[0]
    done = "taken out of" if progress.redacted else "in"
    text = (
        f"{progress.findings_total} place(s) with sensitive data {done} the files, the first is "
        f"{first.path}:{first.line}: {first.detector}"
    )
    return Condition(ConditionType.SENSITIVE_DATA_FOUND, "True", Reason.SENSITIVE_DATA_FOUND, text)


def _finding_facts(progress: Progress) -> dict[str, Any]:
    if not progress.findings:
        return {}
    shown = progress.findings[:MAX_FINDINGS_SHOWN]
    return {
        "findings": [
            {"path": it.path[:1024], "line": it.line, "column": it.column, "detector": it.detector} for it in shown
        ],
        "findingsTotal": progress.findings_total,
    }


def _finish(job: GenerationJob, status: dict[str, Any], conditions: list[Condition], now: datetime) -> dict[str, Any]:
    merged = merge_conditions(job.status.get("conditions") or (), conditions, generation=job.generation, now=now)
    return {**status, "observedGeneration": job.generation, "conditions": merged}
