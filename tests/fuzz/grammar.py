"""Random templates with contexts, from a grammar of the language. Deterministic for a seed.

Leaves out what nobody has to reproduce: names that reach JavaScript's prototypes, source text of functions, randomness, endless
loops. Some templates are then damaged, so that error messages are compared too.
"""

# ruff: noqa: E501 - tables and template texts

from __future__ import annotations

import random
import re
from typing import Any

FILTERS = {
    "abs": (0, 0), "batch": (1, 2), "capitalize": (0, 0), "center": (0, 1), "default": (1, 2), "d": (1, 1), "dictsort": (0, 2),
    "dump": (0, 1), "escape": (0, 0), "e": (0, 0), "first": (0, 0), "float": (0, 1), "forceescape": (0, 0), "groupby": (1, 1),
    "indent": (0, 2), "int": (0, 2), "join": (0, 2), "last": (0, 0), "length": (0, 0), "list": (0, 0), "lower": (0, 0), "nl2br": (0, 0),
    "reject": (0, 2), "rejectattr": (1, 1), "replace": (2, 3), "reverse": (0, 0), "round": (0, 2), "safe": (0, 0), "select": (0, 2),
    "selectattr": (1, 1), "slice": (1, 2), "sort": (0, 3), "string": (0, 0), "striptags": (0, 1), "sum": (0, 2), "title": (0, 0),
    "trim": (0, 0), "truncate": (0, 3), "upper": (0, 0), "urlencode": (0, 0), "urlize": (0, 2), "wordcount": (0, 0), "nope": (0, 1),
}  # fmt: skip
TESTS = [
    "callable", "defined", "divisibleby(2)", "divisibleby(3)", "eq(1)", "equalto('a')", "escaped", "even", "falsy", "ge(2)", "gt(1)",
    "iterable", "le(2)", "lower", "lt(3)", "mapping", "ne(1)", "none", "null", "number", "odd", "sameas(x)", "string", "truthy",
    "undefined", "upper", "nope",
]  # fmt: skip
METHODS = {
    "charAt": 1, "concat": 1, "endsWith": 1, "includes": 1, "indexOf": 1, "lastIndexOf": 1, "padEnd": 2, "padStart": 2, "repeat": 1,
    "replace": 2, "slice": 2, "split": 1, "startsWith": 1, "substr": 2, "substring": 2, "toLowerCase": 0, "toUpperCase": 0, "trim": 0,
    "join": 1, "push": 1, "pop": 0, "shift": 0, "unshift": 1, "splice": 2, "sort": 0, "reverse": 0, "at": 1, "flat": 0, "toFixed": 1,
    "toString": 0, "toPrecision": 1, "hasOwnProperty": 1, "trimStart": 0, "trimEnd": 0, "fill": 1, "with": 2, "nope": 0,
}  # fmt: skip
NAMES = [
    "a",
    "b",
    "x",
    "y",
    "n",
    "s",
    "t",
    "items",
    "obj",
    "rows",
    "nul",
    "miss",
    "neg",
    "flt",
    "html",
    "deep",
    "empty",
    "uni",
]
TEXTS = ["text", " ", "\n", "  \n", "a b", "<b>", "&", "\t", "x\r\n", "é😀", "{", "}", "-", "", "'", '"', "#", "\\"]
STRINGS = [
    "",
    "a",
    "b",
    "abc",
    "Hello World",
    "10",
    "9",
    "1.5",
    " x ",
    "<i>",
    "a,b,c",
    "é",
    "😀x",
    "line\\nbreak",
    "x",
    "n",
    "-",
    "0",
    "k.z",
]
NUMBERS = ["0", "1", "2", "3", "7", "10", "255", "1.5", "0.1", "2.50", "100000", "007", "9007199254740993"]
BINARY = [
    "+",
    "-",
    "*",
    "/",
    "%",
    "//",
    "**",
    "~",
    "==",
    "!=",
    "===",
    "!==",
    "<",
    ">",
    "<=",
    ">=",
    "and",
    "or",
    "in",
    "not in",
]
OPTIONS: list[dict[str, Any]] = [
    {"autoescape": False},
    {"autoescape": True},
    {"autoescape": False, "trimBlocks": True, "lstripBlocks": True},
    {"autoescape": False, "trimBlocks": True},
    {"autoescape": False, "lstripBlocks": True},
    {"autoescape": False, "throwOnUndefined": True},
]
_TOKEN = re.compile(r"\{[%{#]-?|-?[%}#]\}|\w+|\s+|.", re.DOTALL)


