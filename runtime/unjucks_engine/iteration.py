"""What loops walk over: the values of a list, text, iterator or object, with the length that ``loop`` reports.

A half of ``Render``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from unjucks_engine.errors import LimitExceeded
from unjucks_engine.member import member
from unjucks_engine.ops import to_number, type_error, type_of
from unjucks_engine.values import Fn, JsIterator, Kwargs, Macro, Safe, U, in_order, joined, units

if TYPE_CHECKING:
    from unjucks_engine.limits import Limits
    from unjucks_engine.runtime import Render


class Iteration:
    """The part of a render that prepares loops."""

    __slots__ = ()

    if TYPE_CHECKING:
        limits: Limits

        def work(self, steps: int) -> None: ...
        def items(self, count: int) -> None: ...

    def sequence(self, value: Any, steps: int) -> tuple[Any, Any]:
        """(what a loop with one name walks over, the length it reports) for a true value that is not a list.

        A round takes ``steps`` from the work budget.
        """
        items, length = self._sequence(value)
        self.work(len(items) * steps)
        return items, length

    def _sequence(self, value: Any) -> tuple[Any, Any]:
        kind = type(value)
        if kind is str:
            return value, len(value)
        if kind is Safe:
            items = [units(char) for char in joined(value.val)]
            return items, len(items)
        if kind is JsIterator:
            items, value.items = value.items, []
            return items, len(items)
        if (kind is dict or kind is Kwargs) and "length" in value:
            return self._array_like(value)
        if kind is Fn:
            return [U] * value.length, value.length
        if kind is Macro:
            return (), 0
        type_of(value)  # only to refuse what is no value
        return (), U

    def _array_like(self, value: dict[str, Any]) -> tuple[list[Any], Any]:
        length = value["length"]
        count = to_number(cast("Render", self), length)
        size = 0 if count != count or count <= 0 else count
        if size > self.limits.items:
            raise LimitExceeded("items")
        self.items(int(size))
        total = int(size) + (size != int(size))
        return [value.get(str(index), U) for index in range(total)], length

    def rows(self, value: Any, width: int, each: bool) -> tuple[Any, Any, bool]:
        """(rows of ``width`` values, reported length, whether they are key and value of an object) for several names."""
        kind = type(value)
        if kind is JsIterator or kind is Safe:
            value, _ = self._sequence(value)
            kind = list
        if kind is list:
            return (_row(cast("Render", self), item, width) for item in _live(value)), len(value), False
        if kind is str:
            pairs: list[tuple[str, Any]] = [(str(index), char) for index, char in enumerate(value)]
        elif kind is dict or kind is Kwargs:
            pairs = list(in_order(value).items())
        else:
            type_of(value)
            return (), 0 if not each else U, True
        self.items(len(pairs))
        if width == 2:
            return pairs, len(pairs), True
        rest = (U,) * (width - 2)
        return [(*pair, *rest) for pair in pairs], len(pairs), True

    def async_rows(self, value: Any, width: int, each: bool) -> tuple[Any, Any, bool]:
        """As ``rows``, for ``asyncEach`` and ``asyncAll``: objects and texts need two names."""
        if type(value) is JsIterator or type(value) is Safe:
            value, _ = self._sequence(value)
        if type(value) is list:
            if width == 1:
                self.items(len(value))
                return [(item,) for item in value], len(value), False
            return self.rows(value, width, each)
        rows, length, _ = self.rows(value, 2, each)
        if width != 2 and length:
            return _one_round(rows, width), 1, True
        return rows, 0 if length is U else length, True


def _live(items: list[Any]) -> Any:
    return iter(items)


def _one_round(rows: Any, width: int) -> Any:
    """With the wrong number of names the first round runs and the step to the next one fails."""
    key, value = next(iter(rows))
    yield (key, value, *([U] * width))[:width]
    raise type_error("next is not a function")


def _row(rt: Render, item: Any, width: int) -> list[Any]:
    if item is None or item is U:
        raise type_error("Cannot read properties of null or undefined")
    if type(item) is list and len(item) >= width:
        return item
    return [member(rt, item, index) for index in range(width)]
