"""What the commands do on the local disk: choose an action and variables, write an outcome, render one file, make a starter set."""

import base64
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from unjucks_api.reasons import Reason
from unjucks_runtime.cli import sets, values
from unjucks_runtime.cli.output import Out
from unjucks_runtime.cli.starter import STARTER
from unjucks_runtime.generator import (
    File,
    GenerationError,
    Options,
    Place,
    Result,
    Status,
    TemplateSet,
    Tree,
    digests,
    read_tree,
    rendered_tree,
    write_atomically,
)
from unjucks_runtime.generator.frontmatter import split
from unjucks_runtime.generator.load import decode
from unjucks_runtime.generator.model import Action
from unjucks_runtime.generator.rendering import Renderer, Texts
from unjucks_runtime.generator.result import manifest as make_manifest
from unjucks_runtime.generator.write import recover, write_files

LAST_SUFFIX = ".last"
"""Beside the manifest: what the templates gave in that run, for the next three-way merge."""


@dataclass(frozen=True)
class Prepared:
    """An action with everything it needs to run."""

    templates: TemplateSet
    action: Action
    values: dict[str, Any]
    options: Options


def prepare(
    out: Out,
    templates: str | None,
    generator: str | None,
    action: str | None,
    extra: Sequence[str],
    set_: Sequence[str] | None,
    data: Sequence[str] | None,
    options: Options,
    known: dict[str, Any],
    *,
    ask: bool,
) -> Prepared:
    """Loads the set, finds the action, collects variables, asks for missing ones when ``ask``. Fills ``known`` with sources."""
    loaded = sets.load(templates, options, check=False)
    known.update(loaded.files)
    found, rest = sets.choose(loaded, generator, action)
    if not found.declared:  # what it needs is only known by looking into its templates
        loaded = sets.load(templates, options, check=True)
        found, rest = sets.choose(loaded, generator, action)
    given = values.collect(found, [*rest, *extra], set_ or [], data or [])
    if ask and found.valid:
        values.ask_missing(found, given, out.errors)
    engine = set_engine(loaded.templates, options)
    return Prepared(loaded.templates, found, given.values, replace(options, engine=engine, text=tuple(given.text)))


def set_engine(templates: TemplateSet, options: Options) -> Any:
    """The engine's options: the set's own (unjucks.yaml), unless the caller chose others."""
    default = Options().engine
    names = {
        "undefined": "undefined",
        "trimBlocks": "trim_blocks",
        "lstripBlocks": "lstrip_blocks",
        "autoescape": "autoescape",
    }
    chosen = {
        name: value
        for key, value in templates.engine.items()
        if (name := names.get(key)) is not None and getattr(options.engine, name) == getattr(default, name)
    }
    return options.engine.model_copy(update=chosen)


def previous(manifest: str | None) -> dict[str, str]:
    """What the last run gave, by its manifest; nothing when there is none yet."""
    return digests(_read_record(manifest))


def last(manifest: str | None) -> dict[str, tuple[bytes, int]]:
    """The bytes that the last run gave, from the file beside its manifest; a file that somebody damaged there is left out."""
    known = previous(manifest)
    files = _read_record(None if manifest is None else manifest + LAST_SUFFIX).get("files")
    found: dict[str, tuple[bytes, int]] = {}
    for path, item in (files if isinstance(files, dict) else {}).items():
        try:
            content = item["text"].encode() if "text" in item else base64.b64decode(item["base64"], validate=True)
            mode = 0o755 if item.get("executable") else 0o644
        except (KeyError, TypeError, ValueError, AttributeError):
            continue
        if known.get(path) in (None, hashlib.sha256(content).hexdigest()):
            found[path] = (content, mode)
    return found


