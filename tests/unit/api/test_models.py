"""Reading objects: what the CRDs admit is read, what they refuse is refused with the same words, and no value leaks."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support import api_samples, schema_strategies
from support.api_samples import CEL_PAIRS, FULL, PAIRS, Pair
from unjucks_api import names
from unjucks_api.crdgen.crd import build_schema
from unjucks_api.v1alpha1 import KINDS, GenerationJob, InvalidObjectError, TemplateRegistry, Tenant
from unjucks_api.v1alpha1.common import Object, duration_seconds, quantity, seconds_text
from unjucks_api.v1alpha1.generation_job import DEFAULT_TIMEOUT
from unjucks_api.v1alpha1.template_registry import MAX_DISPLAY, OnInvalidTemplate, Undefined, display_value
from unjucks_api.v1alpha1.tenant import (
    DatabaseMode,
    NamespaceStatus,
    ReclaimPolicy,
    TenantStatus,
    TenantUsage,
    Tier,
    is_reserved_namespace,
)

BY_NAME = {kind.definition.kind: kind for kind in KINDS}
SCHEMAS = {kind: build_schema(kind)["properties"] for kind in KINDS}
SPECS = {kind: schema_strategies.values(schema["spec"]) for kind, schema in SCHEMAS.items()}
STATUSES = {kind: schema_strategies.values(schema["status"]) for kind, schema in SCHEMAS.items()}
# Uniqueness within a list-map is the API server's business, and updates are compared by it alone.
HERE = [pair for pair in PAIRS if pair.old is None and pair.message != "Duplicate value"]


def _problems(kind: type[Object], body: dict[str, Any]) -> list[str]:
    try:
        kind.parse(body)
    except InvalidObjectError as error:
        return error.problems
    return []


def parse(pair: Pair, spec: dict[str, Any], name: str) -> Object:
    return BY_NAME[pair.kind].parse(api_samples.body(pair.kind, spec, name))


@pytest.mark.parametrize("pair", HERE, ids=lambda pair: pair.id)
def test_the_good_one_is_read_and_the_bad_one_is_refused(pair: Pair) -> None:
    assert parse(pair, pair.good, pair.name).name == pair.name
    with pytest.raises(InvalidObjectError) as raised:
        parse(pair, pair.bad, pair.bad_name or pair.name)
    if pair in CEL_PAIRS:
        where = {"": "the object"}.get(pair.field, pair.field)
        assert raised.value.problems == [f"{where}: {pair.message}"]


@pytest.mark.parametrize("kind", FULL)
def test_a_full_object_is_read_whole(kind: str) -> None:
    read = BY_NAME[kind].parse(api_samples.body(kind, FULL[kind]))
    spec = read.model_dump(mode="json", by_alias=True, exclude_unset=True)["spec"]
    assert spec == FULL[kind]


@settings(max_examples=50)
@given(data=st.data())
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_reading_fails_only_where_a_rule_is_broken(kind: type[Object], data: st.DataObject) -> None:
    """Types and bounds of the schema never surprise the models; only CEL rules are left to refuse an object."""
    spec = data.draw(SPECS[kind])
    rules = {pair.message for pair in CEL_PAIRS}
    problems = _problems(kind, api_samples.body(kind.definition.kind, spec))
    assert [problem for problem in problems if not problem.endswith(tuple(rules))] == []


@given(
    body=st.dictionaries(st.sampled_from(["metadata", "spec", "status", "kind", "x"]), schema_strategies.JSON_VALUES)
)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_nonsense_raises_nothing_but_our_error(kind: type[Object], body: dict[str, Any]) -> None:
    problems = _problems(kind, body)
    assert problems or kind.parse(body).name == body["metadata"].get("name", "")


def test_the_error_names_every_field_and_shows_no_value() -> None:
    secret = "hunter2-" * 20
    body = api_samples.body("GenerationJob", api_samples.job(timeout=secret, variables=secret, execution=secret))
    with pytest.raises(InvalidObjectError) as raised:
        GenerationJob.parse(body)
    assert [problem.split(":")[0] for problem in raised.value.problems] == [
        "spec.variables",
        "spec.execution",
        "spec.timeout",
    ]
    assert "hunter2" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_the_error_is_short_even_for_a_wholly_broken_object() -> None:
    members = [{"kind": "Robot", "name": ""} for _ in range(90)]
    with pytest.raises(InvalidObjectError, match=r"; and 175 more$") as raised:
        Tenant.parse(api_samples.body("Tenant", {"members": {"owners": members}}))
    assert len(raised.value.message) < 1024


def test_missing_parts_are_named() -> None:
    with pytest.raises(InvalidObjectError, match=r"^this GenerationJob is not valid: spec.registryRef is missing$"):
        GenerationJob.parse(
            api_samples.body("GenerationJob", {"template": {"generator": "a", "action": "b"}, "dryRun": True})
        )
    with pytest.raises(InvalidObjectError, match="metadata is missing; spec is missing"):
        Tenant.parse({})


def test_fields_of_other_versions_and_odd_statuses_do_no_harm() -> None:
    body = api_samples.body("Tenant", {"tier": "enterprise", "region": "eu", "database": {"server": "x"}})
    body["metadata"]["managedFields"] = [{"manager": "x"}]
    body["status"] = {"conditions": [{"type": "Ready"}], "future": {"a": 1}}
    tenant = Tenant.parse(body)
    assert tenant.spec.tier is Tier.ENTERPRISE
    assert tenant.status == body["status"]
    assert Tenant.parse(body | {"status": "broken"}).status == {}


def test_models_do_not_change() -> None:
    tenant = Tenant.parse(api_samples.body("Tenant", {}))
    with pytest.raises(ValueError, match="frozen"):
        tenant.spec.suspend = True  # type: ignore[misc]


# --- what objects say of themselves --------------------------------------------------------------------------------------
def test_metadata_helpers() -> None:
    body = api_samples.body("GenerationJob", api_samples.job())
    body["metadata"] |= {
        "uid": "u1",
        "generation": 3,
        "deletionTimestamp": "2026-01-01T00:00:00Z",
        "annotations": {names.ANNOTATION_RECONCILE: "disabled", names.ANNOTATION_REQUESTED_AT: "x" * 300},
    }
    job = GenerationJob.parse(body)
    assert (job.name, job.namespace, job.uid, job.generation) == ("sample", "default", "u1", 3)
    assert job.deleting
    assert job.paused
    assert job.requested_at == "x" * 256


def test_an_object_is_not_paused_by_any_other_value() -> None:
    body = api_samples.body("Tenant", {})
    body["metadata"]["annotations"] = {names.ANNOTATION_RECONCILE: "enabled"}
    tenant = Tenant.parse(body)
    assert not tenant.paused
    assert not tenant.deleting
    assert tenant.requested_at == ""


def test_a_tenant_that_says_nothing() -> None:
    tenant = Tenant.parse(api_samples.body("Tenant", {}, "acme"))
    assert tenant.namespaces == ("tenant-acme",)
    assert tenant.database_mode is DatabaseMode.SHARED
    assert tenant.reclaim_policy is ReclaimPolicy.RETAIN
    assert tenant.custom_labels == {}
    assert (tenant.spec.tier, tenant.spec.deletion_policy) == (Tier.STARTER, ReclaimPolicy.RETAIN)


@pytest.mark.parametrize(
    ("policy", "database", "expected"),
    [
        ("Delete", {"reclaimPolicy": "Delete"}, ReclaimPolicy.DELETE),
        ("Delete", {}, ReclaimPolicy.RETAIN),
        ("Delete", {"reclaimPolicy": "Retain"}, ReclaimPolicy.RETAIN),
        ("Retain", {"reclaimPolicy": "Delete"}, ReclaimPolicy.RETAIN),
    ],
)
def test_records_go_only_when_both_policies_say_so(
    policy: str, database: dict[str, str], expected: ReclaimPolicy
) -> None:
    tenant = Tenant.parse(api_samples.body("Tenant", {"deletionPolicy": policy, "database": database}))
    assert tenant.reclaim_policy is expected


def test_labels_of_a_tenant_arrive_under_our_prefix_only() -> None:
    spec = {"labels": {"team": "platform", "app": "x"}, "costCenter": "CC-1"}
    tenant = Tenant.parse(api_samples.body("Tenant", spec))
    assert tenant.custom_labels == {
        "labels.unjucks.io/app": "x",
        "labels.unjucks.io/cost-center": "CC-1",
        "labels.unjucks.io/team": "platform",
    }


def test_namespaces_keep_their_order() -> None:
    tenant = Tenant.parse(api_samples.body("Tenant", {"namespaces": [{"name": "b"}, {"name": "a"}]}))
    assert tenant.namespaces == ("b", "a")


@pytest.mark.parametrize("name", ["kube-", "kube-x", "openshift-x", "default", names.PLATFORM_NAMESPACE])
def test_reserved_namespaces(name: str) -> None:
    assert is_reserved_namespace(name)
    assert not is_reserved_namespace(f"a{name}")


def test_defaults_of_registries_and_jobs() -> None:
    registry = TemplateRegistry.parse(api_samples.body("TemplateRegistry", api_samples.registry()))
    assert registry.spec.path == "."
    assert registry.spec.engine.undefined is Undefined.ERROR
    assert (registry.spec.engine.trim_blocks, registry.spec.engine.lstrip_blocks) == (True, True)
    assert registry.spec.engine.autoescape is False
    assert registry.spec.policy.on_invalid_template is OnInvalidTemplate.KEEP_PREVIOUS
    assert registry.spec.variables.schema_ == {}
    job = GenerationJob.parse(api_samples.body("GenerationJob", api_samples.job()))
    assert job.timeout_seconds == DEFAULT_TIMEOUT == 120
    assert (job.ttl_after_success, job.ttl_after_failure) == (None, None)
    full = GenerationJob.parse(api_samples.body("GenerationJob", FULL["GenerationJob"]))
    assert (full.timeout_seconds, full.ttl_after_success, full.ttl_after_failure) == (90, 86400, 604800)


def test_free_values_stay_as_they_are() -> None:
    job = GenerationJob.parse(api_samples.body("GenerationJob", FULL["GenerationJob"]))
    assert job.spec.variables == FULL["GenerationJob"]["variables"]


# --- scalars -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("500m", "0.5"),
        ("4", "4"),
        ("0.25", "0.25"),
        ("1Ki", "1024"),
        ("8Gi", str(8 * 2**30)),
        ("1.5Mi", "1572864"),
        ("2G", "2000000000"),
    ],
)
def test_quantities(text: str, expected: str) -> None:
    assert str(quantity(text).normalize().__format__("f")) == expected


@pytest.mark.parametrize("text", ["", "-1", "4 ", "1e3", "8GB", "Gi", "1.", ".5", "1\n"])
def test_what_is_no_quantity(text: str) -> None:
    with pytest.raises(ValueError, match="is not a quantity; write for example"):
        quantity(text)


@given(st.one_of(schema_strategies.values(SCHEMAS[Tenant]["spec"]["properties"]["quota"]["properties"]["memory"])))
def test_every_memory_that_the_schema_admits_is_a_quantity(value: int | str) -> None:
    assert quantity(str(value)) >= 0


@pytest.mark.parametrize(("text", "expected"), [("90s", 90), ("2m", 120), ("1h30m", 5400), ("1h0m1s", 3601), ("0s", 0)])
def test_durations(text: str, expected: int) -> None:
    assert duration_seconds(text) == expected


@pytest.mark.parametrize("text", ["", "1", "1d", "1.5h", "-1s", "1s1m", "1m ", "1h\n"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration; write for example"):
        duration_seconds(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0"), (0.4, "0.4"), (2, "2"), (10, "10"), (1.23456, "1.235"), (0.0001, "0"), (-1, "0"), (100, "100")],
)
def test_seconds_as_text(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text


@given(st.floats(min_value=0, max_value=1e9))
def test_seconds_as_text_fit_the_schema(seconds: float) -> None:
    usage = GenerationJob.definition.status.model_validate({"usage": {"cpuSeconds": seconds_text(seconds)}})
    assert usage.wire() == {"usage": {"cpuSeconds": seconds_text(seconds)}}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("postgres", "postgres"),
        (3, "3"),
        (True, "true"),
        (None, "null"),
        ({"b": 1, "a": [2]}, '{"a":[2],"b":1}'),
        ("é", "é"),
    ],
)
def test_values_in_the_catalogue(value: object, text: str) -> None:
    assert display_value(value) == text


def test_long_values_in_the_catalogue_are_cut() -> None:
    assert display_value("x" * 1000) == "x" * (MAX_DISPLAY - 1) + "…"
    assert len(display_value(list(range(1000)))) == MAX_DISPLAY


# --- status --------------------------------------------------------------------------------------------------------------
def test_a_status_goes_out_without_what_is_absent_or_empty() -> None:
    status = TenantStatus(namespaces=(NamespaceStatus(name="a"),), usage=TenantUsage(jobs_active=0))
    assert status.wire() == {"namespaces": [{"name": "a", "ready": False}], "usage": {"jobsActive": 0}}
    assert TenantStatus().wire() == {}


@settings(max_examples=50)
@given(data=st.data())
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_status_that_can_be_stored_can_be_read(kind: type[Object], data: st.DataObject) -> None:
    status = data.draw(STATUSES[kind])
    model = kind.definition.status.model_validate(status)
    assert json.loads(json.dumps(model.wire())) == model.wire()
