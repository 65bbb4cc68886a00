"""What the commands do on the local disk: choose an action and variables, write an outcome, render one file, make a starter set."""

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
    digests,
    read_tree,
    write_atomically,
)
from unjucks_runtime.generator.frontmatter import split
from unjucks_runtime.generator.load import decode
from unjucks_runtime.generator.model import Action
from unjucks_runtime.generator.rendering import Renderer, Texts
from unjucks_runtime.generator.result import manifest as make_manifest
from unjucks_runtime.generator.write import recover, write_files


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
    """What the last run wrote, by its manifest; nothing when there is none yet."""
    if manifest is None or not os.path.exists(manifest):
        return {}
    try:
        value = json.loads(Path(manifest).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return digests(value) if isinstance(value, dict) else {}


def write(result: Result, dest: str, manifest: str | None) -> None:
    """Writes the outcome, all or nothing, then the manifest."""
    if result.changes:
        write_atomically(result, dest)
    else:
        recover(dest)
    if manifest is not None:
        path = Path(manifest)
        content = (json.dumps(make_manifest(result), indent=2, sort_keys=True) + "\n").encode()
        write_files([File(path.name, Status.UPDATED, content, 0o644, "")], path.parent)


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
        given.put(key, _typed(value), is_text=True)
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


def _typed(value: str) -> Any:
    """There is no schema here: JSON where it is JSON of another kind than text, else the text itself."""
    try:
        parsed = json.loads(value)
    except ValueError:
        return value
    return value if isinstance(parsed, str) else parsed


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
