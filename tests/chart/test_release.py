"""A release of the chart, by the real Helm on a real API server: installed, upgraded, removed, and installed again."""

import json
import subprocess
from typing import Any

import pytest

from e2e.cluster.controlplane import ControlPlane
from support import chart

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]
TENANT = {"apiVersion": "unjucks.io/v1alpha1", "kind": "Tenant", "metadata": {"name": "acme"}, "spec": {}}


def _helm(plane: ControlPlane, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return chart.helm("--kubeconfig", str(plane.kubeconfig), "--namespace", chart.NAMESPACE, *arguments)


def _install(plane: ControlPlane, *arguments: str) -> str:
    done = _helm(plane, "upgrade", "--install", "unjucks", str(chart.CHART), "--create-namespace", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _get(plane: ControlPlane, *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(plane.kubectl("get", *arguments, "--output", "json").stdout)
    return found


def _objects(plane: ControlPlane) -> set[tuple[str, str]]:
    """(kind, name) of everything that carries the chart's label, wherever it is."""
    kinds = "deployments,statefulsets,services,configmaps,secrets,serviceaccounts,networkpolicies,roles,rolebindings"
    kinds += ",poddisruptionbudgets"
    found = _get(plane, kinds, "--namespace", chart.NAMESPACE, "--selector", "app.kubernetes.io/part-of=unjucks")
    cluster = _get(plane, "clusterroles,clusterrolebindings,crds", "--selector", "app.kubernetes.io/part-of=unjucks")
    items = [*found["items"], *cluster["items"]]
    return {(item["kind"], item["metadata"]["name"]) for item in items}


def test_the_life_of_a_release(fresh_control_plane: ControlPlane) -> None:
    plane = fresh_control_plane
    notes = _install(plane)
    assert "The bundled PostgreSQL is for evaluation: one pod, no backup." in notes
    assert "keeps the custom resource definitions and every Tenant" in notes
    before = _get(plane, "secret", "unjucks-database", "--namespace", chart.NAMESPACE)["data"]
    plane.kubectl("wait", "--for=condition=Established", "crd/tenants.unjucks.io")
    plane.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(TENANT))

    _install(plane, "--set", "replicaCount=2", "--set", "podDisruptionBudget.enabled=true")
    assert _get(plane, "secret", "unjucks-database", "--namespace", chart.NAMESPACE)["data"] == before
    assert _get(plane, "deployment", "unjucks-operator", "--namespace", chart.NAMESPACE)["spec"]["replicas"] == 2
    assert ("PodDisruptionBudget", "unjucks-operator") in _objects(plane)

    done = _helm(plane, "uninstall", "unjucks", "--wait")
    assert done.returncode == 0, done.stderr
    left = _objects(plane)
    assert {kind for kind, _ in left} == {"Secret", "CustomResourceDefinition"}
    assert ("Secret", "unjucks-database") in left
    assert _get(plane, "tenant", "acme")["metadata"]["name"] == "acme"

    _install(plane)
    assert _get(plane, "secret", "unjucks-database", "--namespace", chart.NAMESPACE)["data"] == before
    assert ("Deployment", "unjucks-operator") in _objects(plane)


def test_a_move_to_an_external_database_takes_the_bundled_one_away(fresh_control_plane: ControlPlane) -> None:
    plane = fresh_control_plane
    _install(plane)
    assert ("StatefulSet", "unjucks-postgres") in _objects(plane)
    notes = _install(plane, "--set", "database.dsnSecretRef.name=mine")
    assert "bundled PostgreSQL" not in notes
    left = _objects(plane)
    assert ("StatefulSet", "unjucks-postgres") not in left
    assert ("NetworkPolicy", "unjucks-postgres") not in left
    assert ("Secret", "unjucks-database") in left  # the data may still be needed
