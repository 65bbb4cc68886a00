"""Three-way merge of texts by lines: what two sides made of one common text, put together. Pure functions on texts.

The stable lines are those of the base that both sides kept. Between two stable lines stand three pieces: when only one side
changed its piece, that change is taken; when both made the same of it, that; otherwise it is a conflict, from which lines that
both sides have at the beginning and at the end are taken out. Called by ``update``. Runs in the renderer's child: its limits
bound the comparison, which can take quadratic time.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

MAX_MERGE_LINES: Final = 20_000
"""Lines of one side; longer texts are not compared line by line."""
MARK_THEIRS: Final = "<<<<<<< existing"
MARK_MIDDLE: Final = "======="
MARK_OURS: Final = ">>>>>>> generated"


@dataclass(frozen=True)
class Merged:
    """The text, and how many places of it are in conflict. A place in conflict stands between marks, the existing lines first."""

    text: str
    conflicts: int


class TooLong(ValueError):
    """A side has more lines than are compared."""


def merge(base: str, theirs: str, ours: str) -> Merged:
    """``theirs`` (what exists) with the changes from ``base`` to ``ours`` (what is generated now). Raises TooLong.

    Line ends follow the existing text: when most of its lines end in CRLF, so do all that are put in.
    """
    crlf = theirs.count("\r\n") * 2 > theirs.count("\n")
    if crlf:
        base, ours = (text.replace("\r\n", "\n").replace("\n", "\r\n") for text in (base, ours))
    sides = [lines_of(text) for text in (base, theirs, ours)]
    if max(map(len, sides)) > MAX_MERGE_LINES:
        raise TooLong(f"more than {MAX_MERGE_LINES} lines")
    made: list[str] = []
    conflicts = 0
    for piece in _pieces(*sides):
        if isinstance(piece, _Conflict):
            conflicts += 1
            made += piece.marked("\r\n" if crlf else "\n")
        else:
            made += piece
    return Merged("".join(made), conflicts)


def lines_of(text: str) -> list[str]:
    """Lines with their ends; only ``\\n`` ends a line, as everywhere else in this package."""
    parts = text.split("\n")
    return [part + "\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])


@dataclass(frozen=True)
class _Conflict:
    theirs: Sequence[str]
    ours: Sequence[str]

    def marked(self, end: str) -> list[str]:
        return [
            MARK_THEIRS + end,
            *_ended(self.theirs, end),
            MARK_MIDDLE + end,
            *_ended(self.ours, end),
            MARK_OURS + end,
        ]


def _ended(lines: Sequence[str], end: str) -> list[str]:
    return [line if line.endswith("\n") else line + end for line in lines]


def _pieces(base: list[str], theirs: list[str], ours: list[str]) -> list["list[str] | _Conflict"]:
    made: list[list[str] | _Conflict] = []
    at_base = at_theirs = at_ours = 0
    for anchor, in_theirs, in_ours in [*_stable(base, theirs, ours), (len(base), len(theirs), len(ours))]:
        made += _decide(base[at_base:anchor], theirs[at_theirs:in_theirs], ours[at_ours:in_ours])
        if anchor < len(base):
            made.append([base[anchor]])
        at_base, at_theirs, at_ours = anchor + 1, in_theirs + 1, in_ours + 1
    return made


def _stable(base: list[str], theirs: list[str], ours: list[str]) -> list[tuple[int, int, int]]:
    """The lines that both sides kept, by their places in the three texts."""
    left, right = _matches(base, theirs), _matches(base, ours)
    return [(index, left[index], right[index]) for index in sorted(left.keys() & right.keys())]


def _matches(base: list[str], side: list[str]) -> dict[int, int]:
    matcher = difflib.SequenceMatcher(None, base, side, autojunk=False)
    return {a + step: b + step for a, b, size in matcher.get_matching_blocks() for step in range(size)}


def _decide(base: list[str], theirs: list[str], ours: list[str]) -> list["list[str] | _Conflict"]:
    if theirs == ours or ours == base:
        return [theirs]
    if theirs == base:
        return [ours]
    start = 0
    while start < min(len(theirs), len(ours)) and theirs[start] == ours[start]:
        start += 1
    end = 0
    while end < min(len(theirs), len(ours)) - start and theirs[-1 - end] == ours[-1 - end]:
        end += 1
    middle = _Conflict(theirs[start : len(theirs) - end], ours[start : len(ours) - end])
    return [theirs[:start], middle, theirs[len(theirs) - end :]]
