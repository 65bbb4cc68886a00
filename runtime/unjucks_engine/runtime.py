"""The state of one render: budgets, frames, contexts, and the operations generated code calls.

Holds no template syntax. ``Render`` lives for one call of ``Environment.render``; ``Template`` is compiled code, shared.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from unjucks_engine.errors import LimitExceeded, TemplateError, TemplateNotFound, UndefinedError
from unjucks_engine.limits import Limits
from unjucks_engine.member import call_method, member
from unjucks_engine.ops import property_key, text, truth, type_error, type_of
from unjucks_engine.values import NOT_GIVEN, Fn, JsIterator, Kwargs, Macro, NeedCopy, Safe, U, in_order, joined, units

if TYPE_CHECKING:
    import random

    from unjucks_engine.environment import Environment

_CLOCK_EVERY = 20_000
#: Steps after which a render that began with closures goes on with generated code.
_WARM = 15_000


class Frame:
    """Run-time variables of a scope. Writes do not leave an ``isolated`` frame at its own level."""

    __slots__ = ("isolated", "parent", "top", "vars")

    def __init__(self, parent: Frame | None = None, isolated: bool = False, top: bool = False) -> None:
        self.vars: dict[str, Any] = {}
        self.parent = parent
        self.isolated = isolated
        self.top = top

    def resolve(self, name: str) -> Frame | None:
        """The frame that a write of ``name`` goes to. Only the first frame's isolation counts, as in Nunjucks."""
        if self.vars.get(name, U) is not U:
            return self
        if self.isolated:
            return None
        frame = self.parent
        while frame is not None:
            if frame.vars.get(name, U) is not U:
                return frame
            frame = frame.parent
        return None

    def assign(self, name: str, value: Any) -> None:
        """``set``: changes the variable where it lives, or makes it here."""
        if "." in name:
            self._assign_path(name, value)
            return
        frame = self.resolve(name)
        (frame or self).vars[name] = value

    def _assign_path(self, name: str, value: Any) -> None:
        path = name.split(".")
        frame = self.resolve(path[0]) or self
        target = frame.vars
        for part in path[:-1]:
            inner = target.get(part, U)
            if not truth(inner):
                inner = target[part] = {}
            if type(inner) is not dict:
                raise type_error(f"Cannot create property '{path[-1]}'")
            target = inner
        target[path[-1]] = value

    def bare(self) -> bool:
        """Whether no variable can be found from here."""
        frame: Frame | None = self
        while frame is not None:
            if frame.vars:
                return False
            frame = frame.parent
        return True


def lookup(frame: Frame | None, variables: dict[str, Any], name: str) -> Any:
    """A name that is not known at compile time: frames outwards, then the context (which holds the globals)."""
    while frame is not None:
        value = frame.vars.get(name, U)
        if value is not U:
            return value
        frame = frame.parent
    return variables.get(name, U)


class Context:
    """Variables, exports and blocks of one file being rendered."""

    __slots__ = ("blocks", "exported", "vars")

    def __init__(self, variables: dict[str, Any], blocks: dict[str, Any]) -> None:
        self.vars = variables
        self.exported: list[str] = []
        self.blocks: dict[str, list[Any]] = {name: [block] for name, block in blocks.items()}

    def add_blocks(self, blocks: dict[str, Any]) -> None:
        """Queues the blocks of a parent behind the ones that are there."""
        for name, block in blocks.items():
            self.blocks.setdefault(name, []).append(block)


class Template:
    """One source, ready to run. ``root(rt, context, frame, out)`` appends text to ``out``; ``blocks`` has a function for each.

    It may start as closures (``direct``); ``compile`` then puts generated code in their place.
    """

    __slots__ = ("blocks", "changes", "macros_only", "make", "name", "root", "uses")

    def __init__(
        self,
        name: str,
        root: Callable[..., None],
        blocks: dict[str, Callable[..., None]],
        make: Callable[[Environment], tuple[Callable[..., None], dict[str, Callable[..., None]]]] | None = None,
    ) -> None:
        self.name = name
        self.root = root
        self.blocks = blocks
        #: Makes the generated code, as long as there is none. It does not hold the environment: that would be a cycle.
        self.make = make
        #: How often it was asked for, until it is compiled.
        self.uses = 0
        #: Whether the file has nothing but macros that change nothing outside, and text.
        self.macros_only = False
        #: Whether a run was seen to change its data (or to need it looked through), so that it gets a copy from the start.
        self.changes = False

    def compile(self, env: Environment) -> None:
        """From now on generated code runs. The environment is the one that the template belongs to."""
        make, self.make = self.make, None
        if make is not None:
            try:
                self.root, self.blocks = make(env)
            except (LimitExceeded, RecursionError, MemoryError):
                pass  # too much for CPython's compiler; closures can still run it