class Grammar:
    """A source of random cases."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.macros: list[tuple[str, int]] = []
        self.blocks: list[str] = []
        self.counter = 0
        self.in_block = False

    def pick(self, options: Any) -> Any:
        """One of the options."""
        return options[int(self.random.random() * len(options))]

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.random.random() < probability

    # -- data --------------------------------------------------------------------------------------------------------

    def value(self, depth: int = 2) -> Any:
        """A JSON value."""
        kind = self.pick("snnbNfloos" if depth else "snnbNf")
        if kind == "s":
            return self.pick(
                [
                    "",
                    "a",
                    "abc",
                    "Hello World",
                    "10",
                    "9",
                    " pad ",
                    "<b>&'\"\\",
                    "x-y_z",
                    "é",
                    "😀 smile",
                    "line\nbreak",
                    "1.50",
                    "0",
                ]
            )
        if kind == "n":
            return self.pick([0, 1, 2, 3, 5, 10, 42, -1, -7, 100])
        if kind == "f":
            return self.pick([0.5, 1.5, -2.25, 3.0, 1e21, 1e-7, 0.1, 1234.5678, 2**53, -0.5])
        if kind == "b":
            return self.chance(0.5)
        if kind == "N":
            return None
        if kind == "l":
            return [self.value(depth - 1) for _ in range(self.pick([0, 1, 2, 3, 4]))]
        keys = self.random.sample(
            ["a", "b", "k", "z", "10", "9", "n", "x y", "length", "01", "-1"], self.pick([0, 1, 2, 3])
        )
        return {key: self.value(depth - 1) for key in keys}

    def context(self) -> dict[str, Any]:
        """A context: some names have fixed kinds, so that operations meet values they fit."""
        data: dict[str, Any] = {name: self.value() for name in self.random.sample(NAMES, 8)}
        data["s"] = self.pick(["abc", "Hello World", "a,b", "", " x ", "ÀB", "😀x"])
        data["n"] = self.pick([0, 1, 2, 3, 7, -4, 2.5])
        data["items"] = self.pick([[1, 2, 3], ["b", "a", "C"], [], [3, "x", None], [[1, 2], [3, 4]]])
        data["rows"] = [
            {"k": self.value(0), "n": index, "z": {"q": self.value(0)}} for index in range(self.pick([0, 1, 2, 3]))
        ]
        data["obj"] = {"k": self.value(1), "b": 2, "a": self.pick(["x", 1, None])}
        data["nul"] = None
        return data

    # -- expressions -------------------------------------------------------------------------------------------------

    def string(self) -> str:
        """A text literal."""
        mark = self.pick("'\"")
        return f"{mark}{self.pick(STRINGS)}{mark}"

    def atom(self) -> str:
        """A short operand."""
        kind = self.pick("vvvvvssnnltrdm")
        if kind == "v":
            return str(self.pick(NAMES))
        if kind == "s":
            return self.string()
        if kind == "n":
            return str(self.pick(NUMBERS))
        if kind == "t":
            return str(self.pick(["true", "false", "none", "null"]))
        if kind == "l":
            return "[" + ", ".join(self.expression(0) for _ in range(self.pick([0, 1, 2, 3]))) + "]"
        if kind == "d":
            keys = self.random.sample(["a", "b", "k", '"10"', "n"], self.pick([0, 1, 2]))
            return "{" + ", ".join(f"{key}: {self.expression(0)}" for key in keys) + " }"
        if kind == "m" and self.macros:
            return self.macro_call()
        return f"range({self.pick([0, 1, 2, 3, 4])})"

    def macro_call(self) -> str:
        """A call of a macro that exists."""
        name, count = self.pick(self.macros)
        args = [self.expression(1) for _ in range(self.pick([count, count, max(0, count - 1), count + 1]))]
        if self.chance(0.3):
            args.append(f"{self.pick(['p', 'q', 'r', 'kw'])}={self.expression(0)}")
        return f"{name}({', '.join(args)})"

    def filter(self) -> str:
        """A filter with arguments that often fit."""
        name = self.pick(list(FILTERS))
        low, high = FILTERS[name]
        count = self.random.randint(low, high)
        if name in ("batch", "slice"):
            args = [str(self.pick([1, 2, 3, 4]))] + ([self.atom()] if count > 1 else [])
        elif name in ("center", "indent", "truncate", "round", "dump") and count:
            args = [str(self.pick([0, 1, 2, 3, 5, 10]))] + [self.atom() for _ in range(count - 1)]
            if name == "round" and count > 1:
                args[1] = self.pick(["'ceil'", "'floor'", "'common'"])
        elif name in ("groupby", "selectattr", "rejectattr"):
            args = [self.pick(["'k'", "'n'", "'a'", "'z.q'", "'length'"])]
        elif name in ("select", "reject") and count:
            args = [self.pick(["'odd'", "'even'", "'truthy'", "'gt'", "'string'", "'defined'"])] + ["1"] * (count - 1)
        elif name == "sort" and self.chance(0.5):
            args = [f"{self.pick(['reverse', 'case_sensitive'])}=true"]
            if self.chance(0.4):
                args.append(f"attribute={self.pick(['chr', chr(39) + 'k' + chr(39), chr(39) + 'n' + chr(39)])}")
        else:
            args = [self.expression(0) for _ in range(count)]
        return f" | {name}" + (f"({', '.join(args)})" if args else "")

    def expression(self, depth: int = 2) -> str:
        """An expression of about this depth."""
        if depth <= 0:
            return self.atom()
        kind = self.pick("abbbuuffftmmgiilc")
        if kind == "b":
            return f"{self.expression(depth - 1)} {self.pick(BINARY)} {self.expression(depth - 1)}"
        if kind == "u":
            return self.pick(["not ", "-", "+", "not "]) + self.expression(depth - 1)
        if kind == "f":
            return self.expression(depth - 1) + self.filter()
        if kind == "t":
            return f"{self.expression(depth - 1)} is {self.pick(['', '', 'not '])}{self.pick(TESTS)}"
        if kind == "m":
            name = self.pick(list(METHODS))
            args = ", ".join(self.expression(0) for _ in range(METHODS[name]))
            if name in ("repeat", "padStart", "padEnd"):
                args = str(self.pick([0, 1, 2, 5, 8])) + (f", {self.string()}" if name != "repeat" else "")
            return f"{self.pick([*NAMES, self.string()])}.{name}({args})"
        if kind == "g":
            return f"({self.expression(depth - 1)})"
        if kind == "i":
            other = f" else {self.expression(depth - 1)}" if self.chance(0.7) else ""
            return f"{self.expression(depth - 1)} if {self.expression(depth - 1)}{other}"
        if kind == "l":
            return self.pick(NAMES) + self.pick(
                [".k", ".n", ".length", "[0]", "[1]", "['k']", ".z.q", "[n]", "[s]", ".a.b", "[-1]", '["10"]']
            )
        if kind == "c":
            return self.pick(
                [
                    "loop.index",
                    "loop.first",
                    "loop.last",
                    "loop.index0",
                    "loop.length",
                    "loop.revindex",
                    "loop",
                    "caller()",
                ]
            )
        return self.atom()

    # -- statements --------------------------------------------------------------------------------------------------

    def text(self) -> str:
        """Text between tags."""
        return "".join(self.pick(TEXTS) for _ in range(self.pick([0, 1, 1, 2])))

    def tag(self, inner: str) -> str:
        """A block tag, sometimes with white space control."""
        return "{%" + self.pick(["", "", "", "", "-"]) + f" {inner} " + self.pick(["", "", "", "", "-"]) + "%}"

    def output(self) -> str:
        """A variable tag."""
        return (
            "{{"
            + self.pick(["", "", "", "-"])
            + f" {self.expression(self.pick([0, 1, 2, 3]))} "
            + self.pick(["", "", "", "-"])
            + "}}"
        )

    def body(self, depth: int) -> str:
        """A sequence of text, output and statements."""
        parts = []
        for _ in range(self.pick([1, 1, 2, 3])):
            parts.append(self.text())
            parts.append(self.statement(depth) if depth > 0 and self.chance(0.55) else self.output())
        parts.append(self.text())
        return "".join(parts)

    def statement(self, depth: int) -> str:
        """One statement."""
        kind = self.pick(["if", "if", "for", "for", "for", "set", "set", "set", "setblock", "macro", "call", "filter", "switch", "comment",
                          "raw", "include", "import", "from", "block", "each"])  # fmt: skip
        inner = depth - 1
        if kind == "if":
            text = self.tag(f"if {self.expression()}") + self.body(inner)
            if self.chance(0.4):
                text += self.tag(f"{self.pick(['elif', 'elseif'])} {self.expression()}") + self.body(inner)
            if self.chance(0.5):
                text += self.tag("else") + self.body(inner)
            return text + self.tag("endif")
        if kind == "for":
            names = self.pick(["x", "y", "a", "i", "x, y", "a, b", "x, y, t"])
            source = self.pick(["items", "rows", "obj", "s", "range(3)", "[1,2]", "[[1,2],[3,4]]", self.expression(1)])
            other = self.tag("else") + self.body(inner) if self.chance(0.25) else ""
            return self.tag(f"for {names} in {source}") + self.body(inner) + other + self.tag("endfor")
        if kind == "each":
            word, end = self.pick([("asyncEach", "endeach"), ("asyncAll", "endall")])
            return self.tag(f"{word} x in {self.pick(['items', 'rows', '[1,2]'])}") + self.body(inner) + self.tag(end)
        if kind == "set":
            names = self.pick(["x", "y", "a", "b", "t", "x, y"])
            return self.tag(f"set {names} = {self.expression()}")
        if kind == "setblock":
            return self.tag(f"set {self.pick('xyt')}") + self.body(inner) + self.tag("endset")
        if kind == "macro":
            self.counter += 1
            name = self.pick(["m1", "m2", "m3"])
            count = self.pick([0, 1, 2])
            parameters = ["p", "q"][:count] + (
                [f"{self.pick(['r', 'kw'])}={self.expression(0)}"] if self.chance(0.5) else []
            )
            known, self.macros = self.macros, []
            text = self.tag(f"macro {name}({', '.join(parameters)})") + self.macro_body(inner) + self.tag("endmacro")
            self.macros = [*known, (name, count)]
            return text
        if kind == "call" and self.macros:
            name, count = self.pick(self.macros)
            args = ", ".join(self.expression(0) for _ in range(count))
            return (
                self.tag(f"call{self.pick(['', '', '(x)', '(x, y=2)'])} {name}({args})")
                + self.body(inner)
                + self.tag("endcall")
            )
        if kind == "filter":
            return self.tag(f"filter {self.pick(['upper', 'title', 'trim', 'replace(1, 2)', 'escape', 'length', 'indent(2)'])}") + \
                self.body(inner) + self.tag("endfilter")  # fmt: skip
        if kind == "switch":
            text = self.tag(f"switch {self.expression(1)}")
            for _ in range(self.pick([1, 2, 3])):
                text += self.tag(f"case {self.atom()}") + (self.simple(inner) if self.chance(0.7) else "")
            if self.chance(0.5):
                text += self.tag("default") + self.simple(inner)
            return text + self.tag("endswitch")
        if kind == "comment":
            return self.pick(["{# note #}", "{#- note -#}", "{# a\nb #}"])
        if kind == "raw":
            return "{% raw %}" + self.text() + "{{ x }}{% endraw %}"
        if kind == "include":
            target = self.pick(['"part.njk"', '"part.njk"', '"none.njk" ignore missing', '"two.njk"'])
            return self.tag(f"include {target}")
        if kind == "import":
            self.macros = [*self.macros, ("lib.lm", 1)]
            return self.tag(f'import "lib.njk" as lib{self.pick(["", "", " with context"])}')
        if kind == "from":
            self.macros = [*self.macros, ("lm", 1)]
            return self.tag(
                f'from "lib.njk" import lm{self.pick(["", " as lm", ", lv"])}{self.pick(["", "", " with context"])}'
            )
        if kind == "block" and not self.in_block and depth > 1:
            self.counter += 1
            name = f"bl{self.counter}"
            self.blocks.append(name)
            return self.tag(f"block {name}") + self.body(inner) + self.tag("endblock")
        return self.output()

    def simple(self, depth: int) -> str:
        """A body without files and blocks: Nunjucks itself fails on those inside a switch."""
        return self.text() + "x" + self.output()

    def macro_body(self, depth: int) -> str:
        """A body that reads the parameters."""
        reads = "".join(f"{{{{ {name} }}}}" for name in self.random.sample(["p", "q", "r", "kw", "x"], 2))
        return reads + self.body(max(0, depth)) + ("{{ caller() }}" if self.chance(0.3) else "")

    # -- cases -------------------------------------------------------------------------------------------------------

    def case(self) -> dict[str, Any]:
        """A complete case."""
        self.macros, self.blocks, self.in_block = [], [], False
        options = self.pick(OPTIONS)
        context = self.context()
        if self.chance(0.5):
            source = self.output() if self.chance(0.5) else self.body(self.pick([1, 2, 3]))
            if "part.njk" not in source and "lib.njk" not in source and "two.njk" not in source:
                if self.chance(0.15):
                    source = self.damage(source)
                return {"template": source, "context": context, "options": options}
        self.macros = []
        templates = {"part.njk": self.body(1), "two.njk": self.body(1).replace("two.njk", "part.njk")}
        self.macros = []
        templates["lib.njk"] = (
            "{% macro lm(p, r=1) %}[{{ p }}{{ r }}"
            + self.output()
            + "]{% endmacro %}{% set lv = "
            + self.atom()
            + " %}"
            + self.body(1)
        )
        for name in ("part.njk", "two.njk", "lib.njk"):
            templates[name] = re.sub(r"\{%-? (?:include|import|from)\b.*?%\}", "", templates[name])
        self.macros = []
        main = self.body(self.pick([2, 3]))
        if self.chance(0.4):
            blocks = list(self.blocks)
            base = main
            child = self.text() + (self.statement(1) if self.chance(0.4) else "")
            for name in self.random.sample(blocks, min(len(blocks), self.pick([1, 2]))):
                self.in_block = True
                child += f"{{% block {name} %}}" + self.body(1) + self.pick(["", "{{ super() }}"]) + "{% endblock %}"
                self.in_block = False
            templates["base.njk"] = base
            main = '{% extends "base.njk" %}' + child
        templates["main.njk"] = self.damage(main) if self.chance(0.08) else main
        return {"entry": "main.njk", "templates": templates, "context": context, "options": options}

    def damage(self, source: str) -> str:
        """The source with a few tokens lost, doubled or swapped."""
        tokens = _TOKEN.findall(source)
        for _ in range(self.pick([1, 1, 2, 3])):
            if not tokens:
                break
            index = self.random.randrange(len(tokens))
            how = self.pick(["delete", "double", "insert", "swap"])
            if how == "delete":
                del tokens[index]
            elif how == "double":
                tokens.insert(index, tokens[index])
            elif how == "insert":
                tokens.insert(
                    index,
                    self.pick(
                        [
                            "{%",
                            "%}",
                            "{{",
                            "}}",
                            "(",
                            ")",
                            "[",
                            "]",
                            ",",
                            ".",
                            "|",
                            ":",
                            "=",
                            "not",
                            "in",
                            "endif",
                            "if",
                            "#}",
                            "-",
                        ]
                    ),
                )
            else:
                other = self.random.randrange(len(tokens))
                tokens[index], tokens[other] = tokens[other], tokens[index]
        return "".join(tokens)
