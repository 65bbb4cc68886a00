"""The closed set of values a template can hold, and how data enters and text leaves.

``str`` (UTF-16 units: a character above U+FFFF is held as its two halves), ``int`` within ±2**53, ``float``, ``bool``, ``None``,
``list``, ``dict`` (keys in JavaScript order), and the classes below. Everything is recognised by its exact type; nothing here
has behaviour that a template could reach. Called by all run-time modules.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from unjucks_engine.errors import LimitExceeded, TemplateError
from unjucks_engine.limits import Limits

Value = Any

MAX_SAFE: Final = 9007199254740992


class Undefined(tuple[()]):
    """The type of ``U``, JavaScript's ``undefined``. One instance. An empty tuple, because that is false without a call."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "undefined"


U: Final = Undefined()


class Safe:
    """Text that is not escaped again. An object to templates, not a string: it has ``val`` and ``length``."""

    __slots__ = ("val",)

    def __init__(self, val: str) -> None:
        self.val = val


class Kwargs(dict[str, Any]):
    """The trailing object that keyword arguments become when the callee does not take keywords."""

    __slots__ = ()


class Fn:
    """A sealed callable: global function, method bound to its object, ``caller``. ``call(rt, args)`` takes the arguments."""

    __slots__ = ("call", "length", "name")

    def __init__(self, name: str, call: Callable[[Any, list[Any]], Any], length: int = 0) -> None:
        self.name = name
        self.call = call
        #: The number of parameters, as JavaScript shows it.
        self.length = length


class NotGiven:
    """The type of ``NOT_GIVEN``: the value of a macro's keyword parameter that a call leaves out. No template sees it."""

    __slots__ = ()


NOT_GIVEN: Final = NotGiven()


class Macro:
    """A macro or caller. ``fn(*positional, *keywords, caller)`` returns text; it counts its own work and depth.

    Names are those of the signature. Values that are left out at the end have defaults: ``U``, then ``NOT_GIVEN``.
    """

    __slots__ = ("arity", "fn", "keywords", "most", "name", "named", "positional")

    def __init__(
        self, name: str, positional: tuple[str, ...], keywords: tuple[str, ...], fn: Callable[..., str]
    ) -> None:
        self.name = name
        self.positional = positional
        self.arity = len(positional)
        #: As they are written; ``named`` has each name once, in the order that ``fn`` takes them.
        self.keywords = keywords
        self.named = keywords if len(keywords) < 2 else tuple(dict.fromkeys(keywords))
        #: How many values can be handed to ``fn`` as they are.
        self.most = len(positional) + (len(keywords) if len(self.named) == len(keywords) else 0)
        self.fn = fn

    def twin(self) -> Macro:
        """Another macro that does the same."""
        return Macro(self.name, self.positional, self.keywords, self.fn)


class JsIterator:
    """What ``keys()``, ``values()``, ``entries()`` and ``matchAll()`` return: can be looped over once, dumps to ``{}``."""

    __slots__ = ("items",)

    def __init__(self, items: list[Any]) -> None:
        self.items = items


_INDEX = re.compile(r"(?:0|[1-9][0-9]{0,9})\Z")
_HIGH = re.compile("[\U00010000-\U0010ffff]")
_HALF = re.compile("[\ud800-\udfff]")


def is_index(key: str) -> bool:
    """Whether JavaScript orders this key as an array index (0 … 2**32 - 2)."""
    return key.isascii() and _INDEX.match(key) is not None and int(key) < 4294967295


def units(text: str) -> str:
    """The text with characters above U+FFFF split into their two halves."""
    if text.isascii() or _HIGH.search(text) is None:
        return text
    return _HIGH.sub(_split, text)


def _split(match: re.Match[str]) -> str:
    code = ord(match[0]) - 0x10000
    return chr(0xD800 + (code >> 10)) + chr(0xDC00 + (code & 0x3FF))


def joined(text: str) -> str:
    """The text with pairs of halves joined to characters; lone halves stay."""
    if text.isascii() or _HALF.search(text) is None:
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def well_formed(text: str) -> str:
    """The text as it can be written to a file: pairs joined, lone halves replaced by U+FFFD."""
    text = joined(text)
    return text if text.isascii() else _HALF.sub("\ufffd", text)


def ordered(obj: dict[str, Any]) -> dict[str, Any]:
    """The object with its keys in JavaScript's order: array indexes ascending, then the others as they came."""
    for key in obj:
        if key[:1].isdigit() and is_index(key):
            break
    else:
        return obj
    indexes = sorted((key for key in obj if is_index(key)), key=int)
    return {**{key: obj[key] for key in indexes}, **{key: value for key, value in obj.items() if not is_index(key)}}


