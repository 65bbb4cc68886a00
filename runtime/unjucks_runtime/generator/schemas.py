"""The schema of an action: its own variables with the shared ones, as the catalogue shows them, and what is wrong with it. Pure.

Called by the loader.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from unjucks_api.render_protocol import Problem, Variable
from unjucks_api.variables import subschemas_at, validate
from unjucks_runtime.generator.model import problem


def merge_schemas(own: Mapping[str, Any] | None, shared: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """(schema of an action, whether anything was declared): its own properties win over the set's shared ones."""
    if own is None:
        properties = dict(shared.get("properties", {}))
        made = {"type": "object", "properties": properties, "additionalProperties": True}
        return made | ({"$defs": shared["$defs"]} if "$defs" in shared else {}), False
    if not shared:
        return dict(own), True
    made = dict(own)
    made["properties"] = {**shared.get("properties", {}), **own.get("properties", {})}
    made["required"] = sorted({*shared.get("required", ()), *own.get("required", ())})
    if "$defs" in shared or "$defs" in own:
        made["$defs"] = {**shared.get("$defs", {}), **own.get("$defs", {})}
    return made, True


def catalogue_variables(schema: Mapping[str, Any]) -> tuple[Variable, ...]:
    """The variables of a schema in the order of declaration, with what people need to know to give them."""
    required = set(schema.get("required", ()))
    made = []
    for name in schema.get("properties", {}):
        nodes = [node for node in subschemas_at(schema, (name,))[-1] if isinstance(node, dict)]

        def first(key: str, kind: type, nodes: list[Any] = nodes) -> Any:
            return next((node[key] for node in nodes if isinstance(node.get(key), kind)), None)

        kinds = first("type", str) or " or ".join(first("type", list) or ()) or "any"
        made.append(
            Variable(
                name=name,
                type="path" if first("format", str) == "path" else kinds,
                required=name in required,
                description=(first("description", str) or first("title", str) or "").strip(),
                default=next((node["default"] for node in nodes if "default" in node), None),
                enum=first("enum", list) or [],
                pattern=first("pattern", str) or "",
            )
        )
    return tuple(made)


def schema_problems(path: str, schema: Mapping[str, Any]) -> Iterator[Problem]:
    """Whether the schema compiles, and whether its own defaults hold it."""
    for found in validate(schema, {})[1]:
        if found.kind == "schema":
            yield problem(path, f"variables: {found.message}")
        elif found.kind != "missing":
            yield problem(path, f"variables: the default of {found.path} does not hold the schema: {found.message}")
