"""Which variables a job runs with: ``variablesFrom`` in order, later wins, ``spec.variables`` wins over all. Pure.

A reference with ``targetPath`` puts the text of one key at that place; without, the text is YAML or JSON, a map of variables.
Single texts may be read as numbers or booleans where the schema asks for it and nothing is lost; that is why their places are
reported. What came from a Secret is reported as sensitive. Called by ``job.plan``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from unjucks_api.reasons import Reason
from unjucks_api.v1alpha1.generation_job import DEFAULT_VALUES_KEY, VariablesKind, VariablesSource
from unjucks_api.yaml_data import YamlDataError, load_yaml_data
from unjucks_operator.errors import InvalidSpec, Waiting

RETRY_MISSING = 10.0
"""Seconds until a missing ConfigMap or Secret is looked for again (the watch tells earlier for ConfigMaps)."""


MAX_TEXT = 1024 * 1024
"""Characters that all references of a job may have together: what is read here is read with the operator's own CPU."""


@dataclass(frozen=True, slots=True)
class Merged:
    """The merged variables; ``sensitive`` and ``texts`` hold dotted names."""

    values: dict[str, Any]
    sensitive: tuple[str, ...] = ()
    texts: frozenset[str] = field(default_factory=frozenset)


SourceKey = tuple[str, str]
"""(kind, name) of a ConfigMap or Secret in the job's namespace."""


def merge_variables(
    inline: Mapping[str, Any],
    references: Sequence[VariablesSource],
    sources: Mapping[SourceKey, Mapping[str, str] | None],
) -> Merged:
    """Merge them all. ``sources`` holds the text data of every referenced object, None for one that does not exist.

    Raises Waiting (VariablesRefNotFound) when a source that is not optional is missing, InvalidSpec when a reference names a
    key that cannot be a variable.
    """
    values: dict[str, Any] = {}
    sensitive: set[str] = set()
    texts: set[str] = set()
    read = 0
    for reference in references:
        text = _read(reference, sources.get((reference.kind.value, reference.name)))
        if text is None:
            continue
        read += len(text)
        if read > MAX_TEXT:
            raise InvalidSpec(
                f"the texts that variablesFrom names are longer than {MAX_TEXT} characters together; name fewer or smaller ones",
                reason=Reason.VARIABLES_INVALID,
            )
        if reference.target_path:
            _put(values, reference.target_path, text)
            _forget_below(sensitive, reference.target_path)
            _forget_below(texts, reference.target_path)
            texts.add(reference.target_path)
            changed = [reference.target_path]
        else:
            found = _parse(reference, text)
            values = _deep(values, found, "", sensitive, texts)
            changed = _leaves(found, "")
        if reference.kind is VariablesKind.SECRET:
            sensitive.update(changed)
    values = _deep(values, inline, "", sensitive, texts)
    return Merged(values, tuple(sorted(sensitive)), frozenset(texts))


def _read(reference: VariablesSource, data: Mapping[str, str] | None) -> str | None:
    key = reference.values_key or DEFAULT_VALUES_KEY
    if data is not None and key in data:
        return data[key]
    if reference.optional:
        return None
    named = f"{reference.kind.value} {reference.name} of variablesFrom"
    if data is None:
        message = f"{named} does not exist"
    else:
        # The names of a Secret's keys are not for everybody who may read the job's status.
        known = f"; it has: {', '.join(sorted(data)) or 'none'}" if reference.kind is VariablesKind.CONFIG_MAP else ""
        message = f"{named} has no key {key}{known}"
    raise Waiting(message, reason=Reason.VARIABLES_REF_NOT_FOUND, after=RETRY_MISSING)


def _parse(reference: VariablesSource, text: str) -> dict[str, Any]:
    key = reference.values_key or DEFAULT_VALUES_KEY
    where = f"key {key} of {reference.kind.value} {reference.name}"
    try:
        found = load_yaml_data(text)
    except YamlDataError as error:
        # The parser's own message could quote a Secret: only the place is told.
        raise InvalidSpec(
            f"{where} is neither YAML nor JSON that can be read: {error.problem}", reason=Reason.VARIABLES_INVALID
        ) from None
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise InvalidSpec(
            f"{where} is no map of variables; or set targetPath to take its text", reason=Reason.VARIABLES_INVALID
        )
    return found


def _put(values: dict[str, Any], path: str, text: str) -> None:
    *parents, last = path.split(".")
    place = values
    for name in parents:
        inner = place.setdefault(name, {})
        if not isinstance(inner, dict):
            raise InvalidSpec(
                f"targetPath {path} of variablesFrom goes through {name}, which is no map",
                reason=Reason.VARIABLES_INVALID,
            )
        place = inner
    place[last] = text


def _leaves(values: Mapping[str, Any], path: str) -> list[str]:
    """The dotted names of everything that is not a map with members."""
    found: list[str] = []
    for name, value in values.items():
        inner = f"{path}.{name}" if path else name
        found += _leaves(value, inner) if isinstance(value, dict) and value else [inner]
    return found


def _deep(
    below: Mapping[str, Any], above: Mapping[str, Any], path: str, sensitive: set[str], texts: set[str]
) -> dict[str, Any]:
    merged = dict(below)
    for name, value in above.items():
        inner = f"{path}.{name}" if path else name
        if isinstance(value, dict) and isinstance(merged.get(name), dict):
            merged[name] = _deep(merged[name], value, inner, sensitive, texts)
        else:
            merged[name] = value
            _forget_below(sensitive, inner)
            _forget_below(texts, inner)
    return merged


def _forget_below(paths: set[str], path: str) -> None:
    """What stood at or below ``path`` was replaced."""
    paths.difference_update([known for known in paths if known == path or known.startswith(path + ".")])