def number(value: float) -> int | float:
    """A number in its one form: ``int`` when exact and within ±2**53, else ``float`` (−0.0 stays a float)."""
    if type(value) is int:
        return value if -MAX_SAFE <= value <= MAX_SAFE else _big(value)
    if value % 1:
        return value
    if value == value and -MAX_SAFE <= value <= MAX_SAFE and value == int(value) and (value or str(value)[0] != "-"):
        return int(value)
    return value


def _big(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


#: Keys that were seen to be ASCII text and no array indexes. Only ever grows, to a bound; saves looking at them again.
_KNOWN: set[Any] = set()


class NeedCopy(BaseException):
    """The data was used without a copy, and now a copy is needed: the render starts again with one."""


def in_order(obj: dict[str, Any]) -> dict[str, Any]:
    """An object that is about to be walked over; data that was not copied may have its keys in another order."""
    for key in obj:
        if "0" <= key[:1] <= "9":
            return ordered(obj)
    return obj


def plain(data: dict[str, Any], limits: Limits) -> bool:
    """Whether data can be used as it is, without a copy: a quick look that may say no too often.

    Needs ``orjson``, whose writer refuses what is not JSON. Everything that a copy would change (characters above U+FFFF, whole
    floats, large numbers) is looked for in the written text; the order of keys is checked when an object is walked over.
    """
    if _dumps is None:
        return False
    try:
        text = _dumps(data, None, _STRICT)
    except (TypeError, RecursionError):
        return False
    if len(text) > limits.data_items or _WHOLE.search(text) is not None:
        return False
    return bool(text.isascii()) or not text.translate(None, _UP_TO_FFFF)


#: The end of a float without a fraction.
_WHOLE = re.compile(rb"\.0[,}\]]")
#: Bytes of UTF-8 that do not start a character above U+FFFF.
_UP_TO_FFFF = bytes(range(0xF0))

try:
    import orjson

    _dumps: Any = orjson.dumps
    _STRICT = (
        orjson.OPT_STRICT_INTEGER
        | orjson.OPT_PASSTHROUGH_SUBCLASS
        | orjson.OPT_PASSTHROUGH_DATACLASS
        | orjson.OPT_PASSTHROUGH_DATETIME
    )
except ImportError:  # only a faster way
    _dumps = None
    _STRICT = 0


class Importer:
    """Copies data of the host into values: JSON kinds only, by exact type, with a limit on depth and size."""

    __slots__ = ("_depth", "_left", "_limits")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._left = limits.data_items
        self._depth = 0

    def value(self, value: Any) -> Value:
        """A copy that a template may change. Raises ``TemplateError`` for anything that is not JSON."""
        kind = type(value)
        if kind is str:
            return value if value.isascii() else units(value)
        if kind is bool or value is None:
            return value
        if kind is int:
            return value if -MAX_SAFE <= value <= MAX_SAFE else _big(value)
        if kind is float:
            return number(value)
        if kind is dict:
            return self.object(value)
        if kind is list or kind is tuple:
            return self._list(value)
        if value is U:
            return value
        raise TemplateError(f"the data holds a {kind.__name__}; only JSON values are allowed")

    def object(self, value: dict[Any, Any]) -> dict[str, Any]:
        """A copy of an object, keys in JavaScript order."""
        if _KNOWN.issuperset(value):
            for item in value.values():
                kind = type(item)
                if kind is str:
                    if not item.isascii():
                        break
                elif kind is int:
                    if not -MAX_SAFE <= item <= MAX_SAFE:
                        break
                elif kind is float:
                    if not item % 1:
                        break
                elif kind is not bool and item is not None:
                    break
            else:
                self._left -= len(value) + 1
                if self._left < 0:
                    raise LimitExceeded("data_items")
                return dict(value)
        self._enter(len(value))
        result: dict[str, Any] = {}
        odd = False
        for key, item in value.items():
            if type(key) is not str:
                raise TemplateError(f"the data holds an object with a key of type {type(key).__name__}; keys are text")
            if not key.isascii():
                key = units(key)
            elif "0" <= key[:1] <= "9":
                odd = True
            kind = type(item)
            if kind is str:
                result[key] = item if item.isascii() else units(item)
            elif kind is bool:
                result[key] = item
            else:
                result[key] = self.value(item)
        self._depth -= 1
        if odd:
            return ordered(result)
        if len(_KNOWN) < 10_000:
            _KNOWN.update(key for key in result if key.isascii())
        return result

    def _list(self, value: list[Any] | tuple[Any, ...]) -> list[Any]:
        self._enter(len(value))
        convert, convert_object = self.value, self.object
        result = [
            convert_object(item)
            if type(item) is dict
            else item
            if type(item) is str and item.isascii()
            else convert(item)
            for item in value
        ]
        self._depth -= 1
        return result

    def _enter(self, size: int) -> None:
        self._left -= size + 1
        if self._left < 0:
            raise LimitExceeded("data_items")
        self._depth += 1
        if self._depth > self._limits.data_depth:
            raise LimitExceeded("data_depth", "the data is nested too deeply")
