"""Helm's own opinion of the chart, and what it tells a user whose values are wrong."""

import json
from typing import Any

import pytest
import yaml

from support import chart

DEFAULTS = yaml.safe_load((chart.CHART / "values.yaml").read_text(encoding="utf-8"))
SCHEMA = json.loads((chart.CHART / "values.schema.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", chart.VALUES)
def test_lint_finds_nothing(name: str) -> None:
    done = chart.helm("lint", str(chart.CHART), "--strict", "--values", "-", stdin=json.dumps(chart.VALUES[name]))
    assert done.returncode == 0, done.stdout + done.stderr
    findings = [line for line in done.stdout.splitlines() if line.startswith("[") and "icon is recommended" not in line]
    assert findings == []


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"replicas": 3}, "additional properties 'replicas' not allowed"),
        ({"image": {"pullPolcy": "Always"}}, "additional properties 'pullPolcy' not allowed"),
        ({"database": {"dsn": "postgresql://x"}}, "additional properties 'dsn' not allowed"),
        ({"image": {"pullPolicy": "Sometimes"}}, "'Always', 'IfNotPresent', 'Never'"),
        ({"logLevel": "DEBUG"}, "'debug', 'info', 'warning', 'error'"),
        ({"replicaCount": "2"}, "got string, want integer"),
        ({"dns": {"addresses": ["169.254.20.10"]}}, "does not match pattern"),
        ({"resources": {"limits": {"gpu": 1}}}, "additional properties 'gpu' not allowed"),
        ({"leaderElection": {"leaseSeconds": 0}}, "exclusiveMinimum"),
    ],
    ids=str,
)
def test_wrong_values_are_refused_with_their_place(values: dict[str, Any], told: str) -> None:
    with pytest.raises(chart.Refused) as refused:
        chart.render(values)
    place = next(iter(values))
    assert told in str(refused.value)
    assert place in str(refused.value)


def test_without_any_database_it_says_what_to_set() -> None:
    with pytest.raises(chart.Refused) as refused:
        chart.render({"database": {"bundled": {"enabled": False}}})
    assert "database: set dsnSecretRef.name to a Secret with a DSN, or bundled.enabled to true for evaluation" in str(
        refused.value
    )


def test_the_schema_knows_every_value_and_nothing_else() -> None:
    assert _paths_of_schema(SCHEMA) - {"global"} == _paths_of_values(DEFAULTS, SCHEMA)


def test_every_object_of_the_schema_is_closed_or_free_on_purpose() -> None:
    free = {path for path, schema in _objects(SCHEMA, "") if "additionalProperties" not in schema}
    assert free == {"global", "affinity", "config", "extraEnv[]", "tolerations[]"}


def _paths_of_schema(schema: dict[str, Any], prefix: str = "") -> set[str]:
    found = set()
    for key, below in schema.get("properties", {}).items():
        found.add(prefix + key)
        if not {"cpu", "memory"} <= set(below.get("properties", {})):
            found |= _paths_of_schema(below, f"{prefix}{key}.")
    return found


def _paths_of_values(values: dict[str, Any], schema: dict[str, Any], prefix: str = "") -> set[str]:
    found = set()
    for key, value in values.items():
        found.add(prefix + key)
        below = schema.get("properties", {}).get(key, {})
        if isinstance(value, dict) and "properties" in below and "cpu" not in below["properties"]:
            found |= _paths_of_values(value, below, f"{prefix}{key}.")
    return found


def _objects(schema: dict[str, Any], path: str) -> list[tuple[str, dict[str, Any]]]:
    found = [(path, schema)] if schema.get("type") == "object" else []
    for key, below in schema.get("properties", {}).items():
        found += _objects(below, f"{path}.{key}".lstrip("."))
    if isinstance(schema.get("items"), dict):
        found += _objects(schema["items"], f"{path}[]")
    return found
