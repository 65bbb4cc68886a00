"""Hostile sets and variables: paths, templates, YAML, schemas. Nothing leaves the tree, nothing runs on, every refusal is typed."""

from typing import Any

import pytest

from support.trees import action_set, run, statuses, texts, tree
from unjucks_api.reasons import Reason
from unjucks_api.render_protocol import Limits
from unjucks_runtime.generator import GenerationError, generate, load_tree
from unjucks_runtime.generator.globs import matches

BAD_PATHS = [
    "../x", "a/../../x", "a/../x", "./../x", "/etc/passwd", "//server/x", "C:/x", "c:x", "a\\b", "..\\x", "a/./b", "a//b",
    ".git/config", ".GIT/config", "a/.git/hooks/pre-commit", ".g\u200cit/config", "git~1/config", ".git::$INDEX_ALLOCATION/x",
    "a\x00b", "a\nb", "a\x1bb", "a\u202eb", "a\x7fb", "con", "aux.txt", "COM1", "a/nul/b", "x.", "a /b", "a/ b", "x" * 256,
    "a/" * 600 + "b",
]  # fmt: skip


def refused(files: dict[str, Any], variables: dict[str, Any] | None = None, **more: Any) -> GenerationError:
    with pytest.raises(GenerationError) as caught:
        run(files, variables, **more)
    return caught.value


class TestPaths:
    @pytest.mark.parametrize("path", BAD_PATHS)
    @pytest.mark.isolation("T-registry-traversal")
    def test_in_to(self, path: str) -> None:
        if path.strip() != path and path.strip("x"):
            return  # blanks around a whole value are stripped, so it would be another path
        error = refused(
            {"a.njk": '---\nto: "{{ p | safe }}"\n---\nx', "action.yaml": "variables: {p: {type: string}}\n"},
            {"p": path},
        )
        assert error.reason is Reason.PATH_REJECTED
        assert error.place.path == "_templates/gen/new/a.njk"

    @pytest.mark.parametrize("path", BAD_PATHS)
    @pytest.mark.isolation("T-registry-traversal")
    def test_in_a_file_name(self, path: str) -> None:
        error = refused({"{{ p }}.njk": "x"}, {"p": path})
        assert error.reason is Reason.PATH_REJECTED

    @pytest.mark.parametrize("path", BAD_PATHS)
    def test_declared_as_a_path_it_is_still_checked(self, path: str) -> None:
        files = {"action.yaml": "variables: {p: {type: path}}\n", "a.njk": '---\nto: "{{ p }}"\n---\n'}
        assert refused(files, {"p": path}).reason in (Reason.VARIABLES_INVALID, Reason.PATH_REJECTED)

    @pytest.mark.parametrize(
        "to",
        [
            "src/{{ p }}.ts",
            "src/{{ p | upper }}.ts",
            "src/{% set q = p %}{{ q }}.ts",
            "src/{{ [p] | join('') }}.ts",
            "{% if p %}src/{{ p | replace('x', 'y') }}{% endif %}.ts",
            "src/{% for c in [p] %}{{ c }}{% endfor %}.ts",
            "src/{{ p | trim | lower | title }}.ts",
        ],
    )
    def test_a_variable_cannot_add_a_separator_by_any_way(self, to: str) -> None:
        files = {"a.njk": f'---\nto: "{to}"\n---\n'}
        assert len(run(files, {"p": "ok"}).files) == 1
        error = refused(files, {"p": "other/place"})
        assert error.reason is Reason.PATH_REJECTED
        assert "type: path" in error.message

    def test_nor_inside_lists_and_loops(self) -> None:
        files = {"a.njk": '---\nto: "src/{{ m.name }}"\nforEach: {item: m, in: models}\n---\n'}
        assert refused(files, {"models": [{"name": "a/b"}]}).reason is Reason.PATH_REJECTED

    def test_a_declared_path_may(self) -> None:
        files = {
            "action.yaml": "variables: {p: {type: path}, q: {type: string}}\n",
            "a.njk": '---\nto: "src/{{ p }}/{{ q }}"\n---\n',
        }
        assert set(texts(run(files, {"p": "a/b", "q": "c"}))) == {"src/a/b/c"}
        assert refused(files, {"p": "a/b", "q": "c/d"}).reason is Reason.PATH_REJECTED

    def test_values_elsewhere_may_hold_separators(self) -> None:
        assert texts(run({"{{ n }}.njk": "{{ url }}"}, {"n": "a", "url": "https://x/y"})) == {"a": "https://x/y"}

    def test_policy(self) -> None:
        files = {"a.njk": '---\nto: ".github/workflows/x.yaml"\n---\n'}
        assert refused(files, deny_paths=(".github/workflows/**",)).reason is Reason.PATH_REJECTED
        assert refused(files, allow_paths=("src/**",)).reason is Reason.PATH_REJECTED
        assert statuses(run(files, deny_paths=("other/**",)))

    def test_a_file_of_the_base_in_the_place_of_a_folder(self) -> None:
        assert refused({"a/b.njk": ""}, base={"a": "file"}).reason is Reason.OUTPUT_COLLISION

    @pytest.mark.parametrize("source", ["../../../etc/passwd", "/etc/passwd", "./../../../x", "gen/new/../../../x"])
    @pytest.mark.isolation("T-registry-traversal")
    def test_from_and_include_stay_inside(self, source: str) -> None:
        error = refused({"a.njk": f'---\nto: a\nfrom: "{source}"\n---\n'})
        assert error.reason in (Reason.PATH_REJECTED, Reason.TEMPLATE_NOT_FOUND)
        assert refused({"a.njk": f"{{% include '{source}' %}}"}).reason is Reason.TEMPLATE_ERROR


