"""Runs a syntax tree as Python closures, without generating code: for the first renders of a template.

Making closures costs a fraction of generating Python code and having CPython compile it; running them is slower. So a template
starts here, and is compiled by ``codegen`` when it is used again or has long loops. The meaning of every operator, filter,
lookup and call is that of the same run-time functions that generated code calls; names are resolved by the same facts
(``scopes``). What is rare (call blocks, frames that can be seen, switches, unusual options) is not done here at all:
``Unsupported`` sends the template to the code generator. Both ways must print the same; the tests run both.

A function in here has its values in a list ``v``: the places below, then one for each variable.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from unjucks_engine import nodes, ops
from unjucks_engine.expressions import call_name, plain_name
from unjucks_engine.helpers import imported, keyword_object, printable
from unjucks_engine.jsregex import RegExp
from unjucks_engine.member import member
from unjucks_engine.methods_misc import OBJECT
from unjucks_engine.ops import truth
from unjucks_engine.pasting import Floor, IsTest, js_tree
from unjucks_engine.runtime import Frame, lookup
from unjucks_engine.scopes import FRAME, LOOP_FIELDS, WHOLE, Part, Survey, import_names, loop_names, parameters, reads
from unjucks_engine.values import Macro, Safe, U, is_index, ordered

if TYPE_CHECKING:
    from unjucks_engine.environment import Environment
    from unjucks_engine.lexer import Lexer
    from unjucks_engine.runtime import Context, Render, Template

_RT, _VARS, _OUT, _FRAME, _CONTEXT, _PARENT = range(6)
_FIRST = 6

#: Steps of one loop from which on compiling pays.
_LONG = 2500

Values = list[Any]
Code = Callable[[Values], Any]


class Unsupported(Exception):
    """The template has something that only generated code can do."""


class Hot(BaseException):
    """The template has to be compiled before this render can go on; it starts again then."""

    def __init__(self, unit: Unit) -> None:
        super().__init__()
        self.unit = unit


class Scope:
    """The names of a function being made."""

    def __init__(self, part: Part, local: bool, kind: str) -> None:
        self.part = part
        self.local = local
        self.kind = kind
        self.size = _FIRST
        self.names: list[dict[str, int]] = [{}]
        self.levels: list[dict[str, int]] = []
        #: (counter, length) of the loops around.
        self.loops: list[tuple[int, int] | None] = [None]

    def place(self) -> int:
        """A new place."""
        self.size += 1
        return self.size - 1


def run(unit: Unit, steps: list[tuple[int, Code]], v: Values) -> None:
    """Runs statements. ``_locate`` reads the position of a mistake off this frame."""
    for pos, step in steps:  # noqa: B007 - read by `Unit.position`
        step(v)


class Unit:
    """A template as closures: ``root`` and ``blocks`` are called like those of generated code."""

    def __init__(self, env: Environment, name: str | None, lexer: Lexer, root: nodes.Nodes, has_blocks: bool) -> None:
        if env.throw_on_undefined or env.undefined == "ErrorOnUse" or env.jinja_compat:
            raise Unsupported
        self.env = env
        self.name = name
        self.lexer = lexer
        self.survey = Survey(root)
        #: The template that these closures belong to; set by the environment.
        self.template: Template
        self.scope: Scope
        self.blocks: dict[str, Callable[..., None]] = {}
        found = [] if not has_blocks else [node for node in nodes.walk(root) if isinstance(node, nodes.Block)]
        self.root_part = self.survey.part_of(root)
        self.root = self._part(root, None)
        for block in found:
            if block.name.value in self.blocks:
                raise Unsupported
            self.blocks[block.name.value] = self._part(block.body, block)

    # -- functions ---------------------------------------------------------------------------------------------------

    def _part(self, body: Any, block: nodes.Block | None) -> Callable[..., None]:
        part = self.survey.part_of(body)
        local = part.local
        scope = self.scope = Scope(part, local, "root" if block is None else "block")
        scope.levels.append({name: scope.place() for name in self.survey.level_names(body)} if local else {})
        unit, work = self, self.survey.weight(body)
        if block is not None:
            above = scope.place() if block.parent is not None else 0
            if block.parent is not None:
                scope.names[-1][block.parent] = above
            steps = self._body(body)
            size, name = scope.size, block.name.value

            def run_block(rt: Render, context: Context, frame: Frame, out: list[str]) -> None:
                if local:
                    if not frame.bare():
                        raise Hot(unit)
                else:
                    frame = Frame(frame, True)
                rt.work(work)
                v: Values = [rt, context.vars, out, frame, context, None, *[U] * (size - _FIRST)]
                if above:
                    v[above] = rt.super_block(name, run_block, context, frame)
                run(unit, steps, v)

            return run_block
        steps = self._body(body)
        size, extends = scope.size, part.extends

        def run_root(rt: Render, context: Context, frame: Frame, out: list[str]) -> None:
            if local and not frame.bare():
                raise Hot(unit)
            rt.work(work)
            own: list[str] = [] if extends else out
            v: Values = [rt, context.vars, own, frame, context, None, *[U] * (size - _FIRST)]
            run(unit, steps, v)
            if extends:
                if v[_PARENT] is None:
                    out += own
                else:
                    rt.parent_root(v[_PARENT], context, frame, out)

        return run_root

    def _macro_code(self, node: nodes.MacroNode) -> Code:
        outer = self.scope
        if not outer.local:
            raise Unsupported
        positional, keywords = parameters(node)
        if any(not isinstance(item, nodes.Symbol) for _, item in positional) or any(not name for name, _ in keywords):
            raise Unsupported
        scope = self.scope = Scope(outer.part, True, "macro")
        # The later one of two parameters of one name counts.
        places = [scope.place() for _ in positional]
        for (name, _), place in zip(positional, places, strict=True):
            scope.names[-1][name] = place
        slots = {name: scope.place() for name in self.survey.level_names(node.body)}
        scope.levels.append(slots)
        caller = 0
        if "caller" in self.lexer.source and reads(node, "caller"):
            caller = slots["caller"] = scope.place()
        defaults: list[tuple[str, int, Code]] = []
        for name, default in keywords:
            code = self.value(default)
            if name not in slots:
                slots[name] = scope.place()
            defaults.append((name, slots[name], code))
        steps = self._body(node.body)
        rest = scope.size - _FIRST - len(places)
        self.scope = outer
        unit = self
        names = tuple(name for name, _ in positional)
        others = tuple(name for name, _ in keywords)
        label, work = node.name.value, 8 + self.survey.weight(node.body)

        def make(outside: Values) -> Macro:
            rt, variables, context, frame = outside[_RT], outside[_VARS], outside[_CONTEXT], outside[_FRAME]

            def call(*args: Any) -> Safe:
                if rt.warm():
                    raise Hot(unit)
                given = args[-1]
                v: Values = [rt, variables, [], frame, context, None, *args[:-1], *[U] * rest]
                if caller:
                    v[caller] = given.get("caller", U)
                for name, place, default in defaults:
                    v[place] = given[name] if name in given else default(v)
                run(unit, steps, v)
                return Safe(rt.joined(v[_OUT]))

            return Macro(label, names, others, call, work)

        return make

    # -- statements --------------------------------------------------------------------------------------------------

    def _body(self, body: Any) -> list[tuple[int, Code]]:
        steps: list[tuple[int, Code]] = []
        for item in body.items:
            if type(item) is nodes.Output:
                for part in item.items:
                    if type(part) is nodes.Data:
                        if part.value:
                            steps.append((item.pos, _text(part.value)))
                    else:
                        steps.append((part.pos, self._print(part)))
            elif type(item) is nodes.Nodes:
                steps += self._body(item)
            else:
                make = _STATEMENTS.get(type(item))
                if make is None:
                    raise Unsupported
                steps.append((item.pos, make(self, item)))
        return steps

    def _print(self, node: Any) -> Code:
        value = self.value(node)
        emit = ops.output_escaped if self.env.autoescape else ops.output
        if self.env.undefined == "Error":
            name = plain_name(node)

            def checked(v: Values) -> None:
                v[_OUT].append(emit(v[_RT], printable(value(v), name)))

            return checked
        if self.env.autoescape:

            def escaped(v: Values) -> None:
                v[_OUT].append(emit(v[_RT], value(v)))

            return escaped

        def shown(v: Values) -> None:
            found = value(v)
            v[_OUT].append(found if type(found) is str else emit(v[_RT], found))

        return shown

    def _if(self, node: nodes.If) -> Code:
        unit, cond, body = self, self.value(node.cond), self._body(node.body)
        other: list[tuple[int, Code]] = []
        if isinstance(node.other, nodes.If):
            other = [(node.other.pos, self._if(node.other))]
        elif node.other is not None:
            other = self._body(node.other)

        def choose(v: Values) -> None:
            if truth(cond(v)):
                run(unit, body, v)
            elif other:
                run(unit, other, v)

        return choose

    def _for(self, node: nodes.For) -> Code:
        scope, survey = self.scope, self.survey
        names = loop_names(node)
        use = survey.loop_use(node)
        part = scope.part
        if node.kind != "for" or use & WHOLE or len(scope.loops) > 12:
            raise Unsupported
        if not scope.local and (
            use & FRAME or part.has_caller or "loop" in part.assigned or "loop" in part.compile_time or "loop" in names
            or set(names) & part.assigned
        ):  # fmt: skip
            raise Unsupported
        arr = self.value(node.arr)
        counter, length = scope.place(), scope.place()
        bodies = (node.body,) if node.other is None else (node.body, node.other)
        slots: dict[str, int] = {}
        if scope.local:
            slots = {name: scope.place() for name in {name for body in bodies for name in survey.level_names(body)}}
        places = [scope.place() for _ in names]
        scope.levels.append(slots)
        scope.names.append(dict(zip(names, places, strict=True)))
        outer = scope.loops[-1]
        scope.loops.append((counter, length))
        steps = self._body(node.body)
        scope.loops[-1] = outer
        other = self._body(node.other) if node.other is not None else None
        scope.loops.pop()
        scope.names.pop()
        scope.levels.pop()
        unit, cost, cleared = self, survey.weight(node.body), list(slots.values())
        single = places[0] if not isinstance(node.name, nodes.Array) else -1
        width = len(places)

        def loop(v: Values) -> None:
            rt = v[_RT]
            for place in cleared:
                v[place] = U
            items = arr(v)
            if single < 0:
                if truth(items):
                    rows, v[length], _ = rt.rows(items, width, False)
                    _spend(rt, unit, v[length] * cost)
                    for v[counter], row in enumerate(rows):
                        for place, item in zip(places, row, strict=False):
                            v[place] = item
                        run(unit, steps, v)
            else:
                if type(items) is list:
                    size = v[length] = len(items)
                    _spend(rt, unit, size * cost)
                elif truth(items):
                    items, v[length] = rt.sequence(items, 0)
                    _spend(rt, unit, len(items) * cost)
                else:
                    items = ()
                for v[counter], v[single] in enumerate(items):
                    run(unit, steps, v)
            if other is not None and not truth(v[length]):
                run(unit, other, v)

        return loop

    def _set(self, node: nodes.Set) -> Code:
        scope = self.scope
        names = list(dict.fromkeys(target.value for target in node.targets))
        if node.value is None or any("." in name or self._known(name) for name in names):
            raise Unsupported
        value = self.value(node.value)
        top = scope.kind == "root" and len(scope.levels) == 1
        local = scope.local
        places = [
            (name, [level[name] for level in reversed(scope.levels) if name in level] if local else [])
            for name in names
        ]

        def assign(v: Values) -> None:
            found = value(v)
            for name, slots in places:
                if local:
                    for slot in slots:
                        if v[slot] is not U:
                            v[slot] = found
                            break
                    else:
                        v[slots[0]] = found
                else:
                    v[_FRAME].assign(name, found)
                if top:
                    v[_VARS][name] = found
                    if not name.startswith("_"):
                        v[_CONTEXT].exported.append(name)

        return assign

    def _bind(self, name: str) -> Callable[[Values, Any], None]:
        scope = self.scope
        place = scope.names[-1][name] = scope.place()
        slot = 0
        if len(scope.levels) > 1:
            if not scope.local:
                raise Unsupported
            slot = scope.levels[-1][name]

        def bind(v: Values, value: Any) -> None:
            v[place] = value
            if slot:
                v[slot] = value
            else:
                v[_VARS][name] = value

        return bind

    def _macro(self, node: nodes.MacroNode) -> Code:
        name = node.name.value
        make = self._macro_code(node)
        exported = len(self.scope.levels) == 1 and not name.startswith("_")
        bind = self._bind(name)

        def define(v: Values) -> None:
            macro = make(v)
            if exported:
                v[_CONTEXT].exported.append(name)
            bind(v, macro)

        return define

    # -- files -------------------------------------------------------------------------------------------------------

    def _import(self, node: nodes.Import) -> Code:
        if node.context:
            raise Unsupported
        template, parent = self.value(node.template), self.name
        bind = self._bind(node.target.value)
        return lambda v: bind(v, v[_RT].exports(template(v), parent, None, None))

    def _from(self, node: nodes.FromImport) -> Code:
        if node.context:
            raise Unsupported
        template, parent = self.value(node.template), self.name
        binds = [(name, self._bind(alias)) for name, alias in import_names(node)]

        def load(v: Values) -> None:
            exports = v[_RT].exports(template(v), parent, None, None)
            for name, bind in binds:
                bind(v, imported(exports, name))

        return load

    def _include(self, node: nodes.Include) -> Code:
        template, parent, missing = self.value(node.template), self.name, node.missing
        return lambda v: v[_RT].include(template(v), parent, missing, v[_CONTEXT], v[_FRAME], v[_OUT])

    def _extends(self, node: nodes.Extends) -> Code:
        template, parent = self.value(node.template), self.name

        def extend(v: Values) -> None:
            v[_PARENT] = v[_RT].extends(template(v), parent, v[_CONTEXT])

        return extend

    def _block(self, node: nodes.Block) -> Code:
        name = node.name.value
        hidden = self.root_part.extends and self.scope.part is self.root_part

        def show(v: Values) -> None:
            if hidden and v[_PARENT] is not None:
                v[_OUT].append("undefined")
            else:
                v[_RT].block(name, v[_CONTEXT], v[_FRAME], v[_OUT])

        return show

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
            return lambda v: lookup(v[_FRAME], v[_VARS], name)
        slots = [level[name] for level in reversed(scope.levels) if name in level]
        if not slots:
            return lambda v: v[_VARS].get(name, U)

        def read(v: Values) -> Any:
            for slot in slots:
                value = v[slot]
                if value is not U:
                    return value
            return v[_VARS].get(name, U)

        return read

    # -- expressions -------------------------------------------------------------------------------------------------

    def value(self, node: Any) -> Code:
        """A function for the value of an expression."""
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
                return lambda v: ops.negative(v[_RT], inner(v))
            if op == "pos":
                return lambda v: ops.to_number(v[_RT], inner(v))
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
            return lambda v: not ops.loose_equal(v[_RT], left(v), right(v))
        function = _OPERATORS[op]
        return lambda v: function(v[_RT], left(v), right(v))

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
        if isinstance(key, nodes.Slice):
            raise Unsupported
        if isinstance(key, nodes.Literal) and isinstance(key.value, str):
            name = key.value
            if isinstance(target, nodes.Symbol) and target.value == "loop" and name in LOOP_FIELDS:
                field = self._loop_field(name)
                if field is not None:
                    return field
            owner = self.value(target)
            if name in OBJECT:
                return lambda v: member(v[_RT], owner(v), name)

            def get(v: Values) -> Any:
                value = owner(v)
                return value.get(name, U) if type(value) is dict else member(v[_RT], value, name)

            return get
        owner, index = self.value(target), self.value(key)
        return lambda v: member(v[_RT], owner(v), index(v))

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
                return v[_RT].call_member(this, index, name, given, keywords)

            return call_member
        callee = self.value(target)
        args, pairs = self._arguments(node.args)

        def call(v: Values) -> Any:
            function = callee(v)
            given = [arg(v) for arg in args]
            return v[_RT].call_named(function, name, given, None if pairs is None else _object(pairs, v))

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
            return lambda v: function(v[_RT], only(v))
        return lambda v: function(v[_RT], *[arg(v) for arg in args])

    def _test(self, node: IsTest) -> Code:
        function = self.env.tests.get(node.name)
        if function is None or len(node.args) > 1:
            raise Unsupported
        left = self._tree(node.left)
        args = [self._argument(item) for item in node.args]
        return lambda v: function(v[_RT], left(v), *[arg(v) for arg in args])

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
        return lambda v: ops.floor_divide(v[_RT], inner(v))

    def _binary(self, node: nodes.Binary) -> Code:
        function = ops.contains if node.op == "in" else ops.power
        left, right = self.value(node.left), self.value(node.right)
        return lambda v: function(v[_RT], left(v), right(v))


def _spend(rt: Render, unit: Unit, steps: int) -> None:
    """Takes the work of a loop from the budget, unless generated code should do it."""
    if rt.direct and (steps > _LONG or rt.warm()):
        raise Hot(unit)
    rt.work(steps)


def _text(text: str) -> Code:
    def write(v: Values) -> None:
        v[_OUT].append(text)

    return write


def _object(pairs: list[tuple[str, Code]], v: Values) -> dict[str, Any]:
    found = {name: code(v) for name, code in pairs}
    return ordered(found) if any(map(is_index, found)) else found


_OPERATORS: dict[str, Any] = {
    "+": ops.add, "-": ops.subtract, "*": ops.multiply, "/": ops.divide, "%": ops.modulo, "<": ops.less, "<=": ops.less_equal,
    ">": ops.greater, ">=": ops.greater_equal, "==": ops.loose_equal,
}  # fmt: skip
_ATOMS: dict[type, Any] = {
    nodes.Symbol: Unit._symbol,
    nodes.Literal: Unit._literal,
    nodes.LookupVal: Unit._lookup,
    nodes.Filter: Unit._filter,
    nodes.FunCall: Unit._call,
    nodes.InlineIf: Unit._inline_if,
    nodes.Group: Unit._group,
    nodes.Array: Unit._array,
    nodes.Dict: Unit._dict,
    IsTest: Unit._test,
    Floor: Unit._floor,
    nodes.Binary: Unit._binary,
}
_STATEMENTS: dict[type, Any] = {
    nodes.If: Unit._if,
    nodes.For: Unit._for,
    nodes.Set: Unit._set,
    nodes.MacroNode: Unit._macro,
    nodes.Import: Unit._import,
    nodes.FromImport: Unit._from,
    nodes.Include: Unit._include,
    nodes.Extends: Unit._extends,
    nodes.Block: Unit._block,
}
