"""Filters of Nunjucks that work on lists, objects and numbers. Conventions as in ``filters_text``."""

from __future__ import annotations

import math
from functools import cmp_to_key
from typing import TYPE_CHECKING, Any

from unjucks_engine import ops
from unjucks_engine.errors import TemplateError
from unjucks_engine.filters_text import TEXT_FILTERS, normal
from unjucks_engine.member import member
from unjucks_engine.methods_array import sorted_js
from unjucks_engine.methods_string import lower, upper
from unjucks_engine.numbers import js_divide, js_pow, js_round, parse_float, parse_int, to_integer
from unjucks_engine.ops import text, to_number, truth, type_error
from unjucks_engine.values import Fn, Kwargs, Macro, Safe, U, in_order, number, ordered

if TYPE_CHECKING:
    from unjucks_engine.runtime import Render


def _need(value: Any) -> None:
    if value is None or value is U:
        raise type_error("Cannot read properties of undefined")


def _is_object(value: Any) -> bool:
    return isinstance(value, dict) or type(value) is Safe


def _entries(value: Any) -> list[tuple[str, Any]]:
    if type(value) is Safe:
        return [("val", value.val), ("length", len(value.val))]
    return list(in_order(value).items()) if isinstance(value, dict) else []


def _length(rt: Render, value: Any) -> int:
    """How many elements ``value[0]`` … an index loop visits."""
    if type(value) is list or type(value) is str:
        return len(value)
    size = to_number(rt, member(rt, value, "length"))
    if not size > 0:
        return 0
    if size > rt.limits.items:
        rt.items(rt.limits.items + 1)
    return math.ceil(size)


def _elements(rt: Render, value: Any) -> list[Any]:
    """The elements an index loop visits; [] for null and undefined."""
    if type(value) is list:
        rt.items(len(value))
        return list(value)
    if value is None or value is U:
        return []
    size = _length(rt, value)
    rt.items(size)
    return list(value) if type(value) is str else [member(rt, value, index) for index in range(size)]


def _mapped(rt: Render, value: Any, key: Any) -> list[Any]:
    result = []
    for item in _elements(rt, value):
        _need(item)
        result.append(member(rt, item, key))
    return result


def _list(value: Any, method: str) -> list[Any]:
    if type(value) is not list:
        raise type_error(f"value.{method} is not a function")
    return value


def absolute(rt: Render, value: Any = U, *_: Any) -> Any:
    return number(abs(to_number(rt, value)))


def batch(rt: Render, value: Any = U, count: Any = U, fill: Any = U, *_: Any) -> list[Any]:
    _need(value)
    rows: list[Any] = []
    row: list[Any] = []
    every = to_number(rt, count)
    for index, item in enumerate(_elements(rt, value)):
        if row and ops.modulo(rt, index, every) == 0:
            rows.append(row)
            row = []
        row.append(item)
    if row:
        if truth(fill) and every > len(row):
            if every > rt.limits.items:
                rt.items(rt.limits.items + 1)
            missing = math.ceil(every - len(row))
            rt.items(missing)
            row.extend([fill] * missing)
        rows.append(row)
    return rows


def default(rt: Render, value: Any = U, other: Any = U, falsy: Any = U, *_: Any) -> Any:
    if falsy is not U and truth(falsy):
        return value if truth(value) else other
    return other if value is U else value


def dictsort(rt: Render, value: Any = U, case_sensitive: Any = U, by: Any = U, *_: Any) -> list[Any]:
    if not _is_object(value):
        raise TemplateError("dictsort filter: val must be an object", prefix="Template render error: ")
    pairs = _entries(value)
    if by is U or by == "key":
        index = 0
    elif by == "value":
        index = 1
    else:
        raise TemplateError(
            "dictsort filter: You can only sort by either key or value", prefix="Template render error: "
        )
    fold = not truth(case_sensitive)

    def compare(one: Any, two: Any) -> int:
        rt.work(1)
        left, right = one[index], two[index]
        if fold:
            left = upper(left) if type(left) is str else left
            right = upper(right) if type(right) is str else right
        return 1 if ops.greater(rt, left, right) else 0 if ops.strict_equal(left, right) else -1

    rt.items(3 * len(pairs))
    return [list(pair) for pair in sorted(pairs, key=cmp_to_key(compare))]


def first(rt: Render, value: Any = U, *_: Any) -> Any:
    _need(value)
    return member(rt, value, 0)


