"""What the operator and a tenant's renderer say to each other: JSON over HTTPS with certificates on both sides.

    POST /v1/analyze   AnalyzeRequest -> AnalyzeResponse     parse every template of a tree, list what can be generated
    POST /v1/render    RenderRequest  -> RenderResponse      run one action with variables, return the files
    GET  /healthz, /readyz                                    plain HTTP on another port, for the kubelet

Bytes travel as base64 text. A response that is not HTTP 200 is an ``ErrorResponse`` (status 422: the task itself failed; 429 and
503: busy or ending, try another renderer; 404: see below). Both sides treat the other's data as untrusted: sizes are bounded by
the models, and the operator checks every path and digest again.

A renderer keeps trees that it has seen. A RenderRequest without ``files`` means "the tree of this digest that you have"; a
renderer that has it no more answers 404 with reason SourceNotFound and retryable, and the caller sends the files along.
Pure models, no I/O.
"""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from unjucks_api.reasons import Reason

MAX_REQUEST_BYTES = 16 * 1024 * 1024
MAX_RESPONSE_BYTES = 32 * 1024 * 1024
ANALYZE_PATH = "/v1/analyze"
RENDER_PATH = "/v1/render"

MAX_MESSAGE = 4096
MAX_MESSAGES = 200
MAX_PROBLEMS = 1000
MAX_FINDINGS = 100
MAX_DIFF_BYTES = 1024 * 1024

TASK_FAILURES = frozenset(
    {
        Reason.TEMPLATE_ERROR,
        Reason.UNDEFINED_VARIABLE,
        Reason.TEMPLATE_NOT_FOUND,
        Reason.TEMPLATES_INVALID,
        Reason.NO_TEMPLATES,
        Reason.VARIABLES_INVALID,
        Reason.VARIABLES_MISSING,
        Reason.PATH_NOT_FOUND,
        Reason.PATH_REJECTED,
        Reason.OUTPUT_COLLISION,
        Reason.ANCHOR_NOT_FOUND,
        Reason.CONFLICT,
        Reason.NOT_PERMITTED,
        Reason.LIMIT_EXCEEDED,
        Reason.OUTPUT_TOO_LARGE,
        Reason.ARCHIVE_INVALID,
        Reason.ARCHIVE_TOO_LARGE,
        Reason.MANIFEST_MISMATCH,
        Reason.SENSITIVE_DATA_BLOCKED,
        Reason.INTERNAL_ERROR,
    }
)
"""The reasons with which a task itself can fail; a renderer that claims another one is not believed."""


def _cut(text: str) -> str:
    return text if len(text) <= MAX_MESSAGE else text[: MAX_MESSAGE - 1] + "…"


# Cut, not refused: that a template has a name of 5000 characters must not hide what is wrong with it.
Text = Annotated[str, AfterValidator(_cut)]
Texts = Annotated[list[Text], AfterValidator(lambda texts: texts[:MAX_MESSAGES])]

Base64 = Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]*={0,2}$")]


class Message(BaseModel):
    """Base of all messages: unknown fields are refused, instances do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Limits(Message):
    """Budgets of one task. The engine checks them first, the child process' rlimits and the wall clock hold in any case."""

    wall_seconds: float = Field(default=60.0, gt=0, le=3600)
    cpu_seconds: int = Field(default=60, ge=1, le=3600)
    memory_bytes: int = Field(default=256 * 1024 * 1024, ge=32 * 1024 * 1024)
    output_bytes: int = Field(default=8 * 1024 * 1024, ge=1)
    files: int = Field(default=2000, ge=1, le=10000)
    source_bytes: int = Field(default=4 * 1024 * 1024, ge=1)


class OnFinding(StrEnum):
    """What finding sensitive data in a template or a generated file does."""

    WARN = "Warn"
    REDACT = "Redact"
    BLOCK = "Block"


class EngineOptions(Message):
    """How templates are read; the names are those of ``spec.engine`` of a TemplateRegistry."""

    undefined: str = Field(default="Error", pattern="^(Error|Empty|ErrorOnUse)$")
    trim_blocks: bool = True
    lstrip_blocks: bool = True
    autoescape: bool = False


class SourceFile(Message):
    """One file of a tree: a normalised relative path (``unjucks_api.tree``), its bytes, its mode (0o644 or 0o755)."""

    path: str = Field(min_length=1, max_length=1024)
    content: Base64
    mode: int = 0o644


class AnalyzeRequest(Message):
    """Either ``files`` as they stand in the source, or ``archive`` (a .tar.gz) to be unpacked under the limits."""

    files: list[SourceFile] = Field(default_factory=list)
    archive: Base64 | None = None
    path: str = "."
    engine: EngineOptions = EngineOptions()
    shared_schema: dict[str, Any] = Field(default_factory=dict)
    limits: Limits = Limits()
    on_finding: OnFinding = OnFinding.WARN


class Variable(Message):
    """A variable of an action, declared in action.yaml (``declared``) or inferred from the templates."""

    name: str
    type: str = "any"
    required: bool = False
    declared: bool = True
    description: str = ""
    default: Any = None
    enum: list[Any] = Field(default_factory=list)
    pattern: str = ""


class Problem(Message):
    """Something wrong in a template set, with its place. ``severity`` is ``error`` or ``warning``. Long texts are cut."""

    path: Text
    line: int = 0
    column: int = 0
    message: Text
    severity: str = Field(default="error", pattern="^(error|warning)$")


Problems = Annotated[list[Problem], AfterValidator(lambda found: found[:MAX_PROBLEMS])]


class ShippedTests(Message):
    """What came of the golden tests that an action ships."""

    passed: int = Field(default=0, ge=0)
    failed: int = Field(default=0, ge=0)
    not_run: int = Field(default=0, ge=0, description="for which there was no time")


