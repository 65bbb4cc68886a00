"""What a child does: analyse a tree, or render one action of it. Bytes in, bytes out, no I/O; failures are ``TaskFailure``.

Runs inside the confinement on data of which nothing is trusted. Everything that it may need is imported here at the top, and
``warm_up`` runs it all once in the zygote, because a child can load nothing any more. Called by ``child`` and ``zygote``.
"""

import base64
import gc
import importlib
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from unjucks_api.reasons import Reason
from unjucks_api.render_protocol import (
    AnalyzeRequest,
    AnalyzeResponse,
    EngineOptions,
    ErrorResponse,
    Finding,
    OnFinding,
    RenderRequest,
    RenderResponse,
    SourceFile,
)
from unjucks_api.tree import PathRejectedError, check_collisions, check_path, tree_digest
from unjucks_runtime.dlp.scan import Scan, problems_in, redact
from unjucks_runtime.generator.errors import GenerationError
from unjucks_runtime.generator.generate import generate
from unjucks_runtime.generator.load import check_folder, load_tree
from unjucks_runtime.generator.model import TemplateSet
from unjucks_runtime.generator.options import Options
from unjucks_runtime.generator.prepared import Prepared, prepare
from unjucks_runtime.generator.result import File
from unjucks_runtime.renderer.outcome import (
    SCAN_SECONDS,
    WITHOUT_CONTENT,
    Redaction,
    diff_of,
    lifted,
    lowered,
    output_file,
    redacted,
)
from unjucks_runtime.renderer.setting import Setting, setting_of
from unjucks_runtime.renderer.shipped_tests import catalogue_with_tests
from unjucks_runtime.sources.archive import ArchiveLimits, unpack_tar_gz

Tree = Mapping[str, tuple[bytes, int]]

_M = TypeVar("_M", bound=BaseModel)


class TaskFailure(Exception):
    """The task cannot be done; ``response`` says why."""

    def __init__(self, response: ErrorResponse) -> None:
        super().__init__(response.message)
        self.response = response


@dataclass(frozen=True, slots=True)
class Loaded:
    """An action that was parsed and compiled before the task came."""

    template_set: TemplateSet
    prepared: Prepared


def _encoded(reason: Reason, message: str, limit: str) -> bytes:
    return ErrorResponse(reason=reason, message=message, limit=limit).model_dump_json().encode()


# Made beforehand: when they are needed there is no memory or no stack left.
OUT_OF_MEMORY = _encoded(Reason.LIMIT_EXCEEDED, "the task needed more memory than it may have", "memory")
TOO_DEEP = _encoded(Reason.LIMIT_EXCEEDED, "the templates or their data are nested too deeply", "depth")


def _read_version() -> str:
    try:
        return version("unjucks-operator")
    except PackageNotFoundError:
        return "0"  # run from a source folder that was never installed


_ENGINE_VERSION = _read_version()


def engine_version() -> str:
    """The version of the engine, which results depend on: that of the whole distribution."""
    return _ENGINE_VERSION


def broken(message: str) -> TaskFailure:
    """The task itself is not as it has to be; the server should not have sent it."""
    return TaskFailure(ErrorResponse(reason=Reason.INTERNAL_ERROR, message=message))


def defect(error: Exception) -> TaskFailure:
    """An error that nobody expected: its type and place in our code, nothing of its text."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    code = trace.tb_frame.f_code if trace is not None else None
    where = f" at {code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}" if code and trace else ""
    return broken(f"the renderer has a defect: {type(error).__name__}{where}")


def failure(error: GenerationError) -> TaskFailure:
    """The generator's error as the protocol has it."""
    place = error.place
    return TaskFailure(
        ErrorResponse(
            reason=error.reason,
            message=error.message,
            path=place.path,
            line=place.line,
            column=place.column,
            limit=error.limit[:64],
        )
    )


# --- analyse ----------------------------------------------------------------------------------------------------------------


def analyze(request: bytes) -> bytes:
    """AnalyzeRequest -> AnalyzeResponse, both JSON."""
    task = _parse(AnalyzeRequest, request)
    try:
        files = _below(_source_tree(task), task.path)
        options = Options(engine=task.engine, limits=task.limits, shared_schema=task.shared_schema)
        loaded = load_tree(files, options=options)
        actions = catalogue_with_tests(loaded, options, time.monotonic)
    except GenerationError as error:
        raise failure(error) from None
    sensitive = problems_in(
        ((path, content) for path, (content, _) in files.items()),
        severity="error" if task.on_finding is OnFinding.BLOCK else "warning",
        clock=time.monotonic,
        seconds=SCAN_SECONDS,
    )
    answer = AnalyzeResponse(
        digest=tree_digest(files),
        files=[SourceFile(path=path, content=_encode(files[path][0]), mode=files[path][1]) for path in sorted(files)],
        actions=actions,
        problems=[*loaded.problems, *sensitive],
        engine_version=engine_version(),
    )
    return _dump(answer)


