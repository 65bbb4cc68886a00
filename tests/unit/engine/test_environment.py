"""The public face: options, errors with places, undefined modes, limits, determinism."""

from __future__ import annotations

import threading
import uuid
from datetime import UTC, datetime

import pytest

from unjucks_engine import (
    Environment,
    LimitExceeded,
    Limits,
    TemplateError,
    TemplateNotFound,
    TemplateSyntaxError,
    UndefinedError,
)


def test_renders_a_template_by_name() -> None:
    env = Environment({"hello.njk": "Hello {{ name }}!"}, autoescape=False)
    assert env.render("hello.njk", {"name": "W<orld>"}) == "Hello W<orld>!"


def test_autoescape_is_the_default_as_in_nunjucks() -> None:
    assert Environment({"a": "{{ x }}"}).render("a", {"x": "<b>\\"}) == "&lt;b&gt;&#92;"


def test_trim_options() -> None:
    env = Environment({"a": "  {% if true %}\nx\n  {% endif %}\ny"}, trim_blocks=True, lstrip_blocks=True)
    assert env.render("a") == "x\ny"


@pytest.mark.parametrize(
    ("source", "line", "column", "message"),
    [
        ("a\n {% nope %}", 2, 5, "unknown block tag: nope"),
        ("{{ a b }}", 1, 6, "expected variable end"),
        ("{% if a %}", 0, 0, "parseIf: expected elif, else, or endif, got end of file"),
        ("é😀{{ 1 + }}", 1, 11, "unexpected token: }}"),
        ("{{ {1: 2} }}", 1, 5, "compilePair: Dict keys must be strings or names"),
    ],
)
def test_syntax_errors_have_the_place(source: str, line: int, column: int, message: str) -> None:
    with pytest.raises(TemplateSyntaxError) as caught:
        Environment({"t.njk": source}).check("t.njk")
    error = caught.value
    assert (error.template, error.line, error.column, error.message) == ("t.njk", line, column, message)


def test_run_time_errors_have_the_place_of_the_failing_expression() -> None:
    env = Environment({"main": "a\n{% include 'part' %}", "part": "x\n\n  {{ y }}{{ f() }}"})
    with pytest.raises(UndefinedError, match="Unable to call `f`") as caught:
        env.render("main")
    assert (caught.value.template, caught.value.line, caught.value.column) == ("part", 3, 14)


def test_a_missing_template_names_itself() -> None:
    with pytest.raises(TemplateNotFound, match="template not found: nope"):
        Environment({}).render("nope")
    with pytest.raises(TemplateNotFound, match="part") as caught:
        Environment({"main": "\n{% include 'part' %}"}).render("main")
    assert (caught.value.template, caught.value.line) == ("main", 2)


class TestUndefined:
    def test_empty_prints_nothing(self) -> None:
        assert Environment({"a": "[{{ x }}{{ x.y }}]"}).render("a") == "[]"

    def test_error_fails_when_printed_and_names_it(self) -> None:
        env = Environment({"a": "ok\n{{ o.missing }}"}, undefined="Error")
        with pytest.raises(UndefinedError) as caught:
            env.render("a", {"o": {}})
        assert caught.value.message == "o.missing is undefined"
        assert (caught.value.template, caught.value.line) == ("a", 2)

    def test_error_allows_tests_defaults_and_null(self) -> None:
        env = Environment(
            {"a": "{% if x %}1{% endif %}{{ x is defined }}{{ x | default('d') }}{{ x or 'e' }}{{ n }}"},
            undefined="Error",
        )
        assert env.render("a", {"n": None}) == "falsede"

    @pytest.mark.parametrize(
        "use", ["{{ x ~ 'a' }}", "{{ x.y }}", "{% for a in x %}{% endfor %}", "{{ x | upper }}", "{{ x + 1 }}"]
    )
    def test_error_on_use_fails_wherever_it_is_used(self, use: str) -> None:
        assert Environment({"a": use}).render("a") is not None
        with pytest.raises(UndefinedError, match="x is undefined"):
            Environment({"a": use}, undefined="ErrorOnUse").render("a")

    def test_error_on_use_allows_tests(self) -> None:
        env = Environment(
            {"a": "{{ x is defined }}{{ x.y is defined }}{{ x | d('z') }}{{ 1 if x else 2 }}"}, undefined="ErrorOnUse"
        )
        assert env.render("a") == "falsefalsez2"

    def test_an_unknown_mode_is_refused(self) -> None:
        with pytest.raises(ValueError, match="Empty, Error or ErrorOnUse"):
            Environment({}, undefined="Nope")  # type: ignore[arg-type]


