"""Whatever a template looks up or calls, it gets a JSON value, a safe string, undefined or a sealed callable."""

# ruff: noqa: E501 - tables

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from unjucks_engine import Environment, TemplateError
from unjucks_engine.jsregex import RegExp
from unjucks_engine.member import member
from unjucks_engine.runtime import Render
from unjucks_engine.values import Fn, Importer, JsIterator, Kwargs, Macro, Safe, U

_NAMES = st.sampled_from(
    ["a", "b", "k", "length", "0", "1", "toString", "constructor", "__proto__", "__class__", "__dict__", "__globals__", "trim", "map",
     "push", "split", "keys", "format", "next", "call", "val", "source", "exec", "hasOwnProperty", "vars", "env"]
)  # fmt: skip
_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_NAMES | st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)
_CONTEXT = st.dictionaries(_NAMES, _JSON, max_size=6)
_CLOSED = (str, int, float, bool, type(None), list, dict, Kwargs, Safe, Fn, Macro, RegExp, JsIterator, type(U))


def check_closed(value: Any, depth: int = 0) -> None:
    """The value is of the closed set, and so is all it holds."""
    assert type(value) in _CLOSED
    if depth > 6:
        return
    if type(value) is list:
        for item in value:
            check_closed(item, depth + 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            assert type(key) is str
            check_closed(item, depth + 1)


@settings(max_examples=300, deadline=None)
@given(_CONTEXT, st.lists(_NAMES | st.integers(-2, 5) | st.text(max_size=3), max_size=5), st.booleans(), st.booleans())
def test_lookups_stay_inside(context: dict[str, Any], path: list[Any], compat: bool, direct: bool) -> None:
    """Any chain of keys from the data ends in a closed value."""
    env = Environment({}, jinja_compat=compat)
    rt = Render(env, direct)
    value: Any = Importer(env.limits).object(context)
    for key in path:
        value = member(rt, value, key)
        check_closed(value)


@settings(max_examples=300, deadline=None)
@given(_CONTEXT, st.lists(_NAMES, min_size=1, max_size=3), st.lists(_JSON, max_size=3), st.booleans())
def test_calls_stay_inside(context: dict[str, Any], path: list[str], args: list[Any], direct: bool) -> None:
    """Calling whatever is found gives a closed value or an error of the engine."""
    env = Environment({}, seed=1)
    rt = Render(env, direct)
    importer = Importer(env.limits)
    target: Any = importer.object({**context, "list": [1, 2], "text": "abc", "number": 5})
    for key in path[:-1]:
        target = member(rt, target, key)
    for owner in (target, "abc", [3, 1], 1.5, True, {"k": 1}, RegExp("a", "g"), Safe("x")):
        with suppress(TemplateError):
            check_closed(rt.call_member(owner, path[-1], "x", [importer.value(arg) for arg in args]))


@settings(max_examples=200, deadline=None)
@given(_CONTEXT, st.sampled_from(sorted(Environment({}).filters)), st.lists(_JSON, max_size=3), st.booleans())
def test_filters_stay_inside(context: dict[str, Any], name: str, args: list[Any], direct: bool) -> None:
    """Any filter on any data gives a closed value or an error of the engine, never an accident."""
    env = Environment({}, seed=1)
    rt = Render(env, direct)
    importer = Importer(env.limits)
    for value in [importer.value(context), *[importer.value(arg) for arg in args]]:
        with suppress(TemplateError):
            check_closed(env.filters[name](rt, value, *[importer.value(arg) for arg in args]))


@settings(max_examples=200, deadline=None)
@given(_JSON)
def test_data_survives_a_round_trip(value: Any) -> None:
    """What goes in comes out of ``dump`` as the same JSON, numbers as JavaScript holds them."""
    text = Environment({"a": "{{ x | dump }}"}, autoescape=False).render("a", {"x": value})
    assert _normal(json.loads(text)) == _normal(value)


def _normal(value: Any) -> Any:
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, list):
        return [_normal(item) for item in value]
    return {_normal(key): _normal(item) for key, item in value.items()}
