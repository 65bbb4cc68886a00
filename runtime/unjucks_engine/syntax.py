"""From a source to its syntax tree: parses, then rewrites what Nunjucks rewrites. Called by ``environment`` and ``analysis``."""

from __future__ import annotations

import re
from typing import Any

from unjucks_engine import nodes
from unjucks_engine.lexer import Tags
from unjucks_engine.limits import Limits
from unjucks_engine.scopes import children
from unjucks_engine.statements import Parser


def parse(
    source: str, tags: Tags, trim_blocks: bool, lstrip_blocks: bool, limits: Limits, slices: bool = False
) -> tuple[nodes.Nodes, Parser]:
    """The tree of a source (in UTF-16 units), and the parser, whose lexer knows the places."""
    parser = Parser(source, tags, trim_blocks, lstrip_blocks, limits, slices)
    try:
        root = parser.parse()
    except RecursionError:
        parser.refuse("nesting")
    if parser.has_blocks:
        _lift_super(root)
    if parser.has_async:
        _spread_async(root)
    if "\\" in source:
        _unescape_names(root)
    return root, parser


_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "v": "\v", "0": "\0"}


def _unescape_names(root: nodes.Nodes) -> None:
    """Names of variables go through a JavaScript text literal: ``\\s`` means ``s``. Keys of objects do not."""
    stack: list[Any] = [root]
    while stack:
        node = stack.pop()
        if type(node) is nodes.Symbol:
            node.value = _ESCAPE.sub(lambda found: _ESCAPES.get(found[1], found[1]), node.value)
        elif type(node) is nodes.Pair:
            stack.append(node.value)
        elif type(node) is nodes.Filter:
            stack.append(node.args)
        else:
            stack += children(node)


def _lift_super(root: nodes.Nodes) -> None:
    """Replaces ``super()`` in each block by a made-up name that is computed when the block starts.

    An outer block claims the calls in its inner blocks too, where the name then means nothing: so does Nunjucks.
    """
    for number, block in enumerate([node for node in nodes.walk(root) if isinstance(node, nodes.Block)]):
        symbol = f"hole_{number}"
        if _replace_super(block.body, symbol):
            block.parent = symbol


def _replace_super(root: Any, symbol: str) -> bool:
    found = False

    def swap(child: Any) -> Any:
        nonlocal found
        if isinstance(child, nodes.FunCall) and getattr(child.name, "value", None) == "super":
            found = True
            return nodes.Symbol(child.pos, symbol)
        return child

    for node in nodes.walk(root):
        if isinstance(node, nodes.Nodes):
            node.items = [swap(item) for item in node.items]
        else:
            for name in node.walked:
                child = getattr(node, name)
                replaced = swap(child)
                if replaced is not child:
                    setattr(node, name, replaced)
    return found


def _spread_async(root: nodes.Nodes) -> None:
    """A ``for`` that holds an asynchronous tag becomes an ``asyncEach``."""
    loops = [node for node in nodes.walk(root) if isinstance(node, nodes.For) and node.kind == "for"]
    if not loops:
        return
    for loop in loops:
        for node in nodes.walk(loop):
            if isinstance(node, nodes.IfAsync) or (isinstance(node, nodes.For) and node.kind != "for"):
                loop.kind = "asyncEach"
                break
