"""Writes status, only when it changed, and tells transitions as Events. Called by the three reconcilers at the end of a run."""

import logging
from collections.abc import Mapping
from typing import Any

from unjucks_api.conditions import ConditionType, find_condition
from unjucks_api.v1alpha1.common import Object
from unjucks_api.v1alpha1.fitting import fit_status
from unjucks_api.v1alpha1.generation_job import GenerationJob
from unjucks_api.v1alpha1.template_registry import TemplateRegistry
from unjucks_api.v1alpha1.tenant import Tenant
from unjucks_operator.engine.store import ResourceStore
from unjucks_operator.kube.api import KubeApi, Manifest
from unjucks_operator.kube.events import EventRecorder, EventType
from unjucks_operator.kube.resources import GENERATION_JOB, TEMPLATE_REGISTRY, TENANT, Resource

_log = logging.getLogger(__name__)

_MODELS: dict[Resource, type[Object]] = {
    TENANT: Tenant,
    TEMPLATE_REGISTRY: TemplateRegistry,
    GENERATION_JOB: GenerationJob,
}
# Reasons that belong to every ordinary life and are no warning although Ready is not true.
_ORDINARY = frozenset(
    {
        "Progressing",
        "Queued",
        "Running",
        "RendererStarting",
        "QuotaPending",
        "Suspended",
        "Deleting",
        "Blocked",
        "RegistryNotReady",
        "Conflict",
    }
)


class StatusWriter:
    """One for the process."""

    def __init__(self, api: KubeApi, events: EventRecorder) -> None:
        self._api = api
        self._events = events
        self.storing = False
        """True while the answer of a write of ours goes into a store: what its subscribers hear then is no news."""

    async def write(
        self, resource: Resource, store: ResourceStore, body: Manifest, status: Mapping[str, Any], *, action: str
    ) -> Manifest:
        """Make ``status`` the object's status; no request when it is that already. Returns the newest body.

        Raises Conflict when somebody wrote the object since ``body`` was read: the run is repeated on the new state.
        """
        before = body.get("status") or {}
        status = fit_status(_MODELS[resource], status)
        if before == status:
            return body
        metadata = body["metadata"]
        written = await self._api.patch_status(
            resource, metadata["name"], metadata.get("namespace"), status, resource_version=metadata["resourceVersion"]
        )
        self.storing = True
        try:
            store.put(written)
        finally:
            self.storing = False
        self._tell(body, before, status, action)
        return written

    def _tell(self, body: Manifest, before: Mapping[str, Any], after: Mapping[str, Any], action: str) -> None:
        old, new = find_condition(before, ConditionType.READY), find_condition(after, ConditionType.READY)
        if new is None:
            return
        same = old is not None and (old["status"], old["reason"]) == (new["status"], new["reason"])
        if same or (old is None and new["status"] != "True" and new["reason"] in _ORDINARY):
            return
        ordinary = new["status"] == "True" or new["reason"] in _ORDINARY
        kind: EventType = "Normal" if ordinary else "Warning"
        reason, message = new["reason"], new["message"]
        self._events.record(body, kind, reason, message, action=action)
        for namespace in _audience(body, after):
            self._events.record(body, kind, reason, message, action=action, namespace=namespace)
        _log.info("ready is %s", new["status"], extra={"reason": new["reason"], "detail": new["message"]})


def _audience(body: Manifest, status: Mapping[str, Any]) -> tuple[str, ...]:
    """The home namespace of a Tenant, once it is there: its members read Events in it, but not those of cluster-scoped objects."""
    if body["metadata"].get("namespace"):
        return ()
    rows = status.get("namespaces") or ()
    return (str(rows[0]["name"]),) if rows and rows[0].get("ready") else ()
