"""Filters of Nunjucks that work on text. Each takes ``(rt, value, …)``; missing arguments are undefined, more are ignored."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from unjucks_engine import ops
from unjucks_engine.errors import TemplateError
from unjucks_engine.jsonout import stringify
from unjucks_engine.jsregex import RegExp
from unjucks_engine.lexer import JS_SPACE
from unjucks_engine.member import member
from unjucks_engine.methods_string import METHODS as STRING
from unjucks_engine.methods_string import lower, upper
from unjucks_engine.ops import text, to_number, truth, type_error
from unjucks_engine.regexp_ops import regex_replace
from unjucks_engine.values import Kwargs, Safe, U, in_order, joined

if TYPE_CHECKING:
    from unjucks_engine.runtime import Render

_SPACES = f"[{re.escape(JS_SPACE)}]"
_TAGS = re.compile(r"</?[a-zA-Z][a-zA-Z0-9]*(?![a-zA-Z0-9_])[^>]*>|<!--.*?-->", re.DOTALL)
_RUN = re.compile(f"{_SPACES}+")
_WORDS = re.compile("[A-Za-z0-9_]+")


def normal(value: Any) -> Any:
    """null, undefined and false become the empty text."""
    return "" if value is None or value is U or value is False else value


def string(value: Any, method: str) -> str:
    """The text of a string or safe string; anything else has no such method."""
    if type(value) is str:
        return value
    if type(value) is Safe:
        return value.val
    raise type_error(f"value.{method} is not a function")


def like(source: Any, result: str) -> Any:
    """The result, safe if the source was."""
    return Safe(result) if type(source) is Safe else result


def capital(value: str) -> str:
    """First unit in upper case, the rest in lower case."""
    value = lower(value)
    return upper(value[:1]) + value[1:]


def capitalize(rt: Render, value: Any = U, *_: Any) -> Any:
    if type(value) is str and value.isascii():
        if len(value) > 4096:
            rt.work(len(value) >> 4)
        rt.string(len(value))
        return value.capitalize()
    value = normal(value)
    return like(value, capital(string(value, "toLowerCase")))


def center(rt: Render, value: Any = U, width: Any = U, *_: Any) -> Any:
    value = normal(value)
    if not truth(width):
        width = 80
    size = member(rt, value, "length")
    if ops.greater_equal(rt, size, width):
        return value
    spaces = ops.subtract(rt, width, size)
    if spaces != spaces:
        if value is None:
            raise type_error("Cannot read properties of null")
        return like(value, text(rt, value))
    _check(rt, spaces)
    left = _ceil(spaces / 2 - spaces % 2)
    return like(value, " " * left + text(rt, value) + " " * _ceil(spaces / 2))


def _check(rt: Render, size: int | float) -> None:
    rt.string(rt.limits.string + 1 if size > rt.limits.string else int(size))


def _ceil(value: float) -> int:
    return max(0, -int(-value // 1))


def escape(rt: Render, value: Any = U, *_: Any) -> Safe:
    return value if type(value) is Safe else force_escape(rt, value)


def force_escape(rt: Render, value: Any = U, *_: Any) -> Safe:
    return Safe(ops.escape(rt, "" if value is None or value is U else text(rt, value)))


def safe(rt: Render, value: Any = U, *_: Any) -> Safe:
    return value if type(value) is Safe else Safe("" if value is None or value is U else text(rt, value))


def dump(rt: Render, value: Any = U, spaces: Any = U, *_: Any) -> Any:
    return stringify(rt, value, spaces)


def indent(rt: Render, value: Any = U, width: Any = U, first: Any = U, *_: Any) -> Any:
    value = normal(value)
    if value == "" and type(value) is str:
        return ""
    count = to_number(rt, width if truth(width) else 4)
    source = string(value, "split")
    lines = source.split("\n")
    if count > 0:
        _check(rt, count * len(lines) + len(source))
    pad = " " * _ceil(count) if count == count else ""
    result = f"\n{pad}".join(lines)
    return like(value, pad + result if truth(first) else result)


def lower_filter(rt: Render, value: Any = U, *_: Any) -> str:
    if type(value) is str and value.isascii():
        if len(value) > 4096:
            rt.work(len(value) >> 4)
        rt.string(len(value))
        return value.lower()
    return lower(string(normal(value), "toLowerCase"))


def upper_filter(rt: Render, value: Any = U, *_: Any) -> str:
    if type(value) is str and value.isascii():
        if len(value) > 4096:
            rt.work(len(value) >> 4)
        rt.string(len(value))
        return value.upper()
    result = string(normal(value), "toUpperCase")
    rt.string(len(result))
    return upper(result)


def nl2br(rt: Render, value: Any = U, *_: Any) -> Any:
    if value is None or value is U:
        return ""
    source = string(value, "replace")
    rt.string(len(source) + 7 * source.count("\n"))
    return like(value, re.sub("\r\n|\n", "<br />\n", source))


def replace(rt: Render, value: Any = U, old: Any = U, new: Any = U, most: Any = U, *_: Any) -> Any:
    if type(value) is str and type(old) is str and type(new) is str and most is U and old and len(new) <= len(old):
        if len(value) > 256:
            rt.work(len(value) >> 4)
            rt.string(len(value))
        return value.replace(old, new)
    if type(old) is RegExp:
        source = string(value, "replace")
        return regex_replace(rt, old, source, new if ops.type_of(new) == "function" else text(rt, new))
    if most is U:
        most = -1
    if type(old) in (int, float):
        old = text(rt, old)
    elif type(old) is not str:
        return value
    original = value
    if type(value) in (int, float):
        value = text(rt, value)
    if type(value) is not str and type(value) is not Safe:
        return value
    source = string(value, "replace")
    rt.work(len(source) >> 4)
    if old == "":
        # `new` is joined as an operand at the ends, and as a separator in between.
        between = "," if new is U else text(rt, new)
        edge = text(rt, new)
        rt.string(len(between) * len(source) + len(source) + 2 * len(edge))
        return like(value, edge + between.join(source) + edge)
    count = source.count(old)
    if ops.strict_equal(most, 0) or not count:
        return value
    if not ops.strict_equal(most, -1):
        bound = to_number(rt, most)
        count = 0 if not bound > 0 else min(count, _ceil(bound))
        if not count:
            return like(original, source)
    filler = text(rt, new)
    rt.string(len(source) + count * max(0, len(filler) - len(old)))
    return like(original, source.replace(old, filler, count))


def string_filter(rt: Render, value: Any = U, *_: Any) -> Any:
    if value is None or value is U:
        raise type_error("Cannot read properties of undefined (reading 'toString')")
    return value if type(value) is Safe else text(rt, value)


def striptags(rt: Render, value: Any = U, keep: Any = U, *_: Any) -> Any:
    value = normal(value)
    source = string(value, "replace")
    # The pattern is linear except for many opened comments; those are paid for.
    rt.work(source.count("<") * (len(source) >> 8))
    result = _TAGS.sub("", source).strip(JS_SPACE)
    if truth(keep):
        result = re.sub("(?m)(?<![^\n\r\u2028\u2029]) +| +(?![^\n\r\u2028\u2029])", "", result)
        result = re.sub(" +", " ", result).replace("\r\n", "\n")
        result = re.sub("\n\n\n+", "\n\n", result)
    else:
        result = _RUN.sub(" ", result)
    return like(value, result)


_CAPITALIZE = str.capitalize


def title(rt: Render, value: Any = U, *_: Any) -> Any:
    if type(value) is str and value.isascii() and len(value) < 256:
        if " " not in value:
            return value.capitalize()
        return " ".join(map(_CAPITALIZE, value.split(" ")))
    value = normal(value)
    source = string(value, "split")
    rt.work(len(source) >> 4)
    words = source.split(" ")
    rt.items(len(words))
    if type(value) is str and value.isascii():
        return " ".join([word.capitalize() for word in words])
    return like(value, " ".join(capital(word) for word in words))


def trim(rt: Render, value: Any = U, *_: Any) -> Any:
    return like(value, string(value, "replace").strip(JS_SPACE))


def truncate(rt: Render, value: Any = U, length: Any = U, kill: Any = U, end: Any = U, *_: Any) -> Any:
    original = value
    value = normal(value)
    if not truth(length):
        length = 255
    size = member(rt, value, "length")
    if ops.less_equal(rt, size, length):
        return value
    source = string(value, "substring" if truth(kill) else "lastIndexOf")
    if truth(kill):
        cut = STRING["substring"](rt, source, [0, length])
    else:
        position = STRING["lastIndexOf"](rt, source, [" ", length])
        cut = STRING["substring"](rt, source, [0, length if position == -1 else position])
    tail = "..." if end is U or end is None else text(rt, end)
    return like(original, rt.joined([cut, tail]))


def _component(rt: Render, value: Any) -> str:
    from urllib.parse import quote as url_quote

    source = joined(text(rt, value))
    rt.string(9 * len(source))
    try:
        return url_quote(source, safe="-_.!~*'()")
    except UnicodeEncodeError:
        raise TemplateError("URI malformed", prefix="URIError: ") from None


def urlencode(rt: Render, value: Any = U, *_: Any) -> str:
    if type(value) is str:
        return _component(rt, value)
    if type(value) is list:
        pairs = [_pair(rt, item) for item in value]
    elif isinstance(value, dict):
        pairs = list(in_order(value).items())
    elif type(value) is Safe:
        pairs = [("val", value.val), ("length", len(value.val))]
    else:
        pairs = []
    rt.items(len(pairs))
    return rt.joined(["&".join(f"{_component(rt, key)}={_component(rt, item)}" for key, item in pairs)])


def _pair(rt: Render, item: Any) -> tuple[Any, Any]:
    if item is None or item is U:
        raise type_error("Cannot read properties of undefined")
    return member(rt, item, 0), member(rt, item, 1)


_PUNCTUATION = re.compile("(?:\\(|<|&lt;)?([^\n\r\u2028\u2029]*?)(?:\\.|,|\\)|\n|&gt;)?\\Z")
_MAIL = re.compile(r"[A-Za-z0-9_.!#$%&'*+\-/=?^`{|}~]+@[A-Za-z0-9\-]+(?:\.[A-Za-z0-9\-]+)+\Z")
_DOMAIN = re.compile(r"\.(?:org|net|com)(?::|/|\Z)")


def urlize(rt: Render, value: Any = U, length: Any = U, nofollow: Any = U, *_: Any) -> str:
    source = string(value, "split")
    shortest = to_number(rt, length)
    follow = ' rel="nofollow"' if nofollow is True else ""
    words = [word for word in re.split(f"({_SPACES}+)", source) if word]
    rt.items(len(words))
    parts: list[str] = []
    for word in words:
        match = _PUNCTUATION.match(word)
        url = match[1] if match else word
        short = url if shortest != shortest else STRING["substr"](rt, url, [0, shortest])
        line = re.match("https?://[^\n\r\u2028\u2029]*\\Z", url)
        if line:
            parts.append(f'<a href="{url}"{follow}>{short}</a>')
        elif url.startswith("www."):
            parts.append(f'<a href="http://{url}"{follow}>{short}</a>')
        elif _MAIL.match(url):
            parts.append(f'<a href="mailto:{url}">{url}</a>')
        elif _DOMAIN.search(url):
            parts.append(f'<a href="http://{url}"{follow}>{short}</a>')
        else:
            parts.append(word)
    return rt.joined(parts)


def wordcount(rt: Render, value: Any = U, *_: Any) -> Any:
    value = normal(value)
    if not truth(value):
        return None
    source = string(value, "match")
    rt.work(len(source) >> 2)
    return sum(1 for _ in _WORDS.finditer(source)) or None


TEXT_FILTERS: dict[str, Any] = {
    "capitalize": capitalize,
    "center": center,
    "dump": dump,
    "e": escape,
    "escape": escape,
    "forceescape": force_escape,
    "indent": indent,
    "lower": lower_filter,
    "nl2br": nl2br,
    "replace": replace,
    "safe": safe,
    "string": string_filter,
    "striptags": striptags,
    "title": title,
    "trim": trim,
    "truncate": truncate,
    "upper": upper_filter,
    "urlencode": urlencode,
    "urlize": urlize,
    "wordcount": wordcount,
}

__all__ = ["TEXT_FILTERS", "Kwargs"]
