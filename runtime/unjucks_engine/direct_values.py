"""Python closures for expressions: the half of ``direct`` that has no statements.

A function in here takes the values of the function it belongs to (a list: the places below, then one for each variable) and returns
the value of the expression. The meaning of every operator, filter, lookup and call is that of the same run-time functions that
generated code calls. Mixed into ``direct.Unit``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from unjucks_engine import nodes, ops
from unjucks_engine.frames import lookup
from unjucks_engine.helpers import keyword_object
from unjucks_engine.jsregex import RegExp
from unjucks_engine.member import member
from unjucks_engine.methods_misc import OBJECT
from unjucks_engine.ops import truth
from unjucks_engine.pasting import Floor, IsTest, js_tree
from unjucks_engine.scopes import LOOP_FIELDS, Part
from unjucks_engine.spelling import call_name
from unjucks_engine.values import U, is_index, ordered

if TYPE_CHECKING:
    from unjucks_engine.environment import Environment

RT, VARS, OUT, FRAME_AT, CONTEXT, PARENT = range(6)
FIRST = 6

Values = list[Any]
Code = Callable[[Values], Any]


class Unsupported(Exception):
    """The template has something that only generated code can do."""


class Scope:
    """The names of a function being made."""

    def __init__(self, part: Part, local: bool, kind: str) -> None:
        self.part = part
        self.local = local
        self.kind = kind
        self.size = FIRST
        self.names: list[dict[str, int]] = [{}]
        self.levels: list[dict[str, int]] = []
        #: (counter, length) of the loops around.
        self.loops: list[tuple[int, int] | None] = [None]

    def place(self) -> int:
        """A new place."""
        self.size += 1
        return self.size - 1


class ValueMaker:
    """Makes functions for expressions; the names come from ``scope``."""

    env: Environment
    scope: Scope

    # -- names -------------------------------------------------------------------------------------------------------

    def _known(self, name: str) -> int:
        for names in reversed(self.scope.names):
            if name in names:
                return names[name]
        return 0

    def _variable(self, name: str) -> Code:
        place = self._known(name)
        if place:
            return lambda v: v[place]
        scope = self.scope
        if not scope.local:
            return lambda v: lookup(v[FRAME_AT], v[VARS], name)
        slots = [level[name] for level in reversed(scope.levels) if name in level]
        if not slots:
            return lambda v: v[VARS].get(name, U)

        def read(v: Values) -> Any:
            for slot in slots:
                value = v[slot]
                if value is not U:
                    return value
            return v[VARS].get(name, U)

        return read

    # -- expressions -------------------------------------------------------------------------------------------------

    def value(self, node: Any) -> Code:
        """A function for the value of an expression."""
        make = _ATOMS.get(type(node))
        if make is not None and type(node) is not nodes.Binary:
            return make(self, node)  # type: ignore[no-any-return]
        return self._tree(js_tree(node))

    def _tree(self, tree: Any) -> Code:
        if type(tree) is not tuple:
            make = _ATOMS.get(type(tree))
            if make is None:
                raise Unsupported
            return make(self, tree)  # type: ignore[no-any-return]
        op = tree[0]
        if len(tree) == 2:
            inner = self._tree(tree[1])
            if op == "!":
                return lambda v: not truth(inner(v))
            if op == "neg":
                return lambda v: ops.negative(v[RT], inner(v))
            if op == "pos":
                return lambda v: ops.to_number(v[RT], inner(v))
            raise Unsupported
        left, right = self._tree(tree[1]), self._tree(tree[2])
        if op == "&&":

            def both(v: Values) -> Any:
                value = left(v)
                return right(v) if truth(value) else value

            return both
        if op == "||":

            def either(v: Values) -> Any:
                value = left(v)
                return value if truth(value) else right(v)

            return either
        if op == "===":
            return lambda v: ops.strict_equal(left(v), right(v))
        if op == "!==":
            return lambda v: not ops.strict_equal(left(v), right(v))
        if op == "!=":
            return lambda v: not ops.loose_equal(v[RT], left(v), right(v))
        function = _OPERATORS[op]
        return lambda v: function(v[RT], left(v), right(v))

    def _symbol(self, node: nodes.Symbol) -> Code:
        return self._variable(node.value)

    def _literal(self, node: nodes.Literal) -> Code:
        value = node.value
        if isinstance(value, RegExp):
            return lambda v: value.fresh()
        if isinstance(value, float) and not math.isfinite(value):
            value = math.inf
        return lambda v: value

    def _lookup(self, node: nodes.LookupVal) -> Code:
        key, target = node.val, node.target
        if type(key) is nodes.Literal and type(key.value) is str:
            name = key.value
            if type(target) is nodes.Symbol:
                if target.value == "loop" and name in LOOP_FIELDS:
                    field = self._loop_field(name)
                    if field is not None:
                        return field
                if name not in OBJECT:
                    quick = self._field(target.value, name)
                    if quick is not None:
                        return quick
            owner = self.value(target)
            if name in OBJECT:
                return lambda v: member(v[RT], owner(v), name)

            def get(v: Values) -> Any:
                value = owner(v)
                return value.get(name, U) if type(value) is dict else member(v[RT], value, name)

            return get
        if isinstance(key, nodes.Slice):
            raise Unsupported
        owner, index = self.value(target), self.value(key)
        return lambda v: member(v[RT], owner(v), index(v))

    def _field(self, variable: str, name: str) -> Code | None:
        """``variable.name`` in one function, where the variable is in one certain place."""
        place = self._known(variable)
        if place:

            def of_place(v: Values) -> Any:
                value = v[place]
                return value.get(name, U) if type(value) is dict else member(v[RT], value, name)

            return of_place
        scope = self.scope
        if not scope.local or any(variable in level for level in scope.levels):
            return None

        def of_context(v: Values) -> Any:
            value = v[VARS].get(variable, U)
            return value.get(name, U) if type(value) is dict else member(v[RT], value, name)

        return of_context

    def _loop_field(self, name: str) -> Code | None:
        scope = self.scope
        loop = scope.loops[-1]
        if loop is None or self._known("loop") or "loop" in scope.part.assigned:
            return None
        i, n = loop
        if name == "index":
            return lambda v: v[i] + 1
        if name == "index0":
            return lambda v: v[i]
        if name == "first":
            return lambda v: v[i] == 0
        if name == "last":
            return lambda v: v[i] == v[n] - 1
        if name == "length":
            return lambda v: v[n]
        less = 1 if name == "revindex0" else 0
        return lambda v: v[n] - v[i] - less

    def _arguments(self, args: nodes.Nodes) -> tuple[list[Code], list[tuple[str, Code]] | None]:
        items = args.items
        if items and isinstance(items[-1], nodes.KeywordArgs):
            return [self.value(item) for item in items[:-1]], self._pairs(items[-1])
        return [self.value(item) for item in items], None

    def _call(self, node: nodes.FunCall) -> Code:
        name, target = call_name(node.name), node.name
        if "\\" in name or isinstance(getattr(target, "val", None), nodes.Slice):
            raise Unsupported
        if isinstance(target, nodes.LookupVal):
            owner, key = self.value(target.target), self.value(target.val)
            args, pairs = self._arguments(node.args)

            def call_member(v: Values) -> Any:
                keywords = None
                this, index = owner(v), key(v)
                given = [arg(v) for arg in args]
                if pairs is not None:
                    keywords = _object(pairs, v)
                return v[RT].call_member(this, index, name, given, keywords)

            return call_member
        callee = self.value(target)
        args, pairs = self._arguments(node.args)

        def call(v: Values) -> Any:
            function = callee(v)
            given = [arg(v) for arg in args]
            return v[RT].call_named(function, name, given, None if pairs is None else _object(pairs, v))

        return call

    def _argument(self, item: Any) -> Code:
        if not isinstance(item, nodes.KeywordArgs):
            return self.value(item)
        pairs = self._pairs(item)
        return lambda v: keyword_object(_object(pairs, v))

    def _filter(self, node: nodes.Filter) -> Code:
        function = self.env.filters.get(node.name.value)
        if function is None:
            raise Unsupported
        args = [self._argument(item) for item in node.args.items]
        if len(args) == 1:
            only = args[0]
            return lambda v: function(v[RT], only(v))
        return lambda v: function(v[RT], *[arg(v) for arg in args])

    def _test(self, node: IsTest) -> Code:
        function = self.env.tests.get(node.name)
        if function is None or len(node.args) > 1:
            raise Unsupported
        left = self._tree(node.left)
        args = [self._argument(item) for item in node.args]
        return lambda v: function(v[RT], left(v), *[arg(v) for arg in args])

    def _inline_if(self, node: nodes.InlineIf) -> Code:
        cond, body = self.value(node.cond), self.value(node.body)
        other: Code = self.value(node.other) if node.other is not None else lambda v: ""
        return lambda v: body(v) if truth(cond(v)) else other(v)

    def _group(self, node: nodes.Group) -> Code:
        if len(node.items) != 1:
            raise Unsupported
        return self.value(node.items[0])

    def _array(self, node: nodes.Array) -> Code:
        items = [self.value(item) for item in node.items]
        return lambda v: [item(v) for item in items]

    def _pairs(self, node: nodes.Dict) -> list[tuple[str, Code]]:
        pairs = []
        for pair in node.items:
            key = pair.key
            if not isinstance(key, nodes.Symbol | nodes.Literal) or not isinstance(key.value, str):
                raise Unsupported
            pairs.append((key.value, self.value(pair.value)))
        return pairs

    def _dict(self, node: nodes.Dict) -> Code:
        pairs = self._pairs(node)
        return lambda v: _object(pairs, v)

    def _floor(self, node: Floor) -> Code:
        inner = self._tree(node.inner)
        return lambda v: ops.floor_divide(v[RT], inner(v))

    def _binary(self, node: nodes.Binary) -> Code:
        function = ops.contains if node.op == "in" else ops.power
        left, right = self.value(node.left), self.value(node.right)
        return lambda v: function(v[RT], left(v), right(v))


def _object(pairs: list[tuple[str, Code]], v: Values) -> dict[str, Any]:
    found = {name: code(v) for name, code in pairs}
    return ordered(found) if any(map(is_index, found)) else found


_OPERATORS: dict[str, Any] = {
    "+": ops.add, "-": ops.subtract, "*": ops.multiply, "/": ops.divide, "%": ops.modulo, "<": ops.less, "<=": ops.less_equal,
    ">": ops.greater, ">=": ops.greater_equal, "==": ops.loose_equal,
}  # fmt: skip
_ATOMS: dict[type, Any] = {
    nodes.Symbol: ValueMaker._symbol,
    nodes.Literal: ValueMaker._literal,
    nodes.LookupVal: ValueMaker._lookup,
    nodes.Filter: ValueMaker._filter,
    nodes.FunCall: ValueMaker._call,
    nodes.InlineIf: ValueMaker._inline_if,
    nodes.Group: ValueMaker._group,
    nodes.Array: ValueMaker._array,
    nodes.Dict: ValueMaker._dict,
    IsTest: ValueMaker._test,
    Floor: ValueMaker._floor,
    nodes.Binary: ValueMaker._binary,
}
