"""The outcome of a generation: files with what happened to each, the unified diff, the manifest. Pure data and functions."""

import difflib
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from unjucks_runtime.generator.load import decode
from unjucks_runtime.generator.merge import lines_of
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
    REMOVED = "removed"


@dataclass(frozen=True)
class File:
    """One file of the outcome. For ``skipped`` and ``unchanged`` nothing is to be written.

    ``content`` of a skipped or removed file is empty; of a conflicted one it is what would have been written. ``template`` is the
    path of the (last) template that made it, in the set. ``sensitive``: a secret variable may be in it. ``rendered``: what the
    templates gave, when ``content`` is something else (merged, kept); ``injected``: templates only changed it in places.
    ``marked``: conflicted, and ``content`` holds both sides between marks and is to be written.
    """

    path: str
    status: Status
    content: bytes
    mode: int
    template: str
    sensitive: bool = False
    why: str = ""
    rendered: bytes | None = None
    injected: bool = False
    marked: bool = False

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
    """Everything a generation yields; nothing is written yet. ``files`` are sorted by path.

    ``kept``: path -> sha256 of files of earlier runs that stay as they are, so that a later run still knows them.
    """

    generator: str
    action: str
    digest: str
    files: tuple[File, ...]
    skipped: tuple[Skipped, ...] = ()
    warnings: tuple[str, ...] = ()
    messages: tuple[str, ...] = ()
    kept: Mapping[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether it may be published: no file is conflicted."""
        return not self.conflicts

    @property
    def conflicts(self) -> tuple[File, ...]:
        """The files that exist with other content and that no template may change; those with marks may be written."""
        return tuple(file for file in self.files if file.status is Status.CONFLICTED and not file.marked)

    @property
    def changes(self) -> tuple[File, ...]:
        """The files to be written: created and updated ones, and those with marks."""
        return tuple(file for file in self.files if file.marked or file.status in (Status.CREATED, Status.UPDATED))

    @property
    def removals(self) -> tuple[File, ...]:
        """The files to be removed."""
        return tuple(file for file in self.files if file.status is Status.REMOVED)

    def summary(self) -> dict[str, int]:
        """How many files there are of each status."""
        return {status.value: sum(file.status is status for file in self.files) for status in Status}


CHANGES = (Status.CREATED, Status.UPDATED, Status.CONFLICTED, Status.REMOVED)


def diff(result: Result, base: Tree, *, statuses: Iterable[Status] = CHANGES) -> str:
    """A unified diff from ``base`` to the outcome, in git's form (new files, modes, binary files named, not shown).

    Files with secrets are named, their lines are not shown.
    """
    wanted = set(statuses)
    return "".join(file_diff(file, base.get(file.path)) for file in result.files if file.status in wanted)


def file_diff(file: File, old: tuple[bytes, int] | None) -> str:
    """The part of ``diff`` for one file; ``old`` is what exists, None for nothing."""
    head = f"diff --git a/{file.path} b/{file.path}\n"
    if file.status is Status.REMOVED:
        head += f"deleted file mode 100{file.mode:o}\n"
    elif old is None:
        head += f"new file mode 100{file.mode:o}\n"
    elif bool(old[1] & 0o100) != bool(file.mode & 0o100):
        head += f"old mode 100{0o755 if old[1] & 0o100 else 0o644:o}\nnew mode 100{file.mode:o}\n"
    before = b"" if old is None else old[0]
    if before == file.content:
        return head
    right_name = "/dev/null" if file.status is Status.REMOVED else f"b/{file.path}"
    names = ("/dev/null" if old is None else f"a/{file.path}", right_name)
    if file.sensitive:
        return f"{head}--- {names[0]}\n+++ {names[1]}\n# holds secrets: not shown\n"
    left, right = decode(before), decode(file.content)
    if left is None or right is None:
        return f"{head}Binary files {names[0]} and {names[1]} differ\n"
    return head + unified(left, right, *names)


def unified(left: str, right: str, left_name: str, right_name: str) -> str:
    """The hunks between two texts with the two name lines; says so when a text ends without newline."""
    a, b = lines_of(left), lines_of(right)  # a form feed, say, ends no line for whoever applies the diff
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
                **({"rendered": hashlib.sha256(file.rendered).hexdigest()} if file.rendered is not None else {}),
                **({"injected": True} if file.injected else {}),
            }
            for file in result.files
            if file.status not in (Status.SKIPPED, Status.REMOVED)
        ],
        "skipped": sorted(file.path for file in result.files if file.status is Status.SKIPPED),
        "removed": sorted(file.path for file in result.removals),
        "kept": dict(sorted(result.kept.items())),
    }


def digests(manifest_value: Mapping[str, Any]) -> dict[str, str]:
    """path -> sha256 of an earlier manifest: what ``Options.previous`` wants. Tolerant of foreign content."""
    files, kept = manifest_value.get("files"), manifest_value.get("kept")
    known = {str(path): str(digest) for path, digest in kept.items()} if isinstance(kept, dict) else {}
    return known | {
        str(item["path"]): str(item.get("rendered", item["sha256"]))
        for item in (files if isinstance(files, list) else [])
        if isinstance(item, dict) and "path" in item and "sha256" in item and not item.get("injected")
    }


def rendered_tree(result: Result, last: Tree) -> dict[str, tuple[bytes, int]]:
    """What the templates gave, to be the ``last`` of the next run: no file with secrets, none that is only changed in places."""
    made = {path: last[path] for path in result.kept if path in last}
    for file in result.files:
        given = file.content if file.rendered is None else file.rendered
        known = file.rendered is not None or file.status not in (Status.SKIPPED, Status.REMOVED)
        if known and not file.sensitive and not file.injected and file.template:
            made[file.path] = (given, file.mode)
    return made


@dataclass(frozen=True)
class CutDiff:
    """A diff within a bound. ``added`` and ``removed`` count lines of the whole, ``size`` its bytes."""

    text: str
    added: int
    removed: int
    size: int

    @property
    def truncated(self) -> bool:
        """Whether something was left out."""
        return len(self.text.encode()) < self.size


def cut_diff(files: Iterable[File], base: Tree, most: int) -> CutDiff:
    """The diff of the files that change, whole hunks' lines up to ``most`` bytes. Lines beyond are counted, not kept."""
    kept: list[str] = []
    size = added = removed = 0
    full = False
    for file in files:
        if file.status not in CHANGES:
            continue
        for line in lines_of(file_diff(file, base.get(file.path))):
            length = len(line.encode())
            full = full or size + length > most
            size += length
            added += line.startswith("+") and not line.startswith("+++ ")
            removed += line.startswith("-") and not line.startswith("--- ")
            if not full:
                kept.append(line)
    return CutDiff("".join(kept), added, removed, size)
