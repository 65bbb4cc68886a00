"""The CRDs on a real API server: accepted, defaulted, validated with the words we wrote, explained, shown in columns."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from e2e.cluster.client import Answer, Client
from e2e.cluster.controlplane import ControlPlane
from support import api_samples, schema_strategies
from support.api_samples import CEL_PAIRS, FULL, PAIRS, Body, Pair
from unjucks_api.crdgen.crd import build_schema
from unjucks_api.markers import X_RULES
from unjucks_api.v1alpha1 import KINDS, InvalidObjectError, Object
from unjucks_api.v1alpha1.fitting import fit_status

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("crds")]
SPECS: dict[str, Body] = {
    "Tenant": {},
    "TemplateRegistry": api_samples.registry(),
    "GenerationJob": api_samples.job(),
}
BY_NAME = {kind.definition.kind: kind for kind in KINDS}


@pytest.fixture
def client(control_plane: ControlPlane, crds: list[str]) -> Client:
    return control_plane.admin


def path(kind: str, name: str = "", *, query: str = "", subresource: str = "") -> str:
    definition = BY_NAME[kind].definition
    place = "/namespaces/default" if definition.namespaced else ""
    tail = "".join(f"/{part}" for part in (name, subresource) if part)
    return f"/apis/unjucks.io/v1alpha1{place}/{definition.plural}{tail}" + (f"?{query}" if query else "")


def create(client: Client, body: Body, *, dry_run: bool = True) -> Answer:
    query = "fieldValidation=Strict" + ("&dryRun=All" if dry_run else "")
    return client.request("POST", path(body["kind"], query=query), body)


@pytest.fixture
def stored(client: Client) -> Iterator[Any]:
    """Creates objects that are removed after the test."""
    made: list[Body] = []

    def store(kind: str, spec: Body, name: str) -> Body:
        answer = create(client, api_samples.body(kind, spec, name), dry_run=False)
        body = answer.require()
        made.append(body)
        return body

    yield store
    for body in made:
        client.request("DELETE", path(body["kind"], body["metadata"]["name"]))


def causes(answer: Answer) -> list[tuple[str, str]]:
    return [(item.get("field", ""), item["message"]) for item in answer.body.get("details", {}).get("causes", [])]


# --- acceptance ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_the_crd_is_established_and_structural(client: Client, kind: type[Object]) -> None:
    name = f"{kind.definition.plural}.unjucks.io"
    crd = client.get(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}").require()
    conditions = {item["type"]: item["status"] for item in crd["status"]["conditions"]}
    assert conditions["Established"] == "True"
    assert conditions["NamesAccepted"] == "True"
    assert "NonStructuralSchema" not in conditions
    stored = crd["spec"]["versions"][0]
    assert stored["subresources"] == {"status": {}}
    assert [item["jsonPath"] for item in stored.get("selectableFields", [])] == list(kind.definition.selectable)


@pytest.mark.parametrize("kind", FULL)
def test_every_field_of_the_spec_can_be_used_and_comes_back(client: Client, kind: str) -> None:
    spec = FULL[kind]
    answer = create(client, api_samples.body(kind, spec, "full"))
    assert answer.status == 201, answer.body.get("message")
    assert "Warning" not in answer.headers
    assert answer.body["spec"] == spec
    assert BY_NAME[kind].parse(answer.body).name == "full"


@pytest.mark.parametrize("kind", FULL)
def test_the_full_sample_uses_every_field(kind: str) -> None:
    schema = build_schema(BY_NAME[kind])["properties"]["spec"]
    remote = {"http", "git", "oci", "bucket", "sourceRef", "interval", "timeout", "ignore"}
    exclusive = {"TemplateRegistry": {"configMapRef"} | remote, "GenerationJob": {"schedule"}}  # there it has a ttl
    assert set(schema["properties"]) - set(FULL[kind]) == exclusive.get(kind, set())


def test_unknown_fields_are_refused_under_strict_validation_and_dropped_otherwise(client: Client) -> None:
    body = api_samples.body("Tenant", {"colour": "blue"})
    assert 'unknown field "spec.colour"' in create(client, body).body["message"]
    lenient = client.request("POST", path("Tenant", query="dryRun=All"), body)
    assert lenient.status == 201
    assert "colour" not in lenient.body["spec"]


def test_a_spec_is_needed(client: Client) -> None:
    body = api_samples.body("Tenant", {})
    del body["spec"]
    assert ("spec", "Required value") in causes(create(client, body))


# --- rules ---------------------------------------------------------------------------------------------------------------
def _attempt(client: Client, stored: Any, pair: Pair, spec: Body, name: str) -> Answer:
    if pair.old is None:
        return create(client, api_samples.body(pair.kind, spec, name))
    before = stored(pair.kind, pair.old, f"rule-{pair.id}"[:56])
    after = copy.deepcopy(before) | {"spec": spec}
    return client.request("PUT", path(pair.kind, before["metadata"]["name"], query="dryRun=All"), after)


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.id)
def test_the_good_one_is_accepted_and_the_bad_one_is_refused_with_our_words(
    client: Client, stored: Any, pair: Pair
) -> None:
    good = _attempt(client, stored, pair, pair.good, pair.name)
    assert good.ok, good.body.get("message")
    if pair.old is not None:
        client.request("DELETE", path(pair.kind, f"rule-{pair.id}"[:56]))
    bad = _attempt(client, stored, pair, pair.bad, pair.bad_name or pair.name)
    assert bad.status == 422, bad.body
    found = causes(bad)
    assert any(field == (pair.field or "<nil>") and pair.message in message for field, message in found), found


def test_a_tenant_without_a_database_may_get_one(client: Client, stored: Any) -> None:
    before = stored("Tenant", {"database": {"mode": "None"}}, "gets-a-database")
    for spec in ({"database": {"mode": "Shared"}}, {}, {"database": {"mode": "None"}, "suspend": True}):
        answer = client.request(
            "PUT", path("Tenant", "gets-a-database", query="dryRun=All"), copy.deepcopy(before) | {"spec": spec}
        )
        assert answer.ok, answer.body


def test_every_rule_of_every_crd_has_a_pair() -> None:
    def rules(schema: Any) -> Iterator[str]:
        if isinstance(schema, dict):
            yield from (rule["message"] for rule in schema.get(X_RULES, []))
            for key, value in schema.items():
                if key != X_RULES:
                    yield from rules(value)
        elif isinstance(schema, list):
            for item in schema:
                yield from rules(item)

    for kind in KINDS:
        tried = {pair.message for pair in CEL_PAIRS if pair.kind == kind.definition.kind}
        assert set(rules(build_schema(kind))) == tried


# --- defaults ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("kind", "spec", "expected"),
    [
        ("Tenant", {}, {"tier": "starter", "deletionPolicy": "Retain"}),
        ("TemplateRegistry", api_samples.registry(), api_samples.registry()),
        ("GenerationJob", api_samples.job(), api_samples.job()),
    ],
)
def test_the_server_fills_in_only_what_we_promise(client: Client, kind: str, spec: Body, expected: Body) -> None:
    answer = create(client, api_samples.body(kind, spec))
    assert answer.body["spec"] == expected


@pytest.mark.parametrize("kind", FULL)
def test_applying_the_same_manifest_again_changes_nothing(client: Client, kind: str) -> None:
    place, manifest = path(kind, "applied-twice"), api_samples.body(kind, FULL[kind], "applied-twice")
    first = client.apply(place, manifest).require()
    second = client.apply(place, manifest).require()
    client.request("DELETE", place)
    assert first["spec"] == FULL[kind]
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


def test_two_managers_share_the_namespaces_of_a_tenant(client: Client) -> None:
    """A list-map merges: each manager owns its items, and taking one's own back leaves the other's."""
    place = path("Tenant", "shared-lists")

    def manifest(namespace: str) -> Body:
        return api_samples.body("Tenant", {"namespaces": [{"name": namespace}]}, "shared-lists")

    client.apply(place, manifest("one"), manager="first").require()
    both = client.apply(place, manifest("two"), manager="second").require()
    assert [item["name"] for item in both["spec"]["namespaces"]] == ["one", "two"]
    left = client.apply(place, manifest("three"), manager="first").require()
    client.request("DELETE", place)
    assert {item["name"] for item in left["spec"]["namespaces"]} == {"two", "three"}


# --- status --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_any_status_that_the_models_allow_is_stored_as_it_is(client: Client, stored: Any, kind: type[Object]) -> None:
    name = kind.definition.kind
    before = stored(name, SPECS[name], "status")
    schema = build_schema(kind)["properties"]["status"]

    @settings(max_examples=40, phases=[Phase.generate])
    @given(status=schema_strategies.values(schema))
    def check(status: Body) -> None:
        answer = client.request(
            "PUT", path(name, "status", query="dryRun=All", subresource="status"), before | {"status": status}
        )
        assert answer.ok, answer.body["message"]
        assert answer.body.get("status", {}) == status
        wire = kind.definition.status.model_validate(status).wire()
        assert kind.definition.status.model_validate(wire).wire() == wire

    check()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_whatever_goes_into_a_status_can_be_stored_once_it_is_fitted(
    client: Client, stored: Any, kind: type[Object]
) -> None:
    name = kind.definition.kind
    before = stored(name, SPECS[name], "fitted")
    needed = []

    @settings(max_examples=60, phases=[Phase.generate])
    @given(status=schema_strategies.damaged(build_schema(kind)["properties"]["status"]))
    def check(status: Body) -> None:
        place = path(name, "fitted", query="dryRun=All", subresource="status")
        fitted = fit_status(kind, status)
        answer = client.request("PUT", place, before | {"status": fitted})
        assert answer.ok, answer.body["message"]
        assert answer.body.get("status", {}) == fitted
        needed.append(fitted != status)

    check()
    assert any(needed)


def test_the_status_subresource_leaves_the_spec_alone(client: Client, stored: Any) -> None:
    before = stored("Tenant", {"tier": "enterprise"}, "status-only")
    change = before | {"spec": {"tier": "starter"}, "status": {"observedGeneration": 1}}
    answer = client.request("PUT", path("Tenant", "status-only", subresource="status"), change).require()
    assert (answer["spec"]["tier"], answer["status"]) == ("enterprise", {"observedGeneration": 1})
    assert answer["metadata"]["generation"] == before["metadata"]["generation"]


# --- models and server agree ---------------------------------------------------------------------------------------------
@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_the_models_accept_exactly_what_the_server_accepts(client: Client, kind: type[Object]) -> None:
    verdicts: list[bool] = []

    @settings(max_examples=300, phases=[Phase.generate])
    @given(
        spec=schema_strategies.values(build_schema(kind)["properties"]["spec"]),
        name=st.sampled_from(["a", "a" * 56, "a" * 60]),
    )
    def check(spec: Body, name: str) -> None:
        if kind.definition.kind == "GenerationJob" and "output" not in spec:
            spec = {**spec, "dryRun": True}  # else nearly all were refused for that alone
        body = api_samples.body(kind.definition.kind, spec, name)
        answer = create(client, body)
        assert answer.status in (201, 422), answer.body
        try:
            kind.parse(answer.body if answer.ok else body)
            problem = ""
        except InvalidObjectError as error:
            problem = error.message
        assert answer.ok == (problem == ""), (
            f"server: {answer.body.get('message', 'accepted')}\nmodels: {problem or 'accepted'}"
        )
        verdicts.append(answer.ok)

    check()
    assert verdicts.count(True) >= 5


# --- what people see -----------------------------------------------------------------------------------------------------
def _schema_paths(schema: Any, prefix: str) -> Iterator[str]:
    for name, child in schema.get("properties", {}).items():
        yield f"{prefix}.{name}"
        yield from _schema_paths(child.get("items", child), f"{prefix}.{name}")


def test_every_field_has_a_text_in_the_published_openapi(client: Client) -> None:
    """The document that ``kubectl explain`` reads."""
    document = client.wait(
        "/openapi/v3/apis/unjucks.io/v1alpha1",
        lambda answer: answer.ok and len(answer.body["components"]["schemas"]) >= 6,
        timeout=20,
        what="OpenAPI of our group",
    ).body
    for kind in KINDS:
        published = document["components"]["schemas"][f"io.unjucks.v1alpha1.{kind.definition.kind}"]
        assert published["description"] == kind.definition.summary
        ours = build_schema(kind)
        for part in ("spec", "status"):
            assert set(_schema_paths(published["properties"][part], part)) == set(
                _schema_paths(ours["properties"][part], part)
            )
        assert published["properties"]["spec"]["description"] == ours["properties"]["spec"]["description"]


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("tenant", "Tenant is an organisation on the platform"),
        ("tenant.spec", "Namespaces that the tenant has. Absent: one, named tenant-<name"),
        ("tenant.spec.members.owners", "Members who manage registries and jobs"),
        ("utr.spec.inline.files", "Files of the template set: path to text"),
        ("ugj.spec.variablesFrom", "in order: a later one wins"),
        ("ugj.status.lastError", "Template file that the failure is in."),
    ],
)
def test_kubectl_explain(control_plane: ControlPlane, client: Client, field: str, expected: str) -> None:
    client.wait(
        "/openapi/v3/apis/unjucks.io/v1alpha1",
        lambda answer: answer.ok and len(answer.body["components"]["schemas"]) >= 6,
        timeout=20,
        what="OpenAPI of our group",
    )
    text = " ".join(control_plane.kubectl("explain", field).stdout.split())
    assert expected in text


def test_names_short_names_and_the_category(client: Client) -> None:
    found = client.get("/apis/unjucks.io/v1alpha1").require()["resources"]
    kinds = {item["kind"]: item for item in found if "/" not in item["name"]}
    assert {kind: item["shortNames"] for kind, item in kinds.items()} == {
        "Tenant": ["utn"],
        "TemplateRegistry": ["utr"],
        "GenerationJob": ["ugj"],
    }
    assert all(item["categories"] == ["unjucks"] for item in kinds.values())
    assert {kind: item["namespaced"] for kind, item in kinds.items()} == {
        "Tenant": False,
        "TemplateRegistry": True,
        "GenerationJob": True,
    }


READY: Body = {"type": "Ready", "status": "True", "reason": "Reconciled", "message": "everything is in place"}
ROWS: list[tuple[str, Body, Body, list[object]]] = [
    (
        "Tenant",
        {"tier": "professional"},
        {
            "conditions": [READY],
            "summary": {"namespaces": "2/2", "database": "shared", "renderers": "1/1", "jobs": 42},
            "database": {"role": "ut_3f9c0d21ab77"},
        },
        ["professional", "True", "Reconciled", "2/2", "shared", "1/1", 42],
    ),
    (
        "TemplateRegistry",
        api_samples.registry(),
        {"conditions": [READY], "artifact": {"revision": "4f1c9a7be210"}, "generators": 4, "actions": 11},
        ["True", "Reconciled", "4f1c9a7be210", 4, 11],
    ),
    (
        "GenerationJob",
        api_samples.job(),
        {
            "phase": "Succeeded",
            "conditions": [READY],
            "summary": {"template": "api/crud", "files": 9, "output": "configmap/orders-api"},
        },
        ["Succeeded", "True", "Reconciled", "api/crud", 9, "configmap/orders-api"],
    ),
]


@pytest.mark.parametrize(("kind", "spec", "status", "expected"), ROWS, ids=[row[0] for row in ROWS])
def test_columns(
    control_plane: ControlPlane,
    client: Client,
    stored: Any,
    kind: str,
    spec: Body,
    status: Body,
    expected: list[object],
) -> None:
    name = "orders-api"
    before = stored(kind, spec, name)
    client.request("PUT", path(kind, name, subresource="status"), before | {"status": status}).require()
    plural = BY_NAME[kind].definition.plural
    lines = control_plane.kubectl("get", plural, "-n", "default").stdout.splitlines()
    header = lines[0].split()
    assert header[0] == "NAME"
    assert header[-1] == "AGE"
    row = next(line for line in lines if line.startswith(name)).split()
    assert row[1:-1] == [str(value) for value in expected]
    assert max(map(len, lines)) <= 120
    wide = control_plane.kubectl("get", plural, "-n", "default", "-o", "wide").stdout
    assert "everything is in place" in wide


def test_fields_for_selectors(client: Client, stored: Any) -> None:
    stored("Tenant", {"tier": "enterprise"}, "selected")
    stored("Tenant", {"tier": "starter"}, "not-selected")
    found = client.get(path("Tenant", query="fieldSelector=spec.tier%3Denterprise")).require()["items"]
    assert [item["metadata"]["name"] for item in found] == ["selected"]


def test_the_crds_are_small(client: Client) -> None:
    for kind in KINDS:
        crd = client.get(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{kind.definition.plural}.unjucks.io")
        assert len(json.dumps(crd.require())) < 100_000
