"""Settings about the operator's own process and its two outsides, the API server and PostgreSQL. Pure."""

from dataclasses import field
from typing import Literal

from pydantic import SecretStr, model_validator
from pydantic.dataclasses import dataclass

from unjucks_operator.config.base import STRICT, AtLeastOne, Port, Positive, Seconds
from unjucks_operator.config.databases import DedicatedDatabases, DirectAccess


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Leader:
    """Which of several operator processes works: the holder of a Lease in the platform's namespace."""

    enabled: bool = True
    """Whether to take part in the election. Default true. False only for a single process, and never in a cluster that
    restarts pods."""

    identity: str = ""
    """Name of this process in the Lease. Default the pod's name (POD_NAME), else host name; a random part is added."""

    lease_duration: Positive = 15.0
    """How long others wait after the holder's last sign of life, in seconds. Default 15. Shorter fails over faster
    after a crash."""

    renew_deadline: Positive = 10.0
    """How long the holder tries to renew before it gives up and exits, in seconds. Default 10. Must be shorter than
    leaseDuration."""

    retry_period: Positive = 2.0
    """Time between two tries, in seconds. Default 2. Each is one small request, the only write of an idle operator."""

    @model_validator(mode="after")
    def _check(self) -> "Leader":
        if self.lease_duration <= self.renew_deadline:
            raise ValueError("leaseDuration must be longer than renewDeadline, or two leaders could work at once")
        if self.renew_deadline <= self.retry_period * 1.2:
            raise ValueError(
                "renewDeadline must be longer than 1.2 × retryPeriod, or one lost request ends the leadership"
            )
        return self


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Workers:
    """How many objects of a kind are worked on side by side."""

    tenants: AtLeastOne = 24
    """Default 24. Setting up a tenant is some fifteen requests in seven steps, most of it waiting for the API server; many more
    workers than it answers at a time only queue up there."""

    registries: AtLeastOne = 4
    """Default 4. Each may hold a whole template set in memory."""

    jobs: AtLeastOne = 16
    """Default 16. A job occupies its worker while it renders, so this is the number of renders under way in the whole
    cluster."""

    reconcile_timeout: Positive = 120.0
    """Longest single run for tenants and registries, in seconds. Default 2 minutes. Then it is cancelled and tried
    again."""

    job_timeout_margin: Positive = 60.0
    """Longest single run for a job: its own timeout plus this many seconds. Default 60. For fetching and publishing."""

    backoff_base: Positive = 0.2
    """Ceiling of the first delay after a failure, in seconds; doubles with each further failure. Default 0.2."""

    backoff_cap: Positive = 300.0
    """Highest ceiling of that delay, in seconds. Default 5 minutes."""

    shutdown_grace: Seconds = 5.0
    """How long runs under way may take to end after SIGTERM, in seconds. Default 5. Must be well below the pod's grace
    period."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Sweep:
    """Looking again although nothing was heard: repairs drift, missed events and restored backups."""

    interval: Positive = 60.0
    """Time between two sweeps over all roles, records and children, in seconds. Default 60. Each is a few set-based
    queries."""

    usage: Positive = 60.0
    """Time between two looks at what tenants use, in seconds. Default 60. Status is written only when a figure moved by a
    quarter."""

    resync: Positive = 36000.0
    """Each object is reconciled once in this time even when nothing changed, in seconds, ± 20 %. Default 10 hours."""

    housekeeping: Positive = 3600.0
    """Time between two rounds that delete records which nothing needs any more: ended runs after the tier's historyDays,
    trees and catalogues that nothing serves, in seconds. Default 1 hour."""

    isolation: Positive = 900.0
    """Time between two rounds of checks whether tenants in the shared database are kept apart, in seconds. Default 15 minutes. A
    round is about a hundred short statements, and leaves nothing behind."""

    ghost_check: Positive = 600.0
    """Time between two comparisons of our list of objects with the server's, metadata only, in seconds. Default 10
    minutes."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Kubernetes:
    """How the operator talks to the API server."""

    kubeconfig: str = ""
    """File with credentials. Default empty: those of the pod when there are any, else $KUBECONFIG, else
    ~/.kube/config."""

    context: str = ""
    """Context inside the kubeconfig. Default empty: its current one."""

    requests_per_second: Positive = 500.0
    """Average rate of requests, watches excepted. Default 500: a brake for accidents. The API server's own fairness
    (priority levels) is what protects it, and setting up many tenants should not wait for us."""

    burst: AtLeastOne = 1000
    """Requests that may go out at once before the rate counts. Default 1000."""

    request_timeout: Positive = 30.0
    """Longest single request, watches excepted, in seconds. Default 30."""

    connections: AtLeastOne = 64
    """Open connections, watches excepted. Default 64."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Database:
    """The platform's PostgreSQL."""

    dsn: SecretStr | None = None
    """Where and as whom to connect: ``postgresql://user:password@host:5432/name``. A secret: set it with
    UNJUCKS_DATABASE_DSN."""

    pool_max: AtLeastOne = 10
    """Most connections. Default 10. Runs beyond it wait; the server's ``max_connections`` must allow this for each
    operator process."""

    connect_timeout: Positive = 10.0
    """How long connecting may take, in seconds. Default 10."""

    statement_timeout: Positive = 30.0
    """Longest single statement, in seconds. Default 30. The server cancels it then."""

    direct_dsn: SecretStr | None = None
    """The server's own address where ``dsn`` leads through a pooler: databases cannot be made through one. Default none. A secret:
    set it with UNJUCKS_DATABASE_DIRECT_DSN."""

    dedicated: DedicatedDatabases = field(default_factory=DedicatedDatabases)
    """Databases of single tenants."""

    direct: DirectAccess = field(default_factory=DirectAccess)
    """Tenants' logins."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Cache:
    """The platform's Redis servers. Without any, tenants have no cache."""

    urls: SecretStr | None = None
    """All servers, separated by spaces or new lines: ``redis://user:password@host:6379`` or ``rediss://…`` with TLS. ``queue=`` or
    ``cache=`` before a URL says what that server is for; without it, for both. Every replica and every node of a Redis cluster
    has to be named: users are made on each. A secret: set it with UNJUCKS_CACHE_URLS."""

    connect_timeout: Positive = 3.0
    """How long connecting may take, in seconds. Default 3."""

    command_timeout: Positive = 5.0
    """How long a server may take to answer one command, in seconds. Default 5."""

    interval: Positive = 20.0
    """Time between two comparisons of all users with what they must be, on every server, in seconds. Default 20. One command for
    each server. A restarted server, which has forgotten its users, gets them back within this time."""

    rotation_overlap: Positive = 3600.0
    """How long the old password is still good after a new one was made, in seconds. Default 1 hour. Then sessions are ended once,
    as nobody can tell which password they came in with."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Health:
    """The HTTP server for probes and metrics."""

    host: str = "0.0.0.0"  # noqa: S104  the kubelet and Prometheus come from outside the pod
    """Address to listen on. Default 0.0.0.0. Serves no data of tenants."""

    port: Port = 8080
    """Port of /livez, /readyz and /metrics. Default 8080; 0 takes a free one (for tests)."""

    heartbeat: Positive = 10.0
    """/livez fails when the event loop did not turn for this long, in seconds. Default 10."""

    watch_silence: Positive = 180.0
    """/livez fails when a watch heard nothing for this long, in seconds. Default 180. The API server sends a bookmark
    each minute."""

    clock_skew: Positive = 300.0
    """/livez fails when the time of day moved against the monotonic clock by more than this, in seconds. Default 300."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Logging:
    """What the operator writes to standard error."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Records below this level are dropped. Default INFO. SIGUSR1 switches to DEBUG and back without a restart."""

    format: Literal["json", "text"] = "json"
    """One JSON object on each line, or text for people. Default json."""
