"""What most tags look like, read by one regular expression each instead of token by token.

Only for the usual marks. Everything here gives the nodes, positions and counts that the token-wise way gives; whatever does not
look simple is left to that way, and so is every mistake. Mixed into the parser.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from unjucks_engine import nodes
from unjucks_engine.lexer import JS_SPACE
from unjucks_engine.numbers import parse_decimal
from unjucks_engine.tokens import TokenReader

if TYPE_CHECKING:
    pass

_SPACE = r"[ \n\t\r\u00a0]*+"
_NAME = r"[A-Za-z_$][A-Za-z0-9_$]*+"
_KEYS = rf"(?:\.{_NAME}|\[[0-9]++\])*+"
_CONSTANT = r"""(?:"[^"\\]*+"|'[^'\\]*+'|[0-9]++)"""
_ARGUMENTS = rf"\({_SPACE}{_CONSTANT}{_SPACE}(?:,{_SPACE}{_CONSTANT}{_SPACE})*+\){_SPACE}"
_FILTER = rf"\|{_SPACE}{_NAME}{_SPACE}(?:{_ARGUMENTS})?+"

#: Text and the tag behind it: a whole output, the first word of a block, or only the mark.
_PIECE = re.compile(
    r"([^{#]*+(?:(?:\{(?![{%#])|#(?!\}))[^{#]*+)*+)"
    rf"(?:\{{\{{(?:(-?){_SPACE}({_NAME})({_KEYS}){_SPACE}((?:{_FILTER})*+)(-?)\}}\}}|(-?))"
    rf"|\{{%(-?)(?:{_SPACE}([A-Za-z]++)(?=[ \n\t\r\u00a0]|-?%\}}))?)?"
).match
_ONE_FILTER = re.compile(rf"\|{_SPACE}({_NAME}){_SPACE}({_ARGUMENTS})?")
_ONE_CONSTANT = re.compile(_CONSTANT)
_END = re.compile(rf"{_SPACE}(-?+%\}})").match
_END_AND_LINE = re.compile(rf"{_SPACE}(-?+%\}})(?:\r?+\n)?+").match
_ONE_KEY = re.compile(rf"\.({_NAME})|\[([0-9]++)\]")
_ASSIGNED = re.compile(rf"{_SPACE}({_NAME}){_SPACE}=(?!=)").match
_PATH = re.compile(rf"{_SPACE}(?:(not)[ \n\t\r\u00a0]++)?({_NAME})({_KEYS}){_SPACE}(?=[,)\]:]|-?[%}}]\}})").match
_TARGETS = re.compile(
    rf"{_SPACE}({_NAME}){_SPACE}(?:,{_SPACE}({_NAME}){_SPACE})?(?<=[ \n\t\r\u00a0])in(?=[ \n\t\r\u00a0])"
).match
#: Words that are no names.
_CONSTANTS = frozenset(("true", "false", "none", "null"))
_NO_PATHS = _CONSTANTS | {"not"}


