"""Arguments of JavaScript methods: missing ones are undefined, conversions as the language does them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from unjucks_engine.numbers import to_integer
from unjucks_engine.ops import text, to_number
from unjucks_engine.values import U

if TYPE_CHECKING:
    from unjucks_engine.runtime import Render


def arg(args: list[Any], index: int) -> Any:
    """The argument, or undefined."""
    return args[index] if index < len(args) else U


def text_arg(rt: Render, args: list[Any], index: int) -> str:
    """The argument as text."""
    return text(rt, args[index] if index < len(args) else U)


def int_arg(rt: Render, args: list[Any], index: int, default: int | float = 0) -> int | float:
    """The argument as an integer or infinity; ``default`` when it is undefined."""
    value = args[index] if index < len(args) else U
    if type(value) is int:
        return value
    if value is U:
        return default
    return to_integer(to_number(rt, value))


def relative(position: int | float, size: int) -> int:
    """A position that counts from the end when negative, kept within 0 … size."""
    if position < 0:
        return 0 if position == -math.inf else max(0, size + int(position))
    return size if position >= size else int(position)


def clamp(position: int | float, size: int) -> int:
    """A position kept within 0 … size."""
    if position <= 0:
        return 0
    return size if position >= size else int(position)
