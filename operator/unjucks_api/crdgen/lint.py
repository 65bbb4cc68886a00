"""What every CRD of ours must keep: bounds, descriptions, API conventions. A broken rule fails the build.

The cost of CEL rules, the size of objects and the width of ``kubectl get`` all hang on bounds, and nobody adds them later. Each
finding has the field's path, the rule's name and what to do. Pure; called by ``__main__`` and the tests.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from unjucks_api import markers
from unjucks_api.crdgen.crd import build_crd, build_schema
from unjucks_api.markers import JsonSchema
from unjucks_api.v1alpha1.common import Object

MAX_CRD_BYTES = 100_000
MAX_INTEGER = 2**53 - 1
CEL_REASONS = frozenset({"FieldValueInvalid", "FieldValueForbidden", "FieldValueRequired", "FieldValueDuplicate"})
CONDITION_STATUS = ["True", "False", "Unknown"]
COLUMN_TYPES = frozenset({"string", "integer", "boolean", "date", "number"})
_CAMEL = re.compile(r"[A-Z][A-Za-z0-9]*")
# Look-around and back references (RE2 has none), and classes that differ between engines (\d is ASCII in Go only).
_NOT_PORTABLE = re.compile(r"\(\?(?:[=!]|<[=!])|\\[1-9]|\\[dDwWsSbBpP]|\(\?P=")
_STARTS_WITH_NAME = re.compile(r"^(?:The field|This field|A field|Field )", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken rule. ``path`` is ``Kind.spec.field``; ``rule`` is stable, for tests and searches."""

    path: str
    rule: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message} [{self.rule}]"


def check_kind(kind: type[Object]) -> list[Finding]:
    """Everything that is wrong with the CRD of ``kind``; empty when nothing is."""
    return check_schema(kind, build_schema(kind))


def check_schema(kind: type[Object], schema: JsonSchema) -> list[Finding]:
    """As ``check_kind``, for a schema that the caller made (with the generator's own keys still in it)."""
    name = kind.definition.kind
    findings = [*_rules(schema, name)]
    for part in ("spec", "status"):
        findings += _walk(schema["properties"][part], f"{name}.{part}", in_status=part == "status")
    size = len(json.dumps(build_crd(kind, schema)))
    if size >= MAX_CRD_BYTES:
        findings.append(Finding(name, "crd-size", f"the CRD has {size} bytes; keep it below {MAX_CRD_BYTES}"))
    findings += _columns(kind, schema)
    return findings


def _walk(schema: JsonSchema, path: str, *, in_status: bool, described: bool = True) -> Iterator[Finding]:
    """Findings of a field and all below. ``described`` is False for scalars in lists and maps: their container's text says it."""
    for check in _CHECKS:
        for rule, message in check(schema, in_status):
            if described or rule != "description":
                yield Finding(path, rule, message)
    yield from _rules(schema, path)
    for name, child in schema.get("properties", {}).items():
        if not re.fullmatch(r"[a-z][A-Za-z0-9]*", name):
            yield Finding(f"{path}.{name}", "field-name", "field names are camelCase")
        yield from _walk(child, f"{path}.{name}", in_status=in_status)
    for place, inner in ((f"{path}[]", schema.get("items")), (f"{path}.*", schema.get("additionalProperties"))):
        if isinstance(inner, Mapping):
            yield from _walk(dict(inner), place, in_status=in_status, described="properties" in inner)


Check = Callable[[JsonSchema, bool], Iterator[tuple[str, str]]]


def _described(schema: JsonSchema, in_status: bool) -> Iterator[tuple[str, str]]:
    text = str(schema.get("description", ""))
    if len(text) < 12 or not text[0].isupper() or not text.rstrip().endswith("."):
        yield "description", "it needs a description: whole sentences that start with what the field is for"
    elif _STARTS_WITH_NAME.match(text):
        yield "description", "a description starts with the purpose, not with 'The field'"
    if re.search(r"\b(TODO|TBD|FIXME)\b", text):
        yield "description", "a description is finished text"


def _bounded(schema: JsonSchema, in_status: bool) -> Iterator[tuple[str, str]]:
    kind = schema.get("type")
    if (kind == "string" or schema.get(markers.X_INT_OR_STRING)) and "maxLength" not in schema and "enum" not in schema:
        yield "bounds", "text needs a maxLength or an enum"
    if kind == "array" and "maxItems" not in schema:
        yield "bounds", "a list needs maxItems"
    is_map = kind == "object" and "properties" not in schema
    if is_map and "maxProperties" not in schema:
        yield "bounds", "a map needs maxProperties"
    if schema.get("maximum", 0) > MAX_INTEGER:
        yield "bounds", f"the API server cannot hold a bound above {MAX_INTEGER} exactly, and refuses every value then"
    if kind == "integer" and not {"minimum", "maximum"} <= schema.keys():
        yield "bounds", "a number needs minimum and maximum"


