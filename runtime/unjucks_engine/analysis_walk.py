"""Walks a syntax tree for ``analysis``: keeps track of what names mean and which reads are guarded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from unjucks_engine import nodes
from unjucks_engine.methods_array import METHODS as ARRAY
from unjucks_engine.methods_string import METHODS as STRING
from unjucks_engine.pasting import IsTest, _test_of
from unjucks_engine.scopes import children, import_names, loop_names, parameters

#: Which kind of value a filter works on.
_FILTER_KINDS = {
    **dict.fromkeys(("batch", "groupby", "join", "rejectattr", "select", "reject", "selectattr", "slice",
                     "sort", "sum", "first",
                     "last", "random"), "list"),
    **dict.fromkeys(("dictsort",), "object"),
    **dict.fromkeys(("abs", "round"), "number"),
    **dict.fromkeys(("capitalize", "lower", "upper", "title", "trim", "truncate", "replace", "indent", "center",
                     "nl2br",
                     "striptags", "urlize", "wordcount", "camelCase", "pascalCase", "kebabCase", "snakeCase", "titleCase",
                     "constantCase",
                     "upperCase", "lowerCase", "slug", "slugify", "humanize", "pluralize", "singularize", "plural", "singular",
                     "camelize", "dasherize", "underscore", "paramCase", "sentenceCase", "startCase", "classify", "tableize"),
                    "string"),
}  # fmt: skip
_TEST_KINDS = {"odd": "number", "even": "number", "divisibleby": "number", "lower": "string", "upper": "string",
               "string": "string", "number": "number", "mapping": "object", "iterable": "list"}  # fmt: skip
_LOCAL = object()


class Walker:
    """One file. ``variables`` receives what is read; ``scope`` are names bound by the file that includes this one."""

    def __init__(self, run: Any, place: Callable[[int], Any], name: str, variables: dict[str, Any], scope: Any) -> None:
        self.run_state = run
        self.place = place
        self.name = name
        self.variables = variables
        #: Name -> the Variable it stands for, or ``_LOCAL`` for a value the template made itself.
        self.scope: dict[str, Any] = dict(scope or {})
        self.guarded: set[str] = set()

    def run(self, root: Any) -> None:
        """The whole file."""
        self._body(root)

    # -- statements --------------------------------------------------------------------------------------------------

    def _body(self, node: Any) -> None:
        if node is None:
            return
        for item in node.items if isinstance(node, nodes.Nodes) else [node]:
            method = getattr(self, f"_on_{type(item).__name__.lower()}", None)
            if method is not None:
                method(item)
            elif isinstance(item, nodes.Nodes) and not isinstance(item, nodes.Output):
                self._body(item)

    def _on_output(self, node: nodes.Output) -> None:
        for item in node.items:
            if not isinstance(item, nodes.Data):
                found = self._read(item)
                if found is not None:
                    found.vote("string", 1)

    def _on_if(self, node: nodes.If) -> None:
        positive, negative = self._guards(node.cond)
        self._test(node.cond)
        self._guarded(positive, node.body)
        self._guarded(negative, node.other)

    _on_ifasync = _on_if

    def _guarded(self, names: set[str], body: Any) -> None:
        outer = self.guarded
        self.guarded = outer | names
        self._body(body)
        self.guarded = outer

    def _on_for(self, node: nodes.For) -> None:
        source = self._read(node.arr)
        names = loop_names(node)
        outer = {name: self.scope.get(name) for name in [*names, "loop"]}
        self.scope["loop"] = _LOCAL
        if source is not None:
            source.vote("object" if len(names) == 2 else "list", 3)
        for index, name in enumerate(names):
            element = source.element() if source is not None and index == len(names) - 1 else None
            self.scope[name] = element if element is not None else _LOCAL
        self._body(node.body)
        for name, value in outer.items():
            if value is None:
                self.scope.pop(name, None)
            else:
                self.scope[name] = value
        self._body(node.other)

    def _on_set(self, node: nodes.Set) -> None:
        found = None
        if node.value is None:
            self._body(node.body.body)
        else:
            found = self._read(node.value)
        for target in node.targets:
            self.scope[target.value] = found if found is not None else _LOCAL

    def _on_macronode(self, node: nodes.MacroNode) -> None:
        positional, keywords = parameters(node)
        for _, default in keywords:
            self._read(default)
        if not isinstance(node, nodes.Caller):
            self.scope[getattr(node.name, "value", "")] = _LOCAL
        outer, guarded = dict(self.scope), self.guarded
        for name, _ in [*positional, *keywords, ("caller", None), ("loop", None)]:
            self.scope[name] = _LOCAL
        self._body(node.body)
        self.scope, self.guarded = outer, guarded

    _on_caller = _on_macronode

    def _on_switch(self, node: nodes.Switch) -> None:
        found = self._read(node.expr)
        for cond, body in node.cases:
            self._read(cond)
            self._choice(found, cond)
            self._body(body)
        self._body(node.default)

    def _on_block(self, node: nodes.Block) -> None:
        if node.parent is not None:
            self.scope[node.parent] = _LOCAL
        outer = dict(self.scope)
        self._body(node.body)
        self.scope = outer

    def _on_extends(self, node: nodes.Extends) -> None:
        self._file("extends", node, False)

    def _on_include(self, node: nodes.Include) -> None:
        self._file("include", node, node.missing)

    def _on_import(self, node: nodes.Import) -> None:
        self._file("include" if node.context else "import", node, False)
        self.scope[node.target.value] = _LOCAL

    def _on_fromimport(self, node: nodes.FromImport) -> None:
        self._file("include" if node.context else "import", node, False)
        for _, alias in import_names(node):
            self.scope[alias] = _LOCAL

    def _on_capture(self, node: nodes.Capture) -> None:
        self._body(node.body)

    def _file(self, tag: str, node: Any, optional: bool) -> None:
        self._read(node.template)
        scope = None if tag == "import" else self.scope
        self.run_state.use_template(tag, node.template, self.place(node.pos), optional, self.name, scope)

    # -- expressions -------------------------------------------------------------------------------------------------

    def _read(self, node: Any, tested: bool = False) -> Any:
        """Notes the reads in an expression; returns the variable it stands for, if it stands for one."""
        if isinstance(node, nodes.Symbol):
            return self._symbol(node, tested)
        if isinstance(node, nodes.LookupVal):
            return self._lookup(node, tested)
        if isinstance(node, nodes.Filter):
            return self._filter(node, tested)
        if isinstance(node, nodes.FunCall):
            self._call(node)
            return None
        if isinstance(node, nodes.InlineIf):
            positive, negative = self._guards(node.cond)
            self._test(node.cond)
            for branch, names in ((node.body, positive), (node.other, negative)):
                outer, self.guarded = self.guarded, self.guarded | names
                self._read(branch)
                self.guarded = outer
            return None
        if isinstance(node, nodes.Binary):
            return self._binary(node, tested)
        if isinstance(node, nodes.Unary):
            found = self._read(node.target, tested or node.op == "not")
            if found is not None and node.op != "not":
                found.vote("number", 3)
            return None
        if isinstance(node, nodes.Compare):
            self._compare(node, tested)
            return None
        if isinstance(node, nodes.Group) and len(node.items) == 1:
            return self._read(node.items[0], tested)
        if isinstance(node, nodes.Capture | nodes.MacroNode):
            self._body(nodes.Nodes(node.pos, [node]))
            return None
        if isinstance(node, nodes.Pair):
            self._read(node.value)
            return None
        if node is not None:
            for child in children(node):
                self._read(child)
        return None

    def _symbol(self, node: nodes.Symbol, tested: bool) -> Any:
        name = node.value
        bound = self.scope.get(name)
        if bound is _LOCAL:
            return None
        if bound is None and name in self.run_state.env.globals:
            return None
        found = bound if bound is not None else self.run_state.new_variable(self.variables, name)
        self._seen(found, node, name, tested)
        return found

    def _seen(self, variable: Any, node: Any, path: str, tested: bool) -> None:
        if len(variable.places) < 20:
            variable.places.append(self.place(node.pos))
        if not tested and path not in self.guarded:
            variable.required = True
        if tested:
            variable.vote("boolean", 2)

    def _lookup(self, node: nodes.LookupVal, tested: bool) -> Any:
        owner = self._read(node.target, tested)
        key = node.val
        if not (isinstance(key, nodes.Literal) and isinstance(key.value, str)):
            index = self._read(key)
            if owner is None:
                return None
            if isinstance(key, nodes.Literal):
                owner.vote("list", 3)
            elif index is not None:
                index.vote("string", 1)
            return owner.element()
        if owner is None or key.value == "length":
            return None
        owner.vote("object", 3)
        found = owner.member(key.value)
        path = _path(node)
        self._seen(found, node, path or "", tested)
        return found

    def _call(self, node: nodes.FunCall) -> None:
        target = node.name
        if isinstance(target, nodes.LookupVal) and isinstance(target.val, nodes.Literal):
            owner = self._read(target.target)
            name = target.val.value
            if owner is not None and name in STRING and name not in ARRAY:
                owner.vote("string", 3)
            elif owner is not None and name in ARRAY and name not in STRING:
                owner.vote("list", 3)
        else:
            found = self._read(target)
            if found is not None:
                found.vote("callable", 4)
        self._read(node.args)

    def _filter(self, node: nodes.Filter, tested: bool) -> Any:
        name = node.name.value
        self.run_state.use_filter(name, self.place(node.pos))
        source, *rest = node.args.items
        for item in rest:
            self._read(item)
        if name in ("default", "d"):
            found = self._read(source, True)
            if found is not None and rest and isinstance(rest[0], nodes.Literal):
                self._default(found, rest[0].value)
            return found
        found = self._read(source, tested)
        if found is not None and name in _FILTER_KINDS:
            found.vote(_FILTER_KINDS[name], 3)
        if found is not None and name in ("sort", "reverse", "selectattr", "rejectattr", "list"):
            return found
        if found is not None and name in ("first", "last", "random"):
            return found.element()
        return None

    def _default(self, variable: Any, value: Any) -> None:
        if isinstance(value, str | int | float | bool) or value is None:
            if value not in variable.defaults:
                variable.defaults.append(value)
            if isinstance(value, bool):
                variable.vote("boolean", 3)
            elif isinstance(value, str):
                variable.vote("string", 3)
            elif value is not None:
                variable.vote("number", 3)

    def _binary(self, node: nodes.Binary, tested: bool) -> Any:
        if node.op == "or":
            left = self._read(node.left, True)
            positive, negative = self._guards(node.left)
            outer, self.guarded = self.guarded, self.guarded | negative
            self._read(node.right, tested)
            self.guarded = outer
            if left is not None and isinstance(node.right, nodes.Literal) and not tested:
                self._default(left, node.right.value)
            return left if not tested else None
        if node.op == "and":
            positive, _ = self._guards(node.left)
            self._read(node.left, True)
            outer, self.guarded = self.guarded, self.guarded | positive
            self._read(node.right, tested)
            self.guarded = outer
            return None
        if node.op == "is":
            self._is(node)
            return None
        left, right = self._read(node.left), self._read(node.right)
        kind = {
            "-": "number",
            "*": "number",
            "/": "number",
            "%": "number",
            "//": "number",
            "**": "number",
            "~": "string",
        }.get(node.op)
        if node.op == "+" and any(
            isinstance(side, nodes.Literal) and type(side.value) is int for side in (node.left, node.right)
        ):
            kind = "number"
        for found in (left, right):
            if found is not None and kind is not None:
                found.vote(kind, 2)
        if node.op == "in" and right is not None:
            right.vote("list", 2)
        return None

    def _is(self, node: nodes.Binary) -> None:
        name, args = _test_of(node.right)
        self.run_state.use_test(name, self.place(node.right.pos))
        for arg in args:
            self._read(arg)
        found = self._read(node.left, True)
        if found is not None:
            if found.votes.get("boolean") == 2:
                del found.votes["boolean"]
            if name in _TEST_KINDS:
                found.vote(_TEST_KINDS[name], 2)

    def _compare(self, node: nodes.Compare, tested: bool) -> None:
        left: Any = self._read(node.expr)
        for operator, operand in node.ops:
            right = self._read(operand)
            if operator in ("==", "===", "!=", "!=="):
                self._choice(left, operand)
                self._choice(right, node.expr)
            else:
                for found in (left, right):
                    if found is not None:
                        found.vote("number", 2)

    def _choice(self, variable: Any, node: Any) -> None:
        if variable is None or not isinstance(node, nodes.Literal):
            return
        value = node.value
        if isinstance(value, bool):
            variable.vote("boolean", 3)
        elif isinstance(value, str | int | float):
            variable.vote("string" if isinstance(value, str) else "number", 3)
            if value not in variable.choices:
                variable.choices.append(value)

    # -- guards ------------------------------------------------------------------------------------------------------

    def _test(self, node: Any) -> None:
        self._read(node, True)

    def _guards(self, node: Any) -> tuple[set[str], set[str]]:
        """Paths that are known to exist where the condition holds, and where it does not."""
        if isinstance(node, nodes.Group) and len(node.items) == 1:
            return self._guards(node.items[0])
        if isinstance(node, nodes.Unary) and node.op == "not":
            positive, negative = self._guards(node.target)
            return negative, positive
        if isinstance(node, nodes.Binary):
            if node.op in ("and", "or"):
                left, right = self._guards(node.left), self._guards(node.right)
                if node.op == "and":
                    return left[0] | right[0], left[1] & right[1]
                return left[0] & right[0], left[1] | right[1]
            if node.op == "is":
                name, _ = _test_of(node.right)
                path = _path(node.left)
                if path is None:
                    return set(), set()
                return (set(), _prefixes(path)) if name == "undefined" else (_prefixes(path), set())
        if isinstance(node, nodes.Compare) and len(node.ops) == 1 and node.ops[0][0] in ("==", "==="):
            path = _path(node.expr)
            return (_prefixes(path) if path else set()), set()
        path = _path(node)
        return (_prefixes(path) if path else set()), set()


def _path(node: Any) -> str | None:
    """``a.b.c`` for a chain of names, else None. The length of something guards the thing itself."""
    if isinstance(node, nodes.Symbol):
        return str(node.value)
    if isinstance(node, nodes.LookupVal) and isinstance(node.val, nodes.Literal) and isinstance(node.val.value, str):
        owner = _path(node.target)
        if owner is None:
            return None
        return owner if node.val.value == "length" else f"{owner}.{node.val.value}"
    if isinstance(node, nodes.Filter) and node.name.value == "length":
        return _path(node.args.items[0])
    return None


def _prefixes(path: str) -> set[str]:
    parts = path.split(".")
    return {".".join(parts[: index + 1]) for index in range(len(parts))}


__all__ = ["IsTest", "Walker"]