def last(rt: Render, value: Any = U, *_: Any) -> Any:
    _need(value)
    return member(rt, value, ops.subtract(rt, member(rt, value, "length"), 1))


def _attribute(rt: Render, item: Any, path: list[Any]) -> Any:
    """A dotted path of own keys."""
    for part in path:
        if item is None or item is U:
            raise type_error("Cannot convert undefined or null to object")
        key = text(rt, part)
        kind = type(item)
        if isinstance(item, dict):
            item = item.get(key, U)
        elif kind is str or kind is list:
            found = member(rt, item, key)
            item = U if type(found) is Fn else found
        elif kind is Safe and key in ("val", "length"):
            item = member(rt, item, key)
        else:
            return U
        if item is U:
            return U
    return item


def _path(value: Any) -> list[Any]:
    if not truth(value):
        return []
    return value.split(".") if type(value) is str else [value]


def groupby(rt: Render, value: Any = U, attribute: Any = U, *_: Any) -> dict[str, Any]:
    _need(value)
    path = _path(attribute)
    result: dict[str, Any] = {}
    call = type(attribute) in (Fn, Macro)
    for index, item in enumerate(_elements(rt, value)):
        key = rt.call(attribute, [item, index]) if call else _attribute(rt, item, path)
        if key is U and rt.env.throw_on_undefined:
            raise type_error(f'groupby: attribute "{text(rt, attribute)}" resolved to undefined')
        result.setdefault(text(rt, key), []).append(item)
    return ordered(result)


def join(rt: Render, value: Any = U, separator: Any = U, attribute: Any = U, *_: Any) -> str:
    if truth(attribute):
        value = _mapped(rt, value, attribute)
    return ops.join(rt, _list(value, "join"), text(rt, separator) if truth(separator) else "")


def length(rt: Render, value: Any = U, *_: Any) -> Any:
    value = normal(value)
    if isinstance(value, dict):
        return len(value)
    return member(rt, value, "length")


def to_list(rt: Render, value: Any = U, *_: Any) -> list[Any]:
    if type(value) is list:
        return value
    if type(value) is str:
        rt.items(len(value))
        return list(value)
    if _is_object(value):
        rt.items(3 * len(_entries(value)))
        return [{"key": key, "value": item} for key, item in _entries(value)]
    raise TemplateError("list filter: type not iterable", prefix="Template render error: ")


def random(rt: Render, value: Any = U, *_: Any) -> Any:
    _need(value)
    size = member(rt, value, "length")
    fraction = rt.random().random()
    return member(rt, value, ops.floor_divide(rt, ops.multiply(rt, fraction, size)))


def _attr_filter(wanted: bool) -> Any:
    def run(rt: Render, value: Any = U, attribute: Any = U, *_: Any) -> list[Any]:
        result = []
        rt.items(len(_list(value, "filter")))
        for item in list(value):
            _need(item)
            if truth(member(rt, item, attribute)) is wanted:
                result.append(item)
        return result

    return run


def _test_filter(wanted: bool) -> Any:
    def run(rt: Render, value: Any = U, name: Any = U, argument: Any = U, *_: Any) -> list[Any]:
        test = rt.test("truthy" if name is U else text(rt, name))
        _need(value)
        if type(value) is Safe:
            return []
        if isinstance(value, dict):
            # Only elements that are there: the list made of an object has holes for the others.
            items = [value[str(index)] for index in range(_length(rt, value)) if str(index) in value]
        else:
            items = _elements(rt, value)
        return [item for item in items if test(rt, item, argument) is wanted]

    return run


def reverse(rt: Render, value: Any = U, *_: Any) -> Any:
    if type(value) is str:
        rt.string(len(value))
        return value[::-1]
    return _elements(rt, value)[::-1]


def round_filter(rt: Render, value: Any = U, precision: Any = U, method: Any = U, *_: Any) -> Any:
    factor = js_pow(10, to_number(rt, precision if truth(precision) else 0))
    scaled = ops.multiply(rt, value, factor)
    if method == "ceil" or method == "floor":
        if type(scaled) is float and scaled == scaled and abs(scaled) != math.inf:
            scaled = number(math.ceil(scaled) if method == "ceil" else math.floor(scaled))
    else:
        scaled = js_round(scaled)
    return js_divide(scaled, factor)


