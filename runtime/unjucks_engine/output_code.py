"""Python code for text, outputs and conditions around them. Mixed into the code generator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unjucks_engine import nodes
from unjucks_engine.call_code import inlined
from unjucks_engine.expressions import Expressions
from unjucks_engine.spelling import plain_name


class Outputs(Expressions):
    """Code for outputs; the statements' half writes bodies."""

    if TYPE_CHECKING:

        def body(self, node: Any) -> None: ...
        def _statement(self, node: Any) -> None: ...

    def _suite(self, node: Any) -> None:
        """An indented body."""
        self.depth += 1
        start = self._mark()
        if node is not None:
            if isinstance(node, nodes.Nodes):
                self.body(node)
            else:
                self._statement(node)
        if self.pending:
            self.flush()
        if self._mark() == start:
            self.line("pass")
        self.depth -= 1

    def _branch(self, node: Any, text: str = "") -> None:
        """A suite that may not run: what it reads is not known behind it. ``text`` is the variable for what it prints."""
        known, changes = self.known, self.changes
        self.known = dict(known)
        if text:
            pending, self.pending = self.pending, []
            self.depth += 1
            if node is not None:
                self.body(node)
            self.then(f"{text} = {self.taken() if self.pending else repr('')}")
            self.depth -= 1
            self.pending = pending
        else:
            self._suite(node)
        self.known = known if changes == self.changes else {}

    def _mark(self) -> int:
        return len(self.code)

    def _output(self, node: nodes.Output) -> None:
        for item in node.items:
            self.pos = item.pos if not isinstance(item, nodes.Data) else node.pos
            if isinstance(item, nodes.Data):
                if item.value:
                    self.put(item.value, "data")
                continue
            self._print(item, node.pos)

    def _print(self, item: Any, pos: int) -> None:
        """Puts the text of an output, in steps: as ``_shown``, which is one expression."""
        if type(item) is nodes.FunCall and not self.env.throw_on_undefined and self.env.undefined == "Empty":
            code = self._macro_text(item)
            if code:
                self.put(code)
                return
        if (
            not (self.env.autoescape or self.env.throw_on_undefined)
            and self.env.undefined == "Empty"
            and inlined(self.env, item)
        ):
            code, kind = self._filter(item, shown=True)
        else:
            code, kind = self.expression(item)
        if kind == "int":
            name = code if code.isidentifier() else self.temp()
            if name != code:
                self.pos = item.pos
                self.computed(name, code)
            self.put(name, "int")
            return
        shown = "str"
        self.pos = item.pos
        held = code if code.isidentifier() else self.kept.get(code, "")
        if held and kind == "any" and (before := self.known.get(f"shown {held}")) is not None:
            # Nothing has changed since it was printed.
            self.put(before, "any")
            return
        name = self.temp()
        if kind == "made":
            self.computed(name, code)
            shown = "any"
        elif self.env.throw_on_undefined or (self.env.undefined != "Empty" and kind == "any"):
            self.computed(name, self._checked(code, kind, item, pos))
        elif kind == "str":
            self.computed(name, f"emit(rt, {code})" if self.env.autoescape else code)
        else:
            self.computed(name, code)
            if self.env.autoescape:
                test = f"(T := type({name})) is not int and (T is not str or not {name}.isalnum())"
                shown = "any"
            elif type(item) is nodes.FunCall:
                self.computed(
                    name, f"{name}.val if type({name}) is Safe else {name} if type({name}) is str else emit(rt, {name})"
                )
                test = ""
            else:
                test = f"type({name}) is not str and type({name}) is not int"
                shown = "any"
            if test:
                self.then(f"if {test}: {name} = emit(rt, {name})")
        self.put(name, shown)
        if held and kind == "any" and shown == "any" and self.certain and self.reuse and self.function.local:
            self.known[f"shown {held}"] = name

    def _macro_text(self, node: nodes.FunCall) -> str:
        """A call that is likely to be one of a macro with plain arguments: its text is put into a local variable, which is
        returned. '' for any other call."""
        target, items, kind = node.name, node.args.items, ""
        if not self.steady or (items and isinstance(items[-1], nodes.KeywordArgs)):
            return ""
        if type(target) is nodes.Symbol:
            callee = self.compile_time(target.value)
            if callee is None:
                return ""
            found, general = callee, f"rt.call_named({callee}, {self.call_name(node)!r}, "
        elif (
            type(target) is nodes.LookupVal
            and type(target.target) is nodes.Symbol
            and type(target.val) is nodes.Literal
        ):
            owner, key = self.compile_time(target.target.value), target.val.value
            if owner not in self.exports or type(key) is not str:
                return ""
            callee, found = self.temp(), f"{owner}.get({key!r}) if type({owner}) is dict else U"
            general = f"rt.call_member({owner}, {key!r}, {self.call_name(node)!r}, "
        else:
            return ""
        given = []
        for item in items:
            code, kind = self.expression(item)
            self.pos = node.pos
            kept = self.kept.get(code)
            if kept is not None:
                self.then(code[1:-1].replace(" := ", " = ", 1))
                code = kept
            elif not code.isidentifier() and type(item) is not nodes.Literal:
                name = self.temp()
                self.computed(name, code)
                code = name
            given.append(code)
        if callee is not found:
            self.computed(callee, found)
        test = f"type({callee}) is Macro and {callee}.most >= {len(given)}"
        if given and kind == "any":
            test += f" and type({given[-1]}) is not Kwargs"
        text = self.temp()
        self.then(f"if {test}: {text} = {callee}.fn({', '.join(given)})")
        self.then(f"else: {text} = emit(rt, {general}[{', '.join(given)}]))")
        self.forget()
        return text

    def _shown(self, item: Any, pos: int) -> str:
        """Code for the text of an output."""
        code, kind = self.expression(item)
        self.pos = item.pos
        if self.env.throw_on_undefined or (self.env.undefined != "Empty" and kind == "any"):
            return self._checked(code, kind, item, pos)
        if kind == "str" and not self.env.autoescape:
            return code
        if kind == "int":
            return f"str({code})"
        if self.env.autoescape:
            return f"emit(rt, {code})"
        name = self.temp()
        if type(item) is nodes.FunCall:
            return f"({name}.val if type({name} := {code}) is Safe else {name} if type({name}) is str else emit(rt, {name}))"
        return f"({name} if type({name} := {code}) is str else emit(rt, {name}))"

    def _checked(self, code: str, kind: str, item: Any, pos: int) -> str:
        """Code for the text of an output that must not be undefined."""
        if self.env.throw_on_undefined:
            self.pos = pos
            return f"emit(rt, defined({code}))"
        return f"emit(rt, printable({code}, {plain_name(item)!r}))"

    def capture(self, node: nodes.Capture) -> str:
        """A body written into a buffer of its own; returns code for its text."""
        outer = self.function.out
        if self.pending:
            self.flush()
        buffer = self.fresh("o")
        self.line(f"{buffer} = []")
        self.function.out = buffer
        unset = len(self.function.unset)
        mark = self._mark()
        self.body(node.body)
        if self.pending:
            self.flush()
        # A capture starts anew each time: the counters of its loops too.
        counters = [name for name in self.function.unset[unset:] if name[0] == "n"]
        if counters:
            self.code.insert(mark, " " * self.depth + " = ".join(counters) + " = U")
            self.lines.insert(mark, self.pos)
        self.function.out = outer
        return f"rt.joined({buffer})"

    # -- conditions --------------------------------------------------------------------------------------------------

    def _piece(self, node: Any) -> tuple[str, bool] | None:
        """(code of one piece of text, whether it is constant) for a body that is only text, or only one output."""
        items = [] if node is None else node.items if type(node) is nodes.Nodes else [node]
        if all(type(item) is nodes.Output and all(type(part) is nodes.Data for part in item.items) for item in items):
            return repr("".join(part.value for item in items for part in item.items)), True
        if len(items) == 1 and type(items[0]) is nodes.If:
            return self._inline_if(items[0])
        if len(items) != 1 or type(items[0]) is not nodes.Output or len(items[0].items) != 1:
            return None
        part = items[0].items[0]
        if isinstance(part, nodes.FunCall | nodes.Capture) and not isinstance(part, nodes.Filter):
            return None
        if isinstance(part, nodes.Filter) and isinstance(part.args.items[0], nodes.Capture):
            return None
        self.pos = part.pos
        return self._shown(part, items[0].pos), False

    def _inline_if(self, node: nodes.If) -> tuple[str, bool] | None:
        """An ``if`` whose branches are single pieces of text, as one expression."""
        known = dict(self.known)
        cond = self.condition(node.cond)
        certain, self.certain = self.certain, False
        body = self._piece(node.body)
        other = self._piece(node.other) if body is not None else None
        self.certain = certain
        if body is None or other is None or len(body[0]) + len(other[0]) > 2000:
            self.known = known  # the condition is written again
            return None
        return f"({body[0]} if {cond} else {other[0]})", False

    def _if(self, node: nodes.If) -> None:
        piece = self._inline_if(node)
        if piece is not None:
            self.pos = node.pos
            name = self.temp()
            self.computed(name, piece[0])
            self.put(name)
            return
        count = _text_pieces(node)
        name = self.temp() if 0 < count <= 4 else ""
        if not name and self.pending:
            self.flush()
        word = "if"
        current: Any = node
        known, changes = self.known, self.changes
        while True:
            self.pos = current.pos
            cond = self.condition(current.cond)
            self.then(f"{word} {cond}:")
            self._branch(current.body, name)
            if not isinstance(current.other, nodes.If):
                break
            current = current.other
            word = "elif"
            self.known = dict(self.known)
        if name or (current.other is not None and current.other.items):
            self.then("else:")
            self._branch(current.other, name)
        self.known = known if changes == self.changes else {}
        if name:
            self.put(name, "made", count)


def _text_pieces(node: Any) -> int:
    """How many outputs an ``if`` prints at most whose branches are text and outputs only; 0 if there is anything else."""
    most = 0
    while node is not None:
        branch, node = (node.body, node.other) if isinstance(node, nodes.If) else (node, None)
        count = 0
        for item in branch.items:
            if type(item) is nodes.If:
                found = _text_pieces(item)
            elif type(item) is nodes.Output:
                found = sum(type(part) is not nodes.Data for part in item.items)
                if any(
                    type(part) is nodes.Capture or type(part) is nodes.FunCall or _captures(part) for part in item.items
                ):
                    return 0
            else:
                return 0
            if not found and type(item) is nodes.If:
                return 0
            count += found
        most = max(most, count)
    return most


def _captures(node: Any) -> bool:
    return type(node) is nodes.Filter and any(type(item) is nodes.Capture for item in node.args.items)
