"""The webhooks as they are installed: by the chart, in pods, with the operator's certificate, called through their Service."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pyotp
import pytest

from e2e.cluster.provider import AnyCluster
from e2e.install import NAMESPACE, install
from e2e.tenant_site import VALUES
from unjucks_api import approvals, names

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

TENANT = "elm"
CODE = names.ANNOTATION_APPROVAL


@pytest.fixture(scope="module")
def approved(cluster: AnyCluster, cluster_images: dict[str, str]) -> Iterator[AnyCluster]:
    """With the webhooks, which go again afterwards: other tests change Tenants without codes."""
    install(cluster, {**VALUES, "webhooks": {"enabled": True}})
    cluster.kubectl("-n", NAMESPACE, "rollout", "status", "deployment/unjucks-webhooks", "--timeout=120s")
    manifest = {
        "apiVersion": names.API_VERSION,
        "kind": "Tenant",
        "metadata": {"name": TENANT},
        "spec": {"protected": True},
    }
    cluster.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(manifest))
    eventually(
        "the API server reaches the webhooks",
        lambda: "needs an approval" in patch(cluster, {"spec": {"protected": False}}),
    )
    yield cluster
    install(cluster, VALUES)
    cluster.kubectl("patch", "tenant", TENANT, "--type=merge", "-p", '{"spec":{"protected":false}}', check=False)
    cluster.kubectl("delete", "tenant", TENANT, "--ignore-not-found", "--timeout=60s")


def eventually(what: str, done: Callable[[], Any], seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.3)


def patch(cluster: AnyCluster, body: dict[str, Any]) -> str:
    """Merge into the Tenant; everything that kubectl said."""
    done = cluster.kubectl("patch", "tenant", TENANT, "--type=merge", f"--patch={json.dumps(body)}", check=False)
    return done.stdout + done.stderr


def command(cluster: AnyCluster, *arguments: str, stdin: str = "") -> str:
    """Run the command in a pod, as a platform administrator does."""
    inside = ("-n", NAMESPACE, "exec", "-i", "deployment/unjucks-webhooks", "--", "unjucks-webhooks")
    return cluster.kubectl(*inside, *arguments, stdin=stdin).stdout


def test_inline_templates_are_checked_in_the_pod(approved: AnyCluster) -> None:
    registry = {
        "apiVersion": names.API_VERSION,
        "kind": "TemplateRegistry",
        "metadata": {"name": "broken", "namespace": "default"},
        "spec": {"inline": {"files": {"_templates/m/n/a.njk": "---\nto: a\n---\n{% if %}\n"}}},
    }
    done = approved.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(registry), check=False)
    assert done.returncode != 0
    assert "spec.inline.files[_templates/m/n/a.njk]:4" in done.stderr


@pytest.mark.isolation("T-approval-missing", "T-approval-replay", state="up")
def test_unprotecting_needs_a_code_and_a_code_counts_once(approved: AnyCluster) -> None:
    user = json.loads(approved.kubectl("auth", "whoami", "-o", "json").stdout)["status"]["userInfo"]["username"]
    made = json.loads(command(approved, "enroll", "--user", user, "--output", "json"))
    assert approved.kubectl("delete", "tenant", TENANT, "--wait=false", check=False).returncode != 0
    assert "needs an approval" in patch(approved, {"spec": {"protected": False}})
    totp = pyotp.parse_uri(made["uri"])
    assert isinstance(totp, pyotp.TOTP)
    while time.time() % 30 > 24:
        time.sleep(0.2)
    digits = totp.now()
    said = patch(approved, {"metadata": {"annotations": {CODE: digits}}, "spec": {"protected": False}})
    assert "patched" in said, said
    stored = approved.kubectl("get", "tenant", TENANT, "-o", "json", "--show-managed-fields").stdout
    assert digits not in stored
    assert approvals.PROTECTED in stored
    patch(approved, {"spec": {"protected": True}})
    said = patch(approved, {"metadata": {"annotations": {CODE: digits}}, "spec": {"protected": False}})
    assert "used already" in said
    logs = approved.kubectl("-n", NAMESPACE, "logs", "-l", "app.kubernetes.io/component=webhooks", "--tail=-1").stdout
    assert user in logs
    assert digits not in logs
    assert totp.secret not in logs
    events = approved.kubectl("get", "events.events.k8s.io", "-n", "default", "-o", "json").stdout
    assert f"{user} approved: {approvals.PROTECTED}" in events
    assert user in command(approved, "list")


@pytest.mark.isolation("T-approval-missing", state="down")
def test_while_they_are_down_only_what_destroys_is_refused(approved: AnyCluster) -> None:
    try:
        approved.kubectl("-n", NAMESPACE, "scale", "deployment/unjucks-webhooks", "--replicas=0")
        eventually("the pods are gone", lambda: "webhooks" not in _pods(approved))
        assert "patched" in patch(approved, {"spec": {"suspend": True}})
        assert "patched" in patch(approved, {"spec": {"suspend": False}})
        said = patch(approved, {"spec": {"protected": False}})
        assert "verify.webhooks.unjucks.io" in said
        assert json.loads(approved.kubectl("get", "tenant", TENANT, "-o", "json").stdout)["spec"]["protected"] is True
    finally:
        approved.kubectl("-n", NAMESPACE, "scale", "deployment/unjucks-webhooks", "--replicas=2")
        approved.kubectl("-n", NAMESPACE, "rollout", "status", "deployment/unjucks-webhooks", "--timeout=120s")


def _pods(cluster: AnyCluster) -> str:
    return cluster.kubectl(
        "-n", NAMESPACE, "get", "pods", "-l", "app.kubernetes.io/component=webhooks", "-o", "name"
    ).stdout