def _lists(schema: JsonSchema, in_status: bool) -> Iterator[tuple[str, str]]:
    if schema.get("type") != "array":
        return
    kind = schema.get(markers.X_LIST_TYPE)
    items = schema["items"]
    if kind is None:
        yield "list-type", "say how the list is merged: ListMap, ListSet or ListAtomic"
    if kind == "map":
        for key in schema[markers.X_LIST_KEYS]:
            if key not in items.get("required", []):
                yield "list-type", f"the key {key!r} must be required in the items"
    if kind == "set" and items.get("type") == "object":
        yield "list-type", "server-side apply fails on sets of objects; use ListMap or ListAtomic"
    named = kind == "atomic" and "name" in items.get("required", [])
    if named and items.get(markers.X_MAP_TYPE) != "atomic" and "order" not in schema.get("description", ""):
        yield "list-type", "a list of named objects is a ListMap, unless its order matters and the description says so"


def _types(schema: JsonSchema, in_status: bool) -> Iterator[tuple[str, str]]:
    if schema.get("type") == "number":
        yield "float", "the API has no floating-point numbers; use text or an integer"
    if schema.get("type") == "boolean" and not in_status and not schema.get(markers.X_BOOL_REASON):
        yield "bool", "a bool cannot grow; use an enum, or the marker Switch with the reason"
    if schema.get(markers.X_PRESERVE) and not schema.get(markers.X_FREE_REASON):
        yield "free", "a free object needs the marker Free with the reason"
    if "nullable" in schema:
        yield "nullable", "absent says it already; do not use null"


def _enums(schema: JsonSchema, in_status: bool) -> Iterator[tuple[str, str]]:
    values = schema.get("enum")
    if values is None:
        return
    if in_status and values != CONDITION_STATUS:
        yield "status-enum", "no enums in status: a newer operator could not write a new value under older CRDs"
    if not schema.get(markers.X_ENUM_REASON) and not all(
        isinstance(one, str) and _CAMEL.fullmatch(one) for one in values
    ):
        yield "enum-spelling", "enum values are CamelCase"


def _status(schema: JsonSchema, in_status: bool) -> Iterator[tuple[str, str]]:
    if not in_status:
        return
    if "default" in schema:
        yield "status-default", "no defaults in status: only the operator writes it"
    keys = {"type", "name"}
    if surplus := set(schema.get("required", [])) - keys:
        yield "status-required", f"nothing is required in status but list keys: {', '.join(sorted(surplus))}"


def _patterns(schema: JsonSchema, in_status: bool) -> Iterator[tuple[str, str]]:
    pattern = schema.get("pattern")
    if pattern is None:
        return
    if _NOT_PORTABLE.search(pattern):
        yield "pattern", "look-around, back references and classes like \\d differ between engines; write them out"
    if not (pattern.startswith("^") and pattern.endswith("$")):
        yield "pattern", "a pattern is anchored with ^ and $"


_CHECKS: tuple[Check, ...] = (_described, _bounded, _lists, _types, _enums, _status, _patterns)


def _rules(schema: JsonSchema, path: str) -> Iterator[Finding]:
    for rule in schema.get(markers.X_RULES, []):
        message = rule.get("message", "")
        if len(message) < 15 or message.endswith((".", "!")) or "\n" in message:
            yield Finding(path, "cel-message", f"a rule's message is one plain clause without a full stop: {message!r}")
        if rule.get("reason") not in CEL_REASONS:
            yield Finding(path, "cel-reason", f"a rule's reason is one of {', '.join(sorted(CEL_REASONS))}")
        field = rule.get("fieldPath", "")
        if field and not _has(schema, field):
            yield Finding(path, "cel-field", f"fieldPath {field} names no field")
        if "self" not in rule.get("rule", ""):
            yield Finding(path, "cel-rule", "a rule speaks about self")


def _has(schema: JsonSchema, path: str) -> bool:
    for part in path.lstrip(".").split("."):
        schema = schema.get("properties", {}).get(part)
        if schema is None:
            return False
    return True


def _columns(kind: type[Object], schema: JsonSchema) -> Iterator[Finding]:
    definition = kind.definition
    names = [column.name for column in definition.columns]
    if len(names) != len(set(names)):
        yield Finding(definition.kind, "columns", "two columns have the same name")
    narrow = [column.name for column in definition.columns if not column.wide]
    if "Ready" not in narrow or narrow[-1:] != ["Age"]:
        yield Finding(
            definition.kind, "columns", "Ready is among the columns, and Age is the last that is always shown"
        )
    for column in definition.columns:
        where = f"{definition.kind} column {column.name}"
        if column.type not in COLUMN_TYPES:
            yield Finding(where, "columns", f"type {column.type!r} is none of {', '.join(sorted(COLUMN_TYPES))}")
        yield from _column_target(schema, where, column.path, column.type)
    for path in definition.selectable:
        if not _has(schema, path):
            yield Finding(f"{definition.kind} selectable {path}", "columns", "it names no field")


def _column_target(schema: JsonSchema, where: str, path: str, kind: str) -> Iterator[Finding]:
    if path.startswith(".metadata."):
        return
    plain = re.sub(r"\[\?\(@\.type==\"[A-Za-z]+\"\)\]", "", path)
    node: Any = schema
    for part in plain.lstrip(".").split("."):
        node = node.get("items", node)
        node = node.get("properties", {}).get(part)
        if node is None:
            yield Finding(where, "columns", f"{path} names no field")
            return
    if kind not in (node.get("type"), "date"):
        yield Finding(where, "columns", f"{path} is of type {node.get('type')}, not {kind}")
