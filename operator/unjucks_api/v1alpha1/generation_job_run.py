"""Parts of a GenerationJob that say how and when it runs: modes, retries, triggers, drift, order, times, matrix. Pure.

Only settings that the operator acts upon are here. Called by ``generation_job``.
"""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from unjucks_api.markers import Cel, Free, ListAtomic
from unjucks_api.v1alpha1.common import (
    DURATION,
    Bytes,
    Count,
    Line,
    Model,
    PathText,
    Time,
    Word,
    duration_seconds,
)

MAX_MATRIX_RUNS = 256
MAX_PARALLELISM = 16
DEFAULT_PARALLELISM = 4
MAX_RETRIES = 10
_VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]*$"


class Mode(StrEnum):
    """What a run does to the output."""

    APPLY = "Apply"
    UPDATE = "Update"
    CHECK = "Check"


class OnConflict(StrEnum):
    """What happens to an existing file of other content."""

    FAIL = "Fail"
    OVERWRITE = "Overwrite"
    SKIP = "Skip"
    MARKERS = "Markers"


class Prune(StrEnum):
    """What becomes of files that an earlier run made and this one does not."""

    REMOVE = "Remove"
    KEEP = "Keep"


class OnTemplateChange(StrEnum):
    """What a change of the template does to a job that has ended."""

    IGNORE = "Ignore"
    REPORT = "Report"
    DRY_RUN = "DryRun"
    RUN = "Run"


class OnDrift(StrEnum):
    """What an edit of the output does."""

    REPORT = "Report"
    REPAIR = "Repair"


def _between(least: int, most: int, words: str) -> Cel:
    """The rule for a duration between two numbers of seconds."""
    return Cel(
        f"duration(self) >= duration('{least}s') && duration(self) <= duration('{most}s')",
        words,
        check=lambda text: least <= duration_seconds(text) <= most,
    )


Span = Annotated[str, Field(min_length=2, max_length=20, pattern=DURATION)]
Pause = Annotated[Span, _between(1, 3600, "a pause between attempts is between 1s and 1h")]
Interval = Annotated[Span, _between(60, 604_800, "an interval is between 1m and 168h, one week")]
StartingDeadline = Annotated[Span, _between(60, 604_800, "a starting deadline is between 1m and 168h, one week")]


class Backoff(Model):
    """How long it takes to the next attempt."""

    duration: Pause | None = Field(default=None, description="Pause before the second attempt. Absent: 5s.")
    factor: Annotated[int, Field(ge=1, le=10)] | None = Field(
        default=None, description="How much longer each pause is than the one before. Absent: 2."
    )
    cap: Pause | None = Field(default=None, description="Longest pause. Absent: 1m.")


class Retry(Model):
    """What is tried again: only what may heal by itself (a lost renderer, an output that does not answer)."""

    limit: Annotated[int, Field(ge=0, le=MAX_RETRIES)] | None = Field(
        default=None, description="Attempts after the first one. Absent: what the platform's configuration says."
    )
    backoff: Backoff = Field(default=Backoff(), description="Pauses between the attempts.")


class Trigger(Model):
    """What makes a job that has ended run again."""

    on_template_change: OnTemplateChange | None = Field(
        default=None,
        description="What happens when the registry serves another version of this very action: Ignore, Report (condition "
        "TemplateOutdated), DryRun (Report, and the diff is made) or Run. Absent: Report.",
    )


class DriftDetection(Model):
    """Looks now and then whether the output still holds what the last run wrote."""

    interval: Interval | None = Field(default=None, description="Time between two looks: 30m. Absent: 30m.")
    on_drift: OnDrift | None = Field(
        default=None, description="Report (condition Drifted) or Repair (the files are written again). Absent: Report."
    )


class Schedule(Model):
    """When the job runs again. A run that was missed is made up once; several missed ones are one run."""

    cron: Annotated[str, Field(min_length=9, max_length=128, pattern=r"^[0-9A-Za-z*,/#-]+( [0-9A-Za-z*,/#-]+){4}$")] = (
        Field(description='Minute, hour, day of month, month, day of week: "0 3 * * 1-5".')
    )
    time_zone: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_+/-]+$")] | None = Field(
        default=None, description="Name in the IANA time zone database: Europe/Berlin. Absent: UTC."
    )
    starting_deadline: StartingDeadline | None = Field(
        default=None, description="How late a missed run may still start. Absent: however late."
    )


class Matrix(Model):
    """One run for each combination of values; all files are published together, or none."""

    parameters: Annotated[
        dict[str, Any], Field(min_length=1, max_length=8), Free("lists of values of the user's own variables")
    ] = Field(
        description="For each variable the list of its values. Every combination is one run, at most 256 in all; its values win "
        "over spec.variables."
    )
    path: Annotated[str, Field(min_length=1, max_length=256)] | None = Field(
        default=None,
        description='Folder that the files of a run go below, with the parameters in braces: "services/{service}", or "." for '
        "none. Files of two runs must not have one path. Absent: the values with a dash between them, in the order of their names.",
    )
    parallelism: Annotated[int, Field(ge=1, le=MAX_PARALLELISM)] | None = Field(
        default=None, description="Runs that render at the same time. Absent: 4."
    )


# --- status --------------------------------------------------------------------------------------------------------------
class DiffReference(Model):
    """Where the diff is."""

    kind: Word = Field(default="", description="Kind of the object that holds the diff: ConfigMap.")
    name: Line = Field(default="", description="Name of that object. Its key is diff.")


class DiffStatus(Model):
    """What a dry run or a check would change."""

    added: Count | None = Field(default=None, description="Lines that would be added.")
    removed: Count | None = Field(default=None, description="Lines that would go.")
    bytes: Bytes | None = Field(default=None, description="Bytes of the whole diff.")
    truncated: bool | None = Field(default=None, description="Whether the stored diff ends before the whole one does.")
    ref: DiffReference | None = Field(default=None, description="Object that holds the diff, as far as it fits.")


class DriftStatus(Model):
    """How the output compares with what the last run wrote."""

    state: Word = Field(default="", description="InSync, Drifted or Missing.")
    checked_at: Time | None = Field(default=None, description="When this state was first seen.")
    files: Count | None = Field(default=None, description="Files that were edited or deleted since.")
    paths: Annotated[tuple[PathText, ...], Field(max_length=10), ListAtomic()] = Field(
        default=(), description="The first of these files."
    )


class MatrixRunStatus(Model):
    """One run of a matrix."""

    item: Line = Field(default="", description="The values of this run.")
    path: PathText = Field(default="", description="Folder that its files went below.")
    files: Count | None = Field(default=None, description="Files of this run.")
    bytes: Bytes | None = Field(default=None, description="Bytes of these files together.")
