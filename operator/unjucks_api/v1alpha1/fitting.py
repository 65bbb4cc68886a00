"""Makes a status that the API server takes, whatever went into it: cut to the schema's bounds, without what the schema lacks.

A status with one value out of bounds is refused as a whole, and then the user sees nothing at all; a field that the schema lacks
is dropped in silence, so the stored status never equals the computed one and is written again and again. Both end here. Parts of
a status come from renderers and users' templates, which nobody can trust to be short. Pure; called before a status is compared
and written.
"""

import functools
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from pydantic_core import to_json

from unjucks_api import markers
from unjucks_api.crdgen.schema import structural_schema
from unjucks_api.markers import JsonSchema
from unjucks_api.v1alpha1.common import Model, Object

MAX_STATUS_BYTES = 256 * 1024
_DROP = object()
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?(?:Z|[+-][0-9]{2}:[0-9]{2})")
_Fit = Callable[[Any], Any]


def fit_status(kind: type[Object], status: Mapping[str, Any]) -> dict[str, Any]:
    """``status`` as the API server will store it: equal to the argument when nothing was wrong with it.

    Long text is cut and ends in "…", long lists are cut, numbers are brought within their bounds, values of a wrong type or form
    are left out, and when all of it is still larger than 256 KiB the largest lists lose their ends.
    """
    fitted = _fitter(kind.definition.status)(dict(status))
    assert isinstance(fitted, dict), "a status is an object"
    while len(to_json(fitted)) > MAX_STATUS_BYTES and _shorten(fitted):
        pass
    return fitted


@functools.cache
def _fitter(model: type[Model]) -> _Fit:
    return _build(structural_schema(model))


def _build(schema: JsonSchema) -> _Fit:
    match schema.get("type"):
        case "object":
            return _object(schema)
        case "array":
            return _array(schema)
        case "string":
            return _string(schema)
        case "integer":
            return _integer(schema)
        case "boolean":
            return lambda value: value if isinstance(value, bool) else _DROP
    raise AssertionError(f"status schemas have no type {schema.get('type')!r}")


def _map(schema: JsonSchema) -> _Fit:
    """An object with names of somebody else's: all values have one form."""
    value_fit, limit = _build(schema["additionalProperties"]), schema["maxProperties"]

    def fit(value: Any) -> Any:
        if not isinstance(value, Mapping):
            return _DROP
        kept: dict[str, Any] = {}
        for name, item in sorted(value.items()):
            if len(kept) < limit and (fitted := value_fit(item)) is not _DROP:
                kept[str(name)] = fitted
        return kept

    return fit


def _object(schema: JsonSchema) -> _Fit:
    if "properties" not in schema:
        return _map(schema)
    fields = {name: _build(child) for name, child in schema["properties"].items()}
    required = schema.get("required", ())

    def fit(value: Any) -> Any:
        if not isinstance(value, Mapping):
            return _DROP
        kept = {}
        for name, item in value.items():
            if name in fields and (fitted := fields[name](item)) is not _DROP:
                kept[name] = fitted
        return kept if all(name in kept for name in required) else _DROP

    return fit


def _array(schema: JsonSchema) -> _Fit:
    item_fit, limit = _build(schema["items"]), schema["maxItems"]
    (key,) = schema.get(markers.X_LIST_KEYS) or (None,)

    def fit(value: Any) -> Any:
        if not isinstance(value, list | tuple):
            return _DROP
        kept: list[Any] = []
        seen = set()
        for item in value:
            fitted = item_fit(item)
            if fitted is _DROP or (key is not None and fitted[key] in seen):
                continue
            if len(kept) == limit:
                break
            kept.append(fitted)
            if key is not None:
                seen.add(fitted[key])
        return kept

    return fit


def _string(schema: JsonSchema) -> _Fit:
    enum, limit, shortest = schema.get("enum"), schema.get("maxLength", 0), schema.get("minLength", 0)
    if schema.get("format") == "date-time":
        return lambda value: value if isinstance(value, str) and _is_time(value) else _DROP
    pattern = re.compile(schema["pattern"].removesuffix("$") + r"\Z") if "pattern" in schema else None

    def fit(value: Any) -> Any:
        if not isinstance(value, str) or len(value) < shortest:
            return _DROP
        if enum is not None:
            return value if value in enum else _DROP
        value = value.encode("utf-8", "replace").decode() if not value.isascii() else value
        if pattern is not None:
            return value if len(value) <= limit and pattern.match(value) else _DROP
        return value if len(value) <= limit else value[: limit - 1] + "…"

    return fit


def _is_time(text: str) -> bool:
    if _TIME.fullmatch(text) is None:
        return False
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _integer(schema: JsonSchema) -> _Fit:
    low, high = schema["minimum"], schema["maximum"]

    def fit(value: Any) -> Any:
        if not isinstance(value, int) or isinstance(value, bool):
            return _DROP
        return min(max(value, low), high)

    return fit


def _shorten(status: dict[str, Any]) -> bool:
    """Halve the list that takes the most room; False when there is none left to halve."""
    largest: list[Any] | None = None
    size = 0
    pending: list[Any] = [status]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)
            if len(value) > 1 and (room := len(to_json(value))) > size:
                largest, size = value, room
    if largest is None:
        return False
    del largest[(len(largest) + 1) // 2 :]
    return True
