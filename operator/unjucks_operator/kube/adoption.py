"""What stands in the way of taking over a namespace that exists already: things in it that its guards would come too late for.

A pod that runs was admitted without Pod Security; a NetworkPolicy of somebody else's opens what default-deny closes, as policies
add up; a RoleBinding gives rights to whoever it names. So all three have to go first. Reads only. Called by ``tenant.reconcile``
(before a namespace is taken over) and ``apply`` (again, once its guards stand).
"""

from unjucks_api import names
from unjucks_api.reasons import Reason
from unjucks_operator.candidates import SHOWN, Candidate, strangers_text
from unjucks_operator.errors import OwnershipConflict
from unjucks_operator.kube.api import KubeApi, Manifest
from unjucks_operator.kube.resources import NAMESPACE, NETWORK_POLICY, POD, ROLE_BINDING

_UNWANTED = (POD, NETWORK_POLICY, ROLE_BINDING)


async def look_at(api: KubeApi, namespace: str) -> Candidate | None:
    """The namespace as it is; None when there is none."""
    body = await api.get(NAMESPACE, namespace, metadata_only=True)
    if body is None:
        return None
    metadata = body["metadata"]
    return Candidate(
        metadata["uid"],
        metadata.get("labels") or {},
        metadata.get("annotations") or {},
        "deletionTimestamp" in metadata,
        await find_strangers(api, namespace, ""),
    )


async def find_strangers(api: KubeApi, namespace: str, tenant_uid: str) -> tuple[str, ...]:
    """The first few of the pods, NetworkPolicies and RoleBindings that are not this tenant's, as ``Kind name``."""
    found: list[str] = []
    for resource in _UNWANTED:
        async for page, _ in api.list_pages(resource, namespace=namespace, metadata_only=True, chunk=50):
            found += [f"{resource.kind} {item['metadata']['name']}" for item in page if not _is_ours(item, tenant_uid)]
            if len(found) > SHOWN:
                return tuple(found[: SHOWN + 1])
    return tuple(found)


async def require_empty(api: KubeApi, namespace: str, tenant_uid: str) -> None:
    """Raises OwnershipConflict (AdoptionRefused) while there are strangers."""
    strangers = await find_strangers(api, namespace, tenant_uid)
    if strangers:
        raise OwnershipConflict(strangers_text(namespace, strangers), reason=Reason.ADOPTION_REFUSED)


def _is_ours(item: Manifest, tenant_uid: str) -> bool:
    labels = item["metadata"].get("labels") or {}
    return bool(tenant_uid) and labels.get(names.LABEL_TENANT_UID) == tenant_uid
