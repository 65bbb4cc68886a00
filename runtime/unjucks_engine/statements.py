"""Statements of the grammar: text, output and tags become a syntax tree.

Reproduces Nunjucks' acceptance and messages. ``parse`` is called by ``environment`` and ``analysis``.
"""

from __future__ import annotations

import re
from typing import Any

from unjucks_engine import nodes
from unjucks_engine.lexer import JS_SPACE, Tags
from unjucks_engine.limits import Limits
from unjucks_engine.parser import ExpressionParser

#: What ``shortcut_piece`` says.
_DONE, _BODY_END, _IN_OUTPUT, _IN_BLOCK = 1, 2, 3, 4
_JS_BREAK = "[ \t\n\r\f\v\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff]*"


class Parser(ExpressionParser):
    """Reads one template source."""

    def __init__(
        self, source: str, tags: Tags, trim_blocks: bool, lstrip_blocks: bool, limits: Limits, slices: bool
    ) -> None:
        super().__init__(source, tags, trim_blocks, lstrip_blocks, limits, slices)
        self._tags = tags
        self._stop: tuple[str, ...] = ()
        self._strip_next = False
        self._mark = 0
        self.has_blocks = False
        self.has_async = False

    def parse(self) -> nodes.Nodes:
        """The whole file."""
        root = nodes.Nodes(0, self._body())
        if self.peek() is not None:
            self.fail("unexpected token: the template goes on after its end")
        return root

    def _body(self) -> list[Any]:
        result: list[Any] = []
        lexer, usual = self.lexer, self._usual
        while True:
            if usual and self._peeked is None and not lexer.in_code:
                done = self.shortcut_piece(result, _STATEMENTS)
                if done == _DONE:
                    continue
                if done == _BODY_END:
                    return result
                if done == _IN_OUTPUT:
                    self._output(result, self._mark)
                    continue
                if done == _IN_BLOCK:
                    node = self._statement()
                    if node is None:
                        return result
                    result.append(node)
                    continue
            token = self.next()
            if token is None:
                return result
            kind, value, pos = token
            if kind == "data":
                if self._strip_next:
                    value = value.lstrip(JS_SPACE)
                    self._strip_next = False
                following = self.peek()
                if following is not None and self._strips_before(following):
                    value = value.rstrip(JS_SPACE)
                result.append(nodes.Output(pos, [nodes.Data(pos, value)]))
            elif kind == "block-start":
                self._strip_next = False
                node = self._statement()
                if node is None:
                    return result
                result.append(node)
            elif kind == "variable-start":
                self._output(result, pos)
            elif kind == "comment":
                self._strip_next = value[: -len(self._tags.comment_end)].endswith("-")
            else:
                self.fail(f"Unexpected token at top-level: {kind}", pos)

    def _output(self, result: list[Any], pos: int) -> None:
        expression = self.expression()
        self._strip_next = False
        self._variable_end()
        result.append(nodes.Output(pos, [expression]))

    def _strips_before(self, token: tuple[str, Any, int]) -> bool:
        kind, value, _ = token
        if kind == "block-start":
            return bool(value.endswith("-"))
        if kind == "variable-start":
            return bool(value[len(self._tags.variable_start) :].startswith("-"))
        return kind == "comment" and bool(value[len(self._tags.comment_start) :].startswith("-"))

    def _variable_end(self) -> None:
        token = self.next()
        if token is not None and token[0] == "variable-end":
            self._strip_next = token[1][: -len(self._tags.variable_end)].endswith("-")
        else:
            self._peeked = token
            self.fail("expected variable end")

    def _until(self, *stop: str) -> nodes.Nodes:
        previous, self._stop = self._stop, stop
        self.enter()
        result = nodes.Nodes(self.lexer.pos, self._body())
        self._depth -= 1
        self._stop = previous
        return result

    def _block_end(self, name: str | None = None) -> int:
        """Takes the end of a tag; without a name the next word is the name. Returns the position of the end mark."""
        if name is None:
            token = self.need()
            if token[0] != "symbol":
                self.fail("advanceAfterBlockEnd: expected symbol token or explicit name to be passed")
            self._peeked = None
            name = token[1]
        if self._peeked is None and self._usual and self.lexer.in_code:
            pos = self.shortcut_end()
            if pos >= 0:
                return pos
        end = self.next()
        if end is None or end[0] != "block-end":
            self.fail(f"expected block end in {name} statement")
        if end[1].startswith("-"):
            self._strip_next = True
        return end[2]

    def _statement(self) -> Any:
        token = self.need()
        kind, name, pos = token
        if kind != "symbol":
            self.fail("tag name expected", pos)
        if name in self._stop:
            return None
        parse = _STATEMENTS.get(name)
        if parse is None:
            self.fail(f"unknown block tag: {name}", pos)
        self._peeked = None
        self.enter()
        node = parse(self, name, pos)
        self._depth -= 1
        return node

    # Each of these is called behind the name of the tag, with that name and its position.

    def _raw(self, name: str, pos: int) -> Any:
        # The end mark is always the default one, whatever the tags of the environment are.
        begun = self._block_end(name)
        mark = re.compile(f"{{%{_JS_BREAK}({name}|end{name}){_JS_BREAK}%}}")
        start = self.lexer.pos
        level = 1
        while True:
            match = self.lexer.skip_match(mark)
            if match is None:
                text = self.lexer.source[start : self.lexer.pos]
                break
            level += 1 if match[1] == name else -1
            if not level:
                text = self.lexer.source[start : match.start()]
                break
        return nodes.Output(begun, [nodes.Data(begun, text)])

    def _if(self, name: str, pos: int) -> Any:
        self.has_async = self.has_async or name == "ifAsync"
        cond = self.expression()
        self._block_end(name)
        body = self._until("elif", "elseif", "else", "endif")
        token = self.peek()
        word = token[1] if token is not None else None
        other: Any = None
        if word in ("elif", "elseif"):
            assert token is not None
            self._peeked = None
            other = self._if(word, token[2])
        elif word == "else":
            self._block_end()
            other = self._until("endif")
            self._block_end()
        elif word == "endif":
            self._block_end()
        else:
            self.fail("parseIf: expected elif, else, or endif, got end of file")
        return (nodes.IfAsync if name == "ifAsync" else nodes.If)(pos, cond, body, other)

    def _for(self, name: str, pos: int) -> Any:
        self.has_async = self.has_async or name != "for"
        end = {"for": "endfor", "asyncEach": "endeach", "asyncAll": "endall"}[name]
        target: Any = None
        if self._peeked is None and self._usual and self.lexer.in_code:
            target = self.shortcut_targets()
        if target is None:
            target = self._loop_targets(pos)
        arr = self.expression()
        self._block_end(name)
        body = self._until(end, "else")
        other = None
        if self.skip_symbol("else"):
            self._block_end("else")
            other = self._until(end)
        self._block_end()
        return nodes.For(pos, name, target, arr, body, other)

    def _loop_targets(self, pos: int) -> Any:
        target: Any = self.primary()
        if not isinstance(target, nodes.Symbol):
            self.fail("parseFor: variable name expected for loop")
        if self.need()[0] == "comma":
            target = nodes.Array(target.pos, [target])
            while self.skip("comma"):
                target.items.append(self.primary())
        if not self.skip_symbol("in"):
            self.fail('parseFor: expected "in" keyword for loop', pos)
        if isinstance(target, nodes.Array):
            target.items = [self._name(item) for item in target.items]
        return target

    def _name(self, node: Any) -> Any:
        """A node with a textual value (a word or a quoted text), as names of targets may be."""
        if not isinstance(node, nodes.Value) or not isinstance(node.value, str):
            self.fail("a name is expected here", node.pos)
        return node

    def _macro(self, name: str, pos: int) -> Any:
        target = self.primary(postfix=False)
        args = self.signature()
        self._name(target)
        self._block_end(name)
        body = self._until("endmacro")
        self._block_end()
        return nodes.MacroNode(pos, target, args, body)

    def _call(self, name: str, pos: int) -> Any:
        params = self.signature(tolerant=True) or nodes.Nodes(pos)
        call = self.primary()
        self._block_end(name)
        body = self._until("endcall")
        self._block_end()
        if not isinstance(call, nodes.FunCall):
            self.fail("the tag call needs a call of a macro, like {% call name() %}", pos)
        symbol = nodes.Symbol(pos, "caller")
        items = call.args.items
        if not items or not isinstance(items[-1], nodes.KeywordArgs):
            items.append(nodes.KeywordArgs(pos))
        items[-1].items.append(nodes.Pair(pos, symbol, nodes.Caller(pos, symbol, params, body)))
        return nodes.Output(pos, [call])

    def _with_context(self) -> bool | None:
        token = self.peek()
        result = None
        if self.skip_symbol("with"):
            result = True
        elif self.skip_symbol("without"):
            result = False
        if result is not None and not self.skip_symbol("context"):
            self.fail("parseFrom: expected context after with/without", token[2] if token is not None else None)
        return result

    def _import(self, name: str, pos: int) -> Any:
        template = self.expression()
        if not self.skip_symbol("as"):
            self.fail('parseImport: expected "as" keyword', pos)
        target = self._name(self.expression())
        context = self._with_context()
        self._block_end(name)
        return nodes.Import(pos, template, target, context)

    def _from(self, name: str, pos: int) -> Any:
        template = self.expression()
        if not self.skip_symbol("import"):
            self.fail("parseFrom: expected import", pos)
        names = nodes.Nodes(pos)
        context = None
        while True:
            token = self.need()
            if token[0] == "block-end":
                if not names.items:
                    self.fail("parseFrom: Expected at least one import name", pos)
                if token[1].startswith("-"):
                    self._strip_next = True
                self._peeked = None
                return nodes.FromImport(pos, template, names, context)
            if names.items and not self.skip("comma"):
                self.fail("parseFrom: expected comma", pos)
            item = self._name(self.primary())
            if item.value.startswith("_"):
                self.fail("parseFrom: names starting with an underscore cannot be imported", item.pos)
            if self.skip_symbol("as"):
                item = nodes.Pair(item.pos, item, self._name(self.primary()))
            names.items.append(item)
            context = self._with_context()

    def _block(self, name: str, pos: int) -> Any:
        self.has_blocks = True
        target = self.primary()
        if not isinstance(target, nodes.Symbol):
            self.fail("parseBlock: variable name expected", pos)
        self._block_end(name)
        body = self._until("endblock")
        self.skip_symbol("endblock")
        self.skip_symbol(target.value)
        token = self.peek()
        if token is None:
            self.fail("parseBlock: expected endblock, got end of file")
        self._block_end(token[1] if isinstance(token[1], str) else "")
        return nodes.Block(pos, target, body, None)

    def _extends(self, name: str, pos: int) -> Any:
        template = self.expression()
        self._block_end(name)
        return nodes.Extends(pos, template)

    def _include(self, name: str, pos: int) -> Any:
        template = self.expression()
        missing = self.skip_symbol("ignore") and self.skip_symbol("missing")
        self._block_end(name)
        return nodes.Include(pos, template, missing)

    def _set(self, name: str, pos: int) -> Any:
        if self._peeked is None and self._usual and self.lexer.in_code:
            target = self.shortcut_assigned()
            if target is not None:
                value = self.expression()
                self._block_end(name)
                return nodes.Set(pos, [target], value, None)
        targets = []
        while True:
            targets.append(self.primary())
            if not self.skip("comma"):
                break
        if self.skip_value("operator", "="):
            value = self.expression()
            self._block_end(name)
            return nodes.Set(pos, self._targets(targets), value, None)
        if not self.skip("block-end"):
            self.fail("parseSet: expected = or block end in set tag", pos)
        body = nodes.Capture(pos, self._until("endset"))
        self._block_end()
        return nodes.Set(pos, self._targets(targets), None, body)

    def _targets(self, targets: list[Any]) -> list[Any]:
        return [self._name(target) for target in targets]

    def _filter(self, name: str, pos: int) -> Any:
        target = self.filter_name()
        args = self.filter_args(target)
        self._block_end(name)
        body = nodes.Capture(target.pos, self._until("endfilter"))
        self._block_end()
        node = nodes.Filter(target.pos, target, nodes.Nodes(target.pos, [body, *args]))
        return nodes.Output(target.pos, [node])

    def _switch(self, name: str, pos: int) -> Any:
        ends = ("case", "default", "endswitch")
        expr = self.expression()
        self._block_end(name)
        self._until(*ends)
        cases: list[tuple[Any, nodes.Nodes]] = []
        while True:
            # The first tag is taken as a case whatever it is.
            self.skip_symbol("case")
            cond = self.expression()
            self._block_end(name)
            cases.append((cond, self._until(*ends)))
            token = self.peek()
            if token is None or token[1] != "case":
                break
        default = None
        word = token[1] if token is not None else None
        if word == "default":
            self._block_end()
            default = self._until("endswitch")
            self._block_end()
        elif word == "endswitch":
            self._block_end()
        else:
            self.fail('parseSwitch: expected "case," "default" or "endswitch," got EOF.')
        return nodes.Switch(pos, expr, cases, default)


_STATEMENTS: dict[str, Any] = {
    "raw": Parser._raw,
    "verbatim": Parser._raw,
    "if": Parser._if,
    "ifAsync": Parser._if,
    "for": Parser._for,
    "asyncEach": Parser._for,
    "asyncAll": Parser._for,
    "block": Parser._block,
    "extends": Parser._extends,
    "include": Parser._include,
    "set": Parser._set,
    "macro": Parser._macro,
    "call": Parser._call,
    "import": Parser._import,
    "from": Parser._from,
    "filter": Parser._filter,
    "switch": Parser._switch,
}
