"""What the operator and a tenant's renderer say to each other: JSON over HTTPS with certificates on both sides.

    POST /v1/analyze   AnalyzeRequest -> AnalyzeResponse     parse every template of a tree, list what can be generated
    POST /v1/render    RenderRequest  -> RenderResponse      run one action with variables, return the files
    GET  /healthz                                             plain HTTP on another port, for the kubelet

Bytes travel as base64 text. A response that is not HTTP 200 is an ``ErrorResponse``. Both sides treat the other's data as
untrusted: sizes are bounded by the models, and the operator checks every path and digest again. Pure models, no I/O.
"""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from unjucks_api.reasons import Reason

MAX_REQUEST_BYTES = 16 * 1024 * 1024
MAX_RESPONSE_BYTES = 32 * 1024 * 1024

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
    """Something wrong in a template set, with its place. ``severity`` is ``error`` or ``warning``."""

    path: str
    line: int = 0
    column: int = 0
    message: str
    severity: str = "error"


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
    problems: list[Problem] = Field(default_factory=list)
    deprecated: bool = False
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
    problems: list[Problem] = Field(default_factory=list)
    engine_version: str
    cpu_seconds: float = 0.0


class RenderRequest(Message):
    """Run ``generator``/``action`` of ``files`` (a normalised tree whose digest is ``digest``) with ``variables``."""

    task: str = Field(max_length=256, description="idempotency key; for logs only")
    digest: str
    files: list[SourceFile]
    generator: str
    action: str
    variables: dict[str, Any] = Field(default_factory=dict)
    sensitive: list[str] = Field(default_factory=list, description="dotted names of variables that came from Secrets")
    base: list[SourceFile] = Field(default_factory=list, description="existing files, for inject and unlessExists")
    engine: EngineOptions = EngineOptions()
    limits: Limits = Limits()


class OutputFile(Message):
    """One generated file. ``action`` is created, updated, unchanged, skipped or removed; skipped ones have no content."""

    path: str = Field(min_length=1, max_length=1024)
    content: Base64 = ""
    mode: int = 0o644
    size: int = Field(ge=0)
    sha256: str
    action: str = "created"
    template: str = ""
    sensitive: bool = False


class RenderResponse(Message):
    """All files of one run, sorted by path, and what it cost."""

    files: list[OutputFile]
    warnings: list[str] = Field(default_factory=list)
    messages: list[str] = Field(default_factory=list)
    engine_version: str
    cpu_seconds: float
    wall_seconds: float
    max_rss_bytes: int


class ErrorResponse(Message):
    """A failure. ``retryable``: the same task may succeed elsewhere or later (busy, shutting down)."""

    reason: Reason
    message: str
    path: str = ""
    line: int = 0
    column: int = 0
    limit: str = ""
    retryable: bool = False
