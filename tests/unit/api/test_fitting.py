"""Statuses are brought within what the API server takes; those that fit already stay as they are."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support import schema_strategies
from unjucks_api.crdgen.crd import build_schema
from unjucks_api.v1alpha1 import KINDS, GenerationJob, TemplateRegistry, Tenant
from unjucks_api.v1alpha1.common import Object
from unjucks_api.v1alpha1.fitting import MAX_STATUS_BYTES, fit_status

SCHEMAS = {kind: build_schema(kind)["properties"]["status"] for kind in KINDS}
GOOD = {kind: schema_strategies.values(schema) for kind, schema in SCHEMAS.items()}
DAMAGED = {kind: schema_strategies.damaged(schema) for kind, schema in SCHEMAS.items()}
DIGEST = "sha256:" + "0" * 64


@settings(max_examples=50)
@given(data=st.data())
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_good_status_is_not_changed(kind: type[Object], data: st.DataObject) -> None:
    status = data.draw(GOOD[kind])
    assert fit_status(kind, status) == status


@settings(max_examples=50)
@given(data=st.data())
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_any_status_becomes_one_that_the_schema_admits(kind: type[Object], data: st.DataObject) -> None:
    status = data.draw(DAMAGED[kind])
    fitted = fit_status(kind, status)
    kind.definition.status.model_validate(fitted)
    assert set(fitted) <= set(SCHEMAS[kind]["properties"])
    assert fit_status(kind, fitted) == fitted


def test_long_text_is_cut_and_shows_it() -> None:
    fitted = fit_status(Tenant, {"deletion": {"blockedBy": ["x" * 2000, "y"]}})
    assert fitted["deletion"]["blockedBy"] == ["x" * 1023 + "…", "y"]


def test_long_lists_lose_their_ends() -> None:
    fitted = fit_status(GenerationJob, {"files": [{"path": f"f{number}"} for number in range(150)]})
    assert [item["path"] for item in fitted["files"]] == [f"f{number}" for number in range(100)]


def test_a_list_map_has_each_key_once_and_items_without_a_key_go() -> None:
    conditions = [{"type": "Ready", "status": "True"}, {"type": "Ready", "status": "False"}, {"status": "True"}]
    assert fit_status(Tenant, {"conditions": conditions}) == {"conditions": [{"type": "Ready", "status": "True"}]}


def test_exact_values_are_left_out_rather_than_changed() -> None:
    """Half a digest, or another time, would be a lie."""
    status = {
        "artifact": {"digest": "sha256:123", "size": 5, "lastUpdateTime": "yesterday"},
        "catalog": [{"generator": "a", "digest": DIGEST}],
    }
    assert fit_status(TemplateRegistry, status) == {
        "artifact": {"size": 5},
        "catalog": [{"generator": "a", "digest": DIGEST}],
    }
    assert fit_status(GenerationJob, {"startTime": "2026-13-01T00:00:00Z"}) == {}
    assert fit_status(GenerationJob, {"usage": {"cpuSeconds": "0.4\n", "wallSeconds": "1.25"}}) == {
        "usage": {"wallSeconds": "1.25"}
    }


@pytest.mark.parametrize(
    ("value", "expected"),
    [(-1, {"jobs": 0}), (2**40, {"jobs": 2**31 - 1}), (True, {}), (1.5, {}), ("3", {}), (None, {}), (7, {"jobs": 7})],
)
def test_numbers_stay_within_their_bounds(value: object, expected: dict[str, Any]) -> None:
    assert fit_status(Tenant, {"summary": {"jobs": value}}) == {"summary": expected}


def test_unknown_fields_go() -> None:
    """The API server would drop them, and the stored status would differ from the computed one for ever."""
    assert fit_status(Tenant, {"phase": "x", "summary": {"jobs": 1, "pods": 2}}) == {"summary": {"jobs": 1}}


def test_half_of_a_surrogate_pair_cannot_be_sent() -> None:
    assert fit_status(Tenant, {"summary": {"database": "a\ud800b"}}) == {"summary": {"database": "a?b"}}


def test_a_catalogue_of_the_largest_size_is_shortened_until_it_can_be_stored() -> None:
    variable = {"name": "v" * 256, "description": "d" * 256, "enum": ["e" * 256] * 32}
    entry = {"generator": "g", "action": "a", "variables": [variable] * 64}
    status = {"conditions": [{"type": "Ready", "message": "m" * 1024}], "catalog": [entry] * 50}
    assert len(json.dumps(status)) > 20 * 1024 * 1024
    fitted = fit_status(TemplateRegistry, status)
    assert len(json.dumps(fitted)) <= MAX_STATUS_BYTES
    assert fitted["conditions"] == status["conditions"]
    assert fitted["catalog"][0]["variables"]


def test_the_argument_is_left_alone() -> None:
    status = {"conditions": [{"type": "Ready", "message": "m" * 2000}], "unknown": 1}
    before = json.dumps(status)
    fit_status(Tenant, status)
    assert json.dumps(status) == before
