"""Reading the settings: a YAML file below, the environment above, all problems at once. Called by ``__main__``."""

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails

from unjucks_operator.config.settings import Config

ENVIRONMENT: Mapping[str, tuple[str, ...]] = {
    "UNJUCKS_DATABASE_DSN": ("database", "dsn"),
    "UNJUCKS_DATABASE_DIRECT_DSN": ("database", "direct_dsn"),
    "UNJUCKS_CACHE_URLS": ("cache", "urls"),
    "UNJUCKS_LOG_LEVEL": ("logging", "level"),
    "POD_IP": ("network", "pod_ip"),
    "POD_NAME": ("leader", "identity"),
    "POD_NAMESPACE": ("platform_namespace",),
}
"""Variables with names of their own, and the fields that they set. Others: see the package's text."""

SECRETS = frozenset({("database", "dsn"), ("database", "direct_dsn"), ("cache", "urls")})
"""Settings that are always text, and never shown."""

_PREFIX = "UNJUCKS_"
_ADAPTER: TypeAdapter[Config] = TypeAdapter(Config)


class ConfigError(Exception):
    """The configuration cannot be used. ``problems`` are all of them, each with its path."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(
            f"the configuration has {len(problems)} problem(s):\n" + "\n".join(f"  - {it}" for it in problems)
        )
        self.problems = problems


def load(path: str | Path | None = None, environment: Mapping[str, str] | None = None) -> Config:
    """The configuration from the file (None: no file) and the environment (None: that of the process).

    Raises ConfigError with all problems, each with its path and where it came from.
    """
    environment = os.environ if environment is None else environment
    values, problems = _read(Path(path)) if path is not None else ({}, [])
    origins: dict[tuple[str, ...], str] = {}
    for variable in sorted(environment):
        keys = _path_of(variable)
        if keys is None:
            continue
        if (unknown := _unknown(keys)) is not None:
            problems.append(f"${variable}: there is no setting {unknown}")
            continue
        if environment[variable] == "":
            continue  # an optional variable of the pod that has no value
        camel = tuple(map(to_camel, keys))
        origins[camel] = variable
        _put(values, camel, _scalar(environment[variable], secret=keys in SECRETS))
    _merge_tiers(values)
    try:
        config = _ADAPTER.validate_python(values)
    except ValidationError as error:
        problems += [_problem(detail, origins) for detail in error.errors(include_input=False, include_url=False)]
    if problems:
        raise ConfigError(problems)
    return config


def dump(config: Config) -> dict[str, Any]:
    """The configuration as the file would say it, every setting spelled out; secrets as asterisks."""
    result: dict[str, Any] = _ADAPTER.dump_python(config, mode="json", by_alias=True)
    return result


def json_schema() -> dict[str, Any]:
    """JSON Schema of the file."""
    return _ADAPTER.json_schema(by_alias=True, mode="validation")


def _read(path: Path) -> tuple[dict[str, Any], list[str]]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        return {}, [f"{path}: cannot be read: {error.strerror}"]
    except UnicodeDecodeError:
        return {}, [f"{path}: is not UTF-8 text"]
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        return {}, [f"{path}:{place} is not YAML: {getattr(error, 'problem', None) or error}"]
    if values is None:
        return {}, []
    if not isinstance(values, dict):
        return {}, [f"{path}: must be a mapping of settings, not {type(values).__name__}"]
    return values, []


def _path_of(variable: str) -> tuple[str, ...] | None:
    """The field that an environment variable sets. None for a variable that is none of ours.

    Only names with two underscores are ours: Kubernetes itself injects variables such as UNJUCKS_OPERATOR_SERVICE_HOST.
    """
    if variable in ENVIRONMENT:
        return ENVIRONMENT[variable]
    if variable.startswith(_PREFIX) and "__" in variable:
        return tuple(variable.removeprefix(_PREFIX).lower().split("__"))
    return None


def _unknown(keys: tuple[str, ...]) -> str | None:
    """The dotted path up to the first key that is no field, or None when the path leads to a setting."""
    kind: Any = Config
    for depth, key in enumerate(keys):
        hints = get_type_hints(kind) if is_dataclass(kind) else {}
        if key not in hints:
            return ".".join(map(to_camel, keys[: depth + 1]))
        kind = hints[key]
    return ".".join(map(to_camel, keys)) + " (it is a group of settings)" if is_dataclass(kind) else None


def _scalar(text: str, *, secret: bool) -> Any:
    """A value from the environment, read as YAML so that numbers, lists and booleans work; a secret is always text."""
    if secret:
        return text
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    return text if value is None else value


def _put(values: dict[str, Any], keys: tuple[str, ...], value: Any) -> None:
    for key in keys[:-1]:
        below = values.get(key)
        if not isinstance(below, dict):
            below = values[key] = {}
        values = below
    values[keys[-1]] = value


def _merge_tiers(values: dict[str, Any]) -> None:
    """Fill what the file leaves out of a tier with the defaults of that tier, not with those of the smallest."""
    tiers = values.get("tiers")
    if not isinstance(tiers, dict):
        return
    defaults = dump(Config())["tiers"]
    for name, tier in tiers.items():
        if isinstance(tier, dict) and name in defaults:
            tiers[name] = _merged(defaults[name], tier)


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    result = dict(below)
    for key, value in above.items():
        known = result.get(key)
        result[key] = _merged(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return result


def _problem(detail: ErrorDetails, origins: Mapping[tuple[str, ...], str]) -> str:
    location = tuple(str(part) for part in detail["loc"] if not str(part).startswith("function-"))
    path = ".".join(location) or "the configuration"
    origin = next((name for keys, name in origins.items() if location[: len(keys)] == keys), None)
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        message = "there is no such setting" + _suggestion(location)
    message = re.sub(r"^Input should", "should", message)
    return f"{path}: {message}" + (f" (from ${origin})" if origin else "")


def _suggestion(location: tuple[str, ...]) -> str:
    kind: Any = Config
    for part in location[:-1]:
        found = {to_camel(name): hint for name, hint in get_type_hints(kind).items()} if is_dataclass(kind) else {}
        kind = found.get(part)
    known = [to_camel(entry.name) for entry in fields(kind)] if is_dataclass(kind) else []
    close = difflib.get_close_matches(location[-1], known, n=1)
    return f"; did you mean {close[0]}?" if close else ""
