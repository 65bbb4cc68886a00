"""What the code generator has to know about a part of a file before it writes it.

A *part* is the file outside blocks, or one block. A *domain* is a part without its macros and callers, or one macro or caller.
Variables become Python locals unless something else can see the run-time frame. Pure functions over the syntax tree.
"""

from __future__ import annotations

from typing import Any

from unjucks_engine import nodes


def children(node: Any) -> list[Any]:
    """All direct children, also those that Nunjucks' own walks miss. Texts and constants are left out."""
    kind = type(node)
    if kind in _LEAVES or node is None:
        return []
    if isinstance(node, nodes.Nodes):
        return node.items
    found: list[Any] = []
    for name in kind.fields:
        child = getattr(node, name)
        if isinstance(child, nodes.Node):
            if type(child) not in _CONSTANTS:
                found.append(child)
        elif isinstance(child, list):
            for item in child:
                if isinstance(item, tuple):
                    found += [part for part in item if isinstance(part, nodes.Node)]
                elif isinstance(item, nodes.Node):
                    found.append(item)
    return found


_CONSTANTS = frozenset((nodes.Literal, nodes.Data))
_LEAVES = frozenset((nodes.Literal, nodes.Data, nodes.Symbol))


#: Nodes that say nothing about variables.
_PLAIN = frozenset(
    (nodes.Literal, nodes.Data, nodes.Symbol, nodes.Output, nodes.Nodes, nodes.LookupVal, nodes.FunCall, nodes.Filter, nodes.If,
     nodes.Binary, nodes.Compare, nodes.Unary, nodes.Group, nodes.Array, nodes.Dict, nodes.Pair, nodes.InlineIf)
)  # fmt: skip


class Part:
    """Facts about one part."""

    def __init__(self, body: Any) -> None:
        self.has_caller = False
        #: Names that some frame of this part may hold.
        self.defined: set[str] = set()
        #: Names known at compile time somewhere in the part.
        self.compile_time: set[str] = set()
        self.assigned: set[str] = set()
        self.extends = False
        self.observed = False
        self._visit(body)

    def _visit(self, root: Any) -> None:
        stack = [root]
        while stack:
            node = stack.pop()
            if type(node) in _PLAIN:
                stack += children(node)
                continue
            if isinstance(node, nodes.Block):
                self.observed = True
                continue
            if isinstance(node, nodes.Set):
                names = {target.value for target in node.targets}
                self.defined |= names
                self.assigned |= names
                if any("." in name for name in names):
                    self.observed = True
            elif isinstance(node, nodes.For):
                self.compile_time |= set(loop_names(node))
                self.defined.update(loop_names(node))
            elif isinstance(node, nodes.MacroNode):
                if isinstance(node, nodes.Caller):
                    self.has_caller = True
                else:
                    self.defined.add(node.name.value)
                    self.compile_time.add(node.name.value)
                positional, keywords = parameters(node)
                names = {name for name, _ in positional} | {name for name, _ in keywords}
                self.defined |= names | {"caller"}
                self.compile_time |= names
            elif isinstance(node, nodes.Include | nodes.Extends):
                self.observed = True
                self.extends = self.extends or isinstance(node, nodes.Extends)
            elif isinstance(node, nodes.Import):
                self.defined.add(node.target.value)
                self.compile_time.add(node.target.value)
                self.observed = self.observed or bool(node.context)
            elif isinstance(node, nodes.FromImport):
                names = {alias for _, alias in import_names(node)}
                self.defined |= names
                self.compile_time |= names
                self.observed = self.observed or bool(node.context)
            stack += children(node)

    @property
    def local(self) -> bool:
        """Whether all variables of the part can be Python locals."""
        return not (
            self.observed
            or self.has_caller
            or "loop" in self.assigned
            or "loop" in self.compile_time
            or "caller" in self.assigned
            or self.assigned & self.compile_time
        )


def loop_names(node: nodes.For) -> list[str]:
    """The names a loop binds."""
    if isinstance(node.name, nodes.Array):
        return [item.value for item in node.name.items]
    return [node.name.value]


def import_names(node: nodes.FromImport) -> list[tuple[str, str]]:
    """(exported name, local name) of each import."""
    return [
        (item.key.value, item.value.value) if isinstance(item, nodes.Pair) else (item.value, item.value)
        for item in node.names.items
    ]


def parameters(node: nodes.MacroNode) -> tuple[list[tuple[str, Any]], list[tuple[str, Any]]]:
    """Positional and keyword parameters: (name, node) and (name, default)."""
    items = list(node.args.items)
    keywords: list[tuple[str, Any]] = []
    if items and isinstance(items[-1], nodes.Dict):
        keywords = [(getattr(pair.key, "value", ""), pair.value) for pair in items.pop().items]
    return [(getattr(item, "value", ""), item) for item in items], keywords


def level_names(body: Any) -> set[str]:
    """Names whose ``set``, macro or import stands at this frame level: not inside a loop or macro of it."""
    found: set[str] = set()
    stack = [body]
    while stack:
        node = stack.pop()
        if isinstance(node, nodes.For):
            stack.append(node.arr)
            continue
        if isinstance(node, nodes.Set):
            found |= {target.value for target in node.targets}
        elif isinstance(node, nodes.MacroNode):
            if not isinstance(node, nodes.Caller):
                found.add(node.name.value)
            continue
        elif isinstance(node, nodes.Import):
            found.add(node.target.value)
        elif isinstance(node, nodes.FromImport):
            found |= {alias for _, alias in import_names(node)}
        elif isinstance(node, nodes.Block):
            continue
        stack.extend(children(node))
    return found


LOOP_FIELDS = frozenset(("index", "index0", "revindex", "revindex0", "first", "last", "length"))


def loop_use(node: nodes.For) -> tuple[bool, bool, bool]:
    """(a counter is read, the ``loop`` object itself is needed, a frame is needed) by the body of this loop."""
    counter = whole = frame = False
    stack: list[Any] = [node.body, node.other]
    while stack:
        item = stack.pop()
        if item is None:
            continue
        if isinstance(item, nodes.LookupVal) and isinstance(item.target, nodes.Symbol) and item.target.value == "loop":
            if isinstance(item.val, nodes.Literal) and item.val.value in LOOP_FIELDS:
                counter = True
                continue
            whole = True
            stack.append(item.val)
            continue
        if isinstance(item, nodes.Symbol) and item.value == "loop":
            whole = True
        elif isinstance(item, nodes.Include | nodes.Block | nodes.Caller | nodes.Extends):
            whole = frame = True
        elif isinstance(item, nodes.Import | nodes.FromImport):
            frame = True
            whole = whole or bool(item.context)
        elif isinstance(item, nodes.Set):
            frame = True
        elif isinstance(item, nodes.MacroNode):
            frame = True
            continue
        stack.extend(children(item))
    return counter, whole, frame


def reads(root: Any, name: str) -> bool:
    """Whether a name is read below."""
    stack = [root]
    while stack:
        node = stack.pop()
        if type(node) is nodes.Symbol and node.value == name:
            return True
        stack += children(node)
    return False


def weight(node: Any) -> int:
    """The number of nodes below, without loops' and macros' bodies."""
    count = 0
    stack = [node]
    while stack:
        item = stack.pop()
        count += 1
        if isinstance(item, nodes.For):
            stack.append(item.arr)
        elif not isinstance(item, nodes.MacroNode | nodes.Block):
            stack.extend(children(item))
    return count
