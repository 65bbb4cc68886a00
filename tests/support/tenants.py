"""Tenants for tests against a real API server, and what must be true of a finished one."""

from typing import Any

import asyncpg

from support.operator_process import Site
from unjucks_api import names
from unjucks_operator.kube.resources import (
    CLUSTER_ROLE,
    CLUSTER_ROLE_BINDING,
    DEPLOYMENT,
    LIMIT_RANGE,
    NAMESPACE,
    NETWORK_POLICY,
    RESOURCE_QUOTA,
    ROLE_BINDING,
    SECRET,
    SERVICE_ACCOUNT,
)

MEMBERS = {
    "owners": [{"kind": "User", "name": "ada@acme.example"}],
    "editors": [{"kind": "Group", "name": "engineers"}],
    "viewers": [{"kind": "User", "name": "grace@acme.example"}],
}
CHILD_KINDS = (
    NAMESPACE,
    RESOURCE_QUOTA,
    LIMIT_RANGE,
    NETWORK_POLICY,
    SERVICE_ACCOUNT,
    SECRET,
    DEPLOYMENT,
    ROLE_BINDING,
    CLUSTER_ROLE,
    CLUSTER_ROLE_BINDING,
)
EXPECTED = {
    ("Namespace", "tenant-{}"),
    ("ResourceQuota", names.QUOTA),
    ("LimitRange", names.LIMITS),
    ("NetworkPolicy", names.POLICY_DENY),
    ("NetworkPolicy", names.POLICY_DNS),
    ("NetworkPolicy", names.POLICY_RENDERER),
    ("ServiceAccount", names.RENDERER),
    ("Secret", names.RENDERER),
    ("Deployment", names.RENDERER),
    ("RoleBinding", names.BINDING_OWNERS),
    ("RoleBinding", names.BINDING_EDITORS),
    ("RoleBinding", names.BINDING_VIEWERS),
    ("ClusterRole", names.READER_PREFIX + "{}"),
    ("ClusterRoleBinding", names.READER_PREFIX + "{}"),
}


def tenant_manifest(name: str, **spec: Any) -> dict[str, Any]:
    """A Tenant as a user writes it."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": "Tenant",
        "metadata": {"name": name},
        "spec": {"tier": "starter", "members": MEMBERS, **spec},
    }


async def children_of(site: Site, name: str) -> dict[tuple[str, str], dict[str, Any]]:
    """Everything that carries the tenant's name, by (kind, name)."""
    found = {}
    for resource in CHILD_KINDS:
        items, _ = await site.api.list_all(resource, label_selector=f"{names.LABEL_TENANT}={name}")
        for item in items:
            found[resource.kind, item["metadata"]["name"]] = item
    return found


def expected_children(name: str) -> set[tuple[str, str]]:
    """What a tenant of ``tenant_manifest`` has."""
    return {(kind, child.format(name)) for kind, child in EXPECTED}


def essence(item: dict[str, Any], name: str, uid: str) -> str:
    """What an object says, apart from names, versions and times; equal for two tenants that are set up alike."""
    import re

    import orjson

    copy = {key: value for key, value in item.items() if key not in ("metadata", "status", "data")}
    metadata = item["metadata"]
    copy["labels"] = metadata.get("labels")
    copy["data"] = sorted(item.get("data") or ())
    text = orjson.dumps(copy, option=orjson.OPT_SORT_KEYS).decode().replace(uid, "UID")
    return re.sub(rf"\b{re.escape(name)}\b", "NAME", text)


async def database_facts(site: Site, uid: str) -> dict[str, Any]:
    """What PostgreSQL has of a tenant."""
    connection = await asyncpg.connect(site.dsn)
    try:
        rows = await connection.fetch("SELECT role_name, state FROM unjucks_ops.tenant WHERE tenant_id = $1::uuid", uid)
        role = names.database_role(uid)
        exists = await connection.fetchval("SELECT count(*) FROM pg_roles WHERE rolname = $1", role)
        return {"rows": [tuple(row) for row in rows], "roles": exists}
    finally:
        await connection.close()
