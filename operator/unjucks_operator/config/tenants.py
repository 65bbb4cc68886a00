"""Settings about what lives in the tenants' namespaces: DNS, renderers, jobs. Pure."""

from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from unjucks_operator.config.base import STRICT, AtLeastOne, Count, Positive, Resources, Seconds


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Dns:
    """Where tenants' pods may look up names; nothing else outside their namespace is open to them by default."""

    namespace: str = "kube-system"
    """Namespace of the cluster's DNS pods. Default kube-system."""

    pod_labels: Annotated[Mapping[str, str], Field(min_length=1)] = field(
        default_factory=lambda: {"k8s-app": "kube-dns"}
    )
    """Labels of the cluster's DNS pods, at least one: without any, every pod of that namespace would be open to tenants.
    Default k8s-app: kube-dns, which CoreDNS carries too."""

    addresses: tuple[Annotated[str, Field(pattern=r"^[0-9a-fA-F:.]+/[0-9]{1,3}$")], ...] = ()
    """Address ranges (CIDR) of a DNS that does not run as pods, for example a node-local cache. Default none."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Renderer:
    """The pods that run templates, in the tenants' namespaces."""

    image: Annotated[str, Field(min_length=1)] = "ghcr.io/unjucks/unjucks-renderer:0.1.0"
    """Image of the renderer. The chart sets it to the one that belongs to this operator; pin a digest in production."""

    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    """When a node fetches the image. Default IfNotPresent."""

    requests: Resources = field(default_factory=lambda: {"cpu": "50m", "memory": "96Mi", "ephemeral-storage": "64Mi"})
    """What one renderer reserves. Default 50m CPU, 96Mi memory, 64Mi disk. Counts against the tenant's quota."""

    limits: Resources = field(default_factory=lambda: {"cpu": "1", "memory": "640Mi", "ephemeral-storage": "128Mi"})
    """What one renderer may use. Default 1 CPU, 640Mi memory, 128Mi disk. Must hold jobsPerReplica ×
    ``jobs.memoryBytes`` and 96Mi for itself."""

    jobs_per_replica: AtLeastOne = 2
    """Jobs that one renderer runs side by side. Default 2. More jobs than that times the replicas make the pool grow."""

    idle_after: Seconds = 300.0
    """How long renderers stay after the last job, in seconds. Default 5 minutes. Shorter saves memory, longer avoids
    cold starts."""

    busy_wait: Positive = 10.0
    """How long one run waits for a place in a busy renderer before it is reported as Queued and tried again, in seconds. Default
    10."""

    certificate_renew_before: Positive = 10 * 86400.0
    """How long before their end (90 days after they were made) the renderers' certificates are renewed, in
    seconds. Default 10 days."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Jobs:
    """Budgets of one generation job. The renderer enforces them; a job's own timeout may only be shorter."""

    wall_seconds: Annotated[Positive, Field(le=3600)] = 60.0
    """Longest reading of a registry's template set, in seconds. Default 60, at most 1 hour. A job's own limit is its
    ``spec.timeout``."""

    max_wall_seconds: Annotated[Positive, Field(le=3600)] = 600.0
    """Longest that ``spec.timeout`` of a job may ask for, in seconds. Default 10 minutes, at most 1 hour."""

    cpu_seconds: Annotated[int, Field(ge=1, le=3600)] = 60
    """CPU time of one run, in seconds. Default 60."""

    memory_bytes: Annotated[int, Field(ge=32 * 1024 * 1024)] = 256 * 1024 * 1024
    """Memory of one run, in bytes. Default 256 MiB, at least 32 MiB."""

    output_bytes: Annotated[int, Field(ge=1, le=20 * 1024 * 1024)] = 8 * 1024 * 1024
    """Size of all generated files together, in bytes. Default 8 MiB, at most 20 MiB."""

    files: Annotated[int, Field(ge=1, le=10000)] = 2000
    """Generated files of one run. Default 2000, at most 10000."""

    source_bytes: Annotated[int, Field(ge=1, le=10 * 1024 * 1024)] = 4 * 1024 * 1024
    """Size of all templates of a set together, in bytes. Default 4 MiB, at most 10 MiB."""

    retries: Count = 3
    """How often a run that failed for no fault of its own (renderer lost) is repeated. Default 3. Template errors are
    never repeated."""
