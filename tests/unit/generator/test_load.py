"""Loading a set: what is found, what is a problem and where, digests; nothing is run."""

import pytest

from support.trees import action_set, action_tree, tree
from unjucks_api.reasons import Reason
from unjucks_runtime.generator import GenerationError, load_tree


def problems(template_set: object) -> list[tuple[str, int, str]]:
    return [(p.path, p.line, p.severity) for p in template_set.all_problems]  # type: ignore[attr-defined]


ACTION = """\
description: Makes a thing
variables:
  name: {type: string, pattern: "^[a-z]+$", description: Its name}
  size: {type: integer, default: 3}
  kind: {type: string, choices: [a, b], required: false}
  dir: {type: path, default: src/lib}
  key: {type: string, sensitive: true, required: false}
"""


class TestFound:
    def test_generators_actions_and_their_variables(self) -> None:
        loaded = load_tree(
            tree(
                {
                    "unjucks.yaml": "description: All\n",
                    "README.md": "x",
                    "_templates/api/generator.yaml": "description: APIs\ntags: [api]\n",
                    "_templates/api/_shared/part.njk": "part",
                    "_templates/api/crud/action.yaml": ACTION,
                    "_templates/api/crud/{{ name }}.ts.njk": "{{ size }}{{ kind }}{{ dir }}{{ key }}",
                    "_templates/api/list/a.txt": "x",
                    "_templates/web/page/a.txt": "x",
                }
            )
        )
        assert loaded.description == "All"
        assert [item.full_name for item in loaded.actions] == ["api/crud", "api/list", "web/page"]
        crud = loaded.actions[0]
        assert (crud.description, crud.tags, crud.declared, crud.valid) == ("Makes a thing", ("api",), True, True)
        shown = {v.name: (v.type, v.required, v.default, v.enum) for v in crud.variables}
        assert shown == {
            "name": ("string", True, None, []),
            "size": ("integer", False, 3, []),
            "kind": ("string", False, None, ["a", "b"]),
            "dir": ("path", False, "src/lib", []),
            "key": ("string", False, None, []),
        }
        assert crud.schema["additionalProperties"] is False
        assert crud.schema["properties"]["key"]["x-sensitive"] is True
        assert crud.catalogue().schema_ == crud.schema
        assert not loaded.all_problems

    def test_a_whole_json_schema(self) -> None:
        loaded = action_set(
            {
                "action.yaml": "variables:\n  type: object\n  required: [a]\n  properties:\n    a: {$ref: '#/$defs/x'}\n"
                "  $defs:\n    x: {type: integer, description: X}\n",
                "a.njk": "{{ a }}",
            }
        )
        assert not loaded.all_problems
        assert [(v.name, v.type, v.required, v.description) for v in loaded.actions[0].variables] == [
            ("a", "integer", True, "X")
        ]

    def test_below_a_path(self) -> None:
        files = {f"deep/set/{path}": item for path, item in action_tree({"a.txt": "x"}).items()}
        loaded = load_tree(files, "./deep/set/")
        assert loaded.root == "deep/set/_templates"
        assert loaded.actions[0].files[0].path == "deep/set/_templates/gen/new/a.txt"

    def test_shared_variables_of_the_set(self) -> None:
        files = action_tree({"action.yaml": "variables: {name: {type: string}}\n", "a.njk": "{{ org }}{{ name }}"})
        loaded = load_tree({**files, **tree({"unjucks.yaml": "variables: {org: {type: string, default: acme}}\n"})})
        assert [v.name for v in loaded.actions[0].variables] == ["org", "name"]
        assert not loaded.all_problems

    def test_names_that_start_with_an_underscore_are_no_output(self) -> None:
        loaded = action_set({"a.txt": "x", "_part.njk": "x", "sub/_x/b.txt": "x", "_tests/one/variables.yaml": ""})
        assert [file.name for file in loaded.actions[0].files] == ["a.txt"]
        assert [case.name for case in loaded.actions[0].tests] == ["one"]

    def test_which_files_are_rendered(self) -> None:
        loaded = action_set(
            {
                "action.yaml": "render: [conf/*]\ncopyOnly: [raw/**]\nfiles: [{path: x.txt, render: true}]\n",
                "plain.yaml": "---\nkind: Pod\n---\n{{ x }}",
                "front.yaml": "---\nto: f.yaml\n---\nx",
                "conf/a.ini": "x",
                "x.txt": "x",
                "raw/a.njk": "x",
                "n.nunjucks": "x",
                "picture.png": b"\x89PNG\0\xff",
            }
        )
        rendered = {file.name: file.body is not None for file in loaded.actions[0].files}
        assert rendered == {
            "plain.yaml": False, "front.yaml": True, "conf/a.ini": True, "x.txt": True, "raw/a.njk": False, "n.nunjucks": True,
            "picture.png": False,
        }  # fmt: skip

    def test_order_of_work(self) -> None:
        loaded = action_set({"action.yaml": "files: [z.txt, 'b/*']\n", "a.txt": "", "b/1": "", "b/2": "", "z.txt": ""})
        assert [file.name for file in loaded.actions[0].files] == ["z.txt", "b/1", "b/2", "a.txt"]

    def test_deprecation(self) -> None:
        loaded = action_set({"action.yaml": "deprecated: {since: '2.0', replacedBy: gen/other}\n", "a.txt": ""})
        assert loaded.actions[0].deprecated
        assert loaded.actions[0].deprecation == "deprecated: since 2.0, use gen/other"


