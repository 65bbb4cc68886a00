"""Updates on top of edits: merge, conflicts by policy, deletions, files that are not made any more, injected blocks, binaries."""

import hashlib
from typing import Any

import pytest

from support.trees import Content, action_set, run, statuses, texts, tree
from unjucks_runtime.generator import Options, Result, diff, digests, generate, manifest, rendered_tree
from unjucks_runtime.generator.options import MARKERS, OVERWRITE, SKIP
from unjucks_runtime.generator.result import cut_diff

BODY = "one\n{{ x }}\nthree\nfour\nfive\n"


def again(
    before: dict[str, Content], files: dict[str, Content], existing: dict[str, Content], x: str = "new", **options: Any
) -> Result:
    """A first run with ``before`` and x=old, then a second one with ``files`` on what exists by then."""
    first = run(before, {"x": "old"})
    last, previous = rendered_tree(first, {}), digests(manifest(first))
    return run(files, {"x": x}, existing, update=True, last=last, previous=previous, **options)


def test_edits_and_new_templates_are_merged() -> None:
    result = again({"a.njk": BODY}, {"a.njk": BODY}, {"a": "one\nold\nthree\nfour\nmine\n"})
    assert texts(result) == {"a": "one\nnew\nthree\nfour\nmine\n"}
    assert statuses(result) == {"a": "updated"}
    assert result.ok
    # The next run merges with what the templates gave, not with what was merged.
    assert rendered_tree(result, {})["a"][0] == b"one\nnew\nthree\nfour\nfive\n"
    assert digests(manifest(result))["a"] == hashlib.sha256(b"one\nnew\nthree\nfour\nfive\n").hexdigest()


def test_an_edit_stays_when_the_template_gives_the_same() -> None:
    result = again({"a.njk": BODY}, {"a.njk": BODY}, {"a": "mine\n"}, x="old")
    assert (texts(result), statuses(result)) == ({"a": "mine\n"}, {"a": "unchanged"})


def test_a_file_that_nobody_edited_is_just_updated() -> None:
    result = again({"a.njk": BODY}, {"a.njk": BODY}, {"a": "one\nold\nthree\nfour\nfive\n"})
    assert (texts(result)["a"], statuses(result)) == ("one\nnew\nthree\nfour\nfive\n", {"a": "updated"})


EDITED: dict[str, Content] = {"a": "one\nmine\nthree\nfour\nfive\n"}


@pytest.mark.parametrize(
    ("policy", "status", "text"),
    [
        ("conflict", "conflicted", "one\nnew\nthree\nfour\nfive\n"),
        (OVERWRITE, "updated", "one\nnew\nthree\nfour\nfive\n"),
        (SKIP, "skipped", ""),
        (
            MARKERS,
            "conflicted",
            "one\n<<<<<<< existing\nmine\n=======\nnew\n>>>>>>> generated\nthree\nfour\nfive\n",
        ),
    ],
)
def test_the_same_line_changed_twice(policy: str, status: str, text: str) -> None:
    result = again({"a.njk": BODY}, {"a.njk": BODY}, EDITED, on_conflict=policy)
    assert statuses(result) == {"a": status}
    assert result.files[0].content.decode() == text
    assert result.ok == (policy != "conflict")
    assert bool(result.changes) == (policy in (OVERWRITE, MARKERS))
    # A change that was declined is not offered again: the templates' text is remembered all the same.
    assert rendered_tree(result, {})["a"][0] == b"one\nnew\nthree\nfour\nfive\n"


@pytest.mark.parametrize("policy", ["conflict", MARKERS])
def test_marks_that_nobody_resolved_stop_the_next_update(policy: str) -> None:
    marked = again({"a.njk": BODY}, {"a.njk": BODY}, EDITED, on_conflict=MARKERS)
    left: dict[str, Content] = {"a": marked.files[0].content}
    later = again({"a.njk": BODY}, {"a.njk": BODY}, left, x="newest", on_conflict=policy)
    assert statuses(later) == {"a": "conflicted"}
    assert not later.ok
    assert "marks of an earlier conflict" in later.files[0].why


@pytest.mark.parametrize(
    ("x", "policy", "status"),
    [
        ("old", "conflict", "skipped"),
        ("new", "conflict", "conflicted"),
        ("new", SKIP, "skipped"),
        ("new", OVERWRITE, "created"),
    ],
)
def test_a_deleted_file_stays_away_unless_its_template_changed(x: str, policy: str, status: str) -> None:
    result = again({"a.njk": BODY}, {"a.njk": BODY}, {}, x=x, on_conflict=policy)
    assert statuses(result) == {"a": status}
    assert result.kept.keys() == ({"a"} if status == "skipped" else set())


def test_without_the_last_bytes_it_is_an_ordinary_conflict() -> None:
    result = run({"a.njk": BODY}, {"x": "new"}, EDITED, update=True)
    assert statuses(result) == {"a": "conflicted"}
    marked = run({"a.njk": BODY}, {"x": "new"}, EDITED, update=True, on_conflict=MARKERS)
    assert "mine\n=======\nnew\n" in texts(marked)["a"]


def test_binaries_are_taken_whole_or_conflict() -> None:
    old, new = b"\0old", b"\0new"
    same = again({"a.bin": old}, {"a.bin": new}, {"a.bin": old})
    edited = again({"a.bin": old}, {"a.bin": old}, {"a.bin": b"\0mine"})
    both = again({"a.bin": old}, {"a.bin": new}, {"a.bin": b"\0mine"}, on_conflict=MARKERS)
    assert [statuses(it)["a.bin"] for it in (same, edited, both)] == ["updated", "unchanged", "conflicted"]
    assert not both.ok
    assert edited.files[0].content == b"\0mine"