def _read_record(path: str | None) -> dict[str, Any]:
    if path is None or not os.path.exists(path):
        return {}
    try:
        value = json.loads(Path(path).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def write(result: Result, dest: str, manifest: str | None, before: Tree) -> None:
    """Writes the outcome, all or nothing, then the manifest and beside it what the templates gave.

    ``before``: the bytes of the last run.
    """
    if result.changes or result.removals:
        write_atomically(result, dest)
    else:
        recover(dest)
    if manifest is not None:
        path = Path(manifest)
        records = {path.name: make_manifest(result), path.name + LAST_SUFFIX: _last_record(result, before)}
        files = [
            File(name, Status.UPDATED, (json.dumps(value, indent=2, sort_keys=True) + "\n").encode(), 0o644, "")
            for name, value in records.items()
        ]
        write_files(files, path.parent)


def _last_record(result: Result, before: Tree) -> dict[str, Any]:
    files: dict[str, Any] = {}
    for path, (content, mode) in rendered_tree(result, before).items():
        text = decode(content)
        shown = {"text": text} if text is not None else {"base64": base64.b64encode(content).decode()}
        files[path] = shown | ({"executable": True} if mode & 0o100 else {})
    return {"version": 1, "files": files}


def render(
    template: str, sets_: Sequence[str], data: Sequence[str], root: str | None, options: Options, known: dict[str, Any]
) -> str:
    """The text of one template file; other files of its folder (or of ``root``) can be included."""
    if template == "-":
        import sys

        if "-" in data:
            raise GenerationError(Reason.VARIABLES_INVALID, "only one of the template and the data can come from stdin")
        name, files = "<stdin>", {"<stdin>": (sys.stdin.buffer.read(), 0o644)}
        if root:
            files.update(read_tree(root))
    else:
        path = Path(template)
        folder = Path(root) if root else path.parent
        if not path.is_file():
            raise GenerationError(Reason.TEMPLATE_NOT_FOUND, f"there is no file {template}")
        try:
            name = path.resolve().relative_to(folder.resolve()).as_posix()
        except ValueError:
            raise GenerationError(Reason.PATH_REJECTED, f"{template} is not below {folder}") from None
        files = _neighbours(folder, path, name, whole=root is not None)
    sources, offsets = {}, {}
    for path_, (content, _) in files.items():
        text = decode(content)
        if text is not None:
            parts = split(text) if path_ == name and path_.endswith((".njk", ".nunjucks")) else None
            sources[path_] = parts[1] if parts else text
            offsets[path_] = parts[2] - 1 if parts else 0
    if name not in sources:
        raise GenerationError(Reason.TEMPLATE_ERROR, "is not UTF-8 text", Place(template))
    given = values.Given()
    for source in data:
        values.merge(given.values, values.read_data(source))
    for item in sets_:
        key, equals, value = item.partition("=")
        if not equals:
            raise values.usage(f"--set {item!r}: write name=value")
        given.put(key, values.typed(value), is_text=True)
    known.update({f"./{path_}": item for path_, item in files.items()})
    return Renderer(Texts(sources, offsets, "."), options).render(name, given.values)


def _neighbours(folder: Path, path: Path, name: str, *, whole: bool) -> dict[str, tuple[bytes, int]]:
    """The template and what it may include. Without ``--root`` only templates beside it and below, so that a home folder
    full of other things is not read."""
    files = {name: (path.read_bytes(), 0o644)}
    if whole:
        return read_tree(folder) | files
    for item in sorted(folder.rglob("*.njk"))[:1000]:
        if item.is_file() and not item.is_symlink():
            files.setdefault(item.relative_to(folder).as_posix(), (item.read_bytes(), 0o644))
    return files


def init(out: Out, folder: str) -> None:
    """Writes the starter set; refuses where there is a set already."""
    if (Path(folder) / "_templates").exists():
        raise GenerationError(Reason.CONFLICT, f"{folder} has a folder _templates already; nothing is written")
    files = [
        File(path, Status.CREATED, text.encode(), 0o644, "")
        for path, text in STARTER.items()
        if not (Path(folder) / path).exists()
    ]
    paths = write_files(files, folder)
    if out.machine:
        out.json({"ok": True, "folder": folder, "files": paths})
        return
    for path in paths:
        out.line(f"created  {path}", "green")
    where = "" if folder == "." else f" --templates {folder}"
    out.line(f"\nTry:  unjucks describe component new{where}")
    out.line(f"      unjucks new component new OrderList --dest out{where}")
    out.line(f"      unjucks test{where}")
