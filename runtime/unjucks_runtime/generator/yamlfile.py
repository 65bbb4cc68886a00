"""Strict YAML for frontmatter and side files: YAML 1.2 core scalars, JSON values only, with the place of every key.

Refused: duplicate keys, anchors and aliases (bombs), tags, merge keys, several documents, deep or large documents. Built on the
parser's events, so that nothing is constructed before it is checked. Pure; called by the loader of template sets and by the
command line for data files.
"""

import math
import re
from typing import Any, Final

import yaml

from unjucks_runtime.generator.errors import ParseError

MAX_CHARS: Final = 512 * 1024
MAX_DEPTH: Final = 40
MAX_VALUES: Final = 50_000

Marks = dict[tuple[str | int, ...], tuple[int, int]]

_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INT: Final = re.compile(r"[-+]?[0-9]+")
_OCTAL_OR_HEX: Final = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_QUOTE_HINT: Final = (
    'the value starts with "{{", which YAML reads as a map: put it in quotes, for example to: "{{ name }}.ts"'
)


def parse_yaml(text: str, *, first_line: int = 1, max_chars: int = MAX_CHARS) -> tuple[Any, Marks]:
    """The document's value (None when empty) and where each key or item stands; raises ParseError with line and column.

    ``first_line`` is the line of the file on which ``text`` starts (for frontmatter).
    """
    if len(text) > max_chars:
        raise ParseError(f"the YAML document is longer than {max_chars} characters", first_line, 1)
    return _Reader(text, first_line).document()


class _Reader:
    def __init__(self, text: str, first_line: int) -> None:
        self.lines = text.splitlines()
        self.first_line = first_line
        self.values = 0
        self.marks: Marks = {}
        self.events = yaml.parse(text, Loader=_LOADER)

    def next(self) -> Any:
        try:
            return next(self.events)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = mark.line if mark is not None else 0
            column = mark.column if mark is not None else 0
            hint = self._hint(line)
            message = hint or f"not valid YAML: {error.problem or error.context or 'syntax error'}"
            raise ParseError(message, line + self.first_line, column + 1) from None
        except (yaml.YAMLError, UnicodeError) as error:
            raise ParseError(f"not valid YAML: {str(error).splitlines()[0][:200]}", self.first_line, 1) from None

    def _hint(self, line: int) -> str:
        near = self.lines[max(0, line - 1) : line + 1]
        return _QUOTE_HINT if any(re.search(r"[:\-]\s+\{\{", text) for text in near) else ""

    def fail(self, message: str, event: Any) -> ParseError:
        """The error at an event's place."""
        return ParseError(message, *self.at(event))

    def at(self, event: Any) -> tuple[int, int]:
        """Line and column of an event in the file."""
        return event.start_mark.line + self.first_line, event.start_mark.column + 1

    def document(self) -> tuple[Any, Marks]:
        self.next()  # StreamStart
        event = self.next()
        if isinstance(event, yaml.StreamEndEvent):
            return None, {}
        value = self.value(self.next(), (), 0)
        self.next()  # DocumentEnd
        event = self.next()
        if not isinstance(event, yaml.StreamEndEvent):
            raise self.fail("there is a second YAML document; only one is allowed", event)
        return value, self.marks

    def value(self, event: Any, path: tuple[str | int, ...], depth: int) -> Any:
        self.values += 1
        if self.values > MAX_VALUES:
            raise self.fail(f"the YAML document has more than {MAX_VALUES} values", event)
        if depth > MAX_DEPTH:
            raise self.fail(f"the YAML document is nested deeper than {MAX_DEPTH} levels", event)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise self.fail("YAML anchors and aliases are not allowed here; write the value out", event)
        if getattr(event, "tag", None) not in (None, "!"):
            raise self.fail(f"YAML tags are not allowed ({str(event.tag)[:60]})", event)
        self.marks.setdefault(path, self.at(event))
        if isinstance(event, yaml.ScalarEvent):
            return self.scalar(event)
        if isinstance(event, yaml.SequenceStartEvent):
            items: list[Any] = []
            while not isinstance(item := self.next(), yaml.SequenceEndEvent):
                items.append(self.value(item, (*path, len(items)), depth + 1))
            return items
        return self.mapping(path, depth)

    def mapping(self, path: tuple[str | int, ...], depth: int) -> dict[str, Any]:
        made: dict[str, Any] = {}
        while not isinstance(key := self.next(), yaml.MappingEndEvent):
            if not isinstance(key, yaml.ScalarEvent) or key.anchor or key.tag not in (None, "!"):
                line = self.at(key)[0] - self.first_line
                message = self._hint(line) or self._hint(line + 1) or "a YAML key must be plain text"
                raise self.fail(message, key)
            name = key.value
            if name == "<<" and not key.style:
                raise self.fail("YAML merge keys (<<) are not allowed; write the values out", key)
            if name in made:
                raise self.fail(f"the key {name[:60]!r} stands twice", key)
            self.marks[(*path, name)] = self.at(key)
            made[name] = self.value(self.next(), (*path, name), depth + 1)
        return made

    def scalar(self, event: Any) -> Any:
        text = event.value
        if not event.implicit[0] or event.style:  # quoted (a plain style is None or empty)
            return text
        if text in ("", "~", "null", "Null", "NULL"):
            return None
        if text in ("true", "True", "TRUE"):
            return True
        if text in ("false", "False", "FALSE"):
            return False
        if len(text) <= 40:
            if _INT.fullmatch(text):
                return int(text)
            if _OCTAL_OR_HEX.fullmatch(text):
                return int(text, 0)
            if _FLOAT.fullmatch(text):
                number = float(text)
                if math.isfinite(number):
                    return number
        if text in (".inf", "-.inf", ".nan", ".Inf", ".NaN"):
            raise self.fail(f"{text} is no JSON number", event)
        return text
