"""Python closures for statements. Mixed into ``direct.Unit``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from unjucks_engine import nodes, ops
from unjucks_engine.direct_values import (
    CONTEXT,
    FRAME_AT,
    OUT,
    PARENT,
    RT,
    VARS,
    Code,
    Unsupported,
    ValueMaker,
    Values,
)  # fmt: skip
from unjucks_engine.helpers import imported, printable
from unjucks_engine.ops import truth
from unjucks_engine.scopes import FRAME, WHOLE, Part, Survey, import_names, loop_names
from unjucks_engine.spelling import plain_name
from unjucks_engine.values import U

if TYPE_CHECKING:
    from unjucks_engine.lexer import Lexer
    from unjucks_engine.runtime import Render

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


class StatementMaker(ValueMaker):
    """Makes functions for statements."""

    if TYPE_CHECKING:
        name: str | None
        where: Where
        survey: Survey
        plain: bool
        root_part: Part

        def _macro_code(self, node: nodes.MacroNode) -> Code: ...

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
    nodes.If: StatementMaker._if,
    nodes.For: StatementMaker._for,
    nodes.Set: StatementMaker._set,
    nodes.MacroNode: StatementMaker._macro,
    nodes.Import: StatementMaker._import,
    nodes.FromImport: StatementMaker._from,
    nodes.Include: StatementMaker._include,
    nodes.Extends: StatementMaker._extends,
    nodes.Block: StatementMaker._block,
}