class Render:
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
        self.joining: list[Any] = []
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

    # -- loops -------------------------------------------------------------------------------------------------------

    def sequence(self, value: Any, steps: int) -> tuple[Any, Any]:
        """(what a loop with one name walks over, the length it reports) for a true value that is not a list.

        A round takes ``steps`` from the work budget.
        """
        items, length = self._sequence(value)
        self.work(len(items) * steps)
        return items, length

    def _sequence(self, value: Any) -> tuple[Any, Any]:
        kind = type(value)
        if kind is str:
            return value, len(value)
        if kind is Safe:
            items = [units(char) for char in joined(value.val)]
            return items, len(items)
        if kind is JsIterator:
            items, value.items = value.items, []
            return items, len(items)
        if (kind is dict or kind is Kwargs) and "length" in value:
            return self._array_like(value)
        if kind is Fn:
            return [U] * value.length, value.length
        if kind is Macro:
            return (), 0
        type_of(value)  # only to refuse what is no value
        return (), U

    def _array_like(self, value: dict[str, Any]) -> tuple[list[Any], Any]:
        from unjucks_engine.ops import to_number

        length = value["length"]
        count = to_number(self, length)
        size = 0 if count != count or count <= 0 else count
        if size > self.limits.items:
            raise LimitExceeded("items")
        self.items(int(size))
        total = int(size) + (size != int(size))
        return [value.get(str(index), U) for index in range(total)], length

    def rows(self, value: Any, width: int, each: bool) -> tuple[Any, Any, bool]:
        """(rows of ``width`` values, reported length, whether they are key and value of an object) for several names."""
        kind = type(value)
        if kind is JsIterator or kind is Safe:
            value, _ = self._sequence(value)
            kind = list
        if kind is list:
            return (_row(self, item, width) for item in _live(value)), len(value), False
        if kind is str:
            pairs: list[tuple[str, Any]] = [(str(index), char) for index, char in enumerate(value)]
        elif kind is dict or kind is Kwargs:
            pairs = list(in_order(value).items())
        else:
            type_of(value)
            return (), 0 if not each else U, True
        self.items(len(pairs))
        if width == 2:
            return pairs, len(pairs), True
        rest = (U,) * (width - 2)
        return [(*pair, *rest) for pair in pairs], len(pairs), True

    def async_rows(self, value: Any, width: int, each: bool) -> tuple[Any, Any, bool]:
        """As ``rows``, for ``asyncEach`` and ``asyncAll``: objects and texts need two names."""
        if type(value) is JsIterator or type(value) is Safe:
            value, _ = self._sequence(value)
        if type(value) is list:
            if width == 1:
                self.items(len(value))
                return [(item,) for item in value], len(value), False
            return self.rows(value, width, each)
        rows, length, _ = self.rows(value, 2, each)
        if width != 2 and length:
            return _one_round(rows, width), 1, True
        return rows, 0 if length is U else length, True

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
                self.work(len(made))
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


def _live(items: list[Any]) -> Any:
    return iter(items)


def _one_round(rows: Any, width: int) -> Any:
    """With the wrong number of names the first round runs and the step to the next one fails."""
    key, value = next(iter(rows))
    yield (key, value, *([U] * width))[:width]
    raise type_error("next is not a function")


def _row(rt: Render, item: Any, width: int) -> list[Any]:
    if item is None or item is U:
        raise type_error("Cannot read properties of null or undefined")
    if type(item) is list and len(item) >= width:
        return item
    return [member(rt, item, index) for index in range(width)]


__all__ = ["Context", "Frame", "Render", "Template", "lookup", "property_key"]
