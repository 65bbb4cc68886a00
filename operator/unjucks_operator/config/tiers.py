"""Settings about what Tenants are entitled to: three tiers. Pure."""

from collections.abc import Mapping
from dataclasses import field, fields
from typing import Literal

from pydantic import model_validator
from pydantic.dataclasses import dataclass

from unjucks_operator.config.base import STRICT, AtLeastOne, Count, Cpu, Memory


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TierQuota:
    """Amounts of one tenant, over all of its namespaces together (each namespace gets an even share, never more in sum)."""

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

    generation_jobs: AtLeastOne = 500
    """GenerationJobs that exist, finished ones included. Default 500. They go when their ttl ends."""

    template_registries: AtLeastOne = 20
    """TemplateRegistries. Default 20."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TierMaximum:
    """How far ``spec.quota`` and ``spec.renderers`` of a Tenant may go above what the tier gives. Absent: not at all."""

    cpu: Cpu | None = None
    """Most ``spec.quota.cpu``. Default absent."""

    memory: Memory | None = None
    """Most ``spec.quota.memory``. Default absent."""

    ephemeral_storage: Memory | None = None
    """Most ``spec.quota.ephemeralStorage``. Default absent."""

    pods: AtLeastOne | None = None
    """Most ``spec.quota.pods``. Default absent."""

    concurrent_jobs: AtLeastOne | None = None
    """Most ``spec.quota.jobs.concurrent``. Default absent."""

    jobs_per_hour: AtLeastOne | None = None
    """Most ``spec.quota.jobs.perHour``. Default absent."""

    renderers: AtLeastOne | None = None
    """Most ``spec.renderers.max``. Default absent."""


Toleration = Mapping[Literal["key", "operator", "value", "effect"], str]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class RendererPods:
    """Where renderers of this tier run. All of it is the platform's; a Tenant cannot choose it."""

    runtime_class: str = ""
    """RuntimeClass of the pods, for example one with a sandboxed kernel. Default empty: the nodes' own."""

    priority_class: str = ""
    """PriorityClass of the pods. Default empty."""

    node_selector: Mapping[str, str] = field(default_factory=dict)
    """Labels that their nodes must have. Default none."""

    tolerations: tuple[Toleration, ...] = ()
    """Taints of nodes that they may run on all the same. Default none."""


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

    max_ephemeral_storage: Memory = "2Gi"
    """Most local disk that one container may ask for. Default 2Gi."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class RendererRange:
    """How many renderer pods a tenant has."""

    min: Count = 0
    """Kept warm while nothing runs. Default 0. With 0 the first job after a pause waits for a pod to start (seconds)."""

    max: AtLeastOne = 1
    """Most of them under load. Default 1. A Tenant may ask for fewer, never for more."""


def bounded_count(given: int, asked: int | None, most: int | None) -> int:
    """What a Tenant gets that asks for a number: never more than the larger of what the tier gives and its maximum."""
    return given if asked is None else min(asked, max(given, most or 0))


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Tier:
    """What a Tenant of this tier is entitled to. A Tenant's spec lowers these amounts, and raises them only up to ``maximum``."""

    namespaces: AtLeastOne = 1
    """Most namespaces. Default 1. A Tenant that lists more is refused with reason InvalidSpec."""

    dedicated_database: Literal["Never", "OnRequest", "Default"] = "Never"
    """Whether its Tenants may have a database of their own: Never, OnRequest (``spec.database.mode: Dedicated``), or Default (new
    ones get one unless they say Shared). Default Never."""

    quota: TierQuota = field(default_factory=TierQuota)
    """Amounts over all namespaces of the tenant."""

    limits: ContainerLimits = field(default_factory=ContainerLimits)
    """Defaults and ceilings of one container."""

    maximum: TierMaximum = field(default_factory=TierMaximum)
    """What a Tenant may ask for beyond that."""

    renderers: RendererRange = field(default_factory=RendererRange)
    """Size of the pool of renderers."""

    renderer_pods: RendererPods = field(default_factory=RendererPods)
    """Where these pods run."""

    concurrent_jobs: AtLeastOne = 1
    """Generation jobs of one tenant that run at one time. Default 1. Further ones wait for their turn (reason Queued)."""

    jobs_per_hour: AtLeastOne = 500
    """Runs of jobs that start within any 60 minutes. Default 500. Further ones wait (reason Queued)."""

    history_days: AtLeastOne = 30
    """Days for which the record of an ended run is kept after its job is gone. Default 30."""

    execution: Literal["Pooled", "Isolated"] = "Pooled"
    """Where jobs run that do not say: Pooled (warm renderer, fresh process) or Isolated (fresh pod: slower to start).
    Default Pooled."""

    def jobs_at_once(self, asked: int | None) -> int:
        """How many jobs of a tenant run at one time; ``asked`` is its own wish."""
        return bounded_count(self.concurrent_jobs, asked, self.maximum.concurrent_jobs)

    def runs_hourly(self, asked: int | None) -> int:
        """How many runs of a tenant's jobs start within any hour; ``asked`` is its own wish."""
        return bounded_count(self.jobs_per_hour, asked, self.maximum.jobs_per_hour)

    @model_validator(mode="after")
    def _check(self) -> "Tier":
        if self.renderers.min > self.renderers.max:
            raise ValueError("renderers.min is greater than renderers.max")
        for what, amount, each in (
            ("pods", self.quota.pods, 1),
            ("secrets", self.quota.secrets, 1),
            ("configMaps", self.quota.config_maps, 2),
            ("generationJobs", self.quota.generation_jobs, 1),
            ("templateRegistries", self.quota.template_registries, 1),
        ):
            if amount < each * self.namespaces:
                raise ValueError(
                    f"quota.{what} is {amount}, too few to give each of {self.namespaces} namespaces the {each} that it needs"
                )
        return self


STARTER = Tier()
PROFESSIONAL = Tier(
    namespaces=3,
    dedicated_database="OnRequest",
    quota=TierQuota(
        cpu="16",
        memory="32Gi",
        ephemeral_storage="32Gi",
        pods=40,
        services=20,
        secrets=200,
        config_maps=1000,
        generation_jobs=5000,
        template_registries=100,
        persistent_volume_claims=20,
    ),
    limits=ContainerLimits(max_cpu="4", max_memory="8Gi", max_ephemeral_storage="8Gi"),
    renderers=RendererRange(min=1, max=5),
    concurrent_jobs=5,
    jobs_per_hour=5000,
    history_days=180,
)
ENTERPRISE = Tier(
    namespaces=20,
    dedicated_database="Default",
    quota=TierQuota(
        cpu="64",
        memory="128Gi",
        ephemeral_storage="256Gi",
        pods=400,
        services=200,
        secrets=2000,
        config_maps=10000,
        generation_jobs=50000,
        template_registries=1000,
        persistent_volume_claims=200,
    ),
    limits=ContainerLimits(max_cpu="16", max_memory="32Gi", max_ephemeral_storage="32Gi"),
    renderers=RendererRange(min=2, max=20),
    concurrent_jobs=50,
    jobs_per_hour=50000,
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
