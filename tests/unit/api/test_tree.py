"""Paths and digests: the attacks that scaffolding tools and archives have seen, and that a digest stands for one tree only."""

import unicodedata

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from unjucks_api.tree import MAX_PATH_BYTES, PathRejectedError, check_collisions, check_path, tree_digest

GOOD = [
    "a",
    "a/b/c.ts",
    ".env",
    ".gitignore",
    ".github/workflows/ci.yml",
    ".gitmodules",
    "legit.git",
    "git",
    "gitfoo/x",
    "..a/b..c",
    "...x",
    "a b/c d.txt",
    "src/{{ name | kebabCase }}.ts",
    "ünïcode/漢字/😀.md",
    "con_text/nullable.py",
    "com10/comx",
    "aux-2.py",
    "xx:y",
    "a" * 255,
]
BAD = [
    ("", "empty"),
    ("/etc/passwd", "absolute"),
    ("//server/share", "absolute"),
    ("C:/x", "drive letter"),
    ("c:", "drive letter"),
    ("a\\b", "backslash"),
    ("\\\\server\\share", "backslash"),
    ("..", "'..'"),
    (".", "'.'"),
    ("./a", "'.'"),
    ("a/./b", "'.'"),
    ("../a", "'..'"),
    ("a/../../b", "'..'"),
    ("a/..", "'..'"),
    ("a//b", "segment ''"),
    ("a/", "segment ''"),
    ("a\0b", "control"),
    ("a\nb", "control"),
    ("a\rb", "control"),
    ("a\x1b[31m", "control"),
    ("a\x7f", "control"),
    ("a\x85b", "control"),
    ("a\u2028b", "line separator"),
    ("a\u2029b", "paragraph separator"),
    ("a\u202eb", "bidirectional"),
    ("a\u2066b", "bidirectional"),
    ("a\u200fb", "bidirectional"),
    ("a\ud800b", "surrogate"),
    (" a", "blank"),
    ("a ", "blank"),
    ("a\u00a0/b", "blank"),
    ("a.", "dot"),
    ("a/b./c", "dot"),
    ("\u200b", "invisible"),
    (".\u200c.", "invisible|dot"),
    ("..\u200d/x", "invisible|dot"),
    ("\uff0e\uff0e/x", "wide"),
    ("\u2025/x", "wide"),
    ("\uff0egit/config", "names .git"),
    (".git", "names .git"),
    (".git/hooks/post-checkout", "names .git"),
    ("a/.GIT/config", "names .git"),
    (".Git", "names .git"),
    (".g\u200cit/config", "names .git"),
    (".git\ufeff/config", "names .git"),
    ("git~1/config", "names .git"),
    ("GIT~2", "names .git"),
    (".git::$INDEX_ALLOCATION/config", "names .git"),
    (".git:x", "names .git"),
    ("con", "device"),
    ("a/NUL", "device"),
    ("aux.txt", "device"),
    ("COM1.log", "device"),
    ("lpt9", "device"),
    ("com¹.txt", "device"),
    ("nul:stream", "device"),
    ("con .txt", "device"),
    ("CONIN$", "device"),
    ("a" * 256, "longer than 255"),
    ("é" * 128, "longer than 255"),
    ("/".join(["a" * 200] * 6), "longer than 1024"),
]


@pytest.mark.parametrize("path", GOOD)
def test_ordinary_paths_are_kept_as_they_are(path: str) -> None:
    assert check_path(path) == path


@pytest.mark.parametrize(("path", "why"), BAD, ids=[ascii(row[0])[:40] for row in BAD])
@pytest.mark.isolation("T-registry-traversal", "T-registry-longname")
def test_attacks_are_refused_with_the_reason(path: str, why: str) -> None:
    with pytest.raises(PathRejectedError, match=rf"^path .* is refused: .*({why})"):
        check_path(path)


def test_paths_are_composed() -> None:
    assert check_path("e\u0301.txt") == "é.txt"


def test_a_message_about_a_long_path_is_short() -> None:
    with pytest.raises(PathRejectedError) as raised:
        check_path("x" * 100_000)
    assert len(str(raised.value)) < 300


