"""Settings about the couriers: the pods that fetch sources and publish outputs, and where they may connect to. Pure."""

from dataclasses import field
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator
from pydantic.dataclasses import dataclass

from unjucks_api.v1alpha1.common import DnsLabel, quantity
from unjucks_api.v1alpha1.tenant_network import NEVER_NETWORKS, is_inside, parse_range
from unjucks_operator.config.base import STRICT, AtLeastOne, Positive, Resources, Seconds
from unjucks_operator.config.network import Range

COURIER_OVERHEAD = 96 * 1024 * 1024
"""Bytes that a courier needs besides its tasks."""


def _open_range(text: str) -> str:
    network = parse_range(text)
    if network is not None and any(is_inside(network, item) for item in NEVER_NETWORKS):
        raise ValueError(
            f"{text} can never be allowed: it is loopback, link-local, a metadata service, multicast, reserved or a tunnel"
        )
    return text


Host = Annotated[str, Field(pattern=r"^(\*|(\*\.)?[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?)$")]
OpenRange = Annotated[Range, AfterValidator(_open_range)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class CourierService:
    """One host and port in the cluster that all couriers may call although it lies in the cluster's own ranges."""

    host: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?\.?$")]
    """Name as it stands in URLs, for example gitea.gitea.svc."""

    port: Annotated[int, Field(ge=1, le=65535)]
    """Port as it stands in URLs."""

    namespace: DnsLabel
    """Namespace of the pods behind it: couriers may reach these."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class CourierEgress:
    """Where couriers may connect to. Everything else stays closed; what a Tenant's ``spec.network.egressTo`` opens comes on top."""

    hosts: tuple[Host, ...] = ()
    """Names of hosts with public addresses, for example github.com or *.amazonaws.com; * for all. Default none. Private addresses
    behind a name count only when ``cidrs`` has them."""

    cidrs: tuple[OpenRange, ...] = ()
    """Address ranges, also private ones. Default none. The cluster's own ranges inside them stay closed."""

    ports: tuple[Annotated[int, Field(ge=1, le=65535)], ...] = (22, 443)
    """Ports that NetworkPolicies open for both. Default 22 and 443."""

    services: tuple[CourierService, ...] = ()
    """Services in the cluster, for example a Git server. Default none. Name none that lets tenants speak for each other."""


def _endpoint(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme != "https" or not parts.hostname or parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError(f"{text} is no endpoint: https://, a host and a path, without credentials")
    return text


@dataclass(frozen=True, kw_only=True, config=STRICT)
class GitHost:
    """A host of Git repositories whose API opens pull requests. A tenant's token goes to this endpoint and to no other."""

    host: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")]
    """Name as it stands in the repositories' URLs, for example git.example."""

    provider: Literal["GitHub", "GitLab", "Gitea"]
    """Whose API it is: GitHub, GitLab or Gitea."""

    api: Annotated[str, AfterValidator(_endpoint)]
    """Endpoint of the API, for example https://git.example/api/v1 (Gitea), https://git.example/api/v4 (GitLab),
    https://git.example/api/v3 (GitHub Enterprise)."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Courier:
    """The pods that fetch sources and publish outputs, in the tenants' namespaces; none while there is nothing to do."""

    image: Annotated[str, Field(min_length=1)] = "ghcr.io/unjucks/unjucks-courier:0.1.0"
    """Image of the courier. The chart sets it to the one that belongs to this operator; pin a digest in production."""

    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    """When a node fetches the image. Default IfNotPresent."""

    requests: Resources = field(default_factory=lambda: {"cpu": "50m", "memory": "96Mi", "ephemeral-storage": "64Mi"})
    """What one courier reserves. Default 50m CPU, 96Mi memory, 64Mi disk. Counts against the tenant's quota."""

    limits: Resources = field(default_factory=lambda: {"cpu": "1", "memory": "640Mi", "ephemeral-storage": "128Mi"})
    """What one courier may use. Default 1 CPU, 640Mi memory, 128Mi disk. Must hold tasks × memoryBytes and 96Mi for
    itself."""

    tasks: Annotated[int, Field(ge=1, le=64)] = 2
    """Fetches and publications that one courier does side by side. Default 2."""

    memory_bytes: Annotated[int, Field(ge=64 * 1024 * 1024)] = 256 * 1024 * 1024
    """Memory of one task, in bytes. Default 256 MiB, at least 64 MiB."""

    cpu_seconds: Annotated[int, Field(ge=1, le=3600)] = 60
    """CPU time of one task, in seconds. Default 60."""

    download_bytes: Annotated[int, Field(ge=1024, le=128 * 1024 * 1024)] = 32 * 1024 * 1024
    """Most bytes that one fetch takes off the wire. Default 32 MiB, at most 128 MiB."""

    idle_after: Seconds = 120.0
    """How long a courier stays after its last task, in seconds. Default 2 minutes."""

    busy_wait: Positive = 10.0
    """How long one run waits for a place in a busy courier before it is tried again later, in seconds. Default 10."""

    minimum_interval: Positive = 60.0
    """Least ``spec.interval`` of a TemplateRegistry that counts, in seconds. Default 60; shorter ones are treated as this."""

    max_timeout: Annotated[Positive, Field(le=600)] = 100.0
    """Most ``spec.timeout`` of a TemplateRegistry that counts, in seconds. Default 100. Must be shorter than
    ``workers.reconcileTimeout``."""

    fetches_per_tenant: AtLeastOne = 2
    """Registries of one tenant that are worked on at one time. Default 2, so that a slow server holds up nobody else."""

    egress: CourierEgress = field(default_factory=CourierEgress)
    """Where couriers may connect to."""

    git_hosts: tuple[GitHost, ...] = (
        GitHost(host="github.com", provider="GitHub", api="https://api.github.com"),
        GitHost(host="gitlab.com", provider="GitLab", api="https://gitlab.com/api/v4"),
    )
    """Hosts on which jobs may open pull requests. Default github.com and gitlab.com. Their APIs have to be in ``egress`` too."""

    flux_host: Annotated[str, Field(pattern=r"^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?\.?)?$")] = (
        "source-controller.flux-system.svc.cluster.local."
    )
    """Host of the URLs in which Flux publishes artifacts, for ``spec.sourceRef``. Default that of a usual installation. Empty: no
    artifacts of Flux are read."""

    flux_namespace: DnsLabel = "flux-system"
    """Namespace of Flux's source-controller, which all couriers may reach while ``fluxHost`` is set; empty that without Flux."""

    @model_validator(mode="after")
    def _check(self) -> "Courier":
        limit = self.limits.get("memory")
        needed = self.tasks * self.memory_bytes + COURIER_OVERHEAD
        if limit is not None and quantity(limit) < needed:
            raise ValueError(
                f"limits.memory is {limit}, but tasks × memoryBytes and the courier itself need {-(-needed // 2**20)}Mi"
            )
        return self
