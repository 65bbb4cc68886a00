"""Rendered target paths: checked, allowed by policy, and free of separators that variables brought in. Pure."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from unjucks_api.reasons import Reason
from unjucks_api.tree import PathRejectedError, check_path
from unjucks_api.variables import subschemas_at
from unjucks_runtime.generator.errors import GenerationError, Place
from unjucks_runtime.generator.globs import matches
from unjucks_runtime.generator.options import Options

_SEPARATORS: Final = ("/", "\\")
_STAND_IN: Final = "\ue0a5"  # a private character that no file name holds: takes the place of a separator
_MAX_DEPTH: Final = 64


def target_path(rendered: str, place: Place, options: Options) -> str:
    """The checked path; raises PathRejected with the place of the ``to`` or file name."""
    try:
        path = check_path(rendered)
    except PathRejectedError as error:
        raise GenerationError(Reason.PATH_REJECTED, str(error), place) from None
    if matches(path, options.deny_paths) or not matches(path, options.allow_paths):
        raise GenerationError(Reason.PATH_REJECTED, f"the policy does not allow files at {path!r}", place)
    return path


def render_path(
    render: Callable[[str, Mapping[str, Any]], str],
    name: str,
    context: Mapping[str, Any],
    masked: Mapping[str, Any] | None,
    place: Place,
) -> str:
    """The text of a path template, refused when a variable that is not declared as a path adds a separator.

    ``masked`` is the context with a stand-in for each separator in values that are no paths; None when there is none, so
    nothing has to be compared. Rendering twice sees through every filter and every name that a template gives the value.
    """
    text = render(name, context)
    if masked is not None and any(char in text for char in _SEPARATORS):
        other = render(name, masked)
        if any(text.count(char) != other.count(char) for char in _SEPARATORS):
            raise GenerationError(
                Reason.PATH_REJECTED,
                "a variable adds a / or \\ to the file name; declare it with type: path when that is meant",
                place,
            )
    return text


def mask(context: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """The context with stand-ins for separators in texts that the schema does not declare as paths, or None when none is there."""
    found = False

    def visit(value: Any, path: tuple[str | int, ...]) -> Any:
        nonlocal found
        if isinstance(value, str):
            if not any(char in value for char in _SEPARATORS) or _is_path(schema, path):
                return value
            found = True
            for char in _SEPARATORS:
                value = value.replace(char, _STAND_IN)
            return value
        if len(path) > _MAX_DEPTH:
            return value
        if isinstance(value, dict):
            return {key: visit(item, (*path, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [visit(item, (*path, index)) for index, item in enumerate(value)]
        return value

    masked = {key: visit(item, (key,)) for key, item in context.items()}
    return masked if found else None


def _is_path(schema: Mapping[str, Any], path: Sequence[str | int]) -> bool:
    return any(node.get("format") == "path" for node in subschemas_at(schema, path)[-1])
