"""What is said about a variable that does not hold its schema: where, what is wrong, what is allowed; never a secret's value.

Messages are our own words for the findings of the JSON Schema library, which would print values. Pure; called by
``unjucks_api.variables``.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from unjucks_api.variable_schema import canonical

_SHOWN: Final = 60


class ProblemKind(StrEnum):
    """What sort of problem it is; callers give missing variables another reason than wrong ones."""

    MISSING = "missing"
    INVALID = "invalid"
    UNKNOWN = "unknown"
    SCHEMA = "schema"  # the schema itself is wrong: the template's author has to act, not the user


@dataclass(frozen=True, order=True)
class VariableProblem:
    """One thing that is wrong. ``path`` is dotted (``fields[0].name``; empty for the whole); ``message`` says what is allowed."""

    path: str
    kind: ProblemKind
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


def dotted(path: Sequence[str | int]) -> str:
    """``("fields", 0, "name")`` as ``fields[0].name``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def types(nodes: Sequence[Mapping[str, Any]]) -> set[str]:
    kinds: set[str] = set()
    for node in nodes:
        declared = node.get("type")
        kinds.update([declared] if isinstance(declared, str) else declared or ())
        choices = [node["const"]] if "const" in node else node.get("enum") or ()
        if declared is None:
            kinds.update(kind_of(choice) for choice in choices)
    return kinds


def kind_of(value: object) -> str:
    """The JSON type of a value, as schemas name it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


_ARTICLE: Final = {
    "null": "null", "boolean": "true or false", "integer": "a whole number", "number": "a number", "string": "text",
    "array": "a list", "object": "an object",
}  # fmt: skip
_BOUNDS: Final = {
    "minimum": "must be at least {}", "maximum": "must be at most {}", "exclusiveMinimum": "must be greater than {}",
    "exclusiveMaximum": "must be less than {}", "minLength": "must have at least {} characters",
    "maxLength": "must have at most {} characters", "minItems": "must have at least {} items",
    "maxItems": "must have at most {} items", "minProperties": "must have at least {} keys",
    "maxProperties": "must have at most {} keys", "multipleOf": "must be a multiple of {}",
}  # fmt: skip
_FORMAT_HINTS: Final = {
    "path": "a relative path with / between its parts, without . or .. parts",
    "k8s-name": "lower-case letters, digits and -, at most 63 characters, starting and ending with a letter or digit",
    "uuid": "a UUID such as 123e4567-e89b-12d3-a456-426614174000",
    "date": "a date such as 2026-01-31",
    "date-time": "a time such as 2026-01-31T12:00:00Z",
}


def describe(nodes: Sequence[Mapping[str, Any]]) -> str:
    kinds = sorted(types(nodes))
    choices = next((node["enum"] for node in nodes if isinstance(node.get("enum"), list)), None)
    text = next((node["description"] for node in nodes if isinstance(node.get("description"), str)), "")
    about = one_of(choices) if choices else " or ".join(_ARTICLE[kind] for kind in kinds if kind in _ARTICLE)
    parts = [part for part in (about, text.strip().rstrip(".")) if part]
    return f" ({'; '.join(parts)})" if parts else ""


def one_of(choices: Sequence[Any]) -> str:
    shown = ", ".join(short(choice) for choice in choices[:20])
    return f"one of {shown}" + (f" and {len(choices) - 20} more" if len(choices) > 20 else "")


def near(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]}?"
    if not known:
        return "; this action takes no variables"
    return f"; known are {', '.join(known[:20])}" + (" …" if len(known) > 20 else "")


def short(value: Any) -> str:
    text = canonical(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def message(keyword: str, details: Mapping[str, Any], instance: Any, hidden: bool) -> str:
    scalar = not isinstance(instance, dict | list)
    got = " (the value is a secret and not shown)" if hidden else f", got {short(instance)}" if scalar else ""
    if keyword == "type":
        wanted = " or ".join(_ARTICLE[kind] for kind in details["types"])
        if hidden:
            return f"must be {wanted}{got}"
        return f"must be {wanted}, got {_ARTICLE[kind_of(instance)]}" + (f" ({short(instance)})" if scalar else "")
    if keyword == "enum":
        return f"must be {one_of(details['options'])}{got}"
    if keyword == "const":
        return f"must be {short(details.get('expected_value', details.get('value')))}{got}"
    if keyword == "pattern":
        return f"must match the pattern {details['pattern']}{got}"
    if keyword == "format":
        form = details["format"]
        return f"must be {_FORMAT_HINTS.get(form, f'of the format {form}')}{got}"
    if keyword in _BOUNDS:
        limit = details.get("limit", details.get("multiple_of"))
        return _BOUNDS[keyword].format(short(limit)) + got
    if keyword == "uniqueItems":
        return "must not hold the same item twice"
    if keyword == "oneOf" and not any(details.get("context") or ()):
        return "matches more than one of the alternatives, but must match exactly one" + got
    if keyword in ("anyOf", "oneOf"):
        return alternatives(details.get("context") or (), hidden) + got
    if keyword == "propertyNames":
        return "has a key that is not allowed"
    if keyword == "contains":
        return "does not hold the items that it must hold"
    if keyword == "falseSchema":
        return "must not be given"
    return f"does not hold the schema's rule {keyword!r}{got}"


def alternatives(context: Sequence[Sequence[Any]], hidden: bool) -> str:
    parts: list[str] = []
    for errors in context[:5]:
        if not errors:
            continue
        first = errors[0]
        place = dotted(tuple(first.instance_path))
        text = (
            f"{first.kind.as_dict()['property']} is required"
            if first.kind.name == "required"
            else message(first.kind.name, first.kind.as_dict(), None, True).replace(
                " (the value is a secret and not shown)", ""
            )
        )
        parts.append(f"{place}: {text}" if place and not hidden else text)
    return (
        "fits none of the alternatives: " + "; or ".join(dict.fromkeys(parts))
        if parts
        else "fits none of the alternatives"
    )
