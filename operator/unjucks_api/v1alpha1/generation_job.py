"""The kind GenerationJob: run one action of a registry with variables, and put the files somewhere. Namespaced.

Only settings that the operator acts upon are here. Pure. Called by the operator's job package and by the CRD generator.
"""

from enum import StrEnum
from typing import Annotated, Any, ClassVar

from pydantic import Field

from unjucks_api import names
from unjucks_api.markers import Cel, Free, ListAtomic, ListMap, Switch
from unjucks_api.v1alpha1.common import (
    AGE_COLUMN,
    DURATION,
    MESSAGE_COLUMN,
    READY_COLUMNS,
    Bytes,
    Column,
    ConditionModel,
    Count,
    Definition,
    Digest,
    DnsSubdomain,
    Generation,
    Line,
    LocalReference,
    Message,
    Model,
    Object,
    PathText,
    Ruled,
    Seconds,
    Suspend,
    Time,
    Word,
    duration_seconds,
)
from unjucks_api.v1alpha1.tenant import Execution

MAX_FILES_SHOWN = 100
MAX_FINDINGS_SHOWN = 20
MAX_TIMEOUT = 3600
DEFAULT_TIMEOUT = 120
MAX_TTL = 8760 * 3600
DEFAULT_VALUES_KEY = "values.yaml"
OWN_PREFIX = f"{names.PART_OF}-"
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
NotOurs = Cel(
    f"!self.startsWith('{OWN_PREFIX}')",
    f"names that start with {OWN_PREFIX} belong to the platform; choose another",
    reason="FieldValueForbidden",
    check=lambda name: not name.startswith(OWN_PREFIX),
)


class SensitiveFiles(StrEnum):
    """What becomes of files that values from a Secret went into, where others can read them."""

    REFUSE = "Refuse"
    ALLOW = "Allow"


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


class ConfigMapOutput(Model):
    """A ConfigMap that gets the files."""

    name: Annotated[
        DnsSubdomain,
        NotOurs,
        Cel(
            "self != 'kube-root-ca.crt'",
            "kube-root-ca.crt belongs to Kubernetes; choose another name",
            reason="FieldValueForbidden",
            check=lambda name: name != "kube-root-ca.crt",
        ),
    ] = Field(
        description="Name of the ConfigMap. It is created in the job's namespace; one that another owner made is never overwritten."
    )
    immutable: Annotated[bool, Switch("the word and type of the ConfigMap's own field")] = Field(
        default=False,
        description="Whether the ConfigMap is made immutable. A later run with other files then fails. Absent: false.",
    )
    sensitive_files: SensitiveFiles | None = Field(
        default=None,
        description="What becomes of files that values from a Secret went into: Refuse (the job fails) or Allow "
        "(whoever may read ConfigMaps of the namespace can read them). Absent: Refuse.",
    )


class SecretOutput(Model):
    """A Secret that gets the files."""

    name: Annotated[DnsSubdomain, NotOurs] = Field(
        description="Name of the Secret. It is created in the job's namespace, with type Opaque; one that another owner made is "
        "never overwritten."
    )


