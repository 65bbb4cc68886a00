"""What a run does about existing files: defaults by output, what is asked of a renderer, what its answer means."""

import base64
import hashlib
from typing import Any

import pytest

from support.builders import job
from unjucks_api.reasons import Reason
from unjucks_api.render_protocol import OutputFile, RenderResponse, SourceFile
from unjucks_operator.errors import Terminal
from unjucks_operator.job.existing import (
    MAX_EXISTING_BYTES,
    changed_paths,
    combined_diff,
    cut_lines,
    existing_of,
    outcome_of,
    policy_of,
    refuse_conflicts,
    request_of,
)
from unjucks_operator.job.outputs.base import Found
from unjucks_operator.job.outputs.files import File
from unjucks_operator.job.outputs.target import Target

OWN, SHARED = Target("ConfigMap", "out"), Target("Git", "main")


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def file(path: str, text: str, **more: Any) -> File:
    return File(path, text.encode(), 0o644, sha(text), "unchanged", **more)


def source(path: str, text: str) -> SourceFile:
    return SourceFile(path=path, content=base64.b64encode(text.encode()).decode())


def answer(*files: tuple[str, str, str], **more: Any) -> RenderResponse:
    made = [
        OutputFile(
            path=path, content=base64.b64encode(text.encode()).decode(), size=len(text), sha256=sha(text), action=action,
            template="_templates/a", **more,
        )
        for path, text, action in files
    ]  # fmt: skip
    return RenderResponse(files=made, engine_version="1", cpu_seconds=0, wall_seconds=0, max_rss_bytes=0)


@pytest.mark.parametrize(
    ("spec", "target", "wanted"),
    [
        ({}, OWN, ("overwrite", True, False)),
        ({}, SHARED, ("conflict", False, False)),
        ({"mode": "Update"}, OWN, ("conflict", False, True)),
        ({"mode": "Update", "onConflict": "Markers", "prune": "Remove"}, SHARED, ("markers", True, True)),
        ({"onConflict": "Skip", "prune": "Keep"}, OWN, ("skip", False, False)),
        ({"mode": "Check"}, OWN, ("overwrite", True, False)),
        ({"mode": "Check"}, SHARED, ("overwrite", False, False)),
    ],
)
def test_defaults_depend_on_whose_the_output_is(spec: dict[str, Any], target: Target, wanted: Any) -> None:
    policy = policy_of(job(spec=spec), target)
    assert (policy.on_conflict, policy.prune, policy.update) == wanted


def test_a_renderer_is_told_what_is_there_and_what_holds_secrets() -> None:
    policy = policy_of(job(spec={"mode": "Update"}), OWN)
    found = Found(
        "1",
        files=(file("a", "mine"), file("s", "secret", sensitive=True)),
        manifest={"a": sha("old"), "s": sha("secret")},
    )
    existing = existing_of(found, [source("a", "old")], policy)
    asked = request_of(existing, policy, prune=False)
    assert [it.path for it in asked["base"]] == ["a", "s"]
    assert asked["hidden"] == ["s"]
    assert asked["previous"] == {"a": sha("old"), "s": sha("secret")}
    assert [it.path for it in asked["last"]] == ["a"]


def test_in_a_shared_place_only_what_templates_gave_is_ours() -> None:
    policy = policy_of(job(), SHARED)
    found = Found("1", files=(file("injected", "x"),), manifest={"injected": sha("x")}, others=(file("theirs", "y"),))
    existing = existing_of(found, [], policy)
    assert existing.previous == {}
    assert set(existing.files) == {"injected", "theirs"}


def test_too_much_to_compare_with_is_refused_with_figures() -> None:
    policy = policy_of(job(), SHARED)
    big = File("big", b"x" * (MAX_EXISTING_BYTES + 1), 0o644, "", "unchanged")
    with pytest.raises(Terminal, match=str(MAX_EXISTING_BYTES)) as caught:
        request_of(existing_of(Found("1", others=(big,)), [], policy), policy, prune=False)
    assert caught.value.reason is Reason.LIMIT_EXCEEDED


def test_an_own_place_keeps_what_a_run_skipped() -> None:
    policy = policy_of(job(spec={"mode": "Update"}), OWN)
    existing = existing_of(Found("1", files=(file("a", "old"), file("b", "kept"))), [source("b", "kept")], policy)
    outcome = outcome_of([answer(("a", "new", "updated"), ("c", "c", "created"))], existing, policy)
    assert [(it.path, it.action) for it in outcome.files] == [("a", "updated"), ("b", "unchanged"), ("c", "created")]
    assert [it.path for it in outcome.shown] == ["a", "c"]
    assert {path: item[0] for path, item in outcome.last.items()} == {"a": b"new", "b": b"kept", "c": b"c"}


