"""Finds and loads template sets on the disk for the command line: ``--templates``, or upwards from the working directory."""

import os
from dataclasses import dataclass
from pathlib import Path

from unjucks_api.reasons import Reason
from unjucks_runtime.generator import GenerationError, TemplateSet, load_tree, read_tree
from unjucks_runtime.generator.model import Action, Tree
from unjucks_runtime.generator.options import Options

ENVIRONMENT = "UNJUCKS_TEMPLATES"
_FOLDERS = ("_templates", "templates")
_SIDE = ("unjucks.yaml", "README.md")


@dataclass(frozen=True)
class LocalSet:
    """A loaded set, the folder that holds it, and its files (for source excerpts)."""

    folder: Path
    files: Tree
    templates: TemplateSet


def find_folder(given: str | None, start: Path | None = None) -> Path:
    """The folder that holds ``_templates``; raises GenerationError NoTemplates that says where was searched."""
    if given:
        folder = Path(given)
        hint = _sets_inside(folder)
        if folder.name in _FOLDERS and folder.is_dir() and not (folder / "_templates").is_dir() and not hint:
            return folder.parent
        if not folder.is_dir():
            raise GenerationError(Reason.PATH_NOT_FOUND, f"there is no folder {given}")
        if not any((folder / name).is_dir() for name in _FOLDERS):
            raise GenerationError(Reason.NO_TEMPLATES, f"{given} holds no folder _templates{hint}")
        return folder
    start = (start or Path.cwd()).resolve()
    for folder in (start, *start.parents):
        if (folder / "_templates").is_dir() or (
            (folder / "unjucks.yaml").is_file() and (folder / "templates").is_dir()
        ):
            return folder
    raise GenerationError(
        Reason.NO_TEMPLATES,
        f"there is no folder _templates in {start} or above it{_sets_inside(start)}; name one with --templates or"
        f" {ENVIRONMENT}, or make one with unjucks init",
    )


def _sets_inside(folder: Path) -> str:
    """What to say about a folder that is no set but holds some; '' if it holds none."""
    inner = sorted(item.parent.name for item in folder.glob("*/_templates") if item.is_dir())
    if not inner or folder.name == "_templates":
        return ""
    what = f"the sets {', '.join(inner)}" if len(inner) > 1 else f"the set {inner[0]}"
    return f"; {folder} holds {what}: use {'one of them' if len(inner) > 1 else 'it'}, as in --templates {folder / inner[0]}"


def read_set(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Only what belongs to the set: its templates folder and side files, not the rest of the repository around it."""
    name = next(name for name in _FOLDERS if (folder / name).is_dir())
    files = {f"{name}/{path}": item for path, item in read_tree(folder / name).items()}
    for side in _SIDE:
        path = folder / side
        if path.is_file() and not path.is_symlink():
            files[side] = (path.read_bytes(), 0o644)
    return files


def load(given: str | None, options: Options, *, check: bool) -> LocalSet:
    """Finds, reads and loads a set."""
    folder = find_folder(given or os.environ.get(ENVIRONMENT))
    files = read_set(folder)
    return LocalSet(folder, files, load_tree(files, options=options, check=check))


def choose(local: LocalSet, generator: str | None, action: str | None) -> tuple[Action, list[str]]:
    """The action meant by ``generator action``, ``generator/action`` or a generator with one action; and a word left over."""
    templates = local.templates
    if generator is None:
        names = ", ".join(item.full_name for item in templates.actions) or "none"
        raise GenerationError(Reason.TEMPLATE_NOT_FOUND, f"which action? There are: {names}")
    if "/" in generator:
        first, _, second = generator.partition("/")
        return templates.action(first, second), [action] if action is not None else []
    own = [item for item in templates.actions if item.generator == generator]
    if action is not None and any(item.action == action for item in own):
        return templates.action(generator, action), []
    if len(own) == 1 and (action is None or "=" in action or action.startswith("-")):
        return own[0], [action] if action is not None else []
    if action is None and own:
        names = ", ".join(item.full_name for item in own)
        raise GenerationError(Reason.TEMPLATE_NOT_FOUND, f"which action of {generator}? There are: {names}")
    return templates.action(generator, action or "new"), []
