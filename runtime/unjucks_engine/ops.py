"""Operators and conversions of JavaScript over the closed values.

Each function takes the render state ``rt`` first where it may allocate or walk data, so that budgets hold. Called by generated
code, filters and methods.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from unjucks_engine.errors import LimitExceeded, TemplateError
from unjucks_engine.jsregex import RegExp
from unjucks_engine.numbers import NAN, js_divide, js_mod, js_pow, number_text, text_number
from unjucks_engine.values import MAX_SAFE, Fn, JsIterator, Kwargs, Macro, NeedCopy, Safe, U, number

if TYPE_CHECKING:
    from unjucks_engine.runtime import Render


def type_error(message: str) -> TemplateError:
    """An error as JavaScript itself would raise it."""
    return TemplateError(message, prefix="TypeError: ")


def truth(value: Any) -> bool:
    """Whether a condition holds: empty lists, objects and safe strings do."""
    kind = type(value)
    if kind is str or kind is int or kind is bool:
        return bool(value)
    if value is None or value is U:
        return False
    if kind is float:
        return bool(value == value and value != 0)
    return True


def type_of(value: Any) -> str:
    """``typeof``."""
    kind = type(value)
    if kind is str:
        return "string"
    if kind is bool:
        return "boolean"
    if kind is int or kind is float:
        return "number"
    if value is U:
        return "undefined"
    if kind is Fn or kind is Macro:
        return "function"
    if value is not None and kind not in _OBJECTS:
        raise NeedCopy
    return "object"


_OBJECTS = frozenset((list, dict, Kwargs, Safe, RegExp, JsIterator))


def text(rt: Render, value: Any) -> str:
    """``String(value)``."""
    kind = type(value)
    if kind is str:
        return value  # type: ignore[no-any-return]
    if kind is int:
        return str(value)
    if kind is bool:
        return "true" if value else "false"
    if value is None:
        return "null"
    if value is U:
        return "undefined"
    if kind is float:
        return number_text(value)
    if kind is Safe:
        return value.val  # type: ignore[no-any-return]
    if kind is list:
        return join(rt, value, ",")
    if kind is dict or kind is Kwargs:
        if "toString" in value:
            return _own_to_string(rt, value)
        return "[object Object]"
    if kind is RegExp:
        return value.text()  # type: ignore[no-any-return]
    if kind is Fn or kind is Macro:
        return "[function]"
    if kind is JsIterator:
        return "[object Array Iterator]"
    raise NeedCopy  # no value of ours: data that was not looked through


def _own_to_string(rt: Render, value: dict[str, Any]) -> str:
    method = value["toString"]
    if type(method) in (Fn, Macro):
        result = rt.call(method, [])
        if type_of(result) not in ("object", "function"):
            return text(rt, result)
    raise type_error("Cannot convert object to primitive value")


def join(rt: Render, items: list[Any], separator: str) -> str:
    """``items.join(separator)``: null and undefined are empty, a list inside itself too."""
    rt.work(len(items) + 12)
    try:
        size = sum(map(len, items)) + len(separator) * len(items)
        if size < 4096:
            result = separator.join(items)  # only if all of them are text
            if size > 256:
                rt.string(size)
            return result
    except TypeError:
        pass
    active = rt.joining
    if id(items) in active:
        return ""
    rt.work(64)
    active.add(id(items))
    try:
        parts = [item if type(item) is str else "" if item is None or item is U else text(rt, item) for item in items]
    finally:
        active.discard(id(items))
    rt.string(sum(map(len, parts)) + len(separator) * len(parts))
    return separator.join(parts)


def output(rt: Render, value: Any) -> str:
    """The text of ``{{ value }}`` without autoescape."""
    kind = type(value)
    if kind is int:
        return str(value)
    if kind is Safe:
        return value.val  # type: ignore[no-any-return]
    if value is None or value is U:
        return ""
    return text(rt, value)


_ESCAPES = {38: "&amp;", 34: "&quot;", 39: "&#39;", 60: "&lt;", 62: "&gt;", 92: "&#92;"}


def escape(rt: Render, value: str) -> str:
    """Text with the six characters replaced that Nunjucks escapes."""
    if value.isalnum():
        return value
    if len(value) > 40:
        extra = sum(value.count(char) for char in "&\"'<>\\")
        if not extra:
            return value
        rt.string(len(value) + 5 * extra)
    return value.translate(_ESCAPES)


def output_escaped(rt: Render, value: Any) -> str:
    """The text of ``{{ value }}`` with autoescape."""
    kind = type(value)
    if kind is str:
        return escape(rt, value)
    if kind is int:
        return str(value)
    if value is None or value is U:
        return ""
    if kind is Safe:
        return value.val  # type: ignore[no-any-return]
    if kind is dict and type(method := value.get("toString")) in (Fn, Macro):
        # Called here, not by a conversion: a safe string is fine, and what is no text has no `replace`.
        value = rt.call(method, [])
        if type(value) is not str and type(value) is not Safe:
            raise type_error("val.replace is not a function")
        return escape(rt, text(rt, value))
    return escape(rt, text(rt, value))


def primitive(rt: Render, value: Any) -> Any:
    """The value itself if it is primitive, else its text."""
    kind = type(value)
    if kind is str or kind is int or kind is float or kind is bool or value is None or value is U:
        return value
    return text(rt, value)


def to_number(rt: Render, value: Any) -> int | float:
    """``Number(value)``."""
    kind = type(value)
    if kind is int or kind is float:
        return value  # type: ignore[no-any-return]
    if kind is bool:
        return 1 if value else 0
    if kind is str:
        return text_number(value)
    if value is None:
        return 0
    if value is U:
        return NAN
    return text_number(text(rt, value))


def add(rt: Render, left: Any, right: Any) -> Any:
    """``left + right``."""
    lkind, rkind = type(left), type(right)
    if lkind is int and rkind is int:
        total = left + right
        return total if -MAX_SAFE <= total <= MAX_SAFE else float(total)
    if lkind is str and rkind is str:
        size = len(left) + len(right)
        if size > 256:
            rt.string(size)
        return left + right
    left, right = primitive(rt, left), primitive(rt, right)
    if type(left) is str or type(right) is str:
        return add(rt, text(rt, left), text(rt, right))
    return number(to_number(rt, left) + to_number(rt, right))


def add_all(rt: Render, *values: Any) -> Any:
    """``a + b + c …``, evaluated from the left."""
    result = values[0]
    for value in values[1:]:
        result = add(rt, result, value)
    return result


def concat(rt: Render, *parts: str) -> str:
    """Texts joined, with their size checked first."""
    size = sum(map(len, parts))
    if size > 256:
        rt.string(size)
    return "".join(parts)


def number_sum(rt: Render, left: Any, right: int) -> Any:
    """``left + right`` as numbers."""
    return add(rt, to_number(rt, left), right)


def subtract(rt: Render, left: Any, right: Any) -> int | float:
    """``left - right``."""
    if type(left) is int and type(right) is int:
        total = left - right
        return total if -MAX_SAFE <= total <= MAX_SAFE else float(total)
    return number(to_number(rt, left) - to_number(rt, right))


def multiply(rt: Render, left: Any, right: Any) -> int | float:
    """``left * right``."""
    left, right = to_number(rt, left), to_number(rt, right)
    if type(left) is int and type(right) is int:
        total = left * right
        if total:
            return total if -MAX_SAFE <= total <= MAX_SAFE else float(total)
    return number(float(left) * float(right))


def divide(rt: Render, left: Any, right: Any) -> int | float:
    """``left / right``."""
    return js_divide(to_number(rt, left), to_number(rt, right))


def modulo(rt: Render, left: Any, right: Any) -> int | float:
    """``left % right``."""
    return js_mod(to_number(rt, left), to_number(rt, right))


def power(rt: Render, left: Any, right: Any) -> int | float:
    """``Math.pow(left, right)``."""
    return js_pow(to_number(rt, left), to_number(rt, right))


def floor_divide(rt: Render, value: Any) -> int | float:
    """``Math.floor(value)``; the generated code divides before."""
    value = to_number(rt, value)
    if type(value) is int or value != value or abs(value) == math.inf:
        return value  # type: ignore[no-any-return]
    if value == 0:
        return value  # type: ignore[no-any-return]
    return number(math.floor(value))


def negative(rt: Render, value: Any) -> int | float:
    """``-value``."""
    value = to_number(rt, value)
    return -value if value else number(-float(value))


def loose_equal(rt: Render, left: Any, right: Any) -> bool:
    """``left == right`` of JavaScript."""
    lkind, rkind = type(left), type(right)
    if lkind is rkind and lkind in _SIMPLE:
        return bool(left == right)
    if left is None or left is U:
        return right is None or right is U
    if right is None or right is U:
        return False
    if lkind is bool:
        return loose_equal(rt, int(left), right)
    if rkind is bool:
        return loose_equal(rt, left, int(right))
    left_primitive, right_primitive = lkind in _SIMPLE, rkind in _SIMPLE
    if left_primitive and right_primitive:
        return bool(to_number(rt, left) == to_number(rt, right))
    if not left_primitive and not right_primitive:
        return left is right
    return loose_equal(rt, primitive(rt, left), primitive(rt, right))


_SIMPLE = frozenset((str, int, float, bool))


def strict_equal(left: Any, right: Any) -> bool:
    """``left === right`` of JavaScript."""
    lkind, rkind = type(left), type(right)
    if lkind is rkind:
        return bool(left == right) if lkind in _SIMPLE else left is right
    if (lkind is int and rkind is float) or (lkind is float and rkind is int):
        return bool(left == right)
    return False


def _ordered(rt: Render, left: Any, right: Any) -> tuple[Any, Any]:
    left, right = primitive(rt, left), primitive(rt, right)
    if type(left) is str and type(right) is str:
        return left, right
    return to_number(rt, left), to_number(rt, right)


def less(rt: Render, left: Any, right: Any) -> bool:
    """``left < right``."""
    if type(left) is not int or type(right) is not int:
        left, right = _ordered(rt, left, right)
    return bool(left < right)


def less_equal(rt: Render, left: Any, right: Any) -> bool:
    """``left <= right``."""
    if type(left) is not int or type(right) is not int:
        left, right = _ordered(rt, left, right)
    return bool(left <= right)


def greater(rt: Render, left: Any, right: Any) -> bool:
    """``left > right``."""
    if type(left) is not int or type(right) is not int:
        left, right = _ordered(rt, left, right)
    return bool(left > right)


def greater_equal(rt: Render, left: Any, right: Any) -> bool:
    """``left >= right``."""
    if type(left) is not int or type(right) is not int:
        left, right = _ordered(rt, left, right)
    return bool(left >= right)


def contains(rt: Render, needle: Any, hay: Any) -> bool:
    """``needle in hay``."""
    kind = type(hay)
    if kind is list:
        rt.work(len(hay))
        return any(strict_equal(item, needle) for item in hay)
    if kind is str:
        return text(rt, needle) in hay
    if kind is dict or kind is Kwargs:
        return text(rt, needle) in hay
    if kind is Safe:
        return text(rt, needle) in ("val", "length")
    if kind is JsIterator:
        return False
    raise TemplateError(
        f'Cannot use "in" operator to search for "{text(rt, needle)}" in unexpected types.', prefix="Error: "
    )


def make_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object literal: the last of equal keys wins, keys in JavaScript's order."""
    from unjucks_engine.values import ordered

    return ordered(dict(pairs))


def property_key(rt: Render, key: Any) -> str:
    """A key as text."""
    return key if type(key) is str else text(rt, key)


def too_large(limit: str) -> LimitExceeded:
    """The error for a size that is known before anything is allocated."""
    return LimitExceeded(limit)
