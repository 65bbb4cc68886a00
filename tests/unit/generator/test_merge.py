"""The three-way merge: what both sides changed, conflicts, line ends; laws that hold for any three texts."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unjucks_runtime.generator.merge import MAX_MERGE_LINES, TooLong, merge

LINES = st.lists(st.sampled_from(["a\n", "b\n", "c\n", "}\n", "\n"]), max_size=8).map("".join)
LOOSE = st.tuples(LINES, st.sampled_from(["", "end", "a"])).map("".join)


@pytest.mark.parametrize(
    ("base", "theirs", "ours", "wanted"),
    [
        ("1\n2\n3\n", "0\n1\n2\n3\n", "1\n2\n3\n4\n", "0\n1\n2\n3\n4\n"),
        ("1\n2\n3\n4\n5\n", "1\ntwo\n3\n4\n5\n", "1\n2\n3\nfour\n5\n", "1\ntwo\n3\nfour\n5\n"),
        ("1\n2\n3\n", "1\n3\n", "1\n2\n3\n4\n", "1\n3\n4\n"),
        ("1\n2\n", "1\nsame\n2\n", "1\nsame\n2\n", "1\nsame\n2\n"),
        ("", "mine\n", "", "mine\n"),
        ("1\r\n2\r\n3\r\n", "0\r\n1\r\n2\r\n3\r\n", "1\n2\n3\n4\n", "0\r\n1\r\n2\r\n3\r\n4\r\n"),
        ("a\nb", "x\na\nb", "a\nb", "x\na\nb"),
    ],
    ids=[
        "both ends",
        "different lines",
        "a line less",
        "the same twice",
        "only theirs",
        "CRLF stays",
        "no final newline",
    ],
)
def test_changes_at_different_places_are_both_there(base: str, theirs: str, ours: str, wanted: str) -> None:
    made = merge(base, theirs, ours)
    assert (made.text, made.conflicts) == (wanted, 0)


def test_a_conflict_stands_between_marks_without_the_lines_that_both_have() -> None:
    made = merge("1\nx\n9\n", "1\nsame\nmine\nend\n9\n", "1\nsame\nnew\nend\n9\n")
    assert made.conflicts == 1
    assert made.text == "1\nsame\n<<<<<<< existing\nmine\n=======\nnew\n>>>>>>> generated\nend\n9\n"


def test_marks_stand_on_lines_of_their_own_also_at_an_end_without_newline() -> None:
    made = merge("x", "mine", "new")
    assert made.text == "<<<<<<< existing\nmine\n=======\nnew\n>>>>>>> generated\n"


def test_too_many_lines_are_refused() -> None:
    with pytest.raises(TooLong):
        merge("", "x\n" * (MAX_MERGE_LINES + 1), "y\n")


@given(LOOSE, LOOSE)
@settings(max_examples=200, deadline=None)
def test_one_side_alone_wins(base: str, side: str) -> None:
    for made in (merge(base, side, base), merge(base, base, side), merge(base, side, side)):
        assert (made.text, made.conflicts) == (side, 0)


@given(LINES, LINES, LINES)
@settings(max_examples=300, deadline=None)
def test_the_sides_are_equal_before_the_merge(base: str, left: str, right: str) -> None:
    one, other = merge(base, left, right), merge(base, right, left)
    assert one.conflicts == other.conflicts
    if not one.conflicts:
        assert one.text == other.text
        # What was merged once changes nothing when it is merged again.
        assert merge(right, one.text, right).text == one.text
