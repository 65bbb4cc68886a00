"""The stored form of trees: canonical, bounded, and unreadable when anything was changed."""

import struct
import zlib

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unjucks_api.tree import PathRejectedError, check_collisions, check_path, tree_digest
from unjucks_operator.database import artifacts
from unjucks_operator.database.artifacts import ArtifactInvalid, decode_tree, encode_tree


def _usable(paths: list[str]) -> bool:
    try:
        check_collisions(paths)
        return all(check_path(path) == path for path in paths)
    except PathRejectedError:
        return False


PATHS = st.lists(st.from_regex(r"[a-z0-9äö_.]{1,8}(/[a-zA-Z0-9_]{1,8}){0,3}", fullmatch=True), max_size=8, unique=True)
QUICK = settings(deadline=None, max_examples=60)  # the machine's speed is not what is tested
TREES = PATHS.filter(_usable).flatmap(
    lambda paths: st.fixed_dictionaries(
        {path: st.tuples(st.binary(max_size=200), st.sampled_from((0o644, 0o755))) for path in paths}
    )
)


@QUICK
@given(TREES)
def test_round_trip_keeps_the_digest(tree: dict[str, tuple[bytes, int]]) -> None:
    decoded = decode_tree(encode_tree(tree))
    assert decoded == tree
    assert tree_digest(decoded) == tree_digest(tree)


@QUICK
@given(TREES, st.randoms(use_true_random=False))
def test_equal_trees_give_equal_bytes(tree: dict[str, tuple[bytes, int]], rng: object) -> None:
    items = list(tree.items())
    rng.shuffle(items)  # type: ignore[attr-defined]
    other_modes = {path: (content, mode | 0o060) for path, (content, mode) in items}
    assert encode_tree(other_modes) == encode_tree(tree)


@QUICK
@given(TREES, st.integers(min_value=0), st.integers(min_value=1, max_value=255))
def test_a_changed_byte_never_gives_another_tree_silently(
    tree: dict[str, tuple[bytes, int]], at: int, flip: int
) -> None:
    packed = bytearray(encode_tree(tree))
    packed[at % len(packed)] ^= flip
    try:
        decoded = decode_tree(bytes(packed))
    except ArtifactInvalid:
        return
    assert tree_digest(decoded) == tree_digest(tree)  # a bit that deflate does not use


@QUICK
@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ArtifactInvalid):
        decode_tree(data)
    with pytest.raises(ArtifactInvalid):
        decode_tree(b"unjucks-tree-1\n" + zlib.compress(data))


@pytest.mark.parametrize(
    "entries",
    [
        [["../x", False, 1]],
        [["/etc/passwd", False, 1]],
        [["a", False, 2]],
        [["a", False, -1]],
        [["a", "yes", 1]],
        [["a", False]],
        {"a": 1},
        [["a", False, 1e0]],
        [[1, False, 1]],
    ],
)
def test_a_planted_header_is_refused(entries: object) -> None:
    header = orjson.dumps(entries)
    packed = b"unjucks-tree-1\n" + zlib.compress(struct.pack(">I", len(header)) + header + b"x")
    with pytest.raises(ArtifactInvalid):
        decode_tree(packed)


def test_a_bomb_is_never_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "MAX_TREE_BYTES", 1000)
    monkeypatch.setattr(artifacts, "_MAX_HEADER", 100)
    bomb = b"unjucks-tree-1\n" + zlib.compress(b"\0" * 50_000_000, 9)
    with pytest.raises(ArtifactInvalid, match="more than the limit"):
        decode_tree(bomb)


@pytest.mark.parametrize(
    ("tree", "text"),
    [
        ({"../x": (b"", 0o644)}, "'..'"),
        ({"a": (b"", 0o644), "A": (b"", 0o644)}, "one file where case is not kept"),
        ({"a": (b"", 0o644), "a/b": (b"", 0o644)}, "both a file and the folder"),
        ({"a\u0308": (b"", 0o644)}, "not in Unicode NFC"),
        ({".git/hooks/x": (b"", 0o644)}, "names .git"),
    ],
)
def test_bad_paths_are_refused(tree: dict[str, tuple[bytes, int]], text: str) -> None:
    with pytest.raises(ArtifactInvalid, match=text):
        encode_tree(tree)


def test_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "MAX_TREE_BYTES", 10)
    monkeypatch.setattr(artifacts, "MAX_TREE_FILES", 2)
    encode_tree({"a": (b"12345", 0o644), "b": (b"12345", 0o644)})
    with pytest.raises(ArtifactInvalid, match="11 bytes; at most 10"):
        encode_tree({"a": (b"12345", 0o644), "b": (b"123456", 0o644)})
    with pytest.raises(ArtifactInvalid, match="3 files; at most 2"):
        encode_tree({"a": (b"", 0o644), "b": (b"", 0o644), "c": (b"", 0o644)})
