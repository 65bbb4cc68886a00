"""Regular expressions of JavaScript (no ``u`` flag), run by the ``regex`` package, which can be given a time limit.

Translates the pattern, never the text. A search that takes longer than the budget ends as ``LimitExceeded("regex_seconds")``.
Called by the parser (literals), the string methods and the filter ``replace``.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from unjucks_engine.errors import LimitExceeded, TemplateSyntaxError
from unjucks_engine.lexer import JS_SPACE

_NEWLINES = "\\n\\r\\u2028\\u2029"
_WORD = "A-Za-z0-9_"
_SPACE = "".join(f"\\u{ord(char):04x}" for char in JS_SPACE)
_CLASSES = {"d": "0-9", "w": _WORD, "s": _SPACE}
_NOT_CLASSES = {
    "D": "\\x00-/:-\\U0010ffff",
    "W": "\\x00-/:-@\\[-\\^`{-\\U0010ffff",
    "S": "",
}
_CONTROLS = {"t": "\\t", "n": "\\n", "v": "\\x0b", "f": "\\x0c", "r": "\\r", "0": "\\x00"}
_MAX_REPEAT = 100_000
_MAX_PATTERN = 10_000


class RegExp:
    """A regular expression object. ``last_index`` is its only state."""

    __slots__ = ("compiled", "flags", "global_", "last_index", "names", "source", "sticky")

    def __init__(self, source: str, flags: str) -> None:
        self.source = source or "(?:)"
        self.flags = "".join(sorted(flags))
        self.compiled, self.names = compile_pattern(source, self.flags)
        self.global_ = "g" in flags
        self.sticky = "y" in flags
        self.last_index: Any = 0

    def fresh(self) -> RegExp:
        """A new object for the same pattern: a literal makes one each time it is evaluated."""
        copy = RegExp.__new__(RegExp)
        copy.source, copy.flags, copy.compiled, copy.names = self.source, self.flags, self.compiled, self.names
        copy.global_, copy.sticky, copy.last_index = self.global_, self.sticky, 0
        return copy

    def text(self) -> str:
        """``String(regexp)``."""
        return f"/{self.source}/{self.flags}"

    def search(self, text: str, start: int, seconds: float) -> Any:
        """The first match at or after ``start`` (exactly there when sticky), or None."""
        return self._run(self.compiled.match if self.sticky else self.compiled.search, text, start, seconds)

    def search_from(self, text: str, start: int, seconds: float) -> Any:
        """The first match at or after ``start``, sticky or not."""
        return self._run(self.compiled.search, text, start, seconds)

    def _run(self, method: Any, text: str, start: int, seconds: float) -> Any:
        try:
            return method(text, start, timeout=seconds)
        except TimeoutError:
            raise LimitExceeded("regex_seconds", "a regular expression takes too long") from None
        except (MemoryError, RecursionError):
            raise LimitExceeded("regex_seconds", "a regular expression needs too much memory") from None


@lru_cache(maxsize=512)
def compile_pattern(source: str, flags: str) -> tuple[Any, dict[str, int]]:
    """The compiled pattern and the numbers of its named groups."""
    import regex  # type: ignore[import-untyped,unused-ignore]  # heavy, and few templates need it

    if len(set(flags)) != len(flags):
        raise TemplateSyntaxError(f"Invalid flags supplied to RegExp constructor '{flags}'", prefix="SyntaxError: ")
    translator = _Translator(source, "m" in flags)
    try:
        pattern = translator.run()
        # VERSION0 searches as the standard module does; nested sets have no meaning in JavaScript either.
        return regex.compile(pattern, regex.V0 | (regex.I if "i" in flags else 0)), translator.names
    except (regex.error, ValueError, OverflowError, RecursionError) as error:
        raise TemplateSyntaxError(f"Invalid regular expression: /{source}/: {error}", prefix="SyntaxError: ") from None


class _Translator:
    """Turns one pattern into the syntax of the ``regex`` package."""

    def __init__(self, source: str, multiline: bool) -> None:
        if len(source) > _MAX_PATTERN:
            raise TemplateSyntaxError("a regular expression is too long")
        self.source = source
        self.multiline = multiline
        self.pos = 0
        self.names: dict[str, int] = {}
        self.groups = 0
        self._closed: set[int] = set()
        self._total = self._count_groups()
        self._has_names = "(?<" in source.replace("(?<=", "").replace("(?<!", "")

    def _count_groups(self) -> int:
        count = 0
        in_class = False
        skip = False
        for index, char in enumerate(self.source):
            if skip:
                skip = False
            elif char == "\\":
                skip = True
            elif in_class:
                in_class = char != "]"
            elif char == "[":
                in_class = True
            elif char == "(":
                tail = self.source[index + 1 : index + 4]
                count += not tail.startswith("?") or (tail.startswith("?<") and tail[2:3] not in ("=", "!"))
        return count

    def run(self) -> str:
        result = self._alternatives(0)
        if self.pos < len(self.source):
            raise ValueError("Unmatched ')'")
        return result

    def _alternatives(self, depth: int) -> str:
        if depth > 60:
            raise ValueError("nested too deeply")
        out: list[str] = []
        while self.pos < len(self.source):
            char = self.source[self.pos]
            if char == ")":
                break
            if char == "|":
                self.pos += 1
                out.append("|")
                continue
            atom, repeatable = self._atom(depth)
            out.append(atom + self._quantifier(repeatable))
        return "".join(out)

    def _quantifier(self, repeatable: bool) -> str:
        found = self._read_quantifier()
        if found is None:
            return ""
        if not repeatable:
            raise ValueError("Nothing to repeat")
        if self.source.startswith("?", self.pos):
            self.pos += 1
            found += "?"
        return found

    def _read_quantifier(self) -> str | None:
        char = self.source[self.pos : self.pos + 1]
        if char in ("*", "+", "?") and char:
            self.pos += 1
            return char
        if char != "{":
            return None
        end = self.source.find("}", self.pos)
        low, comma, high = self.source[self.pos + 1 : end].partition(",")
        if end < 0 or not low.isdigit() or not (high.isdigit() or not high):
            return None
        if comma and high and int(high) < int(low):
            raise ValueError("numbers out of order in {} quantifier")
        if int(low) > _MAX_REPEAT or (high and int(high) > _MAX_REPEAT):
            raise ValueError("a repeat count is too high")
        self.pos = end + 1
        return f"{{{int(low)}{comma}{high and int(high)}}}"

    def _atom(self, depth: int) -> tuple[str, bool]:
        char = self.source[self.pos]
        self.pos += 1
        if char == "(":
            return self._group(depth)
        if char == "[":
            return self._class(), True
        if char == ".":
            return f"[^{_NEWLINES}]", True
        if char == "^":
            return (f"(?<![^{_NEWLINES}])" if self.multiline else "\\A"), False
        if char == "$":
            return (f"(?![^{_NEWLINES}])" if self.multiline else "\\Z"), False
        if char == "\\":
            return self._escape()
        if char in "*+?":
            raise ValueError("Nothing to repeat")
        if char == "{":
            self.pos -= 1
            if self._read_quantifier() is not None:
                raise ValueError("Nothing to repeat")
            self.pos += 1
        return _quote(char), True

    def _group(self, depth: int) -> tuple[str, bool]:
        rest = self.source[self.pos :]
        number = 0
        repeatable = True
        if not rest.startswith("?"):
            opening = "("
            self.groups += 1
            number = self.groups
        elif rest[:2] == "?:":
            opening = "(?:"
            self.pos += 2
        elif rest[:2] in ("?=", "?!"):
            opening = "(" + rest[:2]
            self.pos += 2
        elif rest[:3] in ("?<=", "?<!"):
            opening = "(" + rest[:3]
            repeatable = False
            self.pos += 3
        elif rest[:2] == "?<" and ">" in rest:
            name = rest[2 : rest.index(">")]
            if not name.isidentifier() or name in self.names:
                raise ValueError("Invalid capture group name")
            self.groups += 1
            number = self.groups
            self.names[name] = number
            opening = "("
            self.pos += len(name) + 3
        else:
            raise ValueError("Invalid group")
        body = self._alternatives(depth + 1)
        if not self.source.startswith(")", self.pos):
            raise ValueError("Unterminated group")
        self.pos += 1
        if number:
            self._closed.add(number)
        return f"{opening}{body})", repeatable

    def _escape(self) -> tuple[str, bool]:
        if self.pos >= len(self.source):
            raise ValueError("\\ at end of pattern")
        char = self.source[self.pos]
        if char in "bB":
            self.pos += 1
            edge = f"(?<=[{_WORD}])(?![{_WORD}])|(?<![{_WORD}])(?=[{_WORD}])"
            inner = f"(?<=[{_WORD}])(?=[{_WORD}])|(?<![{_WORD}])(?![{_WORD}])"
            return f"(?:{edge if char == 'b' else inner})", False
        if char in _CLASSES:
            self.pos += 1
            return f"[{_CLASSES[char]}]", True
        if char in _NOT_CLASSES:
            self.pos += 1
            return f"[^{_CLASSES[char.lower()]}]", True
        if char in "123456789":
            end = self.pos
            while end < len(self.source) and self.source[end].isdigit() and self.source[end].isascii():
                end += 1
            number = int(self.source[self.pos : end])
            if number <= self._total:
                self.pos = end
                return self._reference(number), True
        if char == "k" and self._has_names:
            name = self.source[self.pos + 2 : self.source.find(">", self.pos)]
            if not self.source.startswith("<", self.pos + 1) or not name:
                raise ValueError("Invalid named reference")
            self.pos += len(name) + 3
            if name not in self.names:
                raise ValueError("Invalid named capture referenced")
            return self._reference(self.names[name]), True
        return _quote(self._character()), True

    def _reference(self, number: int) -> str:
        # A group that has not matched is empty text; one that is still open or comes later never has.
        return f"(?({number})\\g<{number}>|)" if number in self._closed else "(?:)"

    def _character(self) -> str:
        """The single character an escape stands for; ``pos`` is behind the backslash."""
        char = self.source[self.pos]
        self.pos += 1
        if char in "tnvfr":
            return {"t": "\t", "n": "\n", "v": "\v", "f": "\f", "r": "\r"}[char]
        if char == "c":
            letter = self.source[self.pos : self.pos + 1]
            if letter.isalpha() and letter.isascii():
                self.pos += 1
                return chr(ord(letter) % 32)
            self.pos -= 1
            return "\\"
        for marker, digits in (("x", 2), ("u", 4)):
            if char == marker:
                code = self.source[self.pos : self.pos + digits]
                if len(code) == digits and all(c in "0123456789abcdefABCDEF" for c in code):
                    self.pos += digits
                    return chr(int(code, 16))
        if char in "01234567":
            end = self.pos
            while (
                end < len(self.source) and self.source[end] in "01234567" and end - self.pos < (2 if char < "4" else 1)
            ):
                end += 1
            code = self.source[self.pos - 1 : end]
            self.pos = end
            return chr(int(code, 8))
        return char

    def _class(self) -> str:
        negated = self.source.startswith("^", self.pos)
        self.pos += negated
        parts: list[str] = []
        while True:
            if self.pos >= len(self.source):
                raise ValueError("Unterminated character class")
            if self.source[self.pos] == "]":
                self.pos += 1
                break
            low = self._class_item()
            if self.source.startswith("-", self.pos) and self.source[self.pos + 1 : self.pos + 2] not in ("]", ""):
                self.pos += 1
                high = self._class_item()
                if len(low) > 1 or len(high) > 1:
                    parts += [_member(low), "\\-", _member(high)]
                elif low > high:
                    raise ValueError("Range out of order in character class")
                else:
                    parts.append(f"{_member(low)}-{_member(high)}")
            else:
                parts.append(_member(low))
        if not parts:
            return "(?s:.)" if negated else "(?!)"
        return f"[{'^' if negated else ''}{''.join(parts)}]"

    def _class_item(self) -> str:
        """A character, or the translated text (longer than one) of an escaped class."""
        char = self.source[self.pos]
        self.pos += 1
        if char != "\\":
            return char
        if self.pos >= len(self.source):
            raise ValueError("\\ at end of pattern")
        kind = self.source[self.pos]
        if kind in "dws":
            self.pos += 1
            return _CLASSES[kind]
        if kind in "DWS":
            self.pos += 1
            return {"D": "\\D", "W": "\\W", "S": "\\S"}[kind] if kind != "S" else _non_space()
        if kind == "b":
            self.pos += 1
            return "\b"
        if kind == "-":
            self.pos += 1
            return "-"
        return self._character()


def _non_space() -> str:
    result = []
    start = 0
    for char in sorted(JS_SPACE):
        if ord(char) > start:
            result.append(f"\\U{start:08x}-\\U{ord(char) - 1:08x}")
        start = ord(char) + 1
    return "".join([*result, f"\\U{start:08x}-\\U0010ffff"])


def _member(text: str) -> str:
    if len(text) > 1:
        return {"\\D": _NOT_CLASSES["D"], "\\W": _NOT_CLASSES["W"]}.get(text, text)
    return _quote(text)


def _quote(char: str) -> str:
    if char.isalnum() and char.isascii():
        return char
    return f"\\U{ord(char):08x}"
