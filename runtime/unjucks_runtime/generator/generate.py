"""Runs one action: variables in, a staged tree out. Pure: reads the base through a mapping, writes nothing anywhere.

Order of work is the order of ``action.files``; every template sees what earlier ones staged; at the end each path is compared
with the
base. Any error stops the whole generation, so there is never half an outcome. Called by the renderer's child process, by the
golden tests and by the command line.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from unjucks_api.reasons import Reason
from unjucks_api.tree import PathRejectedError, check_collisions
from unjucks_api.variables import validate
from unjucks_runtime.generator import inject, secrets
from unjucks_runtime.generator.errors import GenerationError, Place, VariablesError
from unjucks_runtime.generator.load import decode
from unjucks_runtime.generator.model import TemplateFile, TemplateSet, Tree
from unjucks_runtime.generator.options import OVERWRITE, SKIP, Options
from unjucks_runtime.generator.paths import mask, render_path, target_path
from unjucks_runtime.generator.prepared import Names, Prepared, place_of, prepare
from unjucks_runtime.generator.result import File, Result, Skipped, Status
from unjucks_runtime.generator.update import is_marked, settle

_MAX_NOTES: Final = 200


def generate(
    template_set: TemplateSet,
    generator: str,
    action: str,
    variables: Mapping[str, Any],
    *,
    base: Tree | None = None,
    options: Options | None = None,
    prepared: Prepared | None = None,
) -> Result:
    """The files that ``generator``/``action`` makes of ``variables`` on top of ``base``.

    ``prepared`` saves compiling: it comes from ``prepare`` with the same set and action, engine options and limits.

    Raises GenerationError (VariablesError with all problems; TemplateNotFound, TemplatesInvalid, TemplateError, UndefinedVariable,
    PathRejected, OutputCollision, AnchorNotFound, Conflict, LimitExceeded …). An existing file that may not be changed is no
    error here: it comes back as ``conflicted``, and ``result.ok`` is False.
    """
    options = options or Options()
    found = template_set.action(generator, action)
    errors = [item for item in found.problems if item.severity == "error"]
    if errors:
        first = errors[0]
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise GenerationError(
            Reason.TEMPLATES_INVALID, first.message + more, Place(first.path, first.line, first.column)
        )
    merged, problems = validate(found.schema, variables, text=options.text, sensitive=options.sensitive)
    if problems:
        raise VariablesError(problems)
    prepared = prepared or prepare(template_set, found, options)
    run = _Run(template_set, prepared, merged, base if base is not None else {}, options)
    try:
        return run.run()
    except GenerationError as error:
        error.conceal(run.taint.hide)
        raise


@dataclass
class _Staged:
    content: bytes
    mode: int
    template: str
    whole: bool  # written as a whole by one template (others may only inject)
    force: bool
    sensitive: bool
    skipped: str = ""


class _Run:
    def __init__(
        self, template_set: TemplateSet, prepared: Prepared, variables: dict[str, Any], base: Tree, options: Options
    ) -> None:
        self.set = template_set
        self.action = action = prepared.action
        self.base = base
        self.options = options
        self.staged: dict[str, _Staged] = {}
        self.skipped: list[Skipped] = []
        self.warnings: list[str] = []
        self.messages: list[str] = []
        self.bytes = 0
        self.texts = prepared.texts
        self.names = prepared.names
        self.renderer = prepared.renderer
        self.variables = {**variables, **prepared.numbers.read(self.renderer, variables, base)}
        self.taint = secrets.Taint(template_set, action, variables, options.sensitive)
        self.masked = mask(self.variables, action.schema)
        if action.deprecation:
            self.note(f"{action.full_name} is {action.deprecation}")

    def note(self, warning: str) -> None:
        if len(self.warnings) < _MAX_NOTES and warning not in self.warnings:
            self.warnings.append(warning)

    # --- the run ------------------------------------------------------------------------------------------------------
    def run(self) -> Result:
        for file, names in zip(self.action.files, self.names, strict=True):
            for context, masked in self.contexts(file, names):
                self.one(file, names, context, masked)
        self.check_tree()
        files = tuple(self.finish(path, self.staged[path]) for path in sorted(self.staged, key=str.encode))
        result = Result(
            generator=self.action.generator,
            action=self.action.action,
            digest=self.action.digest,
            files=files,
            skipped=tuple(self.skipped),
            warnings=tuple(self.warnings),
            messages=tuple(dict.fromkeys(self.messages)),
        )
        return settle(result, self.base, self.options)

    def contexts(self, file: TemplateFile, names: Names) -> Iterator[tuple[dict[str, Any], dict[str, Any] | None]]:
        each = file.front.for_each
        if each is None:
            yield self.variables, self.masked
            return
        place = place_of(file, "forEach")
        items = self.renderer.value(names.for_each, self.variables)
        masked = None if self.masked is None else self.renderer.value(names.for_each, self.masked)
        if isinstance(items, dict):
            raise GenerationError(Reason.TEMPLATE_ERROR, "forEach.in is an object; use a list", place)
        if not isinstance(items, list):
            raise GenerationError(Reason.TEMPLATE_ERROR, "forEach.in is not a list", place)
        if len(items) > self.options.limits.files:
            raise self.too_many(place)
        comparable = isinstance(masked, list) and len(masked) == len(items)
        for index, item in enumerate(items):
            extra = {each.item: item} | ({each.index: index} if each.index else {})
            if self.masked is None:
                other = None
            else:
                other = {**self.masked, **extra}
                if comparable and masked is not None:
                    other[each.item] = masked[index]
            yield {**self.variables, **extra}, other

    def one(self, file: TemplateFile, names: Names, context: dict[str, Any], masked: dict[str, Any] | None) -> None:
        front = file.front
        if front.skip:
            return self.skip(file, "to is empty")
        if names.condition and not self.renderer.truth(names.condition, context):
            return self.skip(file, "its condition (if) does not hold")
        path = self.target(file, names, context, masked)
        if path is None:
            return self.skip(file, "its name rendered to nothing")
        if self.taint.hide(path) != path:
            place = place_of(file, "to")
            raise GenerationError(Reason.SENSITIVE_DATA_BLOCKED, "a secret would stand in the name of a file", place)
        current = self.current(path)
        if front.unless_exists and current is not None:
            return self.keep(path, file, "it exists (unless_exists)")
        if names.skip_if and self.renderer.truth(names.skip_if, context):
            return self.keep(path, file, "skipIf holds")
        if names.skip_text and current is not None:
            wanted = self.renderer.render(names.skip_text, context)
            target = decode(current[0])
            try:
                present = bool(wanted.strip()) and target is not None and inject.contains(target, wanted, "skip_if")
            except inject.Refusal as error:
                raise GenerationError(error.reason, error.message, place_of(file, "skip_if")) from None
            if present or wanted.strip() == "true":
                return self.keep(path, file, "the target holds the text of skip_if")
        content = self.body(file, names, context)
        if names.message:
            message = self.taint.hide(self.renderer.render(names.message, context).strip())
            if message and len(self.messages) < _MAX_NOTES:
                self.messages.append(message)
        if front.anchor:
            return self.put_into(path, file, names, context, content, current)
        return self.put_whole(path, file, content, context)

    def skip(self, file: TemplateFile, why: str) -> None:
        self.skipped.append(Skipped(file.path, why))

    def keep(self, path: str, file: TemplateFile, why: str) -> None:
        """A target that stays as it is; reported only when nothing else touches it."""
        mode = self.current(path)
        self.staged.setdefault(path, _Staged(b"", mode[1] if mode else 0o644, file.path, False, False, False, why))

    def current(self, path: str) -> tuple[bytes, int] | None:
        staged = self.staged.get(path)
        if staged is not None and not staged.skipped:
            return staged.content, staged.mode
        return self.base.get(path)

    def target(
        self, file: TemplateFile, names: Names, context: dict[str, Any], masked: dict[str, Any] | None
    ) -> str | None:
        if names.to:
            place = place_of(file, "to")
            text = render_path(self.renderer.render, names.to, context, masked, place).strip()
            if not text:
                return None
            return target_path(text.removeprefix("./"), place, self.options)
        place = Place(file.path)
        parts = [render_path(self.renderer.render, name, context, masked, place).strip() for name in names.segments]
        if not all(parts):
            return None
        return target_path("/".join(parts), place, self.options)

    def body(self, file: TemplateFile, names: Names, context: dict[str, Any]) -> bytes:
        if names.source:
            place = place_of(file, "from")
            if file.body is not None and file.body.strip():
                raise GenerationError(
                    Reason.TEMPLATE_ERROR, "from takes the body of another file; this one has its own", place
                )
            source = self.source(self.renderer.render(names.source, context).strip(), file, place)
            return self.renderer.render(source, context).encode()
        if file.body is None:
            return file.content
        return self.renderer.render(names.body, context).encode("utf-8", "replace")

    def source(self, wanted: str, file: TemplateFile, place: Place) -> str:
        """The engine name of a ``from``: relative to _templates, or with ``./`` to the file's own folder."""
        name = wanted
        if wanted.startswith(("./", "../")):
            parts = file.engine_name.split("/")[:-1]
            for part in wanted.split("/"):
                if part == "..":
                    if not parts:
                        raise GenerationError(
                            Reason.PATH_REJECTED, f"from leads out of the set: {wanted[:120]!r}", place
                        )
                    parts.pop()
                elif part not in ("", "."):
                    parts.append(part)
            name = "/".join(parts)
        if name not in self.set.sources:
            raise GenerationError(Reason.TEMPLATE_NOT_FOUND, f"there is no file {wanted[:120]!r} in the set", place)
        return name

    # --- staging ------------------------------------------------------------------------------------------------------
    def put_whole(self, path: str, file: TemplateFile, content: bytes, context: dict[str, Any]) -> None:
        before = self.staged.get(path)
        if before is not None and before.whole:
            raise GenerationError(
                Reason.OUTPUT_COLLISION,
                f"two templates write {path!r}: {before.template} and {file.path}",
                place_of(file, "to"),
            )
        if before is not None and not before.skipped:
            raise GenerationError(
                Reason.OUTPUT_COLLISION,
                f"{before.template} injects into {path!r}, which {file.path} then writes as a whole; order them in action.yaml",
                place_of(file, "to"),
            )
        if file.front.force and not self.options.allow_force:
            raise GenerationError(
                Reason.NOT_PERMITTED, "the policy does not allow force: true", place_of(file, "force")
            )
        mode = file.front.chmod if file.front.chmod is not None else file.mode
        secret = self.taint.touches(file, context, content)
        self.stage(path, _Staged(content, mode, file.path, True, file.front.force, secret), file)

    def put_into(
        self,
        path: str,
        file: TemplateFile,
        names: Names,
        context: dict[str, Any],
        content: bytes,
        current: tuple[bytes, int] | None,
    ) -> None:
        front = file.front
        place = place_of(file, front.anchor)
        if not self.options.allow_inject:
            raise GenerationError(
                Reason.NOT_PERMITTED, "the policy does not allow changes inside existing files", place
            )
        if current is None and not front.create:
            raise GenerationError(
                Reason.ANCHOR_NOT_FOUND, f"the target {path!r} does not exist; create: true would make it", place
            )
        target = decode(current[0]) if current is not None else ""
        if target is None:
            raise GenerationError(Reason.TEMPLATE_ERROR, f"the target {path!r} is not UTF-8 text", place)
        body = decode(content)
        if body is None:
            raise GenerationError(Reason.TEMPLATE_ERROR, "a body that goes into another file must be UTF-8 text", place)
        try:
            if front.anchor == "merge":
                made = inject.merge_json(target, body, force=front.force and self.options.allow_force)
            else:
                value = self.renderer.render(names.anchor, context) if names.anchor else front.anchor_value
                made = inject.insert(
                    target,
                    body,
                    front.anchor,
                    value,
                    occurrence=front.occurrence,
                    marker=self.renderer.render(names.marker, context).strip() if names.marker else "",
                    comment=front.comment,
                    path=path,
                )
        except inject.Refusal as error:
            raise GenerationError(error.reason, f"{path}: {error.message}", place) from None
        before = self.staged.get(path)
        staged = _Staged(
            content=made.encode(),
            mode=front.chmod if front.chmod is not None else current[1] if current else file.mode,
            template=file.path,
            whole=before.whole if before else False,
            # A change inside a file is what the file is open for; only a whole template can be in conflict with it.
            force=before.force if before and before.whole else True,
            sensitive=self.taint.touches(file, context, content) or bool(before and before.sensitive),
        )
        self.stage(path, staged, file)

    def stage(self, path: str, staged: _Staged, file: TemplateFile) -> None:
        limits = self.options.limits
        self.bytes += len(staged.content) - len(self.staged[path].content if path in self.staged else b"")
        self.staged[path] = staged
        if len(self.staged) > limits.files:
            raise self.too_many(Place(file.path))
        if self.bytes > limits.output_bytes:
            raise GenerationError(
                Reason.LIMIT_EXCEEDED,
                f"the output is larger than {limits.output_bytes} bytes",
                Place(file.path),
                limit="output_bytes",
            )

    def too_many(self, place: Place) -> GenerationError:
        most = self.options.limits.files
        return GenerationError(Reason.LIMIT_EXCEEDED, f"more than {most} files", place, limit="files")

    # --- the end ------------------------------------------------------------------------------------------------------
    def check_tree(self) -> None:
        try:
            check_collisions(list(self.staged))
        except PathRejectedError as error:
            raise GenerationError(Reason.OUTPUT_COLLISION, str(error)) from None
        for path in self.staged:
            parent = path.rpartition("/")[0]
            while parent:
                if parent not in self.staged and self.is_base_file(parent):
                    raise GenerationError(
                        Reason.OUTPUT_COLLISION, f"{parent!r} exists as a file, but {path!r} needs it as a folder"
                    )
                parent = parent.rpartition("/")[0]

    def is_base_file(self, path: str) -> bool:
        try:
            return self.base.get(path) is not None
        except GenerationError as error:
            if error.reason is Reason.OUTPUT_COLLISION:  # it is a folder, as it should be
                return False
            raise

    def finish(self, path: str, staged: _Staged) -> File:
        old = self.base.get(path)
        status, why = self.status(path, staged, old)
        content = b"" if status is Status.SKIPPED else staged.content
        injected = not staged.whole and not staged.skipped
        return File(path, status, content, staged.mode, staged.template, staged.sensitive, why, injected=injected)

    def status(self, path: str, staged: _Staged, old: tuple[bytes, int] | None) -> tuple[Status, str]:
        if staged.skipped:
            return Status.SKIPPED, staged.skipped
        if old is None:
            return Status.CREATED, ""
        if old[0] == staged.content:
            same_mode = bool(old[1] & 0o100) == bool(staged.mode & 0o100)
            return (Status.UNCHANGED, "") if same_mode else (Status.UPDATED, "its mode changes")
        merged = self.options.update and path in self.options.last
        if staged.force or (self.options.on_conflict == OVERWRITE and not merged):
            return Status.UPDATED, ""
        ours = self.options.previous.get(path) == File(path, Status.UPDATED, old[0], 0, "").sha256
        # What the last run left between marks holds somebody's edits, also where its text was stored nowhere.
        if ours and not (self.options.update and is_marked(old[0])):
            return Status.UPDATED, "unchanged since the last generation"
        if self.options.on_conflict == SKIP and not merged:
            return Status.SKIPPED, "it exists with other content"
        return Status.CONFLICTED, "it exists with other content"