class TestProblems:
    @pytest.mark.parametrize(
        ("files", "place"),
        [
            ({"a.njk": "ok\n{% if %}"}, ("a.njk", 2)),
            ({"a.njk": "---\nto: x\n---\none\n{{ x"}, ("a.njk", 5)),
            ({"a.njk": "---\nto: '{{ x'\n---\n"}, ("a.njk", 2)),
            ({"a.njk": "---\nto: x\nif: x ==\n---\n"}, ("a.njk", 3)),
            ({"a.njk": "---\nto: x\nbogus: 1\n---\n"}, ("a.njk", 3)),
            ({"{{ x.njk": ""}, ("{{ x.njk", 0)),
            ({"a.ejs.t": "---\nto: x\n---\n<%= name %>"}, ("a.ejs.t", 0)),
            ({"a.njk": b"\xff\xfe"}, ("a.njk", 0)),
            ({"a.njk": "", "action.yaml": "variables:\n  a: {type: strnig}\n"}, ("action.yaml", 2)),
            ({"a.njk": "", "action.yaml": "variabels: {}\n"}, ("action.yaml", 1)),
            ({"a.njk": "", "action.yaml": "description: 1\n"}, ("action.yaml", 1)),
            ({"a.njk": "", "action.yaml": "a: 1\na: 2\n"}, ("action.yaml", 2)),
            ({"a.njk": "", "action.yaml": "- a\n"}, ("action.yaml", 1)),
            ({"a.njk": "", "action.yaml": "variables:\n  a-b: {}\n"}, ("action.yaml", 2)),
            ({"a.njk": "", "action.yaml": "variables:\n  a:\n    pattern: '('\n"}, ("action.yaml", 0)),
            ({"a.njk": "", "action.yaml": "variables:\n  a: {type: integer, default: x}\n"}, ("action.yaml", 0)),
            ({"a.njk": "", "action.yaml": "files: [{path: a.njk, bogus: 1}]\n"}, ("action.yaml", 1)),
            ({"a.njk": "---\nto: x\n---\n", "action.yaml": "files: [{path: a.njk, to: y}]\n"}, ("a.njk", 1)),
            ({"a.njk": "", "action.yaml": "exclude: [{path: a, if: '{{ x }}'}]\n"}, ("action.yaml", 1)),
            ({"a.njk": "", "action.yaml": "fromBase: {n: {blog: x}}\n"}, ("action.yaml", 1)),
        ],
    )
    def test_are_collected_with_their_place(self, files: dict[str, str | bytes], place: tuple[str, int]) -> None:
        loaded = action_set(files)
        errors = [(p.path, p.line) for p in loaded.all_problems if p.severity == "error"]
        assert (f"_templates/gen/new/{place[0]}", place[1]) in errors
        assert not loaded.actions[0].valid

    def test_one_broken_action_leaves_the_others(self) -> None:
        loaded = load_tree(tree({"_templates/a/x/a.njk": "{% if", "_templates/a/y/a.njk": "fine"}))
        assert [item.valid for item in loaded.actions] == [False, True]

    def test_a_template_read_variable_that_is_not_declared(self) -> None:
        loaded = action_set({"action.yaml": "variables: {a: {type: string}}\n", "t.njk": "{{ a }}{{ nowhere }}"})
        assert [p.severity for p in loaded.all_problems] == ["warning"]
        assert "'nowhere'" in loaded.all_problems[0].message

    def test_set_file(self) -> None:
        loaded = load_tree(
            {
                **action_tree({"a.txt": ""}),
                **tree({"unjucks.yaml": "engine: {undefined: Never, x: 1}\nclassification: Top\n"}),
            }
        )
        assert len(loaded.problems) == 3

    def test_files_outside_of_actions(self) -> None:
        loaded = load_tree(tree({"_templates/top.njk": "", "_templates/g/in.njk": "", "_templates/g/a/x.txt": ""}))
        assert [(p.path, p.severity) for p in loaded.problems] == [
            ("_templates/g/in.njk", "warning"),
            ("_templates/top.njk", "warning"),
        ]

    @pytest.mark.parametrize(
        ("files", "path", "reason"),
        [
            ({"a/b": ""}, ".", Reason.NO_TEMPLATES),
            ({"_templates/a/b/c": ""}, "nowhere", Reason.PATH_NOT_FOUND),
            ({"_templates/a/b/c": ""}, "../x", Reason.PATH_NOT_FOUND),
            ({"_templates/a/b/../c": ""}, ".", Reason.PATH_REJECTED),
            ({"_templates/a/b/C": "", "_templates/a/b/c": ""}, ".", Reason.PATH_REJECTED),
            ({f"_templates/a/b/{i}": "" for i in range(10_001)}, ".", Reason.ARCHIVE_TOO_LARGE),
        ],
    )
    def test_no_set_at_all(self, files: dict[str, str], path: str, reason: Reason) -> None:
        with pytest.raises(GenerationError) as caught:
            load_tree(tree(files), path)
        assert caught.value.reason is reason

    def test_an_unknown_action_gets_a_hint(self) -> None:
        with pytest.raises(GenerationError, match=r"did you mean gen/new\?"):
            action_set({"a.txt": ""}).action("gen", "nev")


