"""What counts as the same result of two engines, and which differences are known and documented."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Literal

from unjucks_engine import LimitExceeded, TemplateError, TemplateSyntaxError
from unjucks_engine.conformance import environment
from unjucks_engine.values import well_formed

#: Messages that come from the JavaScript engine, not from Nunjucks.
_ENGINE = re.compile(
    r"\b(SyntaxError|TypeError|RangeError|ReferenceError|InternalError|URIError|Cannot read propert|is not a function|"
    r"is not iterable)"
)
#: Nunjucks wrote malformed JavaScript, ran out of stack or lost an error: any result will do.
_ARTIFACT = re.compile(
    r"SyntaxError: |ReferenceError: |Maximum call stack|Cannot read properties of (null|undefined) \(reading '(typename|"
    r"children|charAt|split|value|lastIndexOf|lineno|type|colno)'\)|charAt is not a function|"
    r"this\.blocks\[name\]\.push|no answer|no text|"
    r"process died|"
    r"Cannot set properties|is not defined|Cannot destructure|'in' operator to search for 'length'|Invalid (string|array) length"
)
#: Text of functions and other insides of the other engine.
_INSIDE = re.compile(r"function\s*\w*\s*\(|\[native code\]|=> \{|\(\.\.\.args\)|=&gt; \{")


_NUMBER = re.compile(r"\d+\.\d+(?:e[+-]\d+)?|\d{15,}")


def ours(case: Mapping[str, Any]) -> dict[str, Any]:
    """Our result for a case, in the oracle's form; ``internal`` marks an error that is a defect in any case.

    Closures and generated code must agree: a case is rendered by both.
    """
    first, second = _outcome(case, "auto"), _outcome(case, "code")
    if first.get("text") != second.get("text") and not (first.get("limit") or second.get("limit")):
        return {"error": f"the two ways differ: {first} and {second}", "internal": True}
    if "error" in first and "error" in second and _last(first["error"]) != _last(second["error"]):
        return {"error": f"the two ways fail differently: {first} and {second}", "internal": True}
    return first


def _outcome(case: Mapping[str, Any], ways: Literal["auto", "code"]) -> dict[str, Any]:
    context = json.loads(json.dumps(case.get("context") or {}))
    env = environment(case.get("templates") or {}, case.get("options") or {})
    env.ways = ways
    try:
        template = case.get("template")
        if template is None:
            text = env.render_entry_units(case.get("entry") or "main.njk", context)
        else:
            text = env.render_units(template, context)
    except TemplateError as error:
        # A file that cannot be parsed is an error here wherever it is included; Nunjucks loses such errors inside loops.
        broken = error.template not in ("", case.get("entry")) and (
            isinstance(error, TemplateSyntaxError) or "test not found" in error.message
        )
        limit = isinstance(error, LimitExceeded) or broken
        return {"error": str(error), "internal": "internal error" in error.message, "limit": limit}
    return {"text": text}


def _last(message: str) -> str:
    return well_formed(message).rsplit("\n", 1)[-1].strip()


def _units(text: str) -> bytes:
    return text.encode("utf-16-le", "surrogatepass")


def _precision(case: Mapping[str, Any]) -> bool:
    """Powers differ in the last digit: V8's are not correctly rounded."""
    sources = [case.get("template") or "", *(case.get("templates") or {}).values()]
    return any("**" in source for source in sources)


def difference(case: Mapping[str, Any], mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> str | None:
    """Why the results differ, or None. Known and documented differences do not count."""
    if mine.get("internal"):
        return f"internal error: {mine['error']}"
    if "error" in theirs:
        message = theirs["error"]
        if _ARTIFACT.search(message) or mine.get("limit"):
            return None
        if "error" in mine and "a name is expected here" in mine["error"]:
            # Noticed by Nunjucks only in the JavaScript that it makes: it may tell of a later mistake first.
            return None
        if "text" in mine:
            return f"they fail, we do not: {_last(message)}"
        own = not _ENGINE.search(message) or "Unable to call" in message or "resolved to undefined" in message
        if own and _last(message) != _last(mine["error"]):
            return f"other message: theirs {_last(message)!r}, ours {_last(mine['error'])!r}"
        return None
    if _INSIDE.search(theirs["text"]):
        return None
    if "error" in mine and "missing ) after argument list" in mine["error"]:
        return None  # several arguments of a test, which Nunjucks pastes together without commas
    if "error" in mine:
        return None if mine.get("limit") else f"we fail, they do not: {_last(mine['error'])}"
    if _units(mine["text"]) != _units(theirs["text"]):
        if _precision(case) and _NUMBER.sub("#", mine["text"]) == _NUMBER.sub("#", theirs["text"]):
            return None
        return "other text"
    return None
