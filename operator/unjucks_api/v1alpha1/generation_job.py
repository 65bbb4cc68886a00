"""The kind GenerationJob: run one action of a registry with variables, and put the files somewhere. Namespaced.

Only settings that the operator acts upon are here. Pure. Called by the operator's job package and by the CRD generator.
"""

from enum import StrEnum
from typing import Annotated, Any, ClassVar

from pydantic import Field

from unjucks_api.markers import Cel, Free, ListAtomic, ListMap, Switch
from unjucks_api.v1alpha1.common import (
    AGE_COLUMN,
    DURATION,
    MESSAGE_COLUMN,
    READY_COLUMNS,
    Column,
    Definition,
    Digest,
    DnsSubdomain,
    LocalReference,
    Model,
    Object,
    Ruled,
    Suspend,
    duration_seconds,
)
from unjucks_api.v1alpha1.generation_job_output import NotOurs, Output, Provenance
from unjucks_api.v1alpha1.generation_job_run import (
    DriftDetection,
    Matrix,
    Mode,
    OnConflict,
    OnTemplateChange,
    Prune,
    Retry,
    Schedule,
    Trigger,
)
from unjucks_api.v1alpha1.generation_job_status import GenerationJobStatus
from unjucks_api.v1alpha1.tenant import Execution

MAX_TIMEOUT = 3600
DEFAULT_TIMEOUT = 120
MAX_TTL = 8760 * 3600
DEFAULT_VALUES_KEY = "values.yaml"
_NAME_IN_TREE = r"^[A-Za-z0-9_][-A-Za-z0-9_.]*$"

Timeout = Annotated[
    str,
    Field(min_length=2, max_length=20, pattern=DURATION),
    Cel(
        "duration(self) >= duration('1s') && duration(self) <= duration('1h')",
        "a timeout is between 1s and 1h",
        check=lambda text: 1 <= duration_seconds(text) <= MAX_TIMEOUT,
    ),
]
Lifetime = Annotated[
    str,
    Field(min_length=2, max_length=20, pattern=DURATION),
    Cel(
        "duration(self) <= duration('8760h')",
        "a lifetime is at most 8760h, one year",
        check=lambda text: duration_seconds(text) <= MAX_TTL,
    ),
]


class VariablesKind(StrEnum):
    """Where variables are read from."""

    CONFIG_MAP = "ConfigMap"
    SECRET = "Secret"  # noqa: S105  a kind, not a secret


class TemplateReference(Model):
    """What to run."""

    generator: Annotated[str, Field(min_length=1, max_length=128, pattern=_NAME_IN_TREE)] = Field(
        description="Name of the generator, as the registry's catalogue lists it."
    )
    action: Annotated[str, Field(min_length=1, max_length=128, pattern=_NAME_IN_TREE)] = Field(
        description="Name of the generator's action, as the registry's catalogue lists it."
    )
    digest: Digest | None = Field(
        default=None,
        description="Digest that the registry's artifact must have (status.artifact.digest); the job fails when it has another. "
        "Absent: whatever the registry serves when the job starts.",
    )


