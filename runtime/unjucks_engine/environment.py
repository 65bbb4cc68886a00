"""``Environment``: a set of templates with its options, compiled on demand and rendered within budgets.

Templates come from a mapping in memory; nothing here reads files. Thread-safe for rendering: a render has its own state, and
compiled templates are only ever added.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from unjucks_engine import helpers, nodes, ops
from unjucks_engine.codegen import Generator
from unjucks_engine.compat import slice_of
from unjucks_engine.direct import Unit
from unjucks_engine.direct_statements import Hot, run
from unjucks_engine.direct_values import Unsupported
from unjucks_engine.errors import LimitExceeded, TemplateError, TemplateNotFound
from unjucks_engine.filters_data import FILTERS, paid
from unjucks_engine.frames import Context, Frame, Template, lookup
from unjucks_engine.lexer import Lexer, Tags
from unjucks_engine.library import GLOBALS
from unjucks_engine.limits import Limits
from unjucks_engine.member import member
from unjucks_engine.predicates import TESTS
from unjucks_engine.profiles import profile_filters, profile_globals
from unjucks_engine.runtime import Render
from unjucks_engine.scopes import macros_only
from unjucks_engine.statements import Parser
from unjucks_engine.syntax import parse
from unjucks_engine.values import (
    NOT_GIVEN,
    Importer,
    Kwargs,
    Macro,
    NeedCopy,
    Safe,
    U,
    joined,
    ordered,
    plain,
    units,
    well_formed,
)  # fmt: skip

if TYPE_CHECKING:
    from datetime import datetime
    from types import CodeType, TracebackType

UndefinedMode = Literal["Empty", "Error", "ErrorOnUse"]
Profile = Literal["nunjucks", "pipeline", "cli", "v4"]

_NAMESPACE: dict[str, Any] = {
    "__builtins__": {
        "type": type, "str": str, "int": int, "bool": bool, "list": list, "dict": dict, "len": len, "enumerate": enumerate,
    },
    "U": U,
    "NG": NOT_GIVEN,
    # Kinds whose truth is the same in Python.
    "Q": frozenset((bool, str, int, type(None), type(U))),
    "INF": float("inf"),
    "Safe": Safe,
    "Macro": Macro,
    "Kwargs": Kwargs,
    "Frame": Frame,
    "lookup": lookup,
    "member": member,
    "ordered": ordered,
    "slice_of": slice_of,
    **{
        name: getattr(ops, name)
        for name in (
            "add", "add_all", "concat", "contains", "divide", "floor_divide", "greater", "greater_equal", "less", "less_equal",
            "loose_equal", "modulo", "multiply", "negative", "number_sum", "power", "strict_equal", "subtract", "text", "to_number",
            "truth",
        )
    },
    **{
        name: getattr(helpers, name)
        for name in (
            "bind_loop", "defined", "fields", "imported", "keyword_object", "loop_object", "no_length", "no_target", "pasted",
            "printable",
            "used",
        )
    },
}  # fmt: skip


@lru_cache(maxsize=8)
def _paid_filters(profile: Profile) -> dict[str, Any]:
    return {name: paid(function) for name, function in profile_filters(profile).items()}


#: How often a template has to be asked for again before it is compiled.
_COMPILED_FROM = 2
#: How environments run templates; tests set it.
DEFAULT_WAYS: Literal["auto", "code"] = "auto"


class Environment:
    """Templates by name, and how they are read.

    The defaults are Nunjucks': autoescape on, nothing trimmed, undefined prints as nothing. ``undefined="Error"`` makes printing an
    undefined value fail, ``"ErrorOnUse"`` every use of one except tests, conditions and ``default``. ``filters_profile`` selects
    the additional filters (``nunjucks`` for none). ``seed`` allows random values, ``now`` (with a time zone) the clock; without
    them such filters fail. ``tags`` are other delimiters, ``jinja_compat`` is Nunjucks' optional Jinja mode.
    """

    def __init__(
        self,
        templates: Mapping[str, str] | None = None,
        *,
        autoescape: bool = True,
        trim_blocks: bool = False,
        lstrip_blocks: bool = False,
        undefined: UndefinedMode = "Empty",
        throw_on_undefined: bool = False,
        filters_profile: Profile = "pipeline",
        seed: int | None = None,
        now: datetime | None = None,
        limits: Limits | None = None,
        tags: Tags | None = None,
        jinja_compat: bool = False,
    ) -> None:
        if undefined not in ("Empty", "Error", "ErrorOnUse"):
            raise ValueError(f"undefined is {undefined!r}; it must be Empty, Error or ErrorOnUse")
        self.templates = templates if templates is not None else {}
        self.autoescape = autoescape
        self.trim_blocks = trim_blocks
        self.lstrip_blocks = lstrip_blocks
        self.undefined = undefined
        self.throw_on_undefined = throw_on_undefined
        self.seed = seed
        self.now = now
        self.limits = limits or Limits()
        self.tags = tags or Tags()
        self.jinja_compat = jinja_compat
        self.filters: dict[str, Any] = {**FILTERS, **_paid_filters(filters_profile)}
        self.tests: dict[str, Any] = TESTS
        self.globals: dict[str, Any] = {**GLOBALS, **profile_globals(filters_profile)}
        if jinja_compat:
            self.globals.update({"True": True, "False": False, "None": None})
        #: ``auto``: closures first, generated code for what is used again. ``code``: generated code only (for tests).
        self.ways: Literal["auto", "code"] = DEFAULT_WAYS
        self._compiled: dict[str, Template] = {}
        self._places: dict[str, tuple[str | None, list[int], Lexer]] = {}

    # -- public ------------------------------------------------------------------------------------------------------

    def render(self, name: str, context: Mapping[str, Any] | None = None) -> str:
        """The text of a template with these variables (JSON values, which are copied).

        Raises ``TemplateError`` or one of its kinds. Halves of surrogate pairs that stand alone become U+FFFD.
        """
        return well_formed(self._run(self._entry, (name,), context))

    def render_string(self, source: str, context: Mapping[str, Any] | None = None, name: str = "") -> str:
        """The text of a source that is not one of the templates; it can include them."""
        return well_formed(self.render_units(source, context, name))

    def render_units(self, source: str, context: Mapping[str, Any] | None = None, name: str = "") -> str:
        """As ``render_string``, but lone halves of surrogate pairs stay."""
        return joined(self._run(self.compile, (source, name or None), context))

    def render_entry_units(self, name: str, context: Mapping[str, Any] | None = None) -> str:
        """As ``render``, but lone halves of surrogate pairs stay."""
        return joined(self._run(self._entry, (name,), context))

    def check(self, name: str) -> None:
        """Parses and compiles a template without running it; raises with the place if that fails."""
        self._checked(self._entry, name)

    def check_string(self, source: str, name: str = "") -> None:
        """As ``check``, for a source that is not one of the templates."""
        self._checked(self.compile, source, name or None)

    def _checked(self, load: Callable[..., Template], *args: Any) -> None:
        try:
            load(*args).compile(self)
        except Exception as error:
            failure = self._failure(error)
            raise failure from failure.__cause__

    # -- loading -----------------------------------------------------------------------------------------------------

    def load(self, name: str, parent: str | None = None) -> Template | None:
        """The compiled template, or None if there is none. ``./`` and ``../`` are relative to the parent's folder."""
        name = self.resolve(name, parent)
        found = self._compiled.get(name)
        if found is None:
            source = self.templates.get(joined(name))
            if source is None:
                return None
            found = self._compiled[name] = self.compile(source, name)
        elif found.make is not None:
            found.uses += 1
            if found.uses >= _COMPILED_FROM:
                found.compile(self)
        return found

    def resolve(self, name: str, parent: str | None) -> str:
        """The name a template is found under."""
        if parent and name.startswith(("./", "../")):
            return posixpath.normpath(posixpath.join(posixpath.dirname(parent), name))
        return name

    def syntax(self, source: str, name: str = "") -> tuple[nodes.Nodes, Lexer]:
        """The syntax tree of a source, and the lexer that knows its places."""
        try:
            self._check_size(source)
            root, parser = parse(
                units(source), self.tags, self.trim_blocks, self.lstrip_blocks, self.limits, self.jinja_compat
            )
        except TemplateError as error:
            error.template = error.template or name
            raise
        return root, parser.lexer

    def _check_size(self, source: str) -> None:
        most = self.limits.source_bytes
        if len(source) > most or (not source.isascii() and len(source.encode("utf-8", "surrogatepass")) > most):
            raise LimitExceeded("source_bytes", "the template is too long")

    def _entry(self, name: str) -> Template:
        found = self.load(units(name))
        if found is None:
            raise TemplateNotFound(f"template not found: {name}")
        return found

    def compile(self, source: str, name: str | None) -> Template:
        """Compiled code for a source. An error carries the template's name."""
        try:
            self._check_size(source)
            return self._compile(units(source), name)
        except TemplateError as error:
            error.template = error.template or name or ""
            raise
        except (RecursionError, MemoryError):
            raise LimitExceeded("nesting", "the template is nested too deeply", name or "") from None

    def _compile(self, source: str, name: str | None) -> Template:
        root, parser = parse(source, self.tags, self.trim_blocks, self.lstrip_blocks, self.limits, self.jinja_compat)
        template = self._template(root, parser, name)
        template.macros_only = macros_only(root)
        return template

    def _template(self, root: nodes.Nodes, parser: Parser, name: str | None) -> Template:
        if self.ways != "code":
            try:
                unit = Unit(self, name, parser.lexer, root, parser.has_blocks)
                return Template(name or "", unit.root, unit.blocks, lambda env: env._generate(root, parser, name))
            except (Unsupported, TemplateError, RecursionError):
                pass  # the code generator can do it, or says what is wrong
        return Template(name or "", *self._generate(root, parser, name))

    def _generate(self, root: Any, parser: Parser, name: str | None) -> tuple[Any, dict[str, Any]]:
        space = self._execute(root, parser, name, False)
        blocks = space["BLOCKS"]
        space["BLOCK"] = blocks
        slow: dict[str, Any] = {}

        def slow_function(function: str) -> Any:
            if not slow:
                again = self._execute(root, parser, name, True)
                again["BLOCK"] = blocks
                slow.update(again)
            return slow[function]

        space["slow"] = slow_function
        return space["root"], blocks

    def _execute(self, root: Any, parser: Parser, name: str | None, frames: bool) -> dict[str, Any]:
        lexer = parser.lexer
        generator = Generator(self, name, lexer, frames)
        code = generator.module(root, parser.has_blocks)
        filename = f"<template {len(self._places)}>"
        try:
            compiled: CodeType = compile(code, filename, "exec", dont_inherit=True)
        except (SyntaxError, RecursionError, MemoryError) as error:
            raise LimitExceeded("nesting", "the template is nested too deeply for its code to be compiled") from error
        self._places[filename] = (name, generator.lines, lexer)
        space = {**_NAMESPACE, **generator.constants}
        space["emit"] = ops.output_escaped if self.autoescape else ops.output
        exec(compiled, space)  # noqa: S102 - our own code: template text enters it through repr() only
        return space

    # -- running -----------------------------------------------------------------------------------------------------

    def _run(self, load: Callable[..., Template], args: tuple[Any, ...], context: Mapping[str, Any] | None) -> str:
        try:
            template = load(*args)
            data = dict(context or {})
            out: list[str] | None = None
            direct = True
            usable = not template.changes and plain(data, self.limits)
            while out is None:
                try:
                    if usable:
                        try:
                            out = self._attempt(template, data, False, direct)
                        except NeedCopy:
                            template.changes, usable = True, False
                    if out is None:
                        # From here on there is nothing left to copy: NeedCopy would be a mistake of ours.
                        out = self._attempt(template, Importer(self.limits).object(data), True, direct)
                except (Hot, RecursionError) as error:
                    # Long work is for generated code, and closures nest more deeply than that.
                    if not direct:
                        if isinstance(error, RecursionError):
                            raise
                        raise LimitExceeded("nesting", "the template is nested too deeply to be compiled") from None
                    direct = False
                    for item in (template, *list(self._compiled.values())):
                        item.compile(self)
            size = sum(map(len, out))
            if size > self.limits.output:
                raise LimitExceeded("output", f"the output has {size} characters")
            return "".join(out)
        except BaseException as error:
            failure = self._failure(error)
            raise failure from failure.__cause__

    def _attempt(self, template: Template, data: dict[str, Any], copied: bool, direct: bool) -> list[str]:
        """One run of a template. Without a copy of the data it ends with ``NeedCopy`` before it would change any."""
        rt = Render(self, direct)
        rt.copied = copied
        out: list[str] = []
        template.root(rt, Context({**self.globals, **data}, template.blocks), Frame(None, False, True), out)
        return out

    def _failure(self, error: BaseException) -> BaseException:
        """The error that a user gets for one that ended a run: of the engine's own kinds, with its place."""
        shown: TemplateError
        if isinstance(error, TemplateError):
            shown = error
        elif isinstance(error, NeedCopy):
            shown = TemplateError("internal error: a value of no known kind")
            shown.__cause__ = error
        elif isinstance(error, RecursionError):
            shown = LimitExceeded("macro_depth", "the template nests too deeply")
        elif isinstance(error, MemoryError):
            shown = LimitExceeded("scratch", "the template needs too much memory")
        elif isinstance(error, Exception):
            shown = TemplateError(f"internal error: {type(error).__name__}: {error}")
            shown.__cause__ = error
        else:
            return error
        return self._locate(shown, error.__traceback__)

    def _locate(self, error: TemplateError, traceback: TracebackType | None) -> TemplateError:
        """Fills in the place in the template from the innermost frame of generated code."""
        error.message = well_formed(error.message)
        if error.line:
            return error
        found_name = ""
        while traceback is not None:
            frame = traceback.tb_frame
            if frame.f_code is run.__code__:
                where = frame.f_locals["where"]
                if not error.template or error.template == (where.name or ""):
                    line, column = where.lexer.place(frame.f_locals["pos"])
                    error.line, error.column = line + 1, column + 1
                    found_name = where.name or ""
            found = self._places.get(frame.f_code.co_filename)
            if found is not None and not (error.template and error.template != (found[0] or "")):
                name, lines, lexer = found
                number = traceback.tb_lineno - 1
                if 0 <= number < len(lines):
                    line, column = lexer.place(lines[number])
                    error.line, error.column = line + 1, column + 1
                    found_name = name or ""
            traceback = traceback.tb_next
        error.template = error.template or found_name
        return error