class TestMigration:
    def test_config_yml_beside_the_actions(self) -> None:
        loaded = load_tree(
            tree(
                {
                    "_templates/c/config.yml": "name: c\ntemplates:\n  - name: new\n    description: D\n    prompts:\n"
                    "      - {type: confirm, name: withTest, default: true, message: Tests?}\n"
                    "      - {type: list, name: style, choices: [css, scss]}\n",
                    "_templates/c/new/a.njk": "{{ name }}{{ withTest }}{{ style }}",
                }
            )
        )
        action = loaded.actions[0]
        assert action.description == "D"
        assert action.valid
        assert {v.name: (v.type, v.enum) for v in action.variables if v.declared} == {
            "withTest": ("boolean", []),
            "style": ("string", ["css", "scss"]),
        }
        assert [p.severity for p in action.problems] == ["warning"]

    def test_meta_yml_inside_is_no_output(self) -> None:
        loaded = action_set(
            {
                "meta.yml": "variables:\n  - {name: n, type: string, required: true, pattern: '^a'}\n",
                "prompt.js": "module.exports = []",
                "a.njk": "{{ n }}",
            }
        )
        action = loaded.actions[0]
        assert [file.name for file in action.files] == ["a.njk"]
        assert [(v.name, v.required, v.pattern) for v in action.variables] == [("n", True, "^a")]

    def test_templates_folder_of_the_old_name(self) -> None:
        assert load_tree(tree({"templates/g/a/x.txt": ""})).root == "templates"


