"""What the analysis says a template needs."""

# ruff: noqa: E501 - template texts

from __future__ import annotations

from unjucks_engine import Environment
from unjucks_engine.analysis import analyze, analyze_source
from unjucks_engine.errors import LimitExceeded


def test_plain_reads_are_required() -> None:
    found = analyze_source("{{ name }}{{ project.title | upper }}")
    assert found.required == ["name", "project"]
    assert found.variables["project"].kind == "object"
    assert found.variables["project"].fields["title"].kind == "string"


def test_guards_and_defaults_make_optional() -> None:
    found = analyze_source(
        "{% if a %}{{ a }}{% endif %}{% if b is defined %}{{ b.c }}{% endif %}{{ c | default('x') }}{{ d or 5 }}"
        "{{ e if e else 'n' }}{% if not f %}no{% else %}{{ f }}{% endif %}{% if g and g.h %}{{ g.h }}{% endif %}"
    )
    assert found.required == []
    assert found.variables["c"].defaults == ["x"]
    assert found.variables["c"].kind == "string"
    assert found.variables["d"].defaults == [5]
    assert found.variables["d"].kind == "number"


def test_a_read_outside_the_guard_is_required() -> None:
    assert analyze_source("{% if a %}{{ a }}{% endif %}{{ a }}").required == ["a"]


def test_loops_name_what_is_read_of_the_elements() -> None:
    found = analyze_source(
        "{% for f in fields %}{{ f.name | camelCase }}{{ loop.index }}{% for t in f.tags %}{{ t }}{% endfor %}{% endfor %}{{ f }}"
    )
    fields = found.variables["fields"]
    assert fields.kind == "list"
    assert fields.items is not None
    assert {name: item.kind for name, item in fields.items.fields.items()} == {"name": "string", "tags": "list"}
    assert set(found.variables) == {"fields", "f"}


def test_objects_are_walked_by_two_names() -> None:
    found = analyze_source("{% for k, v in env %}{{ k }}={{ v.x }}{% endfor %}")
    assert found.variables["env"].kind == "object"
    assert list(found.variables) == ["env"]


def test_local_names_are_not_variables() -> None:
    found = analyze_source(
        "{% set a = 1 %}{{ a }}{% macro m(p, q=z) %}{{ p }}{{ q }}{% endmacro %}{{ m(1) }}{{ range(3) }}{% set b %}{{ y }}{% endset %}{{ b }}"
    )
    assert list(found.variables) == ["z", "y"]


def test_comparisons_give_choices_and_kinds() -> None:
    found = analyze_source(
        "{% if kind == 'a' or kind == 'b' %}{% endif %}{% if count > 3 %}{% endif %}{% if on == true %}{% endif %}{% if flag %}x{% endif %}"
    )
    assert found.variables["kind"].choices == ["a", "b"]
    kinds = {name: variable.kind for name, variable in found.variables.items()}
    assert kinds == {"kind": "string", "count": "number", "on": "boolean", "flag": "boolean"}


def test_files_are_followed() -> None:
    templates = {
        "main": "{% extends 'base' %}{% block b %}{{ x }}{% include 'dir/part' %}{% include none_such ignore missing %}{% endblock %}",
        "base": "{{ title }}{% block b %}{% endblock %}{% import 'lib' as l %}",
        "dir/part": "{{ y }}{% include './other' %}",
        "dir/other": "{{ z }}",
        "lib": "{% macro m() %}{{ hidden | nope }}{% endmacro %}",
    }
    found = analyze(templates, "main")
    assert set(found.required) == {"title", "x", "y", "z", "none_such"}
    assert set(found.includes) == {"base", "dir/part", "./other", "lib"}
    assert [(use.name, use.place.template) for use in found.unknown_filters] == [("nope", "lib")]
    assert found.errors == []


def test_missing_files_and_bad_syntax_are_reported_with_places() -> None:
    found = analyze({"main": "\n{% include 'gone' %}{% include 'bad' %}", "bad": "{% if %}"}, "main")
    gone = found.templates[0]
    assert (gone.name, gone.found, gone.place.line, gone.place.column) == ("gone", False, 2, 4)
    assert [(error.template, error.line) for error in found.errors] == [("bad", 1)]


def test_unknown_filters_and_tests_have_places() -> None:
    found = analyze_source("{{ a | upper | wibble(1) }}\n{{ b is wobble }}", name="t")
    assert [(use.name, use.place.line, use.place.column) for use in found.unknown_filters] == [("wibble", 1, 16)]
    assert [(use.name, use.place.line) for use in found.unknown_tests] == [("wobble", 2)]
    assert set(found.filters) == {"upper", "wibble"}


def test_the_filters_are_those_of_the_environment() -> None:
    plain = Environment({}, filters_profile="nunjucks")
    assert [use.name for use in analyze_source("{{ a | slug }}", plain).unknown_filters] == ["slug"]
    assert analyze_source("{{ a | slug }}").unknown_filters == []


def test_files_that_include_each_other_end() -> None:
    assert analyze({"a": "{{ x }}{% include 'b' %}", "b": "{{ y }}{% include 'a' %}"}, "a").required == ["x", "y"]


def test_a_chain_that_is_too_deep_to_walk_is_an_error_of_its_template() -> None:
    found = analyze({"deep.njk": "{{ " + "1 ** " * 5000 + "1 }}", "a.njk": "{{ x }}{% include 'deep.njk' %}"}, "a.njk")
    assert [(error.template, error.limit) for error in found.errors if isinstance(error, LimitExceeded)] == [
        ("deep.njk", "nesting")
    ]
    assert "x" in found.variables
