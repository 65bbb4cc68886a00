"""Settings about what Tenants are entitled to: three tiers. Pure."""

from dataclasses import field, fields
from typing import Literal

from pydantic import model_validator
from pydantic.dataclasses import dataclass

from unjucks_operator.config.base import STRICT, AtLeastOne, Count, Cpu, Memory


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TierQuota:
    """Amounts of one tenant, over all of its namespaces together (each namespace gets an even share)."""

    cpu: Cpu = "4"
    """CPU that all pods together may request and use, in cores. Default 4. Pods beyond it are refused by the API
    server."""

    memory: Memory = "8Gi"
    """Memory that all pods together may request and use. Default 8Gi."""

    ephemeral_storage: Memory = "8Gi"
    """Local disk that all pods together may request and use. Default 8Gi."""

    pods: AtLeastOne = 10
    """Pods that exist at one time, finished ones not counted. Default 10. Renderers count; too few and jobs wait."""

    services: Count = 5
    """Services. Default 5. Those of type NodePort and LoadBalancer are forbidden in every tier."""

    secrets: Count = 50
    """Secrets. Default 50. The operator itself keeps one in each tenant."""

    config_maps: Count = 200
    """ConfigMaps. Default 200. Each job with a ConfigMap output makes at least one."""

    persistent_volume_claims: Count = 5
    """Claims for volumes. Default 5."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ContainerLimits:
    """What the LimitRange of a tenant's namespaces says about one container."""

    default_cpu: Cpu = "500m"
    """Limit of a container that names none, in cores. Default 500m. The quota refuses pods without limits, so there
    must be one."""

    default_memory: Memory = "256Mi"
    """Limit of a container that names none. Default 256Mi."""

    default_ephemeral_storage: Memory = "256Mi"
    """Limit of a container that names none. Default 256Mi."""

    default_request_cpu: Cpu = "50m"
    """Request of a container that names none, in cores. Default 50m."""

    default_request_memory: Memory = "64Mi"
    """Request of a container that names none. Default 64Mi."""

    default_request_ephemeral_storage: Memory = "64Mi"
    """Request of a container that names none. Default 64Mi."""

    max_cpu: Cpu = "2"
    """Most that one container may ask for, in cores. Default 2."""

    max_memory: Memory = "2Gi"
    """Most that one container may ask for. Default 2Gi. Must not be below what the renderer's own container asks for."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class RendererRange:
    """How many renderer pods a tenant has."""

    min: Count = 0
    """Kept warm while nothing runs. Default 0. With 0 the first job after a pause waits for a pod to start (seconds)."""

    max: AtLeastOne = 1
    """Most of them under load. Default 1. A Tenant may ask for fewer, never for more."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Tier:
    """What a Tenant of this tier is entitled to. A Tenant's spec lowers these amounts; it never raises them."""

    namespaces: AtLeastOne = 1
    """Most namespaces. Default 1. A Tenant that lists more is refused with reason InvalidSpec."""

    quota: TierQuota = field(default_factory=TierQuota)
    """Amounts over all namespaces of the tenant."""

    limits: ContainerLimits = field(default_factory=ContainerLimits)
    """Defaults and ceilings of one container."""

    renderers: RendererRange = field(default_factory=RendererRange)
    """Size of the pool of renderers."""

    concurrent_jobs: AtLeastOne = 1
    """Generation jobs of one tenant that run at one time. Default 1. Further ones wait for
    their turn, without a status until then."""

    history_days: AtLeastOne = 30
    """Days for which the record of an ended run is kept after its job is gone. Default 30."""

    execution: Literal["Pooled", "Isolated"] = "Pooled"
    """Where jobs run that do not say: Pooled (warm renderer, fresh process) or Isolated (fresh pod: slower to start).
    Default Pooled."""

    @model_validator(mode="after")
    def _check(self) -> "Tier":
        if self.renderers.min > self.renderers.max:
            raise ValueError("renderers.min is greater than renderers.max")
        return self


STARTER = Tier()
PROFESSIONAL = Tier(
    namespaces=3,
    quota=TierQuota(
        cpu="16",
        memory="32Gi",
        ephemeral_storage="32Gi",
        pods=40,
        services=20,
        secrets=200,
        config_maps=1000,
        persistent_volume_claims=20,
    ),
    limits=ContainerLimits(max_cpu="4", max_memory="8Gi"),
    renderers=RendererRange(min=1, max=5),
    concurrent_jobs=5,
    history_days=180,
)
ENTERPRISE = Tier(
    namespaces=20,
    quota=TierQuota(
        cpu="64",
        memory="128Gi",
        ephemeral_storage="256Gi",
        pods=400,
        services=200,
        secrets=2000,
        config_maps=10000,
        persistent_volume_claims=200,
    ),
    limits=ContainerLimits(max_cpu="16", max_memory="32Gi"),
    renderers=RendererRange(min=2, max=20),
    concurrent_jobs=50,
    history_days=730,
)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Tiers:
    """The tiers that ``spec.tier`` of a Tenant may name. What the file leaves out keeps the default of that tier."""

    starter: Tier = STARTER
    """For trying out: one namespace, renderers from zero on demand."""

    professional: Tier = PROFESSIONAL
    """For teams: three namespaces, one renderer kept warm."""

    enterprise: Tier = ENTERPRISE
    """For organisations: twenty namespaces, two renderers kept warm."""

    def __getitem__(self, name: str) -> Tier:
        """The tier of that name. KeyError for a name that is no tier."""
        for entry in fields(self):
            if entry.name == name:
                return getattr(self, name)  # type: ignore[no-any-return]
        raise KeyError(name)

    def items(self) -> list[tuple[str, Tier]]:
        """Names and tiers."""
        return [(entry.name, self[entry.name]) for entry in fields(self)]
