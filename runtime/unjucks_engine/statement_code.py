"""Python code for statements. Mixed into the code generator, which holds the names and the output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unjucks_engine import nodes
from unjucks_engine.loop_code import Loops
from unjucks_engine.scopes import import_names


class Statements(Loops):
    """Code for statements."""

    if TYPE_CHECKING:
        has_extends: bool

        def nested(self, node: nodes.MacroNode, is_caller: bool) -> str: ...

    def body(self, node: Any) -> None:
        """The statements of a list of nodes."""
        for item in node.items:
            self.pos = item.pos
            handler = _HANDLERS[type(item)]
            handler(self, item)

    def _statement(self, node: Any) -> None:
        """One statement."""
        _HANDLERS[type(node)](self, node)

    def _switch(self, node: nodes.Switch) -> None:
        subject = self.fresh("v")
        found = self.fresh("v")
        self.line(f"{subject} = {self.expression(node.expr)[0]}")
        certain, self.certain = self.certain, False
        # The cases are compared in order; the first equal one and, while bodies have no node, the next ones run.
        self.line(f"{found} = -1")
        for number, (cond, _) in enumerate(node.cases):
            depth = self.depth
            self.line(f"if {found} < 0:")
            self.depth += 1
            self.line(f"if strict_equal({subject}, {self.expression(cond)[0]}): {found} = {number}")
            self.depth = depth
        self.certain = certain
        total = len(node.cases)
        word = "if"
        first = 0
        for number, (_, body) in enumerate(node.cases):
            if body.items:
                self.line(f"{word} {first} <= {found} <= {number}:")
                self._branch(body)
                word = "elif"
                first = number + 1
        if node.default is not None:
            self.line(f"{word} {found} < 0 or {found} >= {first}:" if first < total else f"{word} {found} < 0:")
            self._branch(node.default)

    # -- variables ---------------------------------------------------------------------------------------------------

    def _set(self, node: nodes.Set) -> None:
        code = self.capture(node.body) if node.value is None else self.expression(node.value)[0]
        value = self.fresh("v")
        names = dict.fromkeys(target.value for target in node.targets)
        known = [found for name in names if (found := self.compile_time(name)) is not None]
        if self.function.kind == "caller":
            own = set().union(*(scope.values() for scope in self.scopes[self.function.scope_base :]))
            self.function.outside |= set(known) - own
        self.line(" = ".join([value, *known, code]))
        self.forget()
        top = self.function.kind == "root" and len(self.levels) == 1
        for name in names:
            if self.function.local:
                self._set_slot(name, value)
            else:
                self.line(f"F.assign({name!r}, {value})")
            if top:
                self.line(f"C[{name!r}] = {value}")
                if not name.startswith("_"):
                    self.line(f"X.exported.append({name!r})")

    def _set_slot(self, name: str, value: str) -> None:
        slots = [level.slots[name] for level in reversed(self.levels) if name in level.slots]
        here = slots[0]
        code = f"{here} = {value}"
        if len(slots) == 1:
            self.line(code)
            return
        word = "if"
        for slot in slots:
            self.line(f"{word} {slot} is not U: {slot} = {value}")
            word = "elif"
        self.line(f"else: {code}")

    def _bind(self, name: str, value: str) -> None:
        """A macro or import: known at compile time from here, and at run time in the context or the frame."""
        self.scopes[-1][name] = value
        self.forget()
        self.function.unset.append(value)
        if len(self.levels) > 1 or self.function.kind == "caller":
            if self.function.local:
                self.line(f"{self.levels[-1].slots[name]} = {value}")
            else:
                self.line(f"F.vars[{name!r}] = {value}")
        else:
            self.line(f"C[{name!r}] = {value}")

    def _macro(self, node: nodes.MacroNode) -> None:
        name = node.name.value
        value = self.nested(node, False)
        if len(self.levels) == 1 and self.function.kind != "caller" and not name.startswith("_"):
            self.line(f"X.exported.append({name!r})")
        self._bind(name, value)

    def caller(self, node: nodes.Caller) -> str:
        """The function of a call block."""
        return self.nested(node, True)

    # -- files -------------------------------------------------------------------------------------------------------

    def _template(self, node: Any) -> str:
        return f"{self.expression(node.template)[0]}, {self.name!r}"

    def _include(self, node: nodes.Include) -> None:
        code = self._template(node)
        self.function.writes = True
        self.line(f"rt.include({code}, {node.missing}, X, F, {self.function.out})")

    def _extends(self, node: nodes.Extends) -> None:
        code = self._template(node)
        if self.function.kind != "root":
            self.line(f"rt.extends({code}, X)")
        else:
            self.line(f"P = rt.extends({code}, X)")

    def _block(self, node: nodes.Block) -> None:
        self.function.writes = True
        code = f"rt.block({node.name.value!r}, X, F, {self.function.out})"
        if self.has_extends and self.in_root:
            self.line(f"if P is None: {code}")
            self.line(f"else: {self.function.out}.append('undefined')")
        else:
            self.line(code)

    @property
    def in_root(self) -> bool:
        """Whether this code belongs to the file itself, not to a block."""
        return self.function.part is self.root_part

    @property
    def root_part(self) -> Any:
        """The part outside blocks."""
        return self._root_part  # type: ignore[attr-defined]

    def _exports(self, node: Any) -> str:
        context = "X, F" if node.context else "None, None"
        return f"rt.exports({self._template(node)}, {context})"

    def _import(self, node: nodes.Import) -> None:
        value = self.fresh("v")
        self.line(f"{value} = {self._exports(node)}")
        self._bind(node.target.value, value)
        if node.target.value not in self.function.part.assigned and self.steady:
            self.exports.add(value)

    def _from(self, node: nodes.FromImport) -> None:
        exports = self.fresh("v")
        self.line(f"{exports} = {self._exports(node)}")
        for name, alias in import_names(node):
            value = self.fresh("v")
            self.line(f"{value} = imported({exports}, {name!r})")
            self._bind(alias, value)


_HANDLERS: dict[type, Any] = {
    nodes.Output: Statements._output,
    nodes.Nodes: Statements.body,
    nodes.If: Statements._if,
    nodes.IfAsync: Statements._if,
    nodes.Switch: Statements._switch,
    nodes.Set: Statements._set,
    nodes.MacroNode: Statements._macro,
    nodes.Include: Statements._include,
    nodes.Extends: Statements._extends,
    nodes.Block: Statements._block,
    nodes.Import: Statements._import,
    nodes.FromImport: Statements._from,
    nodes.For: Statements._for,
}
