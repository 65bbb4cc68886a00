"""The operator's Kubernetes side for integration tests: clients of a control plane, informers, a child writer, sample children."""

import asyncio
import copy
import itertools
import random
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from e2e.cluster.controlplane import ControlPlane
from unjucks_api import names
from unjucks_operator.engine.clock import SystemClock
from unjucks_operator.engine.informer import Informer
from unjucks_operator.kube.api import Manifest
from unjucks_operator.kube.child import Child
from unjucks_operator.kube.children import ChildWriter, Outcome
from unjucks_operator.kube.client import KubeClient
from unjucks_operator.kube.config import from_kubeconfig
from unjucks_operator.kube.resources import (
    CLUSTER_ROLE,
    CLUSTER_ROLE_BINDING,
    CONFIG_MAP,
    DEPLOYMENT,
    LIMIT_RANGE,
    NAMESPACE,
    NETWORK_POLICY,
    POD,
    RESOURCE_QUOTA,
    ROLE_BINDING,
    SECRET,
    SERVICE_ACCOUNT,
    Resource,
    resource_of,
)
from unjucks_operator.kube.store import ChildStore
from unjucks_operator.kube.transport import Limits

MANAGER = names.MANAGER_TENANT
FAST = Limits(qps=0)
CHILD_KINDS = (
    NAMESPACE,
    SERVICE_ACCOUNT,
    RESOURCE_QUOTA,
    LIMIT_RANGE,
    NETWORK_POLICY,
    ROLE_BINDING,
    SECRET,
    CONFIG_MAP,
    DEPLOYMENT,
)
_numbers = itertools.count(1)


def unique(prefix: str) -> str:
    """A name that no other test uses."""
    return f"{prefix}-{next(_numbers)}"


def client(plane: ControlPlane, *, kubeconfig: Path | None = None, limits: Limits = FAST, **options: Any) -> KubeClient:
    """The operator's client, as administrator unless another kubeconfig is given."""
    endpoint, credentials = from_kubeconfig(kubeconfig or plane.kubeconfig)
    return KubeClient(endpoint, credentials, limits=limits, **options)


