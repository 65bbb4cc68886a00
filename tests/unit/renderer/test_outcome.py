"""Rendering on top of existing files through the protocol: folders of a matrix, diffs without secrets, three-way merges."""

import base64
from typing import Any

import pytest

from support.trees import action_tree
from unjucks_api.render_protocol import RenderRequest, RenderResponse, SourceFile
from unjucks_runtime.renderer import tasks


def source(path: str, text: str) -> SourceFile:
    return SourceFile(path=path, content=base64.b64encode(text.encode()).decode())


def render(files: dict[str, Any], variables: dict[str, Any] | None = None, **more: Any) -> RenderResponse:
    request = RenderRequest(task="t", digest="", generator="gen", action="new", variables=variables or {}, **more)
    return RenderResponse.model_validate_json(tasks.render(request.model_dump_json().encode(), action_tree(files)))


def text_of(response: RenderResponse, path: str) -> str:
    (found,) = [it for it in response.files if it.path == path]
    return base64.b64decode(found.content).decode()


def test_files_of_a_folder_see_only_that_folder() -> None:
    existing = [source("a/x.txt", "mine\n"), source("b/x.txt", "theirs\n"), source("x.txt", "top\n")]
    made = render(
        {"i.njk": "---\nto: x.txt\ninject: true\nappend: true\n---\nadded\n"}, base=existing, below="a", diff_bytes=1000
    )
    assert text_of(made, "a/x.txt") == "mine\nadded\n"
    assert made.diff.text.startswith("diff --git a/a/x.txt b/a/x.txt\n")
    assert (made.diff.added, made.diff.removed, made.diff.truncated) == (1, 0, False)


def test_a_folder_cannot_lead_out() -> None:
    with pytest.raises(tasks.TaskFailure) as caught:
        render({"a.njk": "a"}, below="../out")
    assert caught.value.response.reason == "PathRejected"


def test_what_held_a_secret_is_not_shown_either() -> None:
    existing = [source("old", "hunter2\n"), source("s", "hunter2\n")]
    made = render(
        {"old.njk": "new\n", "s.njk": "{{ token }}\n"}, {"token": "hunter3333"}, sensitive=["token"], base=existing,
        hidden=["old"], on_conflict="overwrite", diff_bytes=10_000,
    )  # fmt: skip
    assert "hunter" not in made.diff.text
    assert made.diff.text.count("# holds secrets: not shown") == 2


def test_a_merge_tells_what_the_templates_gave() -> None:
    made = render(
        {"a.njk": "one\n\n{{ x }}\n"}, {"x": "new"}, base=[source("a", "mine\n\nold\n")],
        last=[source("a", "one\n\nold\n")], update=True,
    )  # fmt: skip
    assert text_of(made, "a") == "mine\n\nnew\n"
    assert base64.b64decode(made.files[0].rendered or "").decode() == "one\n\nnew\n"


def test_a_long_diff_is_cut_and_says_so() -> None:
    made = render({"a.njk": "{% for i in range(100) %}line {{ i }}\n{% endfor %}"}, diff_bytes=200)
    assert made.diff.truncated
    assert (made.diff.added, len(made.diff.text) <= 200, made.diff.bytes > 200) == (100, True, True)
    assert made.diff.text.endswith("\n")
