"""Small trees and template sets for tests of the generator: written as texts, used as mappings path -> (bytes, mode)."""

from collections.abc import Mapping
from typing import Any

from unjucks_runtime.generator import Options, Result, TemplateSet, generate, load_tree

Content = str | bytes | tuple[str | bytes, int]


def tree(files: Mapping[str, Content]) -> dict[str, tuple[bytes, int]]:
    """A tree out of texts, bytes, or (text, mode)."""
    made: dict[str, tuple[bytes, int]] = {}
    for path, item in files.items():
        content, mode = item if isinstance(item, tuple) else (item, 0o644)
        made[path] = (content.encode() if isinstance(content, str) else content, mode)
    return made


def action_tree(files: Mapping[str, Content], action: str = "gen/new") -> dict[str, tuple[bytes, int]]:
    """A set with one action that has these files."""
    return tree({f"_templates/{action}/{path}": item for path, item in files.items()})


def action_set(files: Mapping[str, Content], **more: Any) -> TemplateSet:
    """The loaded set of ``action_tree``."""
    return load_tree(action_tree(files), **more)


def run(
    files: Mapping[str, Content],
    variables: Mapping[str, Any] | None = None,
    base: Mapping[str, Content] | None = None,
    **options: Any,
) -> Result:
    """Generates ``gen/new`` of these files on a base."""
    return generate(
        action_set(files, check=False), "gen", "new", variables or {}, base=tree(base or {}), options=Options(**options)
    )


def texts(result: Result) -> dict[str, str]:
    """path -> text of the files that are not skipped."""
    return {file.path: file.content.decode() for file in result.files if file.status.value != "skipped"}


def statuses(result: Result) -> dict[str, str]:
    """path -> status."""
    return {file.path: file.status.value for file in result.files}


def after(base: Mapping[str, tuple[bytes, int]], result: Result) -> dict[str, tuple[bytes, int]]:
    """The tree after the changes of a result were written."""
    return {**base, **{file.path: (file.content, file.mode) for file in result.changes}}