def _source_tree(task: AnalyzeRequest) -> dict[str, tuple[bytes, int]]:
    if task.archive is not None:
        if task.files:
            raise broken("the request has both files and an archive")
        limits = ArchiveLimits(bytes=task.limits.source_bytes, files=task.limits.files)
        return unpack_tar_gz(base64.b64decode(task.archive), limits)
    if len(task.files) > task.limits.files:
        raise GenerationError(
            Reason.ARCHIVE_TOO_LARGE,
            f"the source has {len(task.files)} files; {task.limits.files} are allowed",
            limit="files",
        )
    files = _decode_tree(task.files)
    size = sum(len(content) for content, _ in files.values())
    if size > task.limits.source_bytes:
        raise GenerationError(
            Reason.ARCHIVE_TOO_LARGE,
            f"the source has {size} bytes; {task.limits.source_bytes} are allowed",
            limit="source",
        )
    return files


def _below(files: Tree, folder: str) -> dict[str, tuple[bytes, int]]:
    """The part of the tree below ``folder``, which becomes its root: what lies beside it changes no digest."""
    if folder.strip("/") in ("", "."):
        return dict(files)
    prefix = check_folder(folder) + "/"
    inside = {path[len(prefix) :]: item for path, item in files.items() if path.startswith(prefix)}
    if not inside:
        raise GenerationError(Reason.PATH_NOT_FOUND, f"there is no folder {folder[:200]!r} in the source")
    return inside


# --- render -----------------------------------------------------------------------------------------------------------------


def load(files: Tree, setting: bytes) -> Loaded:
    """Parse a tree and compile one action of it, once for many renders. ``setting`` is JSON of ``Setting``."""
    known = _parse(Setting, setting)
    try:
        options = Options(engine=known.engine, limits=known.limits, shared_schema=known.shared_schema)
        template_set = load_tree(files, options=options, check=False)
        prepared = prepare(template_set, template_set.action(known.generator, known.action), options)
    except GenerationError as error:
        raise failure(error) from None
    prepared.compile()
    return Loaded(template_set, prepared)


def render(request: bytes, source: Tree | Loaded) -> bytes:
    """RenderRequest (without files) -> RenderResponse, both JSON; costs are filled in by the server."""
    task = _parse(RenderRequest, request)
    hide = Redaction(task.variables, task.sensitive)
    try:
        options = _run_options(task)
        if isinstance(source, Loaded):
            loaded, prepared = source.template_set, source.prepared
        else:
            loaded, prepared = load_tree(source, options=options, check=False), None
        base = _decode_tree(task.base)
        result = lifted(
            generate(
                loaded, task.generator, task.action, task.variables,
                base=lowered(base, task.below), options=options, prepared=prepared,
            ),
            task.below,
        )  # fmt: skip
        changed, found = _searched(result.files, task)
        files = [redacted(file, changed) for file in result.files]
        shown = diff_of(files, base, task)
    except (GenerationError, TaskFailure) as error:
        response = (error if isinstance(error, TaskFailure) else failure(error)).response
        hidden = {"message": hide(response.message), "path": hide(response.path)}
        raise TaskFailure(response.model_copy(update=hidden)) from None
    answer = RenderResponse(
        files=[output_file(file, hide) for file in files],
        warnings=[
            *(hide(text) for text in result.warnings),
            *(f"{hide(path)} is too large to be searched for sensitive data" for path in found.skipped),
        ],
        findings=[
            Finding(path=hide(it.path), line=it.line, column=it.column, detector=it.detector) for it in found.findings
        ],
        findings_total=found.total,
        diff=shown,
        messages=[hide(text) for text in result.messages],
        engine_version=engine_version(),
        cpu_seconds=0.0,
        wall_seconds=0.0,
        max_rss_bytes=0,
    )
    return _dump(answer)


def _searched(files: Iterable[File], task: RenderRequest) -> tuple[Mapping[str, bytes], Scan]:
    """The files that are to be redacted, as they become, and what was found in all. Raises TaskFailure when that is refused."""
    on_finding = task.on_finding
    written = (
        (file.path, file.content)
        for file in files
        if file.status not in WITHOUT_CONTENT and not (file.sensitive and task.secrets_have_a_place)
    )
    changed, found = redact(written, clock=time.monotonic, seconds=SCAN_SECONDS)
    blocks = on_finding is OnFinding.BLOCK
    if blocks and found.findings:
        first = found.findings[0]
        more = f", and {found.total - 1} more" if found.total > 1 else ""
        raise TaskFailure(
            ErrorResponse(
                reason=Reason.SENSITIVE_DATA_BLOCKED,
                message=f"{first}{more}; nothing was published (onFinding: Block)",
                path=first.path,
                line=first.line,
                column=first.column,
            )
        )
    if found.skipped and on_finding is not OnFinding.WARN:
        raise TaskFailure(
            ErrorResponse(
                reason=Reason.SENSITIVE_DATA_BLOCKED,
                message=f"{found.skipped[0]} is too large to be searched for sensitive data, so it cannot be published "
                f"(onFinding: {on_finding})",
                path=found.skipped[0],
            )
        )
    return (changed if on_finding is OnFinding.REDACT else {}), found


