"""What the three kinds share: base classes, names, quantities, durations, references, conditions, and reading of objects.

The models say what the CRDs say (``crdgen`` derives one from the other) and check the same again in the operator. Reading is
lenient where an older or newer CRD may differ: unknown fields are ignored, ``status`` stays as it is. Pure; no clock.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationError,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema, ErrorDetails

from unjucks_api import names
from unjucks_api.durations import DURATION as DURATION
from unjucks_api.durations import duration_seconds as duration_seconds
from unjucks_api.markers import X_MAP_TYPE, X_RULES, Cel, Format, IntOrString, JsonSchema, Switch

DNS_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
DNS_SUBDOMAIN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
DIGEST = r"^sha256:[0-9a-f]{64}$"
SECONDS = r"^[0-9]{1,12}(\.[0-9]{1,3})?$"
MAX_PROBLEMS_SHOWN = 5


class InvalidObjectError(ValueError):
    """An object does not have the shape its kind promises. ``message`` names each wrong field and holds no values."""

    def __init__(self, kind: str, problems: list[str]) -> None:
        shown = "; ".join(problems[:MAX_PROBLEMS_SHOWN])
        more = f"; and {len(problems) - MAX_PROBLEMS_SHOWN} more" if len(problems) > MAX_PROBLEMS_SHOWN else ""
        self.message = f"this {kind} is not valid: {shown}{more}"
        self.problems = problems
        super().__init__(self.message)


class Model(BaseModel):
    """Base of every object in the API: camelCase outside, snake_case inside, unknown fields ignored, never changed.

    ``rules`` are CEL rules over the whole object; ``atomic`` makes it one unit for server-side apply.
    """

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)
    rules: ClassVar[tuple[Cel, ...]] = ()
    atomic: ClassVar[bool] = False

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchema:
        schema: JsonSchema = handler(core)
        resolved = handler.resolve_ref_schema(schema)
        if cls.rules:
            resolved[X_RULES] = [rule.entry() for rule in cls.rules]
        if cls.atomic:
            resolved[X_MAP_TYPE] = "atomic"
        return schema

    def wire(self) -> dict[str, Any]:
        """The object as it goes to the API server: camelCase, without what is absent or empty."""
        dumped = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        return {key: value for key, item in dumped.items() if not _empty(value := _pruned(item))}


class Ruled(Model):
    """A model with ``rules``: those that have a check in Python are enforced when an object is read."""

    @model_validator(mode="after")
    def _enforce_rules(self) -> Self:
        for rule in type(self).rules:
            rule.enforce(self)
        return self


def _empty(value: Any) -> bool:
    return isinstance(value, (str, list, dict)) and not value


def _pruned(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: kept for key, item in value.items() if not _empty(kept := _pruned(item))}
    return [_pruned(item) for item in value] if isinstance(value, list) else value


# --- scalars -------------------------------------------------------------------------------------------------------------
DnsLabel = Annotated[str, Field(min_length=1, max_length=63, pattern=DNS_LABEL)]
DnsSubdomain = Annotated[str, Field(min_length=1, max_length=253, pattern=DNS_SUBDOMAIN)]
Digest = Annotated[str, Field(max_length=71, pattern=DIGEST)]
Word = Annotated[str, Field(max_length=64)]
Line = Annotated[str, Field(max_length=256)]
PathText = Annotated[str, Field(max_length=1024)]
Message = Annotated[str, Field(max_length=1024)]
Time = Annotated[str, Field(max_length=64), Format("date-time")]
Seconds = Annotated[str, Field(max_length=16, pattern=SECONDS)]
Count = Annotated[int, Field(ge=0, le=2**31 - 1)]
Bytes = Annotated[int, Field(ge=0, le=2**53 - 1)]
Generation = Annotated[int, Field(ge=0, le=2**53 - 1)]  # larger bounds are not exact in the API server
Suspend = Annotated[bool, Switch("the word every GitOps user knows from CronJob and Flux; it is on or off")]

CPU_PATTERN = r"^([0-9]{1,6}m|[0-9]{1,4}(\.[0-9]{1,3})?)$"
MEMORY_PATTERN = r"^[0-9]{1,12}(\.[0-9]{1,3})?(Ki|Mi|Gi|Ti|k|M|G|T)?$"


def _integer_as_text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Cpu = Annotated[
    str,
    BeforeValidator(_integer_as_text),
    Field(max_length=16, pattern=CPU_PATTERN),
    IntOrString(CPU_PATTERN, 16, maximum=9999),
]
Memory = Annotated[
    str,
    BeforeValidator(_integer_as_text),
    Field(max_length=20, pattern=MEMORY_PATTERN),
    IntOrString(MEMORY_PATTERN, 20, maximum=10**12 - 1),
]

_SUFFIXES = {
    "": Decimal(1),
    "m": Decimal("0.001"),
    "k": Decimal(10**3),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    "T": Decimal(10**12),
    "Ki": Decimal(2**10),
    "Mi": Decimal(2**20),
    "Gi": Decimal(2**30),
    "Ti": Decimal(2**40),
}
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)(m|Ki|Mi|Gi|Ti|k|M|G|T|)")


def quantity(text: str) -> Decimal:
    """A Kubernetes quantity as a number: cores for CPU, bytes for memory. Raises ValueError for anything else."""
    found = _QUANTITY.fullmatch(text)
    if found is None:
        raise ValueError(f"{text[:40]!r} is not a quantity; write for example 500m, 2, 512Mi or 8Gi")
    return Decimal(found[1]) * _SUFFIXES[found[2]]


def seconds_text(seconds: float) -> str:
    """Seconds as status shows them: text with milliseconds, because the API has no floating-point numbers."""
    return f"{max(seconds, 0):.3f}".rstrip("0").rstrip(".") or "0"


# --- pieces --------------------------------------------------------------------------------------------------------------
class LocalReference(Model):
    """An object of another kind in the same namespace. There is no way to name another namespace."""

    name: DnsSubdomain = Field(description="Name of the object, in the same namespace.")


class ConditionModel(Model):
    """One aspect of the object's state, as Kubernetes' conventions define conditions."""

    type: Annotated[str, Field(min_length=1, max_length=64)] = Field(
        description="Name of the condition, for example Ready. The list of all is in the reference."
    )
    status: Annotated[str, Field(json_schema_extra={"enum": ["True", "False", "Unknown"]})] = Field(
        default="Unknown", description="Whether the condition holds: True, False or Unknown."
    )
    reason: Word = Field(default="", description="Why, in one CamelCase word. Each has a page in docs/runbooks.")
    message: Message = Field(default="", description="What is wrong, where, and what to do, for people.")
    observed_generation: Generation | None = Field(
        default=None, description="The metadata.generation that this condition is about."
    )
    last_transition_time: Time | None = Field(default=None, description="When the status last changed.")


class Metadata(Model):
    """What the operator reads of an object's metadata."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    finalizers: tuple[str, ...] = ()
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None


