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

from unjucks_engine import nodes
from unjucks_engine.direct_statements import Hot, StatementMaker, Where, run
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
    Values,
)  # fmt: skip
from unjucks_engine.frames import Frame
from unjucks_engine.scopes import Survey, parameters, reads
from unjucks_engine.values import NOT_GIVEN, Macro, U

if TYPE_CHECKING:
    from unjucks_engine.environment import Environment
    from unjucks_engine.frames import Context
    from unjucks_engine.lexer import Lexer
    from unjucks_engine.runtime import Render


class Unit(StatementMaker):
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
        self.says_caller = "caller" in lexer.source
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
        if self.says_caller and reads(node, "caller"):
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
