"""Frontmatter of a template: split off, parsed, every key checked; nothing is rendered here. Pure; called by the loader.

    ---
    to: "src/{{ name | kebabCase }}.ts"
    ---
    body

Unknown keys are errors, because a misspelt ``skipIf`` that is silently ignored overwrites somebody's file.
"""

import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from unjucks_runtime.generator.errors import ParseError
from unjucks_runtime.generator.yamlfile import Marks, parse_yaml

MAX_FRONTMATTER_CHARS: Final = 32 * 1024
_OPEN: Final = re.compile(r"\ufeff?---[ \t]*\r?\n")
_CLOSE: Final = re.compile(r"^---[ \t]*(?:\r?\n|\Z)", re.MULTILINE)
_MODE: Final = re.compile(r"0?[0-7]{3}")
_ALIASES: Final = {"at_line": "lineAt", "unlessExists": "unless_exists", "for_each": "forEach"}
_ANCHORS: Final = ("before", "after", "append", "prepend", "lineAt", "merge")
KEYS: Final = frozenset(
    {
        "to", "inject", "before", "after", "append", "prepend", "lineAt", "at_line", "skipIf", "skip_if", "unless_exists",
        "unlessExists", "force", "from", "if", "chmod", "message", "marker", "occurrence", "create", "forEach", "for_each",
        "merge", "comment",
    }
)  # fmt: skip
_REFUSED: Final = {
    "sh": "commands are never run; do it after the generation, in your own pipeline",
    "setup": "commands are never run; do it after the generation, in your own pipeline",
    "echo": "use message",
    "spinner": "remove it",
    "eof_last": "remove it; append keeps the target's final newline",
    "unless": 'write if: "not …"',
    "condition": "write if",
    "when": "write if",
    "backup": "remove it; nothing is overwritten unless force is set",
    "eol": "remove it; line ends follow the target's",
}


@dataclass(frozen=True)
class ForEach:
    """``forEach: {item: m, in: models, index: i}``: one file for each item of the expression ``in``."""

    item: str
    within: str
    index: str = ""


@dataclass(frozen=True)
class Frontmatter:
    """What a template's frontmatter says. Texts are not rendered yet; ``marks`` has (line, column) of each key.

    ``anchor`` is one of before, after, append, prepend, lineAt, merge, or empty for a file that is written whole.
    """

    to: str | None = None
    skip: bool = False  # ``to: null``
    anchor: str = ""
    anchor_value: str | int = ""
    occurrence: int = 1  # -1 for the last
    marker: str = ""
    comment: str = ""
    create: bool = False
    skip_if_expression: str = ""
    skip_if_text: str = ""
    unless_exists: bool = False
    force: bool = False
    source: str = ""  # ``from``
    condition: str = ""  # ``if``
    chmod: int | None = None
    message: str = ""
    for_each: ForEach | None = None
    marks: Mapping[str, tuple[int, int]] = field(default_factory=dict)


def split(text: str) -> tuple[str, str, int] | None:
    """(frontmatter, body, line on which the body starts) of a template, or None when it has no frontmatter."""
    opened = _OPEN.match(text)
    if not opened:
        return None
    closed = _CLOSE.search(text, opened.end())
    if not closed:
        return None
    head = text[opened.end() : closed.start()]
    return head, text[closed.end() :], text.count("\n", 0, closed.end()) + 1


def looks_like_frontmatter(head: str) -> bool:
    """Whether a ``---`` block of a file without .njk suffix is meant as frontmatter: a map of our keys and nothing else."""
    try:
        value, _ = parse_yaml(head, max_chars=MAX_FRONTMATTER_CHARS)
    except ParseError:
        return bool(re.search(r"^(to|inject)[ \t]*:", head, re.MULTILINE))
    return isinstance(value, dict) and bool(value) and value.keys() <= KEYS | _REFUSED.keys()


