"""What a pydantic field says about its place in a CRD and JSON Schema has no word for: CEL rules, list-maps, free objects.

The markers are used inside ``Annotated`` in the API models; ``crdgen`` finds what they leave behind in the JSON schema (keys
that start with ``x-``). A ``Cel`` rule without ``oldSelf`` carries the same check in Python, so that the operator refuses what
the API server would have refused, even where older CRDs are installed. Pure; called by the models only.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

JsonSchema = dict[str, Any]

X_RULES = "x-kubernetes-validations"
X_LIST_TYPE = "x-kubernetes-list-type"
X_LIST_KEYS = "x-kubernetes-list-map-keys"
X_MAP_TYPE = "x-kubernetes-map-type"
X_INT_OR_STRING = "x-kubernetes-int-or-string"
X_PRESERVE = "x-kubernetes-preserve-unknown-fields"
# For the generator only; never in a CRD.
X_DEFAULTED = "x-unjucks-defaulted"
X_BOOL_REASON = "x-unjucks-bool-reason"
X_FREE_REASON = "x-unjucks-free-reason"
X_ENUM_REASON = "x-unjucks-enum-reason"


class _SchemaMarker:
    """Base of the markers that only add keys to the JSON schema."""

    def keys(self) -> JsonSchema:
        raise NotImplementedError

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchema:
        schema = dict(handler(core))
        schema.update(self.keys())
        return schema


@dataclass(frozen=True, slots=True)
class Cel:
    """One validation rule of the API server, with its words.

    ``rule`` is CEL over ``self`` (and ``oldSelf`` for a transition); ``message`` says what is wrong and what is allowed;
    ``reason`` is one of FieldValueInvalid, FieldValueForbidden, FieldValueRequired, FieldValueDuplicate; ``field_path`` (like
    ``.namespace``) moves the error from the object to that field. ``check`` is the same rule in Python and gets the model (or
    the plain value) after its types are known; only transition rules have none.
    """

    rule: str
    message: str
    reason: str = "FieldValueInvalid"
    field_path: str = ""
    check: Callable[[Any], bool] | None = None

    def entry(self) -> JsonSchema:
        """The item of ``x-kubernetes-validations``."""
        item = {"rule": self.rule, "message": self.message, "reason": self.reason}
        if self.field_path:
            item["fieldPath"] = self.field_path
        return item

    def enforce(self, value: Any) -> Any:
        """The value itself when ``check`` holds; raises pydantic's error with ``message`` otherwise."""
        if self.check is not None and not self.check(value):
            raise PydanticCustomError("rule", "{text}", {"text": self.message, "field": self.field_path})
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        inner = handler(source)
        return core_schema.no_info_after_validator_function(self.enforce, inner) if self.check else inner

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchema:
        schema = dict(handler(core))
        schema[X_RULES] = [*schema.get(X_RULES, []), self.entry()]
        return schema


@dataclass(frozen=True)
class ListMap(_SchemaMarker):
    """A list of named objects: unique by ``keys_``, merged by key under server-side apply."""

    key: str = "name"

    def keys(self) -> JsonSchema:
        return {X_LIST_TYPE: "map", X_LIST_KEYS: [self.key]}


@dataclass(frozen=True)
class ListSet(_SchemaMarker):
    """A list of scalars without duplicates; everybody who applies it owns the items it names."""

    def keys(self) -> JsonSchema:
        return {X_LIST_TYPE: "set"}


@dataclass(frozen=True)
class ListAtomic(_SchemaMarker):
    """A list whose order matters: whoever applies it owns it as a whole."""

    def keys(self) -> JsonSchema:
        return {X_LIST_TYPE: "atomic"}


@dataclass(frozen=True)
class Free(_SchemaMarker):
    """An object whose content is the user's own, kept as it is. ``why`` is what allows it past the lint."""

    why: str

    def keys(self) -> JsonSchema:
        return {X_PRESERVE: True, X_FREE_REASON: self.why}


@dataclass(frozen=True)
class Format(_SchemaMarker):
    """A string format that the API server checks (``date-time``)."""

    name: str

    def keys(self) -> JsonSchema:
        return {"format": self.name}


@dataclass(frozen=True)
class IntOrString(_SchemaMarker):
    """A quantity: ``4`` and ``"4"`` are both accepted and both arrive as text.

    ``pattern`` binds the text, ``maximum`` the number.
    """

    pattern: str
    max_length: int
    maximum: int

    def keys(self) -> JsonSchema:
        return {
            X_INT_OR_STRING: True,
            "pattern": self.pattern,
            "maxLength": self.max_length,
            "minimum": 0,
            "maximum": self.maximum,
        }


@dataclass(frozen=True)
class Defaulted(_SchemaMarker):
    """The default is written into stored objects by the API server. Without this marker a default is the operator's own."""

    def keys(self) -> JsonSchema:
        return {X_DEFAULTED: True}


@dataclass(frozen=True)
class Switch(_SchemaMarker):
    """A bool, although enums grow better. ``why`` is what allows it past the lint."""

    why: str

    def keys(self) -> JsonSchema:
        return {X_BOOL_REASON: self.why}


@dataclass(frozen=True)
class EnumSpelling(_SchemaMarker):
    """Enum values that are not CamelCase. ``why`` is what allows them past the lint."""

    why: str

    def keys(self) -> JsonSchema:
        return {X_ENUM_REASON: self.why}
