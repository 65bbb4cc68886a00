"""Member access: ``target.key`` over the closed kinds, by exact type, own keys and the method tables only.

There is no other way from a template to a property. Called by generated code and the runtime.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from unjucks_engine import compat
from unjucks_engine.jsregex import RegExp
from unjucks_engine.methods_array import METHODS as ARRAY
from unjucks_engine.methods_misc import BOOLEAN, FUNCTION, ITERATOR, NUMBER, OBJECT, REGEXP
from unjucks_engine.methods_string import METHODS as STRING
from unjucks_engine.ops import text, type_error
from unjucks_engine.values import Fn, JsIterator, Kwargs, Macro, NeedCopy, Safe, U, is_index

if TYPE_CHECKING:
    from unjucks_engine.runtime import Render

Method = Callable[["Render", Any, list[Any]], Any]


def _of_safe(method: Method) -> Method:
    """A method of strings, for safe strings."""
    return lambda rt, this, args: method(rt, this.val, args)


_SAFE_METHODS: dict[str, Method] = {name: _of_safe(method) for name, method in STRING.items()}
_TABLES: dict[type, dict[str, Method]] = {
    str: STRING,
    list: ARRAY,
    dict: OBJECT,
    Kwargs: OBJECT,
    int: NUMBER,
    float: NUMBER,
    bool: BOOLEAN,
    Safe: _SAFE_METHODS,
    RegExp: REGEXP,
    JsIterator: ITERATOR,
    Fn: FUNCTION,
    Macro: FUNCTION,
}


def member(rt: Render, target: Any, key: Any) -> Any:
    """``target[key]``; undefined on undefined and null, and for everything that is not there."""
    kind = type(target)
    if kind is dict or kind is Kwargs:
        if type(key) is not str:
            key = text(rt, key)
        if rt.compat:
            method = compat.OBJECT.get(key)
            if method is not None:
                return _bound(key, method, target)
        value = target.get(key, U)
        if value is not U or key in target:
            return value
    elif kind is list:
        if type(key) is int:
            return target[key] if 0 <= key < len(target) else U
        if type(key) is not str:
            key = text(rt, key)
        if key == "length":
            return len(target)
        if rt.compat:
            method = compat.ARRAY.get(key)
            if method is not None:
                return _bound(key, method, target)
        if is_index(key):
            index = int(key)
            return target[index] if index < len(target) else U
        if rt.matches:
            found = rt.matches.get(id(target))
            if found is not None and key in found[1]:
                return found[1][key]
    elif kind is str:
        if type(key) is int:
            return target[key] if 0 <= key < len(target) else U
        if type(key) is not str:
            key = text(rt, key)
        if key == "length":
            return len(target)
        if is_index(key):
            index = int(key)
            return target[index] if index < len(target) else U
    elif target is None or target is U:
        return U
    else:
        if type(key) is not str:
            key = text(rt, key)
        if kind is Safe:
            if key == "length":
                return len(target.val)
            if key == "val":
                return target.val
        elif kind is RegExp:
            value = _regexp(target, key)
            if value is not U:
                return value
        elif kind is Macro or kind is Fn:
            if key == "length":
                return target.length if kind is Fn else 0
            if key == "name":
                return target.name if kind is Fn else "macro"
            if key == "arguments" or key == "caller":
                raise type_error("'caller', 'callee', and 'arguments' properties may not be accessed")
    table = _TABLES.get(kind)
    if table is None:
        raise NeedCopy
    method = table.get(key)
    return U if method is None else _bound(key, method, target)


def _regexp(target: RegExp, key: str) -> Any:
    if key == "source":
        return target.source
    if key == "flags":
        return target.flags
    if key == "lastIndex":
        return target.last_index
    flag = {"global": "g", "ignoreCase": "i", "multiline": "m", "sticky": "y", "unicode": "u", "dotAll": "s"}.get(key)
    return U if flag is None else flag in target.flags


def _bound(name: str, method: Method, target: Any) -> Fn:
    return Fn("", lambda rt, args: method(rt, target, args))


def call_method(rt: Render, target: Any, key: Any) -> Any:
    """The built-in method that ``target.key(…)`` calls, or None if it is something else (own data, or nothing)."""
    if type(key) is not str:
        return None
    kind = type(target)
    table = _TABLES.get(kind)
    if table is None:
        return None
    if kind is dict or kind is Kwargs:
        if rt.compat and key in compat.OBJECT:
            return compat.OBJECT[key]
        if key in target:
            return None
    elif kind is list and rt.compat and key in compat.ARRAY:
        return compat.ARRAY[key]
    return table.get(key)