class TestLimits:
    @pytest.mark.parametrize(
        ("source", "limits", "name"),
        [
            ("{{ range(100) }}", Limits(items=99), "items"),
            ("{% for i in range(100) %}{{ i }}{{ i }}{% endfor %}", Limits(work=200), "work"),
            ("{{ 'a'.repeat(1000) }}", Limits(string=999), "string"),
            ("{% for i in range(5) %}{{ 'a'.repeat(300) }}{% endfor %}", Limits(scratch=1000), "scratch"),
            ("aaaaaaaaaa", Limits(output=9), "output"),
            ("aaaaaaaaaa", Limits(source_bytes=9), "source_bytes"),
            ("{{ 1 + 1 + 1 + 1 }}", Limits(nodes=5), "nodes"),
            ("{{ ((((1)))) }}", Limits(nesting=3), "nesting"),
            ("{% macro m(n) %}{{ m(n) }}{% endmacro %}{{ m(1) }}", Limits(macro_depth=5), "macro_depth"),
            ("{% include 'a' %}", Limits(include_depth=5), "include_depth"),
            ("{% for i in range(99999) %}{{ i }}{% endfor %}", Limits(wall_seconds=0), "wall_seconds"),
            ("{{ r/(a|aa)+$/.test(x) }}", Limits(regex_seconds=0.05), "regex_seconds"),
        ],
    )
    def test_each_limit_says_which(self, source: str, limits: Limits, name: str) -> None:
        with pytest.raises(LimitExceeded) as caught:
            Environment({"a": source}, limits=limits).render("a", {"x": "a" * 60 + "b"})
        assert caught.value.limit == name

    def test_limits_of_the_data(self) -> None:
        deep: list[object] = []
        for _ in range(300):
            deep = [deep]
        with pytest.raises(LimitExceeded) as caught:
            Environment({"a": ""}).render("a", {"deep": deep})
        assert caught.value.limit == "data_depth"
        with pytest.raises(LimitExceeded) as caught:
            Environment({"a": ""}, limits=Limits(data_items=10)).render("a", {"l": list(range(20))})
        assert caught.value.limit == "data_items"


class TestData:
    def test_changes_do_not_reach_the_caller(self) -> None:
        data = {"l": [1, 2], "o": {"l": [3]}}
        Environment({"a": "{{ l.push(9) }}{{ o.l.push(9) }}{{ l.reverse() }}"}).render("a", data)
        assert data == {"l": [1, 2], "o": {"l": [3]}}

    def test_changes_of_the_jinja_mode_do_not_reach_the_caller(self) -> None:
        data = {"o": {"a": 1}}
        Environment({"a": "{{ o.pop('a') }}{{ o.update({b: 2}) }}"}, jinja_compat=True).render("a", data)
        assert data == {"o": {"a": 1}}

    @pytest.mark.parametrize(
        "value", [object(), {1, 2}, b"x", 1j, {1: 2}, lambda: 1, type("S", (str,), {})("x"), datetime.now(UTC)]
    )
    def test_other_values_are_refused(self, value: object) -> None:
        with pytest.raises(TemplateError, match="the data holds"):
            Environment({"a": "{{ x }}"}).render("a", {"x": value})

    def test_lone_surrogates_become_replacement_characters(self) -> None:
        assert Environment({"a": "{{ x[0] }}|{{ x }}"}).render("a", {"x": "😀"}) == "\ufffd|😀"


class TestDeterminism:
    def test_random_needs_a_seed(self) -> None:
        with pytest.raises(TemplateError, match="seed"):
            Environment({"a": "{{ [1, 2] | random }}"}).render("a")
        first = Environment({"a": "{{ range(1000) | random }}"}, seed=7)
        assert (
            first.render("a")
            == first.render("a")
            == Environment({"a": "{{ range(1000) | random }}"}, seed=7).render("a")
        )

    def test_the_clock_is_pinned(self) -> None:
        env = Environment(
            {"a": "{{ now() }} {{ 'now' | date('YYYY/MM/DD') }}"}, now=datetime(2024, 2, 29, 12, tzinfo=UTC)
        )
        assert env.render("a") == "2024-02-29T12:00:00+00:00 2024/02/29"
        with pytest.raises(TemplateError, match="pinned time"):
            Environment({"a": "{{ now() }}"}).render("a")


