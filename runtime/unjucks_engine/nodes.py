"""The syntax tree. Plain data made by the parser, read by the code generator and the analysis.

``children`` names the fields that Nunjucks' own tree walks follow: some of its rules (which blocks exist, where ``super()``
works) are defined by those walks, so a field that is missing there is missing here on purpose.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


class Node:
    """A node at the offset ``pos`` of its source."""

    __slots__ = ("pos",)
    walked: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()

    def __init__(self, pos: int, *fields: Any) -> None:
        self.pos = pos
        for name, value in zip(self.fields, fields, strict=True):
            setattr(self, name, value)

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={getattr(self, name, None)!r}" for name in self.fields)
        return f"{type(self).__name__}({fields})"


def walk(node: Any) -> Iterator[Node]:
    """Every node that Nunjucks' tree walks reach, the start included, in document order."""
    stack: list[Any] = [node]
    while stack:
        item = stack.pop()
        if isinstance(item, Nodes):
            yield item
            stack.extend(reversed(item.items))
        elif isinstance(item, Node):
            yield item
            stack.extend(getattr(item, name, None) for name in reversed(item.walked))


class Nodes(Node):
    """A list of nodes."""

    __slots__ = ("items",)
    fields = ("items",)
    items: list[Any]

    def __init__(self, pos: int, items: list[Any] | None = None) -> None:
        self.pos = pos
        self.items = items if items is not None else []


class Output(Nodes):
    __slots__ = ()


class Group(Nodes):
    __slots__ = ()


class Array(Nodes):
    __slots__ = ()


class Dict(Nodes):
    __slots__ = ()


class KeywordArgs(Dict):
    __slots__ = ()


class Value(Node):
    __slots__ = ("value",)
    fields = ("value",)
    value: Any

    def __init__(self, pos: int, value: Any) -> None:
        self.pos = pos
        self.value = value


class Literal(Value):
    __slots__ = ()


class Data(Literal):
    """Text between tags."""

    __slots__ = ()


class Symbol(Value):
    __slots__ = ()


class Pair(Node):
    __slots__ = ("key", "value")
    fields = ("key", "value")
    walked = ("key", "value")
    key: Any
    value: Any

    def __init__(self, pos: int, key: Any, value: Any) -> None:
        self.pos = pos
        self.key = key
        self.value = value


class LookupVal(Node):
    __slots__ = ("target", "val")
    fields = ("target", "val")
    walked = ("target", "val")
    target: Any
    val: Any

    def __init__(self, pos: int, target: Any, val: Any) -> None:
        self.pos = pos
        self.target = target
        self.val = val


class FunCall(Node):
    __slots__ = ("args", "name")
    fields = ("name", "args")
    walked = ("name", "args")
    name: Any
    args: Nodes

    def __init__(self, pos: int, name: Any, args: Nodes) -> None:
        self.pos = pos
        self.name = name
        self.args = args


class Filter(FunCall):
    __slots__ = ()


class InlineIf(Node):
    __slots__ = ("body", "cond", "other")
    fields = ("cond", "body", "other")
    walked = ("cond", "body", "other")
    body: Any
    cond: Any
    other: Any

    def __init__(self, pos: int, cond: Any, body: Any, other: Any) -> None:
        self.pos = pos
        self.cond = cond
        self.body = body
        self.other = other


class Binary(Node):
    """An operator with two sides; ``op`` is how the template writes it (``in`` and ``is`` included)."""

    __slots__ = ("left", "op", "right")
    fields = ("op", "left", "right")
    walked = ("left", "right")
    left: Any
    right: Any
    op: str

    def __init__(self, pos: int, op: str, left: Any, right: Any) -> None:
        self.pos = pos
        self.op = op
        self.left = left
        self.right = right


class Unary(Node):
    __slots__ = ("op", "target")
    fields = ("op", "target")
    walked = ("target",)
    op: str
    target: Any

    def __init__(self, pos: int, op: str, target: Any) -> None:
        self.pos = pos
        self.op = op
        self.target = target


class Compare(Node):
    """``ops`` is a list of (operator, operand)."""

    __slots__ = ("expr", "ops")
    fields = ("expr", "ops")
    walked = ("expr",)
    expr: Any
    ops: list[tuple[str, Any]]


class If(Node):
    __slots__ = ("body", "cond", "other")
    fields = ("cond", "body", "other")
    walked = ("cond", "body", "other")
    cond: Any
    body: Any
    other: Any

    def __init__(self, pos: int, cond: Any, body: Any, other: Any) -> None:
        self.pos = pos
        self.cond = cond
        self.body = body
        self.other = other


class IfAsync(If):
    __slots__ = ()


class For(Node):
    """``kind`` is ``for``, ``asyncEach`` or ``asyncAll``; ``name`` is a Symbol or an Array of them."""

    __slots__ = ("arr", "body", "kind", "name", "other")
    fields = ("kind", "name", "arr", "body", "other")
    walked = ("arr", "name", "body", "other")
    arr: Any
    name: Any
    body: Any
    other: Any
    kind: str

    def __init__(self, pos: int, kind: str, name: Any, arr: Any, body: Any, other: Any) -> None:
        self.pos = pos
        self.kind = kind
        self.name = name
        self.arr = arr
        self.body = body
        self.other = other


class MacroNode(Node):
    __slots__ = ("args", "body", "name")
    fields = ("name", "args", "body")
    walked = ("name", "args", "body")
    name: Any
    args: Nodes
    body: Any


class Caller(MacroNode):
    __slots__ = ()


class Import(Node):
    __slots__ = ("context", "target", "template")
    fields = ("template", "target", "context")
    walked = ("template", "target")
    template: Any
    target: Any
    context: bool | None


class FromImport(Node):
    __slots__ = ("context", "names", "template")
    fields = ("template", "names", "context")
    walked = ("template", "names")
    template: Any
    names: Nodes
    context: bool | None


class Set(Node):
    """``body`` is not walked: blocks inside it do not exist for the file."""

    __slots__ = ("body", "targets", "value")
    fields = ("targets", "value", "body")
    walked = ("value",)
    targets: list[Any]
    value: Any
    body: Any

    def __init__(self, pos: int, targets: list[Any], value: Any, body: Any) -> None:
        self.pos = pos
        self.targets = targets
        self.value = value
        self.body = body


class Switch(Node):
    """``cases`` (pairs of condition and body) are not walked."""

    __slots__ = ("cases", "default", "expr")
    fields = ("expr", "cases", "default")
    walked = ("expr", "default")
    expr: Any
    cases: list[tuple[Any, Nodes]]
    default: Any


class Block(Node):
    __slots__ = ("body", "name", "parent")
    fields = ("name", "body", "parent")
    walked = ("name", "body")
    name: Any
    body: Any
    #: The made-up name that ``super()`` reads inside the body, or None.
    parent: str | None


class Extends(Node):
    __slots__ = ("template",)
    fields = ("template",)
    walked = ("template",)
    template: Any


class Include(Node):
    __slots__ = ("missing", "template")
    fields = ("template", "missing")
    walked = ("template",)
    template: Any
    missing: bool


class Capture(Node):
    __slots__ = ("body",)
    fields = ("body",)
    walked = ("body",)
    body: Any


class Slice(Node):
    """``start:stop:step`` between brackets, in the Jinja mode."""

    __slots__ = ("start", "step", "stop")
    fields = ("start", "stop", "step")
    walked = ("start", "stop", "step")
    start: Any
    stop: Any
    step: Any