class TestTemplates:
    @pytest.mark.parametrize(
        "body",
        [
            "{{ ''.__class__.__mro__ }}",
            "{{ x.__class__ }}",
            "{{ x['__init__'] }}",
            "{{ range.constructor('return process')() }}",
            "{{ x.constructor }}",
            "{{ self._TemplateReference__context }}",
            "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
            "{{ x | attr('__class__') }}",
            "{{ '%s' | format(x) }}",
            "{% import './a.njk' as m %}{{ m.__dict__ }}",
        ],
    )
    @pytest.mark.isolation("T-template-escape")
    def test_nothing_of_python_is_reachable(self, body: str) -> None:
        for undefined in ("Error", "Empty"):
            loaded = action_set({"out.njk": body, "a.njk": "---\nto: null\n---\n"}, check=False)
            from unjucks_api.render_protocol import EngineOptions
            from unjucks_runtime.generator import Options

            try:
                result = generate(
                    loaded, "gen", "new", {"x": "s"}, options=Options(engine=EngineOptions(undefined=undefined))
                )
            except GenerationError as error:
                assert error.reason in (Reason.TEMPLATE_ERROR, Reason.UNDEFINED_VARIABLE)  # noqa: PT017
                continue
            text = "".join(texts(result).values())
            assert not any(
                word in text for word in ("class", "object at", "uid=", "Template", "method", "module", "built-in")
            )

    def test_data_is_never_a_template(self) -> None:
        files = {
            "a.njk": '---\nto: "{{ n }}"\n---\n{{ v }}',
            "i.njk": '---\nto: "{{ n }}"\nappend: true\nmessage: "{{ v }}"\n---\n{{ v }}\n',
        }
        result = run(files, {"n": "a", "v": "{{ secret }}{% include 'x' %}"})
        assert texts(result)["a"].startswith("{{ secret }}{% include 'x' %}")
        assert result.messages == ("{{ secret }}{% include 'x' %}",)

    @pytest.mark.parametrize(
        "body",
        [
            "{% for a in range(1000000) %}{% for b in range(1000000) %}x{% endfor %}{% endfor %}",
            "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
            "{% include './bomb.njk' %}",
            "{% set x = 'aaaaaaaaaa' %}" + "{% set x = x + x %}" * 40 + "{{ x }}",
            "{{ 'a' | replace('', 'b' * 1) | center(1000000000) }}",
            "{% set x = range(10000000) | join(',') %}{{ x }}",
        ],
    )
    @pytest.mark.isolation("T-template-escape")
    def test_bombs_end_typed(self, body: str) -> None:
        error = refused({"bomb.njk": body}, limits=Limits(wall_seconds=5, output_bytes=1 << 20))
        assert error.reason in (Reason.LIMIT_EXCEEDED, Reason.TEMPLATE_ERROR)

    def test_bombs_in_names_and_conditions(self) -> None:
        loop = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
        assert refused({"a.njk": f'---\nto: "x{loop}"\n---\n'}).reason is Reason.LIMIT_EXCEEDED
        assert refused({"a.njk": "---\nto: '{{ i }}'\nforEach: {item: i, in: range(50000)}\n---\n"}).limit == "files"

    @pytest.mark.isolation("T-regex-redos")
    def test_hostile_expressions_of_anchors_are_linear(self) -> None:
        files = {"a.njk": '---\nto: a\nafter: "/(a|aa|a*)*$x/"\n---\ny\n'}
        assert refused(files, base={"a": "a" * 100_000 + "\n"}).reason is Reason.ANCHOR_NOT_FOUND


class TestSets:
    def test_links_of_names_are_only_names(self) -> None:
        loaded = load_tree(tree({"_templates/g/a/{{ '..' }}/{{ '..' }}/x.njk": ""}))
        with pytest.raises(GenerationError) as caught:
            generate(loaded, "g", "a", {})
        assert caught.value.reason is Reason.PATH_REJECTED

    def test_hostile_action_files_end_as_problems(self) -> None:
        for text in (
            "a: &a [*a]",
            "[" * 1000,
            "variables: {a: {$ref: 'http://127.0.0.1/x'}}",
            "\t",
            "%YAML 9.9\n---\n",
            "!!python/object:os {}",
        ):
            loaded = action_set({"action.yaml": text, "a.njk": "x"})
            assert not loaded.actions[0].valid, text

    @pytest.mark.parametrize(
        ("path", "pattern", "wanted"),
        [
            ("a/b.txt", "*.txt", True),
            ("a/b.txt", "a/*", True),
            ("a/b/c.txt", "a/*", True),
            ("a/b/c.txt", "a/*.txt", False),
            ("a/b/c.txt", "a/**/c.txt", True),
            ("a/c.txt", "a/**/c.txt", True),
            ("a.txtx", "*.txt", False),
            ("a+b", "a+b", True),
            ("axb", "a?b", True),
            ("a/b", "a?b", False),
            ("docs/x/y", "docs/", True),
            ("{{ name }}/x", "**/x", True),
            ("a\nb", "*", True),
        ],
    )
    def test_globs(self, path: str, pattern: str, wanted: bool) -> None:
        assert matches(path, [pattern]) is wanted

    @pytest.mark.isolation("T-regex-redos")
    def test_globs_are_linear(self) -> None:
        assert not matches("a" * 5000, ["*a" * 50 + "b"])
