"""The kind TemplateRegistry: where a tenant's templates come from, and what can be generated from them. Namespaced.

Only sources and settings that the operator acts upon are here. Pure. Called by the operator's registry package and by the CRD
generator.
"""

import json
from enum import StrEnum
from typing import Annotated, Any, ClassVar

from pydantic import Field

from unjucks_api import names
from unjucks_api.durations import duration_seconds
from unjucks_api.markers import Cel, Free, ListAtomic, ListMap, Switch
from unjucks_api.v1alpha1.common import (
    AGE_COLUMN,
    MESSAGE_COLUMN,
    READY_COLUMNS,
    Bytes,
    Column,
    ConditionModel,
    Count,
    Definition,
    Digest,
    Generation,
    Line,
    LocalReference,
    Message,
    Model,
    Object,
    PathText,
    Ruled,
    Suspend,
    Time,
    Word,
)
from unjucks_api.v1alpha1.data_policy import Classification
from unjucks_api.v1alpha1.registry_sources import (
    DAY,
    BucketObjects,
    FetchTimeout,
    FluxReference,
    GitRepositorySource,
    HttpArchive,
    Interval,
    OciArtifact,
)

MAX_INLINE_BYTES = 512 * 1024
MAX_INLINE_FILES = 128
MAX_INLINE_TEXT = 128 * 1024
MAX_INLINE_PATH = 512
MAX_CATALOG = 50
MAX_PROBLEMS = 50
MAX_VARIABLES = 64
MAX_DISPLAY = 256


class Undefined(StrEnum):
    """What a template that prints an undefined variable does."""

    ERROR = "Error"
    EMPTY = "Empty"
    ERROR_ON_USE = "ErrorOnUse"


class OnInvalidTemplate(StrEnum):
    """What a registry with a broken template serves."""

    KEEP_PREVIOUS = "KeepPrevious"
    SERVE_VALID = "ServeValid"


def _relative(path: str) -> bool:
    parts = path.split("/")
    return len(path) <= MAX_INLINE_PATH and "\\" not in path and not any(part in ("", ".", "..") for part in parts)


def _total_bytes(files: dict[str, str]) -> int:
    return sum(len(text.encode(errors="surrogatepass")) for text in files.values())


class Inline(Model):
    """Templates written into the object itself."""

    files: Annotated[
        dict[str, Annotated[str, Field(max_length=MAX_INLINE_TEXT)]],
        Field(min_length=1, max_length=MAX_INLINE_FILES),
        Cel(
            f"self.all(path, path.size() <= {MAX_INLINE_PATH} && !path.contains('\\\\')"
            " && path.split('/').all(part, !(part in ['', '.', '..'])))",
            f"each path is relative, has at most {MAX_INLINE_PATH} characters, and no part that is empty, '.' or '..'",
            check=lambda files: all(_relative(path) for path in files),
        ),
        Cel(
            f"self.map(path, bytes(self[path]).size()).sum() <= {MAX_INLINE_BYTES}",
            f"the files are more than {MAX_INLINE_BYTES // 1024} KiB together; use another source for larger sets",
            check=lambda files: _total_bytes(files) <= MAX_INLINE_BYTES,
        ),
    ] = Field(
        description="Files of the template set: path to text, at most 128 files, 128 KiB each and 512 KiB together."
    )


class Engine(Model):
    """How templates are read."""

    undefined: Undefined = Field(
        default=Undefined.ERROR,
        description="What printing an undefined variable does: Error (fail), Empty (print nothing, as Nunjucks does) or ErrorOnUse "
        "(fail at any use, even a test). Absent: Error.",
    )
    trim_blocks: Annotated[bool, Switch("a Nunjucks option of that name and type")] = Field(
        default=True, description="Removes the first line break after a block tag. Absent: true."
    )
    lstrip_blocks: Annotated[bool, Switch("a Nunjucks option of that name and type")] = Field(
        default=True, description="Removes blanks before a block tag that starts its line. Absent: true."
    )
    autoescape: Annotated[bool, Switch("a Nunjucks option of that name and type")] = Field(
        default=False, description="Escapes printed values for HTML. Absent: false."
    )


FreeSchema = Annotated[
    dict[str, Any], Field(max_length=64), Free("a JSON Schema, whose keywords are those of the standard")
]


class SharedVariables(Model):
    """Variables that all actions of the registry share."""

    schema_: FreeSchema = Field(
        default={},
        alias="schema",
        description="JSON Schema (draft 2020-12, local references only) of the shared variables. It is merged below the "
        "schema of each action.",
    )


