"""What a Tenant says about Redis, and what its status tells of it: the part ``spec.cache`` and ``status.cache``.

Pure. Called by ``tenant`` (the kind) and by the operator's planner of the cache.
"""

from typing import Annotated

from pydantic import Field

from unjucks_api.markers import Cel, Switch
from unjucks_api.v1alpha1.common import DURATION, Line, Model, Time, Word, duration_seconds

ROTATE_EVERY = "720h"
SHORTEST_ROTATION = 3600
LONGEST_ROTATION = 8760 * 3600
RotationPeriod = Annotated[
    str,
    Field(min_length=2, max_length=20, pattern=DURATION),
    Cel(
        "duration(self) >= duration('1h') && duration(self) <= duration('8760h')",
        "a password is replaced after 1h at the earliest and after 8760h, one year, at the latest",
        check=lambda text: SHORTEST_ROTATION <= duration_seconds(text) <= LONGEST_ROTATION,
    ),
]


class CacheRotation(Model):
    """When the password at Redis is replaced."""

    every: RotationPeriod | None = Field(
        default=None,
        description=f"Age at which the password is replaced, from 1h to 8760h. Absent: {ROTATE_EVERY}.",
    )

    @property
    def seconds(self) -> int:
        """The age in seconds."""
        return duration_seconds(self.every or ROTATE_EVERY)


class Cache(Model):
    """The tenant's identity at the platform's Redis: a user that reaches the tenant's own keys and channels only."""

    enabled: Annotated[bool, Switch("the tenant has a user at Redis or it has none")] | None = Field(
        default=None,
        description="Whether the tenant has a user at Redis. Absent: it has one when the platform has a Redis. True without one "
        "leaves the Tenant not ready. False removes the user; keys go when the Tenant is deleted.",
    )
    direct_access: Annotated[bool, Switch("either a password exists or none does")] = Field(
        default=False,
        description="Whether the tenant's own programs may log in. True puts name, password and addresses into the Secret "
        "<name of the Tenant>-cache in its first namespace; false leaves the user without a password, so nobody can be it.",
    )
    rotation: CacheRotation = Field(default=CacheRotation(), description="When the password is replaced.")


class CacheStatus(Model):
    """The tenant's identity at Redis as it is."""

    state: Word = Field(default="", description="State of the identity: Ready, Pending or Disabled.")
    user: Word = Field(default="", description="User at Redis; made from the Tenant's UID.")
    prefix: Word = Field(default="", description="What all keys and channels of the tenant start with.")
    secret: Line = Field(
        default="", description="Secret with the tenant's credential, as namespace/name. Empty without direct access."
    )
    rotated_at: Time | None = Field(default=None, description="When the password was made.")