class Action(Message):
    """One thing a generator can do. ``schema_`` is the complete JSON Schema that variables are validated with."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    generator: str
    action: str
    description: str = ""
    digest: str
    files: int
    variables: list[Variable] = Field(default_factory=list)
    inferred: list[str] = Field(default_factory=list)
    problems: Problems = Field(default_factory=list)
    deprecated: bool = False
    deprecation: Text = ""
    tests: ShippedTests | None = None
    schema_: dict[str, Any] = Field(default_factory=dict, alias="schema")

    @property
    def valid(self) -> bool:
        """Whether it can run: no problem of severity error."""
        return not any(problem.severity == "error" for problem in self.problems)


class AnalyzeResponse(Message):
    """The normalised tree (what digests and jobs refer to), and what can be generated from it."""

    digest: str
    files: list[SourceFile]
    actions: list[Action]
    problems: Problems = Field(default_factory=list)
    engine_version: str
    cpu_seconds: float = 0.0


class Policy(Message):
    """What templates may do, from ``spec.policy`` of a TemplateRegistry: globs of paths, changes inside files, ``force: true``."""

    allow_paths: list[str] = Field(default_factory=lambda: ["**"], max_length=100)
    deny_paths: list[str] = Field(default_factory=list, max_length=100)
    allow_inject: bool = True
    allow_force: bool = True


class RenderRequest(Message):
    """Run ``generator``/``action`` of ``files`` (a normalised tree whose digest is ``digest``) with ``variables``.

    No ``files``: the renderer uses the tree of that digest which it keeps, or answers SourceNotFound (see the module's text).
    """

    task: str = Field(max_length=256, description="idempotency key; for logs only")
    digest: str
    files: list[SourceFile] = Field(default_factory=list)
    generator: str
    action: str
    variables: dict[str, Any] = Field(default_factory=dict)
    sensitive: list[str] = Field(default_factory=list, description="dotted names of variables that came from Secrets")
    base: list[SourceFile] = Field(default_factory=list, description="existing files, for inject, merge and diff")
    previous: dict[str, str] = Field(default_factory=dict, description="path -> sha256 of what the last run gave")
    last: list[SourceFile] = Field(default_factory=list, description="what the last run gave, for a three-way merge")
    update: bool = Field(default=False, description="whether to merge with ``last``")
    prune: bool = Field(default=False, description="whether files of the last run that are not made any more go")
    on_conflict: str = Field(default="conflict", pattern="^(conflict|overwrite|skip|markers)$")
    diff_bytes: int = Field(default=0, ge=0, le=MAX_DIFF_BYTES, description="most bytes of the diff; 0: none is made")
    below: str = Field(default="", max_length=1024, description="folder that all files go below")
    hidden: list[str] = Field(
        default_factory=list, description="existing files that hold secrets: no lines in the diff"
    )
    shared_schema: dict[str, Any] = Field(default_factory=dict, description="as in the AnalyzeRequest")
    policy: Policy = Policy()
    on_finding: OnFinding = Field(default=OnFinding.WARN, description="what sensitive data in a file means")
    secrets_have_a_place: bool = Field(
        default=False, description="files that secrets went into go where only they are read: not searched"
    )
    engine: EngineOptions = EngineOptions()
    limits: Limits = Limits()


class OutputFile(Message):
    """One generated file. Skipped ones have no content; a conflicted one exists with other content that may not be changed.

    ``sha256`` is the hex digest of the content, ``size`` its length. ``rendered``: what the templates gave, when that is not the
    content (merged, or kept). ``injected``: templates only changed it in places. ``marked``: conflicted, and the content holds
    both sides between marks.
    """

    path: str = Field(min_length=1, max_length=1024)
    content: Base64 = ""
    mode: int = 0o644
    size: int = Field(ge=0)
    sha256: str
    action: str = Field(default="created", pattern="^(created|updated|unchanged|skipped|conflicted|removed)$")
    template: Text = ""
    sensitive: bool = False
    rendered: Base64 | None = None
    injected: bool = False
    marked: bool = False
    why: Text = ""


class Diff(Message):
    """The unified diff from the existing files to the outcome. ``text`` is cut at a line when ``truncated``; figures are whole."""

    text: str = Field(default="", max_length=MAX_DIFF_BYTES)
    added: int = Field(default=0, ge=0, description="lines")
    removed: int = Field(default=0, ge=0, description="lines")
    bytes: int = Field(default=0, ge=0, description="of the whole diff")
    truncated: bool = False


class Finding(Message):
    """Where sensitive data stands in a generated file, and of which kind it is; never the data itself."""

    path: Text
    line: int
    column: int
    detector: str = Field(max_length=64)


Findings = Annotated[list[Finding], AfterValidator(lambda found: found[:MAX_FINDINGS])]


class RenderResponse(Message):
    """All files of one run, sorted by path, and what it cost."""

    files: list[OutputFile]
    warnings: Texts = Field(default_factory=list)
    messages: Texts = Field(default_factory=list)
    findings: Findings = Field(default_factory=list, description="the first ones; redacted when the request said so")
    findings_total: int = Field(default=0, ge=0)
    diff: Diff = Diff()
    engine_version: str
    cpu_seconds: float
    wall_seconds: float
    max_rss_bytes: int


class ErrorResponse(Message):
    """A failure. ``retryable``: the same task may succeed elsewhere or later (busy, shutting down).

    ``limit`` names the one that was exceeded: memory, cpu, time, output, files, source, work or depth.
    """

    reason: Reason
    message: Text
    path: Text = ""
    line: int = 0
    column: int = 0
    limit: str = Field(default="", max_length=64)
    retryable: bool = False