class PolicyPaths(Model):
    """Paths as globs: ** stands for any folders, * for anything inside one."""

    allow: Annotated[tuple[Line, ...], Field(max_length=50), ListAtomic()] = Field(
        default=(), description="Paths that may be generated. Absent: all."
    )
    deny: Annotated[tuple[Line, ...], Field(max_length=50), ListAtomic()] = Field(
        default=(), description="Paths that may not be generated, whatever allow says: .github/workflows/**."
    )


class Inject(StrEnum):
    """Whether templates may change existing files in places."""

    ALLOW = "Allow"
    FORBID = "Forbid"


class Policy(Model):
    """What the registry's templates may do, and what happens in doubtful cases."""

    paths: PolicyPaths = Field(default=PolicyPaths(), description="Which paths the templates may generate.")
    inject: Inject | None = Field(
        default=None,
        description="Whether templates may change existing files in places: Allow or Forbid. Absent: Allow.",
    )
    on_invalid_template: OnInvalidTemplate = Field(
        default=OnInvalidTemplate.KEEP_PREVIOUS,
        description="What is served when a template is broken: KeepPrevious (the last good version) or ServeValid (the new version "
        "without the broken actions). Absent: KeepPrevious.",
    )


_REMOTE = ("http", "git", "oci", "bucket", "sourceRef")
_SOURCES = (
    f"[{', '.join(f'has(self.{name})' for name in ('inline', 'configMapRef', *_REMOTE))}].filter(given, given).size()"
)
_IS_REMOTE = " || ".join(f"has(self.{name})" for name in _REMOTE)
DEFAULT_TIMEOUT = 60
DEFAULT_HISTORY = 5


class TemplateRegistrySpec(Ruled):
    """Where the templates come from and how they are read."""

    rules: ClassVar[tuple[Cel, ...]] = (
        Cel(
            f"{_SOURCES} == 1",
            "set exactly one source: inline, configMapRef, http, git, oci, bucket or sourceRef",
            check=lambda spec: sum(source is not None for source in spec.sources) == 1,
        ),
        Cel(
            f"!({_IS_REMOTE}) || has(self.interval)",
            "interval is needed: how often the source is looked at, for example 10m",
            reason="FieldValueRequired",
            field_path=".interval",
            check=lambda spec: not spec.remote or spec.interval is not None,
        ),
        Cel(
            f"({_IS_REMOTE}) || (!has(self.interval) && !has(self.timeout) && !has(self.ignore))",
            "interval, timeout and ignore belong to sources that are fetched: http, git, oci, bucket and sourceRef",
            check=lambda spec: spec.remote or (spec.interval is None and spec.timeout is None and spec.ignore is None),
        ),
    )

    inline: Inline | None = Field(
        default=None, description="Source: templates written here. Exactly one source is set."
    )
    config_map_ref: LocalReference | None = Field(
        default=None,
        description="Source: a ConfigMap in the same namespace. Each key is a file, with __ for / in its path; or binaryData has "
        "one archive under the key templates.tgz. Exactly one source is set.",
    )
    http: HttpArchive | None = Field(
        default=None, description="Source: an archive behind a URL. Exactly one source is set."
    )
    git: GitRepositorySource | None = Field(
        default=None, description="Source: a Git repository. Exactly one source is set."
    )
    oci: OciArtifact | None = Field(
        default=None, description="Source: an artifact in an OCI registry. Exactly one source is set."
    )
    bucket: BucketObjects | None = Field(
        default=None, description="Source: objects in an S3-compatible bucket. Exactly one source is set."
    )
    source_ref: FluxReference | None = Field(
        default=None,
        description="Source: the artifact of a Flux object in the same namespace. Exactly one source is set.",
    )
    interval: Interval | None = Field(
        default=None,
        description="How often a fetched source is looked at, at least as often as the platform allows; needed for these. A few "
        "percent are added or taken at random.",
    )
    timeout: FetchTimeout | None = Field(
        default=None, description="How long one fetch may take, within what the platform allows. Absent: 60s."
    )
    ignore: Annotated[str, Field(min_length=1, max_length=4096)] | None = Field(
        default=None,
        description="Files of a fetched source to leave out, as lines of a .gitignore at the source's root. Absent: none.",
    )
    pin: Annotated[str, Field(min_length=1, max_length=256)] | None = Field(
        default=None,
        description="Digest or revision of status.history that is served instead of what the source holds: a rollback without "
        "touching the source, which is not looked at meanwhile. Absent: the source's newest.",
    )
    revision_history_limit: Annotated[int, Field(ge=1, le=20)] | None = Field(
        default=None, description="How many versions status.history keeps, the served one included. Absent: 5."
    )
    path: Annotated[
        str,
        Field(min_length=1, max_length=MAX_INLINE_PATH),
        Cel(
            "!self.startsWith('/') && !self.contains('\\\\') && !self.matches('(^|/)[.][.](/|$)')",
            "path is relative to the source and stays inside it: it neither starts with '/' nor holds '..' or a backslash",
            check=lambda path: not path.startswith("/") and "\\" not in path and ".." not in path.split("/"),
        ),
    ] = Field(default=".", description="Folder of the source that holds the template set. Absent: the source's root.")
    engine: Engine = Field(default=Engine(), description="How templates are read.")
    variables: SharedVariables = Field(default=SharedVariables(), description="Variables that all actions share.")
    policy: Policy = Field(default=Policy(), description="What the registry does in doubtful cases.")
    classification: Classification | None = Field(
        default=None,
        description="How confidential the templates and what they generate are: Public, Internal, Confidential or Restricted. The "
        "tenant's spec.dataPolicy says what is allowed. Absent: Internal.",
    )
    suspend: Suspend = Field(
        default=False, description="Stops looking at the source. What was served stays served, and jobs go on."
    )

    @property
    def sources(self) -> tuple[Model | None, ...]:
        """All sources that could be set; one is."""
        return (self.inline, self.config_map_ref, self.http, self.git, self.oci, self.bucket, self.source_ref)

    @property
    def remote(self) -> bool:
        """Whether the source is fetched by the courier."""
        return any(item is not None for item in (self.http, self.git, self.oci, self.bucket, self.source_ref))

    @property
    def timeout_seconds(self) -> int:
        """How long one fetch may take."""
        return DEFAULT_TIMEOUT if self.timeout is None else duration_seconds(self.timeout)

    @property
    def interval_seconds(self) -> int:
        """How often the source is looked at; a day for sources that are not fetched."""
        return DAY if self.interval is None else duration_seconds(self.interval)

    @property
    def history_limit(self) -> int:
        """How many versions are kept."""
        return DEFAULT_HISTORY if self.revision_history_limit is None else self.revision_history_limit


