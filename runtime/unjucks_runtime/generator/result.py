"""The outcome of a generation: files with what happened to each, the unified diff, the manifest. Pure data and functions."""

import difflib
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from unjucks_runtime.generator.load import decode
from unjucks_runtime.generator.model import Tree

MANIFEST_VERSION = 1
MAX_DIFF_LINES = 5000  # of one file; beyond it the line-by-line comparison is not worth its (quadratic) time


class Status(StrEnum):
    """What a generation does to a file; the values are those of the render protocol."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    SKIPPED = "skipped"
    CONFLICTED = "conflicted"


@dataclass(frozen=True)
class File:
    """One file of the outcome. For ``skipped`` and ``unchanged`` nothing is to be written.

    ``content`` of a skipped file is empty; of a conflicted one it is what would have been written. ``template`` is the path of the
    (last) template that made it, in the set. ``sensitive``: a secret variable may be in it.
    """

    path: str
    status: Status
    content: bytes
    mode: int
    template: str
    sensitive: bool = False
    why: str = ""

    @property
    def sha256(self) -> str:
        """Hex digest of the content."""
        return hashlib.sha256(self.content).hexdigest()


@dataclass(frozen=True)
class Skipped:
    """A template that made no file, and why (``if``, ``to`` rendered empty, …)."""

    template: str
    why: str


@dataclass(frozen=True)
class Result:
    """Everything a generation yields; nothing is written yet. ``files`` are sorted by path."""

    generator: str
    action: str
    digest: str
    files: tuple[File, ...]
    skipped: tuple[Skipped, ...] = ()
    warnings: tuple[str, ...] = ()
    messages: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether it may be published: no file is conflicted."""
        return not self.conflicts

    @property
    def conflicts(self) -> tuple[File, ...]:
        """The files that exist with other content and that no template may change."""
        return tuple(file for file in self.files if file.status is Status.CONFLICTED)

    @property
    def changes(self) -> tuple[File, ...]:
        """The files to be written: created and updated ones."""
        return tuple(file for file in self.files if file.status in (Status.CREATED, Status.UPDATED))

    def summary(self) -> dict[str, int]:
        """How many files there are of each status."""
        return {status.value: sum(file.status is status for file in self.files) for status in Status}


def diff(
    result: Result, base: Tree, *, statuses: Iterable[Status] = (Status.CREATED, Status.UPDATED, Status.CONFLICTED)
) -> str:
    """A unified diff from ``base`` to the outcome, in git's form (new files, modes, binary files named, not shown).

    Files with secrets are named, their lines are not shown.
    """
    wanted = set(statuses)
    return "".join(_file_diff(file, base.get(file.path)) for file in result.files if file.status in wanted)


def _file_diff(file: File, old: tuple[bytes, int] | None) -> str:
    head = f"diff --git a/{file.path} b/{file.path}\n"
    if old is None:
        head += f"new file mode 100{file.mode:o}\n"
    elif bool(old[1] & 0o100) != bool(file.mode & 0o100):
        head += f"old mode 100{0o755 if old[1] & 0o100 else 0o644:o}\nnew mode 100{file.mode:o}\n"
    before = b"" if old is None else old[0]
    if before == file.content:
        return head
    names = ("/dev/null" if old is None else f"a/{file.path}", f"b/{file.path}")
    if file.sensitive:
        return f"{head}--- {names[0]}\n+++ {names[1]}\n# holds secrets: not shown\n"
    left, right = decode(before), decode(file.content)
    if left is None or right is None:
        return f"{head}Binary files {names[0]} and {names[1]} differ\n"
    return head + unified(left, right, *names)


def unified(left: str, right: str, left_name: str, right_name: str) -> str:
    """The hunks between two texts with the two name lines; says so when a text ends without newline."""
    a, b = left.splitlines(keepends=True), right.splitlines(keepends=True)
    if len(a) > MAX_DIFF_LINES and len(b) > MAX_DIFF_LINES:
        return f"--- {left_name}\n+++ {right_name}\n# {len(a)} and {len(b)} lines: too long to compare\n"
    made = []
    for line in difflib.unified_diff(a, b, left_name, right_name):
        made.append(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n")
    return "".join(made)


def manifest(result: Result) -> dict[str, Any]:
    """What was generated, for machines: per file path, mode, size, sha256, status; the same inputs give the same manifest."""
    return {
        "version": MANIFEST_VERSION,
        "generator": result.generator,
        "action": result.action,
        "templateDigest": result.digest,
        "files": [
            {
                "path": file.path,
                "mode": f"{file.mode:04o}",
                "size": len(file.content),
                "sha256": file.sha256,
                "action": file.status.value,
                "template": file.template,
                "sensitive": file.sensitive,
            }
            for file in result.files
            if file.status is not Status.SKIPPED
        ],
        "skipped": sorted(file.path for file in result.files if file.status is Status.SKIPPED),
    }


def digests(manifest_value: Mapping[str, Any]) -> dict[str, str]:
    """path -> sha256 of an earlier manifest: what ``Options.previous`` wants. Tolerant of foreign content."""
    files = manifest_value.get("files")
    return {
        str(item["path"]): str(item["sha256"])
        for item in (files if isinstance(files, list) else [])
        if isinstance(item, dict) and "path" in item and "sha256" in item
    }
