"""English plurals and singulars, with the irregular words that turn up in names of entities. Pure functions.

Words keep the case of their first letter and of all-capital words; only the last word of a name is changed, however the
words are written together (``BlogPost``, ``blog_post``, ``blog post``).
"""

from __future__ import annotations

import re
from collections.abc import Callable

_IRREGULAR = {
    "alumnus": "alumni",
    "analysis": "analyses",
    "appendix": "appendices",
    "axis": "axes",
    "basis": "bases",
    "cactus": "cacti",
    "calf": "calves",
    "child": "children",
    "crisis": "crises",
    "criterion": "criteria",
    "curriculum": "curricula",
    "datum": "data",
    "diagnosis": "diagnoses",
    "die": "dice",
    "elf": "elves",
    "foot": "feet",
    "fungus": "fungi",
    "goose": "geese",
    "half": "halves",
    "hypothesis": "hypotheses",
    "index": "indices",
    "knife": "knives",
    "leaf": "leaves",
    "life": "lives",
    "loaf": "loaves",
    "louse": "lice",
    "man": "men",
    "matrix": "matrices",
    "medium": "media",
    "mouse": "mice",
    "nucleus": "nuclei",
    "oasis": "oases",
    "ox": "oxen",
    "parenthesis": "parentheses",
    "person": "people",
    "phenomenon": "phenomena",
    "quiz": "quizzes",
    "radius": "radii",
    "self": "selves",
    "shelf": "shelves",
    "stimulus": "stimuli",
    "synthesis": "syntheses",
    "thesis": "theses",
    "thief": "thieves",
    "tooth": "teeth",
    "vertex": "vertices",
    "wife": "wives",
    "wolf": "wolves",
    "woman": "women",
}
_SAME = frozenset(
    """
    aircraft bison chassis data deer equipment feedback fish furniture hardware homework information jeans jewelry knowledge
    luggage means metadata middleware money moose music news offspring police rice salmon series sheep shrimp software
    species squid staff swine traffic trousers trout weather
    """.split()  # noqa: SIM905 - a list of words is easier to read so
)
_SINGULARS = {plural: singular for singular, plural in _IRREGULAR.items() if plural != "data"}
_TO_OES = frozenset(["hero", "potato", "tomato", "echo", "veto", "torpedo", "embargo", "mosquito"])
_USE = re.compile(r"(?:.*(?:[^A-Za-z]|(?<=[a-z0-9])(?=[A-Z])))?([A-Za-z]+)\Z", re.DOTALL)

_PLURAL_RULES = (
    (re.compile("(s|ss|sh|ch|x|z)$"), r"\1es"),
    (re.compile("([^aeiou])y$"), r"\1ies"),
    (re.compile("quy$"), "quies"),
    (re.compile("$"), "s"),
)
_SINGULAR_RULES = (
    (re.compile("(ss|us|is|os|as)$"), r"\1"),
    (re.compile("ies$"), "y"),
    (re.compile("(ss|sh|ch|x|zz)es$"), r"\1"),
    (re.compile("(hero|potato|tomato|echo|veto|torpedo|embargo|mosquito)es$"), r"\1"),
    (
        re.compile(
            "(bus|gas|lens|status|virus|campus|bonus|canvas|alias|atlas|census|focus|process|access|address)es$"
        ),
        r"\1",
    ),
    (re.compile("([^s])s$"), r"\1"),
)
_SHORT_IES = frozenset(
    ("pies", "ties", "lies", "dies", "movies", "cookies", "zombies", "calories", "selfies", "rookies")
)


def pluralize(name: str) -> str:
    """The plural of the last word of a name; plurals and uncountable words stay."""
    return _change(name, _plural)


def singularize(name: str) -> str:
    """The singular of the last word of a name; singulars and uncountable words stay."""
    return _change(name, _singular)


def _change(name: str, rule: Callable[[str], str]) -> str:
    match = _USE.match(name)
    if match is None:
        return name
    word = match[1]
    changed = rule(word.lower())
    if len(word) > 1 and word.isupper():
        changed = changed.upper()
    else:
        same = 0
        while same < min(len(word), len(changed)) and word[same].lower() == changed[same]:
            same += 1
        changed = word[:same] + changed[same:]
        if not same and word[0].isupper():
            changed = changed[0].upper() + changed[1:]
    return name[: len(name) - len(word)] + changed


def _plural(word: str) -> str:
    if word in _SAME or word in _SINGULARS:
        return word
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if _singular(word) != word:
        return word
    if word in _TO_OES:
        return word + "es"
    for pattern, replacement in _PLURAL_RULES:
        if pattern.search(word):
            return pattern.sub(replacement, word, count=1)
    return word


def _singular(word: str) -> str:
    if word in _SAME or word in _IRREGULAR:
        return word
    if word in _SINGULARS:
        return _SINGULARS[word]
    if word in _SHORT_IES:
        return word[:-1]
    for pattern, replacement in _SINGULAR_RULES:
        if pattern.search(word):
            return pattern.sub(replacement, word, count=1)
    return word
