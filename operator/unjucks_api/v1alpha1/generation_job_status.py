"""The status of a GenerationJob: how far it is, what it made, what it cost. Pure. Called by ``generation_job``."""

from typing import Annotated

from pydantic import Field

from unjucks_api import names
from unjucks_api.markers import ListAtomic, ListMap
from unjucks_api.v1alpha1.common import (
    Bytes,
    ConditionModel,
    Count,
    Digest,
    Generation,
    Line,
    Message,
    Model,
    PathText,
    Seconds,
    Time,
    Word,
)
from unjucks_api.v1alpha1.generation_job_output import OutputStatus, ProvenanceStatus
from unjucks_api.v1alpha1.generation_job_run import DiffStatus, DriftStatus, MatrixRunStatus

MAX_FILES_SHOWN = 100
MAX_FINDINGS_SHOWN = 20
MAX_MATRIX_SHOWN = 64


class TemplateStatus(Model):
    """What ran, frozen when the run started."""

    registry: Line = Field(default="", description="Name of the registry.")
    digest: Digest | None = Field(default=None, description="Digest of the registry's artifact.")
    generator: Line = Field(default="", description="Name of the generator.")
    action: Line = Field(default="", description="Name of the action.")
    action_digest: Digest | None = Field(
        default=None, description="Digest of this action alone: it changes only with what the action reads."
    )
    newest_digest: Digest | None = Field(
        default=None, description="Digest of this action as the registry serves it now, when it is another one."
    )
    engine_version: Word = Field(default="", description="Version of the template engine.")


class JobSummary(Model):
    """The result in numbers and short texts."""

    template: Line = Field(default="", description="What ran: generator/action.")
    output: Line = Field(default="", description="Where the files went, for example configmap/orders-api.")
    files: Count | None = Field(default=None, description="Files of the result.")
    created: Count | None = Field(default=None, description="Files that did not exist before.")
    updated: Count | None = Field(default=None, description="Files whose content changed.")
    unchanged: Count | None = Field(default=None, description="Files that were the same already.")
    skipped: Count | None = Field(
        default=None, description="Files that the templates left out, or that stay as they are."
    )
    conflicted: Count | None = Field(default=None, description="Files with both sides between marks.")
    removed: Count | None = Field(default=None, description="Files of an earlier run that were removed.")
    bytes: Bytes | None = Field(default=None, description="Bytes of all files together.")


class FileStatus(Model):
    """One generated file."""

    path: PathText = Field(default="", description="Path of the file.")
    action: Word = Field(
        default="", description="What happened: created, updated, unchanged, skipped, conflicted or removed."
    )
    mode: Word = Field(default="", description="Permissions of the file: 0644 or 0755.")
    size: Bytes | None = Field(default=None, description="Bytes of the file.")
    digest: Digest | None = Field(
        default=None, description="SHA-256 of the file's bytes. Absent for sensitive files: it could be guessed from."
    )
    sensitive: bool = Field(default=False, description="Whether values from a Secret went into it.")
    why: Line = Field(default="", description="Why it was skipped, merged, removed or left in conflict.")


class FindingStatus(Model):
    """Where sensitive data stands in a generated file."""

    path: PathText = Field(default="", description="Path of the file.")
    line: Count | None = Field(default=None, description="Line, from 1.")
    column: Count | None = Field(default=None, description="Column in bytes, from 1.")
    detector: Word = Field(default="", description="Kind of data, for example payment-card or github-token.")


class JobUsage(Model):
    """What the run cost."""

    cpu_seconds: Seconds | None = Field(default=None, description="CPU time of the renderer, in seconds.")
    wall_seconds: Seconds | None = Field(default=None, description="Time of rendering, in seconds.")
    memory_bytes: Bytes | None = Field(default=None, description="Most memory that rendering held.")
    queue_seconds: Seconds | None = Field(default=None, description="Time the job waited for a renderer, in seconds.")