# --- kinds ---------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Column:
    """A column of ``kubectl get``. ``wide``: only with ``-o wide``."""

    name: str
    path: str
    description: str
    type: str = "string"
    wide: bool = False


READY_COLUMNS = (
    Column("Ready", '.status.conditions[?(@.type=="Ready")].status', "Whether everything it promises holds."),
    Column("Reason", '.status.conditions[?(@.type=="Ready")].reason', "Why, in one word."),
)
AGE_COLUMN = Column("Age", ".metadata.creationTimestamp", "Time since it was created.", type="date")
MESSAGE_COLUMN = Column(
    "Message", '.status.conditions[?(@.type=="Ready")].message', "What to know or to do.", wide=True
)


@dataclass(frozen=True, slots=True)
class Definition:
    """What a CRD says around its schema."""

    kind: str
    plural: str
    short_name: str
    namespaced: bool
    summary: str
    columns: tuple[Column, ...]
    status: type[Model]
    selectable: tuple[str, ...] = ()


class Object(Ruled):
    """An object of one of our kinds, as read from the API server. ``status`` is kept as it stands.

    Build a new status with the model ``definition.status`` and its ``wire()``.
    """

    definition: ClassVar[Definition]

    metadata: Metadata
    status: dict[str, Any] = Field(default_factory=dict)

    @property
    def name(self) -> str:
        """``metadata.name``."""
        return self.metadata.name

    @property
    def namespace(self) -> str:
        """``metadata.namespace``; empty for a cluster-scoped kind."""
        return self.metadata.namespace

    @property
    def uid(self) -> str:
        """``metadata.uid``."""
        return self.metadata.uid

    @property
    def generation(self) -> int:
        """``metadata.generation``: counts changes of the spec."""
        return self.metadata.generation

    @property
    def deleting(self) -> bool:
        """Whether somebody has asked for its deletion."""
        return self.metadata.deletion_timestamp is not None

    @property
    def paused(self) -> bool:
        """Whether the annotation asks us to leave it alone."""
        return self.metadata.annotations.get(names.ANNOTATION_RECONCILE) == names.RECONCILE_DISABLED

    @property
    def requested_at(self) -> str:
        """The value of the annotation that asks for another run; empty when there is none. Cut to what status can hold."""
        return self.metadata.annotations.get(names.ANNOTATION_REQUESTED_AT, "")[:256]

    @classmethod
    def parse(cls, body: Mapping[str, Any]) -> Self:
        """The object in ``body``. Raises InvalidObjectError, which says which fields are wrong, and nothing else.

        A ``status`` that is no object counts as none: it is ours, and written again.
        """
        if not isinstance(body.get("status", {}), dict):
            body = {key: value for key, value in body.items() if key != "status"}
        try:
            return cls.model_validate(body)
        except ValidationError as error:
            found = error.errors(include_input=False, include_url=False)
            problems = [_problem(item) for item in found if not _follows(item, found)]
            raise InvalidObjectError(cls.definition.kind, problems) from None


def _follows(error: ErrorDetails, others: list[ErrorDetails]) -> bool:
    """Whether a list only counts as too short because its items are wrong."""
    place = error["loc"]
    return error["type"] == "too_short" and any(
        len(other["loc"]) > len(place) and other["loc"][: len(place)] == place for other in others
    )


def _problem(error: ErrorDetails) -> str:
    """One field's trouble in plain words. Never the value: it may be a user's secret in the wrong place."""
    path = ""
    for part in error["loc"]:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    where = (path + error.get("ctx", {}).get("field", "")).lstrip(".") or "the object"
    if error["type"] == "missing":
        return f"{where} is missing"
    return f"{where}: {error['msg']}"
