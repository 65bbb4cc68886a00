"""Expressions of the grammar, and the helpers both halves of the parser use.

The statements are in ``statements``. Reproduces which sources Nunjucks accepts and what it says about the others; does not judge
names of variables, filters or tests (they fail when reached). Called by ``statements`` and ``environment``.
"""

from __future__ import annotations

from typing import Any

from unjucks_engine import nodes
from unjucks_engine.errors import TemplateSyntaxError
from unjucks_engine.jsregex import RegExp
from unjucks_engine.lexer import Token
from unjucks_engine.numbers import parse_decimal
from unjucks_engine.shortcuts import Shortcuts

_COMPARE = frozenset(("==", "===", "!=", "!==", "<", ">", "<=", ">="))
#: Binding strength of the operators between unary and comparison; every operator has a level of its own.
_LEVELS = {"~": 0, "+": 1, "-": 2, "*": 3, "/": 4, "//": 5, "%": 6, "**": 7}
#: Tokens that an operand starts with.
_PLAIN = frozenset(("symbol", "string", "int", "float", "boolean", "none"))
_CLOSING = frozenset(("right-paren", "right-bracket", "right-curly"))
_OPENING: dict[str, type[nodes.Nodes]] = {
    "left-paren": nodes.Group,
    "left-bracket": nodes.Array,
    "left-curly": nodes.Dict,
}


