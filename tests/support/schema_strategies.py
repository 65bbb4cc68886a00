"""Hypothesis strategies from the structural schemas of our CRDs: objects inside the schema's bounds, edges included.

What comes out is right for the schema's types and bounds, but CEL rules may still refuse it. Used to compare the models with a
real API server, and to show that reading never fails for what the schema admits.
"""

import string
from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from unjucks_api import markers
from unjucks_api.durations import DURATION

_TEXT = string.ascii_letters + string.digits + " -_./:{}%äß漢😀\n"
_KEYS = st.text(alphabet=string.ascii_letters + string.digits + "-_.", min_size=1, max_size=12)
_MAX_TEXT = 24  # long enough to be text; bounds themselves are tried by the pairs in api_samples
_MAX_ITEMS = 3
_FEW = 3
_DURATIONS = st.sampled_from(["1s", "90s", "1m", "30m", "1h", "59m60s", "168h", "0s", "9000h"])

JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(alphabet=_TEXT, max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=3),
    max_leaves=6,
)


def values(schema: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    """Values that the schema (without its CEL rules) accepts."""
    if schema.get(markers.X_INT_OR_STRING):
        texts = st.from_regex(schema["pattern"], fullmatch=True, alphabet=string.printable)
        return texts | st.integers(schema["minimum"], schema["maximum"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    match schema.get("type"):
        case "string":
            return _strings(schema)
        case "integer":
            return st.integers(schema["minimum"], schema["maximum"])
        case "boolean":
            return st.booleans()
        case "array":
            return _lists(schema)
        case "object":
            return _objects(schema)
    raise AssertionError(f"a schema without a type: {schema}")


def _strings(schema: Mapping[str, Any]) -> st.SearchStrategy[str]:
    low, high = schema.get("minLength", 0), schema.get("maxLength", _MAX_TEXT)
    if schema.get("format") == "date-time":
        return st.datetimes().map(lambda it: it.replace(microsecond=0).isoformat() + "Z")
    if "pattern" not in schema:
        return st.text(alphabet=_TEXT, min_size=low, max_size=min(high, _MAX_TEXT))
    found = st.from_regex(schema["pattern"], fullmatch=True, alphabet=string.printable)
    if schema["pattern"] == DURATION:
        found = _DURATIONS | found
    return found.filter(lambda text: low <= len(text) <= high)


def _lists(schema: Mapping[str, Any]) -> st.SearchStrategy[list[Any]]:
    low, high = schema.get("minItems", 0), min(schema["maxItems"], _MAX_ITEMS)
    items = values(schema["items"])
    kind = schema.get(markers.X_LIST_TYPE)
    if kind == "map":
        key = schema[markers.X_LIST_KEYS][0]
        return st.lists(items, min_size=low, max_size=high, unique_by=lambda item: item[key])
    if kind == "set":
        return st.lists(items, min_size=low, max_size=high, unique_by=repr)
    return st.lists(items, min_size=low, max_size=high)


def _objects(schema: Mapping[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    low = schema.get("minProperties", 0)
    high = max(low, min(schema.get("maxProperties", _MAX_ITEMS), _MAX_ITEMS))
    if "properties" in schema:
        required = set(schema.get("required", ()))
        fields = {name: values(child) for name, child in schema["properties"].items()}
        always = {name: field for name, field in fields.items() if name in required}
        maybe = {name: field for name, field in fields.items() if name not in required}
        many = st.fixed_dictionaries(always, optional=maybe)
        if len(maybe) <= _FEW:
            return many
        # With half of many fields there nearly always is a rule that refuses the whole: mostly there are a few.
        chosen = st.lists(st.sampled_from(sorted(maybe)), max_size=_FEW, unique=True)
        few = chosen.flatmap(lambda keys: st.fixed_dictionaries(always | {key: maybe[key] for key in keys}))
        return st.one_of(few, few, many)
    if schema.get(markers.X_PRESERVE):
        return st.dictionaries(_KEYS, JSON_VALUES, min_size=low, max_size=high)
    return st.dictionaries(_KEYS, values(schema["additionalProperties"]), min_size=low, max_size=high)


def damaged(schema: Mapping[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects with the schema's field names, and anything for values at any depth."""
    wild = JSON_VALUES | st.text(max_size=40) | st.text(alphabet="x", min_size=1100, max_size=1100) | st.floats()
    return st.dictionaries(st.sampled_from([*schema["properties"], "unknown"]), wild, max_size=4).flatmap(
        lambda base: st.builds(lambda good: {**good, **base} | _wilder(schema, base), values(schema))
    )


def _wilder(schema: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """The same wild values one level deeper, where the fields are objects or lists of objects."""
    found: dict[str, Any] = {}
    for name, value in base.items():
        child = schema["properties"].get(name, {})
        if child.get("type") == "object":
            found[name] = dict.fromkeys(child["properties"], value)
        elif child.get("type") == "array" and child["items"].get("type") == "object":
            found[name] = [dict.fromkeys(child["items"]["properties"], value)] * 3
    return found
