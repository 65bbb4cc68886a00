"""``JSON.stringify`` over the closed values. Called by the filter ``dump`` and by whoever writes JSON as JavaScript does."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from unjucks_engine.errors import LimitExceeded
from unjucks_engine.jsregex import RegExp
from unjucks_engine.numbers import number_text, to_integer
from unjucks_engine.ops import to_number, type_error
from unjucks_engine.values import Fn, JsIterator, Kwargs, Macro, NeedCopy, Safe, U, in_order, joined, units

if TYPE_CHECKING:
    from unjucks_engine.runtime import Render

_SPECIAL = re.compile('["\\\\\x00-\x1f]')
_NAMED = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_LONE = re.compile("[\ud800-\udfff]")


def _char(match: re.Match[str]) -> str:
    return _NAMED.get(match[0]) or f"\\u{ord(match[0]):04x}"


def quote(value: str) -> str:
    """A JSON string; lone halves of surrogate pairs are escaped."""
    if _SPECIAL.search(value):
        value = _SPECIAL.sub(_char, value)
    if not value.isascii():
        value = units(_LONE.sub(_char, joined(value)))
    return f'"{value}"'


def stringify(rt: Render, value: Any, spaces: Any) -> Any:
    """The JSON text, or undefined for what has none."""
    gap = ""
    if type(spaces) in (int, float):
        gap = " " * int(min(10, max(0, to_integer(to_number(rt, spaces)))))
    elif type(spaces) is str:
        gap = spaces[:10]
    parts: list[str] = []
    if not _write(rt, value, gap, "\n" if gap else "", parts, []):
        return U
    return rt.joined(parts)


def _write(rt: Render, value: Any, gap: str, indent: str, out: list[str], active: list[int]) -> bool:
    """Appends the JSON of a value; False if it has none."""
    kind = type(value)
    rt.work(4)
    if kind is str:
        out.append(quote(value))
    elif kind is bool:
        out.append("true" if value else "false")
    elif value is None:
        out.append("null")
    elif kind is int:
        out.append(str(value))
    elif kind is float:
        out.append(number_text(value) if value == value and abs(value) != float("inf") else "null")
    elif kind is list:
        _write_list(rt, value, gap, indent, out, active)
    elif kind is dict or kind is Kwargs:
        _write_object(rt, value, gap, indent, out, active)
    elif kind is Safe:
        _write_object(rt, {"val": value.val, "length": len(value.val)}, gap, indent, out, active)
    elif value is U or kind is Fn or kind is Macro:
        return False
    else:
        if kind is not JsIterator and kind is not RegExp:
            raise NeedCopy
        out.append("{}")
    return True


def _enter(rt: Render, value: Any, active: list[int]) -> None:
    if id(value) in active:
        raise type_error("Converting circular structure to JSON")
    active.append(id(value))
    if len(active) > rt.limits.data_depth:
        raise LimitExceeded("data_depth")


def _write_list(rt: Render, value: list[Any], gap: str, indent: str, out: list[str], active: list[int]) -> None:
    if not value:
        out.append("[]")
        return
    _enter(rt, value, active)
    inner = indent + gap
    rt.string(len(inner) * len(value))
    separator = "[" + inner
    for item in value:
        out.append(separator)
        if not _write(rt, item, gap, inner, out, active):
            out.append("null")
        separator = "," + inner
    out.append(indent + "]")
    active.pop()


def _write_object(rt: Render, value: dict[str, Any], gap: str, indent: str, out: list[str], active: list[int]) -> None:
    _enter(rt, value, active)
    inner = indent + gap
    rt.string(len(inner) * len(value))
    separator = "{" + inner
    colon = ": " if gap else ":"
    for key, item in in_order(value).items():
        mark = len(out)
        out.append(f"{separator}{quote(key)}{colon}")
        if _write(rt, item, gap, inner, out, active):
            separator = "," + inner
        else:
            del out[mark:]
    out.append(indent + "}" if separator[0] == "," else "{}")
    active.pop()
