"""The runner of golden tests itself: what it notices."""

from support.trees import action_set
from unjucks_runtime.generator.golden import run_case, updated_files

FILES = {"action.yaml": "variables: {n: {type: string}}\n", "{{ n }}.njk": "{{ n }}\n"}


def outcome(**case: str) -> tuple[str, ...]:
    files = {**FILES, **{f"_tests/t/{path}": text for path, text in case.items()}}
    loaded = action_set(files, check=False)
    return run_case(loaded, loaded.actions[0], loaded.actions[0].tests[0]).failures


def test_passes() -> None:
    assert outcome(**{"variables.yaml": "n: a", "expected/a": "a\n"}) == ()


def test_differences_are_told() -> None:
    (failure,) = outcome(**{"variables.yaml": "n: a", "expected/a": "b\n"})
    assert failure.startswith("a: differs\n--- expected/a\n+++ generated/a\n")
    assert "-b\n+a\n" in failure


def test_missing_and_unexpected_files() -> None:
    assert outcome(**{"variables.yaml": "n: a", "expected/b": "a\n"}) == ("b: is missing", "a: was not expected")


def test_expected_errors() -> None:
    assert outcome(**{"variables.yaml": "", "error.txt": "VariablesMissing\nn: is required"}) == ()
    assert "lacks 'zzz'" in outcome(**{"variables.yaml": "", "error.txt": "VariablesMissing\nzzz"})[0]
    assert "got VariablesMissing" in outcome(**{"variables.yaml": "", "error.txt": "PathRejected"})[0]
    assert "but it succeeded" in outcome(**{"variables.yaml": "n: a", "error.txt": "PathRejected"})[0]
    assert "VariablesMissing" in outcome(**{"variables.yaml": "", "expected/a": ""})[0]


def test_a_second_run_that_changes_something_fails() -> None:
    files = {
        "a.njk": "---\nto: log\nappend: true\ncreate: true\nskipIf: false\n---\n{{ n }}\n",
        "action.yaml": "variables: {}\nfromBase: {n: {glob: '*'}}\n",
        "b.njk": '---\nto: "{{ n }}"\n---\n',
        "_tests/t/variables.yaml": "",
        "_tests/t/expected/log": "1\n",
        "_tests/t/expected/1": "",
    }
    loaded = action_set(files, check=False)
    (first, *_) = run_case(loaded, loaded.actions[0], loaded.actions[0].tests[0]).failures
    assert "the second run is no no-op" in first


def test_update_takes_what_came_out() -> None:
    loaded = action_set({**FILES, "_tests/t/variables.yaml": "n: a"}, check=False)
    result = run_case(loaded, loaded.actions[0], loaded.actions[0].tests[0])
    folder = "_templates/gen/new/_tests/t"
    assert updated_files(result) == ({f"{folder}/expected/a": (b"a\n", 0o644)}, f"{folder}/expected")


def test_inline_tests_of_action_yaml() -> None:
    files = {
        **FILES,
        "action.yaml": FILES["action.yaml"] + 'tests: [{name: x, variables: {n: a}, expect: {a: "a\\n"}}]\n',
    }
    loaded = action_set(files, check=False)
    assert run_case(loaded, loaded.actions[0], loaded.actions[0].tests[0]).passed
