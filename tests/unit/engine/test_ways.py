"""Closures and generated code are two ways to run one template: what a user sees must not tell which one ran."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Literal

import pytest

from support import hostile_templates as hostile
from unjucks_engine import Environment, LimitExceeded, Limits, TemplateError

sys.path.insert(0, str(Path(__file__).parents[2] / "perf"))
from render_workloads import workloads

_LOADS = workloads()
_CALM = [case for case in hostile.all_cases() if "bomb" not in case[0]]


def _env(templates: dict[str, str], ways: Literal["auto", "code"], **options: Any) -> Environment:
    env = Environment(templates, filters_profile="nunjucks", **options)
    env.ways = ways
    return env


@pytest.mark.parametrize("name", _LOADS)
@pytest.mark.parametrize("autoescape", [False, True])
def test_same_text(name: str, autoescape: bool) -> None:
    """Larger templates come out alike the first time, when they are compiled, and afterwards."""
    load = _LOADS[name]
    options = {"autoescape": autoescape, "trim_blocks": True, "lstrip_blocks": True}
    expected = [_env(load["templates"], "code", **options).render(file, load["data"]) for file in load["files"]]
    env = _env(load["templates"], "auto", **options)
    for _ in range(5):
        assert [env.render(file, load["data"]) for file in load["files"]] == expected


def test_what_is_used_again_is_compiled() -> None:
    """The first renders need no generated code, the later ones have it."""
    env = _env({"a": "{% for x in xs %}{{ x }},{% endfor %}"}, "auto")
    assert env.render("a", {"xs": [1, 2]}) == "1,2,"
    assert env._compiled["a"].make is not None
    for _ in range(3):
        assert env.render("a", {"xs": [1, 2]}) == "1,2,"
    assert env._compiled["a"].make is None


def test_long_work_is_compiled_at_once() -> None:
    """A render that turns out to be long starts again with generated code, and nothing is printed twice."""
    inner = "{% for y in range(40) %}{{ y % 7 }}{% endfor %}"
    env = _env({"a": "<{% for x in xs %}" + inner + "{% endfor %}>", "b": "[{% include 'a' %}]"}, "auto")
    expected = "[<" + "".join(str(y % 7) for _ in range(500) for y in range(40)) + ">]"
    assert env.render("b", {"xs": list(range(500))}) == expected
    assert env._compiled["a"].make is None


def test_starting_again_leaves_no_trace() -> None:
    """Neither the data nor counters and random values of the run that was given up are seen by the next one."""
    source = (
        "{% set c = cycler('a', 'b') %}{{ c.next() }}{% if xs.push(1) %}{% endif %}{{ xs.length }}"
        "{{ [1, 2, 3, 4, 5] | random }}{% for i in range(5000) %}"
        "{% if i == 4999 %}{{ xs.length }}{{ c.next() }}{% endif %}{% endfor %}"
    )
    data = {"xs": [0]}
    texts = {_env({}, ways, seed=7).render_string(source, data) for ways in ("auto", "code")}  # type: ignore[arg-type]
    assert len(texts) == 1
    assert texts.pop().startswith("a2")
    assert data == {"xs": [0]}


def test_depth_of_macros() -> None:
    """Closures nest more deeply in Python than generated code; the limit on macros stays what it is."""
    source = (
        "{% macro m(n) %}{% if n %}{% if true %}{{ m(n - 1) }}{% endif %}{% endif %}{{ n }}{% endmacro %}{{ m(100) }}"
    )
    auto, code = (_env({}, ways).render_string(source) for ways in ("auto", "code"))  # type: ignore[arg-type]
    assert auto == code
    for ways in ("auto", "code"):
        with pytest.raises(LimitExceeded) as failed:
            _env({}, ways).render_string(source.replace("100", "130"))  # type: ignore[arg-type]
        assert failed.value.limit == "macro_depth"


@pytest.mark.parametrize(
    "source",
    [
        "a\nb {{ x.y() }}",
        "{% for i in [1] %}\n  {{ missing() }}{% endfor %}",
        "{% if true %}\n\n{{ 'a' | nope }}{% endif %}",
        "{% macro m() %}\n {{ nothing.at() }}{% endmacro %}\n\n{{ m() }}",
        "x\n{% include 'none' %}",
        "\n{% set a = b() %}",
    ],
)
def test_places_of_errors(source: str) -> None:
    """Line, column and message do not depend on the way."""
    places = []
    for ways in ("auto", "code"):
        with pytest.raises(TemplateError) as failed:
            _env({"main": source}, ways).render("main", {})  # type: ignore[arg-type]
        error = failed.value
        places.append((type(error), error.template, error.line, error.column, error.message))
    assert places[0] == places[1]
    assert places[0][1] == "main"
    assert places[0][2] > 0


@pytest.mark.parametrize("case", _CALM, ids=[f"{index}-{case[0]}" for index, case in enumerate(_CALM)])
def test_hostile_templates(case: tuple[str, str, str]) -> None:
    """What templates must not reach is out of reach on both ways."""
    outcomes = []
    for ways in ("auto", "code"):
        env = _env(hostile.TEMPLATES, ways, autoescape=False)  # type: ignore[arg-type]
        try:
            outcomes.append(env.render_string(case[1], json.loads(json.dumps(hostile.CONTEXT))))
        except TemplateError as error:
            outcomes.append(error.message)
    assert outcomes[0] == outcomes[1]


def test_budgets_count_the_same() -> None:
    """Steps are those of the template, not of the way it runs."""
    source = "{% macro m(a) %}{{ a }}{% endmacro %}{% for i in xs %}{{ m(i) }}{% if i %}{{ i | upper }}{% endif %}{% endfor %}"
    data = {"xs": ["a", "b", "c"]}

    def least(ways: Literal["auto", "code"]) -> int:
        for work in range(1, 500):
            try:
                _env({}, ways, limits=Limits(work=work)).render_string(source, data)
            except LimitExceeded:
                continue
            return work
        raise AssertionError("the template needs more than it should")

    assert least("auto") == least("code")
