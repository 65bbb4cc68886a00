"""What is known of a Tenant before planning, as plain data: read by ``tenant.observe``, used by the planners. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

ChildKey = tuple[str, str, str]
"""(kind, namespace, name); the namespace is empty for cluster-scoped kinds."""


@dataclass(frozen=True, slots=True)
class ChildView:
    """What the planner needs to know of an existing child."""

    uid: str
    deleting: bool = False
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RendererView:
    """The renderer Deployment as it reports itself. ``stuck``: Kubernetes gave up on bringing its pods up."""

    desired: int = 0
    ready: int = 0
    stuck: str = ""


@dataclass(frozen=True, slots=True)
class Demand:
    """Work that waits for or uses this tenant's renderers, and when the last piece of it ended."""

    active: int = 0
    last_active: datetime | None = None


@dataclass(frozen=True, slots=True)
class Observed:
    """Everything read before planning. ``database_role`` is None until the database part is known to be right."""

    children: Mapping[ChildKey, ChildView]
    now: datetime
    renderer: RendererView = RendererView()
    demand: Demand = Demand()
    database_role: str | None = None
    certificate_serial: str = ""
    """Identifies the certificate authority in use; a certificate made by another one is replaced."""
    drifted_secrets: frozenset[ChildKey] = frozenset()
    planned_replicas: int | None = None
    """How many renderers this process asked for last; None when it has not yet, so that what stands is taken over."""