ShortText = Annotated[str, Field(max_length=MAX_DISPLAY)]


# --- status --------------------------------------------------------------------------------------------------------------
class Artifact(Model):
    """One version of the template set, as stored."""

    revision: Line = Field(default="", description="Short name of the version, for people.")
    digest: Digest | None = Field(
        default=None,
        description="Digest over paths, modes and bytes of all files. The same files have the same digest anywhere.",
    )
    size: Bytes | None = Field(default=None, description="Bytes of all files together.")
    last_update_time: Time | None = Field(default=None, description="When this version was stored.")
    metadata: Annotated[dict[str, ShortText], Field(max_length=16)] = Field(
        default={}, description="What the source tells of this version, for example who signed it."
    )


class Version(Model):
    """A version that was served."""

    revision: Line = Field(default="", description="Short name of the version, for people; spec.pin may name it.")
    digest: Digest | None = Field(default=None, description="Digest over all files; spec.pin may name it.")
    last_update_time: Time | None = Field(default=None, description="When this version was first stored.")
    state: Word = Field(
        default="",
        description="Current: it is served. Pinned: it is served because spec.pin says so. Available: it can be pinned.",
    )


class ProblemModel(Model):
    """Something wrong in a template set, with its place."""

    path: PathText = Field(default="", description="File that the problem is in.")
    line: Count | None = Field(default=None, description="Line of the problem, from 1.")
    column: Count | None = Field(default=None, description="Column of the problem, from 1.")
    message: Message = Field(default="", description="What is wrong, and what to do.")
    severity: Word = Field(default="", description="Weight of the problem: error or warning.")


ProblemList = Annotated[tuple[ProblemModel, ...], Field(max_length=MAX_PROBLEMS), ListAtomic()]


class CatalogVariable(Model):
    """One variable of an action."""

    name: Line = Field(default="", description="Name of the variable.")
    type: Word = Field(default="", description="JSON type of the variable, or any.")
    required: bool = Field(default=False, description="Whether a job must give it.")
    description: ShortText = Field(default="", description="What the variable is for.")
    pattern: ShortText = Field(default="", description="Regular expression that its text must match.")
    enum: Annotated[tuple[ShortText, ...], Field(max_length=32), ListAtomic()] = Field(
        default=(), description="Values that are allowed; those that are not text are written as JSON."
    )
    default: ShortText = Field(
        default="", description="Value when a job gives none; one that is not text is written as JSON."
    )


