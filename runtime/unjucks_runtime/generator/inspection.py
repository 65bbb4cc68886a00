"""What can be known about an action without running it: syntax problems, variables read, the digest of what it depends on.

Uses the engine's parser and analysis, never its renderer. Called by the loader, and by ``secrets`` for the names a template reads.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import unjucks_engine
from unjucks_api.render_protocol import Problem
from unjucks_api.tree import tree_digest
from unjucks_runtime.generator.errors import Place
from unjucks_runtime.generator.model import Action, Tree, problem
from unjucks_runtime.generator.options import Options
from unjucks_runtime.generator.rendering import Renderer, Texts

_MAX_PROBLEMS: Final = 100
_REFERENCE: Final = re.compile(r"\{%[-+]?\s*(?:include|import|from|extends)\s+(?:\"([^\"\n]*)\"|'([^'\n]*)'|(\S))")


def complete(
    action: Action,
    files: Tree,
    root: str,
    sources: Mapping[str, str],
    offsets: Mapping[str, int],
    problems: list[Problem],
    options: Options,
    check: bool,
) -> Action:
    """The action with its digest, and with ``check`` its problems, inferred variables and, when undeclared, an inferred schema."""
    digest = action_digest(action, files, root, sources)
    found = list(problems)
    inferred: dict[str, Any] = {}
    if check and not any(item.severity == "error" for item in problems):
        texts = Texts(sources, offsets, root)
        names = _register(action, texts)
        renderer = Renderer(texts, options)
        failed = False
        for name in names:
            error = renderer.check(name)
            if error is not None:
                failed = True
                found.append(problem(error.place.path, error.message, error.place.line, error.place.column))
        if not failed:
            inferred = _inferred(texts, names, action)
            found.extend(_compare(action, inferred))
    made = replace(
        action,
        digest=digest,
        problems=tuple(sorted(found, key=lambda p: (p.path, p.line, p.column, p.message))[:_MAX_PROBLEMS]),
        inferred=tuple(sorted(inferred)),
    )
    return made if made.declared or not inferred else _infer_schema(made, inferred)


def _register(action: Action, texts: Texts) -> list[str]:
    """Everything of an action that the engine parses: bodies, names, values and expressions of frontmatter."""
    from unjucks_runtime.generator.generate import place_of, strip_suffix  # here: generate imports this module

    names: list[str] = []
    for file in action.files:
        front = file.front
        if file.body is not None:
            names.append(file.engine_name)
        if front.to is None:
            names += [
                texts.add(part, Place(file.path), file.engine_name)
                for part in strip_suffix(file).split("/")
                if "{" in part
            ]
        for key, value in (
            ("to", front.to),
            (front.anchor, front.anchor_value),
            ("marker", front.marker),
            ("message", front.message),
            ("from", front.source),
            ("skip_if", front.skip_if_text),
        ):
            if isinstance(value, str) and "{" in value:
                names.append(texts.add(value, place_of(file, key), file.engine_name))
        for key, value in (("if", front.condition), ("skipIf", front.skip_if_expression)):
            if value:
                names.append(texts.add_truth(value, place_of(file, key), file.engine_name))
        if front.for_each:
            names.append(texts.add_value(front.for_each.within, place_of(file, "forEach"), file.engine_name))
    return names


# --- digest ----------------------------------------------------------------------------------------------------------------
def action_digest(action: Action, files: Tree, root: str, sources: Mapping[str, str]) -> str:
    """``sha256:…`` over everything the action's output depends on: its files, side files, and what they include.

    An include whose name is computed makes it depend on every source of the set. Golden tests do not count.
    """
    base = root.rpartition("/")[0]
    wanted = {
        path
        for path in files
        if (path.startswith(action.folder + "/") and "/_tests/" not in path)
        or path in (f"{root}/{action.generator}/generator.yaml", f"{base}/unjucks.yaml".lstrip("/"))
    }
    queue = [path[len(root) + 1 :] for path in wanted if path.startswith(root + "/")]
    queue += [file.front.source for file in action.files if file.front.source]
    seen: set[str] = set()
    while queue:
        name = queue.pop()
        if name in seen:
            continue
        seen.add(name)
        if "{" in name and name not in sources:  # a computed ``from``
            seen.update(sources)
            break
        for match in _REFERENCE.finditer(sources.get(name, "")):
            literal = match.group(1) or match.group(2)
            if literal is None:
                queue.extend(sources)
                break
            queue.append(_resolve(literal, name))
    wanted |= {f"{root}/{name}" for name in seen if f"{root}/{name}" in files}
    start = len(base) + 1 if base else 0
    return tree_digest({path[start:]: files[path] for path in wanted})


def _resolve(reference: str, source: str) -> str:
    if not reference.startswith(("./", "../")):
        return reference
    parts = source.split("/")[:-1]
    for part in reference.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def _analyze(sources: Mapping[str, str], name: str) -> Any:
    try:
        from unjucks_engine import analysis
    except ImportError:
        return None
    return analysis.analyze(sources, name)


# --- variables -------------------------------------------------------------------------------------------------------------
def reads(sources: Mapping[str, str], name: str) -> set[str] | None:
    """The names of variables that a template and all it includes read; None when that is not known (computed includes)."""
    try:
        found = _analyze(sources, name)
    except unjucks_engine.TemplateError:
        return None
    return None if found is None else set(found.variables)


def _inferred(texts: Texts, names: list[str], action: Action) -> dict[str, Any]:
    """The variables that the action's texts read, without those that forEach and fromBase bring."""
    made: dict[str, Any] = {}
    own = {entry.variable for entry in action.from_base}
    items: dict[str, set[str]] = {}
    for file in action.files:
        each = file.front.for_each
        items[file.engine_name] = {each.item, each.index} if each else set()
    for name in names:
        beside = name.partition("#")[0] if name in texts.places else name
        local = items.get(beside, set())
        found = _analyze(texts.templates, name)
        for variable, facts in found.variables.items() if found is not None else ():
            if variable not in local and variable not in own:
                made.setdefault(variable, facts)
    return made


def _compare(action: Action, inferred: Mapping[str, Any]) -> list[Problem]:
    """Declared against read: names that can never be given, names that nothing reads."""
    if not action.declared:
        return []
    path = f"{action.folder}/action.yaml"
    properties = action.schema.get("properties", {})
    closed = action.schema.get("additionalProperties") is False
    made = [
        problem(path, f"the templates read {name!r}, which action.yaml does not declare", severity="warning")
        for name in sorted(inferred)
        if name not in properties and closed
    ]
    return made


def _infer_schema(action: Action, inferred: Mapping[str, Any]) -> Action:
    return action
