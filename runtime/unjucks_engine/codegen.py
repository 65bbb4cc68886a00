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
from unjucks_engine.expressions import Code, Expressions, plain_name
from unjucks_engine.scopes import Part, Survey, calls, loop_names, reads
from unjucks_engine.statement_code import Statements

if TYPE_CHECKING:
    from unjucks_engine.environment import Environment
    from unjucks_engine.lexer import Lexer


#: How many texts of unknown size are put together before the sum of their sizes is looked at.
_MOST_PIECES = 6


class Function:
    """A Python function being written."""

    def __init__(self, part: Part, local: bool, kind: str) -> None:
        self.part = part
        self.local = local
        #: ``root``, ``block``, ``macro`` or ``caller``.
        self.kind = kind
        self.temps = 0
        #: Python names that must exist from the start.
        self.unset: list[str] = []
        self.out = "o"
        #: Whether it has a buffer of its own, or reaches the one it was given.
        self.writes = False
        #: Whether ``z`` counts the characters that it has written.
        self.counts = False
        #: For callers: the number of compile-time scopes around, and the names in them that the body changes.
        self.scope_base = 0
        self.outside: set[str] = set()


class Level:
    """A run-time frame level of a function: the loop it belongs to and its variables."""

    def __init__(self, slots: dict[str, str], loop: dict[str, str] | None = None) -> None:
        self.slots = slots
        #: Python names of the counters (``i``, ``n``, and ``object`` if there is one), or None outside loops.
        self.loop = loop


