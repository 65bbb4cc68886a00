"""Python code for loops. Mixed into the code generator."""

from __future__ import annotations

from unjucks_engine import nodes
from unjucks_engine.errors import LimitExceeded
from unjucks_engine.output_code import Outputs
from unjucks_engine.scopes import COUNTER, FRAME, WHOLE, loop_names
from unjucks_engine.writing import Level

#: CPython allows 20 loops inside each other in one function.
_MAX_LOOPS = 16


class Loops(Outputs):
    """Code for loops."""

    def _for(self, node: nodes.For) -> None:
        if sum(level.loop is not None for level in self.levels) >= _MAX_LOOPS:
            raise LimitExceeded("nesting", "loops are nested too deeply")
        local = self.function.local
        use = self.survey.loop_use(node)
        counter, whole, frame = bool(use & COUNTER), bool(use & WHOLE), bool(use & FRAME)
        names = loop_names(node)
        part = self.function.part
        # A call block may look through the frames of any macro of its part.
        conflict = not local and (
            part.has_caller or "loop" in part.assigned or "loop" in part.compile_time or "loop" in names
            or bool(set(names) & part.assigned)
        )  # fmt: skip
        framed = not local and (frame or whole or conflict)
        bound = framed and (whole or conflict)
        loop = {"i": self.fresh("i"), "n": self.fresh("n")}
        arr_code = self.expression(node.arr)[0]
        if framed:
            self.line("F = Frame(F)")
            loop["off"] = "1" if bound else ""
        if local and whole:
            loop["object"] = self.fresh("v")
        if node.other is not None:
            self.function.unset.append(loop["n"])
        bodies = (node.body,) if node.other is None else (node.body, node.other)
        set_here = {name for body in bodies for name in self.survey.level_names(body)}
        slots = {name: self.fresh("s") for name in sorted(set_here)}
        self.levels.append(Level(slots if local else {}, loop))
        self.scopes.append({})
        inits = [*(slots.values() if local else ()), *([loop["object"]] if "object" in loop else ())]
        arr = self.fresh("v")
        if inits:
            self.line(" = ".join(inits) + " = U")
        self.line(f"{arr} = {arr_code}")
        known, changes = self.known, self.changes
        self.known = {}
        if isinstance(node.name, nodes.Array) or node.kind != "for":
            self._rows(node, arr, loop, counter, framed, bound)
        else:
            self._items(node, arr, loop, counter, framed, bound)
        self.known = {}
        if node.other is not None:
            self._else(node, arr, loop)
        self.known = known if changes == self.changes else {}
        self.scopes.pop()
        self.levels.pop()
        if framed:
            self.line("F = F.parent")

    def _else(self, node: nodes.For, arr: str, loop: dict[str, str]) -> None:
        # Inside the else part `loop` is that of the loop around: this one has not run.
        self.line(f"if not truth({loop['n']}):" if node.kind == "for" else f"if no_length(rt, {arr}):")
        level = self.levels[-1]
        outer = self.levels[-2].loop if len(self.levels) > 1 else None
        if outer is not None or not loop.get("off"):
            level.loop = outer
        self._suite(node.other)
        level.loop = loop

    def _items(self, node: nodes.For, arr: str, loop: dict[str, str], counter: bool, framed: bool, bound: bool) -> None:
        value = self.fresh("v")
        name = node.name.value
        self.scopes[-1][name] = value
        if node.other is not None:
            self.function.unset.append(value)
        i, n = loop["i"], loop["n"]
        counting = counter or bound or "object" in loop
        steps = self.survey.weight(node.body)
        if counting or node.other is not None:
            self.line(f"if type({arr}) is list: {n} = len({arr}); rt.work({n} * {steps})")
        else:
            self.line(f"if type({arr}) is list: rt.work(len({arr}) * {steps})")
        self.line(f"elif truth({arr}): {arr}, {n} = rt.sequence({arr}, {steps})")
        self.line(f"else: {arr} = ()")
        self.line(f"for {i}, {value} in enumerate({arr}):" if counting else f"for {value} in {arr}:")
        self.depth += 1
        part = self.function.part
        if bound and ("loop" in part.assigned or "loop" in part.compile_time):
            self.line("rt.change()")  # `loop` may be data, which gets the fields
        if bound:
            self.line(f"F.vars[{name!r}] = {value}; bind_loop(F.vars, {i}, {n})")
        self._loop_object(loop)
        place = self.note_fields(value, name)
        self.depth -= 1
        self._suite(node.body)
        self.depth += 1
        self.write_fields(value, place)
        self.depth -= 1

    def _loop_object(self, loop: dict[str, str]) -> None:
        if "object" in loop:
            self.line(f"{loop['object']} = loop_object({loop['object']}, {loop['i']}, {loop['n']})")

    def _rows(self, node: nodes.For, arr: str, loop: dict[str, str], counter: bool, framed: bool, bound: bool) -> None:
        names = loop_names(node)
        values = [self.fresh("v") for _ in names]
        for name, value in zip(names, values, strict=True):
            self.scopes[-1][name] = value
        if node.other is not None:
            self.function.unset.extend(values)
        i, n, is_object = loop["i"], loop["n"], self.fresh("v")
        each = node.kind != "for"
        self.line(f"if truth({arr}){' or True' if each else ''}:")
        self.depth += 1
        method = "async_rows" if each else "rows"
        rows = self.fresh("v")
        self.line(f"{rows}, {n}, {is_object} = rt.{method}({arr}, {len(names)}, {each})")
        self.line(f"rt.work({n} * {self.survey.weight(node.body)})")
        targets = f"({', '.join(values)},)" if len(values) > 1 or each else values[0]
        row = self.fresh("v")
        self.line(f"for {i}, {row} in enumerate({rows}):")
        self.depth += 1
        self.line(f"{targets} = {row}" + (f"[:{len(values)}]" if not each else ""))
        if bound:
            # Names taken from lists are known at compile time only.
            assign = "; ".join(f"F.vars[{name!r}] = {value}" for name, value in zip(names, values, strict=True))
            self.line(f"if {is_object} or {each}: {assign}")
            self.line(
                "rt.change()" if "loop" in self.function.part.assigned | self.function.part.compile_time else "pass"
            )
            self.line(f"bind_loop(F.vars, {i}, {n})")
        self._loop_object(loop)
        places = [(value, self.note_fields(value, name)) for name, value in zip(names, values, strict=True)]
        self.depth -= 1
        self._suite(node.body)
        self.depth += 1
        for value, place in reversed(places):
            self.write_fields(value, place)
        self.depth -= 2