class JobTimings(Model):
    """How long each stage took."""

    resolve_seconds: Seconds | None = Field(
        default=None, description="Time to read the registry and the variables and to check them, in seconds."
    )
    queue_seconds: Seconds | None = Field(default=None, description="Time waited for a renderer, in seconds.")
    render_seconds: Seconds | None = Field(
        default=None, description="Time of rendering, transport included, in seconds."
    )
    publish_seconds: Seconds | None = Field(default=None, description="Time to check and write the files, in seconds.")
    total_seconds: Seconds | None = Field(default=None, description="Time from start to completion, in seconds.")


class LastError(Model):
    """The most recent failure, with its place."""

    reason: Word = Field(default="", description="Why, in one CamelCase word.")
    file: PathText = Field(default="", description="Template file that the failure is in.")
    line: Count | None = Field(default=None, description="Line of the failure, from 1.")
    column: Count | None = Field(default=None, description="Column of the failure, from 1.")
    limit: Word = Field(default="", description="Limit that was exceeded: work, output, files, depth, memory or time.")
    message: Message = Field(default="", description="What is wrong, and what to do.")


class GenerationJobStatus(Model):
    """How far the job is and what it made."""

    observed_generation: Generation | None = Field(
        default=None, description="The metadata.generation that this status is about."
    )
    phase: Word = Field(
        default="",
        description="Stage in one word, for people: Pending, Queued, Rendering, Publishing, Succeeded, Failed, Cancelled or "
        "Suspended. Programs read the conditions.",
    )
    conditions: Annotated[tuple[ConditionModel, ...], Field(max_length=40), ListMap("type")] = Field(
        default=(), description="State in detail. Ready is true when the job succeeded at its current generation."
    )
    start_time: Time | None = Field(default=None, description="When the run started.")
    completion_time: Time | None = Field(default=None, description="When the run ended, well or not.")
    attempts: Count | None = Field(default=None, description="Attempts of this run.")
    template: TemplateStatus | None = Field(default=None, description="What ran, frozen when the run started.")
    inputs_digest: Annotated[str, Field(max_length=128)] = Field(
        default="",
        description="Keyed digest over variables, templates and engine. Equal inputs of a tenant have equal digests.",
    )
    run_key: Annotated[str, Field(max_length=256)] = Field(
        default="", description="Key of this run; one key publishes at most once."
    )
    summary: JobSummary | None = Field(default=None, description="The result in numbers and short texts.")
    files: Annotated[tuple[FileStatus, ...], Field(max_length=MAX_FILES_SHOWN), ListAtomic()] = Field(
        default=(), description="Files of the result: the first 100."
    )
    files_truncated: bool | None = Field(default=None, description="Whether there are more files than status shows.")
    findings: Annotated[tuple[FindingStatus, ...], Field(max_length=MAX_FINDINGS_SHOWN), ListAtomic()] = Field(
        default=(), description="Sensitive data in the files: the first 20 places. The data itself is never shown."
    )
    findings_total: Count | None = Field(default=None, description="Places with sensitive data, also those not shown.")
    output: OutputStatus | None = Field(default=None, description="Where the files are.")
    provenance: ProvenanceStatus | None = Field(
        default=None, description="The statement of where the files come from; it lies beside the manifest."
    )
    diff: DiffStatus | None = Field(default=None, description="What a dry run or a check would change.")
    drift: DriftStatus | None = Field(default=None, description="How the output compares with what the last run wrote.")
    matrix: Annotated[tuple[MatrixRunStatus, ...], Field(max_length=MAX_MATRIX_SHOWN), ListAtomic()] = Field(
        default=(), description="The runs of a matrix: the first 64."
    )
    next_run_time: Time | None = Field(default=None, description="When spec.schedule starts the next run.")
    last_schedule_time: Time | None = Field(
        default=None, description="The time of spec.schedule that was last acted upon."
    )
    usage: JobUsage | None = Field(default=None, description="What the run cost.")
    timings: JobTimings | None = Field(default=None, description="How long each stage took.")
    last_error: LastError | None = Field(default=None, description="The most recent failure, with its place.")
    last_handled_requested_at: Line = Field(
        default="", description=f"Value of the annotation {names.ANNOTATION_REQUESTED_AT} that was last acted upon."
    )
