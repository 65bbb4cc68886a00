"""Lines of Python code being written, with what is known at each point. The base of the code generator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unjucks_engine.errors import TemplateSyntaxError
from unjucks_engine.scopes import Part, Survey

if TYPE_CHECKING:
    from unjucks_engine.environment import Environment
    from unjucks_engine.lexer import Lexer

#: (Python text, what is known of its value: ``str``, ``int``, ``bool``, ``made`` or ``any``)
Code = tuple[str, str]

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


class Writer:
    """The code of one template, line by line."""

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
        self.says_caller = "caller" in lexer.source
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

    def compile_time(self, name: str) -> str | None:
        """The Python name of a compile-time name."""
        for scope in reversed(self.scopes):
            found = scope.get(name)
            if found is not None:
                return found
        return None

    def constant(self, value: Any) -> str:
        """A name of the module for a value that has no Python text."""
        name = f"K{len(self.constants)}"
        self.constants[name] = value
        return name


def _in_format(text: str) -> str:
    """Text as it stands in an f-string between single quotes."""
    # With a double quote in it, the text is always shown between single ones.
    return repr('"' + text)[2:-1].replace("{", "{{").replace("}", "}}")


#: Fields that may change while a value is used, or that some values refuse.
_NO_FIELDS = frozenset(("length", "lastIndex", "arguments", "caller", "callee"))
