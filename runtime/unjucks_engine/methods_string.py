"""Methods of JavaScript strings. Each takes ``(rt, this, args)``; texts are UTF-16 units. Called through ``member`` only."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from unjucks_engine.args import arg, clamp, int_arg, relative, text_arg
from unjucks_engine.errors import TemplateError
from unjucks_engine.jsregex import RegExp
from unjucks_engine.lexer import JS_SPACE
from unjucks_engine.numbers import NAN
from unjucks_engine.ops import text, type_error
from unjucks_engine.regexp_ops import exec_once, regex_replace, regex_split
from unjucks_engine.values import Fn, JsIterator, Macro, U, joined, units

if TYPE_CHECKING:
    from unjucks_engine.runtime import Render


def upper(value: str) -> str:
    """``toUpperCase``."""
    return value.upper() if value.isascii() else units(joined(value).upper())


def lower(value: str) -> str:
    """``toLowerCase``."""
    return value.lower() if value.isascii() else units(joined(value).lower())


def _at(rt: Render, this: str, args: list[Any]) -> Any:
    index = int_arg(rt, args, 0)
    if index < 0:
        index += len(this)
    return this[int(index)] if 0 <= index < len(this) else U


def _char_at(rt: Render, this: str, args: list[Any]) -> str:
    index = int_arg(rt, args, 0)
    return this[int(index)] if 0 <= index < len(this) else ""


def _char_code_at(rt: Render, this: str, args: list[Any]) -> Any:
    index = int_arg(rt, args, 0)
    return ord(this[int(index)]) if 0 <= index < len(this) else NAN


def _code_point_at(rt: Render, this: str, args: list[Any]) -> Any:
    index = int_arg(rt, args, 0)
    if not 0 <= index < len(this):
        return U
    return ord(joined(this[int(index) : int(index) + 2])[0])


def _concat(rt: Render, this: str, args: list[Any]) -> str:
    parts = [this, *(text(rt, item) for item in args)]
    return rt.joined(parts)


def _no_regexp(method: str, value: Any) -> None:
    if type(value) is RegExp:
        raise type_error(f"First argument to String.prototype.{method} must not be a regular expression")


def _ends_with(rt: Render, this: str, args: list[Any]) -> bool:
    _no_regexp("endsWith", arg(args, 0))
    needle = text_arg(rt, args, 0)
    return this[: clamp(int_arg(rt, args, 1, len(this)), len(this))].endswith(needle)


def _starts_with(rt: Render, this: str, args: list[Any]) -> bool:
    _no_regexp("startsWith", arg(args, 0))
    needle = text_arg(rt, args, 0)
    start = clamp(int_arg(rt, args, 1), len(this))
    return this.startswith(needle, start)


def _includes(rt: Render, this: str, args: list[Any]) -> bool:
    _no_regexp("includes", arg(args, 0))
    needle = text_arg(rt, args, 0)
    return this.find(needle, clamp(int_arg(rt, args, 1), len(this))) >= 0


def _index_of(rt: Render, this: str, args: list[Any]) -> int:
    return this.find(text_arg(rt, args, 0), clamp(int_arg(rt, args, 1), len(this)))


def _last_index_of(rt: Render, this: str, args: list[Any]) -> int:
    from unjucks_engine.numbers import to_integer
    from unjucks_engine.ops import to_number

    needle = text_arg(rt, args, 0)
    position = to_number(rt, arg(args, 1))
    last = math.inf if position != position else to_integer(position)
    start = clamp(last, max(0, len(this) - len(needle)))
    return this.rfind(needle, 0, start + len(needle))


def _locale_compare(rt: Render, this: str, args: list[Any]) -> int:
    other = text_arg(rt, args, 0)
    left, right = collation_key(this), collation_key(other)
    return (left > right) - (left < right)


def collation_key(value: str) -> tuple[Any, ...]:
    """An order close to the default of the Unicode collation: letters by base, then marks, then lower case first."""
    import unicodedata

    plain = unicodedata.normalize("NFD", joined(value))
    base = "".join(char for char in plain if not unicodedata.combining(char))
    marks = "".join(char for char in plain if unicodedata.combining(char))
    primary = [(_class_of(char), char.lower()) for char in base]
    return primary, marks, base.swapcase()


def _class_of(char: str) -> int:
    if char.isspace():
        return 0
    if char in "_-,;:!?./'\"()[]{}@*\\&#%":
        return 1
    return 3 if char.isdigit() else 4 if char.isalpha() else 2


def _match(rt: Render, this: str, args: list[Any]) -> Any:
    pattern = _regexp(rt, arg(args, 0))
    if not pattern.global_:
        return exec_once(rt, pattern, this)
    pattern.last_index = 0
    found: list[str] = []
    position = 0
    while position <= len(this):
        hit = pattern.search(this, position, rt.regex_seconds())
        if hit is None:
            break
        rt.items(1)
        found.append(hit[0])
        position = hit.end() + (hit.end() == hit.start())
    return found or None


def _match_all(rt: Render, this: str, args: list[Any]) -> JsIterator:
    source = arg(args, 0)
    if type(source) is RegExp and not source.global_:
        raise type_error("String.prototype.matchAll called with a non-global RegExp argument")
    pattern = source.fresh() if type(source) is RegExp else RegExp(_pattern_text(rt, source), "g")
    found: list[Any] = []
    while True:
        hit = exec_once(rt, pattern, this)
        if hit is None:
            return JsIterator(found)
        rt.items(1)
        found.append(hit)
        if not text(rt, hit[0]):
            pattern.last_index += 1


def _pattern_text(rt: Render, value: Any) -> str:
    return "(?:)" if value is U else text(rt, value)


def _regexp(rt: Render, value: Any) -> RegExp:
    return value if type(value) is RegExp else RegExp("" if value is U else text(rt, value), "")


def _search(rt: Render, this: str, args: list[Any]) -> int:
    pattern = _regexp(rt, arg(args, 0))
    hit = pattern.search(this, 0, rt.regex_seconds())
    return -1 if hit is None else int(hit.start())


def _normalize(rt: Render, this: str, args: list[Any]) -> str:
    form = "NFC" if arg(args, 0) is U else text_arg(rt, args, 0)
    if form not in ("NFC", "NFD", "NFKC", "NFKD"):
        raise TemplateError("The normalization form should be one of NFC, NFD, NFKC, NFKD.", prefix="RangeError: ")
    import unicodedata

    rt.string(len(this) * (18 if form == "NFKD" or form == "NFKC" else 4))
    return units(unicodedata.normalize(form, joined(this)))  # type: ignore[arg-type]


def _padding(rt: Render, this: str, args: list[Any]) -> str:
    size = int_arg(rt, args, 0)
    if size <= len(this):
        return ""
    filler = " " if arg(args, 1) is U else text_arg(rt, args, 1)
    if not filler:
        return ""
    check_size(rt, size)
    count = int(size) - len(this)
    return (filler * (count // len(filler) + 1))[:count]


def check_size(rt: Render, size: int | float) -> None:
    """Announces a text whose size may be infinite."""
    rt.string(rt.limits.string + 1 if size > rt.limits.string else int(size))


def _pad_end(rt: Render, this: str, args: list[Any]) -> str:
    return this + _padding(rt, this, args)


def _pad_start(rt: Render, this: str, args: list[Any]) -> str:
    return _padding(rt, this, args) + this


def _repeat(rt: Render, this: str, args: list[Any]) -> str:
    count = int_arg(rt, args, 0)
    if count < 0 or count == math.inf:
        raise TemplateError(f"Invalid count value: {text_arg(rt, args, 0)}", prefix="RangeError: ")
    check_size(rt, len(this) * count)
    return this * int(count) if this else ""


def _replace(rt: Render, this: str, args: list[Any]) -> str:
    pattern, replacement = arg(args, 0), arg(args, 1)
    if type(replacement) not in (Fn, Macro):
        replacement = text(rt, replacement)
    if type(pattern) is RegExp:
        return regex_replace(rt, pattern, this, replacement)
    return _replace_text(rt, this, text(rt, pattern), replacement, once=True)


def _replace_all(rt: Render, this: str, args: list[Any]) -> str:
    pattern, replacement = arg(args, 0), arg(args, 1)
    if type(pattern) is RegExp and not pattern.global_:
        raise type_error("replaceAll must be called with a global RegExp")
    if type(replacement) not in (Fn, Macro):
        replacement = text(rt, replacement)
    if type(pattern) is RegExp:
        return regex_replace(rt, pattern, this, replacement)
    return _replace_text(rt, this, text(rt, pattern), replacement, once=False)


def _replace_text(rt: Render, this: str, needle: str, replacement: Any, once: bool) -> str:
    from unjucks_engine.regexp_ops import expand

    parts: list[str] = []
    end = 0
    position = this.find(needle)
    while position >= 0:
        rt.work(1)
        parts.append(this[end:position])
        if type(replacement) is str:
            new = replacement if "$" not in replacement else expand(replacement, this, position, needle, [], None)
        else:
            new = text(rt, rt.call(replacement, [needle, position, this]))
        rt.string(len(new) + 257)
        parts.append(new)
        end = position + len(needle)
        if once:
            break
        position = this.find(needle, max(end, position + 1)) if position < len(this) else -1
    parts.append(this[end:])
    return rt.joined(parts)


def _slice(rt: Render, this: str, args: list[Any]) -> str:
    size = len(this)
    return this[relative(int_arg(rt, args, 0), size) : relative(int_arg(rt, args, 1, size), size)]


def _substring(rt: Render, this: str, args: list[Any]) -> str:
    size = len(this)
    start, end = clamp(int_arg(rt, args, 0), size), clamp(int_arg(rt, args, 1, size), size)
    return this[min(start, end) : max(start, end)]


def _substr(rt: Render, this: str, args: list[Any]) -> str:
    size = len(this)
    start = relative(int_arg(rt, args, 0), size)
    return this[start : start + clamp(int_arg(rt, args, 1, size), size - start)]


def _split(rt: Render, this: str, args: list[Any]) -> list[Any]:
    separator, limit = arg(args, 0), arg(args, 1)
    most = (
        4294967295 if limit is U else int(int_arg(rt, args, 1)) % 4294967296 if abs(int_arg(rt, args, 1)) < 1e300 else 0
    )
    if type(separator) is RegExp:
        return regex_split(rt, separator, this, most)
    if not most:
        return []
    if separator is U:
        return [this]
    mark = text(rt, separator)
    if not mark:
        rt.items(min(len(this), most))
        return list(this[:most])
    rt.items(this.count(mark) + 1)
    return this.split(mark)[:most]


def _to_lower(rt: Render, this: str, args: list[Any]) -> str:
    rt.string(len(this))
    return lower(this)


def _to_upper(rt: Render, this: str, args: list[Any]) -> str:
    rt.string(len(this))
    return upper(this)


def _itself(rt: Render, this: str, args: list[Any]) -> str:
    return this


def _html(tag: str, attribute: str = "") -> Any:
    def method(rt: Render, this: str, args: list[Any]) -> str:
        opening = tag
        if attribute:
            opening += f' {attribute}="{text_arg(rt, args, 0).replace(chr(34), "&quot;")}"'
        return rt.joined(["<", opening, ">", this, "</", tag, ">"])

    return method


def _well_formed(this: str) -> bool:
    return not any("\ud800" <= char <= "\udfff" for char in joined(this))


METHODS: dict[str, Any] = {
    "at": _at,
    "charAt": _char_at,
    "charCodeAt": _char_code_at,
    "codePointAt": _code_point_at,
    "concat": _concat,
    "endsWith": _ends_with,
    "includes": _includes,
    "indexOf": _index_of,
    "isWellFormed": lambda rt, this, args: _well_formed(this),
    "lastIndexOf": _last_index_of,
    "localeCompare": _locale_compare,
    "match": _match,
    "matchAll": _match_all,
    "normalize": _normalize,
    "padEnd": _pad_end,
    "padStart": _pad_start,
    "repeat": _repeat,
    "replace": _replace,
    "replaceAll": _replace_all,
    "search": _search,
    "slice": _slice,
    "split": _split,
    "startsWith": _starts_with,
    "substr": _substr,
    "substring": _substring,
    "toLocaleLowerCase": _to_lower,
    "toLocaleUpperCase": _to_upper,
    "toLowerCase": _to_lower,
    "toString": _itself,
    "toUpperCase": _to_upper,
    "toWellFormed": lambda rt, this, args: "".join(
        "\ufffd" if "\ud800" <= char <= "\udfff" else units(char) for char in joined(this)
    ),
    "trim": lambda rt, this, args: this.strip(JS_SPACE),
    "trimEnd": lambda rt, this, args: this.rstrip(JS_SPACE),
    "trimLeft": lambda rt, this, args: this.lstrip(JS_SPACE),
    "trimRight": lambda rt, this, args: this.rstrip(JS_SPACE),
    "trimStart": lambda rt, this, args: this.lstrip(JS_SPACE),
    "valueOf": _itself,
    "hasOwnProperty": lambda rt, this, args: _own(this, text_arg(rt, args, 0)),
    "propertyIsEnumerable": lambda rt, this, args: (
        text_arg(rt, args, 0) != "length" and _own(this, text_arg(rt, args, 0))
    ),
    "toLocaleString": _itself,
    **{tag: _html(tag) for tag in ("big", "sub", "sup")},
    **{name: _html(tag) for name, tag in (("bold", "b"), ("italics", "i"), ("fixed", "tt"), ("strike", "strike"))},
    "blink": _html("blink"),
    "small": _html("small"),
    "link": _html("a", "href"),
    "anchor": _html("a", "name"),
    "fontcolor": _html("font", "color"),
    "fontsize": _html("font", "size"),
}


def _own(this: str, key: str) -> bool:
    from unjucks_engine.values import is_index

    return key == "length" or (is_index(key) and int(key) < len(this))
