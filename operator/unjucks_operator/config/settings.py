"""``Config``: all settings together, and the rules between them. Pure."""

from dataclasses import field
from typing import Annotated

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from unjucks_api import names
from unjucks_api.v1alpha1.common import quantity
from unjucks_operator.config.base import STRICT
from unjucks_operator.config.courier import Courier
from unjucks_operator.config.deletion import Deletion
from unjucks_operator.config.network import Network
from unjucks_operator.config.process import Cache, Database, Health, Kubernetes, Leader, Logging, Sweep, Workers
from unjucks_operator.config.provenance import Provenance
from unjucks_operator.config.regions import Regions
from unjucks_operator.config.tenants import Dns, Jobs, Renderer
from unjucks_operator.config.tiers import Tier, Tiers
from unjucks_operator.config.webhooks import Webhooks

RENDERER_OVERHEAD = 96 * 1024 * 1024
"""Bytes that a renderer needs besides its jobs: the server and the engine that it forks from."""


def _ceilings(tier: Tier) -> tuple[tuple[str, str], ...]:
    limits = tier.limits
    disk = limits.max_ephemeral_storage
    return ("cpu", limits.max_cpu), ("memory", limits.max_memory), ("ephemeral-storage", disk)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Config:
    """All of it. ``Config()`` is the default configuration."""

    platform_namespace: Annotated[str, Field(min_length=1, max_length=63)] = names.PLATFORM_NAMESPACE
    """Namespace of the operator itself: its Lease, certificate authority and pods. Default unjucks-system, or
    POD_NAMESPACE."""

    pod_security_version: Annotated[str, Field(pattern=r"^(latest|v1\.[0-9]{1,3})$")] = "v1.32"
    """Version of the Pod Security Standard for tenants' namespaces. Default v1.32: an upgrade of the cluster changes
    nothing."""

    runbook_base_url: str = "https://github.com/unjucks/unjucks-operator/blob/main/docs/runbooks/"
    """Where the pages about reasons are; a reason's name is appended. Used in events and alerts."""

    tiers: Tiers = field(default_factory=Tiers)
    """What Tenants are entitled to."""

    deletion: Deletion = field(default_factory=Deletion)
    """How carefully Tenants are deleted."""

    regions: Regions = field(default_factory=Regions)
    """Where tenants may ask to be."""

    dns: Dns = field(default_factory=Dns)
    """The cluster's DNS."""

    network: Network = field(default_factory=Network)
    """What tenants may open of their network, and whether policies are enforced."""

    renderer: Renderer = field(default_factory=Renderer)
    """The pods that run templates."""

    courier: Courier = field(default_factory=Courier)
    """The pods that fetch sources and publish outputs."""

    jobs: Jobs = field(default_factory=Jobs)
    """Budgets of a generation job."""

    provenance: Provenance = field(default_factory=Provenance)
    """Statements of where generated files come from."""

    webhooks: Webhooks = field(default_factory=Webhooks)
    """The admission process."""

    leader: Leader = field(default_factory=Leader)
    """Election of the working process."""

    workers: Workers = field(default_factory=Workers)
    """Degree of parallel work."""

    sweep: Sweep = field(default_factory=Sweep)
    """Periodic repair."""

    kubernetes: Kubernetes = field(default_factory=Kubernetes)
    """The API server."""

    database: Database = field(default_factory=Database)
    """PostgreSQL."""

    cache: Cache = field(default_factory=Cache)
    """Redis."""

    health: Health = field(default_factory=Health)
    """Probes and metrics."""

    logging: Logging = field(default_factory=Logging)
    """Logs."""

    @model_validator(mode="after")
    def _check(self) -> "Config":
        problems = []
        limit = self.renderer.limits.get("memory")
        needed = self.renderer.jobs_per_replica * self.jobs.memory_bytes + RENDERER_OVERHEAD
        if limit is not None and quantity(limit) < needed:
            problems.append(
                f"renderer.limits.memory is {limit}, but jobsPerReplica × jobs.memoryBytes and the renderer itself need "
                f"{-(-needed // 2**20)}Mi: a renderer would be killed in the middle of its jobs"
            )
        for name, tier in self.tiers.items():
            for what, most in _ceilings(tier):
                asked = self.renderer.limits.get(what)  # type: ignore[call-overload]
                if asked is not None and quantity(asked) > quantity(most):
                    problems.append(
                        f"renderer.limits.{what} is {asked}, more than the {most} that tiers.{name}.limits allows one container: "
                        "no renderer could start there"
                    )
                asked = self.courier.limits.get(what)  # type: ignore[call-overload]
                if asked is not None and quantity(asked) > quantity(most):
                    problems.append(
                        f"courier.limits.{what} is {asked}, more than the {most} that tiers.{name}.limits allows one container: "
                        "no courier could start there"
                    )
        if self.courier.max_timeout >= self.workers.reconcile_timeout:
            problems.append(
                "courier.maxTimeout must be shorter than workers.reconcileTimeout, or no slow fetch could end"
            )
        if problems:
            raise ValueError("; ".join(problems))
        return self
