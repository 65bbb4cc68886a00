"""What is known of a Tenant before planning, as plain data: read by ``tenant.observe``, used by the planners. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from unjucks_operator.candidates import Candidate
from unjucks_operator.evidence import Evidence
from unjucks_operator.network.enforcement import NEVER_TRIED, Enforcement
from unjucks_operator.network.ranges import NOTHING_KNOWN, ClusterRanges
from unjucks_operator.planning import CacheUser

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
class CourierView:
    """The courier's Deployment as it reports itself, and what waits for it. ``planned``: replicas that were asked for last."""

    pods: RendererView = RendererView()
    demand: Demand = Demand()
    planned: int | None = None
    drifted: bool = False
    """Whether somebody changed the Secret with the certificate since we wrote it."""


@dataclass(frozen=True, slots=True)
class NetworkView:
    """What ``spec.network`` has to be held against. ``strangers``: namespaces it names that belong to other tenants."""

    ranges: ClusterRanges = NOTHING_KNOWN
    enforcement: Enforcement = NEVER_TRIED
    strangers: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class QuotaView:
    """A namespace's ResourceQuota as Kubernetes counts it. ``counted``: it has done so for all that the quota limits."""

    used: Mapping[str, str] = field(default_factory=dict)
    counted: bool = False

    @property
    def objects(self) -> int:
        """How many objects there are, of the kinds that the quota counts."""
        return sum(
            int(value)
            for key, value in self.used.items()
            if not key.startswith(("requests.", "limits.", "services.")) and key != "resourcequotas" and value.isdigit()
        )


@dataclass(frozen=True, slots=True)
class CacheView:
    """What is known of the tenant's user at Redis. ``known``: the user as it is on every server, None until that was looked at."""

    available: bool = False
    """Whether the platform has a Redis."""
    known: CacheUser | None = None
    drifted: bool = False
    """Whether somebody changed the Secret with the credential since we wrote it."""


@dataclass(frozen=True, slots=True)
class DatabaseView:
    """Where the tenant's rows are, and its login, as the database last told. Empty texts: there is none."""

    home: str
    database: str
    move_to: str = ""
    move_phase: str = ""
    move_started_at: datetime | None = None
    login_version: str = ""
    login_pending: str = ""
    login_shared: bool = True
    login_drifted: bool = False
    """Whether somebody changed the Secret since we wrote it."""
    rotated_at: datetime | None = None
    retire_at: datetime | None = None

    def with_login(self, login: Any) -> "DatabaseView":
        """The same with another login (``database.logins.LoginState``), or none."""
        return replace(
            self,
            login_version=(login.version or "") if login else "",
            login_pending=(login.pending_version or "") if login else "",
            login_shared=login.shared if login else True,
            rotated_at=login.rotated_at if login else None,
            retire_at=login.retire_at if login else None,
            login_drifted=False,
        )

    def with_drift(self) -> "DatabaseView":
        """The same, but the Secret was changed."""
        return replace(self, login_drifted=True)


@dataclass(frozen=True, slots=True)
class Observed:
    """Everything read before planning. ``database_role`` is None until the database part is known to be right."""

    children: Mapping[ChildKey, ChildView]
    now: datetime
    renderer: RendererView = RendererView()
    demand: Demand = Demand()
    database_role: str | None = None
    database: DatabaseView | None = None
    certificate_serial: str = ""
    """Identifies the certificate authority in use; a certificate made by another one is replaced."""
    drifted_secrets: frozenset[ChildKey] = frozenset()
    cache: CacheView = CacheView()
    isolation: Evidence | None = None
    """What the checks in the shared database brought; None before their first round in this life of the operator."""
    candidates: Mapping[str, Candidate] = field(default_factory=dict)
    """Namespaces that are listed with ``adopt``, exist, and are not this tenant's (yet)."""
    quotas: Mapping[str, QuotaView] = field(default_factory=dict)
    """By namespace."""
    usage: Mapping[str, object] = field(default_factory=dict)
    """Figures for the status, as they were last worth telling."""
    network: NetworkView = NetworkView()
    courier: CourierView = CourierView()
    planned_replicas: int | None = None
    """How many renderers this process asked for last; None when it has not yet, so that what stands is taken over."""
