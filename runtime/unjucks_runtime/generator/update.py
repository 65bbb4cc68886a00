"""Settles a generation with what exists: three-way merge with the last run, conflicts, files that are not made any more. Pure.

    last       what the templates gave the last time      (the common text)
    existing   what is there now                           (theirs)
    result     what the templates give now                 (ours)

A file that templates only change in places (inject) needs no merge: the change was made in what exists. A file that somebody
deleted since stays away unless its template changed. Only files that the last run made as a whole, and that are still as it
left them, are removed. Called by ``generate`` at its end.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import replace

from unjucks_api.reasons import Reason
from unjucks_api.tree import PathRejectedError, check_path
from unjucks_runtime.generator.errors import GenerationError
from unjucks_runtime.generator.load import decode
from unjucks_runtime.generator.merge import MARK_OURS, MARK_THEIRS, Merged, TooLong, merge
from unjucks_runtime.generator.model import Tree
from unjucks_runtime.generator.options import MARKERS, OVERWRITE, SKIP, Options
from unjucks_runtime.generator.result import File, Result, Status

_UNRESOLVED = "it still holds the marks of an earlier conflict; resolve them first"


def settle(result: Result, existing: Tree, options: Options) -> Result:
    """The outcome as it is to be written. ``result`` was made with ``existing`` as its base."""
    made = {file.path for file in result.files}
    files = [_settled(file, existing.get(file.path), options) for file in result.files]
    gone = list(_pruned(made, existing, options)) if options.prune else []
    files = sorted([*files, *gone], key=lambda file: file.path.encode())
    touched = {file.path for file in files if file.status is not Status.SKIPPED}
    kept = {path: digest for path, digest in options.previous.items() if path not in touched}
    return replace(result, files=tuple(files), kept=kept)


def _settled(file: File, theirs: tuple[bytes, int] | None, options: Options) -> File:
    last = options.last.get(file.path) if options.update else None
    if file.status is Status.CREATED and last is not None and not file.injected:
        return _deleted_since(file, last[0], options)
    if file.status is not Status.CONFLICTED or theirs is None:
        return file
    if options.on_conflict == MARKERS or last is not None:
        return _merged(file, last, theirs, options)
    return file


def _deleted_since(file: File, last: bytes, options: Options) -> File:
    if file.content == last:
        return replace(file, status=Status.SKIPPED, content=b"", rendered=file.content, why="it was deleted since")
    if options.on_conflict in (OVERWRITE, MARKERS):
        return file
    why = "it was deleted since, and its template changed"
    if options.on_conflict == SKIP:
        return replace(file, status=Status.SKIPPED, content=b"", rendered=file.content, why=why)
    return replace(file, status=Status.CONFLICTED, why=why)


def _merged(file: File, last: tuple[bytes, int] | None, theirs: tuple[bytes, int], options: Options) -> File:
    ours, content = file.content, theirs[0]
    if last is not None and ours == last[0]:
        return _with(file, content, theirs)
    found = _merge(None if last is None else last[0], content, ours)
    if found is not None and not found.conflicts:
        return _with(file, found.text.encode(), theirs)
    if options.on_conflict == OVERWRITE:
        return replace(file, status=Status.UPDATED, why="the existing content is replaced")
    if options.on_conflict == SKIP:
        why = "it was changed since at the places that the template changes"
        return replace(file, status=Status.SKIPPED, content=b"", rendered=ours, why=why)
    if is_marked(content):
        return replace(file, status=Status.CONFLICTED, why=_UNRESOLVED)
    if found is None:
        return replace(file, why="it was changed since, and is no text that can be merged")
    if options.on_conflict == MARKERS:
        why = f"{found.conflicts} place(s) stand between marks"
        return replace(file, content=found.text.encode(), rendered=ours, marked=True, why=why)
    return replace(file, why=f"{found.conflicts} place(s) were changed both since the last run and by the templates")


def _with(file: File, content: bytes, theirs: tuple[bytes, int]) -> File:
    """The file with a merged content."""
    same = content == theirs[0] and bool(file.mode & 0o100) == bool(theirs[1] & 0o100)
    status = Status.UNCHANGED if same else Status.UPDATED
    why = "the changes made since are kept"
    return replace(file, status=status, content=content, rendered=file.content, why=why)


def _merge(last: bytes | None, theirs: bytes, ours: bytes) -> Merged | None:
    """None when one of them is no text, or too long."""
    texts = [decode(last or b""), decode(theirs), decode(ours)]
    if None in texts:
        return None
    base, left, right = (text or "" for text in texts)
    if is_marked(theirs):
        return None if last is None else _quietly(base, left, right, marked=True)
    return _quietly(base, left, right)


def _quietly(base: str, theirs: str, ours: str, *, marked: bool = False) -> Merged | None:
    try:
        found = merge(base, theirs, ours)
    except TooLong:
        return None
    # Marks that somebody left may lie on lines that nothing else changes: that is no clean merge.
    return Merged(found.text, found.conflicts + 1) if marked else found


def is_marked(content: bytes) -> bool:
    """Whether both sides of an earlier conflict still stand in it."""
    lines = content.replace(b"\r\n", b"\n").split(b"\n")
    return MARK_THEIRS.encode() in lines and MARK_OURS.encode() in lines


def _pruned(made: set[str], existing: Tree, options: Options) -> Iterator[File]:
    """The files of the last run that no template makes any more."""
    for path, digest in sorted(options.previous.items()):
        if path in made or (item := _existing(path, existing)) is None:
            continue
        content, mode = item
        if hashlib.sha256(content).hexdigest() == digest or options.on_conflict == OVERWRITE:
            yield File(path, Status.REMOVED, b"", mode, "", why="no template makes it any more")
            continue
        why = "no template makes it any more, but it was changed since"
        if options.on_conflict in (SKIP, MARKERS):
            yield File(path, Status.SKIPPED, b"", mode, "", why=why)
        else:
            yield File(path, Status.CONFLICTED, content, mode, "", why=why)


def _existing(path: str, existing: Tree) -> tuple[bytes, int] | None:
    try:
        return existing.get(check_path(path))
    except PathRejectedError:
        return None  # a manifest that somebody wrote by hand
    except GenerationError as error:
        if error.reason is Reason.OUTPUT_COLLISION:
            return None  # a folder stands there now: no file of ours
        raise
