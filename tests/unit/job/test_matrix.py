"""Combinations of a matrix: their order, folders and bounds; values that cannot be."""

from typing import Any

import pytest

from unjucks_api.v1alpha1.generation_job_run import Matrix
from unjucks_operator.errors import InvalidSpec
from unjucks_operator.job.matrix import expand_matrix


def items(parameters: dict[str, Any], **more: Any) -> list[tuple[str, str, dict[str, Any]]]:
    made = expand_matrix(Matrix.model_validate({"parameters": parameters, **more}))
    return [(item.label, item.below, dict(item.values)) for item in made]


def test_every_combination_has_a_folder_of_its_own() -> None:
    assert items({"db": ["pg", "my"], "port": [1, 2]}) == [
        ("db=pg, port=1", "pg-1", {"db": "pg", "port": 1}),
        ("db=pg, port=2", "pg-2", {"db": "pg", "port": 2}),
        ("db=my, port=1", "my-1", {"db": "my", "port": 1}),
        ("db=my, port=2", "my-2", {"db": "my", "port": 2}),
    ]


def test_a_path_names_parameters_and_a_dot_is_no_folder() -> None:
    assert [it[1] for it in items({"s": ["a", "b"]}, path="services/{s}/v1")] == ["services/a/v1", "services/b/v1"]
    assert [it[1] for it in items({"s": [{"name": "a"}]}, path=".")] == [""]
    assert [it[1] for it in items({"on": [True, False]})] == ["true", "false"]


@pytest.mark.parametrize(
    ("parameters", "path", "words"),
    [
        ({"a": list(range(17)), "b": list(range(16))}, None, "272 combinations; at most 256"),
        ({"a": []}, None, "at least one value"),
        ({"a": "text"}, None, "give a list"),
        ({"a": ["x", "x"]}, None, "a value twice"),
        ({"a b": ["x"]}, None, "named as a variable"),
        ({"a": ["x"]}, "{b}", "is no parameter; there are: a"),
        ({"a": ["../x"]}, None, "cannot be a folder's name"),
        ({"a": [".."]}, None, "spec.matrix.path gives"),
        ({"a": [".git"]}, None, "spec.matrix.path gives"),
        ({"a": [{"b": 1}]}, None, "cannot be a folder's name"),
        ({"a": [""]}, None, "cannot be a folder's name"),
        ({"a": ["x"]}, "/{a}", "spec.matrix.path gives"),
    ],
)
def test_nonsense_is_told(parameters: dict[str, Any], path: str | None, words: str) -> None:
    with pytest.raises(InvalidSpec, match=words):
        items(parameters, **({"path": path} if path else {}))
