"""What strings and filters do with regular expressions: exec, replace, split, and the patterns of replacement texts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from unjucks_engine.jsregex import RegExp
from unjucks_engine.numbers import to_integer
from unjucks_engine.ops import text, to_number
from unjucks_engine.values import U

if TYPE_CHECKING:
    from unjucks_engine.runtime import Render

_PATTERN = re.compile(r"\$(?:(\$)|(&)|(`)|(')|([0-9]{1,2})|<([^>]*)>)")


def exec_once(rt: Render, pattern: RegExp, subject: str) -> Any:
    """``pattern.exec(subject)``: the groups of the next match, or None."""
    stateful = pattern.global_ or pattern.sticky
    start = to_integer(to_number(rt, pattern.last_index)) if stateful else 0
    if start > len(subject):
        pattern.last_index = 0
        return None
    hit = pattern.search(subject, max(0, int(start)), rt.regex_seconds())
    if hit is None:
        if stateful:
            pattern.last_index = 0
        return None
    if stateful:
        pattern.last_index = hit.end()
    groups = [U if group is None else group for group in hit.groups()]
    rt.items(4 + len(groups))
    result = [hit[0], *groups]
    named: Any = U
    if pattern.names:
        named = {name: groups[number - 1] for name, number in pattern.names.items()}
    # The list's extra properties are kept beside it: a list has no other place for them. It is held, so that its id stays its own.
    rt.matches[id(result)] = (result, {"index": hit.start(), "input": subject, "groups": named})
    return result


def regex_replace(rt: Render, pattern: RegExp, subject: str, replacement: Any) -> str:
    """``subject.replace(pattern, replacement)``; replacement is text or a callable."""
    parts: list[str] = []
    end = 0
    position = 0
    if pattern.sticky and not pattern.global_:
        position = int(to_integer(to_number(rt, pattern.last_index)))
    while position <= len(subject):
        hit = pattern.search(subject, position, rt.regex_seconds())
        if hit is None:
            break
        rt.work(2)
        parts.append(subject[end : hit.start()])
        groups = list(hit.groups())
        if type(replacement) is str:
            new = replacement
            if "$" in new:
                names = {name: groups[number - 1] for name, number in pattern.names.items()} if pattern.names else None
                new = expand(new, subject, hit.start(), hit[0], groups, names)
        else:
            arguments = [hit[0], *(U if group is None else group for group in groups), hit.start(), subject]
            new = text(rt, rt.call(replacement, arguments))
        rt.string(len(new) + 257)
        parts.append(new)
        end = hit.end()
        position = end + (hit.end() == hit.start())
        if not pattern.global_:
            break
    if pattern.global_:
        pattern.last_index = 0
    elif pattern.sticky:
        pattern.last_index = end
    parts.append(subject[end:])
    return rt.joined(parts)


def expand(
    replacement: str, subject: str, position: int, matched: str, groups: list[Any], names: dict[str, Any] | None
) -> str:
    """A replacement text with its ``$`` patterns filled in."""

    def fill(found: re.Match[str]) -> str:
        if found[1]:
            return "$"
        if found[2]:
            return matched
        if found[3]:
            return subject[:position]
        if found[4]:
            return subject[position + len(matched) :]
        if found[6] is not None:
            return found[0] if names is None else names.get(found[6]) or ""
        digits = found[5]
        number, rest = int(digits), ""
        if number > len(groups) and len(digits) == 2:
            number, rest = int(digits[0]), digits[1]
        if not 1 <= number <= len(groups):
            return found[0]
        return (groups[number - 1] or "") + rest

    return _PATTERN.sub(fill, replacement)


def regex_split(rt: Render, pattern: RegExp, subject: str, most: int) -> list[Any]:
    """``subject.split(pattern, most)``: groups of the separators are inserted."""
    if not most:
        return []
    if not subject:
        return [] if pattern.search_from(subject, 0, rt.regex_seconds()) is not None else [subject]
    result: list[Any] = []
    start = position = 0
    while position < len(subject):
        hit = pattern.search_from(subject, position, rt.regex_seconds())
        if hit is None or hit.start() >= len(subject):
            break
        if hit.end() == start:
            position = hit.start() + 1
            continue
        rt.items(1 + len(hit.groups()))
        result.append(subject[start : hit.start()])
        result.extend(U if group is None else group for group in hit.groups())
        if len(result) >= most:
            return result[:most]
        start = position = hit.end()
    result.append(subject[start:])
    return result
