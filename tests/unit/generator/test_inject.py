"""The rules of injection, on texts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unjucks_api.reasons import Reason
from unjucks_runtime.generator.inject import Refusal, body_lines, contains, find_run, insert, marker_lines, merge_json

TARGET = "first\n  // anchor one\nmiddle\n  // anchor two\nlast\n"


def refused(*args: object, **more: object) -> Refusal:
    with pytest.raises(Refusal) as caught:
        insert(*args, **more)  # type: ignore[arg-type]
    return caught.value


class TestPlaces:
    def test_before_the_first_line_that_contains_the_text(self) -> None:
        assert insert(TARGET, "new\n", "before", "anchor") == TARGET.replace("  // anchor one", "new\n  // anchor one")

    def test_after(self) -> None:
        assert insert(TARGET, "new\n", "after", "anchor") == TARGET.replace("one\n", "one\nnew\n")

    def test_last_and_second_occurrence(self) -> None:
        expected = TARGET.replace("two\n", "two\nnew\n")
        assert insert(TARGET, "new\n", "after", "anchor", occurrence=-1) == expected
        assert insert(TARGET, "new\n", "after", "anchor", occurrence=2) == expected

    def test_text_is_literal_and_slashes_make_an_expression(self) -> None:
        assert refused(TARGET, "new", "after", "anch.r").reason is Reason.ANCHOR_NOT_FOUND
        assert insert(TARGET, "new\n", "after", "/anch.r t\\w+$/") == TARGET.replace("two\n", "two\nnew\n")
        assert insert("a /path/ b\n", "new\n", "after", "/\\/path\\//") == "a /path/ b\nnew\n"

    def test_no_anchor_is_an_error_that_names_the_text(self) -> None:
        error = refused(TARGET, "new", "before", "nowhere")
        assert error.reason is Reason.ANCHOR_NOT_FOUND
        assert "'nowhere'" in error.message
        assert "no occurrence 3" in refused(TARGET, "new", "before", "anchor", occurrence=3).message

    def test_an_expression_that_is_none(self) -> None:
        assert "no valid expression" in refused(TARGET, "x", "after", "/(/").message
        assert "no valid expression" in refused(TARGET, "x", "after", "/(?=a)/").message
        assert refused(TARGET, "x", "after", "/" + "a" * 2000 + "/").reason is Reason.LIMIT_EXCEEDED

    def test_append_and_prepend(self) -> None:
        assert insert("a\n", "b\n", "append", "") == "a\nb\n"
        assert insert("a\n", "b\n", "prepend", "") == "b\na\n"

    def test_line_at_counts_from_one(self) -> None:
        assert insert("a\nb\n", "x\n", "lineAt", 1) == "x\na\nb\n"
        assert insert("a\nb\n", "x\n", "lineAt", "3") == "a\nb\nx\n"
        assert refused("a\nb\n", "x", "lineAt", 4).reason is Reason.ANCHOR_NOT_FOUND
        assert "line number" in refused("a\n", "x", "lineAt", "0").message


class TestBytesOfTheTarget:
    def test_shebang_stays_first(self) -> None:
        assert insert("#!/bin/sh\necho\n", "set -e\n", "prepend", "") == "#!/bin/sh\nset -e\necho\n"

    def test_byte_order_mark_stays_first(self) -> None:
        assert insert("\ufeffa\n", "b\n", "prepend", "") == "\ufeffb\na\n"

    def test_a_missing_final_newline_stays_missing(self) -> None:
        assert insert("a\nb", "c\n", "append", "") == "a\nb\nc"
        assert insert("a\nb", "c\n", "prepend", "") == "c\na\nb"

    def test_line_ends_follow_the_majority(self) -> None:
        assert insert("a\r\nb\r\n", "c\nd\n", "append", "") == "a\r\nb\r\nc\r\nd\r\n"
        assert insert("a\r\nb", "c\n", "append", "") == "a\r\nb\r\nc"
        assert insert("a\nb\r\nc\n", "d\r\n", "append", "") == "a\nb\r\nc\nd\n"

    def test_an_empty_target(self) -> None:
        assert insert("", "a\nb\n", "append", "") == "a\nb\n"

    def test_windows_line_ends_do_not_hide_an_anchor_at_the_end_of_a_line(self) -> None:
        assert insert("a;\r\nb\r\n", "x\n", "after", "/;$/") == "a;\r\nx\r\nb\r\n"


class TestPresence:
    def test_a_run_of_whole_lines_is_present(self) -> None:
        assert insert(TARGET, "middle\n  // anchor two\n", "append", "") == TARGET

    def test_a_part_of_a_line_is_not(self) -> None:
        assert insert("import a from 'a';\n", "import a\n", "append", "") == "import a from 'a';\nimport a\n"

    def test_blanks_at_line_ends_do_not_count(self) -> None:
        assert insert("a  \nb\t\n", "a\nb \n", "append", "") == "a  \nb\t\n"

    def test_present_needs_no_anchor(self) -> None:
        assert insert("b\n", "b\n", "after", "gone") == "b\n"

    def test_an_empty_body_changes_nothing(self) -> None:
        assert insert(TARGET, "", "append", "") == TARGET

    @given(
        st.text(alphabet="ab \n\r", max_size=20),
        st.text(alphabet="ab \n", max_size=8),
        st.sampled_from(["append", "prepend"]),
    )
    def test_twice_is_once(self, target: str, body: str, place: str) -> None:
        once = insert(target, body, place, "")
        assert insert(once, body, place, "") == once

    @given(st.lists(st.sampled_from("ab"), max_size=12), st.lists(st.sampled_from("ab"), min_size=1, max_size=4))
    def test_find_run_agrees_with_the_plain_search(self, lines: list[str], wanted: list[str]) -> None:
        plain = [i for i in range(len(lines) - len(wanted) + 1) if lines[i : i + len(wanted)] == wanted]
        assert find_run(lines, wanted) == (plain[0] if plain else None)

    def test_hostile_repetition_is_linear(self) -> None:
        assert find_run(["a"] * 200_000, ["a"] * 100_000 + ["b"]) is None


class TestMarkers:
    def block(self, target: str, body: str, **more: object) -> str:
        return insert(target, body, "before", "end", marker="r", path="x.ts", **more)  # type: ignore[arg-type]

    def test_wraps_and_replaces(self) -> None:
        first = self.block("start\nend\n", "  a\n")
        assert first == "start\n  // unjucks:begin r\n  a\n  // unjucks:end r\nend\n"
        assert self.block(first, "  a\n") == first
        second = self.block(first, "  b\n  c\n")
        assert second == "start\n  // unjucks:begin r\n  b\n  c\n  // unjucks:end r\nend\n"

    def test_a_moved_block_is_replaced_where_it_is(self) -> None:
        assert self.block("// unjucks:begin r\nold\n// unjucks:end r\n", "new\n").splitlines()[1] == "new"

    def test_an_empty_body_removes_the_block(self) -> None:
        assert self.block(self.block("start\nend\n", "a\n"), "") == "start\nend\n"
        assert self.block("start\nend\n", "") == "start\nend\n"

    def test_a_damaged_block_is_an_error(self) -> None:
        for broken in ("// unjucks:begin r\n", "// unjucks:end r\n", "// unjucks:end r\n// unjucks:begin r\n"):
            with pytest.raises(Refusal, match="damaged"):
                self.block(broken + "end\n", "a\n")

    @pytest.mark.parametrize(
        ("path", "begin"),
        [
            ("a.py", "# unjucks:begin r"),
            ("Dockerfile", "# unjucks:begin r"),
            ("Dockerfile.dev", "# unjucks:begin r"),
            ("a.html", "<!-- unjucks:begin r -->"),
            ("README.md", "<!-- unjucks:begin r -->"),
            ("a.css", "/* unjucks:begin r */"),
            ("a.sql", "-- unjucks:begin r"),
            ("a.go", "// unjucks:begin r"),
        ],
    )
    def test_comment_style_by_name(self, path: str, begin: str) -> None:
        assert marker_lines("r", "", path)[0] == begin

    def test_own_comment_style(self) -> None:
        assert marker_lines("r", ";", "x.foo") == ("; unjucks:begin r", "; unjucks:end r")
        assert marker_lines("r", "(* *)", "x.foo") == ("(* unjucks:begin r *)", "(* unjucks:end r *)")
        with pytest.raises(Refusal, match="not known how comments look"):
            marker_lines("r", "", "x.foo")

    @pytest.mark.parametrize("marker", ["", "a b", "a\nb", "-->", "*/", "x" * 200])
    def test_a_marker_cannot_leave_its_comment(self, marker: str) -> None:
        with pytest.raises(Refusal, match="marker"):
            marker_lines(marker, "", "a.ts")

    def test_crlf(self) -> None:
        first = insert("a\r\nend\r\n", "x\n", "before", "end", marker="m", path="a.py")
        assert first == "a\r\n# unjucks:begin m\r\nx\r\n# unjucks:end m\r\nend\r\n"
        assert insert(first, "x\n", "before", "end", marker="m", path="a.py") == first


class TestMergeJson:
    def test_objects_lists_and_new_keys(self) -> None:
        merged = merge_json(
            '{\n    "a": [1],\n    "b": {"c": 1}\n}\n', '{"a": [1, 2], "b": {"d": 2}, "e": 3}', force=False
        )
        assert merged == '{\n    "a": [\n        1,\n        2\n    ],\n    "b": {\n        "c": 1,\n        "d": 2\n    },\n    "e": 3\n}\n'  # fmt: skip # noqa: E501

    def test_nothing_new_keeps_the_bytes(self) -> None:
        target = '{"a":[1,  2],\t"b":1}'
        assert merge_json(target, '{"a": [2], "b": 1}', force=False) == target

    def test_another_value_is_a_conflict_unless_forced(self) -> None:
        with pytest.raises(Refusal, match=r"a\.b has another value") as caught:
            merge_json('{"a": {"b": 1}}', '{"a": {"b": 2}}', force=False)
        assert caught.value.reason is Reason.CONFLICT
        assert '"b": 2' in merge_json('{"a": {"b": 1}}', '{"a": {"b": 2}}', force=True)

    @pytest.mark.parametrize("target", ["{// comment\n}", "{", '{"a": 1, "a": 2}', "[NaN]", "[" * 3000])
    def test_only_plain_json(self, target: str) -> None:
        with pytest.raises(Refusal, match="not plain JSON"):
            merge_json(target, "{}", force=False)

    def test_one_and_true_are_not_the_same(self) -> None:
        assert merge_json("[1]", "[true]", force=False) == "[\n  1,\n  true\n]"


def test_contains() -> None:
    assert contains("a\r\nb\r\n", "a\nb", "skip_if")
    assert contains("abc\n", "/^a.c$/", "skip_if")
    assert not contains("abc\n", "a.c", "skip_if")


def test_body_lines() -> None:
    assert body_lines("a\r\nb\n") == ["a", "b"]
    assert body_lines("a\n\n") == ["a", ""]
    assert body_lines("") == []
