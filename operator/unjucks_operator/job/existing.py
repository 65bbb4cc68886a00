"""What a run does about the files that are in its output already: from the output to the request, from the answer to files. Pure.

The renderer merges (it has the templates); here is what it is told, and what its answer means for the output. Called by
``job.rendering`` and ``job.execute``.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from unjucks_api.reasons import Reason
from unjucks_api.render_protocol import OutputFile, RenderResponse, SourceFile
from unjucks_api.tree import PathRejectedError, check_collisions
from unjucks_api.v1alpha1.generation_job import GenerationJob
from unjucks_api.v1alpha1.generation_job_run import Mode, OnConflict, Prune
from unjucks_operator.errors import Terminal
from unjucks_operator.job.outputs.base import Found
from unjucks_operator.job.outputs.files import LEAVES, File
from unjucks_operator.job.outputs.target import Target

SHARED_KINDS = frozenset({"Git", "Bucket", "Volume", "PersistentVolumeClaim", "S3"})
"""Outputs where others write too; every other output holds nothing but the files of its job."""
MAX_EXISTING_BYTES = 8 * 1024 * 1024
"""Existing files that a renderer is sent."""
_WORDS = {
    OnConflict.FAIL: "conflict",
    OnConflict.OVERWRITE: "overwrite",
    OnConflict.SKIP: "skip",
    OnConflict.MARKERS: "markers",
}


@dataclass(frozen=True, slots=True)
class Policy:
    """How a run deals with existing files; the words of ``on_conflict`` are the render protocol's."""

    exclusive: bool
    update: bool
    on_conflict: str
    prune: bool


def policy_of(job: GenerationJob, target: Target | None) -> Policy:
    """What spec says, or its defaults: an output of the job's own is made to hold what the templates give."""
    exclusive = target is not None and target.kind not in SHARED_KINDS
    mode, spec = job.mode, job.spec
    mirrors = exclusive and mode is not Mode.UPDATE
    prune = spec.prune is Prune.REMOVE or (spec.prune is None and mirrors)
    if mode is Mode.CHECK:
        return Policy(exclusive, False, "overwrite", prune)
    asked = spec.on_conflict or (OnConflict.OVERWRITE if mirrors else OnConflict.FAIL)
    return Policy(exclusive, mode is Mode.UPDATE, _WORDS[asked], prune)


@dataclass(frozen=True, slots=True)
class Existing:
    """What is in the output, and what the last run gave."""

    files: Mapping[str, File] = field(default_factory=dict)
    last: Mapping[str, SourceFile] = field(default_factory=dict)
    previous: Mapping[str, str] = field(default_factory=dict)
    """Path to the sha256 of what the templates gave: the files that may be updated and removed."""


def existing_of(found: Found | None, last: Sequence[SourceFile] | None, policy: Policy) -> Existing:
    """``last``: the stored tree that the output's manifest names; None when it is not stored any more."""
    if found is None:
        return Existing()
    lost = bool(found.last) and last is None
    last = last or ()
    files = {file.path: file for file in (*found.others, *found.files)}
    known = {file.path: file for file in last}
    previous = {
        path: hashlib.sha256(base64.b64decode(file.content, validate=True)).hexdigest() for path, file in known.items()
    }
    if policy.exclusive and not (policy.update and lost):
        # A merged file is in the manifest with the edits of people: without its tree nobody knows which ones are.
        # Files with secrets are stored nowhere else; in a place of the job's own the manifest's word is enough.
        previous = dict(found.manifest) | previous
    return Existing(files, known, previous)


def request_of(existing: Existing, policy: Policy, *, prune: bool) -> dict[str, Any]:
    """What a render request says about existing files. Raises Terminal (LimitExceeded) when there is too much of them."""
    size = sum(len(file.content) for file in existing.files.values())
    if size > MAX_EXISTING_BYTES:
        raise Terminal(
            f"the files that exist in the output have {size} bytes; at most {MAX_EXISTING_BYTES} can be compared with",
            reason=Reason.LIMIT_EXCEEDED,
        )
    return {
        "base": [_source(file) for _, file in sorted(existing.files.items())],
        "previous": dict(existing.previous),
        "last": list(existing.last.values()) if policy.update else [],
        "update": policy.update,
        "prune": prune,
        "on_conflict": policy.on_conflict,
        "hidden": sorted(path for path, file in existing.files.items() if file.sensitive),
    }


