"""The parser's shortcuts give what reading token by token gives: the same tree, places and counts, the same mistakes."""

from __future__ import annotations

import json
import pathlib
import random
from typing import Any

import pytest

from unjucks_engine import TemplateError, nodes
from unjucks_engine.jsregex import RegExp
from unjucks_engine.lexer import Tags
from unjucks_engine.limits import Limits
from unjucks_engine.statements import Parser
from unjucks_engine.syntax import parse

_CASES = pathlib.Path(__file__).parents[2] / "conformance" / "cases"
_PIECES = [
    "", "-", "{", "}", "{{", "}}", "%", "{%", "%}", "#", " ", "\n", ".", "|", '"', "'", "x", "none", "in ", "not ", "\u00a0", "\\",
    "(",
    ")", ",", "1", "[0]", "[", "]", "{#", "#}", "é", "r/", "=", "true",
]  # fmt: skip


def _sources() -> list[str]:
    found: set[str] = set()
    for file in _CASES.glob("*.json"):
        for case in json.loads(file.read_text(encoding="utf-8")):
            found.update(item for item in (case.get("template"), *(case.get("templates") or {}).values()) if item)
    return sorted(found)


def _damaged(source: str, chance: random.Random) -> str:
    at = chance.randrange(len(source) + 1)
    return source[:at] + chance.choice(_PIECES) + source[at + chance.choice([0, 0, 1, 2, 5]) :]


def _shown(item: Any) -> Any:
    if isinstance(item, nodes.Node):
        return type(item).__name__, item.pos, [_shown(getattr(item, name, None)) for name in type(item).fields]
    if isinstance(item, list | tuple):
        return [_shown(part) for part in item]
    return item.text() if isinstance(item, RegExp) else repr(item)


def _read(source: str, trim: bool, limits: Limits) -> Any:
    try:
        root, parser = parse(source, Tags(), trim, trim, limits)
    except TemplateError as error:
        return type(error).__name__, str(error), error.line, error.column
    return _shown(root), parser._nodes_left, parser.has_blocks, parser.has_async


@pytest.mark.parametrize("seed", range(2))
def test_both_ways_of_reading_agree(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """For every template of the corpus, as it is and damaged in one place, also with few nodes and little nesting."""
    chance = random.Random(seed)
    sources = [item if seed == 0 else _damaged(item, chance) for item in _sources()]
    ways = ((False, Limits()), (True, Limits()), (True, Limits(nodes=12)), (False, Limits(nesting=4)))
    settings = [(source, trim, limits) for source in sources for trim, limits in ways]
    quick = [_read(*setting) for setting in settings]
    start = Parser.__init__

    def token_wise(self: Parser, *args: Any) -> None:
        start(self, *args)
        self._usual = False

    monkeypatch.setattr(Parser, "__init__", token_wise)
    for setting, found in zip(settings, quick, strict=True):
        slow = _read(*setting)
        if found[0] == slow[0] == "LimitExceeded":
            continue  # which of two limits is met first may differ
        assert found == slow, setting
    assert len(settings) > 10_000
