"""Reports what in an existing tree (Hygen, the first unjucks, plain Nunjucks) needs a change before it can be used here.

Only reads texts; changes nothing, runs nothing. Each finding has its place, what is wrong and what to write instead. Called by the
command line.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from unjucks_engine.analysis import analyze_source
from unjucks_runtime.generator import frontmatter
from unjucks_runtime.generator.errors import ParseError
from unjucks_runtime.generator.load import decode
from unjucks_runtime.generator.model import TEMPLATE_SUFFIXES, Tree
from unjucks_runtime.generator.yamlfile import parse_yaml

CHANGE: Final = "change"  # does not work as it is
CHECK: Final = "check"  # works, but may mean something else
NOTE: Final = "note"

_MAX_PER_RULE_AND_FILE: Final = 20
_EJS: Final = re.compile(r"<%([-=#_]?)(.*?)(?:[-_]?)%>", re.DOTALL)
_SIDE: Final = {
    "prompt.js": "prompts are code; declare the variables in action.yaml (variables: with type, description, enum, default)",
    "prompt.ts": "prompts are code; declare the variables in action.yaml (variables: with type, description, enum, default)",
    "index.js": "prompts are code; declare the variables in action.yaml (variables: with type, description, enum, default)",
    ".hygen.js": "helpers are code and are not loaded; use the built-in filters",
    ".hygenignore": "list the patterns under exclude in action.yaml",
    "unjucks.yml": "nothing reads it; settings of a set are in unjucks.yaml",
    "unjucks.config.ts": "nothing reads it; settings of a set are in unjucks.yaml",
    "unjucks.config.js": "nothing reads it; settings of a set are in unjucks.yaml",
    "copier.yml": "a Copier template; declare its questions as variables in action.yaml",
    "cookiecutter.json": "a Cookiecutter template; declare its variables in action.yaml, and rename {{cookiecutter.x}} to {{ x }}",
    "plopfile.js": "a Plop file is code; make one action of each generator, with add as a template and append/modify as inject",
}


@dataclass(frozen=True, order=True)
class Finding:
    """One thing to change. ``kind`` is change, check or note."""

    path: str
    line: int
    column: int
    kind: str
    rule: str
    message: str


def scan(files: Tree) -> list[Finding]:
    """Every finding of a tree, sorted by place."""
    found: list[Finding] = []
    for path, (content, _) in files.items():
        if "/_tests/" in path or path.rpartition("/")[2] in ("action.yaml", "generator.yaml"):
            continue
        text = decode(content)
        found.extend(_side_file(path))
        if text is not None:
            found.extend(_template(path, text))
    return sorted(found)


def _side_file(path: str) -> Iterator[Finding]:
    name = path.rpartition("/")[2]
    if name in _SIDE:
        yield Finding(path, 0, 0, CHANGE, "side-file", _SIDE[name])
    if name in ("config.yml", "config.yaml", "meta.yml", "meta.yaml") and path.count("/") >= 2 and "templates/" in path:
        yield Finding(
            path, 0, 0, CHECK, "side-file", "read for its prompts; write action.yaml, which has types and rules"
        )


def _template(path: str, text: str) -> Iterator[Finding]:
    hygen = path.endswith((".ejs.t", ".ejs"))
    plain = path.endswith((".html", ".j2", ".jinja", ".jinja2")) and ("{%" in text or "{{" in text)
    njk = path.endswith(TEMPLATE_SUFFIXES) or plain
    parts = frontmatter.split(text)
    looks = parts is not None and (hygen or njk or frontmatter.looks_like_frontmatter(parts[0]))
    in_set = "_templates/" in path or path.startswith("templates/")
    if not (hygen or njk or (in_set and looks)):
        if in_set and ("{{" in text or "{%" in text) and not _is_side(path):
            yield Finding(
                path,
                0,
                0,
                CHECK,
                "suffix",
                "is copied as it is: only files that end in .njk or have frontmatter are rendered",
            )
        return
    if hygen:
        new = path.removesuffix(".t").removesuffix(".ejs") + ".njk"
        yield Finding(path, 1, 1, CHANGE, "ejs", f"EJS templates are not rendered; rewrite as {new.rpartition('/')[2]}")
    if parts is not None and looks:
        yield from _frontmatter(path, parts[0], hygen)
    body, start = (parts[1], parts[2]) if parts is not None and looks else (text, 1)
    yield from _body(path, body, start, hygen)


def _is_side(path: str) -> bool:
    name = path.rpartition("/")[2]
    return name in _SIDE or name.endswith((".yml", ".yaml", ".md"))


# --- frontmatter -----------------------------------------------------------------------------------------------------------
def _frontmatter(path: str, head: str, hygen: bool) -> Iterator[Finding]:
    if hygen:
        yield from _ejs(path, head, 2)
        head = _EJS.sub("x", head)
    try:
        frontmatter.parse(head)
    except ParseError as error:
        yield Finding(path, error.line, error.column, CHANGE, "frontmatter", error.message)
    try:
        value, marks = parse_yaml(head, first_line=2)
    except ParseError:
        return
    if not isinstance(value, dict):
        return
    for key, item in value.items():
        line, column = marks.get((key,), (2, 1))

        def note(kind: str, message: str, key: str = key, place: tuple[int, int] = (line, column)) -> Finding:
            return Finding(path, *place, kind, key, message)

        if key in ("before", "after") and hygen and isinstance(item, str):
            yield note(
                CHECK, f"Hygen reads {key} as an expression; here it is plain text: write /{item}/ when it is one"
            )
        if key == "skip_if" and hygen:
            yield note(CHECK, "Hygen reads skip_if as an expression; here it is plain text: write /…/ when it is one")
        if key == "at_line":
            yield note(CHECK, "Hygen counts at_line from 0; here it is another name of lineAt, which counts from 1")
        if key in ("inject", "append", "prepend") and hygen and item is False:
            yield note(CHECK, f"Hygen takes {key}: false as set; here it is off")
        if key == "skipIf" and isinstance(item, str):
            yield from _skip_if(item, note)
        if key == "to" and isinstance(item, str) and (item.startswith("/") or ".." in item.split("/")):
            yield note(CHANGE, "targets stay inside the output folder: neither absolute nor with ..")


def _skip_if(text: str, note: Callable[[str, str], Finding]) -> Iterator[Finding]:
    if text.startswith("!"):
        yield note(CHANGE, f"skipIf is an expression: write not {text[1:].strip()}")
    elif re.fullmatch(r"\w+\s*[!=]=\s*[A-Za-z_][\w-]*", text):
        name, operator, word = re.split(r"\s*([!=]=)\s*", text)
        yield note(
            CHECK, f"skipIf is an expression: {word} is a variable there; for the text write {name} {operator} '{word}'"
        )
    elif "exists" in text:
        yield note(CHANGE, "for a file that exists write unless_exists: true; for text in the target skip_if")


# --- bodies ------------------------------------------------------------------------------------------------------------------
_RULES: Final = (
    (CHANGE, "elsif", re.compile(r"\{%-?\s*elsif\b"), "the tag is elif (or elseif)"),
    (CHANGE, "or", re.compile(r"\{[%{][^%}\n]*\|\|"), "|| is no operator of Nunjucks; write or"),
    (CHANGE, "and", re.compile(r"\{[%{][^%}\n]*&&"), "&& is no operator of Nunjucks; write and"),
    (CHANGE, "not", re.compile(r"\{%-?\s*(?:if|elif)\s+!\s*\w"), "! is no operator of Nunjucks; write not"),
    (CHECK, "clock", re.compile(r"\b(?:now|timestamp)\(\)"), "the clock is only there when the run pins a time"),
    (CHECK, "faker", re.compile(r"\|\s*fake[rA-Z]\w*|\bfaker\."), "random values are only there when the run pins a seed"),
    (CHANGE, "rdf", re.compile(r"\|\s*(?:rdf|sparql)\w*", re.IGNORECASE), "RDF filters are not part of this engine"),
    (CHANGE, "host", re.compile(r"\.constructor\b|\b__proto__\b|\bprocess\.|\brequire\("),
     "objects of the host are not reachable"),
)  # fmt: skip


def _body(path: str, body: str, start: int, hygen: bool) -> Iterator[Finding]:
    if hygen or "<%" in body:
        yield from _ejs(path, body, start)
    explained = False
    for kind, rule, pattern, message in _RULES:
        for number, match in enumerate(pattern.finditer(body)):
            if number >= _MAX_PER_RULE_AND_FILE:
                break
            explained = True
            yield Finding(path, *_place(body, match.start(), start), kind, rule, message)
    if not hygen:
        yield from _engine(path, body, start, syntax=not explained)


def _engine(path: str, body: str, start: int, *, syntax: bool) -> Iterator[Finding]:
    """What our engine's parser says: syntax that it does not read, filters and tests that it has not."""
    seen = analyze_source(body)
    for error in seen.errors if syntax else ():
        line = error.line or body.rstrip().count("\n") + 1
        yield Finding(path, line + start - 1, error.column, CHANGE, "syntax", error.message)
    for kind, uses in (("filter", seen.unknown_filters), ("test", seen.unknown_tests)):
        for use in uses[:_MAX_PER_RULE_AND_FILE]:
            message = (
                f"there is no {kind} {use.name!r}; own {kind}s cannot be added: give the finished value as a variable"
            )
            yield Finding(path, use.place.line + start - 1, use.place.column, CHANGE, kind, message)


