"""What a schema for variables may say, and how much work it may cause: a closed part of JSON Schema draft 2020-12.

Schemas come from template authors, so they are hostile input: the keywords are a closed list, references stay inside the
document, sizes are bounded, and the work of one validation is counted before it is done (``charge_validation``), because
nested ``allOf`` and ``$ref`` double the work at each step. Pure; never fetches anything. Called by ``unjucks_api.variables`` and,
through it, by the operator, the renderer and the command line.
"""

import difflib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

MAX_SCHEMA_BYTES: Final = 256 * 1024
MAX_SCHEMA_NODES: Final = 5000
MAX_SCHEMA_DEPTH: Final = 40
MAX_EXPANSION: Final = 20_000  # subschemas after following every $ref
MAX_PATTERN_CHARS: Final = 1000
MAX_PATTERNS_CHARS: Final = 16 * 1024
MAX_WORK: Final = 100_000  # subschema applications in one validation
DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

TYPES: Final = ("string", "integer", "number", "boolean", "array", "object", "null")
_ONE_IN_PLACE: Final = ("not", "if", "then", "else")
_LIST_IN_PLACE: Final = ("allOf", "anyOf", "oneOf")
_IN_PLACE: Final = frozenset((*_ONE_IN_PLACE, *_LIST_IN_PLACE, "dependentSchemas"))
_MAP_OF_SCHEMAS: Final = ("properties", "patternProperties", "dependentSchemas", "$defs")
_CHILD: Final = ("additionalProperties", "propertyNames", "items", "contains")
_SCHEMA_KEYWORDS: Final = frozenset((*_ONE_IN_PLACE, *_LIST_IN_PLACE, *_MAP_OF_SCHEMAS, *_CHILD, "prefixItems"))
# fmt: off
_VALUE_KEYWORDS: Final = frozenset({
    "type", "enum", "const", "multipleOf", "maximum", "exclusiveMaximum", "minimum", "exclusiveMinimum", "maxLength",
    "minLength", "pattern", "format", "maxItems", "minItems", "uniqueItems", "maxContains", "minContains", "maxProperties",
    "minProperties", "required", "dependentRequired", "title", "description", "default", "deprecated", "readOnly",
    "writeOnly", "examples", "$comment", "$schema", "$ref",
})
# fmt: on
KEYWORDS: Final = _SCHEMA_KEYWORDS | _VALUE_KEYWORDS
EXTENSION_PREFIX: Final = "x-"
SENSITIVE_KEYWORD: Final = "x-sensitive"  # the value is a secret; "writeOnly: true" says the same

# fmt: off
FORMATS: Final = (
    "date", "date-time", "time", "duration", "email", "hostname", "ipv4", "ipv6", "uri", "uri-reference", "uuid", "regex",
    "json-pointer", "path", "k8s-name",
)
# fmt: on


class TooMuchWorkError(ValueError):
    """Validating would cost more than the budget; the message says what to simplify."""


def measure(value: object, *, max_depth: int, max_nodes: int, max_text: int) -> str | None:
    """Why a value is no bounded JSON value (kinds, keys, depth, size), or None when it is one. Iterative: depth is no risk."""
    nodes = 0
    text = 0
    stack: list[tuple[object, int]] = [(value, 0)]
    while stack:
        item, depth = stack.pop()
        nodes += 1
        if depth > max_depth:
            return f"it is nested deeper than {max_depth} levels"
        if isinstance(item, str):
            text += len(item)
        elif isinstance(item, dict):
            for key, child in item.items():
                if not isinstance(key, str):
                    return f"the key {key!r} is not text; quote it"
                text += len(key)
                stack.append((child, depth + 1))
        elif isinstance(item, list):
            stack.extend((child, depth + 1) for child in item)
        elif isinstance(item, float):
            if item != item or item in (float("inf"), float("-inf")):
                return "it holds a number that JSON has not (NaN or infinity)"
        elif item is not None and not isinstance(item, bool | int):
            return f"it holds a value of the kind {type(item).__name__}, which JSON has not"
        elif isinstance(item, int) and not isinstance(item, bool) and item.bit_length() > 1024:
            return "it holds a number of more than 300 digits"
        if nodes > max_nodes:
            return f"it has more than {max_nodes} values"
        if text > max_text:
            return f"its text is longer than {max_text} characters"
    return None