def test_a_renderer_removes_nothing_that_is_not_there() -> None:
    policy = policy_of(job(), OWN)
    outcome = outcome_of([answer(("gone", "", "removed"))], existing_of(None, [], policy), policy)
    assert [it.action for it in outcome.shown] == ["skipped"]


def test_secrets_and_injected_files_are_not_remembered() -> None:
    policy = policy_of(job(), OWN)
    nothing = existing_of(None, [], policy)
    assert outcome_of([answer(("s", "x", "created"), sensitive=True)], nothing, policy).last == {}
    assert outcome_of([answer(("i", "x", "created"), injected=True)], nothing, policy).last == {}


def test_two_runs_of_a_matrix_with_one_path_are_refused() -> None:
    policy = policy_of(job(), OWN)
    with pytest.raises(Terminal, match=r"two runs of spec\.matrix make a") as caught:
        outcome_of(
            [answer(("a", "1", "created")), answer(("a", "2", "created"))], existing_of(None, [], policy), policy
        )
    assert caught.value.reason is Reason.OUTPUT_COLLISION


@pytest.mark.parametrize(
    ("now", "spec", "action"),
    [
        ("old", {}, "removed"),
        ("mine", {}, "removed"),
        ("old", {"mode": "Update", "prune": "Remove"}, "removed"),
        ("mine", {"mode": "Update", "prune": "Remove", "onConflict": "Skip"}, "skipped"),
    ],
)
def test_a_value_that_left_the_matrix_takes_its_files_along(now: str, spec: dict[str, Any], action: str) -> None:
    policy = policy_of(job(spec=spec), OWN)
    existing = existing_of(Found("1", files=(file("x/a", now),)), [source("x/a", "old")], policy)
    outcome = outcome_of([answer(("y/a", "1", "created")), answer(("z/a", "2", "created"))], existing, policy)
    assert {it.path: it.action for it in outcome.shown} == {"x/a": action, "y/a": "created", "z/a": "created"}
    text = combined_diff(["first\n"], [it for it in outcome.shown if it.action == "removed"], existing)
    assert ("-" + now in text) == (action == "removed")


def test_conflicts_are_told_with_a_way_out() -> None:
    policy = policy_of(job(spec={"mode": "Update"}), OWN)
    outcome = outcome_of(
        [answer(("a", "1", "conflicted"), ("b", "1", "conflicted"))], existing_of(None, [], policy), policy
    )
    with pytest.raises(Terminal, match=r"^a: .*, and 1 more; nothing was published.*spec\.onConflict") as caught:
        refuse_conflicts(outcome.conflicts)
    assert caught.value.reason is Reason.MERGE_CONFLICT
    marked = outcome_of([answer(("a", "1", "conflicted"), marked=True)], existing_of(None, [], policy), policy)
    refuse_conflicts(marked.conflicts)


def test_edits_and_deletions_are_drift() -> None:
    found = Found(
        "1", files=(file("a", "edited"), file("b", "b")), manifest={"a": sha("a"), "b": sha("b"), "c": sha("c")}
    )
    assert changed_paths(found) == ["a", "c"]


def test_a_text_is_cut_at_a_line() -> None:
    assert cut_lines("one\ntwo\nthree\n", 9) == "one\ntwo\n"
    assert cut_lines("one\n", 9) == "one\n"
    assert cut_lines("äöü\nx\n", 7) == "äöü\n"


def test_edits_that_were_merged_are_not_taken_for_the_operators_own_when_the_stored_text_is_gone() -> None:
    """The manifest has the digest of the merged file: by it alone the edits would look like what the templates gave."""
    found = Found("1", files=(file("a", "merged with mine"),), manifest={"a": sha("merged with mine")}, last="sha256:x")
    update = policy_of(job(spec={"mode": "Update"}), OWN)
    assert existing_of(found, None, update).previous == {}
    assert existing_of(found, [source("a", "given")], update).previous == {"a": sha("given")}
    apply = policy_of(job(), OWN)
    assert existing_of(found, None, apply).previous == {"a": sha("merged with mine")}


def test_a_removed_file_without_a_newline_at_its_end_says_so() -> None:
    existing = existing_of(Found("1", files=(file("a", "one\x0c\ntwo"),)), (), policy_of(job(), OWN))
    text = combined_diff([], [file("a", "")], existing)
    assert text == ""  # nothing is removed of it
    gone = File("a", b"", 0o644, "", "removed")
    assert combined_diff([], [gone], existing).endswith(
        "@@ -1,2 +0,0 @@\n-one\x0c\n-two\n\\ No newline at end of file\n"
    )
