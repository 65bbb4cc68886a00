"""A generation in the words of the render protocol: files, redacted where asked, and the diff. Pure; called by ``tasks``."""

import base64
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

from unjucks_api.reasons import Reason
from unjucks_api.render_protocol import Diff, OutputFile, RenderRequest
from unjucks_api.tree import PathRejectedError, check_path
from unjucks_runtime.dlp.scan import redact
from unjucks_runtime.generator.errors import GenerationError
from unjucks_runtime.generator.model import Tree
from unjucks_runtime.generator.result import File, Result, Status, cut_diff

SCAN_SECONDS = 5.0
"""Most time for looking through all files of a task; it counts as the task's own."""
_V = TypeVar("_V")
WITHOUT_CONTENT = (Status.SKIPPED, Status.REMOVED)


def lowered(tree: Mapping[str, _V], below: str) -> Mapping[str, _V]:
    """The part of a tree below a folder, as seen from there."""
    if not below:
        return tree
    prefix = f"{below}/"
    return {path[len(prefix) :]: item for path, item in tree.items() if path.startswith(prefix)}


def lifted(result: Result, below: str) -> Result:
    """The outcome with all its paths below a folder. Raises GenerationError for a path that gets too long."""
    if not below:
        return result
    try:
        files = tuple(replace(file, path=check_path(f"{below}/{file.path}")) for file in result.files)
    except PathRejectedError as error:
        raise GenerationError(Reason.PATH_REJECTED, str(error)) from None
    return replace(result, files=files)


def redacted(file: File, changed: Mapping[str, bytes]) -> File:
    """The file with the content that it has in ``changed``."""
    if file.path not in changed:
        return file
    rendered = file.rendered
    if rendered is not None:
        again, _ = redact([(file.path, rendered)], clock=time.monotonic, seconds=SCAN_SECONDS)
        rendered = again.get(file.path, rendered)
    return replace(file, content=changed[file.path], rendered=rendered)


def output_file(file: File, hide: Callable[[str], str]) -> OutputFile:
    """``hide`` takes secrets out of texts."""
    return OutputFile(
        path=file.path,
        content="" if file.status in WITHOUT_CONTENT else _encoded(file.content),
        mode=file.mode,
        size=len(file.content),
        sha256=file.sha256,
        action=file.status.value,
        template=file.template,
        sensitive=file.sensitive,
        rendered=None if file.rendered is None else _encoded(file.rendered),
        injected=file.injected,
        marked=file.marked,
        why=hide(file.why),
    )


def diff_of(files: Iterable[File], base: Tree, task: RenderRequest) -> Diff:
    """Files that hold secrets, now or before, are named in it and not shown."""
    if not task.diff_bytes:
        return Diff()
    hidden = set(task.hidden)
    masked = [replace(file, sensitive=True) if file.path in hidden else file for file in files]
    made = cut_diff(masked, base, task.diff_bytes)
    return Diff(text=made.text, added=made.added, removed=made.removed, bytes=made.size, truncated=made.truncated)


def _encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()
