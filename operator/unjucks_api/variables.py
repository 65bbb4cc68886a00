"""Variables of a generation: checked against a schema, defaults filled in, all errors at once.

``validate`` is the one entry. It is pure, safe with hostile schemas and values (``unjucks_api.variable_schema`` bounds both before
anything is compiled; expressions run in a linear-time engine; no reference leaves the document), and never shows the value of a
sensitive variable. Called by the operator before a pod starts, by the generator before it renders, and by the command line.
"""

import copy
import json
import re
from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import jsonschema_rs

from unjucks_api.tree import PathRejectedError, check_path
from unjucks_api.variable_messages import ProblemKind, VariableProblem, describe, dotted, kind_of, message, near, types
from unjucks_api.variable_schema import (
    SENSITIVE_KEYWORD,
    TooMuchWorkError,
    charge_validation,
    check_schema,
    measure,
    resolve,
)

__all__ = [
    "ProblemKind",
    "VariableProblem",
    "check_schema",
    "coerce_text",
    "compile_schema",
    "dotted",
    "is_sensitive",
    "kind_of",
    "subschemas_at",
    "validate",
]

MAX_DEPTH: Final = 64
MAX_VALUES: Final = 50_000
MAX_TEXT: Final = 4 * 1024 * 1024
MAX_PROBLEMS: Final = 50
_MAX_DEFAULTS: Final = 5000
_PATTERN_BYTES: Final = 4 * 1024 * 1024  # compiled size of one expression; larger ones are refused as invalid
_K8S_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


def validate(
    schema: Mapping[str, Any],
    variables: Mapping[str, Any],
    *,
    text: Collection[str] = (),
    sensitive: Collection[str] = (),
) -> tuple[dict[str, Any], list[VariableProblem]]:
    """Checks ``variables`` against ``schema``; returns them with defaults filled in, and every problem, sorted by path.

    ``text`` holds dotted names of values that were given as text (a ConfigMap key, a command-line flag): they, and only they, are
    turned into the type that the schema asks for when that loses nothing (``"8080"`` to ``8080``). ``sensitive`` holds dotted names
    of secrets, in addition to what the schema marks (``writeOnly`` or ``x-sensitive``): their values are in no message.
    With problems the first result must not be used for rendering.
    """
    schema = dict(schema)
    wrong = [
        VariableProblem("", ProblemKind.SCHEMA, f"schema{pointer and ' at ' + pointer}: {message}")
        for pointer, message in check_schema(schema)
    ]
    if wrong:
        return {}, wrong[:MAX_PROBLEMS]
    why = measure(dict(variables), max_depth=MAX_DEPTH, max_nodes=MAX_VALUES, max_text=MAX_TEXT)
    if why is not None:
        return {}, [VariableProblem("", ProblemKind.INVALID, f"the variables are refused: {why}")]
    merged: dict[str, Any] = copy.deepcopy(dict(variables))
    for name in text:
        _coerce_at(schema, merged, _parse_path(name))
    try:
        _fill_object(schema, schema, merged, [_MAX_DEFAULTS], 0)
        charge_validation(schema, merged)
        why = measure(merged, max_depth=MAX_DEPTH, max_nodes=MAX_VALUES, max_text=MAX_TEXT)
        if why is not None:
            raise TooMuchWorkError(f"the variables with their defaults are refused: {why}")
        validator = compile_schema(schema)
    except TooMuchWorkError as error:
        return {}, [VariableProblem("", ProblemKind.SCHEMA, str(error))]
    except (ValueError, jsonschema_rs.ValidationError) as error:
        return {}, [VariableProblem("", ProblemKind.SCHEMA, f"the schema does not hold: {_schema_message(error)}")]
    secret_paths = [_parse_path(name) for name in sensitive]
    problems: set[VariableProblem] = set()
    for found in validator.iter_errors(merged):
        problems.update(_problems(schema, found, secret_paths))
        if len(problems) > MAX_PROBLEMS * 4:
            break
    ordered = sorted(problems, key=lambda problem: (_natural(problem.path), problem.kind, problem.message))
    if len(ordered) > MAX_PROBLEMS:
        rest = len(ordered) - MAX_PROBLEMS
        ordered = ordered[:MAX_PROBLEMS]
        ordered.append(VariableProblem("", ProblemKind.INVALID, f"and {rest} more problems"))
    return merged, ordered


