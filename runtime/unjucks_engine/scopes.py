"""What the code generator has to know about a file before it writes it.

A *part* is the file outside blocks, or one block. A *domain* is a part without its macros and callers, or one macro or caller.
Variables become Python locals unless something else can see the run-time frame. One walk over the syntax tree finds everything.
Called by the code generator only.
"""

from __future__ import annotations

from typing import Any

from unjucks_engine import nodes

LOOP_FIELDS = frozenset(("index", "index0", "revindex", "revindex0", "first", "last", "length"))

#: What a body does with the loop around it: reads a counter, needs the ``loop`` object itself, needs a frame.
COUNTER, WHOLE, FRAME = 1, 2, 4

_NOTHING: frozenset[str] = frozenset()


class Part:
    """Facts about one part."""

    def __init__(self) -> None:
        self.has_caller = False
        #: Names that some frame of this part may hold.
        self.defined: set[str] = set()
        #: Names known at compile time somewhere in the part.
        self.compile_time: set[str] = set()
        self.assigned: set[str] = set()
        self.extends = False
        self.observed = False

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


#: (number of nodes, without loops' and macros' bodies; use of the loop around; names set at this frame level)
Facts = tuple[int, int, frozenset[str]]


class Survey:
    """The facts about all bodies and parts of a file."""

    def __init__(self, root: nodes.Nodes) -> None:
        self._facts: dict[int, Facts] = {}
        self._parts: dict[int, Part] = {}
        self.part_of(root)

    def part_of(self, body: Any) -> Part:
        """The part whose body this is."""
        found = self._parts.get(id(body))
        if found is None:
            found = self._parts[id(body)] = Part()
            self._body(body, found)
        return found

    def weight(self, body: Any) -> int:
        """The number of nodes of a body, without loops' and macros' bodies: what one run of it costs."""
        return self._facts[id(body)][0]

    def loop_use(self, node: nodes.For) -> int:
        """What the body of this loop does with it."""
        use = self._facts[id(node.body)][1]
        return use if node.other is None else use | self._facts[id(node.other)][1]

    def level_names(self, body: Any) -> frozenset[str]:
        """Names whose ``set``, macro or import stands at this frame level: not inside a loop or macro of it."""
        return self._facts[id(body)][2]

    # -- the walk ----------------------------------------------------------------------------------------------------

    def _body(self, body: Any, part: Part) -> Facts:
        facts = self._facts[id(body)] = self._items(body, part)
        return facts

    def _items(self, node: Any, part: Part) -> Facts:
        """A list of nodes."""
        count, use = 1, 0
        names: set[str] | None = None
        for item in node.items:
            kind = type(item)
            # Most nodes are a text or one simple output: those are looked at here.
            if kind is nodes.Output and len(item.items) == 1:
                item = item.items[0]
                kind = type(item)
                count += 1
                while kind is nodes.Filter and len(item.args.items) == 1:
                    item = item.args.items[0]
                    kind = type(item)
                    count += 3
            if kind is nodes.Data or kind is nodes.Literal:
                count += 1
            elif kind is nodes.LookupVal and type(item.target) is nodes.Symbol and type(item.val) is nodes.Literal:
                count += 2
                if item.target.value == "loop":
                    use |= COUNTER if item.val.value in LOOP_FIELDS else WHOLE
            elif kind is nodes.Symbol:
                count += 1
                if item.value == "loop":
                    use |= WHOLE
            else:
                more, used, named = self._walk(item, part)
                count += more
                use |= used
                if named:
                    if names is None:
                        names = set()
                    names |= named
        return count, use, _NOTHING if names is None else frozenset(names)

    def _walk(self, node: Any, part: Part) -> Facts:
        kind = type(node)
        if kind is nodes.Symbol:
            return 1, WHOLE if node.value == "loop" else 0, _NOTHING
        if kind is nodes.LookupVal:
            target, key = node.target, node.val
            if type(target) is nodes.Symbol and type(key) is nodes.Literal:
                if target.value == "loop":
                    return 2, COUNTER if key.value in LOOP_FIELDS else WHOLE, _NOTHING
                return 2, 0, _NOTHING
            return self._fields((target, key), part)
        if kind is nodes.Filter:
            count, use, names = self._items(node.args, part)
            return count + 2, use, names
        if kind in _LISTS:
            return self._items(node, part)
        if kind is nodes.Nodes:
            return self._body(node, part)
        if kind is nodes.Binary:
            # Left sides nest deeply in long chains.
            rights = []
            while type(node) is nodes.Binary:
                rights.append(node.right)
                node = node.left
            count, use, names = self._fields((node, *rights), part)
            return count + len(rights) - 1, use, names
        if kind is nodes.If or kind is nodes.IfAsync:
            # So do chains of `elif`.
            pieces: list[Any] = []
            links = 0
            while isinstance(node, nodes.If):
                pieces += (node.cond, node.body)
                node = node.other
                links += 1
            count, use, names = self._fields((*pieces, node), part)
            return count + links - 1, use, names
        special = _SPECIAL.get(kind)
        if special is not None:
            return special(self, node, part)  # type: ignore[no-any-return]
        return self._fields([getattr(node, name) for name in kind.fields], part)

    def _fields(self, children: Any, part: Part) -> Facts:
        """A node with these children; lists among them may hold pairs."""
        count, use, names = 1, 0, _NOTHING
        for child in children:
            if isinstance(child, list):
                flat = [piece for item in child for piece in (item if isinstance(item, tuple) else (item,))]
                more, used, named = self._fields(flat, part)
                more += sum(type(piece) is nodes.Literal for piece in flat) - 1
            elif isinstance(child, nodes.Node) and type(child) is not nodes.Literal and type(child) is not nodes.Data:
                more, used, named = self._walk(child, part)
            else:
                continue
            count += more
            use |= used
            if named:
                names = names | named
        return count, use, names

    def _set(self, node: nodes.Set, part: Part) -> Facts:
        own = {target.value for target in node.targets}
        part.defined |= own
        part.assigned |= own
        if any("." in name for name in own):
            part.observed = True
        count, use, names = self._fields((node.targets, node.value, node.body), part)
        return count, use | FRAME, names | own

    def _for(self, node: nodes.For, part: Part) -> Facts:
        own = loop_names(node)
        part.compile_time.update(own)
        part.defined.update(own)
        count, use, names = self._fields((node.arr,), part)
        count += type(node.arr) is nodes.Literal
        _, used, _ = self._fields((node.name, node.body, node.other), part)
        return count, use | used, names

    def _macro(self, node: nodes.MacroNode, part: Part) -> Facts:
        caller = isinstance(node, nodes.Caller)
        if caller:
            part.has_caller = True
        else:
            part.defined.add(node.name.value)
            part.compile_time.add(node.name.value)
        positional, keywords = parameters(node)
        own = {name for name, _ in positional} | {name for name, _ in keywords}
        part.defined |= own | {"caller"}
        part.compile_time |= own
        _, use, _ = self._fields((node.args, node.body), part)
        return (1, use | WHOLE | FRAME, _NOTHING) if caller else (1, FRAME, frozenset((node.name.value,)))

    def _block(self, node: nodes.Block, part: Part) -> Facts:
        part.observed = True
        self.part_of(node.body)
        return 1, self._facts[id(node.body)][1] | WHOLE | FRAME, _NOTHING

    def _include(self, node: Any, part: Part) -> Facts:
        part.observed = True
        part.extends = part.extends or type(node) is nodes.Extends
        count, use, names = self._fields((node.template,), part)
        return count, use | WHOLE | FRAME, names

    def _import(self, node: Any, part: Part) -> Facts:
        if type(node) is nodes.Import:
            own = {node.target.value}
            children = (node.template, node.target)
        else:
            own = {alias for _, alias in import_names(node)}
            children = (node.template, node.names)
        part.defined |= own
        part.compile_time |= own
        part.observed = part.observed or bool(node.context)
        count, use, names = self._fields(children, part)
        return count, use | FRAME | (WHOLE if node.context else 0), names | own