def parse(head: str, first_line: int = 2) -> Frontmatter:
    """The frontmatter of a ``---`` block; raises ParseError with the line in the file."""
    value, marks = parse_yaml(head, first_line=first_line, max_chars=MAX_FRONTMATTER_CHARS)
    if value is None:
        return Frontmatter()
    if not isinstance(value, dict):
        raise ParseError("frontmatter is a map of keys and values, such as to: and inject:", first_line, 1)
    return from_mapping(value, marks, ())


def from_mapping(value: Mapping[str, Any], marks: Marks, prefix: tuple[str | int, ...]) -> Frontmatter:
    """Frontmatter out of a parsed map; also used for the entries of ``files`` in action.yaml."""
    reader = _Keys(value, marks, prefix)
    reader.check_names()
    anchor, anchor_value = reader.anchor()
    to = reader.text("to", allow_null=True)
    skip_if = reader.text("skipIf")
    made = Frontmatter(
        to=to.strip() if to is not None else None,
        skip="to" in value and (value["to"] is None or value["to"] is False or not (to or "").strip()),
        anchor=anchor,
        anchor_value=anchor_value,
        occurrence=reader.occurrence(),
        marker=(reader.text("marker") or "").strip(),
        comment=(reader.text("comment") or "").strip(),
        create=reader.flag("create"),
        skip_if_expression=reader.expression("skipIf") if skip_if else "",
        skip_if_text=reader.text("skip_if") or "",
        unless_exists=reader.flag("unless_exists"),
        force=reader.flag("force"),
        source=reader.text("from") or "",
        condition=reader.expression("if"),
        chmod=reader.mode(),
        message=reader.text("message") or "",
        for_each=reader.for_each(),
        marks={str(key[len(prefix)]): place for key, place in marks.items() if len(key) == len(prefix) + 1},
    )
    for name in ("marker", "create", "occurrence"):
        if value.get(name) and not anchor:
            raise reader.fail(name, f"{name} needs one of before, after, append, prepend or lineAt")
    if made.marker and anchor == "merge":
        raise reader.fail("marker", "merge works on JSON, which has no comment lines for a marker")
    if made.comment and not made.marker:
        raise reader.fail("comment", "comment only says how a marker's lines are written; add marker")
    if made.create and anchor in ("before", "after", "lineAt"):
        raise reader.fail(
            "create", f"a file that does not exist has no place for {anchor}; create goes with append, prepend or merge"
        )
    if "occurrence" in value and anchor not in ("before", "after"):
        raise reader.fail("occurrence", "occurrence goes with before or after")
    return made


