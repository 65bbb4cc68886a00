"""Settings about databases of single tenants, and about logins for tenants. Pure."""

from typing import Annotated

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from unjucks_operator.config.base import STRICT, AtLeastOne, Positive, Seconds


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DedicatedDatabases:
    """Tenants' own databases, on the same server as the shared one."""

    enabled: bool = True
    """Whether Tenants may have one. Default true. Without the right to make databases (``db bootstrap`` gives it) they get none
    either: a tier that would have one by default gets the shared database then."""

    pool_max: AtLeastOne = 10
    """Most connections to all of them together. Default 10. They are closed and opened as tenants become active."""

    pool_each: AtLeastOne = 2
    """Most connections to one of them. Default 2."""

    connections: Annotated[int, Field(ge=4, le=1000)] = 16
    """Sessions that one of them accepts, the operator's and the tenant's together. Default 16."""

    keep_after_move: Seconds = 7 * 86400.0
    """How long rows that a move left behind are kept, closed to everybody, in seconds. Default 7 days."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DirectAccess:
    """Logins that Tenants may ask for (``spec.database.directAccess``). They read their own rows and write nothing."""

    enabled: bool = True
    """Whether Tenants may ask for one. Default true."""

    host: str = ""
    """What the Secret says as host. Default empty: the host of the operator's own address. Set it where tenants reach the server by
    another name, or through a pooler."""

    port: Annotated[int, Field(ge=0, le=65535)] = 0
    """What the Secret says as port. Default 0: the port of the operator's own address."""

    connections: Annotated[int, Field(ge=1, le=100)] = 5
    """Sessions of one login. Default 5. All of them together must fit 80 % of the server's max_connections, beside the operator's
    own; a Tenant that does not fit waits with reason ConnectionBudget."""

    statement_timeout: Positive = 60.0
    """Longest statement of a login, in seconds. Default 60. A default of its sessions, which may raise it."""

    idle_timeout: Positive = 900.0
    """Longest time that a session may do nothing, in seconds. Default 15 minutes. A default of its sessions."""

    temp_bytes: Annotated[int, Field(ge=1024 * 1024)] = 256 * 1024 * 1024
    """Temporary files of one session, in bytes. Default 256 MiB. Sessions cannot raise it."""

    rotate_every: Annotated[float, Field(ge=3600)] = 30 * 86400.0
    """How often passwords are replaced when the Tenant does not say, in seconds. Default 30 days, at least 1 hour."""

    overlap: Positive = 3600.0
    """How long the password before the newest works on, in seconds. Default 1 hour. Consumers must read the Secret
    again within it."""

    @model_validator(mode="after")
    def _check(self) -> "DirectAccess":
        if self.overlap * 2 > self.rotate_every:
            raise ValueError("overlap must be at most half of rotateEvery, or two passwords would always work")
        return self