def compile_schema(schema: Mapping[str, Any]) -> jsonschema_rs.Draft202012Validator:
    """The validator of a schema that ``check_schema`` accepts; raises jsonschema_rs.ValidationError for one that is malformed."""
    return jsonschema_rs.Draft202012Validator(
        dict(schema),
        validate_formats=True,
        formats={"path": _is_path, "k8s-name": _is_k8s_name},
        offline=True,
        pattern_options=jsonschema_rs.RegexOptions(size_limit=_PATTERN_BYTES, dfa_size_limit=2 * _PATTERN_BYTES),
    )


def _is_path(value: str) -> bool:
    try:
        check_path(value)
    except PathRejectedError:
        return False
    return True


def _is_k8s_name(value: str) -> bool:
    return _K8S_NAME.fullmatch(value) is not None


def _schema_message(error: Exception) -> str:
    # Only the first line: the rest repeats the whole (large) schema.
    return (getattr(error, "message", "") or str(error)).splitlines()[0][:200]


# --- paths ---------------------------------------------------------------------------------------------------------------
Path = tuple[str | int, ...]


def _parse_path(name: str) -> Path:
    parts: list[str | int] = []
    for piece in name.split("."):
        head, *indexes = re.split(r"\[(\d+)\]", piece)
        if head:
            parts.append(head)
        parts.extend(int(item) for item in indexes if item)
    return tuple(parts)


def _natural(path: str) -> list[tuple[int, int, str]]:
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", path) if part]


def subschemas_at(root: Mapping[str, Any], path: Sequence[str | int]) -> list[list[Mapping[str, Any]]]:
    """For each step of ``path`` (the root first) the subschemas that describe the value there; bounded, best effort."""
    current = _in_place(root, [root])
    levels = [current]
    for part in path:
        following: list[Mapping[str, Any]] = []
        for node in current:
            if isinstance(part, str):
                named = node.get("properties", {}).get(part)
                others = [node.get("additionalProperties"), *node.get("patternProperties", {}).values()]
                children = [named] if named is not None else others
            else:
                prefix = node.get("prefixItems", [])
                children = [prefix[part] if part < len(prefix) else node.get("items")]
            following.extend(child for child in children if isinstance(child, dict))
        current = _in_place(root, following)
        levels.append(current)
    return levels


