"""Generation: names, conditions, loops, staging, results; the same inputs give the same bytes."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.trees import action_set, after, run, statuses, texts, tree
from unjucks_api.reasons import Reason
from unjucks_api.render_protocol import Limits
from unjucks_runtime.generator import GenerationError, Options, VariablesError, diff, generate, load_tree, manifest
from unjucks_runtime.generator.result import Status


def failure(*args: Any, **more: Any) -> GenerationError:
    with pytest.raises(GenerationError) as caught:
        run(*args, **more)
    return caught.value


class TestFiles:
    def test_names_and_bodies_are_rendered(self) -> None:
        result = run({"{{ name }}/{{ name | upper }}.ts.njk": "class {{ name }}\n"}, {"name": "a"})
        assert texts(result) == {"a/A.ts": "class a\n"}

    def test_other_files_are_copied_but_their_names_rendered(self) -> None:
        result = run({"{{ name }}.txt": "{{ name }}", "bin": b"\0\xff{{"}, {"name": "a"})
        assert {f.path: f.content for f in result.files} == {"a.txt": b"{{ name }}", "bin": b"\0\xff{{"}

    def test_an_empty_segment_skips_the_file(self) -> None:
        result = run({"{% if db %}db{% endif %}/x.njk": "x", "y.njk": "y"}, {"db": False})
        assert texts(result) == {"y": "y"}
        assert [item.why for item in result.skipped] == ["its name rendered to nothing"]

    @pytest.mark.parametrize("head", ["to: null", 'to: ""', 'to: "{{ nothing }}"', "to: x\nif: nothing"])
    def test_frontmatter_skips(self, head: str) -> None:
        result = run({"a.njk": f"---\n{head}\n---\nx"}, {"nothing": ""})
        assert result.files == ()
        assert len(result.skipped) == 1

    def test_conditions(self) -> None:
        files = {"a.njk": "---\nto: a\nif: kind === 'x' and not off\n---\n"}
        assert texts(run(files, {"kind": "x", "off": False})) == {"a": ""}
        assert texts(run(files, {"kind": "y", "off": False})) == {}

    def test_exclude_with_a_condition(self) -> None:
        files = {"action.yaml": "exclude: [{path: 'db/**', if: not db}, never.txt]\n", "db/a.txt": "", "never.txt": ""}
        assert set(texts(run(files, {"db": True}))) == {"db/a.txt"}
        assert set(texts(run(files, {"db": False}))) == set()

    def test_for_each(self) -> None:
        files = {
            "a.njk": '---\nto: "{{ i }}-{{ m.name }}"\nforEach: {item: m, in: models, index: i}\nif: not m.off\n---\n{{ m.name }}'
        }
        models = [{"name": "a"}, {"name": "b", "off": True}, {"name": "c"}]
        assert texts(run(files, {"models": models})) == {"0-a": "a", "2-c": "c"}
        assert "not a list" in failure(files, {"models": "abc"}).message

    def test_includes_relative_to_the_set_and_to_the_file(self) -> None:
        files = tree(
            {
                "_templates/gen/_shared/p.njk": "P{% include './q.njk' %}",
                "_templates/gen/_shared/q.njk": "Q",
                "_templates/gen/new/_own.njk": "O",
                "_templates/gen/new/a.njk": "{% include 'gen/_shared/p.njk' %}{% include './_own.njk' %}",
            }
        )
        assert texts(generate(load_tree(files), "gen", "new", {})) == {"a": "PQO"}

    def test_from_takes_the_body_of_another_file(self) -> None:
        files = {"_body.njk": "---\nto: nowhere\n---\n{{ x }}!", "a.njk": '---\nto: a\nfrom: "./_body.njk"\n---\n'}
        assert texts(run(files, {"x": "1"})) == {"a": "1!"}
        gone = {"a.njk": '---\nto: a\nfrom: "./{{ x }}"\n---\n'}
        assert failure(gone, {"x": "../../../../etc/passwd"}).reason is Reason.PATH_REJECTED
        assert failure(gone, {"x": "none"}).reason is Reason.TEMPLATE_NOT_FOUND
        both = {"_body.njk": "x", "a.njk": '---\nto: a\nfrom: "./_body.njk"\n---\nown'}
        assert "its own" in failure(both).message

    def test_modes(self) -> None:
        files = {
            "a.sh.njk": ("x", 0o755),
            "b.njk": '---\nto: b\nchmod: "0755"\n---\n',
            "c.njk": ('---\nto: c\nchmod: "644"\n---\n', 0o755),
        }
        assert {f.path: f.mode for f in run(files).files} == {"a.sh": 0o755, "b": 0o755, "c": 0o644}

    def test_frontmatter_out_of_action_yaml_for_a_binary_file(self) -> None:
        files = {"action.yaml": "files: [{path: logo.png, to: 'img/{{ n }}.png', if: n}]\n", "logo.png": b"\0PNG"}
        assert {f.path: f.content for f in run(files, {"n": "x"}).files} == {"img/x.png": b"\0PNG"}
        assert run(files, {"n": ""}).files == ()

    def test_messages_once(self) -> None:
        files = {"a.njk": '---\nto: "{{ m }}"\nforEach: {item: m, in: [1, 2]}\nmessage: "now {{ x }}"\n---\n'}
        assert run(files, {"x": "go"}).messages == ("now go",)

    def test_empty_template_and_windows_line_ends(self) -> None:
        assert texts(run({"a.njk": "", "b.njk": "x\r\ny\r\n"})) == {"a": "", "b": "x\r\ny\r\n"}


class TestStaging:
    def test_two_templates_on_one_file_are_an_error(self) -> None:
        error = failure({"a.njk": "---\nto: x\n---\n", "b.njk": "---\nto: x\n---\n"})
        assert error.reason is Reason.OUTPUT_COLLISION
        assert "a.njk" in error.message
        assert "b.njk" in error.message

    @pytest.mark.parametrize(
        "names", [("A", "a"), ("x", "x/y"), ("caf\u00e9", "CAFE\u0301"), ("\u017ftrasse", "strasse"), ("a/B/c", "a/b")]
    )
    def test_collisions_of_other_kinds(self, names: tuple[str, str]) -> None:
        files = {f"{i}.njk": f"---\nto: {name!r}\n---\n" for i, name in enumerate(names)}
        assert failure(files).reason is Reason.OUTPUT_COLLISION

    def test_injections_see_what_was_staged(self) -> None:
        files = {
            "1.njk": "---\nto: x.py\n---\na\nend\n",
            "2.njk": "---\nto: x.py\nbefore: end\n---\nb\n",
            "3.njk": "---\nto: x.py\nbefore: end\n---\nc\n",
        }
        result = run(files)
        assert texts(result) == {"x.py": "a\nb\nc\nend\n"}
        assert statuses(run(files, base=texts(result))) == {"x.py": "unchanged"}

    def test_an_injection_before_the_file_is_written_is_an_error(self) -> None:
        files = {"1.njk": "---\nto: x\nappend: true\ncreate: true\n---\na\n", "2.njk": "---\nto: x\n---\nb"}
        assert "order them" in failure(files).message

    @pytest.mark.parametrize("policy", ["conflict", "overwrite", "skip"])
    def test_existing_files(self, policy: str) -> None:
        result = run({"a.njk": "new"}, base={"a": "old"}, on_conflict=policy)
        wanted = {"conflict": "conflicted", "overwrite": "updated", "skip": "skipped"}[policy]
        assert statuses(result) == {"a": wanted}
        assert result.ok is (policy != "conflict")
        assert bool(result.changes) is (policy == "overwrite")

    def test_force_in_frontmatter_and_its_policy(self) -> None:
        files = {"a.njk": "---\nto: a\nforce: true\n---\nnew"}
        assert statuses(run(files, base={"a": "old"})) == {"a": "updated"}
        assert failure(files, base={"a": "old"}, allow_force=False).reason is Reason.NOT_PERMITTED

    def test_unless_exists(self) -> None:
        files = {"a.njk": "---\nto: a\nunless_exists: true\n---\nnew"}
        assert statuses(run(files)) == {"a": "created"}
        assert statuses(run(files, base={"a": "old"})) == {"a": "skipped"}

    def test_skip_if_of_both_kinds(self) -> None:
        expression = {"a.njk": "---\nto: a\nskipIf: done\n---\nnew"}
        assert statuses(run(expression, {"done": True})) == {"a": "skipped"}
        assert statuses(run(expression, {"done": False})) == {"a": "created"}
        text = {"a.njk": '---\nto: a\nappend: true\nskip_if: "{{ x }}"\n---\nnew\n'}
        assert statuses(run(text, {"x": "old"}, {"a": "is old\n"})) == {"a": "skipped"}
        assert statuses(run(text, {"x": "/^old/"}, {"a": "is old\n"})) == {"a": "updated"}

    def test_a_file_of_the_last_run_may_be_updated_when_nobody_edited_it(self) -> None:
        first = run({"a.njk": "v1"})
        previous = {item["path"]: item["sha256"] for item in manifest(first)["files"]}
        assert statuses(run({"a.njk": "v2"}, base={"a": "v1"}, previous=previous)) == {"a": "updated"}
        assert statuses(run({"a.njk": "v2"}, base={"a": "mine"}, previous=previous)) == {"a": "conflicted"}

    def test_a_mode_alone_is_an_update(self) -> None:
        result = run({"a.njk": ("x", 0o755)}, base={"a": "x"})
        assert statuses(result) == {"a": "updated"}
        assert statuses(run({"a.njk": ("x", 0o755)}, base={"a": ("x", 0o755)})) == {"a": "unchanged"}

    def test_missing_targets_of_injections(self) -> None:
        files = {"a.njk": "---\nto: a\nappend: true\n---\nx\n"}
        error = failure(files)
        assert error.reason is Reason.ANCHOR_NOT_FOUND
        assert "create: true" in error.message
        assert texts(run({"a.njk": "---\nto: a\nappend: true\ncreate: true\n---\nx\n"})) == {"a": "x\n"}

    def test_binary_targets_and_bodies(self) -> None:
        files = {"a.njk": "---\nto: a\nappend: true\n---\nx\n"}
        assert "not UTF-8" in failure(files, base={"a": b"\0\xff"}).message

    def test_the_anchor_is_rendered_and_its_place_reported(self) -> None:
        files = {"a.njk": '---\nto: a\nafter: "// {{ x }}"\n---\nnew\n'}
        assert texts(run(files, {"x": "here"}, {"a": "// here\n"})) == {"a": "// here\nnew\n"}
        error = failure(files, {"x": "there"}, {"a": "// here\n"})
        assert (error.reason, error.place.line) == (Reason.ANCHOR_NOT_FOUND, 3)
        assert "'// there'" in error.message

    def test_injection_can_be_forbidden(self) -> None:
        files = {"a.njk": "---\nto: a\nappend: true\n---\nx\n"}
        assert failure(files, base={"a": ""}, allow_inject=False).reason is Reason.NOT_PERMITTED

    def test_an_injection_into_a_conflicting_file_stays_a_conflict(self) -> None:
        files = {"1.njk": "---\nto: x\n---\na\n", "2.njk": "---\nto: x\nappend: true\n---\nb\n"}
        assert statuses(run(files, base={"x": "mine\n"})) == {"x": "conflicted"}

    def test_injection_keeps_the_mode(self) -> None:
        result = run({"a.njk": "---\nto: a\nappend: true\n---\nx\n"}, base={"a": ("#!/bin/sh\n", 0o755)})
        assert result.files[0].mode == 0o755


class TestFromBase:
    FILES = {  # noqa: RUF012
        "action.yaml": "variables: {t: {type: string}}\nfromBase:\n  n: {glob: 'm/*.sql', number: '^(\\d+)_', "
        "reuse: '_{{ t }}\\.sql$', width: 3}\n",
        "m/{{ n }}_{{ t }}.sql.njk": "create {{ t }};\n",
    }

    def test_the_next_number_and_the_same_again(self) -> None:
        base = {"m/001_a.sql": "", "m/9_b.sql": "", "other/50_x.sql": "", "m/x.sql": ""}
        first = run(self.FILES, {"t": "c"}, base)
        assert set(texts(first)) == {"m/010_c.sql"}
        second = run(self.FILES, {"t": "c"}, {**base, **texts(first), "m/011_d.sql": ""})
        assert statuses(second) == {"m/010_c.sql": "unchanged"}
        assert set(texts(run(self.FILES, {"t": "c"}))) == {"m/001_c.sql"}


class TestErrors:
    def test_undefined_is_an_error_with_the_line_in_the_file(self) -> None:
        error = failure({"a.njk": "---\nto: a\n---\none\n{{ nowhere }}\n"})
        assert error.reason is Reason.UNDEFINED_VARIABLE
        assert (error.place.path, error.place.line) == ("_templates/gen/new/a.njk", 5)

    def test_an_error_in_an_include_names_the_include(self) -> None:
        error = failure({"a.njk": "{% include './_b.njk' %}", "_b.njk": "---\nto: x\n---\n\n{{ nowhere }}"})
        assert (error.place.path, error.place.line) == ("_templates/gen/new/_b.njk", 5)

    def test_an_error_in_a_value_names_its_key(self) -> None:
        error = failure({"a.njk": "---\nmessage: hi\nto: '{{ nowhere }}'\n---\n"})
        assert (error.place.path, error.place.line) == ("_templates/gen/new/a.njk", 3)

    def test_all_variables_at_once(self) -> None:
        files = {"action.yaml": "variables: {a: {type: integer}, b: {type: string}}\n", "x": ""}
        with pytest.raises(VariablesError) as caught:
            run(files, {"a": "x", "c": 1})
        assert caught.value.reason is Reason.VARIABLES_INVALID
        assert [item.path for item in caught.value.problems] == ["a", "b", "c"]
        with pytest.raises(VariablesError) as caught:
            run(files, {"a": 1})
        assert caught.value.reason is Reason.VARIABLES_MISSING

    def test_an_action_with_problems_does_not_run(self) -> None:
        assert failure({"a.njk": "---\nbogus: 1\n---\n"}).reason is Reason.TEMPLATES_INVALID

    def test_text_is_turned_only_where_asked(self) -> None:
        files = {"action.yaml": "variables: {p: {type: integer}}\n", "a.njk": "{{ p + 1 }}"}
        assert texts(run(files, {"p": "80"}, text=("p",))) == {"a": "81"}
        with pytest.raises(VariablesError):
            run(files, {"p": "80"})

    @pytest.mark.parametrize(
        ("files", "limits", "limit"),
        [
            ({"a.njk": "---\nto: 'f{{ i }}'\nforEach: {item: i, in: range(50)}\n---\n"}, Limits(files=10), "files"),
            ({f"{i}.txt": "x" * 100 for i in range(5)}, Limits(output_bytes=300), "output_bytes"),
            (
                {"a.njk": "{% for i in range(100000) %}xxxxxxxxxxxxxxxx{% endfor %}"},
                Limits(output_bytes=1000),
                "output",
            ),
            (
                {"a.njk": "{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}"},
                Limits(),
                "work",
            ),
        ],
    )
    def test_limits(self, files: dict[str, str], limits: Limits, limit: str) -> None:
        error = failure(files, limits=limits)
        assert error.reason is Reason.LIMIT_EXCEEDED
        assert error.limit == limit


class TestSecrets:
    FILES = {  # noqa: RUF012
        "action.yaml": "variables: {key: {type: string, sensitive: true}, name: {type: string}}\n",
        "secret.njk": "{{ key }}",
        "quiet.njk": "{% if key %}yes{% endif %}",
        "indirect.njk": "{% include './_part.njk' %}",
        "_part.njk": "{{ key | upper }}",
        "plain.njk": "{{ name }}",
        "copied.txt": "plain",
    }

    def test_files_that_a_secret_may_have_reached(self) -> None:
        result = run(self.FILES, {"key": "hunter22", "name": "n"})
        marked = {file.path for file in result.files if file.sensitive}
        assert {"secret", "quiet", "indirect"} <= marked
        assert "copied.txt" not in marked

    def test_diff_does_not_show_them(self) -> None:
        result = run(self.FILES, {"key": "hunter22", "name": "n"})
        assert "hunter22" not in diff(result, {})
        assert "HUNTER22" not in diff(result, {})

    def test_variables_that_came_from_secrets(self) -> None:
        result = run({"a.njk": "{{ db.url }}"}, {"db": {"url": "postgres://x"}}, sensitive=("db.url",))
        assert result.files[0].sensitive

    def test_no_secret_in_names_messages_and_errors(self) -> None:
        files = {"action.yaml": "variables: {key: {type: string, sensitive: true}}\n"}
        named = failure({**files, "{{ key }}.njk": "x"}, {"key": "hunter22"})
        assert named.reason is Reason.SENSITIVE_DATA_BLOCKED
        assert "hunter22" not in str(named)
        told = run({**files, "a.njk": '---\nto: a\nmessage: "use {{ key }}"\n---\n'}, {"key": "hunter22"})
        assert told.messages == ("use ***",)
        lost = failure({**files, "a.njk": '---\nto: a\nafter: "{{ key }}"\n---\nx'}, {"key": "hunter22"}, {"a": "b\n"})
        assert lost.reason is Reason.ANCHOR_NOT_FOUND
        assert "hunter22" not in str(lost)


VALUES = st.text(alphabet="ab/\\.{}%#é ", max_size=6)


class TestDeterminism:
    FILES = {  # noqa: RUF012
        "x-{{ a }}.njk": "{{ a }} {{ b | dump }}",
        "each.njk": '---\nto: "each/{{ i }}.txt"\nforEach: {item: m, in: b, index: i}\n---\n{{ m }}\n',
        "inj.njk": "---\nto: list.txt\nappend: true\ncreate: true\n---\n{{ a }}\n",
        "copy.bin": b"\0\1",
    }

    @settings(max_examples=60, deadline=None)
    @given(VALUES, st.lists(VALUES, max_size=3))
    def test_same_inputs_same_bytes_and_a_second_run_changes_nothing(self, a: str, b: list[str]) -> None:
        template_set = action_set(self.FILES, check=False)
        variables = {"a": a, "b": b}
        try:
            first = generate(template_set, "gen", "new", variables)
        except GenerationError as error:
            assert error.reason in (Reason.PATH_REJECTED, Reason.OUTPUT_COLLISION)  # noqa: PT017  both outcomes are right
            return
        again = generate(action_set(self.FILES, check=False), "gen", "new", dict(reversed(variables.items())))
        assert first == again
        assert manifest(first) == manifest(again)
        second = generate(template_set, "gen", "new", variables, base=after({}, first))
        assert {file.status for file in second.files} == {Status.UNCHANGED}
        assert diff(second, after({}, first)) == ""


def test_manifest_and_diff() -> None:
    result = run(
        {"a.njk": "new\n", "b.njk": "same\n", "c.njk": ("x", 0o755)},
        base={"a": "old", "b": "same\n"},
        on_conflict="overwrite",
    )
    made = manifest(result)
    assert [(f["path"], f["mode"], f["size"], f["action"]) for f in made["files"]] == [
        ("a", "0644", 4, "updated"),
        ("b", "0644", 5, "unchanged"),
        ("c", "0755", 1, "created"),
    ]
    assert made["files"][0]["sha256"] == "7aa7a5359173d05b63cfd682e3c38487f3cb4f7f1d60659fe59fab1505977d4c"
    assert diff(result, tree({"a": "old", "b": "same\n"})) == (
        "diff --git a/a b/a\n--- a/a\n+++ b/a\n@@ -1 +1 @@\n-old\n\\ No newline at end of file\n+new\n"
        "diff --git a/c b/c\nnew file mode 100755\n--- /dev/null\n+++ b/c\n@@ -0,0 +1 @@\n+x\n\\ No newline at end of file\n"
    )


def test_binary_diff_names_the_file() -> None:
    result = run({"a.bin": b"\0new"}, base={"a.bin": b"\0old"}, on_conflict="overwrite")
    assert (
        diff(result, tree({"a.bin": b"\0old"}))
        == "diff --git a/a.bin b/a.bin\nBinary files a/a.bin and b/a.bin differ\n"
    )


def test_options_have_the_protocols_defaults() -> None:
    assert Options().engine.undefined == "Error"
