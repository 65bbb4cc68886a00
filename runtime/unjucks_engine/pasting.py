"""How operators really group.

Nunjucks writes operands next to each other as JavaScript text without parentheses, so JavaScript's precedence decides, not the
grammar's. This module flattens an expression to operators and closed operands and groups it again as JavaScript would.
Called by the code generator; the result is a tree of tuples ``(operator, …)`` with syntax nodes as leaves.
"""

from __future__ import annotations

from typing import Any

from unjucks_engine import nodes
from unjucks_engine.errors import TemplateSyntaxError

_JS = {"and": "&&", "or": "||", "+": "+", "-": "-", "*": "*", "/": "/", "%": "%"}
_PREFIX = {"not": "!", "-": "neg", "+": "pos"}
_LEVELS = {
    "||": 0,
    "&&": 1,
    "==": 2,
    "!=": 2,
    "===": 2,
    "!==": 2,
    "<": 3,
    ">": 3,
    "<=": 3,
    ">=": 3,
    "+": 4,
    "-": 4,
    "*": 5,
    "/": 5,
    "%": 5,
}


class IsTest:
    """The call of a test (``left is name(args)``), a closed operand."""

    __slots__ = ("args", "left", "name", "pos")

    def __init__(self, pos: int, left: Any, name: str, args: list[Any]) -> None:
        self.pos = pos
        self.left = left
        self.name = name
        self.args = args


class Floor:
    """``//``: a closed operand whose inside is pasted."""

    __slots__ = ("inner", "pos")

    def __init__(self, pos: int, inner: Any) -> None:
        self.pos = pos
        self.inner = inner


def js_tree(node: Any) -> Any:
    """The expression grouped as JavaScript groups it."""
    if not isinstance(node, nodes.Binary | nodes.Unary | nodes.Compare):
        return node
    tokens: list[Any] = []
    _flatten(node, tokens)
    return _Grouper(tokens, node.pos).run()


def _flatten(node: Any, out: list[Any]) -> None:
    if isinstance(node, nodes.Binary):
        op = node.op
        if op == "//":
            inner: list[Any] = []
            _flatten(node.left, inner)
            inner.append("/")
            _flatten(node.right, inner)
            out.append(Floor(node.pos, _Grouper(inner, node.pos).run()))
        elif op == "is":
            name, args = _test_of(node.right)
            out += [IsTest(node.pos, js_tree(node.left), name, args), "===", nodes.Literal(node.pos, True)]
        elif op in ("**", "in"):
            out.append(node)
        else:
            # Left sides nest deeply in long chains; walk them without recursion.
            chain: list[tuple[str, Any]] = []
            while isinstance(node, nodes.Binary) and (node.op in _JS or node.op == "~"):
                chain.append((node.op, node.right))
                node = node.left
            _flatten(node, out)
            for operator, right in reversed(chain):
                out += ["+", nodes.Literal(right.pos, ""), "+"] if operator == "~" else [_JS[operator]]
                _flatten(right, out)
    elif isinstance(node, nodes.Unary):
        out.append(_PREFIX[node.op])
        _flatten(node.target, out)
    elif isinstance(node, nodes.Compare):
        _flatten(node.expr, out)
        for operator, operand in node.ops:
            out.append(operator)
            _flatten(operand, out)
    else:
        out.append(node)


def _test_of(right: Any) -> tuple[str, list[Any]]:
    """Name and arguments of a test, as Nunjucks reads them off whatever node stands there."""
    from unjucks_engine.numbers import number_text

    named = getattr(right, "name", None)
    value = getattr(right if named is None else named, "value", "undefined")
    if isinstance(value, bool):
        name = "true" if value else "false"
    elif value is None:
        name = "null"
    elif isinstance(value, int | float):
        name = number_text(value)
    else:
        name = value if isinstance(value, str) else "undefined"
    args = getattr(right, "args", None)
    return name, args.items if isinstance(args, nodes.Nodes) else []


class _Grouper:
    """Precedence climbing over flattened tokens; operators are strings, operands are not."""

    def __init__(self, tokens: list[Any], pos: int) -> None:
        self.tokens = tokens
        self.index = 0
        self.pos = pos

    def run(self) -> Any:
        return self._level(0)

    def _level(self, level: int) -> Any:
        left = self._operand()
        while self.index < len(self.tokens):
            operator = self.tokens[self.index]
            found = _LEVELS[operator]
            if found < level:
                break
            self.index += 1
            left = (operator, left, self._level(found + 1))
        return left

    def _operand(self) -> Any:
        item = self.tokens[self.index]
        self.index += 1
        if not isinstance(item, str):
            return item
        if item != "!" and self.tokens[self.index] == item:
            # Two signs without a blank are one operator, and that needs something it can assign to.
            self.index += 1
            operand = self._operand()
            # Calls are refused when they are reached, anything else at once.
            if not isinstance(operand, nodes.Symbol | nodes.LookupVal | nodes.FunCall | nodes.Binary | IsTest | Floor):
                raise TemplateSyntaxError("two signs cannot follow each other", prefix="SyntaxError: ")
            return ("++" if item == "pos" else "--", operand)
        return (item, self._operand())