TWO: dict[str, Content] = {"a.njk": "a", "gone/b.njk": "{{ x }}"}


@pytest.mark.parametrize(
    ("existing", "policy", "status"),
    [
        ("old", "conflict", "removed"),
        ("mine", "conflict", "conflicted"),
        ("mine", SKIP, "skipped"),
        ("mine", MARKERS, "skipped"),
        ("mine", OVERWRITE, "removed"),
    ],
)
def test_prune_takes_what_is_still_ours(existing: str, policy: str, status: str) -> None:
    result = again(TWO, {"a.njk": "a"}, {"a": "a", "gone/b": existing}, prune=True, on_conflict=policy)
    assert statuses(result)["gone/b"] == status
    assert [file.path for file in result.removals] == (["gone/b"] if status == "removed" else [])
    if status == "removed":
        assert "deleted file mode 100644\n" in (text := diff(result, tree({"gone/b": existing})))
        assert f"-{existing}\n" in text
        assert "+++ /dev/null\n" in text


def test_without_prune_it_stays_known_for_a_later_one() -> None:
    first = again(TWO, {"a.njk": "a"}, {"a": "a", "gone/b": "old"})
    assert "gone/b" not in statuses(first)
    known = digests(manifest(first))
    later = run({"a.njk": "a"}, {}, {"a": "a", "gone/b": "old"}, prune=True, previous=known)
    assert statuses(later)["gone/b"] == "removed"


def test_a_file_that_was_only_changed_in_places_is_never_removed() -> None:
    before: dict[str, Content] = {"i.njk": "---\nto: theirs.txt\ninject: true\nappend: true\n---\nline\n"}
    existing: dict[str, Content] = {"theirs.txt": "x\n"}
    first = run(before, {}, existing)
    assert first.files[0].injected
    after = {"theirs.txt": first.files[0].content}
    later = run({"a.njk": "a"}, {}, after, prune=True, previous=digests(manifest(first)), on_conflict=OVERWRITE)
    assert "theirs.txt" not in statuses(later)


def test_a_marked_block_is_replaced_inside_an_edited_file() -> None:
    block = '---\nto: r.py\ninject: true\nappend: true\nmarker: routes\ncreate: true\n---\nroute("{{ x }}")\n'
    first = run({"i.njk": block}, {"x": "old"}, {"r.py": "import x\n"})
    edited: dict[str, Content] = {"r.py": b"# mine\n" + first.files[0].content}
    last, previous = rendered_tree(first, {}), digests(manifest(first))
    result = run({"i.njk": block}, {"x": "new"}, edited, update=True, last=last, previous=previous)
    wanted = '# mine\nimport x\n# unjucks:begin routes\nroute("new")\n# unjucks:end routes\n'
    assert (texts(result)["r.py"], statuses(result)) == (wanted, {"r.py": "updated"})


def test_files_with_secrets_are_not_remembered() -> None:
    made = generate(
        action_set({"a.njk": "{{ key }}", "b.njk": "b"}, check=False), "gen", "new", {"key": "hunter22"},
        options=Options(sensitive=("key",)),
    )  # fmt: skip
    assert rendered_tree(made, {}).keys() == {"b"}


def test_a_manifest_written_by_hand_removes_nothing_outside() -> None:
    hostile = {"../outside": "0" * 64, "/etc/passwd": "0" * 64, ".git/config": "0" * 64}
    result = run({"a.njk": "a"}, {}, {}, prune=True, previous=hostile, on_conflict=OVERWRITE)
    assert statuses(result) == {"a": "created"}


def test_a_diff_is_cut_at_a_line_and_counts_everything() -> None:
    result = run({"a.njk": "1\n2\n3\n", "b.njk": "4\n"}, {}, {"b": "0\n"}, on_conflict=OVERWRITE)
    whole = cut_diff(result.files, tree({"b": "0\n"}), 10_000)
    assert (whole.added, whole.removed, whole.truncated) == (4, 1, False)
    assert whole.text == diff(result, tree({"b": "0\n"}))
    cut = cut_diff(result.files, tree({"b": "0\n"}), 60)
    assert (cut.added, cut.removed, cut.size, cut.truncated) == (4, 1, whole.size, True)
    assert whole.text.startswith(cut.text)
    assert len(cut.text) <= 60


def test_what_stands_between_marks_is_not_overwritten_where_the_text_was_stored_nowhere() -> None:
    """Files with secrets: known by the digest of what was written only, and that was written with marks."""
    marked = "<<<<<<< existing\nmine\n=======\nold\n>>>>>>> generated\n"
    previous = {"a": hashlib.sha256(marked.encode()).hexdigest()}
    result = run({"a.njk": BODY}, {"x": "new"}, {"a": marked}, update=True, previous=previous, on_conflict=MARKERS)
    assert statuses(result) == {"a": "conflicted"}
    assert "marks" in result.files[0].why
    assert not result.ok


def test_only_a_newline_ends_a_line_of_a_diff() -> None:
    """Else a form feed would tear a line in two, with a note in between that the file ends there."""
    old, new = "a\x0cb\nc\u2028d\n", "a\x0cb\nc\u2028e\n"
    text = cut_diff(run({"a.njk": new}, {}, {"a": old}, on_conflict=OVERWRITE).files, tree({"a": old}), 10_000).text
    assert "No newline" not in text
    assert text.endswith(" a\x0cb\n-c\u2028d\n+c\u2028e\n")