def _source(file: File) -> SourceFile:
    mode = 0o755 if file.mode & 0o100 else 0o644
    return SourceFile(path=file.path, content=base64.b64encode(file.content).decode(), mode=mode)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run. ``shown`` is for status, ``files`` for the output, ``last`` to be stored for the next update."""

    shown: Sequence[File]
    files: Sequence[File]
    last: Mapping[str, tuple[bytes, int]]
    conflicts: Sequence[File] = ()

    @property
    def changes(self) -> Sequence[File]:
        """The files that the output does not hold so yet."""
        return [file for file in self.shown if file.action in ("created", "updated", "removed", "conflicted")]


def outcome_of(responses: Sequence[RenderResponse], existing: Existing, policy: Policy) -> Outcome:
    """The answers of all runs together. Raises Terminal (OutputCollision) when two runs made one path."""
    items = [item for response in responses for item in response.files]
    _refuse_collisions(items)
    shown = [_file(item, existing) for item in items]
    conflicts = [
        file for file, item in zip(shown, items, strict=True) if item.action == "conflicted" and not item.marked
    ]
    if len(responses) > 1 and policy.prune:
        # Each run of a matrix knows only its own files; what none of them made is known here.
        gone, more = _pruned({item.path for item in items}, existing, policy)
        shown += gone
        conflicts += more
    shown.sort(key=lambda file: file.path)
    files = [file for file in shown if file.action != "skipped"]
    if policy.exclusive:
        named = {file.path for file in files}
        files += [replace(file, action="unchanged") for path, file in existing.files.items() if path not in named]
        files.sort(key=lambda file: file.path)
    return Outcome(shown, files, _last(items, existing, shown), conflicts)


def _file(item: OutputFile, existing: Existing) -> File:
    before = existing.files.get(item.path)
    if item.action in LEAVES:
        # Nothing is removed that is not there, whatever a renderer says.
        action = item.action if item.action == "skipped" or before is not None else "skipped"
        return File(item.path, b"", item.mode, "", action, item.template, item.sensitive, item.why)
    content = base64.b64decode(item.content, validate=True)
    digest = item.sha256.removeprefix("sha256:")
    same = before is not None and before.sha256 == digest and bool(before.mode & 0o100) == bool(item.mode & 0o100)
    action = "created" if before is None else "unchanged" if same else "updated"
    if item.action == "conflicted":
        action = "conflicted"
    return File(item.path, content, item.mode, digest, action, item.template, item.sensitive, item.why)


def _refuse_collisions(items: Sequence[OutputFile]) -> None:
    written = [item.path for item in items if item.action not in LEAVES]
    twice = sorted({path for path in written if written.count(path) > 1}) if len(set(written)) < len(written) else []
    if twice:
        raise Terminal(
            f"two runs of spec.matrix make {twice[0]}; name a parameter in spec.matrix.path so that their folders differ",
            reason=Reason.OUTPUT_COLLISION,
        )
    try:
        check_collisions(written)
    except PathRejectedError as error:
        raise Terminal(str(error), reason=Reason.OUTPUT_COLLISION) from None


def _pruned(made: set[str], existing: Existing, policy: Policy) -> tuple[list[File], list[File]]:
    gone, conflicts = [], []
    for path, digest in sorted(existing.previous.items()):
        file = existing.files.get(path)
        if file is None or path in made:
            continue
        empty = replace(file, content=b"", sha256="", template="", why="no run makes it any more")
        if file.sha256 == digest or policy.on_conflict == "overwrite":
            gone.append(replace(empty, action="removed"))
        elif policy.on_conflict == "conflict":
            conflicts.append(
                replace(empty, action="conflicted", why="no run makes it any more, but it was changed since")
            )
        else:
            gone.append(replace(empty, action="skipped", why="no run makes it any more, but it was changed since"))
    return gone, conflicts


def _last(items: Sequence[OutputFile], existing: Existing, shown: Sequence[File]) -> dict[str, tuple[bytes, int]]:
    """What the templates gave: no file with secrets, none that they only changed in places; earlier ones that stay."""
    touched = {file.path for file in shown if file.action != "skipped"}
    made = {
        path: (base64.b64decode(file.content, validate=True), file.mode)
        for path, file in existing.last.items()
        if path not in touched
    }
    for item in items:
        given = item.rendered if item.rendered is not None else item.content if item.action not in LEAVES else None
        if given is not None and item.template and not item.sensitive and not item.injected:
            made[item.path] = (base64.b64decode(given, validate=True), item.mode)
    return made


def refuse_conflicts(conflicts: Sequence[File]) -> None:
    """Raise Terminal (MergeConflict) that names the files and says what can be done."""
    if not conflicts:
        return
    first = conflicts[0]
    more = f", and {len(conflicts) - 1} more" if len(conflicts) > 1 else ""
    raise Terminal(
        f"{first.path}: {first.why or 'it exists with other content'}{more}; nothing was published. Set mode: Update to merge, or "
        "say with spec.onConflict what wins",
        reason=Reason.MERGE_CONFLICT,
    )


def combined_diff(texts: Sequence[str], removed: Sequence[File], existing: Existing) -> str:
    """The diffs of all runs, with the files that none of them makes any more."""
    parts = list(texts)
    for file in removed:
        before = existing.files.get(file.path)
        if before is None or file.action != "removed":
            continue
        head = f"diff --git a/{file.path} b/{file.path}\ndeleted file mode 100{before.mode:o}\n"
        parts.append(head + f"--- a/{file.path}\n+++ /dev/null\n" + _gone_lines(before))
    return "".join(parts)


def _gone_lines(file: File) -> str:
    if file.sensitive:
        return "# holds secrets: not shown\n"
    try:
        lines = file.content.decode().split("\n")
    except UnicodeDecodeError:
        return "# binary: not shown\n"
    end = "\\ No newline at end of file\n" if lines[-1] else ""
    lines = lines if lines[-1] else lines[:-1]
    return f"@@ -1,{len(lines)} +0,0 @@\n" + "".join(f"-{line}\n" for line in lines) + end if lines else ""


def cut_lines(text: str, most: int) -> str:
    """The first whole lines that have at most ``most`` bytes together."""
    if len(text.encode()) <= most:
        return text
    head = text.encode()[:most].decode(errors="ignore")
    return head[: head.rfind("\n") + 1]


def changed_paths(found: Found) -> list[str]:
    """The files that are not as the last run wrote them: edited, or gone."""
    now = {file.path: file.sha256 for file in found.files}
    return sorted(path for path, digest in found.manifest.items() if now.get(path) != digest)
