"""One control plane with the chart's policies, two tenants as the operator makes them, and nobody of ours running."""

from collections.abc import Iterator

import pytest
import yaml

from e2e.cluster.controlplane import ControlPlane
from support import chart, policies
from support.controlplane import CRD_FOLDER
from support.policies import Policed

TENANTS = ("acme", "acme2")
ADMINISTRATOR = "platform-admin"


@pytest.fixture(scope="session")
def policed() -> Iterator[Policed]:
    """Shared by the tests of this folder, which therefore try things by dry run or with names of their own."""
    with ControlPlane.start() as plane:
        plane.apply_crds(CRD_FOLDER)
        rights = [item for item in chart.render({}) if item["apiVersion"].startswith("rbac.authorization.k8s.io/")]
        rights.append(
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": ADMINISTRATOR},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
                "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": ADMINISTRATOR}],
            }
        )
        plane.kubectl("create", "namespace", chart.NAMESPACE)
        plane.kubectl("create", "namespace", "plain")
        # There for the taking, if nobody forbids it.
        rights.append(
            {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "mine"}, "handler": "x"}
        )
        plane.kubectl("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump_all(rights))
        policies.install(plane, {"pods": {"images": [policies.IMAGE]}})
        for name in TENANTS:
            objects = policies.tenant_objects(name)
            plane.kubectl("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump_all(objects))
            space = objects[0]["metadata"]["name"]
            plane.admin.wait(
                f"/api/v1/namespaces/{space}/serviceaccounts/default",
                lambda it: it.ok,
                timeout=20,
                what="default account",
            )
        yield Policed(
            plane,
            operator=plane.client_for(policies.OPERATOR, ["system:serviceaccounts"]),
            admin=plane.client_for(ADMINISTRATOR),
            exempt=plane.admin,
            members={role: plane.client_for(f"{role}@acme.example") for role in ("owner", "editor", "viewer")},
        )