def _run_options(task: RenderRequest) -> Options:
    return Options(
        engine=task.engine,
        limits=task.limits,
        on_conflict=task.on_conflict,
        allow_force=task.policy.allow_force,
        allow_inject=task.policy.allow_inject,
        allow_paths=tuple(task.policy.allow_paths),
        deny_paths=tuple(task.policy.deny_paths),
        previous=lowered(task.previous, task.below),
        last=lowered(_decode_tree(task.last), task.below),
        update=task.update,
        prune=task.prune,
        sensitive=tuple(task.sensitive),
        shared_schema=task.shared_schema,
    )


# --- both -------------------------------------------------------------------------------------------------------------------


def _parse(model: type[_M], request: bytes) -> _M:
    try:
        return model.model_validate_json(request)
    except ValidationError as error:
        raise broken(f"the task does not hold the protocol ({error.error_count()} errors)") from None


def _decode_tree(files: Iterable[SourceFile]) -> dict[str, tuple[bytes, int]]:
    """The files as a tree; a refused or doubled path raises GenerationError."""
    tree: dict[str, tuple[bytes, int]] = {}
    try:
        for file in files:
            path = check_path(file.path)
            if path in tree:
                raise PathRejectedError(f"path {path[:120]!r} is there twice")
            tree[path] = (base64.b64decode(file.content), 0o755 if file.mode & 0o100 else 0o644)
        check_collisions(tree)
    except PathRejectedError as error:
        raise GenerationError(Reason.PATH_REJECTED, str(error)) from None
    except ValueError:
        raise GenerationError(Reason.ARCHIVE_INVALID, "a file's content is not base64") from None
    return tree


def _encode(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _dump(model: BaseModel) -> bytes:
    return model.__pydantic_serializer__.to_json(model, by_alias=True)


# What is imported at its first use, which is too late in a child (a test looks for more of them).
_LATE_IMPORTS = ("regex",)

_SAMPLE = {
    "_templates/warm/up/action.yaml": b"variables:\n  type: object\n  properties:\n    name: {type: string, pattern: '^[a-z]+$'}\n",
    "_templates/warm/up/one.txt.njk": b"---\nto: out/{{ name }}.txt\n---\nHello {{ name | upper }}{% if name %}!{% endif %}\n",
    "_templates/warm/up/two.txt.njk": b"{% for i in [1, 2] %}{{ i }}{{ missing }}{% endfor %}\n",
    "_templates/warm/bad/broken.txt.njk": b"{% if %}\n",
}


_rehearsal: list[tuple[bytes, Loaded]] = []


def rehearse() -> None:
    """Render something small. A fresh child shares its memory with the zygote and pays for each page at its first touch.

    A spare child does that while it waits; a task then finds most pages its own already (measured: 1 ms instead of 8).
    """
    for request, loaded in _rehearsal:
        try:
            render(request, loaded)
        except TaskFailure:
            pass  # nobody looks at the result


def warm_up() -> None:
    """Run everything once, right and wrong, so that nothing is left to be imported or compiled inside a child."""
    for name in _LATE_IMPORTS:
        importlib.import_module(name)
    files = [SourceFile(path=path, content=_encode(content)) for path, content in _SAMPLE.items()]
    tree = {path: (content, 0o644) for path, content in _SAMPLE.items()}
    analyze(AnalyzeRequest(files=files).model_dump_json().encode())
    for undefined in ("Empty", "Error"):
        for variables in ({"name": "a"}, {"name": 1}, {}):
            request = RenderRequest(
                task="warm-up",
                digest="",
                generator="warm",
                action="up",
                variables=variables,
                engine=EngineOptions(undefined=undefined),
            )
            setting = setting_of(request).model_dump_json().encode()
            for source in (tree, load(tree, setting)):
                try:
                    render(request.model_dump_json().encode(), source)
                except TaskFailure:
                    pass  # some of these are meant to fail
                if isinstance(source, Loaded) and not _rehearsal:
                    _rehearsal.append((request.model_dump_json().encode(), source))
    gc.collect()
