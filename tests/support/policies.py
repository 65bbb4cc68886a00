"""The chart's ValidatingAdmissionPolicies on a control plane, and a tenant's namespace as the operator makes it: no operator runs.

``install`` applies them the way Helm does and returns when they are enforced. ``compliant_pod`` and ``compliant_service`` are the
objects that are admitted; tests flip exactly one field of them. Used by tests of policies and by the operator's test site.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml

from e2e.cluster.api import ApiAccess
from e2e.cluster.client import Answer, Client
from e2e.cluster.controlplane import ControlPlane
from support import builders, chart
from unjucks_api import names
from unjucks_operator.config import Config
from unjucks_operator.tenant.desired import Scope
from unjucks_operator.tenant.desired.access import build_bindings
from unjucks_operator.tenant.desired.namespace import build_namespace
from unjucks_operator.tenant.desired.network import build_deny, build_dns
from unjucks_operator.tenant.desired.quota import build_limits, build_quota

KINDS: Final = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
OPERATOR: Final = f"system:serviceaccount:{names.PLATFORM_NAMESPACE}:unjucks-operator"
IMAGE: Final = "registry.example/acme/tool"
_ENFORCED_WITHIN: Final = 30.0


@dataclass
class Policed:
    """The control plane and who asks: ``operator``, ``admin`` (cluster-admin, exempt from nothing), ``exempt`` (system:masters)."""

    plane: ControlPlane
    operator: Client
    admin: Client
    exempt: Client
    members: dict[str, Client]

    def post(self, path: str, body: dict[str, Any], *, who: Client | None = None, dry: bool = True) -> Answer:
        """Create; by default as a dry run of the administrator's."""
        return (who or self.admin).request("POST", path + ("?dryRun=All" if dry else ""), body)


def manifests(policies: Mapping[str, Any] | None = None) -> list[chart.Manifest]:
    """The policies and bindings of the chart; ``policies`` are its values of that name."""
    rendered = chart.render({"policies": dict(policies or {})})
    return [item for item in rendered if item["kind"] in KINDS]


def install(plane: ApiAccess, policies: Mapping[str, Any] | None = None) -> None:
    """Apply them and wait until the API server refuses what they refuse."""
    items = manifests(policies)
    plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=yaml.safe_dump_all(items))
    probe = "unjucks-policy-probe"
    labels = {names.LABEL_TENANT: "probe"}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": probe, "labels": labels}}
    plane.kubectl("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump(namespace))
    # Each policy that can be asked by a dry run of an administrator's; they come into force together, within a second or two.
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "probe", "namespace": probe}}
    service["spec"] = {"type": "NodePort", "ports": [{"port": 1}]}
    questions = (
        (("create", "--dry-run=server", "-f", "-"), yaml.safe_dump(service), "unjucks-tenant-services"),
        (("delete", "--dry-run=server", "namespace", probe), None, "unjucks-protected-namespaces"),
    )
    deadline = time.monotonic() + _ENFORCED_WITHIN
    for arguments, stdin, policy in questions:
        while policy not in (said := plane.kubectl(*arguments, stdin=stdin, check=False).stderr):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{policy} is not enforced after {_ENFORCED_WITHIN:.0f} s: {said}")
            time.sleep(0.2)
    plane.kubectl("annotate", "namespace", probe, f"{names.ANNOTATION_CONFIRM_DELETE}={probe}@2026-01-01")
    plane.kubectl("delete", "namespace", probe, "--wait=false")


def tenant_objects(name: str) -> list[dict[str, Any]]:
    """A tenant's namespace with everything that isolates it, from the operator's own builders."""
    config = Config()
    members = {
        "owners": [{"kind": "User", "name": f"owner@{name}.example"}],
        "editors": [{"kind": "User", "name": f"editor@{name}.example"}],
        "viewers": [{"kind": "User", "name": f"viewer@{name}.example"}],
    }
    tenant = builders.tenant(name=name, spec={"tier": "professional", "members": members})
    scope = Scope(tenant, config.tiers["professional"], config)
    space = scope.home
    return [
        build_namespace(scope, space),
        build_quota(scope, space),
        build_limits(scope, space),
        build_deny(scope, space),
        build_dns(scope, space),
        *build_bindings(scope, space),
    ]


def compliant_pod(namespace: str, name: str = "good") -> dict[str, Any]:
    """A pod that says everything that is asked of it, with one container of each kind that a new pod can have."""

    def container(called: str) -> dict[str, Any]:
        return {
            "name": called,
            "image": f"{IMAGE}:1",
            "imagePullPolicy": "IfNotPresent",
            "resources": {"limits": {"cpu": "100m", "memory": "64Mi", "ephemeral-storage": "64Mi"}},
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            },
        }

    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "initContainers": [container("first")],
            "containers": [container("main")],
            "volumes": [{"name": "scratch", "emptyDir": {"sizeLimit": "16Mi"}}],
        },
    }


def compliant_ephemeral() -> dict[str, Any]:
    """A container to look into a running pod."""
    return {
        "name": "look",
        "image": f"{IMAGE}:1",
        "imagePullPolicy": "IfNotPresent",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }


def compliant_service(namespace: str, name: str = "good") -> dict[str, Any]:
    """A service inside the cluster."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"type": "ClusterIP", "selector": {"app": "x"}, "ports": [{"port": 80}]},
    }
