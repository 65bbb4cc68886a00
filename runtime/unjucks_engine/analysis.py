"""What a template needs, found without running it: variables, files, filters, tests.

Understands guards (``if x``, ``x is defined``, ``x or y``, ``x | default(…)``), loops (the elements of a list, key and value of an
object), ``set``, macro parameters, imports, and follows includes, parents and imports with a constant name. Must not execute
anything. Used for descriptions, linting and catalogues.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from unjucks_engine import nodes
from unjucks_engine.analysis_walk import Walker
from unjucks_engine.environment import Environment
from unjucks_engine.errors import LimitExceeded, TemplateError

#: Kinds a variable can be inferred to have; ``any`` when nothing or something contradictory is known.
KINDS = ("any", "string", "number", "boolean", "list", "object", "callable")


@dataclass(slots=True)
class Place:
    """A position in a template; line and column count from 1."""

    template: str
    line: int
    column: int


@dataclass(slots=True)
class Variable:
    """A variable, or a member or element of one, that a template reads.

    ``required``: it is read somewhere without a guard or default. ``defaults``: constants given to ``default`` or behind ``or``.
    ``choices``: constants it is compared with. ``fields`` are members that are read, ``items`` what is read of its elements.
    """

    name: str
    kind: str = "any"
    required: bool = False
    defaults: list[Any] = field(default_factory=list)
    choices: list[Any] = field(default_factory=list)
    fields: dict[str, Variable] = field(default_factory=dict)
    items: Variable | None = None
    places: list[Place] = field(default_factory=list)
    #: Evidence for kinds; the strongest one wins.
    votes: dict[str, int] = field(default_factory=dict)

    def member(self, name: str) -> Variable:
        """The variable for ``self.name``, made if needed."""
        return self.fields.setdefault(name, Variable(name))

    def element(self) -> Variable:
        """The variable for the elements of this list or object."""
        if self.items is None:
            self.items = Variable(f"{self.name}[]")
        return self.items

    def vote(self, kind: str, strength: int) -> None:
        """Notes that a use fits this kind."""
        self.votes[kind] = max(self.votes.get(kind, 0), strength)

    def settle(self) -> None:
        """Decides the kind from the evidence, here and below."""
        strongest = max(self.votes.values(), default=0)
        kinds = [kind for kind, strength in self.votes.items() if strength == strongest]
        self.kind = kinds[0] if len(kinds) == 1 else "any"
        for inner in self.fields.values():
            inner.settle()
        if self.items is not None:
            self.items.settle()


@dataclass(slots=True)
class TemplateUse:
    """A file that is included, imported or extended; ``name`` is None when it is computed."""

    tag: str
    name: str | None
    place: Place
    optional: bool = False
    found: bool = True


@dataclass(slots=True)
class NameUse:
    """A filter or test and where it is first used."""

    name: str
    place: Place


@dataclass(slots=True)
class Analysis:
    """The result: everything by name, in the order of first use."""

    template: str
    variables: dict[str, Variable] = field(default_factory=dict)
    templates: list[TemplateUse] = field(default_factory=list)
    filters: dict[str, NameUse] = field(default_factory=dict)
    tests: dict[str, NameUse] = field(default_factory=dict)
    unknown_filters: list[NameUse] = field(default_factory=list)
    unknown_tests: list[NameUse] = field(default_factory=list)
    #: Files that cannot be read or parsed (the analysed one included).
    errors: list[TemplateError] = field(default_factory=list)

    @property
    def required(self) -> list[str]:
        """Names of the variables that must be given."""
        return [name for name, variable in self.variables.items() if variable.required]

    @property
    def includes(self) -> list[str]:
        """Constant names of all files that are included, imported or extended."""
        return list(dict.fromkeys(use.name for use in self.templates if use.name is not None))


def analyze(templates: Mapping[str, str], name: str, environment: Environment | None = None) -> Analysis:
    """Analyses a template and the files it names.

    ``environment`` gives the options (delimiters, trimming, filters); without one the ``pipeline`` filters are known.
    Errors of parsing do not raise; they are in ``errors``.
    """
    env = environment or Environment(templates, filters_profile="pipeline")
    result = Analysis(name)
    _Run(env, templates, result).file(name, "", None)
    for variable in result.variables.values():
        variable.settle()
    return result


def analyze_source(source: str, environment: Environment | None = None, name: str = "") -> Analysis:
    """As ``analyze``, for a source that is not one of the templates."""
    env = environment or Environment({}, filters_profile="pipeline")
    result = Analysis(name)
    _Run(env, env.templates, result).source(source, name)
    for variable in result.variables.values():
        variable.settle()
    return result


class _Run:
    """One analysis: which files were seen, and where results go."""

    def __init__(self, env: Environment, templates: Mapping[str, str], result: Analysis) -> None:
        self.env = env
        self.templates = templates
        self.result = result
        self._seen: set[tuple[str, bool]] = set()

    def source(self, source: str, name: str, fresh: bool = False, scope: Any = None) -> None:
        """Analyses one source. ``fresh``: its variables are not those of the caller (an import)."""
        try:
            root, lexer = self.env.syntax(source, name)
        except TemplateError as error:
            self.result.errors.append(error)
            return

        def place(pos: int) -> Place:
            line, column = lexer.place(pos)
            return Place(name, line + 1, column + 1)

        try:
            Walker(self, place, name, {} if fresh else self.result.variables, scope).run(root)
        except RecursionError:
            # The parser has bounds of its own, but a long chain of operators is deep only once it is walked.
            self.result.errors.append(LimitExceeded("nesting", "the template is nested too deeply", name))

    def file(self, name: str, parent: str, use: TemplateUse | None, fresh: bool = False, scope: Any = None) -> None:
        """Analyses a file by name."""
        name = self.env.resolve(name, parent or None)
        source = self.templates.get(name)
        if source is None:
            if use is None:
                self.result.errors.append(TemplateError(f"template not found: {name}"))
            else:
                use.found = False
            return
        if (name, fresh) not in self._seen:
            self._seen.add((name, fresh))
            self.source(source, name, fresh, scope)

    def use_template(self, tag: str, node: Any, place: Place, optional: bool, name: str, scope: Any) -> None:
        """Notes a file named by a tag and follows it."""
        target = node.value if isinstance(node, nodes.Literal) and isinstance(node.value, str) else None
        use = TemplateUse(tag, target, place, optional)
        self.result.templates.append(use)
        if target is not None:
            self.file(target, name, use, tag == "import", scope)

    def use_filter(self, name: str, place: Place) -> None:
        """Notes a filter."""
        if name not in self.result.filters:
            self.result.filters[name] = NameUse(name, place)
        if name not in self.env.filters:
            self.result.unknown_filters.append(NameUse(name, place))

    def use_test(self, name: str, place: Place) -> None:
        """Notes a test."""
        if name not in self.result.tests:
            self.result.tests[name] = NameUse(name, place)
        if name not in self.env.tests:
            self.result.unknown_tests.append(NameUse(name, place))

    def new_variable(self, variables: dict[str, Variable], name: str) -> Variable:
        """The variable of this name."""
        return variables.setdefault(name, Variable(name))
