"""The globals of Nunjucks: ``range``, ``cycler``, ``joiner``. Called by ``environment`` once per render."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unjucks_engine import ops
from unjucks_engine.args import arg
from unjucks_engine.errors import LimitExceeded
from unjucks_engine.ops import truth
from unjucks_engine.values import Fn, U

if TYPE_CHECKING:
    from unjucks_engine.runtime import Render


def js_range(rt: Render, args: list[Any]) -> list[Any]:
    """``range(stop)`` or ``range(start, stop, step)``."""
    start, stop, step = arg(args, 0), arg(args, 1), arg(args, 2)
    if stop is U:
        start, stop, step = 0, start, 1
    elif not truth(step):
        step = 1
    if type(start) is int and type(stop) is int and type(step) is int:
        rt.items(max(0, (stop - start + step - (1 if step > 0 else -1)) // step))
        return list(range(start, stop, step))
    result: list[Any] = []
    up = ops.greater(rt, step, 0)
    position = start
    while ops.less(rt, position, stop) if up else ops.greater(rt, position, stop):
        rt.items(1)
        rt.work(4)
        if len(result) >= rt.limits.items:
            raise LimitExceeded("items", "a range is too long")
        result.append(position)
        position = ops.add(rt, position, step)
    return result


def cycler(rt: Render, args: list[Any]) -> dict[str, Any]:
    """``cycler(…)``: an object whose ``next()`` walks over the arguments again and again."""
    index = -1
    this: dict[str, Any] = {"current": None}

    def reset(rt: Render, _: list[Any]) -> Any:
        nonlocal index
        index = -1
        this["current"] = None
        return U

    def following(rt: Render, _: list[Any]) -> Any:
        nonlocal index
        index += 1
        if index >= len(args):
            index = 0
        this["current"] = args[index] if args else U
        return this["current"]

    this["reset"] = Fn("reset", reset)
    this["next"] = Fn("next", following)
    return this


def joiner(rt: Render, args: list[Any]) -> Fn:
    """``joiner(sep)``: empty on the first call, the separator afterwards."""
    separator = arg(args, 0) if truth(arg(args, 0)) else ","
    started = False

    def following(rt: Render, _: list[Any]) -> Any:
        nonlocal started
        if started:
            return separator
        started = True
        return ""

    return Fn("", following)


GLOBALS: dict[str, Any] = {
    "range": Fn("range", js_range, 3),
    "cycler": Fn("cycler", cycler),
    "joiner": Fn("joiner", joiner, 1),
}
