"""Which pod of a tenant (renderer, courier) gets a task: the least loaded ready one, in the order of asking, within what it takes.

It watches nothing: ``observe`` is fed with the tenant's pods (dicts) by whoever watches them. ``ready_endpoints`` and ``choose``
are pure; ``RendererPool`` adds what is in flight, the queue of waiters and one client for each pod. Called by the wiring of jobs
and registries.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from unjucks_api import names
from unjucks_api.reasons import Reason
from unjucks_operator.errors import Waiting
from unjucks_operator.renderers.calls import Endpoint, PodClient
from unjucks_operator.renderers.client import RendererClient

Pod = Mapping[str, Any]

_LOOK_AGAIN = 5.0
_C = TypeVar("_C", bound=PodClient)


def endpoint_of(pod: Pod, tenant_uid: str, component: str = names.COMPONENT_RENDERER) -> Endpoint | None:
    """How to call this pod; None when it is not a ready one of that component and tenant or is going away."""
    metadata = pod.get("metadata") or {}
    labels = metadata.get("labels") or {}
    status = pod.get("status") or {}
    ready = any(item.get("type") == "Ready" and item.get("status") == "True" for item in status.get("conditions") or ())
    if (
        labels.get(names.LABEL_TENANT_UID) != tenant_uid
        or labels.get(names.LABEL_COMPONENT) != component
        or metadata.get("deletionTimestamp")
        or status.get("phase") != "Running"
        or not status.get("podIP")
        or not ready
    ):
        return None
    return Endpoint(pod_uid=metadata["uid"], pod=metadata["name"], ip=status["podIP"], tenant_uid=tenant_uid)


def ready_endpoints(pods: Iterable[Pod], tenant_uid: str, component: str = names.COMPONENT_RENDERER) -> list[Endpoint]:
    """The tenant's warm renderers that take tasks, by name. Pods of one isolated job are not among them."""
    found = []
    for pod in pods:
        labels = (pod.get("metadata") or {}).get("labels") or {}
        endpoint = None if labels.get(names.LABEL_JOB_UID) else endpoint_of(pod, tenant_uid, component)
        if endpoint is not None:
            found.append(endpoint)
    return sorted(found, key=lambda endpoint: (endpoint.pod, endpoint.pod_uid))


def choose(
    endpoints: Sequence[Endpoint], in_flight: Mapping[str, int], capacity: int, warm: Collection[str] = ()
) -> Endpoint | None:
    """The endpoint with the fewest tasks in flight, below ``capacity``; among equals one in ``warm`` (pod UIDs). None: all busy."""
    free = [endpoint for endpoint in endpoints if in_flight.get(endpoint.pod_uid, 0) < capacity]
    if not free:
        return None
    return min(free, key=lambda it: (in_flight.get(it.pod_uid, 0), it.pod_uid not in warm, it.pod))


@dataclass(slots=True)
class _Waiter:
    digest: str
    future: asyncio.Future[Endpoint]


@dataclass(slots=True)
class _Tenant:
    endpoints: list[Endpoint] = field(default_factory=list)
    waiters: deque[_Waiter] = field(default_factory=deque)


