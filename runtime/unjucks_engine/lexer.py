"""Splits a template source into tokens, on demand.

A token is ``(type, value, pos)``; types are named as in Nunjucks' messages. Must stay lazy: a ``raw`` tag moves the position, and
of two mistakes in a file the first one read is reported. Called by the parser only.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from functools import lru_cache
from typing import Any, Final, NamedTuple

from unjucks_engine.errors import TemplateSyntaxError

Token = tuple[str, Any, int]

#: JavaScript's white space (``\s`` of its regular expressions).
JS_SPACE: Final = (
    "\t\n\v\f\r \xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006"
    "\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000\ufeff"
)

_DELIMITERS = re.escape("()[]{}%*-+~/#,:|.<>=!")
_SINGLE = {
    "(": "left-paren",
    ")": "right-paren",
    "[": "left-bracket",
    "]": "right-bracket",
    "{": "left-curly",
    "}": "right-curly",
    ",": "comma",
    ":": "colon",
    "~": "tilde",
    "|": "pipe",
}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_WORDS = {"true": "boolean", "false": "boolean", "none": "none", "null": "none"}
_DIGITS = re.compile("[0-9]*")


#: Groups of the expression for marks in text.
_BLOCK, _VARIABLE, _COMMENT, _COMMENT_END = 1, 2, 3, 4


class Tags(NamedTuple):
    """The marks around blocks, variables and comments."""

    block_start: str = "{%"
    block_end: str = "%}"
    variable_start: str = "{{"
    variable_end: str = "}}"
    comment_start: str = "{#"
    comment_end: str = "#}"


@lru_cache(maxsize=32)
def _patterns(tags: Tags) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """(what a token inside a tag looks like, where text ends)."""
    code = re.compile(
        r"""[ \n\t\r\u00a0]*(?:(?:"(?P<dq>[^"\\]*(?:\\.[^"\\]*)*)(?:"|\\?\Z))"""
        r"""|(?:'(?P<sq>[^'\\]*(?:\\.[^'\\]*)*)(?:'|\\?\Z))"""
        rf"|(?P<blockend>-?{re.escape(tags.block_end)})"
        rf"|(?P<varend>-?{re.escape(tags.variable_end)})"
        r"|(?P<regex>r/(?P<body>.*?)(?:(?<!\\)/|\Z)(?P<flags>[gimy]*))"
        r"|(?P<op>===|!==|==|!=|<=|>=|//|\*\*|[" + _DELIMITERS + "])"
        r"|(?P<word>[^ \n\t\r\u00a0" + _DELIMITERS + r"]+)|(?P<end>\Z))",
        re.DOTALL,
    )
    marks = (tags.block_start, tags.variable_start, tags.comment_start, tags.comment_end)
    return code, re.compile("|".join(f"({re.escape(mark)})" for mark in marks))


class Lexer:
    """Tokens of one source. ``pos`` is the offset of the next character."""

    def __init__(self, source: str, tags: Tags, trim_blocks: bool, lstrip_blocks: bool) -> None:
        self.source = source
        self.tags = tags
        self.pos = 0
        #: Whether the next character is inside a tag.
        self.in_code = False
        self.trim = trim_blocks
        self.lstrip = lstrip_blocks
        self._code, self._text = _patterns(tags)
        self._lines: list[int] | None = None

    def place(self, pos: int) -> tuple[int, int]:
        """Line and column of an offset, both counted from 0."""
        if self._lines is None:
            self._lines = [0, *(match.end() for match in re.finditer("\n", self.source))]
        line = bisect_right(self._lines, pos) - 1
        return line, pos - self._lines[line]

    def next(self) -> Token | None:
        """The next token; None at the end. White space inside tags is left out."""
        start = self.pos
        if not self.in_code:
            return self._next_text() if start < len(self.source) else None
        match = self._code.match(self.source, start)
        assert match is not None
        kind = match.lastgroup
        assert kind is not None
        text = match[kind]
        self.pos = match.end()
        start = match.start(kind)
        if kind == "word":
            word_type = _WORDS.get(text)
            if word_type is not None:
                return word_type, text, start
            if text.isdigit() and text.isascii():
                return self._number(text, start)
            return "symbol", text, start
        if kind == "op":
            return _SINGLE.get(text, "operator"), text, start
        if kind == "varend":
            self.in_code = False
            return "variable-end", text, start
        if kind == "blockend":
            self.in_code = False
            if self.trim:
                if self.source.startswith("\n", self.pos):
                    self.pos += 1
                elif self.source.startswith("\r\n", self.pos):
                    self.pos += 2
            return "block-end", text, start
        if kind == "end":
            return None
        if kind == "regex":
            return "regex", (match["body"], match["flags"]), start
        if "\\" in text:
            text = _ESCAPE.sub(lambda found: _ESCAPES.get(found[1], found[1]), text)
        return "string", text, start - 1

    def _number(self, text: str, start: int) -> Token:
        if self.source.startswith(".", self.pos):
            match = _DIGITS.match(self.source, self.pos + 1)
            assert match is not None
            self.pos = match.end()
            return "float", f"{text}.{match[0]}", start
        return "int", text, start

    def _next_text(self) -> Token | None:
        start = self.pos
        source = self.source
        match = self._text.search(source, start)
        if match is None:
            self.pos = len(source)
            return "data", source[start:], start
        end = match.start()
        found = match.lastindex
        if end == start:
            if found == _COMMENT:
                tags = self.tags
                end = source.find(tags.comment_end, start + len(tags.comment_start))
                if end < 0:
                    raise TemplateSyntaxError("expected end of comment, got end of file", prefix="Error: ")
                self.pos = end + len(tags.comment_end)
                return "comment", source[start : self.pos], start
            if found != _COMMENT_END:
                end = match.end()
                if source.startswith("-", end):
                    end += 1
                self.pos = end
                self.in_code = True
                return "block-start" if found == _BLOCK else "variable-start", source[start:end], start
        self.pos = end
        data = source[start:end]
        if found == _COMMENT_END:
            raise TemplateSyntaxError("unexpected end of comment", prefix="Error: ")
        if found == _BLOCK and self.lstrip:
            data = self.before_block(data, end)
            if not data:
                return self.next()
        return "data", data, start

    def before_block(self, data: str, end: int) -> str:
        """Text that ends at ``end``, in front of a block tag, without the white space that ``lstrip_blocks`` takes away."""
        column = end - (self.source.rfind("\n", 0, end) + 1)
        if 0 < column <= len(data) and not data[-column:].strip(JS_SPACE):
            return data[:-column]
        return data

    def enter_tag(self, pos: int) -> None:
        """Goes on at a position inside a tag."""
        self.pos = pos
        self.in_code = True

    def skip_match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """Moves behind the first match of the pattern at or after the position."""
        match = pattern.search(self.source, self.pos)
        if match is not None:
            self.pos = match.end()
        return match
