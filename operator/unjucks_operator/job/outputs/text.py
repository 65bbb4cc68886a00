"""Texts of an output: commit message and title. Plain text in which ``{{ name }}`` stands for a variable; no template is run. Pure.

A value of a Secret never goes into a text; lists and maps do not either. Called by ``outputs.remote``.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from unjucks_api.reasons import Reason
from unjucks_operator.errors import Terminal

_NAME = re.compile(r"\{\{ *([A-Za-z_][A-Za-z0-9_.]{0,127}) *\}\}")
_MOST = 200
"""Characters of one value."""


def fill(text: str, variables: Mapping[str, Any], sensitive: Sequence[str], field: str) -> str:
    """The text with its variables. Raises Terminal: VariablesMissing, VariablesInvalid, SensitiveDataBlocked."""

    def value(found: re.Match[str]) -> str:
        name = found[1]
        if any(name == item or item.startswith(name + ".") or name.startswith(item + ".") for item in sensitive):
            raise Terminal(
                f"{field} names the variable {name}, which comes from a Secret; leave it out",
                reason=Reason.SENSITIVE_DATA_BLOCKED,
            )
        told: Any = variables
        for part in name.split("."):
            told = told.get(part) if isinstance(told, Mapping) else None
        if told is None:
            raise Terminal(f"{field} names the variable {name}, which has no value", reason=Reason.VARIABLES_MISSING)
        if isinstance(told, bool):
            return "true" if told else "false"
        if not isinstance(told, str | int | float):
            raise Terminal(
                f"{field} names the variable {name}, which is no text and no number", reason=Reason.VARIABLES_INVALID
            )
        line = " ".join(str(told).split())
        return "".join(char for char in line if char.isprintable())[:_MOST]

    return _NAME.sub(value, text)
