"""A renderer pod for one job: made, waited for, used once, and deleted, whatever happens. Called by the wiring of jobs.

The pod's manifest comes from the planner; nothing of it is decided here. A pod that a crashed operator left behind is removed
before the next one is made, ends by its own deadline in any case, and goes with its job by owner reference.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from unjucks_api import names
from unjucks_api.reasons import Reason
from unjucks_operator.errors import Conflict, Retryable, Unavailable
from unjucks_operator.kube.api import KubeApi, Manifest
from unjucks_operator.kube.child import Child
from unjucks_operator.kube.resources import POD
from unjucks_operator.kube.store import ChildStore
from unjucks_operator.renderers.client import Endpoint, RendererClient
from unjucks_operator.renderers.pool import endpoint_of

START_SECONDS = 90.0


class IsolatedRenderers:
    """Makes fresh renderer pods. ``pods`` is the store of whole pods; ``notice`` has to be called for every event of it."""

    def __init__(self, api: KubeApi, pods: ChildStore, context: Callable[[], ssl.SSLContext]) -> None:
        self._api = api
        self._pods = pods
        self._context = context
        self._waiting: dict[tuple[str, str], asyncio.Event] = {}

    def notice(self, namespace: str, name: str) -> None:
        """The pod changed: whoever waits for it looks again."""
        event = self._waiting.get((namespace, name))
        if event is not None:
            event.set()

    @asynccontextmanager
    async def lease(self, manifest: Manifest, tenant_uid: str) -> AsyncIterator[RendererClient]:
        """A client of a pod made from ``manifest``. Raises Retryable (RendererUnavailable) when it does not become ready."""
        metadata = manifest["metadata"]
        namespace, name = metadata["namespace"], metadata["name"]
        await self._remove_leftovers(namespace, metadata["labels"][names.LABEL_JOB_UID])
        created = await self._api.create(manifest, manager=names.MANAGER_JOB)
        if created is None:
            raise Conflict(f"pod {name} of an earlier attempt is still there")
        client: RendererClient | None = None
        try:
            endpoint = await self._ready(namespace, name, created["metadata"]["uid"], tenant_uid)
            client = RendererClient(endpoint, self._context())
            yield client
        finally:
            if client is not None:
                await client.close()
            await self._delete(namespace, name, created["metadata"]["uid"])

    async def _ready(self, namespace: str, name: str, uid: str, tenant_uid: str) -> Endpoint:
        event = self._waiting.setdefault((namespace, name), asyncio.Event())
        try:
            async with asyncio.timeout(START_SECONDS):
                while True:
                    event.clear()
                    child = self._pods.get(namespace, name)
                    if child is not None and child.uid == uid and child.full is not None:
                        endpoint = endpoint_of(child.full, tenant_uid)
                        if endpoint is not None:
                            return endpoint
                        if child.deleting or (child.full.get("status") or {}).get("phase") in ("Failed", "Succeeded"):
                            raise Retryable(
                                f"pod {name} ended before it was used: {why_not_ready(child.full)}",
                                reason=Reason.RENDERER_LOST,
                            )
                    await event.wait()
        except TimeoutError:
            pod = self._pods.get(namespace, name)
            why = why_not_ready(pod.full) if pod is not None and pod.full else "it was never seen"
            raise Unavailable(
                f"pod {name} was not ready after {START_SECONDS:g} s: {why}", reason=Reason.RENDERER_UNAVAILABLE
            ) from None
        finally:
            self._waiting.pop((namespace, name), None)

    async def _remove_leftovers(self, namespace: str, job_uid: str) -> None:
        for child in leftovers(self._pods, namespace, job_uid):
            await self._delete(namespace, child.name, child.uid)

    async def _delete(self, namespace: str, name: str, uid: str) -> None:
        # Shielded: a cancelled job must not leave its pod behind.
        await asyncio.shield(self._api.delete(POD, name, namespace, uid=uid))


def leftovers(pods: ChildStore, namespace: str, job_uid: str) -> list[Child]:
    """Pods of that job that are still there."""
    return [
        child
        for child in pods.in_namespace(namespace)
        if child.labels.get(names.LABEL_JOB_UID) == job_uid and not child.deleting
    ]


def why_not_ready(pod: dict[str, Any]) -> str:
    """The first thing a pod's status complains about."""
    status = pod.get("status") or {}
    for container in status.get("containerStatuses") or ():
        state = container.get("state") or {}
        for kind in ("waiting", "terminated"):
            if kind in state and state[kind].get("reason") not in (None, "ContainerCreating", "Completed"):
                return f"{state[kind]['reason']} {state[kind].get('message', '')}".strip()
    for condition in status.get("conditions") or ():
        if condition.get("status") == "False" and condition.get("message"):
            return str(condition["message"])
    return str(status.get("message") or f"phase {status.get('phase', 'unknown')}")
