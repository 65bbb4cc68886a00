"""The shipped template sets: no problem in any of them, every golden test passes, a second run changes nothing on a real disk."""

from pathlib import Path

import pytest

from unjucks_runtime.cli.sets import read_set
from unjucks_runtime.generator import FolderTree, Status, TemplateSet, generate, load_tree, write_atomically
from unjucks_runtime.generator.golden import run_case
from unjucks_runtime.generator.model import Action, TestCase

EXAMPLES = Path(__file__).parents[3] / "examples" / "templates"
NAMES = ("api", "chart", "monorepo", "service", "terraform")
SETS: dict[str, TemplateSet] = {name: load_tree(read_set(EXAMPLES / name)) for name in NAMES}
CASES = [
    pytest.param(template_set, action, case, id=f"{action.full_name}:{case.name}")
    for template_set in SETS.values()
    for action in template_set.actions
    for case in action.tests
]


def test_the_five_sets_are_there() -> None:
    assert tuple(sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir())) == NAMES
    assert all((EXAMPLES / name / "README.md").is_file() for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_has_no_problem_and_a_schema_for_every_variable(name: str) -> None:
    loaded = SETS[name]
    assert [str(item) for item in loaded.all_problems] == []
    for action in loaded.actions:
        assert action.description
        assert all(item.declared and item.description for item in action.variables), action.full_name
        assert len([case for case in action.tests if not case.expected_error]) >= 2


@pytest.mark.parametrize(("template_set", "action", "case"), CASES)
def test_golden(template_set: TemplateSet, action: Action, case: TestCase) -> None:
    outcome = run_case(template_set, action, case)
    assert outcome.passed, "\n".join(outcome.failures)


@pytest.mark.parametrize(
    ("template_set", "action", "case"), [case for case in CASES if not case.values[2].expected_error]
)
def test_twice_on_a_disk(template_set: TemplateSet, action: Action, case: TestCase, tmp_path: Path) -> None:
    for path, (content, mode) in case.base.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
        (tmp_path / path).chmod(mode)
    with FolderTree(tmp_path) as base:
        first = generate(template_set, action.generator, action.action, case.variables, base=base)
        assert write_atomically(first, tmp_path)
    with FolderTree(tmp_path) as base:
        second = generate(template_set, action.generator, action.action, case.variables, base=base)
    assert {file.status for file in second.files} <= {Status.UNCHANGED, Status.SKIPPED}
    assert write_atomically(second, tmp_path) == []
    written = {path: content for path, (content, _) in _read(tmp_path).items()}
    assert {path: written[path] for path in case.expected} == {path: item[0] for path, item in case.expected.items()}


def _read(folder: Path) -> dict[str, tuple[bytes, int]]:
    with FolderTree(folder) as tree:
        return dict(tree.items())
