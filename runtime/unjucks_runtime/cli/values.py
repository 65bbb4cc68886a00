"""Variables from the command line: ``--set a.b=1``, ``key=value``, ``--entity Order``, a positional name, data files, prompts.

What stands on the command line is text; the generator turns it into the schema's types where that loses nothing. Data files keep
their types. Called by the commands that generate.
"""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.prompt import Confirm, Prompt
from rich.text import Text

from unjucks_api.reasons import Reason
from unjucks_api.variable_schema import canonical, measure
from unjucks_api.variables import ProblemKind, coerce_text, subschemas_at, validate
from unjucks_runtime.generator.errors import GenerationError, ParseError, Place
from unjucks_runtime.generator.model import Action
from unjucks_runtime.generator.yamlfile import parse_yaml

_MAX_DATA = 4 * 1024 * 1024


@dataclass
class Given:
    """Variables as given: ``values`` nested, ``text`` the dotted names of those that came as text."""

    values: dict[str, Any] = field(default_factory=dict)
    text: list[str] = field(default_factory=list)

    def put(self, name: str, value: Any, *, is_text: bool) -> None:
        """Sets a value by its dotted name; objects on the way are made."""
        parts = name.split(".")
        holder: Any = self.values
        for part in parts[:-1]:
            if isinstance(holder, list):
                holder = holder[_index(part, holder, name)]
                continue
            holder = holder.setdefault(part, {})
            if not isinstance(holder, dict | list):
                raise usage(f"{name}: {part} is given as a single value already")
        if isinstance(holder, list):
            holder[_index(parts[-1], holder, name)] = value
        else:
            holder[parts[-1]] = value
        if is_text:
            self.text.append(name)


def _index(part: str, holder: list[Any], name: str) -> int:
    if not part.isdigit() or int(part) >= len(holder):
        raise usage(f"{name}: {part} is no place of a list with {len(holder)} items")
    return int(part)


def usage(message: str) -> GenerationError:
    """The error of variables that cannot be read."""
    return GenerationError(Reason.VARIABLES_INVALID, message)


def collect(action: Action, extra: Sequence[str], sets: Sequence[str], data: Sequence[str]) -> Given:
    """Everything that was given, later sources winning: data files, flags and key=value, ``--set``."""
    given = Given()
    for source in data:
        merge(given.values, read_data(source))
    _flags(action, list(extra), given)
    for item in sets:
        name, equals, value = item.partition("=")
        if not equals or not name:
            raise usage(f"--set {item!r}: write name=value")
        given.put(name, value, is_text=True)
    return given


def merge(into: dict[str, Any], more: Mapping[str, Any]) -> None:
    """Puts ``more`` over ``into``: objects key by key, everything else replaced."""
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = value


