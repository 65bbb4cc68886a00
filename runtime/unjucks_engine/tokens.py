"""Reads tokens from a lexer, one ahead, and counts nodes and nesting: what all parts of the parser share."""

from __future__ import annotations

from typing import NoReturn

from unjucks_engine.errors import LimitExceeded, TemplateSyntaxError
from unjucks_engine.lexer import Lexer, Tags, Token
from unjucks_engine.limits import Limits

#: Tokens behind which no expression goes on.
ENDS = frozenset(("variable-end", "block-end", "right-paren", "right-bracket", "right-curly", "comma", "colon"))


class TokenReader:
    """One token ahead of a lexer."""

    def __init__(
        self, source: str, tags: Tags, trim_blocks: bool, lstrip_blocks: bool, limits: Limits, slices: bool
    ) -> None:
        self.slices = slices
        self.lexer = Lexer(source, tags, trim_blocks, lstrip_blocks)
        self.limits = limits
        self._peeked: Token | None = None
        self._nodes_left = limits.nodes
        self._depth = 0
        # Marks of one's own may look like operators, which counts.
        self._usual = tags == Tags()
        self._ends = ENDS if self._usual else frozenset()

    # -- tokens ------------------------------------------------------------------------------------------------------

    def next(self) -> Token | None:
        """The next token that is not white space."""
        token = self._peeked
        if token is not None:
            self._peeked = None
            return token
        return self.lexer.next()

    def peek(self) -> Token | None:
        """The next token, left in place."""
        token = self._peeked
        if token is None:
            token = self._peeked = self.lexer.next()
        return token

    def need(self) -> Token:
        """The next token, left in place; an error at the end of the file."""
        token = self._peeked or self.peek()
        if token is None:
            self.fail("unexpected end of file")
        return token

    def fail(self, message: str, pos: int | None = None, prefix: str = "") -> NoReturn:
        """Raises at ``pos``, or at the next token."""
        if pos is None:
            token = self.peek()
            if token is None:
                raise TemplateSyntaxError(message, prefix=prefix)
            pos = token[2]
        line, column = self.lexer.place(pos)
        raise TemplateSyntaxError(message, line=line + 1, column=column + 1, prefix=prefix)

    def skip(self, kind: str) -> bool:
        """Takes the next token if it has this type."""
        token = self._peeked or self.peek()
        if token is None or token[0] != kind:
            return False
        self._peeked = None
        return True

    def skip_value(self, kind: str, value: str) -> bool:
        """Takes the next token if it has this type and value."""
        token = self._peeked or self.peek()
        if token is None or token[0] != kind or token[1] != value:
            return False
        self._peeked = None
        return True

    def skip_symbol(self, value: str) -> bool:
        """Takes the next token if it is this word."""
        return self.skip_value("symbol", value)

    def expect(self, kind: str) -> Token:
        """Takes the next token, which must have this type."""
        token = self.need()
        self._peeked = None
        if token[0] != kind:
            self.fail(f"expected {kind}, got {token[0]}", token[2])
        return token

    def enter(self) -> None:
        """Counts a level of nesting and a node."""
        self._depth += 1
        if self._depth > self.limits.nesting:
            self.refuse("nesting")
        self._nodes_left -= 1
        if self._nodes_left < 0:
            self.refuse("nodes")

    def leave(self) -> None:
        """Ends a level of nesting."""
        self._depth -= 1

    def refuse(self, limit: str) -> NoReturn:
        """Raises ``LimitExceeded`` at the current place."""
        line, column = self.lexer.place(self.lexer.pos)
        raise LimitExceeded(limit, line=line + 1, column=column + 1)
