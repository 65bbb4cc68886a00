"""Python code for expressions.

Every method returns ``(code, kind)``: Python text that evaluates to the value, and what is known about it (``str``, ``bool``,
``int``, ``any``). Names and texts of a template enter the code through ``repr`` only, variables get made-up names, so no
template text is ever code. Mixed into the code generator.
"""

from __future__ import annotations

import math
from typing import Any

from unjucks_engine import nodes
from unjucks_engine.call_code import Calls
from unjucks_engine.errors import TemplateSyntaxError
from unjucks_engine.jsregex import RegExp
from unjucks_engine.methods_misc import OBJECT
from unjucks_engine.numbers import number_text
from unjucks_engine.pasting import Floor, IsTest, js_tree
from unjucks_engine.scopes import LOOP_FIELDS
from unjucks_engine.spelling import plain_name
from unjucks_engine.values import is_index
from unjucks_engine.writing import Code

_ARITHMETIC = {"-": "subtract", "*": "multiply", "/": "divide", "%": "modulo"}
_COMPARE = {"<": "less", "<=": "less_equal", ">": "greater", ">=": "greater_equal"}
_INLINE_TESTS = {"defined": "is not U", "undefined": "is U", "null": "is None"}


class Expressions(Calls):
    """Code for expressions; the statements' half gives names, temporaries and nested functions."""

    def variable(self, name: str) -> str:
        """Code that reads a variable."""
        raise NotImplementedError

    def loop_field(self, name: str) -> Code | None:
        """Code for ``loop.name`` from plain counters, or None."""
        raise NotImplementedError

    def step(self, node: Any, op: str) -> str:
        """Code for two equal signs before an operand, which JavaScript takes as ``++`` or ``--``."""
        raise NotImplementedError

    def caller(self, node: nodes.Caller) -> str:
        """Writes the function of a call block before the statement; returns its name."""
        raise NotImplementedError

    def capture(self, node: nodes.Capture) -> str:
        """Writes the body into a buffer before the statement; returns code for its text."""
        raise NotImplementedError

    # -- entry points ------------------------------------------------------------------------------------------------

    def expression(self, node: Any, lenient: bool = False) -> Code:
        """Code for a node of the syntax tree."""
        return self._tree(js_tree(node), lenient)

    def condition(self, node: Any) -> str:
        """Code that is true or false for Python."""
        return self._truth(self.expression(node, lenient=True))

    def _truth(self, code: Code) -> str:
        if code[1] in ("bool", "str", "int"):
            return code[0]
        first, name = self.held(code[0])
        return f"({name} if type({first}) in Q else truth({name}))"

    def held(self, code: str) -> tuple[str, str]:
        """(code that puts the value into a local variable, that variable)."""
        if code.isidentifier():
            return code, code
        kept = self.kept.get(code)
        if kept is not None:
            return code, kept
        name = self.temp()
        return f"{name} := {code}", name

    def _value(self, node: Any, lenient: bool = False) -> str:
        return self.expression(node, lenient)[0]

    # -- operators ---------------------------------------------------------------------------------------------------

    def _tree(self, tree: Any, lenient: bool = False) -> Code:
        if not isinstance(tree, tuple):
            return self._atom(tree, lenient)
        op = tree[0]
        if len(tree) == 2:
            if op == "!":
                return f"(not {self._truth(self._tree(tree[1], True))})", "bool"
            code, kind = self._tree(tree[1])
            if op in ("++", "--"):
                return self.step(tree[1], op), "any"
            if op == "neg":
                return f"negative(rt, {code})", "any"
            return (code, kind) if kind == "int" else (f"to_number(rt, {code})", "any")
        if op in ("&&", "||"):
            return self._logic(op, tree, lenient)
        if op == "+":
            return self._sum(tree)
        if op == "%":
            left, right = self._tree(tree[1]), tree[2]
            if left[1] == "int" and isinstance(right, nodes.Literal) and type(right.value) is int and right.value > 0:
                return f"({left[0]} % {right.value})", "int"
            return f"modulo(rt, {left[0]}, {self._tree(right)[0]})", "any"
        if op in _ARITHMETIC:
            return f"{_ARITHMETIC[op]}(rt, {self._tree(tree[1])[0]}, {self._tree(tree[2])[0]})", "any"
        if op in _COMPARE:
            left, right = self._tree(tree[1]), self._tree(tree[2])
            if left[1] == right[1] == "int":
                return f"({left[0]} {op} {right[0]})", "bool"
            return f"{_COMPARE[op]}(rt, {left[0]}, {right[0]})", "bool"
        return self._equality(op, tree)

    def _logic(self, op: str, tree: Any, lenient: bool) -> Code:
        operands = [tree[2]]
        left = tree[1]
        while isinstance(left, tuple) and left[0] == op:
            operands.append(left[2])
            left = left[1]
        operands.append(left)
        operands.reverse()
        codes = [self._tree(operands[0], True)]
        certain, self.certain = self.certain, False
        codes += [self._tree(operand, True) for operand in operands[1:-1]]
        codes.append(self._tree(operands[-1], lenient))
        self.certain = certain
        if all(kind == "bool" for _, kind in codes):
            return "(" + (" and " if op == "&&" else " or ").join(code for code, _ in codes) + ")", "bool"
        parts = []
        for code, kind in codes[:-1]:
            name = self.temp()
            test = (
                f"({name} := {code})" if kind in ("bool", "str", "int") else self._truth((f"({name} := {code})", kind))
            )
            parts.append(f"{name} if {'not ' if op == '&&' else ''}{test} else ")
        return "(" + "".join(parts) + codes[-1][0] + ")", "any"

    def _sum(self, tree: Any) -> Code:
        operands = []
        left = tree
        while isinstance(left, tuple) and len(left) == 3 and left[0] == "+":
            operands.append(left[2])
            left = left[1]
        operands.append(left)
        operands.reverse()
        codes = [self._tree(operand) for operand in operands]
        # From the first text on, everything that follows is joined as text.
        start = next((index for index, code in enumerate(codes) if code[1] == "str"), None)
        if start is None:
            return self._add([code for code, _ in codes]), "any"
        if start > 1:
            codes = [(self._add([code for code, _ in codes[:start]]), "any"), *codes[start:]]
        texts = [self._text(code) for code in codes if code[0] != "''"]
        if not texts:
            return "''", "str"
        return (texts[0] if len(texts) == 1 else f"concat(rt, {', '.join(texts)})"), "str"

    def _add(self, codes: list[str]) -> str:
        if len(codes) == 1:
            return codes[0]
        return f"{'add' if len(codes) == 2 else 'add_all'}(rt, {', '.join(codes)})"

    def _text(self, code: Code) -> str:
        if code[1] == "str":
            return code[0]
        if code[1] == "int":
            return f"str({code[0]})"
        name = self.temp()
        return f"({name} if type({name} := {code[0]}) is str else text(rt, {name}))"

    def _equality(self, op: str, tree: Any) -> Code:
        (left, left_kind), (right, right_kind) = self._tree(tree[1]), self._tree(tree[2])
        if op in ("===", "!=="):
            same = op == "==="
            for node, other, other_kind in ((tree[2], left, left_kind), (tree[1], right, right_kind)):
                if isinstance(node, nodes.Literal) and not isinstance(node.value, RegExp):
                    value = node.value
                    if value is None or isinstance(value, bool):
                        if value is True and other_kind == "bool":
                            return (other if same else f"(not {other})"), "bool"
                        return _identity(other, f"{'is' if same else 'is not'} {value!r}"), "bool"
                    if isinstance(value, str):
                        return f"({other} {'==' if same else '!='} {value!r})", "bool"
            code = f"strict_equal({left}, {right})"
            return (code if same else f"(not {code})"), "bool"
        same = op == "=="
        for node, other, literal in ((tree[2], left, right), (tree[1], right, left)):
            if isinstance(node, nodes.Literal) and isinstance(node.value, str):
                name = self.temp()
                inner = (
                    f"({name} == {literal} if type({name} := {other}) is str else loose_equal(rt, {name}, {literal}))"
                )
                return (inner if same else f"(not {inner})"), "bool"
        if left_kind == right_kind and left_kind in ("int", "bool"):
            return f"({left} {op} {right})", "bool"
        code = f"loose_equal(rt, {left}, {right})"
        return (code if same else f"(not {code})"), "bool"

    # -- closed operands ---------------------------------------------------------------------------------------------

    def _atom(self, node: Any, lenient: bool) -> Code:
        if isinstance(node, nodes.Symbol):
            return self._used(self.variable(node.value), node, lenient), "any"
        if isinstance(node, nodes.Literal):
            return self._literal(node.value)
        if isinstance(node, nodes.LookupVal):
            return self._lookup(node, lenient)
        if isinstance(node, nodes.Filter):
            return self._filter(node)
        if isinstance(node, nodes.FunCall):
            return self._call(node), "any"
        if isinstance(node, nodes.InlineIf):
            cond = self.condition(node.cond)
            certain, self.certain = self.certain, False
            body, other = self.expression(node.body), ("''", "str")
            if node.other is not None:
                other = self.expression(node.other)
            self.certain = certain
            kind = body[1] if body[1] == other[1] else "any"
            return f"({body[0]} if {cond} else {other[0]})", kind
        if isinstance(node, nodes.Group):
            return self._group(node, lenient)
        if isinstance(node, nodes.Array):
            return self._array(node), "any"
        if isinstance(node, nodes.Dict):
            return self._object(node), "any"
        if isinstance(node, nodes.Caller):
            return self.caller(node), "any"
        if isinstance(node, nodes.Capture):
            return self.capture(node), "str"
        if isinstance(node, IsTest):
            return self._test(node)
        if isinstance(node, Floor):
            return f"floor_divide(rt, {self._tree(node.inner)[0]})", "any"
        if isinstance(node, nodes.Binary):
            left, right = self._value(node.left), self._value(node.right)
            if node.op == "in":
                return f"contains(rt, {left}, {right})", "bool"
            return f"power(rt, {left}, {right})", "any"
        raise self.fail_at("this cannot be part of an expression", getattr(node, "pos", 0))

    def _used(self, code: str, node: Any, lenient: bool) -> str:
        if not self.strict_use or lenient:
            return code
        return f"used({code}, {plain_name(node)!r})"

    def _literal(self, value: Any) -> Code:
        if isinstance(value, str):
            return repr(value), "str"
        if isinstance(value, RegExp):
            return f"{self.constant(value)}.fresh()", "any"
        if value is None or isinstance(value, bool):
            return repr(value), "bool" if value is not None else "any"
        if isinstance(value, float) and not math.isfinite(value):
            return "INF", "any"
        return repr(value), "int" if isinstance(value, int) else "any"

    def _group(self, node: nodes.Group, lenient: bool) -> Code:
        if not node.items:
            raise TemplateSyntaxError("a group in parentheses is empty", prefix="SyntaxError: ")
        if len(node.items) == 1:
            return self.expression(node.items[0], lenient)
        return f"({', '.join(self._value(item) for item in node.items)})[-1]", "any"

    def _array(self, node: nodes.Array) -> str:
        return f"[{', '.join(self._value(item) for item in node.items)}]"

    def _object(self, node: nodes.Dict) -> str:
        pairs = []
        indexes = False
        for pair in node.items:
            key = pair.key
            if not isinstance(key, nodes.Symbol) and not (
                isinstance(key, nodes.Literal) and isinstance(key.value, str)
            ):
                raise self.fail_at("compilePair: Dict keys must be strings or names", getattr(key, "pos", pair.pos))
            indexes = indexes or is_index(key.value)
            pairs.append(f"{key.value!r}: {self._value(pair.value)}")
        code = f"{{{', '.join(pairs)}}}"
        return f"ordered({code})" if indexes else code

    def _lookup(self, node: nodes.LookupVal, lenient: bool) -> Code:
        key = node.val
        if isinstance(key, nodes.Literal) and isinstance(key.value, str):
            if isinstance(node.target, nodes.Symbol) and node.target.value == "loop" and key.value in LOOP_FIELDS:
                field = self.loop_field(key.value)
                if field is not None:
                    return field
            target = self._value(node.target, lenient)
            name = key.value
            if name in OBJECT or self.env.jinja_compat:
                return self._used(f"member(rt, {target}, {name!r})", node, lenient), "any"
            fields = self.fields_of(target, name)
            if fields:
                code = f"({fields}[{name!r}] if {name!r} in {fields} else U)"
                if self.strict_use:
                    return self._used(code, node, lenient), "any"
                return self.again(code), "any"
            first = temp = target
            if not target.isidentifier():
                temp = self.kept.get(target, "")
                if not temp:
                    temp = self.temp()
                    first = f"{temp} := {target}"
            value = f"({temp}.get({name!r}, U) if type({temp}) is dict else member(rt, {temp}, {name!r}))"
            code = value if first is temp else value.replace(f"type({temp})", f"type({first})", 1)
            if self.strict_use or name == "length":
                return self._used(code, node, lenient), "any"
            # From now on the local variable stands for the target.
            return self.again(code, value), "any"
        target = self._value(node.target, lenient)
        if isinstance(key, nodes.Slice):
            parts = ", ".join(self._value(part) if part is not None else "None" for part in (key.start, key.stop))
            return f"slice_of(rt, {target}, {parts}, {'1' if key.step is None else self._value(key.step)})", "any"
        return self._used(f"member(rt, {target}, {self._value(key)})", node, lenient), "any"

    def _test(self, node: IsTest) -> Code:
        if node.name not in self.env.tests:
            return f"rt.test({node.name!r})", "any"
        left = self._tree(node.left, node.name in ("defined", "undefined"))[0]
        certain, self.certain = self.certain, False
        args = [f"keyword_object({self._object(item)})" if isinstance(item, nodes.KeywordArgs) else self._value(item)
                for item in node.args]  # fmt: skip
        self.certain = certain
        if len(args) > 1:
            # The arguments of a test are pasted without commas: only whole numbers make sense then.
            if isinstance(node.args[1], nodes.Group | nodes.Array):
                return f"pasted(rt, {node.name!r})", "any"
            if not all(isinstance(item, nodes.Literal) and type(item.value) is int for item in node.args):
                raise TemplateSyntaxError("missing ) after argument list", prefix="SyntaxError: ")
            joined = "".join(number_text(item.value) for item in node.args)
            args = [joined.lstrip("0") or "0"]
        if node.name in _INLINE_TESTS:
            return _identity(left, _INLINE_TESTS[node.name]), "bool"
        key = self.constant(self.env.tests[node.name])
        return f"{key}(rt, {', '.join([left, *args])})", "bool"


def _identity(code: str, test: str) -> str:
    """``code is …``; Python warns when a literal stands there, so that is put into a list first."""
    return f"([{code}][0] {test})" if code[0] in "0123456789'\"" else f"({code} {test})"
