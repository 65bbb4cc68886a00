"""The tests of Nunjucks (``x is odd``). Each takes ``(rt, value, …)``; missing arguments are undefined, more are ignored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unjucks_engine import ops
from unjucks_engine.methods_string import lower, upper
from unjucks_engine.values import Fn, JsIterator, Kwargs, Macro, Safe, U

if TYPE_CHECKING:
    from unjucks_engine.runtime import Render


def _case(name: str, change: Any) -> Any:
    def test(rt: Render, value: Any = U, *_: Any) -> bool:
        if type(value) is str:
            return bool(change(value) == value)
        if type(value) is Safe:
            return False
        raise ops.type_error(f"value.{name} is not a function")

    return test


def _iterable(rt: Render, value: Any = U, *_: Any) -> bool:
    if value is None or value is U:
        raise ops.type_error("Cannot read properties of undefined (reading 'Symbol(Symbol.iterator)')")
    ops.type_of(value)  # only to refuse what is no value
    return type(value) in (str, list, Safe, JsIterator)


def _mapping(rt: Render, value: Any = U, *_: Any) -> bool:
    return value is not None and ops.type_of(value) == "object" and type(value) is not list


def _equal(rt: Render, value: Any = U, other: Any = U, *_: Any) -> bool:
    return ops.strict_equal(value, other)


def _order(compare: Any) -> Any:
    def test(rt: Render, value: Any = U, other: Any = U, *_: Any) -> bool:
        return bool(compare(rt, value, other))

    return test


def _remainder(expected: int) -> Any:
    def test(rt: Render, value: Any = U, *_: Any) -> bool:
        return bool(ops.modulo(rt, value, 2) == expected)

    return test


def _divisible(rt: Render, value: Any = U, by: Any = U, *_: Any) -> bool:
    return bool(ops.modulo(rt, value, by) == 0)


_greater, _greater_equal = _order(ops.greater), _order(ops.greater_equal)
_less, _less_equal = _order(ops.less), _order(ops.less_equal)

TESTS: dict[str, Any] = {
    "callable": lambda rt, value=U, *_: type(value) in (Fn, Macro),
    "defined": lambda rt, value=U, *_: value is not U,
    "divisibleby": _divisible,
    "eq": _equal,
    "equalto": _equal,
    "escaped": lambda rt, value=U, *_: type(value) is Safe,
    "even": _remainder(0),
    "falsy": lambda rt, value=U, *_: not ops.truth(value),
    "ge": _greater_equal,
    "greaterthan": _greater,
    "gt": _greater,
    "iterable": _iterable,
    "le": _less_equal,
    "lessthan": _less,
    "lower": _case("toLowerCase", lower),
    "lt": _less,
    "mapping": _mapping,
    "ne": lambda rt, value=U, other=U, *_: not ops.strict_equal(value, other),
    "null": lambda rt, value=U, *_: value is None,
    "number": lambda rt, value=U, *_: type(value) in (int, float),
    "odd": _remainder(1),
    "sameas": _equal,
    "string": lambda rt, value=U, *_: type(value) is str,
    "truthy": lambda rt, value=U, *_: ops.truth(value),
    "undefined": lambda rt, value=U, *_: value is U,
    "upper": _case("toUpperCase", upper),
}

__all__ = ["TESTS", "Kwargs"]