class ExpressionParser(Shortcuts):
    """Reads expressions from a lexer, one token ahead."""

    # -- expressions -------------------------------------------------------------------------------------------------

    def expression(self) -> Any:
        """An expression, inline if included."""
        if self._peeked is None and self._usual and self.lexer.in_code:
            node = self.shortcut_expression()
            if node is not None:
                return node
        self.enter()
        token = self._peeked or self.peek()
        left = None
        if token is not None and token[0] in _PLAIN and token[1] != "not":
            # Most expressions are one operand.
            left = self.unary()
            token = self._peeked or self.peek()
            if token is not None and token[0] in self._ends:
                self._depth -= 1
                return left
        node = self._or(left)
        token = self._peeked or self.peek()
        if token is not None and token[0] == "symbol" and token[1] == "if":
            self._peeked = None
            cond = self._or()
            other = self._or() if self.skip_symbol("else") else None
            node = nodes.InlineIf(node.pos, cond, node, other)
        self._depth -= 1
        return node

    def _or(self, left: Any = None) -> Any:
        node = self._and(left)
        while self.skip_symbol("or"):
            node = nodes.Binary(node.pos, "or", node, self._and())
        return node

    def _and(self, left: Any = None) -> Any:
        node = self._not(left)
        while self.skip_symbol("and"):
            node = nodes.Binary(node.pos, "and", node, self._not())
        return node

    def _not(self, left: Any = None) -> Any:
        if left is not None:
            return self._in(left)
        token = self._peeked or self.peek()
        if token is not None and token[0] == "symbol" and token[1] == "not":
            self._peeked = None
            self.enter()
            node = nodes.Unary(token[2], "not", self._not())
            self._depth -= 1
            return node
        return self._in()

    def _in(self, left: Any = None) -> Any:
        node = self._is(left)
        while True:
            token = self._peeked or self.peek()
            if token is None or token[0] != "symbol":
                return node
            invert = token[1] == "not"
            if invert:
                self._peeked = None
            if self.skip_symbol("in"):
                node = nodes.Binary(node.pos, "in", node, self._is())
                if invert:
                    node = nodes.Unary(node.pos, "not", node)
            elif invert and self.peek() is None:
                self._peeked = token
                return node
            elif invert:
                raise TemplateSyntaxError("pushToken: can only push one token on between reads", prefix="Error: ").at(
                    "", *(part + 1 for part in self.lexer.place(token[2]))
                )
            else:
                return node

    def _is(self, left: Any = None) -> Any:
        node = self._compare(left)
        if self.skip_symbol("is"):
            invert = self.skip_symbol("not")
            node = nodes.Binary(node.pos, "is", node, self._compare())
            if invert:
                node = nodes.Unary(node.pos, "not", node)
        return node

    def _compare(self, left: Any = None) -> Any:
        node = self._binary(0, left)
        token = self._peeked or self.peek()
        # Any token with such a value counts, a string included.
        if token is None or token[0] == "symbol" or not isinstance(token[1], str) or token[1] not in _COMPARE:
            return node
        operands = []
        pos = token[2]
        while token is not None and isinstance(token[1], str) and token[1] in _COMPARE:
            self._peeked = None
            operands.append((token[1], self._binary(0)))
            token = self.peek()
        return nodes.Compare(pos, node, operands)

    def _binary(self, level: int, left: Any = None) -> Any:
        node = self.unary() if left is None else left
        while True:
            token = self._peeked or self.peek()
            if token is None:
                return node
            kind, operator, _ = token
            if kind != "operator" and kind != "tilde":
                return node
            found = _LEVELS.get(operator)
            if found is None or found < level:
                return node
            self._peeked = None
            self._nodes_left -= 1
            node = nodes.Binary(node.pos, operator, node, self._binary(found + 1))

    def unary(self, filters: bool = True) -> Any:
        """An operand with its sign; filters bind to the sign and operand together."""
        token = self._peeked or self.peek()
        if token is not None and token[0] == "operator" and (token[1] == "-" or token[1] == "+"):
            self._peeked = None
            self.enter()
            node: Any = nodes.Unary(token[2], token[1], self.unary(False))
            self._depth -= 1
        else:
            node = self.primary()
        return self._filters(node) if filters else node

    def primary(self, postfix: bool = True) -> Any:
        """A literal, name or aggregate with what follows it directly."""
        token = self.next()
        if token is None:
            self.fail("expected expression, got end of file")
        kind, value, pos = token
        self._nodes_left -= 1
        if self._nodes_left < 0:
            self.refuse("nodes")
        node: Any
        if kind == "symbol":
            node = nodes.Symbol(pos, value)
        elif kind == "string":
            node = nodes.Literal(pos, value)
        elif kind == "int" or kind == "float":
            node = nodes.Literal(pos, parse_decimal(value))
        elif kind == "boolean":
            node = nodes.Literal(pos, value == "true")
        elif kind == "none":
            node = nodes.Literal(pos, None)
        elif kind == "regex":
            node = nodes.Literal(pos, self._regex(value, pos))
        else:
            node = self._aggregate(token)
        if postfix:
            node = self._postfix(node)
        if node is None:
            self.fail(f"unexpected token: {value}", pos)
        return node

    def _regex(self, value: tuple[str, str], pos: int) -> RegExp:
        try:
            return RegExp(*value)
        except TemplateSyntaxError as error:
            line, column = self.lexer.place(pos)
            raise error.at("", line + 1, column + 1) from None

    def _aggregate(self, opening: Token) -> Any:
        """A group, list or dict whose opening token is already taken; None for any other token."""
        kind = _OPENING.get(opening[0])
        if kind is None:
            return None
        node = kind(opening[2])
        self.enter()
        while True:
            token = self.need()
            if token[0] in _CLOSING:
                self._peeked = None
                break
            if node.items and not self.skip("comma"):
                self.fail("parseAggregate: expected comma after expression", opening[2])
            if kind is nodes.Dict:
                key = self.primary()
                if not self.skip("colon"):
                    self.fail("parseAggregate: expected colon after dict key", opening[2])
                node.items.append(nodes.Pair(key.pos, key, self.expression()))
            else:
                node.items.append(self.expression())
        self._depth -= 1
        return node

    def _postfix(self, node: Any) -> Any:
        count = 0
        while True:
            token = self._peeked or self.peek()
            if token is None:
                break
            kind, value, pos = token
            if kind == "operator":
                if value != ".":
                    break
                self._peeked = None
                name = self.need()
                self._peeked = None
                if name[0] != "symbol":
                    got = "".join(name[1]) if isinstance(name[1], tuple) else name[1]
                    self.fail(f"expected name as lookup value, got {got}", name[2])
                node = nodes.LookupVal(pos, node, nodes.Literal(name[2], name[1]))
            elif kind == "left-paren":
                args = self.signature()
                assert args is not None
                node = nodes.FunCall(pos, node, args)
            elif kind == "left-bracket":
                self._peeked = None
                lookup = self._index(token) if self.slices else self._aggregate(token)
                if len(lookup.items) > 1:
                    self.fail("invalid index")
                node = nodes.LookupVal(pos, node, lookup.items[0] if lookup.items else None)
            else:
                break
            count += 1
            self.enter()
        self._depth -= count
        return node

    def _index(self, opening: Token) -> Any:
        """An index of the Jinja mode: a list of one expression, or a slice."""
        start = self.lexer.pos, self._depth
        try:
            return self._aggregate(opening)
        except TemplateSyntaxError as error:
            failed = self._peeked, self.lexer.pos
            self.lexer.enter_tag(start[0])
            self._peeked, self._depth = None, start[1]
            parts: list[Any] = [None, None, None]
            is_slice = False
            for index in range(4):
                if self.skip("right-bracket"):
                    break
                if index == 3:
                    if is_slice:
                        self.fail("parseSlice: too many slice components", opening[2])
                    break
                if self.skip("colon"):
                    is_slice = True
                else:
                    parts[index] = self.expression()
                    is_slice = self.skip("colon") or is_slice
            if not is_slice:
                self._peeked, self.lexer.pos = failed
                raise error from None
            return nodes.Array(opening[2], [nodes.Slice(opening[2], *parts)])

    def signature(self, tolerant: bool = False) -> nodes.Nodes | None:
        """Arguments or parameters in parentheses; keywords are gathered in a last ``KeywordArgs``."""
        token = self.need()
        if token[0] != "left-paren":
            if tolerant:
                return None
            self.fail("expected arguments", token[2])
        self._peeked = None
        args = nodes.Nodes(token[2])
        keywords = nodes.KeywordArgs(token[2])
        comma = False
        while True:
            token = self.need()
            if token[0] == "right-paren":
                self._peeked = None
                break
            if comma and not self.skip("comma"):
                self.fail("parseSignature: expected comma after expression", token[2])
            arg = self.expression()
            if self.skip_value("operator", "="):
                keywords.items.append(nodes.Pair(token[2], arg, self.expression()))
            else:
                args.items.append(arg)
            comma = True
        if keywords.items:
            args.items.append(keywords)
        return args

    def _filters(self, node: Any) -> Any:
        count = 0
        while True:
            token = self._peeked or self.peek()
            if token is None or token[0] != "pipe":
                break
            self._peeked = None
            name = self.filter_name()
            args = nodes.Nodes(name.pos, [node, *self.filter_args(node)])
            node = nodes.Filter(name.pos, name, args)
            count += 1
            self.enter()
        self._depth -= count
        return node

    def filter_name(self) -> nodes.Symbol:
        """The (dotted) name of a filter."""
        token = self.expect("symbol")
        name = token[1]
        while self.skip_value("operator", "."):
            name += "." + self.expect("symbol")[1]
        return nodes.Symbol(token[2], name)

    def filter_args(self, node: Any) -> list[Any]:
        """The arguments of a filter, if it has any. Of several lists in a row only the last one counts."""
        token = self.need()
        if token[0] != "left-paren":
            return []
        call = self._postfix(node)
        if not isinstance(call, nodes.FunCall):
            self.fail("a filter with arguments cannot be followed by a lookup", token[2])
        return call.args.items