class TestDigests:
    FILES = {  # noqa: RUF012
        "_templates/g/_shared/p.njk": "p",
        "_templates/g/_shared/other.njk": "o",
        "_templates/g/one/a.njk": "{% include 'g/_shared/p.njk' %}",
        "_templates/g/two/a.njk": "x",
        "_templates/g/three/a.njk": "{% include which %}",
    }

    def digests(self, **changes: str) -> dict[str, str]:
        files = {**self.FILES, **{path.replace("__", "/"): text for path, text in changes.items()}}
        return {item.action: item.digest for item in load_tree(tree(files), check=False).actions}

    def test_only_what_an_action_depends_on_counts(self) -> None:
        before = self.digests()
        after = self.digests(**{"_templates/g/_shared/p.njk": "changed"})
        assert before["one"] != after["one"]
        assert before["two"] == after["two"]
        assert before["three"] != after["three"]  # a computed name may be any file
        unrelated = self.digests(**{"_templates/g/_shared/other.njk": "changed"})
        assert before["one"] == unrelated["one"]

    def test_tests_and_the_place_of_the_set_do_not_count(self) -> None:
        before = self.digests()
        assert self.digests(**{"_templates/g/one/_tests/t/variables.yaml": "a: 1"})["one"] == before["one"]
        moved = load_tree(tree({f"deep/{path}": text for path, text in self.FILES.items()}), "deep", check=False)
        assert {item.action: item.digest for item in moved.actions} == before

    def test_checking_does_not_change_them(self) -> None:
        checked = load_tree(tree(self.FILES), check=True)
        assert {item.action: item.digest for item in checked.actions} == self.digests()


class TestInspection:
    def test_unknown_filters_and_missing_files_have_places(self) -> None:
        loaded = action_set(
            {"a.njk": "---\nto: a\n---\n\n{{ x | kebabCas }}\n{% include './none.njk' %}\n{% if x is ood %}{% endif %}"}
        )
        found = [(p.line, p.message) for p in loaded.all_problems]
        assert found == [
            (5, "unknown filter 'kebabCas'; did you mean kebabCase?"),
            (6, "the set has no file './none.njk' (asked for by include)"),
            (7, "unknown test 'ood'; did you mean odd?"),
        ]

    def test_what_an_undeclared_action_needs_is_inferred(self) -> None:
        loaded = action_set(
            {
                "a.njk": "{{ name | upper }}{{ opt | default('x') }}{% if flag %}{{ flag }}{% endif %}"
                "{% for m in items %}{{ m.id }}{% endfor %}",
                "b.njk": "---\nto: b\nif: more\n---\n{{ only }}",
            }
        )
        action = loaded.actions[0]
        assert action.inferred == ("flag", "items", "more", "name", "only", "opt")
        shown = {v.name: (v.declared, v.required) for v in action.variables}
        assert shown == {
            "flag": (False, False), "items": (False, True), "more": (False, False), "name": (False, True),
            "only": (False, False), "opt": (False, False),
        }  # fmt: skip
        assert action.schema["required"] == ["items", "name"]

    def test_names_brought_by_loops_and_numbers_are_not_inferred(self) -> None:
        loaded = action_set(
            {
                "action.yaml": "variables: {models: {type: array}}\nfromBase: {n: {glob: '*'}}\n",
                "a.njk": '---\nto: "{{ n }}-{{ m }}-{{ i }}"\nforEach: {item: m, in: models, index: i}\n---\n{{ m.x }}',
            }
        )
        assert loaded.actions[0].inferred == ("models",)
        assert not loaded.all_problems

    def test_a_declared_variable_that_nothing_reads(self) -> None:
        loaded = action_set({"action.yaml": "variables: {a: {type: string}, b: {type: string}}\n", "t.njk": "{{ a }}"})
        assert [p.message for p in loaded.all_problems] == ["the variable 'b' is declared, but no template reads it"]
