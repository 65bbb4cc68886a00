"""The runs of a matrix: every combination of its values, with the folder that the files go below. Pure. Called by ``job.plan``."""

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unjucks_api.tree import PathRejectedError, check_path
from unjucks_api.v1alpha1.generation_job_run import MAX_MATRIX_RUNS, Matrix
from unjucks_operator.errors import InvalidSpec

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PLACE = re.compile(r"\{([^{}]*)\}")
_HERE = "."
MAX_LABEL = 200


@dataclass(frozen=True, slots=True)
class Item:
    """One combination. ``below`` is empty when its files keep their own paths."""

    label: str
    below: str
    values: Mapping[str, Any]


def expand_matrix(matrix: Matrix) -> tuple[Item, ...]:
    """All combinations, parameters in the order of their names, the first one slowest. Raises InvalidSpec for what cannot be one.

    The API server keeps no order of names, so theirs is the only one that is always the same.
    """
    parameters = {name: _values(name, values) for name, values in sorted(matrix.parameters.items())}
    count = 1
    for values in parameters.values():
        count *= len(values)
    if count > MAX_MATRIX_RUNS:
        raise InvalidSpec(f"spec.matrix has {count} combinations; at most {MAX_MATRIX_RUNS} are run")
    path = matrix.path or "-".join(f"{{{name}}}" for name in parameters)
    items = []
    for combination in itertools.product(*parameters.values()):
        chosen = dict(zip(parameters, combination, strict=True))
        label = ", ".join(f"{name}={_text(value)}" for name, value in chosen.items())
        items.append(Item(label[:MAX_LABEL], _below(path, chosen), chosen))
    return tuple(items)


def _values(name: str, values: Any) -> list[Any]:
    where = f"spec.matrix.parameters.{name[:64]}"
    if not _NAME.fullmatch(name):
        raise InvalidSpec(f"{where}: a parameter is named as a variable is: letters, digits and _")
    if not isinstance(values, list) or not values:
        raise InvalidSpec(f"{where}: give a list with at least one value")
    seen = {_text(value) for value in values}
    if len(seen) != len(values):
        raise InvalidSpec(f"{where} has a value twice")
    return values


def _text(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return str(value)


def _below(path: str, chosen: Mapping[str, Any]) -> str:
    if path.strip("/") in ("", _HERE):
        return ""

    def put_in(found: re.Match[str]) -> str:
        name = found[1]
        if name not in chosen:
            raise InvalidSpec(
                f"spec.matrix.path has {{{name[:64]}}}, which is no parameter; there are: {', '.join(chosen)}"
            )
        value = chosen[name]
        text = _text(value)
        if isinstance(value, dict | list) or not text or "/" in text:
            raise InvalidSpec(
                f"the value {text[:64]!r} of spec.matrix.parameters.{name} cannot be a folder's name; set spec.matrix.path"
            )
        return text

    made = _PLACE.sub(put_in, path)
    try:
        return check_path(made)
    except PathRejectedError as error:
        raise InvalidSpec(f"spec.matrix.path gives {made[:120]!r}: {error}") from None