class Shortcuts(TokenReader):
    """The parser's half that does not look at tokens."""

    _strip_next: bool
    _mark: int
    _stop: tuple[str, ...]

    def _path(self, pos: int, name: str, keys: str) -> Any:
        """``name.key[0]`` at ``pos``; None where that is something else."""
        if name in _NO_PATHS:
            return None
        node: Any = nodes.Symbol(pos, name)
        count = 2
        if keys:
            pos += len(name)
            if "[" in keys:
                for found in _ONE_KEY.finditer(keys):
                    key, index = found.groups()
                    if key in _CONSTANTS:
                        return None
                    at = pos + found.start()
                    node = nodes.LookupVal(
                        at, node, nodes.Literal(at + 1, key if index is None else parse_decimal(index))
                    )
                    count += 1 if index is None else 4
            else:
                for key in keys[1:].split("."):
                    if key in _CONSTANTS:
                        return None
                    node = nodes.LookupVal(pos, node, nodes.Literal(pos + 1, key))
                    pos += len(key) + 1
                    count += 1
        if self._nodes_left < count or self._depth + count > self.limits.nesting:
            return None
        self._nodes_left -= count
        return node

    def _filtered(self, node: Any, source: str, start: int, end: int) -> Any:
        """The filters between two offsets around a node; None where there is something else."""
        count = 0
        for found in _ONE_FILTER.finditer(source, start, end):
            name, arguments = found.groups()
            if name in _CONSTANTS:
                return None
            pos = found.start(1)
            items = [node]
            count += 1
            if arguments:
                count += 1
                for constant in _ONE_CONSTANT.finditer(source, found.start(2), found.end(2)):
                    text = constant[0]
                    value: Any = text[1:-1] if text[0] in "\"'" else parse_decimal(text)
                    items.append(nodes.Literal(constant.start(), value))
                    count += 2
            node = nodes.Filter(pos, nodes.Symbol(pos, name), nodes.Nodes(pos, items))
        if self._nodes_left < count or self._depth + count + 2 > self.limits.nesting:
            return None
        self._nodes_left -= count
        return node

    def shortcut_expression(self) -> Any:
        """A name or path, with ``not`` or without, in front of the end of an expression; None (and nothing taken) for anything
        else."""
        lexer = self.lexer
        found = _PATH(lexer.source, lexer.pos)
        if found is None:
            return None
        invert, name, keys = found.groups()
        if invert is None:
            node = self._path(found.start(2), name, keys)
        else:
            if self._nodes_left < 1:
                return None
            self._nodes_left -= 1
            self._depth += 1
            node = self._path(found.start(2), name, keys)
            self._depth -= 1
            if node is None:
                self._nodes_left += 1
                return None
            node = nodes.Unary(found.start(1), "not", node)
        if node is not None:
            lexer.pos = found.end()
        return node

    def shortcut_assigned(self) -> Any:
        """The one name of a ``set``, the sign included; None (and nothing taken) for anything else."""
        lexer = self.lexer
        found = _ASSIGNED(lexer.source, lexer.pos)
        if found is None or found[1] in _CONSTANTS or self._nodes_left < 1:
            return None
        lexer.pos = found.end()
        self._nodes_left -= 1
        return nodes.Symbol(found.start(1), found[1])

    def shortcut_targets(self) -> Any:
        """The names of a loop, ``in`` included; None (and nothing taken) for anything else."""
        lexer = self.lexer
        found = _TARGETS(lexer.source, lexer.pos)
        if found is None:
            return None
        first, second = found.groups()
        if first in _CONSTANTS or second in _CONSTANTS or self._nodes_left < 2:
            return None
        pos = found.start(1)
        lexer.pos = found.end()
        self._nodes_left -= 1
        target: Any = nodes.Symbol(pos, first)
        if second is not None:
            self._nodes_left -= 1
            target = nodes.Array(pos, [target, nodes.Symbol(found.start(2), second)])
        return target

    def shortcut_end(self) -> int:
        """The end of a block tag: its position, or -1 (and nothing taken) for anything else."""
        lexer = self.lexer
        source = lexer.source
        found = (_END_AND_LINE if lexer.trim else _END)(source, lexer.pos)
        if found is None:
            return -1
        lexer.pos = found.end()
        lexer.in_code = False
        start = found.start(1)
        if source[start] == "-":
            self._strip_next = True
        return start

    def shortcut_piece(self, result: list[Any], statements: dict[str, Any]) -> int:
        """Text, and the tag behind it as far as it is simple.

        Returns 0 if there was nothing for it here, 1 if it is done, 2 at the end of a body, 3 inside an output and 4 inside a block
        whose rest has to be read token by token.
        """
        lexer = self.lexer
        source = lexer.source
        start = lexer.pos
        found = _PIECE(source, start)
        assert found is not None
        text, dash, name, keys, filters, end_dash, open_dash, block_dash, word = found.groups()
        if block_dash is not None:
            strip = block_dash
        elif dash is not None:
            strip = dash
        elif open_dash is not None:
            strip = open_dash
        else:
            return 0
        if text:
            if block_dash is not None and lexer.lstrip:
                text = lexer.before_block(text, start + len(text))
            if text:
                if self._strip_next:
                    text = text.lstrip(JS_SPACE)
                    self._strip_next = False
                if strip:
                    text = text.rstrip(JS_SPACE)
                result.append(nodes.Output(start, [nodes.Data(start, text)]))
        mark = found.end(1)
        if block_dash is None:
            if name is not None:
                left = self._nodes_left
                node = self._path(found.start(3), name, keys)
                if node is not None and filters:
                    node = self._filtered(node, source, found.start(5), found.end(5))
                if node is not None:
                    self._strip_next = end_dash == "-"
                    lexer.pos = found.end()
                    result.append(nodes.Output(mark, [node]))
                    return 1
                self._nodes_left = left
            lexer.enter_tag(mark + 2 + len(strip))
            self._mark = mark
            return 3
        self._strip_next = False
        if word is None or word in _CONSTANTS:
            lexer.enter_tag(mark + 2 + len(strip))
            return 4
        lexer.enter_tag(found.end())
        pos = found.start(9)
        if word in self._stop:
            self._peeked = ("symbol", word, pos)
            return 2
        parse: Callable[..., Any] | None = statements.get(word)
        if parse is None:
            self.fail(f"unknown block tag: {word}", pos)
        assert parse is not None
        self.enter()
        result.append(parse(self, word, pos))
        self._depth -= 1
        return 1