class Output(Ruled):
    """Where the files go."""

    rules: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "has(self.configMap) != has(self.secret)",
            "set exactly one output: configMap or secret",
            reason="FieldValueRequired",
            check=lambda output: (output.config_map is None) != (output.secret is None),
        ),
    )

    config_map: ConfigMapOutput | None = Field(
        default=None,
        description="Output: a ConfigMap with one key for each file; the key is the path with __ for /. At most 1 MiB. "
        "Exactly one output is set.",
    )
    secret: SecretOutput | None = Field(
        default=None,
        description="Output: a Secret, laid out as the ConfigMap is; for files that hold secrets. At most 1 MiB. "
        "Exactly one output is set.",
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
    output: Output | None = Field(default=None, description="Where the files go. Needed unless dryRun is true.")
    execution: Execution | None = Field(
        default=None,
        description="Where the templates run: Pooled (a warm renderer of the tenant, in a fresh process) or Isolated (a fresh "
        "pod). Absent: as spec.renderers.execution of the Tenant says.",
    )
    timeout: Timeout | None = Field(
        default=None, description="Time that one run may take, between 1s and 1h: 90s, 2m. Absent: 2m."
    )
    suspend: Suspend = Field(default=False, description="Keeps the job from starting. A run that has started goes on.")
    cancel: Annotated[bool, Switch("a request that is made once; there is nothing between yes and no")] = Field(
        default=False,
        description="Ends the job: a waiting one does not start, a running one is stopped and publishes nothing.",
    )
    ttl: Ttl = Field(default=Ttl(), description="How long the finished job stays.")


# --- status --------------------------------------------------------------------------------------------------------------
class TemplateStatus(Model):
    """What ran, frozen when the run started."""

    registry: Line = Field(default="", description="Name of the registry.")
    digest: Digest | None = Field(default=None, description="Digest of the registry's artifact.")
    generator: Line = Field(default="", description="Name of the generator.")
    action: Line = Field(default="", description="Name of the action.")
    engine_version: Word = Field(default="", description="Version of the template engine.")


class JobSummary(Model):
    """The result in numbers and short texts."""

    template: Line = Field(default="", description="What ran: generator/action.")
    output: Line = Field(default="", description="Where the files went, for example configmap/orders-api.")
    files: Count | None = Field(default=None, description="Files of the result.")
    created: Count | None = Field(default=None, description="Files that did not exist before.")
    updated: Count | None = Field(default=None, description="Files whose content changed.")
    unchanged: Count | None = Field(default=None, description="Files that were the same already.")
    skipped: Count | None = Field(default=None, description="Files that the templates left out.")
    bytes: Bytes | None = Field(default=None, description="Bytes of all files together.")


class FileStatus(Model):
    """One generated file."""

    path: PathText = Field(default="", description="Path of the file.")
    action: Word = Field(default="", description="What happened: created, updated, unchanged or skipped.")
    mode: Word = Field(default="", description="Permissions of the file: 0644 or 0755.")
    size: Bytes | None = Field(default=None, description="Bytes of the file.")
    digest: Digest | None = Field(
        default=None, description="SHA-256 of the file's bytes. Absent for sensitive files: it could be guessed from."
    )
    sensitive: bool = Field(default=False, description="Whether values from a Secret went into it.")


class FindingStatus(Model):
    """Where sensitive data stands in a generated file."""

    path: PathText = Field(default="", description="Path of the file.")
    line: Count | None = Field(default=None, description="Line, from 1.")
    column: Count | None = Field(default=None, description="Column in bytes, from 1.")
    detector: Word = Field(default="", description="Kind of data, for example payment-card or github-token.")


class OutputStatus(Model):
    """Where the files are."""

    kind: Word = Field(default="", description="Kind of the output: ConfigMap or Secret.")
    name: Line = Field(default="", description="Name of the output.")
    digest: Digest | None = Field(default=None, description="Digest over paths, modes and bytes of all files.")


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
    conditions: Annotated[tuple[ConditionModel, ...], Field(max_length=32), ListMap("type")] = Field(
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
    usage: JobUsage | None = Field(default=None, description="What the run cost.")
    timings: JobTimings | None = Field(default=None, description="How long each stage took.")
    last_error: LastError | None = Field(default=None, description="The most recent failure, with its place.")
    last_handled_requested_at: Line = Field(
        default="", description=f"Value of the annotation {names.ANNOTATION_REQUESTED_AT} that was last acted upon."
    )


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
        return None if self.spec.ttl.after_success is None else duration_seconds(self.spec.ttl.after_success)

    @property
    def ttl_after_failure(self) -> int | None:
        """Seconds to keep the job after failure; None keeps it."""
        return None if self.spec.ttl.after_failure is None else duration_seconds(self.spec.ttl.after_failure)
