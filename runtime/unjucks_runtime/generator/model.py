"""What a template set is, once loaded: plain, immutable data. Made by ``load``, read by everyone. Pure."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from unjucks_api.reasons import Reason
from unjucks_api.render_protocol import Action as CatalogueAction
from unjucks_api.render_protocol import Problem, Variable
from unjucks_runtime.generator.errors import GenerationError
from unjucks_runtime.generator.frontmatter import Frontmatter

TEMPLATE_SUFFIXES: Final = (".njk", ".nunjucks")
Tree = Mapping[str, tuple[bytes, int]]  # path -> (content, mode)


@dataclass(frozen=True)
class TemplateFile:
    """One file of an action. ``name`` is its path in the action's folder, ``engine_name`` how the engine and includes call it.

    ``body`` is the text to render (without frontmatter, which ends before ``first_line``); None means that the bytes are copied.
    """

    path: str
    name: str
    engine_name: str
    content: bytes
    mode: int
    body: str | None
    first_line: int
    front: Frontmatter
    front_path: str  # where the frontmatter stands: the file itself, or action.yaml


@dataclass(frozen=True)
class FromBase:
    """A number read off the names of existing files: action.yaml ``fromBase``. Texts are templates, not rendered yet."""

    variable: str
    glob: str
    number: str
    reuse: str
    width: int
    line: int


@dataclass(frozen=True)
class TestCase:
    """A golden test of an action: a folder below ``_tests`` with variables, an optional base, and the expected tree or error."""

    __test__ = False  # not a pytest class

    name: str
    folder: str  # path in the set
    variables: Mapping[str, Any]
    base: Tree
    expected: Tree
    expected_error: str = ""
    expected_actions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Action:
    """One thing a generator can do. ``schema`` is complete: shared variables of the set included, unknown ones refused or not."""

    generator: str
    action: str
    folder: str
    description: str
    variables: tuple[Variable, ...]
    schema: Mapping[str, Any]
    declared: bool
    inferred: tuple[str, ...]
    digest: str
    files: tuple[TemplateFile, ...]
    problems: tuple[Problem, ...]
    deprecated: bool = False
    deprecation: str = ""
    from_base: tuple[FromBase, ...] = ()
    tests: tuple[TestCase, ...] = ()
    tags: tuple[str, ...] = ()
    classification: str = ""  # its own, or that of the set

    @property
    def full_name(self) -> str:
        """``generator/action``, as people write it."""
        return f"{self.generator}/{self.action}"

    @property
    def valid(self) -> bool:
        """Whether it can run: no problem of severity error."""
        return not any(problem.severity == "error" for problem in self.problems)

    def catalogue(self) -> CatalogueAction:
        """The entry of the catalogue, as the operator and the command line show it."""
        return CatalogueAction(
            generator=self.generator,
            action=self.action,
            description=self.description,
            digest=self.digest,
            files=len(self.files),
            variables=list(self.variables),
            inferred=list(self.inferred),
            problems=list(self.problems),
            deprecated=self.deprecated,
            deprecation=self.deprecation,
            schema_=dict(self.schema),
        )


@dataclass(frozen=True)
class TemplateSet:
    """A loaded set. ``sources`` are the texts that templates can include, by engine name; ``offsets`` the lines before each body.

    ``root`` is the folder with the generators (``…/_templates``) and ``digest`` covers the whole tree that was loaded.
    """

    root: str
    digest: str
    description: str
    actions: tuple[Action, ...]
    problems: tuple[Problem, ...]  # those that belong to no action
    sources: Mapping[str, str]
    offsets: Mapping[str, int]
    engine: Mapping[str, Any] = field(default_factory=dict)
    classification: str = ""

    @property
    def all_problems(self) -> tuple[Problem, ...]:
        """Every problem of the set and of its actions, in the order of places."""
        found = [*self.problems, *(problem for action in self.actions for problem in action.problems)]
        return tuple(sorted(found, key=lambda p: (p.path, p.line, p.column, p.message)))

    def action(self, generator: str, action: str) -> Action:
        """The action of that name; raises GenerationError TemplateNotFound that lists what there is."""
        for candidate in self.actions:
            if (candidate.generator, candidate.action) == (generator, action):
                return candidate
        names = [candidate.full_name for candidate in self.actions]
        wanted = f"{generator}/{action}"
        raise GenerationError(Reason.TEMPLATE_NOT_FOUND, f"there is no action {wanted[:120]!r}{_hint(wanted, names)}")


def _hint(wanted: str, names: Sequence[str]) -> str:
    if not names:
        return "; the set has no actions (_templates/<generator>/<action>/)"
    near = difflib.get_close_matches(wanted, names, n=1)
    return (
        f"; did you mean {near[0]}?"
        if near
        else f"; there are {', '.join(names[:20])}" + (" …" if len(names) > 20 else "")
    )


def problem(path: str, message: str, line: int = 0, column: int = 0, severity: str = "error") -> Problem:
    """A Problem of the protocol, positionally."""
    return Problem(path=path, line=line, column=column, message=message, severity=severity)