async def until(condition: Callable[[], Any], what: str, *, timeout: float = 20.0) -> Any:
    """Wait until the condition is true; its value. A guard against hanging, not a measurement."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout:.0f} s: {what}")
        await asyncio.sleep(0.01)
    return value


def metadata(name: str, namespace: str | None, uid: str) -> Manifest:
    """Metadata of a child of the tenant with that UID."""
    return {"name": name, "labels": names.tenant_labels("acme", uid, names.COMPONENT_TENANT)} | (
        {"namespace": namespace} if namespace else {}
    )


def sample(resource: Resource, namespace: str, uid: str, name: str = "sample") -> Manifest:
    """A child of that kind, as planners write it. One that is in no namespace gets the name ``namespace``."""
    bodies: dict[Resource, Manifest] = {
        NAMESPACE: {},
        SERVICE_ACCOUNT: {"automountServiceAccountToken": False},
        RESOURCE_QUOTA: {"spec": {"hard": {"pods": "10", "requests.cpu": "1000m"}}},
        LIMIT_RANGE: {"spec": {"limits": [{"type": "Container", "max": {"cpu": "2000m", "memory": "1Gi"}}]}},
        NETWORK_POLICY: {
            "spec": {
                "podSelector": {},
                "policyTypes": ["Ingress", "Egress"],
                "ingress": [],
                "egress": [{"to": [{"namespaceSelector": {"matchLabels": {"a": "b"}}}], "ports": [{"port": 53}]}],
            }
        },
        ROLE_BINDING: {
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
            "subjects": [
                {"kind": "User", "name": "ada"},
                {"kind": "ServiceAccount", "name": "ci", "namespace": namespace},
            ],
        },
        CLUSTER_ROLE: {
            "rules": [
                {"apiGroups": ["unjucks.io"], "resources": ["tenants"], "resourceNames": ["acme"], "verbs": ["get"]}
            ]
        },
        CLUSTER_ROLE_BINDING: {
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
            "subjects": [{"kind": "User", "name": "ada"}],
        },
        SECRET: {"type": "Opaque", "data": {"tls.key": "czNjcmV0", "tls.crt": "Y2VydA=="}},
        CONFIG_MAP: {"data": {"a": "1", "b": "2"}},
        DEPLOYMENT: {
            "spec": {
                "replicas": 0,
                "selector": {"matchLabels": {"app": "x"}},
                "template": {
                    "metadata": {"labels": {"app": "x"}},
                    "spec": {
                        "containers": [
                            {
                                "name": "main",
                                "image": "registry.example/main:1",
                                "env": [{"name": "A", "value": "1"}],
                                "ports": [{"containerPort": 8443}],
                                "resources": {"limits": {"cpu": "0.5", "memory": "256Mi"}},
                            }
                        ]
                    },
                },
            }
        },
        POD: {"spec": {"containers": [{"name": "main", "image": "registry.example/main:1"}]}},
    }
    place = metadata(name, namespace, uid) if resource.namespaced else metadata(namespace, None, uid)
    if resource is NAMESPACE:
        place["labels"]["pod-security.kubernetes.io/enforce"] = "restricted"
    return {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": place} | copy.deepcopy(
        bodies[resource]
    )


class Kubernetes:
    """A client, synced informers of some kinds and the child writer, wired as the operator wires them."""

    def __init__(self, api: KubeClient) -> None:
        self.api = api
        self.informers: dict[Resource, Informer] = {}
        self.stores: dict[Resource, ChildStore] = {}
        self.writer = ChildWriter(api, self.stores)
        self.events: list[tuple[Resource, Child | None, Child | None]] = []
        """What would have woken the work queue."""
        self.raw_events: list[tuple[Resource, Child | None, Child | None]] = []
        """What the informers saw, echoes of our own writes included."""
        self._handler = self.writer.wrap(lambda resource, old, new: self.events.append((resource, old, new)))

    def on_event(self, resource: Resource, old: Child | None, new: Child | None) -> None:
        """Between the informers and the writer's filter."""
        self.raw_events.append((resource, old, new))
        self._handler(resource, old, new)

    async def apply(self, manifest: Manifest, manager: str = MANAGER, **options: Any) -> Outcome:
        """``ChildWriter.apply``."""
        return await self.writer.apply(manifest, manager, **options)

    def child(self, manifest: Manifest) -> Child:
        """The stored child for a manifest."""
        place = manifest["metadata"]
        child = self.stores[resource_of(manifest)].get(place.get("namespace"), place["name"])
        assert child is not None
        return child

    async def live(self, manifest: Manifest) -> Manifest:
        """The object as the API server has it."""
        place = manifest["metadata"]
        found = await self.api.get(resource_of(manifest), place["name"], place.get("namespace"))
        assert found is not None
        return found

    async def seen(self, live: Manifest) -> Child:
        """Wait until the informer knows this version (or a newer one); the child."""
        version = int(live["metadata"]["resourceVersion"])
        store, place = self.stores[resource_of(live)], live["metadata"]

        def known() -> bool:
            child = store.get(place.get("namespace"), place["name"])
            return child is not None and child.resource_version >= version

        await until(known, f"version {version} in the store")
        return self.child(live)


@asynccontextmanager
async def kubernetes(
    plane: ControlPlane,
    kinds: Iterable[Resource] = CHILD_KINDS,
    *,
    full: Iterable[Resource] = (DEPLOYMENT, POD),
    api: KubeClient | None = None,
    selector: str = names.MANAGED_SELECTOR,
) -> AsyncIterator[Kubernetes]:
    """``Kubernetes`` with its informers running and synced."""
    whole = frozenset(full)
    async with api or client(plane) as connected:
        system = Kubernetes(connected)
        for kind in kinds:
            informer = Informer(
                connected,
                kind,
                index=lambda child: child.labels.get(names.LABEL_TENANT_UID),
                on_event=system.on_event,
                clock=SystemClock(),
                rng=random.Random(1),
                selector=selector,
                metadata_only=kind not in whole,
            )
            system.informers[kind] = informer
            system.stores[kind] = informer.store
        tasks = [asyncio.create_task(informer.run()) for informer in system.informers.values()]
        try:
            await asyncio.gather(*(informer.synced.wait() for informer in system.informers.values()))
            yield system
            for task in tasks:
                assert not task.done(), task.exception()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
