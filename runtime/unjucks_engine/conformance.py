"""Renders a case of a conformance corpus: the face that scoring programs call.

Options have the corpus' own names. Errors are raised as they are; ``str(error)`` ends with the line Nunjucks prints.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unjucks_engine.environment import Environment
from unjucks_engine.lexer import Tags

_PROFILES = {"unjucks-cli": "cli", "unjucks-v4": "v4", "unjucks-pipeline": "pipeline"}
_TAGS = {
    "blockStart": "block_start",
    "blockEnd": "block_end",
    "variableStart": "variable_start",
    "variableEnd": "variable_end",
    "commentStart": "comment_start",
    "commentEnd": "comment_end",
}


def environment(templates: Mapping[str, str], options: Mapping[str, Any]) -> Environment:
    """An environment for options named as in Nunjucks."""
    marks = {_TAGS[key]: value for key, value in (options.get("tags") or {}).items() if value and key in _TAGS}
    return Environment(
        templates,
        autoescape=bool(options.get("autoescape", True)),
        trim_blocks=bool(options.get("trimBlocks")),
        lstrip_blocks=bool(options.get("lstripBlocks")),
        throw_on_undefined=bool(options.get("throwOnUndefined")),
        jinja_compat=bool(options.get("jinjaCompat")),
        filters_profile=_PROFILES.get(str(options.get("filterSet")), "nunjucks"),  # type: ignore[arg-type]
        tags=Tags(**marks),
        seed=0,
    )


def render(
    template: str | None,
    templates: Mapping[str, str],
    entry: str | None,
    context: Mapping[str, Any],
    options: Mapping[str, Any],
) -> str:
    """The text of one case; ``template`` is a source, or None when ``entry`` names one of ``templates``."""
    env = environment(templates, options)
    if template is None:
        name = entry or "main.njk"
        return env.render_entry_units(name, context)
    return env.render_units(template, context)
