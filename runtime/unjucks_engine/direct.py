"""Runs a syntax tree as Python closures, without generating code: for the first renders of a template.

Making closures costs a fraction of generating Python code and having CPython compile it; running them is slower. So a template
starts here, and is compiled by ``codegen`` when it is used again or has long loops. The meaning of every operator, filter,
lookup and call is that of the same run-time functions that generated code calls; names are resolved by the same facts
(``scopes``). What is rare (call blocks, frames that can be seen, switches, unusual options) is not done here at all:
``Unsupported`` sends the template to the code generator. Both ways must print the same; the tests run both.

A function in here has its values in a list ``v``: the places below, then one for each variable.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from unjucks_engine import nodes, ops
from unjucks_engine.direct_values import (
    CONTEXT,
    FIRST,
    FRAME_AT,
    OUT,
    PARENT,
    RT,
    VARS,
    Code,
    Scope,
    Unsupported,
    ValueMaker,
    Values,
)  # fmt: skip
from unjucks_engine.expressions import plain_name
from unjucks_engine.helpers import imported, printable
from unjucks_engine.ops import truth
from unjucks_engine.runtime import Frame
from unjucks_engine.scopes import FRAME, WHOLE, Survey, import_names, loop_names, parameters, reads
from unjucks_engine.values import NOT_GIVEN, Macro, U

if TYPE_CHECKING:
    from unjucks_engine.environment import Environment
    from unjucks_engine.lexer import Lexer
    from unjucks_engine.runtime import Context, Render

#: Steps of one loop from which on compiling pays.
_LONG = 2500

#: (position, text to write before, what to do then, and how to show its value if it is an output)
Step = tuple[int, str, Code | None, Callable[["Render", Any], str] | None]


class Hot(BaseException):
    """The template has to be compiled before this render can go on; it starts again then."""


class Where:
    """The template that steps belong to, for messages."""

    __slots__ = ("lexer", "name")

    def __init__(self, name: str | None, lexer: Lexer) -> None:
        self.name = name
        self.lexer = lexer


def run(where: Where, steps: list[Step], v: Values) -> None:
    """Runs statements. The environment reads the position of a mistake off this frame (``where`` and ``pos``)."""
    write = v[OUT].append
    for pos, text, code, show in steps:  # noqa: B007
        if text:
            write(text)
        if show is not None:
            found = code(v)  # type: ignore[misc]
            write(found if type(found) is str else show(v[RT], found))
        elif code is not None:
            code(v)


class Unit(ValueMaker):
    """A template as closures: ``root`` and ``blocks`` are called like those of generated code.

    Nothing that it makes refers to it, so that all of it goes away with the template, without the garbage collector.
    """

    def __init__(self, env: Environment, name: str | None, lexer: Lexer, root: nodes.Nodes, has_blocks: bool) -> None:
        if env.throw_on_undefined or env.undefined == "ErrorOnUse" or env.jinja_compat:
            raise Unsupported
        self.env = env
        self.name = name
        self.lexer = lexer
        self.where = Where(name, lexer)
        self.survey = Survey(root)
        #: Whether outputs are neither escaped nor checked.
        self.plain = env.undefined != "Error" and not env.autoescape
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
        where, work = self.where, self.survey.weight(body)
        if block is not None:
            above = scope.place() if block.parent is not None else 0
            if block.parent is not None:
                scope.names[-1][block.parent] = above
            steps = self._body(body)
            size, name = scope.size, block.name.value

            def run_block(rt: Render, context: Context, frame: Frame, out: list[str]) -> None:
                if local:
                    if not frame.bare():
                        raise Hot
                else:
                    frame = Frame(frame, True)
                rt.work(work)
                v: Values = [rt, context.vars, out, frame, context, None, *[U] * (size - FIRST)]
                if above:
                    v[above] = rt.super_block(name, run_block, context, frame)
                run(where, steps, v)

            return run_block
        steps = self._body(body)
        size, extends = scope.size, part.extends

        def run_root(rt: Render, context: Context, frame: Frame, out: list[str]) -> None:
            if local and not frame.bare():
                raise Hot
            rt.work(work)
            own: list[str] = [] if extends else out
            v: Values = [rt, context.vars, own, frame, context, None, *[U] * (size - FIRST)]
            run(where, steps, v)
            if extends:
                if v[PARENT] is None:
                    out += own
                else:
                    rt.parent_root(v[PARENT], context, frame, out)

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
        for name, _ in positional:
            scope.names[-1][name] = scope.place()
        given = {name: scope.place() for name, _ in keywords}
        given_caller = scope.place()
        taken = scope.size - FIRST
        slots = {name: scope.place() for name in self.survey.level_names(node.body)}
        scope.levels.append(slots)
        caller = 0
        if "caller" in self.lexer.source and reads(node, "caller"):
            caller = slots["caller"] = scope.place()
        defaults: list[tuple[int, int, Code]] = []
        for name, default in keywords:
            code = self.value(default)
            if name not in slots:
                slots[name] = scope.place()
            defaults.append((given[name], slots[name], code))
        steps = self._body(node.body)
        self.scope = outer
        where = self.where
        start = [U] * len(positional) + [NOT_GIVEN] * (len(given) + 1) + [U] * (scope.size - FIRST - taken)
        names = tuple(name for name, _ in positional)
        others = tuple(name for name, _ in keywords)
        label, work = node.name.value, 8 + self.survey.weight(node.body)

        def make(outside: Values) -> Macro:
            rt, variables, context, frame = outside[RT], outside[VARS], outside[CONTEXT], outside[FRAME_AT]

            def call(*args: Any) -> str:
                if rt.warm():
                    raise Hot
                rt.descend(work)
                v: Values = [rt, variables, [], frame, context, None, *start]
                v[FIRST : FIRST + len(args)] = args
                if caller and v[given_caller] is not NOT_GIVEN:
                    v[caller] = v[given_caller]
                for place, slot, default in defaults:
                    value = v[place]
                    v[slot] = default(v) if value is NOT_GIVEN else value
                run(where, steps, v)
                rt.depth -= 1
                return rt.joined(v[OUT])  # type: ignore[no-any-return]

            return Macro(label, names, others, call)

        return make

    # -- statements --------------------------------------------------------------------------------------------------

    def _body(self, body: Any) -> list[Step]:
        steps: list[Step] = []
        rest = self._steps(body, steps, "")
        if rest:
            steps.append((body.pos, rest, None, None))
        return steps

    def _steps(self, body: Any, steps: list[Step], text: str) -> str:
        """Adds the steps of a body; ``text`` is to be written before. Returns the text that is to be written behind."""
        plain, value = self.plain, self.value
        for item in body.items:
            kind = type(item)
            if kind is nodes.Output:
                for part in item.items:
                    if type(part) is nodes.Data:
                        text = text + part.value if text else part.value
                    elif plain:
                        steps.append((part.pos, text, value(part), ops.output))
                        text = ""
                    else:
                        steps.append((part.pos, text, *self._print(part)))
                        text = ""
            elif kind is nodes.Nodes:
                text = self._steps(item, steps, text)
            else:
                make = _STATEMENTS.get(kind)
                if make is None:
                    raise Unsupported
                steps.append((item.pos, text, make(self, item), None))
                text = ""
        return text

    def _print(self, node: Any) -> tuple[Code, Callable[[Render, Any], str] | None]:
        value = self.value(node)
        env = self.env
        emit = ops.output_escaped if env.autoescape else ops.output
        if env.undefined == "Error":
            name = plain_name(node)

            def checked(v: Values) -> None:
                v[OUT].append(emit(v[RT], printable(value(v), name)))

            return checked, None

        def escaped(v: Values) -> None:
            v[OUT].append(emit(v[RT], value(v)))

        return escaped, None

    def _if(self, node: nodes.If) -> Code:
        where, cond, body = self.where, self.value(node.cond), self._body(node.body)
        if node.other is None or not (isinstance(node.other, nodes.If) or node.other.items):

            def only(v: Values) -> None:
                if truth(cond(v)):
                    run(where, body, v)

            return only
        again = isinstance(node.other, nodes.If)
        other: list[Step] = [(node.other.pos, "", self._if(node.other), None)] if again else self._body(node.other)

        def choose(v: Values) -> None:
            run(where, body if truth(cond(v)) else other, v)

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
        where, cost, cleared = self.where, survey.weight(node.body), list(slots.values())
        single = places[0] if not isinstance(node.name, nodes.Array) else -1
        width = len(places)

        def loop(v: Values) -> None:
            rt = v[RT]
            for place in cleared:
                v[place] = U
            items = arr(v)
            if single < 0:
                if truth(items):
                    rows, v[length], _ = rt.rows(items, width, False)
                    _spend(rt, v[length] * cost)
                    for v[counter], row in enumerate(rows):
                        for place, item in zip(places, row, strict=False):
                            v[place] = item
                        run(where, steps, v)
            else:
                if type(items) is list:
                    size = v[length] = len(items)
                    _spend(rt, size * cost)
                elif truth(items):
                    items, v[length] = rt.sequence(items, 0)
                    _spend(rt, len(items) * cost)
                else:
                    items = ()
                for v[counter], v[single] in enumerate(items):
                    run(where, steps, v)
            if other is not None and not truth(v[length]):
                run(where, other, v)

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
                    v[FRAME_AT].assign(name, found)
                if top:
                    v[VARS][name] = found
                    if not name.startswith("_"):
                        v[CONTEXT].exported.append(name)

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
                v[VARS][name] = value

        return bind

    def _macro(self, node: nodes.MacroNode) -> Code:
        name = node.name.value
        make = self._macro_code(node)
        exported = len(self.scope.levels) == 1 and not name.startswith("_")
        bind = self._bind(name)

        def define(v: Values) -> None:
            macro = make(v)
            if exported:
                v[CONTEXT].exported.append(name)
            bind(v, macro)

        return define

    # -- files -------------------------------------------------------------------------------------------------------

    def _import(self, node: nodes.Import) -> Code:
        if node.context:
            raise Unsupported
        template, parent = self.value(node.template), self.name
        bind = self._bind(node.target.value)
        return lambda v: bind(v, v[RT].exports(template(v), parent, None, None))

    def _from(self, node: nodes.FromImport) -> Code:
        if node.context:
            raise Unsupported
        template, parent = self.value(node.template), self.name
        binds = [(name, self._bind(alias)) for name, alias in import_names(node)]

        def load(v: Values) -> None:
            exports = v[RT].exports(template(v), parent, None, None)
            for name, bind in binds:
                bind(v, imported(exports, name))

        return load

    def _include(self, node: nodes.Include) -> Code:
        template, parent, missing = self.value(node.template), self.name, node.missing
        return lambda v: v[RT].include(template(v), parent, missing, v[CONTEXT], v[FRAME_AT], v[OUT])

    def _extends(self, node: nodes.Extends) -> Code:
        template, parent = self.value(node.template), self.name

        def extend(v: Values) -> None:
            v[PARENT] = v[RT].extends(template(v), parent, v[CONTEXT])

        return extend

    def _block(self, node: nodes.Block) -> Code:
        name = node.name.value
        hidden = self.root_part.extends and self.scope.part is self.root_part

        def show(v: Values) -> None:
            if hidden and v[PARENT] is not None:
                v[OUT].append("undefined")
            else:
                v[RT].block(name, v[CONTEXT], v[FRAME_AT], v[OUT])

        return show


def _spend(rt: Render, steps: int) -> None:
    """Takes the work of a loop from the budget, unless generated code should do it."""
    if rt.direct and (steps > _LONG or rt.warm()):
        raise Hot
    rt.work(steps)


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