class VariablesSource(Ruled):
    """Variables from a ConfigMap or a Secret in the same namespace."""

    rules: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "!has(self.targetPath) || has(self.valuesKey)",
            "targetPath puts one value in its place: say with valuesKey which one",
            reason="FieldValueRequired",
            field_path=".valuesKey",
            check=lambda source: source.target_path is None or source.values_key is not None,
        ),
    )

    kind: VariablesKind = Field(
        description="Whether it is a ConfigMap or a Secret. What comes from a Secret is never shown in status, events or logs."
    )
    name: Annotated[DnsSubdomain, NotOurs] = Field(
        description="Name of the ConfigMap or Secret, in the same namespace."
    )
    values_key: Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")] | None = Field(
        default=None,
        description=f"Key to read. Absent: {DEFAULT_VALUES_KEY}. Without targetPath its text is YAML or JSON, a map of variables.",
    )
    target_path: (
        Annotated[
            str, Field(min_length=1, max_length=256, pattern=r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$")
        ]
        | None
    ) = Field(
        default=None, description="Variable that gets the key's text as it is, with dots between levels: database.url."
    )
    optional: Annotated[bool, Switch("the word and type of Kubernetes' own references to ConfigMaps and Secrets")] = (
        Field(
            default=False,
            description="Whether the job runs without it when the object or the key does not exist. Absent: false.",
        )
    )


class Ttl(Model):
    """How long the finished job stays before it is deleted. Do not set it on jobs that a GitOps tool keeps in place."""

    after_success: Lifetime | None = Field(
        default=None, description="Time to keep a job that succeeded: 24h. Absent: until somebody deletes it."
    )
    after_failure: Lifetime | None = Field(
        default=None, description="Time to keep a job that failed: 168h. Absent: until somebody deletes it."
    )


class GenerationJobSpec(Ruled):
    """What to generate, from what, and where to. A change makes a new run and never alters a running one."""

    rules: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "has(self.output) || (has(self.dryRun) && self.dryRun)",
            "say where the files go with output, or set dryRun: true",
            reason="FieldValueRequired",
            field_path=".output",
            check=lambda spec: spec.output is not None or spec.dry_run,
        ),
        Cel(
            "!(has(self.mode) && self.mode == 'Check') || (has(self.output) && !(has(self.dryRun) && self.dryRun))",
            "mode Check compares with an output and writes nothing: set output, and leave dryRun out",
            field_path=".mode",
            check=lambda spec: spec.mode is not Mode.CHECK or (spec.output is not None and not spec.dry_run),
        ),
        Cel(
            "!(has(self.mode) && self.mode == 'Check') || !has(self.onConflict)",
            "mode Check writes nothing, so nothing can be in conflict: leave onConflict out",
            reason="FieldValueForbidden",
            field_path=".onConflict",
            check=lambda spec: spec.mode is not Mode.CHECK or spec.on_conflict is None,
        ),
        Cel(
            "!has(self.driftDetection) || (has(self.output) && !(has(self.dryRun) && self.dryRun) && "
            "!(has(self.mode) && self.mode == 'Check'))",
            "driftDetection looks at what was published: set output, and leave dryRun and mode Check out",
            field_path=".driftDetection",
            check=lambda spec: (
                spec.drift_detection is None
                or (spec.output is not None and not spec.dry_run and spec.mode is not Mode.CHECK)
            ),
        ),
        Cel(
            "!has(self.schedule) || !has(self.ttl)",
            "a scheduled job runs again and again, so it cannot be deleted when it ends: leave ttl out",
            reason="FieldValueForbidden",
            field_path=".ttl",
            check=lambda spec: spec.schedule is None or spec.ttl is None,
        ),
    )

    registry_ref: LocalReference = Field(description="TemplateRegistry in the same namespace that has the templates.")
    template: TemplateReference = Field(description="What to run.")
    variables: Annotated[dict[str, Any], Field(max_length=256), Free("values that the user's own templates define")] = (
        Field(default={}, description="Variables of the templates. They win over variablesFrom. Not for secrets.")
    )
    variables_from: Annotated[tuple[VariablesSource, ...], Field(max_length=32), ListAtomic()] = Field(
        default=(), description="Variables from ConfigMaps and Secrets, in order: a later one wins over an earlier one."
    )
    dry_run: Annotated[bool, Switch("the word and meaning of kubectl --dry-run")] = Field(
        default=False, description="Whether to render and report only. Nothing is written. Absent: false."
    )
    mode: Mode | None = Field(
        default=None,
        description="Apply (write what the templates give), Update (keep edits made since the last run: a three-way merge) or "
        "Check (write nothing; Ready is false when the output is not what the templates give now). Absent: Apply.",
    )
    on_conflict: OnConflict | None = Field(
        default=None,
        description="What happens to an existing file that this job did not leave so and that no merge can settle: Fail (nothing "
        "is written), Overwrite, Skip (it stays) or Markers (both sides are written between marks). Absent: Fail; with mode Apply "
        "and an output that holds nothing but this job's files (ConfigMap, Secret): Overwrite.",
    )
    prune: Prune | None = Field(
        default=None,
        description="What becomes of files that an earlier run made and this one does not: Remove or Keep. Files that only had "
        "something injected are never removed, edited ones as onConflict says. Absent: Keep; with mode Apply and an output that "
        "holds nothing but this job's files: Remove.",
    )
    output: Output | None = Field(default=None, description="Where the files go. Needed unless dryRun is true.")
    provenance: Provenance = Field(
        default=Provenance(), description="The statement of where the files come from, beside the manifest."
    )
    execution: Execution | None = Field(
        default=None,
        description="Where the templates run: Pooled (a warm renderer of the tenant, in a fresh process) or Isolated (a fresh "
        "pod). Absent: as spec.renderers.execution of the Tenant says.",
    )
    timeout: Timeout | None = Field(
        default=None, description="Time that one run may take, between 1s and 1h: 90s, 2m. Absent: 2m."
    )
    retry: Retry = Field(default=Retry(), description="What is tried again after a failure that may heal by itself.")
    trigger: Trigger = Field(default=Trigger(), description="What makes the job run again after it has ended.")
    schedule: Schedule | None = Field(default=None, description="Times at which the job runs again.")
    drift_detection: DriftDetection | None = Field(
        default=None, description="Looks now and then whether somebody changed the output. Absent: it does not."
    )
    depends_on: Annotated[tuple[LocalReference, ...], Field(max_length=32), ListMap()] = Field(
        default=(), description="GenerationJobs of the same namespace that have to succeed before this one starts."
    )
    matrix: Matrix | None = Field(
        default=None, description="Runs the action once for each combination of values, into one output."
    )
    suspend: Suspend = Field(default=False, description="Keeps the job from starting. A run that has started goes on.")
    cancel: Annotated[bool, Switch("a request that is made once; there is nothing between yes and no")] = Field(
        default=False,
        description="Ends the job: a waiting one does not start, a running one is stopped and publishes nothing.",
    )
    ttl: Ttl | None = Field(default=None, description="How long the finished job stays. Absent: until it is deleted.")


