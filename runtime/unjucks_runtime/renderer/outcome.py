"""A generation in the words of the render protocol: files, redacted where asked, and the diff. Pure; called by ``tasks``."""

import base64
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from unjucks_api.reasons import Reason
from unjucks_api.render_protocol import MAX_MESSAGE, Diff, OutputFile, RenderRequest
from unjucks_api.tree import PathRejectedError, check_path
from unjucks_runtime.dlp.scan import redact
from unjucks_runtime.generator.errors import GenerationError
from unjucks_runtime.generator.model import Tree
from unjucks_runtime.generator.result import File, Result, Status, cut_diff

SCAN_SECONDS = 5.0
"""Most time for looking through all files of a task; it counts as the task's own."""
_V = TypeVar("_V")
_MIN_SECRET = 4
_MASK = "***"
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


class Redaction:
    """Takes the texts of sensitive variables out of messages: a second line behind the generator's own care."""

    def __init__(self, variables: Mapping[str, Any], sensitive: Iterable[str]) -> None:
        found: set[str] = set()
        for name in sensitive:
            value: Any = variables
            for part in name.split("."):
                value = value.get(part) if isinstance(value, dict) else None
            _collect(value, found)
        self._texts = sorted(found, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        for secret in self._texts:
            text = text.replace(secret, _MASK)
        return text[:MAX_MESSAGE]


def _collect(value: Any, found: set[str]) -> None:
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str) and len(item) >= _MIN_SECRET:
            found.add(item)
        elif isinstance(item, dict):
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)
