"""Methods of JavaScript arrays, called through ``member``.

Each takes ``(rt, this, args)`` and changes ``this`` where JavaScript does.
"""

from __future__ import annotations

import math
from functools import cmp_to_key
from typing import TYPE_CHECKING, Any

from unjucks_engine.args import arg, int_arg, relative
from unjucks_engine.errors import TemplateError
from unjucks_engine.numbers import to_integer
from unjucks_engine.ops import join, strict_equal, text, to_number, truth, type_error
from unjucks_engine.values import Fn, JsIterator, Macro, U

if TYPE_CHECKING:
    from unjucks_engine.runtime import Render


def _callback(value: Any) -> Any:
    if type(value) not in (Fn, Macro):
        raise type_error("a callback is not a function")
    return value


def _each(rt: Render, this: list[Any], args: list[Any]) -> Any:
    """(index, value, result of the callback) for each element that was there at the start."""
    callback = _callback(arg(args, 0))
    for index in range(len(this)):
        rt.work(1)
        value = this[index] if index < len(this) else U
        yield index, value, rt.call(callback, [value, index, this])


def _grow(rt: Render, this: list[Any], count: int) -> None:
    rt.items(count)
    if len(this) + count > rt.limits.items:
        rt.items(rt.limits.items + 1)


def _push(rt: Render, this: list[Any], args: list[Any]) -> int:
    rt.change()
    _grow(rt, this, len(args))
    this.extend(args)
    return len(this)


def _unshift(rt: Render, this: list[Any], args: list[Any]) -> int:
    rt.change()
    _grow(rt, this, len(args))
    rt.work(len(this) >> 4)
    this[:0] = args
    return len(this)


def _pop(rt: Render, this: list[Any], args: list[Any]) -> Any:
    rt.change()
    return this.pop() if this else U


def _shift(rt: Render, this: list[Any], args: list[Any]) -> Any:
    rt.change()
    rt.work(len(this) >> 4)
    return this.pop(0) if this else U


def _splice_parts(rt: Render, this: list[Any], args: list[Any]) -> tuple[int, int, list[Any]]:
    size = len(this)
    start = relative(int_arg(rt, args, 0), size)
    if not args:
        return start, 0, []
    if len(args) == 1:
        return start, size - start, []
    count = int(max(0, min(int_arg(rt, args, 1), size - start)))
    rt.items(len(args))
    return start, count, args[2:]


def _splice(rt: Render, this: list[Any], args: list[Any]) -> list[Any]:
    rt.change()
    start, count, new = _splice_parts(rt, this, args)
    rt.items(count)
    _grow(rt, this, len(new))
    removed = this[start : start + count]
    this[start : start + count] = new
    return removed


def _to_spliced(rt: Render, this: list[Any], args: list[Any]) -> list[Any]:
    start, count, new = _splice_parts(rt, this, args)
    rt.items(len(this) + len(new))
    return [*this[:start], *new, *this[start + count :]]


def _compare_key(rt: Render, comparator: Any) -> Any:
    if comparator is U:
        return lambda item: text(rt, item)

    def compare(left: Any, right: Any) -> int:
        rt.work(1)
        order = to_number(rt, rt.call(comparator, [left, right]))
        return -1 if order < 0 else 1 if order > 0 else 0

    return cmp_to_key(compare)


def sorted_js(rt: Render, items: list[Any], key: Any) -> list[Any]:
    """The elements in order, undefined last."""
    rt.items(len(items))
    rt.work(len(items) * max(1, len(items).bit_length()))
    found = [item for item in items if item is not U]
    found.sort(key=key)
    return found + [U] * (len(items) - len(found))


def _comparator(args: list[Any]) -> Any:
    comparator = arg(args, 0)
    if comparator is not U and type(comparator) not in (Fn, Macro):
        raise type_error("The comparison function must be either a function or undefined")
    return comparator


def _sort(rt: Render, this: list[Any], args: list[Any]) -> list[Any]:
    rt.change()
    this[:] = sorted_js(rt, this, _compare_key(rt, _comparator(args)))
    return this


def _reverse(rt: Render, this: list[Any], args: list[Any]) -> list[Any]:
    rt.change()
    rt.work(len(this))
    this.reverse()
    return this