@given(
    path=st.text(max_size=60)
    | st.lists(st.sampled_from(["..", ".", "a", ".git", "con", "", " ", "é"]), max_size=5).map("/".join)
)
def test_whatever_passes_stays_inside_and_passes_again(path: str) -> None:
    try:
        normal = check_path(path)
    except PathRejectedError:
        return
    assert check_path(normal) == normal == unicodedata.normalize("NFC", normal)
    assert not normal.startswith("/")
    assert len(normal.encode()) <= MAX_PATH_BYTES
    parts = normal.split("/")
    assert not {"", ".", "..", ".git"} & {part.casefold() for part in parts}
    assert normal.isprintable() or any(unicodedata.category(char) in ("Cf", "Zs", "Cn", "Co") for char in normal)


# --- collisions ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["README", "readme"], "'README' and 'readme' are one file where case is not kept"),
        (["a/B.txt", "A/b.TXT"], "are one file"),
        (["straße", "STRASSE"], "are one file"),
        (["ﬁle", "file"], "are one file"),
        (["é", "e\u0301"], "are one file"),
        (["a", "a/b"], "path 'a' is both a file and the folder of 'a/b'"),
        (["x/y/z", "X"], "path 'X' is both a file and the folder of 'x/y/z'"),
        (["x/y/z/w", "x/y"], "is both a file and the folder"),
    ],
)
def test_collisions_are_named(paths: list[str], message: str) -> None:
    with pytest.raises(PathRejectedError, match=message):
        check_collisions(paths)
    with pytest.raises(PathRejectedError, match=r"both a file|one file"):
        check_collisions(dict.fromkeys(reversed(paths)))


@pytest.mark.parametrize(
    "paths", [[], ["a"], ["a/b", "a/c"], ["ab", "a/b"], ["a", "b/a"], ["℀", "a/c"], ["a-b", "a/b"]]
)
def test_what_only_looks_alike_is_no_collision(paths: list[str]) -> None:
    check_collisions(paths)


# --- digest --------------------------------------------------------------------------------------------------------------
FILES = st.dictionaries(
    st.text(alphabet="ab/-:0", min_size=1, max_size=6),
    st.tuples(st.binary(max_size=6), st.sampled_from([0o644, 0o755])),
    max_size=4,
)


def test_the_digest_is_the_same_in_every_release() -> None:
    """It names artifacts that are stored already, and what jobs have pinned."""
    files = {"a/b.txt": (b"hello\n", 0o644), "run.sh": (b"#!/bin/sh\n", 0o755)}
    assert tree_digest(files) == "sha256:f9b89655cbbe9941244a6d176ac5aaf01048a6a5475402bb27e93da132b2dca3"
    assert tree_digest({}) == "sha256:049b4e0bbad73ece1d6f0e1b4be2b4b92345ff9eacc58c6304e74aff4bdcbe09"


@given(files=FILES)
def test_the_order_of_files_does_not_matter(files: dict[str, tuple[bytes, int]]) -> None:
    assert tree_digest(dict(reversed(list(files.items())))) == tree_digest(files)


@given(first=FILES, second=FILES)
def test_different_trees_have_different_digests(
    first: dict[str, tuple[bytes, int]], second: dict[str, tuple[bytes, int]]
) -> None:
    assume(first != second)
    assert tree_digest(first) != tree_digest(second)


def test_no_boundary_can_be_moved() -> None:
    """Pairs that a digest without lengths would mix up."""
    plain = 0o644
    assert tree_digest({"ab": (b"c", plain)}) != tree_digest({"a": (b"bc", plain)})
    assert tree_digest({"a": (b"", plain), "b": (b"", plain)}) != tree_digest({"a": (b"1:b-0:", plain)})
    assert tree_digest({"a-0:": (b"", plain)}) != tree_digest({"a": (b"-0:", plain)})


@pytest.mark.parametrize(
    ("mode", "same_as"), [(0o600, 0o644), (0o664, 0o644), (0o700, 0o755), (0o777, 0o755), (0o4755, 0o755)]
)
def test_only_the_owners_x_bit_of_a_mode_counts(mode: int, same_as: int) -> None:
    assert tree_digest({"a": (b"x", mode)}) == tree_digest({"a": (b"x", same_as)})
    assert tree_digest({"a": (b"x", 0o644)}) != tree_digest({"a": (b"x", 0o755)})


def test_files_are_ordered_by_their_bytes() -> None:
    """UTF-16 order, which other languages use, would put the emoji before the private-use character."""
    files = {"\ue000": (b"1", 0o644), "😀": (b"2", 0o644)}
    assert sorted(files, key=str.encode) == ["\ue000", "😀"]
    assert tree_digest(files) == tree_digest(dict(sorted(files.items(), reverse=True)))
