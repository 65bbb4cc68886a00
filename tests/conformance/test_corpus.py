"""Every case of the corpus, by name. What nobody has to reproduce is only required to stay within the engine's own errors."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from unjucks_engine import TemplateError, environment
from unjucks_engine.conformance import render

sys.path.insert(0, str(Path(__file__).parent))
from run import cases, failure, required

_ALL = list(cases())
_NAMED = [
    pytest.param(case, id=f"{area}-{number}-{case['name']}"[:80])
    for number, (area, case) in enumerate(_ALL)
    if required(case)
]
_FREE = [
    pytest.param(case, id=f"{area}-{number}-{case['name']}"[:80])
    for number, (area, case) in enumerate(_ALL)
    if not required(case)
]


def test_the_corpus_is_complete() -> None:
    """A lost file must not look like success."""
    assert len(_NAMED) >= 3600


@pytest.mark.parametrize("case", _NAMED)
def test_case(case: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine prints what Nunjucks prints, and fails where it fails, with its message: as closures and as generated code."""
    assert failure(case) is None
    monkeypatch.setattr(environment, "DEFAULT_WAYS", "code")
    assert failure(case) is None


@pytest.mark.parametrize("case", _FREE)
def test_free_case_is_safe(case: dict[str, Any]) -> None:
    """No inside of JavaScript or Python is reached, and no error of ours is an accident."""
    try:
        text = render(
            case.get("template"),
            case.get("templates") or {},
            case.get("entry"),
            json.loads(json.dumps(case["context"])),
            case["options"],
        )
    except TemplateError as error:
        text = str(error)
    for inside in ("internal error", "[native code]", "function (", "=>", " object at 0x", "<class", "built-in"):
        assert inside not in text
