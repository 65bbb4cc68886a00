"""The state of one render: budgets, frames, contexts, and the operations generated code calls.

Holds no template syntax. ``Render`` lives for one call of ``Environment.render``; ``Template`` is compiled code, shared.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from unjucks_engine.errors import LimitExceeded, TemplateError, TemplateNotFound, UndefinedError
from unjucks_engine.frames import Context, Frame, Template
from unjucks_engine.iteration import Iteration
from unjucks_engine.limits import Limits
from unjucks_engine.member import call_method, member
from unjucks_engine.ops import text, truth, type_error
from unjucks_engine.values import NOT_GIVEN, Fn, Kwargs, Macro, NeedCopy, Safe, U

if TYPE_CHECKING:
    import random

    from unjucks_engine.environment import Environment

_CLOCK_EVERY = 20_000
#: Steps after which a render that began with closures goes on with generated code.
_WARM = 15_000


class Render(Iteration):
    """One render: what is left of its budgets, and the environment it belongs to."""

    __slots__ = (
        "_deadline",
        "_includes",
        "_random",
        "_scratch",
        "_text",
        "_warm_at",
        "autoescape",
        "check_at",
        "compat",
        "copied",
        "depth",
        "direct",
        "env",
        "joining",
        "left",
        "limits",
        "macros",
        "matches",
    )  # fmt: skip

    def __init__(self, env: Environment, direct: bool) -> None:
        self.env = env
        limits: Limits = env.limits
        self.limits = limits
        self.left = limits.work
        #: Whether templates may run as closures, and the work that is left when that is no longer sensible.
        self.direct = direct
        self._warm_at = limits.work - _WARM if direct else -1
        self.check_at = max(0, limits.work - _CLOCK_EVERY)
        self._scratch = limits.scratch
        #: Characters that may be written to buffers, those included that are thrown away or become part of a text.
        self._text = limits.output + limits.scratch // 2
        self._deadline = time.monotonic() + limits.wall_seconds
        self._random: random.Random | None = None
        self._includes = 0
        #: Whether the data is a copy that may be changed.
        self.copied = True
        self.depth = 0
        #: Identities of the lists whose text is being made.
        self.joining: set[int] = set()
        #: Extra properties of the lists that searches with regular expressions return: id -> (list, properties).
        self.matches: dict[int, tuple[list[Any], dict[str, Any]]] = {}
        #: What files that are only macros exported in this render.
        self.macros: dict[Template, dict[str, Macro]] = {}
        self.autoescape = env.autoescape
        self.compat = env.jinja_compat

    # -- budgets -----------------------------------------------------------------------------------------------------

    def work(self, steps: int) -> None:
        """Takes steps from the work budget; looks at the clock now and then."""
        self.left -= steps
        if self.left < self.check_at:
            self._checkpoint()

    def _checkpoint(self) -> None:
        if self.left < 0:
            raise LimitExceeded("work", "the template takes too many steps")
        self.check_at = max(0, self.left - _CLOCK_EVERY)
        if time.monotonic() > self._deadline:
            raise LimitExceeded("wall_seconds", "the template takes too long")

    def string(self, size: int) -> None:
        """Announces a string that is about to be made."""
        if size > 256:
            if size > self.limits.string:
                raise LimitExceeded("string", f"a text of {size} characters is too long")
            self._scratch -= size
            if self._scratch < 0:
                raise LimitExceeded("scratch", "the template makes too much text")

    def written(self, size: int) -> int:
        """Takes output from the text that may be written. Returns 0, the new count."""
        self._text -= size
        if self._text < 0:
            raise LimitExceeded("output", "the template writes too much text")
        return 0

    def gathered(self, size: int) -> int:
        """As ``written``, for text in the buffer of a macro or of a captured body."""
        self._text -= size
        if self._text < 0:
            raise LimitExceeded("scratch", "the template makes too much text")
        return 0

    def change(self) -> None:
        """Announces that a list or object is about to be changed in place."""
        if not self.copied:
            raise NeedCopy

    def items(self, count: int) -> None:
        """Announces a list that is about to be made."""
        if count > self.limits.items:
            raise LimitExceeded("items", f"a list of {count} elements is too long")
        self.left -= count
        self._scratch -= count * 8
        if self._scratch < 0:
            raise LimitExceeded("scratch", "the template makes too many lists")
        if self.left < self.check_at:
            self._checkpoint()

    def regex_seconds(self) -> float:
        """What one search may take now."""
        return max(0.001, min(self.limits.regex_seconds, self._deadline - time.monotonic()))

    def random(self) -> random.Random:
        """The pinned source of randomness; an error when no seed is given."""
        if self._random is None:
            if self.env.seed is None:
                raise TemplateError("random values need a pinned seed (option `seed`)")
            import random

            self._random = random.Random(self.env.seed)  # noqa: S311 - reproducible on purpose, not a secret
        return self._random

    def warm(self) -> bool:
        """Whether so much was done that generated code should do the rest."""
        return self.left < self._warm_at

    # -- text --------------------------------------------------------------------------------------------------------

    def joined(self, parts: list[str]) -> str:
        """The text of a finished buffer."""
        size = sum(map(len, parts))
        if size > 256:
            self.string(size)
        return "".join(parts)

    # -- calls -------------------------------------------------------------------------------------------------------

    def call(self, callee: Any, args: list[Any], keywords: dict[str, Any] | None = None) -> Any:
        """Calls a macro or sealed function with checked kinds."""
        kind = type(callee)
        if kind is Macro:
            return self.call_macro(callee, args, keywords)
        if kind is Fn:
            self.left -= 4
            if self.left < self.check_at:
                self._checkpoint()
            if keywords is not None:
                args.append(trailing(keywords))
            return callee.call(self, args)
        raise type_error("value is not a function")

    def call_named(self, callee: Any, name: str, args: list[Any], keywords: dict[str, Any] | None = None) -> Any:
        """A call written in a template; ``name`` is how the message shows it."""
        kind = type(callee)
        if kind is Macro:
            return self.call_macro(callee, args, keywords)
        if kind is Fn:
            return self.call(callee, args, keywords)
        if not truth(callee):
            error = UndefinedError if callee is U else TemplateError
            raise error(f"Unable to call `{name}`, which is undefined or falsey", prefix="Error: ")
        raise TemplateError(f"Unable to call `{name}`, which is not a function", prefix="Error: ")

    def call_member(
        self, target: Any, key: Any, name: str, args: list[Any], keywords: dict[str, Any] | None = None
    ) -> Any:
        """``target.key(args)``: built-in methods are called without making a function object."""
        if type(target) is dict and type(callee := target.get(key)) is Macro:
            return self.call_named(callee, name, args, keywords)
        found = call_method(self, target, key)
        if found is not None:
            self.left -= 4 if type(target) is not str or len(target) < 4096 else len(target) >> 4
            if self.left < self.check_at:
                self._checkpoint()
            if keywords is not None:
                args.append(trailing(keywords))
            return found(self, target, args)
        return self.call_named(member(self, target, key), name, args, keywords)

    def call_macro(self, macro: Macro, args: list[Any], keywords: dict[str, Any] | None) -> Safe:
        """Binds arguments as Nunjucks does and calls the generated function."""
        if keywords is None and len(args) <= macro.most and not (args and type(args[-1]) is Kwargs):
            return Safe(macro.fn(*args))
        names = macro.positional
        if keywords is None and args and type(args[-1]) is Kwargs:
            keywords = {key: value for key, value in args.pop().items() if key != "__keywords"}
        missing = len(names) - len(args)
        given = {} if keywords is None else dict(keywords)
        if missing < 0:
            for name, value in zip(macro.keywords, args[len(names) :], strict=False):
                given[name] = value
            args = args[: len(names)]
        elif missing:
            args = [*args, *(given.pop(name, U) for name in names[-missing:])]
        return Safe(
            macro.fn(*args, *[given.get(name, NOT_GIVEN) for name in macro.named], given.get("caller", NOT_GIVEN))
        )

    def descend(self, steps: int) -> None:
        """A macro begins: takes its work from the budget and counts the depth, which it takes back at its end."""
        self.left -= steps
        if self.left < self.check_at:
            self._checkpoint()
        self.depth += 1
        if self.depth > self.limits.macro_depth:
            raise LimitExceeded("macro_depth", "macros call each other too deeply")

    # -- files -------------------------------------------------------------------------------------------------------

    def template(self, name: Any, parent: str | None, missing: bool = False) -> Template | None:
        """The template that a tag names."""
        if type(name) is not str:
            raise TemplateError(f"template names must be a string: {text(self, name)}", prefix="Error: ")
        found = self.env.load(name, parent)
        if found is None and not missing:
            raise TemplateNotFound(f"template not found: {name}", prefix="Error: ")
        self.work(20)
        if not self.direct and found is not None:
            found.compile(self.env)
        return found

    def enter(self) -> None:
        """Counts a level of files and blocks."""
        self._includes += 1
        if self._includes > self.limits.include_depth:
            raise LimitExceeded("include_depth", "templates include each other too deeply")

    def include(
        self, name: Any, parent: str | None, missing: bool, context: Context, frame: Frame, out: list[str]
    ) -> None:
        """``include``: the part gets a copy of the context and a frame of its own."""
        template = self.template(name, parent, missing)
        if template is None:
            return
        self.enter()
        self.work(len(context.vars) >> 3)
        template.root(self, Context(dict(context.vars), template.blocks), Frame(frame, True, True), out)
        self._includes -= 1

    def exports(self, name: Any, parent: str | None, context: Context | None, frame: Frame | None) -> dict[str, Any]:
        """``import`` and ``from``: what the file exports; with a context it runs in the importer's."""
        template = self.template(name, parent)
        assert template is not None
        if context is None and template.macros_only:
            made = self.macros.get(template)
            if made is not None:
                # The macros are the same; each import has objects of its own, as comparisons show.
                self.work(3 * len(made))
                return {name: macro.twin() for name, macro in made.items()}
        self.enter()
        variables = dict(self.env.globals if context is None else context.vars)
        inner = Context(variables, template.blocks)
        template.root(self, inner, Frame(frame, False, True), [])
        self._includes -= 1
        exports = {name: inner.vars.get(name, U) for name in inner.exported}
        if context is None and template.macros_only:
            self.macros[template] = exports
            return dict(exports)
        return exports

    def extends(self, name: Any, parent: str | None, context: Context) -> Template:
        """``extends``: queues the parent's blocks."""
        template = self.template(name, parent)
        assert template is not None
        context.add_blocks(template.blocks)
        return template

    def parent_root(self, template: Template, context: Context, frame: Frame, out: list[str]) -> None:
        """Runs the parent behind the child."""
        self.enter()
        template.root(self, context, frame, out)
        self._includes -= 1

    def block(self, name: str, context: Context, frame: Frame, out: list[str]) -> None:
        """A block of the most derived file."""
        blocks = context.blocks.get(name)
        if not blocks:
            raise TemplateError(f'unknown block "{name}"', prefix="Error: ")
        self.enter()
        self.work(8)
        blocks[0](self, context, frame, out)
        self._includes -= 1

    def super_block(self, name: str, current: Any, context: Context, frame: Frame) -> Safe:
        """The text of the block this one overrides."""
        blocks = context.blocks.get(name, [])
        index = blocks.index(current) + 1 if current in blocks else 0
        if not index or index >= len(blocks):
            raise TemplateError(f'no super block available for "{name}"', prefix="Error: ")
        self.enter()
        out: list[str] = []
        blocks[index](self, context, frame, out)
        self._includes -= 1
        return Safe(self.joined(out))

    # -- filters and tests -------------------------------------------------------------------------------------------

    def filter(self, name: str) -> Any:
        """A filter by name."""
        found = self.env.filters.get(name)
        if found is None:
            raise TemplateError(f"filter not found: {name}", prefix="Error: ")
        return found

    def test(self, name: str) -> Any:
        """A test by name."""
        found = self.env.tests.get(name)
        if found is None:
            raise TemplateError(f"test not found: {name}", prefix="Error: ")
        return found


def trailing(keywords: dict[str, Any]) -> Kwargs:
    result = Kwargs(keywords)
    result["__keywords"] = True
    return result