class CatalogTests(Model):
    """What came of the golden tests that an action ships."""

    passed: Count | None = Field(default=None, description="Tests that passed.")
    failed: Count | None = Field(default=None, description="Tests that failed; problems says which.")
    not_run: Count | None = Field(default=None, description="Tests for which there was no time.")


class CatalogEntry(Model):
    """One thing that can be generated."""

    generator: Line = Field(default="", description="Name of the generator.")
    action: Line = Field(default="", description="Name of the generator's action.")
    digest: Digest | None = Field(
        default=None, description="Digest of what this action is made of; unchanged when only other actions change."
    )
    files: Count | None = Field(default=None, description="Template files of the action.")
    description: ShortText = Field(default="", description="What the action generates.")
    deprecated: bool = Field(default=False, description="Whether its author advises against further use.")
    deprecation: ShortText = Field(default="", description="Since when, what to use instead, and until when it stays.")
    tests: CatalogTests | None = Field(default=None, description="The golden tests that the action ships.")
    variables: Annotated[tuple[CatalogVariable, ...], Field(max_length=MAX_VARIABLES), ListAtomic()] = Field(
        default=(), description="Variables of the action."
    )
    inferred: Annotated[tuple[Line, ...], Field(max_length=MAX_VARIABLES), ListAtomic()] = Field(
        default=(), description="Variables that the templates use and nobody declared."
    )
    problems: ProblemList = Field(default=(), description="What is wrong with this action.")


class TemplateRegistryStatus(Model):
    """What the registry serves, as the operator last saw it."""

    observed_generation: Generation | None = Field(
        default=None, description="The metadata.generation that this status is about."
    )
    last_handled_requested_at: Line = Field(
        default="", description=f"Value of the annotation {names.ANNOTATION_REQUESTED_AT} that was last acted upon."
    )
    conditions: Annotated[tuple[ConditionModel, ...], Field(max_length=40), ListMap("type")] = Field(
        default=(),
        description="State in detail. Ready is true when the current source is what is served, without errors.",
    )
    source_version: Line = Field(default="", description="Fingerprint of the source that was last looked at.")
    artifact: Artifact | None = Field(default=None, description="Version of the template set that is served.")
    observed_revision: Line = Field(
        default="",
        description="Revision that the source had when it was last read; it is served unless it was refused.",
    )
    history: Annotated[tuple[Version, ...], Field(max_length=21), ListAtomic()] = Field(
        default=(), description="Versions that were served, newest first, and can be pinned."
    )
    generators: Count | None = Field(default=None, description="Generators that can be used.")
    actions: Count | None = Field(default=None, description="Actions that can be used.")
    invalid_actions: Count | None = Field(default=None, description="Actions that cannot be used because of errors.")
    catalog: Annotated[tuple[CatalogEntry, ...], Field(max_length=MAX_CATALOG), ListAtomic()] = Field(
        default=(), description="What can be generated: the first 50 actions."
    )
    problems: ProblemList = Field(default=(), description="What is wrong in the source: the first 50 problems.")


class TemplateRegistry(Object):
    """A TemplateRegistry as read from the API server."""

    definition: ClassVar[Definition] = Definition(
        kind="TemplateRegistry",
        plural="templateregistries",
        short_name="utr",
        namespaced=True,
        summary="TemplateRegistry is a source of template sets: fetched, checked, pinned by digest, and listed in a catalogue.",
        columns=(
            *READY_COLUMNS,
            Column("Revision", ".status.artifact.revision", "Version that is served."),
            Column("Generators", ".status.generators", "Generators that can be used.", type="integer"),
            Column("Actions", ".status.actions", "Actions that can be used.", type="integer"),
            AGE_COLUMN,
            Column("Invalid", ".status.invalidActions", "Actions with errors.", type="integer", wide=True),
            MESSAGE_COLUMN,
        ),
        status=TemplateRegistryStatus,
    )
    rules: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "self.metadata.name.size() <= 63",
            "the name of a TemplateRegistry is at most 63 characters, so that it can be a label",
            check=lambda registry: len(registry.name) <= 63,
        ),
    )

    spec: TemplateRegistrySpec

    @property
    def classification(self) -> Classification:
        """How confidential it is when the spec says nothing."""
        return self.spec.classification or Classification.INTERNAL


def display_value(value: Any) -> str:
    """A default or allowed value as the catalogue shows it: text as it is, everything else as JSON, cut to what status holds."""
    text = (
        value
        if isinstance(value, str)
        else json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    )
    return text if len(text) <= MAX_DISPLAY else text[: MAX_DISPLAY - 1] + "…"
