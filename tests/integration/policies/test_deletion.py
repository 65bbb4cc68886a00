"""Deletion by mistake, with nobody of ours running: refused until somebody takes the second, deliberate step."""

from typing import Any

import pytest

from e2e.cluster.client import MERGE
from support.policies import Policed
from unjucks_api import names
from unjucks_api.v1alpha1 import KINDS

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240), pytest.mark.isolation("T-mass-delete")]

TENANTS = "/apis/unjucks.io/v1alpha1/tenants"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def tenant(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": names.API_VERSION,
        "kind": "Tenant",
        "metadata": {"name": name},
        "spec": {"tier": "starter", **spec},
    }


def test_a_protected_tenant_is_not_deleted(policed: Policed) -> None:
    policed.post(TENANTS, tenant("guarded", protected=True), dry=False).require()
    policed.post(TENANTS, tenant("free", protected=False), dry=False).require()
    for who in (policed.admin, policed.exempt):
        answer = who.request("DELETE", f"{TENANTS}/guarded")
        assert answer.status == 403, answer.body
        assert "spec.protected: Tenant guarded is protected from deletion" in answer.body["message"]
    # All at once: the one that is protected stays.
    answer = policed.admin.request("DELETE", TENANTS)
    assert answer.status == 403, answer.body
    assert [item["metadata"]["name"] for item in policed.admin.get(TENANTS).body["items"]] == ["guarded"]
    policed.admin.request("PATCH", f"{TENANTS}/guarded", {"spec": {"protected": False}}, content_type=MERGE).require()
    policed.admin.request("DELETE", f"{TENANTS}/guarded").require()


def test_a_tenant_without_the_field_can_be_deleted(policed: Policed) -> None:
    policed.post(TENANTS, tenant("plain"), dry=False).require()
    policed.admin.request("DELETE", f"{TENANTS}/plain").require()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.__name__))
def test_our_kinds_are_not_deleted_without_a_confirmation(policed: Policed, kind: Any) -> None:
    name = f"{kind.definition.plural}.{names.GROUP}"
    path = f"{CRDS}/{name}"
    for who in (policed.admin, policed.exempt):
        answer = who.request("DELETE", f"{path}?dryRun=All")
        assert answer.status == 403, answer.body
        assert f"confirm with the annotation unjucks.io/confirm-delete={name}@" in answer.body["message"]
    for value, accepted in (
        ("yes", False),
        (f"other@{name}", False),
        (name, False),
        (f"{name}@soon", False),
        (f"{name}x@2026-11-22", False),
        (f"{name}@2026-11-22", True),
    ):
        note = {"metadata": {"annotations": {names.ANNOTATION_CONFIRM_DELETE: value}}}
        policed.admin.request("PATCH", path, note, content_type=MERGE).require()
        assert policed.admin.request("DELETE", f"{path}?dryRun=All").ok is accepted, value
    policed.admin.request(
        "PATCH", path, {"metadata": {"annotations": {names.ANNOTATION_CONFIRM_DELETE: None}}}, content_type=MERGE
    ).require()


def test_all_definitions_at_once_leave_ours(policed: Policed) -> None:
    other = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget"},
            "versions": [
                {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}
            ],
        },
    }
    policed.post(CRDS, other, dry=False).require()
    done = policed.plane.kubectl("delete", "crd", "--all", "--wait=false", check=False)
    assert "widgets.example.com" in done.stdout
    assert done.stderr.count("every object of this kind would go with it") == len(KINDS)


def test_a_tenants_namespace_is_not_deleted_by_a_wrong_command(policed: Policed) -> None:
    path = "/api/v1/namespaces/tenant-acme"
    for who in (policed.admin, policed.exempt):
        answer = who.request("DELETE", f"{path}?dryRun=All")
        assert answer.status == 403, answer.body
        assert "belongs to Tenant acme: delete the Tenant, or confirm" in answer.body["message"]
    assert policed.operator.request("DELETE", f"{path}?dryRun=All").ok
    assert policed.admin.request("DELETE", "/api/v1/namespaces/plain?dryRun=All").ok
    note = {"metadata": {"annotations": {names.ANNOTATION_CONFIRM_DELETE: "tenant-acme2@2026-11-22"}}}
    policed.admin.request("PATCH", path, note, content_type=MERGE).require()
    assert policed.admin.request("DELETE", f"{path}?dryRun=All").status == 403
    note["metadata"]["annotations"][names.ANNOTATION_CONFIRM_DELETE] = "tenant-acme@2026-11-22"
    policed.admin.request("PATCH", path, note, content_type=MERGE).require()
    assert policed.admin.request("DELETE", f"{path}?dryRun=All").ok
    note["metadata"]["annotations"] = {names.ANNOTATION_CONFIRM_DELETE: None}  # type: ignore[dict-item]
    policed.admin.request("PATCH", path, note, content_type=MERGE).require()
