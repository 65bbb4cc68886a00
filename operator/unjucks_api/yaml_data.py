"""YAML and JSON of users as plain data: safe kinds only, no aliases, bounded depth and size, no duplicate keys. Pure.

YAML 1.1 as PyYAML reads it, without tags. Aliases are refused, because a few lines of them unfold into gigabytes. Called for
variables in ConfigMaps and Secrets.
"""

import re
from typing import Any, Final

import yaml

MAX_BYTES: Final = 1024 * 1024
MAX_DEPTH: Final = 64
MAX_NODES: Final = 100_000
MAX_NUMBER: Final = 100
"""Characters of a number. YAML 1.1 counts 1:30:00 in base 60, digit by digit: a long one would take minutes."""

_NUMBER = re.compile(r"[-+0-9_.:]+")
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class YamlDataError(ValueError):
    """The text cannot be read. ``problem`` says what and where, and quotes nothing of the text."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


def load_yaml_data(text: str) -> Any:
    """The one document in ``text`` as dict, list, str, int, float, bool or None. Raises YamlDataError."""
    if len(text) > MAX_BYTES:
        raise YamlDataError(f"it is longer than {MAX_BYTES} characters")
    try:
        _check_events(text)
        return _plain(yaml.load(text, Loader=_Loader))  # noqa: S506  a subclass of SafeLoader, chosen above
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "an unknown place"
        raise YamlDataError(f"not well formed at {place}") from None
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        if isinstance(error, YamlDataError):
            raise
        raise YamlDataError("not well formed") from None


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 0


def _is_base_60(event: yaml.ScalarEvent) -> bool:
    if ":" not in event.value:
        return False
    return (event.tag or "").endswith((":int", ":float")) or (
        event.implicit[0] and bool(_NUMBER.fullmatch(event.value))
    )


def _check_events(text: str) -> None:
    depth = documents = 0
    for nodes, event in enumerate(yaml.parse(text, Loader=_Loader)):
        if isinstance(event, yaml.AliasEvent):
            raise YamlDataError(f"line {_line(event)} has an alias (*name); write the value out")
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
        elif isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.ScalarEvent) and len(event.value) > MAX_NUMBER and _is_base_60(event):
            raise YamlDataError(
                f"line {_line(event)} has a number of more than {MAX_NUMBER} characters; quote it as text"
            )
        if depth > MAX_DEPTH:
            raise YamlDataError(f"line {_line(event)} is nested deeper than {MAX_DEPTH} levels")
        if nodes > MAX_NODES:
            raise YamlDataError(f"it has more than {MAX_NODES} parts")
        if documents > 1:
            raise YamlDataError("it has more than one document")


def _plain(value: Any) -> Any:
    """Only JSON kinds: keys become text, dates their ISO form; a key that appears twice after that is an error."""
    if isinstance(value, dict):
        plain: dict[str, Any] = {}
        for key, item in value.items():
            name = key if isinstance(key, str) else _scalar_text(key)
            if name in plain:
                raise YamlDataError("a map has the same key twice")
            plain[name] = _plain(item)
        return plain
    if isinstance(value, list | tuple | set):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    return _scalar_text(value)


def _scalar_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    if isinstance(value, bytes):
        raise YamlDataError("it holds binary data")
    isoformat = getattr(value, "isoformat", None)
    return str(isoformat() if isoformat is not None else value)
