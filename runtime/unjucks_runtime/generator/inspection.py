"""What can be known about an action without running it: syntax problems, variables read, the digest of what it depends on.

Uses the engine's parser and analysis, never its renderer. Called by the loader, and by ``secrets`` for the names a template reads.
"""

import difflib
import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Final

from unjucks_api.render_protocol import Problem, Variable
from unjucks_api.tree import tree_digest
from unjucks_engine import analysis
from unjucks_runtime.generator.errors import Place
from unjucks_runtime.generator.frombase import Numbers
from unjucks_runtime.generator.model import Action, Tree, problem
from unjucks_runtime.generator.options import Options
from unjucks_runtime.generator.prepared import register
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
    own: Collection[str],
    *,
    check: bool,
) -> Action:
    """The action with its digest, and with ``check`` its problems, inferred variables and, when undeclared, an inferred schema.

    ``own`` are the names that action.yaml itself declares (not those shared by the set).
    """
    made = replace(action, digest=action_digest(action, files, root, sources))
    if not check or any(item.severity == "error" for item in problems):
        return replace(made, problems=_ordered(problems))
    look = _Look(made, Texts(sources, offsets, root), options)
    found = [*problems, *look.problems]
    if not any(item.severity == "error" for item in look.problems):
        found += _compare(made, look, own)
    made = replace(made, problems=_ordered(found), inferred=tuple(sorted(look.variables)))
    extra = tuple(_catalogue(name, facts, look.needed) for name, facts in sorted(look.variables.items()))
    known = set(made.schema.get("properties", {}))
    made = replace(made, variables=made.variables + tuple(item for item in extra if item.name not in known))
    return made if made.declared else _infer_schema(made, look)


def _ordered(problems: list[Problem]) -> tuple[Problem, ...]:
    unique = {(p.path, p.line, p.column, p.message): p for p in problems}
    return tuple(unique[key] for key in sorted(unique))[:_MAX_PROBLEMS]


class _Look:
    """One pass over everything of an action that the engine parses: bodies, names, values and expressions of frontmatter."""

    def __init__(self, action: Action, texts: Texts, options: Options) -> None:
        self.texts = texts
        self.options = options
        self.problems: list[Problem] = []
        self.variables: dict[str, analysis.Variable] = {}
        self.needed: set[str] = set()  # read without a guard, by a file that is always made
        self.dynamic = False
        hidden = {entry.variable for entry in action.from_base}
        numbers = Numbers(action, texts)
        registered = [(file, register(texts, file)) for file in action.files]
        self.renderer = Renderer(texts, options)
        for _, _, glob, reuse in numbers.entries:
            for name in (glob, reuse):
                self.take(name, hidden, always=True)
        for file, names in registered:
            front = file.front
            each = front.for_each
            local = hidden | ({each.item, each.index} if each else set())
            for name in (names.condition, names.for_each):
                self.take(name, hidden if name == names.for_each else local, always=not front.condition)
            always = not (front.condition or each or front.skip or front.skip_if_expression or front.unless_exists)
            inside = [names.skip_if, names.skip_text, names.anchor, names.marker, names.message, names.source]
            for name in (names.to, *names.segments, *inside, names.body):
                self.take(name, local, always=always)

    def take(self, name: str, local: Collection[str], *, always: bool) -> None:
        """Notes problems and variables of one text or template."""
        if not name:
            return
        seen = analysis.analyze(self.texts.templates, name, self.renderer.environment)
        for error in seen.errors:
            failure = self.renderer.translate(error, name)
            self.add(failure.place, failure.message)
        for kind, uses in (("filter", seen.unknown_filters), ("test", seen.unknown_tests)):
            for use in uses:
                near = difflib.get_close_matches(use.name, getattr(self.renderer.environment, kind + "s"), n=1)
                hint = f"; did you mean {near[0]}?" if near else ""
                self.add(self.place(use.place, name), f"unknown {kind} {use.name!r}{hint}")
        for other in seen.templates:
            self.dynamic = self.dynamic or other.name is None
            if other.name is not None and not other.found and not other.optional:
                self.add(
                    self.place(other.place, name), f"the set has no file {other.name!r} (asked for by {other.tag})"
                )
        for variable, facts in seen.variables.items():
            if variable not in local:
                self.variables.setdefault(variable, facts)
                if always and facts.required:
                    self.needed.add(variable)

    def place(self, at: analysis.Place, name: str) -> Place:
        """The place in the set for one that the analysis gives."""
        where = at.template or name
        if where in self.texts.places:
            return self.texts.places[where]
        return Place(f"{self.texts.root}/{where}", at.line + self.texts.offsets.get(where, 0), at.column)

    def add(self, place: Place, message: str) -> None:
        """Notes an error."""
        self.problems.append(problem(place.path, message, place.line, place.column))


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


# --- variables -------------------------------------------------------------------------------------------------------------
_KINDS: Final = {"string": "string", "number": "number", "boolean": "boolean", "list": "array", "object": "object"}


def reads(sources: Mapping[str, str], name: str) -> set[str] | None:
    """The names of variables that a template and all it includes read; None when that is not known (computed includes)."""
    seen = analysis.analyze(sources, name)
    if seen.errors or any(use.name is None for use in seen.templates):
        return None
    return set(seen.variables)


def _catalogue(name: str, facts: analysis.Variable, needed: Collection[str]) -> Variable:
    """An inferred variable as the catalogue shows it."""
    return Variable(
        name=name,
        type=_KINDS.get(facts.kind, "any"),
        required=name in needed,
        declared=False,
        default=facts.defaults[0] if len(facts.defaults) == 1 else None,
        enum=[],
    )


def _compare(action: Action, look: _Look, own: Collection[str]) -> list[Problem]:
    """Declared against read: names that can never be given, names that nothing reads."""
    if not action.declared:
        return []
    path = f"{action.folder}/action.yaml"
    properties = action.schema.get("properties", {})
    made = []
    if action.schema.get("additionalProperties") is False:
        for name, facts in sorted(look.variables.items()):
            if name not in properties:
                place = look.place(facts.places[0], "") if facts.places else Place(path)
                message = f"reads {name!r}, which action.yaml does not declare; it is always undefined"
                made.append(problem(place.path, message, place.line, place.column, "warning"))
    if not look.dynamic:
        made += [
            problem(path, f"the variable {name!r} is declared, but no template reads it", severity="warning")
            for name in sorted(own)
            if name not in look.variables
        ]
    return made


def _infer_schema(action: Action, look: _Look) -> Action:
    """The schema of an action that declares nothing: what it needs must be given, everything else may be."""
    schema = dict(action.schema)
    schema["properties"] = {name: {} for name in sorted(look.variables)} | schema.get("properties", {})
    if look.options.engine.undefined != "Empty":
        schema["required"] = sorted(look.needed - {n for n, s in schema["properties"].items() if "default" in s})
    return replace(action, schema=schema)
