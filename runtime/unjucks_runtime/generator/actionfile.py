"""The side files of a template set: action.yaml, generator.yaml, unjucks.yaml, and for migration config.yml and meta.yml.

Only parses and checks; problems are collected with their places. Pure; called by the loader.
"""

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from unjucks_api.render_protocol import Problem
from unjucks_api.variable_schema import SENSITIVE_KEYWORD, TYPES, check_schema
from unjucks_runtime.generator import frontmatter
from unjucks_runtime.generator.errors import ParseError
from unjucks_runtime.generator.model import FromBase, problem
from unjucks_runtime.generator.yamlfile import Marks, parse_yaml

ACTION_KEYS: Final = (
    "description", "variables", "files", "exclude", "copyOnly", "render", "tests", "fromBase", "deprecated", "tags",
    "classification",
)  # fmt: skip
GENERATOR_KEYS: Final = ("description", "tags", "owners", "deprecated")
SET_KEYS: Final = ("description", "engine", "variables", "classification", "owners")
ENGINE_KEYS: Final = ("undefined", "trimBlocks", "lstripBlocks", "autoescape", "dialect")
CLASSIFICATIONS: Final = ("Public", "Internal", "Confidential", "Restricted")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


@dataclass
class FileRule:
    """An entry of ``files`` in action.yaml: frontmatter for files that cannot hold it, and their place in the order."""

    pattern: str
    order: int
    render: bool
    front: frontmatter.Frontmatter | None


@dataclass
class ActionFile:
    """What action.yaml says; ``schema`` is None when it declares no variables."""

    description: str = ""
    schema: dict[str, Any] | None = None
    rules: list[FileRule] = field(default_factory=list)
    exclude: list[tuple[str, str]] = field(default_factory=list)  # (pattern, condition)
    copy_only: list[str] = field(default_factory=list)
    render: list[str] = field(default_factory=list)
    from_base: list[FromBase] = field(default_factory=list)
    tests: list[dict[str, Any]] = field(default_factory=list)
    deprecation: str | None = None
    tags: list[str] = field(default_factory=list)
    classification: str = ""
    problems: list[Problem] = field(default_factory=list)


