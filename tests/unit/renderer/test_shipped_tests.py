"""Golden tests that a set ships, run when it is read."""

import itertools

from support.trees import action_set
from unjucks_runtime.generator import Options
from unjucks_runtime.renderer.shipped_tests import MAX_SECONDS, catalogue_with_tests

SET = {
    "action.yaml": "variables: {name: {type: string}}\n",
    "{{ name }}.txt.njk": "Hello {{ name }}\n",
    "_tests/good/variables.yaml": "name: bob\n",
    "_tests/good/expected/bob.txt": "Hello bob\n",
    "_tests/bad/variables.yaml": "name: bob\n",
    "_tests/bad/expected/bob.txt": "Goodbye bob\n",
}


def test_what_fails_is_a_warning_with_the_tests_name() -> None:
    (entry,) = catalogue_with_tests(action_set(SET), Options(), lambda: 0.0)
    assert entry.tests is not None
    assert (entry.tests.passed, entry.tests.failed, entry.tests.not_run) == (1, 1, 0)
    (told,) = [it for it in entry.problems if "its test" in it.message]
    assert (told.severity, told.path) == ("warning", "_templates/gen/new/action.yaml")
    assert "'bad' fails: bob.txt: differs" in told.message
    assert entry.valid


def test_there_is_an_end_to_their_time() -> None:
    clock = itertools.chain([0.0, 1.0], itertools.repeat(MAX_SECONDS + 1))
    (entry,) = catalogue_with_tests(action_set(SET), Options(), lambda: next(clock))
    assert entry.tests is not None
    assert (entry.tests.passed + entry.tests.failed, entry.tests.not_run) == (1, 1)


def test_an_action_without_tests_tells_nothing() -> None:
    (entry,) = catalogue_with_tests(action_set({"a.txt.njk": "a"}), Options(), lambda: 0.0)
    assert entry.tests is None