def slice_filter(rt: Render, value: Any = U, count: Any = U, fill: Any = U, *_: Any) -> list[Any]:
    _need(value)
    size = member(rt, value, "length")
    part = ops.floor_divide(rt, ops.divide(rt, size, count))
    extra = ops.modulo(rt, size, count)
    columns = to_number(rt, count)
    result: list[Any] = []
    offset = index = 0
    if columns > rt.limits.items:
        rt.items(rt.limits.items + 1)
    while index < columns:
        start = ops.add(rt, offset, ops.multiply(rt, index, part))
        if index < extra:
            offset += 1
        end = ops.add(rt, offset, ops.multiply(rt, index + 1, part))
        rt.items(1)
        column = rt.call_member(value, "slice", "slice", [start, end])
        if truth(fill) and index >= extra:
            _list(column, "push").append(fill)
        result.append(column)
        index += 1
    return result


def _named(names: tuple[str, ...], args: tuple[Any, ...]) -> list[Any]:
    """Positional and keyword arguments as a macro with these names binds them."""
    values = list(args)
    keywords: dict[str, Any] = {}
    if values and type(values[-1]) is Kwargs:
        keywords = values.pop()
    values = values[: len(names)]
    return values + [keywords.get(name, U) for name in names[len(values) :]]


def sort(rt: Render, *args: Any) -> list[Any]:
    value, reverse_order, case_sensitive, attribute = _named(("value", "reverse", "case_sensitive", "attribute"), args)
    path = _path(attribute)
    down, sensitive = truth(reverse_order), truth(case_sensitive)

    def compare(left: Any, right: Any) -> int:
        rt.work(1)
        if path:
            left, right = _attribute(rt, left, path), _attribute(rt, right, path)
            if rt.env.throw_on_undefined and (left is U or right is U):
                raise type_error(f'sort: attribute "{text(rt, attribute)}" resolved to undefined')
        if not sensitive and type(left) is str and type(right) is str:
            left, right = lower(left), lower(right)
        if ops.less(rt, left, right):
            return 1 if down else -1
        return (-1 if down else 1) if ops.greater(rt, left, right) else 0

    return sorted_js(rt, _elements(rt, value), cmp_to_key(compare))


def total(rt: Render, value: Any = U, attribute: Any = U, start: Any = U, *_: Any) -> Any:
    if truth(attribute):
        value = _mapped(rt, value, attribute)
    result: Any = 0
    for item in _list(value, "reduce"):
        rt.work(1)
        result = ops.add(rt, result, item)
    return ops.add(rt, 0 if start is U else start, result)


def to_float(rt: Render, value: Any = U, other: Any = U, *_: Any) -> Any:
    result = parse_float(text(rt, value))
    return other if result != result else result


def to_int(rt: Render, *args: Any) -> Any:
    value, other, base = _named(("value", "default", "base"), args)
    radix = to_number(rt, 10 if base is U else base)
    result = parse_int(text(rt, value), radix if radix == radix else to_integer(radix))
    return other if result != result else result


def paid(function: Any) -> Any:
    """The filter, which takes work for a long text: what reads or copies it costs time and memory."""

    def filter_(rt: Render, value: Any = U, *args: Any) -> Any:
        if type(value) is str and len(value) > 4096:
            rt.work(len(value) >> 4)
        elif type(value) is Safe and len(value.val) > 4096:
            rt.work(len(value.val) >> 4)
        return function(rt, value, *args)

    return filter_


#: Filters that cost the same for a text of any length, or have a short way of their own for a short one.
_UNPAID = frozenset(
    ("capitalize", "d", "default", "first", "join", "last", "length", "lower", "random", "replace", "title", "upper")
)

_FILTERS: dict[str, Any] = {
    **TEXT_FILTERS,
    "abs": absolute,
    "batch": batch,
    "d": default,
    "default": default,
    "dictsort": dictsort,
    "first": first,
    "float": to_float,
    "groupby": groupby,
    "int": to_int,
    "join": join,
    "last": last,
    "length": length,
    "list": to_list,
    "random": random,
    "reject": _test_filter(False),
    "rejectattr": _attr_filter(False),
    "reverse": reverse,
    "round": round_filter,
    "select": _test_filter(True),
    "selectattr": _attr_filter(True),
    "slice": slice_filter,
    "sort": sort,
    "sum": total,
}

FILTERS: dict[str, Any] = {name: item if name in _UNPAID else paid(item) for name, item in _FILTERS.items()}
