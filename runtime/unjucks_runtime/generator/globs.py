"""Path patterns of action.yaml and of path policies: ``*``, ``?``, ``**``, on whole relative paths; linear time. Pure.

``*`` and ``?`` stay inside one segment, ``**`` crosses folders. A pattern without ``/`` matches a name at any depth; one that
ends in ``/`` or names a folder matches everything below it.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import re2


def matches(path: str, patterns: Iterable[str]) -> bool:
    """Whether ``path`` matches one of ``patterns``."""
    return any(_compiled(pattern).fullmatch(path) is not None for pattern in patterns)


@lru_cache(maxsize=512)
def _compiled(pattern: str) -> Any:
    text = pattern.strip("/") if pattern not in ("/", "") else pattern
    prefix = "" if "/" in pattern.rstrip("/") else "(?:.*/)?"
    return re2.compile(f"(?s){prefix}{_translate(text)}(?:/.*)?")


def _translate(pattern: str) -> str:
    made = ""
    index = 0
    while index < len(pattern):
        if pattern.startswith("**/", index):
            made += "(?:.*/)?"
            index += 3
        elif pattern.startswith("**", index):
            made += ".*"
            index += 2
        else:
            char = pattern[index]
            made += {"*": "[^/]*", "?": "[^/]"}.get(char, re2.escape(char))
            index += 1
    return made