class SideFile:
    """A parsed side file with helpers that collect problems instead of raising."""

    def __init__(self, path: str, text: str, keys: tuple[str, ...] | None = None) -> None:
        self.path = path
        self.problems: list[Problem] = []
        self.value: dict[str, Any] = {}
        self.marks: Marks = {}
        try:
            value, self.marks = parse_yaml(text)
        except ParseError as error:
            self.problems.append(problem(path, error.message, error.line, error.column))
            return
        if value is None:
            return
        if not isinstance(value, dict):
            self.problems.append(problem(path, f"{path.rpartition('/')[2]} must be a map of keys and values", 1, 1))
            return
        self.value = value
        for key in value if keys is not None else ():
            if key not in (keys or ()):
                near = difflib.get_close_matches(key, keys or (), n=1)
                hint = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(keys or ())}"
                self.add((key,), f"unknown key {key[:60]!r}{hint}")

    def add(self, where: tuple[str | int, ...], message: str, severity: str = "error") -> None:
        """Notes a problem at the place of a key (or of the nearest key around it)."""
        while where and where not in self.marks:
            where = where[:-1]
        line, column = self.marks.get(where, (1, 1))
        self.problems.append(problem(self.path, message, line, column, severity))

    def text(self, *where: str) -> str:
        """The text of a top-level key, or empty; a problem when it is of another kind."""
        value: Any = self.value
        for key in where:
            value = value.get(key) if isinstance(value, dict) else None
        if value is None:
            return ""
        if not isinstance(value, str):
            self.add(where, f"{where[-1]} must be text")
            return ""
        return value.strip()

    def texts(self, key: str) -> list[str]:
        """The list of texts of a top-level key, or an empty list."""
        value = self.value.get(key)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self.add((key,), f"{key} must be a list of texts")
            return []
        return list(value)

    def schema(self, key: str = "variables") -> dict[str, Any] | None:
        """The JSON Schema under ``variables``: complete (``type: object`` + ``properties``) or the short form by name."""
        value = self.value.get(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            self.add((key,), "variables must be a map of names, or a JSON Schema with type: object")
            return None
        schema = self._complete(key, value) if value.get("type") == "object" else self._short(key, value)
        for name in schema.get("properties", {}):
            if not _VARIABLE.fullmatch(str(name)):
                self.add(
                    (key, name) if (key, name) in self.marks else (key, "properties", name),
                    f"{str(name)[:60]!r} is no variable name: use letters, digits and _",
                )
        for pointer, message in check_schema(schema):
            parts = tuple(part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:])
            self.add((key, *(parts if (key, *parts[:1]) in self.marks else parts[1:])), f"variables: {message}")
        return schema

    def _complete(self, key: str, value: Mapping[str, Any]) -> dict[str, Any]:
        schema = dict(value)
        if not isinstance(schema.get("properties", {}), dict):
            self.add((key, "properties"), "properties must be a map")
            schema["properties"] = {}
        schema.setdefault("additionalProperties", False)
        schema["properties"] = {
            name: self._property((key, "properties", name), item) for name, item in schema.get("properties", {}).items()
        }
        return schema

    def _short(self, key: str, value: Mapping[str, Any]) -> dict[str, Any]:
        required: list[str] = []
        properties: dict[str, Any] = {}
        for name, item in value.items():
            where = (key, name)
            if item is None or isinstance(item, str):
                item = {"type": item or "string"}
            if not isinstance(item, dict):
                self.add(where, f"{name} must be a map such as {{type: string}}")
                continue
            own = dict(item)
            needed = own.pop("required", "default" not in own) if not isinstance(own.get("required"), list) else True
            if not isinstance(needed, bool):
                self.add((*where, "required"), "required must be true or false")
                needed = True
            if needed:
                required.append(name)
            properties[name] = self._property(where, own)
        return {"type": "object", "required": required, "properties": properties, "additionalProperties": False}

    def _property(self, where: tuple[str | int, ...], item: Any) -> Any:
        if not isinstance(item, dict):
            return item
        own = dict(item)
        if own.get("type") == "path":  # may hold separators when it goes into a file name
            own |= {"type": "string", "format": "path"}
        if "choices" in own:
            own.setdefault("enum", own.pop("choices"))
        if "sensitive" in own:
            own[SENSITIVE_KEYWORD] = own.pop("sensitive")
        if own.get("type") not in (None, *TYPES) and isinstance(own.get("type"), str):
            near = difflib.get_close_matches(own["type"], (*TYPES, "path"), n=1)
            self.add(
                (*where, "type"), f"unknown type {own['type'][:40]!r}" + (f"; did you mean {near[0]}?" if near else "")
            )
            own.pop("type")
        for inner in ("items",):
            if isinstance(own.get(inner), dict):
                own[inner] = self._property((*where, inner), own[inner])
        if isinstance(own.get("properties"), dict):
            own["properties"] = {
                name: self._property((*where, "properties", name), child) for name, child in own["properties"].items()
            }
        return own


def read_action(path: str, text: str) -> ActionFile:
    """Parses action.yaml."""
    side = SideFile(path, text, ACTION_KEYS)
    made = ActionFile(
        description=side.text("description"),
        schema=side.schema(),
        copy_only=side.texts("copyOnly"),
        render=side.texts("render"),
        tags=side.texts("tags"),
        classification=read_classification(side),
        deprecation=read_deprecation(side),
    )
    _read_exclude(side, made)
    _read_files(side, made)
    _read_from_base(side, made)
    tests = side.value.get("tests")
    if tests is not None:
        if isinstance(tests, list) and all(isinstance(item, dict) for item in tests):
            made.tests = tests
        else:
            side.add(("tests",), "tests must be a list of maps with name, variables and expect")
    made.problems = side.problems
    return made


def read_classification(side: SideFile) -> str:
    """How confidential the output is, or empty; a problem for an unknown word."""
    word = side.text("classification")
    if word not in ("", *CLASSIFICATIONS):
        side.add(("classification",), f"classification must be one of {', '.join(CLASSIFICATIONS)}")
        return ""
    return word


def read_deprecation(side: SideFile) -> str | None:
    """``deprecated: true`` or ``{since, replacedBy, removeAfter}`` as one sentence; None when it is not deprecated."""
    value = side.value.get("deprecated")
    if value in (None, False):
        return None
    if value is True:
        return "deprecated"
    if isinstance(value, dict) and value.keys() <= {"since", "replacedBy", "removeAfter"}:
        words = {"since": "since", "replacedBy": "use", "removeAfter": "removed after"}
        return "deprecated: " + ", ".join(f"{words[key]} {item}" for key, item in value.items())
    side.add(("deprecated",), "deprecated must be true or a map with since, replacedBy, removeAfter")
    return "deprecated"


