"""What holds the operator's own account, whoever speaks for it. Of all cluster-wide roles and bindings it makes those of readers
only.

The account gets every right of the cluster here, so that only the policy ``unjucks-reader-roles`` is left to refuse.
"""

import copy
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
import yaml

from support.operator_process import Site
from unjucks_api import names

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

ACCOUNT = f"system:serviceaccount:{names.PLATFORM_NAMESPACE}:unjucks-operator"
API = "rbac.authorization.k8s.io"
NAME = f"{names.READER_PREFIX}acme"
ROLE: dict[str, Any] = {
    "apiVersion": f"{API}/v1",
    "kind": "ClusterRole",
    "metadata": {"name": NAME},
    "rules": [
        {
            "apiGroups": [names.GROUP],
            "resources": ["tenants"],
            "resourceNames": ["acme"],
            "verbs": ["get", "list", "watch"],
        }
    ],
}
BINDING: dict[str, Any] = {
    "apiVersion": f"{API}/v1",
    "kind": "ClusterRoleBinding",
    "metadata": {"name": NAME},
    "roleRef": {"apiGroup": API, "kind": "ClusterRole", "name": NAME},
    "subjects": [{"apiGroup": API, "kind": "User", "name": "ada"}],
}
WILD = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}
# What is wrong → the body and the one thing that is changed in it.
FLIPS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "another name": (ROLE, {"metadata": {"name": "view-everything"}}),
    "one more rule": (ROLE, {"rules": [*ROLE["rules"], WILD]}),
    "no name of a Tenant": (
        ROLE,
        {"rules": [{key: value for key, value in ROLE["rules"][0].items() if key != "resourceNames"}]},
    ),
    "another Tenant": (ROLE, {"rules": [ROLE["rules"][0] | {"resourceNames": ["acme2"]}]}),
    "two Tenants": (ROLE, {"rules": [ROLE["rules"][0] | {"resourceNames": ["acme", "acme2"]}]}),
    "another verb": (ROLE, {"rules": [ROLE["rules"][0] | {"verbs": ["get", "list", "watch", "patch"]}]}),
    "another resource": (ROLE, {"rules": [ROLE["rules"][0] | {"resources": ["tenants", "tenants/status"]}]}),
    "another group": (ROLE, {"rules": [ROLE["rules"][0] | {"apiGroups": [""], "resources": ["secrets"]}]}),
    "no rule": (ROLE, {"rules": []}),
    "gathers others": (ROLE, {"aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]}}),
    "bound to more": (BINDING, {"roleRef": BINDING["roleRef"] | {"name": "cluster-admin"}}),
    "bound to another Tenant's": (BINDING, {"roleRef": BINDING["roleRef"] | {"name": f"{names.READER_PREFIX}acme2"}}),
    "a binding of another name": (BINDING, {"metadata": {"name": "mine"}}),
}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def mighty(site: Site) -> AsyncIterator[Site]:
    """The operator's account may do everything as far as RBAC goes; the readers' objects exist."""
    who = f"--serviceaccount={names.PLATFORM_NAMESPACE}:unjucks-operator"
    await site.kubectl("create", "clusterrolebinding", "mighty", "--clusterrole=cluster-admin", who)
    yield site
    await site.kubectl("delete", "clusterrolebinding", "mighty")


async def _try(site: Site, body: dict[str, Any], verb: str = "create") -> str:
    return await site.kubectl(
        verb, "-f", "-", "--dry-run=server", f"--as={ACCOUNT}", stdin=yaml.safe_dump(body), check=False
    )


@pytest.mark.isolation("T-operator-rbac-golden")
async def test_a_readers_role_and_binding_are_made(mighty: Site) -> None:
    assert "created" in await _try(mighty, ROLE)
    assert "created" in await _try(mighty, BINDING)


@pytest.mark.isolation("T-operator-rbac-golden")
@pytest.mark.parametrize("what", FLIPS)
async def test_any_other_is_refused(mighty: Site, what: str) -> None:
    body, flip = FLIPS[what]
    answer = await _try(mighty, copy.deepcopy(body) | flip)
    assert "unjucks-reader-roles" in answer, answer
    assert "created" not in answer


@pytest.mark.isolation("T-operator-rbac-golden")
async def test_roles_of_the_cluster_are_neither_changed_nor_deleted(mighty: Site) -> None:
    for verb in (("delete", "clusterrole", "view"), ("label", "clusterrole", "view", "a=b")):
        answer = await mighty.kubectl(*verb, "--dry-run=server", f"--as={ACCOUNT}", check=False)
        assert "unjucks-reader-roles" in answer, answer
    answer = await mighty.kubectl("label", "clusterrole", "view", "a=b", "--dry-run=server")
    assert "labeled" in answer