class PodPool(Generic[_C]):
    """All tenants' pods of one component. ``capacity``: tasks that one pod takes at the same time (its ``--max-tasks``)."""

    def __init__(
        self,
        context: ssl.SSLContext,
        *,
        capacity: int,
        component: str,
        client: Callable[[Endpoint, ssl.SSLContext], _C],
        starting: Reason,
    ) -> None:
        self._component = component
        self._make = client
        self._starting = starting
        self._context = context
        self._capacity = capacity
        self._tenants: dict[str, _Tenant] = {}
        self._in_flight: dict[str, int] = {}
        self._clients: dict[str, _C] = {}
        self._retired: dict[str, list[_C]] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def observe(self, tenant_uid: str, pods: Iterable[Pod]) -> None:
        """What the tenant's pods are now. Waiting tasks start as soon as a pod is ready; clients of gone pods are closed."""
        endpoints = ready_endpoints(pods, tenant_uid, self._component)
        if not endpoints and tenant_uid not in self._tenants:
            return
        tenant = self._tenants.setdefault(tenant_uid, _Tenant())
        kept = {(endpoint.pod_uid, endpoint.ip) for endpoint in endpoints}
        for old in tenant.endpoints:
            if (old.pod_uid, old.ip) not in kept:
                self._retire(old.pod_uid)
        tenant.endpoints = endpoints
        self._hand_out(tenant_uid)
        self._forget_if_empty(tenant_uid)

    def use(self, context: ssl.SSLContext) -> None:
        """Make new connections with ``context`` (renewed certificates); running calls end on the old ones."""
        self._context = context
        for pod_uid in list(self._clients):
            self._retire(pod_uid)

    def ready(self, tenant_uid: str) -> int:
        """How many pods of the tenant take tasks."""
        tenant = self._tenants.get(tenant_uid)
        return len(tenant.endpoints) if tenant else 0

    def load(self, tenant_uid: str) -> tuple[int, int]:
        """(tasks in flight, tasks waiting) of the tenant: what its pool is sized by."""
        tenant = self._tenants.get(tenant_uid)
        if tenant is None:
            return 0, 0
        return sum(self._in_flight.get(item.pod_uid, 0) for item in tenant.endpoints), len(tenant.waiters)

    @asynccontextmanager
    async def lease(self, tenant_uid: str, *, wait_seconds: float, digest: str = "") -> AsyncIterator[_C]:
        """A client of one of the tenant's pods, with a place reserved there; waits up to ``wait_seconds`` for one.

        ``digest``: the tree that will be rendered; a renderer that has it is preferred. Raises Waiting (RendererStarting when no
        pod is ready, Queued when all are busy).
        """
        endpoint = await self._acquire(tenant_uid, digest, wait_seconds)
        client = self._client(endpoint)
        try:
            yield client
        finally:
            self._release(endpoint, client)

    async def close(self) -> None:
        """Close every connection."""
        for clients in self._retired.values():
            for client in clients:
                await client.close()
        for client in self._clients.values():
            await client.close()
        self._clients.clear()
        self._retired.clear()
        if self._closing:
            await asyncio.gather(*self._closing, return_exceptions=True)

    async def _acquire(self, tenant_uid: str, digest: str, wait_seconds: float) -> Endpoint:
        tenant = self._tenants.setdefault(tenant_uid, _Tenant())
        waiter = _Waiter(digest, asyncio.get_running_loop().create_future())
        tenant.waiters.append(waiter)
        self._hand_out(tenant_uid)
        try:
            async with asyncio.timeout(wait_seconds):
                return await waiter.future
        except BaseException as error:
            if waiter.future.done() and not waiter.future.cancelled():
                self._give_back(waiter.future.result())
            elif waiter in tenant.waiters:
                tenant.waiters.remove(waiter)
            busy = len(tenant.endpoints)
            self._forget_if_empty(tenant_uid)
            if not isinstance(error, TimeoutError):
                raise
            if busy:
                raise Waiting(
                    f"all {busy} {self._component}s of the tenant are busy", reason=Reason.QUEUED, after=_LOOK_AGAIN
                ) from None
            raise Waiting(
                f"no {self._component} of the tenant is ready yet", reason=self._starting, after=_LOOK_AGAIN
            ) from None

    def _hand_out(self, tenant_uid: str) -> None:
        tenant = self._tenants.get(tenant_uid)
        while tenant is not None and tenant.waiters:
            waiter = tenant.waiters[0]
            if waiter.future.done():
                tenant.waiters.popleft()
                continue
            warm = {uid for uid, client in self._clients.items() if waiter.digest in client.known}
            endpoint = choose(tenant.endpoints, self._in_flight, self._capacity, warm)
            if endpoint is None:
                return
            tenant.waiters.popleft()
            self._in_flight[endpoint.pod_uid] = self._in_flight.get(endpoint.pod_uid, 0) + 1
            waiter.future.set_result(endpoint)

    def _client(self, endpoint: Endpoint) -> _C:
        client = self._clients.get(endpoint.pod_uid)
        if client is None:
            client = self._clients[endpoint.pod_uid] = self._make(endpoint, self._context)
        return client

    def _release(self, endpoint: Endpoint, client: _C) -> None:
        self._give_back(endpoint)
        gone = all(
            endpoint.pod_uid != item.pod_uid for item in (self._tenants.get(endpoint.tenant_uid) or _Tenant()).endpoints
        )
        if gone and self._clients.get(endpoint.pod_uid) is client:
            self._retire(endpoint.pod_uid)
        if endpoint.pod_uid not in self._in_flight:
            for retired in self._retired.pop(endpoint.pod_uid, ()):
                self._close(retired)

    def _give_back(self, endpoint: Endpoint) -> None:
        left = self._in_flight[endpoint.pod_uid] - 1
        if left:
            self._in_flight[endpoint.pod_uid] = left
        else:
            del self._in_flight[endpoint.pod_uid]
        self._hand_out(endpoint.tenant_uid)
        self._forget_if_empty(endpoint.tenant_uid)

    def _retire(self, pod_uid: str) -> None:
        """No new call gets this client; it is closed when its last call has ended."""
        client = self._clients.pop(pod_uid, None)
        if client is None:
            return
        if pod_uid in self._in_flight:
            self._retired.setdefault(pod_uid, []).append(client)
        else:
            self._close(client)

    def _close(self, client: _C) -> None:
        task = asyncio.create_task(client.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _forget_if_empty(self, tenant_uid: str) -> None:
        tenant = self._tenants.get(tenant_uid)
        if tenant is not None and not tenant.endpoints and not tenant.waiters:
            del self._tenants[tenant_uid]


class RendererPool(PodPool[RendererClient]):
    """All tenants' warm renderers."""

    def __init__(self, context: ssl.SSLContext, *, capacity: int) -> None:
        super().__init__(
            context,
            capacity=capacity,
            component=names.COMPONENT_RENDERER,
            client=RendererClient,
            starting=Reason.RENDERER_STARTING,
        )
