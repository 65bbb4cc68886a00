"""Writes the Python module of a template: one function for the file and one per block.

Two ways to hold variables. *local*: Python locals, when nothing else can see the run-time frame and the frames the part is called
with are empty (checked on entry; else the part is compiled again in the other way). *frames*: Nunjucks' chain of run-time frames
as it is, for includes, blocks, parents, imports with context and call blocks. Both must print the same.
Called by ``environment``; expressions are in ``expressions``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unjucks_engine import nodes
from unjucks_engine.errors import TemplateSyntaxError
from unjucks_engine.scopes import Survey, calls, reads
from unjucks_engine.statement_code import Statements
from unjucks_engine.writing import Code, Function, Level

if TYPE_CHECKING:
    pass


class Generator(Statements):
    """The code of one template."""

    # -- names -------------------------------------------------------------------------------------------------------

    def variable(self, name: str) -> str:
        found = self.compile_time(name)
        if found is not None:
            return found
        function = self.function
        if function.local:
            if name == "loop":
                for level in reversed(self.levels):
                    if level.loop is not None and "object" in level.loop:
                        return f"(C.get('loop', U) if {level.loop['object']} is U else {level.loop['object']})"
            code = f"(C[{name!r}] if {name!r} in C else U)"
            for level in self.levels:
                slot = level.slots.get(name)
                if slot is not None:
                    code = f"({code} if {slot} is U else {slot})"
            return self.again(code)
        if name in function.part.defined or name == "loop" or name == "caller":
            return f"lookup(F, C, {name!r})"
        if function.kind == "macro" and not function.part.has_caller:
            return f"C.get({name!r}, U)"
        return f"(C.get({name!r}, U) if B else lookup(F, C, {name!r}))"

    def step(self, node: Any, op: str) -> str:
        found = None
        if isinstance(node, nodes.Symbol):
            found = self.compile_time(node.value)
            if self.function.kind == "caller":
                found = next(
                    (scope[node.value] for scope in self.scopes[self.function.scope_base :] if node.value in scope),
                    None,
                )
        self.forget()
        if found is None:
            return f"no_target({self._tree(node)[0]})"
        return f"({found} := {'number_sum' if op == '++' else 'subtract'}(rt, {found}, 1))"

    def loop_field(self, name: str) -> Code | None:
        if self.compile_time("loop") is not None or "loop" in self.function.part.assigned:
            return None
        if not self.levels:
            return None
        level = self.levels[-1]
        if level.loop is None or level.loop.get("off"):
            return None
        i, n = level.loop["i"], level.loop["n"]
        return {
            "index": (f"({i} + 1)", "int"),
            "index0": (i, "int"),
            "revindex": (f"({n} - {i})", "any"),
            "revindex0": (f"({n} - {i} - 1)", "any"),
            "first": (f"({i} == 0)", "bool"),
            "last": (f"({i} == {n} - 1)", "bool"),
            "length": (n, "any"),
        }[name]

    # -- parts -------------------------------------------------------------------------------------------------------

    def module(self, root: nodes.Nodes, has_blocks: bool = True) -> str:
        """The whole module: ``root`` and one function per block."""
        self.survey = Survey(root)
        blocks = [] if not has_blocks else [node for node in nodes.walk(root) if isinstance(node, nodes.Block)]
        seen: set[str] = set()
        for block in blocks:
            if block.name.value in seen:
                raise TemplateSyntaxError(
                    f'Block "{block.name.value}" has already been defined.', self.name or "", prefix="Error: "
                )
            seen.add(block.name.value)
        self.part("root", "root", root, None)
        for number, block in enumerate(blocks):
            self.part(f"b{number}", "block", block.body, block)
        self.depth = 0
        self.line("BLOCKS = {" + ", ".join(f"{b.name.value!r}: b{n}" for n, b in enumerate(blocks)) + "}")
        return "\n".join(self.code) + "\n"

    def part(self, python_name: str, kind: str, body: Any, block: nodes.Block | None) -> None:
        """The function of the file, or of a block."""
        part = self.survey.part_of(body)
        if kind == "root":
            self.has_extends = part.extends
        local = part.local and not self.frames_only
        if kind == "root":
            self._root_part = part
        outer = self.function = Function(part, local, kind)
        slots = {name: self.fresh("s") for name in sorted(self.survey.level_names(body))} if local else {}
        self.levels = [Level(slots)]
        self.scopes = [{}]
        self.known = {}
        self.depth = 0
        self.line(f"def {python_name}(rt, X, F, {'q' if kind == 'root' and part.extends else 'o'}):")
        self.depth = 1
        if local:
            self.used_slow = True
            self.line(f"if not F.bare(): return slow({python_name!r})(rt, X, F, o)")
        self.line(f"rt.work({self.survey.weight(body)})")
        self.line("C = X.vars")
        if not local:
            self.line("B = F.bare()")
            if kind == "block":
                self.line("F = Frame(F, True)")
        if kind == "root" and part.extends:
            self.line("P = None; o = []")
        mark = len(self.code)
        if block is not None and block.parent is not None:
            name = self.fresh("v")
            self.line(f"{name} = rt.super_block({block.name.value!r}, BLOCK[{block.name.value!r}], X, F)")
            self.scopes[-1][block.parent] = name
        self.body(body)
        if kind == "root" and part.extends:
            self.line("if P is None: q += o")
            self.line("else: rt.parent_root(P, X, F, q)")
        elif self.pending:
            self.flush()
        self.function = outer
        if outer.counts:
            self.line("rt.written(z)")
        self._start(mark, [*outer.unset, *slots.values()])

    def _start(self, mark: int, names: list[str]) -> None:
        """Inserts the first values of names at the start of a function whose body begins at ``mark``."""
        if self.pending:
            self.flush()
        if self.function.writes and self.function.kind in ("macro", "caller"):
            self.code.insert(mark, " " * self.depth + "o = []")
            self.lines.insert(mark, self.pos)
        if self.function.counts:
            self.code.insert(mark, " " * self.depth + "z = 0")
            self.lines.insert(mark, self.pos)
        if names:
            self.code.insert(mark, " " * self.depth + " = ".join(names) + " = U")
            self.lines.insert(mark, self.pos)

    def nested(self, node: nodes.MacroNode, is_caller: bool) -> str:
        """Writes the function of a macro or caller; returns the Python name of the ``Macro``."""
        outer, levels, scopes, depth = self.function, self.levels, self.scopes, self.depth
        known, self.known, certain, self.certain = self.known, {}, self.certain, True
        if self.pending:
            self.flush()
        positional, keywords = self.checked_parameters(node)
        python_name = self.fresh("m")
        function = Function(outer.part, outer.local, "caller" if is_caller else "macro")
        args = [self.fresh("a") for _ in positional]
        given = {name: self.fresh("k") for name, _ in keywords}
        signature = [*(f"{arg}=U" for arg in args), *(f"{arg}=NG" for arg in given.values()), "kc=NG"]
        self.line(f"def {python_name}({', '.join(signature)}):")
        self.function = function
        self.scopes = [*scopes, {}] if is_caller else [{}]
        function.scope_base = len(self.scopes) - 1
        self.depth = depth + 1
        steps = 8 + self.survey.weight(node.body)
        leaf = not calls(node)
        if leaf:
            # Nothing can nest below it.
            self.line(f"if (L := rt.left - {steps}) < rt.check_at: rt.work({steps})")
            self.line("else: rt.left = L")
        else:
            self.line(f"rt.descend({steps})")
        shared = not outer.local and outer.part.has_caller
        if shared:
            self.line("nonlocal F")
            self.line(f"G = F; F = Frame({'F, True' if is_caller else ''})")
        elif not outer.local:
            self.line("F = Frame()")
        mark = len(self.code)
        for (name, _), arg in zip(positional, args, strict=True):
            self.scopes[-1][name] = arg
        if outer.local:
            slots = {name: self.fresh("s") for name in sorted(self.survey.level_names(node.body))}
            self.levels = [Level(slots)]
            self._local_keywords(slots, keywords, given, self.says_caller and reads(node, "caller"))
        else:
            slots = {}
            self.levels = [Level({})]
            self._frame_keywords(positional, args, keywords, given)
        marks = [(arg, self.note_fields(arg, name)) for (name, _), arg in zip(positional, args, strict=True)]
        self.body(node.body)
        for arg, place in reversed(marks):
            self.write_fields(arg, place)
        if shared:
            self.then("F = G")
        if function.writes:
            if self.pending:
                self.flush()
            text = "rt.joined(o)"
        else:
            text = "p"
            self.then(f"if len(p := {self.taken() if self.pending else repr('')}) > 256: rt.string(len(p))")
        if not leaf:
            self.line("rt.depth -= 1")
        self.line(f"return {text}")
        self._start(mark, [*function.unset, *slots.values()])
        if function.outside:
            self.code.insert(mark, " " * self.depth + f"nonlocal {', '.join(sorted(function.outside))}")
            self.lines.insert(mark, self.pos)
        self.function, self.levels, self.scopes, self.depth = outer, levels, scopes, depth
        self.known, self.certain = known, certain
        label = "caller" if is_caller else node.name.value
        names = f"{tuple(name for name, _ in positional)!r}, {tuple(name for name, _ in keywords)!r}"
        result = self.fresh("m")
        self.line(f"{result} = Macro({label!r}, {names}, {python_name})")
        return result

    def _local_keywords(
        self, slots: dict[str, str], keywords: list[tuple[str, Any]], given: dict[str, str], reads_caller: bool
    ) -> None:
        if reads_caller:
            slots["caller"] = self.fresh("s")
            self.line(f"{slots['caller']} = U if kc is NG else kc")
        for name, default in keywords:
            self.certain = False
            code = self.expression(default)[0]
            self.certain = True
            slot = slots.setdefault(name, self.fresh("s"))
            self.line(f"{slot} = {code} if {given[name]} is NG else {given[name]}")

    def _frame_keywords(
        self, positional: list[Any], args: list[str], keywords: list[tuple[str, Any]], given: dict[str, str]
    ) -> None:
        self.line("V = F.vars")
        self.line("if kc is not NG: V['caller'] = kc")
        for (name, _), arg in zip(positional, args, strict=True):
            self.line(f"V[{name!r}] = {arg}")
        for name, default in keywords:
            code = self.expression(default)[0]
            self.line(f"V[{name!r}] = {code} if {given[name]} is NG else {given[name]}")

    def checked_parameters(self, node: nodes.MacroNode) -> tuple[list[tuple[str, Any]], list[tuple[str, Any]]]:
        """The parameters of a macro, which must be names."""
        from unjucks_engine.scopes import parameters

        positional, keywords = parameters(node)
        for _, item in positional:
            if not isinstance(item, nodes.Symbol):
                raise self.fail_at(
                    f"assertType: invalid type: {_TYPE_NAMES.get(type(item).__name__, type(item).__name__)}", item.pos
                )
        for name, item in keywords:
            if not name:
                raise self.fail_at("the name of a parameter must be a word", getattr(item, "pos", node.pos))
        return positional, keywords


_TYPE_NAMES = {"Value": "Literal", "Unary": "Neg", "Binary": "Add"}