def _in_place(root: Mapping[str, Any], nodes: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = []
    stack = list(reversed(nodes))
    while stack and len(found) < 100:
        node = stack.pop()
        if any(node is seen for seen in found):
            continue
        found.append(node)
        target = resolve(node.get("$ref"), root)
        children = [target, *(item for key in ("allOf", "anyOf", "oneOf") for item in node.get(key, ()))]
        children += [node.get("then"), node.get("else"), *node.get("dependentSchemas", {}).values()]
        stack.extend(child for child in reversed(children) if isinstance(child, dict))
    return found


def is_sensitive(schema: Mapping[str, Any], path: Sequence[str | int]) -> bool:
    """Whether the schema marks the value at ``path``, or something that holds it, as a secret."""
    return any(
        node.get("writeOnly") is True or node.get(SENSITIVE_KEYWORD) is True
        for level in subschemas_at(schema, path)
        for node in level
    )


# --- defaults and text -----------------------------------------------------------------------------------------------------
def _fill_object(root: Mapping[str, Any], node: Any, value: Any, budget: list[int], depth: int) -> None:
    """Puts defaults into ``value`` (in place), following properties, items, allOf and $ref; alternatives decide nothing."""
    budget[0] -= 1
    if budget[0] < 0:
        raise TooMuchWorkError(f"the schema's defaults fill in more than {_MAX_DEFAULTS} values")
    if not isinstance(node, dict) or depth > MAX_DEPTH:
        return
    for part in (resolve(node.get("$ref"), root), *(node.get("allOf") or ())):
        _fill_object(root, part, value, budget, depth + 1)
    if isinstance(value, dict):
        for name, child in (node.get("properties") or {}).items():
            if name not in value:
                made = _default(root, child, budget, depth + 1)
                if made is not _NOTHING:
                    value[name] = made
            if name in value:
                _fill_object(root, child, value[name], budget, depth + 1)
    elif isinstance(value, list):
        prefix = node.get("prefixItems") or []
        for index, item in enumerate(value):
            _fill_object(root, prefix[index] if index < len(prefix) else node.get("items"), item, budget, depth + 1)


_NOTHING: Final = object()


def _default(root: Mapping[str, Any], node: Any, budget: list[int], depth: int) -> Any:
    """The default of a missing property: its own, or an object made of its properties' defaults when these suffice."""
    budget[0] -= 1
    if budget[0] < 0:
        raise TooMuchWorkError(f"the schema's defaults fill in more than {_MAX_DEFAULTS} values")
    if not isinstance(node, dict) or depth > MAX_DEPTH:
        return _NOTHING
    if "default" in node:
        return copy.deepcopy(node["default"])
    for part in (resolve(node.get("$ref"), root), *(node.get("allOf") or ())):
        made = _default(root, part, budget, depth + 1)
        if made is not _NOTHING:
            return made
    made_object: dict[str, Any] = {}
    for name, child in (node.get("properties") or {}).items():
        made = _default(root, child, budget, depth + 1)
        if made is not _NOTHING:
            made_object[name] = made
    complete = made_object and all(name in made_object for name in node.get("required") or ())
    return made_object if complete else _NOTHING


def _coerce_at(root: Mapping[str, Any], value: Any, path: Path) -> None:
    levels = subschemas_at(root, path)
    holder = value
    for part in path[:-1]:
        holder = _member(holder, part)
    if path and isinstance(text := _member(holder, path[-1]), str):
        holder[path[-1]] = coerce_text(text, types(levels[-1]))


def _member(holder: Any, part: str | int) -> Any:
    if isinstance(holder, dict) and isinstance(part, str):
        return holder.get(part)
    if isinstance(holder, list) and isinstance(part, int) and part < len(holder):
        return holder[part]
    return None


def coerce_text(text: str, kinds: Collection[str]) -> Any:
    """``text`` as the one of the JSON types ``kinds`` that it spells exactly; unchanged when text is allowed or none fits."""
    if "string" in kinds or not kinds:
        return text
    if "boolean" in kinds and text in ("true", "false"):
        return text == "true"
    if "null" in kinds and text == "null":
        return None
    if ("integer" in kinds or "number" in kinds) and re.fullmatch(r"-?(0|[1-9][0-9]{0,17})", text) and text != "-0":
        return int(text)
    if "number" in kinds and re.fullmatch(r"-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,17})?([eE][-+]?[0-9]{1,3})?", text):
        try:
            if Decimal(text) == Decimal(repr(float(text))):
                return float(text)
        except (InvalidOperation, OverflowError):  # out of a double's range: not lossless
            pass
    if ("array" in kinds and text.lstrip().startswith("[")) or ("object" in kinds and text.lstrip().startswith("{")):
        try:
            parsed = json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            return text
        return text if measure(parsed, max_depth=MAX_DEPTH, max_nodes=MAX_VALUES, max_text=MAX_TEXT) else parsed
    return text


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("duplicate key")
    return made


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _problems(root: dict[str, Any], found: Any, secret_paths: Sequence[Path]) -> list[VariableProblem]:
    path = tuple(found.instance_path)
    keyword = found.kind.name
    details = found.kind.as_dict()
    hidden = is_sensitive(root, path) or any(
        path[: len(secret)] == secret or secret[: len(path)] == path for secret in secret_paths
    )
    inside_secret = is_sensitive(root, path) or any(path[: len(secret)] == secret for secret in secret_paths)
    if keyword == "required":
        missing = (*path, details["property"])
        levels = subschemas_at(root, missing)
        return [VariableProblem(dotted(missing), ProblemKind.MISSING, "is required" + describe(levels[-1]))]
    if keyword == "additionalProperties" and inside_secret:
        return [
            VariableProblem(dotted(path), ProblemKind.UNKNOWN, "has keys that are not allowed (a secret; not shown)")
        ]
    if keyword == "additionalProperties":
        known = sorted({name for node in subschemas_at(root, path)[-1] for name in node.get("properties", {})})
        return [
            VariableProblem(dotted((*path, name)), ProblemKind.UNKNOWN, "is not a known variable" + near(name, known))
            for name in details["unexpected"]
        ]
    told = message(keyword, details, None if hidden else found.instance, hidden)
    return [VariableProblem(dotted(path), ProblemKind.INVALID, told)]