def check_schema(schema: object) -> list[tuple[str, str]]:
    """Everything that is wrong with a schema, as (JSON pointer, message); an empty list means that it may be compiled."""
    if not isinstance(schema, dict):
        return [("", "a schema of variables is an object with type: object and properties")]
    why = measure(schema, max_depth=MAX_SCHEMA_DEPTH * 2, max_nodes=MAX_SCHEMA_NODES * 4, max_text=MAX_SCHEMA_BYTES)
    if why is not None:
        return [("", f"the schema is refused: {why}")]
    problems: list[tuple[str, str]] = []
    patterns = 0
    nodes = 0
    for pointer, node, depth in _walk(schema):
        nodes += 1
        if nodes > MAX_SCHEMA_NODES:
            return [*problems, ("", f"the schema has more than {MAX_SCHEMA_NODES} subschemas")]
        if depth > MAX_SCHEMA_DEPTH:
            return [*problems, (pointer, f"the schema is nested deeper than {MAX_SCHEMA_DEPTH} levels")]
        if isinstance(node, bool):
            continue
        if not isinstance(node, dict):
            problems.append((pointer, "a subschema is an object, true or false"))
            continue
        problems.extend(_check_node(pointer, node, schema))
        for text in (node.get("pattern"), *_mapping(node.get("patternProperties"))):
            if isinstance(text, str):
                patterns += len(text)
                if len(text) > MAX_PATTERN_CHARS:
                    problems.append((pointer, f"a pattern is longer than {MAX_PATTERN_CHARS} characters"))
    if patterns > MAX_PATTERNS_CHARS:
        problems.append(("", f"the patterns together are longer than {MAX_PATTERNS_CHARS} characters"))
    kind = schema.get("type")
    if kind not in (None, "object"):
        problems.append(("/type", "variables are an object: the schema's type must be object"))
    if not problems:
        try:
            _charge_expansion(schema)
        except TooMuchWorkError as error:
            problems.append(("", str(error)))
    return problems


