"""The optional Jinja mode of Nunjucks: Python-like methods of lists and objects, and slices. Called by ``member``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unjucks_engine.args import arg, int_arg
from unjucks_engine.errors import TemplateError
from unjucks_engine.ops import add, less, strict_equal, text, to_number, truth
from unjucks_engine.values import U, in_order, ordered

if TYPE_CHECKING:
    from unjucks_engine.runtime import Render


def _error(name: str) -> TemplateError:
    return TemplateError(name, prefix="Error: ")


def _pop(rt: Render, this: list[Any], args: list[Any]) -> Any:
    rt.change()
    index = arg(args, 0)
    if index is U:
        return this.pop() if this else U
    position = to_number(rt, index)
    if position >= len(this) or position < 0:
        raise _error("KeyError")
    start = int(int_arg(rt, args, 0))
    removed = this[start : start + 1]
    del this[start : start + 1]
    return removed


def _append(rt: Render, this: list[Any], args: list[Any]) -> int:
    rt.change()
    rt.items(1)
    this.append(arg(args, 0))
    return len(this)


def _find(rt: Render, this: list[Any], args: list[Any]) -> int:
    rt.work(len(this))
    return next((index for index, item in enumerate(this) if strict_equal(item, arg(args, 0))), -1)


def _remove(rt: Render, this: list[Any], args: list[Any]) -> list[Any]:
    rt.change()
    index = _find(rt, this, args)
    if index < 0:
        raise _error("ValueError")
    return [this.pop(index)]


def _count(rt: Render, this: list[Any], args: list[Any]) -> int:
    rt.work(len(this))
    return sum(strict_equal(item, arg(args, 0)) for item in this)


def _index(rt: Render, this: list[Any], args: list[Any]) -> int:
    index = _find(rt, this, args)
    if index < 0:
        raise _error("ValueError")
    return index


def _insert(rt: Render, this: list[Any], args: list[Any]) -> list[Any]:
    rt.change()
    from unjucks_engine.args import relative

    rt.items(1)
    position = relative(int_arg(rt, args, 0), len(this))
    this.insert(position, arg(args, 1))
    return []


def _items(rt: Render, this: dict[str, Any], args: list[Any]) -> list[Any]:
    rt.items(3 * len(this))
    return [[key, value] for key, value in in_order(this).items()]


def _values(rt: Render, this: dict[str, Any], args: list[Any]) -> list[Any]:
    rt.items(len(this))
    return list(in_order(this).values())


def _keys(rt: Render, this: dict[str, Any], args: list[Any]) -> list[Any]:
    rt.items(len(this))
    return list(in_order(this))


def _get(rt: Render, this: dict[str, Any], args: list[Any]) -> Any:
    value = this.get(text(rt, arg(args, 0)), U)
    return arg(args, 1) if value is U else value


def _has_key(rt: Render, this: dict[str, Any], args: list[Any]) -> bool:
    return text(rt, arg(args, 0)) in this


def _pop_key(rt: Render, this: dict[str, Any], args: list[Any]) -> Any:
    rt.change()
    key = text(rt, arg(args, 0))
    value = this.get(key, U)
    if value is not U:
        del this[key]
        return value
    if arg(args, 1) is U:
        raise _error("KeyError")
    return args[1]


def _pop_item(rt: Render, this: dict[str, Any], args: list[Any]) -> list[Any]:
    rt.change()
    if not this:
        raise _error("KeyError")
    key = next(iter(this))
    return [key, this.pop(key)]


def _store(rt: Render, this: dict[str, Any], new: dict[str, Any]) -> None:
    rt.change()
    rt.items(len(new) + (len(this) >> 4))
    this.update(new)
    result = ordered(this)
    if result is not this:
        result = dict(result)
        this.clear()
        this.update(result)


def _set_default(rt: Render, this: dict[str, Any], args: list[Any]) -> Any:
    rt.change()
    key = text(rt, arg(args, 0))
    if key not in this:
        _store(rt, this, {key: None if arg(args, 1) is U else args[1]})
    return this[key]


def _update(rt: Render, this: dict[str, Any], args: list[Any]) -> None:
    other = arg(args, 0)
    if isinstance(other, dict):
        _store(rt, this, dict(other))


ARRAY: dict[str, Any] = {
    "append": _append,
    "count": _count,
    "find": _find,
    "index": _index,
    "insert": _insert,
    "pop": _pop,
    "remove": _remove,
}
OBJECT: dict[str, Any] = {
    "get": _get,
    "has_key": _has_key,
    "items": _items,
    "iteritems": _items,
    "iterkeys": _keys,
    "itervalues": _values,
    "keys": _keys,
    "pop": _pop_key,
    "popitem": _pop_item,
    "setdefault": _set_default,
    "update": _update,
    "values": _values,
}


def slice_of(rt: Render, target: Any, start: Any, stop: Any, step: Any) -> list[Any]:
    """``target[start:stop:step]``: a list, also for texts."""
    from unjucks_engine.member import member

    if not truth(target):
        target = []
    size = member(rt, target, "length")
    down = less(rt, step, 0)
    if start is None:
        start = add(rt, to_number(rt, size), -1) if down else 0
    if stop is None:
        stop = -1 if down else size
    elif less(rt, stop, 0):
        stop = add(rt, stop, size)
    if less(rt, start, 0):
        start = add(rt, start, size)
    result: list[Any] = []
    position = start
    up = less(rt, 0, step)
    while not (less(rt, position, 0) or less(rt, size, position)):
        if (up and not less(rt, position, stop)) or (down and not less(rt, stop, position)):
            break
        rt.items(1)
        result.append(member(rt, target, position))
        position = add(rt, position, step)
    return result