def _fill(rt: Render, this: list[Any], args: list[Any]) -> list[Any]:
    rt.change()
    size = len(this)
    for index in range(relative(int_arg(rt, args, 1), size), relative(int_arg(rt, args, 2, size), size)):
        this[index] = arg(args, 0)
    rt.work(size)
    return this


def _copy_within(rt: Render, this: list[Any], args: list[Any]) -> list[Any]:
    rt.change()
    size = len(this)
    target, start = relative(int_arg(rt, args, 0), size), relative(int_arg(rt, args, 1), size)
    count = min(relative(int_arg(rt, args, 2, size), size) - start, size - target)
    rt.work(size)
    if count > 0:
        this[target : target + count] = this[start : start + count]
    return this


def _concat(rt: Render, this: list[Any], args: list[Any]) -> list[Any]:
    rt.items(len(this) + sum(len(item) if type(item) is list else 1 for item in args))
    result = list(this)
    for item in args:
        if type(item) is list:
            result.extend(item)
        else:
            result.append(item)
    return result


def _flat(rt: Render, this: list[Any], args: list[Any]) -> list[Any]:
    depth = int_arg(rt, args, 0, 1)
    result: list[Any] = []
    _flatten(rt, this, min(depth, rt.limits.data_depth), result)
    return result


def _flatten(rt: Render, items: list[Any], depth: float, result: list[Any]) -> None:
    rt.items(len(items))
    for item in items:
        if type(item) is list and depth >= 1:
            _flatten(rt, item, depth - 1, result)
        else:
            result.append(item)


def same_value_zero(left: Any, right: Any) -> bool:
    """Strict equality in which NaN equals itself."""
    return strict_equal(left, right) or (
        type(left) is float and type(right) is float and left != left and right != right
    )


def _includes(rt: Render, this: list[Any], args: list[Any]) -> bool:
    rt.work(len(this))
    return any(same_value_zero(item, arg(args, 0)) for item in this[relative(int_arg(rt, args, 1), len(this)) :])


def _index_of(rt: Render, this: list[Any], args: list[Any]) -> int:
    rt.work(len(this))
    for index in range(relative(int_arg(rt, args, 1), len(this)), len(this)):
        if strict_equal(this[index], arg(args, 0)):
            return index
    return -1


def _last_index_of(rt: Render, this: list[Any], args: list[Any]) -> int:
    rt.work(len(this))
    last = len(this) - 1
    if len(args) > 1:
        position = to_integer(to_number(rt, args[1]))
        last = (
            int(min(position, last)) if position >= 0 else (-1 if position == -math.inf else len(this) + int(position))
        )
    for index in range(last, -1, -1):
        if strict_equal(this[index], arg(args, 0)):
            return index
    return -1


def _join(rt: Render, this: list[Any], args: list[Any]) -> str:
    return join(rt, this, "," if arg(args, 0) is U else text(rt, args[0]))


def _slice(rt: Render, this: list[Any], args: list[Any]) -> list[Any]:
    size = len(this)
    rt.items(size)
    return this[relative(int_arg(rt, args, 0), size) : relative(int_arg(rt, args, 1, size), size)]


def _at(rt: Render, this: list[Any], args: list[Any]) -> Any:
    index = int_arg(rt, args, 0)
    if index < 0:
        index += len(this)
    return this[int(index)] if 0 <= index < len(this) else U


def _with(rt: Render, this: list[Any], args: list[Any]) -> list[Any]:
    index = int_arg(rt, args, 0)
    if index < 0:
        index += len(this)
    if not 0 <= index < len(this):
        raise TemplateError("Invalid array length", prefix="RangeError: ")
    rt.items(len(this))
    result = list(this)
    result[int(index)] = arg(args, 1)
    return result


def _entries(rt: Render, this: list[Any], args: list[Any]) -> JsIterator:
    rt.items(len(this) * 2)
    return JsIterator([[index, item] for index, item in enumerate(this)])


def _keys(rt: Render, this: list[Any], args: list[Any]) -> JsIterator:
    rt.items(len(this))
    return JsIterator(list(range(len(this))))


def _values(rt: Render, this: list[Any], args: list[Any]) -> JsIterator:
    rt.items(len(this))
    return JsIterator(list(this))


def _map(rt: Render, this: list[Any], args: list[Any]) -> list[Any]:
    return [result for _, _, result in _each(rt, this, args)]


def _filter(rt: Render, this: list[Any], args: list[Any]) -> list[Any]:
    return [value for _, value, result in _each(rt, this, args) if truth(result)]


