"""Every object of every rendering, shown to a real API server: dry-run, strict about unknown fields; pods under ``restricted``."""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from e2e.cluster.controlplane import ControlPlane
from support import builders, chart, generated
from unjucks_operator.config import Config
from unjucks_operator.tenant.desired import Scope
from unjucks_operator.tenant.desired.renderer import build_deployment, build_isolated_pod, build_service_account

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]
STRICT_NAMESPACE = "chart-restricted"


@pytest.fixture(scope="module")
def plane(control_plane: ControlPlane, crds: list[str]) -> Iterator[ControlPlane]:
    """With the platform's namespace, and one in which only pods of the level restricted are admitted."""
    control_plane.kubectl("create", "namespace", chart.NAMESPACE, check=False)
    metadata = {"name": STRICT_NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}
    objects: list[dict[str, Any]] = [{"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}]
    objects += [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": STRICT_NAMESPACE}}
        for name in ("default", "unjucks-operator", "unjucks-renderer", "unjucks-webhooks")
    ]
    control_plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=yaml.safe_dump_all(objects))
    yield control_plane
    control_plane.kubectl("delete", "namespace", STRICT_NAMESPACE, "--wait=false")


@pytest.mark.parametrize("name", chart.VALUES)
def test_the_api_server_takes_every_object(plane: ControlPlane, name: str) -> None:
    manifests = chart.render(chart.VALUES[name])
    told = _dry_run(plane, manifests)
    assert len(told.splitlines()) == len(manifests), told


def test_the_api_server_takes_the_static_install_file(plane: ControlPlane) -> None:
    manifests = [item for item in yaml.safe_load_all(generated.install_manifest()) if item]
    told = _dry_run(plane, manifests)
    assert len(told.splitlines()) == len(manifests), told


def test_an_unknown_field_would_be_noticed(plane: ControlPlane) -> None:
    deployment = chart.named(chart.render({}), "Deployment", "unjucks-operator")
    deployment["spec"]["template"]["spec"]["automountServiceAcountToken"] = True
    done = plane.kubectl(
        *("apply", "--server-side", "--dry-run=server", "--force-conflicts", "-f", "-"),
        stdin=yaml.safe_dump(deployment),
        check=False,
    )
    assert done.returncode != 0
    assert "automountServiceAcountToken" in done.stderr


@pytest.mark.parametrize("name", chart.VALUES)
def test_every_pod_of_the_chart_is_restricted(plane: ControlPlane, name: str) -> None:
    for pod in chart.pods(chart.render(chart.VALUES[name])):
        _admit(plane, pod)
        for container in pod["spec"]["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["resources"]["limits"]["memory"]


def test_every_pod_of_a_tenant_is_restricted(plane: ControlPlane) -> None:
    config = Config()
    for tier in ("starter", "professional", "enterprise"):
        scope = Scope(builders.tenant(spec={"tier": tier}), config.tiers[tier], config)
        account = build_service_account(scope)
        assert account["automountServiceAccountToken"] is False
        isolated = build_isolated_pod(scope, scope.home, "orders", builders.JOB_UID, "unjucks-renderer-x-1", 60)
        warm = chart.pods([build_deployment(scope, 1)])
        for pod in (isolated, *warm):
            assert pod["spec"]["automountServiceAccountToken"] is False
            _admit(plane, pod)


def test_a_pod_that_is_not_restricted_would_be_refused(plane: ControlPlane) -> None:
    pod = next(chart.pods(chart.render({})))
    pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    with pytest.raises(AssertionError, match="allowPrivilegeEscalation"):
        _admit(plane, pod)


def _dry_run(plane: ControlPlane, manifests: list[chart.Manifest]) -> str:
    done = plane.kubectl(
        *("apply", "--server-side", "--dry-run=server", "--force-conflicts", "-f", "-"),
        stdin=yaml.safe_dump_all(manifests),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr, done.stderr
    return done.stdout


def _admit(plane: ControlPlane, pod: chart.Manifest) -> None:
    """Raise AssertionError with the API server's words unless the pod is admitted as it is."""
    pod["metadata"]["namespace"] = STRICT_NAMESPACE
    done = plane.kubectl("create", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump(pod), check=False)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr, done.stderr