def _read_exclude(side: SideFile, made: ActionFile) -> None:
    entries = side.value.get("exclude")
    for index, entry in enumerate(entries if isinstance(entries, list) else []):
        where = ("exclude", index)
        if isinstance(entry, str):
            made.exclude.append((entry, ""))
        elif isinstance(entry, dict) and isinstance(entry.get("path"), str) and entry.keys() <= {"path", "if"}:
            try:
                condition = frontmatter.check_expression(str(entry.get("if", "true")), _raiser(side, where), "if")
            except ParseError:
                continue
            made.exclude.append((entry["path"], condition))
        else:
            side.add(where, "an entry of exclude is a pattern, or {path: pattern, if: expression}")
    if entries is not None and not isinstance(entries, list):
        side.add(("exclude",), "exclude must be a list of patterns")


def _raiser(side: SideFile, where: tuple[str | int, ...]) -> Callable[[str], ParseError]:
    def fail(message: str) -> ParseError:
        side.add(where, message)
        return ParseError(message)

    return fail


def _read_files(side: SideFile, made: ActionFile) -> None:
    entries = side.value.get("files")
    if entries is None:
        return
    if not isinstance(entries, list):
        side.add(("files",), "files must be a list of paths, or of maps with path and frontmatter keys")
        return
    for index, entry in enumerate(entries):
        if isinstance(entry, str):
            made.rules.append(FileRule(entry, index, False, None))
            continue
        if not isinstance(entry, dict) or not isinstance(entry.get("path"), str):
            side.add(("files", index), "an entry of files is a path, or a map with path")
            continue
        rest = {key: value for key, value in entry.items() if key not in ("path", "render")}
        front = None
        try:
            front = frontmatter.from_mapping(rest, side.marks, ("files", index)) if rest else None
        except ParseError as error:
            side.problems.append(problem(side.path, error.message, error.line, error.column))
        if not isinstance(entry.get("render", False), bool):
            side.add(("files", index, "render"), "render must be true or false")
        made.rules.append(FileRule(entry["path"], index, entry.get("render") is True, front))


def _read_from_base(side: SideFile, made: ActionFile) -> None:
    entries = side.value.get("fromBase")
    if entries is None:
        return
    if not isinstance(entries, dict):
        side.add(("fromBase",), "fromBase must be a map of variable names")
        return
    for name, entry in entries.items():
        where = ("fromBase", name)
        wrong = not isinstance(entry, dict) or not isinstance(entry.get("glob"), str) or not _VARIABLE.fullmatch(name)
        if wrong or not entry.keys() <= {"glob", "number", "reuse", "width"}:
            side.add(where, "an entry of fromBase is <variable>: {glob, number, reuse, width}")
            continue
        width = entry.get("width", 0)
        if not isinstance(width, int) or isinstance(width, bool) or not 0 <= width <= 20:
            side.add((*where, "width"), "width must be a number from 0 to 20")
            continue
        made.from_base.append(
            FromBase(
                variable=name,
                glob=entry["glob"],
                number=str(entry.get("number", r"^(\d+)")),
                reuse=str(entry.get("reuse", "")),
                width=width,
                line=side.marks.get(where, (0, 0))[0],
            )
        )


# --- accepted for migration, read-only -------------------------------------------------------------------------------------
def schema_from_prompts(prompts: Any) -> tuple[dict[str, Any], list[str]]:
    """(properties, required) out of the list of prompts or variables that config.yml and meta.yml hold; tolerant."""
    properties: dict[str, Any] = {}
    required: list[str] = []
    for entry in prompts if isinstance(prompts, list) else []:
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            continue
        name = entry["name"]
        if not _VARIABLE.fullmatch(name):
            continue
        kind = {
            "confirm": "boolean",
            "input": "string",
            "list": "string",
            "select": "string",
            "multiselect": "array",
        }.get(str(entry.get("type")), entry.get("type"))
        own: dict[str, Any] = {"type": kind} if kind in TYPES else {}
        description = entry.get("description", entry.get("message"))
        if isinstance(description, str):
            own["description"] = description
        choices = entry.get("choices")
        if isinstance(choices, list) and choices and kind != "array":
            own["enum"] = [c.get("value", c.get("name")) if isinstance(c, dict) else c for c in choices]
        if isinstance(entry.get("pattern"), str):
            own["pattern"] = entry["pattern"]
        if "default" in entry and not (isinstance(entry["default"], str) and "{{" in entry["default"]):
            own["default"] = entry["default"]
        elif entry.get("required") is True:
            required.append(name)
        properties[name] = own
    return properties, required
