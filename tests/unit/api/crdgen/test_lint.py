"""The lint finds each kind of mistake, and nothing in the models as they are."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from unjucks_api import markers
from unjucks_api.crdgen.crd import build_schema
from unjucks_api.crdgen.lint import MAX_CRD_BYTES, check_kind, check_schema
from unjucks_api.v1alpha1 import KINDS, GenerationJob, Tenant
from unjucks_api.v1alpha1.common import Object

Schema = dict[str, Any]
Change = Callable[[Schema, Schema], object]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.isolation("T-no-namespace-in-refs")
def test_our_own_models_are_clean(kind: type[Object]) -> None:
    assert [str(finding) for finding in check_kind(kind)] == []


def _drop(part: Schema, key: str) -> None:
    del part[key]


# Each row: rule, path that must be named, and what is done to spec and status of an otherwise clean Tenant.
MISTAKES: list[tuple[str, str, Change]] = [
    ("description", "Tenant.spec.displayName", lambda spec, _: _drop(spec["displayName"], "description")),
    ("description", "Tenant.spec.tier", lambda spec, _: spec["tier"].update(description="tier of the tenant.")),
    ("description", "Tenant.spec.tier", lambda spec, _: spec["tier"].update(description="The field holds the tier.")),
    ("description", "Tenant.spec.tier", lambda spec, _: spec["tier"].update(description="What it is, TODO write.")),
    ("description", "Tenant.spec.quota", lambda spec, _: spec["quota"].update(description="Limits of the tenant")),
    ("bounds", "Tenant.spec.displayName", lambda spec, _: _drop(spec["displayName"], "maxLength")),
    ("bounds", "Tenant.spec.namespaces", lambda spec, _: _drop(spec["namespaces"], "maxItems")),
    ("bounds", "Tenant.spec.labels", lambda spec, _: _drop(spec["labels"], "maxProperties")),
    ("bounds", "Tenant.spec.labels.*", lambda spec, _: _drop(spec["labels"]["additionalProperties"], "maxLength")),
    (
        "bounds",
        "Tenant.spec.members.owners[].name",
        lambda spec, _: _drop(spec["members"]["properties"]["owners"]["items"]["properties"]["name"], "maxLength"),
    ),
    ("bounds", "Tenant.spec.quota.cpu", lambda spec, _: _drop(spec["quota"]["properties"]["cpu"], "maxLength")),
    ("bounds", "Tenant.status.observedGeneration", lambda _, status: _drop(status["observedGeneration"], "maximum")),
    (
        "bounds",
        "Tenant.status.observedGeneration",
        lambda _, status: status["observedGeneration"].update(maximum=2**63 - 1),
    ),
    ("list-type", "Tenant.spec.namespaces", lambda spec, _: _drop(spec["namespaces"], markers.X_LIST_TYPE)),
    ("list-type", "Tenant.spec.namespaces", lambda spec, _: _drop(spec["namespaces"]["items"], "required")),
    (
        "list-type",
        "Tenant.spec.namespaces",
        lambda spec, _: spec["namespaces"].update({markers.X_LIST_TYPE: "atomic"}),
    ),
    (
        "list-type",
        "Tenant.spec.members.owners",
        lambda spec, _: spec["members"]["properties"]["owners"].update({markers.X_LIST_TYPE: "set"}),
    ),
    ("float", "Tenant.spec.suspend", lambda spec, _: spec["suspend"].update(type="number")),
    ("bool", "Tenant.spec.suspend", lambda spec, _: _drop(spec["suspend"], markers.X_BOOL_REASON)),
    ("free", "Tenant.spec.quota", lambda spec, _: spec["quota"].update({markers.X_PRESERVE: True})),
    ("nullable", "Tenant.spec.quota", lambda spec, _: spec["quota"].update(nullable=True)),
    ("enum-spelling", "Tenant.spec.tier", lambda spec, _: _drop(spec["tier"], markers.X_ENUM_REASON)),
    (
        "status-enum",
        "Tenant.status.database.mode",
        lambda _, status: status["database"]["properties"]["mode"].update(enum=["Shared"]),
    ),
    ("status-required", "Tenant.status.database", lambda _, status: status["database"].update(required=["mode"])),
    (
        "status-default",
        "Tenant.status.database.mode",
        lambda _, status: status["database"]["properties"]["mode"].update(default="Shared"),
    ),
    ("pattern", "Tenant.spec.costCenter", lambda spec, _: spec["costCenter"].update(pattern="^(?!x)a$")),
    ("pattern", "Tenant.spec.costCenter", lambda spec, _: spec["costCenter"].update(pattern=r"^(a)\1$")),
    ("pattern", "Tenant.spec.costCenter", lambda spec, _: spec["costCenter"].update(pattern=r"^\d+$")),
    ("pattern", "Tenant.spec.costCenter", lambda spec, _: spec["costCenter"].update(pattern="[a-z]+")),
    ("field-name", "Tenant.spec.snake_case", lambda spec, _: spec.update(snake_case=spec["suspend"])),
    (
        "cel-message",
        "Tenant.spec.renderers",
        lambda spec, _: spec["renderers"][markers.X_RULES][0].update(message="min and max are wrong."),
    ),
    ("cel-reason", "Tenant.spec.renderers", lambda spec, _: spec["renderers"][markers.X_RULES][0].update(reason="Bad")),
    (
        "cel-field",
        "Tenant.spec.renderers",
        lambda spec, _: spec["renderers"][markers.X_RULES][0].update(fieldPath=".minimum"),
    ),
    ("cel-rule", "Tenant.spec.renderers", lambda spec, _: spec["renderers"][markers.X_RULES][0].update(rule="true")),
    ("columns", "Tenant column Tier", lambda spec, _: _drop(spec, "tier")),
    ("columns", "Tenant column Jobs", lambda _, status: _drop(status, "summary")),
    ("columns", "Tenant selectable .spec.tier", lambda spec, _: _drop(spec, "tier")),
    (
        "crd-size",
        "Tenant",
        lambda spec, _: spec["quota"].update(description="Limits. " + "Very long words. " * (MAX_CRD_BYTES // 17)),
    ),
]


@pytest.mark.parametrize(("rule", "path", "change"), MISTAKES, ids=[f"{row[0]}-{n}" for n, row in enumerate(MISTAKES)])
def test_each_mistake_is_found_at_its_place(rule: str, path: str, change: Change) -> None:
    schema = copy.deepcopy(build_schema(Tenant))
    parts = schema["properties"]
    change(parts["spec"]["properties"], parts["status"]["properties"])
    assert (rule, path) in {(finding.rule, finding.path) for finding in check_schema(Tenant, schema)}


def test_a_finding_reads_well() -> None:
    schema = copy.deepcopy(build_schema(GenerationJob))
    del schema["properties"]["spec"]["properties"]["timeout"]["maxLength"]
    (finding,) = check_schema(GenerationJob, schema)
    assert str(finding) == "GenerationJob.spec.timeout: text needs a maxLength or an enum [bounds]"


@pytest.mark.isolation("T-no-namespace-in-refs")
def test_names_of_other_namespaces_have_no_place_in_namespaced_kinds() -> None:
    """A reference that names a namespace is a way into somebody else's; only the cluster-scoped Tenant may."""

    def fields(schema: Schema, path: str) -> list[str]:
        found = []
        for name, child in schema.get("properties", {}).items():
            found += [f"{path}.{name}", *fields(child.get("items", child), f"{path}.{name}")]
        return found

    for kind in KINDS:
        if kind.definition.namespaced:
            names = fields(build_schema(kind)["properties"]["spec"], "spec")
            assert [name for name in names if "namespace" in name.lower()] == []
