"""Asks the tenant's courier for what a remote source holds: Secrets and Flux objects are read here, the rest is the courier's.

Values of Secrets live for one request. Called by ``registry.reconcile``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from unjucks_api import names
from unjucks_api.courier_protocol import FetchResponse, FetchSource
from unjucks_api.reasons import Reason
from unjucks_api.v1alpha1.registry_sources import FluxReference
from unjucks_api.v1alpha1.template_registry import TemplateRegistry
from unjucks_api.v1alpha1.tenant import Tenant
from unjucks_operator.config import Config
from unjucks_operator.errors import NotPermitted, Waiting
from unjucks_operator.kube.api import KubeApi, NotServed
from unjucks_operator.kube.resources import FLUX, SECRET, Resource
from unjucks_operator.network.ranges import ClusterRanges
from unjucks_operator.registry.remote import Needed, fetch_request, fetch_source, flux_source, needed_secrets
from unjucks_operator.renderers.courier import CourierPool

_LOOK_AGAIN = 15.0


@dataclass(frozen=True, slots=True)
class Material:
    """What a fetch needs besides the spec. ``version`` changes whenever one of the Secrets does."""

    source: FetchSource
    secrets: Mapping[str, Mapping[str, str]]
    version: str

    def __repr__(self) -> str:
        return f"Material({self.version})"


class Fetcher:
    """One for the process. ``ranges``: the cluster's own addresses as they are known now."""

    def __init__(
        self, api: KubeApi, couriers: CourierPool, config: Config, ranges: Callable[[], ClusterRanges]
    ) -> None:
        self._api = api
        self._couriers = couriers
        self._config = config
        self._ranges = ranges

    async def material(self, registry: TemplateRegistry) -> Material:
        """Read what the source refers to. Raises Waiting (DependencyNotReady), NotPermitted, Terminal."""
        needed = needed_secrets(registry.spec)
        secrets: dict[str, Mapping[str, str]] = {}
        versions = []
        for name in sorted({it for it in (needed.credentials, needed.certificates, needed.signers) if it}):
            secrets[name], version = await self._secret(registry, name, needed)
            versions.append(f"{name}={version}")
        reference = registry.spec.source_ref
        source = await self._flux(registry, reference) if reference is not None else fetch_source(registry.spec)
        return Material(source, secrets, ",".join(versions))

    async def fetch(self, registry: TemplateRegistry, tenant: Tenant, material: Material, known: str) -> FetchResponse:
        """What the source holds now; ``unchanged`` when it is still at ``known``. Raises as ``CourierClient`` does, and Waiting."""
        request = fetch_request(
            registry, material.source, material.secrets, tenant, self._ranges(), self._config, known
        )
        patience = self._config.courier.busy_wait if self._couriers.ready(tenant.uid) else 0.0
        async with self._couriers.lease(tenant.uid, wait_seconds=patience) as courier:
            return await courier.fetch(request)

    async def _secret(self, registry: TemplateRegistry, name: str, needed: Needed) -> tuple[Mapping[str, str], str]:
        secret = await self._api.get(SECRET, name, registry.namespace)
        if secret is None:
            raise Waiting(
                f"Secret {name} does not exist in namespace {registry.namespace}",
                reason=Reason.DEPENDENCY_NOT_READY,
                after=_LOOK_AGAIN,
            )
        metadata = secret["metadata"]
        if (metadata.get("labels") or {}).get(names.LABEL_MANAGED_BY) == names.MANAGED_BY or str(
            secret.get("type", "")
        ).startswith(("kubernetes.io/service-account-token", "bootstrap.kubernetes.io/", "helm.sh/")):
            raise NotPermitted(
                f"Secret {name} is not for sources: it is the operator's own or a token of the cluster; make one of your own"
            )
        return secret.get("data") or {}, f"{metadata['uid']}/{metadata['resourceVersion']}"

    async def _flux(self, registry: TemplateRegistry, reference: FluxReference) -> FetchSource:
        host = self._config.courier.flux_host
        if not host:
            raise NotPermitted("this platform reads no artifacts of Flux (courier.fluxHost is empty)")
        kind, found = reference.kind, None
        missing = 0
        for resource in FLUX[kind.value]:
            found = await self._api.get(resource, reference.name, registry.namespace)
            if found is not None:
                return flux_source(kind.value, found, host)
            missing += not await self._exists(registry.namespace, resource)
        if missing == len(FLUX[kind.value]):
            raise Waiting(
                f"this cluster has no kind {kind.value} of source.toolkit.fluxcd.io; install Flux, or use another source",
                reason=Reason.DEPENDENCY_NOT_READY,
                after=60.0,
            )
        raise Waiting(
            f"{kind.value} {reference.name} does not exist in namespace {registry.namespace}",
            reason=Reason.DEPENDENCY_NOT_READY,
            after=_LOOK_AGAIN,
        )

    async def _exists(self, namespace: str, resource: Resource) -> bool:
        """Whether the API server knows the kind in this version at all."""
        try:
            await self._api.list_all(resource, namespace=namespace, metadata_only=True)
        except NotServed:
            return False
        return True
