"""What status tells of files, findings, diffs and the runs of a matrix: bounded. Pure. Called by ``job.status``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unjucks_api.conditions import Condition, ConditionType
from unjucks_api.reasons import Reason
from unjucks_api.render_protocol import Finding
from unjucks_api.v1alpha1.generation_job_status import MAX_FILES_SHOWN, MAX_FINDINGS_SHOWN, MAX_MATRIX_SHOWN
from unjucks_operator.job.outputs.files import LEAVES, File, written_files

_COUNTED = ("created", "updated", "unchanged", "skipped", "conflicted", "removed")
_NAMED_ONLY_WHEN_THERE = ("conflicted", "removed")


@dataclass(frozen=True, slots=True)
class DiffFigures:
    """What status tells of a diff. ``size`` is that of the whole, ``name`` empty when it is stored nowhere."""

    added: int
    removed: int
    size: int
    truncated: bool
    name: str = ""


def file_facts(files: Sequence[File]) -> dict[str, Any]:
    """``summary``, ``files`` and ``filesTruncated``."""
    counts = {name: sum(file.action == name for file in files) for name in _COUNTED}
    counts = {name: count for name, count in counts.items() if count or name not in _NAMED_ONLY_WHEN_THERE}
    written = written_files(files)
    facts: dict[str, Any] = {
        "summary": {"files": len(written), **counts, "bytes": sum(len(file.content) for file in written)},
        "files": [_file(file) for file in files[:MAX_FILES_SHOWN]],
    }
    if len(files) > MAX_FILES_SHOWN:
        facts["filesTruncated"] = True
    return facts


def _file(file: File) -> dict[str, Any]:
    told: dict[str, Any] = {
        "path": file.path,
        "action": file.action,
        "mode": f"{file.mode:04o}",
        "size": len(file.content),
    }
    if file.action not in LEAVES and not file.sensitive:
        told["digest"] = f"sha256:{file.sha256.removeprefix('sha256:')}"
    if file.sensitive:
        told["sensitive"] = True
    if file.why:
        told["why"] = file.why[:256]
    return told


def found_condition(findings: Sequence[Finding], total: int, *, redacted: bool) -> Condition:
    """SensitiveDataFound with the first place; ``redacted``: what was found was taken out."""
    first = findings[0]
    done = "taken out of" if redacted else "in"
    text = f"{total} place(s) with sensitive data {done} the files, the first is {first.path}:{first.line}: {first.detector}"
    return Condition(ConditionType.SENSITIVE_DATA_FOUND, "True", Reason.SENSITIVE_DATA_FOUND, text)


def finding_facts(findings: Sequence[Finding], total: int) -> dict[str, Any]:
    """``findings`` and ``findingsTotal``; nothing when there are none."""
    if not findings:
        return {}
    return {
        "findings": [
            {"path": it.path[:1024], "line": it.line, "column": it.column, "detector": it.detector}
            for it in findings[:MAX_FINDINGS_SHOWN]
        ],
        "findingsTotal": total,
    }


def diff_facts(diff: DiffFigures | None) -> dict[str, Any]:
    """``diff``; nothing when none was made."""
    if diff is None:
        return {}
    told: dict[str, Any] = {
        "added": diff.added,
        "removed": diff.removed,
        "bytes": diff.size,
        "truncated": diff.truncated,
    }
    if diff.name:
        told["ref"] = {"kind": "ConfigMap", "name": diff.name}
    return {"diff": told}


def matrix_facts(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """``matrix``; nothing for a job without one."""
    return {"matrix": [dict(it) for it in runs[:MAX_MATRIX_SHOWN]]} if runs else {}