def _find(rt: Render, this: list[Any], args: list[Any]) -> Any:
    return next((value for _, value, result in _each(rt, this, args) if truth(result)), U)


def _find_index(rt: Render, this: list[Any], args: list[Any]) -> int:
    return next((index for index, _, result in _each(rt, this, args) if truth(result)), -1)


def _find_last(rt: Render, this: list[Any], args: list[Any]) -> Any:
    callback = _callback(arg(args, 0))
    for index in range(len(this) - 1, -1, -1):
        if truth(rt.call(callback, [this[index], index, this])):
            return this[index]
    return U


def _find_last_index(rt: Render, this: list[Any], args: list[Any]) -> int:
    callback = _callback(arg(args, 0))
    for index in range(len(this) - 1, -1, -1):
        if truth(rt.call(callback, [this[index], index, this])):
            return index
    return -1


def _some(rt: Render, this: list[Any], args: list[Any]) -> bool:
    return any(truth(result) for _, _, result in _each(rt, this, args))


def _every(rt: Render, this: list[Any], args: list[Any]) -> bool:
    return all(truth(result) for _, _, result in _each(rt, this, args))


def _for_each(rt: Render, this: list[Any], args: list[Any]) -> Any:
    for _ in _each(rt, this, args):
        pass
    return U


def _flat_map(rt: Render, this: list[Any], args: list[Any]) -> list[Any]:
    result: list[Any] = []
    for _, _, value in _each(rt, this, args):
        if type(value) is list:
            rt.items(len(value))
            result.extend(value)
        else:
            result.append(value)
    return result


def _reduce_over(rt: Render, this: list[Any], args: list[Any], order: list[int]) -> Any:
    callback = _callback(arg(args, 0))
    if len(args) > 1:
        total = args[1]
    elif not order:
        raise type_error("Reduce of empty array with no initial value")
    else:
        total = this[order.pop(0)]
    for index in order:
        rt.work(1)
        total = rt.call(callback, [total, this[index] if index < len(this) else U, index, this])
    return total


def _reduce(rt: Render, this: list[Any], args: list[Any]) -> Any:
    return _reduce_over(rt, this, args, list(range(len(this))))


def _reduce_right(rt: Render, this: list[Any], args: list[Any]) -> Any:
    return _reduce_over(rt, this, args, list(range(len(this) - 1, -1, -1)))


def _has_own(rt: Render, this: list[Any], args: list[Any]) -> bool:
    from unjucks_engine.values import is_index

    key = text(rt, arg(args, 0))
    return key == "length" or (is_index(key) and int(key) < len(this))


METHODS: dict[str, Any] = {
    "at": _at,
    "concat": _concat,
    "copyWithin": _copy_within,
    "entries": _entries,
    "every": _every,
    "fill": _fill,
    "filter": _filter,
    "find": _find,
    "findIndex": _find_index,
    "findLast": _find_last,
    "findLastIndex": _find_last_index,
    "flat": _flat,
    "flatMap": _flat_map,
    "forEach": _for_each,
    "hasOwnProperty": _has_own,
    "includes": _includes,
    "indexOf": _index_of,
    "join": _join,
    "keys": _keys,
    "lastIndexOf": _last_index_of,
    "map": _map,
    "pop": _pop,
    "propertyIsEnumerable": lambda rt, this, args: text(rt, arg(args, 0)) != "length" and _has_own(rt, this, args),
    "push": _push,
    "reduce": _reduce,
    "reduceRight": _reduce_right,
    "reverse": _reverse,
    "shift": _shift,
    "slice": _slice,
    "some": _some,
    "sort": _sort,
    "splice": _splice,
    "toLocaleString": lambda rt, this, args: _locale_join(rt, this),
    "toReversed": lambda rt, this, args: _slice(rt, this, [])[::-1],
    "toSorted": lambda rt, this, args: sorted_js(rt, this, _compare_key(rt, _comparator(args))),
    "toSpliced": _to_spliced,
    "toString": lambda rt, this, args: join(rt, this, ","),
    "unshift": _unshift,
    "valueOf": lambda rt, this, args: this,
    "values": _values,
    "with": _with,
}


def _locale_join(rt: Render, this: list[Any]) -> str:
    from unjucks_engine.methods_misc import locale

    rt.work(len(this))
    return rt.joined([",".join("" if item is None or item is U else locale(rt, item) for item in this)])
