"""Python code for statements. Mixed into the code generator, which holds the names and the output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unjucks_engine import nodes
from unjucks_engine.errors import LimitExceeded
from unjucks_engine.expressions import inlined, plain_name
from unjucks_engine.scopes import COUNTER, FRAME, WHOLE, Survey, import_names, loop_names

if TYPE_CHECKING:
    from unjucks_engine.codegen import Function, Level

#: CPython allows 20 loops inside each other in one function.
_MAX_LOOPS = 16


class Statements:
    """Code for statements."""

    if TYPE_CHECKING:
        from unjucks_engine.environment import Environment

        env: Environment
        name: str | None
        survey: Survey
        function: Function
        levels: list[Level]
        scopes: list[dict[str, str]]
        depth: int
        pos: int
        pending: list[tuple[str, str, int]]
        known: dict[str, str]
        kept: dict[str, str]
        exports: set[str]
        steady: bool
        reuse: bool
        certain: bool
        changes: int
        has_extends: bool

        def line(self, text: str) -> None: ...
        def put(self, code: str, kind: str = "str", count: int = 1) -> None: ...
        def taken(self) -> str: ...
        def computed(self, name: str, code: str) -> None: ...
        def then(self, code: str) -> None: ...
        def flush(self) -> None: ...
        def temp(self) -> str: ...
        def forget(self) -> None: ...
        def fresh(self, prefix: str) -> str: ...
        def note_fields(self, value: str, name: str) -> int: ...
        def write_fields(self, value: str, mark: int) -> None: ...
        def compile_time(self, name: str) -> str | None: ...
        def expression(self, node: Any, lenient: bool = False) -> tuple[str, str]: ...
        def condition(self, node: Any) -> str: ...
        def call_name(self, node: nodes.FunCall) -> str: ...
        def _filter(self, node: nodes.Filter, shown: bool = False) -> tuple[str, str]: ...
        def nested(self, node: nodes.MacroNode, is_caller: bool) -> str: ...

    def body(self, node: Any) -> None:
        """The statements of a list of nodes."""
        for item in node.items:
            self.pos = item.pos
            handler = _HANDLERS[type(item)]
            handler(self, item)

    def _suite(self, node: Any) -> None:
        """An indented body."""
        self.depth += 1
        start = self._mark()
        if node is not None:
            if isinstance(node, nodes.Nodes):
                self.body(node)
            else:
                _HANDLERS[type(node)](self, node)
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
        return len(self.code)  # type: ignore[attr-defined]

    # -- text and output ---------------------------------------------------------------------------------------------

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
            callee, found = self.temp(), f"{owner}.get({key!r})"
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
            self.code.insert(mark, " " * self.depth + " = ".join(counters) + " = U")  # type: ignore[attr-defined]
            self.lines.insert(mark, self.pos)  # type: ignore[attr-defined]
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

    # -- loops -------------------------------------------------------------------------------------------------------

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
        self.levels.append(_level(slots if local else {}, loop))
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


def _level(slots: dict[str, str], loop: dict[str, str]) -> Level:
    from unjucks_engine.codegen import Level

    return Level(slots, loop)


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