class Generator(Statements, Expressions):
    """The code of one template."""

    def __init__(self, env: Environment, name: str | None, lexer: Lexer, frames: bool) -> None:
        self.env = env
        self.name = name
        self.lexer = lexer
        self.frames_only = frames
        self.strict_use = env.undefined == "ErrorOnUse"
        self.constants: dict[str, Any] = {}
        self.code: list[str] = []
        #: Position in the source for each line of code.
        self.lines: list[int] = []
        self.depth = 0
        self.pos = 0
        self.names = 0
        self.function: Function
        self.survey: Survey
        self.levels: list[Level] = []
        #: Compile-time names, innermost scope last.
        self.scopes: list[dict[str, str]] = []
        #: Pieces of text that wait to be written together: text or the name of a local variable, which of them, and
        #: how many texts of any size it may hold.
        self.pending: list[tuple[str, str, int]] = []
        self.used_slow = False
        #: Code of what was read already in this stretch -> the local variable that holds it, and whether the code that is being
        #: written is certain to run (only then are its local variables noted).
        self.known: dict[str, str] = {}
        self.kept: dict[str, str] = {}
        self.certain = True
        self.changes = 0
        # Where objects can have a `toString` of their own, printing one may run anything.
        self.reuse = "toString" not in lexer.source
        #: Value -> (the object that stands for it where fields are read, the fields that are read).
        self.fields: dict[str, tuple[str, list[str]]] = {}
        #: Local variables that hold what a file exports.
        self.exports: set[str] = set()
        # Two signs before a name change it.
        self.steady = "++" not in lexer.source and "--" not in lexer.source

    # -- writing -----------------------------------------------------------------------------------------------------

    def line(self, text: str) -> None:
        """One line of code at the current depth."""
        if self.pending:
            self.flush()
        self.code.append(" " * self.depth + text)
        self.lines.append(self.pos)

    def put(self, code: str, kind: str = "str", count: int = 1) -> None:
        """Writes a piece of text, later together with its neighbours. ``kind``: ``data`` (the text itself), ``str``,
        ``int``, ``any`` (one of both), ``made`` (a new text). ``count`` texts of any size may be in it.
        """
        if kind == "data":
            pending = self.pending
            if pending and pending[-1][1] == "data":
                pending[-1] = (pending[-1][0] + code, "data", 0)
            else:
                pending.append((code, "data", 0))
            return
        if kind == "int":
            count = 0
        if count + sum([other for _, _, other in self.pending]) > _MOST_PIECES:
            self.flush()
        self.pending.append((code, kind, count))

    def computed(self, name: str, code: str) -> None:
        """``name = code`` before a piece is put."""
        self.then(f"{name} = {code}")

    def then(self, text: str) -> None:
        """A line of code that is no output; what is waiting to be written goes on waiting."""
        self.code.append(" " * self.depth + text)
        self.lines.append(self.pos)

    def taken(self) -> str:
        """Code for the pieces of text that are waiting, which are put together."""
        pending, self.pending = self.pending, []
        if len(pending) == 1 and pending[0][1] in ("data", "str"):
            code, kind, _ = pending[0]
            return repr(code) if kind == "data" else code
        text = "".join([_in_format(code) if kind == "data" else f"{{{code}}}" for code, kind, _ in pending])
        return f"f'{text}'"

    def flush(self) -> None:
        """Writes the pieces of text that are waiting, as one text."""
        function = self.function
        function.writes = True
        text = self.taken()
        if text[0] != "f":
            self.line(f"{function.out}.append({text})")
            return
        function.counts = True
        self.line(f"{function.out}.append(p := {text})")
        method = "written" if function.out == "o" and function.kind in ("root", "block") else "gathered"
        self.line(f"if (z := z + len(p)) > 65536: z = rt.{method}(z)")

    def temp(self) -> str:
        self.function.temps += 1
        return f"t{self.function.temps}"

    def fresh(self, prefix: str) -> str:
        """A new Python name."""
        self.names += 1
        return f"{prefix}{self.names}"

    def fail_at(self, message: str, pos: int) -> TemplateSyntaxError:
        line, column = self.lexer.place(pos)
        return TemplateSyntaxError(message, self.name or "", line + 1, column + 1)

    # -- values that were read before ---------------------------------------------------------------------------------

    def again(self, code: str, key: str = "") -> str:
        if not self.reuse or not self.function.local:
            return code
        found = self.known.get(key or code)
        if found is not None:
            return found
        if not self.certain:
            return code
        name = self.known[key or code] = self.temp()
        code = f"({name} := {code})"
        self.kept[code] = name
        return code

    def forget(self) -> None:
        self.known.clear()
        self.changes += 1

    # -- fields ------------------------------------------------------------------------------------------------------

    def fields_of(self, code: str, name: str) -> str:
        if name in _NO_FIELDS:
            return ""
        found = self.fields.get(code)
        if found is None:
            return ""
        variable, keys = found
        if name not in keys:
            keys.append(name)
        return variable

    def note_fields(self, value: str, name: str) -> int:
        """From here on ``name``, which nothing changes, is in ``value``. Returns the place for ``write_fields``, or -1."""
        part = self.function.part
        if name in part.assigned or not self.steady or value in self.fields:
            return -1
        self.fields[value] = (self.fresh("d"), [])
        return len(self.code)

    def write_fields(self, value: str, mark: int) -> None:
        """Behind the code that looks for fields of a value: makes an object of it where it began, if any were looked for."""
        if mark < 0:
            return
        variable, keys = self.fields.pop(value)
        if keys:
            code = (
                f"{variable} = {value} if type({value}) is dict else fields(rt, {value}, {self.constant(tuple(keys))})"
            )
            self.code.insert(mark, " " * self.depth + code)
            self.lines.insert(mark, self.lines[mark] if mark < len(self.lines) else self.pos)

    # -- names -------------------------------------------------------------------------------------------------------

    def compile_time(self, name: str) -> str | None:
        """The Python name of a compile-time name."""
        for scope in reversed(self.scopes):
            found = scope.get(name)
            if found is not None:
                return found
        return None

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
            self._local_keywords(slots, keywords, given, "caller" in self.lexer.source and reads(node, "caller"))
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


def _in_format(text: str) -> str:
    """Text as it stands in an f-string between single quotes."""
    # With a double quote in it, the text is always shown between single ones.
    return repr('"' + text)[2:-1].replace("{", "{{").replace("}", "}}")


#: Fields that may change while a value is used, or that some values refuse.
_NO_FIELDS = frozenset(("length", "lastIndex", "arguments", "caller", "callee"))
_TYPE_NAMES = {"Value": "Literal", "Unary": "Neg", "Binary": "Add"}

__all__ = ["Generator", "loop_names", "plain_name"]
