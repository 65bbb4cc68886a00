"""Normalised file trees: the one rule for paths, and the one digest. Same files from any source, same digest.

Pure; called by the renderer (which makes trees) and by the operator (which trusts no renderer and checks again).
"""

import hashlib
import unicodedata
from collections.abc import Callable, Mapping

MAX_PATH_BYTES = 1024
MAX_SEGMENT_BYTES = 255
_BIDI = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c")
_UNPRINTABLE = {"Cc": "a control character", "Zl": "a line separator", "Zp": "a paragraph separator"}
_WINDOWS_DEVICES = frozenset(
    {"con", "prn", "aux", "nul", "conin$", "conout$"}
    | {f"{name}{digit}" for name in ("com", "lpt") for digit in "123456789"}
)


class PathRejectedError(ValueError):
    """A path that must not be written; the message says which path and why."""


def check_path(path: str) -> str:
    """The path in Unicode NFC when it is a safe relative path of a file; raises PathRejectedError otherwise.

    Refused (classes of path attacks seen in scaffolding tools and archives): empty, absolute, drive letters and UNC, backslash,
    NUL, control characters and line separators, bidirectional overrides, empty, ``.`` and ``..`` segments, segments that end in
    a blank or dot or that Windows takes for a device, ``.git`` in any spelling that some file system folds to it, and over-long
    names. The check is stable: a path that it returned passes again, unchanged.
    """
    normal = unicodedata.normalize("NFC", path)

    def refuse(why: str) -> PathRejectedError:
        return PathRejectedError(f"path {path[:120]!r} is refused: {why}")

    if not normal:
        raise refuse("it is empty")
    for char in normal:
        if (category := unicodedata.category(char)) in _UNPRINTABLE:
            raise refuse(f"it holds {_UNPRINTABLE[category]}")
    if any(char in _BIDI for char in normal):
        raise refuse("it holds a bidirectional control character")
    if any(0xD800 <= ord(char) <= 0xDFFF for char in normal):
        raise refuse("it holds half of a surrogate pair")
    if "\\" in normal:
        raise refuse("it holds a backslash; use /")
    if normal.startswith("/"):
        raise refuse("it is absolute")
    if len(normal) > 1 and normal[1] == ":":
        raise refuse("it starts with a drive letter")
    if len(normal.encode()) > MAX_PATH_BYTES:
        raise refuse(f"it is longer than {MAX_PATH_BYTES} bytes")
    for segment in normal.split("/"):
        _check_segment(segment, refuse)
    return normal


def _check_segment(segment: str, refuse: Callable[[str], PathRejectedError]) -> None:
    if segment in ("", ".", ".."):
        raise refuse(f"it has a segment {segment!r}")
    if segment != segment.strip() or segment.endswith("."):
        raise refuse(f"the segment {segment!r} starts or ends with a blank, or ends with a dot")
    if len(segment.encode()) > MAX_SEGMENT_BYTES:
        raise refuse(f"a segment is longer than {MAX_SEGMENT_BYTES} bytes")
    # HFS+ ignores some code points and folds case, NTFS has 8.3 names and streams, and programs for one code page read wide forms
    # of a character as the plain one: all spell ".git" and ".." in other ways.
    plain = unicodedata.normalize("NFKC", segment).casefold()
    folded = "".join(char for char in plain if unicodedata.category(char) != "Cf")
    if folded in ("", ".", ".."):
        raise refuse(f"a segment is {folded!r} in wide forms, or beside invisible characters")
    if folded == ".git" or folded.startswith((".git:", "git~")) or folded.split(":")[0] == ".git":
        raise refuse("it names .git")
    # Windows looks at what stands before the first dot or colon, ignores blanks there, and reads the superscripts as digits.
    device = unicodedata.normalize("NFKC", folded).split(".")[0].split(":")[0].rstrip()
    if device in _WINDOWS_DEVICES:
        raise refuse(f"{segment!r} is a device name on Windows")


def check_collisions(paths: Mapping[str, object] | list[str]) -> None:
    """Raises PathRejectedError when two paths are one file on a case-folding system, or one is a folder of the other."""
    seen: dict[str, str] = {}
    for path in paths:
        folded = "/".join(map(_folded, path.split("/")))
        if folded in seen:
            raise PathRejectedError(f"paths {seen[folded]!r} and {path!r} are one file where case is not kept")
        seen[folded] = path
    for folded, path in seen.items():
        parent = folded.rpartition("/")[0]
        while parent:
            if parent in seen:
                raise PathRejectedError(f"path {seen[parent]!r} is both a file and the folder of {path!r}")
            parent = parent.rpartition("/")[0]


def _folded(segment: str) -> str:
    """The segment as the most forgetful file system compares it. A slash that folding makes is none that separates."""
    once = unicodedata.normalize("NFKC", segment).casefold()
    return unicodedata.normalize("NFKC", once).replace("/", "\0")


def tree_digest(files: Mapping[str, tuple[bytes, int]]) -> str:
    """``sha256:<hex>`` over paths, modes and bytes, in the order of the paths' UTF-8 bytes.

    ``files`` maps a normalised path to (content, mode). Each part is preceded by its length, so that no two trees have the
    same stream of bytes. Only the owner's x-bit of a mode counts.
    """
    digest = hashlib.sha256(b"unjucks-tree-v1\n")
    for path in sorted(files, key=str.encode):
        content, mode = files[path]
        name = path.encode()
        kind = b"x" if mode & 0o100 else b"-"
        digest.update(b"%d:%s%s%d:" % (len(name), name, kind, len(content)))
        digest.update(content)
    return "sha256:" + digest.hexdigest()