class _Keys:
    def __init__(self, value: Mapping[str, Any], marks: Marks, prefix: tuple[str | int, ...]) -> None:
        self.value: dict[str, Any] = {}
        self.raw = value
        self.marks = marks
        self.prefix = prefix
        for key, item in value.items():
            name = _ALIASES.get(key, key)
            if name in self.value:
                raise self.fail(key, f"{key} and {name} are the same key; keep one")
            self.value[name] = item

    def fail(self, key: str, message: str) -> ParseError:
        line, column = self.marks.get((*self.prefix, key), self.marks.get(self.prefix, (0, 0)))
        return ParseError(message, line, column)

    def check_names(self) -> None:
        for key in self.raw:
            if key in _REFUSED:
                raise self.fail(key, f"the frontmatter key {key!r} is not supported: {_REFUSED[key]}")
            if key not in KEYS:
                near = difflib.get_close_matches(key, KEYS, n=1)
                hint = f"; did you mean {near[0]}?" if near else ""
                more = (
                    "" if near else "; when this block is content, put an empty frontmatter (two lines ---) before it"
                )
                raise self.fail(key, f"unknown frontmatter key {key[:60]!r}{hint}{more}")

    def text(self, key: str, *, allow_null: bool = False) -> str | None:
        item = self.value.get(key)
        if isinstance(item, dict):
            raise self.fail(key, f'{key} must be text; a value that starts with "{{{{" has to be quoted')
        if item is None or item is False:
            if key in self.value and not allow_null and item is None:
                raise self.fail(key, f"{key} has no value")
            return None
        if not isinstance(item, str | int | float) or item is True:
            raise self.fail(key, f"{key} must be text")
        return str(item)

    def flag(self, key: str) -> bool:
        item = self.value.get(key, False)
        if not isinstance(item, bool):
            raise self.fail(key, f"{key} must be true or false")
        return item

    def expression(self, key: str) -> str:
        item = self.value.get(key)
        if isinstance(item, bool):
            return "true" if item else "false"
        text = self.text(key)
        return "" if text is None else check_expression(text, lambda message: self.fail(key, message), key)

    def anchor(self) -> tuple[str, str | int]:
        present = [key for key in _ANCHORS if self.value.get(key) is not None and self.value[key] is not False]
        inject = self.value.get("inject")
        if inject is not None and not isinstance(inject, bool):
            raise self.fail("inject", "inject must be true or false")
        if len(present) > 1:
            first, second = present[0], present[1]
            raise self.fail(second, f"{first} and {second} exclude each other; one template makes one change")
        if inject is True and not present:
            raise self.fail("inject", "inject: true needs a place: before, after, append, prepend, lineAt or merge")
        if inject is False and present:
            raise self.fail(present[0], f"{present[0]} contradicts inject: false")
        if not present:
            return "", ""
        key = present[0]
        item = self.value[key]
        if key in ("append", "prepend"):
            if item is not True:
                raise self.fail(key, f"{key} must be true or false")
            return key, ""
        if key == "merge":
            if item is not True and item != "json":
                raise self.fail(key, "merge must be json")
            return key, "json"
        if key == "lineAt":
            if isinstance(item, int) and not isinstance(item, bool):
                if item < 1:
                    raise self.fail(key, "lineAt counts lines from 1")
                return key, item
            return key, self.text(key) or ""
        text = self.text(key) or ""
        if not text.strip():
            raise self.fail(key, f"{key} must hold the text of a line, or /expression/")
        return key, text

    def occurrence(self) -> int:
        item = self.value.get("occurrence", 1)
        if item == "first":
            return 1
        if item == "last":
            return -1
        if not isinstance(item, int) or isinstance(item, bool) or item < 1:
            raise self.fail("occurrence", "occurrence must be first, last or a number from 1")
        return item

    def mode(self) -> int | None:
        item = self.value.get("chmod")
        if item is None:
            return None
        if not isinstance(item, str):
            raise self.fail("chmod", 'chmod must be quoted text such as "0644" or "0755"')
        if not _MODE.fullmatch(item.strip()) or int(item, 8) & 0o022 or not int(item, 8) & 0o400:
            raise self.fail("chmod", f'chmod {item[:20]!r} is not allowed; use "0644" or "0755"')
        return 0o755 if int(item, 8) & 0o100 else 0o644

    def for_each(self) -> ForEach | None:
        item = self.value.get("forEach")
        if item is None:
            return None
        if not isinstance(item, dict) or not {"item", "in"} <= item.keys() <= {"item", "in", "index"}:
            raise self.fail("forEach", "forEach must be {item: <name>, in: <expression>} and may have index: <name>")
        for name in (item["item"], item.get("index", "x")):
            if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,63}", name):
                raise self.fail("forEach", f"{str(name)[:60]!r} is no variable name")
        within = item["in"]
        if isinstance(within, list):
            within = json.dumps(within, ensure_ascii=False)
        if not isinstance(within, str):
            raise self.fail("forEach", "forEach.in must be a list, or an expression such as models")
        return ForEach(
            item["item"],
            check_expression(within, lambda message: self.fail("forEach", message), "forEach.in"),
            item.get("index", ""),
        )


def check_expression(text: str, fail: Any, key: str) -> str:
    """An expression's text, when it can stand inside a tag; ``fail(message)`` makes the error otherwise."""
    if "{{" in text or "{%" in text or "%}" in text or "{#" in text:
        raise fail(f"{key} is an expression: write it without {{{{ }}}} and {{% %}}")
    if not text.strip():
        raise fail(f"{key} is empty")
    return text.strip()
