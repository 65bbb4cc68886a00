"""From pydantic's JSON Schema to a structural schema that Kubernetes accepts.

Structural schemas know no references, no ``anyOf`` over types, no ``const``, no ``title``. What can be said is said another way;
what cannot raises SchemaError with the field's path. It never drops a rule silently. Pure; called by ``crd``.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from unjucks_api import markers
from unjucks_api.markers import JsonSchema

INT32_MAX = 2**31 - 1
_NOT_STRUCTURAL = (
    "prefixItems",
    "oneOf",
    "discriminator",
    "not",
    "patternProperties",
    "propertyNames",
    "uniqueItems",
    "if",
)
_NOISE = ("title", "$defs", "additionalItems")
# The order of keys in the files: what a reader wants to know first.
_ORDER = (
    "description",
    "type",
    "format",
    markers.X_INT_OR_STRING,
    "enum",
    "default",
    "minLength",
    "maxLength",
    "pattern",
    "minimum",
    "exclusiveMinimum",
    "maximum",
    "exclusiveMaximum",
    "multipleOf",
    "minItems",
    "maxItems",
    markers.X_LIST_TYPE,
    markers.X_LIST_KEYS,
    markers.X_MAP_TYPE,
    "minProperties",
    "maxProperties",
    markers.X_PRESERVE,
    "required",
    "properties",
    "items",
    "additionalProperties",
    markers.X_RULES,
)


class SchemaError(ValueError):
    """A model says something that a structural schema cannot say. The message starts with the field's path."""


def structural_schema(model: type[BaseModel]) -> JsonSchema:
    """The structural schema of ``model``, with the generator's own ``x-unjucks-`` keys still in it for the lint.

    Raises SchemaError for recursive models and for what Kubernetes has no form for.
    """
    return _Transformer(model.model_json_schema(by_alias=True, mode="validation")).run()


def without_own_keys(schema: Any) -> Any:
    """``schema`` without the keys that only the lint and the reference use."""
    if isinstance(schema, Mapping):
        return {key: without_own_keys(value) for key, value in schema.items() if not str(key).startswith("x-unjucks-")}
    return [without_own_keys(item) for item in schema] if isinstance(schema, list) else schema


class _Transformer:
    def __init__(self, root: JsonSchema) -> None:
        self._root = root
        self._defs: dict[str, JsonSchema] = root.get("$defs", {})

    def run(self) -> JsonSchema:
        return self._convert(self._root, "", ())

    def _convert(self, source: JsonSchema, path: str, seen: tuple[str, ...]) -> JsonSchema:
        schema, seen = self._resolved(source, path, seen)
        for word in _NOT_STRUCTURAL:
            if word in schema:
                raise SchemaError(f"{path or '.'}: {word!r} has no place in a structural schema")
        for word in _NOISE:
            schema.pop(word, None)
        if "const" in schema:
            schema["enum"] = [schema.pop("const")]
        if not schema.get(markers.X_DEFAULTED):
            schema.pop("default", None)
        if schema.get(markers.X_INT_OR_STRING):
            schema.pop("type", None)
        elif "type" not in schema:
            raise SchemaError(f"{path or '.'}: it has no type; an untyped value needs a marker")
        self._numbers(schema, path)
        self._objects(schema, path, seen)
        if schema.get("type") == "array":
            if "items" not in schema:
                raise SchemaError(f"{path or '.'}: a list must say what its items are")
            schema["items"] = self._convert(schema["items"], f"{path}[]", seen)
        return _ordered(schema)

    def _resolved(self, source: JsonSchema, path: str, seen: tuple[str, ...]) -> tuple[JsonSchema, tuple[str, ...]]:
        """A copy with references and optional types taken apart; what stands beside a reference wins over what it names."""
        schema = dict(source)
        while "$ref" in schema or "anyOf" in schema or "allOf" in schema:
            if "$ref" in schema:
                name = schema.pop("$ref").removeprefix("#/$defs/")
                if name in seen:
                    raise SchemaError(f"{path or '.'}: {name} contains itself; a structural schema has no recursion")
                seen = (*seen, name)
                schema = _merged(self._defs[name], schema)
            elif "allOf" in schema:
                for part in schema.pop("allOf"):
                    schema = _merged(part, schema)
            else:
                choices = [choice for choice in schema.pop("anyOf") if choice.get("type") != "null"]
                if len(choices) != 1:
                    raise SchemaError(f"{path or '.'}: it may have one of several types; use IntOrString or one type")
                schema = _merged(choices[0], schema)
        return schema, seen

    def _numbers(self, schema: JsonSchema, path: str) -> None:
        if schema.get("type") != "integer":
            return
        for exclusive, inclusive, step in (("exclusiveMinimum", "minimum", 1), ("exclusiveMaximum", "maximum", -1)):
            if exclusive in schema:
                schema[inclusive] = schema.pop(exclusive) + step
        schema.setdefault("format", "int32" if schema.get("maximum", 2**63) <= INT32_MAX else "int64")

    def _objects(self, schema: JsonSchema, path: str, seen: tuple[str, ...]) -> None:
        if schema.get("type") != "object":
            return
        extra = schema.pop("additionalProperties", None)
        if "properties" in schema:
            schema["properties"] = {
                name: self._convert(child, f"{path}.{name}", seen) for name, child in schema["properties"].items()
            }
            if "required" in schema:
                schema["required"] = sorted(schema["required"])
        elif isinstance(extra, Mapping) and extra:
            schema["additionalProperties"] = self._convert(dict(extra), f"{path}.*", seen)
        elif not schema.get(markers.X_PRESERVE):
            raise SchemaError(f"{path or '.'}: an object without known fields needs the marker Free")


def _merged(below: JsonSchema, above: JsonSchema) -> JsonSchema:
    """``above`` over ``below``; the validation rules of both are kept, those of the type first."""
    merged = {**below, **above}
    rules = [*below.get(markers.X_RULES, []), *above.get(markers.X_RULES, [])]
    return {**merged, markers.X_RULES: rules} if rules else merged


def _ordered(schema: JsonSchema) -> JsonSchema:
    known = {key: schema[key] for key in _ORDER if key in schema}
    return {**known, **{key: schema[key] for key in sorted(schema) if key not in known}}