def read_data(source: str) -> dict[str, Any]:
    """An object from a JSON or YAML file, or from standard input for ``-``."""
    name = "standard input" if source == "-" else source
    try:
        text = sys.stdin.read(_MAX_DATA + 1) if source == "-" else Path(source).read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise GenerationError(Reason.SOURCE_NOT_FOUND, f"cannot read {name}: {error}") from None
    if len(text) > _MAX_DATA:
        raise usage(f"{name} is larger than {_MAX_DATA} characters")
    try:
        value = json.loads(text) if text.lstrip().startswith("{") else parse_yaml(text, max_chars=_MAX_DATA)[0]
    except ParseError as error:
        raise GenerationError(Reason.VARIABLES_INVALID, error.message, Place(name, error.line, error.column)) from None
    except (ValueError, RecursionError):
        value = _flow(text, name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise usage(f"{name} must hold an object with the variables")
    why = measure(value, max_depth=64, max_nodes=50_000, max_text=_MAX_DATA)
    if why:
        raise usage(f"{name} is refused: {why}")
    return value


def typed(value: str) -> Any:
    """Text where no schema is at hand: JSON where it is JSON of another kind than text, else the text itself."""
    try:
        parsed = json.loads(value)
    except ValueError:
        return value
    return value if isinstance(parsed, str) else parsed


def _flow(text: str, name: str) -> Any:
    """Text that starts with ``{`` and is no JSON may still be YAML in flow style."""
    try:
        return parse_yaml(text, max_chars=_MAX_DATA)[0]
    except ParseError as error:
        raise GenerationError(Reason.VARIABLES_INVALID, error.message, Place(name, error.line, error.column)) from None


def _flags(action: Action, words: list[str], given: Given) -> None:
    names = {variable.name for variable in action.variables}
    by_flag = {_flat(name): name for name in sorted(names)}
    while words:
        word = words.pop(0)
        if word.startswith("--") and len(word) > 2:
            flag, equals, value = word[2:].partition("=")
            name = by_flag.get(_flat(flag.split(".")[0]), flag.split(".")[0])
            dotted = ".".join([name, *flag.split(".")[1:]])
            if not equals:
                negated = flag.startswith("no-") and _flat(flag) not in by_flag
                if negated and _kind(action, by_flag.get(_flat(flag[3:]), "")) == "boolean":
                    given.put(by_flag[_flat(flag[3:])], False, is_text=False)
                    continue
                if _kind(action, name) == "boolean" and not (words and words[0] in ("true", "false")):
                    given.put(dotted, True, is_text=False)
                    continue
                if not words:
                    raise usage(f"{word} needs a value")
                value = words.pop(0)
            given.put(dotted, value, is_text=True)
        elif re.match(r"[A-Za-z_][\w.]*=", word):
            name, _, value = word.partition("=")
            given.put(name, value, is_text=True)
        elif word.startswith("-"):
            raise usage(f"there is no option {word}; variables are given as --name value")
        else:
            _positional(action, word, given)


def _positional(action: Action, word: str, given: Given) -> None:
    """A bare word is the first required variable that is not given yet (as in ``unjucks new component Button``)."""
    for variable in action.variables:
        if variable.required and variable.name not in given.values and variable.type in ("string", "path", "any"):
            return given.put(variable.name, word, is_text=True)
    raise usage(f"{word!r} belongs to no variable; write name=value")


def _flat(name: str) -> str:
    return re.sub(r"[-_]", "", name).lower()


def _kind(action: Action, name: str) -> str:
    return next((variable.type for variable in action.variables if variable.name == name), "")


# --- prompts -----------------------------------------------------------------------------------------------------------------
def ask_missing(action: Action, given: Given, console: Console) -> None:
    """Asks for the required variables that are missing, until each answer fits; only called on a terminal."""
    schema = dict(action.schema)
    for problem in validate(schema, given.values, text=given.text)[1]:
        name = problem.path
        if problem.kind is not ProblemKind.MISSING or not re.fullmatch(r"\w+", name):
            continue
        while True:
            given.values[name] = _ask(schema, name, console)
            wrong = [
                item for item in validate(schema, given.values)[1] if item.path.split(".")[0].split("[")[0] == name
            ]
            if not wrong:
                break
            for item in wrong:
                console.print(Text(f"  {item}", style="red"))


def _ask(schema: dict[str, Any], name: str, console: Console) -> Any:
    nodes = subschemas_at(schema, (name,))[-1]

    def first(key: str) -> Any:
        return next((node[key] for node in nodes if key in node), None)

    about = first("description")
    label = Text.assemble((name, "bold"), (f" ({about})" if isinstance(about, str) else ""))
    declared = first("type")
    kinds = [declared] if isinstance(declared, str) else declared or []
    if kinds == ["boolean"]:
        return Confirm.ask(label, console=console)
    choices = first("enum")
    if isinstance(choices, list):
        by_text = {item if isinstance(item, str) else canonical(item): item for item in choices}
        return by_text[Prompt.ask(label, console=console, choices=list(by_text))]
    secret = first("writeOnly") is True or first("x-sensitive") is True
    if "array" in kinds or "object" in kinds:
        label.append(" as JSON", style="dim")
    return coerce_text(Prompt.ask(label, console=console, password=secret), kinds)