_LISTS = frozenset((nodes.Output, nodes.Group, nodes.Array, nodes.Dict, nodes.KeywordArgs))
_SPECIAL: dict[type, Any] = {
    nodes.Set: Survey._set,
    nodes.For: Survey._for,
    nodes.MacroNode: Survey._macro,
    nodes.Caller: Survey._macro,
    nodes.Block: Survey._block,
    nodes.Include: Survey._include,
    nodes.Extends: Survey._include,
    nodes.Import: Survey._import,
    nodes.FromImport: Survey._import,
}


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


def reads(root: Any, name: str) -> bool:
    """Whether a name is read below."""
    stack = [root]
    while stack:
        node = stack.pop()
        if type(node) is nodes.Symbol and node.value == name:
            return True
        stack += children(node)
    return False


def calls(root: Any) -> bool:
    """Whether something below calls a function or a macro, or runs another file or block."""
    stack = [root]
    while stack:
        node = stack.pop()
        if type(node) in _CALLS:
            return True
        stack += children(node)
    return False


def macros_only(root: nodes.Nodes) -> bool:
    """Whether a file has nothing but text and macros that leave the variables of the file alone."""
    stack: list[Any] = []
    for item in root.items:
        kind = type(item)
        if kind is nodes.MacroNode:
            stack += children(item)
        elif kind is not nodes.Output or any(type(part) is not nodes.Data for part in item.items):
            return False
    if not stack:
        return False
    while stack:
        node = stack.pop()
        if type(node) in _BINDING:
            return False
        stack += children(node)
    return True


_BINDING = frozenset(
    (
        nodes.MacroNode,
        nodes.Caller,
        nodes.Set,
        nodes.Block,
        nodes.Include,
        nodes.Extends,
        nodes.Import,
        nodes.FromImport,
    )
)
_CALLS = frozenset(
    (nodes.FunCall, nodes.Caller, nodes.Block, nodes.Include, nodes.Extends, nodes.Import, nodes.FromImport)
)
