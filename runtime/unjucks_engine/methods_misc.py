"""Methods of JavaScript numbers, booleans, objects, functions, regular expressions and iterators. Called through ``member``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unjucks_engine.args import arg, int_arg, text_arg
from unjucks_engine.errors import TemplateError
from unjucks_engine.numbers import locale_text, number_text, to_exponential, to_fixed, to_precision, to_radix
from unjucks_engine.ops import text
from unjucks_engine.regexp_ops import exec_once
from unjucks_engine.values import JsIterator, U

if TYPE_CHECKING:
    from unjucks_engine.runtime import Render


def locale(rt: Render, value: Any) -> str:
    """``value.toLocaleString()``."""
    if type(value) in (int, float):
        return locale_text(value)
    return text(rt, value)


def _fixed(rt: Render, this: Any, args: list[Any]) -> str:
    return to_fixed(this, int_arg(rt, args, 0))


def _precision(rt: Render, this: Any, args: list[Any]) -> str:
    if arg(args, 0) is U:
        return number_text(this)
    return to_precision(this, int_arg(rt, args, 0))


def _exponential(rt: Render, this: Any, args: list[Any]) -> str:
    return to_exponential(this, None if arg(args, 0) is U else int_arg(rt, args, 0))


def _radix(rt: Render, this: Any, args: list[Any]) -> str:
    return to_radix(this, int_arg(rt, args, 0, 10))


def _own(rt: Render, this: Any, args: list[Any]) -> bool:
    return text_arg(rt, args, 0) in this


def _never(rt: Render, this: Any, args: list[Any]) -> bool:
    return False


def _no_locale_text(rt: Render, this: Any, args: list[Any]) -> str:
    return text(rt, this)


def _next(rt: Render, this: JsIterator, args: list[Any]) -> dict[str, Any]:
    if this.items:
        return {"value": this.items.pop(0), "done": False}
    return {"value": U, "done": True}


def _refuse_text(rt: Render, this: Any, args: list[Any]) -> str:
    raise TemplateError("the source text of a function is not available")


NUMBER: dict[str, Any] = {
    "toExponential": _exponential,
    "toFixed": _fixed,
    "toLocaleString": lambda rt, this, args: locale_text(this),
    "toPrecision": _precision,
    "toString": _radix,
    "valueOf": lambda rt, this, args: this,
    "hasOwnProperty": _never,
    "propertyIsEnumerable": _never,
}
BOOLEAN: dict[str, Any] = {
    "toLocaleString": _no_locale_text,
    "toString": _no_locale_text,
    "valueOf": lambda rt, this, args: this,
    "hasOwnProperty": _never,
    "propertyIsEnumerable": _never,
}
OBJECT: dict[str, Any] = {
    "hasOwnProperty": _own,
    "isPrototypeOf": _never,
    "propertyIsEnumerable": _own,
    "toLocaleString": lambda rt, this, args: text(rt, this) if "toString" in this else "[object Object]",
    "toString": lambda rt, this, args: "[object Object]",
    "valueOf": lambda rt, this, args: this,
}
FUNCTION: dict[str, Any] = {"toString": _refuse_text}
REGEXP: dict[str, Any] = {
    "exec": lambda rt, this, args: exec_once(rt, this, text_arg(rt, args, 0)),
    "test": lambda rt, this, args: exec_once(rt, this, text_arg(rt, args, 0)) is not None,
    "toLocaleString": lambda rt, this, args: this.text(),
    "toString": lambda rt, this, args: this.text(),
    "valueOf": lambda rt, this, args: this,
    "hasOwnProperty": lambda rt, this, args: text_arg(rt, args, 0) == "lastIndex",
}
ITERATOR: dict[str, Any] = {
    "next": _next,
    "toString": lambda rt, this, args: "[object Array Iterator]",
    "hasOwnProperty": _never,
}