class TestProfiles:
    def test_pipeline_is_the_default(self) -> None:
        assert Environment({"a": "{{ 'user_profile' | pascalCase }}"}).render("a") == "UserProfile"

    def test_profiles_differ(self) -> None:
        cli = Environment({"a": "{{ 'user_profile' | pascalCase }} {{ 'child' | pluralize }}"}, filters_profile="cli")
        assert cli.render("a") == "User_profile childs"
        assert Environment({"a": "{{ 'child' | pluralize }}"}).render("a") == "children"

    def test_nunjucks_has_none(self) -> None:
        with pytest.raises(TemplateError, match="filter not found: slug"):
            Environment({"a": "{{ 'a' | slug }}"}, filters_profile="nunjucks").render("a")


def test_threads_share_an_environment() -> None:
    env = Environment({"a": "{% for x in l %}{{ x }}{{ loop.index }}{% endfor %}{% include 'b' %}", "b": "{{ n }}"})
    results: list[str] = []

    def work(number: int) -> None:
        for _ in range(20):
            results.append(env.render("a", {"l": [number] * 3, "n": number}))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(set(results)) == ["0102030", "1112131", "2122232", "3132333"]
    assert len(results) == 80


class TestDataIsNotCopiedWithoutNeed:
    """The first run uses the data as it is; a run that would change it starts again with a copy."""

    @pytest.mark.parametrize(
        "change",
        [
            "l.push(1)",
            "l.pop()",
            "l.sort()",
            "o.l.reverse()",
            "(l | list).shift()",
            "l.splice(0, 1)",
            "l.fill(0)",
            "l[k](9)",
        ],
    )
    def test_every_change_goes_to_a_copy(self, change: str) -> None:
        data = {"l": [3, 1, 2], "o": {"l": [1, 2]}, "k": "push"}
        env = Environment({"a": f"{{{{ {change} }}}}|{{{{ l }}}}|{{{{ o.l }}}}"})
        first = env.render("a", data)
        assert data == {"l": [3, 1, 2], "o": {"l": [1, 2]}, "k": "push"}
        assert env.render("a", data) == first

    def test_a_loop_variable_named_loop_does_not_mark_the_data(self) -> None:
        data = {"l": [{"a": 1}]}
        text = Environment({"a": "{% for loop in l %}{{ loop.index }}{{ loop.a }}{% endfor %}"}).render("a", data)
        assert (text, data) == ("11", {"l": [{"a": 1}]})

    def test_keys_are_in_javascript_order_anyway(self) -> None:
        data = {"o": {"b": 1, "10": 2, "9": 3}}
        env = Environment(
            {"a": "{% for k, v in o %}{{ k }}{% endfor %}{{ o | dump }}{{ o | urlencode }}"}, autoescape=False
        )
        assert env.render("a", data) == '910b{"9":3,"10":2,"b":1}9=3&10=2&b=1'

    @pytest.mark.parametrize(
        "use",
        [
            "{{ x }}",
            "{% for a in x %}{{ a }}{% endfor %}",
            "{{ x | length }}",
            "{{ x is iterable }}",
            "{{ x[0] }}",
            "{{ x | dump }}",
        ],
    )
    def test_what_is_no_json_value_is_refused_or_converted(self, use: str) -> None:
        env = Environment({"a": use})
        assert env.render("a", {"x": (1, 2)}) == env.render("a", {"x": [1, 2]})
        with pytest.raises(TemplateError, match="the data holds a UUID"):
            env.render("a", {"x": uuid.UUID(int=1)})


def test_loop_in_an_else_part_is_that_of_the_loop_around() -> None:
    source = (
        "{% for i in [1, 2] %}{% for a in none_such %}{% set a = 1 %}{% else %}{{ loop.index }}{% endfor %}{% endfor %}"
    )
    assert Environment({"a": source}).render("a") == "12"