def _check_node(pointer: str, node: dict[str, Any], root: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for key in node:
        if key not in KEYWORDS and not key.startswith(EXTENSION_PREFIX):
            near = difflib.get_close_matches(key, KEYWORDS, n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; own keys start with {EXTENSION_PREFIX}"
            yield (f"{pointer}/{key}", f"unknown or unsupported schema keyword {key[:60]!r}{hint}")
    for words, holds, keywords in _SHAPES:
        for key in keywords:
            if key in node and not holds(node[key]):
                yield (f"{pointer}/{key}", f"{key} must be {words}")
    if node.get("$schema", DIALECT) != DIALECT:
        yield (f"{pointer}/$schema", f"only the dialect {DIALECT} is supported")
    reference = node.get("$ref")
    if reference is not None and resolve(reference, root) is None:
        yield (f"{pointer}/$ref", "a $ref must be '#/$defs/<name>' of this schema; nothing is fetched")
    kinds = node.get("type")
    for kind in kinds if isinstance(kinds, list) else [] if kinds is None else [kinds]:
        if kind not in TYPES:
            near = difflib.get_close_matches(str(kind), TYPES, n=1)
            yield (
                f"{pointer}/type",
                f"unknown type {str(kind)[:40]!r}; use one of {', '.join(TYPES)}"
                + (f" (did you mean {near[0]}?)" if near else ""),
            )
    form = node.get("format")
    if form is not None and form not in FORMATS:
        yield (f"{pointer}/format", f"unknown format {str(form)[:40]!r}; use one of {', '.join(FORMATS)}")


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


# fmt: off
_SHAPES: Final[tuple[tuple[str, Callable[[object], bool], tuple[str, ...]], ...]] = (
    ("a map of names to subschemas", lambda value: isinstance(value, dict), _MAP_OF_SCHEMAS),
    ("a list of subschemas", lambda value: isinstance(value, list) and bool(value), (*_LIST_IN_PLACE, "prefixItems")),
    ("a list with at least one value", lambda value: isinstance(value, list) and bool(value), ("enum",)),
    ("a list", lambda value: isinstance(value, list), ("examples",)),
    ("a list of names", _is_texts, ("required",)),
    ("a map of names to lists of names", lambda value: isinstance(value, dict) and all(map(_is_texts, value.values())),
     ("dependentRequired",)),
    ("text", lambda value: isinstance(value, str),
     ("pattern", "format", "title", "description", "$comment", "$schema", "$ref")),
    ("true or false", lambda value: isinstance(value, bool), ("uniqueItems", "deprecated", "readOnly", "writeOnly")),
    ("a number", _is_number, ("maximum", "exclusiveMaximum", "minimum", "exclusiveMinimum")),
    ("a number above 0", lambda value: isinstance(value, int | float) and value > 0 and _is_number(value), ("multipleOf",)),
    ("a whole number from 0", _is_count,
     ("maxLength", "minLength", "maxItems", "minItems", "maxContains", "minContains", "maxProperties", "minProperties")),
    ("a type or a list of types", lambda value: isinstance(value, str) or (_is_texts(value) and bool(value)), ("type",)),
)
# fmt: on


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _subschemas(node: dict[str, Any]) -> Iterator[tuple[str, object]]:
    for key in (*_ONE_IN_PLACE, *_CHILD):
        if key in node:
            yield key, node[key]
    for key in (*_LIST_IN_PLACE, "prefixItems"):
        value = node.get(key)
        if isinstance(value, list):
            yield from ((f"{key}/{index}", item) for index, item in enumerate(value))
    for key in _MAP_OF_SCHEMAS:
        for name, item in _mapping(node.get(key)).items():
            yield f"{key}/{_escape(name)}", item


def _escape(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _walk(schema: object) -> Iterator[tuple[str, object, int]]:
    stack: list[tuple[str, object, int]] = [("", schema, 0)]
    while stack:
        pointer, node, depth = stack.pop()
        yield pointer, node, depth
        if isinstance(node, dict) and depth <= MAX_SCHEMA_DEPTH:
            stack.extend((f"{pointer}/{key}", child, depth + 1) for key, child in _subschemas(node))


def resolve(reference: object, root: Mapping[str, Any]) -> Any:
    """The subschema that ``#`` or ``#/$defs/<name>`` names, or None when the reference is of another form or leads nowhere."""
    if reference == "#":
        return root
    if isinstance(reference, str) and (match := re.fullmatch(r"#/\$defs/([^/]+)", reference)):
        name = match.group(1).replace("~1", "/").replace("~0", "~")
        found = _mapping(root.get("$defs")).get(name)
        return found if isinstance(found, dict | bool) else None
    return None


def _charge_expansion(root: dict[str, Any]) -> None:
    """Raises when the schema, every $ref followed, is too large to compile, or a $ref leads to itself without a step inwards."""
    budget = MAX_EXPANSION

    def visit(node: object, opened: tuple[str, ...], here: tuple[str, ...]) -> None:
        # opened: references being followed; here: those among them that apply to the same value.
        nonlocal budget
        if not isinstance(node, dict):
            return
        budget -= 1 + (10 if "pattern" in node else 0)
        if budget < 0:
            raise TooMuchWorkError(
                f"the schema grows beyond {MAX_EXPANSION} subschemas when each $ref is followed; use fewer nested references"
            )
        reference = node.get("$ref")
        if isinstance(reference, str):
            if reference in here:
                raise TooMuchWorkError(f"the reference {reference} leads back to itself")
            if reference not in opened:
                if len(opened) > MAX_SCHEMA_DEPTH:
                    raise TooMuchWorkError(f"references are nested deeper than {MAX_SCHEMA_DEPTH} levels")
                visit(resolve(reference, root), (*opened, reference), (*here, reference))
        for key, child in _subschemas(node):
            keyword = key.partition("/")[0]
            if keyword != "$defs":
                visit(child, opened, here if keyword in _IN_PLACE else ())

    visit(root, ("#",), ("#",))


def charge_validation(root: dict[str, Any], instance: object, budget: int = MAX_WORK) -> int:
    """The number of subschema applications of validating ``instance``, from above; raises TooMuchWorkError over ``budget``."""
    work = 0
    stack: list[tuple[object, object]] = [(root, instance)]
    while stack:
        node, value = stack.pop()
        work += 1
        if work > budget:
            raise TooMuchWorkError(
                f"validating would take more than {budget} steps; the schema's references, alternatives or patterns are too costly"
            )
        if not isinstance(node, dict):
            continue
        if "$ref" in node:
            stack.append((resolve(node["$ref"], root), value))
        stack.extend((node[key], value) for key in _ONE_IN_PLACE if key in node)
        for key in _LIST_IN_PLACE:
            stack.extend((child, value) for child in node.get(key) or ())
        stack.extend((child, value) for child in _mapping(node.get("dependentSchemas")).values())
        work += len(node.get("enum") or ()) // 8
        if isinstance(value, str):
            work += _pattern_work(node.get("pattern"), value)
        elif isinstance(value, list):
            prefix = node.get("prefixItems") or []
            for index, item in enumerate(value):
                if index < len(prefix):
                    stack.append((prefix[index], item))
                stack.extend((node[key], item) for key in ("items", "contains") if key in node)
        elif isinstance(value, dict):
            named = _mapping(node.get("properties"))
            by_pattern = _mapping(node.get("patternProperties"))
            for key, item in value.items():
                if key in named:
                    stack.append((named[key], item))
                for pattern, child in by_pattern.items():
                    work += _pattern_work(pattern, key)
                    stack.append((child, item))
                if "additionalProperties" in node:
                    stack.append((node["additionalProperties"], item))
                if "propertyNames" in node:
                    stack.append((node["propertyNames"], key))
    return work


def _pattern_work(pattern: object, text: str) -> int:
    # The expression engine is linear, but its step grows with the expression: charge for both lengths.
    return 0 if not isinstance(pattern, str) else 1 + len(pattern) * len(text) // 2000


def canonical(value: object) -> str:
    """A value as JSON text with sorted keys: to compare and to show."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