def _place(text: str, index: int, start: int) -> tuple[int, int]:
    return text.count("\n", 0, index) + start, index - text.rfind("\n", 0, index)


def _ejs(path: str, text: str, start: int) -> Iterator[Finding]:
    for number, match in enumerate(_EJS.finditer(text)):
        if number >= _MAX_PER_RULE_AND_FILE:
            yield Finding(path, *_place(text, match.start(), start), NOTE, "ejs", "and more EJS tags")
            return
        yield Finding(
            path, *_place(text, match.start(), start), CHANGE, "ejs", _ejs_hint(match.group(1), match.group(2))
        )


_HELPERS: Final[tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...]] = (
    (re.compile(r"^h\.inflection\.(\w+)\(\s*([\w.]+)\s*\)$"), lambda m: f"{{{{ {m.group(2)} | {m.group(1)} }}}}"),
    (
        re.compile(r"^h\.changeCase\.(\w+)\(\s*([\w.]+)\s*\)$"),
        lambda m: f"{{{{ {m.group(2)} | {_case(m.group(1))} }}}}",
    ),
    (re.compile(r"^h\.(\w+)\(\s*([\w.]+)\s*\)$"), lambda m: f"{{{{ {m.group(2)} | {m.group(1)} }}}}"),
    (re.compile(r"^Name$"), lambda m: "{{ name | pascalCase }}"),
    (re.compile(r"^locals\.([\w.]+)$"), lambda m: f"{{{{ {m.group(1)} }}}}"),
    (re.compile(r"^([\w.]+)$"), lambda m: f"{{{{ {m.group(1)} }}}}"),
)
_CASES: Final = {
    "camel": "camelCase", "pascal": "pascalCase", "snake": "snakeCase", "param": "kebabCase", "kebab": "kebabCase",
    "constant": "constantCase", "title": "titleCase", "sentence": "sentenceCase",
}  # fmt: skip


def _case(name: str) -> str:
    return _CASES.get(name.removesuffix("Case"), name)


def _ejs_hint(kind: str, code: str) -> str:
    code = code.strip()
    if kind == "#":
        return "an EJS comment; write {# … #}"
    if kind in ("=", "-"):
        for pattern, made in _HELPERS:
            if match := pattern.match(code):
                return f"an EJS value; write {made(match)}"
        return "an EJS value with code; write {{ expression | filter }}"
    if match := re.match(r"^if\s*\((.*)\)\s*\{$", code):
        return f"an EJS condition; write {{% if {match.group(1).strip()} %}}"
    if code.startswith("}") and "else" in code:
        return "an EJS else; write {% else %} or {% elif … %}"
    if match := re.match(r"^([\w.]+)\.forEach\(\s*\(?\s*(\w+)", code):
        return f"an EJS loop; write {{% for {match.group(2)} in {match.group(1)} %}}"
    if code.startswith("}"):
        return "the end of an EJS block; write {% endif %} or {% endfor %}"
    return "EJS code; write it with Nunjucks tags, or compute it outside and give it as a variable"
