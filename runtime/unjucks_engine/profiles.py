"""The additional filters of the unjucks generators, by profile. Called by ``environment``.

``cli``, ``v4`` and ``pipeline`` are the three published behaviours of the case filters; the other names are common to all of
them. Conventions as in ``filters_text``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from unjucks_engine import inflection
from unjucks_engine.args import clamp
from unjucks_engine.errors import TemplateError
from unjucks_engine.filters_text import dump
from unjucks_engine.lexer import JS_SPACE
from unjucks_engine.methods_string import METHODS, lower, upper
from unjucks_engine.numbers import to_integer
from unjucks_engine.ops import text, to_number, truth, type_error
from unjucks_engine.values import Fn, Safe, U, joined, units

if TYPE_CHECKING:
    from datetime import datetime

    from unjucks_engine.runtime import Render

_S = re.escape(JS_SPACE)
_HUMP = re.compile("([a-z])([A-Z])")
_SPACE_UNDER = re.compile(f"[{_S}_]+")
_SPACE_DASH = re.compile(f"[{_S}\\-]+")
_SPACE = re.compile(f"[{_S}]+")
_ANY = re.compile(f"[{_S}\\-_]+")
_JOINT = re.compile(f"[{_S}\\-_]+([^\n\r\u2028\u2029])?")
_DASH_LETTER = re.compile("-([a-z])")
_WORD_START = re.compile("(?<![A-Za-z0-9_])[A-Za-z0-9_]")
_TITLE_WORD = re.compile(f"[A-Za-z0-9_][^{_S}]*")
_PASCAL = re.compile("[A-Z]|(?<![A-Za-z0-9_])[A-Za-z0-9_]")

Case = Callable[[str], str]


def _first(value: str, change: Case) -> str:
    return change(value[:1]) + value[1:]


def _split_humps(value: str, mark: str) -> str:
    return _HUMP.sub(rf"\1{mark}\2", value)


def _upper_match(match: re.Match[str]) -> str:
    return upper(match[0])


# -- cli -------------------------------------------------------------------------------------------------------------


def _cli_words(value: str) -> list[str]:
    return [word for word in _ANY.split(lower(_split_humps(value, " "))) if word]


def _cli_camel(value: str) -> str:
    words = _cli_words(value)
    return "".join(words[:1] + [_first(word, upper) for word in words[1:]])


def _cli_pascal(value: str) -> str:
    return _SPACE.sub("", _PASCAL.sub(_upper_match, value))


def _kebab(value: str) -> str:
    return lower(_SPACE_UNDER.sub("-", _split_humps(value, "-")))


def _snake(value: str) -> str:
    return lower(_SPACE_DASH.sub("_", _split_humps(value, "_")))


def _capitalize(value: str) -> str:
    return upper(value[:1]) + lower(value[1:])


def _cli_title(value: str) -> str:
    words = lower(_ANY.sub(" ", _split_humps(value, " "))).split(" ")
    return " ".join(_first(word, upper) for word in words)


def _cli_plural(value: str) -> str:
    if value.endswith("y"):
        return value[:-1] + "ies"
    return value + ("es" if value.endswith(("s", "sh", "ch", "x", "z")) else "s")


def _cli_singular(value: str) -> str:
    if value.endswith("ies"):
        return value[:-3] + "y"
    if value.endswith("es") and len(value) > 3:
        return value[:-2]
    return value[:-1] if value.endswith("s") and len(value) > 1 else value


# -- v4 --------------------------------------------------------------------------------------------------------------


def _v4_joined(value: str) -> str:
    return _DASH_LETTER.sub(lambda match: upper(match[1]), value)


def _v4_camel(value: str) -> str:
    return _first(_v4_joined(value), lower)


def _v4_pascal(value: str) -> str:
    return _first(_v4_joined(value), upper)


def _v4_kebab(value: str) -> str:
    return lower(_SPACE.sub("-", _split_humps(value, "-")))


def _v4_snake(value: str) -> str:
    return lower(_SPACE.sub("_", _split_humps(value, "_")))


def _title(value: str) -> str:
    return _TITLE_WORD.sub(lambda match: _capitalize(match[0]), value)


# -- pipeline --------------------------------------------------------------------------------------------------------


def _pipe_joined(value: str) -> str:
    return _JOINT.sub(lambda match: upper(match[1] or ""), value)


def _pipe_camel(value: str) -> str:
    return _first(_pipe_joined(value), lower)


def _pipe_pascal(value: str) -> str:
    return _first(_pipe_joined(value), upper)


def _constant(value: str) -> str:
    return upper(_snake(value))


def _slug(value: str) -> str:
    kept = re.sub(f"[^A-Za-z0-9_{_S}\\-]", "", lower(value))
    return _ANY.sub("-", kept).strip("-")


def _humanize(value: str) -> str:
    spaced = re.sub("[-_]+", " ", _split_humps(value, " ")).strip(JS_SPACE)
    return _WORD_START.sub(_upper_match, spaced)


def _sentence(value: str) -> str:
    return _first(" ".join(_cli_words(value)), upper)


def _classify(value: str) -> str:
    return _pipe_pascal(inflection.singularize(value))


def _tableize(value: str) -> str:
    return inflection.pluralize(_snake(value))


def _demodulize(value: str) -> str:
    return re.split(r"::|[./\\]", value)[-1]


def _swap(value: str) -> str:
    return "".join(lower(char) if char == upper(char) else upper(char) for char in value)


# -- wrapping --------------------------------------------------------------------------------------------------------


def _as_text(change: Case) -> Any:
    """Anything that is not a string becomes its text and stays as it is."""

    def run(rt: Render, value: Any = U, *_: Any) -> str:
        source = text(rt, value)
        if type(value) is not str:
            return source
        rt.string(2 * len(source))
        return change(source)

    return run


def _strict(change: Case, falsy: str, method: str = "replace") -> Any:
    """Only text has the method; a falsy value is kept (``keep``), becomes empty (``empty``) or fails (``fail``)."""

    def run(rt: Render, value: Any = U, *_: Any) -> Any:
        if falsy != "fail" and not truth(value):
            return value if falsy == "keep" else ""
        if type(value) is Safe:
            value = value.val
        if type(value) is not str:
            raise type_error(f"str.{method} is not a function")
        rt.string(2 * len(value))
        return change(value)

    return run


def _clock(rt: Render) -> datetime:
    if rt.env.now is None:
        raise TemplateError("the clock needs a pinned time (option `now`)")
    return rt.env.now


def _pad(rt: Render, value: Any = U, size: Any = U, filler: Any = U, *_: Any) -> str:
    """Both sides, the odd character on the right."""
    source = text(rt, value)
    width = to_integer(to_number(rt, size))
    left = (width - len(source)) // 2 if width > len(source) else 0
    start = METHODS["padStart"](rt, source, [len(source) + left, filler])
    return str(METHODS["padEnd"](rt, start, [width, filler]))


def _method(name: str) -> Any:
    def run(rt: Render, value: Any = U, *args: Any) -> Any:
        return METHODS[name](rt, text(rt, value), list(args))

    return run


def _wrap(rt: Render, value: Any = U, before: Any = U, after: Any = U, *_: Any) -> str:
    opening = text(rt, before) if before is not U else '"'
    return rt.joined([opening, text(rt, value), opening if after is U else text(rt, after)])


def _comment(rt: Render, value: Any = U, mark: Any = U, *_: Any) -> str:
    prefix = ("//" if mark is U else text(rt, mark)) + " "
    source = text(rt, value)
    rt.string(len(source) + len(prefix) * (source.count("\n") + 1))
    return "\n".join(prefix + line if line else prefix.rstrip() for line in source.split("\n"))


def _base64(rt: Render, value: Any = U, *_: Any) -> str:
    import base64

    source = joined(text(rt, value)).encode("utf-8", "replace")
    rt.string(2 * len(source))
    return base64.b64encode(source).decode()


def _hash(rt: Render, value: Any = U, size: Any = U, *_: Any) -> str:
    """SHA-256 in hexadecimal digits, shortened on request. A name for content, not a protection of secrets."""
    import hashlib

    digest = hashlib.sha256(joined(text(rt, value)).encode("utf-8", "replace")).hexdigest()
    return digest if size is U else digest[: clamp(to_integer(to_number(rt, size)), 64)]


def _date(rt: Render, value: Any = U, pattern: Any = U, *_: Any) -> str:
    """A date (ISO text, or the pinned clock for "now") in a pattern of YYYY MM DD HH mm ss."""
    moment = _clock(rt) if value is U or value is None or value == "now" else _parsed(text(rt, value))
    shown = "YYYY-MM-DD" if pattern is U else text(rt, pattern)
    return re.sub("YYYY|YY|MM|DD|HH|mm|ss", lambda found: moment.strftime(_DATE_PARTS[found[0]]), shown)


_DATE_PARTS = {"YYYY": "%Y", "YY": "%y", "MM": "%m", "DD": "%d", "HH": "%H", "mm": "%M", "ss": "%S"}


def _parsed(value: str) -> datetime:
    from datetime import datetime

    try:
        return datetime.fromisoformat(value)
    except ValueError:
        raise TemplateError(f"filter date: {value[:40]!r} is not an ISO date") from None


_COMMON: dict[str, Any] = {
    "tojson": dump,
    "pluralize": _as_text(inflection.pluralize),
    "plural": _as_text(inflection.pluralize),
    "singularize": _as_text(inflection.singularize),
    "singular": _as_text(inflection.singularize),
    "upperCase": _as_text(upper),
    "lowerCase": _as_text(lower),
    "constantCase": _as_text(_constant),
    "slug": _as_text(_slug),
    "slugify": _as_text(_slug),
    "humanize": _as_text(_humanize),
    "sentenceCase": _as_text(_sentence),
    "startCase": _as_text(_cli_title),
    "classify": _as_text(_classify),
    "tableize": _as_text(_tableize),
    "demodulize": _as_text(_demodulize),
    "swapCase": _as_text(_swap),
    "pad": _pad,
    "padStart": _method("padStart"),
    "padEnd": _method("padEnd"),
    "repeat": _method("repeat"),
    "wrap": _wrap,
    "comment": _comment,
    "base64": _base64,
    "hash": _hash,
    "date": _date,
}
_ALIASES = {
    "camelize": "camelCase",
    "dasherize": "kebabCase",
    "paramCase": "kebabCase",
    "underscore": "snakeCase",
}
_PROFILES: dict[str, dict[str, Any]] = {
    "pipeline": {
        "camelCase": _as_text(_pipe_camel),
        "pascalCase": _as_text(_pipe_pascal),
        "kebabCase": _as_text(_kebab),
        "snakeCase": _as_text(_snake),
        "titleCase": _as_text(_title),
    },
    "cli": {
        "camelCase": _strict(_cli_camel, "keep"),
        "pascalCase": _strict(_cli_pascal, "fail"),
        "kebabCase": _strict(_kebab, "fail"),
        "snakeCase": _strict(_snake, "fail"),
        "titleCase": _strict(_cli_title, "keep"),
        "capitalize": _strict(_capitalize, "keep", "charAt"),
        "pluralize": _strict(_cli_plural, "fail", "endsWith"),
        "singularize": _strict(_cli_singular, "fail", "endsWith"),
    },
    "v4": {
        "camelCase": _strict(_v4_camel, "empty"),
        "pascalCase": _strict(_v4_pascal, "empty"),
        "kebabCase": _strict(_v4_kebab, "empty"),
        "snakeCase": _strict(_v4_snake, "empty"),
        "titleCase": _strict(_title, "empty"),
    },
}


def profile_filters(profile: str) -> dict[str, Any]:
    """Filters added to (or replacing) Nunjucks' own."""
    if profile == "nunjucks":
        return {}
    if profile not in _PROFILES:
        raise ValueError(f"filters_profile is {profile!r}; it must be nunjucks, pipeline, cli or v4")
    filters = {**_COMMON, **_PROFILES[profile]}
    filters.update({alias: filters[name] for alias, name in _ALIASES.items()})
    return filters


def _now(rt: Render, args: list[Any]) -> str:
    return units(_clock(rt).isoformat())


def _timestamp(rt: Render, args: list[Any]) -> int:
    return int(_clock(rt).timestamp() * 1000)


def profile_globals(profile: str) -> dict[str, Any]:
    """Globals added to Nunjucks' own: the pinned clock."""
    if profile == "nunjucks":
        return {}
    return {"now": Fn("now", _now), "timestamp": Fn("timestamp", _timestamp)}