class GenerationJob(Object):
    """A GenerationJob as read from the API server."""

    definition: ClassVar[Definition] = Definition(
        kind="GenerationJob",
        plural="generationjobs",
        short_name="ugj",
        namespaced=True,
        summary="GenerationJob runs one generator of a TemplateRegistry with variables and publishes the files.",
        columns=(
            Column("Phase", ".status.phase", "Stage in one word."),
            *READY_COLUMNS,
            Column("Template", ".status.summary.template", "What runs: generator/action."),
            Column("Files", ".status.summary.files", "Files of the result.", type="integer"),
            Column("Output", ".status.summary.output", "Where the files went."),
            AGE_COLUMN,
            Column("Registry", ".spec.registryRef.name", "TemplateRegistry that has the templates.", wide=True),
            MESSAGE_COLUMN,
        ),
        status=GenerationJobStatus,
        selectable=(".spec.registryRef.name", ".status.phase"),
    )
    rules: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "self.metadata.name.size() <= 63",
            "the name of a GenerationJob is at most 63 characters, so that it can be a label",
            check=lambda job: len(job.name) <= 63,
        ),
    )

    spec: GenerationJobSpec

    @property
    def timeout_seconds(self) -> int:
        """Seconds that one run may take."""
        return DEFAULT_TIMEOUT if self.spec.timeout is None else duration_seconds(self.spec.timeout)

    @property
    def ttl_after_success(self) -> int | None:
        """Seconds to keep the job after success; None keeps it."""
        ttl = self.spec.ttl
        return None if ttl is None or ttl.after_success is None else duration_seconds(ttl.after_success)

    @property
    def ttl_after_failure(self) -> int | None:
        """Seconds to keep the job after failure; None keeps it."""
        ttl = self.spec.ttl
        return None if ttl is None or ttl.after_failure is None else duration_seconds(ttl.after_failure)

    @property
    def mode(self) -> Mode:
        """What a run does to the output."""
        return self.spec.mode or Mode.APPLY

    @property
    def on_template_change(self) -> OnTemplateChange:
        """What a newer template means once the job has ended."""
        return self.spec.trigger.on_template_change or OnTemplateChange.REPORT
