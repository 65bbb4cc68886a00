"""How messages spell expressions. Called by the code generator and the closures."""

from __future__ import annotations

from typing import Any

from unjucks_engine import nodes
from unjucks_engine.jsregex import RegExp
from unjucks_engine.numbers import number_text


def call_name(node: Any) -> str:
    """How an error shows what was called."""
    if isinstance(node, nodes.Symbol):
        return str(node.value)
    if isinstance(node, nodes.LookupVal):
        return f'{call_name(node.target)}["{call_name(node.val)}"]'
    if isinstance(node, nodes.Literal):
        value = node.value
        if isinstance(value, RegExp):
            return value.text()
        if isinstance(value, bool) or value is None:
            return str(value).lower()
        return value if isinstance(value, str) else number_text(value)
    if isinstance(node, nodes.FunCall) and not isinstance(node, nodes.Filter):
        return f"the return value of ({call_name(node.name)})"
    return "--expression--"


def plain_name(node: Any) -> str:
    """How an error about an undefined value shows it: ``a.b[0]``."""
    if isinstance(node, nodes.Symbol):
        return str(node.value)
    if isinstance(node, nodes.LookupVal):
        key = node.val
        if isinstance(key, nodes.Literal) and isinstance(key.value, str):
            return f"{plain_name(node.target)}.{key.value}"
        return f"{plain_name(node.target)}[{plain_name(key)}]"
    if isinstance(node, nodes.Literal) and not isinstance(node.value, RegExp):
        return call_name(node)
    if isinstance(node, nodes.Filter):
        return f"the result of filter {node.name.value}"
    if isinstance(node, nodes.FunCall):
        return f"the result of {plain_name(node.name)}()"
    return "the value of this expression"
